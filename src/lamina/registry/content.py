"""The registry's use of the content store's byte driver: its directories, small blobs, damaged blobs."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from typing import BinaryIO, Final

from lamina.spec.digest import HEX_LENGTH, Digest
from lamina.store.backends.driver import BlobNotFound, ByteDriver
from lamina.store.backends.filesystem import FilesystemDriver
from lamina.store.files import Files, raise_typed

_PRIVATE: Final = 0o700
_CHUNK: Final = 1 << 20


def make_private(path: str) -> str:
    """Create a directory tree whose last part only its owner may enter, whatever the umask (threat 59).

    Raises:
        StoreFull, StoreIOFailed: it cannot be made.
    """
    try:
        os.makedirs(path, mode=_PRIVATE, exist_ok=True)
        os.chmod(path, _PRIVATE)
    except OSError as error:
        raise_typed(path, error)
    return path


def open_directory(root: str) -> FilesystemDriver:
    """Content in a directory: `blobs/ALGORITHM/HEX`, and `uploads/` for what is not complete."""
    blobs, uploads = make_private(f"{root}/blobs"), make_private(f"{root}/uploads")
    for algorithm in HEX_LENGTH:
        make_private(f"{blobs}/{algorithm}")
    return FilesystemDriver(blobs, uploads, Files())


class Content:
    """Bytes by digest. Which repository may show them is the metadata's business. Thread-safe."""

    def __init__(self, driver: ByteDriver, quarantine: str | None = None) -> None:
        """Args: `quarantine` is where damaged blobs are kept for the operator; without it they are dropped."""
        self.driver, self._quarantine = driver, quarantine

    def put(self, digest: Digest, data: bytes) -> None:
        """Store bytes that the caller verified; durable on return. A copy that is there is replaced, so repaired."""
        upload = self.driver.begin(f"put-{secrets.token_hex(16)}")
        try:
            upload.write(data)
            upload.commit(digest)
        except BaseException:
            upload.cancel()
            raise

    def verify(self, digest: Digest) -> bool:
        """Read a blob in full; a damaged one is set aside, so that a push of the same blob repairs it (F20).

        Returns:
            Whether it is whole. A blob that is not there is not damaged: True.
        """
        try:
            file = self.driver.open(digest)
        except BlobNotFound:
            return True
        with file:
            hasher = digest.hasher()
            while chunk := file.read(_CHUNK):
                hasher.update(chunk)
            if Digest.from_hasher(hasher, digest.algorithm) == digest:
                return True
            self._set_aside(digest, file)
        return False

    def _set_aside(self, digest: Digest, damaged: BinaryIO) -> None:
        """Move the damaged file away, and no other: a push may have repaired the blob since it was opened."""
        path = self.driver.path(digest)
        if path is None or self._quarantine is None:
            self.driver.delete(digest)
            return
        aside = os.path.join(make_private(self._quarantine), f"{digest.algorithm}-{digest.hex}")
        with suppress(FileNotFoundError):
            os.rename(path, aside)
            if not os.path.samestat(os.stat(aside), os.fstat(damaged.fileno())):
                os.rename(aside, path)
