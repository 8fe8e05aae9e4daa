"""The store's index: one SQLite database shared by threads and processes.

Write-ahead logging lets readers go on while one writes; `synchronous=FULL` makes a commit durable before it returns.
Transactions are short and do no other I/O, so twenty processes can share the store (F23).
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from lamina.errors import Integrity, Internal, Unavailable, Unsupported
from lamina.store import schema

#: Seconds that a writer waits for its turn before it gives up.
BUSY_SECONDS: Final = 60.0
_IDLE_KEPT: Final = 8
#: Pages (4 KiB) after which a commit moves the log into the database; whoever finds a log left behind reads it whole.
_LOG_PAGES: Final = 256


class DamagedDatabase(Integrity):
    """The index cannot be read (F5).

    Attributes:
        path: of the database file.
        reason: SQLite's words.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(
            f"the store's index {path} is damaged: {reason}",
            hint="run `lamina system fsck --repair`: it sets the file aside and rebuilds the index from the blobs",
        )
        self.path, self.reason = path, reason


class NewerStore(Unsupported):
    """The store was written by a newer lamina (F21).

    Attributes:
        path: of the database file.
        found, known: the file's schema version and the newest that this build reads.
    """

    def __init__(self, path: str, found: int, known: int) -> None:
        super().__init__(
            f"the store's index {path} has version {found}; this lamina reads up to {known}",
            hint="use the newer lamina that wrote it, or another --root",
        )
        self.path, self.found, self.known = path, found, known


