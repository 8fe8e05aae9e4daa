"""The 512-byte tar header block: fields, numbers and checksums (POSIX ustar, GNU and old V7 forms)."""

from __future__ import annotations

from functools import lru_cache
from struct import Struct
from zlib import adler32

BLOCK = 512
ZERO_BLOCK = bytes(BLOCK)
USTAR = b"ustar\x0000"
GNU = b"ustar  \x00"

# name mode uid gid size mtime checksum type linkname magic uname gname major minor prefix
FIELDS = Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x")
_REGIONS = Struct("12s12s")

MAX_OCTAL_7 = 0o7777777
MAX_OCTAL_11 = 0o77777777777


class BadField(ValueError):
    """A header field does not parse; the reader adds the entry's name and offset."""


@lru_cache(4096)  # owners, modes and times repeat from entry to entry
def number(field: bytes) -> int:
    """Parse a numeric field: octal digits, or GNU base-256 when the top bit of the first byte is set.

    Octal may be padded with spaces or NULs on either side; an empty field is 0.

    Raises:
        BadField: for anything else.
    """
    first = field[0]
    if first & 0x80:
        value = int.from_bytes(field, "big")
        bits = 8 * len(field)
        # Bit 7 is the marker, bit 6 the sign: 0xff... is negative, 0x80... positive.
        return value - (1 << bits) if first & 0x40 else value - (1 << (bits - 1))
    digits = field.strip(b" \0")
    if not digits:
        return 0
    end = digits.find(b"\0")
    if end >= 0:
        digits = digits[:end]
    try:
        if digits.isdigit():
            return int(digits, 8)
    except ValueError:
        pass
    raise BadField("header field is not an octal number")


def byte_sum(block: bytes) -> int:
    """Sum of the 512 bytes of a block.

    The low half of adler32 is 1 + the sum modulo 65521, which half a block cannot reach: exact, and ten times as fast
    as `sum`.
    """
    return (adler32(block[:256]) & 0xFFFF) + (adler32(block[256:]) & 0xFFFF) - 2


def checksum_ok(block: bytes, field: bytes) -> bool:
    """Check the header checksum: the sum of all bytes with the checksum field taken as spaces.

    Old Suns summed signed bytes; that is accepted too.
    """
    try:
        want = number(field)
    except BadField:
        return False
    if byte_sum(block) == want - 256 + sum(field):
        return True
    signed = sum(byte - 256 if byte > 127 else byte for byte in block)
    return signed == want - 256 + sum(byte - 256 if byte > 127 else byte for byte in field)


def cstring(field: bytes) -> bytes:
    """A text field up to its first NUL."""
    end = field.find(b"\0")
    return field if end < 0 else field[:end]


@lru_cache(256)
def owner_name(field: bytes) -> str:
    """A user or group name field as text."""
    return cstring(field).decode("utf-8", "surrogateescape")


def old_sparse_regions(data: bytes, count: int) -> tuple[list[tuple[int, int]], bool]:
    """Parse (offset, length) pairs of an old GNU sparse header or its extension; False when the list has ended."""
    regions: list[tuple[int, int]] = []
    for index in range(count):
        offset, length = _REGIONS.unpack_from(data, index * 24)
        if not offset.strip(b" \0") and not length.strip(b" \0"):
            return regions, False
        regions.append((number(offset), number(length)))
    return regions, True


def build(
    name: bytes,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    mtime: int,
    typeflag: bytes,
    linkname: bytes = b"",
    uname: bytes = b"",
    gname: bytes = b"",
    major: int = 0,
    minor: int = 0,
    prefix: bytes = b"",
) -> bytes:
    """Make a ustar header block; all values must already fit their fields."""
    block = b"%b%07o\0%07o\0%07o\0%011o\0%011o\0        %b%bustar\00000%b%b%07o\0%07o\0%b\0\0\0\0\0\0\0\0\0\0\0\0" % (
        name.ljust(100, b"\0"),
        mode,
        uid,
        gid,
        size,
        mtime,
        typeflag,
        linkname.ljust(100, b"\0"),
        uname.ljust(32, b"\0"),
        gname.ljust(32, b"\0"),
        major,
        minor,
        prefix.ljust(155, b"\0"),
    )
    return b"%b%06o\0 %b" % (block[:148], byte_sum(block), block[156:])
