"""Addresses of containers, handed out in transactions of the store's index: no two runs get the same one."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from ipaddress import IPv4Address
from itertools import chain
from typing import Any

from lamina.errors import Conflict, Invalid, LimitExceeded
from lamina.runtime.network.definition import BridgeNetwork, mac_for


class SubnetExhausted(LimitExceeded):
    """The network has no free address left.

    Attributes:
        network: its name.
    """

    def __init__(self, network: str) -> None:
        super().__init__(f"no available IPv4 addresses on network {network}")
        self.network = network


class AddressInUse(Conflict):
    """The address asked for belongs to another container.

    Attributes:
        address: asked for.
        owner: container id.
    """

    def __init__(self, address: IPv4Address, owner: str) -> None:
        super().__init__(f"Address already in use: {address} belongs to container {owner[:12]}")
        self.address = address
        self.owner = owner


def allocate(
    connection: sqlite3.Connection,
    network: BridgeNetwork,
    container_id: str,
    doc: Mapping[str, Any],
    wanted: IPv4Address | None = None,
    mac: str = "",
) -> IPv4Address:
    """Gives a container an address, inside the caller's write transaction.

    Args:
        connection: of `Database.write()`.
        network: where.
        container_id: whose.
        doc: kept with the endpoint.
        wanted: this address and no other (`--ip`).
        mac: its hardware address, or "" for one made of the address.

    Raises:
        SubnetExhausted: none left.
        AddressInUse: `wanted` is taken.
        Invalid: `wanted` is not of the subnet.
    """
    rows = connection.execute("SELECT ip, container_id FROM endpoints WHERE network = ?", (network.name,))
    taken: dict[str, str] = dict(rows.fetchall())
    if wanted is not None:
        edge = {network.subnet.network_address, network.subnet.broadcast_address, network.gateway}
        if wanted not in network.subnet or wanted in edge:
            raise Invalid(f"{wanted} is not a usable address of network {network.name} ({network.subnet})")
        if str(wanted) in taken:
            raise AddressInUse(wanted, taken[str(wanted)])
        chosen = wanted
    else:
        chosen = _next_free(connection, network, taken)
    connection.execute(
        "INSERT INTO endpoints (container_id, network, ip, mac, doc) VALUES (?, ?, ?, ?, ?)",
        (container_id, network.name, str(chosen), mac or mac_for(chosen), json.dumps(doc)),
    )
    return chosen


def _next_free(connection: sqlite3.Connection, network: BridgeNetwork, taken: Mapping[str, str]) -> IPv4Address:
    """The next free address after the one given out last, so that one just freed rests for as long as possible.

    The kernel takes an ended container's interface away a little later than the index forgets it.
    """
    first, last = int(network.subnet.network_address) + 1, int(network.subnet.broadcast_address) - 1
    row = connection.execute("SELECT doc FROM networks WHERE name = ?", (network.name,)).fetchone()
    doc: dict[str, Any] = json.loads(row[0]) if row else {}
    start = int(IPv4Address(doc["last"])) + 1 if "last" in doc else first
    for number in chain(range(start, last + 1), range(first, min(start, last + 1))):
        candidate = IPv4Address(number)
        if candidate != network.gateway and str(candidate) not in taken:
            doc["last"] = str(candidate)
            connection.execute("UPDATE networks SET doc = ? WHERE name = ?", (json.dumps(doc), network.name))
            return candidate
    raise SubnetExhausted(network.name)


def release(connection: sqlite3.Connection, container_id: str) -> None:
    """Takes all addresses and ports of a container back, inside the caller's write transaction."""
    connection.execute("DELETE FROM endpoints WHERE container_id = ?", (container_id,))
    connection.execute("DELETE FROM ports WHERE container_id = ?", (container_id,))
