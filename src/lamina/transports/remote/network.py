"""The seam between the client and the wire: names to addresses, addresses to sockets."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Protocol


class Network(Protocol):
    """How to reach hosts. Tests give names and addresses of their own."""

    def resolve(self, host: str, port: int) -> Sequence[str]:
        """The addresses of a host, best first.

        Raises:
            OSError: the name is unknown.
        """
        ...

    def connect(self, address: str, port: int, timeout: float) -> socket.socket:
        """A connected TCP socket.

        Raises:
            OSError: refused, unreachable, or `timeout` seconds passed.
        """
        ...


class RealNetwork:
    """The machine's resolver and stack."""

    def resolve(self, host: str, port: int) -> Sequence[str]:
        """The addresses of a host, in the resolver's order."""
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(str(entry[4][0]) for entry in found))

    def connect(self, address: str, port: int, timeout: float) -> socket.socket:
        """A connected TCP socket without Nagle's delay."""
        sock = socket.create_connection((address, port), timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock
