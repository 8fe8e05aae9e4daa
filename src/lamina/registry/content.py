"""The registry's use of the content store's byte driver: its directories, small blobs, damaged blobs."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from typing import Final

from lamina.spec.digest import HEX_LENGTH, Digest
from lamina.store.backends.driver import ByteDriver
from lamina.store.backends.filesystem import FilesystemDriver
from lamina.store.files import Files

_PRIVATE: Final = 0o700


def make_private(path: str) -> str:
    """Create a directory tree whose last part only its owner may enter, whatever the umask (threat 59)."""
    os.makedirs(path, mode=_PRIVATE, exist_ok=True)
    os.chmod(path, _PRIVATE)
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

    def set_aside(self, digest: Digest) -> None:
        """Damaged bytes are not found any more, so that a push of the same blob repairs it (F20)."""
        path = self.driver.path(digest)
        if path and self._quarantine:
            with suppress(FileNotFoundError):
                os.rename(path, os.path.join(make_private(self._quarantine), f"{digest.algorithm}-{digest.hex}"))
        else:
            self.driver.delete(digest)
