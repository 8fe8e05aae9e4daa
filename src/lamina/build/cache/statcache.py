"""Digests of context files, remembered while a file's inode, size and times stand still (design.md, section 3).

A file changed within the clock's grain of the moment it was hashed could change again unseen, so such files are not
remembered (the problem that git calls racy).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Final

from lamina.spec.timestamp import utc_now
from lamina.store.db import Database

#: A file must have rested this long before its digest is remembered.
REST_NS: Final = 100_000_000
_Row = tuple[int, int, int, int]


class StatCache:
    """Digests of the files below one directory.

    Args:
        db: the store's index.
        root: absolute path of the directory; its rows are read at once, in one query.
        clock: to tell whether a file has rested.
    """

    def __init__(self, db: Database, root: str, clock: Callable[[], datetime] = utc_now) -> None:
        self._db, self._clock = db, clock
        self._prefix = os.fsencode(root.rstrip("/") + "/").hex()
        self._lock = threading.Lock()
        self._known: dict[str, tuple[_Row, str]] | None = None
        self._new: dict[str, tuple[_Row, str]] = {}

    def get(self, path: str, facts: os.stat_result) -> bytes | None:
        """The digest of a file that has not changed since it was remembered, or None."""
        with self._lock:
            if self._known is None:
                self._known = self._load()
            key = _key(path)
            found = self._new.get(key) or self._known.get(key)
        return bytes.fromhex(found[1]) if found is not None and found[0] == _row(facts) else None

    def put(self, path: str, facts: os.stat_result, digest: bytes) -> None:
        """Remember a digest, if the file has rested."""
        now = int(self._clock().timestamp() * 1e9)
        if max(facts.st_mtime_ns, facts.st_ctime_ns) > now - REST_NS:
            return
        with self._lock:
            self._new[_key(path)] = (_row(facts), digest.hex())

    def flush(self) -> None:
        """Write what is new, in one transaction."""
        with self._lock:
            new = dict(self._new)
            self._new.clear()
        if not new:
            return
        rows = [(key, *row, digest) for key, (row, digest) in new.items()]
        with self._db.write() as connection:
            connection.executemany("INSERT OR REPLACE INTO stat_cache VALUES (?, ?, ?, ?, ?, ?)", rows)

    def _load(self) -> dict[str, tuple[_Row, str]]:
        # Paths are stored as hex of their bytes: names need not be UTF-8, and a prefix is a range.
        with self._db.read() as connection:
            rows = connection.execute(
                "SELECT path, inode, size, mtime_ns, ctime_ns, digest FROM stat_cache WHERE path >= ? AND path < ?",
                (self._prefix, self._prefix + "g"),
            ).fetchall()
        return {row[0]: (row[1:5], row[5]) for row in rows}


def _key(path: str) -> str:
    return os.fsencode(path).hex()


def _row(facts: os.stat_result) -> _Row:
    return facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns
