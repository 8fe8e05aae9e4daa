"""`ADD` of a local tar archive: extracted when its content, not its name, says that it is one (D30)."""

from __future__ import annotations

import os
import posixpath
import tempfile
from typing import BinaryIO

from lamina.build.graph.definitions import Copy
from lamina.build.ops.copying import Destination, Ownership
from lamina.build.ops.selection import Selected
from lamina.build.ops.tree import SourceTree
from lamina.errors import LaminaError
from lamina.layer.apply import WhiteoutMode, apply_layer
from lamina.layer.compression import decompress
from lamina.layer.digesting import Readable
from lamina.layer.owners import path_inside, recorded
from lamina.layer.reader import TarReader
from lamina.layer.writer import TarWriter
from lamina.values import replace

_CHUNK = 1 << 20


def unpack_archives(
    root: str, tree: SourceTree, selected: list[Selected], copy: Copy, *, time_ns: int
) -> list[Selected]:
    """Extract the archives among the selected files into `copy.dest`; return what is left to copy.

    Raises:
        BadArchive, UnsafeEntry, LayerLimit: an archive that begins well and then goes wrong.
    """
    if not copy.unpack:
        return selected
    rest: list[Selected] = []
    for source in selected:
        if source.is_directory or not _unpacked(root, tree, source, copy, time_ns):
            rest.append(source)
    return rest


def _unpacked(root: str, tree: SourceTree, source: Selected, copy: Copy, time_ns: int) -> bool:
    for entry in tree.walk(source.path):
        with os.fdopen(entry.open(), "rb", buffering=0) as file:
            if not is_archive(file):
                return False
            file.seek(0)
            _extract(root, file, copy, time_ns)
            return True
    return False


def is_archive(file: BinaryIO | Readable) -> bool:
    """Whether a stream, decompressed if need be, begins with a tar header; consumes some of it."""
    try:
        return TarReader(decompress(file)).next() is not None
    except LaminaError:
        return False


def _extract(root: str, file: BinaryIO, copy: Copy, time_ns: int) -> None:
    ownership = Ownership.of(copy, root, time_ns)
    destination = Destination(root, os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), recorded(root))
    try:
        path = posixpath.normpath("/" + copy.dest.lstrip("/"))
        fd = destination.directory(path, ownership)
        try:
            destination.times.setdefault(path, os.fstat(fd).st_mtime_ns)
            owners = destination.owners and destination.owners.below(path_inside(destination.fd, fd))
            if copy.owner:
                with tempfile.TemporaryFile() as owned:
                    _chown_archive(file, owned, ownership)
                    owned.seek(0)
                    apply_layer(owned, fd, whiteouts=WhiteoutMode.REMOVE, owners=owners)
            else:
                apply_layer(decompress(file), fd, whiteouts=WhiteoutMode.REMOVE, owners=owners)
        finally:
            os.close(fd)
        destination.settle()
    finally:
        os.close(destination.fd)


def _chown_archive(file: BinaryIO, target: BinaryIO, ownership: Ownership) -> None:
    """The same archive with every entry owned by who `--chown` names."""
    reader, writer = TarReader(decompress(file)), TarWriter(target.write)
    for entry in reader:
        owned = replace(entry, uid=ownership.uid or 0, gid=ownership.gid or 0, uname="", gname="", sparse=None)
        writer.header(owned)
        position = 0
        for offset, length in entry.sparse if entry.sparse is not None else ((0, entry.size),):
            _zeros(writer, offset - position)
            position = offset + length
            while length:
                data = reader.read(min(length, _CHUNK))
                writer.data(data)
                length -= len(data)
        _zeros(writer, entry.size - position)
        writer.pad(entry.size)
    writer.close()


def _zeros(writer: TarWriter, count: int) -> None:
    """A hole, written out."""
    while count > 0:
        piece = min(count, _CHUNK)
        writer.data(bytes(piece))
        count -= piece
