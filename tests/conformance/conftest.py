"""The real peers: one private dockerd, podman, skopeo and docker-registry, and lamina as users run it."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lamina.testing import leftovers
from lamina.testing.docker_registry import RegistryMissing
from lamina.testing.docker_registry import docker_registry as serve_docker_registry
from lamina.testing.dockerd import SYSTEM_PATH, Docker, DockerMissing, private_dockerd
from lamina.testing.fake_runtime import why_no_containers
from lamina.testing.registry import running_registry

BUSYBOX = "/bin/busybox"
APPLETS = ("sh", "echo", "cat", "ls", "id", "env", "touch", "mkdir", "rm", "sleep", "test")
LAMINA = "import sys; sys.argv[0] = 'lamina'; from lamina.cli.main import entry; entry()"


class Lamina:
    """`lamina --root ROOT` in processes of its own."""

    def __init__(self, root: Path, home: Path, *, prefix: tuple[str, ...] = ()) -> None:
        self.root, self.home, self._prefix = root, home, prefix

    def command(self, *arguments: str) -> list[str]:
        return [*self._prefix, sys.executable, "-c", LAMINA, "--root", str(self.root), *arguments]

    @property
    def env(self) -> dict[str, str]:
        return {"PATH": SYSTEM_PATH, "HOME": str(self.home)}

    def __call__(self, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            self.command(*arguments), input=stdin, capture_output=True, env=self.env, cwd=self.home, timeout=120
        )

    def ok(self, *arguments: str, stdin: bytes = b"") -> str:
        done = self(*arguments, stdin=stdin)
        assert done.returncode == 0, f"lamina {arguments}: {done.returncode}\n{done.stderr.decode()}"
        return done.stdout.decode().strip()

    def image(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.ok("image", "inspect", name))[0]
        return found


class Tool:
    """A peer whose common flags are fixed."""

    def __init__(self, argv: list[str], env: dict[str, str]) -> None:
        self._argv, self._env = argv, env

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run([*self._argv, *arguments], capture_output=True, env=self._env, timeout=120)

    def ok(self, *arguments: str) -> str:
        done = self(*arguments)
        assert done.returncode == 0, f"{self._argv[0]} {arguments}: {done.returncode}\n{done.stderr.decode()}"
        return done.stdout.decode().strip()


@pytest.fixture(scope="session")
def base_tar() -> bytes:
    """A root file system: busybox-static and a writable /tmp."""
    if not os.path.exists(BUSYBOX):
        pytest.skip("busybox-static is not installed")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:

        def add(name: str, kind: bytes, mode: int, *, data: bytes = b"", target: str = "") -> None:
            member = tarfile.TarInfo(name)
            member.type, member.mode, member.size, member.linkname = kind, mode, len(data), target
            tar.addfile(member, io.BytesIO(data))

        for folder in ("bin", "etc"):
            add(folder, tarfile.DIRTYPE, 0o755)
        add("tmp", tarfile.DIRTYPE, 0o1777)
        add("bin/busybox", tarfile.REGTYPE, 0o755, data=Path(BUSYBOX).read_bytes())
        for applet in APPLETS:
            add(f"bin/{applet}", tarfile.SYMTYPE, 0o777, target="busybox")
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def _stores_are_taken_down(tmp_path: Path) -> Iterator[None]:
    """A bridge outlives its containers, as docker's does; with its store it has to go. Nothing else may be left."""
    yield
    left = leftovers.left_by(str(tmp_path))
    leftovers.sweep(str(tmp_path), left)
    assert [line for line in left if not line.startswith("bridge ")] == []


def stocked(folder: Path, base: bytes) -> Lamina:
    lamina = Lamina(folder / "root", folder)
    lamina.ok("import", "-c", 'CMD ["sh"]', "-", "peers/base:1", stdin=base)
    return lamina


@pytest.fixture
def lamina(tmp_path: Path, base_tar: bytes) -> Lamina:
    """A store that has `peers/base:1`."""
    return stocked(tmp_path, base_tar)


