"""Debian's docker-registry on a free port of this machine: the third-party registry that tests and clients talk to."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from lamina.testing.children import dying_with_us
from lamina.testing.machine import free_port

#: The one account of a guarded registry.
USER: Final = "me"
PASSWORD: Final = "secret"  # noqa: S105 - of a registry that lives for one test
#: bcrypt of it, cost 5: the only kind of hash that docker-registry reads.
_HTPASSWD: Final = f"{USER}:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n"
_ATTEMPTS: Final = 5


class RegistryMissing(Exception):
    """The program is not installed; the text says so."""


@contextmanager
def docker_registry(folder: Path, *, guarded: bool = False) -> Iterator[str]:
    """Serve an empty registry with its data in `folder`; yields "127.0.0.1:PORT".

    Args:
        folder: exists; what is served stays there.
        guarded: ask for a password (Basic), `USER` and `PASSWORD`.

    Raises:
        RegistryMissing: docker-registry is not installed.
    """
    if shutil.which("docker-registry") is None:
        raise RegistryMissing("docker-registry is not installed")
    for attempt in range(1, _ATTEMPTS + 1):
        address = f"127.0.0.1:{free_port()}"
        process = _start(folder, address, guarded=guarded)
        try:
            if _listens(process, address):
                yield address
                return
        finally:
            process.terminate()
            process.wait()
        # Another program may have taken the port between the question and the start.
        assert attempt < _ATTEMPTS, f"docker-registry does not start: {(folder / 'log').read_text()}"


def _start(folder: Path, address: str, *, guarded: bool) -> subprocess.Popen[bytes]:
    config = (
        "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder}/data}}, delete: {{enabled: true}}}}\n"
        f"http: {{addr: '{address}'}}\n"
    )
    if guarded:
        (folder / "htpasswd").write_text(_HTPASSWD)
        config += f"auth: {{htpasswd: {{realm: test, path: {folder}/htpasswd}}}}\n"
    (folder / "config.yml").write_text(config)
    with open(folder / "log", "wb") as log:
        command = dying_with_us(["docker-registry", "serve", str(folder / "config.yml")])
        return subprocess.Popen(command, stdout=log, stderr=log)


def _listens(process: subprocess.Popen[bytes], address: str) -> bool:
    """Wait until it accepts connections (True) or has died (False)."""
    host, port = address.split(":")
    while process.poll() is None:
        with socket.socket() as caller:
            if caller.connect_ex((host, int(port))) == 0:
                return True
    return False
