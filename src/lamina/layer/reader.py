"""Read a tar stream entry by entry: ustar, V7, GNU long names and sparse files, PAX with its vendor records.

The stream is read strictly forward in large chunks. Entry data is handed out as memoryviews into the current chunk,
so a small file costs no copy at all.
"""

from __future__ import annotations

from collections.abc import Iterator

from lamina.layer import pax as paxlib
from lamina.layer.digesting import Readable
from lamina.layer.entry import BadArchive, Kind, TarEntry
from lamina.layer.header import (
    BLOCK,
    FIELDS,
    GNU,
    ZERO_BLOCK,
    BadField,
    checksum_ok,
    cstring,
    number,
    old_sparse_regions,
    owner_name,
)
from lamina.layer.limits import DEFAULT_LIMITS, LayerLimit, Limits

CHUNK = 256 * 1024
"""Bytes asked of the stream at a time: fits the L2 cache between inflate, hash and write."""

_NANO = 1_000_000_000
_MAX_ID = (1 << 32) - 1  # chown takes the last id as "leave it"
_KINDS = {
    b"0": Kind.FILE,
    b"\0": Kind.FILE,
    b"7": Kind.FILE,
    b"S": Kind.FILE,
    b"1": Kind.HARDLINK,
    b"2": Kind.SYMLINK,
    b"3": Kind.CHAR,
    b"4": Kind.BLOCK,
    b"5": Kind.DIR,
    b"D": Kind.DIR,
    b"6": Kind.FIFO,
}
# Entries that describe the archive, not a file: volume label, old long-name table, Solaris ACL.
_SKIPPED = frozenset((b"V", b"N", b"A"))
_Sparse = tuple[tuple[int, int], ...]


