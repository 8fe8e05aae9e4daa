"""The writable layers of containers: made from an image, described for the runtime, taken away with the container.

`discard` is also called by the command that conmon runs when a container with `--rm` has ended, so this module imports
next to nothing by itself.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from lamina.runtime.state import ContainerRecord
    from lamina.store.store import Store

#: What a record's `remove_hook` says.
HOOK: Final = "lamina.engine.writable:discard"


def rootfs_doc(store: Store, key: str, target: str, *, throwaway: bool) -> dict[str, Any]:
    """How the runtime mounts a writable layer over its image (`lamina.runtime.rootfs_mount`).

    Args:
        store: that has the layer.
        key: of the layer's snapshot.
        target: an existing directory, where the whole tree appears.
        throwaway: nobody reads the layer after its first run, so that its end need not wait for the disk.
    """
    from lamina.linux.mounts import Overlay
    from lamina.runtime import rootfs_mount

    plain = store.snapshots.plain(key)
    if plain is not None:
        return rootfs_mount.directory_doc(plain)
    (mount,) = store.snapshots.mounts(key, target, volatile=throwaway)
    if not isinstance(mount, Overlay) or mount.upper is None or mount.work is None:
        # An image without layers: its container's tree is a directory of its own.
        return rootfs_mount.directory_doc(store.snapshots.changes(key).tree)
    return rootfs_mount.overlay_doc(mount.lower, mount.upper, mount.work, mount.target, mount.options)


def reusable(doc: dict[str, Any]) -> dict[str, Any]:
    """The document of a throwaway layer that is to be mounted again after all."""
    if doc.get("type") != "overlay":
        return doc
    import shutil

    # Left by the volatile mount; the kernel refuses the directory while it is there (overlayfs.rst, Volatile mount).
    with suppress(FileNotFoundError):
        shutil.rmtree(os.path.join(doc["work"], "work/incompat"))
    return doc | {"options": [option for option in doc.get("options", ()) if option != "volatile"]}


def discard(record: ContainerRecord) -> None:
    """Removes a container's writable layer; the container is about to be forgotten."""
    from lamina.store.store import Store

    with Store.open(str(record.engine["root"])) as store:
        drop(store, record)


def drop(store: Store, record: ContainerRecord) -> None:
    """The same, in an open store."""
    from lamina.errors import LaminaError
    from lamina.store.snapshots import rows

    if not record.snapshot_key:
        return
    with store.db.write(durable=not record.throwaway) as connection:
        # One step: from here on the layer is the collector's, should this process die.
        connection.execute("UPDATE containers SET snapshot_key = NULL WHERE id = ?", (record.id,))
        found = rows.row_of(connection, record.snapshot_key)
        if found is not None:
            rows.doom(connection, found.key, found.directory)
    if found is not None:
        with suppress(LaminaError):
            store.snapshots.sweep(found.directory)
