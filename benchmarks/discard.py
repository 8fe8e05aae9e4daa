"""An HTTP reader that costs next to nothing, so that what is measured is the server.

curl copies what it reads and was the slower side of a blob GET on loopback: both servers looked alike. MSG_TRUNC makes
the kernel throw the bytes away instead of copying them out.
"""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor

_PIECE = 1 << 20


def rate(address: str, path: str, *, connections: int, requests: int) -> float:
    """Body bytes per second over so many keep-alive connections, each with its share of the requests."""
    share = requests // connections

    def work(_number: int) -> int:
        host, port = address.split(":")
        with socket.create_connection((host, int(port)), timeout=60) as connection:
            room = bytearray(_PIECE)  # asked for, never filled
            return sum(_get(connection, path, room) for _ in range(share))

    with ThreadPoolExecutor(connections) as pool:
        start = time.perf_counter()
        received = sum(pool.map(work, range(connections)))
        return received / (time.perf_counter() - start)


def _get(connection: socket.socket, path: str, room: bytearray) -> int:
    """One request; the length of its body, which is gone."""
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
    received = b""
    while b"\r\n\r\n" not in received:
        part = connection.recv(4096)
        if not part:
            raise ConnectionError("the server closed the connection")
        received += part
    head, _, body = received.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    if b" 200 " not in lines[0]:
        raise ConnectionError(lines[0].decode())
    length = next(int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:"))
    left = length - len(body)
    while left:
        count = connection.recv_into(room, min(left, _PIECE), socket.MSG_TRUNC)
        if not count:
            raise ConnectionError("the body ended early")
        left -= count
    return length
