"""`--squash`: one layer in place of all that a build put on its base; the base's layers stay shared (S39)."""

from __future__ import annotations

from collections.abc import Sequence

from lamina.build.ops.results import Result, Tree, Trees
from lamina.build.ops.workspace import replay
from lamina.build.solver.cachekey import make_key
from lamina.build.solver.protocols import Cache
from lamina.spec.config import History, ImageConfig
from lamina.store.snapshots.values import Snapshot
from lamina.store.store import Store
from lamina.values import replace


def merged(store: Store, trees: Trees, cache: Cache[Result], own: Sequence[Snapshot]) -> Snapshot:
    """One snapshot with the changes of several (bottom first), on what the first of them stands on.

    It is cached like a step: the same layers squashed again are the same image again.
    """
    key = make_key("squash", *(snapshot.key for snapshot in own))
    known = cache.get(key)
    if known is not None and isinstance(known[1], Tree) and known[1].snapshot is not None:
        return store.snapshots.stat(known[1].snapshot)
    with trees.draft(own[0].parent) as draft:
        for snapshot in own:
            replay(store.snapshots, snapshot.key, draft.root)
        made = draft.commit()
    cache.put(key, (), Tree(made))
    return store.snapshots.stat(made)


def squashed_history(config: ImageConfig, base: ImageConfig | None, created: str) -> tuple[History, ...]:
    """The history after a squash, in Docker's words: nothing is forgotten, but only the last entry has a layer."""
    kept = len(base.history) if base is not None else 0
    told = (replace(entry, empty_layer=True) for entry in config.history[kept:])
    parent = str(base.id) if base is not None else ""
    merged = History(created=created, comment=f"merge {config.id} to {parent}")
    return (*config.history[:kept], *told, merged)
