from __future__ import annotations

from moka.schema import caffe_pb2
from moka.schema.comments import Comment, field_comments, running_text


def test_above_and_beside() -> None:
    comments = field_comments()
    assert comments["AccuracyParameter"]["axis"].above == ()
    assert comments["AccuracyParameter"]["axis"].beside.endswith("classes' axis in the scores")
    assert comments["ArgMaxParameter"]["out_max_val"].above[0]


def test_as_text() -> None:
    assert running_text(Comment(("one  ", "  two:"), "three")) == "One two: Three"
    assert running_text(Comment((), "beside")) == "Beside"
    assert running_text(Comment((), "")) == ""


def test_every_field_is_found() -> None:
    for name in ("LayerParameter", "ConvolutionParameter", "SolverParameter"):
        fields = caffe_pb2.DESCRIPTOR.message_types_by_name[name].fields_by_name
        assert set(field_comments()[name]) == set(fields)
