"""The byte driver: where blobs lie, and nothing else.

A driver keeps bytes by digest and uploads by name. It trusts its caller about digests (`store.writing` verifies), knows
no index and takes no locks beyond one writer for each upload. The shape fits object stores: an upload is a multipart
upload, `commit` completes it under its final key, `path` is None.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, Protocol

from lamina.errors import Conflict, NotFound
from lamina.spec.digest import Digest
from lamina.values import dataclass


class BlobNotFound(NotFound):
    """No such blob.

    Attributes:
        digest: of the blob.
    """

    def __init__(self, digest: Digest) -> None:
        super().__init__(f"blob {digest} is not in the store")
        self.digest = digest


class UploadBusy(Conflict):
    """Another writer has the upload.

    Attributes:
        name: of the upload.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"upload {name} is being written by another process")
        self.name = name


@dataclass(frozen=True, slots=True)
class Partial:
    """An upload that was begun and not finished.

    Attributes:
        name: its name.
        size: bytes there.
        disk: bytes it takes.
        modified: seconds since the epoch of its last write.
        busy: a writer has it open now.
    """

    name: str
    size: int
    disk: int
    modified: float
    busy: bool


class Upload(Protocol):
    """Bytes on their way to become a blob. Used by one thread at a time."""

    @property
    def offset(self) -> int:
        """Bytes there already; the next write goes here."""
        ...

    def existing(self) -> Iterator[bytes]:
        """The bytes there already, from the start, in chunks."""
        ...

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Appends."""

    def restart(self) -> None:
        """Forgets everything written."""

    def commit(self, digest: Digest) -> None:
        """Makes the bytes the blob of this digest: durable, then visible as a whole; replaces one that is there."""

    def close(self) -> None:
        """Stops writing; what was written stays, to be resumed by name."""

    def cancel(self) -> None:
        """Stops writing and forgets the upload."""


class ByteDriver(Protocol):
    """Where blobs lie. Methods may be called from any thread."""

    def size(self, digest: Digest) -> int | None:
        """Bytes of a blob; None when it is not there."""
        ...

    def open(self, digest: Digest) -> BinaryIO:
        """A seekable reader at the start of a blob.

        Raises:
            BlobNotFound: it is not there.
        """
        ...

    def path(self, digest: Digest) -> str | None:
        """A file that holds exactly the blob, for sendfile(2); None when this driver has none, or no such blob."""
        ...

    def list(self) -> Iterator[tuple[Digest, int]]:
        """Every blob with its size, in no order."""
        ...

    def delete(self, digest: Digest) -> int:
        """Removes a blob; returns the bytes of storage freed, 0 when it was not there."""
        ...

    def begin(self, name: str, *, resume: bool = True) -> Upload:
        """Starts an upload, or goes on with the one of this name.

        Raises:
            UploadBusy: another writer has it.
        """
        ...

    def partials(self) -> Iterator[Partial]:
        """The uploads that are not finished."""
        ...

    def drop(self, name: str) -> int:
        """Forgets an upload that nobody writes; returns the bytes freed, 0 when it is busy or gone."""
        ...
