"""Containers as `ps` lists them: chosen by filters, described in Docker's words (C24, S23)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from lamina.engine.filters import Filters, InvalidFilter, Pairs
from lamina.errors import LaminaError
from lamina.runtime.config import ContainerOptions, exposed_ports
from lamina.runtime.preparation import image_config_of
from lamina.runtime.state import ContainerRecord
from lamina.spec.timestamp import parse_rfc3339
from lamina.values import dataclass

if TYPE_CHECKING:
    from lamina.engine.engine import Engine

_KNOWN: Final = frozenset(
    {
        "ancestor", "before", "exited", "expose", "health", "id", "is-task", "isolation", "label", "name", "network",
        "publish", "since", "status", "volume",
    }
)  # fmt: skip
_STATUSES: Final = frozenset({"created", "running", "paused", "restarting", "removing", "exited", "dead"})
_HEALTHS: Final = frozenset({"none", "starting", "healthy", "unhealthy"})


@dataclass(frozen=True, slots=True)
class Port:
    """A port of a container; `host_port` 0 = exposed only."""

    container_port: int
    protocol: str
    host_ip: str = ""
    host_port: int = 0


@dataclass(frozen=True, slots=True)
class Size:
    """Bytes of a container's own layer, and with those of its image."""

    own: int
    whole: int


@dataclass(frozen=True, slots=True)
class ListedContainer:
    """One container of a list.

    Attributes:
        record: what is known of it.
        image: its image as the user named it, or an id once the name went to another image.
        command: what it runs, as one line.
        labels: its image's and its own.
        ports: exposed and published, while it runs.
        network: that it is in.
        size: where it was asked for.
    """

    record: ContainerRecord
    image: str
    command: str
    labels: Mapping[str, str]
    ports: tuple[Port, ...]
    network: str
    size: Size | None = None


def select(
    engine: Engine, filters: Pairs = (), *, all: bool = False, last: int = -1, size: bool = False
) -> list[ListedContainer]:
    """The containers that pass, newest first.

    Args:
        engine: whose.
        filters: `key=value` pairs.
        all: also those that do not run.
        last: only so many of the newest, in any state; -1 = no such limit.
        size: count the bytes of each layer.

    Raises:
        InvalidFilter: unknown key, or a value that it cannot take.
        NoSuchContainer: named by `before` or `since`.
    """
    chosen = Filters(filters, _KNOWN)
    everything = all or last > 0 or "status" in chosen
    keep = _predicate(engine, chosen)
    records = [
        record
        for record in engine.containers.supervisor.all()
        if (everything or record.state.running or record.state.status == "restarting") and keep(record)
    ]
    if last > 0:
        records = records[:last]
    return [describe(engine, record, size=size) for record in records]


def describe(engine: Engine, record: ContainerRecord, *, size: bool = False) -> ListedContainer:
    """A container in Docker's terms."""
    options = ContainerOptions.from_json(record.options)
    return ListedContainer(
        record,
        _image_name(engine, record),
        command_text(record, options),
        labels_of(record, options),
        ports_of(record, options),
        network_of(options),
        size_of(engine, record) if size else None,
    )


def network_of(options: ContainerOptions) -> str:
    """The network's name as Docker shows it."""
    return "bridge" if options.network in {"", "default"} else options.network


def size_of(engine: Engine, record: ContainerRecord) -> Size:
    """What a container's layer takes, counted now."""
    own = 0
    if record.snapshot_key:
        try:
            own = engine.store.snapshots.usage(record.snapshot_key).size
        except LaminaError:
            own = 0
    try:
        from lamina.spec.digest import Digest

        image = engine.store.images.get(Digest.parse(record.image_id)).size
    except LaminaError:
        image = 0
    return Size(own, own + image)


def _image_name(engine: Engine, record: ContainerRecord) -> str:
    """As typed, as long as that still means the container's image; then the image's id."""
    typed = str(record.engine.get("image", "")) or record.image_id
    found = engine.store.lookup.try_find(typed)
    if found is not None and str(found.image.id) == record.image_id:
        return typed
    return record.image_id.removeprefix("sha256:")[:12] if found is not None else typed


def argv_of(record: ContainerRecord, options: ContainerOptions) -> tuple[str, ...]:
    """What it runs; () for a record that says nothing usable."""
    from lamina.runtime.config import command_line

    try:
        return command_line(image_config_of(record), options)
    except LaminaError:
        return ()


def command_text(record: ContainerRecord, options: ContainerOptions) -> str:
    """What it runs as one line; arguments with blanks are quoted, as Docker shows it."""
    argv = argv_of(record, options)
    return " ".join((*argv[:1], *(f"'{word}'" if " " in word else word for word in argv[1:])))


def labels_of(record: ContainerRecord, options: ContainerOptions) -> dict[str, str]:
    """The image's labels under the user's."""
    return {**image_config_of(record).labels, **options.labels}


def ports_of(record: ContainerRecord, options: ContainerOptions) -> tuple[Port, ...]:
    """The ports of a running container, in Docker's order."""
    if not record.state.running or record.state.endpoint is None:
        return ()
    published = [
        Port(port["container_port"], port["protocol"], port["host_ip"], port["host_port"])
        for port in record.state.endpoint["ports"]
    ]
    have = {(port.container_port, port.protocol) for port in published}
    for text in exposed_ports(image_config_of(record), options):
        number, _, protocol = text.partition("/")
        if number.isdigit() and (int(number), protocol) not in have:
            published.append(Port(int(number), protocol))
    return tuple(sorted(published, key=lambda port: (port.container_port, port.host_ip, port.host_port, port.protocol)))


