"""Leases: what a running operation holds, so that the collector keeps it (F9, F10).

A lease belongs to a process. It ends when released, when its owner is provably dead (another boot, no such process, or
the number was given to a new one), or, where that cannot be known, when its time is up. Clocks never end the lease of
a process that lives (F18). A power cut ends every process, so that nothing here waits for the disk.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

from lamina.errors import LaminaError
from lamina.spec.timestamp import parse_rfc3339, rfc3339, utc_now
from lamina.store.db import Database
from lamina.store.ids import fresh
from lamina.values import dataclass

BLOB: Final = "blob"
SNAPSHOT: Final = "snapshot"
IMAGE: Final = "image"
VOLUME: Final = "volume"
#: After this an owner that cannot be seen (another pid namespace) counts as gone.
DEFAULT_TTL: Final = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class LeaseInfo:
    """One lease as the index has it. `alive` is False only when its owner is provably gone or its time is up."""

    id: str
    purpose: str
    pid: int
    created_at: str
    expires_at: str | None
    alive: bool


class Lease:
    """A running operation's hold on blobs, snapshots and images. A context manager: released at the end.

    Attributes:
        id: its key in the index.
    """

    def __init__(self, db: Database, lease_id: str) -> None:
        self._db, self.id = db, lease_id
        self._released = False

    def add(self, kind: str, *keys: str) -> None:
        """Holds more things. They need not exist yet."""
        with self._db.write(durable=False) as connection:
            self.add_in(connection, kind, keys)

    def add_in(self, connection: sqlite3.Connection, kind: str, keys: Iterable[str]) -> None:
        """The same within the caller's transaction, so that a check and the hold are one step."""
        connection.executemany(
            "INSERT OR IGNORE INTO lease_items (lease, kind, key) VALUES (?, ?, ?)",
            [(self.id, kind, key) for key in keys],
        )

    def drop(self, kind: str, *keys: str) -> None:
        """Holds these no longer."""
        with self._db.write(durable=False) as connection:
            connection.executemany(
                "DELETE FROM lease_items WHERE lease = ? AND kind = ? AND key = ?",
                [(self.id, kind, key) for key in keys],
            )

    def release(self) -> None:
        """Ends the lease; a second call does nothing."""
        if self._released:
            return
        with self._db.write(durable=False) as connection:
            connection.execute("DELETE FROM leases WHERE id = ?", (self.id,))
        self._released = True

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_exc: object) -> None:
        # The operation's own outcome matters more; the lease of a dead process is reaped.
        with suppress(LaminaError):
            self.release()


class Leases:
    """The leases of a store."""

    def __init__(self, db: Database, clock: Callable[[], datetime] = utc_now) -> None:
        self._db, self._clock = db, clock
        self._lock = threading.Lock()
        self._session: tuple[int, Lease] | None = None

    def acquire(self, purpose: str, *, ttl: timedelta = DEFAULT_TTL, outlive: bool = False) -> Lease:
        """A new lease.

        Args:
            purpose: what for, in words for `fsck` and `df`.
            ttl: how long it lasts at most when its owner cannot be observed.
            outlive: it is not tied to this process and lasts for `ttl`, unless released.
        """
        now = self._clock()
        lease = Lease(self._db, fresh())
        pid, start = (0, "") if outlive else (os.getpid(), process_start(os.getpid()) or "")
        with self._db.write(durable=outlive) as connection:
            connection.execute(
                "INSERT INTO leases (id, purpose, pid, start, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?)",
                (lease.id, purpose, pid, start, rfc3339(now), rfc3339(now + ttl)),
            )
        return lease

    def session(self) -> Lease:
        """The lease of this process as a whole, for operations that bring none; it ends with `close` or the process."""
        with self._lock:
            if self._session is None or self._session[0] != os.getpid():
                self._session = (os.getpid(), self.acquire("session"))
            return self._session[1]

    def all(self) -> list[LeaseInfo]:
        """Every lease, oldest first."""
        with self._db.read() as connection:
            rows = connection.execute(
                "SELECT id, purpose, pid, start, created_at, expires_at FROM leases ORDER BY created_at"
            ).fetchall()
        return [LeaseInfo(row[0], row[1], row[2], row[4], row[5], self._alive(row[2], row[3], row[5])) for row in rows]

    def reap(self) -> list[LeaseInfo]:
        """Ends the leases of the dead; returns them."""
        dead = [lease for lease in self.all() if not lease.alive]
        if dead:
            with self._db.write(durable=False) as connection:
                connection.executemany("DELETE FROM leases WHERE id = ?", [(lease.id,) for lease in dead])
        return dead

    def close(self) -> None:
        """Ends this process's session lease."""
        with self._lock:
            session, self._session = self._session, None
        if session is not None and session[0] == os.getpid():
            with session[1]:
                pass

    def _alive(self, pid: int, start: str, expires_at: str | None) -> bool:
        expired = expires_at is not None and parse_rfc3339(expires_at) <= self._clock()
        if pid == 0 or not start:
            return not expired
        mine, theirs = _home(), start.split(" ", 2)[:2]
        if mine is None or len(theirs) != 2:
            return not expired
        if mine[0] != theirs[0]:
            return False
        if mine[1] != theirs[1]:
            return not expired
        return process_start(pid) == start


def settle(connection: sqlite3.Connection, kind: str, keys: Iterable[str]) -> None:
    """Ends the leases that hold these, within the caller's transaction: from now on something else keeps them."""
    connection.executemany(
        "DELETE FROM leases WHERE id IN (SELECT lease FROM lease_items WHERE kind = ? AND key = ?)",
        [(kind, key) for key in keys],
    )


def process_start(pid: int) -> str | None:
    """What tells a process from every other that ever had its number: boot, pid namespace, start time (proc(5)).

    None when there is no such process.
    """
    home = _home()
    if home is None:
        return None
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    # Field 3 (state) is the first after the name; a zombie holds nothing. Field 22 is the start time.
    if fields[0] in {b"Z", b"X"}:
        return None
    return f"{home[0]} {home[1]} {fields[19].decode()}"


def _home() -> tuple[str, str] | None:
    """The boot and the pid namespace that process numbers are of; None where /proc does not say."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip(), os.readlink("/proc/self/ns/pid")
    except OSError:
        return None
