"""One layer from its source to a tree, as a pipeline.

    fetch -> sha256, keep the blob -> | inflate -> sha256 (diffID) -> apply to a tree

The bar is a bounded pipe. Behind it is a process of its own (`apart`), or for a small layer a thread, where starting
the process would take longer than the work. When the content is bad the fetch still runs to its end, so that the error
names the cause (wrong bytes, or right bytes with bad content) and no wrong bytes stay behind to be resumed.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import closing
from datetime import datetime
from typing import Final, Protocol, TypeVar

from lamina.errors import Cancelled, Integrity, Invalid, LimitExceeded, Unsupported
from lamina.layer.applied import Applied, NeedsParents, WhiteoutMode
from lamina.layer.apply import apply_layer
from lamina.layer.compression import decompress
from lamina.layer.digesting import HashingReader
from lamina.layer.limits import Limits
from lamina.progress import Progress, ProgressSink
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest
from lamina.spec.timestamp import rfc3339
from lamina.store.apart import ApplyWorker
from lamina.store.blobs import BlobStore, BlobWriter
from lamina.store.db import Database
from lamina.store.files import StoreFull
from lamina.store.layers import insert_blob
from lamina.store.leases import Lease
from lamina.store.pipe import Pipe
from lamina.values import dataclass

_CHUNK: Final = 1 << 18
_REPORT_EVERY: Final = 1 << 20
#: Compressed bytes from which on a layer gets its own process.
APART: Final = 2 << 20
_T = TypeVar("_T")


class Fetched(Protocol):
    """Bytes of a blob from somewhere else."""

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes, b"" at the end."""
        ...

    def close(self) -> None:
        """Release what backs the stream."""


Fetch = Callable[[int], Fetched]
"""Opens a layer's blob at an offset. A source that cannot raises `CannotResume` for any offset but 0."""


class CannotResume(Unsupported):
    """The source has no way to start in the middle of a blob; it is asked again for all of it."""


class DiffIdMismatch(Integrity):
    """A layer's content is not what the image's config says.

    Attributes:
        blob: the blob that was unpacked.
        expected, actual: diffIDs.
    """

    def __init__(self, blob: Digest, expected: Digest, actual: Digest) -> None:
        super().__init__(f"layer {blob} unpacks to {actual}, but the image's config says {expected}")
        self.blob, self.expected, self.actual = blob, expected, actual


@dataclass(frozen=True, slots=True)
class LayerSource:
    """A layer to have.

    Attributes:
        diff_id: what its tar must be, from the image's config.
        blob: media type, digest and size of the blob, from the manifest.
        fetch: opens the blob where it comes from; not called for what is here.
    """

    diff_id: Digest
    blob: Descriptor
    fetch: Fetch


class Stop:
    """Tells the threads of one operation to end: the caller wants it, or one of them failed.

    Attributes:
        error: the first failure.
    """

    def __init__(self, outer: threading.Event | None) -> None:
        self._outer = outer
        self._lock = threading.Lock()
        self.error: BaseException | None = None

    def fail(self, error: BaseException) -> None:
        """Ends the others."""
        with self._lock:
            if self.error is None and not isinstance(error, Cancelled):
                self.error = error

    def asked(self) -> bool:
        """Whether it is over."""
        return self.error is not None or (self._outer is not None and self._outer.is_set())

    def check(self) -> None:
        """Ends the calling thread's work when it is over.

        Raises:
            Cancelled: it is over.
        """
        if self.asked():
            raise Cancelled("the transfer was given up")


