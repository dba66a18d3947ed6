from __future__ import annotations

from typing import Any

import pytest

from moka.errors import NetError
from moka.layers.detection.param_str import literal, parse_param_str


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("'feat_stride': 16", {"feat_stride": 16}),
        ("feat_stride: 16 \n\n scales: [4, 8.5]", {"feat_stride": 16, "scales": [4, 8.5]}),
        (
            "'feat_stride': 16 \n'scales': !!python/tuple [4, 8]",
            {"feat_stride": 16, "scales": [4, 8]},
        ),
        (
            '{"num_classes": 21, "flag": true, ratios: (1, 2)}',
            {"num_classes": 21, "flag": True, "ratios": (1, 2)},
        ),
        ("a: 1 # a remark\n# only a remark\nb: no\nc: word", {"a": 1, "b": False, "c": "word"}),
        ("a: [1,\n 2]\nb: -0.5", {"a": [1, 2], "b": -0.5}),
        ("", {}),
    ],
)
def test_entries(text: str, found: dict[str, Any]) -> None:
    assert parse_param_str(text) == found


def test_an_entry_without_a_key() -> None:
    with pytest.raises(NetError, match='entries "key: value", got "16"'):
        parse_param_str("16")


@pytest.mark.parametrize("text", ["{[1]: 2}", "(" * 5000, "9" * 5000, "'\\d'", "1 +"])
def test_values_that_are_no_literals_are_text(text: str) -> None:
    assert literal(text, None) in (None, "\\d")
    assert isinstance(parse_param_str(f"a: {text.replace(':', '')}"), dict)


def test_a_long_text_takes_little_time() -> None:
    text = "a: '" + "x" * 300_000 + "'"
    assert len(parse_param_str(text)["a"]) == 300_000
