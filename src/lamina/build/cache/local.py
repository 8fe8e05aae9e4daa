"""The build cache in the store's index: keys to snapshots.

Records are gathered while a build runs and written in one transaction by `flush`, after the file system has been synced
once: a power cut loses the newest steps, it never leaves a record whose tree is half on disk (design.md, decision 9).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

from lamina.build.ops.results import Result, Tree
from lamina.spec.digest import Digest
from lamina.spec.timestamp import rfc3339, utc_now
from lamina.store.db import Database

_FIND: Final = """
    SELECT cache.snapshot, cache.doc, cache.last_used_at FROM build_cache AS cache
    JOIN snapshots ON snapshots.key = cache.snapshot AND snapshots.kind = 'committed'
    WHERE cache.key = ?
"""
_RECORD: Final = """
    INSERT INTO build_cache (key, snapshot, doc, created_at, last_used_at, size)
    SELECT ?, key, ?, ?, ?, size FROM snapshots WHERE key = ?
    ON CONFLICT (key) DO UPDATE SET
        snapshot = excluded.snapshot, doc = excluded.doc, last_used_at = excluded.last_used_at, size = excluded.size
"""

#: A use is not noted again this soon: a build that finds everything cached writes nothing.
_FRESH: Final = timedelta(hours=1)


class LocalCache:
    """Results of cacheable operations, by key.

    Args:
        db: the store's index.
        clock: for `created_at` and `last_used_at`.
    """

    def __init__(self, db: Database, clock: Callable[[], datetime] = utc_now) -> None:
        self._db, self._clock = db, clock
        self._lock = threading.Lock()
        self._new: dict[Digest, tuple[Digest, str]] = {}
        self._used: set[Digest] = set()

    def get(self, key: Digest) -> tuple[Digest, Result] | None:
        """The tree known under a key, and the key it was first recorded under; only trees that still exist."""
        with self._lock:
            if (fresh := self._new.get(key)) is not None:
                return fresh[0], Tree(fresh[1])
        with self._db.read() as connection:
            row = connection.execute(_FIND, (str(key),)).fetchone()
        if row is None:
            return None
        if row[2] < rfc3339(self._clock() - _FRESH):
            with self._lock:
                self._used.add(key)
        return Digest.parse(row[1]), Tree(row[0])

    def put(self, key: Digest, aliases: Sequence[Digest], result: Result) -> None:
        """Record a tree under its key and others that lead to it; written by `flush`."""
        if not isinstance(result, Tree) or result.snapshot is None:
            return
        with self._lock:
            for one in (key, *aliases):
                self._new[one] = (key, result.snapshot)

    def flush(self) -> None:
        """Write what was recorded and used. Call it when the trees are on stable storage."""
        with self._lock:
            new, used = dict(self._new), set(self._used)
            self._new.clear()
            self._used.clear()
        if not new and not used:
            return
        now = rfc3339(self._clock())
        with self._db.write() as connection:
            connection.executemany(
                _RECORD, [(str(key), str(first), now, now, snapshot) for key, (first, snapshot) in new.items()]
            )
            connection.executemany(
                "UPDATE build_cache SET last_used_at = ? WHERE key = ?", [(now, str(key)) for key in used]
            )
