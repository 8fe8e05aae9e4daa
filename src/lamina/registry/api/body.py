"""Request bodies: bounded, never waited for without end, handed to threads in large pieces (threats 14, 46, 54)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Final, Protocol

from aiohttp import web

from lamina.errors import LaminaError
from lamina.registry.api.call import Call
from lamina.registry.config import MIB, RegistryConfig
from lamina.registry.errors import SizeMismatch, SlowClient

#: Bytes that are hashed and written in one go, and that one request may hold in memory twice.
PIECE: Final = 2 * MIB
#: `tcpi_state` of linux/tcp.h for a connection that both sides keep open.
_ESTABLISHED: Final = 1


class Gone(ConnectionError):
    """The client went away in the middle of its body."""


def hung_up(request: web.BaseRequest) -> bool:
    """Whether the client has closed its side already, so that nobody waits for the answer.

    The kernel is asked: the event loop learns of it only after it has read what came before.
    """
    transport = request.transport
    if transport is None or transport.is_closing():
        return True
    connection = transport.get_extra_info("socket")
    if connection is None or connection.family not in {socket.AF_INET, socket.AF_INET6}:
        return False
    state: int = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
    return state != _ESTABLISHED


class RateGuard:
    """Notices a peer that moves bytes, but too few of them to be worth a connection (threat 54)."""

    def __init__(self, config: RegistryConfig, now: float) -> None:
        self._config, self._start, self._bytes = config, now, 0

    def moved(self, count: int, now: float) -> None:
        """Note progress at a time of the loop's clock. Raises SlowClient."""
        self._bytes += count
        elapsed = now - self._start
        if elapsed >= self._config.rate_window:
            if self._bytes < self._config.min_rate * elapsed:
                raise SlowClient(f"less than {self._config.min_rate} bytes/s")
            self._start, self._bytes = now, 0


async def read_all(
    request: web.BaseRequest, config: RegistryConfig, limit: int, too_large: Callable[[int], LaminaError]
) -> bytes:
    """A whole body of at most `limit` bytes.

    Raises:
        SlowClient: it came too slowly.
        LaminaError: what `too_large` makes of the limit, as soon as it is passed or announced.
    """
    if (request.content_length or 0) > limit:
        raise too_large(limit)
    parts, size = [], 0
    async for part in chunks(request, config):
        parts.append(part)
        size += len(part)
        if size > limit:
            raise too_large(limit)
    return b"".join(parts)


async def chunks(request: web.BaseRequest, config: RegistryConfig) -> AsyncIterator[bytes]:
    """The body as it arrives.

    Raises:
        SlowClient: nothing came for `body_idle_timeout`, or less than `min_rate` over `rate_window` (threat 54).
        Gone: the connection broke.
        SizeMismatch: the body is shorter than its Content-Length.
    """
    if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    content, loop = request.content, asyncio.get_running_loop()
    guard, seen = RateGuard(config, loop.time()), 0
    while True:
        try:
            async with asyncio.timeout(config.body_idle_timeout):
                part = await content.readany()
        except TimeoutError:
            raise SlowClient(f"no data for {config.body_idle_timeout:g} s") from None
        except (OSError, web.RequestPayloadError) as error:
            raise Gone(str(error)) from error
        if not part:
            break
        seen += len(part)
        yield part
        guard.moved(len(part), loop.time())
    declared = request.content_length
    if declared is not None and seen != declared:
        raise SizeMismatch(f"Content-Length says {declared} bytes, {seen} came")


class Appender(Protocol):
    """Where a body's bytes go; called on a thread."""

    def append(self, pieces: Iterable[bytes]) -> None:
        """Take bytes."""


async def pour(call: Call, sink: Appender) -> None:
    """Hash and write a body on a thread while the next piece arrives.

    What had arrived before a failure is written too, so that the client can resume from there (F14).
    """
    loop = asyncio.get_running_loop()
    batch: list[bytes] = []
    size = 0
    busy: asyncio.Future[None] | None = None

    def start() -> asyncio.Future[None]:
        return loop.run_in_executor(call.threads.bulk, sink.append, batch)

    try:
        async for part in chunks(call.request, call.registry.config):
            batch.append(part)
            size += len(part)
            if size < PIECE:
                continue
            if busy is not None:
                await busy
            busy, batch, size = start(), [], 0
    finally:
        if busy is not None:
            await busy
        if batch:
            await start()
