"""Write a deterministic tar stream: plain ustar headers where the values fit, PAX records where they do not.

Equal entries in equal order give equal bytes. Docker, podman, GNU tar and Python's tarfile read the result.
"""

from __future__ import annotations

from lamina.errors import Invalid
from lamina.layer import header, pax
from lamina.layer.digesting import Readable, Write
from lamina.layer.entry import Kind, TarEntry

_TYPES = {
    Kind.FILE: b"0",
    Kind.HARDLINK: b"1",
    Kind.SYMLINK: b"2",
    Kind.CHAR: b"3",
    Kind.BLOCK: b"4",
    Kind.DIR: b"5",
    Kind.FIFO: b"6",
}
_NANO = 1_000_000_000
_CHUNK = 256 * 1024
_PADDING = tuple(bytes(-size % header.BLOCK) for size in range(header.BLOCK))


class WrongLength(Invalid):
    """The data given for an entry is not as long as its header says.

    Attributes:
        entry: name of the entry.
        expected: bytes announced.
        actual: bytes given (at least; reading stops early when there are more).
    """

    def __init__(self, entry: str, expected: int, actual: int) -> None:
        super().__init__(f"{entry}: {actual} bytes of data for an entry of {expected} bytes")
        self.entry = entry
        self.expected = expected
        self.actual = actual


def _raw(value: str) -> bytes:
    return value.encode("utf-8", "surrogateescape")


def _is_plain(value: bytes) -> bool:
    """ASCII, or bytes that no encoding explains: both stand in the header as they are."""
    if value.isascii():
        return True
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return True
    return False


def _split(name: bytes) -> tuple[bytes, bytes] | None:
    """Cut a long name at a "/" into (prefix, name) for a ustar header; None when it does not fit."""
    if len(name) > 256:
        return None
    cut = name.find(b"/", max(len(name) - 101, 1), min(len(name) - 1, 156))
    if cut < 0:
        return None
    return name[:cut], name[cut + 1 :]


def entry_header(entry: TarEntry) -> bytes:
    """The header blocks of an entry, PAX header included; sparse entries are announced at their full size.

    Raises:
        Invalid: for an empty name, a NUL in a name, or a value no tar can express.
    """
    name = _raw(entry.name)
    link = _raw(entry.linkname) if entry.linkname else b""
    if not name or b"\0" in name or b"\0" in link:
        raise Invalid(f"cannot archive {entry.name!r}: the name is empty or holds a NUL")
    kind = entry.kind
    if kind is Kind.DIR and not name.endswith(b"/"):
        name += b"/"
    elif kind is Kind.FILE and name.endswith(b"/"):
        raise Invalid(f'cannot archive {entry.name!r}: the name of a file cannot end in "/"')
    size = entry.size if kind is Kind.FILE else 0
    seconds, nanos = divmod(entry.mtime, _NANO)
    uid, gid = entry.uid, entry.gid
    if min(size, uid, gid, entry.major, entry.minor) < 0 or max(entry.major, entry.minor) > header.MAX_OCTAL_7:
        raise Invalid(f"cannot archive {entry.name!r}: a number is out of range")
    uname = gname = b""
    records: dict[str, bytes] = {}
    prefix = b""
    if len(name) > 100 or not name.isascii():
        cut = _split(name) if len(name) > 100 else (b"", name)
        if cut is not None and _is_plain(name):
            prefix, name = cut
        else:
            records["path"] = name
            # A placeholder for readers without PAX: the tail of the name, with the directory mark kept.
            name = name.decode("ascii", "replace").encode("ascii", "replace")[-100:].lstrip(b"/") or b"_"
    if link and (len(link) > 100 or not _is_plain(link)):
        records["linkpath"] = link
        link = link.decode("ascii", "replace").encode("ascii", "replace")[:100]
    if size > header.MAX_OCTAL_11:
        records["size"] = b"%d" % size
        size = 0
    if uid > header.MAX_OCTAL_7:
        records["uid"] = b"%d" % uid
        uid = 0
    if gid > header.MAX_OCTAL_7:
        records["gid"] = b"%d" % gid
        gid = 0
    if nanos or not 0 <= seconds <= header.MAX_OCTAL_11:
        records["mtime"] = pax.format_time(entry.mtime)
        seconds = min(max(seconds, 0), header.MAX_OCTAL_11)
    if entry.uname or entry.gname:
        uname, gname = _raw(entry.uname), _raw(entry.gname)
        if len(uname) > 32 or not _is_plain(uname):
            records["uname"], uname = uname, b""
        if len(gname) > 32 or not _is_plain(gname):
            records["gname"], gname = gname, b""
    for key, value in entry.xattrs.items():
        if "=" in key or "\0" in key or not key:
            raise Invalid(f"cannot archive {entry.name!r}: extended attribute {key!r} has an unusable name")
        records[pax.SCHILY_XATTR + key] = value
    block = header.build(
        name,
        entry.mode & 0o7777,
        uid,
        gid,
        size,
        seconds,
        _TYPES[kind],
        link,
        uname,
        gname,
        entry.major,
        entry.minor,
        prefix,
    )
    if not records:
        return block
    if not all(_is_utf8(records[key]) for key in ("path", "linkpath", "uname", "gname") if key in records):
        records["hdrcharset"] = b"BINARY"
    body = pax.format_records(records)
    return b"".join((_pax_block(name, len(body)), body, _PADDING[len(body) % header.BLOCK], block))


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _pax_block(name: bytes, size: int) -> bytes:
    """Header of the PAX records; its name only matters to readers without PAX, who see a small file."""
    base = name.rstrip(b"/").rpartition(b"/")[2]
    return header.build((b"PaxHeaders/" + base)[:100], 0o644, 0, 0, size, 0, b"x")


class TarWriter:
    """Write entries, then `close`.

    Attributes:
        position: bytes written so far.
        entries: entries written so far.
    """

    def __init__(self, write: Write) -> None:
        self._write = write
        self.position = 0
        self.entries = 0

    def add(self, entry: TarEntry, data: Readable | bytes | None = None) -> None:
        """Write one entry with its data.

        Args:
            entry: what to write; a sparse file is written with its holes filled by the caller (`sparse` is ignored).
            data: exactly `entry.size` bytes, required when that is not 0.

        Raises:
            WrongLength: data is shorter or longer than the entry's size; the archive is then unusable.
            Invalid: the entry cannot be expressed.
        """
        self.header(entry)
        size = entry.size if entry.kind is Kind.FILE else 0
        given = 0
        if isinstance(data, bytes):
            given = len(data)
            if given == size:
                self.data(data)
        elif data is not None:
            while chunk := data.read(min(_CHUNK, size - given + 1)):
                given += len(chunk)
                if given > size:
                    break
                self.data(chunk)
        if given != size:
            raise WrongLength(entry.name, size, given)
        self.pad(size)

    def header(self, entry: TarEntry) -> None:
        """Write only the header; `data` and `pad` must follow for a file that is not empty."""
        block = entry_header(entry)
        self._write(block)
        self.position += len(block)
        self.entries += 1

    def data(self, chunk: bytes | bytearray | memoryview) -> None:
        """Write a piece of the current entry's data."""
        self._write(chunk)
        self.position += len(chunk)

    def pad(self, size: int) -> None:
        """Fill the last block of an entry of `size` bytes."""
        padding = _PADDING[size % header.BLOCK]
        if padding:
            self._write(padding)
            self.position += len(padding)

    def close(self) -> None:
        """Write the end-of-archive marker (two zero blocks); the sink stays open."""
        self._write(bytes(2 * header.BLOCK))
        self.position += 2 * header.BLOCK
