"""Networks as users see them: the bridges of the store, and Docker's `host` and `none` (C43)."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

from lamina.engine.filters import Filters, Pairs
from lamina.errors import Invalid
from lamina.runtime.network.bridge import DEFAULT_NETWORK, NoSuchNetwork
from lamina.runtime.network.definition import BridgeNetwork
from lamina.values import dataclass

if TYPE_CHECKING:
    from lamina.engine.engine import Engine

_SPECIAL: Final = {"host": "host", "none": "null"}
_KNOWN: Final = frozenset({"dangling", "driver", "id", "label", "name", "scope", "type"})


@dataclass(frozen=True, slots=True)
class ListedNetwork:
    """One network of a list.

    Attributes:
        id: 64 hex digits.
        name: as users say it.
        driver: `bridge`, `host` or `null`.
        internal: no way out.
        created_at: RFC 3339, "" for what always was.
        bridge: the bridge, where it is one.
    """

    id: str
    name: str
    driver: str
    internal: bool = False
    created_at: str = ""
    bridge: BridgeNetwork | None = None


def network_id(engine: Engine, name: str) -> str:
    """A network's id; those that are no bridges have one made of the store's place and their name."""
    for network in engine.bridges.all():
        if network.name == name:
            return network.id
    return hashlib.sha256(f"{engine.settings.root} network {name}".encode()).hexdigest()


class Networks:
    """The networks of one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def all(self) -> list[ListedNetwork]:
        """Every network, by name; the default bridge is listed before it is first used, and then made.

        Users who can make none, and so run nothing, have those that are no bridges.
        """
        return self._all(with_default=True)

    def _all(self, *, with_default: bool) -> list[ListedNetwork]:
        from lamina.runtime import privilege

        bridges = self._engine.bridges
        known = {network.name: network for network in bridges.all()}
        if with_default and DEFAULT_NETWORK not in known and privilege.held():
            known[DEFAULT_NETWORK] = bridges.get(DEFAULT_NETWORK)
        times = self._times()
        found = [
            ListedNetwork(each.id, name, "bridge", each.internal, times.get(name, ""), each)
            for name, each in known.items()
        ]
        found += [ListedNetwork(network_id(self._engine, name), name, driver) for name, driver in _SPECIAL.items()]
        return sorted(found, key=lambda each: each.name)

    def _times(self) -> dict[str, str]:
        with self._engine.store.db.read() as connection:
            return dict(connection.execute("SELECT name, created_at FROM networks").fetchall())

    def select(self, filters: Pairs = ()) -> list[ListedNetwork]:
        """The networks that pass.

        Raises:
            InvalidFilter: unknown key or value; there are `dangling driver id label name scope type`.
        """
        chosen = Filters(filters, _KNOWN)
        dangling = chosen.flag("dangling")
        found = []
        for each in self.all():
            custom = each.name not in {DEFAULT_NETWORK, *_SPECIAL}
            kind = "custom" if custom else "builtin"
            if (
                _any(chosen.values("driver"), lambda value, each=each: value == each.driver)
                and _any(chosen.values("id"), lambda value, each=each: value in each.id)
                and _any(chosen.values("name"), lambda value, each=each: value in each.name)
                and _any(chosen.values("scope"), lambda value: value == "local")
                and _any(chosen.values("type"), lambda value, kind=kind: value == kind)
                and chosen.labels({})
                and (dangling is None or dangling == (custom and not self._members(each.name)))
            ):
                found.append(each)
        return found

    def get(self, name: str) -> ListedNetwork:
        """A network by name, id or start of an id.

        Raises:
            NoSuchNetwork: none fits.
            Invalid: several ids start like that.
        """
        # Whoever looks for something else gets no bridge: its id is not known to anyone before it is made.
        every = self._all(with_default=name == DEFAULT_NETWORK)
        named = [each for each in every if name in {each.name, each.id}]
        matches = named or [each for each in every if name and each.id.startswith(name)]
        if len(matches) > 1:
            raise Invalid(f"network {name} is ambiguous ({len(matches)} matches found based on ID prefix)")
        if not matches:
            raise NoSuchNetwork(name)
        return matches[0]

    def inspect(self, name: str) -> dict[str, Any]:
        """Docker's JSON object of a network; errors as `get`."""
        network = self.get(name)
        bridge = network.bridge
        config = [{"Subnet": str(bridge.subnet), "Gateway": str(bridge.gateway)}] if bridge is not None else None
        options = {}
        if bridge is not None:
            options = {
                "com.docker.network.bridge.default_bridge": str(network.name == DEFAULT_NETWORK).lower(),
                "com.docker.network.bridge.name": bridge.bridge,
            }
        return {
            "Name": network.name,
            "Id": network.id,
            "Created": network.created_at or "0001-01-01T00:00:00Z",
            "Scope": "local",
            "Driver": network.driver,
            "EnableIPv4": True,
            "EnableIPv6": False,
            "IPAM": {"Driver": "default", "Options": None, "Config": config},
            "Internal": network.internal,
            "Attachable": False,
            "Ingress": False,
            "ConfigFrom": {"Network": ""},
            "ConfigOnly": False,
            "Containers": self._members(network.name),
            "Options": options,
            "Labels": {},
        }

    def _members(self, name: str) -> dict[str, Any]:
        from lamina.engine.listing import network_of
        from lamina.runtime.config import ContainerOptions

        found = {}
        for record in self._engine.containers.supervisor.all():
            if not record.state.running or network_of(ContainerOptions.from_json(record.options)) != name:
                continue
            endpoint = record.state.endpoint
            found[record.id] = {
                "Name": record.name,
                "EndpointID": hashlib.sha256(f"{record.id} {record.state.started_at}".encode()).hexdigest(),
                "MacAddress": endpoint["mac"] if endpoint else "",
                "IPv4Address": endpoint["address"] if endpoint else "",
                "IPv6Address": "",
            }
        return found


def _any(values: list[str], fits: Any) -> bool:
    return not values or any(fits(value) for value in values)
