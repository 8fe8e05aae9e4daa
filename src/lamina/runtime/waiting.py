"""Waits for the end of a container, with or without its conmon, and never by asking again and again."""

from __future__ import annotations

import os
import select
from collections.abc import Sequence
from contextlib import suppress

from lamina.linux import inotify
from lamina.runtime import conmon, process
from lamina.runtime.state import ContainerRecord


def wait_for_exit(directory: str, record: ContainerRecord, seconds: float | None) -> bool:
    """Waits for conmon's note of a container's end, or for conmon's own end.

    Args:
        directory: the container's bundle.
        record: of the container, running.
        seconds: at most, or None for ever.

    Returns:
        False when time ran out first.
    """
    pid = int(record.state.conmon.partition(" ")[0] or 0)
    try:
        watcher = os.pidfd_open(pid) if process.alive(record.state.conmon) else -1
    except ProcessLookupError:
        watcher = -1
    if watcher < 0:
        return _wait_for_process(record, seconds)
    try:
        with inotify.Watch() as watch:
            with suppress(OSError):
                watch.add(directory, inotify.MOVED_TO | inotify.CREATE | inotify.DELETE_SELF)
            if conmon.exit_code(directory) is not None or not os.path.isdir(directory):
                return True
            return _wait_any([watch.fd, watcher], seconds)
    finally:
        os.close(watcher)


def _wait_for_process(record: ContainerRecord, seconds: float | None) -> bool:
    """The same without conmon, which was killed: the container's own process is watched."""
    if not process.alive(record.state.process):
        return True
    try:
        fd = os.pidfd_open(record.state.pid)
    except ProcessLookupError:
        return True
    try:
        return _wait_any([fd], seconds)
    finally:
        os.close(fd)


def _wait_any(fds: Sequence[int], seconds: float | None) -> bool:
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return bool(poll.poll(None if seconds is None else max(0, int(seconds * 1000))))
