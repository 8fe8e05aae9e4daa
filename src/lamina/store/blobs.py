"""Content by digest: written once, verified, durable, leased from the first moment.

A blob exists when the index has a row for it and the driver has its bytes; the row comes last. One process ingests a
digest at a time (F8): whoever waits finds the blob, or takes over the partial of a leader that died.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from typing import BinaryIO, Final

from lamina.errors import Integrity, LimitExceeded
from lamina.spec.digest import Digest
from lamina.spec.document import MAX_DOCUMENT
from lamina.spec.timestamp import rfc3339, utc_now
from lamina.store import paths
from lamina.store.backends.driver import BlobNotFound, ByteDriver, Partial
from lamina.store.db import Database
from lamina.store.ids import fresh
from lamina.store.leases import BLOB, Lease, Leases
from lamina.store.locks import KeyLocks
from lamina.store.writing import VerifiedWriter
from lamina.values import dataclass

_CHUNK: Final = 1 << 20


class DamagedBlob(Integrity):
    """A stored blob is not what its digest says (F4, F20).

    Attributes:
        digest: the name it has.
        actual: the digest of its bytes, or None when it is the size that is wrong.
    """

    def __init__(self, digest: Digest, actual: Digest | None, problem: str) -> None:
        super().__init__(
            f"blob {digest} is damaged on disk: {problem}",
            hint="run `lamina system fsck --repair`, then pull or load the image again",
        )
        self.digest, self.actual = digest, actual


@dataclass(frozen=True, slots=True)
class BlobInfo:
    """A blob: its digest, its size in bytes, when it came (RFC 3339)."""

    digest: Digest
    size: int
    created_at: str


class BlobStore:
    """The blobs of a store."""

    def __init__(
        self,
        db: Database,
        driver: ByteDriver,
        locks: KeyLocks,
        leases: Leases,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._db, self.driver, self._locks, self._leases, self._clock = db, driver, locks, leases, clock

    def stat(self, digest: Digest) -> BlobInfo | None:
        """What is known of a blob; None when the store has no such blob, or has lost its bytes."""
        with self._db.read() as connection:
            row = connection.execute("SELECT size, created_at FROM blobs WHERE digest = ?", (str(digest),)).fetchone()
        if row is None or self.driver.size(digest) != row[0]:
            return None
        return BlobInfo(digest, row[0], row[1])

    def hold(self, digest: Digest, *, lease: Lease | None = None) -> BlobInfo | None:
        """Like `stat`, and leases the blob, so that it stays until the lease ends."""
        if self.stat(digest) is None:
            return None
        lease = lease or self._leases.session()
        with self._db.write() as connection:
            # The row is looked at again: the collector removes rows in a transaction of its own.
            lease.add_in(connection, BLOB, [str(digest)])
        return self.stat(digest)

    def open(self, digest: Digest, *, verify: bool = False) -> BinaryIO:
        """A seekable reader at the start of a blob; with `verify`, one that reads only forward and checks the digest.

        Raises:
            BlobNotFound: it is not there.
            DamagedBlob: (verify) raised by the read that reaches the end.
        """
        info = self.stat(digest)
        if info is None:
            raise BlobNotFound(digest)
        file = self.driver.open(digest)
        return io.BufferedReader(_Verifying(file, info), _CHUNK) if verify else file

    def path(self, digest: Digest) -> str | None:
        """A file that holds exactly the blob, for sendfile(2); None when there is none."""
        return self.driver.path(digest)

    def read(self, digest: Digest, *, limit: int = MAX_DOCUMENT) -> bytes:
        """All of a small blob, verified.

        Raises:
            BlobNotFound: it is not there.
            DamagedBlob: its bytes are not its own.
            LimitExceeded: longer than `limit` bytes.
        """
        with self.driver.open(digest) as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise LimitExceeded(f"blob {digest} is longer than {limit} bytes")
        actual = Digest.of(data, digest.algorithm)
        if actual != digest:
            raise DamagedBlob(digest, actual, f"its bytes have digest {actual}")
        return data

    def put(self, data: bytes, *, lease: Lease | None = None) -> Digest:
        """Stores bytes in memory."""
        digest = Digest.of(data)
        if self.hold(digest, lease=lease) is None:
            with self.ingest(digest, size=len(data), lease=lease) as writer:
                if writer is not None:
                    writer.restart()
                    writer.write(data)
                    writer.commit()
        return digest

    @contextmanager
    def ingest(
        self,
        digest: Digest,
        *,
        size: int | None = None,
        lease: Lease | None = None,
        tee: Callable[[bytes], None] | None = None,
        waiting: Callable[[], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Iterator[BlobWriter | None]:
        """Brings in content whose digest is known, once for all processes.

        The block gets None when the blob is there already (and is leased now), else a writer at the offset where an
        earlier attempt stopped. It commits the writer; what it does not commit stays for the next attempt.

        Args:
            digest: what the bytes must be.
            size: how many bytes, where known.
            lease: what holds the blob from now on; the process's own when None.
            tee: given the bytes of the earlier attempt.
            waiting: called once when another process or thread is ingesting the digest.
            cancelled: asked while waiting; True ends the wait.

        Raises:
            Cancelled: `cancelled` said so while waiting.
            StoreFull, StoreIOFailed: the disk refuses.
        """
        lease = lease or self._leases.session()
        with self._locks.hold("blob", str(digest), waiting=waiting, cancelled=cancelled):
            if self.hold(digest, lease=lease) is not None:
                yield None
                return
            if self._adopt(digest, lease):
                yield None
                return
            upload = self.driver.begin(paths.upload_name(digest))
            writer = BlobWriter(VerifiedWriter(upload, digest, size=size, tee=tee), self, lease, locked=True)
            with writer:
                yield writer

    def writer(self, *, lease: Lease | None = None, algorithm: str = "sha256", size: int | None = None) -> BlobWriter:
        """A writer for content whose digest is known only at its end."""
        upload = self.driver.begin(fresh(), resume=False)
        verified = VerifiedWriter(upload, algorithm=algorithm, size=size)
        return BlobWriter(verified, self, lease or self._leases.session(), locked=False)

    def verify(self, digest: Digest) -> None:
        """Reads a blob to its end.

        Raises:
            BlobNotFound: it is not there.
            DamagedBlob: its bytes are not its own.
        """
        with self.open(digest) as file:
            hasher = digest.hasher()
            while chunk := file.read(_CHUNK):
                hasher.update(chunk)
        actual = Digest.from_hasher(hasher, digest.algorithm)
        if actual != digest:
            raise DamagedBlob(digest, actual, f"its bytes have digest {actual}")

    def all(self) -> list[BlobInfo]:
        """Every blob of the index."""
        with self._db.read() as connection:
            rows = connection.execute("SELECT digest, size, created_at FROM blobs").fetchall()
        return [BlobInfo(Digest.parse(row[0]), row[1], row[2]) for row in rows]

    def partials(self) -> list[Partial]:
        """Uploads that were begun and not finished (F15)."""
        return list(self.driver.partials())

    def record(self, digest: Digest, size: int, lease: Lease) -> None:
        """Writes the row of a blob whose bytes the driver has; the caller holds the digest's lock."""
        with self._db.write() as connection:
            connection.execute(
                "INSERT INTO blobs (digest, size, created_at) VALUES (?, ?, ?)"
                " ON CONFLICT (digest) DO UPDATE SET size = excluded.size",
                (str(digest), size, rfc3339(self._clock())),
            )
            connection.execute("DELETE FROM doomed WHERE kind = ? AND key = ?", (BLOB, str(digest)))
            lease.add_in(connection, BLOB, [str(digest)])

    def forget(self, digests: Iterable[Digest]) -> None:
        """Takes blobs out of the index, so that they count as missing and are fetched again; their bytes stay."""
        with self._db.write() as connection:
            connection.executemany("DELETE FROM blobs WHERE digest = ?", [(str(digest),) for digest in digests])

    def _adopt(self, digest: Digest, lease: Lease) -> bool:
        """Takes in bytes that a crash left without a row, or that the collector has not removed yet."""
        size = self.driver.size(digest)
        if size is None:
            return False
        with self.driver.open(digest) as file:
            hasher = digest.hasher()
            while chunk := file.read(_CHUNK):
                hasher.update(chunk)
        if Digest.from_hasher(hasher, digest.algorithm) != digest:
            return False
        self.record(digest, size, lease)
        return True

    def exclusive(self, digest: Digest) -> ExitStack:
        """Holds a digest's lock, waiting for it, until the result is closed."""
        stack = ExitStack()
        stack.enter_context(self._locks.hold("blob", str(digest)))
        return stack


