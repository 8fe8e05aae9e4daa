"""Lists, a page at a time: tags, repositories and referrers (R10, R11, R13; threat 53)."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from lamina.registry.config import RegistryConfig
from lamina.registry.errors import DamagedContent, ManifestUnknown, NameUnknown
from lamina.registry.manifests import Manifests
from lamina.registry.metadata.protocol import ManifestRecord, Metadata
from lamina.registry.names import Repository, Tag
from lamina.spec.digest import Digest
from lamina.spec.distribution import referrers_tag
from lamina.spec.manifest import Index, parse_manifest
from lamina.values import dataclass

T = TypeVar("T")
#: Referrers of one page carry at most this many bytes of annotations, so that a page stays below manifest size.
_PAGE_BYTES: Final = 3 << 20
_DESCRIPTOR_BYTES: Final = 512


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a list; `more` says whether another follows."""

    items: list[T]
    more: bool


class Listing:
    """Synchronous and thread-safe."""

    def __init__(self, config: RegistryConfig, metadata: Metadata, manifests: Manifests) -> None:
        self._config, self._metadata, self._manifests = config, metadata, manifests

    def _clamp(self, count: int | None) -> int:
        return self._config.max_page if count is None else min(count, self._config.max_page)

    def tags(self, repository: Repository, count: int | None, last: str) -> Page[Tag]:
        """Tags in byte order, past `last`, which need not exist; none when `count` is 0.

        Raises:
            NameUnknown: nothing was ever stored under the name.
        """
        limit = self._clamp(count)
        found = self._metadata.tags(repository, last, limit + 1)
        if not found and not self._metadata.has_repository(repository):
            raise NameUnknown(repository)
        return Page(found[:limit], more=bool(limit) and len(found) > limit)

    def repositories(self, count: int | None, last: str, may_read: Callable[[Repository], bool]) -> Page[Repository]:
        """Repositories that hold a manifest and that the caller may pull from."""
        limit = self._clamp(count)
        readable: list[Repository] = []
        while limit and len(readable) <= limit:
            batch = self._metadata.repositories(last, limit + 1)
            readable += [name for name in batch if may_read(name)]
            if len(batch) <= limit:
                break
            last = batch[-1]
        return Page(readable[:limit], more=len(readable) > limit)

    def referrers(
        self, repository: Repository, subject: Digest, artifact_type: str, count: int | None, last: str
    ) -> Page[ManifestRecord]:
        """Manifests that name a subject, those listed under its fallback tag included (R11). Never NotFound."""
        limit = max(1, self._clamp(count))
        direct = self._metadata.referrers(repository, subject, artifact_type, last, limit + 1)
        folded = [
            record
            for record in self._fallback(repository, subject)
            if str(record.digest) > last and artifact_type in {"", record.artifact_type}
        ]
        merged = heapq.merge(direct, folded, key=lambda record: str(record.digest))
        return _fill(list({record.digest: record for record in merged}.values()), limit)

    def _fallback(self, repository: Repository, subject: Digest) -> list[ManifestRecord]:
        """Manifests of this repository that the referrers tag schema lists for a subject."""
        try:
            stored = self._manifests.get(repository, Tag(referrers_tag(subject)))
        except (NameUnknown, ManifestUnknown, DamagedContent):
            return []
        index = parse_manifest(stored.data, stored.record.media_type)
        if not isinstance(index, Index):
            return []
        found = (self._metadata.manifest(repository, child.digest) for child in index.manifests)
        return sorted((record for record in found if record), key=lambda record: str(record.digest))


def _fill(records: list[ManifestRecord], limit: int) -> Page[ManifestRecord]:
    """As many records as fit a page, at least one."""
    size = 0
    for number, record in enumerate(records):
        size += _DESCRIPTOR_BYTES + sum(len(key) + len(value) for key, value in record.annotations.items())
        if number == limit or (number and size > _PAGE_BYTES):
            return Page(records[:number], more=True)
    return Page(records, more=False)
