"""Moments as users write them in `until`, `--since` and `--until`: durations back from now, dates, Unix times."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from lamina.errors import Invalid
from lamina.spec.timestamp import EPOCH

_UNIX = re.compile(r"(\d{1,12})(?:\.(\d{1,9}))?", re.ASCII)
_PARTIAL = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[Tt](\d\d:\d\d)(:\d\d)?(?:\.(\d{1,9}))?)?(Z|z|[+-]\d\d:\d\d)?",
    re.ASCII,
)


class InvalidMoment(Invalid):
    """The text is neither a duration nor a time.

    Attributes:
        text: as it was given.
    """

    def __init__(self, text: str) -> None:
        super().__init__(
            f"failed to parse {text!r} as a time or duration",
            hint="write a duration (10m, 1h30m), a date (2026-01-31T12:00:00Z) or seconds since 1970",
        )
        self.text = text


def parse_moment(text: str, now: datetime) -> datetime:
    """Read a moment.

    Args:
        text: `24h` (that long before `now`), `2026-01-31`, `2026-01-31T12:00`, RFC 3339, or `1136073600.5`. What has no
            zone is local time.
        now: with a zone.

    Raises:
        InvalidMoment: none of these.
    """
    if match := _UNIX.fullmatch(text):
        micro = int((match[2] or "0")[:6].ljust(6, "0"))
        return EPOCH + timedelta(seconds=int(match[1]), microseconds=micro)
    if match := _PARTIAL.fullmatch(text):
        return _date(text, match)
    # The one reader of Go durations below the command line lives with the Dockerfile's HEALTHCHECK.
    from lamina.build.dockerfile.errors import DockerfileError
    from lamina.build.dockerfile.gofmt import parse_duration

    try:
        return now - timedelta(microseconds=parse_duration(text) // 1000)
    except (DockerfileError, OverflowError):
        raise InvalidMoment(text) from None


def _date(text: str, match: re.Match[str]) -> datetime:
    day, minutes, seconds, fraction, zone = match.groups()
    clock = f"{minutes or '00:00'}{seconds or ':00'}.{(fraction or '0')[:6].ljust(6, '0')}"
    suffix = "+00:00" if zone in {"Z", "z"} else zone or ""
    try:
        moment = datetime.fromisoformat(f"{day}T{clock}{suffix}")
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidMoment(text) from None
