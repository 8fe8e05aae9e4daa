"""One entry of a layer archive as an immutable value."""

from __future__ import annotations

import enum
from collections.abc import Mapping

from lamina.errors import Integrity
from lamina.values import dataclass, field


class BadArchive(Integrity):
    """A tar stream is truncated or malformed.

    Attributes:
        entry: name of the entry at fault ("" when it has none yet).
        offset: position of its header in the uncompressed stream, in bytes.
    """

    def __init__(self, why: str, entry: str = "", offset: int = 0) -> None:
        where = f"entry {entry!r} at offset {offset}" if entry else f"offset {offset}"
        super().__init__(f"damaged tar archive, {where}: {why}")
        self.entry = entry
        self.offset = offset


class Kind(enum.StrEnum):
    """What an entry makes."""

    FILE = "file"
    DIR = "dir"
    SYMLINK = "symlink"
    HARDLINK = "hardlink"
    CHAR = "char"
    BLOCK = "block"
    FIFO = "fifo"


@dataclass(frozen=True, slots=True)
class TarEntry:
    """A member of a tar archive.

    Names are str with undecodable bytes kept as surrogates (os.fsdecode on a UTF-8 system).

    Attributes:
        name: path as written in the archive; directories may end in "/".
        kind: what it makes.
        mode: permission bits with setuid, setgid and sticky, 0..0o7777.
        uid: owner id.
        gid: group id.
        size: logical bytes of a regular file (with holes), else 0.
        mtime: modification time in nanoseconds since the epoch, may be negative.
        linkname: target of a symlink (verbatim) or of a hard link (a path in the archive), else "".
        major: device number, else 0.
        minor: device number, else 0.
        uname: owner name, "" when absent; never used for ownership.
        gname: group name, "" when absent; never used for ownership.
        xattrs: extended attributes, raw values.
        sparse: data regions (offset, length) in order, or None for a file without holes.
        pax: all PAX records that applied, raw values.
        offset: position of the entry's first header in the stream, in bytes; not part of equality.
    """

    name: str
    kind: Kind = Kind.FILE
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime: int = 0
    linkname: str = ""
    major: int = 0
    minor: int = 0
    uname: str = ""
    gname: str = ""
    xattrs: Mapping[str, bytes] = field(default_factory=dict)
    sparse: tuple[tuple[int, int], ...] | None = None
    pax: Mapping[str, bytes] = field(default_factory=dict, compare=False, repr=False)
    offset: int = field(default=0, compare=False, repr=False)

    @property
    def stored(self) -> int:
        """Bytes of data in the archive (without padding): `size`, or the sum of the regions of a sparse file."""
        return self.size if self.sparse is None else sum(length for _, length in self.sparse)
