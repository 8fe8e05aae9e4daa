"""Images from root file systems: a tar of one becomes an image of one layer (C03, S40).

The tar is read once: hashed, and kept as the layer's blob (as it came when gzip or zstd, compressed here otherwise);
then that blob is unpacked like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lamina.engine.changes import apply_changes
from lamina.engine.places import naming
from lamina.engine.transfer import host_platform
from lamina.errors import Invalid
from lamina.layer.compression import Compression, compressor, decompress, detect
from lamina.layer.digesting import HashingReader, drain
from lamina.layer.limits import Limits
from lamina.layer.pipeline import ReadAhead
from lamina.progress import Progress, ProgressSink
from lamina.spec.config import History, ImageConfig, RunConfig
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest
from lamina.spec.mediatype import layer_type
from lamina.spec.platform import Platform
from lamina.spec.reference import Reference
from lamina.spec.timestamp import rfc3339
from lamina.store.pipeline import Fetch, Fetched, LayerSource
from lamina.values import dataclass

if TYPE_CHECKING:
    from lamina.engine.engine import Engine
    from lamina.image.protocols import Readable
    from lamina.store.blobs import BlobWriter
    from lamina.store.leases import Lease
    from lamina.store.store import Store

_CHUNK = 1 << 18
_REPORT_EVERY = 8 << 20
_KEPT = frozenset({Compression.GZIP, Compression.ZSTD})
#: A whole root file system is bigger than a layer usually is.
_LIMITS = Limits(max_bytes=1 << 41)


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """How to import.

    Attributes:
        reference: the image's name, or None.
        source: how the comment calls where it came from.
        place: how errors about the tar call it; "" for `source`.
        message: the comment; "" for `Imported from SOURCE`.
        changes: Dockerfile instructions to apply.
        platform: what the file system runs on; None for this machine.
    """

    reference: Reference | None = None
    source: str = "-"
    message: str = ""
    changes: Sequence[str] = ()
    platform: Platform | None = None
    place: str = ""


class CannotName(Invalid):
    """An image cannot be imported under a digest."""

    def __init__(self) -> None:
        super().__init__("cannot import digest reference")


def import_tar(engine: Engine, stream: Readable, options: ImportOptions, progress: ProgressSink) -> Digest:
    """Make an image of a tar, plain or compressed with gzip, bzip2, xz or zstd.

    Args:
        engine: whose store it goes to.
        stream: the tar; read to its end, not closed.
        options: see there.
        progress: told how many bytes were read.

    Returns:
        The image's id.

    Raises:
        InvalidChange, CannotName: the options; nothing was read then.
        BadStream, BadArchive, UnsafeEntry, LayerLimit: the tar is damaged or hostile.
        StoreFull, StoreIOFailed: the disk refuses.
    """
    if options.reference is not None and options.reference.digest is not None:
        raise CannotName
    config = apply_changes(RunConfig(), options.changes)
    store = engine.store
    with store.lease("import") as lease:
        with naming(options.place or options.source):
            diff_id, blob = _keep(store, lease, _Counted(stream, progress))
            store.layers.add_blob(diff_id, blob)
            store.unpacker.ensure([LayerSource(diff_id, blob, _fetch(store, blob))], lease=lease)
        message = options.message or f"Imported from {options.source}"
        created = creation_time(engine)
        document = ImageConfig.make(
            platform=options.platform or host_platform(),
            config=config,
            diff_ids=(diff_id,),
            history=(History(created=created, comment=message),),
            created=created,
            extra={"comment": message},
        )
        tags = [options.reference.tagged()] if options.reference is not None else []
        return store.images.put(document, tags=tags, lease=lease).id


def creation_time(engine: Engine) -> str:
    """Now, or what SOURCE_DATE_EPOCH says (reproducible-builds.org), as RFC 3339.

    Raises:
        Invalid: SOURCE_DATE_EPOCH is no number of seconds.
    """
    epoch = engine.settings.env.get("SOURCE_DATE_EPOCH", "")
    if not epoch:
        return rfc3339(engine.clock())
    try:
        return rfc3339(datetime.fromtimestamp(int(epoch), UTC))
    except (ValueError, OverflowError):
        raise Invalid(f"invalid SOURCE_DATE_EPOCH: {epoch!r} is no number of seconds since 1970") from None


def _keep(store: Store, lease: Lease, stream: _Counted) -> tuple[Digest, Descriptor]:
    """Stores the stream as a blob; returns the digest of the tar in it too."""
    head = b""
    while len(head) < 6 and (more := stream.read(6 - len(head))):
        head += more
    kind = detect(head)
    whole = _Prefixed(head, stream)
    with store.blobs.writer(lease=lease) as writer:
        try:
            hashing, kept = _as_it_is(whole, writer, kind) if kind in _KEPT else _compressed(whole, writer, kind)
        except BaseException:
            writer.cancel()
            raise
        size = writer.offset
        digest = writer.commit()
    return Digest("sha256", hashing.digest), Descriptor(layer_type(compression=kept.value), digest, size)


def _as_it_is(stream: _Prefixed, writer: BlobWriter, kind: Compression) -> tuple[HashingReader, Compression]:
    """One thread reads, hashes and stores the compressed bytes, this one inflates and hashes the tar."""
    with ReadAhead(_Tee(stream, writer)) as ahead:
        hashing = HashingReader(decompress(ahead, kind, limits=_LIMITS))
        drain(hashing)
    return hashing, kind


def _compressed(stream: _Prefixed, writer: BlobWriter, kind: Compression) -> tuple[HashingReader, Compression]:
    """One thread reads, inflates and hashes the tar, this one compresses and stores it."""
    hashing = HashingReader(decompress(stream, kind, limits=_LIMITS))
    packed = compressor(Compression.GZIP, writer.write)
    with ReadAhead(hashing) as ahead:
        while data := ahead.read(_CHUNK):
            packed.write(data)
    packed.close()
    return hashing, Compression.GZIP


def _fetch(store: Store, blob: Descriptor) -> Fetch:
    """The blob is here, so that nothing asks for it unless it is damaged; then it is what it is."""

    def fetch(offset: int) -> Fetched:
        file = store.blobs.open(blob.digest)
        file.seek(offset)
        return file

    return fetch


class _Prefixed:
    """A stream with some bytes put back in front."""

    def __init__(self, head: bytes, stream: _Counted) -> None:
        self._head, self._stream = head, stream

    def read(self, size: int, /) -> bytes:
        if self._head:
            data, self._head = self._head[:size], self._head[size:]
            return data
        return self._stream.read(size)


class _Tee:
    """Stores what passes."""

    def __init__(self, stream: _Prefixed, writer: BlobWriter) -> None:
        self._stream, self._writer = stream, writer

    def read(self, size: int, /) -> bytes:
        data = self._stream.read(size)
        if data:
            self._writer.write(data)
        return data


class _Counted:
    """Reports how many bytes passed."""

    def __init__(self, stream: Readable, progress: ProgressSink) -> None:
        self._stream, self._progress = stream, progress
        self._count = self._told = 0

    def read(self, size: int, /) -> bytes:
        data = self._stream.read(size)
        self._count += len(data)
        if self._count - self._told >= _REPORT_EVERY:
            self._told = self._count
            self._progress(Progress("", "Importing", self._count))
        return data
