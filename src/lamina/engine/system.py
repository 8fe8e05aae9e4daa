"""The whole store: disk usage, facts, prune, examination (C37, C38, C40, S44, S45, A1)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from lamina.engine.filters import Filters, Pairs
from lamina.errors import Integrity
from lamina.progress import ProgressSink, discard
from lamina.values import dataclass, replace

if TYPE_CHECKING:
    from lamina.engine.buildcache import BuildCache, CachePruned, CacheRecord
    from lamina.engine.engine import Engine
    from lamina.engine.images import ListedImage, Pruned
    from lamina.engine.listing import ListedContainer
    from lamina.runtime.volumes import Volume
    from lamina.store.fsck import Finding, Report
    from lamina.store.usage import StoreUsage

_PRUNE_FILTERS: Final = frozenset({"until", "label", "label!"})


@dataclass(frozen=True, slots=True)
class VolumeUsage:
    """A volume: how many containers use it, and its bytes of content and on disk."""

    volume: Volume
    links: int
    size: int
    disk: int


@dataclass(frozen=True, slots=True)
class DiskUsage:
    """Where the bytes are.

    Attributes:
        store: images, containers, build cache and blobs, from the store's one accounting.
        containers: all, newest first, with the bytes of their own layers.
        images: as `images` lists them.
        volumes: by name.
        cache: records of the build cache.
    """

    store: StoreUsage
    containers: tuple[ListedContainer, ...]
    images: tuple[ListedImage, ...]
    volumes: tuple[VolumeUsage, ...]
    cache: tuple[CacheRecord, ...]

    @property
    def running(self) -> int:
        """How many containers run."""
        return sum(each.record.state.running for each in self.containers)

    @property
    def disk(self) -> int:
        """Bytes on disk of everything below the data root."""
        return self.store.disk + sum(volume.disk for volume in self.volumes)


@dataclass(frozen=True, slots=True)
class SystemPruned:
    """What `system prune` did.

    Attributes:
        containers, networks, volumes: names or ids that are gone.
        images: names and images.
        cache: build cache.
        bytes: disk freed in all.
    """

    containers: tuple[str, ...]
    networks: tuple[str, ...]
    volumes: tuple[str, ...]
    images: Pruned
    cache: CachePruned
    bytes: int


class System:
    """One engine as a whole."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def cache(self) -> BuildCache:
        """The build cache."""
        from lamina.engine.buildcache import BuildCache

        return BuildCache(self._engine)

    # --- usage ---------------------------------------------------------------------------------------------------

    def df(self) -> DiskUsage:
        """Count everything: layers that images share count once."""
        return DiskUsage(
            self._engine.store.usage.read(),
            tuple(self._listed_containers()),
            tuple(self._engine.images.select(all=True)),
            self._volumes(),
            tuple(self.cache.all()),
        )

    def _listed_containers(self) -> list[ListedContainer]:
        if not self._count("containers"):
            return []
        from lamina.engine.listing import Size, select

        # As docker's df: the layer alone, without the image below it.
        return [
            replace(each, size=Size(each.size.own, 0) if each.size else None)
            for each in select(self._engine, all=True, size=True)
        ]

    def _containers(self) -> list[Any]:
        from lamina.runtime.state import Containers

        return Containers(self._engine.store.db).all() if self._count("containers") else []

    def _count(self, table: str) -> int:
        with self._engine.store.db.read() as connection:
            return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608 - constants

    def _volumes(self) -> tuple[VolumeUsage, ...]:
        if not self._count("volumes"):
            return ()
        from lamina.layer.usage import tree_usage
        from lamina.runtime.volumes import Volumes

        directory = os.path.join(self._engine.store.root, "volumes")
        links: dict[str, int] = {}
        for record in self._containers():
            for name in {str(mount["source"]) for mount in record.mounts if mount["type"] == "volume"}:
                links[name] = links.get(name, 0) + 1
        found = []
        for volume in Volumes(self._engine.store.db, directory, str).all():
            usage = tree_usage(volume.path)
            found.append(VolumeUsage(volume, links.get(volume.name, 0), usage.bytes, usage.disk))
        return tuple(found)

    # --- info ----------------------------------------------------------------------------------------------------

    def info(self) -> dict[str, Any]:
        """Docker's `/info` object, as far as its members mean something here."""
        from lamina.engine.facts import system_facts

        store = self._engine.store
        records = self._containers()
        states = [record.state.status for record in records]
        return system_facts(
            self._engine.settings,
            root=store.root,
            driver=store.storage_driver,
            images=self._count("images"),
            containers=len(records),
            running=states.count("running"),
            paused=states.count("paused"),
            now=self._engine.clock(),
        )

    # --- prune ---------------------------------------------------------------------------------------------------

    def prune(self, filters: Pairs = (), *, all: bool = False, volumes: bool = False) -> SystemPruned:
        """Remove what nothing uses: containers, networks, volumes if wanted, images, build cache, in this order.

        Args:
            filters: `until`, `label`, `label!`.
            all: all unused images and build cache, not just dangling images.
            volumes: anonymous volumes too.

        Raises:
            InvalidFilter, InvalidMoment: malformed filters; nothing was removed then.
        """
        pairs = tuple(filters)
        Filters(pairs, _PRUNE_FILTERS).until(self._engine.clock())
        containers: tuple[str, ...] = ()
        networks: tuple[str, ...] = ()
        gone: tuple[str, ...] = ()
        freed = 0
        # A noun without objects is not even imported.
        if self._count("containers"):
            pruned = self._engine.containers.prune(pairs)
            containers, freed = pruned.ids, freed + pruned.bytes
        if volumes and self._count("volumes"):
            dropped = self._engine.volumes.prune(tuple(pair for pair in pairs if pair[0] != "until"))
            gone, freed = dropped.names, freed + dropped.bytes
        images = self._engine.images.prune(pairs, all=all)
        # Labels are an image's and a container's; build cache has none, so that a label filter spares it.
        cache = self.cache.prune(tuple(pair for pair in pairs if pair[0] == "until"), all=all)
        return SystemPruned(containers, networks, gone, images, cache, freed + images.bytes + cache.bytes)

    # --- fsck ----------------------------------------------------------------------------------------------------

    def fsck(self, *, repair: bool = False, content: bool = True, progress: ProgressSink = discard) -> Report:
        """Examine the store; see `lamina.store.fsck`.

        A damaged index is set aside by a repair and made again from the content (F5). Images return with their names,
        containers with their layers; of the build cache nothing is known then.

        Raises:
            DamagedDatabase: the index cannot be read, and no repair was wanted.
        """
        from lamina.store import fsck
        from lamina.store.db import DamagedDatabase
        from lamina.store.store import Store

        try:
            left = self._abandoned(repair=repair)
            report = self._engine.store.fsck.run(repair=repair, content=content, report=progress)
            if repair:
                self._engine.images.collect()
            return replace(report, findings=(*report.findings, *left))
        except DamagedDatabase as error:
            if not repair:
                raise
            damage: Integrity = error
        root = self._engine.settings.root
        self._engine.close()
        aside = Store.reset_index(root, self._engine.clock)
        finding = fsck.Finding(
            "index",
            f"{root}/lamina.db",
            "it cannot be read",
            damage.message,
            repaired=f"set aside as {aside} and made again from the content",
        )
        report = self._engine.store.fsck.run(repair=True, content=content, report=progress)
        return fsck.Report((finding, *report.findings), report.blobs, report.snapshots, report.bytes)

    def _abandoned(self, *, repair: bool) -> list[Finding]:
        """What killed commands left outside the store's own trees."""
        from lamina.engine import abandoned
        from lamina.store.fsck import Finding

        left = (abandoned.sweep if repair else abandoned.abandoned)(self._engine.store)
        done = "removed" if repair else ""
        return [
            Finding(kind, subject, "nothing uses it", abandoned.CAUSE, harmful=False, repaired=done)
            for kind, subjects in (("file", left.directories), ("volume", left.volumes))
            for subject in subjects
        ]
