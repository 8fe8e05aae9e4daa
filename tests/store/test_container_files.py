"""Containers are kept beside the index: a lost index takes nothing of theirs (F5, F12, ADR 0015)."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from lamina.store import container_files
from lamina.store.store import Store
from lamina.testing.store_images import Served, pull, tar

ID, OTHER = "a" * 64, "b" * 64
DOC = json.dumps({"options": {"network": "net"}, "mounts": [{"source": "data"}]})


def add(store: Store, container_id: str = ID, name: str = "web") -> str:
    """A container over the image `app:1`, with a file in its layer; returns the layer's directory."""
    image = store.lookup.find("app:1").image
    key = f"container-{container_id}"
    snapshot = store.snapshots.prepare(key, store.images.snapshot(image.id))
    with store.snapshots.mounted(key) as tree:
        Path(tree, "mine").write_bytes(b"written")
    os.makedirs(f"{store.root}/containers/{container_id}")
    os.makedirs(f"{store.paths.volumes}/data/_data", exist_ok=True)
    with store.db.write() as connection:
        connection.execute(
            "INSERT INTO containers VALUES (?, ?, '2026', ?, ?, ?)", (container_id, name, str(image.id), key, DOC)
        )
        connection.execute("INSERT OR IGNORE INTO networks VALUES ('net', 'id', '2026', '{\"last\": 1}')")
        connection.execute("INSERT INTO endpoints VALUES (?, 'net', ?, 'mac', '{}')", (container_id, name))
        connection.execute("INSERT INTO ports VALUES ('tcp', ?, 80, ?)", (name, container_id))
        connection.execute("INSERT OR IGNORE INTO volumes VALUES ('data', '2026', '{\"labels\": {\"a\": \"b\"}}')")
    container_files.keep(store.db, container_id)
    return snapshot.directory


@pytest.fixture
def layer(store: Store) -> str:
    pull(store, [Served(tar(("a", b"1")))], "app:1")
    made = add(store)
    store.leases.close()
    assert store.fsck.run().findings == ()
    return made


def record(store: Store, container_id: str = ID) -> Path:
    return Path(container_files.record_file(store.root, container_id))


def dump(store: Store) -> dict[str, list[Any]]:
    tables = {"containers": "*", "endpoints": "*", "ports": "*", "networks": "*", "volumes": "*"}
    tables["snapshots"] = "key, parent, kind, dir"
    with store.db.read() as connection:
        return {
            table: sorted(connection.execute(f"SELECT {columns} FROM {table}").fetchall())
            for table, columns in tables.items()
        }


def lose(store: Store) -> None:
    store.close()
    for suffix in ("", "-wal", "-shm"):
        Path(store.paths.database + suffix).unlink(missing_ok=True)


def test_everything_of_a_container_comes_back_and_survives_a_collection(store: Store, layer: str) -> None:
    # F5, F12: an index that was lost, and a collection at once
    before = dump(store)
    assert stat.S_IMODE(record(store).stat().st_mode) == 0o600  # threat 59
    lose(store)
    with Store.open(store.root) as again:
        again.collector.collect()
        assert dump(again) == before
        with again.snapshots.mounted(f"container-{ID}") as tree:
            assert Path(tree, "mine").read_bytes() == b"written"
        again.fsck.run(repair=True)
        assert again.fsck.run().findings == ()
        assert not os.path.exists(again.paths.quarantine)


def damaged(**changes: Any) -> bytes:
    document = {"version": 1, "driver": None, "containers": [[ID, "web", "", "", "", DOC]], "snapshots": []}
    document |= {"endpoints": [], "ports": [], "networks": [], "volumes": []} | changes
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"junk",
        b"[]",
        damaged(version=99),
        damaged(containers=[]),
        damaged(containers=[[OTHER, "web", "", "", "", DOC]]),
        damaged(containers=[[ID, "web", "", "", "", "no document"]]),
        damaged(containers=[[ID, "web"]]),
        damaged(ports=[[{}, 1, 2, 3]]),
        damaged(snapshots=[["k", None, "../volumes", "", ""]]),
        damaged(snapshots=[["k", None, None, "", ""]]),
    ],
)
def test_an_unusable_record_loses_nothing_but_itself(store: Store, layer: str, content: bytes | None) -> None:
    """The tree is unknown then: no collection touches it, and a repair sets it aside whole."""
    record(store).unlink()
    if content is not None:
        record(store).write_bytes(content)
    lose(store)
    with Store.open(store.root) as again:
        again.collector.collect()
        assert Path(again.paths.snapshot(layer), "fs/mine").read_bytes() == b"written"
        assert [each.tags[0].familiar for each in again.images.all()] == ["app:1"]
        again.fsck.run(repair=True)
        (kept,) = Path(again.paths.quarantine).glob(f"snapshot-{layer}*")
        assert (kept / "fs/mine").read_bytes() == b"written"


def test_a_layer_stays_although_what_it_stood_on_is_lost(store: Store, layer: str) -> None:
    (below,) = (each for each in store.snapshots.all() if each.directory != layer)
    os.unlink(f"{store.paths.snapshot(below.directory)}/snapshot.json")
    lose(store)
    with Store.open(store.root) as again:
        again.fsck.run(repair=True)
        again.collector.collect()
        assert Path(again.paths.snapshot(layer), "fs/mine").read_bytes() == b"written"
        assert again.snapshots.stat(f"container-{ID}").parent is None


def test_of_two_with_one_name_the_first_comes_back(store: Store, layer: str) -> None:
    other = add(store, OTHER, "second")
    record(store, OTHER).write_text(record(store, OTHER).read_text().replace('"second"', '"web"'))
    lose(store)
    with Store.open(store.root) as again:
        assert [row[0] for row in dump(again)["containers"]] == [ID]
        again.collector.collect()
        assert Path(again.paths.snapshot(other), "fs/mine").read_bytes() == b"written"
        (finding,) = (each for each in again.fsck.run(repair=True).findings if each.kind == "container")
        assert (finding.subject, finding.repaired) == (OTHER, "")


def test_a_sound_index_gets_only_what_it_misses(store: Store, layer: str) -> None:
    """The index lost its last changes: the record knows better. What was removed stays removed."""
    add(store, OTHER, "second")
    before = dump(store)
    with store.db.write() as connection:
        connection.execute("DELETE FROM containers WHERE id = ?", (ID,))
        connection.execute("DELETE FROM snapshots WHERE key = ?", (f"container-{ID}",))
        connection.execute("DELETE FROM ports WHERE container_id = ?", (ID,))
    assert [each.kind for each in store.fsck.run().findings if each.harmful] == ["container"]
    assert store.fsck.run(repair=True).clean
    assert dump(store) == before
    assert store.fsck.run().findings == ()


def test_a_container_without_a_directory_has_no_record(store: Store, layer: str) -> None:
    os.rename(f"{store.root}/containers/{ID}", f"{store.root}/gone")
    container_files.keep(store.db, ID)
    assert container_files.outdated(store.db) == []
    os.rename(f"{store.root}/gone", f"{store.root}/containers/{ID}")
    with store.db.write() as connection:
        connection.execute("DELETE FROM containers")
    container_files.keep(store.db, ID)
    assert json.loads(record(store).read_bytes())["containers"][0][0] == ID
