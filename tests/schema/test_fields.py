from __future__ import annotations

import re
from types import SimpleNamespace

from google.protobuf.descriptor import FieldDescriptor
from tests.programs import ROOT

from moka.schema import caffe_pb2
from moka.schema.fields import descriptor_of, is_repeated


def test_is_repeated() -> None:
    fields = descriptor_of(caffe_pb2.NetParameter).fields_by_name
    assert is_repeated(fields["layer"])
    assert not is_repeated(fields["name"])


def test_is_repeated_with_an_older_protobuf() -> None:
    assert is_repeated(SimpleNamespace(label=FieldDescriptor.LABEL_REPEATED))
    assert not is_repeated(SimpleNamespace(label=FieldDescriptor.LABEL_OPTIONAL))


def test_nobody_asks_the_field_itself() -> None:
    """The attribute is newer than the oldest protobuf that Moka works with."""
    source = ROOT / "src" / "moka"
    asking = [
        p for p in source.rglob("*.py") if re.search(r"\.is_repeated\b", p.read_text("utf-8"))
    ]
    assert asking == [source / "schema" / "fields.py"]
