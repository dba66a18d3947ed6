"""Ways to change an input: as bytes, as a protobuf message, as words, and as pages of a database.

Each is a pure function of the bytes and of a random generator. A file's structure is kept where
possible, since a reader refuses plain noise at its first bytes.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from random import Random

Mutate = Callable[[bytes, Random], bytes]

EDGES = (0, 1, 2, 3, 7, 8, 15, 16, 127, 128, 255, 256, 4095, 4096, 32767, 32768, 65535, 65536,
         2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**40, 2**47, 2**62, 2**63 - 1, 2**63,
         2**64 - 1)  # fmt: skip
WORDS = ("0", "-1", "1", "2", "255", "256", "65536", "2147483647", "-2147483648", "2147483648",
         "4294967295", "9223372036854775807", "-9223372036854775808", "18446744073709551615",
         "99999999999999999999999999", "1e9", "1e38", "1e39", "-1e308", "1e-45", "nan", "inf",
         "-inf", "0x7fffffff", "017", "1_0", "true", '""', "''", '"\\377\\0"', "{", "}", "[", "]",
         ":", ",", ";", "#", "<", ">", "-", ".", "\u00e9", "\u0661", "\0", "9" * 5000,
         "(", "/", "..", "%d", "%s%s", "\n", "\r\n", "\ufeff")  # fmt: skip
MOST_BYTES = 1 << 17
_WORD = re.compile(r"\s+|[\w.+-]+|\"[^\"\n]*\"|.", re.DOTALL)
_NUMBER = re.compile(r"[-+]?[0-9.][\w.+-]*")


def mutate_bytes(data: bytes, rng: Random) -> bytes:
    """Flip, set, insert, remove, repeat or move bytes, or cut off the end; up to four times."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(changed) + 1)
        size = min(rng.choice((1, 1, 2, 4, 8, 32, 512)), len(changed) - at)
        kind = rng.randrange(8)
        if kind == 0 and size:
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            changed[at : at + size] = rng.randbytes(size)
        elif kind == 2:
            changed[at:at] = rng.randbytes(rng.choice((1, 2, 4, 16)))
        elif kind == 3:
            del changed[at : at + size]
        elif kind == 4 and len(changed) < MOST_BYTES:
            changed[at:at] = changed[at : at + size] * rng.choice((1, 2, 9))
        elif kind == 5:
            width = rng.choice("BHIQ")
            order = rng.choice("<>")
            edge = rng.choice(EDGES) & (1 << 8 * struct.calcsize(width)) - 1
            number = struct.pack(order + width, edge)
            changed[at : at + len(number)] = number
        elif kind == 6 and len(changed):
            start = rng.randrange(len(changed))
            changed[at : at + size] = changed[start : start + size]
        elif rng.random() < 0.2:
            del changed[at:]
    return bytes(changed)


def mutate_wire(data: bytes, rng: Random) -> bytes:
    """Change one field of a protobuf message, at any depth: its number, type, value or length;
    repeat, remove or move it. Bytes that are no message are changed as bytes."""
    fields = _wire_fields(data)
    if not fields or rng.random() < 0.1:
        return mutate_bytes(data, rng)
    k = rng.randrange(len(fields))
    number, wire_type, value = fields[k]
    kind = rng.randrange(10)
    if kind < 5 and isinstance(value, bytes):
        inner = mutate_wire if _wire_fields(value) else mutate_bytes
        value = inner(value, rng)
    elif kind < 5:
        old = value if isinstance(value, int) else 0
        value = rng.choice(EDGES) if rng.random() < 0.7 else old ^ 1 << rng.randrange(64)
    elif kind == 5:
        number = rng.choice((number + 1, number - 1, rng.randint(1, 20), 100, 2**29 - 1)) or 1
    elif kind == 6:
        wire_type = rng.choice((0, 1, 2, 5))
    elif kind == 7 and len(data) < MOST_BYTES:
        fields[k:k] = [fields[rng.randrange(len(fields))]] * rng.choice((1, 1, 3, 40))
    elif kind == 8:
        del fields[k]
    elif kind == 9:
        return _wire(fields)[: rng.randrange(len(data) + 1)]
    if kind not in (7, 8):
        fields[k] = (number, wire_type, value)
    return _wire(fields)


def nested(data: bytes, rng: Random) -> bytes:
    """Put a message into itself, some hundred levels deep."""
    number = rng.choice((1, 2, 3, 7, 100))
    for _ in range(rng.choice((3, 99, 101, 500))):
        data = _wire([(number, 2, data)])
        if len(data) > MOST_BYTES:
            break
    return data


