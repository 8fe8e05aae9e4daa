"""The store as one object, used by the engine, the builder and the local transport.

    store = Store.open(root)                       # creates it, or opens it in under 3 ms; share it between threads
    with store.lease("pull") as lease:             # hold what you work on; gc keeps it
        store.blobs.ingest(digest, size=, lease=)  # context manager: None when here already, else a resumed writer
        store.unpacker.ensure(sources, lease=, report=, cancelled=, jobs=)    # layers: fetch once, verify, unpack, sync
        store.images.put(config, manifest=, tags=[...], target=, digests=[...], lease=)     # the image and its names
    store.close()

Parts (each has its own module; every method may be called from any thread and process):

    blobs      BlobStore    stat hold open(digest, verify=) path read put ingest writer verify all partials
    images     ImageStore   put put_index put_manifest get all config manifests manifest image_of layers snapshot hold
    refs       RefStore     tag untag get all add_digest
    lookup     Lookup       find(text) -> Found(image, reference, target); try_find
    removal    Removal      remove(text, force=, running=) -> [Removed]; prune(images, untag=) -> [Removed]
    layers     LayerStore   find get snapshot_of register(diff_ids, snapshot) add_blob blobs diff_id_of
    unpacker   Unpacker     ensure([LayerSource(diff_id, blob, fetch)], lease=) -> chain ids
    snapshots  Snapshotter  prepare view commit(key, name, sync=) sync remove find stat chain children usage touch
                            mounts(key, target, readonly=, volatile=) plain mounted changes
    leases     Leases       acquire(purpose) -> Lease(add drop release); all reap
    collector  Collector    collect() -> Collected(blobs, snapshots, partials, bytes, left)
    usage      UsageStore   read() -> StoreUsage
    ledger     Ledger       keep current read: the names once more, outside the index
    fsck       Fsck         run(repair=, content=) -> Report(findings, clean); DamagedDatabase: Store.reset_index
    db         Database     read() / write() transactions on the index (schema.py has the tables)

Docker's `rmi` is `removal.remove(...)` followed by `collector.collect()`. A build step is `snapshots.prepare`, mount,
run, unmount, `snapshots.commit(..., sync=False)`; before the image is put: `snapshots.sync()`, `layers.register(...)`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from functools import cached_property

from lamina.errors import Conflict, Unsupported
from lamina.spec.timestamp import rfc3339, utc_now
from lamina.store.backends.filesystem import FilesystemDriver
from lamina.store.blobs import BlobStore
from lamina.store.db import Database
from lamina.store.files import Files, raise_typed
from lamina.store.images import ImageStore
from lamina.store.leases import Lease, Leases
from lamina.store.locks import KeyLocks
from lamina.store.lookup import Lookup
from lamina.store.paths import DIRECTORY, StorePaths
from lamina.store.refs import RefStore
from lamina.store.reserve import Reserve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lamina.store.fsck import Fsck
    from lamina.store.gc import Collector
    from lamina.store.layers import LayerStore
    from lamina.store.ledger import Ledger
    from lamina.store.removal import Removal
    from lamina.store.snapshots.driver import TreeDriver
    from lamina.store.snapshots.snapshotter import Snapshotter
    from lamina.store.unpack import Unpacker
    from lamina.store.usage import UsageStore

DRIVERS = ("overlay", "vfs")


class WrongDriver(Conflict):
    """The store's snapshots were made by another storage driver.

    Attributes:
        has, wanted: names of drivers.
    """

    def __init__(self, root: str, has: str, wanted: str) -> None:
        super().__init__(
            f"the store {root} uses storage driver {has}, not {wanted}",
            hint=f"leave --storage-driver out, or use another --root for {wanted}",
        )
        self.has, self.wanted = has, wanted


class UnusableDriver(Unsupported):
    """The storage driver does not work on this machine or file system.

    Attributes:
        name: of the driver.
        reason: what failed.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(
            f"storage driver {name} does not work here: {reason}",
            hint="use --storage-driver vfs, or a --root on a file system that overlayfs can use"
            if name == "overlay"
            else None,
        )
        self.name, self.reason = name, reason


