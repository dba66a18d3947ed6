"""Small XML files as trees."""

from __future__ import annotations

import time

import pytest

from moka.data.xml_tree import parse_xml
from moka.errors import DataError

TEXT = """<?xml version="1.0" encoding="GB2312"?>
<!DOCTYPE a>
<a kind="x">
  <b>one &amp; two</b><b><![CDATA[<three>]]></b>
  <c>
    fo<!-- a remark -->ur
    <b>deeper</b>
  </c>
</a>
"""


def test_the_tree() -> None:
    root = parse_xml(TEXT)
    assert (root.name, root.line) == ("a", 3)
    assert [(b.text, b.line) for b in root.every("b")] == [("one & two", 4), ("<three>", 4)]
    inner = root.first("c")
    assert inner is not None
    assert inner.text == "four"
    assert [child.text for child in inner.children] == ["deeper"]
    assert root.first("d") is None


def test_letters_of_any_alphabet_and_other_bytes() -> None:
    assert parse_xml("<a>кот\U0010fee9</a>").text == "кот\U0010fee9"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "line 1: this is no complete XML: no element found"),
        ("no XML", "line 1: this is no complete XML: syntax error"),
        ("<a>\n<b></a>", "line 2: this is no complete XML: mismatched tag"),
        ("<a>\n\n<b>", "line 3: this is no complete XML: no element found"),
        ("<a>&other;</a>", "line 1: this is no complete XML: undefined entity"),
        ("<a/><b/>", "line 1: this is no complete XML: junk after document element"),
        ("<a>\0</a>", "line 1: this is no complete XML"),
    ],
)
def test_what_is_no_xml(text: str, says: str) -> None:
    with pytest.raises(DataError, match=says):
        parse_xml(text)


LAUGHS = "".join(
    f'<!ENTITY e{i} "{f"&e{i - 1};" * 10 if i else "ha"}">' for i in range(10)
)  # 10^9 times


@pytest.mark.parametrize(
    "declarations",
    [LAUGHS, '<!ENTITY e9 SYSTEM "file:///etc/passwd">', '<!ENTITY % e9 SYSTEM "x"> %e9;'],
)
def test_entities_are_refused(declarations: str) -> None:
    began = time.monotonic()
    with pytest.raises(DataError, match=r"line 2: the DOCTYPE has declarations.*Remove the part"):
        parse_xml(f'<?xml version="1.0"?>\n<!DOCTYPE a [{declarations}]>\n<a>&e9;</a>')
    assert time.monotonic() - began < 5


def test_a_deep_tree() -> None:
    depth = 200_000
    root = parse_xml("<a>" * depth + "</a>" * depth)
    assert len(root.children) == 1
