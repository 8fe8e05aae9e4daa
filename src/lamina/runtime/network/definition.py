"""Bridge networks as values, and the choice of a range of addresses that nothing on the machine uses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network
from typing import Any, Final

from lamina.errors import Unavailable
from lamina.values import dataclass

# When Docker's pools are gone: small ranges, so that every store on a machine with many finds one.
_SMALL: Final = "10.224.0.0/12", 24


class NoFreeSubnet(Unavailable):
    """Every pool overlaps with something on this machine."""

    hint = (
        "remove networks, routes or stores no longer used: ranges are of 172.16.0.0/12, 192.168.0.0/16, 10.224.0.0/12"
    )

    def __init__(self) -> None:
        super().__init__("all predefined address pools have been fully subnetted")


@dataclass(frozen=True, slots=True)
class BridgeNetwork:
    """A network whose containers share a bridge of the host.

    Attributes:
        name: as users say it; the default one is `bridge`.
        id: 64 hex digits.
        subnet: its addresses.
        gateway: the bridge's own address.
        bridge: interface name.
        internal: no way out.
    """

    name: str
    id: str
    subnet: IPv4Network
    gateway: IPv4Address
    bridge: str
    internal: bool = False

    def to_json(self) -> dict[str, Any]:
        """The document kept in the store's index."""
        return {
            "driver": "bridge",
            "subnet": str(self.subnet),
            "gateway": str(self.gateway),
            "bridge": self.bridge,
            "internal": self.internal,
        }

    @classmethod
    def from_json(cls, name: str, network_id: str, doc: dict[str, Any]) -> BridgeNetwork:
        """The network of a row of the store's index."""
        return cls(
            name,
            network_id,
            IPv4Network(doc["subnet"]),
            IPv4Address(doc["gateway"]),
            doc["bridge"],
            bool(doc.get("internal")),
        )


def pools() -> Iterator[IPv4Network]:
    """Ranges for a new network, in the order of preference."""
    # Docker's default pools, in its order.
    for second in range(17, 32):
        yield IPv4Network(f"172.{second}.0.0/16")
    for third in range(0, 256, 16):
        yield IPv4Network(f"192.168.{third}.0/20")
    network, length = _SMALL
    yield from IPv4Network(network).subnets(new_prefix=length)


def choose_subnet(taken: Iterable[IPv4Network], pools: Iterable[IPv4Network]) -> IPv4Network:
    """The first pool that overlaps with nothing taken.

    Raises:
        NoFreeSubnet: there is none.
    """
    used = [(int(network.network_address), int(network.broadcast_address)) for network in taken]
    for pool in pools:
        first, last = int(pool.network_address), int(pool.broadcast_address)
        if not any(first <= end and start <= last for start, end in used):
            return pool
    raise NoFreeSubnet


def mac_for(address: IPv4Address) -> str:
    """A hardware address made of the IP address, as Docker's: no two on a bridge are equal."""
    return "02:42:" + ":".join(f"{byte:02x}" for byte in address.packed)
