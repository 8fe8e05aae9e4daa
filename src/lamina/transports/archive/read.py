"""Reads image archives: OCI layouts in a tar, `docker save` of every age, and files that are both (S41, C05)."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Final

from lamina.errors import Integrity, Invalid
from lamina.image.partial import LayerCountMismatch, MadeImage, MadeLayer, open_document
from lamina.image.protocols import Image, ImageIndex, MissingChild, Readable, is_index
from lamina.image.verify import read_document
from lamina.layer.compression import Compression, decompress, detect
from lamina.layer.digesting import HashingReader, drain
from lamina.spec import mediatype
from lamina.spec.config import ImageConfig
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest
from lamina.spec.document import MAX_DOCUMENT
from lamina.spec.reference import InvalidReference, Reference
from lamina.transports.archive.members import FileSlice, Members
from lamina.transports.archive.spool import seekable, spool
from lamina.transports.layout import INDEX, MARKER, NoSuchImage, check_marker, names_of, read_index
from lamina.values import dataclass, field

DOCKER_INDEX: Final = "manifest.json"
_UNIQUE: Final = frozenset({MARKER, INDEX, DOCKER_INDEX, "repositories"})
_MAX_IMAGES: Final = 10_000
_LAYER_TYPES: Final = {
    Compression.NONE: mediatype.DOCKER_LAYER,
    Compression.GZIP: mediatype.DOCKER_LAYER_GZIP,
    Compression.ZSTD: mediatype.DOCKER_LAYER_ZSTD,
}


class NotAnArchive(Invalid):
    """The tar holds no images that lamina knows."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path} is no image archive: {problem}")
        self.path = path


@dataclass(frozen=True)
class ArchivedImage:
    """One image or index of an archive, and the names it claims; whether it gets them is the caller's decision
    (threat 18).
    """

    names: tuple[Reference, ...]
    content: Image | ImageIndex = field(repr=False)


class Archive:
    """An open archive. Its images read from it lazily, so it must stay open while they are used.

    Attributes:
        path: where it came from, for messages.
        images: what it holds, in its order.
    """

    def __init__(self, fd: int, path: str) -> None:
        self._fd, self.path = fd, path
        try:
            self._members = Members(fd, path, _UNIQUE)
            self.images: Sequence[ArchivedImage] = self._read()
        except BaseException:
            os.close(fd)
            raise

    @classmethod
    def open(cls, path: str, *, spool_dir: str) -> Archive:
        """Open a file; compressed ones (gzip, bzip2, xz, zstd) are unpacked to `spool_dir` first.

        Raises:
            NotAnArchive: it is something else.
            Integrity: it is damaged.
        """
        return cls(seekable(path, spool_dir), path)

    @classmethod
    def read(cls, stream: Readable, *, spool_dir: str, name: str = "-") -> Archive:
        """Read a stream (standard input) into `spool_dir` and open that; errors as for `open`."""
        return cls(spool(stream, spool_dir), name)

    def close(self) -> None:
        """Release the file."""
        os.close(self._fd)

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def image(self, name: str = "") -> Image | ImageIndex:
        """The image of that name (a reference in any spelling, or a digest); "" for the only one.

        Raises:
            NoSuchImage: none, or several.
        """
        found = [image for image in self.images if not name or _answers(image, name)]
        if len(found) != 1:
            raise NoSuchImage(self.path, name, [known.familiar for image in self.images for known in image.names])
        return found[0].content

    def _read(self) -> list[ArchivedImage]:
        if MARKER in self._members and INDEX in self._members:
            return self._oci()
        if DOCKER_INDEX in self._members:
            return [image for _, image in self._docker()]
        raise NotAnArchive(self.path, f"it has neither {MARKER} nor {DOCKER_INDEX}")

    # --- OCI layouts -------------------------------------------------------------------------------------------

    def _oci(self) -> list[ArchivedImage]:
        check_marker(self._members.read(MARKER, MAX_DOCUMENT), self.path)
        index = read_index(self._members.read(INDEX, MAX_DOCUMENT), self.path)
        tags = self._docker_names()
        found: dict[Digest, tuple[list[Reference], Image | ImageIndex]] = {}
        for entry in index.manifests[:_MAX_IMAGES]:
            names, content = found.setdefault(entry.digest, ([], self._document(entry)))
            full = [reference for name in names_of(entry) if (reference := _full(name)) is not None]
            if not full and not is_index(content):
                full = tags.get(content.manifest.config.digest, [])
            names += [name for name in full if name not in names]
        return [ArchivedImage(tuple(names), content) for names, content in found.values()]

    def _document(self, entry: Descriptor) -> Image | ImageIndex:
        stream = self.open_blob(entry)
        raw = read_document(stream, entry, f"manifest {entry.digest}", limit=MAX_DOCUMENT)
        return open_document(raw, entry.media_type, self)

    def _docker_names(self) -> dict[Digest, list[Reference]]:
        """RepoTags of a manifest.json beside the OCI index, by config digest."""
        if DOCKER_INDEX not in self._members:
            return {}
        result: dict[Digest, list[Reference]] = {}
        for item in self._items():
            digest = _blob_digest(str(item.get("Config", "")))
            if digest is not None:
                result.setdefault(digest, []).extend(_repo_tags(item))
        return result

    def open_blob(self, blob: Descriptor, offset: int = 0) -> Readable:
        """A blob of the layout; see `BlobSource`."""
        name = f"blobs/{blob.digest.algorithm}/{blob.digest.hex}"
        if name not in self._members:
            raise MissingChild(blob)
        return self._members.open(name, offset)

    def read_manifest(self, child: Descriptor) -> bytes:
        """A manifest of the layout; see `BlobSource`."""
        stream = self.open_blob(child)
        return stream.read(MAX_DOCUMENT + 1)

    # --- docker save -------------------------------------------------------------------------------------------

    def _items(self) -> list[dict[str, Any]]:
        raw = self._members.read(DOCKER_INDEX, MAX_DOCUMENT)
        try:
            document = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise NotAnArchive(self.path, f"{DOCKER_INDEX}: {error}") from None
        if not isinstance(document, list) or not all(isinstance(item, dict) for item in document):
            raise NotAnArchive(self.path, f"{DOCKER_INDEX} is no list of objects")
        return document[:_MAX_IMAGES]

    def _docker(self) -> list[tuple[Digest, ArchivedImage]]:
        return [self._docker_image(item) for item in self._items()]

    def _docker_image(self, item: dict[str, Any]) -> tuple[Digest, ArchivedImage]:
        path, paths = item.get("Config"), item.get("Layers") or []
        if not isinstance(path, str) or not isinstance(paths, list) or not all(isinstance(p, str) for p in paths):
            raise NotAnArchive(self.path, f"{DOCKER_INDEX}: an entry lacks Config or Layers")
        config = ImageConfig.parse(self._members.read(path, MAX_DOCUMENT))
        claimed = _blob_digest(path)
        if claimed is not None and claimed != config.id:
            raise Integrity(f"{self.path}: config {path} hashes to {config.id}")
        if len(paths) != len(config.diff_ids):
            raise LayerCountMismatch(len(paths), len(config.diff_ids))
        layers = [
            _ArchivedLayer(self._members, name, diff_id) for name, diff_id in zip(paths, config.diff_ids, strict=True)
        ]
        return config.id, ArchivedImage(
            tuple(_repo_tags(item)), MadeImage(config, layers, docker=True, published=False)
        )


