"""The index: transactions between threads and processes, versions, damage."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lamina.errors import Internal
from lamina.store import schema
from lamina.store.db import DamagedDatabase, Database, DatabaseUnavailable, NewerStore


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "index.db")


def volumes(db: Database) -> list[str]:
    with db.read() as connection:
        return [row[0] for row in connection.execute("SELECT name FROM volumes ORDER BY name")]


def add(db: Database, name: str) -> None:
    with db.write() as connection:
        connection.execute("INSERT INTO volumes (name) VALUES (?)", (name,))


def test_a_write_is_there_for_everybody(path: str) -> None:
    one, two = Database(path), Database(path)
    add(one, "a")
    assert volumes(two) == ["a"]
    assert (one.created, two.created) == (True, False)
    one.close()
    two.close()


def test_a_failed_block_leaves_nothing(path: str) -> None:
    db = Database(path)

    def broken() -> None:
        with db.write() as connection:
            connection.execute("INSERT INTO volumes (name) VALUES ('a')")
            raise KeyError("broken")

    with pytest.raises(KeyError):
        broken()
    assert volumes(db) == []
    add(db, "b")  # the lock was let go
    db.close()


def test_a_reader_sees_one_moment(path: str) -> None:
    # F17: old or new, never a mix
    db = Database(path)
    add(db, "a")
    with db.read() as connection:
        assert connection.execute("SELECT count(*) FROM volumes").fetchone() == (1,)
        add(db, "b")
        assert connection.execute("SELECT count(*) FROM volumes").fetchone() == (1,)
    assert volumes(db) == ["a", "b"]
    db.close()


def test_reading_cannot_write(path: str) -> None:
    db = Database(path)
    with pytest.raises(Internal, match="readonly"), db.read() as connection:
        connection.execute("INSERT INTO volumes (name) VALUES ('a')")
    db.close()


def test_a_write_inside_a_write_is_a_bug_not_a_deadlock(path: str) -> None:
    db = Database(path)
    with pytest.raises(Internal, match="inside another"), db.write(), db.write():
        pass
    db.close()


def test_constraints_are_enforced(path: str) -> None:
    db = Database(path)
    add(db, "a")
    with pytest.raises(sqlite3.IntegrityError):
        add(db, "a")
    with pytest.raises(sqlite3.IntegrityError), db.write() as connection:
        connection.execute("INSERT INTO lease_items (lease, kind, key) VALUES ('none', 'blob', 'x')")
    db.close()


def test_threads_share_one_database(path: str) -> None:
    db = Database(path)

    def work(number: int) -> None:
        for step in range(10):
            add(db, f"{number}-{step}")
            assert f"{number}-{step}" in volumes(db)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(volumes(db)) == 80
    db.close()


_ADD_MANY = """
import sys
from lamina.store.db import Database
db = Database(sys.argv[1])
for step in range(10):
    with db.write() as connection:
        connection.execute("INSERT INTO volumes (name) VALUES (?)", (f"{sys.argv[2]}-{step}",))
