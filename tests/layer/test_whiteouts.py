"""Whiteouts against a small reference model, in both modes (threats 6, 7; OCI image-spec layer.md)."""

from __future__ import annotations

import io
import os
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lamina.layer import whiteout
from lamina.layer.apply import LowerEntry, WhiteoutMode, apply_layer
from lamina.layer.entry import BadArchive, Kind
from lamina.layer.paths import UnsafeEntry
from lamina.testing.evil_tar import archive, directory, file

# A layer is a list of (what, path): "f" file, "d" directory with mode 0711, "w" whiteout, "o" opaque mark.
FAST = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
Layer = list[tuple[str, str]]
Tree = dict[str, tuple[str, object]]


def _remove(tree: Tree, path: str, *, only_below: bool = False) -> None:
    for each in list(tree):
        if each.startswith(path + "/") or (each == path and not only_below) or (not path and only_below):
            del tree[each]


def model(lower: Tree, layer: Layer, number: int) -> Tree | None:
    """The reference: first hide, then add in order. None when an entry lies below a file of its own layer."""
    tree = dict(lower)
    for what, path in layer:
        if what == "w":
            _remove(tree, path)
        elif what == "o":
            _remove(tree, path, only_below=True)
    own: set[str] = set()
    for index, (what, path) in enumerate(layer):
        parents = path.split("/")[:-1] if what in "fdw" else path.split("/")
        # A whiteout needs its parent only if it is made at all; it never makes one here.
        if what in "wo":
            if any(
                "/".join(parents[: n + 1]) in own and tree.get("/".join(parents[: n + 1]), "d")[0] == "f"
                for n in range(len(parents))
            ):
                return None
            continue
        for n in range(len(parents)):
            parent = "/".join(parents[: n + 1])
            if tree.get(parent, ("d", 0))[0] == "f":
                if parent in own:
                    return None
                del tree[parent]
            tree.setdefault(parent, ("d", 0o755))
            own.add(parent)
        if what == "f":
            _remove(tree, path)
            tree[path] = ("f", f"{number}.{index}")
        else:
            if tree.get(path, ("d", 0))[0] == "f":
                del tree[path]
            tree[path] = ("d", 0o711)
        own.add(path)
    return tree


def pack(layer: Layer, number: int) -> bytes:
    members = []
    for index, (what, path) in enumerate(layer):
        parent, _, base = path.rpartition("/")
        prefix = parent + "/" if parent else ""
        if what == "f":
            members.append(file(path.encode(), f"{number}.{index}".encode()))
        elif what == "d":
            members.append(directory(path.encode(), 0o711))
        elif what == "w":
            members.append(file(f"{prefix}.wh.{base}".encode(), b""))
        else:
            members.append(file(f"{path}/.wh..wh..opq".encode(), b""))
    return archive(*members)


def scan(root: str) -> Tree:
    tree: Tree = {}
    for where, names, files in os.walk(root):
        for name in names + files:
            full = os.path.join(where, name)
            status = os.lstat(full)
            path = os.path.relpath(full, root)
            if stat.S_ISDIR(status.st_mode):
                tree[path] = ("d", stat.S_IMODE(status.st_mode))
            else:
                tree[path] = ("f", Path(full).read_text())
    return tree


_NAMES = st.sampled_from("abc")
_PATHS = st.lists(_NAMES, min_size=1, max_size=3).map("/".join)
_LAYERS = st.lists(st.tuples(st.sampled_from("ffddwo"), _PATHS), min_size=1, max_size=7)


def _blocked_mark(tree: Tree, layer: Layer) -> bool:
    """A whiteout below a file: both modes ignore or refuse it in their own way, the model has no opinion."""
    return any(
        what in "wo"
        and any(
            path.startswith(other + "/") or (what == "o" and path == other)
            for other in [p for w, p in layer if w == "f"] + [p for p, v in tree.items() if v[0] == "f"]
        )
        for what, path in layer
    )


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(_LAYERS, min_size=1, max_size=3))
@example([[("f", "a/b")], [("d", "a"), ("f", "a/c"), ("w", "a")]])
@example([[("f", "a/b")], [("f", "a/c"), ("o", "a")]])
@example([[("f", "a/b")], [("f", "a"), ("d", "a")]])
def test_remove_mode_matches_the_model(layers: list[Layer]) -> None:
    with tempfile.TemporaryDirectory(dir=FAST) as root:
        expected: Tree = {}
        for number, layer in enumerate(layers):
            if _blocked_mark(expected, layer):
                return
            after = model(expected, layer, number)
            data = io.BytesIO(pack(layer, number))
            if after is None:
                with pytest.raises(BadArchive):
                    apply_layer(data, root, whiteouts=WhiteoutMode.REMOVE)
                return
            apply_layer(data, root, whiteouts=WhiteoutMode.REMOVE)
            assert scan(root) == after
            expected = after


