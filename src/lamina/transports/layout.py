"""OCI image layouts: a directory of blobs, `oci-layout` and `index.json` (image-spec, image-layout.md).

Everything is written beside its place and renamed into it after fsync; index.json changes under a lock, so several
processes may write to one layout.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from lamina.errors import Invalid, NotFound
from lamina.image.partial import open_document
from lamina.image.protocols import Capabilities, Image, ImageIndex, MissingChild, Readable
from lamina.image.verify import VerifyingReader, read_document
from lamina.progress import Progress, ProgressSink
from lamina.spec import mediatype
from lamina.spec.annotations import CONTAINERD_NAME, REF_NAME
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest
from lamina.spec.document import MAX_DOCUMENT, Node, dumps, parse
from lamina.spec.manifest import Index, Manifest, make_index, parse_manifest

MARKER: Final = "oci-layout"
INDEX: Final = "index.json"
MARKER_BYTES: Final = dumps({"imageLayoutVersion": "1.0.0"})
_CHUNK: Final = 1 << 20


class NotALayout(Invalid):
    """The directory or archive is no OCI image layout."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path} is no OCI image layout: {problem}")
        self.path = path


class NoSuchImage(NotFound):
    """A layout or archive holds no image of that name, or several when one was wanted."""

    def __init__(self, where: str, wanted: str, names: Sequence[str]) -> None:
        offered = ", ".join(names[:20]) or "nothing with a name"
        problem = f"no image {wanted!r}" if wanted else "more than one image, or none"
        super().__init__(f"{where}: {problem}", hint=f"it holds {offered}")
        self.where, self.wanted, self.names = where, wanted, tuple(names)


def check_marker(raw: bytes, where: str) -> None:
    """Judge the content of `oci-layout`.

    Raises:
        NotALayout: malformed, or another major version.
    """
    try:
        version = Node(parse(raw, MARKER, limit=64 << 10), MARKER).at("imageLayoutVersion").string()
    except Invalid as error:
        raise NotALayout(where, error.message) from None
    if not version.startswith("1."):
        raise NotALayout(where, f"unknown imageLayoutVersion {version!r}")


def read_index(raw: bytes, where: str) -> Index:
    """Read index.json.

    Raises:
        NotALayout: it is no index.
    """
    parsed = parse_manifest(raw, mediatype.OCI_INDEX)
    if not isinstance(parsed, Index):
        raise NotALayout(where, "index.json is no index")
    return parsed


def names_of(entry: Descriptor) -> tuple[str, ...]:
    """The names that an entry of index.json gives, the fullest first."""
    found = (entry.annotations.get(CONTAINERD_NAME, ""), entry.annotations.get(REF_NAME, ""))
    return tuple(dict.fromkeys(name for name in found if name))


def pick(entries: Sequence[Descriptor], wanted: str, where: str) -> Descriptor:
    """The entry called `wanted` (a name or a digest), or the only one when that is "".

    Raises:
        NoSuchImage: none, or several without a name to tell them apart.
    """
    named = [entry for entry in entries if not wanted or wanted in names_of(entry) or wanted == str(entry.digest)]
    if not named or len({entry.digest for entry in named}) > 1:
        raise NoSuchImage(where, wanted, [name for entry in entries for name in names_of(entry)[:1]])
    return named[0]


