r"""JSON as Go's encoding/json writes it: compact or indented, `<>&` escaped or not, floats in Go's form.

Docker's outputs differ in one point, checked against 28.2.2: `{{json .}}` and inspect output of daemon objects
leave `<>&` alone; `--format json` of a list command escapes them (`"\u003cnone\u003e"`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from lamina.cli.format.gotemplate.values import TYPED_NIL, Struct

_HTML = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}
_ALWAYS = {"\u2028": "\\u2028", "\u2029": "\\u2029", "\x7f": "\x7f"}
_EXPONENT = re.compile(r"e([+-])0?(\d+)")


def marshal(value: Any, *, escape_html: bool = False, indent: int | None = None) -> str:
    """The JSON text of a value; `indent` spaces a level (docker inspect uses 4).

    Keys keep the order in which they stand: a dict here usually is a Go struct. Producers sort their maps.
    """
    text = json.dumps(
        _plain(value),
        ensure_ascii=False,
        indent=indent,
        separators=(",", ": " if indent else ":"),
        default=str,
    )
    for char, escaped in _ALWAYS.items():
        text = text.replace(char, escaped)
    if escape_html:
        for char, escaped in _HTML.items():
            text = text.replace(char, escaped)
    return text.encode("utf-8", "replace").decode() if any("\ud800" <= c <= "\udfff" for c in text) else text


class _Float(float):
    """A float that the json module prints in Go's form."""

    def __repr__(self) -> str:
        value = float(self)
        if value == int(value) and abs(value) < 1e21:
            return str(int(value))
        return _EXPONENT.sub(r"e\1\2", float.__repr__(self))


def _plain(value: Any) -> Any:
    if value is TYPED_NIL:
        return None
    if isinstance(value, Struct):
        return {name: _plain(item) for name, item in value.as_json().items()}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and value == value and abs(value) != float("inf"):  # noqa: PLR0124 - NaN test
        return _Float(value)
    return value
