"""Port specifications of EXPOSE (feature D18)."""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from lamina.build.dockerfile.errors import DockerfileError
from lamina.build.dockerfile.gofmt import quote
from lamina.values import dataclass

_PROTOCOLS: Final = ("tcp", "udp", "sctp")
_NUMBER = re.compile(r"\d{1,5}", re.ASCII)
_MAX_PORT: Final = 65535


@dataclass(frozen=True, slots=True)
class ExposedPorts:
    """What one specification exposes.

    Attributes:
        ports: `80/tcp` forms, ascending.
        published: whether it also names an address or a host port, which EXPOSE has no use for.
        odd_case: whether the protocol is not in lower case.
    """

    ports: tuple[str, ...]
    published: bool
    odd_case: bool


def parse_ports(text: str) -> ExposedPorts:
    """Read `[[ip:]host:]port[-port][/protocol]`.

    Raises:
        DockerfileError: no port, a number out of range, an unknown protocol, or ranges of different size.
    """
    address, _, rest = text.rpartition(":")
    host = ""
    if address:
        address, colon, host = address.rpartition(":")
        address, host = (address, host) if colon else ("", host)
    ports, slash, protocol = rest.partition("/")
    if not ports:
        raise DockerfileError(f"invalid port: {quote(text)}: no port specified")
    if not slash or not protocol:
        protocol = "tcp"
    if protocol.lower() not in _PROTOCOLS:
        raise DockerfileError(f"invalid port: {quote(text)}: invalid proto: {protocol}")
    if address:
        _check_address(address)
    first, last = _range(ports, "containerPort")
    if host:
        low, high = _range(host, "hostPort")
        if last != first and high - low != last - first:
            raise DockerfileError(f"invalid ranges specified for container and host Ports: {ports} and {host}")
    names = tuple(f"{port}/{protocol.lower()}" for port in range(first, last + 1))
    return ExposedPorts(names, bool(address or host), protocol != protocol.lower())


def port_key(port: str) -> tuple[int, str]:
    """Sort key: by number, then protocol."""
    number, _, protocol = port.partition("/")
    return (int(number) if number.isascii() and number.isdigit() else -1, protocol)


def _range(text: str, what: str) -> tuple[int, int]:
    low, dash, high = text.partition("-")
    if not _NUMBER.fullmatch(low) or (dash and not _NUMBER.fullmatch(high)):
        raise DockerfileError(f"invalid {what}: {text}")
    first = int(low)
    last = int(high) if dash else first
    if not first <= last <= _MAX_PORT:
        raise DockerfileError(f"invalid {what}: {text}", hint=f"ports are numbers up to {_MAX_PORT}")
    return first, last


def _check_address(text: str) -> None:
    try:
        ipaddress.ip_address(text[1:-1] if text.startswith("[") and text.endswith("]") else text)
    except ValueError:
        raise DockerfileError(f"invalid IP address: {text}") from None