class Store:
    """A content store on disk. Parts are made when first used; see the module for what each one does.

    Attributes:
        root: the data root.
        paths: every path below it.
        db: the index.
    """

    def __init__(
        self, root: str, db: Database, files: Files, clock: Callable[[], datetime], driver: str | None
    ) -> None:
        """Use `open`."""
        self.root, self.db = root, db
        self.paths = StorePaths(root)
        self._files, self._clock, self._wanted = files, clock, driver
        self.locks = KeyLocks(self.paths.locks, files)
        self.leases = Leases(db, clock)
        self.reserve = Reserve(self.paths.reserve, files)

    @classmethod
    def open(
        cls,
        root: str,
        *,
        driver: str | None = None,
        clock: Callable[[], datetime] = utc_now,
        files: Files | None = None,
    ) -> Store:
        """Opens the store at an absolute path, making it when there is none.

        Args:
            root: the data root.
            driver: `overlay` or `vfs`; None takes what the store has, or for a new one the best that works here.
            clock: for times in the index.
            files: the file layer.

        Raises:
            DamagedDatabase, NewerStore, DatabaseUnavailable: the index cannot be used.
            WrongDriver: the store has another driver than the one asked for.
            StoreFull, StoreIOFailed: the disk refuses.
        """
        files = files or Files()
        paths = StorePaths(os.path.abspath(root))
        if not os.path.exists(paths.database):
            _lay_out(paths, files)
        db = Database(paths.database, step=files.step)
        store = cls(paths.root, db, files, clock, driver)
        try:
            if db.created:
                store.reserve.fill()
                store._restore_index()
            else:
                store._drop_unsynced()
            if driver is not None:
                store._check_driver(driver)
        except BaseException:
            db.close()
            raise
        return store

    @staticmethod
    def reset_index(root: str, clock: Callable[[], datetime] = utc_now) -> str:
        """Sets a damaged index aside; the next `open` makes it again from the content and the file of names (F5).

        No other process may have the store open.

        Returns:
            Where the old index is now.

        Raises:
            StoreFull, StoreIOFailed: it cannot be moved.
        """
        paths = StorePaths(os.path.abspath(root))
        stamp = rfc3339(clock()).replace(":", "").replace(".", "-")
        aside = f"{paths.quarantine}/lamina.db-{stamp}"
        files = Files()
        try:
            with suppress(FileExistsError):
                files.mkdir(paths.quarantine, DIRECTORY)
            for suffix in ("", "-wal", "-shm"):
                with suppress(FileNotFoundError):
                    files.rename(paths.database + suffix, aside + suffix)
            files.sync_dir(paths.root)
        except OSError as error:
            raise_typed(paths.database, error)
        return aside

    def close(self) -> None:
        """Ends this process's session lease and closes the index."""
        with suppress(Exception):
            self.leases.close()
        self.db.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def lease(self, purpose: str) -> Lease:
        """A lease for one operation; a context manager."""
        return self.leases.acquire(purpose)

    @cached_property
    def driver(self) -> FilesystemDriver:
        """Where the bytes of blobs lie."""
        return FilesystemDriver(self.paths.blobs, self.paths.ingest, self._files)

    @cached_property
    def blobs(self) -> BlobStore:
        """Content by digest."""
        return BlobStore(self.db, self.driver, self.locks, self.leases, self._clock)

    @cached_property
    def images(self) -> ImageStore:
        """Images and manifests."""
        return ImageStore(self.db, self.blobs, self.leases, self._keep_names, self._clock)

    @cached_property
    def refs(self) -> RefStore:
        """Names."""
        return RefStore(self.db, self._keep_names, self._clock)

    @cached_property
    def ledger(self) -> Ledger:
        """The names of images, outside the index."""
        from lamina.store.ledger import Ledger

        return Ledger(self.paths.names, self.db, self.locks, self._files)

    def _keep_names(self) -> None:
        self.ledger.keep()

    @cached_property
    def lookup(self) -> Lookup:
        """From what users type to images."""
        return Lookup(self.images, self.refs)

    @cached_property
    def removal(self) -> Removal:
        """Docker's rules for removing images."""
        from lamina.store.removal import Removal

        return Removal(self.db, self.lookup, self.reserve, self._keep_names)

    @cached_property
    def layers(self) -> LayerStore:
        """Unpacked layers."""
        from lamina.store.layers import LayerStore

        return LayerStore(self.db, self.paths, self._files, self._clock)

    @cached_property
    def unpacker(self) -> Unpacker:
        """Brings layers in."""
        from lamina.store.unpack import Unpacker

        return Unpacker(self.db, self.blobs, self.snapshots, self.layers, self.locks, clock=self._clock)

    @cached_property
    def snapshots(self) -> Snapshotter:
        """File trees.

        Raises:
            UnusableDriver: the storage driver that was asked for, or that the store has, does not work here.
        """
        from lamina.store.snapshots.choice import boot_id
        from lamina.store.snapshots.snapshotter import Snapshotter

        boot = boot_id()
        return Snapshotter(
            self.db, self.paths, self._tree_driver(), self._files, self.leases, clock=self._clock, boot=boot
        )

    @cached_property
    def collector(self) -> Collector:
        """The garbage collector."""
        from lamina.store.gc import Collector

        return Collector(
            self.db,
            self.driver,
            lambda: self.snapshots,
            self.locks,
            self.leases,
            self.reserve,
            self._keep_names,
            self._clock,
        )

    @cached_property
    def fsck(self) -> Fsck:
        """Examines the store."""
        from lamina.store.fsck import Fsck

        return Fsck(self.db, self.driver, self.paths, self.locks, self.leases, self.ledger, self._files, self._clock)

    @cached_property
    def usage(self) -> UsageStore:
        """What takes how much."""
        from lamina.store.usage import UsageStore

        return UsageStore(self.db, self.driver, lambda: self.snapshots, self._index_disk)

    @property
    def storage_driver(self) -> str:
        """The name of the storage driver: `overlay` or `vfs`."""
        return self.snapshots.driver.name

    def _tree_driver(self) -> TreeDriver:
        from lamina.store.snapshots.choice import make, probed

        recorded = self._meta("driver")
        if recorded is not None:
            return make(recorded, self._files)
        with self.locks.hold("probe", ""):
            name, reason = probed(self._wanted, self.paths.snapshots, self._files)
        if reason is not None:
            raise UnusableDriver(name, reason)
        with self.db.write() as connection:
            connection.execute("INSERT OR IGNORE INTO meta (key, value) VALUES ('driver', ?)", (name,))
        return make(self._meta("driver") or name, self._files)

    def _check_driver(self, wanted: str) -> None:
        if wanted not in DRIVERS:
            raise UnusableDriver(wanted, f"there is no such driver; there are {', '.join(DRIVERS)}")
        recorded = self._meta("driver")
        if recorded is None:
            self._tree_driver()  # what was asked for is what the store has from now on
        elif recorded.partition("+")[0] != wanted:
            raise WrongDriver(self.root, recorded, wanted)

    def _meta(self, key: str) -> str | None:
        with self.db.read() as connection:
            row = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def _drop_unsynced(self) -> None:
        """Forgets trees that a power cut may have taken (F2)."""
        with self.db.read() as connection:
            if connection.execute("SELECT 1 FROM snapshots WHERE unsynced IS NOT NULL").fetchone() is None:
                return
        self.snapshots.drop_unsynced()

    def _restore_index(self) -> None:
        """A new index over old content: the file was lost. What can be known from the content comes back (F5)."""
        with os.scandir(self.paths.snapshots) as trees, os.scandir(f"{self.paths.blobs}/sha256") as blobs:
            if next(trees, None) is None and next(blobs, None) is None:
                return
        from lamina.store.rebuild import rebuild

        rebuild(self.db, self.paths, self.driver, self.ledger.read(), self._clock)

    def _index_disk(self) -> int:
        total = 0
        for path in (
            self.paths.reserve,
            self.paths.names,
            *(self.paths.database + suffix for suffix in ("", "-wal", "-shm")),
        ):
            with suppress(FileNotFoundError):
                total += os.stat(path).st_blocks * 512
        return total


def _lay_out(paths: StorePaths, files: Files) -> None:
    """Makes the directories of a new store, whatever the umask is (threat 59)."""
    try:
        parent = os.path.dirname(paths.root)
        if not os.path.isdir(parent):
            os.makedirs(parent, 0o711, exist_ok=True)
        for directory, mode in paths.directories():
            with suppress(FileExistsError):
                files.mkdir(directory, mode)
        files.spread(paths.snapshots)
    except OSError as error:
        raise_typed(paths.root, error)
