"""Links, addresses and routes by rtnetlink(7): what `ip` does, without starting a program for it.

A socket belongs to the network namespace in which it was opened, for good, whatever thread uses it later.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from types import TracebackType
from typing import Final

from lamina.values import dataclass

_RTM_NEWLINK: Final = 16
_RTM_DELLINK: Final = 17
_RTM_GETLINK: Final = 18
_RTM_NEWADDR: Final = 20
_RTM_GETADDR: Final = 22
_RTM_NEWROUTE: Final = 24
_RTM_GETROUTE: Final = 26
_NLMSG_ERROR: Final = 2
_NLMSG_DONE: Final = 3
_REQUEST: Final = 0x1
_ACK: Final = 0x4
_DUMP: Final = 0x300
_EXCL: Final = 0x200
_CREATE: Final = 0x400
_IFF_UP: Final = 0x1
_IFLA_ADDRESS: Final = 1
_IFLA_IFNAME: Final = 3
_IFLA_MTU: Final = 4
_IFLA_MASTER: Final = 10
_IFLA_LINKINFO: Final = 18
_IFLA_NET_NS_FD: Final = 28
_INFO_KIND: Final = 1
_INFO_DATA: Final = 2
_VETH_PEER: Final = 1
_IFA_ADDRESS: Final = 1
_IFA_LOCAL: Final = 2
_IFA_BROADCAST: Final = 4
_RTA_DST: Final = 1
_RTA_GATEWAY: Final = 5
_HEADER: Final = struct.Struct("=IHHII")
_IFINFO: Final = struct.Struct("=BxHiII")
_IFADDR: Final = struct.Struct("=BBBBi")
_RTMSG: Final = struct.Struct("=BBBBBBBBI")
_ATTRIBUTE: Final = struct.Struct("=HH")


class NetlinkError(OSError):
    """The kernel refused a change to links, addresses or routes.

    Attributes:
        about: what was asked for.
    """

    def __init__(self, number: int, about: str) -> None:
        super().__init__(number, f"{about}: {os.strerror(number)}")
        self.about = about

    def __str__(self) -> str:
        return str(self.strerror)


@dataclass(frozen=True, slots=True)
class Link:
    """An interface: its number, name, the number of its bridge (0 = none), and whether it is up."""

    index: int
    name: str
    master: int
    up: bool


def _attribute(kind: int, value: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + b"\0" * (-length % 4)


def _text(kind: int, value: str) -> bytes:
    return _attribute(kind, os.fsencode(value) + b"\0")


def _number(kind: int, value: int) -> bytes:
    return _attribute(kind, struct.pack("=I", value))


def _attributes(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        if length < _ATTRIBUTE.size:
            break
        found[kind & 0x3FFF] = data[_ATTRIBUTE.size : length]
        data = data[length + (-length % 4) :]
    return found


def mac_bytes(mac: str) -> bytes:
    """Six bytes of `02:42:ac:11:00:02`."""
    return bytes.fromhex(mac.replace(":", ""))


class Netlink:
    """A conversation with the kernel about the namespace it was opened in; not for two threads at once."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.bind((0, 0))
        # Strict checking makes the kernel apply filters in dumps; sizes of dumps are small either way.
        self._sequence = 0

    def __enter__(self) -> Netlink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the conversation."""
        self._socket.close()

    def _ask(self, kind: int, flags: int, payload: bytes, about: str) -> Iterator[tuple[int, bytes]]:
        """Sends one request; yields the answers until the kernel says that was all."""
        self._sequence += 1
        length = _HEADER.size + len(payload)
        self._socket.send(_HEADER.pack(length, kind, _REQUEST | flags, self._sequence, 0) + payload)
        while True:
            data = self._socket.recv(1 << 18)
            while len(data) >= _HEADER.size:
                length, answer, _flags, sequence, _port = _HEADER.unpack_from(data)
                body, data = data[_HEADER.size : length], data[(length + 3) & ~3 :]
                if sequence != self._sequence:
                    continue  # the rest of an answer that nobody read to its end
                if answer == _NLMSG_ERROR:
                    number = -struct.unpack_from("=i", body)[0]
                    if number:
                        raise NetlinkError(number, about)
                    return
                if answer == _NLMSG_DONE:
                    return
                yield answer, body

    def _do(self, kind: int, flags: int, payload: bytes, about: str) -> None:
        for _answer in self._ask(kind, flags | _ACK, payload, about):
            pass

    def link(self, name: str) -> Link | None:
        """The interface of that name, or None.

        Raises:
            NetlinkError: the kernel said no.
        """
        payload = _IFINFO.pack(0, 0, 0, 0, 0) + _text(_IFLA_IFNAME, name)
        try:
            answers = list(self._ask(_RTM_GETLINK, _ACK, payload, f"look up interface {name}"))
        except NetlinkError as error:
            if error.errno == errno.ENODEV:
                return None
            raise
        return _link(answers[0][1]) if answers else None

    def links(self) -> list[Link]:
        """All interfaces."""
        return [
            _link(body) for _, body in self._ask(_RTM_GETLINK, _DUMP, _IFINFO.pack(0, 0, 0, 0, 0), "list interfaces")
        ]

    def add_bridge(self, name: str, *, mtu: int | None = None, mac: str | None = None) -> None:
        """Makes a bridge and sets it up.

        Raises:
            NetlinkError: EEXIST when the name is taken.
        """
        info = _attribute(_IFLA_LINKINFO, _text(_INFO_KIND, "bridge"))
        extra = _number(_IFLA_MTU, mtu) if mtu else b""
        extra += _attribute(_IFLA_ADDRESS, mac_bytes(mac)) if mac else b""
        payload = _IFINFO.pack(0, 0, 0, _IFF_UP, _IFF_UP) + _text(_IFLA_IFNAME, name) + extra + info
        self._do(_RTM_NEWLINK, _CREATE | _EXCL, payload, f"add bridge {name}")

    def add_veth(
        self, name: str, *, master: int, peer: str, peer_namespace: int, peer_mac: str, mtu: int | None = None
    ) -> None:
        """Makes a cable: one end here, up and in a bridge, the other in another namespace, still down.

        The other end has to be set up from there: veth(4) has no peer to talk to while it is being made.

        Args:
            name: of the end here.
            master: number of the bridge.
            peer: name of the other end.
            peer_namespace: descriptor of its network namespace.
            peer_mac: its hardware address.
            mtu: of both ends.

        Raises:
            NetlinkError: EEXIST when the name is taken.
        """
        size = _number(_IFLA_MTU, mtu) if mtu else b""
        other = (
            _IFINFO.pack(0, 0, 0, 0, 0)
            + _text(_IFLA_IFNAME, peer)
            + _attribute(_IFLA_ADDRESS, mac_bytes(peer_mac))
            + _number(_IFLA_NET_NS_FD, peer_namespace)
            + size
        )
        info = _text(_INFO_KIND, "veth") + _attribute(_INFO_DATA, _attribute(_VETH_PEER, other))
        payload = (
            _IFINFO.pack(0, 0, 0, _IFF_UP, _IFF_UP)
            + _text(_IFLA_IFNAME, name)
            + _number(_IFLA_MASTER, master)
            + size
            + _attribute(_IFLA_LINKINFO, info)
        )
        self._do(_RTM_NEWLINK, _CREATE | _EXCL, payload, f"add interface {name}")

    def set_up(self, index: int) -> None:
        """Switches an interface on.

        Raises:
            NetlinkError: the kernel said no.
        """
        self._do(_RTM_NEWLINK, 0, _IFINFO.pack(0, 0, index, _IFF_UP, _IFF_UP), f"set interface {index} up")

    def delete_link(self, name: str) -> bool:
        """Removes an interface (with a cable, both ends); False when there is none.

        Raises:
            NetlinkError: the kernel said no.
        """
        try:
            payload = _IFINFO.pack(0, 0, 0, 0, 0) + _text(_IFLA_IFNAME, name)
            self._do(_RTM_DELLINK, 0, payload, f"delete interface {name}")
        except NetlinkError as error:
            if error.errno in {errno.ENODEV, errno.EINVAL}:
                return False
            raise
        return True

    def add_address(self, index: int, address: IPv4Interface) -> None:
        """Gives an interface an address; already having it is success.

        Raises:
            NetlinkError: the kernel said no.
        """
        packed = address.ip.packed
        payload = (
            _IFADDR.pack(socket.AF_INET, address.network.prefixlen, 0, 0, index)
            + _attribute(_IFA_LOCAL, packed)
            + _attribute(_IFA_ADDRESS, packed)
            + _attribute(_IFA_BROADCAST, address.network.broadcast_address.packed)
        )
        try:
            self._do(_RTM_NEWADDR, _CREATE | _EXCL, payload, f"add address {address} to interface {index}")
        except NetlinkError as error:
            if error.errno != errno.EEXIST:
                raise

    def add_default_route(self, gateway: IPv4Address) -> None:
        """Sends everything without a better route to `gateway`.

        Raises:
            NetlinkError: ENETUNREACH when the gateway is not on a connected network.
        """
        # table main, protocol boot, scope universe, type unicast
        payload = _RTMSG.pack(socket.AF_INET, 0, 0, 0, 254, 3, 0, 1, 0) + _attribute(_RTA_GATEWAY, gateway.packed)
        self._do(_RTM_NEWROUTE, _CREATE | _EXCL, payload, f"add default route via {gateway}")

    def addresses(self) -> list[tuple[int, IPv4Interface]]:
        """All IPv4 addresses with the numbers of their interfaces."""
        found = []
        for _, body in self._ask(_RTM_GETADDR, _DUMP, _IFADDR.pack(socket.AF_INET, 0, 0, 0, 0), "list addresses"):
            _family, prefix, _flags, _scope, index = _IFADDR.unpack_from(body)
            attributes = _attributes(body[_IFADDR.size :])
            packed = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS)
            if packed and len(packed) == 4:
                found.append((index, IPv4Interface((packed, prefix))))
        return found

    def networks(self) -> list[IPv4Network]:
        """The destinations of all IPv4 routes but the default one."""
        found = []
        payload = _RTMSG.pack(socket.AF_INET, 0, 0, 0, 0, 0, 0, 0, 0)
        for _, body in self._ask(_RTM_GETROUTE, _DUMP, payload, "list routes"):
            prefix = body[1]
            packed = _attributes(body[_RTMSG.size :]).get(_RTA_DST)
            if packed and len(packed) == 4:
                found.append(IPv4Network((packed, prefix), strict=False))
        return found


def _link(body: bytes) -> Link:
    _family, _kind, index, flags, _change = _IFINFO.unpack_from(body)
    attributes = _attributes(body[_IFINFO.size :])
    master = struct.unpack("=I", attributes[_IFLA_MASTER])[0] if _IFLA_MASTER in attributes else 0
    return Link(index, os.fsdecode(attributes[_IFLA_IFNAME].rstrip(b"\0")), master, bool(flags & _IFF_UP))
