"""Published ports: the `-p` grammar (C13, S20) and their reservation on the host.

A published port is held by a bound socket for as long as the container runs, so that no program of the host can take
it, and a port that a program of the host has is noticed.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from lamina.errors import Conflict, Invalid, Unsupported
from lamina.values import dataclass

if TYPE_CHECKING:
    import socket

_PROTOCOLS: Final = ("tcp", "udp", "sctp")


class InvalidPort(Invalid):
    """A `-p` value outside the grammar; the message is Docker's.

    Attributes:
        value: as the user wrote it.
    """

    def __init__(self, message: str, value: str) -> None:
        super().__init__(message)
        self.value = value


class PortAllocated(Conflict):
    """The host port is taken.

    Attributes:
        host_ip: asked for.
        host_port: asked for.
        owner: container id, or "" when a program of the host has it.
    """

    def __init__(self, host_ip: str, host_port: int, protocol: str, owner: str = "") -> None:
        where = f"{host_ip}:{host_port}"
        super().__init__(
            f"Bind for {where} failed: port is already allocated"
            if owner
            else f"failed to bind host port {where}/{protocol}: address already in use"
        )
        self.host_ip = host_ip
        self.host_port = host_port
        self.owner = owner


class PortRefused(Invalid):
    """The kernel does not let anyone have this port: not its address, not its protocol."""

    def __init__(self, host_ip: str, host_port: int, protocol: str, reason: str) -> None:
        super().__init__(f"failed to bind host port {host_ip}:{host_port}/{protocol}: {reason}")


@dataclass(frozen=True, slots=True)
class PortMapping:
    """What the user asked for, for one container port.

    Attributes:
        container_port: 1-65535.
        protocol: tcp, udp or sctp.
        host_ip: where it is published; `0.0.0.0` is everywhere.
        host_ports: first and last host port to choose from, or None for any free one.
    """

    container_port: int
    protocol: str = "tcp"
    host_ip: str = "0.0.0.0"
    host_ports: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class PublishedPort:
    """A mapping that is in force: host address and port to container port."""

    container_port: int
    protocol: str
    host_ip: str
    host_port: int

    def to_json(self) -> dict[str, Any]:
        """For the store's index."""
        return {
            "container_port": self.container_port,
            "protocol": self.protocol,
            "host_ip": self.host_ip,
            "host_port": self.host_port,
        }

    @classmethod
    def from_json(cls, doc: dict[str, Any]) -> PublishedPort:
        """The inverse of `to_json`."""
        return cls(doc["container_port"], doc["protocol"], doc["host_ip"], doc["host_port"])


def parse_publish(value: str) -> list[PortMapping]:
    """One `-p` value: `[[ip:][host]:]container[/protocol]`, with ranges on either side.

    Raises:
        InvalidPort: in Docker's words.
        Unsupported: an IPv6 host address.
    """
    found = _split(value)
    if found is None:
        raise InvalidPort(f"invalid publish opts format (should be name=value but got '{value}')", value)
    ip, host, container, proto = found
    protocol = (proto if proto is not None else "tcp").lower()
    if not container:
        raise InvalidPort(f"no port specified: {value}<empty>", value)
    if protocol not in _PROTOCOLS:
        raise InvalidPort(f"invalid proto: {proto}", value)
    ports = _range(container, "containerPort", value)
    host_ip = _host_ip(ip, value)
    if not host:
        return [PortMapping(port, protocol, host_ip) for port in range(ports[0], ports[1] + 1)]
    hosts = _range(host, "hostPort", value)
    if hosts[1] - hosts[0] != ports[1] - ports[0]:
        # One container port may choose from a range; otherwise both sides pair up.
        if ports[0] != ports[1]:
            raise InvalidPort(f"invalid ranges specified for container and host Ports: {container} and {host}", value)
        return [PortMapping(ports[0], protocol, host_ip, hosts)]
    pairs = zip(range(ports[0], ports[1] + 1), range(hosts[0], hosts[1] + 1), strict=True)
    return [PortMapping(port, protocol, host_ip, (number, number)) for port, number in pairs]