@pytest.mark.root
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(_LAYERS, min_size=2, max_size=3))
@example([[("f", "a/b")], [("d", "a"), ("f", "a/c"), ("w", "a")]])
@example([[("f", "a/b")], [("f", "a"), ("d", "a")]])
@example([[("f", "a/b/c")], [("w", "a"), ("w", "a/b"), ("f", "a/b/d")]])
@example([[("f", "a/b/c")], [("o", "a"), ("w", "a/b")]])
@example([[("f", "a/a/a")], [("f", "a/b"), ("w", "a/a/a"), ("w", "a")]])
@example([[("f", "a/b")], [("w", "a"), ("f", "a/c"), ("w", "b")], [("f", "a/b"), ("w", "a/c")]])
def test_overlay_mode_matches_the_model_on_a_real_mount(layers: list[Layer]) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting an overlay needs root")
    base = tempfile.mkdtemp(dir=FAST)
    point = os.path.join(base, "mnt")
    os.mkdir(point)
    expected: Tree = {}
    uppers: list[str] = []
    try:
        for number, layer in enumerate(layers):
            after = None if _blocked_mark(expected, layer) else model(expected, layer, number)
            if after is None:
                break
            below = dict(expected)

            def lower(path: str, below: Tree = below) -> LowerEntry | None:
                found = below.get(path)
                if found is None:
                    return None
                return LowerEntry(Kind.DIR, mode=int(str(found[1]))) if found[0] == "d" else LowerEntry(Kind.FILE)

            upper = os.path.join(base, str(number))
            os.mkdir(upper)
            apply_layer(io.BytesIO(pack(layer, number)), upper, whiteouts=WhiteoutMode.OVERLAY, lower=lower)
            uppers.insert(0, upper)
            expected = after
        if uppers:
            os.mkdir(os.path.join(base, "empty"))
            option = "lowerdir=" + ":".join([*uppers, os.path.join(base, "empty")])
            subprocess.run(["mount", "-t", "overlay", "-o", option, "overlay", point], check=True)
            try:
                assert scan(point) == expected
            finally:
                subprocess.run(["umount", point], check=True)
    finally:
        shutil.rmtree(base)


def test_an_opaque_mark_after_its_siblings_spares_them(merged, root: Path) -> None:  # threat 6
    merged(archive(file(b"d/old"), file(b"d/both")))
    merged(archive(file(b"d/new"), file(b"d/both", b"newer"), file(b"d/.wh..wh..opq", b"")))
    assert sorted(os.listdir(root / "d")) == ["both", "new"]
    assert (root / "d/both").read_bytes() == b"newer"


def test_whiteouts_become_overlay_whiteouts(overlay, root: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("the trusted.overlay attributes need root")
    done = overlay(archive(file(b"a/.wh.gone", b""), file(b"b/.wh..wh..opq", b""), file(b"b/kept")))
    assert whiteout.is_overlay_whiteout((root / "a/gone").lstat())
    assert os.getxattr(root / "b", "trusted.overlay.opaque") == b"y"
    assert (done.whiteouts, done.opaques, done.implicit_dirs) == (1, 1, ("a", "b"))


def test_userxattr_marks(overlay, root: Path) -> None:
    overlay(archive(file(b"b/.wh..wh..opq", b"")), userxattr=True)
    assert os.getxattr(root / "b", "user.overlay.opaque") == b"y"


def test_a_device_zero_in_an_archive_deletes_nothing(merged, overlay, root: Path) -> None:  # threat 7
    from lamina.testing.evil_tar import raw_header

    merged(archive(file(b"x")))
    assert overlay(archive(raw_header(b"x", b"3"))).devices_skipped == 1
    assert (root / "x").is_file()


@pytest.mark.parametrize("base", [".wh.", ".wh..", ".wh..."])
def test_whiteouts_without_a_usable_name_are_refused(base: str) -> None:  # threat 6
    with pytest.raises(UnsafeEntry):
        whiteout.parse(base, "dir/" + base)


def test_names_that_look_like_whiteouts() -> None:
    assert whiteout.parse(".why", ".why") is None
    assert whiteout.parse(".wh.a", ".wh.a") == (whiteout.Mark.WHITEOUT, "a")
    assert whiteout.parse(".wh..a", ".wh..a") == (whiteout.Mark.WHITEOUT, ".a")
    assert whiteout.parse(".wh..wh..opq", "x") == (whiteout.Mark.OPAQUE, "")
    assert whiteout.parse(".wh..wh.aufs", "x") == (whiteout.Mark.METADATA, "")
