"""Containers, kept beside the index, so that a lost index comes back with them (F5, ADR 0015).

`containers/ID/record.json` holds what the index says of one container: its own row, and those of its writable layer,
addresses, ports, networks and volumes. As with the names of images it is written after the transaction, always as a
whole, and whoever writes last has read last; a process that died in between is made up for by the container's next
change or `fsck --repair`. The rows are their owners': nothing here looks into them.
"""

from __future__ import annotations

import json
import os
import sqlite3
from typing import Any, Final

from lamina.store import locks
from lamina.store.db import Database
from lamina.store.files import Files, raise_typed
from lamina.store.paths import StorePaths

_VERSION: Final = 1
_LIMIT: Final = 64 << 20
_CONTAINER: Final = "id, name, created_at, image_id, snapshot_key, doc"
_NETWORK: Final = "name, id, created_at, doc"

#: What is kept, by table: columns, and which rows; `?` is the container's id.
_KEPT: Final = {
    "containers": (_CONTAINER, "id = ?"),
    "snapshots": (
        "key, parent, dir, created_at, last_used_at",
        "kind = 'active' AND key = (SELECT snapshot_key FROM containers WHERE id = ?)",
    ),
    "endpoints": ("container_id, network, ip, mac, doc", "container_id = ?"),
    "ports": ("proto, host_ip, host_port, container_id", "container_id = ?"),
    "networks": (
        _NETWORK,
        """name IN (SELECT network FROM endpoints WHERE container_id = ?1)
           OR name = (SELECT json_extract(doc, '$.options.network') FROM containers WHERE id = ?1)""",
    ),
    "volumes": (
        "name, created_at, doc",
        """name IN (SELECT json_extract(mount.value, '$.source')
                   FROM containers AS c, json_each(c.doc, '$.mounts') AS mount WHERE c.id = ?)""",
    ),
}


def record_file(root: str, container_id: str) -> str:
    """The file of one container of the store at `root`."""
    return f"{root}/containers/{container_id}/record.json"


def keep(db: Database, container_id: str, *, durable: bool = True) -> None:
    """Makes a container's file say what the index says now. A container without a directory has no file.

    Args:
        db: the index.
        container_id: of the container.
        durable: the file is on disk when this returns. Without, a power cut may leave none, or an empty one.

    Raises:
        StoreFull, StoreIOFailed: the disk refuses.
    """
    files = Files()
    path = record_file(os.path.dirname(db.path), container_id)
    directory = os.path.dirname(path)
    try:
        with locks.directory(directory):
            text = _text(db, container_id)
            if text is None:
                return
            fresh = not os.path.lexists(path)
            fd = files.create(f"{path}.new")
            try:
                files.truncate(fd, 0)
                files.write(fd, text)
                if durable:
                    files.sync(fd)
            finally:
                os.close(fd)
            files.rename(f"{path}.new", path)
            if durable and fresh:
                files.sync_dir(directory)
                files.sync_dir(os.path.dirname(directory))
    except FileNotFoundError:
        return  # it has none, or was removed meanwhile
    except OSError as error:
        raise_typed(path, error)


def outdated(db: Database) -> list[str]:
    """The ids of the containers whose files do not say what the index says."""
    root = os.path.dirname(db.path)
    with db.read() as connection:
        known = [str(row[0]) for row in connection.execute("SELECT id FROM containers ORDER BY id")]
    return [
        each
        for each in known
        if os.path.isdir(f"{root}/containers/{each}")
        and _compared(_bytes(record_file(root, each))) != _compared(_text(db, each))
    ]


def unknown(db: Database) -> list[str]:
    """The ids of the containers that have a file, and that the index does not know."""
    root = os.path.dirname(db.path)
    found = [name for name in _names(f"{root}/containers") if _read(record_file(root, name))["containers"]]
    with db.read() as connection:
        known = {row[0] for row in connection.execute("SELECT id FROM containers")}
    return [name for name in found if name not in known and os.path.lexists(record_file(root, name))]


