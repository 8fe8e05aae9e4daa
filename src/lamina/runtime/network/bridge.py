"""Joins containers to bridge networks of the host and parts them again."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any, Final

from lamina.errors import LaminaError, NotFound
from lamina.linux import namespaces
from lamina.linux.netlink import Netlink, NetlinkError
from lamina.runtime import oci
from lamina.runtime.network import ipam, nft, ports, traces
from lamina.runtime.network.definition import BridgeNetwork, choose_subnet, mac_for, pools
from lamina.runtime.network.ports import PortMapping, PublishedPort
from lamina.runtime.paths import RuntimePaths
from lamina.store.db import Database
from lamina.values import dataclass

DEFAULT_NETWORK: Final = "bridge"
# Choosing a free range of addresses looks at the whole machine, so all stores on it take turns.
_MACHINE_LOCK: Final = "/run/lock/lamina-network.lock"


class NoSuchNetwork(NotFound):
    """No network of that name.

    Attributes:
        name: asked for.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"network {name} not found")
        self.name = name


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A container's place in a network.

    Attributes:
        network: its name.
        address: the container's, with the subnet's prefix length.
        gateway: the bridge's.
        mac: of the container's interface.
        interface: name of the host's end.
        namespace: path of the container's network namespace.
        ports: published, in force.
    """

    network: str
    address: IPv4Interface
    gateway: IPv4Address
    mac: str
    interface: str
    namespace: str
    ports: tuple[PublishedPort, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """For the store's index."""
        return {
            "network": self.network,
            "address": str(self.address),
            "gateway": str(self.gateway),
            "mac": self.mac,
            "interface": self.interface,
            "namespace": self.namespace,
            "ports": [port.to_json() for port in self.ports],
        }

    @classmethod
    def from_json(cls, doc: Mapping[str, Any]) -> Endpoint:
        """The inverse of `to_json`."""
        return cls(
            doc["network"],
            IPv4Interface(doc["address"]),
            IPv4Address(doc["gateway"]),
            doc["mac"],
            doc["interface"],
            doc["namespace"],
            tuple(PublishedPort.from_json(port) for port in doc["ports"]),
        )


