"""Answers of the container commands, word for word those of docker 28.2.2 beside a dockerd."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.root, pytest.mark.runtime]
DAEMON = "Error response from daemon: "


def test_commands_on_a_running_container(lamina):
    container = lamina.out("run", "-d", "--name", "one", "-p", "127.0.0.1::80", "busybox", "sleep", "100")
    cases = [
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
