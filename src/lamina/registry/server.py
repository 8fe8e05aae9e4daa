"""The registry as a process: sockets, event loop, sweep, graceful end (F22)."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

from lamina.registry.access import AccessPolicy, Everybody
from lamina.registry.api.call import Threads
from lamina.registry.api.dispatch import Dispatcher
from lamina.registry.config import MIB, RegistryConfig
from lamina.registry.scrub import Scrubber
from lamina.registry.service import Registry, open_registry
from lamina.registry.workers import supervise

logger = logging.getLogger("lamina.registry")
_BACKLOG: Final = 1024
_LINGER: Final = 10.0
_ABORT: Final = 0.5


@asynccontextmanager
async def serving(
    registry: Registry,
    listener: socket.socket,
    *,
    policy: AccessPolicy | None = None,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[None]:
    """Serve a registry on a listening socket while the context lasts; leaving it drains (F22).

    Running requests get `drain_timeout` seconds to end; new connections are refused at once. What an upload
    had received when it was cut stays, and is resumed from a later server.
    """
    config = registry.config
    with (
        ThreadPoolExecutor(config.threads, "registry-quick") as quick,
        ThreadPoolExecutor(config.threads, "registry-bulk") as bulk,
        ThreadPoolExecutor(config.threads, "registry-send") as send,
    ):
        threads = Threads(quick, bulk, send)
        dispatcher = Dispatcher(registry, policy or Everybody(), threads)
        server = web.Server(
            dispatcher,
            access_log=None,
            auto_decompress=False,
            keepalive_timeout=config.keepalive_timeout,
            # How long the rest of a refused body is read, so that the client sees the answer.
            lingering_time=min(_LINGER, config.body_idle_timeout),
            read_bufsize=MIB,
        )
        runner = web.ServerRunner(server, shutdown_timeout=_ABORT)
        await runner.setup()
        scrubber = Scrubber(registry.content, pause=config.scrub_pause)
        chores = [
            asyncio.create_task(_sweep(registry, quick)),
            asyncio.create_task(_scrub(scrubber, config.scrub_interval)),
        ]
        try:
            site = web.SockSite(runner, listener, ssl_context=tls, backlog=_BACKLOG)
            await site.start()
            try:
                yield
            finally:
                await site.stop()
                await dispatcher.drain(lambda: server.connections, config.drain_timeout)
        finally:
            scrubber.stop()
            for chore in chores:
                chore.cancel()
            await asyncio.gather(*chores, return_exceptions=True)
            await runner.cleanup()


async def _sweep(registry: Registry, executor: ThreadPoolExecutor) -> None:
    """Remove abandoned uploads, now and then (F15)."""
    while True:
        try:
            removed = await asyncio.get_running_loop().run_in_executor(executor, registry.uploads.sweep)
            if removed:
                logger.info("removed %d abandoned uploads", removed)
        except Exception:
            logger.exception("the sweep of abandoned uploads failed")
        await asyncio.sleep(registry.config.sweep_interval)


async def _scrub(scrubber: Scrubber, interval: float) -> None:
    """Read everything that is stored, now and then (F20)."""
    while interval > 0:
        await asyncio.sleep(interval)
        try:
            report = await asyncio.to_thread(scrubber.run)
            logger.info("scrubbed %d blobs, %d damaged", report.blobs, len(report.damaged))
        except Exception:
            logger.exception("the scrub failed")


def listen(host: str, port: int, *, stall: float = 60.0) -> socket.socket:
    """A listening TCP socket, whose connections break when the peer takes nothing for `stall` seconds.

    Raises:
        OSError: the address is taken or not of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Accepted sockets inherit it: a peer that reads nothing of an answer is dropped by the kernel (threat 54).
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(stall * 1000))
        listener.bind((host, port))
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def run(registry: Registry, listener: socket.socket, *, tls: ssl.SSLContext | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then drain."""
    import uvloop

    async def main() -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        async with serving(registry, listener, tls=tls):
            await stop.wait()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def serve(
    host: str,
    port: int,
    root: str,
    *,
    config: RegistryConfig | None = None,
    database: str = "",
    new_database: bool = False,
    tls: ssl.SSLContext | None = None,
    workers: int = 1,
    ready: Callable[[str, int], None] | None = None,
) -> None:
    """Open the registry in `root` and serve it until SIGTERM or SIGINT.

    Args:
        host: an address of this machine.
        port: 0 takes a free one.
        root: the data directory.
        config: limits and switches.
        database: an SQLAlchemy URL for the metadata, when it is not to live in `root`.
        new_database: start with an empty database where blobs tell that there was another.
        tls: serve HTTPS.
        workers: server processes that share the port and the data.
        ready: told the address once connections are accepted.

    Raises:
        OSError: the address is taken or not of this machine.
        NewerSchema: a newer lamina wrote the database.
        LostMetadata: there are blobs and no database that knows their names (F5).
    """
    config = config or RegistryConfig()
    with listen(host, port, stall=config.body_idle_timeout) as listener:
        # Made and checked before any worker starts, so that what is wrong is said once.
        open_registry(root, config, database=database, new_database=new_database).close()
        address: tuple[str, int] = listener.getsockname()[:2]

        def work() -> None:
            registry = open_registry(root, config, database=database)
            try:
                run(registry, listener, tls=tls)
            finally:
                registry.close()

        if ready:
            ready(*address)
        if workers > 1:
            supervise(work, workers, listener.close)
        else:
            work()
