"""What containers changed: listed, made into an image, written out (C16, C18, C20, S24, S25, S40)."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterable, Sequence
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Final

from lamina.engine.changes import apply_changes
from lamina.engine.container_config import effective
from lamina.engine.imports import creation_time
from lamina.engine.transfer import host_platform
from lamina.layer.apply import WhiteoutMode, apply_layer
from lamina.layer.changes import Change
from lamina.layer.diff import write_layer, write_tree
from lamina.runtime.state import ContainerRecord, WrongState
from lamina.spec.config import History, ImageConfig
from lamina.spec.digest import Digest, chain_ids
from lamina.store.ids import fresh
from lamina.store.packing import layer_diff_id, list_changes
from lamina.store.pipe import Pipe
from lamina.store.snapshots.values import Changes
from lamina.values import dataclass

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from lamina.engine.engine import Engine
    from lamina.layer.digesting import Write
    from lamina.spec.reference import Reference
    from lamina.store.leases import Lease

#: What the runtime makes in a root file system to mount on; empty, it is nobody's change.
_STUBS: Final = frozenset(
    {
        ".dockerenv", "dev", "dev/console", "dev/mqueue", "dev/pts", "dev/shm", "etc/hostname", "etc/hosts",
        "etc/resolv.conf", "proc", "sys",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class CommitOptions:
    """How to commit.

    Attributes:
        reference: the new image's name, or None.
        author: of the image.
        message: comment of its history entry.
        changes: Dockerfile instructions to apply to the configuration.
        pause: freeze the container meanwhile.
    """

    reference: Reference | None = None
    author: str = ""
    message: str = ""
    changes: Sequence[str] = ()
    pause: bool = True


class Commits:
    """The changes of one engine's containers."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def diff(self, name: str) -> list[Change]:
        """What a container added, changed and deleted, in path order.

        Raises:
            NoSuchContainer, AmbiguousContainer: none fits, or several.
        """
        record = self._engine.containers.supervisor.find(name)
        return self._changes(record)[1]

    def commit(self, name: str, options: CommitOptions | None = None) -> Digest:
        """Makes an image of a container: its image, and one layer with its changes where it has any.

        Returns:
            The new image's id.

        Raises:
            NoSuchContainer, AmbiguousContainer: none fits, or several.
            InvalidChange: a change is no instruction that edits a configuration.
            StoreFull, StoreIOFailed: the disk refuses.
        """
        options = options or CommitOptions()
        record = self._engine.containers.supervisor.find(name)
        config = apply_changes(effective(record), options.changes)
        base = self._base(record)
        store = self._engine.store
        with store.lease("commit") as lease:
            with self._frozen(record) if options.pause else nullcontext():
                diff_id = self._layer(record, base, lease)
            created = creation_time(self._engine)
            entry = History(
                created=created,
                created_by=" ".join(effective(record).cmd or ()),
                author=options.author,
                comment=options.message,
                empty_layer=diff_id is None,
            )
            document = ImageConfig.make(
                platform=base.platform if base is not None else host_platform(),
                config=config,
                diff_ids=(*_below(base), *([diff_id] if diff_id is not None else [])),
                history=(*(base.history if base is not None else ()), entry),
                created=created,
                author=options.author,
                extra={"comment": options.message} if options.message else None,
            )
            tags = [options.reference.tagged()] if options.reference is not None else []
            parent = Digest.parse(record.image_id) if base is not None else None
            return store.images.put(document, parent=parent, tags=tags, lease=lease).id

    def export(self, name: str, write: Write) -> None:
        """Writes a container's whole file system as a tar, without volumes and metadata.

        Args:
            name: of the container, or its id.
            write: sink; the buffers it is given are reused.

        Raises:
            NoSuchContainer, AmbiguousContainer: none fits, or several.
        """
        with self._engine.containers.supervisor.file_system(name) as (record, root):
            write_tree(write, root, exclude=self._engine.containers.supervisor.stubs(record).__contains__)

    # --- parts ---------------------------------------------------------------------------------------------------

    def _base(self, record: ContainerRecord) -> ImageConfig | None:
        from lamina.store.records import ImageNotFound

        try:
            return self._engine.store.images.config(Digest.parse(record.image_id))
        except ImageNotFound:
            return None

    def _frozen(self, record: ContainerRecord) -> AbstractContextManager[None]:
        return _Frozen(self._engine, record)

    def _changes(self, record: ContainerRecord) -> tuple[Changes, list[Change]]:
        source = self._engine.store.snapshots.changes(record.snapshot_key)
        targets = {str(mount["target"]).strip("/") for mount in record.mounts}
        targets |= self._engine.containers.supervisor.stubs(record)
        return source, _without_stubs(source, list_changes(source), targets)

    def _layer(self, record: ContainerRecord, base: ImageConfig | None, lease: Lease) -> Digest | None:
        """The container's changes as a committed, registered layer; None when there are none."""
        source, changes = self._changes(record)
        if not changes:
            return None
        store = self._engine.store
        parent = store.layers.snapshot_of(_below(base))
        active = store.snapshots.prepare(f"commit-{fresh()}", parent, lease=lease)
        try:
            target = store.snapshots.changes(active.key)
            _copy(source.tree, changes, target)
            name = f"committed-{fresh()}"
            store.snapshots.commit(active.key, name, lease=lease)
        except BaseException:
            with suppress(Exception):
                store.snapshots.remove(active.key)
            raise
        # Hashed as the store will write it again for a push, so that both are the same bytes.
        diff_id, _size = layer_diff_id(store.snapshots.changes(name))
        diff_ids = (*_below(base), diff_id)
        if store.layers.find(chain_ids(diff_ids)[-1], lease=lease) is None:
            store.layers.register(diff_ids, name)
        return diff_id


