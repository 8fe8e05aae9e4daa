"""A real registry on a free port of this machine, for tests: the server's own code in a thread."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager

import uvloop

from lamina.registry.access import AccessPolicy
from lamina.registry.config import RegistryConfig
from lamina.registry.server import listen, serving
from lamina.registry.service import open_registry


@contextmanager
def running_registry(
    root: str,
    config: RegistryConfig | None = None,
    *,
    policy: AccessPolicy | None = None,
    clock: Callable[[], float] = time.time,
) -> Iterator[str]:
    """Serve the registry in the directory `root`; yields "127.0.0.1:PORT". Its data stays for the next server."""
    registry = open_registry(str(root), config, clock=clock)
    listener = listen("127.0.0.1", 0)
    loop = uvloop.new_event_loop()
    stop, started = asyncio.Event(), Future[None]()

    async def main() -> None:
        try:
            async with serving(registry, listener, policy=policy):
                started.set_result(None)
                await stop.wait()
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    thread = threading.Thread(target=loop.run_until_complete, args=(main(),), name="test-registry")
    thread.start()
    try:
        started.result()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
        listener.close()
        registry.close()