WireField = tuple[int, int, "int | bytes"]


def _wire_fields(data: bytes) -> list[WireField]:
    """The fields of a message; none if the bytes are no whole message."""
    fields: list[WireField] = []
    at = 0
    try:
        while at < len(data):
            tag, at = _varint_at(data, at)
            number, wire_type = tag >> 3, tag & 7
            if not number:
                return []
            if wire_type == 0:
                value, at = _varint_at(data, at)
                fields.append((number, 0, value))
                continue
            size = {1: 8, 5: 4}.get(wire_type)
            if wire_type == 2:
                size, at = _varint_at(data, at)
            if size is None or at + size > len(data):
                return []
            content = data[at : at + size]
            fields.append((number, wire_type, content))
            at += size
    except IndexError:
        return []
    return fields


def _varint_at(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at
    raise IndexError


def _varint(value: int) -> bytes:
    written = bytearray()
    value &= 2**64 - 1
    while value > 127:
        written.append(value & 127 | 128)
        value >>= 7
    return bytes([*written, value])


def _wire(fields: list[WireField]) -> bytes:
    parts = []
    for number, wire_type, value in fields:
        parts.append(_varint(number << 3 | wire_type))
        if wire_type == 0:
            parts.append(_varint(value if isinstance(value, int) else len(value)))
            continue
        content = _varint(value) if isinstance(value, int) else value
        if wire_type == 2:
            parts.append(_varint(len(content)) + content)
        else:
            width = 8 if wire_type == 1 else 4
            parts.append(content[:width].ljust(width, b"\0"))
    return b"".join(parts)


def mutate_text(data: bytes, rng: Random) -> bytes:
    """Change, repeat, remove or move some words of a text, or whole lines; numbers become extreme
    ones, mostly."""
    text = data.decode("utf-8", "surrogateescape")
    for _ in range(rng.randint(1, 3)):
        words = _WORD.findall(text)
        if not words:
            return mutate_bytes(data, rng)
        k = rng.randrange(len(words))
        kind = rng.randrange(9)
        if kind < 4:
            numbers = [i for i, word in enumerate(words) if _NUMBER.fullmatch(word)]
            k = rng.choice(numbers) if numbers and rng.random() < 0.7 else k
            words[k] = rng.choice(WORDS)
        elif kind == 4:
            words[k] = rng.choice(words)
        elif kind == 5:
            words[k:k] = words[k : k + rng.randint(1, 30)] * rng.choice((1, 2, 20))
        elif kind == 6:
            del words[k : k + rng.choice((1, 2, 10))]
        elif kind == 7:
            words.insert(k, rng.choice(WORDS))
        else:
            lines = text.split("\n")
            at = rng.randrange(len(lines))
            if rng.random() < 0.5:
                del lines[at]
            else:
                lines.insert(at, rng.choice(lines))
            words = ["\n".join(lines)]
        text = "".join(words)[:MOST_BYTES]
    changed = text.encode("utf-8", "surrogateescape")
    if rng.random() < 0.02:
        opening = rng.choice((b"[", b"{", b'{"a":', b"layer {", b"<", b"- "))
        return changed[: rng.randrange(len(changed) + 1)] + opening * rng.choice((50, 2000, 20000))
    if rng.random() < 0.02:
        return text.encode(rng.choice(("utf-16", "utf-16-be", "utf-32", "utf-8-sig")), "ignore")
    return mutate_bytes(changed, rng) if rng.random() < 0.15 else changed


def mutate_numbers(data: bytes, rng: Random) -> bytes:
    """Put an extreme number where a binary file has one: at a place that is a multiple of 2, near
    the beginning of a page of 256 bytes more often than elsewhere. For files of pages."""
    changed = bytearray(data)
    if len(changed) < 16:
        return mutate_bytes(data, rng)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(0, len(changed) - 8, 2)
        if rng.random() < 0.6:
            at = at // 256 * 256 + rng.randrange(0, 96, 2)
        width = rng.choice("BHHIQ")
        old = int.from_bytes(changed[at : at + struct.calcsize(width)], "little")
        near = old + rng.choice((-2, -1, 1, 2, 16, -16, 4096))
        value = rng.choice((rng.choice(EDGES), near, near, rng.randrange(1 << 16)))
        number = struct.pack(f"<{width}", value & (1 << 8 * struct.calcsize(width)) - 1)
        changed[at : at + len(number)] = number
    if rng.random() < 0.2:
        return mutate_bytes(bytes(changed), rng)
    return bytes(changed)
