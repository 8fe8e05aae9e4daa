"""Digest and size checked while streaming: the one reader wrapper that every transport uses (threat 10)."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from lamina.errors import Integrity, LimitExceeded

if TYPE_CHECKING:
    from lamina.image.protocols import Readable
    from lamina.spec.descriptor import Descriptor
    from lamina.spec.digest import Digest


class DigestMismatch(Integrity):
    """The bytes hash to something else than the descriptor says."""

    def __init__(self, what: str, wanted: Digest, got: Digest) -> None:
        super().__init__(f"{what}: digest mismatch: want {wanted}, got {got}")
        self.what, self.wanted, self.got = what, wanted, got


class SizeMismatch(Integrity):
    """There are more or fewer bytes than the descriptor says."""

    def __init__(self, what: str, wanted: int, got: int) -> None:
        more = got > wanted
        super().__init__(f"{what}: size mismatch: want {wanted} bytes, got {'more' if more else str(got)}")
        self.what, self.wanted, self.got = what, wanted, got


class VerifyingReader:
    """Passes bytes through and raises at the first byte too many, or at the end when size or digest are wrong.

    The last bytes are handed out only after the digest was found right, so a consumer that reads `descriptor.size`
    bytes without an error holds exactly the blob.
    """

    __slots__ = ("_count", "_hasher", "_stream", "_wanted", "_what")

    def __init__(self, stream: Readable, wanted: Descriptor, what: str = "") -> None:
        self._stream, self._wanted = stream, wanted
        self._what = what or f"blob {wanted.digest}"
        self._hasher = wanted.digest.hasher()
        self._count = 0

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes.

        Raises:
            SizeMismatch: too many bytes, or too few at the end.
            DigestMismatch: the whole blob hashes to another digest.
        """
        left = self._wanted.size - self._count
        data = self._stream.read(left + 1 if size < 0 else size)
        if size < 0:
            data = self._rest(data, left + 1)
        if not data:
            if size != 0 and left:
                raise SizeMismatch(self._what, self._wanted.size, self._count)
            if self._count == 0 and size != 0:
                self._check()
            return data
        if len(data) > left:
            raise SizeMismatch(self._what, self._wanted.size, self._count + len(data))
        self._hasher.update(data)
        self._count += len(data)
        if len(data) == left:
            self._check()
        elif size < 0:
            raise SizeMismatch(self._what, self._wanted.size, self._count)
        return data

    def _rest(self, data: bytes, limit: int) -> bytes:
        parts, have = [data], len(data)
        while parts[-1] and have < limit:
            parts.append(self._stream.read(limit - have))
            have += len(parts[-1])
        return b"".join(parts) if len(parts) > 2 else data

    def _check(self) -> None:
        got = type(self._wanted.digest).from_hasher(self._hasher, self._wanted.digest.algorithm)
        if got != self._wanted.digest:
            raise DigestMismatch(self._what, self._wanted.digest, got)

    def close(self) -> None:
        """Close the stream beneath."""
        self._stream.close()

    def __enter__(self) -> VerifyingReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_document(stream: Readable, descriptor: Descriptor, what: str, *, limit: int) -> bytes:
    """Read a small blob whole, verified; closes the stream.

    Raises:
        LimitExceeded: the descriptor announces more than `limit` bytes (threat 14).
        SizeMismatch, DigestMismatch: the bytes are not those described.
    """
    try:
        if descriptor.size > limit:
            raise LimitExceeded(f"{what}: {descriptor.size} bytes exceed the limit of {limit}")
        return VerifyingReader(stream, descriptor, what).read()
    finally:
        stream.close()
