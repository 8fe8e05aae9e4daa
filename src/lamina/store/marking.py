"""What is alive: one truth, read from the index in one place.

Images live until they are removed. From images, containers, build cache records and leases follow the layers, from
those the snapshots, from images and names the manifests, from all of them the blobs.
"""

from __future__ import annotations

import sqlite3
from typing import Final

_HELD_SNAPSHOTS: Final = """
    SELECT key FROM lease_items WHERE kind = 'snapshot'
    UNION SELECT snapshot FROM build_cache WHERE snapshot IS NOT NULL
    UNION SELECT snapshot_key FROM containers WHERE snapshot_key IS NOT NULL
"""

_LIVE_LAYERS: Final = f"""
    WITH RECURSIVE live(chain_id) AS (
        SELECT chain_id FROM image_layers
        UNION
        SELECT chain_id FROM layers WHERE snapshot IN ({_HELD_SNAPSHOTS})
        UNION
        SELECT l.parent FROM layers AS l JOIN live ON l.chain_id = live.chain_id WHERE l.parent IS NOT NULL
    )
    SELECT chain_id FROM live
"""  # noqa: S608 - constants only, here and below

_LIVE_SNAPSHOTS: Final = f"""
    WITH RECURSIVE live(key) AS (
        SELECT snapshot FROM layers
        UNION {_HELD_SNAPSHOTS}
        UNION
        SELECT s.parent FROM snapshots AS s JOIN live ON s.key = live.key WHERE s.parent IS NOT NULL
    )
    SELECT key FROM live
"""  # noqa: S608

_LIVE_MANIFESTS: Final = """
    WITH RECURSIVE live(digest) AS (
        SELECT target FROM names WHERE target IS NOT NULL
        UNION SELECT digest FROM repo_digests
        UNION SELECT digest FROM manifests WHERE image_id IS NOT NULL
        UNION SELECT key FROM lease_items WHERE kind = 'blob'
        UNION
        SELECT c.digest FROM index_children AS c JOIN live ON c.parent = live.digest
    )
    SELECT digest FROM live
"""

#: Images that a tag points at, or an index that a tag points at.
INDEXED_IMAGES: Final = """
    WITH RECURSIVE below(digest) AS (
        SELECT target FROM names WHERE target IS NOT NULL
        UNION
        SELECT c.digest FROM index_children AS c JOIN below ON c.parent = below.digest
    )
    SELECT DISTINCT m.image_id FROM manifests AS m JOIN below ON m.digest = below.digest WHERE m.image_id IS NOT NULL
"""

_LIVE_BLOBS: Final = """
    SELECT id FROM images
    UNION SELECT digest FROM manifests
    UNION SELECT digest FROM manifest_blobs
    UNION SELECT b.digest FROM layer_blobs AS b WHERE b.diff_id IN
        (SELECT diff_id FROM layers UNION SELECT diff_id FROM image_layers)
    UNION SELECT key FROM lease_items WHERE kind = 'blob'
"""


def drop_layers(connection: sqlite3.Connection) -> list[str]:
    """Removes the layers that no image, container, build cache record or lease needs; returns their chain ids."""
    dead = [
        (str(row[0]), row[1])
        for row in connection.execute(
            f"SELECT chain_id, parent FROM layers WHERE chain_id NOT IN ({_LIVE_LAYERS})"  # noqa: S608
        )
    ]
    connection.executemany("DELETE FROM layers WHERE chain_id = ?", [(chain_id,) for chain_id, _ in dead])
    return _top_down(dead)


def dead_snapshots(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    """(key, directory) of the snapshots that nothing needs, children before parents."""
    found = connection.execute(
        f"SELECT key, dir, parent FROM snapshots WHERE key NOT IN ({_LIVE_SNAPSHOTS})"  # noqa: S608
    ).fetchall()
    directories = {str(row[0]): str(row[1]) for row in found}
    order = _top_down([(str(row[0]), row[2]) for row in found])
    return [(key, directories[key]) for key in order]


def drop_manifests(connection: sqlite3.Connection) -> None:
    """Removes manifests and indexes that no name, image, index or lease needs."""
    connection.execute(f"DELETE FROM manifests WHERE digest NOT IN ({_LIVE_MANIFESTS})")  # noqa: S608


def drop_blobs(connection: sqlite3.Connection) -> list[str]:
    """Takes blobs that nothing needs out of the index; returns their digests. Their bytes are still there."""
    dead = [
        str(row[0])
        for row in connection.execute(f"SELECT digest FROM blobs WHERE digest NOT IN ({_LIVE_BLOBS})")  # noqa: S608
    ]
    connection.executemany("DELETE FROM blobs WHERE digest = ?", [(digest,) for digest in dead])
    connection.executemany("INSERT OR IGNORE INTO doomed (kind, key) VALUES ('blob', ?)", [(each,) for each in dead])
    connection.execute(
        "DELETE FROM layer_blobs WHERE digest NOT IN (SELECT digest FROM blobs)"
        " AND diff_id NOT IN (SELECT diff_id FROM layers UNION SELECT diff_id FROM image_layers)"
    )
    return dead


def _top_down(rows: list[tuple[str, str | None]]) -> list[str]:
    """Keys of a forest given as (key, parent), children before parents."""
    parents = dict(rows)
    depth: dict[str, int] = {}
    for key in parents:
        path = []
        current: str | None = key
        while current is not None and current in parents and current not in depth:
            path.append(current)
            current = parents[current]
        base = depth.get(current, -1) if current is not None else -1
        for step, each in enumerate(reversed(path), start=1):
            depth[each] = base + step
    return sorted(parents, key=lambda each: -depth[each])