class BlobWriter:
    """Writes one blob. A context manager: what was not committed is kept when the digest was known, else dropped."""

    def __init__(self, verified: VerifiedWriter, store: BlobStore, lease: Lease, *, locked: bool) -> None:
        self._verified, self._store, self._lease, self._locked = verified, store, lease, locked

    @property
    def offset(self) -> int:
        """Bytes there; the next write goes here."""
        return self._verified.offset

    @property
    def resumed(self) -> int:
        """Bytes found from an earlier attempt."""
        return self._verified.resumed

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Adds bytes; returns how many, all of them.

        Raises:
            SizeMismatch: more than promised.
            StoreFull, StoreIOFailed: the disk refuses.
        """
        self._verified.write(data)
        return len(data)

    def restart(self) -> None:
        """Forgets everything written, for a source that cannot continue in the middle."""
        self._verified.restart()

    def commit(self, digest: Digest | None = None, size: int | None = None) -> Digest:
        """Makes the bytes a blob: verified, durable, in the index and leased when this returns.

        Raises:
            DigestMismatch: the bytes have another digest; they are dropped.
            SizeMismatch: fewer bytes than promised.
            StoreFull, StoreIOFailed: the disk refuses; what was written stays for the next attempt.
        """
        actual = self._verified.check(digest, size)
        with ExitStack() as stack:
            if not self._locked:
                stack.enter_context(self._store.exclusive(actual))
                if self._store.hold(actual, lease=self._lease) is not None:
                    self._verified.cancel()
                    return actual
            count = self._verified.offset
            self._verified.commit()
            self._store.record(actual, count, self._lease)
        return actual

    def close(self) -> None:
        """Stops; a partial of known digest is kept."""
        self._verified.close()

    def cancel(self) -> None:
        """Stops and drops what was written."""
        self._verified.cancel()

    def __enter__(self) -> BlobWriter:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


class _Verifying(io.RawIOBase):
    """Reads a blob forward and compares its digest at the end."""

    def __init__(self, file: BinaryIO, info: BlobInfo) -> None:
        self._file, self._info, self._seen = file, info, 0
        self._hasher = info.digest.hasher()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        count: int = self._file.readinto(view)  # type: ignore[attr-defined]
        self._hasher.update(view[:count])
        self._seen += count
        digest = self._info.digest
        if count == 0 and len(view) > 0:
            if self._seen != self._info.size:
                raise DamagedBlob(digest, None, f"it has {self._seen} bytes, not {self._info.size}")
            actual = Digest.from_hasher(self._hasher, digest.algorithm)
            if actual != digest:
                raise DamagedBlob(digest, actual, f"its bytes have digest {actual}")
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


__all__ = ["BlobInfo", "BlobNotFound", "BlobStore", "BlobWriter", "DamagedBlob"]
