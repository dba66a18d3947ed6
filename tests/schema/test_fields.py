from __future__ import annotations

from types import SimpleNamespace

from google.protobuf.descriptor import FieldDescriptor

from moka.schema import caffe_pb2
from moka.schema.fields import descriptor_of, is_repeated


def test_is_repeated() -> None:
    fields = descriptor_of(caffe_pb2.NetParameter).fields_by_name
    assert is_repeated(fields["layer"])
    assert not is_repeated(fields["name"])


def test_is_repeated_with_an_older_protobuf() -> None:
    assert is_repeated(SimpleNamespace(label=FieldDescriptor.LABEL_REPEATED))
    assert not is_repeated(SimpleNamespace(label=FieldDescriptor.LABEL_OPTIONAL))
