"""The store's snapshots as build operations see them.

A step's changes are the upper directory it wrote to: committing freezes that directory, nothing is copied. Trees are
committed without syncing each; the exporter, and a failing build's end, sync once for all of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from lamina.build.ops.linking import link_tree
from lamina.build.ops.results import Draft
from lamina.errors import LaminaError
from lamina.store.leases import Lease
from lamina.store.reserve import Reserve
from lamina.store.snapshots.attributes import copy_attributes
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

    def stack(self, parent: str | None, layer: str) -> str:
        """Put a tree that stands on nothing on top of another one, as overlayfs shows a layer: links are not followed.

        Where trees are stacked, both show the same files by hard links; only directories are made anew.

        Returns:
            The key of the committed snapshot.
        """
        if parent is None or not self._snapshots.driver.stacked:
            with self.draft(parent) as draft:
                replay(self._snapshots, layer, draft.root)
                return draft.commit()
        key, name = f"build-draft-{os.urandom(16).hex()}", f"build-{os.urandom(16).hex()}"
        self._snapshots.prepare(key, lease=self._lease)
        try:
            target = self._snapshots.changes(key).tree
            link_tree(self._snapshots.changes(layer).tree, target)
            # No layer says anything about the root: it looks like the one below.
            copy_attributes(self._snapshots.changes(parent).tree, target)
            self._snapshots.commit(key, name, parent=parent, sync=False, lease=self._lease)
        except BaseException:
            with suppress(LaminaError), self._reserve.released():
                self._snapshots.remove(key)
            raise
        return name

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


def replay(snapshots: Snapshotter, key: str, root: str) -> None:
    """Make the changes of a snapshot once more, in the tree at `root`."""
    import tempfile  # with the tar code, only where layers cannot be linked

    from lamina.layer.apply import WhiteoutMode, apply_layer
    from lamina.store.packing import pack_layer

    with tempfile.TemporaryFile(dir=os.path.dirname(root)) as spool:
        pack_layer(snapshots.changes(key), spool.write)
        spool.seek(0)
        apply_layer(spool, root, whiteouts=WhiteoutMode.REMOVE)
