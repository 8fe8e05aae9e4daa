"""Blobs in memory: for tests and for registries that live as long as their process."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from typing import BinaryIO

from lamina.errors import Internal
from lamina.spec.digest import Digest
from lamina.store.backends.driver import BlobNotFound, Partial, UploadBusy


class MemoryDriver:
    """The byte driver of a dictionary."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blobs: dict[Digest, bytes] = {}
        self._partials: dict[str, bytearray] = {}
        self._busy: set[str] = set()
        self._modified: dict[str, float] = {}

    def size(self, digest: Digest) -> int | None:
        """Bytes of a blob; None when it is not there."""
        blob = self._blobs.get(digest)
        return None if blob is None else len(blob)

    def open(self, digest: Digest) -> BinaryIO:
        """A seekable reader.

        Raises:
            BlobNotFound: it is not there.
        """
        try:
            return io.BytesIO(self._blobs[digest])
        except KeyError:
            raise BlobNotFound(digest) from None

    def path(self, digest: Digest) -> str | None:
        """None: memory has no files."""
        del digest
        return None

    def list(self) -> Iterator[tuple[Digest, int]]:
        """Every blob with its size."""
        with self._lock:
            return iter([(digest, len(blob)) for digest, blob in self._blobs.items()])

    def delete(self, digest: Digest) -> int:
        """Removes a blob; returns its bytes."""
        with self._lock:
            return len(self._blobs.pop(digest, b""))

    def begin(self, name: str, *, resume: bool = True) -> MemoryUpload:
        """Starts an upload, or goes on with the one of this name.

        Raises:
            UploadBusy: another writer has it.
        """
        with self._lock:
            if name in self._busy:
                raise UploadBusy(name)
            self._busy.add(name)
            if not resume:
                self._partials.pop(name, None)
            self._modified[name] = time.time()
            return MemoryUpload(self, name, self._partials.setdefault(name, bytearray()))

    def partials(self) -> Iterator[Partial]:
        """The uploads that are not finished."""
        with self._lock:
            return iter(
                [
                    Partial(name, len(data), len(data), self._modified[name], name in self._busy)
                    for name, data in self._partials.items()
                ]
            )

    def drop(self, name: str) -> int:
        """Forgets an upload that nobody writes."""
        with self._lock:
            return 0 if name in self._busy else len(self._partials.pop(name, b""))

    def _finish(self, name: str, *, digest: Digest | None, keep: bool) -> None:
        with self._lock:
            if digest is not None:
                self._blobs[digest] = bytes(self._partials[name])
            if not keep:
                self._partials.pop(name, None)
            self._busy.discard(name)


class MemoryUpload:
    """An upload in memory."""

    def __init__(self, driver: MemoryDriver, name: str, data: bytearray) -> None:
        self._driver, self._name, self._data = driver, name, data
        self._open = True

    @property
    def offset(self) -> int:
        """Bytes there already."""
        return len(self._data)

    def existing(self) -> Iterator[bytes]:
        """The bytes there already, as one chunk."""
        if self._data:
            yield bytes(self._data)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Appends."""
        if not self._open:
            raise Internal(f"upload {self._name} was written after it was closed")
        self._data += data

    def restart(self) -> None:
        """Forgets everything written."""
        self._data.clear()

    def commit(self, digest: Digest) -> None:
        """Makes the bytes the blob of this digest."""
        self._end(digest=digest, keep=False)

    def close(self) -> None:
        """Stops writing; what was written stays."""
        self._end(digest=None, keep=True)

    def cancel(self) -> None:
        """Stops writing and forgets the upload."""
        self._end(digest=None, keep=False)

    def _end(self, *, digest: Digest | None, keep: bool) -> None:
        if self._open:
            self._open = False
            self._driver._finish(self._name, digest=digest, keep=keep)
