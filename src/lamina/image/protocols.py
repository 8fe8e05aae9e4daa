"""What every source of images yields and every sink takes (design.md, decision 3).

Sources (a registry, a layout, an archive, the local store, a build result) yield `Image` and `ImageIndex`; sinks take
blobs and manifests. N backends cost N modules, because everything else speaks only these protocols.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from lamina.errors import NotFound
from lamina.progress import ProgressSink
from lamina.spec.config import ImageConfig
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest
from lamina.spec.manifest import Index, Manifest
from lamina.spec.reference import Repository
from lamina.values import dataclass

if TYPE_CHECKING:
    from typing_extensions import TypeIs


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


class MissingChild(NotFound):
    """An index names a manifest that this source does not hold (a sparse index)."""

    def __init__(self, child: Descriptor) -> None:
        platform = f" ({child.platform})" if child.platform else ""
        super().__init__(f"manifest {child.digest}{platform} is named by the index but not held here")
        self.child = child


def is_index(content: Image | ImageIndex) -> TypeIs[ImageIndex]:
    """Tell the two kinds apart without touching a lazy member."""
    return hasattr(type(content), "child")


def descriptor_of(content: Image | ImageIndex) -> Descriptor:
    """The descriptor of an image's manifest or of an index."""
    return content.index.descriptor if is_index(content) else content.manifest.descriptor


# Optional powers: a backend that has one says so by having the member; `copy` asks with isinstance.


class RawConfig(Protocol):
    """An image whose config may be any blob (an OCI artifact)."""

    config_bytes: bytes


@runtime_checkable
class ResumableLayer(Protocol):
    """A layer that can be read from the middle."""

    def open_at(self, offset: int) -> Readable:
        """The blob's bytes from `offset` on; the caller checks the digest of the whole."""
        ...


@runtime_checkable
class ResumableOpener(Protocol):
    """What `Sink.put_blob` is given for a `ResumableLayer`: callable, and able to start in the middle."""

    def __call__(self) -> Readable:
        """The whole blob, verified while read."""
        ...

    def at(self, offset: int) -> Readable:
        """The blob from `offset` on; the caller checks the digest of the whole."""
        ...


@runtime_checkable
class PendingLayer(Protocol):
    """A layer whose blob is compressed while it is read; `descriptor` is known (cheaply) only once `pending` is False.

    Asking a pending layer for its `descriptor` makes the blob too, without sending it anywhere.
    """

    def is_pending(self) -> bool:
        """Whether the blob has still to be made."""
        ...

    def stream(self) -> Readable:
        """The blob while it is made; after its last byte `descriptor` is known."""
        ...


@runtime_checkable
class StreamSink(Protocol):
    """A sink that takes blobs whose digest is not known yet."""

    def put_stream(self, open_: Callable[[], Readable], report: ProgressSink) -> Descriptor:
        """Store a blob and say what it was; the media type of the result means nothing."""
        ...


@runtime_checkable
class LayersSink(Protocol):
    """A sink that takes all layers of an image at once, because it stacks what it unpacks and checks diffIDs."""

    def put_layers(self, image: Image, report: ProgressSink, cancel: threading.Event) -> None:
        """Store every layer; the sink reports for each, by the id of its blob, up to its last state.

        Raises:
            Integrity: bytes, diffIDs or structure are wrong.
            Cancelled: `cancel` was set.
        """
        ...
