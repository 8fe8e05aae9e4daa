"""What docker's client and daemon refuse of `run`, `create` and `cp`, in their words and with their statuses."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from lamina.linux import mounts

pytestmark = [pytest.mark.root, pytest.mark.runtime]
DAEMON = "Error response from daemon: "


def test_shared_binds_need_a_host_mount_that_takes_part(lamina, tmp_path: Path):  # C54, threat 22
    private = tmp_path / "private"
    private.mkdir()
    mounts.Tmpfs(str(private)).execute()
    try:
        subprocess.run(["mount", "--make-private", str(private)], check=True)
        words = [("rshared", "shared"), ("shared", "shared"), ("rslave", "shared or slave")]
        for propagation, wanted in words:
            done = lamina("run", "--rm", "--network", "none", "-v", f"{private}:/y:{propagation}", "busybox", "true")
            said = f"path {private} is mounted on {private} but it is not a {wanted} mount"
            assert (done.returncode, said in done.stderr) == (125, True), done.stderr
        subprocess.run(["mount", "--make-shared", str(private)], check=True)
        done = lamina("run", "--rm", "--network", "none", "-v", f"{private}:/y:rslave", "busybox", "true")
        assert (done.returncode, done.stderr) == (0, "")
        assert mounts.mount_of(f"{private}/x")[0] == str(private)
    finally:
        mounts.Unmount(str(private), detach=True).execute()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--network", "none", "--network", "none"), 'network "none" is specified multiple times'),
        (
            ("--network", "own", "--network", "host"),
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes",
        ),
        (
            ("--network", "host", "--network", "none"),
            f"{DAEMON}Container cannot be connected to network endpoints: host, none",
        ),
        (("--pull", "bogus"), 'invalid pull option: \'bogus\': must be one of "always", "missing" or "never"'),
        (("--rm", "--restart", "always"), "conflicting options: cannot specify both --restart and --rm"),
    ],
)
def test_create_and_run_refuse_alike(lamina, words, said):  # C13, C14
    named = "lamina: {}\n\nRun 'lamina {} --help' for more information\n"
    done = lamina("run", *words, "busybox", "true")
    assert (done.returncode, done.stderr) == (125, named.format(said, "run"))
    done = lamina("create", *words, "busybox", "true")
    expected = (1, f"{said}\n") if said.startswith(DAEMON) else (125, named.format(said, "create"))
    assert (done.returncode, done.stderr) == expected
    assert lamina.out("ps", "-aq") == ""


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("busybox", ""), 127, 'exec: "": executable file not found in $PATH'),
        (("--device", "/dev/nope", "busybox", "true"), 127, 'adding custom device "/dev/nope": no such file or dir'),
        (("-u", "1:2:3", "busybox", "sh", "-c", "exit $(id -g)"), 2, ""),
    ],
)
def test_what_starts_and_what_does_not(lamina, words, status, said):
    done = lamina("run", "--rm", "--network", "none", *words)
    assert done.returncode == status
    assert said in done.stderr


def test_the_words_of_cp(lamina, tmp_path: Path):  # C17
    lamina.out("create", "--name", "one", "--network", "none", "busybox")
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.write_text("x")
    folder.mkdir()
    missing = tmp_path / "missing"
    for words, said in [
        ((missing, "one:/tmp"), f"lstat {missing}: no such file or directory"),
        ((file, "one:/none/x"), f"{DAEMON}Could not find the file /none in container one"),
        ((file, "one:/none/"), "no such directory"),
        ((file, "one:/etc/passwd/x"), f"{DAEMON}extraction point is not a directory"),
        ((folder, "one:/etc/passwd"), "cannot copy directory"),
        ((f"{file}/", "one:/tmp"), "not a directory"),
        ((file, "one:"), "no such directory"),
        (("-", "one:/none"), 'destination "one:/none" must be a directory'),
        (("one:/nope", tmp_path), f"{DAEMON}Could not find the file /nope in container one"),
        (("one:/etc/passwd", missing / "x"), f'invalid output path: directory "{missing}" does not exist'),
        (("one:/etc/passwd", f"{file}/"), f"stat {file}/: not a directory"),
        (("one:/etc/passwd", file / "x"), f"stat {file}/x: not a directory"),
        (("one:/etc", file), "cannot copy directory"),
        (("one:", tmp_path), f"{DAEMON}bad parameter: path cannot be empty"),
    ]:
        done = lamina("cp", *map(str, words))
        assert (words, done.returncode, done.stderr) == (words, 1, f"{said}\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--cpu-period", "5"), "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"),
        (("--cpu-quota", "5"), "CPU cfs quota can not be less than 1ms (i.e. 1000)"),
        (("--cpus", "1", "--cpu-period", "50000"), "Conflicting options: Nano CPUs and CPU Period cannot both be set"),
        (("--cpus", "1", "--cpu-quota", "50000"), "Conflicting options: Nano CPUs and CPU Quota cannot both be set"),
        (("--storage-opt", "foo=bar"), "Unknown option foo"),
        (
            ("--storage-opt", "size=1G"),
            "--storage-opt is supported only for overlay over xfs with 'pquota' mount option",
        ),
    ],
)
def test_limits_that_the_daemon_refuses(lamina, words, said):  # C14
    done = lamina("create", *words, "busybox", "true")
    assert (done.returncode, done.stderr) == (1, f"{DAEMON}{said}\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--memory-swappiness", "101"), "lamina: invalid value: 101. Valid memory swappiness range is 0-100"),
        (("--storage-opt", "foo"), "lamina: invalid storage option"),
        (("--device-read-bps", "/dev/x"), "bad format: /dev/x"),
        (("--device-write-bps", "x:1mb"), "bad format for device path: x:1mb"),
        (("--device-read-bps", "/dev/x:zz"), "Unit is optional and can be kb, mb, or gb"),
        (("--device-write-iops", "/dev/x:-1"), "<device-path>:<number>. Number must be a positive integer"),
        (("--device-cgroup-rule", "x"), "invalid device cgroup format 'x'"),
    ],
)
def test_limits_that_the_client_refuses(lamina, words, said):  # C13
    done = lamina("create", *words, "busybox", "true")
    assert (done.returncode, done.stderr.splitlines()[0].endswith(said)) == (125, True), done.stderr


def test_the_rarer_limits_reach_the_kernel_and_inspect(lamina):  # C13
    disk = next((path for path in ("/dev/loop0", "/dev/vda", "/dev/sda") if Path(path).is_block_device()), "")
    rates = ("--device-read-bps", f"{disk}:1mb", "--device-write-iops", f"{disk}:50") if disk else ()
    lamina.out(
        "run", "-d", "--name", "held", "--network", "none", "-m", "64m", "--memory-swappiness", "50",
        "--oom-kill-disable", "--cpu-period", "50000", "--cpu-quota", "20000", "--device-cgroup-rule", "c 10:200 rwm",
        *rates, "busybox", "sleep", "100",
    )  # fmt: skip
    shown = json.loads(lamina.out("inspect", "-f", "{{json .HostConfig}}", "held"))
    assert (shown["CpuPeriod"], shown["CpuQuota"], shown["MemorySwappiness"]) == (50000, 20000, 50)
    assert (shown["OomKillDisable"], shown["DeviceCgroupRules"]) == (True, ["c 10:200 rwm"])
    if disk:
        assert shown["BlkioDeviceReadBps"] == [{"Path": disk, "Rate": 1 << 20}]
        assert shown["BlkioDeviceWriteIOps"] == [{"Path": disk, "Rate": 50}]
    pid = lamina.out("inspect", "-f", "{{.State.Pid}}", "held")
    paths: dict[str, str] = {}
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        paths |= {name: f"/sys/fs/cgroup/{name}{path}" for name in controllers.split(",") if name}
    if "memory" not in paths or "cpu" not in paths:  # cgroup v2
        path = Path(f"/proc/{pid}/cgroup").read_text().strip().rpartition(":")[2]
        assert Path(f"/sys/fs/cgroup{path}/cpu.max").read_text().split() == ["20000", "50000"]
        return
    assert Path(paths["cpu"], "cpu.cfs_quota_us").read_text() == "20000\n"
    assert Path(paths["cpu"], "cpu.cfs_period_us").read_text() == "50000\n"
    assert Path(paths["memory"], "memory.swappiness").read_text() == "50\n"
    assert Path(paths["memory"], "memory.oom_control").read_text().startswith("oom_kill_disable 1\n")
    assert "c 10:200 rwm" in Path(paths["devices"], "devices.list").read_text()
    if disk and "blkio" in paths:
        assert Path(paths["blkio"], "blkio.throttle.read_bps_device").read_text().endswith(" 1048576\n")


def test_a_rate_for_a_device_that_is_not_there(lamina):  # C13
    done = lamina("run", "--rm", "--network", "none", "--device-read-bps", "/dev/nope:1mb", "busybox", "true")
    assert done.returncode == 127
    assert done.stderr.startswith(f"lamina: {DAEMON}stat /dev/nope: no such file or directory\n")
    assert lamina.out("ps", "-aq") == ""