class Networks:
    """The bridge networks of one store. Thread-safe, and safe beside other processes on the same store.

    Addresses are given and taken back without waiting for the disk: a power cut ends all that had one.

    Args:
        database: the store's index.
        paths: the runtime's directories; also names the bridge and the firewall table.
        clock: the time as RFC 3339 text, for new networks.
    """

    def __init__(self, database: Database, paths: RuntimePaths, clock: Callable[[], str] = lambda: "") -> None:
        self._database = database
        self._paths = paths
        self._clock = clock

    def get(self, name: str) -> BridgeNetwork:
        """A network by name; the default one, `bridge`, is made when first asked for.

        Raises:
            NoSuchNetwork: no such network.
            NoFreeSubnet: the default network finds no free range.
        """
        with self._database.read() as connection:
            row = connection.execute("SELECT id, doc FROM networks WHERE name = ?", (name,)).fetchone()
        if row is not None:
            return BridgeNetwork.from_json(name, row[0], json.loads(row[1]))
        if name != DEFAULT_NETWORK:
            raise NoSuchNetwork(name)
        with _machine_lock(), Netlink() as netlink:
            traces.sweep(netlink)
            taken = netlink.networks() + [address.network for _, address in netlink.addresses()]
            network = self._insert_default(taken)
            self._ensure_bridge(netlink, network)
        return network

    def all(self) -> list[BridgeNetwork]:
        """Every network of the store, by name."""
        with self._database.read() as connection:
            rows = connection.execute("SELECT name, id, doc FROM networks ORDER BY name").fetchall()
        return [BridgeNetwork.from_json(name, network_id, json.loads(doc)) for name, network_id, doc in rows]

    def connect(
        self,
        container_id: str,
        network: BridgeNetwork,
        mappings: Sequence[PortMapping] = (),
        *,
        wanted: IPv4Address | None = None,
        mac: str = "",
        owner: str = "",
    ) -> tuple[Endpoint, list[socket.socket]]:
        """Makes a network namespace for a container, joined to a network, with its ports published.

        Args:
            container_id: any unique text; names the namespace.
            network: to join.
            mappings: ports to publish.
            wanted: a fixed address, or None.
            mac: a fixed hardware address, or "".
            owner: process stamp for endpoints that end with a process (builds); "" for containers.

        Returns:
            The endpoint, and the sockets that hold the host ports: give them to conmon, then close them.

        Raises:
            PortAllocated: a host port is taken.
            SubnetExhausted, AddressInUse: no address.
            PortRefused: the kernel does not give a host port.
        FirewallRefused, NetlinkError: the machine said no; nothing is left behind.
        """
        interface = "veth" + os.urandom(4).hex()
        held = self._reserve(mappings)
        published = tuple(port for port, _ in held)
        try:
            doc = {"interface": interface, "owner": owner, "ports": [port.to_json() for port in published]}
            address = self._book(container_id, network, published, doc, wanted, mac)
            endpoint = Endpoint(
                network.name,
                IPv4Interface((address, network.subnet.prefixlen)),
                network.gateway,
                mac or mac_for(address),
                interface,
                self._paths.namespace(container_id),
                published,
            )
            try:
                self._wire(network, endpoint)
            except BaseException:
                self.disconnect(container_id, endpoint, wait=True)
                raise
        except BaseException:
            ports.release(held)
            raise
        return endpoint, [holder for _, holder in held]

    def endpoint_of(self, container_id: str) -> Endpoint | None:
        """The endpoint that `connect` made for a container, as the index has it; None when there is none."""
        with self._database.read() as connection:
            row = connection.execute(
                "SELECT network, ip, mac, doc FROM endpoints WHERE container_id = ?", (container_id,)
            ).fetchone()
        if row is None:
            return None
        network, doc = self.get(row[0]), json.loads(row[3])
        return Endpoint(
            network.name,
            IPv4Interface((row[1], network.subnet.prefixlen)),
            network.gateway,
            row[2],
            doc["interface"],
            self._paths.namespace(container_id),
            tuple(PublishedPort.from_json(port) for port in doc["ports"]),
        )

    def disconnect(self, container_id: str, endpoint: Endpoint | None = None, *, wait: bool = False) -> None:
        """Undoes `connect`, as far as there is anything to undo; safe to repeat.

        Args:
            container_id: as given to `connect`.
            endpoint: as `connect` returned it; without it, what the index knows is used.
            wait: return only when the interface is gone too. Otherwise the kernel removes it with the namespace,
                some tens of milliseconds later.
        """
        interfaces, published = self._booked(container_id)
        if endpoint is not None:
            interfaces = {endpoint.interface}
            published = endpoint.ports
        if published:
            self._unpublish(published)
        namespace = self._paths.namespace(container_id)
        if wait or not os.path.exists(namespace):
            with Netlink() as netlink:
                for interface in interfaces:
                    netlink.delete_link(interface)
        namespaces.delete(namespace)
        if endpoint is not None or interfaces or published:
            with self._database.write(durable=False) as connection:
                ipam.release(connection, container_id)

    def remove_bridges(self) -> None:
        """Takes the store's bridges and its firewall table off the machine; the networks stay known.

        Raises:
            FirewallRefused: nft did not accept it.
        """
        with _machine_lock(), Netlink() as netlink:
            for network in self.all():
                netlink.delete_link(network.bridge)
                traces.forget(network.bridge)
            if nft.table_exists(self._paths.nft_table):
                nft.delete_table(self._paths.nft_table)

    def _reserve(self, mappings: Sequence[PortMapping]) -> list[tuple[PublishedPort, socket.socket]]:
        try:
            return ports.reserve(mappings)
        except ports.PortAllocated as error:
            with self._database.read() as connection:
                row = connection.execute(
                    "SELECT container_id FROM ports"
                    " WHERE host_port = ? AND (host_ip IN (?, '0.0.0.0') OR ? = '0.0.0.0')",
                    (error.host_port, error.host_ip, error.host_ip),
                ).fetchone()
            if row is None:
                raise
            protocol = next(m.protocol for m in mappings if m.host_ports and m.host_ports[0] == error.host_port)
            raise ports.PortAllocated(error.host_ip, error.host_port, protocol, row[0]) from None

    def _book(
        self,
        container_id: str,
        network: BridgeNetwork,
        published: Sequence[PublishedPort],
        doc: Mapping[str, Any],
        wanted: IPv4Address | None,
        mac: str,
    ) -> IPv4Address:
        with self._database.write(durable=False) as connection:
            address = ipam.allocate(connection, network, container_id, doc, wanted, mac)
            # The bound socket is the proof that the port is ours; a row of a dead container gives way.
            connection.executemany(
                "INSERT OR REPLACE INTO ports (proto, host_ip, host_port, container_id) VALUES (?, ?, ?, ?)",
                [(port.protocol, port.host_ip, port.host_port, container_id) for port in published],
            )
        return address

    def _booked(self, container_id: str) -> tuple[set[str], tuple[PublishedPort, ...]]:
        with self._database.read() as connection:
            docs = connection.execute("SELECT doc FROM endpoints WHERE container_id = ?", (container_id,)).fetchall()
            rows = connection.execute(
                "SELECT proto, host_ip, host_port FROM ports WHERE container_id = ?", (container_id,)
            ).fetchall()
        interfaces = {json.loads(doc)["interface"] for (doc,) in docs}
        return interfaces, tuple(PublishedPort(0, proto, host_ip, number) for proto, host_ip, number in rows)

    def _wire(self, network: BridgeNetwork, endpoint: Endpoint) -> None:
        """Cable, address and route here; the firewall, which is another program's work, meanwhile."""
        failure: list[BaseException] = []

        def firewall() -> None:
            try:
                self._firewall(network, endpoint)
            except BaseException as error:
                failure.append(error)

        beside = threading.Thread(target=firewall, name="firewall")
        table_missing = not nft.table_exists(self._paths.nft_table)
        if table_missing or endpoint.ports or _docker_here():
            beside.start()
        try:
            with Netlink() as here, namespaces.create(endpoint.namespace, Netlink) as inside:
                self._ensure_bridge(here, network)
                _plug_in(here, inside, network, endpoint)
        finally:
            if beside.ident is not None:
                beside.join()
        if failure:
            raise failure[0]

    def _firewall(self, network: BridgeNetwork, endpoint: Endpoint) -> None:
        table = self._paths.nft_table
        if not nft.table_exists(table):
            nft.apply(nft.ruleset(table, self.all()))
        if endpoint.ports:
            text = nft.publish(table, endpoint.ports, str(endpoint.address.ip))
            try:
                nft.apply(text)
            except nft.FirewallRefused:
                # A crashed container's element is in the way: the bound socket proves that it is dead.
                self._unpublish(endpoint.ports)
                nft.apply(text)
        if _docker_here():
            _pass_dockers_firewall(network.bridge)

    def _unpublish(self, published: Sequence[PublishedPort]) -> None:
        table = self._paths.nft_table
        try:
            nft.apply(nft.unpublish(table, published))
        except nft.FirewallRefused:
            # One element is gone already, so none was deleted: one at a time then.
            for port in published:
                with suppress(nft.FirewallRefused):
                    nft.apply(nft.unpublish(table, [port]))

    def _insert_default(self, taken: Sequence[IPv4Network]) -> BridgeNetwork:
        with self._database.write() as connection:
            row = connection.execute("SELECT id, doc FROM networks WHERE name = ?", (DEFAULT_NETWORK,)).fetchone()
            if row is not None:
                return BridgeNetwork.from_json(DEFAULT_NETWORK, row[0], json.loads(row[1]))
            docs = connection.execute("SELECT doc FROM networks").fetchall()
            subnets = [IPv4Network(json.loads(doc)["subnet"]) for (doc,) in docs]
            subnet = choose_subnet([*taken, *subnets], pools())
            network = BridgeNetwork(
                DEFAULT_NETWORK, os.urandom(32).hex(), subnet, subnet.network_address + 1, self._paths.bridge
            )
            connection.execute(
                "INSERT INTO networks (name, id, created_at, doc) VALUES (?, ?, ?, ?)",
                (network.name, network.id, self._clock(), json.dumps(network.to_json())),
            )
        return network

    def _ensure_bridge(self, netlink: Netlink, network: BridgeNetwork) -> int:
        """Makes sure that the bridge is there, up and has its address; returns its number."""
        bridge = netlink.link(network.bridge)
        if bridge is None:
            traces.leave(network.bridge, database=self._paths.database, table=self._paths.nft_table)
            with suppress(NetlinkError):  # EEXIST: someone was faster
                netlink.add_bridge(network.bridge, mtu=_outgoing_mtu(), mac=mac_for(network.gateway))
            bridge = netlink.link(network.bridge)
            if bridge is None:
                raise NetlinkError(19, f"add bridge {network.bridge}")
            netlink.add_address(bridge.index, IPv4Interface((network.gateway, network.subnet.prefixlen)))
            _sysctl(f"net/ipv4/conf/{network.bridge}/route_localnet", "1")
            _sysctl("net/ipv4/ip_forward", "1")
        elif not bridge.up:
            netlink.set_up(bridge.index)
        return bridge.index


