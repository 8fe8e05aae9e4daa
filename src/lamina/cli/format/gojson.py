r"""JSON as Go's encoding/json writes it: compact or indented, `<>&` escaped or not, floats in Go's form.

Docker's outputs differ in one point, checked against 28.2.2: `{{json .}}` and inspect output of daemon objects
leave `<>&` alone; `--format json` of a list command escapes them (`"\u003cnone\u003e"`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from json.encoder import encode_basestring
from typing import Any

from lamina.cli.format.gotemplate.values import NIL_LIST, NIL_MAP, TYPED_NIL, Struct

_ALWAYS = {0x2028: "\\u2028", 0x2029: "\\u2029"}
_HTML = {**_ALWAYS, ord("<"): "\\u003c", ord(">"): "\\u003e", ord("&"): "\\u0026"}


def marshal(value: Any, *, escape_html: bool = False, indent: int | None = None) -> str:
    """The JSON text of a value; `indent` spaces a level (docker inspect uses 4).

    Keys keep the order in which they stand: a dict here usually is a Go struct. Producers sort their maps.
    """
    out: list[str] = []
    _write(value, out, "" if indent is None else "\n", " " * (indent or 0), _HTML if escape_html else _ALWAYS)
    return "".join(out)


def _write(value: Any, out: list[str], newline: str, step: str, escapes: Mapping[int, str]) -> None:
    """Appends a value; `newline` is "" for compact output, else a line break with the current indentation."""
    if value is None or value is TYPED_NIL or value is NIL_LIST or value is NIL_MAP:
        out.append("null")
    elif isinstance(value, bool):
        out.append("true" if value else "false")
    elif isinstance(value, int):
        out.append(str(int(value)))
    elif isinstance(value, float):
        out.append(_number(value))
    elif isinstance(value, Struct):
        _write(value.as_json(), out, newline, step, _HTML if value.marshals_itself else escapes)
    elif isinstance(value, Mapping):
        parts = [(_text(str(key), escapes) + (": " if newline else ":"), item) for key, item in value.items()]
        _write_items("{", "}", parts, out, newline, step, escapes)
    elif isinstance(value, list | tuple):
        _write_items("[", "]", [("", item) for item in value], out, newline, step, escapes)
    else:
        out.append(_text(str(value), escapes))


def _write_items(
    opening: str,
    closing: str,
    items: Sequence[tuple[str, Any]],
    out: list[str],
    newline: str,
    step: str,
    escapes: Mapping[int, str],
) -> None:
    out.append(opening)
    inner = newline + step if newline else ""
    for position, (prefix, item) in enumerate(items):
        out.append(f"{',' if position else ''}{inner}{prefix}")
        _write(item, out, inner, step, escapes)
    out.append((newline if items else "") + closing)


def _text(value: str, escapes: Mapping[int, str]) -> str:
    text = encode_basestring(value).translate(escapes)
    if text.isascii():
        return text
    # Go replaces bytes that are not UTF-8; they reach us as lone surrogates.
    return "".join("\\ufffd" if "\ud800" <= char <= "\udfff" else char for char in text)


def _number(value: float) -> str:
    """Shortest digits; an exponent below 1e-6 and from 1e21 on, without a leading zero."""
    if math.isnan(value) or math.isinf(value):
        raise ValueError(f"json: unsupported value: {value}")
    if value == 0 or 1e-6 <= abs(value) < 1e21:
        from decimal import Decimal

        return f"{int(value)}" if value == int(value) and abs(value) < 2**53 else f"{Decimal(repr(value)):f}"
    mantissa, _, exponent = repr(value).partition("e")
    if not exponent:
        return mantissa
    return f"{mantissa}e{exponent[0]}{exponent[1:].lstrip('0')}"