db.close()
"""


def test_processes_share_one_file_from_its_creation(path: str) -> None:
    # F23; also the race of several first openers
    processes = [subprocess.Popen([sys.executable, "-c", _ADD_MANY, path, str(number)]) for number in range(4)]
    assert [process.wait(60) for process in processes] == [0] * 4
    db = Database(path)
    assert len(volumes(db)) == 40
    assert db.check() == []
    db.close()


def test_a_forked_child_has_connections_of_its_own(path: str) -> None:
    db = Database(path)
    add(db, "parent")
    child = os.fork()
    if child == 0:  # no test framework in the child
        try:
            add(db, "child")
            os._exit(0 if volumes(db) == ["child", "parent"] else 1)
        except BaseException:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    add(db, "parent again")
    assert volumes(db) == ["child", "parent", "parent again"]
    db.close()


def test_files_are_private_whatever_the_umask_is(path: str) -> None:
    # threat 59
    before = os.umask(0)
    try:
        db = Database(path)
        add(db, "a")
        modes = {
            name: stat.S_IMODE(os.stat(os.path.join(os.path.dirname(path), name)).st_mode)
            for name in os.listdir(os.path.dirname(path))
        }
    finally:
        os.umask(before)
    assert modes == {"index.db": 0o600, "index.db-wal": 0o600, "index.db-shm": 0o600}
    db.close()


def test_a_newer_store_is_refused(path: str) -> None:
    # F21
    Database(path).close()
    raw = sqlite3.connect(path)
    raw.execute(f"PRAGMA user_version={schema.VERSION + 1}")
    raw.close()
    with pytest.raises(NewerStore) as caught:
        Database(path)
    assert (caught.value.found, caught.value.known) == (schema.VERSION + 1, schema.VERSION)
    assert "newer" in str(caught.value.hint)


def test_the_released_schema_is_what_the_code_makes(path: str) -> None:
    # F21: a store of every version is opened and has today's tables
    db = Database(path)
    with db.read() as connection:
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        assert connection.execute("PRAGMA user_version").fetchone() == (schema.VERSION,)
    assert {"blobs", "snapshots", "layers", "images", "names", "leases", "containers", "build_cache"} <= tables
    db.close()


@pytest.mark.parametrize("damage", ["zeroed", "junk", "cut"])
def test_damage_is_named_with_the_way_out(path: str, damage: str) -> None:
    # F5
    db = Database(path)
    for number in range(300):
        add(db, f"volume-{number}" * 20)
    db.close()
    size = os.path.getsize(path)
    with open(path, "r+b") as file:
        if damage == "cut":
            file.truncate(size // 2 // 4096 * 4096)
        else:
            file.write((b"\0" if damage == "zeroed" else b"junk") * (size // 4))

    def use() -> None:
        again = Database(path)
        try:
            volumes(again)
            problems = again.check()
        finally:
            again.close()
        if problems:
            raise DamagedDatabase(path, problems[0])

    with pytest.raises(DamagedDatabase) as caught:
        use()
    assert path in str(caught.value)
    assert "fsck --repair" in str(caught.value.hint)


def test_a_closed_database_says_so(path: str) -> None:
    db = Database(path)
    db.close()
    with pytest.raises(DatabaseUnavailable, match="closed"):
        volumes(db)


def test_a_missing_directory_is_a_plain_error(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnavailable, match="No such file"):
        Database(str(tmp_path / "missing" / "index.db"))


def test_a_write_that_need_not_survive_a_power_cut_does_not_wait_for_the_disk(path: str) -> None:
    database = Database(path)
    full, normal = 2, 1

    def level(connection: sqlite3.Connection) -> int:
        return int(connection.execute("PRAGMA synchronous").fetchone()[0])

    with database.write(durable=False) as connection:
        assert level(connection) == normal
        connection.execute("INSERT INTO meta VALUES ('a', '1')")
    with pytest.raises(ZeroDivisionError), database.write(durable=False):
        raise ZeroDivisionError
    with database.write() as connection:
        assert level(connection) == full
        assert connection.execute("SELECT value FROM meta WHERE key = 'a'").fetchone() == ("1",)
    database.close()


def test_a_process_that_ends_leaves_its_log_to_the_next(path: str) -> None:
    code = (
        "import os, sys\n"
        "from lamina.store.db import Database\n"
        "database = Database(sys.argv[1])\n"
        "with database.write() as connection:\n"
        "    connection.execute('INSERT OR REPLACE INTO meta VALUES (?, ?)', ('turn', sys.argv[2]))\n"
        "    connection.execute('INSERT OR REPLACE INTO meta VALUES (?, ?)', ('bulk', 'x' * 400_000))\n"
        "database.ending = True\n"
        "database.close()\n"
        "os._exit(0)\n"
    )
    for turn in range(6):  # more than the log may hold: it is moved into the database meanwhile
        subprocess.run([sys.executable, "-c", code, path, str(turn)], check=True)
        assert 0 < os.stat(path + "-wal").st_size < 4 << 20
    database = Database(path)
    with database.read() as connection:
        assert connection.execute("SELECT value FROM meta WHERE key = 'turn'").fetchone() == ("5",)
    assert database.check() == []
    database.close()
    assert not os.path.exists(path + "-wal")