class Layout:
    """An image layout in a directory; also the `BlobSource` of what it holds."""

    def __init__(self, path: str) -> None:
        self.path = path

    @classmethod
    def open(cls, path: str) -> Layout:
        """An existing layout.

        Raises:
            NotALayout: there is none.
        """
        layout = cls(path)
        check_marker(layout._small(MARKER), path)
        return layout

    @classmethod
    def create(cls, path: str) -> Layout:
        """A layout at `path`, made when nothing is there yet.

        Raises:
            NotALayout: the directory holds something else.
        """
        layout = cls(path)
        if os.path.lexists(os.path.join(path, MARKER)):
            return cls.open(path)
        if os.path.isdir(path) and os.listdir(path):
            raise NotALayout(path, "the directory is not empty")
        os.makedirs(os.path.join(path, "blobs", "sha256"), exist_ok=True)
        _replace(path, INDEX, make_index(()).raw)
        _replace(path, MARKER, MARKER_BYTES)
        return layout

    @property
    def index(self) -> Index:
        """index.json as it is now."""
        return read_index(self._small(INDEX), self.path)

    def entries(self) -> tuple[Descriptor, ...]:
        """What index.json names."""
        return self.index.manifests

    def image(self, name: str = "") -> Image | ImageIndex:
        """The image or index of that name or digest; "" for the only one.

        Raises:
            NoSuchImage: it is not there, or not the only one.
        """
        entry = pick(self.entries(), name, self.path)
        raw = self.read_manifest(entry)
        what = f"manifest {entry.digest}"
        checked = read_document(_Memory(raw), entry, what, limit=MAX_DOCUMENT)
        return open_document(checked, entry.media_type, self)

    def open_blob(self, blob: Descriptor, offset: int = 0) -> Readable:
        """A blob from `offset` on.

        Raises:
            MissingChild: it is not here.
        """
        try:
            fd = os.open(self._blob_path(blob.digest), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            raise MissingChild(blob) from None
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise NotALayout(self.path, f"blob {blob.digest} is no regular file")
        os.lseek(fd, offset, os.SEEK_SET)
        return open(fd, "rb", buffering=0)

    def read_manifest(self, child: Descriptor) -> bytes:
        """The bytes of a manifest, at most 4 MiB and a byte."""
        with contextlib.closing(self.open_blob(child)) as stream:
            return _all(stream, MAX_DOCUMENT + 1)

    def sink(self, name: str = "", *, oci_only: bool = False) -> LayoutSink:
        """Where to copy an image to, under a name or none.

        Docker manifests keep their bytes and digests, unless `oci_only` asks for what stricter tools (skopeo) find.
        """
        return LayoutSink(self, name, oci_only=oci_only)

    def remove(self, name: str) -> bool:
        """Drop a name from index.json; blobs stay until `prune`. False when it was not there."""
        with self._locked():
            old = self.index
            kept = [entry for entry in old.manifests if name not in names_of(entry)]
            if len(kept) == len(old.manifests):
                return False
            _replace(self.path, INDEX, make_index(kept, annotations=old.annotations).raw)
            return True

    def _name(self, entry: Descriptor, name: str) -> None:
        with self._locked():
            old = self.index
            kept = [
                known
                for known in old.manifests
                if (name and known.annotations.get(REF_NAME) != name) or (not name and known.digest != entry.digest)
            ]
            named = entry.with_annotations(**{REF_NAME: name}) if name else entry
            _replace(self.path, INDEX, make_index([*kept, named], annotations=old.annotations).raw)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _blob_path(self, digest: Digest) -> str:
        return os.path.join(self.path, "blobs", digest.algorithm, digest.hex)

    def _small(self, name: str) -> bytes:
        try:
            with open(os.path.join(self.path, name), "rb") as file:
                return file.read(MAX_DOCUMENT + 1)
        except (FileNotFoundError, NotADirectoryError):
            raise NotALayout(self.path, f"it has no {name}") from None


class LayoutSink:
    """A layout as a sink."""

    def __init__(self, layout: Layout, name: str, *, oci_only: bool = False) -> None:
        self._layout, self._name = layout, name
        oci = frozenset({mediatype.OCI_MANIFEST, mediatype.OCI_INDEX})
        self._types = oci if oci_only else mediatype.MANIFESTS | mediatype.INDEXES

    @property
    def capabilities(self) -> Capabilities:
        """Everything, or OCI's types alone."""
        return Capabilities(self._types, parallel_blobs=4)

    def has_blob(self, blob: Descriptor) -> bool:
        """Whether a file of the right size is there (its content was verified when it came)."""
        try:
            return os.stat(self._layout._blob_path(blob.digest)).st_size == blob.size
        except FileNotFoundError:
            return False

    def mount_blob(self, blob: Descriptor, source: object) -> bool:  # noqa: ARG002
        """Layouts have no repositories."""
        return False

    def put_blob(self, blob: Descriptor, open_: Callable[[], Readable], report: ProgressSink) -> None:
        """Write the blob; it appears when it is complete, verified and on disk."""
        target = self._layout._blob_path(blob.digest)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        stream = VerifyingReader(open_(), blob)
        try:
            with _written(target) as write:
                done = 0
                while data := stream.read(_CHUNK):
                    write(data)
                    done += len(data)
                    report(Progress("", "Copying", done, blob.size))
        finally:
            stream.close()

    def put_manifest(self, manifest: Manifest | Index, *, named: bool) -> None:
        """Write a manifest; the named one is entered in index.json."""
        target = self._layout._blob_path(manifest.digest)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with _written(target) as write:
            write(manifest.raw)
        if named:
            self._layout._name(manifest.descriptor, self._name)


class _Memory:
    """Bytes as a stream that is read once."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, size: int = -1, /) -> bytes:
        size = len(self._data) if size < 0 else size
        data, self._data = self._data[:size], self._data[size:]
        return data

    def close(self) -> None:
        """Nothing to release."""


@contextlib.contextmanager
def _written(target: str) -> Iterator[Callable[[bytes], object]]:
    """Write a file beside its place, then put it there durably."""
    folder = os.path.dirname(target)
    fd, temporary = tempfile.mkstemp(prefix=".lamina-", dir=folder)
    try:
        with open(fd, "wb", buffering=0) as file:
            yield lambda data: _write_all(file.fileno(), data)
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        os.rename(temporary, target)
        _sync(folder)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _replace(folder: str, name: str, data: bytes) -> None:
    with _written(os.path.join(folder, name)) as write:
        write(data)


def _sync(folder: str) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _all(stream: Readable, limit: int) -> bytes:
    parts = []
    while limit and (data := stream.read(limit)):
        parts.append(data)
        limit -= len(data)
    return b"".join(parts)
