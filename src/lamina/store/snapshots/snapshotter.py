"""Snapshots: file trees with parents, from writable to committed, on any tree driver.

    prepare(key, parent) -> active  --commit(key, name)-->  committed  <- parent of others
    view(key, parent)    -> view       read-only look at a committed tree

A row of the index comes before its directory and goes before it, and directory names are never used twice, so that a
crash leaves at worst a directory that the index knows to be doomed. Committing moves nothing on disk.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

from lamina.linux.mounts import Mount, Unmount, execute_all
from lamina.spec.timestamp import rfc3339, utc_now
from lamina.store.db import Database
from lamina.store.files import Files, raise_typed
from lamina.store.ids import fresh
from lamina.store.leases import SNAPSHOT, Lease, Leases
from lamina.store.paths import PROBE, TRAVERSABLE, StorePaths
from lamina.store.snapshots import rows
from lamina.store.snapshots.driver import TreeDriver, Usage
from lamina.store.snapshots.values import (
    ACTIVE,
    COMMITTED,
    VIEW,
    Changes,
    Snapshot,
    SnapshotExists,
    SnapshotInUse,
    SnapshotNotFound,
    WrongKind,
)


class Snapshotter:
    """The snapshots of a store. Methods may be called from any thread and process."""

    def __init__(
        self,
        db: Database,
        paths: StorePaths,
        driver: TreeDriver,
        files: Files,
        leases: Leases,
        *,
        clock: Callable[[], datetime] = utc_now,
        boot: str = "",
    ) -> None:
        """`boot` identifies this boot of the machine; trees that were never synced die with theirs."""
        self._db, self._paths, self.driver, self._files = db, paths, driver, files
        self._leases, self._clock, self._boot = leases, clock, boot

    # --- life ----------------------------------------------------------------------------------------------------

    def prepare(self, key: str, parent: str | None = None, *, lease: Lease | None = None) -> Snapshot:
        """A new writable snapshot on top of a committed one, or empty.

        It lives while a lease, a container or a build cache record names it.

        Raises:
            SnapshotExists: the key is taken.
            SnapshotNotFound, WrongKind: no such parent, or it is not committed.
            StoreFull, StoreIOFailed: the disk refuses.
        """
        snapshot, parents = self._begin(key, parent, ACTIVE, lease)
        directory = self._paths.snapshot(snapshot.directory)
        try:
            try:
                self._files.mkdir(directory, TRAVERSABLE)
            except OSError as error:
                raise_typed(directory, error)
            self.driver.create(directory, parents)
        except Exception:
            # Only an ordinary failure is cleaned up here; after a kill the collector does it.
            self.remove(key)
            raise
        return snapshot

    def view(self, key: str, parent: str, *, lease: Lease | None = None) -> Snapshot:
        """A read-only look at a committed snapshot, which stays while the view does.

        Raises:
            SnapshotExists, SnapshotNotFound, WrongKind: as `prepare`.
        """
        return self._begin(key, parent, VIEW, lease)[0]

    def commit(
        self,
        key: str,
        name: str,
        *,
        parent: str | None = None,
        size: int | None = None,
        sync: bool = True,
        labels: Mapping[str, str] | None = None,
        lease: Lease | None = None,
    ) -> Snapshot:
        """Freezes an active snapshot under a new key; nothing is copied or moved. Unmount it first.

        Args:
            key: the active snapshot; the key is free afterwards.
            name: the committed snapshot's key.
            parent: stands on this one from now on (`stacked` drivers, snapshots prepared without parent: layers
                unpacked before the ones below).
            size: content bytes, where the caller knows better than a count.
            sync: make the tree durable now. Without, `sync()` must follow before success is reported; until then the
                snapshot does not survive a power cut.
            labels: kept beside the tree, to rebuild the index from.
            lease: holds `name`; the process's own when None.

        Raises:
            SnapshotNotFound, WrongKind: no such active snapshot, or parent.
            SnapshotExists: `name` is taken; the active snapshot stays.
            StoreFull, StoreIOFailed: the disk refuses; the active snapshot stays.
        """
        active = self.stat(key)
        if active.kind != ACTIVE:
            raise WrongKind(key, active.kind, ACTIVE)
        parent = parent if parent is not None else active.parent
        directory = self._paths.snapshot(active.directory)
        parents = self.parents(parent) if parent is not None else []
        self.driver.seal(directory)
        usage = self.driver.usage(directory, parents)
        usage = Usage(usage.size if size is None else size, usage.disk, usage.inodes)
        self._describe(directory, name, parent, usage, labels or {})
        if sync:
            self._sync_tree(self._paths.snapshots)
        lease = lease or self._leases.session()
        now = rfc3339(self._clock())
        with self._db.write() as connection:
            if parent is not None:
                self._committed(connection, parent)
            try:
                changed = connection.execute(
                    "UPDATE snapshots SET key = ?, parent = ?, kind = 'committed', size = ?, disk = ?, inodes = ?,"
                    " unsynced = ?, last_used_at = ? WHERE key = ? AND kind = 'active'",
                    (name, parent, usage.size, usage.disk, usage.inodes, None if sync else self._boot, now, key),
                ).rowcount
            except sqlite3.IntegrityError:
                raise SnapshotExists(name) from None
            if not changed:
                raise SnapshotNotFound(key)
            lease.add_in(connection, SNAPSHOT, [name])
        return self.stat(name)

    def sync(self) -> None:
        """Makes every committed snapshot durable: one syncfs(2) for all that were committed without."""
        with self._db.read() as connection:
            keys = [row[0] for row in connection.execute("SELECT key FROM snapshots WHERE unsynced IS NOT NULL")]
        if not keys:
            return
        self._sync_tree(self._paths.snapshots)
        with self._db.write() as connection:
            connection.executemany("UPDATE snapshots SET unsynced = NULL WHERE key = ?", [(key,) for key in keys])

    def drop_unsynced(self) -> list[str]:
        """Removes what an earlier boot committed and never synced, with all that stands on it; returns the keys."""
        with self._db.read() as connection:
            found = connection.execute(
                "SELECT 1 FROM snapshots WHERE unsynced IS NOT NULL AND unsynced != ?", (self._boot,)
            ).fetchone()
        if found is None:
            return []
        with self._db.write() as connection:
            return rows.doom_unsynced(connection, self._boot)

    def remove(self, key: str) -> int:
        """Removes a snapshot and its files; returns the bytes of disk freed. Leases on it do not matter.

        Raises:
            SnapshotNotFound: no such snapshot.
            SnapshotInUse: another snapshot, a layer, a container or a build cache record stands on it.
            StoreIOFailed: the files cannot be removed (something is mounted there); the collector tries again.
        """
        with self._db.write() as connection:
            row = connection.execute("SELECT dir FROM snapshots WHERE key = ?", (key,)).fetchone()
            if row is None:
                raise SnapshotNotFound(key)
            user = rows.user_of(connection, key)
            if user is not None:
                raise SnapshotInUse(key, user)
            rows.doom(connection, key, row[0])
        return self.sweep(row[0])

    def sweep(self, directory: str) -> int:
        """Removes a doomed snapshot's directory; a second call finishes what a crash stopped.

        The collector forgets the directory once its absence is durable.

        Raises:
            StoreIOFailed: something is mounted inside, or the disk refuses.
        """
        path = self._paths.snapshot(directory)
        target = f"{path}/mnt"
        if os.path.isdir(target):
            with suppress(OSError):
                Unmount(target, detach=True).execute()
        try:
            return self._files.remove_tree(path)
        except OSError as error:
            raise_typed(path, error)

    def sweep_probes(self) -> int:
        """Removes what a cut-short test of a storage driver left; returns the bytes freed."""
        freed = 0
        for name in os.listdir(self._paths.snapshots):
            if name.startswith(PROBE):
                path = f"{self._paths.snapshots}/{name}"
                with suppress(OSError):
                    Unmount(f"{path}/merged", detach=True).execute()
                try:
                    freed += self._files.remove_tree(path)
                except OSError as error:
                    raise_typed(path, error)
        return freed

    def swept(self, directories: list[str]) -> None:
        """Notes that doomed directories are gone for good: a power cut must not bring back what nobody knows."""
        if not directories:
            return
        try:
            self._files.sync_dir(self._paths.snapshots)
        except OSError as error:
            raise_typed(self._paths.snapshots, error)
        with self._db.write() as connection:
            connection.executemany(
                "DELETE FROM doomed WHERE kind = ? AND key = ?", [(SNAPSHOT, directory) for directory in directories]
            )

    # --- queries -------------------------------------------------------------------------------------------------

    def stat(self, key: str) -> Snapshot:
        """What the index knows.

        Raises:
            SnapshotNotFound: no such snapshot.
        """
        with self._db.read() as connection:
            return self._stat_in(connection, key)

    def find(self, key: str, *, lease: Lease | None = None) -> Snapshot | None:
        """Like `stat`, None when there is none; with a lease, held from now on."""
        if lease is None:
            with self._db.read() as connection:
                return rows.row_of(connection, key)
        with self._db.write() as connection:
            found = rows.row_of(connection, key)
            if found is not None:
                lease.add_in(connection, SNAPSHOT, [key])
            return found

    def all(self) -> list[Snapshot]:
        """Every snapshot."""
        with self._db.read() as connection:
            return rows.all_rows(connection)

    def children(self, key: str) -> list[Snapshot]:
        """The snapshots that stand on this one."""
        with self._db.read() as connection:
            return rows.children_of(connection, key)

    def chain(self, key: str) -> list[Snapshot]:
        """The snapshot and everything it stands on, topmost first.

        Raises:
            SnapshotNotFound: no such snapshot.
        """
        with self._db.read() as connection:
            chain = rows.chain_of(connection, key)
        if not chain:
            raise SnapshotNotFound(key)
        return chain

    def usage(self, key: str) -> Usage:
        """What a snapshot takes without its parents: stored for committed ones, counted now for active ones.

        Raises:
            SnapshotNotFound: no such snapshot.
        """
        chain = self.chain(key)
        own = chain[0]
        if own.kind == COMMITTED:
            return Usage(own.size, own.disk, own.inodes)
        if own.kind == VIEW:
            return Usage(0, 0, 0)
        directory, parents = self._directories(chain)
        assert directory is not None
        return self.driver.usage(directory, parents)

    def touch(self, key: str) -> None:
        """Notes that the snapshot was used."""
        with self._db.write() as connection:
            connection.execute("UPDATE snapshots SET last_used_at = ? WHERE key = ?", (rfc3339(self._clock()), key))

    # --- access --------------------------------------------------------------------------------------------------

    def mounts(self, key: str, target: str, *, readonly: bool = False, volatile: bool = False) -> tuple[Mount, ...]:
        """The mounts that make the whole tree appear at `target`, an existing directory.

        Active snapshots are writable unless `readonly`; the others never are. `volatile` skips the sync that overlayfs
        does when it is unmounted: for trees that `commit` or `sync` makes durable, or nobody keeps.

        Raises:
            SnapshotNotFound: no such snapshot.
        """
        chain = self.chain(key)
        directory, parents = self._directories(chain)
        writable = chain[0].kind == ACTIVE and not readonly
        return self.driver.mounts(directory, parents, target, writable=writable, volatile=volatile)

    def plain(self, key: str) -> str | None:
        """A directory that is the whole tree without a mount; None when it must be mounted. Writable only if active.

        Raises:
            SnapshotNotFound: no such snapshot.
        """
        return self.driver.plain(*self._directories(self.chain(key)))

    @contextmanager
    def mounted(self, key: str, *, readonly: bool = False, volatile: bool = False) -> Iterator[str]:
        """The whole tree at a path for the block: without a mount where possible, else mounted inside the store.

        One block at a time for each snapshot.

        Raises:
            SnapshotNotFound: no such snapshot.
            StoreFull, StoreIOFailed: the disk refuses the place to mount it at.
            lamina.linux.syscalls.SyscallFailed: it cannot be mounted.
        """
        plain = self.plain(key)
        if plain is not None:
            yield plain
            return
        own = self._paths.snapshot(self.stat(key).directory)
        target = f"{own}/mnt"
        for path in (own, target):
            try:
                self._files.mkdir(path, TRAVERSABLE)
            except FileExistsError:
                continue
            except OSError as error:
                raise_typed(path, error)
        execute_all(self.mounts(key, target, readonly=readonly, volatile=volatile))
        try:
            yield target
        finally:
            Unmount(target, detach=True).execute()
            with suppress(OSError):
                self._files.rmdir(target)

    def changes(self, key: str) -> Changes:
        """Where this snapshot's changes against its parent can be read. It need not be mounted.

        Raises:
            SnapshotNotFound: no such snapshot.
            WrongKind: it is a view, which has none.
        """
        chain = self.chain(key)
        if chain[0].kind == VIEW:
            raise WrongKind(key, VIEW, "active or committed")
        directory, parents = self._directories(chain)
        assert directory is not None
        lowers = [self.driver.tree(parent) for parent in parents]
        stacked = self.driver.stacked
        return Changes(
            stacked,
            self.driver.tree(directory),
            tuple(lowers if stacked else lowers[:1]),
            self.driver.userxattr,
        )

    def parents(self, key: str) -> list[str]:
        """The directories of a committed snapshot and what it stands on, topmost first.

        Raises:
            SnapshotNotFound, WrongKind: no such snapshot, or not committed.
        """
        chain = self.chain(key)
        if chain[0].kind != COMMITTED:
            raise WrongKind(key, chain[0].kind, COMMITTED)
        return [self._paths.snapshot(each.directory) for each in chain]

    # --- parts ---------------------------------------------------------------------------------------------------

    def _begin(self, key: str, parent: str | None, kind: str, lease: Lease | None) -> tuple[Snapshot, list[str]]:
        lease = lease or self._leases.session()
        now = rfc3339(self._clock())
        with self._db.write() as connection:
            if parent is not None:
                self._committed(connection, parent)
            try:
                connection.execute(
                    "INSERT INTO snapshots (key, parent, kind, dir, created_at, last_used_at)"
                    " VALUES (?, ?, ?, ?, ?, ?)",
                    (key, parent, kind, fresh()[:16], now, now),
                )
            except sqlite3.IntegrityError:
                raise SnapshotExists(key) from None
            lease.add_in(connection, SNAPSHOT, [key])
            chain = rows.chain_of(connection, key)
        return chain[0], [self._paths.snapshot(each.directory) for each in chain[1:]]

    def _directories(self, chain: list[Snapshot]) -> tuple[str | None, list[str]]:
        own = None if chain[0].kind == VIEW else self._paths.snapshot(chain[0].directory)
        return own, [self._paths.snapshot(each.directory) for each in chain[1:]]

    def _stat_in(self, connection: sqlite3.Connection, key: str) -> Snapshot:
        found = rows.row_of(connection, key)
        if found is None:
            raise SnapshotNotFound(key)
        return found

    def _committed(self, connection: sqlite3.Connection, key: str) -> Snapshot:
        found = self._stat_in(connection, key)
        if found.kind != COMMITTED:
            raise WrongKind(key, found.kind, COMMITTED)
        return found

    def _sync_tree(self, path: str) -> None:
        try:
            self._files.sync_tree(path)
        except OSError as error:
            raise_typed(path, error)

    def _describe(self, directory: str, key: str, parent: str | None, usage: Usage, labels: Mapping[str, str]) -> None:
        """Leaves beside the tree what the index could be rebuilt from (F5)."""
        document: dict[str, Any] = {
            "key": key,
            "parent": parent,
            "driver": self.driver.name,
            "size": usage.size,
            "disk": usage.disk,
            "inodes": usage.inodes,
            "created_at": rfc3339(self._clock()),
            "labels": dict(labels),
        }
        rows.write_description(self._files, directory, document)
