"""Identity of processes: a pid alone may be another process by now, pid and start time together are one for good."""

from __future__ import annotations

import os


def start_time(pid: int) -> int | None:
    """When a process started, in clock ticks after boot (proc_pid_stat(5) field 22), or None when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            stat = file.read()
    except OSError:
        return None
    # The command name in parentheses may hold anything; fields are counted after its end.
    fields = stat[stat.rindex(b")") + 2 :].split()
    if fields[0] in {b"Z", b"X"}:
        return None
    return int(fields[19])


def stamp(pid: int | None = None) -> str:
    """`pid start-time` of a process (this one by default), to be written down and checked with `alive`."""
    number = os.getpid() if pid is None else pid
    return f"{number} {start_time(number)}"


def alive(text: str) -> bool:
    """Whether the very process of a stamp still runs."""
    pid, _, started = text.strip().partition(" ")
    if not (pid.isdigit() and started.isdigit()):
        return False
    return start_time(int(pid)) == int(started)
