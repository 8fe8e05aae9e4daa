"""What stores below a folder have left on the machine outside of it, found without touching anyone else's.

A bridge is told by the note that names its store's index, a process by a path in its arguments, a run directory by its
name, which is made from the store's path. So several test runs at once see each only their own.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from lamina.engine.settings import Settings
from lamina.linux.mounts import mount_points
from lamina.runtime.network import traces
from lamina.testing.takedown import take_down

#: An index in one of these names makes a folder a store.
INDEXES = ("lamina.db", "index.db")


def stores(folder: str) -> list[str]:
    """The directories at or below `folder` that hold a store; what is inside a store is not looked through."""
    found: list[str] = []
    for where, names, files in os.walk(folder):
        if any(name in files for name in INDEXES):
            found.append(where)
            names.clear()
    return found


def left_by(folder: str, *, patience: float = 10) -> list[str]:
    """One line for each thing that still lives on the machine: bridges, mounts, processes.

    Args:
        folder: everything that is looked for belongs to a store at or below it.
        patience: seconds that each process gets to end by itself.
    """
    roots = stores(folder)
    marks = [folder, *(Settings.at(root).run_root for root in roots)]
    return [
        *(f"bridge {bridge} of {database}" for bridge, database in _bridges(folder)),
        *(f"mount {point}" for mark in marks for point in mount_points(mark)),
        *(f"process {pid}: {line}" for pid, line in still_running(marks, patience=patience)),
    ]


def sweep(folder: str, left: Sequence[str]) -> None:
    """Take down what `left_by` found, and remove the run directories of the stores, which a reboot would wipe."""
    roots = stores(folder)
    run_roots = [Settings.at(root).run_root for root in roots]
    if left:
        for root in {*roots, *(os.path.dirname(database) for _bridge, database in _bridges(folder))}:
            take_down(root)
        for pid, _line in _processes([folder, *run_roots]):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    for run in run_roots:
        shutil.rmtree(run, ignore_errors=True)


def _bridges(folder: str) -> Iterator[tuple[str, str]]:
    """Names of bridges whose store is below `folder`, with the store's index."""
    with suppress(FileNotFoundError, PermissionError):
        for note in sorted(Path(traces.NOTES).iterdir()):
            with suppress(OSError, ValueError, KeyError):
                database = str(json.loads(note.read_text())["database"])
                if database.startswith(f"{folder}/") and os.path.exists(f"/sys/class/net/{note.name}"):
                    yield note.name, database


def _processes(marks: list[str]) -> Iterator[tuple[int, str]]:
    """Processes with a path of ours in their arguments, except this one and those it was started by."""
    ours = set(_ancestors())
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) not in ours:
            with suppress(OSError):
                line = Path("/proc", name, "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if any(f"{mark}/" in line or f"{mark} " in line for mark in marks):
                    yield int(name), line.strip()


def _ancestors() -> Iterator[int]:
    pid = os.getpid()
    while pid:
        yield pid
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            pid = int(file.read().rpartition(")")[2].split()[1])


def still_running(marks: list[str], *, patience: float = 10) -> Iterator[tuple[int, str]]:
    """Processes with one of these paths in their arguments that do not end in time, with their command lines."""
    for pid, line in list(_processes(marks)):
        try:
            watched = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            if not select.select([watched], [], [], patience)[0]:
                yield pid, line
        finally:
            os.close(watched)
