"""Open the registry database: transactions that really are, durable commits, a schema that is checked (F21)."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine, make_url

from lamina.errors import LaminaError
from lamina.registry.errors import NewerSchema
from lamina.registry.metadata import schema
from lamina.registry.metadata.failures import LostMetadata, place_of, raise_typed
from lamina.store import files

#: How long a writer waits for another process's transaction, in milliseconds.
BUSY_TIMEOUT: Final = 30_000
#: Beside a database in a file lies another one of so many bytes, which is given up when there is no room to start.
_RESERVE: Final = "-reserve"
_RESERVED: Final = 64 << 10


def open_engine(url: str, *, beside: str = "", connections: int = 16) -> Engine:
    """An engine for `sqlite:///PATH` or any database that SQLAlchemy speaks to, its tables present and current.

    Args:
        url: of the database.
        beside: the directory with the blobs that it knows the names of; "" when an empty database is no loss.
        connections: the most that are open at one time.

    Raises:
        LostMetadata: there is no database, or an empty one, and `beside` was given; nothing was made or changed.
        NewerSchema: a newer lamina wrote it.
        StoreFull, StoreIOFailed, MetadataUnavailable: it can be neither made nor opened.
        DamagedMetadata: the file is no database of ours any more.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        engine = sa.create_engine(
            parsed,
            connect_args={"check_same_thread": False, "timeout": BUSY_TIMEOUT / 1000},
            poolclass=sa.pool.QueuePool,
            pool_size=connections,
            max_overflow=0,
        )
        _tame_sqlite(engine)
        if parsed.database:
            # Before SQLite sees it: beside an empty file it deletes the log, which may hold what is looked for.
            if beside and not (size := _size(parsed.database)):
                raise LostMetadata(parsed.database, "missing" if size is None else "empty", beside)
            try:
                os.close(os.open(parsed.database, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            except OSError as error:
                files.raise_typed(parsed.database, error)
    else:
        engine = sa.create_engine(parsed, pool_size=connections, max_overflow=0, pool_pre_ping=True)
    reserve = _reserve_of(engine)
    try:
        try:
            _migrate(engine, beside)
        except sa.exc.OperationalError:
            if not (reserve and os.path.exists(reserve)):
                raise
            # SQLite's log and its index are made anew at each start: on a full disk this is the room for them (F6).
            with suppress(FileNotFoundError):
                os.unlink(reserve)
            _migrate(engine, beside)
    except sa.exc.DBAPIError as error:
        engine.dispose()
        raise_typed(place_of(engine), error)
    except LaminaError:
        engine.dispose()
        raise
    set_aside(engine)
    return engine


def _size(path: str) -> int | None:
    """Bytes of a file; None when it is not there."""
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return None
    except OSError as error:
        files.raise_typed(path, error)


def _reserve_of(engine: Engine) -> str:
    """The path of the file that keeps room for the next start; "" where none is needed."""
    return f"{engine.url.database}{_RESERVE}" if engine.dialect.name == "sqlite" and engine.url.database else ""


def set_aside(engine: Engine) -> None:
    """Take disk space for the next start, while there is some."""
    if not (path := _reserve_of(engine)):
        return
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError:
        return  # it is there already, or it cannot be made: the registry works without it
    try:
        os.posix_fallocate(fd, 0, _RESERVED)
    except OSError:
        os.unlink(path)
    finally:
        os.close(fd)


def _tame_sqlite(engine: Engine) -> None:
    """Take transaction control from the driver; write transactions lock at their start, so they never deadlock."""

    @sa.event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={BUSY_TIMEOUT}"):
            connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writing = connection.get_execution_options().get("lamina_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


def _migrate(engine: Engine, beside: str) -> None:
    """Bring the schema to this version; there is one so far, so an older one cannot exist. Raises as `open_engine`."""
    with engine.connect().execution_options(lamina_write=True) as connection, connection.begin():
        schema.schema_version.create(connection, checkfirst=True)
        found = connection.execute(sa.select(schema.schema_version.c.version)).scalar()
        if found is None:
            if beside:
                raise LostMetadata(place_of(engine), "empty", beside)
            schema.metadata.create_all(connection)
            connection.execute(schema.schema_version.insert().values(version=schema.SCHEMA_VERSION))
        elif found > schema.SCHEMA_VERSION:
            raise NewerSchema(found, schema.SCHEMA_VERSION)
