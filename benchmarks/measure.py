"""Runs one command and tells how long it took and how much memory it held."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


class ToolFailed(Exception):
    """A measured command failed; the message holds the end of what it said."""


@dataclass(frozen=True)
class Run:
    """One finished command: wall seconds, peak resident memory of its largest process in MiB, and its output."""

    seconds: float
    rss: float
    output: str


def run(argv: Sequence[str], env: Mapping[str, str], *, cwd: str | None = None, timeout: float = 600) -> Run:
    """Run a command to its end.

    The memory is `ru_maxrss` of the command and of the children it waited for (the largest one, not the sum).

    Raises:
        ToolFailed: exit code not 0, or it ran past `timeout` seconds.
    """
    with tempfile.TemporaryFile() as said:
        begin = time.perf_counter()
        process = subprocess.Popen(argv, env=dict(env), cwd=cwd, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        status, usage = _wait(process, begin + timeout)
        seconds = time.perf_counter() - begin
        said.seek(0)
        output = said.read().decode(errors="replace")
    if status != 0:
        tail = " | ".join(output.strip().splitlines()[-4:])
        raise ToolFailed(f"{' '.join(argv[:6])} ...: exit {os.waitstatus_to_exitcode(status)}: {tail[-600:]}")
    return Run(seconds, usage, output)


def _wait(process: subprocess.Popen[bytes], deadline: float) -> tuple[int, float]:
    """Wait by pidfd, then collect status and usage (MiB)."""
    import select

    pidfd = os.pidfd_open(process.pid)
    try:
        if not select.select([pidfd], [], [], max(0.0, deadline - time.perf_counter()))[0]:
            process.kill()
    finally:
        os.close(pidfd)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return status, usage.ru_maxrss / 1024


def reset_peak(pid: int) -> None:
    """Forget the peak memory of a daemon, so that `peak` tells about what comes next."""
    with open(f"/proc/{pid}/clear_refs", "w") as control:
        control.write("5")


def peak(pid: int) -> float:
    """Peak resident memory of a running process, MiB."""
    with open(f"/proc/{pid}/status") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return 0.0
