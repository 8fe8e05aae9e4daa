"""`lamina serve registry` as a user runs it (S46)."""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lamina.testing.registry_client import Client, digest_of, manifest_of


@contextmanager
def serving(tmp_path: Path, *arguments: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    program = "import sys; from lamina.cli.main import entry; sys.argv[0] = 'lamina'; entry()"
    command = [sys.executable, "-c", program, "--root", str(tmp_path / "root"), "serve", "registry"]
    with subprocess.Popen(
        [*command, "--addr", "127.0.0.1:0", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("Listening on "), process.stderr.read() if process.stderr else ""
            yield line.removeprefix("Listening on ").strip(), process
        finally:
            process.kill()


def test_it_serves_until_sigterm(tmp_path: Path) -> None:
    with serving(tmp_path, "--workers", "2", "--access-log") as (address, process):
        Client(address).push_image("a", "v1")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert process.stderr is not None
        assert "PUT /v2/a/manifests/v1 201" in process.stderr.read()
    assert (tmp_path / "root" / "registry" / "blobs").is_dir()
    with serving(tmp_path, "--no-delete", "--upload-ttl", "1h", "--drain-timeout", "5s") as (address, _):
        client = Client(address)
        assert client.get("/v2/a/tags/list").json()["tags"] == ["v1"]
        assert client.request("DELETE", "/v2/a/manifests/v1").codes == ["UNSUPPORTED"]  # R12


def test_limits_are_flags(tmp_path: Path) -> None:
    storage = str(tmp_path / "elsewhere")
    with serving(tmp_path, "--storage", storage, "--max-blob-size", "1k", "--strict-indexes") as (address, _):
        client = Client(address)
        assert client.request("PATCH", client.begin("a"), b"x" * 2000).status == 413
        index = b'{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":1,'
        index += b'"digest":"sha256:' + b"0" * 64 + b'"}]}'
        kind = "application/vnd.oci.image.index.v1+json"
        assert client.push_manifest("a", "v1", index, kind).codes == ["MANIFEST_BLOB_UNKNOWN"]
        assert client.push_manifest("a", "v1", manifest_of(b"no", b"where")).codes == ["MANIFEST_BLOB_UNKNOWN"]
    assert os.path.isfile(f"{storage}/registry.db")
    with serving(tmp_path, "--storage", storage, "--sparse-images") as (address, _):
        assert Client(address).push_manifest("a", "v1", manifest_of(b"no", b"where")).status == 201


def test_https(tmp_path: Path) -> None:
    made = subprocess.run(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=127.0.0.1"
        " -addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out cert.pem",
        shell=True,
        cwd=tmp_path,
        capture_output=True,
    )
    if made.returncode:
        pytest.skip("no openssl program")
    files = ("--tls-cert", str(tmp_path / "cert.pem"), "--tls-key", str(tmp_path / "key.pem"))
    data = os.urandom(3_000_000)
    with serving(tmp_path, *files) as (address, _):
        trust = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))

        def call(method: str, path: str, body: bytes | None = None) -> Any:
            request = urllib.request.Request(f"https://{address}{path}", data=body, method=method)
            return urllib.request.urlopen(request, context=trust, timeout=30)

        with call("POST", f"/v2/a/blobs/uploads/?digest={digest_of(data)}", data) as pushed:
            assert pushed.status == 201
        with call("GET", f"/v2/a/blobs/{digest_of(data)}") as pulled:
            assert pulled.read() == data


def test_a_lost_database_is_refused_with_a_way_out(lamina: Callable[..., Any], tmp_path: Path) -> None:
    # F5: starting with an empty one in silence would lose every name
    with serving(tmp_path) as (address, _):
        Client(address).push_image("a", "v1")
    (tmp_path / "root" / "registry" / "registry.db").unlink()
    done = lamina("--root", str(tmp_path / "root"), "serve", "registry", "--addr", "127.0.0.1:0")
    assert done.status == 1
    assert "registry.db is missing, but there are blobs in " in done.err
    assert "--new-database" in done.err
    with serving(tmp_path, "--new-database") as (address, _):
        Client(address).push_image("a", "v1")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--addr", "nonsense"), "invalid address 'nonsense': want HOST:PORT"),
        (("--addr", "127.0.0.1:99999"), "invalid address '127.0.0.1:99999': want HOST:PORT"),
        (("--addr", "192.0.2.1:0"), "cannot serve on 192.0.2.1:0: Cannot assign requested address"),
        (("--tls-cert", "x"), "--tls-cert and --tls-key go together"),
        (("--tls-cert", "x", "--tls-key", "y"), "cannot read the certificate x"),
    ],
)
def test_what_cannot_be_served_is_one_clear_line(
    lamina: Callable[..., Any], arguments: tuple[str, ...], message: str
) -> None:
    done = lamina("serve", "registry", *arguments)
    assert done.status == 1
    assert message in done.err
    assert "Traceback" not in done.err