def restore(connection: sqlite3.Connection, paths: StorePaths) -> list[str]:
    """Brings containers back that the index does not know, within the caller's transaction; returns their ids.

    A layer stays even when the tree it stood on is lost: nobody but its owner can say what it is worth.
    """
    back: list[str] = []
    for name in _names(f"{paths.root}/containers"):
        document = _read(record_file(paths.root, name))
        if [row[0] for row in document["containers"]] != [name]:
            continue
        try:
            connection.execute(_insert("containers"), document["containers"][0])
        except sqlite3.IntegrityError:
            continue  # it is there, or another one has its name
        for layer in document["snapshots"]:
            _restore_layer(connection, paths, layer)
        known = [each for each in document["volumes"] if os.path.isdir(f"{paths.volumes}/{each[0]}/_data")]
        for table, rows in (
            ("endpoints", document["endpoints"]),
            ("ports", document["ports"]),
            ("networks", document["networks"]),
            ("volumes", known),
        ):
            connection.executemany(_insert(table).replace("INSERT", "INSERT OR IGNORE", 1), rows)
        if document["driver"]:
            connection.execute("INSERT OR IGNORE INTO meta (key, value) VALUES ('driver', ?)", (document["driver"],))
        back.append(name)
    return back


def _restore_layer(connection: sqlite3.Connection, paths: StorePaths, layer: list[Any]) -> None:
    key, parent, directory, created_at, used_at = layer
    if directory not in _names(paths.snapshots):
        return
    if connection.execute("SELECT 1 FROM snapshots WHERE key = ?", (parent,)).fetchone() is None:
        parent = None
    connection.execute(
        "INSERT OR IGNORE INTO snapshots (key, parent, kind, dir, created_at, last_used_at)"
        " VALUES (?, ?, 'active', ?, ?, ?)",
        (key, parent, directory, created_at, used_at),
    )


def _insert(table: str) -> str:
    columns = _KEPT[table][0]
    return f"INSERT INTO {table} ({columns}) VALUES ({', '.join('?' for _ in columns.split(', '))})"  # noqa: S608


def _text(db: Database, container_id: str) -> bytes | None:
    """What the file of a container has to say; None for none that the index knows."""
    document: dict[str, Any] = {"version": _VERSION}
    with db.read() as connection:
        for table, (columns, condition) in _KEPT.items():
            query = f"SELECT {columns} FROM {table} WHERE {condition} ORDER BY 1, 2"  # noqa: S608 - constants only
            document[table] = connection.execute(query, (container_id,)).fetchall()
        driver = connection.execute("SELECT value FROM meta WHERE key = 'driver'").fetchone()
    document["driver"] = driver[0] if driver else None
    return (json.dumps(document) + "\n").encode() if document["containers"] else None


def _compared(text: bytes | None) -> Any:
    """What has to agree: networks move on without their containers."""
    try:
        return {key: rows for key, rows in json.loads(text or b"{}").items() if key != "networks"}
    except (ValueError, AttributeError):
        return None


def _read(path: str) -> dict[str, Any]:
    """The rows of a file by table; none of any table when it cannot be used."""
    nothing: dict[str, Any] = {table: [] for table in _KEPT} | {"driver": None}
    try:
        document: dict[str, Any] = json.loads(_bytes(path) or b"{}")
        if document.get("version") != _VERSION:
            return nothing
        for table, (columns, _) in _KEPT.items():
            if any(len(row) != columns.count(",") + 1 or not all(map(_plain, row)) for row in document[table]):
                return nothing
        if not all(isinstance(json.loads(row[-1]), dict) for row in document["containers"]):
            return nothing
    except (ValueError, KeyError, TypeError, AttributeError):
        return nothing
    return nothing | document


def _plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int)


def _bytes(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read(_LIMIT)
    except OSError:
        return None


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except FileNotFoundError:
        return []