@pytest.fixture
def empty(tmp_path: Path) -> Lamina:
    """A second store of the same test, with nothing in it."""
    home = tmp_path / "second"
    home.mkdir()
    return Lamina(home / "root", home)


@pytest.fixture(scope="session")
def dockerd() -> Iterator[Docker]:
    folder = tempfile.mkdtemp(prefix="lamina-peer-", dir="/tmp")  # a socket's path is short
    try:
        with private_dockerd(folder) as running:
            yield running
    except DockerMissing as error:
        pytest.skip(str(error))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def docker(dockerd: Docker) -> Iterator[Docker]:
    """docker, emptied after the test."""
    yield dockerd
    for kind, remove in (("container", ["rm", "-f", "-v"]), ("image", ["rmi", "-f"])):
        if found := dockerd.ok(kind, "ls", "-a", "-q").split():
            dockerd(*remove, *sorted(set(found)))
    dockerd.ok("volume", "prune", "-f")


@pytest.fixture
def podman(tmp_path: Path) -> Iterator[Tool]:
    """podman on a storage of its own. Its default limits may be above those of the machine, so `run` keeps these."""
    if shutil.which("podman") is None or os.geteuid() != 0:
        pytest.skip("podman, as root, is not available")
    runroot = tempfile.mkdtemp(prefix="lamina-pod-", dir="/tmp")  # podman takes run roots of 50 characters at most
    argv = ["podman", "--root", f"{tmp_path}/podman", "--runroot", runroot, "--storage-driver", "vfs"]
    argv += ["--cgroup-manager", "cgroupfs", "--log-level", "error"]
    if shutil.which("runc", path=SYSTEM_PATH):
        argv += ["--runtime", "runc"]  # crun 1.8 refuses machines with both versions of cgroups
    tool = Tool(argv, {"PATH": SYSTEM_PATH, "HOME": str(tmp_path), "TMPDIR": str(tmp_path)})
    yield tool
    tool("rm", "-a", "-f")
    shutil.rmtree(runroot, ignore_errors=True)


@pytest.fixture
def podman_run(podman: Tool) -> Callable[..., str]:
    """Run a container with podman and return what it printed."""
    limits = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", "--network", "none")

    def run(*arguments: str) -> str:
        return podman.ok("run", "--rm", *limits, *arguments)

    return run


@pytest.fixture
def skopeo(tmp_path: Path) -> Tool:
    if shutil.which("skopeo") is None:
        pytest.skip("skopeo is not installed")
    policy = tmp_path / "policy.json"
    policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    argv = ["skopeo", "--policy", str(policy), "--tmpdir", str(tmp_path)]
    return Tool(argv, {"PATH": SYSTEM_PATH, "HOME": str(tmp_path)})


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """lamina's registry; tests use repositories of their own."""
    with running_registry(str(tmp_path_factory.mktemp("registry"))) as address:
        yield address


@pytest.fixture(scope="session")
def docker_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Debian's docker-registry, empty, open to everybody."""
    try:
        with serve_docker_registry(tmp_path_factory.mktemp("docker-registry")) as address:
            yield address
    except RegistryMissing as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The same behind htpasswd: the one account is `USER` with `PASSWORD` of `lamina.testing.docker_registry`."""
    try:
        with serve_docker_registry(tmp_path_factory.mktemp("guarded"), guarded=True) as address:
            yield address
    except RegistryMissing as error:
        pytest.skip(str(error))


@pytest.fixture
def repository(request: pytest.FixtureRequest) -> str:
    """A repository that no other test uses."""
    return "r/" + "".join(char if char.isalnum() else "." for char in request.node.name.lower()).strip(".").replace(
        "..", "."
    )


@pytest.fixture(scope="session")
def containers() -> None:
    """Skips where lamina cannot run containers."""
    if reason := why_no_containers():
        pytest.skip(reason)
