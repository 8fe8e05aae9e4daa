"""Make a lost index again from what lies on disk (F5).

Blobs are taken in as they are (`fsck` checks them). Trees carry a description each. An image is back when its config
and all its layers are, with the manifests that name it and the names that the ledger has for it; a container by the
record beside its state, with its layer and its networks; volumes with their content. The build cache is known to the
index alone: what it left on disk is collected, or stays where it is, unknown, and `fsck` names it.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from lamina.errors import LaminaError
from lamina.spec import mediatype
from lamina.spec.config import ImageConfig
from lamina.spec.digest import Digest
from lamina.spec.document import MAX_DOCUMENT
from lamina.spec.manifest import Index, Manifest, parse_manifest
from lamina.spec.timestamp import rfc3339
from lamina.store import container_files
from lamina.store.backends.driver import ByteDriver
from lamina.store.db import Database
from lamina.store.images import insert_image, insert_index, insert_manifest
from lamina.store.layers import insert, insert_blob
from lamina.store.ledger import Names, restore
from lamina.store.paths import StorePaths

_ANONYMOUS: Final = re.compile(r"[0-9a-f]{64}")

#: Keys of `meta`: when the index was made again, and the names (JSON) whose images did not come back.
REBUILT_AT: Final = "rebuilt_at"
LOST_NAMES: Final = "lost_names"


def rebuild(
    db: Database, paths: StorePaths, driver: ByteDriver, names: Names, clock: Callable[[], datetime]
) -> list[str]:
    """Fills an empty index.

    Returns:
        One line for each thing that came back: `blob DIGEST`, `layer CHAINID`, `image ID`, `name NAME`,
        `container ID`, `volume NAME`.
    """
    now = rfc3339(clock())
    found = sorted(driver.list())
    documents = _documents(driver, found)
    trees = _descriptions(paths)
    back: list[str] = []
    with db.write() as connection:
        if connection.execute("SELECT 1 FROM blobs UNION SELECT 1 FROM snapshots").fetchone() is not None:
            return back
        connection.executemany(
            "INSERT INTO blobs (digest, size, created_at) VALUES (?, ?, ?)",
            [(str(digest), size, now) for digest, size in found],
        )
        back += [f"blob {digest}" for digest, _ in found]
        back += _layers(connection, trees, now)
        back += _images(connection, documents, now)
        known, lost = restore(connection, names, now)
        back += [f"name {name}" for name in known]
        back += [f"container {each}" for each in container_files.restore(connection, paths)]
        back += _volumes(connection, paths.volumes, now)
        facts = [(REBUILT_AT, now)] + ([(LOST_NAMES, json.dumps(lost))] if lost else [])
        connection.executemany("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", facts)
    return back


def _documents(driver: ByteDriver, blobs: list[tuple[Digest, int]]) -> dict[Digest, bytes]:
    """The blobs that may be JSON documents, verified."""
    documents: dict[Digest, bytes] = {}
    for digest, size in blobs:
        if not 2 <= size <= MAX_DOCUMENT:
            continue
        with driver.open(digest) as file:
            if file.read(1) != b"{":
                continue
            data = b"{" + file.read(MAX_DOCUMENT)
        if Digest.of(data, digest.algorithm) == digest:
            documents[digest] = data
    return documents


def _descriptions(paths: StorePaths) -> list[tuple[str, dict[str, Any]]]:
    """(directory, description) of the committed trees, parents first; those whose parents are lost are left out."""
    by_key: dict[str, tuple[str, dict[str, Any]]] = {}
    with os.scandir(paths.snapshots) as entries:
        for entry in entries:
            try:
                with open(f"{entry.path}/snapshot.json", "rb") as file:
                    document = json.load(file)
                by_key[str(document["key"])] = (entry.name, document)
            except (OSError, ValueError, KeyError, TypeError):
                continue
    ordered: list[tuple[str, dict[str, Any]]] = []
    done: set[str | None] = {None}
    while True:
        ready = [key for key, (_, document) in by_key.items() if key not in done and document.get("parent") in done]
        if not ready:
            return ordered
        for key in ready:
            done.add(key)
            ordered.append(by_key[key])


def _layers(connection: sqlite3.Connection, trees: list[tuple[str, dict[str, Any]]], now: str) -> list[str]:
    back: list[str] = []
    chain_of: dict[str, Digest] = {}
    for directory, document in trees:
        key, parent = document["key"], document.get("parent")
        connection.execute(
            "INSERT OR IGNORE INTO snapshots (key, parent, kind, dir, size, disk, inodes, created_at, last_used_at)"
            " VALUES (?, ?, 'committed', ?, ?, ?, ?, ?, ?)",
            (key, parent, directory, document["size"], document["disk"], document["inodes"], now, now),
        )
        connection.execute("INSERT OR IGNORE INTO meta (key, value) VALUES ('driver', ?)", (document["driver"],))
        labels = document.get("labels") or {}
        if "chain_id" in labels and "diff_id" in labels:
            chain_id, diff_id = Digest.parse(labels["chain_id"]), Digest.parse(labels["diff_id"])
            insert(connection, chain_id, chain_of.get(parent) if parent else None, diff_id, key)
            chain_of[key] = chain_id
            back.append(f"layer {chain_id}")
    return back


def _images(connection: sqlite3.Connection, documents: dict[Digest, bytes], now: str) -> list[str]:
    back: list[str] = []
    for data in documents.values():
        try:
            manifest = parse_manifest(data)
            if isinstance(manifest, Index):
                insert_index(connection, manifest, now)
                continue
            if any(not mediatype.is_layer(layer.media_type) for layer in manifest.layers):
                insert_manifest(connection, manifest, None, now)  # an attestation, kept by the index that names it
                continue
            config = ImageConfig.parse(documents[manifest.config.digest])
            if len(config.diff_ids) == len(manifest.layers):
                image = manifest.config.digest
                insert_image(connection, config, image, None, now)
                insert_manifest(connection, manifest, image, now)
                _layer_blobs(connection, manifest, config, now)
                back.append(f"image {image}")
        except (LaminaError, KeyError):
            continue
    return back + _unpublished(connection, documents, now)


def _unpublished(connection: sqlite3.Connection, documents: dict[Digest, bytes], now: str) -> list[str]:
    """Images built, committed or imported here that never had a manifest: configs whose layers are all here."""
    back: list[str] = []
    for digest, data in documents.items():
        if b'"rootfs"' not in data:
            continue
        if connection.execute("SELECT 1 FROM images WHERE id = ?", (str(digest),)).fetchone() is not None:
            continue
        try:
            config = ImageConfig.parse(data)
            if config.diff_ids:
                insert_image(connection, config, digest, None, now)
                back.append(f"image {digest}")
        except LaminaError:
            continue
    return back


def _volumes(connection: sqlite3.Connection, directory: str, now: str) -> list[str]:
    """Volumes by their directories; what else is known of them (labels, options), a container that uses them kept."""
    try:
        found = sorted(entry.name for entry in os.scandir(directory) if os.path.isdir(f"{entry.path}/_data"))
    except FileNotFoundError:
        return []
    for name in found:
        document = {"labels": {}, "anonymous": _ANONYMOUS.fullmatch(name) is not None, "options": {}}
        connection.execute(
            "INSERT OR IGNORE INTO volumes (name, created_at, doc) VALUES (?, ?, ?)", (name, now, json.dumps(document))
        )
    return [f"volume {name}" for name in found]


def _layer_blobs(connection: sqlite3.Connection, manifest: Manifest, config: ImageConfig, now: str) -> None:
    for diff_id, blob in zip(config.diff_ids, manifest.layers, strict=True):
        if connection.execute("SELECT 1 FROM blobs WHERE digest = ?", (str(blob.digest),)).fetchone() is not None:
            insert_blob(connection, diff_id, blob, now)
