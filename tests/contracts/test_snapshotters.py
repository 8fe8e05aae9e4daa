"""What snapshots do, whatever driver keeps the trees (S02, S04)."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lamina.linux.mounts import Unmount, execute_all, mount_points
from lamina.store.snapshots.snapshotter import Snapshotter
from lamina.store.snapshots.values import SnapshotExists, SnapshotInUse, SnapshotNotFound, WrongKind
from lamina.store.store import Store


@pytest.fixture(params=["overlay", "vfs"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "overlay" and os.geteuid() != 0:
        pytest.skip("mounting an overlay needs root")
    with Store.open(str(tmp_path / "data"), driver=request.param) as opened:
        yield opened
    for point in reversed(mount_points(str(tmp_path))):
        Unmount(point, detach=True).execute()


@pytest.fixture
def snapshots(store: Store) -> Snapshotter:
    return store.snapshots


@contextmanager
def mounted(snapshots: Snapshotter, key: str, target: Path, **options: bool) -> Iterator[Path]:
    """As the engine does it: by mount values, at a place of its own."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    target.mkdir(exist_ok=True)
    execute_all(snapshots.mounts(key, str(target), **options))
    try:
        yield target
    finally:
        Unmount(str(target)).execute()


def commit(snapshots: Snapshotter, name: str, files: dict[str, str], parent: str | None = None) -> None:
    snapshots.prepare("work", parent)
    with snapshots.mounted("work") as path:
        for file, text in files.items():
            os.makedirs(os.path.dirname(f"{path}/{file}"), exist_ok=True)
            Path(path, file).write_text(text)
    snapshots.commit("work", name)


def names(path: str | Path) -> list[str]:
    return sorted(os.listdir(path))


def test_a_tree_is_written_then_frozen(snapshots: Snapshotter) -> None:
    active = snapshots.prepare("work")
    assert (active.kind, active.parent) == ("active", None)
    with snapshots.mounted("work") as path:
        Path(path, "file").write_text("hello")
    done = snapshots.commit("work", "base")
    assert (done.key, done.kind, done.size) == ("base", "committed", 5)
    assert done.disk >= 4096
    assert done.inodes == 2
    with pytest.raises(SnapshotNotFound):
        snapshots.stat("work")
    with snapshots.mounted("base") as path:
        assert Path(path, "file").read_text() == "hello"


def test_children_see_their_parents_and_change_only_themselves(snapshots: Snapshotter) -> None:
    commit(snapshots, "base", {"etc/a": "base", "etc/b": "base"})
    snapshots.prepare("one", "base")
    snapshots.prepare("two", "base")
    with snapshots.mounted("one") as path:
        Path(path, "etc/a").write_text("one")
        os.unlink(f"{path}/etc/b")
        os.mkdir(f"{path}/new")
    with snapshots.mounted("two") as path:
        assert Path(path, "etc/a").read_text() == "base"
        assert names(f"{path}/etc") == ["a", "b"]
    snapshots.commit("one", "one-done")
    with snapshots.mounted("one-done") as path:
        assert names(path) == ["etc", "new"]
        assert names(f"{path}/etc") == ["a"]
    with snapshots.mounted("base") as path:
        assert Path(path, "etc/a").read_text() == "base"
    assert {child.key for child in snapshots.children("base")} == {"one-done", "two"}


def test_a_deleted_directory_that_comes_back_is_empty(snapshots: Snapshotter) -> None:
    commit(snapshots, "base", {"dir/old": "x", "dir/deep/older": "y"})
    snapshots.prepare("work", "base")
    with snapshots.mounted("work") as path:
        for name in ("dir/old", "dir/deep/older"):
            os.unlink(f"{path}/{name}")
        os.rmdir(f"{path}/dir/deep")
        os.rmdir(f"{path}/dir")
        os.mkdir(f"{path}/dir")
        Path(path, "dir/new").write_text("z")
    snapshots.commit("work", "top")
    with snapshots.mounted("top") as path:
        assert names(f"{path}/dir") == ["new"]


@pytest.mark.root
def test_mount_values_show_the_tree_writable_or_not(snapshots: Snapshotter, tmp_path: Path) -> None:
    commit(snapshots, "base", {"a": "1"})
    commit(snapshots, "top", {"b": "2"}, "base")
    snapshots.prepare("rw", "top")
    snapshots.view("look", "top")
    with mounted(snapshots, "rw", tmp_path / "m") as path:
        assert names(path) == ["a", "b"]
        (path / "c").write_text("3")
    with mounted(snapshots, "rw", tmp_path / "m", readonly=True) as path:
        assert names(path) == ["a", "b", "c"]
        with pytest.raises(OSError, match="Read-only"):
            (path / "d").write_text("4")
    for key in ("look", "top", "base"):
        with mounted(snapshots, key, tmp_path / "m") as path:
            assert "c" not in names(path)
            with pytest.raises(OSError, match="Read-only"):
                (path / "d").write_text("4")


