"""The words of a prototxt: names, numbers, strings and signs, each with its place."""

from __future__ import annotations

import re
from typing import NamedTuple

_TOKEN = re.compile(
    r"""(?:\s+|\#[^\n]*)*
    (?: (?P<word>[A-Za-z_]\w*)
      | (?P<number>\.?[0-9](?:[eE][+-](?=[0-9])|[\w.])*)
      | (?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
      | (?P<unclosed>["'][^\n]*)
      | (?P<end>\Z)
      | (?P<sign>[\xc2-\xf4][\x80-\xbf]{1,3}|.)
    )""",
    re.ASCII | re.VERBOSE,
)
_ESCAPE = re.compile(
    r"\\(?:([0-7]{1,3})|[xX]([0-9A-Fa-f]{1,2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))"
)
_LETTERS = dict(zip("abfnrtv\\'\"?", "\a\b\f\n\r\t\v\\'\"?", strict=True))
_BARE_WORD = re.compile(r"""[^\s,;{}<>\[\]\#"':](?:[^\s{}<>\[\]\#"']*[^\s,;{}<>\[\]\#"'])?""")
_BEFORE_VALUE = re.compile(r"(?:\s|\#[^\n]*\n)*[:{<]")
_CLOSING = {"{": "}", "<": ">", "[": "]"}
_WINDOWS_PATH = re.compile(r"[A-Za-z]:\\[^\\]")


class TextError(Exception):
    """A fault in a prototxt.

    Attributes:
        fact: what is wrong, without its place.
        start: where in the text.
        advice: what to do about it.
    """

    def __init__(self, fact: str, start: int, advice: str | None = None) -> None:
        super().__init__(fact)
        self.fact, self.start, self.advice = fact, start, advice


class Token(NamedTuple):
    """One word of the text.

    Attributes:
        kind: word, number, string, unclosed (a string without its last quote), sign (a character
            beyond ASCII is one), or end.
        text: as written; a string with its quotes.
        start: where it begins in the text.
    """

    kind: str
    text: str
    start: int


class Tokens:
    """A prototxt as a stream of tokens with one token of lookahead.

    Args:
        text: one character for each byte (Latin-1), since strings may be in any encoding.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._position = 0
        self.next = Token("sign", "", 0)
        self.advance()

    def advance(self) -> Token:
        """Go on by one token; returns the one left behind."""
        left = self.next
        found = _TOKEN.match(self.text, self._position)
        assert found is not None
        assert found.lastgroup is not None
        kind = found.lastgroup
        self._position = found.end()
        # The end of the text has no place of its own: a fault there is shown at the last token.
        start = left.start if kind == "end" else found.start(kind)
        self.next = Token(kind, found[kind], start)
        return left

    def skip(self, sign: str) -> bool:
        """Go past the next token if it is this sign; returns whether it was."""
        if self.next.kind == "sign" and self.next.text == sign:
            self.advance()
            return True
        return False

    def expect(self, signs: str) -> str:
        """Go past one of these signs and return it. Raises TextError if something else follows."""
        if self.next.kind == "sign" and self.next.text in signs:
            return self.advance().text
        raise TextError(f'Expected "{signs[0]}", found {shown(self.next)}', self.next.start)

    def bytes_of_strings(self) -> bytes:
        """Go past one or several strings in a row; returns their bytes, joined."""
        parts = [unescaped(self.advance())]
        while self.next.kind == "string":
            parts.append(unescaped(self.advance()))
        return b"".join(parts)

    def bare_word(self) -> bytes | None:
        """Go past a string without quotes; returns its bytes, or None if none follows."""
        found = _BARE_WORD.match(self.text, self.next.start)
        if self.next.kind == "end" or found is None:
            return None
        self._position = found.end()
        self.advance()
        return found[0].encode("latin-1")

    def at_field(self, after: int) -> bool:
        """Whether the next token is the name of a field, in a later line than the place `after`."""
        if self.next.kind != "word" or "\n" not in self.text[after : self.next.start]:
            return False
        return bool(_BEFORE_VALUE.match(self.text, self._position))

    def skip_value(self) -> None:
        """Go past the value of a field, whatever it is: after the name, with or without a colon."""
        self.skip(":")
        if self.next.kind == "sign" and self.next.text in _CLOSING:
            self._skip_group()
            return
        self.skip("-")
        if self.next.kind == "string":
            self.bytes_of_strings()
        elif self.next.kind in ("word", "number"):
            self.advance()
        else:
            raise TextError(f"Expected a value, found {shown(self.next)}", self.next.start)

    def _skip_group(self) -> None:
        """Go past a message or list, up to the sign that closes it."""
        open_signs = [self.advance().text]
        while open_signs:
            token = self.advance()
            if token.kind == "end":
                raise TextError(f'Expected "{_CLOSING[open_signs[-1]]}", found {shown(token)}',
                                token.start)  # fmt: skip
            if token.kind == "sign":
                if token.text == _CLOSING[open_signs[-1]]:
                    open_signs.pop()
                elif token.text in _CLOSING:
                    open_signs.append(token.text)

    def place(self, start: int) -> tuple[int, int]:
        """Line and column of a position, both from 1; a column is a byte."""
        line_start = self.text.rfind("\n", 0, start) + 1
        return self.text.count("\n", 0, start) + 1, start - line_start + 1


def shown(token: Token) -> str:
    """A token as an error shows it."""
    if token.kind == "end":
        return "the end of the text"
    text = token.text.encode("latin-1").decode("utf-8", "replace")
    return text if token.kind in ("string", "unclosed") else f'"{text}"'


def unescaped(token: Token) -> bytes:
    """The bytes that a string stands for.

    Raises:
        TextError: an escape that does not exist, or a path of Windows with single backslashes.
    """
    content = token.text[1:-1]
    if "\\" not in content:
        return content.encode("latin-1")
    if _WINDOWS_PATH.match(content):
        raise _backslash_error(token)

    def replacement(found: re.Match[str]) -> str:
        octal, hexadecimal, short, long, letter = found.groups()
        if octal is not None:
            return chr(int(octal, 8) & 0xFF)
        if hexadecimal is not None:
            return chr(int(hexadecimal, 16))
        if code := short or long:
            return _utf8_as_latin1(int(code, 16), token)
        if letter not in _LETTERS:
            raise _backslash_error(token)
        return _LETTERS[letter]

    return _ESCAPE.sub(replacement, content).encode("latin-1")


def _utf8_as_latin1(code: int, token: Token) -> str:
    try:
        return chr(code).encode().decode("latin-1")
    except (ValueError, OverflowError):
        raise TextError(f"There is no character {code:#x}", token.start) from None


def unclosed(token: Token) -> TextError:
    """The error for a string that has no closing quote on its line."""
    quote = token.text[0]
    content, backslash, _ = token.text[1:].partition("\\" + quote)
    if backslash:  # as in "D:\images\"
        return _backslash_error(Token("string", f"{quote}{content}\\{quote}", token.start))
    return TextError(f"The string {token.text[:40]} has no closing quote", token.start)


def _backslash_error(token: Token) -> TextError:
    written = token.text[1:-1].encode("latin-1").decode("utf-8", "replace")
    slashes, doubled = written.replace("\\", "/"), written.replace("\\", "\\\\")
    return TextError(
        "Invalid escape sequence in string literal: a backslash starts an escape in a prototxt",
        token.start,
        f'Write "{slashes}" or "{doubled}".',
    )
