"""Go's constants: quoted strings, character constants and numbers."""

from __future__ import annotations

import re

_SIMPLE = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\"}
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.)|$)", re.DOTALL)
_FLOAT = re.compile(r"[+-]?(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eE][+-]?\d+)?")
_HEX_FLOAT = re.compile(r"[+-]?0[xX][0-9a-fA-F_]*\.?[0-9a-fA-F_]*[pP][+-]?\d+")
_INTEGER = re.compile(r"[+-]?(?:0[xX][0-9a-fA-F_]+|0[oO][0-7_]+|0[bB][01_]+|0[0-7_]*|[1-9][\d_]*)")


def unquote(text: str) -> str:
    """The value of a Go string literal, quoted or raw.

    Raises:
        ValueError: an escape is malformed.
    """
    if text.startswith("`"):
        return text[1:-1].replace("\r", "")
    return _unescape(text[1:-1], text[0])


def _unescape(body: str, mark: str) -> str:
    raw = bytearray()
    end = 0
    for match in _ESCAPE.finditer(body):
        raw += body[end : match.start()].encode("utf-8", "surrogateescape")
        end = match.end()
        byte, short, long, octal, other = match.groups()
        if byte or octal:
            value = int(byte, 16) if byte else int(octal, 8)
            if value > 255:
                raise ValueError("invalid syntax")
            raw.append(value)
        elif short or long:
            value = int(short or long, 16)
            if value > 0x10FFFF or 0xD800 <= value < 0xE000:
                raise ValueError("invalid syntax")
            raw += chr(value).encode()
        elif other is not None and (other == mark or other in _SIMPLE):
            raw += _SIMPLE.get(other, other).encode()
        else:
            raise ValueError("invalid syntax")
    raw += body[end:].encode("utf-8", "surrogateescape")
    return raw.decode("utf-8", "surrogateescape")


def parse_number(text: str) -> int | float | complex:
    """The value of a number or character constant.

    Raises:
        ValueError: with Go's message.
    """
    if text.startswith("'"):
        try:
            char = _unescape(text[1:-1], "'")
        except ValueError:
            char = ""
        if len(char) != 1:
            raise ValueError(f"malformed character constant: {text}")
        return ord(char)
    if text.endswith("i"):
        return complex(0, float(parse_number(text[:-1]).real))
    if _INTEGER.fullmatch(text):
        value = _integer(text)
        if not -(2**63) <= value < 2**64:
            from lamina.cli.format.gotemplate.printf import quote

            raise ValueError(f"integer overflow: {quote(text)}")
        return value
    if _HEX_FLOAT.fullmatch(text):
        return float.fromhex(text.replace("_", ""))
    if _FLOAT.fullmatch(text):
        return float(text.replace("_", ""))
    from lamina.cli.format.gotemplate.printf import quote

    raise ValueError(f"illegal number syntax: {quote(text)}")


def _integer(text: str) -> int:
    plain = text.replace("_", "").lower()
    digits = plain.lstrip("+-")
    base = {"0x": 16, "0o": 8, "0b": 2}.get(digits[:2], 8 if digits.startswith("0") and len(digits) > 1 else 10)
    return int(plain, base)


def integer_literal(text: str) -> int | None:
    """A Go integer literal with base prefix and underscores (strconv with base 0), or None when it is none."""
    return _integer(text) if _INTEGER.fullmatch(text) and text[-1:] != "_" else None
