"""What every source of images yields and every sink takes (design.md, decision 3).

Sources (a registry, a layout, an archive, the local store, a build result) yield `Image` and `ImageIndex`; sinks take
blobs and manifests. N backends cost N modules, because everything else speaks only these protocols.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from lamina.progress import ProgressSink
from lamina.spec.config import ImageConfig
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest
from lamina.spec.manifest import Index, Manifest
from lamina.spec.reference import Repository


class Readable(Protocol):
    """A stream of bytes, closed by whoever opened it."""

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes, b"" at the end."""
        ...

    def close(self) -> None:
        """Release what backs the stream."""


class Layer(Protocol):
    """One layer of an image."""

    @property
    def descriptor(self) -> Descriptor:
        """The blob as the manifest names it."""
        ...

    @property
    def diff_id(self) -> Digest:
        """The digest of the uncompressed tar."""
        ...

    def open(self) -> Readable:
        """The blob's bytes, exactly those that `descriptor` names; verified while read."""
        ...


class Image(Protocol):
    """One image for one platform. Members are lazy; reading one may do I/O and raise its errors."""

    @property
    def manifest(self) -> Manifest:
        """The manifest, with the bytes it was read from."""
        ...

    @property
    def config(self) -> ImageConfig:
        """The configuration, with the bytes it was read from."""
        ...

    @property
    def layers(self) -> Sequence[Layer]:
        """Bottom first, one for each entry of the manifest."""
        ...


class ImageIndex(Protocol):
    """Several images under one digest."""

    @property
    def index(self) -> Index:
        """The index, with the bytes it was read from."""
        ...

    def child(self, descriptor: Descriptor) -> Image | ImageIndex:
        """The child that an entry of `index` names.

        Raises:
            NotFound: this source does not hold it (a sparse index).
        """
        ...


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a sink can take; the copy planner negotiates with it.

    Attributes:
        manifest_types: accepted manifest and index media types.
        indexes: whether an index can be stored as such.
        foreign_layers: whether non-distributable layers are stored too.
        parallel_blobs: how many `put_blob` calls may run at once.
    """

    manifest_types: frozenset[str]
    indexes: bool = True
    foreign_layers: bool = False
    parallel_blobs: int = 4


class Sink(Protocol):
    """Where images go. Order of calls: blobs (in parallel), then manifests bottom-up, the named one last."""

    @property
    def capabilities(self) -> Capabilities:
        """What this sink can take."""
        ...

    def has_blob(self, blob: Descriptor) -> bool:
        """Whether the blob is there already."""
        ...

    def mount_blob(self, blob: Descriptor, source: Repository) -> bool:
        """Adopt the blob from another repository of the same registry; False when that cannot be done."""
        ...

    def put_blob(self, blob: Descriptor, open_: Callable[[], Readable], report: ProgressSink) -> None:
        """Store a blob; visible only when complete and verified.

        Raises:
            Integrity: the bytes do not match the descriptor.
        """
        ...

    def put_manifest(self, manifest: Manifest | Index, *, named: bool) -> None:
        """Store a manifest; `named` moves the sink's name (tag) to it."""
        ...
