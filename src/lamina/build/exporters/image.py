"""Export a tree as an image of the local store: layers named by their diffIDs, a config, and names that point at it.

The layers are those snapshots that the build put on top of its base.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from lamina.build.dockerfile.history import StepHistory
from lamina.build.dockerfile.plan import Plan
from lamina.build.exporters.digests import LayerDigests
from lamina.build.ops.results import Result, Tree, Trees
from lamina.build.solver.protocols import Cache
from lamina.errors import Internal
from lamina.spec.config import History, ImageConfig
from lamina.spec.digest import Digest
from lamina.spec.reference import Reference
from lamina.store.leases import Lease
from lamina.store.records import ImageRecord
from lamina.store.snapshots.values import Snapshot
from lamina.store.store import Store
from lamina.values import dataclass, replace


@dataclass(frozen=True, slots=True)
class ImageExport:
    """What the image is to be.

    Attributes:
        tags: names that point at it from now on.
        labels: added last, over those of the Dockerfile (`--label`).
        epoch: SOURCE_DATE_EPOCH as RFC 3339, replaces every time the build would record; "" records real ones.
        squash: one layer in place of all new ones.
    """

    tags: Sequence[Reference] = ()
    labels: Mapping[str, str] | None = None
    epoch: str = ""
    squash: bool = False


@dataclass(frozen=True, slots=True)
class ExportMeans:
    """What an export works with.

    Attributes:
        trees: where a squashed tree is made.
        digests: of the layers.
        cache: remembers squashed trees.
    """

    trees: Trees
    digests: LayerDigests
    cache: Cache[Result]


def export_image(
    store: Store,
    means: ExportMeans,
    plan: Plan,
    tree: Tree,
    export: ImageExport,
    lease: Lease,
    ready: Callable[[Digest], None] = lambda _id: None,
) -> ImageRecord:
    """Make the image durable and visible, in one step at the end.

    Args:
        store: gets the image.
        means: what to work with.
        plan: what the Dockerfile says of it.
        tree: its files.
        export: what it is to be.
        lease: protects it until a name does.
        ready: is told the image's id when its layers are done and it is about to be written.

    Raises:
        StoreFull, StoreIOFailed: the disk refuses; the names still point where they did.
    """
    base = plan.base.config if plan.base is not None else None
    own = new_snapshots(store, tree, base)
    diff_ids = means.digests.get([snapshot.key for snapshot in own])
    config = _config(plan, base, own, diff_ids, export)
    if export.squash and len(own) > 1:
        from lamina.build.exporters.squash import merged, squashed_history

        one = merged(store, means.trees, means.cache, own)
        history = squashed_history(config, base, export.epoch or one.created_at)
        own, diff_ids = [one], means.digests.get([one.key])
        config = config.edit(diff_ids=(*_below(base), *diff_ids), history=history)
    store.snapshots.sync()
    for count, snapshot in enumerate(own, start=1):
        if store.layers.diff_id_of_snapshot(snapshot.key) is None:
            store.layers.register((*_below(base), *diff_ids[:count]), snapshot.key)
    ready(config.id)
    return store.images.put(config, tags=export.tags, lease=lease)


def _below(base: ImageConfig | None) -> tuple[Digest, ...]:
    return base.diff_ids if base is not None else ()


def new_snapshots(store: Store, tree: Tree, base: ImageConfig | None) -> list[Snapshot]:
    """The snapshots that a build put on top of its base, bottom first."""
    if tree.snapshot is None:
        return []
    bottom = store.layers.snapshot_of(base.diff_ids) if base is not None else None
    own: list[Snapshot] = []
    for snapshot in store.snapshots.chain(tree.snapshot):
        if snapshot.key == bottom:
            break
        own.append(snapshot)
    return own[::-1]


def _config(
    plan: Plan, base: ImageConfig | None, own: list[Snapshot], diff_ids: tuple[Digest, ...], export: ImageExport
) -> ImageConfig:
    history, created = _history(plan.history, base, own, export.epoch)
    run = plan.result.config
    if export.labels:
        run = replace(run, labels={**run.labels, **export.labels})
    return ImageConfig.make(
        platform=plan.platform,
        config=run,
        diff_ids=(*_below(base), *diff_ids),
        history=history,
        created=created,
        author=plan.result.author,
        extra=base.extra if base is not None else None,
    )


def _history(
    steps: Sequence[StepHistory], base: ImageConfig | None, own: list[Snapshot], epoch: str
) -> tuple[tuple[History, ...], str]:
    """The whole history, and the time of its newest entry.

    An entry is as old as the layer it made, or as the one before it: a build answered from the cache gives the image it
    gave before, id and all.
    """
    entries = list(_padded(base)) if base is not None else []
    created = base.created if base is not None else ""
    times = iter(own)
    for step in steps:
        if not step.empty_layer:
            snapshot = next(times, None)
            if snapshot is None:
                raise Internal("the history tells of more layers than the build made")
            created = snapshot.created_at
        entries.append(step.entry(epoch or created))
    if next(times, None) is not None:
        raise Internal("the build made more layers than the history tells of")
    return tuple(entries), (epoch or created) if steps else created


def _padded(base: ImageConfig) -> tuple[History, ...]:
    """A base's history; layers that it does not tell of get an entry, so that ours line up."""
    told = sum(not entry.empty_layer for entry in base.history)
    missing = len(base.diff_ids) - told
    return (*base.history, *(History(created=base.created, comment="imported") for _ in range(missing)))
