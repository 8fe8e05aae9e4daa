"""PAX extended headers (POSIX pax interchange format) and the vendor records that layers use in them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from urllib.parse import unquote_to_bytes

from lamina.layer.limits import LayerLimit, Limits

SCHILY_XATTR = "SCHILY.xattr."
LIBARCHIVE_XATTR = "LIBARCHIVE.xattr."
_NANO = 1_000_000_000


class BadRecord(ValueError):
    """A PAX record is malformed; the reader adds the entry's name and offset."""


def text(value: bytes) -> str:
    """Decode a path or keyword; bytes that are not UTF-8 survive as surrogates."""
    return value.decode("utf-8", "surrogateescape")


def parse_records(body: bytes) -> list[tuple[str, bytes]]:
    """Split the body of an `x` or `g` header into (keyword, raw value) pairs, in order, duplicates kept.

    Raises:
        BadRecord: when a length, the "=" or the newline is not where it must be.
    """
    records: list[tuple[str, bytes]] = []
    at = 0
    end = len(body)
    while at < end:
        if body[at] == 0 and not body[at:].strip(b"\0"):
            break  # some writers count the padding in
        space = body.find(b" ", at, at + 21)
        digits = body[at:space] if space > 0 else b""
        if not digits.isdigit():
            raise BadRecord("PAX record without a length")
        stop = at + int(digits)
        if stop > end or stop <= space + 1 or body[stop - 1] != 0x0A:
            raise BadRecord("PAX record with a wrong length")
        equals = body.find(b"=", space + 1, stop - 1)
        if equals <= space + 1:
            raise BadRecord("PAX record without a keyword")
        records.append((text(body[space + 1 : equals]), body[equals + 1 : stop - 1]))
        at = stop
    return records


def format_records(records: Mapping[str, bytes]) -> bytes:
    """Write records sorted by keyword, so that equal entries give equal bytes."""
    parts: list[bytes] = []
    for keyword in sorted(records):
        tail = b" " + keyword.encode("utf-8", "surrogateescape") + b"=" + records[keyword] + b"\n"
        size = len(tail)
        length = size + len(str(size))
        if size + len(str(length)) != length:
            length = size + len(str(length))
        parts.append(b"%d" % length + tail)
    return b"".join(parts)


def integer(value: bytes, keyword: str) -> int:
    """Parse a decimal record such as `size` or `uid`."""
    digits = value[1:] if value[:1] == b"-" else value
    if not digits.isdigit() or len(digits) > 20:
        raise BadRecord(f"PAX record {keyword} is not a number")
    return int(value)


def time_ns(value: bytes, keyword: str) -> int:
    """Parse a decimal time in seconds with any number of fractional digits into nanoseconds, rounding down."""
    whole, dot, fraction = value.partition(b".")
    sign = whole[:1] == b"-"
    digits = whole[1:] if sign else whole
    if not digits.isdigit() or len(digits) > 20 or (dot and fraction and not fraction.isdigit()):
        try:  # an exponent or a leading "." is odd but harmless
            number = Decimal(value.replace(b"_", b"?").decode("ascii"))
        except (InvalidOperation, UnicodeDecodeError):
            raise BadRecord(f"PAX record {keyword} is not a time") from None
        if not number.is_finite() or abs(number) > 1 << 62:
            raise BadRecord(f"PAX record {keyword} is not a time")
        return int((number * _NANO).to_integral_value("ROUND_FLOOR"))
    nanos = int(fraction[:9].ljust(9, b"0")) if fraction else 0
    seconds = int(digits)
    if not sign:
        return seconds * _NANO + nanos
    exact = not fraction[9:].strip(b"0")
    return -(seconds * _NANO + nanos) - (0 if exact else 1)


def format_time(ns: int) -> bytes:
    """Write nanoseconds as PAX decimal seconds without trailing zeros."""
    sign = "-" if ns < 0 else ""
    seconds, nanos = divmod(abs(ns), _NANO)
    fraction = f".{nanos:09d}".rstrip("0") if nanos else ""
    return f"{sign}{seconds}{fraction}".encode("ascii")


def xattrs_of(records: Mapping[str, bytes], limits: Limits) -> dict[str, bytes]:
    """Collect extended attributes; star's raw form wins over libarchive's encoded one.

    Raises:
        BadRecord: for an undecodable libarchive value or an empty or NUL-holding attribute name.
        LayerLimit: when a value is larger than `limits.max_xattr_bytes`.
    """
    found: dict[str, bytes] = {}
    for keyword, value in records.items():
        if keyword.startswith(LIBARCHIVE_XATTR):
            name = text(unquote_to_bytes(keyword[len(LIBARCHIVE_XATTR) :].encode("utf-8", "surrogateescape")))
            if SCHILY_XATTR + name in records:
                continue
            try:
                value = base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)
            except binascii.Error:
                raise BadRecord(f"PAX record {keyword} is not base64") from None
        elif keyword.startswith(SCHILY_XATTR):
            name = keyword[len(SCHILY_XATTR) :]
        else:
            continue
        if not name or "\0" in name:
            raise BadRecord("extended attribute with an unusable name")
        if len(value) > limits.max_xattr_bytes:
            message = f"extended attribute {name!r} has {len(value)} bytes"
            raise LayerLimit("max_xattr_bytes", limits.max_xattr_bytes, message)
        found[name] = value
    return found
