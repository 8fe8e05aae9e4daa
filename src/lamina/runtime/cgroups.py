"""Control groups by path, for what no runtime takes away any more (cgroups(7))."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

ROOT: Final = "/sys/fs/cgroup"
_ATTEMPTS: Final = 50
_DEATH_SECONDS: Final = 1.0


def remove(path: str, root: str = ROOT) -> None:
    """Kills what is in a control group and removes it, from every hierarchy; none is success.

    Args:
        path: absolute, below each hierarchy's root.
        root: where the hierarchies are mounted.
    """
    for group in list(_groups(path, root)):
        for _ in range(_ATTEMPTS):
            for pid in _members(group):
                _end(pid)
            with suppress(OSError):
                os.rmdir(group)
            if not os.path.isdir(group):
                break


def remove_empty(path: str, root: str = ROOT) -> bool:
    """Removes a control group from every hierarchy, unless something is in it; says whether it is gone.

    Args:
        path: absolute, below each hierarchy's root.
        root: where the hierarchies are mounted.
    """
    for group in _groups(path, root):
        try:
            os.rmdir(group)
        except FileNotFoundError:
            continue
        except OSError:
            return False
    return True


def _groups(path: str, root: str) -> Iterator[str]:
    tops = [root, *(os.path.join(root, name) for name in sorted(os.listdir(root)))] if os.path.isdir(root) else []
    for top in tops:
        if not os.path.islink(top) and os.path.isdir(top + path):
            yield top + path


def _members(group: str) -> list[int]:
    try:
        with open(os.path.join(group, "cgroup.procs"), encoding="ascii") as file:
            return [int(line) for line in file]
    except OSError:
        return []


def _end(pid: int) -> None:
    with suppress(ProcessLookupError):
        fd = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(fd, signal.SIGKILL)
            select.select([fd], [], [], _DEATH_SECONDS)
        finally:
            os.close(fd)
