"""Namespaces, links, addresses and routes, in namespaces of the test's own."""

from __future__ import annotations

import os
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

import pytest

from lamina.linux import mounts, namespaces
from lamina.linux.netlink import Link, Netlink, NetlinkError

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")]


@pytest.fixture
def two(tmp_path: Path):
    left, right = tmp_path / "ns/left", tmp_path / "ns/right"
    sockets = [namespaces.create(str(path), Netlink) for path in (left, right)]
    yield left, right, *sockets
    for held in sockets:
        held.close()
    for path in (left, right):
        namespaces.delete(str(path))
    assert mounts.mount_points(str(tmp_path)) == []


def test_cable_between_two_namespaces(two):
    _left, right, here, there = two
    here.add_bridge("br0")
    bridge = here.link("br0")
    fd = os.open(right, os.O_RDONLY)
    here.add_veth("v0", master=bridge.index, peer="eth0", peer_namespace=fd, peer_mac="02:42:0a:01:00:02")
    os.close(fd)
    assert here.link("v0").master == bridge.index
    here.add_address(bridge.index, IPv4Interface("10.1.0.1/24"))
    end = there.link("eth0")
    there.set_up(end.index)
    assert there.link("eth0").up
    there.add_address(end.index, IPv4Interface("10.1.0.2/24"))
    there.add_address(end.index, IPv4Interface("10.1.0.2/24"))
    there.add_default_route(IPv4Address("10.1.0.1"))
    assert (end.index, IPv4Interface("10.1.0.2/24")) in there.addresses()
    assert IPv4Network("10.1.0.0/24") in there.networks()
    assert here.delete_link("v0")
    assert there.link("eth0") is None
    assert not here.delete_link("v0")


def test_names_that_are_taken_or_missing(two):
    _left, _right, here, _there = two
    here.add_bridge("br0")
    with pytest.raises(NetlinkError, match="add bridge br0: File exists"):
        here.add_bridge("br0")
    assert here.link("nothing") is None
    with pytest.raises(NetlinkError, match="add default route"):
        here.add_default_route(IPv4Address("10.9.9.9"))


def test_enter_sees_the_other_side_and_leaves_this_one_alone(two):
    left, _right, here, _there = two
    here.add_bridge("only-here")
    before = os.readlink("/proc/thread-self/ns/net")
    names = namespaces.enter(str(left), lambda: {link.name for link in _links()})
    assert "only-here" in names
    assert os.readlink("/proc/thread-self/ns/net") == before
    assert "only-here" not in {link.name for link in _links()}


def _links() -> list[Link]:
    with Netlink() as netlink:
        return netlink.links()


def test_a_stale_file_is_replaced_and_deleting_twice_is_fine(tmp_path: Path):
    path = str(tmp_path / "ns")
    Path(path).touch()
    namespaces.create(path, lambda: None)
    assert mounts.mount_points(path) == [path]
    namespaces.create(path, lambda: None)
    assert mounts.mount_points(path) == [path]
    namespaces.delete(path)
    namespaces.delete(path)
    assert not os.path.exists(path)
    with pytest.raises(ZeroDivisionError):
        namespaces.create(path, lambda: 1 // 0)
    assert mounts.mount_points(path) == []
