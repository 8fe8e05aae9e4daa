"""A file layer that fails on purpose: the process dies, the power goes, or the disk refuses, at any chosen step.

    faulty = FaultyFiles(at=7, fault=Fault.CRASH)
    with suppress(Crash): Store.open(root, files=faulty) ...
    faulty.power_cut(Loss.DATA)      # optional: lose what was not synced
    Store.open(root) ...             # what a new process finds

Run once without a fault to learn how many `steps` there are. After a crash every further change fails too, in all
threads, as nothing changes on disk after the death of a process.
"""

# ruff: noqa: D102 - the methods of Files are documented there

from __future__ import annotations

import enum
import errno
import os
import shutil
import signal
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress

from lamina.store.files import Files


class Crash(BaseException):
    """The process died here. No `except Exception` may see it, as no handler runs in a dead process."""


class Fault(enum.Enum):
    """What happens at the chosen step."""

    CRASH = "crash"
    """The process dies before the step; a write dies half done."""
    KILL = "kill"
    """The process is killed before the step (SIGKILL); in a process of its own."""
    ENOSPC = "enospc"
    """The disk is full from here on: nothing can be made or written, but things can be removed."""
    EIO = "eio"
    """This one step fails."""


class Loss(enum.Enum):
    """What a power cut takes."""

    NOTHING = "nothing"
    """Everything that was done is on disk (a killed process)."""
    DATA = "data"
    """Names are on disk, but bytes that were not synced are not: files come back cut."""
    ALL = "all"
    """Neither names nor bytes that were not synced are on disk."""


_GROWING = frozenset({"create", "write", "mkdir", "db.commit"})


