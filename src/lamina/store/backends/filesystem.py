"""Blobs as files: `blobs/ALGORITHM/HEX`, uploads as `ingest/NAME.part`.

An upload's file is locked by its writer. Commit is fsync, rename, fsync of the directory, in this order, so a blob's
name never shows bytes that a power cut can take back (F1).
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO, Final

from lamina.errors import Internal
from lamina.spec.digest import HEX_LENGTH, Digest, InvalidDigest
from lamina.store import paths
from lamina.store.backends.driver import BlobNotFound, Partial, UploadBusy
from lamina.store.files import Files, StoreIOFailed, raise_typed

_CHUNK: Final = 1 << 20
_ATTEMPTS: Final = 25
_PAUSE: Final = 0.02


class FilesystemDriver:
    """The byte driver of a directory."""

    def __init__(self, blobs: str, ingest: str, files: Files) -> None:
        """Args: `blobs` and `ingest` are existing directories of one file system."""
        self._blobs, self._ingest, self._files = blobs, ingest, files

    def size(self, digest: Digest) -> int | None:
        """Bytes of a blob; None when it is not there."""
        try:
            return os.stat(paths.blob_file(self._blobs, digest), follow_symlinks=False).st_size
        except FileNotFoundError:
            return None

    def open(self, digest: Digest) -> BinaryIO:
        """A seekable reader, which is the open file.

        Raises:
            BlobNotFound: it is not there.
            StoreIOFailed: it cannot be opened.
        """
        path = paths.blob_file(self._blobs, digest)
        try:
            return os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW), "rb")
        except FileNotFoundError:
            raise BlobNotFound(digest) from None
        except OSError as error:
            raise StoreIOFailed(path, error) from error

    def path(self, digest: Digest) -> str | None:
        """The file of the blob."""
        path = paths.blob_file(self._blobs, digest)
        return path if os.path.exists(path) else None

    def list(self) -> Iterator[tuple[Digest, int]]:
        """Every blob with its size; files that are no blobs are passed over."""
        for algorithm in HEX_LENGTH:
            try:
                entries = os.scandir(f"{self._blobs}/{algorithm}")
            except FileNotFoundError:
                continue
            with entries:
                for entry in entries:
                    try:
                        yield Digest.parse(f"{algorithm}:{entry.name}"), entry.stat(follow_symlinks=False).st_size
                    except (InvalidDigest, FileNotFoundError):
                        continue

    def delete(self, digest: Digest) -> int:
        """Removes a blob; returns the bytes of disk freed.

        Raises:
            StoreIOFailed: the file cannot be removed.
        """
        path = paths.blob_file(self._blobs, digest)
        try:
            disk = os.stat(path, follow_symlinks=False).st_blocks * 512
            self._files.unlink(path)
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise_typed(path, error)
        return disk

    def begin(self, name: str, *, resume: bool = True) -> FileUpload:
        """Starts an upload, or goes on with the one of this name.

        Raises:
            UploadBusy: another writer has it.
            StoreFull, StoreIOFailed: its file cannot be made.
        """
        path = paths.part_file(self._ingest, name)
        while True:
            try:
                fd = self._files.create(path)
            except OSError as error:
                raise_typed(path, error)
            try:
                if not _locked_soon(fd):
                    raise UploadBusy(name)
                if not _still(fd, path):
                    # Dropped between open and lock: the name is free again.
                    os.close(fd)
                    continue
                upload = FileUpload(path, fd, self._blobs, self._files)
                if not resume:
                    upload.restart()
            except OSError as error:
                os.close(fd)
                raise_typed(path, error)
            except BaseException:
                os.close(fd)
                raise
            return upload

    def partials(self) -> Iterator[Partial]:
        """The uploads that are not finished."""
        with os.scandir(self._ingest) as entries:
            for entry in entries:
                name = paths.part_name(entry.name)
                if name is None:
                    continue
                try:
                    info = entry.stat(follow_symlinks=False)
                    fd = os.open(entry.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
                except OSError:
                    continue
                try:
                    busy = not _lock(fd)
                finally:
                    os.close(fd)
                yield Partial(name, info.st_size, info.st_blocks * 512, info.st_mtime, busy)

    def drop(self, name: str) -> int:
        """Forgets an upload that nobody writes."""
        path = paths.part_file(self._ingest, name)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return 0
        try:
            if not _lock(fd) or not _still(fd, path):
                return 0
            disk = os.fstat(fd).st_blocks * 512
            self._files.unlink(path)
            return disk
        except OSError as error:
            raise_typed(path, error)
        finally:
            os.close(fd)


class FileUpload:
    """An upload in a file, which is locked while this object has it open."""

    def __init__(self, path: str, fd: int, blobs: str, files: Files) -> None:
        self._path, self._fd, self._blobs, self._files = path, fd, blobs, files
        self._offset = os.lseek(fd, 0, os.SEEK_END)

    @property
    def offset(self) -> int:
        """Bytes there already."""
        return self._offset

    def existing(self) -> Iterator[bytes]:
        """The bytes there already, in chunks of up to 1 MiB."""
        position = 0
        while position < self._offset:
            chunk = os.pread(self._fd, min(_CHUNK, self._offset - position), position)
            if not chunk:
                raise StoreIOFailed(self._path, OSError(errno.EIO, "the file shrank while it was read"))
            position += len(chunk)
            yield chunk

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Appends.

        Raises:
            StoreFull, StoreIOFailed: the disk refuses.
        """
        if self._fd < 0:
            raise Internal(f"{self._path} was written after it was closed")
        try:
            self._files.write(self._fd, data)
        except OSError as error:
            raise_typed(self._path, error)
        self._offset += len(data)

    def restart(self) -> None:
        """Forgets everything written."""
        try:
            self._files.truncate(self._fd, 0)
        except OSError as error:
            raise_typed(self._path, error)
        self._offset = 0

    def commit(self, digest: Digest) -> None:
        """Makes the file the blob of this digest.

        Raises:
            StoreFull, StoreIOFailed: the disk refuses; the upload stays.
        """
        target = paths.blob_file(self._blobs, digest)
        directory = os.path.dirname(target)
        try:
            self._files.sync(self._fd)
            if not os.path.isdir(directory):
                with suppress(FileExistsError):
                    self._files.mkdir(directory, paths.DIRECTORY)
                self._files.sync_dir(self._blobs)
            self._files.rename(self._path, target)
            self._files.sync_dir(directory)
        except OSError as error:
            raise_typed(target, error)
        self.close()

    def close(self) -> None:
        """Stops writing; what was written stays."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def cancel(self) -> None:
        """Stops writing and forgets the upload."""
        if self._fd < 0:
            return
        try:
            with suppress(FileNotFoundError):
                self._files.unlink(self._path)
        except OSError as error:
            raise_typed(self._path, error)
        finally:
            self.close()


def _locked_soon(fd: int) -> bool:
    """Lock a file that whoever lists or drops uploads may hold for a moment; a writer holds it for long."""
    for _attempt in range(_ATTEMPTS):
        if _lock(fd):
            return True
        time.sleep(_PAUSE)
    return _lock(fd)


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno == errno.EWOULDBLOCK:
            return False
        raise
    return True


def _still(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.lstat(path))
    except FileNotFoundError:
        return False
