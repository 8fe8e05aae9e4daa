"""Free what nothing needs (F8-F13): mark in one transaction over the index, then sweep the disk.

Marking takes dead rows out of the index and notes them as doomed, all at once, so nothing can begin to need them in
between: a lease taken before keeps its things, one taken after finds them gone. Sweeping finishes the doomed ones, in
any process, as often as it takes. What the index does not know is not touched here, except bytes that provably nobody
can refer to; `fsck` names the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from lamina.errors import LaminaError
from lamina.spec.digest import Digest
from lamina.spec.timestamp import utc_now
from lamina.store import marking, paths
from lamina.store.backends.driver import ByteDriver
from lamina.store.db import Database
from lamina.store.leases import BLOB, SNAPSHOT, Leases
from lamina.store.locks import KeyLocks
from lamina.store.reserve import Reserve
from lamina.store.snapshots import rows
from lamina.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lamina.store.snapshots.snapshotter import Snapshotter

#: Resumable partials older than this are dropped by `collect`.
PARTIALS_KEPT: Final = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Collected:
    """What a collection did.

    Attributes:
        blobs, snapshots, partials: how many were removed.
        bytes: disk freed.
        left: what could not be removed now (in use by another process, mounted); the next collection tries again.
    """

    blobs: int
    snapshots: int
    partials: int
    bytes: int
    left: tuple[str, ...]


class Collector:
    """The garbage collector of a store."""

    def __init__(
        self,
        db: Database,
        driver: ByteDriver,
        snapshots: Callable[[], Snapshotter],
        locks: KeyLocks,
        leases: Leases,
        reserve: Reserve,
        keep: Callable[[], None],
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        """`snapshots` is called only when there are snapshots to remove, `keep` (`Ledger.keep`) at the end."""
        self._db, self._driver, self._snapshots, self._keep = db, driver, snapshots, keep
        self._locks, self._leases, self._reserve, self._clock = locks, leases, reserve, clock

    def collect(self, *, partials_kept: timedelta | None = PARTIALS_KEPT) -> Collected:
        """Reaps leases of the dead, marks and sweeps.

        Args:
            partials_kept: drop resumable partials not written for this long; None drops all that nobody writes.
        """
        with self._reserve.released():
            self._leases.reap()
            self.mark()
            blobs, freed, left = self._sweep_blobs()
            snapshots, more, stuck = self._sweep_snapshots()
            partials, rest = self._sweep_partials(partials_kept)
            self._keep()
        return Collected(blobs, snapshots, partials, freed + more + rest, (*left, *stuck))

    def mark(self) -> None:
        """Takes what nothing needs out of the index, and notes it as doomed; frees nothing yet."""
        with self._db.write() as connection:
            marking.drop_layers(connection)
            for key, directory in marking.dead_snapshots(connection):
                rows.doom(connection, key, directory)
            marking.drop_manifests(connection)
            marking.drop_blobs(connection)

    def _sweep_blobs(self) -> tuple[int, int, list[str]]:
        """Removes the bytes of doomed blobs, and bytes whose writer died before it made a row."""
        with self._db.read() as connection:
            doomed = {row[0] for row in connection.execute("SELECT key FROM doomed WHERE kind = ?", (BLOB,))}
            known = {row[0] for row in connection.execute("SELECT digest FROM blobs")}
        doomed |= {str(digest) for digest, _ in self._driver.list() if str(digest) not in known}
        count = freed = 0
        left: list[str] = []
        for key in sorted(doomed):
            digest = Digest.parse(key)
            try:
                # A writer holds this lock from before the bytes appear until the row is there.
                with self._locks.attempt("blob", key) as held:
                    if not held:
                        left.append(f"blob {key}")
                        continue
                    with self._db.read() as connection:
                        alive = connection.execute("SELECT 1 FROM blobs WHERE digest = ?", (key,)).fetchone()
                    if alive is None:
                        freed += self._driver.delete(digest)
                        count += 1
                    with self._db.write() as connection:
                        connection.execute("DELETE FROM doomed WHERE kind = ? AND key = ?", (BLOB, key))
            except LaminaError as error:
                left.append(f"blob {key}: {error.message}")
        return count, freed, left

    def _sweep_snapshots(self) -> tuple[int, int, list[str]]:
        with self._db.read() as connection:
            doomed = [row[0] for row in connection.execute("SELECT key FROM doomed WHERE kind = ?", (SNAPSHOT,))]
        freed = 0
        gone: list[str] = []
        left: list[str] = []
        for directory in doomed:
            try:
                freed += self._snapshots().sweep(directory)
                gone.append(directory)
            except LaminaError as error:
                left.append(f"snapshot directory {directory}: {error.message}")
        if gone:
            self._snapshots().swept(gone)
        # Made before the lock is taken: choosing a new store's driver takes the same one.
        snapshots = self._snapshots()
        with self._locks.attempt("probe", "") as held:
            if held:
                freed += snapshots.sweep_probes()
        return len(gone), freed, left

    def _sweep_partials(self, kept: timedelta | None) -> tuple[int, int]:
        now = self._clock().timestamp()
        count = freed = 0
        for partial in list(self._driver.partials()):
            # One without a digest can be found again by nobody but its writer.
            if partial.busy:
                continue
            old = kept is None or now - partial.modified > kept.total_seconds()
            if old or paths.upload_digest(partial.name) is None:
                dropped = self._driver.drop(partial.name)
                freed += dropped
                count += 1
        return count, freed
