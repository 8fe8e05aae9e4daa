"""A real registry on a free port of this machine, for tests: the server's own code in a thread."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager

import uvloop

from lamina.registry.access import AccessPolicy
from lamina.registry.config import RegistryConfig
from lamina.registry.server import listen, serving
from lamina.registry.service import Registry, open_registry
from lamina.testing.children import dying_with_us


@contextmanager
def running_registry(
    root: str,
    config: RegistryConfig | None = None,
    *,
    policy: AccessPolicy | None = None,
    clock: Callable[[], float] = time.time,
) -> Iterator[str]:
    """Serve the registry in the directory `root`; yields "127.0.0.1:PORT". Its data stays for the next server."""
    with running(open_registry(str(root), config, clock=clock), policy=policy) as address:
        yield address


@contextmanager
def running(registry: Registry, *, policy: AccessPolicy | None = None) -> Iterator[str]:
    """Serve an open registry, and close it at the end; yields "127.0.0.1:PORT"."""
    listener = listen("127.0.0.1", 0, stall=registry.config.body_idle_timeout)
    started = Future[asyncio.AbstractEventLoop]()
    stop = asyncio.Event()

    async def main() -> None:
        try:
            async with serving(registry, listener, policy=policy):
                started.set_result(asyncio.get_running_loop())
                await stop.wait()
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    def work() -> None:
        # Not `run_until_complete`: what is cut at the end gets its turn to notice.
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main())

    thread = threading.Thread(target=work, name="test-registry")
    thread.start()
    try:
        loop = started.result()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            loop.call_soon_threadsafe(stop.set)
    finally:
        thread.join()
        listener.close()
        registry.close()


@contextmanager
def registry_process(root: str, *arguments: str, umask: int = -1) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Serve `root` in a process of its own; yields its address and the process, which is killed at the end."""
    command = [sys.executable, "-m", "lamina.registry", "--addr", "127.0.0.1:0", "--root", str(root), *arguments]
    with subprocess.Popen(dying_with_us(command), stdout=subprocess.PIPE, text=True, umask=umask) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("listening on "), line
            yield line.removeprefix("listening on ").strip(), process
        finally:
            process.kill()
