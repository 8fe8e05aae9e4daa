"""Containers as the store's index remembers them, and their states in Docker's words."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final, Literal

from lamina.errors import AlreadyExists, Conflict, Invalid, LaminaError, NotFound
from lamina.store import container_files, leases
from lamina.store.db import Database
from lamina.values import asdict, dataclass, field, replace

Status = Literal["created", "running", "paused", "restarting", "removing", "exited", "dead"]


class NoSuchContainer(NotFound):
    """No container of that name or id.

    Attributes:
        name: asked for.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"No such container: {name}")
        self.name = name


class AmbiguousContainer(Invalid):
    """Several ids start like that.

    Attributes:
        prefix: asked for.
    """

    def __init__(self, prefix: str) -> None:
        super().__init__(f"Multiple IDs found with provided prefix: {prefix}")
        self.prefix = prefix


class NameTaken(AlreadyExists):
    """Another container has the name.

    Attributes:
        name: asked for.
        owner: id of the container that has it.
    """

    def __init__(self, name: str, owner: str) -> None:
        super().__init__(
            f'Conflict. The container name "/{name}" is already in use by container "{owner}".'
            " You have to remove (or rename) that container to be able to reuse that name."
        )
        self.name = name
        self.owner = owner


class WrongState(Conflict):
    """The container's state forbids it.

    Attributes:
        container_id: of the container.
        status: that it is in.
    """

    def __init__(self, message: str, container_id: str, status: str) -> None:
        super().__init__(message)
        self.container_id = container_id
        self.status = status


@dataclass(frozen=True, slots=True)
class ContainerState:
    """How a container is.

    Attributes:
        status: Docker's word.
        pid: of its first process on the host, 0 when not running.
        process: stamp (`lamina.runtime.process`) of that process, "" when not running.
        conmon: stamp of the conmon that watches it, or of the process that is about to start it again.
        exit_code: of the last run.
        error: why the last start failed.
        oom_killed: the kernel killed it for want of memory.
        started_at: RFC 3339, or "" when it never ran.
        finished_at: RFC 3339, or "".
        restart_count: by the restart policy.
        stopped_by_user: the policy leaves it alone until it is started again.
        endpoint: its place in a network (`Endpoint.to_json`), while running.
        health: status of the health check, "" without one.
        removes_volumes: its removal, once begun, takes the anonymous volumes too.
    """

    status: Status = "created"
    pid: int = 0
    process: str = ""
    conmon: str = ""
    exit_code: int = 0
    error: str = ""
    oom_killed: bool = False
    started_at: str = ""
    finished_at: str = ""
    restart_count: int = 0
    stopped_by_user: bool = False
    endpoint: Mapping[str, Any] | None = None
    health: str = ""
    removes_volumes: bool = False

    @property
    def running(self) -> bool:
        """Docker's `Running`: a process exists, paused or not."""
        return self.status in {"running", "paused"}


@dataclass(frozen=True, slots=True)
class ContainerRecord:
    """A container of the store.

    Attributes:
        id: 64 hex digits.
        name: unique, without the slash that Docker puts in front.
        created_at: RFC 3339.
        image_id: `sha256:...` of the image configuration, or "".
        snapshot_key: its writable layer, or "".
        options: `ContainerOptions.to_json()`.
        image_config: `RunConfig.to_json()` of the image.
        rootfs: how its root file system is mounted (`supervisor.mount_rootfs`).
        mounts: resolved mounts, as `docker inspect` shows them.
        engine: whatever else the engine wants to keep (image name, exit hook, ...).
        state: how it is.
    """

    id: str
    name: str
    created_at: str
    image_id: str = ""
    snapshot_key: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    image_config: Mapping[str, Any] = field(default_factory=dict)
    rootfs: Mapping[str, Any] = field(default_factory=dict)
    mounts: tuple[Mapping[str, Any], ...] = ()
    engine: Mapping[str, Any] = field(default_factory=dict)
    state: ContainerState = field(default_factory=ContainerState)

    @property
    def throwaway(self) -> bool:
        """It goes with its run (`--rm`), and a power cut ends every run: nothing of it has to reach the disk."""
        return bool(self.options.get("auto_remove"))

    @property
    def short_id(self) -> str:
        """The first 12 digits."""
        return self.id[:12]

    def doc(self) -> str:
        """What the index keeps in its `doc` column."""
        return json.dumps(
            {
                "options": dict(self.options),
                "image_config": dict(self.image_config),
                "rootfs": dict(self.rootfs),
                "mounts": [dict(mount) for mount in self.mounts],
                "engine": dict(self.engine),
                "state": asdict(self.state),
            }
        )


_INSERT: Final = "INSERT INTO containers (id, name, created_at, image_id, snapshot_key, doc) VALUES (?, ?, ?, ?, ?, ?)"
_SELECT: Final = "SELECT id, name, created_at, image_id, snapshot_key, doc FROM containers"
_BY_ID: Final = _SELECT + " WHERE id = ?"