@pytest.mark.root
def test_a_volatile_mount_can_be_mounted_again(snapshots: Snapshotter, tmp_path: Path) -> None:
    commit(snapshots, "base", {"a": "1"})
    snapshots.prepare("rw", "base")
    for number in range(3):
        with mounted(snapshots, "rw", tmp_path / "m", volatile=True) as path:
            (path / f"file{number}").write_text("x")
    assert snapshots.usage("rw").size == 3


@pytest.mark.root
def test_everything_a_tree_can_hold_survives(snapshots: Snapshotter) -> None:
    snapshots.prepare("work")
    with snapshots.mounted("work") as path:
        Path(path, "plain").write_text("x")
        os.link(f"{path}/plain", f"{path}/linked")
        os.symlink("/nowhere", f"{path}/link")
        os.mkfifo(f"{path}/fifo")
        os.mknod(f"{path}/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        os.chown(f"{path}/plain", 12, 34)
        os.chmod(f"{path}/plain", 0o4755)
        os.setxattr(f"{path}/plain", "user.note", b"kept")
        os.setxattr(f"{path}/plain", "trusted.note", b"kept too")
        with open(f"{path}/sparse", "wb") as file:
            file.truncate(1 << 20)
            file.seek(1 << 19)
            file.write(b"middle")
        os.mkdir(f"{path}/dir", 0o700)
        os.utime(f"{path}/dir", ns=(1, 987654321))
        os.utime(f"{path}/plain", ns=(1, 123456789), follow_symlinks=False)
        os.utime(f"{path}/link", ns=(1, 55), follow_symlinks=False)
        os.chmod(path, 0o1777)
    snapshots.commit("work", "base")
    snapshots.prepare("child", "base")
    with snapshots.mounted("child") as path:
        plain = os.lstat(f"{path}/plain")
        assert (plain.st_uid, plain.st_gid, stat.S_IMODE(plain.st_mode)) == (12, 34, 0o4755)
        assert (plain.st_mtime_ns, plain.st_nlink) == (123456789, 2)
        assert os.lstat(f"{path}/linked").st_ino == plain.st_ino
        assert os.getxattr(f"{path}/plain", "user.note") == b"kept"
        assert os.getxattr(f"{path}/plain", "trusted.note") == b"kept too"
        assert os.readlink(f"{path}/link") == "/nowhere"
        assert os.lstat(f"{path}/link").st_mtime_ns == 55
        assert stat.S_ISFIFO(os.lstat(f"{path}/fifo").st_mode)
        assert os.lstat(f"{path}/null").st_rdev == os.makedev(1, 3)
        assert os.lstat(f"{path}/dir").st_mtime_ns == 987654321
        assert stat.S_IMODE(os.lstat(f"{path}/dir").st_mode) == 0o700
        assert stat.S_IMODE(os.lstat(path).st_mode) == 0o1777
        sparse = os.lstat(f"{path}/sparse")
        assert sparse.st_size == 1 << 20
        assert sparse.st_blocks * 512 < 1 << 19
        assert Path(path, "sparse").read_bytes()[1 << 19 :][:6] == b"middle"


def test_keys_are_unique_and_kinds_are_kept(snapshots: Snapshotter) -> None:
    commit(snapshots, "base", {"a": "1"})
    snapshots.prepare("rw", "base")
    with pytest.raises(SnapshotExists):
        snapshots.prepare("rw")
    with pytest.raises(SnapshotExists):
        snapshots.commit("rw", "base")
    assert snapshots.stat("rw").kind == "active"  # a refused commit changes nothing
    with pytest.raises(WrongKind):
        snapshots.prepare("child", "rw")
    with pytest.raises(WrongKind):
        snapshots.commit("base", "again")
    with pytest.raises(SnapshotNotFound):
        snapshots.prepare("child", "nothing")
    with pytest.raises(SnapshotNotFound):
        snapshots.mounts("nothing", "/mnt")


def test_what_others_stand_on_stays(store: Store, snapshots: Snapshotter) -> None:
    commit(snapshots, "base", {"a": "1"})
    snapshots.prepare("rw", "base")
    with pytest.raises(SnapshotInUse, match="snapshot rw"):
        snapshots.remove("base")
    with store.db.write() as connection:
        connection.execute("INSERT INTO containers (id, snapshot_key) VALUES ('c1', 'rw')")
    with pytest.raises(SnapshotInUse, match="container c1"):
        snapshots.remove("rw")
    with store.db.write() as connection:
        connection.execute("DELETE FROM containers")
    assert snapshots.remove("rw") > 0
    assert snapshots.remove("base") > 0
    assert names(store.paths.snapshots) == []


def test_usage_counts_changes_alone(snapshots: Snapshotter) -> None:
    # S02: the size of a container is what it wrote
    commit(snapshots, "base", {"big": "x" * 100_000})
    snapshots.prepare("rw", "base")
    assert snapshots.usage("rw").size == 0
    with snapshots.mounted("rw") as path:
        Path(path, "own").write_text("y" * 1234)
    assert snapshots.usage("rw").size == 1234
    assert snapshots.usage("base").size == 100_000
    snapshots.view("look", "base")
    assert snapshots.usage("look").disk == 0


def test_changes_say_where_to_read_them(snapshots: Snapshotter) -> None:
    # S24
    commit(snapshots, "base", {"a": "1"})
    commit(snapshots, "middle", {"b": "1"}, "base")
    snapshots.prepare("rw", "middle")
    with snapshots.mounted("rw") as path:
        Path(path, "new").write_text("2")
    changes = snapshots.changes("rw")
    assert "new" in names(changes.tree)
    assert ("a" in names(changes.tree)) is not changes.stacked
    assert len(changes.lowers) == (2 if changes.stacked else 1)
    seen = {name for lower in changes.lowers for name in names(lower)}
    assert seen == {"a", "b"}
    assert len(snapshots.changes("base").lowers) == 0


def test_the_description_beside_a_tree_follows_it(store: Store, snapshots: Snapshotter) -> None:
    # F5: the index can be made again from these
    commit(snapshots, "base", {"a": "1"})
    directory = store.paths.snapshot(snapshots.stat("base").directory)
    assert '"key": "base"' in Path(directory, "snapshot.json").read_text()
    assert stat.S_IMODE(os.stat(f"{directory}/snapshot.json").st_mode) == 0o600


def test_unsynced_trees_die_with_their_boot(store: Store) -> None:
    # F2: committed without a sync, then the power went
    snapshots = store.snapshots
    commit(snapshots, "base", {"a": "1"})
    for key, parent, sync in (("lost", "base", False), ("lost-child", "lost", False), ("kept", "base", True)):
        snapshots.prepare("work", parent)
        snapshots.commit("work", key, sync=sync)
    with store.db.write() as connection:
        connection.execute("INSERT INTO build_cache (key, snapshot) VALUES ('step', 'lost-child')")
    again = Snapshotter(
        store.db, store.paths, snapshots.driver, store._files, store.leases, boot="another boot of the machine"
    )
    assert again.drop_unsynced() == ["lost-child", "lost"]
    assert {each.key for each in snapshots.all()} == {"base", "kept"}
    with store.db.read() as connection:
        assert connection.execute("SELECT * FROM build_cache").fetchall() == []
    snapshots.prepare("work", "base")
    snapshots.commit("work", "late", sync=False)
    snapshots.sync()
    assert again.drop_unsynced() == []
    assert store.collector.collect().left == ()


def test_keys_may_hold_anything(snapshots: Snapshotter) -> None:
    # threat 11: keys never become paths
    key = "sha256:../../x\n'; DROP TABLE snapshots"
    snapshots.prepare(key)
    assert snapshots.commit(key, key + "!").key == key + "!"
    snapshots.remove(key + "!")


@pytest.mark.root
def test_a_chain_of_150_layers_mounts(store: Store, tmp_path: Path) -> None:
    snapshots = store.snapshots
    if not snapshots.driver.stacked:
        pytest.skip("150 whole copies show nothing about mounts")
    parent = None
    for number in range(150):
        snapshots.prepare("work")
        tree = snapshots.changes("work").tree
        Path(tree, f"file{number}").write_text(str(number))
        snapshots.commit("work", f"layer{number}", parent=parent, sync=False)
        parent = f"layer{number}"
    snapshots.prepare("rw", parent)
    with mounted(snapshots, "rw", tmp_path / "m") as path:
        assert len(names(path)) == 150
        (path / "file0").write_text("changed at the bottom")
    with mounted(snapshots, "rw", tmp_path / "m", readonly=True) as path:
        assert (path / "file0").read_text() == "changed at the bottom"
        assert (path / "file149").read_text() == "149"
    assert len(snapshots.chain("rw")) == 151
