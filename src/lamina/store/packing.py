"""A snapshot's changes as a layer archive: the tar whose digest is the diffID."""

from __future__ import annotations

from lamina.layer.changes import Change, changes_overlay, changes_trees
from lamina.layer.diff import Written, write_layer
from lamina.layer.digesting import HashingWriter, Write
from lamina.layer.owners import recorded
from lamina.spec.digest import Digest
from lamina.store.snapshots.values import Changes


def list_changes(changes: Changes) -> list[Change]:
    """What a snapshot adds, changes and deletes, in path order (docker diff)."""
    if changes.stacked:
        return list(changes_overlay(changes.tree, changes.lowers, userxattr=changes.userxattr))
    if not changes.lowers:
        # Without a parent everything is new; an empty directory stands for "before".
        return list(changes_overlay(changes.tree, (), userxattr=changes.userxattr))
    before, after = recorded(changes.lowers[0]), recorded(changes.tree)
    owners = (before, after) if before is not None and after is not None else None
    return list(changes_trees(changes.lowers[0], changes.tree, owners=owners))


def pack_layer(changes: Changes, write: Write) -> Written:
    """Write the layer archive of a snapshot, uncompressed, to `write`.

    Raises:
        FileChanged: the tree was written to meanwhile.
    """
    return write_layer(write, changes.tree, list_changes(changes), owners=recorded(changes.tree))


def layer_diff_id(changes: Changes) -> tuple[Digest, int]:
    """The diffID of a snapshot's layer, and the bytes of content in it."""
    hashing = HashingWriter(lambda _data: None)
    written = pack_layer(changes, hashing.write)
    return Digest("sha256", hashing.digest), written.bytes