def _record(row: tuple[str, str, str, str, str, str]) -> ContainerRecord:
    doc = json.loads(row[5])
    state = ContainerState(**doc.pop("state"))
    mounts = tuple(doc.pop("mounts"))
    return ContainerRecord(row[0], row[1], row[2], row[3] or "", row[4] or "", **doc, mounts=mounts, state=state)


class Containers:
    """The containers of one store: each change is one transaction, and then kept beside the index."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, record: ContainerRecord) -> None:
        """Remembers a new container.

        Raises:
            NameTaken: another container has its name.
            StoreFull, StoreIOFailed: the disk refuses.
        """
        with self._database.write(durable=not record.throwaway) as connection:
            self._check_name(connection, record.name)
            connection.execute(
                _INSERT,
                (record.id, record.name, record.created_at, record.image_id, record.snapshot_key, record.doc()),
            )
            leases.settle(connection, leases.VOLUME, [mount["source"] for mount in record.mounts if "path" in mount])
        try:
            container_files.keep(self._database, record.id, durable=not record.throwaway)
        except LaminaError:
            self.remove(record.id)
            raise

    def find(self, name: str) -> ContainerRecord:
        """A container by full id, name (with or without `/`), or unique prefix of its id, in this order.

        Raises:
            NoSuchContainer: none fits.
            AmbiguousContainer: several ids start like that.
        """
        wanted = name.removeprefix("/")
        with self._database.read() as connection:
            row = connection.execute(_BY_ID, (wanted,)).fetchone()
            row = row or connection.execute(_SELECT + " WHERE name = ?", (wanted,)).fetchone()
            if row is None and wanted and all(character in "0123456789abcdef" for character in wanted):
                rows = connection.execute(
                    _SELECT + " WHERE id >= ? AND id < ? LIMIT 2", (wanted, wanted + "g")
                ).fetchall()
                if len(rows) > 1:
                    raise AmbiguousContainer(wanted)
                row = rows[0] if rows else None
        if row is None:
            raise NoSuchContainer(name)
        return _record(row)

    def all(self) -> list[ContainerRecord]:
        """Every container, newest first."""
        with self._database.read() as connection:
            rows = connection.execute(_SELECT + " ORDER BY created_at DESC").fetchall()
        return [_record(row) for row in rows]

    def update(
        self, container_id: str, change: Callable[[ContainerState], ContainerState], *, durable: bool = True
    ) -> ContainerRecord:
        """Changes the state, in a transaction, from what it is then; `durable` as `Database.write`.

        Raises:
            NoSuchContainer: it was removed meanwhile.
        """
        return self.edit(container_id, lambda record: replace(record, state=change(record.state)), durable=durable)

    def edit(
        self, container_id: str, change: Callable[[ContainerRecord], ContainerRecord], *, durable: bool = True
    ) -> ContainerRecord:
        """Changes any part of a record but its id and name, in a transaction; `durable` as `Database.write`.

        Raises:
            NoSuchContainer: it was removed meanwhile.
        """
        with self._database.write(durable=durable) as connection:
            row = connection.execute(_BY_ID, (container_id,)).fetchone()
            if row is None:
                raise NoSuchContainer(container_id)
            old = _record(row)
            new = change(old)
            if new != old:
                connection.execute(
                    "UPDATE containers SET image_id = ?, snapshot_key = ?, doc = ? WHERE id = ?",
                    (new.image_id, new.snapshot_key, new.doc(), container_id),
                )
        if new != old:
            self._keep(container_id, durable=durable and not new.throwaway)
        return new

    def rename(self, container_id: str, name: str) -> None:
        """Gives a container another name.

        Raises:
            NameTaken: another container has it.
            NoSuchContainer: it was removed meanwhile.
        """
        with self._database.write() as connection:
            self._check_name(connection, name, container_id)
            if not connection.execute("UPDATE containers SET name = ? WHERE id = ?", (name, container_id)).rowcount:
                raise NoSuchContainer(container_id)
        self._keep(container_id)

    def remove(self, container_id: str, *, durable: bool = True) -> None:
        """Forgets a container with its addresses and ports; none is success. `durable` as `Database.write`."""
        with self._database.write(durable=durable) as connection:
            connection.execute("DELETE FROM containers WHERE id = ?", (container_id,))
            connection.execute("DELETE FROM endpoints WHERE container_id = ?", (container_id,))
            connection.execute("DELETE FROM ports WHERE container_id = ?", (container_id,))

    def _keep(self, container_id: str, *, durable: bool = True) -> None:
        # What happened has happened: on a full disk the index alone knows, until fsck finds the difference.
        with suppress(LaminaError):
            container_files.keep(self._database, container_id, durable=durable)

    @staticmethod
    def _check_name(connection: sqlite3.Connection, name: str, but: str = "") -> None:
        row = connection.execute("SELECT id FROM containers WHERE name = ? AND id != ?", (name, but)).fetchone()
        if row is not None:
            raise NameTaken(name, row[0])
