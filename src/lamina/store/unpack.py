"""Have the layers of an image: fetched once, verified, unpacked in parallel, stacked, durable.

Nothing is visible before both digests hold: a tree becomes a snapshot, then a layer, only when its blob and its diffID
are verified and the disk has both.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from datetime import datetime
from typing import Final

from lamina.errors import Cancelled, LaminaError
from lamina.layer.applied import Applied, NeedsParents, WhiteoutMode
from lamina.layer.limits import DEFAULT_LIMITS, Limits
from lamina.progress import ProgressSink, discard
from lamina.spec.digest import Digest, chain_ids
from lamina.spec.timestamp import utc_now
from lamina.store.blobs import BlobStore, DamagedBlob
from lamina.store.db import Database
from lamina.store.ids import fresh
from lamina.store.layers import LayerStore, insert
from lamina.store.leases import Lease
from lamina.store.locks import KeyLocks
from lamina.store.pipeline import APART, LayerPipeline, LayerSource, Stop
from lamina.store.snapshots.snapshotter import Snapshotter
from lamina.store.snapshots.stacking import UNSET_ROOT_MODE, Blocked, settle
from lamina.store.snapshots.values import Snapshot
from lamina.store.writing import DigestMismatch
from lamina.values import dataclass

#: Seconds that finished layers wait for the next one before they are published alone.
_PATIENCE: Final = 0.25


@dataclass(slots=True)
class _Staged:
    """A layer on its way.

    Attributes:
        held: its lock, until it is visible.
        present: it was there before.
        snapshot: its tree: committed when `applied` is None, else unpacked alone.
        applied: what unpacking did.
    """

    held: ExitStack
    present: bool = False
    snapshot: Snapshot | None = None
    applied: Applied | None = None


class Unpacker:
    """Brings layers in."""

    def __init__(
        self,
        db: Database,
        blobs: BlobStore,
        snapshots: Snapshotter,
        layers: LayerStore,
        locks: KeyLocks,
        *,
        clock: Callable[[], datetime] = utc_now,
        limits: Limits = DEFAULT_LIMITS,
        apart: int = APART,
    ) -> None:
        """`apart`: compressed bytes from which on a layer is unpacked by a process of its own."""
        self._apart = apart
        self._db, self._blobs, self._snapshots, self._layers = db, blobs, snapshots, layers
        self._locks, self._clock, self._limits = locks, clock, limits

    def ensure(
        self,
        sources: Sequence[LayerSource],
        *,
        lease: Lease,
        report: ProgressSink = discard,
        cancelled: threading.Event | None = None,
        jobs: int = 3,
    ) -> list[Digest]:
        """Has every layer of an image unpacked, blobs kept, all held by `lease`, durable.

        Each blob is fetched once even when many processes want it; what a failed attempt fetched is used.

        Args:
            sources: bottom first.
            lease: holds blobs and snapshots until something else refers to them.
            report: gets Docker's words for each layer, from several threads.
            cancelled: ends the work when set.
            jobs: layers that are fetched at once.

        Returns:
            The chain ids, bottom first.

        Raises:
            DigestMismatch, SizeMismatch, DiffIdMismatch: the content is not what was promised.
            BadArchive, UnsafeEntry, LayerLimit, ...: of `lamina.layer`.
            StoreFull, StoreIOFailed: the disk refuses.
            Cancelled: `cancelled` was set.
            Exception: what a `fetch` raised.
        """
        stop = Stop(cancelled)
        pipeline = LayerPipeline(
            self._db,
            self._blobs,
            lease=lease,
            report=report,
            stop=stop,
            clock=self._clock,
            limits=self._limits,
            apart=self._apart,
        )
        work = _Ensure(self, pipeline, sources, lease)
        for source in sources:
            pipeline.report(source, "Pulling fs layer")
        try:
            return work.run(jobs)
        except Cancelled:
            if stop.error is not None:
                raise stop.error from None
            raise


class _Ensure:
    """One call of `Unpacker.ensure`."""

    def __init__(self, owner: Unpacker, pipeline: LayerPipeline, sources: Sequence[LayerSource], lease: Lease) -> None:
        self._owner, self._pipeline, self._sources, self._lease = owner, pipeline, sources, lease
        self._snapshots, self._layers, self._blobs = owner._snapshots, owner._layers, owner._blobs
        self._chain = chain_ids([source.diff_id for source in sources])
        self._held = ExitStack()  # the locks of finished layers
        self._fresh: list[tuple[int, Snapshot]] = []  # finished, not published

    def run(self, jobs: int) -> list[Digest]:
        futures: list[Future[_Staged]] = []
        settled = 0
        with ThreadPoolExecutor(max(1, jobs), thread_name_prefix="layer") as pool:
            try:
                # Bottom first: a worker that waits for another process's lock never blocks the layers below its own.
                futures += [pool.submit(self._stage, position) for position in range(len(self._sources))]
                for position, future in enumerate(futures):
                    staged = self._wait(future)
                    self._held.enter_context(staged.held)
                    snapshot = self._finish(position, staged)
                    settled += 1
                    if snapshot is not None:
                        self._fresh.append((position, snapshot))
            except BaseException as error:
                self._pipeline.stop.fail(error)
                raise
            finally:
                # Whatever is complete stays, so that the next attempt has less to do.
                try:
                    self._publish()
                finally:
                    self._held.close()
                    for future in futures[settled:]:
                        self._abandon(future)
        return self._chain

    def _wait(self, future: Future[_Staged]) -> _Staged:
        """The next layer. When it takes long, the finished ones are published and their locks given up meanwhile.

        The process that holds this layer may be waiting for one of those.
        """
        try:
            return future.result(_PATIENCE)
        except TimeoutError:
            if not future.done():
                self._publish()
        return future.result()

    def _publish(self) -> None:
        """Makes finished snapshots durable, then layers, then lets go of their locks."""
        fresh, self._fresh = self._fresh, []
        if fresh:
            self._snapshots.sync()
            with self._owner._db.write() as connection:
                for position, snapshot in fresh:
                    diff_id = self._sources[position].diff_id
                    insert(connection, self._chain[position], self._parent(position), diff_id, snapshot.key)
            for position, _snapshot in fresh:
                self._pipeline.report(self._sources[position], "Pull complete", final=True)
        self._held.close()

    def _abandon(self, future: Future[_Staged]) -> None:
        if future.cancel():
            return
        with suppress(Exception):
            staged = future.result()
            with staged.held:
                if staged.snapshot is not None and staged.applied is not None:
                    self._snapshots.remove(staged.snapshot.key)

    def _parent(self, position: int) -> Digest | None:
        return self._chain[position - 1] if position else None

    # --- in a worker ---------------------------------------------------------------------------------------------

    def _stage(self, position: int) -> _Staged:
        """Takes the layer's lock, gets its bytes, and unpacks them alone where the driver can."""
        source, chain_id = self._sources[position], self._chain[position]
        held = ExitStack()
        try:
            self._pipeline.stop.check()
            if self._present(source, chain_id):
                return _Staged(held, present=True)
            lock = self._owner._locks.hold(
                "layer",
                str(chain_id),
                waiting=lambda: self._pipeline.report(source, "Waiting"),
                cancelled=self._pipeline.stop.asked,
            )
            held.enter_context(lock)
            if self._present(source, chain_id):
                return _Staged(held, present=True)
            try:
                return self._unpack(position, held)
            except DigestMismatch as error:
                if not error.resumed:
                    raise
                # The bytes of an earlier attempt may be what was wrong; they are gone now.
            except DamagedBlob:
                self._blobs.forget([source.blob.digest])
            return self._unpack(position, held)
        except BaseException as error:
            self._pipeline.stop.fail(error)
            held.close()
            raise

    def _present(self, source: LayerSource, chain_id: Digest) -> bool:
        """Whether the layer is unpacked already; its blob, where it is here, is held too."""
        if self._layers.find(chain_id, lease=self._lease) is None:
            return False
        self._blobs.hold(source.blob.digest, lease=self._lease)
        self._pipeline.report(source, "Already exists", final=True)
        return True

    def _unpack(self, position: int, held: ExitStack) -> _Staged:
        source = self._sources[position]
        left = self._snapshots.find(str(self._chain[position]), lease=self._lease)
        if left is not None:
            # Verified and committed by a process that died before it could say so.
            self._pipeline.fetch(source)
            return _Staged(held, snapshot=left)
        if not self._snapshots.driver.stacked:
            self._pipeline.fetch(source)
            return _Staged(held)
        active = self._snapshots.prepare(f"unpack-{fresh()}", lease=self._lease)
        try:
            tree = self._snapshots.changes(active.key).tree
            os.chmod(tree, UNSET_ROOT_MODE)
            mode = WhiteoutMode.OVERLAY if position else WhiteoutMode.REMOVE
            userxattr = self._snapshots.driver.userxattr
            applied = self._pipeline.apply(source, tree, mode, userxattr=userxattr)
        except NeedsParents:
            self._snapshots.remove(active.key)
            self._pipeline.fetch(source)
            return _Staged(held)
        except Exception:
            with suppress(LaminaError):
                self._snapshots.remove(active.key)
            raise
        return _Staged(held, snapshot=active, applied=applied)

    # --- in order, bottom first ----------------------------------------------------------------------------------

    def _finish(self, position: int, staged: _Staged) -> Snapshot | None:
        """Puts a staged layer on its parents; returns its committed snapshot, None when it was there before."""
        if staged.present:
            return None
        if staged.snapshot is not None and staged.applied is None:
            return staged.snapshot
        source, chain_id = self._sources[position], self._chain[position]
        below = self._below(position)
        applied, active = staged.applied, staged.snapshot
        if active is not None and applied is not None:
            try:
                self._settle(active, below, applied)
            except Blocked:
                self._snapshots.remove(active.key)
                active = staged.snapshot = None
        if active is None:
            try:
                active, applied = self._apply_merged(source, below)
            except DamagedBlob:
                self._blobs.forget([source.blob.digest])
                active, applied = self._apply_merged(source, below)
        if applied is None:
            raise AssertionError("an unpacked tree without a record of what was unpacked")
        labels = {"chain_id": str(chain_id), "diff_id": str(source.diff_id)}
        return self._snapshots.commit(
            active.key,
            str(chain_id),
            parent=below,
            size=applied.bytes,
            sync=False,
            labels=labels,
            lease=self._lease,
        )

    def _below(self, position: int) -> str | None:
        """The snapshot of the layer below, which may be committed and no layer yet."""
        parent = self._parent(position)
        if parent is None:
            return None
        known = self._layers.find(parent)
        return known.snapshot if known is not None else str(parent)

    def _settle(self, active: Snapshot, below: str | None, applied: Applied) -> None:
        changes = self._snapshots.changes(active.key)
        parents = self._snapshots.parents(below) if below is not None else []
        lowers = [self._snapshots.driver.tree(parent) for parent in parents]
        settle(changes.tree, lowers, applied.implicit_dirs, userxattr=changes.userxattr)

    def _apply_merged(self, source: LayerSource, below: str | None) -> tuple[Snapshot, Applied]:
        """Applies a layer, whose blob is here (or fetched again), on the merged tree of those below it."""
        active = self._snapshots.prepare(f"unpack-{fresh()}", below, lease=self._lease)
        try:
            with self._snapshots.mounted(active.key, volatile=True) as tree:
                return active, self._pipeline.apply(source, tree, WhiteoutMode.REMOVE, userxattr=False)
        except Exception:
            with suppress(LaminaError):
                self._snapshots.remove(active.key)
            raise
