"""Bridge networks as values, and the choice of a range of addresses that nothing on the machine uses."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network
from typing import Any, Final

from lamina.errors import Unavailable
from lamina.values import dataclass

# Docker's default pools, in its order.
POOLS: Final = (
    *(IPv4Network(f"172.{second}.0.0/16") for second in range(17, 32)),
    *(IPv4Network(f"192.168.{third}.0/20") for third in range(0, 256, 16)),
)


class NoFreeSubnet(Unavailable):
    """Every pool overlaps with something on this machine."""

    hint = "remove unused networks, or name a subnet"

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


def choose_subnet(taken: Iterable[IPv4Network], pools: Iterable[IPv4Network] = POOLS) -> IPv4Network:
    """The first pool that overlaps with nothing taken.

    Raises:
        NoFreeSubnet: there is none.
    """
    used = list(taken)
    for pool in pools:
        if not any(pool.overlaps(network) for network in used):
            return pool
    raise NoFreeSubnet


def mac_for(address: IPv4Address) -> str:
    """A hardware address made of the IP address, as Docker's: no two on a bridge are equal."""
    return "02:42:" + ":".join(f"{byte:02x}" for byte in address.packed)