class _Frozen:
    """Freezes a running container for the block; one that does not run, or is frozen already, stays as it is."""

    def __init__(self, engine: Engine, record: ContainerRecord) -> None:
        self._supervisor, self._record = engine.containers.supervisor, record
        self._ours = False

    def __enter__(self) -> None:
        if self._record.state.status != "running":
            return
        with suppress(WrongState):  # it ended, or somebody paused it, just now
            self._supervisor.pause(self._record.id)
            self._ours = True

    def __exit__(self, *_error: object) -> None:
        if self._ours:
            with suppress(WrongState):
                self._supervisor.unpause(self._record.id)


def _below(base: ImageConfig | None) -> tuple[Digest, ...]:
    return base.diff_ids if base is not None else ()


def _copy(tree: str, changes: Iterable[Change], target: Changes) -> None:
    """Carries changes into an empty writable layer: one thread reads, this one writes."""
    pipe = Pipe()

    def read() -> None:
        try:
            write_layer(lambda data: pipe.write(bytes(data)), tree, changes)
            pipe.end()
        except BaseException as error:
            pipe.fail(error)

    reader = threading.Thread(target=read, name="commit-read")
    reader.start()
    try:
        mode = WhiteoutMode.OVERLAY if target.stacked and target.lowers else WhiteoutMode.REMOVE
        apply_layer(pipe, target.tree, whiteouts=mode, userxattr=target.userxattr)
    finally:
        pipe.close()
        reader.join()


def _without_stubs(source: Changes, changes: list[Change], targets: set[str]) -> list[Change]:
    """Leaves out the empty mount points that the runtime made, and their parents where nothing else changed."""
    stubs = {
        change.path
        for change in changes
        if change.kind == "A"
        and (change.path in _STUBS or change.path in targets)
        and _is_empty(source, change.path, targets)
    }
    if not stubs:
        return changes
    kept = [change for change in changes if change.path not in stubs]
    parents = {path.rpartition("/")[0] for path in stubs}
    while True:
        used = {change.path.rpartition("/")[0] for change in kept}
        idle = {
            change.path
            for change in kept
            if change.path in parents and change.path not in used and _only_touched(source, change)
        }
        if not idle:
            return kept
        kept = [change for change in kept if change.path not in idle]
        parents |= {path.rpartition("/")[0] for path in idle}


def _is_empty(source: Changes, path: str, targets: set[str]) -> bool:
    """Whether an added path is an empty file, or a directory with nothing but stubs in it."""
    try:
        facts = os.lstat(os.path.join(source.tree, path))
        if stat.S_ISDIR(facts.st_mode):
            ours = _STUBS | targets
            return all(f"{path}/{name}" in ours for name in os.listdir(os.path.join(source.tree, path)))
        return stat.S_ISREG(facts.st_mode) and facts.st_size == 0
    except OSError:
        return False


def _only_touched(source: Changes, change: Change) -> bool:
    """Whether nothing but the time of a directory changed."""
    if change.kind != "C" or change.opaque:
        return False
    try:
        now = os.lstat(os.path.join(source.tree, change.path))
    except OSError:
        return False
    for lower in source.lowers:
        try:
            before = os.lstat(os.path.join(lower, change.path))
        except OSError:
            continue
        return (before.st_mode, before.st_uid, before.st_gid) == (now.st_mode, now.st_uid, now.st_gid)
    return False
