"""Options of the `local` volume driver: what a volume stands for is mounted while somebody uses it (C42, C54)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lamina.linux import mounts

pytestmark = [pytest.mark.root, pytest.mark.runtime]
DAEMON = "Error response from daemon: "
TMPFS = ("-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m,uid=33")


def bind(path: Path) -> tuple[str, ...]:
    return ("-o", "type=none", "-o", "o=bind", "-o", f"device={path}")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("-o", "foo=bar"), 'create odd: invalid option: "foo"'),
        (("-o", "type=nfs"), 'create odd: missing required option: "device"'),
        (("-o", "device=/x"), 'create odd: missing required option: "type"'),
        (("-o", "o=bind"), 'create odd: missing required option: "device"'),
        (("-d", "foo"), 'create odd: error looking up volume plugin foo: plugin "foo" not found'),
    ],
)
def test_options_that_make_no_sense(lamina, options: tuple[str, ...], said: str):
    done = lamina("volume", "create", *options, "odd")
    assert (done.returncode, done.stderr) == (1, f"{DAEMON}{said}\n")
    assert lamina.out("volume", "ls", "-q") == ""


def test_a_tmpfs_is_shared_while_it_is_used_and_empty_afterwards(lamina):
    lamina.out("volume", "create", *TMPFS, "fast")
    options = json.loads(lamina.out("volume", "inspect", "fast"))[0]["Options"]
    assert options == {"type": "tmpfs", "device": "tmpfs", "o": "size=1m,uid=33"}
    one = lamina.out("run", "-d", "-v", "fast:/m", "busybox", "sh", "-c", "echo x > /m/x; sleep 100")
    script = "while [ ! -s /m/x ]; do :; done; stat -c %u /m; cat /m/x; grep ' /m ' /proc/mounts"
    shown = lamina.out("run", "--rm", "-v", "fast:/m:ro", "busybox", "sh", "-c", script).splitlines()
    assert shown[:2] == ["33", "x"]
    assert "tmpfs" in shown[2]
    assert "size=1024k" in shown[2]
    assert len(mounts.mount_points(str(lamina.root / "volumes"))) == 1
    lamina.out("rm", "-f", one)
    assert mounts.mount_points(str(lamina.root / "volumes")) == []
    assert lamina.out("run", "--rm", "-v", "fast:/m", "busybox", "ls", "/m") == ""
    lamina.out("volume", "rm", "fast")


def test_a_bound_directory_outlives_the_volume(lamina, tmp_path: Path):
    (tmp_path / "kept").write_text("mine\n")
    lamina.out("volume", "create", *bind(tmp_path), "host")
    assert lamina.out("run", "--rm", "-v", "host:/m", "busybox", "sh", "-c", "cat /m/kept; echo new > /m/new") == "mine"
    assert (tmp_path / "new").read_text() == "new\n"
    lamina.out("run", "--name", "stopped", "-v", "host:/m", "busybox", "true")
    assert lamina("volume", "rm", "host").returncode == 1
    lamina.out("rm", "-v", "stopped")
    lamina.out("volume", "rm", "host")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "new"]


def test_removal_takes_a_mount_that_was_left_and_not_what_it_shows(lamina, tmp_path: Path):  # F8: killed in between
    (tmp_path / "kept").write_text("mine\n")
    lamina.out("volume", "create", *bind(tmp_path), "host")
    with lamina.engine() as engine:
        engine.containers.supervisor.volumes.acquire("host", "0" * 64)
    assert len(mounts.mount_points(str(lamina.root / "volumes"))) == 1
    lamina.out("volume", "rm", "host")
    assert (tmp_path / "kept").exists()
    assert mounts.mount_points(str(lamina.root / "volumes")) == []


def test_an_empty_bound_directory_is_seeded_from_the_image(lamina, tmp_path: Path):  # S58
    lamina.out("volume", "create", *bind(tmp_path), "host")
    assert lamina.out("run", "--rm", "-v", "host:/data", "busybox", "cat", "/data/seed") == "from the image"
    assert (tmp_path / "seed").stat().st_uid == 33


def test_what_cannot_be_mounted_is_named_and_leaves_nothing(lamina, tmp_path: Path):
    lamina.out("volume", "create", *bind(tmp_path / "missing"), "host")
    done = lamina("run", "--rm", "-v", "host:/m", "busybox", "true")
    assert done.returncode == 127  # docker's client reads it off the last words
    assert f"failed to mount local volume: mount {tmp_path}/missing:" in done.stderr
    assert done.stderr.splitlines()[0].endswith(": no such file or directory")
    assert lamina.out("ps", "-aq") == ""


def test_mount_makes_a_volume_with_options(lamina):  # C54
    mount = "type=volume,src=made,dst=/m,volume-opt=type=tmpfs,volume-opt=device=tmpfs"
    assert "tmpfs" in lamina.out("run", "--rm", "--mount", mount, "busybox", "grep", " /m ", "/proc/mounts")
    assert lamina.out("volume", "inspect", "made", "-f", "{{.Options.type}}") == "tmpfs"
