"""Upload sessions: bytes that arrive in pieces and become a blob when their digest is right (R04-R08, F14, F15).

A session's name is 128 random bits, looked up in the database before anything else; no path is ever made from what a
client sent (threat 49). What was received is what the byte driver holds under that name: any process, also one that was
started later, resumes from there. The running hash is kept in memory between requests, and made again from the bytes
where it is missing.
"""

from __future__ import annotations

import math
import re
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

from lamina.errors import Unavailable
from lamina.registry.config import RegistryConfig
from lamina.registry.errors import BlobTooLarge, DigestMismatch, UploadUnknown
from lamina.registry.metadata.protocol import Metadata, UploadRecord
from lamina.registry.names import Repository
from lamina.spec.digest import Digest, Hasher
from lamina.store.backends.driver import ByteDriver, Upload, UploadBusy
from lamina.store.files import StoreFull
from lamina.values import dataclass

_ID: Final = re.compile(r"[0-9a-f]{32}")
_SINGLE: Final = "single-"
_KEPT_HASHES: Final = 4096
_SWEEP_BATCH: Final = 100_000
#: How far the clock may run ahead of the time that passed before it was set, not slewed; seconds (F18).
_LEEWAY: Final = 60.0

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class UploadStats:
    """Open sessions and the bytes that they hold."""

    sessions: int
    bytes: int


class Uploads:
    """All sessions of a registry. Synchronous and thread-safe."""

    def __init__(
        self,
        config: RegistryConfig,
        metadata: Metadata,
        driver: ByteDriver,
        clock: Callable[[], float],
        steady: Callable[[], float],
    ) -> None:
        """Args: `clock` gives seconds since the epoch, `steady` seconds that nobody can set."""
        self._config, self._metadata, self._driver, self._clock = config, metadata, driver, clock
        self._jumps = _Jumps(clock, steady)
        self._hashes = _Hashes()

    def begin(self, repository: Repository, algorithm: str = "sha256") -> str:
        """Open a session and return its name.

        Raises:
            TooManyUploads: `max_uploads` are open.
        """
        upload, now = secrets.token_hex(16), self._clock()
        self._metadata.add_upload(UploadRecord(upload, repository, algorithm, now, now), self._config.max_uploads)
        return upload

    def single(self, repository: Repository, algorithm: str) -> UploadWriter:
        """A nameless session for a blob that comes in one request; leaving it unfinished drops its bytes."""
        upload, now = f"{_SINGLE}{secrets.token_hex(16)}", self._clock()
        record = UploadRecord(upload, repository, algorithm, now, now)
        return UploadWriter(self, record, self._driver.begin(upload), None)

    def open(self, repository: Repository, upload: str) -> UploadWriter:
        """Take a session for writing; one taker at a time, over all processes.

        Raises:
            UploadUnknown: it is not there, or belongs to another repository.
            UploadBusy: another request has it.
        """
        record = self._record(repository, upload)
        taken = self._driver.begin(upload)
        # It may have ended between the look-up and the lock; a name that ended is never used again.
        if self._metadata.upload(upload) is None:
            taken.cancel()
            raise UploadUnknown(upload)
        return UploadWriter(self, record, taken, self._hashes.take(upload, taken.offset))

    def cancel(self, repository: Repository, upload: str) -> None:
        """End a session and free its bytes. Raises UploadUnknown, UploadBusy."""
        with self.open(repository, upload) as writer:
            writer.discard()

    def sweep(self) -> int:
        """Remove sessions that were idle for longer than `upload_ttl`; those in use stay. Returns how many went.

        After the clock was set forward nothing goes for as long: the times that were noted before look too old.
        """
        removed = 0
        idle_since = self._clock() - self._config.upload_ttl
        trusted = self._jumps.since() >= self._config.upload_ttl
        old = self._metadata.uploads(idle_since=idle_since, limit=_SWEEP_BATCH) if trusted else []
        for record in old:
            try:
                self.cancel(record.repository, record.id)
            except (UploadBusy, UploadUnknown, StoreFull):
                continue
            removed += 1
        self._sweep_leftovers()
        return removed

    def _sweep_leftovers(self) -> None:
        """Drop bytes of writers that died: a session's row exists before its bytes and goes before them."""
        for part in self._driver.partials():
            if not part.busy and self._metadata.upload(part.name) is None:
                self._driver.drop(part.name)

    def stats(self) -> UploadStats:
        """What open sessions cost."""
        return UploadStats(self._metadata.count_uploads(), sum(part.size for part in self._driver.partials()))

    def _record(self, repository: Repository, upload: str) -> UploadRecord:
        record = self._metadata.upload(upload) if _ID.fullmatch(upload) else None
        if record is None or record.repository != repository:
            raise UploadUnknown(upload)
        return record

    # -- what a writer needs

    @property
    def max_blob_bytes(self) -> int:
        """The most that a session may hold."""
        return self._config.max_blob_bytes

    def released(self, record: UploadRecord, hasher: Hasher | None, offset: int, *, changed: bool) -> None:
        """A writer is done for now."""
        if hasher is not None:
            self._hashes.keep(record.id, hasher, offset)
        if changed:
            # The bytes are there: a full disk that cannot note the time must not make the client send them again.
            with suppress(StoreFull, Unavailable):
                self._metadata.touch_upload(record.id, self._clock())

    def finished(self, record: UploadRecord, digest: Digest, size: int) -> None:
        """A writer's bytes are a blob now."""
        self._metadata.finish_upload(record.id, record.repository, digest, size)

    def forget(self, record: UploadRecord) -> None:
        """A writer's bytes are gone."""
        self._metadata.remove_upload(record.id)