class DatabaseUnavailable(Unavailable):
    """The index cannot be used right now: disk full, locked for too long, I/O error.

    Attributes:
        path: of the database file.
        reason: SQLite's words.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"cannot use the store's index {path}: {reason}")
        self.path, self.reason = path, reason


def _no_step(_name: str) -> None:
    """The default observer: does nothing."""


class Database:
    """Transactions on the index.

    Connections are pooled, so any thread may call; a process forked from this one opens its own.

    Attributes:
        path: of the database file.
        created: there was no database (or an empty file) before this one opened it.
        ending: set it where the process ends with `close`. The last connection to be closed moves the whole log into
            the database and deletes it, five waits for the disk together with the next one's new log. A log that a
            process leaves behind is taken up by the next, and moved when it has `_LOG_PAGES`.
    """

    def __init__(self, path: str, *, step: Callable[[str], None] = _no_step) -> None:
        """Opens the database, creating or migrating it when needed.

        Args:
            path: of the file; its directory must exist.
            step: called before and after each commit; tests inject crashes here.

        Raises:
            DamagedDatabase: the file is no usable database.
            NewerStore: its schema is newer than this build.
            DatabaseUnavailable: it cannot be opened or written.
        """
        self.path = path
        self._step = step
        self._lock = threading.Lock()
        self._idle: dict[bool, list[sqlite3.Connection]] = {True: [], False: []}
        self._pid = os.getpid()
        self._writing = threading.local()
        self._closed = False
        self.ending = False
        self.created = self._create_file()
        with self._connection(writable=True) as connection:
            self._migrate(connection)

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A consistent view of the index, for queries only.

        Raises:
            DamagedDatabase: the file is corrupt.
            DatabaseUnavailable: it cannot be read.
        """
        with self._connection(writable=False) as connection:
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """A write transaction: committed, durably, when the block ends; rolled back when it raises.

        Only one runs at a time, over all processes: do nothing slow in it, and no other I/O.

        Args:
            durable: False commits without waiting for the disk: for what means nothing after a power cut (leases,
                addresses, runs that leave nothing). Commits keep their order all the same: a power cut takes only the
                last ones, and the next durable commit makes all before it durable too.

        Raises:
            DamagedDatabase: the file is corrupt.
            DatabaseUnavailable: disk full, I/O error, or another writer held on for `BUSY_SECONDS`.
            sqlite3.IntegrityError: a constraint of the schema was broken (a key exists, a reference dangles).
        """
        if getattr(self._writing, "active", False):
            raise Internal("a write transaction was opened inside another one of the same thread")
        with self._connection(writable=True) as connection:
            if not durable:
                connection.execute("PRAGMA synchronous=NORMAL")
            try:
                connection.execute("BEGIN IMMEDIATE")
                self._writing.active = True
                yield connection
                self._step("db.commit")
                connection.execute("COMMIT")
            finally:
                self._writing.active = False
                if connection.in_transaction:
                    with suppress(sqlite3.Error):
                        connection.execute("ROLLBACK")
                if not durable:
                    # It cannot fail: it only sets a field of the connection, which goes back to the pool.
                    connection.execute("PRAGMA synchronous=FULL")
            self._step("db.committed")

    def close(self) -> None:
        """Closes the pooled connections; those in use close when returned."""
        with self._lock:
            self._closed = True
            idle = [connection for pool in self._idle.values() for connection in pool]
            self._idle = {True: [], False: []}
        if self.ending:
            _abandoned.extend(idle)
            return
        for connection in idle:
            connection.close()

    def check(self) -> list[str]:
        """SQLite's own examination of the whole file: one line for each problem, none when sound."""
        try:
            with self.read() as connection:
                found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check")]
                dangling = connection.execute("PRAGMA foreign_key_check").fetchall()
        except DamagedDatabase as error:
            return [error.reason]
        problems = [] if found == ["ok"] else found
        return problems + [f"row {row[1]} of {row[0]} refers to a missing row of {row[2]}" for row in dangling]

    @contextmanager
    def _connection(self, *, writable: bool) -> Iterator[sqlite3.Connection]:
        with self._translated():
            connection = self._take(writable=writable)
            try:
                yield connection
            finally:
                self._give(connection, writable=writable)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.InterfaceError):
            raise
        except sqlite3.OperationalError as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
                raise DamagedDatabase(self.path, str(error)) from error
            if "no such table" in str(error) or "no such column" in str(error):
                raise DamagedDatabase(self.path, str(error)) from error
            if code in {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_READONLY}:  # bad SQL, a write in a read transaction
                raise Internal(f"bad query: {error}") from error
            raise DatabaseUnavailable(self.path, str(error)) from error
        except sqlite3.DatabaseError as error:
            raise DamagedDatabase(self.path, str(error)) from error

    def _take(self, *, writable: bool) -> sqlite3.Connection:
        with self._lock:
            if self._pid != os.getpid():
                # SQLite connections must not cross fork(); closing them here would drop the parent's file locks.
                _abandoned.extend(connection for pool in self._idle.values() for connection in pool)
                self._idle = {True: [], False: []}
                self._pid = os.getpid()
            if self._closed:
                raise DatabaseUnavailable(self.path, "it was closed")
            if self._idle[writable]:
                return self._idle[writable].pop()
        return self._connect(writable=writable)

    def _give(self, connection: sqlite3.Connection, *, writable: bool) -> None:
        with self._lock:
            if self._pid != os.getpid():
                _abandoned.append(connection)
                return
            if not self._closed and len(self._idle[writable]) < _IDLE_KEPT:
                self._idle[writable].append(connection)
                return
        connection.close()

    def _connect(self, *, writable: bool) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA foreign_keys=ON")
            connection.execute(f"PRAGMA wal_autocheckpoint={_LOG_PAGES}")
            if not writable:
                connection.execute("PRAGMA query_only=ON")
        except BaseException:
            connection.close()
            raise
        return connection

    def _create_file(self) -> bool:
        try:
            # SQLite gives its journal files the mode of the database file: create it first, private (threat 59). An
            # existing file is not opened here: closing it again would drop the POSIX locks of every connection to it.
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            return os.lstat(self.path).st_size == 0 and not _size(f"{self.path}-wal")
        except OSError as error:
            raise DatabaseUnavailable(self.path, str(error.strerror)) from error
        os.fchmod(fd, 0o600)
        os.close(fd)
        return True

    def _migrate(self, connection: sqlite3.Connection) -> None:
        version = self._version(connection)
        if version == schema.VERSION:
            return
        connection.execute("BEGIN IMMEDIATE")
        try:
            # Another process may have migrated while this one waited for the lock.
            for number in range(self._version(connection), schema.VERSION):
                for statement in schema.MIGRATIONS[number]:
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version={number + 1}")
            self._step("db.migrate")
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    def _version(self, connection: sqlite3.Connection) -> int:
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if version > schema.VERSION:
            raise NewerStore(self.path, version, schema.VERSION)
        return version


def _size(path: str) -> int:
    try:
        return os.lstat(path).st_size
    except FileNotFoundError:
        return 0


#: Connections inherited through fork() or left to the end of the process, kept from the garbage collector.
_abandoned: list[sqlite3.Connection] = []
