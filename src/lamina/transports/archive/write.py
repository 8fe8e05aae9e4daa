"""Writes image archives: one tar that is an OCI layout and a `docker save` at once (S41, C11).

docker and podman load it, skopeo reads it as docker-archive and as oci-archive, and blobs keep their digests. The bytes
depend on the images and names alone: no times, no owners, a fixed order.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from lamina.errors import Invalid
from lamina.image.copy import CopyOptions, Words, copy
from lamina.image.protocols import Capabilities, Image, ImageIndex, Readable
from lamina.image.verify import VerifyingReader
from lamina.layer.digesting import Write
from lamina.layer.entry import Kind, TarEntry
from lamina.layer.writer import TarWriter
from lamina.progress import Progress, ProgressSink, discard
from lamina.spec import mediatype
from lamina.spec.annotations import CONTAINERD_NAME, REF_NAME
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest
from lamina.spec.document import dumps
from lamina.spec.manifest import Index, Manifest, make_index
from lamina.spec.platform import Platform, best
from lamina.spec.reference import Reference
from lamina.transports.layout import INDEX, MARKER, MARKER_BYTES

SAVE: Final = Words("Preparing", "Already saved", "Saved")
_CHUNK: Final = 1 << 20


class ArchiveWriter:
    """An archive being written; `sink` for each image, then `close`.

    Args:
        write: takes the bytes of the tar in order.
        platform: which image of an index old docker versions shall see; the first one when None.
    """

    def __init__(self, write: Write, platform: Platform | None = None) -> None:
        self._tar = TarWriter(write)
        self._platform = platform
        self._have: set[Digest] = set()
        self._manifests: dict[Digest, Manifest | Index] = {}
        self._named: list[tuple[Manifest | Index, tuple[Reference, ...]]] = []
        for name in ("blobs/", "blobs/sha256/"):
            self._tar.add(TarEntry(name, Kind.DIR, 0o755))

    def sink(self, names: Sequence[Reference] = ()) -> ArchiveSink:
        """Where to copy one image to, and what it shall be called."""
        return ArchiveSink(self, tuple(names))

    def has(self, digest: Digest) -> bool:
        """Whether the blob is in the archive already."""
        return digest in self._have

    def put(self, blob: Descriptor, stream: Readable, report: ProgressSink = discard) -> None:
        """Write a blob, verified; a failure leaves the archive unusable, so the caller throws it away."""
        if blob.digest.algorithm != "sha256":
            self._tar.add(TarEntry(f"blobs/{blob.digest.algorithm}/", Kind.DIR, 0o755))
        self._tar.header(TarEntry(f"blobs/{blob.digest.algorithm}/{blob.digest.hex}", Kind.FILE, 0o644, size=blob.size))
        checked = VerifyingReader(stream, blob)
        done = 0
        while data := checked.read(_CHUNK):
            self._tar.data(data)
            done += len(data)
            report(Progress("", "Saving", done, blob.size))
        self._tar.pad(blob.size)
        self._have.add(blob.digest)

    def put_manifest(self, manifest: Manifest | Index) -> None:
        """Write a manifest and remember what it says."""
        self._manifests[manifest.digest] = manifest
        if manifest.digest not in self._have:
            self._file(f"blobs/sha256/{manifest.digest.hex}", manifest.raw)
            self._have.add(manifest.digest)

    def name(self, manifest: Manifest | Index, names: tuple[Reference, ...]) -> None:
        """Enter a manifest in the archive's indexes."""
        self._named.append((manifest, names))

    def close(self) -> None:
        """Write the indexes and the end of the tar."""
        entries = [entry for manifest, names in self._named for entry in _entries(manifest, names)]
        self._file(INDEX, make_index(list(dict.fromkeys(entries))).raw)
        items, repositories = self._docker()
        self._file("manifest.json", dumps(items))
        self._file(MARKER, MARKER_BYTES)
        if repositories:
            self._file("repositories", dumps(repositories))
        self._tar.close()

    def _docker(self) -> tuple[list[dict[str, object]], dict[str, dict[str, str]]]:
        """What docker before version 25, and podman, read."""
        items: dict[Digest, dict[str, object]] = {}
        tags: dict[Digest, list[str]] = {}
        repositories: dict[str, dict[str, str]] = {}
        for named, names in self._named:
            manifest = self._one(named)
            if manifest is None or manifest.config.media_type not in mediatype.CONFIGS:
                continue
            if any(layer.digest not in self._have for layer in manifest.layers):
                continue  # a foreign layer: docker could not load it
            mine = tags.setdefault(manifest.config.digest, [])
            for reference in names:
                if reference.tag and (text := reference.familiar) not in mine:
                    mine.append(text)
                    top = manifest.layers[-1].digest.hex if manifest.layers else ""
                    repositories.setdefault(reference.repository.familiar, {})[reference.tag] = top
            items[manifest.config.digest] = {
                "Config": _blob_name(manifest.config.digest),
                "RepoTags": mine or None,
                "Layers": [_blob_name(layer.digest) for layer in manifest.layers],
            }
        return list(items.values()), repositories

    def _one(self, named: Manifest | Index) -> Manifest | None:
        """The image itself, or the one of an index that serves best."""
        if isinstance(named, Manifest):
            return named
        held = [entry for entry in named.images() if isinstance(self._manifests.get(entry.digest), Manifest)]
        if not held:
            return None
        position = 0
        if self._platform is not None:
            offered = [entry.platform or Platform("unknown", "unknown") for entry in held]
            position = best(self._platform, offered) or 0
        found = self._manifests[held[position].digest]
        return found if isinstance(found, Manifest) else None

    def _file(self, name: str, data: bytes) -> None:
        self._tar.add(TarEntry(name, Kind.FILE, 0o644, size=len(data)), data)


