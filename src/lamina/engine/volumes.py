"""Named volumes as users see them (C42, S58)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from lamina.engine.filters import Filters, InvalidFilter, Pairs
from lamina.runtime.volumes import Volume
from lamina.values import dataclass

if TYPE_CHECKING:
    from lamina.engine.engine import Engine
    from lamina.runtime.volumes import Volumes as RuntimeVolumes

_LIST: Final = frozenset({"dangling", "driver", "label", "name"})
_PRUNE: Final = frozenset({"all", "label", "label!"})


@dataclass(frozen=True, slots=True)
class PrunedVolumes:
    """What a prune did: names that are gone, and bytes of disk that are free now."""

    names: tuple[str, ...]
    bytes: int


class Volumes:
    """The volumes of one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @cached_property
    def _volumes(self) -> RuntimeVolumes:
        return self._engine.containers.supervisor.volumes

    def create(
        self,
        name: str = "",
        *,
        driver: str = "",
        labels: Mapping[str, str] | None = None,
        options: Mapping[str, str] | None = None,
    ) -> Volume:
        """Makes a volume; one that exists already is returned as it is. "" makes one with a name of 64 hex digits.

        Raises:
            Invalid: not a name for a volume, or options that make no sense.
            Unsupported: another driver than `local`.
        """
        return self._volumes.create(name, labels=labels, driver=driver, options=options)

    def select(self, filters: Pairs = ()) -> list[Volume]:
        """The volumes that pass, by name.

        Raises:
            InvalidFilter: unknown key or value; there are `dangling driver label name`.
        """
        chosen = Filters(filters, _LIST)
        dangling = chosen.flag("dangling")
        drivers = chosen.values("driver")
        try:
            names = [re.compile(value) for value in chosen.values("name")]
        except re.error:
            raise InvalidFilter("name", chosen.values("name")[0]) from None
        used = self._used() if dangling is not None else set()
        return [
            volume
            for volume in self._volumes.all()
            if chosen.labels(volume.labels)
            and (dangling is None or dangling == (volume.name not in used))
            and (not drivers or "local" in drivers)
            and (not names or any(pattern.search(volume.name) for pattern in names))
        ]

    def inspect(self, name: str) -> dict[str, Any]:
        """Docker's JSON object of a volume.

        Raises:
            NoSuchVolume: there is none.
        """
        volume = self._volumes.get(name)
        return {
            "CreatedAt": volume.created_at,
            "Driver": "local",
            "Labels": dict(volume.labels) or ({_ANONYMOUS: ""} if volume.anonymous else None),
            "Mountpoint": volume.path,
            "Name": volume.name,
            "Options": dict(volume.options) or None,
            "Scope": "local",
        }

    def remove(self, name: str, *, force: bool = False) -> None:
        """Removes a volume and what is in it.

        Raises:
            NoSuchVolume: there is none, and `force` is not given.
            VolumeInUse: a container refers to it.
        """
        self._volumes.remove(name, self._engine.containers.supervisor.volume_users(name), force=force)

    def prune(self, filters: Pairs = (), *, all: bool = False) -> PrunedVolumes:
        """Removes volumes that no container refers to: anonymous ones, with `all` named ones too.

        Raises:
            InvalidFilter: unknown key; there are `all label label!`.
        """
        from lamina.store.snapshots.walk import usage_of

        chosen = Filters(filters, _PRUNE)
        everything = all or chosen.flag("all") is True
        used = self._used()
        names, size = [], 0
        for volume in self._volumes.all():
            if volume.name in used or not (everything or volume.anonymous) or not chosen.labels(volume.labels):
                continue
            size += usage_of(volume.path).disk
            self._volumes.remove(volume.name, [])
            names.append(volume.name)
        return PrunedVolumes(tuple(names), size)

    def _used(self) -> set[str]:
        return {
            str(doc["source"])
            for record in self._engine.containers.supervisor.containers.all()
            for doc in record.mounts
            if doc["type"] == "volume"
        }


_ANONYMOUS = "com.docker.volume.anonymous"
