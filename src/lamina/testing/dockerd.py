"""A dockerd for tests, in private places: it leaves no mount, process, bridge, firewall rule or cgroup behind."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lamina.testing.children import dying_with_us

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
STARTING = 60.0  # seconds: first starts write databases
#: What the daemon would share with the machine lies on file systems of its own, which end with its mount namespace.
_PRIVATE = 'for one in /etc/docker /run; do [ -d "$one" ] && mount -t tmpfs none "$one"; done; exec "$@"'


class DockerMissing(Exception):
    """Docker cannot run here; the message says why."""


class Docker:
    """A running dockerd, seen through one docker client.

    Attributes:
        client: path of the client.
        host: `unix://` address of the daemon.
    """

    def __init__(self, client: str, host: str, home: str) -> None:
        self.client, self.host, self._home = client, host, home

    def __call__(
        self, *arguments: str, stdin: bytes = b"", env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """Run the client; neither the user's configuration nor the environment has a say."""
        clean = {"PATH": SYSTEM_PATH, "HOME": self._home, "DOCKER_HOST": self.host, **(env or {})}
        return subprocess.run(
            [self.client, *arguments], input=stdin, capture_output=True, env=clean, timeout=120, check=False
        )

    def ok(self, *arguments: str, stdin: bytes = b"", env: dict[str, str] | None = None) -> str:
        """Run a command that has to succeed; returns its standard output, stripped."""
        done = self(*arguments, stdin=stdin, env=env)
        assert done.returncode == 0, f"docker {arguments}: {done.returncode}\n{done.stderr.decode()}"
        return done.stdout.decode().strip()

    def through(self, client: str) -> Docker:
        """The same daemon through another client."""
        return Docker(client, self.host, self._home)


def clients() -> list[str]:
    """Every docker client of the machine, one of the daemon's release first.

    A newer client has no BuildKit without its plugin, so that builds want the daemon's own.
    """
    found = [path for folder in SYSTEM_PATH.split(":") if os.access(path := f"{folder}/docker", os.X_OK)]
    unique = {os.path.realpath(path): path for path in found}
    daemon = shutil.which("dockerd", path=SYSTEM_PATH)
    wanted = _release(daemon) if daemon else ""
    return sorted(unique.values(), key=lambda path: _release(path) != wanted)


#: The release whose words and templates lamina speaks.
REFERENCE = "28."


def reference_client() -> str:
    """The path of a docker client of the release that lamina speaks like.

    Raises:
        DockerMissing: there is none; Debian's own may be an older one, which words things otherwise.
    """
    found = clients()
    for path in found:
        if _release(path).startswith(REFERENCE):
            return path
    have = " and ".join(_release(path) for path in found)
    raise DockerMissing(f"the oracle is a docker {REFERENCE}x client, here is {have or 'none'}")


def why_no_docker() -> str:
    """Why a private dockerd cannot run here, or "" when it can."""
    if os.geteuid() != 0:
        return "a private dockerd needs root"
    for program in ("dockerd", "unshare", "mount"):
        if shutil.which(program, path=SYSTEM_PATH) is None:
            return f"{program} is not installed"
    return "" if clients() else "the docker client is not installed"


@contextmanager
def private_dockerd(folder: str) -> Iterator[Docker]:
    """Run dockerd with everything it owns in `folder`, in mount and pid namespaces of its own.

    It makes no bridge and touches neither firewall nor forwarding: its containers have the network `none` or `host`,
    and registries on the loopback are reachable for it.

    Args:
        folder: an empty directory with a short path (its socket lies there); removed at the end.

    Raises:
        DockerMissing: it cannot run here, or did not start; the message has the end of its log.
    """
    if reason := why_no_docker():
        raise DockerMissing(reason)
    os.makedirs(folder, exist_ok=True)
    socket, cgroup = f"{folder}/s", f"lamina-peer-{os.getpid()}"
    with open(f"{folder}/daemon.json", "w", encoding="ascii") as settings:
        settings.write("{}")  # not the machine's own
    daemon = [
        *("dockerd", "--config-file", f"{folder}/daemon.json", "--host", f"unix://{socket}"),
        *("--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec", "--pidfile", f"{folder}/pid"),
        *("--bridge", "none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false"),
        *("--cgroup-parent", f"/{cgroup}", "--log-level", "error"),
    ]
    alone = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"]
    docker = Docker(clients()[0], f"unix://{socket}", folder)
    with open(f"{folder}/log", "wb") as log:
        process = subprocess.Popen(
            dying_with_us([*alone, "sh", "-c", _PRIVATE, "sh", *daemon]),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={"PATH": SYSTEM_PATH, "HOME": folder, **_proxies()},
        )
    try:
        if not _until(lambda: os.path.exists(socket) and docker("version").returncode == 0, process):
            with open(f"{folder}/log", encoding="utf-8", errors="replace") as text:
                raise DockerMissing(f"dockerd did not start: {text.read()[-800:]}")
        yield docker
    finally:
        _stop(process)
        for left in glob.glob(f"/sys/fs/cgroup/{cgroup}") + glob.glob(f"/sys/fs/cgroup/*/{cgroup}"):
            for inner, _folders, _files in os.walk(left, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(inner)
        shutil.rmtree(folder, ignore_errors=True)


def _until(ready: Callable[[], bool], process: subprocess.Popen[bytes]) -> bool:
    """Whether it became ready before it ended or the time was over."""
    deadline = time.monotonic() + STARTING
    while time.monotonic() < deadline and process.poll() is None:
        if ready():
            return True
        time.sleep(0.02)  # dockerd tells nobody when it is ready
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask the daemon to end; at the latest the end of its pid namespace takes everything it started along."""
    with contextlib.suppress(OSError), open(f"/proc/{process.pid}/task/{process.pid}/children") as children:
        for child in children.read().split():
            os.kill(int(child), signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _proxies() -> dict[str, str]:
    """No proxy stands between the daemon and the loopback."""
    return {"NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"}


def _release(program: str) -> str:
    """`20.10` of `Docker version 20.10.24+dfsg1, build ...`."""
    text = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    return ".".join(text.partition("version ")[2].split(".")[:2])
