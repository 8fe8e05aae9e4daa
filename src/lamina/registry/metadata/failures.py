"""What a database says when the disk or the server behind it refuses, as errors of ours (F6, F7)."""

from __future__ import annotations

import sqlite3
from typing import Final, NoReturn

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from lamina.errors import Integrity, Unavailable
from lamina.store.files import StoreFull

#: SQLSTATE of PostgreSQL, appendix A: disk_full.
_DISK_FULL: Final = "53100"
#: What another process, or the administrator, can bring to an end. SQLITE_ERROR, wrong SQL, is not among them.
_PASSING: Final = frozenset(
    {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY}
)


class MetadataUnavailable(Unavailable):
    """The metadata can be neither read nor changed right now.

    Attributes:
        place: the database, without its password.
        reason: its words.
    """

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(f"cannot use the registry's database {place}: {reason}")
        self.place, self.reason = place, reason


class DamagedMetadata(Integrity):
    """The database's file is not what SQLite wrote (F5).

    Attributes:
        place: of the file.
        reason: SQLite's words.
    """

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(
            f"the registry's database {place} is damaged: {reason}",
            hint="put back a copy of it, or move it away, start with --new-database and push again: blobs are kept",
        )
        self.place, self.reason = place, reason


class LostMetadata(Integrity):
    """There is no database, or an empty one, where blobs tell that there was one (F5).

    Names and tags are in the database only: one that is made in silence would make the registry forget them all.

    Attributes:
        place: of the database.
        root: the directory that has the blobs.
    """

    def __init__(self, place: str, state: str, root: str) -> None:
        super().__init__(
            f"the registry's database {place} is {state}, but there are blobs in {root}",
            hint="put back a copy of it, or start with --new-database and push again: blobs are kept",
        )
        self.place, self.root = place, root


def place_of(engine: Engine) -> str:
    """The database of an engine for people, without its password."""
    return engine.url.database or engine.url.render_as_string()


def raise_typed(place: str, error: sa.exc.DBAPIError) -> NoReturn:
    """Turn what a driver raised into an error with a kind.

    Raises:
        StoreFull: no space, or no quota, for the change.
        DamagedMetadata: the file is no database, or a torn one.
        MetadataUnavailable: locked for too long, I/O error, connection lost.
        sqlalchemy.exc.DBAPIError: `error` itself, when it is none of these.
    """
    cause = error.orig
    reason = str(cause)
    if isinstance(cause, sqlite3.Error):
        # The primary result code is the low byte of the extended one.
        code = getattr(cause, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            raise StoreFull(place, reason) from error
        if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
            raise DamagedMetadata(place, reason) from error
        if code in _PASSING:
            raise MetadataUnavailable(place, reason) from error
    elif getattr(cause, "sqlstate", None) == _DISK_FULL:
        raise StoreFull(place, reason) from error
    elif isinstance(error, sa.exc.OperationalError) or error.connection_invalidated:
        raise MetadataUnavailable(place, reason) from error
    raise error
