"""A container's log, read back: whole, its tail, a span of time, or as it grows (C23).

conmon writes one line for each line of output: `<RFC 3339 time> <stdout|stderr> <F|P> <text>`, where P says that the
line goes on in the next entry of the same stream.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import IO, Final, Literal

from lamina.linux import inotify
from lamina.spec.timestamp import parse_rfc3339
from lamina.values import dataclass

_BLOCK: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A piece of output.

    Attributes:
        time: when, as conmon wrote it, with nanoseconds.
        stream: where it went.
        data: the bytes, with their line end if there was one.
    """

    time: str
    stream: Literal["stdout", "stderr"]
    data: bytes

    @property
    def moment(self) -> datetime:
        """The time, to the microsecond."""
        return parse_rfc3339(self.time)

    @property
    def timestamp(self) -> str:
        """The time as `docker logs -t` prints it: UTC, nanoseconds, `Z`."""
        return self.time.removesuffix("+00:00") + "Z" if self.time.endswith("+00:00") else self.time


def _entry(line: bytes) -> LogEntry | None:
    parts = line.rstrip(b"\n").split(b" ", 3)
    if len(parts) < 4 or parts[1] not in {b"stdout", b"stderr"}:
        return None  # torn by a crash
    stream: Literal["stdout", "stderr"] = "stdout" if parts[1] == b"stdout" else "stderr"
    end = b"" if parts[2].startswith(b"P") else b"\n"
    return LogEntry(parts[0].decode("ascii", "replace"), stream, parts[3] + end)


def read(
    path: str,
    *,
    tail: int | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    follow: Callable[[], bool] | None = None,
) -> Iterator[LogEntry]:
    """The entries of a log, oldest first; a log that was never written has none.

    Args:
        path: of the log.
        tail: only so many lines from the end; None = all.
        since: leave older ones out.
        until: leave younger ones out, and end there when following.
        follow: go on as the log grows, for as long as this says that the container runs.
    """
    with inotify.Watch() as watch:
        if follow is not None:
            watch.add(os.path.dirname(path), inotify.CREATE | inotify.MOVED_TO | inotify.DELETE_SELF)
            watch.add(os.path.dirname(path), inotify.CREATE | inotify.MOVED_TO | inotify.MODIFY | inotify.DELETE_SELF)
        file = _open(path)
        try:
            if file is not None and tail is not None:
                file.seek(_tail_offset(file, tail))
            rest = b""
            while True:
                alive = follow() if follow is not None else False
                while file is not None and (line := file.readline()):
                    rest += line
                    if not rest.endswith(b"\n"):
                        break  # being written
                    entry, rest = _entry(rest), b""
                    if entry is None or (since is not None and entry.moment < since):
                        continue
                    if until is not None and entry.moment > until:
                        return
                    yield entry
                if not alive:
                    # Asked before the last reading: what was written before the end has been read.
                    return
                newer = _replaced(path, file)
                if newer is not None:
                    if file is not None:
                        file.close()
                    file = newer
                    continue
                # The end of a container touches no log; its record says so, so look again now and then.
                watch.wait(0.25)
        finally:
            if file is not None:
                file.close()


def _open(path: str) -> IO[bytes] | None:
    try:
        return open(path, "rb")
    except FileNotFoundError:
        return None


def _replaced(path: str, file: IO[bytes] | None) -> IO[bytes] | None:
    """The file now at `path` when it is another one: conmon starts a new log at the size limit."""
    try:
        now = os.stat(path)
    except FileNotFoundError:
        return None
    if file is not None and os.fstat(file.fileno()).st_ino == now.st_ino:
        return None
    return _open(path)


def _tail_offset(file: IO[bytes], lines: int) -> int:
    """Where the last `lines` lines of output begin; pieces of one line count once."""
    end = file.seek(0, os.SEEK_END)
    if lines <= 0:
        return end
    data = b""
    start = end
    while True:
        step = min(_BLOCK, start)
        start -= step
        file.seek(start)
        data = file.read(step) + data
        entries = data.split(b"\n")
        # The first piece may be the rest of an entry that begins before it.
        offset = start + len(data)
        found = 0
        pieces = entries[:-1] if start == 0 else entries[1:-1]
        for piece in reversed(pieces):
            fields = piece.split(b" ", 3)
            if len(fields) > 2 and not fields[2].startswith(b"P"):
                found += 1
                if found > lines:
                    return offset
            elif offset == start + len(data):
                found += 1  # an unfinished last line
            offset -= len(piece) + 1
        if start == 0:
            return 0


def size(path: str) -> int:
    """Bytes on disk; 0 for a log that was never written."""
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0