class TarReader:
    """Iterate over the entries of a tar stream.

    After an entry was returned its data may be taken with `chunks()` or `read(n)`; what is not taken is skipped.
    For a sparse file the data are its stored regions back to back (see `TarEntry.sparse`).

    Attributes:
        entries: entries returned so far.
        terminated: the end-of-archive marker was seen (many writers omit it; that is accepted at an entry boundary).
    """

    def __init__(self, stream: Readable, *, limits: Limits = DEFAULT_LIMITS) -> None:
        self._read = stream.read
        self._limits = limits
        self._buffer = b""
        self._at = 0
        self._base = 0  # stream position of the first byte of _buffer
        self._data_left = 0
        self._pad = 0
        self._globals: dict[str, bytes] = {}
        self._name = ""
        self._header_at = 0
        self._holes = 0
        self._headers = 0
        self.entries = 0
        self.terminated = False

    # --- bytes ---------------------------------------------------------------------------------------------------

    @property
    def position(self) -> int:
        """Bytes of the stream consumed so far."""
        return self._base + self._at

    def _refill(self) -> bool:
        """Replace an exhausted buffer; False at the end of the stream."""
        self._base += len(self._buffer)
        self._at = 0
        self._buffer = self._read(CHUNK)
        return bool(self._buffer)

    def _exactly(self, size: int) -> bytes:
        """Take `size` bytes; fewer only at the end of the stream."""
        at = self._at
        data = self._buffer[at : at + size]
        if len(data) == size:
            self._at = at + size
            return data
        self._at = len(self._buffer)
        parts = [data]
        missing = size - len(data)
        while missing and self._refill():
            data = self._buffer[:missing]
            self._at = len(data)
            missing -= len(data)
            parts.append(data)
        return b"".join(parts)

    def _skip(self, size: int) -> None:
        while size:
            step = min(size, len(self._buffer) - self._at)
            self._at += step
            size -= step
            if size and not self._refill():
                raise self._bad("unexpected end of archive")

    def _bad(self, why: str) -> BadArchive:
        return BadArchive(why, self._name, self._header_at)

    # --- data of the current entry -------------------------------------------------------------------------------

    def chunks(self) -> Iterator[memoryview]:
        """Yield the rest of the current entry's stored data; each view is valid until the next step.

        Raises:
            BadArchive: when the archive ends inside the data.
        """
        while self._data_left:
            at = self._at
            view = memoryview(self._buffer)[at : at + self._data_left]
            if not view:
                if not self._refill():
                    raise self._bad("unexpected end of archive")
                continue
            self._at = at + len(view)
            self._data_left -= len(view)
            yield view

    def read(self, n: int, /) -> bytes:
        """Return at most `n` bytes of the current entry's stored data; b"" at its end."""
        want = min(n, self._data_left)
        if not want:
            return b""
        if self._at == len(self._buffer) and not self._refill():
            raise self._bad("unexpected end of archive")
        data = self._buffer[self._at : self._at + want]
        self._at += len(data)
        self._data_left -= len(data)
        return data

    # --- entries -------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[TarEntry]:
        while (entry := self.next()) is not None:
            yield entry

    def next(self) -> TarEntry | None:
        """Advance to the next entry; None after the last one.

        Raises:
            BadArchive: damaged or truncated; names the entry and its offset.
            LayerLimit: a header, the sparse map or the number of entries is over the limit.
        """
        try:
            return self._next()
        except (BadField, paxlib.BadRecord) as error:
            raise self._bad(str(error)) from error

    def drain(self) -> None:
        """Read the stream to its end, so that digests over it cover every byte; what follows the archive is ignored."""
        self._data_left = self._pad = 0
        while self._refill():
            pass
        self._at = len(self._buffer)

    def _next(self) -> TarEntry | None:
        skip = self._data_left + self._pad
        if skip:
            self._skip(skip)
            self._data_left = self._pad = 0
        if self.terminated:
            return None
        self._name = ""
        self._header_at = self.position
        local: dict[str, bytes] | None = None
        pairs: list[tuple[str, bytes]] = []
        long_name: bytes | None = None
        long_link: bytes | None = None
        while True:
            block = self._exactly(BLOCK)
            if not block:
                if local is not None or long_name is not None or long_link is not None:
                    raise self._bad("archive ends after an extended header")
                return None
            if len(block) < BLOCK:
                raise self._bad("unexpected end of archive in a header")
            fields = FIELDS.unpack(block)
            if not checksum_ok(block, fields[6]):
                if block == ZERO_BLOCK:
                    self._end(bare=local is None and long_name is None and long_link is None)
                    return None
                raise self._bad("header checksum does not match")
            flag = fields[7]
            self._headers += 1
            if self._headers > 4 * self._limits.max_entries + 4:  # extended headers cost time too
                limit = self._limits.max_entries
                raise LayerLimit("max_entries", limit, f"layer has more than {4 * limit} headers")
            if flag == b"x" or flag == b"X":  # noqa: PLR1714 - a tuple test is slower, this runs for every header
                pairs = paxlib.parse_records(self._body(fields[4]))
                local = dict(pairs)
            elif flag == b"g":
                self._merge_globals(paxlib.parse_records(self._body(fields[4])))
            elif flag == b"L":
                long_name = cstring(self._body(fields[4]))
            elif flag == b"K":
                long_link = cstring(self._body(fields[4]))
            elif flag in _SKIPPED:
                self._skip(-(-self._size(fields[4]) // BLOCK) * BLOCK)
            else:
                break
        self.entries += 1
        if self.entries > self._limits.max_entries:
            limit = self._limits.max_entries
            raise LayerLimit("max_entries", limit, f"layer has more than {limit} entries")
        return self._entry(block, fields, local, pairs, long_name, long_link)

    def _end(self, *, bare: bool) -> None:
        """A zero block: the end of the archive, if nothing else follows at once."""
        if not bare:
            raise self._bad("archive ends after an extended header")
        second = self._exactly(BLOCK)
        if second and second != ZERO_BLOCK[: len(second)]:
            raise self._bad("lone zero block inside the archive")
        self.terminated = True

    def _size(self, field: bytes) -> int:
        size = number(field)
        if size < 0:
            raise self._bad("negative size")
        return size

    def _body(self, field: bytes) -> bytes:
        """The body of an extended header."""
        size = self._size(field)
        limit = self._limits.max_header_bytes
        if size > limit:
            raise LayerLimit("max_header_bytes", limit, f"extended header at offset {self._header_at} has {size} bytes")
        padded = -(-size // BLOCK) * BLOCK
        body = self._exactly(padded)
        if len(body) < padded:
            raise self._bad("unexpected end of archive in an extended header")
        return body[:size]

    def _merge_globals(self, records: list[tuple[str, bytes]]) -> None:
        for keyword, value in records:
            if value:
                self._globals[keyword] = value
            else:
                self._globals.pop(keyword, None)
        if sum(len(k) + len(v) for k, v in self._globals.items()) > self._limits.max_header_bytes:
            limit = self._limits.max_header_bytes
            raise LayerLimit("max_header_bytes", limit, "global PAX headers are too large")

    def _entry(
        self,
        block: bytes,
        fields: tuple[bytes, ...],
        local: dict[str, bytes] | None,
        pairs: list[tuple[str, bytes]],
        long_name: bytes | None,
        long_link: bytes | None,
    ) -> TarEntry:
        raw_name, mode, uid_, gid_, size_, mtime_, _, flag, link_, magic, uname_, gname_, major_, minor_, prefix = (
            fields
        )
        name = cstring(raw_name) if long_name is None else long_name
        linkname = cstring(link_) if long_link is None else long_link
        if magic[:6] == b"ustar\0" and long_name is None and prefix[0]:
            name = cstring(prefix) + b"/" + name
        self._name = name.decode("utf-8", "surrogateescape")
        records: dict[str, bytes] = {}
        if local or self._globals:
            records = {**self._globals, **(local or {})}
        kind = _KINDS.get(flag)
        posix = magic[:5] == b"ustar"
        if records:
            name = records.get("path") or name
            self._name = paxlib.text(name)
            linkname = records.get("linkpath") or linkname
        if kind is None:
            raise self._bad("multi-volume archives cannot be read" if flag == b"M" else f"unknown entry type {flag!r}")
        size = self._size(size_)
        uid, gid, mtime = number(uid_), number(gid_), number(mtime_) * _NANO
        uname, gname = (owner_name(uname_), owner_name(gname_)) if posix else ("", "")
        xattrs: dict[str, bytes] = {}
        if records:
            if value := records.get("size"):
                size = paxlib.integer(value, "size")
            if value := records.get("uid"):
                uid = paxlib.integer(value, "uid")
            if value := records.get("gid"):
                gid = paxlib.integer(value, "gid")
            if value := records.get("mtime"):
                mtime = paxlib.time_ns(value, "mtime")
            uname = paxlib.text(records["uname"]) if records.get("uname") else uname
            gname = paxlib.text(records["gname"]) if records.get("gname") else gname
            xattrs = paxlib.xattrs_of(records, self._limits)
        if size < 0 or not 0 <= uid < _MAX_ID or not 0 <= gid < _MAX_ID:
            raise self._bad("size or owner out of range")
        if kind is Kind.FILE and name.endswith(b"/") and flag != b"S":
            kind = Kind.DIR  # V7 had no directory type; Go, hence Docker, reads it so
        major = minor = 0
        if kind is Kind.CHAR or kind is Kind.BLOCK:
            major, minor = number(major_), number(minor_)
            if records:
                if value := records.get("SCHILY.devmajor"):
                    major = paxlib.integer(value, "SCHILY.devmajor")
                if value := records.get("SCHILY.devminor"):
                    minor = paxlib.integer(value, "SCHILY.devminor")
        sparse: _Sparse | None = None
        if flag == b"D":
            self._data_left, self._pad, size = 0, -(-size // BLOCK) * BLOCK, 0
        elif kind is not Kind.FILE:
            size = 0  # link, device and directory entries have no data, whatever their size field says
        else:
            self._data_left = size
            self._pad = -size % BLOCK
            if flag == b"S" and magic == GNU:
                size, sparse = self._old_sparse(block)
            elif flag == b"S":
                raise self._bad("sparse entry outside a GNU archive")
            elif records and (
                "GNU.sparse.major" in records or "GNU.sparse.map" in records or "GNU.sparse.size" in records
            ):
                size, sparse, name = self._pax_sparse(records, pairs, size, name)
        decoded = paxlib.text(name)
        target = (
            linkname.decode("utf-8", "surrogateescape") if linkname and kind in (Kind.SYMLINK, Kind.HARDLINK) else ""
        )
        longest = max(len(name), len(linkname))
        if longest > self._limits.max_path_bytes:
            message = f"path of {longest} bytes in entry {decoded[:60]!r}..."
            raise LayerLimit("max_path_bytes", self._limits.max_path_bytes, message, decoded)
        return TarEntry(
            decoded,
            kind,
            number(mode) & 0o7777,
            uid,
            gid,
            size,
            mtime,
            target,
            major,
            minor,
            uname,
            gname,
            xattrs,
            sparse,
            records,
            self._header_at,
        )

    # --- sparse files --------------------------------------------------------------------------------------------

    def _old_sparse(self, block: bytes) -> tuple[int, _Sparse]:
        """Old GNU form: regions in the header and in extension blocks between header and data."""
        real = number(block[483:495])
        regions, more = old_sparse_regions(block[386:482], 4)
        extended = block[482] != 0
        while extended:
            extension = self._exactly(BLOCK)
            if len(extension) < BLOCK:
                raise self._bad("unexpected end of archive in a sparse map")
            found, more = old_sparse_regions(extension, 21) if more else ([], False)
            regions += found
            extended = extension[504] != 0
            self._bound_regions(len(regions))
        return real, self._regions(regions, real)

    def _pax_sparse(
        self, records: dict[str, bytes], pairs: list[tuple[str, bytes]], size: int, name: bytes
    ) -> tuple[int, _Sparse, bytes]:
        """The three PAX forms of GNU tar: 0.0 (repeated records), 0.1 (one record), 1.0 (map before the data)."""
        name = records.get("GNU.sparse.name") or name
        regions: list[tuple[int, int]]
        if records.get("GNU.sparse.major") == b"1":
            real = paxlib.integer(records.get("GNU.sparse.realsize", b""), "GNU.sparse.realsize")
            regions = self._sparse_map_block()
        else:
            real_value = records.get("GNU.sparse.size") or records.get("GNU.sparse.realsize") or b"%d" % size
            real = paxlib.integer(real_value, "GNU.sparse.size")
            if "GNU.sparse.map" in records:
                numbers = records["GNU.sparse.map"].split(b",") if records["GNU.sparse.map"] else []
                self._bound_regions(len(numbers) // 2)
                values = [paxlib.integer(item, "GNU.sparse.map") for item in numbers]
            else:
                values = []
                for keyword, value in pairs:
                    if keyword in {"GNU.sparse.offset", "GNU.sparse.numbytes"}:
                        if (keyword == "GNU.sparse.offset") != (len(values) % 2 == 0):
                            raise self._bad("sparse map out of order")
                        values.append(paxlib.integer(value, keyword))
                self._bound_regions(len(values) // 2)
            if len(values) % 2:
                raise self._bad("sparse map with an odd number of values")
            regions = list(zip(values[::2], values[1::2], strict=True))
        self._name = paxlib.text(name)
        return real, self._regions(regions, real), name

    def _sparse_map_block(self) -> list[tuple[int, int]]:
        """Version 1.0: decimal numbers, one a line, padded to a block, at the start of the data."""
        numbers: list[int] = []
        rest = b""
        want = 1
        while len(numbers) < want:
            if self._data_left < BLOCK:
                raise self._bad("sparse map is longer than the data")
            block = self._exactly(BLOCK)
            if len(block) < BLOCK:
                raise self._bad("unexpected end of archive in a sparse map")
            self._data_left -= BLOCK
            *lines, rest = (rest + block).split(b"\n")
            if len(rest) > BLOCK:
                raise self._bad("sparse map without line ends")
            for line in lines:
                numbers.append(paxlib.integer(line, "sparse map"))
                if len(numbers) == 1:
                    self._bound_regions(numbers[0])
                    want = 1 + 2 * numbers[0]
                if len(numbers) == want:
                    break
        values = numbers[1:]
        return list(zip(values[::2], values[1::2], strict=True))

    def _bound_regions(self, count: int) -> None:
        limit = self._limits.max_sparse_regions
        if not 0 <= count <= limit:
            raise LayerLimit("max_sparse_regions", limit, f"entry {self._name!r} has more than {limit} sparse regions")

    def _regions(self, regions: list[tuple[int, int]], real: int) -> _Sparse:
        """Validate a sparse map against the logical size and the stored data."""
        end = 0
        stored = 0
        for offset, length in regions:
            if offset < end or length < 0 or offset + length > real:
                raise self._bad("sparse map is out of order or beyond the file size")
            end = offset + length
            stored += length
        if stored != self._data_left:
            raise self._bad("sparse map does not match the stored data")
        if real >= 1 << 63:
            raise self._bad("size out of range")
        self._holes += real - stored
        if self._holes > self._limits.max_hole_bytes:
            limit = self._limits.max_hole_bytes
            message = f"entry {self._name!r} brings sparse holes to {self._holes} bytes"
            raise LayerLimit("max_hole_bytes", limit, message, self._name)
        return tuple(region for region in regions if region[1])