class UploadWriter:
    """A session taken for writing. A context manager; leaving it keeps what was received, unless it was ended.

    Attributes:
        offset: bytes received so far; the next ones go here.
    """

    def __init__(self, uploads: Uploads, record: UploadRecord, upload: Upload, hasher: Hasher | None) -> None:
        self._uploads, self._record, self._upload = uploads, record, upload
        self.offset = upload.offset
        self._hasher = Digest(record.algorithm, "").hasher() if upload.offset == 0 else hasher
        self._open, self._changed = True, False

    def __enter__(self) -> UploadWriter:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def append(self, pieces: Iterable[Buffer]) -> None:
        """Add bytes.

        Raises:
            BlobTooLarge: the session would hold more than it may; it is ended.
            StoreFull: the disk is full; what was received stays.
        """
        for piece in pieces:
            if self.offset + len(piece) > self._uploads.max_blob_bytes:
                self.discard()
                raise BlobTooLarge(self._uploads.max_blob_bytes)
            self._changed = True
            try:
                self._upload.write(piece)
            except BaseException:
                self._hasher = None
                raise
            if self._hasher is not None:
                self._hasher.update(piece)
            self.offset += len(piece)

    def finish(self, digest: Digest) -> int:
        """Make the bytes a blob of the repository; durable on return. Returns its size in bytes.

        Raises:
            DigestMismatch: the bytes have another digest; the session is ended, for no more bytes can mend it.
        """
        actual = self._digest(digest.algorithm)
        if actual != digest:
            self.discard()
            raise DigestMismatch(digest, actual)
        self._upload.commit(digest)
        self._open = False
        self._uploads.finished(self._record, digest, self.offset)
        return self.offset

    def _digest(self, algorithm: str) -> Digest:
        if self._hasher is not None and algorithm == self._record.algorithm:
            return Digest.from_hasher(self._hasher, algorithm)
        hasher = Digest(algorithm, "").hasher()
        for chunk in self._upload.existing():
            hasher.update(chunk)
        return Digest.from_hasher(hasher, algorithm)

    def discard(self) -> None:
        """End the session and free its bytes."""
        if self._open:
            self._open = False
            try:
                if not self._record.id.startswith(_SINGLE):
                    # The bytes before the row: a full disk gets room to note the end of the session (F6).
                    if self._upload.offset:
                        self._upload.restart()
                    # The row before the name: while the lock is held nobody can take the name up again.
                    self._uploads.forget(self._record)
            except BaseException:
                self._upload.close()
                raise
            self._upload.cancel()

    def close(self) -> None:
        """Let go of the session; what was received stays unless it was finished or discarded."""
        if self._record.id.startswith(_SINGLE):
            self.discard()
        elif self._open:
            self._open = False
            try:
                self._uploads.released(self._record, self._hasher, self.offset, changed=self._changed)
            finally:
                self._upload.close()


class _Jumps:
    """Notices, each time it is asked, that the clock was set forward since it was asked last (F18)."""

    def __init__(self, clock: Callable[[], float], steady: Callable[[], float]) -> None:
        self._clock, self._steady = clock, steady
        self._lock = threading.Lock()
        self._ahead, self._jumped = clock() - steady(), -math.inf

    def since(self) -> float:
        """Seconds since the last jump was noticed; infinite when there was none."""
        with self._lock:
            now = self._steady()
            ahead = self._clock() - now
            if ahead - self._ahead > _LEEWAY:
                self._jumped = now
            self._ahead = ahead
            return now - self._jumped


class _Hashes:
    """Running hashes of sessions that nobody holds, the oldest dropped first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._states: OrderedDict[str, tuple[Hasher, int]] = OrderedDict()

    def keep(self, upload: str, hasher: Hasher, offset: int) -> None:
        with self._lock:
            self._states[upload] = (hasher, offset)
            while len(self._states) > _KEPT_HASHES:
                self._states.popitem(last=False)

    def take(self, upload: str, offset: int) -> Hasher | None:
        """The hash of the first `offset` bytes, when it is known."""
        with self._lock:
            hasher, at = self._states.pop(upload, (None, -1))
        return hasher if at == offset else None