def _split(value: str) -> tuple[str, str, str, str | None] | None:
    rest, slash, proto = value.partition("/")
    if value.startswith("["):
        ip, bracket, tail = rest[1:].partition("]")
        if not bracket or not tail.startswith(":"):
            return None
        parts = [ip, *tail[1:].split(":")]
        if len(parts) == 2:
            parts.insert(1, "")
    else:
        parts = rest.split(":")
    # What stands before the last two is an address, however many colons it has.
    parts = [""] * (3 - len(parts)) + parts
    parts = [":".join(parts[:-2]), *parts[-2:]]
    return parts[0], parts[1], parts[2], proto if slash else None


def _range(text: str, what: str, value: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    numbers = [first, last] if dash else [first, first]
    if not all(number.isascii() and number.isdigit() and 0 < int(number) < 65536 for number in numbers):
        raise InvalidPort(f"invalid {what}: {text}", value)
    start, end = (int(number) for number in numbers)
    if end < start:
        raise InvalidPort(f"invalid {what}: {text}", value)
    return start, end


def _host_ip(text: str, value: str) -> str:
    if not text:
        return "0.0.0.0"
    from ipaddress import AddressValueError, IPv4Address, IPv6Address

    try:
        return str(IPv4Address(text))
    except AddressValueError:
        pass
    try:
        IPv6Address(text)
    except AddressValueError:
        raise InvalidPort(f"invalid IP address: {text}", value) from None
    raise Unsupported(f"publishing on the IPv6 address {text} is not supported; networks are IPv4")


def parse_exposed(value: str) -> list[tuple[int, str]]:
    """An `EXPOSE` or `--expose` value, `80`, `80/udp` or `80-90`, as ports with protocols.

    Raises:
        InvalidPort: in Docker's words.
    """
    text, slash, proto = value.partition("/")
    protocol = proto.lower() if slash else "tcp"
    if protocol not in _PROTOCOLS:
        raise InvalidPort(f"invalid proto: {proto}", value)
    first, last = _range(text, "containerPort", value)
    return [(port, protocol) for port in range(first, last + 1)]


def reserve(mappings: Iterable[PortMapping]) -> list[tuple[PublishedPort, socket.socket]]:
    """Binds a host port for each mapping; the sockets hold the ports until closed.

    Raises:
        PortAllocated: no port, or none of the range, is free; nothing stays bound.
        PortRefused: the host address is not one of this machine, or the kernel has no such protocol.
    """
    held: list[tuple[PublishedPort, socket.socket]] = []
    try:
        for mapping in mappings:
            held.append(_reserve_one(mapping))
    except BaseException:
        release(held)
        raise
    return held


def release(held: Sequence[tuple[PublishedPort, socket.socket]]) -> None:
    """Closes the sockets."""
    for _port, holder in held:
        holder.close()


def _reserve_one(mapping: PortMapping) -> tuple[PublishedPort, socket.socket]:
    import socket

    first, last = mapping.host_ports or (0, 0)
    kinds = {"tcp": (socket.SOCK_STREAM, 0), "udp": (socket.SOCK_DGRAM, 0), "sctp": (socket.SOCK_STREAM, 132)}
    kind, protocol = kinds[mapping.protocol]
    for number in range(first, last + 1):
        # Without SO_REUSEADDR, and never listening: it only keeps the place.
        try:
            holder = socket.socket(socket.AF_INET, kind, protocol)
        except OSError as error:
            raise _refusal(mapping, number, error) from None
        try:
            holder.bind((mapping.host_ip, number))
        except OSError as error:
            holder.close()
            if error.errno == errno.EADDRINUSE:
                continue
            raise _refusal(mapping, number, error) from None
        chosen = holder.getsockname()[1]
        return PublishedPort(mapping.container_port, mapping.protocol, mapping.host_ip, chosen), holder
    raise PortAllocated(mapping.host_ip, first, mapping.protocol)


def _refusal(mapping: PortMapping, number: int, error: OSError) -> PortRefused:
    return PortRefused(mapping.host_ip, number, mapping.protocol, (error.strerror or str(error)).lower())
