"""DiffIDs of new layers, worked out while the steps above them still run.

A layer's tar is made only to be hashed; the store makes it again, byte for byte, when somebody wants the blob.
"""

from __future__ import annotations

import threading

from lamina.build.solver.future import Future, answer_into
from lamina.spec.digest import Digest
from lamina.store.store import Store


class LayerDigests:
    """The diffIDs of one build's layers; each is worked out once.

    Args:
        store: where the snapshots are.
        parallel: how many layers are packed at once.
    """

    def __init__(self, store: Store, parallel: int = 2) -> None:
        self._store = store
        self._slots = threading.BoundedSemaphore(parallel)
        self._lock = threading.Lock()
        self._asked: dict[str, Future[Digest]] = {}

    def start(self, snapshot: str) -> Future[Digest]:
        """Begin with a committed snapshot, unless that happened already."""
        with self._lock:
            if (found := self._asked.get(snapshot)) is not None:
                return found
            future = self._asked[snapshot] = Future()
        known = self._store.layers.diff_id_of_snapshot(snapshot)
        if known is not None:
            future.set_result(known)
            return future
        return answer_into(future, lambda: self._pack(snapshot), "diffid")

    def get(self, snapshots: list[str]) -> tuple[Digest, ...]:
        """Wait for the diffIDs of some snapshots.

        Raises:
            FileChanged, OSError: a tree could not be read.
        """
        return tuple([future.result() for future in [self.start(snapshot) for snapshot in snapshots]])

    def drain(self) -> None:
        """Wait until nothing is being read any more."""
        with self._lock:
            futures = list(self._asked.values())
        for future in futures:
            future.exception()

    def _pack(self, snapshot: str) -> Digest:
        from lamina.store.packing import layer_diff_id

        with self._slots:
            return layer_diff_id(self._store.snapshots.changes(snapshot))[0]
