"""The build cache as users see and prune it (C47): one record for each tree, however many keys lead to it."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final

from lamina.engine.filters import Filters, Pairs
from lamina.spec.timestamp import parse_rfc3339
from lamina.values import dataclass

if TYPE_CHECKING:
    from lamina.engine.engine import Engine

_FILTERS: Final = frozenset({"until", "unused-for", "id", "shared", "private"})


@dataclass(frozen=True, slots=True)
class CacheRecord:
    """A tree of the build cache.

    Attributes:
        id: of its snapshot.
        created_at, last_used_at: RFC 3339.
        size: bytes of content of this step alone.
        shared: an image has the same tree, so that pruning the record frees nothing.
        keys: how many cache keys lead to it.
    """

    id: str
    created_at: str
    last_used_at: str
    size: int
    shared: bool
    keys: int


@dataclass(frozen=True, slots=True)
class CachePruned:
    """What a prune did: ids of records that are gone, and bytes of disk that are free now."""

    removed: tuple[str, ...]
    bytes: int


class BuildCache:
    """The build cache of one store."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def all(self) -> list[CacheRecord]:
        """Every record, least recently used first."""
        with self._engine.store.db.read() as connection:
            rows = connection.execute(
                "SELECT c.snapshot, min(c.created_at), max(c.last_used_at), max(c.size), count(*),"
                " EXISTS (SELECT 1 FROM layers AS l JOIN image_layers AS i ON i.chain_id = l.chain_id"
                " WHERE l.snapshot = c.snapshot)"
                " FROM build_cache AS c WHERE c.snapshot IS NOT NULL GROUP BY c.snapshot ORDER BY 3, 1"
            ).fetchall()
        return [CacheRecord(row[0], row[1], row[2], row[3] or 0, bool(row[5]), row[4]) for row in rows]

    def prune(self, filters: Pairs = (), *, all: bool = False, keep: int = 0) -> CachePruned:
        """Forgets records that nothing needs, the least recently used first.

        Args:
            filters: `until` or `unused-for` (not used for that long), `id`, `shared`, `private`.
            all: also those that an image shares.
            keep: stop once the rest takes at most so many bytes; 0 keeps nothing.

        Raises:
            InvalidFilter, InvalidMoment: malformed filters.
        """
        chosen = Filters([("until" if key == "unused-for" else key, value) for key, value in filters], _FILTERS)
        until = chosen.until(self._engine.clock())
        records = self.all()
        left = sum(record.size for record in records)
        doomed = []
        for record in records:
            if keep and left <= keep:
                break
            if self._goes(record, chosen, until, all=all):
                doomed.append(record.id)
                left -= record.size
        if not doomed:
            return CachePruned((), 0)
        with self._engine.store.db.write() as connection:
            connection.executemany("DELETE FROM build_cache WHERE snapshot = ?", [(key,) for key in doomed])
        return CachePruned(tuple(doomed), self._engine.images.collect())

    @staticmethod
    def _goes(record: CacheRecord, filters: Filters, until: datetime | None, *, all: bool) -> bool:
        if until is not None and parse_rfc3339(record.last_used_at) >= until:
            return False
        if "id" in filters and not any(record.id.startswith(wanted) for wanted in filters.values("id")):
            return False
        shared, private = filters.flag("shared"), filters.flag("private")
        if shared is not None or private is not None:
            return shared in {None, record.shared} and private in {None, not record.shared}
        return all or not record.shared
