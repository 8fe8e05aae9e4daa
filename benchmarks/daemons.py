"""The two servers that the comparison needs: a third-party registry, and dockerd in private folders."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from typing import IO


class NotHere(Exception):
    """A program that a tool needs is not installed; the message names it."""


def program(name: str) -> str:
    """The path of a program, system folders included.

    Raises:
        NotHere: not installed.
    """
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if path is None:
        raise NotHere(f"{name} is not installed")
    return path


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A child process with a log file, stopped by TERM and then KILL."""

    def __init__(self, argv: list[str], log: str, env: dict[str, str] | None = None) -> None:
        self._log: IO[bytes] = open(log, "wb")  # noqa: SIM115
        self.log = log
        self.process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, env=env, start_new_session=True
        )

    def wait_for(self, ready: object, what: str, seconds: float = 30) -> None:
        """Wait until `ready()` holds.

        Raises:
            RuntimeError: the process ended, or the time is over; the end of its log is in the message.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.process.poll() is None:
            if ready():  # type: ignore[operator]
                return
            time.sleep(0.05)
        with open(self.log, errors="replace") as log:
            tail = " | ".join(log.read().strip().splitlines()[-5:])
        self.stop()
        raise RuntimeError(f"{what} did not come up: {tail[-800:]}")

    def stop(self) -> None:
        """End the process and wait for it."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._log.close()


class Registry:
    """Debian's docker-registry on the loopback with an empty folder of its own."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        os.makedirs(folder)
        self.host = f"127.0.0.1:{free_port()}"
        config = os.path.join(folder, "config.yml")
        with open(config, "w") as file:
            file.write(
                "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
                f"storage: {{filesystem: {{rootdirectory: {folder}/data}}, delete: {{enabled: true}},"
                " cache: {blobdescriptor: inmemory}}\n"
                f"http: {{addr: '{self.host}'}}\n"
            )
        self._server = Server([program("docker-registry"), "serve", config], os.path.join(folder, "log"))
        self._server.wait_for(self._answers, "docker-registry")

    def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            return bool(urllib.request.urlopen(f"http://{self.host}/v2/", timeout=2).status == 200)
        return False

    def bytes_held(self) -> int:
        """What lies in its blob folder."""
        found = subprocess.run(["du", "-sb", f"{self.folder}/data"], capture_output=True, text=True, check=False)
        return int(found.stdout.split()[0]) if found.stdout else 0

    def close(self) -> None:
        """Stop it and remove its folder."""
        self._server.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


class Dockerd:
    """A dockerd of our own: private socket, data, bridge and cgroup."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        os.makedirs(folder)
        self.address = f"unix://{folder}/docker.sock"
        argv = [
            program("dockerd"),
            *("--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec", "--pidfile", f"{folder}/pid"),
            *("--host", self.address, "--bip", "172.31.251.1/24", "--storage-driver", "overlay2"),
            *("--cgroup-parent", "/lamina-bench", "--log-level", "error"),
        ]
        self._server = Server(argv, f"{folder}/log")
        self._server.wait_for(lambda: os.path.exists(f"{folder}/docker.sock") and self._answers(), "dockerd", 60)

    def _answers(self) -> bool:
        client = subprocess.run(
            [docker_client(), "--host", self.address, "version"], capture_output=True, timeout=20, check=False
        )
        return client.returncode == 0

    @property
    def pids(self) -> list[int]:
        """dockerd and its containerd."""
        found = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(self._server.process.pid)], capture_output=True, text=True, check=False
        )
        return [self._server.process.pid, *(int(pid) for pid in found.stdout.split())]

    def close(self) -> None:
        """Stop it, unmount what is left and remove its folder."""
        self._server.stop()
        remove_tree(self.folder)


def docker_client() -> str:
    """The docker client of the daemon's own release: a newer one has no BuildKit without its plugin."""
    wanted = _release(program("dockerd"))
    folders = [*os.environ.get("PATH", "").split(":"), "/usr/bin"]
    clients = [path for folder in folders if os.access(path := os.path.join(folder, "docker"), os.X_OK)]
    for path in clients:
        if _release(path) == wanted:
            return path
    if not clients:
        raise NotHere("docker is not installed")
    return clients[0]


def _release(path: str) -> str:
    """`20.10` of `Docker version 20.10.24+dfsg1, build ...`."""
    text = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
    return ".".join(text.partition("version ")[2].split(".")[:2])


def remove_tree(folder: str) -> None:
    """Unmount everything below a folder, deepest first, and remove it."""
    with open("/proc/self/mountinfo") as table:
        points = [line.split()[4] for line in table]
    for point in sorted((point for point in points if point.startswith(folder + "/")), reverse=True):
        subprocess.run(["umount", "--lazy", point], check=False)
    shutil.rmtree(folder, ignore_errors=True)
