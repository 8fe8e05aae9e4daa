"""File to socket without a copy through user space.

uvloop has no sendfile of its own, so the socket is written beside the transport: only while the transport's own buffer
is empty, and never over TLS. A thread sends as long as the client keeps up; for a client that does not, the event loop
waits instead, so that slow readers hold no threads (threat 54).
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
import struct
from typing import BinaryIO, Final

from aiohttp import web

from lamina.registry.api.body import Gone, RateGuard
from lamina.registry.api.call import Call
from lamina.registry.api.wire import stamp
from lamina.registry.config import MIB
from lamina.registry.errors import SlowClient

#: Bytes that one turn on a thread may send at most, and how long it waits for the client, in milliseconds.
_TURN: Final = 64 * MIB
_PATIENCE: Final = 20
_READ: Final = MIB
#: SO_LINGER on, zero seconds: closing sends RST and frees what was not sent.
_RESET: Final = struct.pack("ii", 1, 0)


async def send_file(call: Call, response: web.StreamResponse, file: BinaryIO, offset: int, count: int) -> None:
    """Send the answer's head and `count` bytes of the file from `offset`.

    Raises:
        Gone: the client went away, or stood still for `body_idle_timeout`.
    """
    request = call.request
    stamp(response)
    await response.prepare(request)
    transport = request.transport
    if transport is None:
        raise Gone("connection lost")
    plain: socket.socket | None = transport.get_extra_info("socket")
    if transport.get_extra_info("sslcontext") is not None or plain is None:
        await _copy(call, response, file, offset, count)
    else:
        await _flushed(transport, call.registry.config.body_idle_timeout)
        fd = os.dup(plain.fileno())
        try:
            await _send(call, fd, file.fileno(), offset, count)
        except (OSError, TimeoutError, SlowClient) as error:
            # The length was promised in the head: only a broken connection tells the truth now, and it must not linger.
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            transport.abort()
            raise Gone(str(error)) from error
        finally:
            os.close(fd)
    await response.write_eof()


async def _flushed(transport: asyncio.Transport, patience: float) -> None:
    """Wait until the transport has nothing of its own left to send."""
    async with asyncio.timeout(patience):
        pause = 0.0
        # The transport tells nobody when it is empty; a head of some hundred bytes goes in the first turn.
        while transport.get_write_buffer_size():
            await asyncio.sleep(pause)
            pause = min(pause + 0.001, 0.05)


async def _send(call: Call, out: int, source: int, offset: int, count: int) -> None:
    config, loop = call.registry.config, asyncio.get_running_loop()
    guard = RateGuard(config, loop.time())
    while count:
        sent = await call.send(_turn, out, source, offset, min(count, _TURN))
        offset, count = offset + sent, count - sent
        guard.moved(sent, loop.time())
        if count:
            async with asyncio.timeout(config.body_idle_timeout):
                await _writable(out)


def _turn(out: int, source: int, offset: int, count: int) -> int:
    """Send until done or until the client does not take more; how many bytes went."""
    poll, sent = select.poll(), 0
    poll.register(out, select.POLLOUT)
    while sent < count:
        try:
            went = os.sendfile(out, source, offset + sent, count - sent)
        except BlockingIOError:
            if not poll.poll(_PATIENCE):
                return sent
            continue
        if not went:
            raise OSError("the file is shorter than it was")
        sent += went
    return sent


async def _writable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_writer(fd, wake)
    try:
        await ready
    finally:
        loop.remove_writer(fd)


async def _copy(call: Call, response: web.StreamResponse, file: BinaryIO, offset: int, count: int) -> None:
    """The way through user space, for TLS."""
    while count:
        data = await call.send(os.pread, file.fileno(), min(_READ, count), offset)
        if not data:
            raise Gone("the file is shorter than it was")
        try:
            async with asyncio.timeout(call.registry.config.body_idle_timeout):
                await response.write(data)
        except TimeoutError:
            raise SlowClient("the client does not read") from None
        offset, count = offset + len(data), count - len(data)
