"""Completes images from the three or four facts that a backend naturally has.

A backend that stores blobs implements `BlobSource` (two methods) and gets whole `Image` and `ImageIndex` values from
`open_document`; one that has a config and layers gets them from `MadeImage` and `MadeIndex`, whose manifests are
written on first use.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Protocol

from lamina.errors import Invalid
from lamina.image.protocols import Image, ImageIndex, Layer, MissingChild, Readable, descriptor_of, is_index
from lamina.image.verify import VerifyingReader, read_document
from lamina.spec import mediatype
from lamina.spec.config import ImageConfig
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest
from lamina.spec.document import MAX_DOCUMENT
from lamina.spec.manifest import Index, Manifest, make_index, make_manifest, parse_manifest
from lamina.spec.platform import Platform
from lamina.values import dataclass, field, replace


class LayerCountMismatch(Invalid):
    """The manifest lists another number of layers than the config has diffIDs."""

    def __init__(self, layers: int, diff_ids: int) -> None:
        super().__init__(f"invalid image: the manifest lists {layers} layers, the config {diff_ids} diff_ids")
        self.layers, self.diff_ids = layers, diff_ids


class BlobSource(Protocol):
    """What a backend knows: bytes by descriptor. Neither method needs to verify; the views do."""

    def open_blob(self, blob: Descriptor, offset: int = 0) -> Readable:
        """The blob's bytes from `offset` on.

        Raises:
            NotFound: there is no such blob here.
        """
        ...

    def read_manifest(self, child: Descriptor) -> bytes:
        """The bytes of a manifest or index.

        Raises:
            NotFound: there is no such manifest here.
        """
        ...


class BlobLayer:
    """A layer whose blob a `BlobSource` holds."""

    def __init__(self, descriptor: Descriptor, blobs: BlobSource, diff_id: Callable[[], Digest]) -> None:
        self._descriptor, self._blobs, self._find_diff_id = descriptor, blobs, diff_id

    @property
    def descriptor(self) -> Descriptor:
        """The blob as the manifest names it."""
        return self._descriptor

    @property
    def diff_id(self) -> Digest:
        """The digest of the uncompressed tar, from the config."""
        return self._find_diff_id()

    def open(self) -> Readable:
        """The blob's bytes, verified while read."""
        return VerifyingReader(self._blobs.open_blob(self._descriptor), self._descriptor)

    def open_at(self, offset: int) -> Readable:
        """The blob's bytes from `offset` on, for a caller that keeps hash and bytes of what came before.

        Not verified here: only the caller's running hash knows the whole.
        """
        return self._blobs.open_blob(self._descriptor, offset)


class BlobImage:
    """An image whose manifest was read and whose blobs a `BlobSource` holds."""

    def __init__(self, manifest: Manifest, blobs: BlobSource) -> None:
        self._manifest, self._blobs = manifest, blobs

    @property
    def manifest(self) -> Manifest:
        """The manifest, with the bytes it was read from."""
        return self._manifest

    @cached_property
    def config_bytes(self) -> bytes:
        """The config blob, verified; of artifacts too, whose config is no image config."""
        config = self._manifest.config
        return read_document(self._blobs.open_blob(config), config, f"config {config.digest}", limit=MAX_DOCUMENT)

    @cached_property
    def config(self) -> ImageConfig:
        """The configuration.

        Raises:
            InvalidDocument: the config blob is no image config (an artifact).
        """
        return ImageConfig.parse(self.config_bytes)

    @cached_property
    def layers(self) -> Sequence[Layer]:
        """Bottom first."""
        return tuple(
            BlobLayer(descriptor, self._blobs, lambda position=position: self._diff_id(position))  # type: ignore[misc]
            for position, descriptor in enumerate(self._manifest.layers)
        )

    def _diff_id(self, position: int) -> Digest:
        diff_ids = self.config.diff_ids
        if len(diff_ids) != len(self._manifest.layers):
            raise LayerCountMismatch(len(self._manifest.layers), len(diff_ids))
        return diff_ids[position]


