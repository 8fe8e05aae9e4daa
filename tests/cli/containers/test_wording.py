"""Answers of the container commands, word for word those of docker 28.2.2 beside a dockerd."""

from __future__ import annotations

import os

import pytest

from lamina.linux import mounts
from lamina.testing.commandline import CommandLine

pytestmark = [pytest.mark.root, pytest.mark.runtime]
DAEMON = "Error response from daemon: "


def test_commands_on_a_running_container(lamina):
    container = lamina.out("run", "-d", "--name", "one", "-p", "127.0.0.1::80", "busybox", "sleep", "100")
    lamina.out("create", "--name", "rest", "busybox")
    cases = [
        # C18
        (("attach", "rest"), 1, "You cannot attach to a stopped container, start it first\n"),
        # C25
        (("port", "one", "81"), 1, "Error: No public port '81' published for one\n"),
        (
            ("port", "one", "foo"),
            1,
            'Error: invalid port (foo): strconv.ParseUint: parsing "foo": invalid syntax\n',
        ),
        (
            ("rename", "nope", "x"),
            1,
            f"{DAEMON}No such container: nope\nError: failed to rename container named nope\n",
        ),
        (
            ("rename", "one", "b d"),
            1,
            f"{DAEMON}Error when allocating new name: Invalid container name (b d)",
        ),
        # C19
        (("exec", "-u", "nobody-here", "one", "id"), 126, "unable to find user nobody-here"),
        (("exec", "-d", "one", "nosuch"), 1, f"{DAEMON}OCI runtime exec failed: exec failed: "),
        (("exec", "-e", "", "one", "env"), 125, 'invalid argument "" for "-e, --env" flag: invalid environment '),
        # C29
        (("start", "nope"), 1, f"{DAEMON}No such container: nope\nError: failed to start containers: nope\n"),
    ]
    for words, status, said in cases:
        done = lamina(*words)
        assert (words, done.returncode, done.stderr[: len(said)]) == (words, status, said)
    top = lamina.out("top", "one").splitlines()[0]
    assert top.startswith("UID                 PID                 PPID                C")
    assert lamina.out("ps", "--format", "{{json .}}").count('"Platform":null') == 1
    assert container


def test_stats_of_what_does_not_run_are_zeros(lamina):  # C30
    lamina.out("create", "--name", "idle", "busybox")
    shown = lamina.out("stats", "--no-stream", "--format", "{{.CPUPerc}} {{.MemUsage}} {{.NetIO}} {{.PIDs}}", "idle")
    assert shown == "0.00% 0B / 0B 0B / 0B 0"


def test_df_counts_the_users_of_a_volume_and_lists_containers(lamina):  # C38, S45
    lamina.out("run", "--name", "user", "-v", "kept:/data", "busybox", "sh", "-c", "head -c 5000 /dev/zero > /root/x")
    lamina.out("volume", "create", "idle")
    rows = dict(
        line.split(" ", 1)
        for line in lamina.out(
            "system", "df", "--format", "{{.Type}} {{.TotalCount}} {{.Active}} {{.Size}} {{.Reclaimable}}"
        )
        .replace("Local Volumes", "Volumes")
        .replace("Build Cache", "Cache")
        .splitlines()
    )
    assert rows["Containers"] == "1 0 5kB 5kB (100%)"
    assert rows["Volumes"].startswith("2 1 ")
    assert rows["Volumes"].endswith(" 0B (0%)")
    verbose = lamina.out("system", "df", "-v").splitlines()
    columns = ["CONTAINER ID", "IMAGE", "COMMAND", "LOCAL VOLUMES", "SIZE", "CREATED", "STATUS", "NAMES"]
    header = next(line for line in verbose if line.startswith("CONTAINER ID"))
    assert [word.strip() for word in header.split("   ") if word.strip()] == columns
    assert any(line.startswith("kept ") and line.split()[1] == "1" for line in verbose)


def test_tmpfs_takes_the_options_of_the_kernel(lamina):  # C13
    script = "stat -c %a:%u /t; grep ' /t ' /proc/mounts"
    shown = lamina.out("run", "--rm", "--tmpfs", "/t:size=1m,mode=700,uid=33", "busybox", "sh", "-c", script)
    assert shown.startswith("700:33\n")
    assert "size=1024k" in shown


def test_a_volume_given_twice_is_one(lamina, tmp_path):  # C13: by scripts that build command lines
    assert lamina("run", "--rm", "-v", f"{tmp_path}:/x", "-v", f"{tmp_path}:/x", "busybox", "true").returncode == 0