class ArchiveSink:
    """One image of an archive as a sink. A tar has one end, so blobs come one at a time."""

    def __init__(self, archive: ArchiveWriter, names: tuple[Reference, ...]) -> None:
        self._archive, self._names = archive, names

    @property
    def capabilities(self) -> Capabilities:
        """Everything, one blob at a time."""
        return Capabilities(mediatype.MANIFESTS | mediatype.INDEXES, parallel_blobs=1)

    def has_blob(self, blob: Descriptor) -> bool:
        """Whether another image of the archive brought it."""
        return self._archive.has(blob.digest)

    def mount_blob(self, blob: Descriptor, source: object) -> bool:  # noqa: ARG002
        """Archives have no repositories."""
        return False

    def put_blob(self, blob: Descriptor, open_: Callable[[], Readable], report: ProgressSink) -> None:
        """Write the blob at the end of the tar."""
        stream = open_()
        try:
            self._archive.put(blob, stream, report)
        finally:
            stream.close()

    def put_manifest(self, manifest: Manifest | Index, *, named: bool) -> None:
        """Write the manifest; the named one goes into the indexes."""
        self._archive.put_manifest(manifest)
        if named:
            self._archive.name(manifest, self._names)


Saved = tuple[Image | ImageIndex, Sequence[Reference]]


def save(
    images: Iterable[Saved],
    write: Write,
    *,
    platform: Platform | None = None,
    only: Platform | None = None,
    report: ProgressSink = discard,
) -> list[Descriptor]:
    """Write images to a stream as one archive.

    Args:
        images: each with the names it shall carry.
        write: takes the bytes.
        platform: the image of an index that `manifest.json` shows.
        only: save this platform of each index alone.
        report: receives progress.

    Returns:
        what was saved, in order.

    Raises:
        Invalid: there is nothing to save.
        LaminaError: as `copy`; the stream is then unusable.
    """
    archive = ArchiveWriter(write, platform or only)
    options = CopyOptions(platform=only, missing="skip", words=SAVE, preserve_digests=True)
    saved = [copy(content, archive.sink(names), options, report=report) for content, names in images]
    if not saved:
        raise Invalid("nothing to save")
    archive.close()
    return saved


def save_file(
    images: Iterable[Saved],
    path: str,
    *,
    platform: Platform | None = None,
    only: Platform | None = None,
    report: ProgressSink = discard,
) -> list[Descriptor]:
    """`save` to a file: mode 0600, there when complete and on disk, untouched on failure (C11)."""
    folder = os.path.dirname(path) or "."
    fd, temporary = tempfile.mkstemp(prefix=".lamina-save-", dir=folder)
    try:
        with open(fd, "wb", buffering=0) as file:

            def write(data: bytes | bytearray | memoryview) -> None:
                view = memoryview(data)
                while view:
                    view = view[file.write(view) or 0 :]

            saved = save(images, write, platform=platform, only=only, report=report)
            os.fsync(file.fileno())
        os.rename(temporary, path)
        directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    return saved


def _entries(manifest: Manifest | Index, names: tuple[Reference, ...]) -> list[Descriptor]:
    """The entries of index.json for one image: one for each name, or one without."""
    entry = manifest.descriptor
    tagged = [reference for reference in names if reference.tag]
    if not tagged:
        return [entry]
    return [
        entry.with_annotations(**{CONTAINERD_NAME: str(_bare(name)), REF_NAME: str(_bare(name))}) for name in tagged
    ]


def _bare(name: Reference) -> Reference:
    """Name and tag; a digest would be refused by readers that expect a tag."""
    return Reference(name.repository, name.tag)


def _blob_name(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.hex}"