class BlobIndex:
    """An index that was read, over the same `BlobSource` as its children."""

    def __init__(self, index: Index, blobs: BlobSource) -> None:
        self._index, self._blobs = index, blobs

    @property
    def index(self) -> Index:
        """The index, with the bytes it was read from."""
        return self._index

    def child(self, descriptor: Descriptor) -> Image | ImageIndex:
        """The child that an entry names, its bytes checked against the entry.

        Raises:
            NotFound: this source does not hold it.
            Integrity: the source answered other bytes.
        """
        raw = self._blobs.read_manifest(descriptor)
        what = f"manifest {descriptor.digest}"
        return open_document(
            read_document(io.BytesIO(raw), descriptor, what, limit=MAX_DOCUMENT), descriptor.media_type, self._blobs
        )


def open_document(raw: bytes, media_type: str | None, blobs: BlobSource) -> BlobImage | BlobIndex:
    """An image or an index from a manifest's bytes; the caller has verified them.

    Raises:
        InvalidDocument, UnsupportedManifest: see `parse_manifest`.
    """
    parsed = parse_manifest(raw, media_type)
    return BlobIndex(parsed, blobs) if isinstance(parsed, Index) else BlobImage(parsed, blobs)


@dataclass(frozen=True)
class MadeLayer:
    """A layer of three facts: descriptor, diffID, and how to open the blob."""

    descriptor: Descriptor
    diff_id: Digest
    open_raw: Callable[[], Readable] = field(repr=False)

    def open(self) -> Readable:
        """The blob's bytes, verified while read."""
        return VerifyingReader(self.open_raw(), self.descriptor)

    @classmethod
    def of(cls, blob: bytes, *, diff_id: Digest, media_type: str = mediatype.OCI_LAYER_GZIP) -> MadeLayer:
        """A layer whose blob is in memory."""
        return cls(Descriptor.of(media_type, blob), diff_id, lambda: io.BytesIO(blob))


class MadeImage:
    """An image of a config and layers; the manifest is written when first asked for.

    `docker` chooses Docker's media types for manifest and config; layers keep the types of their descriptors.
    `published` is False for a manifest that nobody knows the image by, as of an archive that has none.
    """

    def __init__(
        self,
        config: ImageConfig,
        layers: Sequence[Layer],
        *,
        docker: bool = False,
        annotations: Mapping[str, str] | None = None,
        published: bool = True,
    ) -> None:
        self.published = published
        self._config, self._layers = config, tuple(layers)
        self._docker, self._annotations = docker, annotations

    @cached_property
    def manifest(self) -> Manifest:
        """The manifest; asking for it asks every layer for its descriptor."""
        kind = mediatype.DOCKER_CONFIG if self._docker else mediatype.OCI_CONFIG
        return make_manifest(
            Descriptor.of(kind, self._config.raw),
            [layer.descriptor for layer in self._layers],
            media_type=mediatype.DOCKER_MANIFEST if self._docker else mediatype.OCI_MANIFEST,
            annotations=self._annotations,
        )

    @property
    def config(self) -> ImageConfig:
        """The configuration."""
        return self._config

    @property
    def config_bytes(self) -> bytes:
        """The config's bytes."""
        return self._config.raw

    @property
    def layers(self) -> Sequence[Layer]:
        """Bottom first."""
        return self._layers


@dataclass(frozen=True)
class Child:
    """An entry of a `MadeIndex`: what it holds, for which platform (None: from the image's config)."""

    content: Image | ImageIndex
    platform: Platform | None = None
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)

    @cached_property
    def descriptor(self) -> Descriptor:
        """The entry as the index writes it."""
        content = self.content
        found = descriptor_of(content)
        platform = self.platform or (None if is_index(content) else content.config.platform)
        return replace(found, platform=platform, annotations=dict(self.annotations))


class MadeIndex:
    """An index over images at hand; its bytes are written when first asked for."""

    def __init__(
        self, children: Sequence[Child], *, docker: bool = False, annotations: Mapping[str, str] | None = None
    ) -> None:
        self._children, self._docker, self._annotations = tuple(children), docker, annotations

    @cached_property
    def index(self) -> Index:
        """The index."""
        return make_index(
            [child.descriptor for child in self._children],
            media_type=mediatype.DOCKER_INDEX if self._docker else mediatype.OCI_INDEX,
            annotations=self._annotations,
        )

    def child(self, descriptor: Descriptor) -> Image | ImageIndex:
        """The child of that digest."""
        for child in self._children:
            if child.descriptor.digest == descriptor.digest:
                return child.content
        raise MissingChild(descriptor)
