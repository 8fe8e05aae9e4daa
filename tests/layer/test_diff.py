"""Changes and layer archives made from them (S24, S25, S40, A17, A21, B19)."""

from __future__ import annotations

import io
import os
import random
import shutil
import socket
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from lamina.errors import Unsupported
from lamina.layer.apply import WhiteoutMode, apply_layer
from lamina.layer.diff import (
    Change,
    FileChanged,
    changes_overlay,
    changes_trees,
    tree_usage,
    write_layer,
    write_tree,
)
from lamina.testing.evil_tar import tree_state

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def lines(changes) -> list[str]:
    return [str(change) for change in changes]


def layer_of(root: Path, changes, **options) -> bytes:
    out = io.BytesIO()
    write_layer(out.write, str(root), changes, **options)
    return out.getvalue()


def names_in(data: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return tar.getnames()


def fill(root: Path) -> None:
    for path, text in {
        "etc/passwd": "root",
        "etc/conf.d/a": "a",
        "usr/bin/tool": "tool",
        "dead/x/y": "y",
        "opq/one": "1",
        "opq/sub/two": "2",
        "gone": "g",
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    (root / "link").symlink_to("etc/passwd")


def change(root: Path) -> None:
    (root / "usr/bin/figlet").write_text("new")
    (root / "etc/passwd").write_text("root2")
    shutil.rmtree(root / "dead")
    shutil.rmtree(root / "opq")
    (root / "opq/sub").mkdir(parents=True)
    (root / "opq/sub/new").write_text("n")
    (root / "gone").unlink()
    (root / "link").unlink()
    (root / "link").mkdir()
    (root / "link/inside").write_text("i")
    (root / "new-dir").mkdir()
    (root / "new-dir/a").write_text("a")
    os.link(root / "new-dir/a", root / "new-dir/b")
    os.mkfifo(root / "new-dir/fifo")


EXPECTED = [
    "D /dead",
    "C /etc",
    "C /etc/passwd",
    "D /gone",
    "C /link",
    "A /link/inside",
    "A /new-dir",
    "A /new-dir/a",
    "A /new-dir/b",
    "A /new-dir/fifo",
    "C /opq",
    "D /opq/one",
    "C /opq/sub",
    "A /opq/sub/new",
    "D /opq/sub/two",
    "C /usr",
    "C /usr/bin",
    "A /usr/bin/figlet",
]


def test_changes_of_trees_are_those_docker_shows(tmp_path: Path) -> None:  # S24
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    fill(old)
    shutil.copytree(old, new, symlinks=True)
    assert lines(changes_trees(str(old), str(new))) == []
    change(new)
    assert lines(changes_trees(str(old), str(new))) == EXPECTED


@pytest.mark.root
@root_only
def test_changes_of_an_overlay_are_those_docker_shows(tmp_path: Path, mount: Callable[..., Path]) -> None:  # S24
    lower, upper = tmp_path / "lower", tmp_path / "upper"
    lower.mkdir()
    upper.mkdir()
    fill(lower)
    point = mount([lower], upper)
    assert lines(changes_overlay(str(upper), [str(lower)])) == []
    change(point)
    changes = list(changes_overlay(str(upper), [str(lower)]))
    assert lines(changes) == EXPECTED
    assert [each.path for each in changes if each.opaque] == ["opq"]


@pytest.mark.root
@root_only
def test_a_layer_written_from_an_overlay_recreates_it(tmp_path: Path, mount: Callable[..., Path]) -> None:  # S25
    lower, upper = tmp_path / "lower", tmp_path / "upper"
    lower.mkdir()
    upper.mkdir()
    fill(lower)
    again = tmp_path / "again"
    shutil.copytree(lower, again, symlinks=True)
    point = mount([lower], upper)
    change(point)
    data = layer_of(upper, changes_overlay(str(upper), [str(lower)]))
    assert names_in(data) == [
        ".wh.dead", "etc", "etc/passwd", ".wh.gone", "link", "link/inside", "new-dir", "new-dir/a", "new-dir/b", "new-dir/fifo",
        "opq", "opq/.wh..wh..opq", "opq/sub", "opq/sub/new", "usr", "usr/bin", "usr/bin/figlet",
    ]  # fmt: skip
    apply_layer(io.BytesIO(data), str(again), whiteouts=WhiteoutMode.REMOVE)
    ours, theirs = tree_state(str(again), times=False), tree_state(str(point), times=False)
    assert ours == theirs
    # and stacked as a lower layer of another mount
    alone = tmp_path / "alone"
    alone.mkdir()
    apply_layer(io.BytesIO(data), str(alone), whiteouts=WhiteoutMode.OVERLAY)
    assert tree_state(str(mount([alone, lower])), times=False) == theirs


def random_operation(rng: random.Random, root: Path) -> None:
    paths = [path for path in root.rglob("*") if not path.is_symlink()]
    folders = [root, *[path for path in paths if path.is_dir()]]
    target = rng.choice(folders) / rng.choice("abcd")
    what = rng.randrange(9)
    if what == 0 and os.path.lexists(target):
        shutil.rmtree(target) if target.is_dir() and not target.is_symlink() else target.unlink()
    elif what in {1, 2} and not os.path.lexists(target):
        target.mkdir()
    elif what in {3, 4} and not target.is_dir() and not target.is_symlink():
        target.write_text(str(rng.random()))
    elif what == 5 and not os.path.lexists(target):
        target.symlink_to(rng.choice(["a", "../b", "/c"]))
    elif what == 6 and paths:
        os.chmod(rng.choice(paths), rng.choice([0o700, 0o755, 0o2711]))
    elif what == 7 and not os.path.lexists(target):
        files = [path for path in paths if path.is_file()]
        if files:
            os.link(rng.choice(files), target)
    elif what == 8 and paths:
        os.setxattr(rng.choice(paths), "user.n", str(rng.random()).encode())


@pytest.mark.root
@root_only
@pytest.mark.parametrize("seed", range(12))
def test_random_work_on_a_real_overlay_survives_the_layer(
    seed: int, tmp_path: Path, mount: Callable[..., Path]
) -> None:
    rng = random.Random(seed)
    layers: list[Path] = []
    for number in range(3):
        upper = tmp_path / f"upper{number}"
        upper.mkdir()
        if not layers:
            point = upper
        else:
            point = mount(layers, upper)
        for _ in range(40):
            random_operation(rng, point)
        if layers:
            merged = tmp_path / f"merged{number}"
            subprocess.run(["cp", "-a", str(mount(layers)), str(merged)], check=True)
            os.chmod(merged, point.stat().st_mode & 0o7777)
            before = str(merged)
            data = layer_of(upper, changes_overlay(str(upper), [str(layer) for layer in layers]))
            as_trees = layer_of(point, changes_trees(before, str(point)))
            theirs = {path: state for path, state in tree_state(str(point), times=False).items() if path}
            copy = tmp_path / f"copy{number}"
            subprocess.run(["cp", "-a", before, str(copy)], check=True)
            apply_layer(io.BytesIO(data), before, whiteouts=WhiteoutMode.REMOVE)
            assert _no_links({p: s for p, s in tree_state(before, times=False).items() if p}) == _no_links(theirs)
            apply_layer(io.BytesIO(as_trees), str(copy), whiteouts=WhiteoutMode.REMOVE)
            assert _no_links({p: s for p, s in tree_state(str(copy), times=False).items() if p}) == _no_links(theirs)
        layers.insert(0, upper)


def _no_links(state: dict[str, tuple[object, ...]]) -> dict[str, tuple[object, ...]]:
    """Without link counts: a copied-up name leaves its lower links behind."""
    return {path: values[:3] + values[4:] for path, values in state.items()}


def test_layers_are_deterministic(tmp_path: Path) -> None:  # A17, B19
    made = []
    for name, order in (("one", 1), ("two", -1)):
        root = tmp_path / name
        root.mkdir()
        for file in ["b", "a", "c"][::order]:
            (root / file).write_text(file)
            os.setxattr(root / file, "user.z", b"1")
            os.setxattr(root / file, "user.a", b"2")
        os.utime(root / "a", (5, 5))
        made.append(layer_of(root, changes_overlay(str(root), []), clamp=1000))
    assert made[0] == made[1]
    with tarfile.open(fileobj=io.BytesIO(made[0])) as tar:
        assert [(member.name, member.mtime, member.uname, member.gname) for member in tar] == [
            ("a", 5, "", ""),
            ("b", 1000, "", ""),
            ("c", 1000, "", ""),
        ]


def test_order_is_that_of_full_paths(tmp_path: Path) -> None:
    for name in ("a/x", "a-b", "a.b", "A"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert lines(changes_overlay(str(tmp_path), [])) == ["A /A", "A /a", "A /a-b", "A /a.b", "A /a/x"]


def test_content_is_compared_when_times_cannot_tell(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    (old / "f").write_text("one")
    (old / "g").write_text("one")
    os.utime(old / "f", (1, 1))
    shutil.copytree(old, new)
    since = (new / "g").stat().st_ctime_ns
    (new / "f").write_text("two")
    os.utime(new / "f", (1, 1))
    assert lines(changes_trees(str(old), str(new))) == []
    assert lines(changes_trees(str(old), str(new), since_ns=since)) == ["C /f"]


def test_sockets_and_reserved_names_are_left_out_and_reported(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "socket"))
        (tmp_path / ".wh.odd").touch()
        (tmp_path / "f").touch()
        out = io.BytesIO()
        done = write_tree(out.write, str(tmp_path))
    assert set(done.skipped) == {".wh.odd", "socket"}
    assert names_in(out.getvalue()) == ["f"]


@pytest.mark.root
@root_only
def test_overlay_attributes_and_whiteouts_do_not_travel(tmp_path: Path) -> None:  # threat 7
    (tmp_path / "d").mkdir()
    os.setxattr(tmp_path / "d", "trusted.overlay.origin", b"x")
    os.setxattr(tmp_path / "d", "user.keep", b"y")
    os.mknod(tmp_path / "d/w", 0o20000, 0)
    out = io.BytesIO()
    write_tree(out.write, str(tmp_path))
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as tar:
        assert tar.getnames() == ["d"]
        assert {key for key in tar.getmember("d").pax_headers if "xattr" in key} == {"SCHILY.xattr.user.keep"}


@pytest.mark.root
@root_only
def test_overlays_with_redirects_are_refused(tmp_path: Path) -> None:
    lower, upper = tmp_path / "lower", tmp_path / "upper"
    (lower / "d").mkdir(parents=True)
    (upper / "d").mkdir(parents=True)
    os.setxattr(upper / "d", "trusted.overlay.redirect", b"elsewhere")
    with pytest.raises(Unsupported):
        changes_overlay(str(upper), [str(lower)])


def test_a_tree_round_trips(tmp_path: Path) -> None:  # S40
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    fill(source)
    os.link(source / "gone", source / "zlink")
    os.chmod(source / "usr", 0o2750)
    (source / b"n\xff".decode("utf-8", "surrogateescape")).touch()
    out = io.BytesIO()
    done = write_tree(out.write, str(source), exclude=lambda path: path == "dead")
    assert done.entries == 15
    apply_layer(io.BytesIO(out.getvalue()), str(target), whiteouts=WhiteoutMode.REMOVE)
    shutil.rmtree(source / "dead")
    expected, got = tree_state(str(source)), tree_state(str(target))
    seconds = {path: (*state[:-1], int(str(state[-1])) // 10**9) for path, state in expected.items() if path}
    assert {path: (*state[:-1], int(str(state[-1])) // 10**9) for path, state in got.items() if path} == seconds


def test_gnu_tar_agrees_on_the_content(tmp_path: Path) -> None:
    source = Path(io.__file__).parent / "asyncio"
    out = io.BytesIO()
    write_tree(out.write, str(source))
    listing = (
        subprocess.run(["tar", "-t"], input=out.getvalue(), capture_output=True, check=True)
        .stdout.decode()
        .splitlines()
    )
    expected = [
        os.path.relpath(os.path.join(where, name), source) + ("/" if name in folders else "")
        for where, folders, files in os.walk(source)
        for name in folders + files
    ]
    assert sorted(listing) == sorted(expected)
    done = subprocess.run(["tar", "-d", "-C", str(source)], input=out.getvalue(), capture_output=True)
    assert [line for line in done.stdout.decode().splitlines() if "Mod time" not in line and "Uid" not in line] == []


def test_owners_can_be_mapped(tmp_path: Path) -> None:  # A20
    (tmp_path / "f").touch()
    data = layer_of(tmp_path, changes_overlay(str(tmp_path), []), owner=lambda _uid, _gid: (0, 7))
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert (tar.getmember("f").uid, tar.getmember("f").gid) == (0, 7)


def test_a_file_that_shrinks_while_it_is_read_is_reported(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(bytes(3 << 20))

    def sink(data: bytes | bytearray | memoryview) -> None:
        if len(data) > 100_000:
            os.truncate(tmp_path / "log", 0)

    with pytest.raises(FileChanged, match="'log' changed"):
        write_layer(sink, str(tmp_path), [Change("A", "log")])


def test_paths_that_vanish_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    assert names_in(layer_of(tmp_path, [Change("A", "x"), Change("A", "y/z"), Change("A", "f")])) == ["f"]


def test_links_swapped_into_a_live_tree_are_not_followed(tmp_path: Path) -> None:  # threat 2
    root = tmp_path / "root"
    (root / "d").mkdir(parents=True)
    (root / "d/secret").touch()
    (tmp_path / "host").mkdir()
    (tmp_path / "host/secret").write_text("host")
    changes = list(changes_overlay(str(root), []))
    shutil.rmtree(root / "d")
    (root / "d").symlink_to(tmp_path / "host")
    assert b"host" not in layer_of(root, [each for each in changes if each.path != "d"])


def test_usage_counts_hard_links_once(tmp_path: Path) -> None:  # S45
    (tmp_path / "d").mkdir()
    (tmp_path / "d/f").write_bytes(bytes(5000))
    os.link(tmp_path / "d/f", tmp_path / "g")
    (tmp_path / "l").symlink_to("12345")
    usage = tree_usage(str(tmp_path))
    assert (usage.bytes, usage.inodes) == (5005, 4)
    assert usage.disk >= 5000


def test_deep_trees(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d", dir_fd=fd)
        child = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = child
    os.close(fd)
    assert tree_usage(str(tmp_path)).inodes == 1201
    assert len(lines(changes_overlay(str(tmp_path), []))) == 1200
    subprocess.run(["rm", "-rf", str(tmp_path / "d")], check=True)
