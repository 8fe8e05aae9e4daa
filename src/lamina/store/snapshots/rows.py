"""The index's side of snapshots: queries, and the description that lies beside each tree."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Mapping
from typing import Any, Final

from lamina.store.files import Files, raise_typed
from lamina.store.leases import SNAPSHOT
from lamina.store.paths import FILE
from lamina.store.snapshots.values import Snapshot

_COLUMNS: Final = "key, parent, kind, dir, size, disk, inodes, created_at, last_used_at"
_ALL: Final = f"SELECT {_COLUMNS} FROM snapshots"  # noqa: S608 - constants only, here and below
_CHAIN: Final = f"""
    WITH RECURSIVE chain(depth, {_COLUMNS}) AS (
        SELECT 0, {_COLUMNS} FROM snapshots WHERE key = ?
        UNION ALL
        SELECT depth + 1, {", ".join(f"s.{column}" for column in _COLUMNS.split(", "))}
        FROM snapshots AS s JOIN chain ON s.key = chain.parent
        WHERE depth < 1000
    )
    SELECT {_COLUMNS} FROM chain ORDER BY depth
"""  # noqa: S608


def row_of(connection: sqlite3.Connection, key: str) -> Snapshot | None:
    """The snapshot with this key."""
    row = connection.execute(f"{_ALL} WHERE key = ?", (key,)).fetchone()
    return None if row is None else Snapshot(*row)


def all_rows(connection: sqlite3.Connection) -> list[Snapshot]:
    """Every snapshot."""
    return [Snapshot(*row) for row in connection.execute(_ALL)]


def children_of(connection: sqlite3.Connection, key: str) -> list[Snapshot]:
    """The snapshots that stand on this one."""
    return [Snapshot(*row) for row in connection.execute(f"{_ALL} WHERE parent = ?", (key,))]


def chain_of(connection: sqlite3.Connection, key: str) -> list[Snapshot]:
    """The snapshot and everything it stands on, topmost first; empty when there is no such snapshot."""
    return [Snapshot(*row) for row in connection.execute(_CHAIN, (key,))]


def user_of(connection: sqlite3.Connection, key: str) -> str | None:
    """What stands on a snapshot, in words; leases do not count."""
    for query, what in (
        ("SELECT key FROM snapshots WHERE parent = ?", "snapshot"),
        ("SELECT chain_id FROM layers WHERE snapshot = ?", "layer"),
        ("SELECT id FROM containers WHERE snapshot_key = ?", "container"),
        ("SELECT key FROM build_cache WHERE snapshot = ?", "build cache record"),
    ):
        row = connection.execute(query, (key,)).fetchone()
        if row is not None:
            return f"{what} {row[0]}"
    return None


def doom(connection: sqlite3.Connection, key: str, directory: str) -> None:
    """Takes a snapshot out of the index within the caller's transaction; `Snapshotter.sweep` removes its files."""
    connection.execute("INSERT OR IGNORE INTO doomed (kind, key) VALUES (?, ?)", (SNAPSHOT, directory))
    connection.execute("DELETE FROM snapshots WHERE key = ?", (key,))
    connection.execute("DELETE FROM lease_items WHERE kind = ? AND key = ?", (SNAPSHOT, key))


def doom_unsynced(connection: sqlite3.Connection, boot: str) -> list[str]:
    """Dooms the trees of earlier boots that no sync made durable, with what stands on them; returns the keys."""
    lost = connection.execute(_LOST, (boot,)).fetchall()
    for key, directory in lost:
        connection.execute("DELETE FROM build_cache WHERE snapshot = ?", (key,))
        connection.execute("DELETE FROM layers WHERE snapshot = ?", (key,))
        doom(connection, key, directory)
    return [str(key) for key, _ in lost]


_LOST: Final = """
    WITH RECURSIVE lost(depth, key, dir) AS (
        SELECT 0, key, dir FROM snapshots WHERE unsynced IS NOT NULL AND unsynced != ?
        UNION
        SELECT depth + 1, s.key, s.dir FROM snapshots AS s JOIN lost ON s.parent = lost.key
    )
    SELECT key, dir FROM lost GROUP BY key ORDER BY max(depth) DESC
"""


def write_description(files: Files, directory: str, document: Mapping[str, Any]) -> None:
    """Writes `snapshot.json`, replacing the old one as a whole.

    Raises:
        StoreFull, StoreIOFailed: the disk refuses.
    """
    path = f"{directory}/snapshot.json"
    try:
        fd = files.create(f"{path}.new")
        try:
            files.truncate(fd, 0)
            files.write(fd, json.dumps(document).encode())
            os.fchmod(fd, FILE)
        finally:
            os.close(fd)
        files.rename(f"{path}.new", path)
    except OSError as error:
        raise_typed(path, error)