def _plug_in(here: Netlink, inside: Netlink, network: BridgeNetwork, endpoint: Endpoint) -> None:
    bridge = here.link(network.bridge)
    if bridge is None:
        raise NetlinkError(19, f"join bridge {network.bridge}")
    namespace = os.open(endpoint.namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        here.add_veth(
            endpoint.interface,
            master=bridge.index,
            peer="eth0",
            peer_namespace=namespace,
            peer_mac=endpoint.mac,
            mtu=_outgoing_mtu(),
        )
    finally:
        os.close(namespace)
    if endpoint.ports:
        # With br_netfilter loaded, a container's packet to its own published port never leaves the bridge.
        with open(f"/sys/class/net/{endpoint.interface}/brport/hairpin_mode", "w", encoding="ascii") as file:
            file.write("1")
    inside.set_up(1)  # lo is always the first
    eth0 = inside.link("eth0")
    if eth0 is None:
        raise NetlinkError(19, "find eth0 in the container")
    inside.add_address(eth0.index, endpoint.address)
    inside.set_up(eth0.index)
    if not network.internal:
        inside.add_default_route(network.gateway)


@contextmanager
def _machine_lock() -> Iterator[None]:
    os.makedirs(os.path.dirname(_MACHINE_LOCK), exist_ok=True)
    fd = os.open(_MACHINE_LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _sysctl(name: str, value: str) -> None:
    path = f"/proc/sys/{name}"
    with open(path, encoding="ascii") as file:
        if file.read().strip() == value:
            return
    with open(path, "w", encoding="ascii") as file:
        file.write(value)


def _outgoing_mtu() -> int:
    """The MTU of the interface that the default route leaves by, so that containers do not send what it cannot."""
    with open("/proc/net/route", encoding="ascii") as table:
        for line in table.readlines()[1:]:
            fields = line.split()
            if fields[1] == "00000000":
                return _mtu(fields[0])
    return 1500


def _mtu(interface: str) -> int:
    try:
        with open(f"/sys/class/net/{interface}/mtu", encoding="ascii") as file:
            return int(file.read())
    except OSError:
        return 1500


def _docker_here() -> bool:
    return os.path.exists("/sys/class/net/docker0")


def _pass_dockers_firewall(bridge: str) -> None:
    """Docker sets the FORWARD policy to DROP and leaves the chain DOCKER-USER to others: let this bridge through."""
    for rule in (["-i", bridge], ["-o", bridge]):
        command = ["/usr/sbin/iptables", "-w", "10"]
        arguments = ["DOCKER-USER", *rule, "-j", "ACCEPT"]
        try:
            oci.call([*command, "-C", *arguments], seconds=nft.NFT_SECONDS)
        except LaminaError:
            with suppress(LaminaError):  # no such chain: this dockerd runs without iptables
                oci.call([*command, "-I", *arguments], seconds=nft.NFT_SECONDS)
