"""RFC 3339 instants as image documents write them: UTC, up to nanoseconds, kept as text where digests depend on it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

from lamina.errors import Invalid

_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9})\d*)?(?:([Zz])|([+-])(\d\d):(\d\d))", re.ASCII
)
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
#: Go's zero time, which older images carry for "unknown".
ZERO: Final = "0001-01-01T00:00:00Z"


def utc_now() -> datetime:
    """The clock that everything below the command line receives as a default argument."""
    return datetime.now(UTC)


def rfc3339(moment: datetime) -> str:
    """Format as Docker does: `2026-01-31T12:00:00.123456Z`, the fraction cut of trailing zeros."""
    moment = moment.astimezone(UTC)
    fraction = f".{moment.microsecond:06d}".rstrip("0").rstrip(".")
    # strftime does not pad years before 1000, and Go's zero time is one
    return f"{moment.year:04d}-{moment:%m-%dT%H:%M:%S}{fraction}Z"


def parse_rfc3339(text: str) -> datetime:
    """Read an instant; nanoseconds are cut to microseconds.

    Raises:
        Invalid: not RFC 3339.
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise Invalid(f"invalid time {text!r}: want RFC 3339, like 2026-01-31T12:00:00Z")
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    micro = int((match[7] or "0")[:6].ljust(6, "0"))
    try:
        zone = UTC if match[8] else timezone(timedelta(hours=int(match[10]), minutes=int(match[11])) * _sign(match[9]))
        # a leap second, which datetime cannot say, is taken for the one before
        second = 59 if second == 60 else second
        return datetime(year, month, day, hour, minute, second, micro, zone).astimezone(UTC)
    except (ValueError, OverflowError):
        if text.startswith("0001-01-01"):
            return datetime(1, 1, 1, tzinfo=UTC)
        raise Invalid(f"invalid time {text!r}: no such date") from None


def _sign(sign: str) -> int:
    return -1 if sign == "-" else 1
