"""The database is damaged, gone, or of another version: said in one line at the start, and nothing of it forgotten."""

from __future__ import annotations

import re
import shutil
import sqlite3
from pathlib import Path

import pytest

from lamina.registry.__main__ import main
from lamina.registry.errors import NewerSchema
from lamina.registry.metadata.failures import DamagedMetadata, LostMetadata
from lamina.registry.names import Repository, Tag
from lamina.registry.service import open_registry
from lamina.testing.registry import running_registry
from lamina.testing.registry_client import Client, digest_of


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A registry that was shut down in order and holds a:v1."""
    with running_registry(str(tmp_path)) as address:
        Client(address).push_image("a", "v1")
    return tmp_path


def test_a_damaged_database_is_named(root: Path) -> None:
    # F5: one line with the file and a way out, not a traceback; nothing of the rest is touched
    database, kept = root / "registry.db", sorted(root.glob("blobs/*/*"))
    whole = database.read_bytes()
    for torn in (b"no database" * 1000, whole[:4096] + bytes(len(whole) - 4096), whole[: len(whole) // 2]):
        database.write_bytes(torn)
        with pytest.raises(DamagedMetadata, match=re.escape(f"the registry's database {database} is damaged: ")):
            open_registry(str(root))
        assert database.read_bytes() == torn
    database.write_bytes(whole)
    with running_registry(str(root)) as address:
        assert Client(address).get("/v2/a/manifests/v1").status == 200
    assert sorted(root.glob("blobs/*/*")) == kept


def test_a_database_cut_at_any_page_is_refused(root: Path) -> None:
    # F5: with nothing left it is lost, with a part of it damaged; never an empty registry
    database = root / "registry.db"
    whole = database.read_bytes()
    for size in range(0, len(whole), 4096):
        database.write_bytes(whole[:size])
        with pytest.raises(DamagedMetadata if size else LostMetadata, match=re.escape(str(database))):
            open_registry(str(root))
    database.write_bytes(whole)
    with running_registry(str(root)) as address:
        assert Client(address).get("/v2/a/manifests/v1").status == 200


def test_a_page_of_zeros_never_makes_a_registry_forget(root: Path) -> None:
    # F5: refused at the start, or an error to the one who needs that page; never "no such image"
    database = root / "registry.db"
    whole = database.read_bytes()
    refused = 0
    for start in range(0, len(whole), 4096):
        database.write_bytes(whole[:start] + bytes(4096) + whole[start + 4096 :])
        try:
            registry = open_registry(str(root))
        except DamagedMetadata:
            refused += 1
            continue
        try:
            assert registry.manifests.get(Repository("a"), Tag("v1")).data
        except DamagedMetadata:
            refused += 1
        finally:
            registry.close()
    assert refused


@pytest.mark.parametrize("left", [None, b""], ids=["missing", "empty"])
def test_a_lost_database_beside_blobs_is_not_replaced_by_an_empty_one(root: Path, left: bytes | None) -> None:
    # F5: names and tags are in the database only, so starting anew without a word would lose them for good
    database, log, kept = root / "registry.db", root / "registry.db-wal", sorted(root.glob("blobs/*/*"))
    whole = database.read_bytes()
    database.unlink()
    if left is not None:
        database.write_bytes(left)
    log.write_bytes(b"what may still be of use to someone")
    what = "missing" if left is None else "empty"
    for _ in range(2):  # the first refusal must not make a database that the second one takes
        with pytest.raises(LostMetadata) as refused:
            open_registry(str(root))
        assert refused.value.message == f"the registry's database {database} is {what}, but there are blobs in {root}"
        assert "--new-database" in (refused.value.hint or "")
        assert log.read_bytes() == b"what may still be of use to someone"
        assert database.exists() == (left is not None)
    log.unlink()
    database.write_bytes(whole)
    with running_registry(str(root)) as address:
        assert Client(address).get("/v2/a/manifests/v1").status == 200
    assert sorted(root.glob("blobs/*/*")) == kept


def test_a_database_of_which_only_the_log_knew_the_tables_is_lost_with_it(tmp_path: Path) -> None:
    # F5: copied, or cut off, before its first checkpoint
    live, copied = tmp_path / "live", tmp_path / "copied"
    with running_registry(str(live)) as address:
        Client(address).push_image("a", "v1")
        shutil.copytree(live / "blobs", copied / "blobs")
        shutil.copy(live / "registry.db", copied)
    assert (copied / "registry.db").stat().st_size
    for _ in range(2):
        with pytest.raises(LostMetadata, match=" is empty, but there are blobs in "):
            open_registry(str(copied))


def test_another_empty_database_for_a_root_with_blobs_is_refused(root: Path) -> None:
    # F5: a mistyped --database is the same loss
    elsewhere = f"sqlite:///{root}/other.db"
    for _ in range(2):
        with pytest.raises(LostMetadata, match=r"other\.db is missing, but there are blobs in "):
            open_registry(str(root), database=elsewhere)
    open_registry(str(root)).close()


def test_the_way_out_starts_empty_and_a_push_brings_everything_back(root: Path) -> None:
    (root / "registry.db").unlink()
    open_registry(str(root), new_database=True).close()
    with running_registry(str(root)) as address:
        client = Client(address)
        assert client.get("/v2/a/manifests/v1").status == 404
        client.push_image("a", "v1")
        assert client.get("/v2/a/manifests/v1").status == 200
        assert client.get(f"/v2/a/blobs/{digest_of(b'layer')}").body == b"layer"
    # asked for once too often, it takes nothing away
    open_registry(str(root), new_database=True).close()
    with running_registry(str(root)) as address:
        assert Client(address).get("/v2/a/manifests/v1").status == 200


@pytest.mark.parametrize("killed", ["nothing yet", "an empty file", "directories and an unfinished upload"])
def test_a_new_root_just_starts(tmp_path: Path, killed: str) -> None:
    # the legitimate twins: nothing was stored before, however far the first start came
    if killed == "an empty file":
        (tmp_path / "registry.db").write_bytes(b"")
    if killed.startswith("directories"):
        for folder in ("blobs/sha256", "blobs/sha512", "uploads"):
            (tmp_path / folder).mkdir(parents=True)
        (tmp_path / "uploads" / "single-0.part").write_bytes(b"begun")
    with running_registry(str(tmp_path)) as address:
        Client(address).push_image("a", "v1")
        assert Client(address).get("/v2/a/manifests/v1").status == 200


def test_the_server_says_it_in_one_line_and_the_way_out_in_another(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = root / "registry.db"
    database.unlink()
    monkeypatch.setattr("sys.argv", ["registry", "--addr", "127.0.0.1:0", "--root", str(root)])
    with pytest.raises(SystemExit) as ended:
        main()
    said = f"the registry's database {database} is missing, but there are blobs in {root}\n"
    assert str(ended.value.code).startswith(said)
    assert "--new-database" in str(ended.value.code)


def test_a_database_of_a_newer_lamina_is_refused(tmp_path: Path) -> None:
    # F21
    open_registry(str(tmp_path)).close()
    with sqlite3.connect(tmp_path / "registry.db") as database:
        database.execute("UPDATE schema_version SET version = 999")
    database.close()
    with pytest.raises(NewerSchema) as caught:
        open_registry(str(tmp_path))
    assert (caught.value.found, caught.value.known) == (999, 1)
