"""Real parts to talk to: Debian's docker-registry on a loopback port, skopeo and podman as oracles."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lamina.testing.docker_registry import RegistryMissing
from lamina.testing.docker_registry import docker_registry as serve_docker_registry
from lamina.transports.remote.client import Client
from lamina.transports.remote.settings import ClientSettings, Patience


@pytest.fixture(scope="session")
def docker_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Host and port of an empty docker-registry 2.8."""
    try:
        with serve_docker_registry(tmp_path_factory.mktemp("docker-registry")) as address:
            yield address
    except RegistryMissing as error:
        pytest.skip(str(error))


@pytest.fixture
def client() -> Iterator[Client]:
    """A client that does not wait between tries."""
    with Client(ClientSettings(sleep=lambda _seconds: None, patience=Patience(connect=5, read=10))) as client:
        yield client


@pytest.fixture
def skopeo(tmp_path: Path) -> object:
    """Run skopeo; returns its output."""
    if shutil.which("skopeo") is None:
        pytest.skip("skopeo is not installed")
    policy = tmp_path / "policy.json"
    policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')

    def run(*arguments: str) -> bytes:
        command = ["skopeo", "--policy", str(policy), "--tmpdir", str(tmp_path), *arguments]
        done = subprocess.run(
            command, capture_output=True, check=False, env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    return run


@pytest.fixture
def podman(tmp_path: Path) -> Iterator[object]:
    """Run podman on a storage of its own; returns its output."""
    if shutil.which("podman") is None or os.geteuid() != 0:
        pytest.skip("podman, as root, is not available")
    runroot = tempfile.mkdtemp(prefix="transports-", dir="/tmp")  # podman wants a short path
    root = ["--root", f"{tmp_path}/podman", "--runroot", runroot, "--storage-driver", "vfs"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}

    def run(*arguments: str) -> bytes:
        done = subprocess.run(["podman", *root, *arguments], capture_output=True, check=False, env=environment)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    yield run
    shutil.rmtree(runroot, ignore_errors=True)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ca.crt, and server.crt/server.key good for `*.example`, localhost and 127.0.0.1."""
    folder = tmp_path_factory.mktemp("tls")
    names = "subjectAltName=DNS:registry.example,DNS:*.registry.example,DNS:cdn.example,DNS:localhost,IP:127.0.0.1"
    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    (folder / "ext").write_text(names)
    openssl("req", "-x509", *new, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=test ca", "-days", "30")
    openssl("req", *new, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=server")
    sign = ["-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "30", "-extfile", "ext"]
    openssl("x509", "-req", "-in", "server.csr", "-out", "server.crt", *sign)
    return folder


@pytest.fixture(scope="session")
def tls(certificates: Path) -> ssl.SSLContext:
    """A server's side of TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.crt", certificates / "server.key")
    return context
