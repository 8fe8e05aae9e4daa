"""Mount values against the real kernel."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lamina.linux import mounts, syscalls

root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")


@pytest.fixture
def area(tmp_path: Path):
    yield tmp_path
    for point in reversed(mounts.mount_points(str(tmp_path))):
        mounts.Unmount(point, detach=True).execute()


def _layers(area: Path, count: int, name_length: int = 1) -> list[str]:
    made = []
    for number in range(count):
        layer = area / "layers" / f"{number:0{name_length}d}"
        layer.mkdir(parents=True)
        (layer / f"from{number}").write_text(str(number))
        (layer / "who").write_text(str(number))
        made.append(str(layer))
    return made


@pytest.mark.root
@root
def test_overlay_shows_the_first_lower_on_top_and_writes_to_upper(area: Path):
    lower = _layers(area, 3)
    for name in ("upper", "work", "merged"):
        (area / name).mkdir()
    mounts.Overlay(tuple(lower), str(area / "merged"), str(area / "upper"), str(area / "work")).execute()
    assert (area / "merged/who").read_text() == "0"
    assert (area / "merged/from2").read_text() == "2"
    (area / "merged/new").write_text("x")
    assert (area / "upper/new").read_text() == "x"


@pytest.mark.root
@root
@pytest.mark.parametrize("way", ["execute", "_execute_by_context", "_execute_relative"])
def test_more_layers_than_fit_one_page_of_options(area: Path, way: str):
    lower = _layers(area, 120, 12 if way == "_execute_relative" else 60)
    for name in ("upper", "work", "merged"):
        (area / name).mkdir()
    value = mounts.Overlay(tuple(lower), str(area / "merged"), str(area / "upper"), str(area / "work"), ("index=off",))
    assert len(value.describe()) > 4096
    before = os.getcwd()
    getattr(value, way)()
    assert os.getcwd() == before
    assert sorted(os.listdir(area / "merged")) == sorted(["who", *(f"from{n}" for n in range(120))])
    assert (area / "merged/who").read_text() == "0"


@pytest.mark.root
@root
def test_paths_with_separators_of_the_option_string(area: Path):
    odd = area / "a:b,c\\d=e f"
    for name in ("one", "two", "upper,x", "work:x", "merged"):
        (odd / name).mkdir(parents=True)
    (odd / "one/f").write_text("one")
    value = mounts.Overlay(
        (str(odd / "one"), str(odd / "two")), str(odd / "merged"), str(odd / "upper,x"), str(odd / "work:x")
    )
    value.execute()
    (odd / "merged/g").write_text("g")
    assert (odd / "merged/f").read_text() == "one"
    assert (odd / "upper,x/g").read_text() == "g"
    assert mounts.mount_points(str(odd)) == [str(odd / "merged")]


@pytest.mark.root
@root
def test_read_only_bind_refuses_writes_below_too(area: Path):
    (area / "src/deep").mkdir(parents=True)
    (area / "dst").mkdir()
    mounts.Tmpfs(str(area / "src/deep"), size=1 << 20).execute()
    mounts.Bind(str(area / "src"), str(area / "dst"), readonly=True).execute()
    (area / "src/deep/ok").write_text("")
    assert os.listdir(area / "dst/deep") == ["ok"]
    with pytest.raises(OSError, match="Read-only"):
        (area / "dst/deep/no").write_text("")


@pytest.mark.root
@root
def test_unmount_twice_is_fine_and_never_follows_a_link(area: Path):
    (area / "m").mkdir()
    mounts.Tmpfs(str(area / "m")).execute()
    (area / "link").symlink_to("m")
    mounts.Unmount(str(area / "link")).execute()
    assert mounts.mount_points(str(area)) == [str(area / "m")]
    mounts.Unmount(str(area / "m")).execute()
    mounts.Unmount(str(area / "m")).execute()
    mounts.Unmount(str(area / "gone")).execute()
    with pytest.raises(syscalls.SyscallFailed, match="umount2"):
        mounts.Unmount(str(area / "m"), missing_ok=False).execute()


@pytest.mark.root
@root
def test_a_failing_list_is_undone(area: Path):
    (area / "m").mkdir()
    with pytest.raises(syscalls.SyscallFailed) as caught:
        mounts.execute_all([mounts.Tmpfs(str(area / "m")), mounts.Tmpfs(str(area / "missing"))])
    assert caught.value.call == "mount"
    assert str(area / "missing") in str(caught.value)
    assert mounts.mount_points(str(area)) == []


@pytest.mark.parametrize(
    "make",
    [
        lambda: mounts.Bind("/a", "/b", propagation="shared,rw"),
        lambda: mounts.Bind("/a", "/b\nc"),
        lambda: mounts.Bind("a", "/b"),
        lambda: mounts.Overlay(("/a",), "/b", options=("upperdir=/etc",)),
        lambda: mounts.Overlay(("/a",), "/b", options=("index=off,upperdir=/etc",)),
        lambda: mounts.Overlay((), "/b"),
        lambda: mounts.Overlay(("/a",), "/b", upper="/c"),
    ],
)
def test_options_outside_the_list_never_reach_the_kernel(make):  # threat 22
    with pytest.raises(mounts.BadMount):
        make()