# --- filters ---------------------------------------------------------------------------------------------------------

_Keep = Callable[[ContainerRecord], bool]


def _predicate(engine: Engine, chosen: Filters) -> _Keep:
    tests: list[_Keep] = [make(engine, chosen.values(key)) for key, make in _TESTS.items() if key in chosen]
    if "publish" in chosen or "expose" in chosen:
        tests.append(_by_ports(chosen))

    def keep(record: ContainerRecord) -> bool:
        if not all(test(record) for test in tests):
            return False
        return "label" not in chosen or chosen.labels(labels_of(record, ContainerOptions.from_json(record.options)))

    return keep


def _by_status(_engine: Engine, values: Sequence[str]) -> _Keep:
    for value in values:
        if value not in _STATUSES:
            raise InvalidFilter("status", value)
    return lambda record: record.state.status in values


def _by_health(_engine: Engine, values: Sequence[str]) -> _Keep:
    for value in values:
        if value not in _HEALTHS:
            raise InvalidFilter("health", value)
    return lambda record: (record.state.health or "none") in values


def _by_exit(_engine: Engine, values: Sequence[str]) -> _Keep:
    codes = set()
    for value in values:
        if not value.lstrip("-").isdigit():
            raise InvalidFilter("exited", value)
        codes.add(int(value))
    return lambda record: record.state.status == "exited" and record.state.exit_code in codes


def _by_name(_engine: Engine, values: Sequence[str]) -> _Keep:
    patterns = [_pattern("name", value) for value in values]
    return lambda record: any(pattern.search(text) for pattern in patterns for text in (record.name, f"/{record.name}"))


def _by_id(_engine: Engine, values: Sequence[str]) -> _Keep:
    patterns = [_pattern("id", value) for value in values]
    return lambda record: (
        any(record.id.startswith(value) for value in values) or any(pattern.search(record.id) for pattern in patterns)
    )


def _pattern(key: str, text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error:
        raise InvalidFilter(key, text) from None


def _by_age(engine: Engine, values: Sequence[str], fits: Callable[[datetime, datetime], bool]) -> _Keep:
    others = [parse_rfc3339(engine.containers.supervisor.find(value).created_at) for value in values]
    return lambda record: all(fits(parse_rfc3339(record.created_at), other) for other in others)


def _before(engine: Engine, values: Sequence[str]) -> _Keep:
    return _by_age(engine, values, lambda own, other: own < other)


def _since(engine: Engine, values: Sequence[str]) -> _Keep:
    return _by_age(engine, values, lambda own, other: own > other)


def _by_ancestor(engine: Engine, values: Sequence[str]) -> _Keep:
    """The image and every image that has all of its layers."""
    store = engine.store
    wanted: set[str] = set()
    for value in values:
        found = store.lookup.try_find(value)
        if found is None:
            continue
        wanted.add(str(found.image.id))
        if found.image.chain_id is not None:
            wanted |= {
                str(image.id)
                for image in store.images.all()
                if any(chain == found.image.chain_id for _, chain in store.images.layers(image.id))
            }
    return lambda record: record.image_id in wanted


def _by_volume(_engine: Engine, values: Sequence[str]) -> _Keep:
    def keep(record: ContainerRecord) -> bool:
        names = {str(mount.get(key, "")) for mount in record.mounts for key in ("source", "target")}
        return not names.isdisjoint(value.rstrip("/") or "/" for value in values)

    return keep


def _by_network(engine: Engine, values: Sequence[str]) -> _Keep:
    ids = {network.id: network.name for network in engine.bridges.all()}
    names = {next((name for key, name in ids.items() if key.startswith(value)), value) for value in values}
    return lambda record: network_of(ContainerOptions.from_json(record.options)) in names


def _by_ports(chosen: Filters) -> _Keep:
    """As Docker's engine: `publish` is a port of the host, `expose` one of the container, either will do.

    Only what PORTS shows counts, so that neither finds a container that does not run.
    """
    published, exposed = (_ports_of_filter(key, chosen.values(key)) for key in ("publish", "expose"))

    def keep(record: ContainerRecord) -> bool:
        return any(
            (port.host_port, port.protocol) in published or (port.container_port, port.protocol) in exposed
            for port in ports_of(record, ContainerOptions.from_json(record.options))
        )

    return keep


def _ports_of_filter(key: str, values: Sequence[str]) -> set[tuple[int, str]]:
    from lamina.runtime.network.ports import InvalidPort, parse_exposed

    found: set[tuple[int, str]] = set()
    for value in values:
        try:
            found |= set(parse_exposed(value))
        except InvalidPort:
            raise InvalidFilter(key, value) from None
    return found


def _any(_engine: Engine, _values: Sequence[str]) -> _Keep:
    return lambda _record: True


_TESTS: Final[dict[str, Callable[[Any, Sequence[str]], _Keep]]] = {
    "ancestor": _by_ancestor,
    "before": _before,
    "exited": _by_exit,
    "health": _by_health,
    "id": _by_id,
    "is-task": lambda _engine, values: lambda _record: not any(value.lower() in {"1", "true"} for value in values),
    "isolation": _any,
    "name": _by_name,
    "network": _by_network,
    "since": _since,
    "status": _by_status,
    "volume": _by_volume,
}
