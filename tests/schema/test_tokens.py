from __future__ import annotations

import pytest

from moka.schema.tokens import TextError, Token, Tokens, unescaped


def kinds(text: str) -> list[tuple[str, str]]:
    tokens, found = Tokens(text), []
    while tokens.next.kind != "end":
        token = tokens.advance()
        found.append((token.kind, token.text))
    return found


def test_tokens() -> None:
    assert kinds("a_1: -0x1F [1.5e-3,.5f] # no { token\n\"x # y\" 'z'; <") == [
        ("word", "a_1"),
        ("sign", ":"),
        ("sign", "-"),
        ("number", "0x1F"),
        ("sign", "["),
        ("number", "1.5e-3"),
        ("sign", ","),
        ("number", ".5f"),
        ("sign", "]"),
        ("string", '"x # y"'),
        ("string", "'z'"),
        ("sign", ";"),
        ("sign", "<"),
    ]


def test_a_number_ends_where_a_blank_is() -> None:
    assert kinds("3x3 1e5-2") == [
        ("number", "3x3"),
        ("number", "1e5"),
        ("sign", "-"),
        ("number", "2"),
    ]


def test_places_count_from_one() -> None:
    tokens = Tokens("a\n  b")
    assert tokens.place(tokens.advance().start) == (1, 1)
    assert tokens.place(tokens.next.start) == (2, 3)


@pytest.mark.parametrize(
    ("written", "data"),
    [
        (r'"plain"', b"plain"),
        (r'"\276\355"', b"\xbe\xed"),
        (r'"\x41\xe9z"', b"A\xe9z"),
        (r'"\u00e9\U0001F600"', "é\U0001f600".encode()),
        (r'"a\tb\nc\\d\"e\'f\?"', b"a\tb\nc\\d\"e'f?"),
        ('"\xc3\xa9"', "é".encode()),
    ],
)
def test_escapes(written: str, data: bytes) -> None:
    assert unescaped(Token("string", written, 0)) == data


@pytest.mark.parametrize("written", [r'"a\q"', r'"\x"', r'"D:\train\new"', r'"C:\2017\db"'])
def test_a_backslash_that_is_no_escape(written: str) -> None:
    with pytest.raises(TextError, match="a backslash starts an escape") as caught:
        unescaped(Token("string", written, 0))
    slashes, doubled = written.replace("\\", "/"), written.replace("\\", "\\\\")
    assert caught.value.advice == f"Write {slashes} or {doubled}."


def test_a_character_that_does_not_exist() -> None:
    with pytest.raises(TextError, match="no character 0x110000"):
        unescaped(Token("string", r'"\U00110000"', 0))


def test_a_character_beyond_ascii_is_one_sign() -> None:
    signs = "\u201c\u00a0\U0001f600"
    assert kinds(signs.encode().decode("latin-1")) == [
        ("sign", sign.encode().decode("latin-1")) for sign in signs
    ]
    assert kinds("\xe9:") == [("sign", "\xe9"), ("sign", ":")]  # of another encoding


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a:\nb: 1", True),
        ("a: # none\n b { }", True),
        ("a:\nb # c\n: 1", True),
        ("a: b: 1", False),
        ("a:\nb\nc: 1", False),
        ("a:\n1: 1", False),
        ("a:\n", False),
    ],
)
def test_the_name_of_a_field_in_a_later_line(text: str, found: bool) -> None:
    tokens = Tokens(text)
    tokens.advance()
    start = tokens.next.start
    assert tokens.skip(":")
    assert tokens.at_field(start) == found