class FaultyFiles(Files):
    """The file layer with one fault.

    Attributes:
        steps: the names of the steps so far.
    """

    def __init__(self, *, at: int | None = None, fault: Fault = Fault.CRASH, stash: str | None = None) -> None:
        """Args:
        at: number of the step that fails, from 0; None for none.
        fault: how it fails.
        stash: a directory on the same file system, outside the store, to keep removed files in; needed for
            `power_cut(Loss.ALL)`.
        """
        self.steps: list[str] = []
        self._at, self._fault, self._stash = at, fault, stash
        self._lock = threading.RLock()
        self._dead = self._full = False
        self._paths: dict[int, str] = {}
        self._unsynced: dict[str, int] = {}  # path -> bytes that are safe
        self._synced: set[str] = set()
        self._fresh_dirs: list[str] = []
        self._undo: list[tuple[str, Callable[[], None]]] = []  # directory whose entry it is, how to take it back

    # --- the steps -----------------------------------------------------------------------------------------------

    def step(self, name: str) -> None:
        self._reach(name)

    def create(self, path: str) -> int:
        with self._lock:
            self._reach("create")
            fresh = not os.path.lexists(path)
            fd = super().create(path)
            self._paths[fd] = path
            if fresh:
                self._unsynced[path] = 0
                self._undo.append((os.path.dirname(path), lambda: _unlink(path)))
            return fd

    def write(self, fd: int, data: bytes | bytearray | memoryview) -> None:
        with self._lock:
            path = self._paths.get(fd)
            if path is not None:
                self._unsynced.setdefault(path, os.fstat(fd).st_size)
            try:
                self._reach("write")
            except (Crash, OSError):
                if not self._already_dead():
                    os.write(fd, memoryview(data)[: len(data) // 2])
                raise
            super().write(fd, data)

    def truncate(self, fd: int, size: int) -> None:
        with self._lock:
            self._reach("truncate")
            path = self._paths.get(fd)
            if path is not None:
                self._unsynced[path] = min(size, self._unsynced.get(path, size))
            super().truncate(fd, size)

    def sync(self, fd: int) -> None:
        with self._lock:
            self._reach("sync")
            path = self._paths.get(fd, "")
            self._unsynced.pop(path, None)
            self._synced.add(path)

    def sync_dir(self, path: str) -> None:
        with self._lock:
            self._reach("sync_dir")
            self._undo = [(directory, undo) for directory, undo in self._undo if directory != path]

    def sync_tree(self, path: str) -> None:
        with self._lock:
            self._reach("sync_tree")
            del path  # one syncfs makes the whole file system safe
            self._undo.clear()
            self._unsynced.clear()
            self._fresh_dirs.clear()

    def rename(self, source: str, target: str) -> None:
        with self._lock:
            self._reach("rename")
            kept = self._keep(target)
            super().rename(source, target)
            if source in self._unsynced:
                self._unsynced[target] = self._unsynced.pop(source)
            if source in self._synced:
                self._synced.remove(source)
                self._synced.add(target)
            for fd, path in self._paths.items():
                if path == source:
                    self._paths[fd] = target

            def undo() -> None:
                with suppress(FileNotFoundError):
                    os.rename(target, source)
                if kept is not None:
                    os.rename(kept, target)

            self._undo.append((os.path.dirname(target), undo))

    def unlink(self, path: str) -> None:
        with self._lock:
            self._reach("unlink")
            kept = self._keep(path)
            super().unlink(path)
            self._unsynced.pop(path, None)
            if kept is not None:
                self._undo.append((os.path.dirname(path), lambda: os.rename(kept, path)))

    def mkdir(self, path: str, mode: int) -> None:
        with self._lock:
            self._reach("mkdir")
            super().mkdir(path, mode)
            self._fresh_dirs.append(path)
            self._undo.append((os.path.dirname(path), lambda: shutil.rmtree(path, ignore_errors=True)))

    def rmdir(self, path: str) -> None:
        self._reach("rmdir")
        super().rmdir(path)

    def remove_tree(self, path: str) -> int:
        self._reach("remove_tree")
        return super().remove_tree(path)

    # --- the end -------------------------------------------------------------------------------------------------

    def power_cut(self, loss: Loss) -> None:
        """Takes from the disk what no sync has made safe. Call it after a crash."""
        if loss is Loss.NOTHING:
            return
        for path, safe in self._unsynced.items():
            with suppress(FileNotFoundError):
                os.truncate(path, safe)
        for directory in self._fresh_dirs:
            # What others wrote below (a layer's tree) was not synced either.
            for base, _, names in os.walk(directory):
                for name in names:
                    path = os.path.join(base, name)
                    if path not in self._synced and os.path.isfile(path) and not os.path.islink(path):
                        os.truncate(path, 0)
        if loss is Loss.ALL:
            for _, undo in reversed(self._undo):
                with suppress(FileNotFoundError, FileExistsError):
                    undo()

    def _reach(self, name: str) -> None:
        with self._lock:
            if self._dead:
                raise Crash(name)
            number = len(self.steps)
            self.steps.append(name)
            if self._full and name in _GROWING:
                raise _error(name, errno.ENOSPC)
            if number != self._at:
                return
            if self._fault is Fault.CRASH:
                self._dead = True
                raise Crash(name)
            if self._fault is Fault.KILL:
                os.kill(os.getpid(), signal.SIGKILL)
            if self._fault is Fault.ENOSPC:
                self._full = True
                if name in _GROWING:
                    raise _error(name, errno.ENOSPC)
            elif not name.startswith("db.committed"):
                raise _error(name, errno.EIO)

    def _already_dead(self) -> bool:
        return self._dead and len(self.steps) - 1 != self._at

    def _keep(self, path: str) -> str | None:
        if self._stash is None or not os.path.isfile(path):
            return None
        kept = os.path.join(self._stash, f"{len(self.steps)}-{os.path.basename(path)}")
        os.link(path, kept)
        return kept


def _error(name: str, number: int) -> Exception:
    if name.startswith("db."):
        error = sqlite3.OperationalError("database or disk is full" if number == errno.ENOSPC else "disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL if number == errno.ENOSPC else sqlite3.SQLITE_IOERR
        return error
    return OSError(number, os.strerror(number), name)


def _unlink(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)