def test_what_cannot_be_is_refused_before_a_container_is_made(shared_store):  # C13, C14, S20
    ask = CommandLine(shared_store.root.parent)
    ask.root = shared_store.root
    cases = [
        (("-p", "18099-18095:80"), "invalid hostPort: 18099-18095"),
        (("-p", "80:80:80:80"), "invalid IP address: 80:80"),
        (
            ("--expose", "x"),
            'invalid range format for --expose: x, error: strconv.ParseUint: parsing "x": invalid syntax',
        ),
        (("--expose", "9-8"), "invalid range format for --expose: 9-8, error: invalid range specified for port: 9-8"),
        (("--uts", "host", "-h", "x"), f"{DAEMON}conflicting options: hostname and the UTS mode"),
        (("--ipc", "x"), f"{DAEMON}invalid IPC mode: x"),
        (("--shm-size", "-1"), 'invalid argument "-1" for "--shm-size" flag: invalid size: \'-1\''),
        (("-m", "-1"), 'invalid argument "-1" for "-m, --memory" flag: invalid size: \'-1\''),
        (("--oom-score-adj", "1001"), f"{DAEMON}invalid value 1001, range for oom score adj is [-1000, 1000]"),
        (("--stop-signal", "x"), f"{DAEMON}invalid signal: x"),
        (("--log-driver", "x"), f'{DAEMON}error looking up logging plugin x: plugin "x" not found'),
        (("--log-opt", "x=y"), f"{DAEMON}unknown log opt 'x' for json-file log driver"),
        (("--cpuset-cpus", "7777"), f"{DAEMON}Requested CPUs are not available - requested 7777, available: 0"),
        (("--cpuset-cpus", "x"), f"{DAEMON}Invalid value x for cpuset cpus"),
        (("--health-cmd", "x", "--health-interval", "1ns"), f"{DAEMON}interval in Healthcheck cannot be less than 1ms"),
        (("--mac-address", "x"), "x is not a valid mac address"),
        (
            ("--mac-address", "02:42:ac:11:00:99", "--network", "host"),
            f"{DAEMON}conflicting options: mac-address and t",
        ),
        (("-v", ":/t"), f"{DAEMON}invalid spec: :/t: empty section between colons"),
        (
            ("-v", "/tmp:t"),
            f"{DAEMON}invalid volume specification: '/tmp:t': invalid mount config for type \"bind\": inv",
        ),
    ]
    for words, said in cases:
        done = ask("run", *words, "busybox", "true")
        assert (words, done.status, done.err.removeprefix("lamina: ")[: len(said)]) == (words, 125, said)
    assert shared_store.out("ps", "-aq") == ""


def test_refusals_of_a_start(lamina):  # C13
    cases = [
        (("--cap-add", "foo"), f'{DAEMON}invalid CapAdd: unknown capability: "CAP_FOO"'),
        (("--cap-drop", "foo"), f'{DAEMON}invalid CapDrop: unknown capability: "CAP_FOO"'),
        (("--security-opt", "foo=bar"), f'{DAEMON}invalid --security-opt 2: "foo=bar"'),
    ]
    for words, said in cases:
        done = lamina("run", "--rm", "--network", "none", *words, "busybox", "true")
        assert (words, done.returncode, done.stderr.removeprefix("lamina: ")[: len(said)]) == (words, 125, said)


def test_ipc_modes(lamina):  # C13
    shown = "grep -c ' /dev/shm ' /proc/mounts; grep -c ' /dev/mqueue ' /proc/mounts; readlink /proc/self/ns/ipc"
    none = lamina("run", "--rm", "--network", "none", "--ipc", "none", "busybox", "sh", "-c", shown).stdout.split()
    host = lamina("run", "--rm", "--network", "none", "--ipc", "host", "busybox", "sh", "-c", shown).stdout.split()
    assert none[:2] == ["0", "1"]
    assert host == ["1", "1", os.readlink("/proc/self/ns/ipc")]
    assert none[2] != host[2]


def test_a_container_has_the_hardware_address_it_asks_for(lamina):  # C13
    show = ("busybox", "cat", "/sys/class/net/eth0/address")
    assert lamina.out("run", "--name", "own", "--mac-address", "92-D0-c6-0a-29-33", *show) == "92:d0:c6:0a:29:33"
    assert lamina.out("start", "-a", "own") == "92:d0:c6:0a:29:33"
    refused = lamina("update", "-m", "1m", "own")
    assert (refused.returncode, refused.stderr) == (1, f"{DAEMON}Minimum memory limit allowed is 6MB\n")


def test_memory_that_is_lent_is_shared_until_the_lender_ends(lamina):  # C13 --ipc
    quiet = ("--network", "none")
    write = "echo lent > /dev/shm/note; exec sleep 100"
    lamina.out("run", "-d", "--name", "lender", "--ipc", "shareable", *quiet, "busybox", "sh", "-c", write)
    read = "until [ -s /dev/shm/note ]; do :; done; cat /dev/shm/note; readlink /proc/self/ns/ipc"
    shown = lamina.out("run", "--rm", "--ipc", "container:lender", *quiet, "busybox", "sh", "-c", read).split()
    assert shown == ["lent", lamina.out("exec", "lender", "readlink", "/proc/self/ns/ipc")]
    lamina.out("run", "-d", "--name", "alone", "--pids-limit", "-5", "--read-only", *quiet, "busybox", "sleep", "100")
    refused = lamina("run", "--rm", "--ipc", "container:alone", *quiet, "busybox", "true")
    said = "non-shareable IPC (hint: use IpcMode:shareable for the donor container)"
    assert (refused.returncode, said in refused.stderr) == (125, True)
    assert lamina("exec", "alone", "touch", "/etc/hosts").returncode == 1  # read-only as the rest of it
    lamina.out("rm", "-f", "lender", "alone")
    with lamina.engine() as engine:
        assert mounts.mount_points(engine.runtime_paths.run_root) == []
