"""The store's snapshots as build operations see them.

A step's changes are the upper directory it wrote to: committing freezes that directory, nothing is copied. Trees are
committed without syncing each; the exporter, and a failing build's end, sync once for all of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from lamina.build.ops.results import Draft
from lamina.errors import LaminaError
from lamina.store.leases import Lease
from lamina.store.reserve import Reserve
from lamina.store.snapshots.snapshotter import Snapshotter


class StoreTrees:
    """Trees of one build.

    Args:
        snapshots: the store's.
        lease: holds every tree until the build has ended.
        reserve: given up while a tree is dropped, which must work on a full disk, too (F6).
    """

    def __init__(self, snapshots: Snapshotter, lease: Lease, reserve: Reserve) -> None:
        self._snapshots, self._lease, self._reserve = snapshots, lease, reserve

    @contextmanager
    def draft(self, parent: str | None) -> Iterator[Draft]:
        """A writable tree on top of a snapshot; dropped unless committed."""
        key, name = f"build-draft-{os.urandom(16).hex()}", f"build-{os.urandom(16).hex()}"
        self._snapshots.prepare(key, parent, lease=self._lease)
        committed = False
        with ExitStack() as mount:
            try:
                root = mount.enter_context(self._snapshots.mounted(key, volatile=True))

                def commit() -> str:
                    nonlocal committed
                    mount.close()
                    self._snapshots.commit(key, name, sync=False, lease=self._lease)
                    committed = True
                    return name

                yield Draft(root, commit)
            finally:
                mount.close()
                if not committed:
                    # What went wrong before is what the user needs to hear; the collector tries again.
                    with suppress(LaminaError), self._reserve.released():
                        self._snapshots.remove(key)

    @contextmanager
    def view(self, snapshot: str | None) -> Iterator[str]:
        """A snapshot's tree to read, as a directory; many views of one tree may be open at once."""
        if snapshot is None:
            import tempfile  # rare, and slow to import

            with tempfile.TemporaryDirectory(prefix="lamina-scratch-") as empty:
                os.chmod(empty, 0o755)
                yield empty
            return
        plain = self._snapshots.plain(snapshot)
        if plain is not None:
            yield plain
            return
        key = f"build-view-{os.urandom(16).hex()}"
        self._snapshots.view(key, snapshot, lease=self._lease)
        try:
            with self._snapshots.mounted(key, readonly=True) as root:
                yield root
        finally:
            self._snapshots.remove(key)
