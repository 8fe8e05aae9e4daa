"""The default bridge, published ports, addresses, and what is left of them afterwards."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from lamina.errors import Invalid
from lamina.linux import namespaces
from lamina.linux.netlink import Netlink
from lamina.runtime.executor import ExecRequest, Executor
from lamina.runtime.network import ipam, nft, ports
from lamina.runtime.network.bridge import Networks
from lamina.runtime.network.definition import BridgeNetwork, NoFreeSubnet, choose_subnet, pools
from lamina.runtime.network.pool import NetworkPool
from lamina.runtime.network.ports import PortAllocated, PublishedPort, parse_publish
from lamina.runtime.paths import RuntimePaths
from lamina.spec.config import RunConfig
from lamina.store.db import Database
from lamina.testing.container_store import ContainerStore, host_rules

pytestmark = [pytest.mark.root, pytest.mark.runtime]
# Answers every connection with its own name, for ever.
SERVER = ("sh", "-c", "echo up; exec nc -ll -p 80 -e hostname")


def serve(store, **options) -> str:
    container_id: str = store.create(*SERVER, **options)
    store.supervisor.start(container_id)
    from lamina.runtime import logs

    for entry in logs.read(store.paths.log(container_id), follow=lambda: True):
        if entry.data == b"up\n":
            break
    return container_id


def ask(address: str, port: int) -> str:
    """What the server says; its first connections may come before it listens."""
    for _ in range(200):
        try:
            with socket.create_connection((address, port), timeout=10) as connection:
                return str(connection.makefile().read()).strip()
        except (ConnectionRefusedError, ConnectionResetError):
            select.select([], [], [], 0.02)
    raise AssertionError(f"nobody answers at {address}:{port}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def host_address() -> str:
    with Netlink() as netlink:
        return next(str(address.ip) for _, address in netlink.addresses() if not address.ip.is_loopback)


def bridge_links(store) -> list[str]:
    with Netlink() as netlink:
        bridge = netlink.link(store.paths.bridge)
        return [link.name for link in netlink.links() if bridge and link.master == bridge.index]


# -- published ports (S20) -------------------------------------------------------------------------------------------


def test_published_port_from_host_localhost_and_neighbour(store):  # S20
    port = free_port()
    container_id = serve(store, publish=tuple(parse_publish(f"{port}:80")), hostname="web")
    assert ask("127.0.0.1", port) == "web"
    assert ask(host_address(), port) == "web"
    endpoint = store.supervisor.find(container_id).state.endpoint
    assert ask(endpoint["address"].partition("/")[0], 80) == "web"
    neighbour = store.run(
        "sh", "-c", f"echo | nc -w 5 {host_address()} {port}; echo | nc -w 5 {endpoint['gateway']} {port}"
    )
    assert neighbour.out == "web\nweb\n"
    script = f"echo | nc -w 5 {host_address()} {port}"
    assert store.execute(container_id, "sh", "-c", script).out == "web\n"  # hairpin: to itself by way of the host
    store.supervisor.stop(container_id, seconds=0)
    assert f" {port} " not in host_rules(store.paths.nft_table)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=10)
    with socket.socket() as probe:
        probe.bind(("0.0.0.0", port))  # nothing holds it any more


def test_port_on_one_address_only(store):
    port = free_port()
    serve(store, publish=tuple(parse_publish(f"127.0.0.1:{port}:80")), hostname="web")
    assert ask("127.0.0.1", port) == "web"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host_address(), port), timeout=10)


def test_random_ports_and_publish_all(store):
    image = RunConfig(exposed_ports=("80/tcp",))
    container_id = store.create(*SERVER, image=image, publish_all=True, hostname="web")
    store.supervisor.start(container_id)
    (port,) = store.supervisor.find(container_id).state.endpoint["ports"]
    assert port["container_port"] == 80
    assert ask("127.0.0.1", port["host_port"]) == "web"


def test_udp_port(store):
    port = free_port()
    container_id = store.create("sleep", "1000", publish=tuple(parse_publish(f"{port}:53/udp")))
    store.supervisor.start(container_id)

    def service() -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind(("0.0.0.0", 53))
        return made

    # A socket belongs to the namespace it was made in: this one is the container's.
    with (
        namespaces.enter(store.paths.namespace(container_id), service) as inside,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        client.settimeout(30)
        inside.settimeout(30)
        client.sendto(b"ping", ("127.0.0.1", port))
        data, sender = inside.recvfrom(100)
        inside.sendto(data + b" pong", sender)
        assert client.recv(100) == b"ping pong"


def test_taken_ports(store):
    port = free_port()
    first = serve(store, publish=tuple(parse_publish(f"{port}:80")))
    second = store.create("true", publish=tuple(parse_publish(f"{port}:80")))
    with pytest.raises(PortAllocated) as caught:
        store.supervisor.start(second)
    said = rf"driver failed programming external connectivity on endpoint test-{second[:8]} \([0-9a-f]{{64}}\): "
    assert re.fullmatch(f"{said}Bind for 0.0.0.0:{port} failed: port is already allocated", caught.value.message)
    assert caught.value.owner == first
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        busy = other.getsockname()[1]
        third = store.create("true", publish=tuple(parse_publish(f"{busy}:80")))
        with pytest.raises(PortAllocated, match="address already in use"):
            store.supervisor.start(third)
    assert len(bridge_links(store)) == 1
    with store.database.read() as connection:
        assert connection.execute("SELECT count(*) FROM endpoints").fetchone() == (1,)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("80", [(80, "tcp", "0.0.0.0", None)]),
        ("8080:80", [(80, "tcp", "0.0.0.0", (8080, 8080))]),
        ("127.0.0.1:8080:80/udp", [(80, "udp", "127.0.0.1", (8080, 8080))]),
        ("127.0.0.1::80", [(80, "tcp", "127.0.0.1", None)]),
        ("8000-8001:80-81", [(80, "tcp", "0.0.0.0", (8000, 8000)), (81, "tcp", "0.0.0.0", (8001, 8001))]),
        ("8000-8010:80", [(80, "tcp", "0.0.0.0", (8000, 8010))]),
        ("80-81/udp", [(80, "udp", "0.0.0.0", None), (81, "udp", "0.0.0.0", None)]),
    ],
)
def test_publish_grammar(text, wanted):  # C13
    got = [(m.container_port, m.protocol, m.host_ip, m.host_ports) for m in parse_publish(text)]
    assert got == wanted


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "80:x",
        "8080:",
        "0:80",
        "1:2:3:4",
        "70000:80",
        "80/icmp",
        "8000-8002:80-81",
        "300.0.0.1:80:80",
        "9-8:9-8",
    ],
)
def test_publish_values_that_make_no_sense(text):
    with pytest.raises(Invalid):
        parse_publish(text)


# -- addresses -------------------------------------------------------------------------------------------------------


def test_twenty_runs_at_once_get_distinct_addresses(store):
    def run(_number: int) -> str:
        done = store.run("sh", "-c", "hostname -i", auto_remove=True)
        assert (done.code, done.err) == (0, "")
        return str(done.out).strip()

    with ThreadPoolExecutor(10) as pool:
        addresses = list(pool.map(run, range(20)))
    assert len(set(addresses)) == 20
    subnet = store.supervisor.networks.get("bridge").subnet
    assert all(socket.inet_aton(address) for address in addresses)
    assert all(IPv4Network(address).subnet_of(subnet) for address in addresses)


def test_a_fixed_address(store):
    network = store.supervisor.networks.get("bridge")
    wanted = str(network.subnet.network_address + 77)
    assert store.run("hostname", "-i", ip=wanted).out.strip() == wanted
    first = store.create("sleep", "1000", ip=wanted)
    store.supervisor.start(first)
    with pytest.raises(ipam.AddressInUse):
        store.supervisor.start(store.create("true", ip=wanted))
    with pytest.raises(Invalid, match="not a usable address"):
        store.supervisor.start(store.create("true", ip=str(network.gateway)))


def test_a_small_network_runs_out_and_starts_over(store):
    network = BridgeNetwork("tiny", "0" * 64, IPv4Network("10.9.0.0/29"), IPv4Network("10.9.0.0/29")[1], "unused")
    with store.database.write() as connection:
        connection.execute(
            "INSERT INTO networks VALUES (?, ?, '', ?)", (network.name, network.id, json.dumps(network.to_json()))
        )
        got = [str(ipam.allocate(connection, network, f"c{number}", {})) for number in range(5)]
        assert got == [f"10.9.0.{number}" for number in range(2, 7)]
        with pytest.raises(ipam.SubnetExhausted, match="no available IPv4 addresses on network tiny"):
            ipam.allocate(connection, network, "c9", {})
        ipam.release(connection, "c1")
        ipam.release(connection, "c3")
        assert [str(ipam.allocate(connection, network, f"d{number}", {})) for number in range(2)] == [
            "10.9.0.3",
            "10.9.0.5",
        ]
        connection.execute("DELETE FROM networks WHERE name = 'tiny'")


def test_what_the_kernel_refuses_of_a_port_is_said(store):
    with pytest.raises(ports.PortRefused, match=r"failed to bind host port 192\.0\.2\.1:8080/tcp: cannot assign requ"):
        ports.reserve(parse_publish("192.0.2.1:8080:80"))
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP).close()
    except OSError:
        with pytest.raises(
            ports.PortRefused, match=r"failed to bind host port 0\.0\.0\.0:8080/sctp: protocol not supp"
        ):
            ports.reserve(parse_publish("8080:80/sctp"))


def test_a_machine_with_many_stores_has_a_subnet_for_each():
    taken: list[IPv4Network] = []
    for _store in range(200):
        taken.append(choose_subnet(taken, pools()))
    assert not any(one.overlaps(other) for number, one in enumerate(taken) for other in taken[:number])
    assert [str(each) for each in (taken[0], taken[31])] == ["172.17.0.0/16", "10.224.0.0/24"]
    with pytest.raises(NoFreeSubnet) as caught:
        choose_subnet([IPv4Network("0.0.0.0/0")], pools())
    assert caught.value.message == "all predefined address pools have been fully subnetted"


def test_the_subnet_avoids_what_the_machine_uses(store):
    two = [IPv4Network("10.0.0.0/16"), IPv4Network("10.1.0.0/16")]
    assert choose_subnet([IPv4Network("10.0.128.0/24")], two) == two[1]
    with pytest.raises(NoFreeSubnet):
        choose_subnet([IPv4Network("10.0.0.0/8")], two)
    with Netlink() as netlink:
        before = netlink.networks()
    subnet = store.supervisor.networks.get("bridge").subnet
    assert not any(subnet.overlaps(network) for network in before)


# -- the way out -----------------------------------------------------------------------------------------------------


def test_names_and_mtu_inside(store):
    done = store.run(
        "sh", "-c", "cat /etc/hosts; cat /sys/class/net/eth0/mtu; ip route", extra_hosts=(("gw", "host-gateway"),)
    )
    network = store.supervisor.networks.get("bridge")
    assert f"\t{done.id[:12]}\n" in done.out
    assert f"{network.gateway}\tgw\n" in done.out
    assert f"default via {network.gateway} dev eth0" in done.out
    outgoing = next(line.split()[4] for line in _routes() if line.startswith("default via"))
    assert Path(f"/sys/class/net/{outgoing}/mtu").read_text().strip() in done.out.split()


def test_hosts_loopback_services_are_out_of_reach(store):
    """route_localnet must not open 127.0.0.1 of the host to containers (CVE-2020-8558)."""
    with socket.socket() as service:
        service.bind(("127.0.0.1", 0))
        service.listen()
        port = service.getsockname()[1]
        script = f"ip addr del 127.0.0.1/8 dev lo; ip route add 127.0.0.0/8 via {store.supervisor.networks.get('bridge').gateway}; echo | nc -w 2 127.0.0.1 {port} && echo reached"
        assert "reached" not in store.run("sh", "-c", script, privileged=True).out


def test_packets_leave_the_machine_masqueraded(store):
    """A namespace of the test's own stands for the world outside, on a route of the host's."""
    rules = nft.ruleset("x", [store.supervisor.networks.get("bridge")])
    assert "masquerade" in rules
    gateway = next(line.split()[2] for line in _routes() if line.startswith("default via"))
    done = store.run("sh", "-c", f"ping -c 1 -W 2 {gateway} >/dev/null; cat /proc/net/arp")
    assert done.code == 0  # the way there and the firewall did not refuse


def _routes() -> list[str]:
    return subprocess.run(["ip", "route"], capture_output=True, text=True, check=True).stdout.splitlines()


# -- what is left ----------------------------------------------------------------------------------------------------


def test_a_crashed_containers_port_can_be_published_again(store):
    """kill -9 of conmon and container leaves rules, rows and a namespace; the next start clears them (F22)."""
    port = free_port()
    first = serve(store, publish=tuple(parse_publish(f"{port}:80")), hostname="old")
    state = store.supervisor.find(first).state
    for stamp in (state.conmon, state.process):
        fd = os.pidfd_open(int(stamp.split()[0]))
        os.kill(int(stamp.split()[0]), signal.SIGKILL)
        select.select([fd], [], [], 30)
        os.close(fd)
    second = serve(store, publish=tuple(parse_publish(f"{port}:80")), hostname="new")
    assert ask("127.0.0.1", port) == "new"
    assert store.supervisor.find(first).state.status == "exited"
    assert store.supervisor.find(second).state.status == "running"


def test_rules_that_someone_flushed_come_back(store):
    store.run("true")
    nft.delete_table(store.paths.nft_table)
    assert not nft.table_exists(store.paths.nft_table)
    store.run("true")
    assert nft.table_exists(store.paths.nft_table)


def test_a_bridge_that_someone_deleted_comes_back(store):
    store.run("true")
    with Netlink() as netlink:
        netlink.delete_link(store.paths.bridge)
    port = free_port()
    serve(store, publish=tuple(parse_publish(f"{port}:80")), hostname="web")
    assert ask("127.0.0.1", port) == "web"


def test_stale_elements_do_not_stop_unpublishing(store):
    networks = store.supervisor.networks
    port = free_port()
    endpoint, held = networks.connect("c1", networks.get("bridge"), parse_publish(f"{port}-{port}:80-80"))
    nft.apply(nft.unpublish(store.paths.nft_table, endpoint.ports))
    for holder in held:
        holder.close()
    networks.disconnect("c1", endpoint, wait=True)
    networks.disconnect("c1", wait=True)
    assert bridge_links(store) == []
    assert isinstance(endpoint.ports[0], PublishedPort)


# -- build steps -----------------------------------------------------------------------------------------------------


def test_pool_gives_build_steps_one_namespace_after_the_other(store, rootfs, run_root):
    pool = NetworkPool(store.supervisor.networks, store.database)
    executor = Executor(run_root, network=pool)

    def address() -> str:
        output = bytearray()
        request = ExecRequest(str(rootfs), ("hostname", "-i"))
        assert executor.run(request, lambda _stream, piece: output.extend(piece)) == 0
        return output.decode().strip()

    assert address() == address()
    with pool.lease() as one, pool.lease() as two:
        assert one.namespace != two.namespace
    assert len(bridge_links(store)) == 2
    pool.close()
    with store.database.read() as connection:
        assert connection.execute("SELECT count(*) FROM endpoints").fetchone() == (0,)


def test_pool_of_a_killed_build_is_swept(store, run_root):  # F22
    program = textwrap.dedent(
        f"""
        from lamina.runtime.network.bridge import Networks
        from lamina.runtime.network.pool import NetworkPool
        from lamina.runtime.paths import RuntimePaths
        from lamina.store.db import Database
        paths = RuntimePaths({store.paths.root!r}, {store.paths.run_root!r}, {store.paths.database!r})
        database = Database(paths.database)
        with NetworkPool(Networks(database, paths), database).lease():
            print("up", flush=True)
            input()
        """
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        child.send_signal(signal.SIGKILL)
    pool = NetworkPool(store.supervisor.networks, store.database)
    assert pool.sweep() == 1
    assert pool.sweep() == 0
    assert bridge_links(store) == []
    assert os.listdir(run_root / "netns") == []


def test_the_bridge_of_a_deleted_store_gives_its_addresses_back(store: ContainerStore, tmp_path: Path) -> None:
    # `rm -r` of a store cannot clean up; the next store that needs a range does.
    network = store.supervisor.networks.get("bridge")
    gone = RuntimePaths(str(tmp_path / "gone"), str(tmp_path / "run"), str(tmp_path / "gone.db"))
    database = Database(gone.database)
    stale = Networks(database, gone).get("bridge")
    database.close()
    os.unlink(gone.database)
    other = RuntimePaths(str(tmp_path / "new"), str(tmp_path / "run"), str(tmp_path / "new.db"))
    database = Database(other.database)
    networks = Networks(database, other)
    try:
        fresh = networks.get("bridge")
        with Netlink() as netlink:
            assert netlink.link(stale.bridge) is None
            assert netlink.link(fresh.bridge) is not None
            assert netlink.link(network.bridge) is not None  # its store lives
    finally:
        networks.remove_bridges()
        database.close()
