"""The engine: every verb of lamina over one store, each noun made when first asked for.

    with Engine(Settings.at("/var/lib/lamina")) as engine:
        engine.transfer.pull(...)
        engine.builds.build(...)

Nouns are independent modules that take the parts they need; this class only joins them, and imports a noun when it is
used, so that a command pays for nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from lamina.engine.settings import Settings
from lamina.spec.timestamp import rfc3339, utc_now

if TYPE_CHECKING:
    from lamina.engine.accounts import Accounts
    from lamina.engine.archives import Archives
    from lamina.engine.builds import Builds
    from lamina.engine.commits import Commits
    from lamina.engine.containers import Containers
    from lamina.engine.images import Images
    from lamina.engine.networks import Networks
    from lamina.engine.system import System
    from lamina.engine.transfer import Transfer
    from lamina.engine.volumes import Volumes
    from lamina.runtime.network.bridge import Networks as Bridges
    from lamina.runtime.paths import RuntimePaths
    from lamina.store.store import Store


class Surroundings(Protocol):
    """What an edge knows when it opens an engine."""

    root: str
    config_dir: str
    env: Mapping[str, str]


class Engine:
    """All nouns over one store. A context manager; also thread-safe after the first use of each noun."""

    def __init__(self, settings: Settings, *, clock: Callable[[], datetime] = utc_now) -> None:
        self.settings, self.clock = settings, clock

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self, *, ending: bool = False) -> None:
        """Release what was opened; containers go on running. `ending`: the process ends now (`Database.ending`)."""
        if "store" in self.__dict__:
            store: Store = self.__dict__.pop("store")
            store.db.ending = ending
            store.close()

    @cached_property
    def store(self) -> Store:
        """The content store."""
        from lamina.store.store import Store

        return Store.open(self.settings.root, driver=self.settings.storage_driver or None, clock=self.clock)

    @cached_property
    def runtime_paths(self) -> RuntimePaths:
        """Where the container runtime keeps its things."""
        from lamina.runtime.paths import RuntimePaths

        return RuntimePaths(self.settings.root, self.settings.run_root, self.store.db.path)

    @cached_property
    def bridges(self) -> Bridges:
        """The bridge networks that containers and build steps join."""
        from lamina.runtime.network.bridge import Networks as Bridges

        return Bridges(self.store.db, self.runtime_paths, lambda: rfc3339(self.clock()))

    @cached_property
    def accounts(self) -> Accounts:
        """Registry credentials: login, logout."""
        from lamina.engine.accounts import Accounts

        return Accounts(self.settings)

    @cached_property
    def images(self) -> Images:
        """Local images: list, inspect, history, tag, remove, prune."""
        from lamina.engine.images import Images

        return Images(self)

    @cached_property
    def transfer(self) -> Transfer:
        """Between registries and the store: pull, push."""
        from lamina.engine.transfer import Transfer

        return Transfer(self)

    @cached_property
    def archives(self) -> Archives:
        """Between archives and the store: save, load, import."""
        from lamina.engine.archives import Archives

        return Archives(self)

    @cached_property
    def builds(self) -> Builds:
        """Images from Dockerfiles."""
        from lamina.engine.builds import Builds

        return Builds(self)

    @cached_property
    def containers(self) -> Containers:
        """Containers: create, start, stop, exec, attach, logs, remove."""
        from lamina.engine.containers import Containers

        return Containers(self)

    @cached_property
    def commits(self) -> Commits:
        """What containers changed: diff, commit, export, cp."""
        from lamina.engine.commits import Commits

        return Commits(self)

    @cached_property
    def volumes(self) -> Volumes:
        """Named volumes."""
        from lamina.engine.volumes import Volumes

        return Volumes(self)

    @cached_property
    def networks(self) -> Networks:
        """Networks as users see them."""
        from lamina.engine.networks import Networks

        return Networks(self)

    @cached_property
    def system(self) -> System:
        """The whole: df, info, prune, fsck."""
        from lamina.engine.system import System

        return System(self)


def open_engine(surroundings: Surroundings) -> Engine:
    """The engine for an edge's surroundings."""
    return Engine(Settings.at(surroundings.root, config_dir=surroundings.config_dir, env=surroundings.env))
