"""Conditional and partial requests (RFC 9110, sections 13 and 14), as far as content by digest needs them."""

from __future__ import annotations

import re
from typing import Final

from lamina.registry.errors import RangeUnsatisfiable

_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


def matches(header: str | None, etag: str) -> bool:
    """Whether an If-None-Match header names the entity tag; weak comparison."""
    if not header:
        return False
    return any(part.strip().removeprefix("W/") in {etag, "*"} for part in header.split(","))


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """The first byte and the count that a Range header asks for; None for everything.

    Several ranges, and units or forms that are unknown, are answered with the whole, as the RFC allows.

    Raises:
        RangeUnsatisfiable: the range begins past the end of the blob, or past its own end.
    """
    match = _RANGE.fullmatch(header.replace(" ", "")) if header else None
    if match is None or match[1] == match[2] == "":
        return None
    if match[1] == "":
        count = min(int(match[2]), size)
        if count == 0:
            raise RangeUnsatisfiable(size)
        return size - count, count
    first = int(match[1])
    last = min(int(match[2]), size - 1) if match[2] else size - 1
    if first >= size or last < first:
        raise RangeUnsatisfiable(size)
    return first, last - first + 1
