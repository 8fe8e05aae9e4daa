"""Values in the text forms that image history and messages are written in: Go's `%q`, `%v` and durations."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from lamina.build.dockerfile.errors import DockerfileError

_ESCAPES: Final = {
    "\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v", "\\": "\\\\", '"': '\\"',
}  # fmt: skip
_UNITS: Final = {
    "ns": 1, "us": 10**3, "\u00b5s": 10**3, "\u03bcs": 10**3, "ms": 10**6,
    "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9,
}  # fmt: skip
_DURATION = re.compile(r"(\d*)(?:\.(\d*))?(ns|us|\u00b5s|\u03bcs|ms|s|m|h)", re.ASCII)
_LONGEST: Final = 2**63 - 1


def quote(text: str) -> str:
    """A double-quoted string with escapes, like `%q`."""
    return '"' + "".join(_ESCAPES.get(char) or (char if char.isprintable() else _code(char)) for char in text) + '"'


def quoted_list(items: Sequence[str]) -> str:
    """`["a" "b"]`, like `%q` of a list."""
    return "[" + " ".join(map(quote, items)) + "]"


def plain_list(items: Sequence[str]) -> str:
    """`[a b]`, like `%v` of a list."""
    return "[" + " ".join(items) + "]"


def format_duration(nanoseconds: int) -> str:
    """`1m30s`, `500ms`, `0s`."""
    if nanoseconds < 0:
        return "-" + format_duration(-nanoseconds)
    if nanoseconds < _UNITS["s"]:
        for unit in ("ms", "\u00b5s", "ns"):
            if nanoseconds >= _UNITS[unit]:
                return _decimal(nanoseconds, _UNITS[unit]) + unit
        return "0s"
    hours, rest = divmod(nanoseconds, _UNITS["h"])
    minutes, rest = divmod(rest, _UNITS["m"])
    seconds = _decimal(rest, _UNITS["s"]) + "s"
    if hours:
        return f"{hours}h{minutes}m{seconds}"
    return f"{minutes}m{seconds}" if minutes else seconds


def parse_duration(text: str) -> int:
    """Nanoseconds of `1h30m`, `1.5s`, `100ms`; a bare `0` is allowed.

    Raises:
        DockerfileError: no duration, a unit is missing, or it is longer than 292 years.
    """
    sign, rest = (-1, text[1:]) if text[:1] == "-" else (1, text.removeprefix("+"))
    if rest == "0":
        return 0
    total = 0
    position = 0
    while position < len(rest):
        match = _DURATION.match(rest, position)
        if match is None or not (match[1] or match[2]) or len(match[0]) > 64:
            break
        whole, fraction = match[1] or "0", match[2] or ""
        total += int(whole + fraction) * _UNITS[match[3]] // 10 ** len(fraction)
        position = match.end()
    if not rest or position < len(rest) or total > _LONGEST:
        problem = "missing unit in duration" if rest.replace(".", "", 1).isdigit() else "invalid duration"
        raise DockerfileError(f"time: {problem} {quote(text)}")
    return sign * total


def _decimal(value: int, unit: int) -> str:
    whole, rest = divmod(value, unit)
    return f"{whole}.{rest:0{len(str(unit)) - 1}d}".rstrip("0") if rest else str(whole)


def _code(char: str) -> str:
    code = ord(char)
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
