"""Verified writing: bytes become a blob only when they have the digest and size that were promised.

Works over any byte driver and knows no index, so that the registry server uses it with its own database.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from lamina.errors import Integrity, Internal
from lamina.spec.digest import Digest, Hasher
from lamina.store.backends.driver import Upload


class DigestMismatch(Integrity):
    """The bytes are not those that were promised.

    Attributes:
        expected, actual: digests.
        resumed: bytes that came from an earlier attempt. When there are any, they may be what is wrong: try again.
    """

    def __init__(self, expected: Digest, actual: Digest, resumed: int = 0) -> None:
        super().__init__(f"content has digest {actual}, expected {expected}")
        self.expected, self.actual, self.resumed = expected, actual, resumed


class SizeMismatch(Integrity):
    """More or fewer bytes than promised.

    Attributes:
        expected: bytes promised.
        actual: bytes received so far.
    """

    def __init__(self, what: str, expected: int, actual: int) -> None:
        super().__init__(
            f"content of {what} has {'at least ' if actual > expected else ''}{actual} bytes, expected {expected}"
        )
        self.expected, self.actual = expected, actual


class VerifiedWriter:
    """Hashes what it passes on to an upload; used by one thread at a time.

    As a context manager it closes at the end: what was not committed stays for a later attempt when the digest was
    known, and is dropped otherwise.

    Attributes:
        expected: the digest promised, or None.
        size: the bytes promised, or None.
        resumed: bytes found from an earlier attempt.
    """

    def __init__(
        self,
        upload: Upload,
        expected: Digest | None = None,
        *,
        size: int | None = None,
        algorithm: str = "sha256",
        tee: Callable[[bytes], None] | None = None,
    ) -> None:
        """Takes over an upload; what it holds is hashed again.

        Args:
            upload: closed or committed by this object from now on.
            expected: the digest the bytes must have.
            size: the number of bytes there must be.
            algorithm: hashes with this when no digest is expected.
            tee: given every chunk found from an earlier attempt, in order.
        """
        self._upload, self.expected, self.size = upload, expected, size
        self._algorithm: Final = expected.algorithm if expected else algorithm
        self._hasher: Hasher = self._fresh()
        self._done = False
        if size is not None and upload.offset > size:
            upload.restart()
        self.resumed = upload.offset
        for chunk in upload.existing():
            self._hasher.update(chunk)
            if tee is not None:
                tee(chunk)

    @property
    def offset(self) -> int:
        """Bytes there; the next write goes here."""
        return self._upload.offset

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Adds bytes.

        Raises:
            SizeMismatch: more than promised; nothing of `data` is written.
        """
        if self.size is not None and self.offset + len(data) > self.size:
            raise SizeMismatch(str(self.expected or "the blob"), self.size, self.offset + len(data))
        self._upload.write(data)
        self._hasher.update(data)

    def restart(self) -> None:
        """Forgets everything, for a source that cannot continue in the middle."""
        self._upload.restart()
        self._hasher = self._fresh()
        self.resumed = 0

    def digest(self) -> Digest:
        """The digest of everything so far."""
        return Digest.from_hasher(self._hasher, self._algorithm)

    def check(self, digest: Digest | None = None, size: int | None = None) -> Digest:
        """Compares what was written with what was promised, here and to the constructor.

        Returns:
            The digest of the bytes.

        Raises:
            DigestMismatch: another digest; the bytes are dropped, since nobody can use them.
            SizeMismatch: fewer bytes, or more.
        """
        for promised in (self.size, size):
            if promised is not None and promised != self.offset:
                raise SizeMismatch(str(digest or self.expected or "the blob"), promised, self.offset)
        actual = self.digest()
        for expected in (self.expected, digest):
            if expected is not None and expected != self._comparable(expected, actual):
                resumed = self.resumed
                self.cancel()
                raise DigestMismatch(expected, actual, resumed)
        return actual

    def commit(self, digest: Digest | None = None, size: int | None = None) -> Digest:
        """Checks and makes the bytes a blob: durable when this returns.

        Raises:
            DigestMismatch, SizeMismatch: see `check`.
        """
        actual = self.check(digest, size)
        self._upload.commit(actual)
        self._done = True
        return actual

    def close(self) -> None:
        """Stops; see the class."""
        if self._done:
            return
        self._done = True
        if self.expected is None:
            self._upload.cancel()
        else:
            self._upload.close()

    def cancel(self) -> None:
        """Stops and drops what was written."""
        if not self._done:
            self._done = True
            self._upload.cancel()

    def __enter__(self) -> VerifiedWriter:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def _fresh(self) -> Hasher:
        import hashlib

        return hashlib.new(self._algorithm)

    def _comparable(self, expected: Digest, actual: Digest) -> Digest:
        """The actual digest, when both are of one algorithm; another algorithm needs a writer made for it."""
        if expected.algorithm != actual.algorithm:
            raise Internal(f"a {actual.algorithm} writer cannot check {expected}")
        return actual
