"""Docker's units: decimal and binary sizes, rough durations, Go durations, short ids, ellipsis.

Wordings and rounding follow docker's go-units and stringid, checked against docker 28.2.2.
"""

from __future__ import annotations

import re

_DECIMAL = ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB")
_SIZE = re.compile(r"(\d+(?:\.\d*)?|\.\d+) ?(?:([kmgtpe])i?)?b?", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5, "e": 6}
_DURATION_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_NANOSECONDS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_MAX_INT64 = 2**63 - 1
SHORT_ID = 12
ELLIPSIS = "…"


def human_size(size: float, *, precision: int = 4) -> str:
    """Decimal units, `precision` significant digits: 109000000 -> `109MB`, 84480 -> `84.48kB`."""
    return _scaled(size, 1000.0, _DECIMAL, precision)


def human_size_3(size: float) -> str:
    """Decimal units with 3 significant digits, as in the SIZE columns of docker."""
    return _scaled(size, 1000.0, _DECIMAL, 3)


def bytes_size(size: float) -> str:
    """Binary units, 4 significant digits: 33554432 -> `32MiB`."""
    return _scaled(size, 1024.0, _BINARY, 4)


def _scaled(size: float, base: float, names: tuple[str, ...], precision: int) -> str:
    from lamina.cli.format.gotemplate.printf import sprintf

    unit = 0
    value = float(size)
    while value >= base and unit < len(names) - 1:
        value /= base
        unit += 1
    return sprintf(f"%.{precision}g%s", value, names[unit])


def parse_size(text: str) -> int:
    """Bytes from `512m`, `1g`, `1.5GiB`, `100`; k, m, g... are powers of 1024 (go-units RAMInBytes).

    Raises:
        ValueError: `invalid size: 'x'`.
    """
    return _parse_size(text, 1024)


def parse_decimal_size(text: str) -> int:
    """As `parse_size` with powers of 1000 (go-units FromHumanSize)."""
    return _parse_size(text, 1000)


def _parse_size(text: str, base: int) -> int:
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"invalid size: '{text}'")
    return int(float(match[1]) * base ** _POWERS[(match[2] or "").lower()])


def human_duration(seconds: float) -> str:
    """`Less than a second`, `About a minute`, `7 hours`, `2 weeks`, ... (go-units HumanDuration)."""
    whole = int(seconds)
    if whole < 1:
        return "Less than a second"
    if whole == 1:
        return "1 second"
    if whole < 60:
        return f"{whole} seconds"
    minutes = int(seconds / 60)
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    hours = int(seconds / 3600 + 0.5)
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    if hours < 24 * 7 * 2:
        return f"{hours // 24} days"
    if hours < 24 * 30 * 2:
        return f"{hours // 24 // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{int(seconds / 3600) // 24 // 365} years"


def parse_duration(text: str) -> int:
    """Nanoseconds from Go's notation: `1h30m`, `-1.5s`, `100ms`, `0` (time.ParseDuration).

    Raises:
        ValueError: with Go's message.
    """
    from lamina.cli.format.gotemplate.printf import quote

    sign, body = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    if body == "0":
        return 0
    if not body:
        raise ValueError(f"time: invalid duration {quote(text)}")
    total = 0
    pos = 0
    while pos < len(body):
        match = _DURATION_PART.match(body, pos)
        if match is None:
            raise ValueError(_duration_error(text, body, pos))
        whole, _, fraction = match[1].partition(".")
        unit = _NANOSECONDS[match[2]]
        total += int(whole or "0") * unit
        if fraction:
            total += int(fraction) * unit // 10 ** len(fraction)
        if total > _MAX_INT64:
            raise ValueError(f"time: invalid duration {quote(text)}")
        pos = match.end()
        following = body[pos : pos + 1]
        if following and not (following.isdigit() or following == "."):
            raise ValueError(_duration_error(text, body, match.start()))
    return sign * total


def _duration_error(text: str, body: str, pos: int) -> str:
    from lamina.cli.format.gotemplate.printf import quote

    number = re.compile(r"\d+\.?\d*|\.\d+").match(body, pos)
    if number is None:
        return f"time: invalid duration {quote(text)}"
    unit = re.compile(r"[^\d.]*").match(body, number.end())
    if unit is None or not unit[0]:
        return f"time: missing unit in duration {quote(text)}"
    return f"time: unknown unit {quote(unit[0])} in duration {quote(text)}"


def format_duration(nanoseconds: int) -> str:
    """Go's Duration.String: 5400000000000 -> `1h30m0s`."""
    size = abs(nanoseconds)
    sign = "-" if nanoseconds < 0 else ""
    if size == 0:
        return "0s"
    if size < 1_000_000_000:
        for unit, scale in (("ms", 1_000_000), ("µs", 1_000), ("ns", 1)):
            if size >= scale:
                return f"{sign}{_decimal(size, scale)}{unit}"
    hours, rest = divmod(size, 3_600_000_000_000)
    minutes, rest = divmod(rest, 60_000_000_000)
    seconds = _decimal(rest, 1_000_000_000) + "s"
    if hours:
        return f"{sign}{hours}h{minutes}m{seconds}"
    return f"{sign}{minutes}m{seconds}" if minutes else sign + seconds


def _decimal(value: int, scale: int) -> str:
    whole, rest = divmod(value, scale)
    if not rest:
        return str(whole)
    digits = str(rest).rjust(len(str(scale)) - 1, "0").rstrip("0")
    return f"{whole}.{digits}"


def short_id(digest: str) -> str:
    """The 12 hex digits of an id or digest, without the algorithm."""
    return digest.rpartition(":")[2][:SHORT_ID]


def ellipsis(text: str, width: int) -> str:
    """At most `width` columns, the last one `…` when something was cut (docker's Ellipsis)."""
    if width <= 0:
        return ""
    if display_width(text) <= width:
        return text
    if width == 1:
        return text[:1]
    out: list[str] = []
    used = 0
    for char in text:
        used += display_width(char)
        if used > width - 1:
            break
        out.append(char)
    return "".join(out) + ELLIPSIS


def display_width(text: str) -> int:
    """Terminal columns of a text; East Asian wide characters take two."""
    if text.isascii():
        return len(text)
    import unicodedata

    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )
