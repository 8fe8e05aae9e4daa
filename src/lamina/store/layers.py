"""Layers: which snapshot holds a chain of layers, and which blobs unpack to a layer.

Keys follow the image specification: a diffID names one layer's tar, a chain id names it together with all below it
(config.md, Layer DiffID and Layer ChainID).
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime

from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest, chain_ids
from lamina.spec.timestamp import rfc3339, utc_now
from lamina.store.db import Database
from lamina.store.files import Files
from lamina.store.leases import SNAPSHOT, Lease
from lamina.store.paths import StorePaths
from lamina.store.records import LayerNotFound
from lamina.store.snapshots import rows
from lamina.values import dataclass


@dataclass(frozen=True, slots=True)
class LayerRecord:
    """An unpacked layer.

    Attributes:
        chain_id: of the layer and all below it.
        parent: chain id of the one below, or None.
        diff_id: digest of its tar.
        snapshot: key of the committed snapshot that shows it with all below it.
        size: bytes of content of this layer alone.
    """

    chain_id: Digest
    parent: Digest | None
    diff_id: Digest
    snapshot: str
    size: int


class LayerStore:
    """The index of layers."""

    def __init__(self, db: Database, paths: StorePaths, files: Files, clock: Callable[[], datetime] = utc_now) -> None:
        self._db, self._paths, self._files, self._clock = db, paths, files, clock

    def find(self, chain_id: Digest, *, lease: Lease | None = None) -> LayerRecord | None:
        """The unpacked layer; None when there is none. With a lease, its snapshot is held from now on."""
        with self._db.read() as connection:
            found = _find(connection, chain_id)
        if found is None or lease is None:
            return found
        with self._db.write() as connection:
            found = _find(connection, chain_id)
            if found is not None:
                lease.add_in(connection, SNAPSHOT, [found.snapshot])
        return found

    def get(self, chain_id: Digest) -> LayerRecord:
        """The unpacked layer.

        Raises:
            LayerNotFound: there is none.
        """
        found = self.find(chain_id)
        if found is None:
            raise LayerNotFound(chain_id)
        return found

    def snapshot_of(self, diff_ids: Iterable[Digest]) -> str | None:
        """The key of the snapshot that shows these layers, bottom first; None for no layers at all.

        Raises:
            LayerNotFound: they are not all unpacked.
        """
        chain = chain_ids(list(diff_ids))
        return self.get(chain[-1]).snapshot if chain else None

    def register(self, diff_ids: Iterable[Digest], snapshot: str) -> LayerRecord:
        """Says that a committed, synced snapshot shows exactly these layers (bottom first): for what was built here.

        The layers below must be registered, and be what the snapshot stands on.

        Raises:
            LayerNotFound: the snapshot or a layer below is not there.
        """
        ids = list(diff_ids)
        chain = chain_ids(ids)
        parent = chain[-2] if len(chain) > 1 else None
        with self._db.write() as connection:
            row = rows.row_of(connection, snapshot)
            if row is None or (parent is not None and _find(connection, parent) is None):
                raise LayerNotFound(chain[-1])
            insert(connection, chain[-1], parent, ids[-1], snapshot)
        self._label(row.directory, chain[-1], ids[-1])
        return self.get(chain[-1])

    def add_blob(self, diff_id: Digest, blob: Descriptor) -> None:
        """Notes that a stored blob unpacks to a layer. A layer may have several: one for each compression."""
        with self._db.write() as connection:
            insert_blob(connection, diff_id, blob, rfc3339(self._clock()))

    def blobs(self, diff_id: Digest) -> list[Descriptor]:
        """The blobs that unpack to a layer, oldest first, by media type, digest and size; some may be gone by now."""
        with self._db.read() as connection:
            found = connection.execute(
                "SELECT media_type, digest, size FROM layer_blobs WHERE diff_id = ? ORDER BY created_at, digest",
                (str(diff_id),),
            ).fetchall()
        return [Descriptor(row[0], Digest.parse(row[1]), row[2]) for row in found]

    def diff_id_of_snapshot(self, snapshot: str) -> Digest | None:
        """The diffID of the layer that a snapshot is known to hold."""
        with self._db.read() as connection:
            row = connection.execute("SELECT diff_id FROM layers WHERE snapshot = ?", (snapshot,)).fetchone()
        return None if row is None else Digest.parse(row[0])

    def diff_id_of(self, blob: Digest) -> Digest | None:
        """The layer that a blob unpacks to, where known."""
        with self._db.read() as connection:
            row = connection.execute("SELECT diff_id FROM layer_blobs WHERE digest = ?", (str(blob),)).fetchone()
        return None if row is None else Digest.parse(row[0])

    def _label(self, directory: str, chain_id: Digest, diff_id: Digest) -> None:
        """Adds the ids to the description beside the tree, from which a lost index is rebuilt."""
        base = self._paths.snapshot(directory)
        with suppress(OSError, ValueError):
            with open(os.path.join(base, "snapshot.json"), "rb") as file:
                document = json.load(file)
            document["labels"] = {"chain_id": str(chain_id), "diff_id": str(diff_id)}
            rows.write_description(self._files, base, document)


def insert(
    connection: sqlite3.Connection, chain_id: Digest, parent: Digest | None, diff_id: Digest, snapshot: str
) -> None:
    """Writes a layer's row, replacing one that pointed at another snapshot."""
    connection.execute(
        "INSERT INTO layers (chain_id, parent, diff_id, snapshot) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (chain_id) DO NOTHING",
        (str(chain_id), None if parent is None else str(parent), str(diff_id), snapshot),
    )


def insert_blob(connection: sqlite3.Connection, diff_id: Digest, blob: Descriptor, now: str) -> None:
    """Writes the row that ties a blob to a layer."""
    connection.execute(
        "INSERT OR IGNORE INTO layer_blobs (diff_id, digest, media_type, size, created_at) VALUES (?, ?, ?, ?, ?)",
        (str(diff_id), str(blob.digest), blob.media_type, blob.size, now),
    )


def _find(connection: sqlite3.Connection, chain_id: Digest) -> LayerRecord | None:
    row = connection.execute(
        "SELECT l.parent, l.diff_id, l.snapshot, s.size FROM layers AS l JOIN snapshots AS s ON s.key = l.snapshot"
        " WHERE l.chain_id = ?",
        (str(chain_id),),
    ).fetchone()
    if row is None:
        return None
    return LayerRecord(chain_id, Digest.parse(row[0]) if row[0] else None, Digest.parse(row[1]), row[2], row[3])
