"""Blobs of a repository: membership decides who sees them, the content store holds them (threat 50, F11)."""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO, Final

from lamina.registry.cache import NameCache
from lamina.registry.config import RegistryConfig
from lamina.registry.content import Content
from lamina.registry.errors import BlobUnknown, DamagedContent, DeleteDisabled
from lamina.registry.metadata.protocol import Metadata
from lamina.registry.names import Repository
from lamina.spec.digest import Digest
from lamina.store.backends.driver import BlobNotFound

#: How many repositories are asked about when a mount names no source.
_MOUNT_CANDIDATES: Final = 50


class Blobs:
    """Read, mount and delete. Synchronous and thread-safe."""

    def __init__(self, config: RegistryConfig, metadata: Metadata, content: Content) -> None:
        self._config, self._metadata, self._content = config, metadata, content
        self._sizes: NameCache[int] = NameCache(metadata)

    def stat(self, repository: Repository, digest: Digest) -> int:
        """The size in bytes of a blob that the repository holds and the store really has.

        Raises:
            BlobUnknown: not a member, or its bytes are lost.
            DamagedContent: the bytes have another length than the blob; they were put aside (F20).
        """
        size = self._size(repository, digest)
        found = self._content.driver.size(digest)
        if found is None:
            raise BlobUnknown(repository, digest)
        if found != size:
            self._content.verify(digest)
            raise DamagedContent(digest)
        return size

    def _size(self, repository: Repository, digest: Digest) -> int:
        """The size of a member; from memory while the database did not change."""
        key = (repository, digest)
        size = self._sizes.lookup(key)
        if size is None:
            generation = self._sizes.generation()
            size = self._metadata.blob_size(repository, digest)
            if size is None:
                raise BlobUnknown(repository, digest)
            self._sizes.store(key, size, generation)
        return size

    def open(self, repository: Repository, digest: Digest) -> tuple[BinaryIO, int]:
        """The bytes and their number; the caller closes. Raises as `stat` does."""
        size = self.stat(repository, digest)
        try:
            return self._content.driver.open(digest), size
        except BlobNotFound:
            raise BlobUnknown(repository, digest) from None

    def mount(
        self,
        repository: Repository,
        digest: Digest,
        source: Repository | None,
        may_read: Callable[[Repository], bool],
    ) -> bool:
        """Make a blob of another repository a member of this one (R05).

        Args:
            repository: where it goes.
            digest: what.
            source: where it is; None looks in every repository.
            may_read: whether the caller may pull from a repository; what it refuses counts as absent.

        Returns:
            Whether it was found and mounted.
        """
        candidates = [source] if source else self._metadata.repositories_with_blob(digest, _MOUNT_CANDIDATES)
        for candidate in candidates:
            if not may_read(candidate):
                continue
            try:
                size = self.stat(candidate, digest)
            except (BlobUnknown, DamagedContent):
                continue
            self._metadata.add_blob(repository, digest, size)
            return True
        return False

    def delete(self, repository: Repository, digest: Digest) -> None:
        """End the blob's membership; its bytes stay for other repositories and for the collector.

        Raises:
            DeleteDisabled: by configuration.
            BlobUnknown: not a member.
        """
        if not self._config.delete_enabled:
            raise DeleteDisabled
        if not self._metadata.remove_blob(repository, digest):
            raise BlobUnknown(repository, digest)
