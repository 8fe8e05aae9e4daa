"""What a killed `create` left: directories of containers that never came to be, and volumes made for them.

The writable layer is the collector's, by the lease that died with the command. A directory is found by its name, a
volume by the lease that holds it until a container has it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from lamina.values import dataclass

if TYPE_CHECKING:
    from lamina.store.store import Store

CAUSE: Final = "the command that made it for a new container was killed"


@dataclass(frozen=True, slots=True)
class Abandoned:
    """What was left.

    Attributes:
        directories: of containers, as paths.
        volumes: names.
    """

    directories: tuple[str, ...]
    volumes: tuple[str, ...]


def abandoned(store: Store) -> Abandoned:
    """Finds what killed commands left. Whatever may still come to be, or once was a container, is not among it."""
    parent = os.path.join(store.root, "containers")
    try:
        names = sorted(os.listdir(parent))
    except FileNotFoundError:
        names = []
    with store.db.read() as connection:
        # One view: who lets go of the lease has made the container before, or given up.
        known = {row[0] for row in connection.execute("SELECT id FROM containers")}
        held = connection.execute(
            "SELECT lease, kind, key FROM lease_items WHERE kind IN ('snapshot', 'volume')"
        ).fetchall()
    strange = [name for name in names if name not in known]
    if not strange and not any(kind == "volume" for _, kind, _ in held):
        return Abandoned((), ())
    alive = {lease.id for lease in store.leases.all() if lease.alive}
    making = {key for lease, kind, key in held if kind == "snapshot" and lease in alive}
    paths = [os.path.join(parent, name) for name in strange if f"container-{name}" not in making]
    return Abandoned(
        # Its record is written once the index has it: an index that does not is the one that is wrong.
        tuple(path for path in paths if not os.path.lexists(os.path.join(path, "record.json"))),
        tuple(sorted(key for lease, kind, key in held if kind == "volume" and lease not in alive)),
    )


def sweep(store: Store) -> Abandoned:
    """Removes what killed commands left, and writes the records that they did not; returns what was removed."""
    from lamina.runtime.paths import remove
    from lamina.store import container_files

    for container_id in container_files.outdated(store.db):
        container_files.keep(store.db, container_id)
    found = abandoned(store)
    for path in found.directories:
        remove(path)
    if found.volumes:
        from lamina.runtime.volumes import Volumes

        volumes = Volumes(store.db, store.paths.volumes, str)
        for name in found.volumes:
            volumes.remove(name, [], force=True)
    return found