class LayerPipeline:
    """Fetches and unpacks single layers, for one operation."""

    def __init__(
        self,
        db: Database,
        blobs: BlobStore,
        *,
        lease: Lease,
        report: ProgressSink,
        stop: Stop,
        clock: Callable[[], datetime],
        limits: Limits,
        apart: int = APART,
    ) -> None:
        self._db, self._blobs, self._lease, self._report, self.stop = db, blobs, lease, report, stop
        self._clock, self._limits, self._apart = clock, limits, apart

    def report(self, source: LayerSource, status: str, current: int | None = None, *, final: bool = False) -> None:
        """Says where a layer stands."""
        total = source.blob.size if current is not None else None
        self._report(Progress(source.blob.digest.short, status, current, total, final))

    def fetch(self, source: LayerSource) -> None:
        """Has the blob, without unpacking it.

        Raises:
            DigestMismatch, SizeMismatch: not the bytes promised.
            StoreFull, StoreIOFailed, Cancelled: and what the source raises.
        """
        with self._blobs.ingest(
            source.blob.digest,
            size=source.blob.size,
            lease=self._lease,
            waiting=lambda: self.report(source, "Waiting"),
            cancelled=self.stop.asked,
        ) as writer:
            if writer is not None:
                self._download(source, writer, None)

    def apply(self, source: LayerSource, tree: str, mode: WhiteoutMode, *, userxattr: bool) -> Applied:
        """Fetches where needed, inflates and applies, all at once; returns when both digests hold.

        Raises:
            DigestMismatch, SizeMismatch, DamagedBlob, DiffIdMismatch: not the content promised.
            NeedsParents, BadArchive, UnsafeEntry, LayerLimit, ApplyFailed, ApplyDenied: from `lamina.layer`.
            WorkerDied, WorkerStuck: the process that unpacked was killed, or hangs.
            StoreFull, StoreIOFailed, Cancelled: and what the source raises.
        """
        if source.blob.size >= self._apart and sys.executable:
            applied, actual = self._apply_apart(source, tree, mode, userxattr=userxattr)
        else:
            applied, actual = self._apply_here(source, tree, mode, userxattr=userxattr)
        if actual != source.diff_id:
            raise DiffIdMismatch(source.blob.digest, source.diff_id, actual)
        with self._db.write() as connection:
            insert_blob(connection, source.diff_id, source.blob, rfc3339(self._clock()))
        return applied

    def _apply_apart(
        self, source: LayerSource, tree: str, mode: WhiteoutMode, *, userxattr: bool
    ) -> tuple[Applied, Digest]:
        with ApplyWorker(tree, mode, self._limits, self.stop.check, userxattr=userxattr) as worker:
            try:
                self._produce(source, worker)
            except Integrity:
                raise  # wrong bytes explain whatever they led to
            except BaseException:
                if worker.failure is not None:
                    raise worker.failure from None
                raise
            return worker.result()

    def _apply_here(
        self, source: LayerSource, tree: str, mode: WhiteoutMode, *, userxattr: bool
    ) -> tuple[Applied, Digest]:
        compressed, plain = Pipe(), Pipe()
        pipes = (compressed, plain)
        failures: list[BaseException] = []  # in the order of time; those after the first may follow from it
        fetching, fetched = _start("fetch", lambda: self._produce(source, compressed), pipes, failures)
        inflating, inflated = _start("inflate", lambda: self._inflate(compressed, plain), pipes, failures)
        try:
            applied = apply_layer(plain, tree, whiteouts=mode, limits=self._limits, userxattr=userxattr)
        except BaseException as error:
            failures.append(error)
            for pipe in pipes:
                pipe.fail(error)
        fetching.join()
        inflating.join()
        if failures:
            # Wrong bytes explain whatever they led to.
            wrong = fetched.exception()
            raise wrong if isinstance(wrong, Integrity) else failures[0]
        return applied, inflated.result()

    def _produce(self, source: LayerSource, pipe: _Feed) -> None:
        """Sends the compressed bytes down the pipe: those that are here, then those that are fetched."""
        out = _Tee(pipe)
        blob = source.blob
        with self._blobs.ingest(
            blob.digest,
            size=blob.size,
            lease=self._lease,
            tee=out.write,
            waiting=lambda: self.report(source, "Waiting"),
            cancelled=self.stop.asked,
        ) as writer:
            if writer is not None:
                self._download(source, writer, out)
        if writer is None:
            with self._blobs.open(blob.digest, verify=True) as file:
                seen = 0
                while chunk := file.read(_CHUNK):
                    self.stop.check()
                    out.write(chunk)
                    seen += len(chunk)
                    if seen % _REPORT_EVERY < _CHUNK:
                        self.report(source, "Extracting", seen)
        pipe.end()

    def _download(self, source: LayerSource, writer: BlobWriter, out: _Tee | None) -> None:
        sent = writer.offset
        try:
            stream = source.fetch(sent)
        except CannotResume:
            writer.restart()
            stream = source.fetch(0)
        with closing(stream):
            reported = writer.offset
            while chunk := stream.read(_CHUNK):
                self.stop.check()
                before = writer.offset
                writer.write(chunk)
                if out is not None and writer.offset > sent:
                    # What an earlier attempt left went down the pipe already.
                    out.write(chunk[sent - before :] if before < sent else chunk)
                if writer.offset - reported >= _REPORT_EVERY:
                    reported = writer.offset
                    self.report(source, "Downloading", reported)
        self.report(source, "Verifying Checksum")
        writer.commit()
        self.report(source, "Download complete")

    def _inflate(self, compressed: Pipe, plain: Pipe) -> Digest:
        hashing = HashingReader(decompress(compressed, limits=self._limits))
        while chunk := hashing.read(_CHUNK):
            plain.write(chunk)
        plain.end()
        # Bytes behind the archive belong to the blob all the same; the fetch must not wait for a reader.
        while compressed.read(_CHUNK):
            pass
        return Digest("sha256", hashing.digest)


class _Feed(Protocol):
    """Takes the compressed bytes of a layer; raises what unpacking them failed with."""

    def write(self, data: bytes) -> None: ...
    def end(self) -> None: ...


class _Tee:
    """Writes into a pipe until its reader finds the content bad or of no use; then does nothing."""

    def __init__(self, pipe: _Feed) -> None:
        self._pipe: _Feed | None = pipe

    def write(self, data: bytes) -> None:
        if self._pipe is None:
            return
        try:
            self._pipe.write(data)
        except StoreFull:
            raise
        except (Integrity, Invalid, LimitExceeded, NeedsParents):
            self._pipe = None


def _start(
    name: str, work: Callable[[], _T], pipes: Sequence[Pipe], failures: list[BaseException]
) -> tuple[threading.Thread, Future[_T]]:
    """Runs `work` in a thread; its failure breaks the pipes, so that nobody waits for it."""
    result: Future[_T] = Future()

    def run() -> None:
        try:
            value = work()
        except BaseException as error:
            failures.append(error)
            result.set_exception(error)
            for pipe in pipes:
                pipe.fail(error)
        else:
            result.set_result(value)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread, result