class _ArchivedLayer:
    """A layer out of `docker save`: the manifest says where it is, the config what it must hash to uncompressed."""

    def __init__(self, members: Members, name: str, diff_id: Digest) -> None:
        self._members, self._name, self.diff_id = members, name, diff_id
        if name not in members:
            members.size(name)  # raises with the name

    @cached_property
    def _made(self) -> MadeLayer:
        kind = detect(self._members.open(self._name).read(6))
        size = self._members.size(self._name)
        if kind is Compression.NONE:
            digest = self.diff_id
        elif kind in _LAYER_TYPES:
            named = _blob_digest(self._name)
            digest = named or _hash(self._members.open(self._name))[0]
        else:  # xz and bzip2 have no media type: such a layer is read as what it unpacks to
            digest, size = _hash(decompress(self._members.open(self._name)))
            return MadeLayer(
                Descriptor(mediatype.DOCKER_LAYER, digest, size),
                self.diff_id,
                lambda: _Unpacked(self._members.open(self._name)),
            )
        return MadeLayer(Descriptor(_LAYER_TYPES[kind], digest, size), self.diff_id, self._open)

    def _open(self) -> Readable:
        return self._members.open(self._name)

    @property
    def descriptor(self) -> Descriptor:
        """The blob; finding it may read the layer once."""
        return self._made.descriptor

    def open(self) -> Readable:
        """The blob's bytes, verified while read."""
        return self._made.open()


class _Unpacked:
    def __init__(self, slice_: FileSlice) -> None:
        self._stream = decompress(slice_)

    def read(self, size: int = -1, /) -> bytes:
        return self._stream.read(size if size >= 0 else 1 << 20)

    def close(self) -> None:
        """Nothing to release."""


def _hash(stream: Any) -> tuple[Digest, int]:
    hashing = HashingReader(stream)
    drain(hashing)
    return Digest("sha256", hashing.digest), hashing.size


def _blob_digest(path: str) -> Digest | None:
    """The digest in a path like `blobs/sha256/HEX` or `HEX.json`."""
    name = path.rpartition("/")[2].removesuffix(".json")
    try:
        return Digest.parse(f"sha256:{name}")
    except Invalid:
        return None


def _full(name: str) -> Reference | None:
    """A name that says which repository it means; a bare tag does not."""
    if not any(char in name for char in ":/@"):
        return None
    try:
        return Reference.parse(name)
    except InvalidReference:
        return None


def _repo_tags(item: dict[str, Any]) -> list[Reference]:
    tags = item.get("RepoTags") or []
    if not isinstance(tags, list):
        return []
    result = []
    for tag in tags[:_MAX_IMAGES]:
        try:
            result.append(Reference.parse(str(tag)).tagged())
        except InvalidReference:
            continue
    return result


def _answers(image: ArchivedImage, name: str) -> bool:
    try:
        wanted = Reference.parse(name).tagged()
    except InvalidReference:
        wanted = None
    if wanted in image.names:
        return True
    content = image.content
    digest = content.index.digest if is_index(content) else content.manifest.digest
    return str(digest) == name
