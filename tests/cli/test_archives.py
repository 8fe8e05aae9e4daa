"""`lamina save`, `load` and `import`: archives that docker, podman and skopeo made or read (C03, C05, C11, S40, S41)."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import lzma
import os
import shutil
import stat
import subprocess
import tarfile
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
import zstandard

from lamina.image.copy import copy
from lamina.spec.reference import Reference
from lamina.store.store import Store
from lamina.testing.commandline import CommandLine
from lamina.testing.images import random_image, random_index, tar_of
from lamina.testing.registry import running_registry
from lamina.transports.local.sink import LocalSink

ROOTFS = tar_of([("etc/motd", b"hello"), ("bin/true", b"#!/bin/sh\n")])


@pytest.fixture
def lamina(tmp_path: Path) -> CommandLine:
    (tmp_path / "one").mkdir()
    return CommandLine(tmp_path / "one")


@pytest.fixture
def other(tmp_path: Path) -> CommandLine:
    """A second machine."""
    (tmp_path / "two").mkdir()
    return CommandLine(tmp_path / "two")


def place(lamina: CommandLine, content: object, *names: str) -> None:
    """Puts made-up content into the store."""
    with Store.open(str(lamina.root)) as store, store.lease("test") as lease:
        copy(content, LocalSink(store, lease, names=[Reference.parse(name) for name in names]))  # type: ignore[arg-type]


def members(archive: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return tar.getnames()


# --- import ----------------------------------------------------------------------------------------------------------


def test_import_prints_the_id_and_says_where_it_came_from(lamina: CommandLine):  # S40
    identity = lamina.ok("import", "-", "flat:1", stdin=ROOTFS).strip()
    assert lamina.ok("images", "-q", "--no-trunc") == f"{identity}\n"
    (image,) = json.loads(lamina.ok("image", "inspect", "flat:1"))
    assert (image["Id"], image["Comment"], len(image["RootFS"]["Layers"])) == (identity, "Imported from -", 1)
    assert lamina.ok("history", "--format", "{{.Size}} {{.Comment}}", "flat:1") == "15B Imported from -\n"


@pytest.mark.parametrize(
    "packed",
    [ROOTFS, gzip.compress(ROOTFS), lzma.compress(ROOTFS), zstandard.compress(ROOTFS)],
    ids=["plain", "gzip", "xz", "zstd"],
)
def test_import_of_any_compression_is_the_same_layer(lamina: CommandLine, packed: bytes):  # S41
    from lamina.spec.digest import Digest

    (lamina.folder / "rootfs").write_bytes(packed)
    lamina.ok("import", "rootfs", "app")
    layers = lamina.ok("image", "inspect", "-f", "{{json .RootFS.Layers}}", "app")
    assert json.loads(layers) == [str(Digest.of(ROOTFS))]


def test_import_changes_message_and_platform(lamina: CommandLine):  # C03
    lamina.ok(
        "import", "-c", 'CMD ["/bin/true"]', "-c", "ENV A=1\nWORKDIR /srv", "-m", "from the seed",
        "--platform", "linux/arm64", "-", "app", stdin=ROOTFS,
    )  # fmt: skip
    (image,) = json.loads(lamina.ok("image", "inspect", "app"))
    assert (image["Comment"], image["Architecture"]) == ("from the seed", "arm64")
    config = image["Config"]
    assert (config["Cmd"], config["Env"], config["WorkingDir"]) == (["/bin/true"], ["A=1"], "/srv")


def test_import_is_reproducible(lamina: CommandLine, other: CommandLine):  # decision 10
    for machine in (lamina, other):
        machine.env = {**machine.env, "SOURCE_DATE_EPOCH": "1600000000"}
    assert lamina.ok("import", "-", stdin=ROOTFS) == other.ok("import", "-", stdin=gzip.compress(ROOTFS))


class _Files(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        found = self.path == "/rootfs.tar"
        if self.path == "/moved.tar":
            self.send_response(302)
            self.send_header("Location", "/rootfs.tar")
        else:
            self.send_response(200 if found else 404)
        body = ROOTFS if found else b""
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


def test_import_from_a_web_server(lamina: CommandLine):  # C03
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Files)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        base = f"http://127.0.0.1:{server.server_port}"
        lines = lamina.ok("import", f"{base}/moved.tar", "app").splitlines()
        assert lines[0] == f"Downloading from {base}/moved.tar"
        assert lines[1].startswith("sha256:")
        assert lamina.ok("image", "inspect", "-f", "{{.Comment}}", "app") == f"Imported from {base}/moved.tar\n"
        missing = lamina("import", f"{base}/nope.tar")
        assert missing.status == 1
        assert missing.err == f'Error response from daemon: Get "{base}/nope.tar": unexpected status 404\n'
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("words", "data", "problem"),
    [
        (["-c", "RUN x", "-"], ROOTFS, "Error response from daemon: RUN is not a valid change command"),
        (["nope.tar"], b"", "open nope.tar: no such file or directory"),
        (["-", "x@sha256:" + "0" * 64], ROOTFS, "Error response from daemon: cannot import digest reference"),
        (["-"], b"this is no tar" * 100, "Error response from daemon: standard input: damaged tar archive"),
        (["-"], gzip.compress(ROOTFS)[:-20], "Error response from daemon: standard input: damaged gzip stream"),
        (["-"], ROOTFS[:700], "Error response from daemon: standard input: "),
    ],
    ids=["change", "file", "digest", "garbage", "cut gzip", "cut tar"],
)
def test_import_refusals_leave_nothing_behind(lamina: CommandLine, words: list[str], data: bytes, problem: str):
    outcome = lamina("import", *words, stdin=data)
    assert outcome.status == 1
    assert outcome.err.startswith(problem)
    assert lamina.ok("images", "-qa") == ""
    assert lamina.ok("image", "prune", "-f")
    assert lamina("fsck").status == 0


# --- save and load ---------------------------------------------------------------------------------------------------


def test_saved_images_load_elsewhere_with_their_ids_and_names(lamina: CommandLine, other: CommandLine):  # S41, C11
    first = lamina.ok("import", "-", "app:1", stdin=ROOTFS).strip()
    place(lamina, random_image(3, layers=3), "localhost:5000/me/db:x", "db:y")
    outcome = lamina("save", "app:1", "localhost:5000/me/db:x", "db:y")
    assert outcome.status == 0
    assert {"oci-layout", "index.json", "manifest.json"} <= set(members(outcome.raw))
    loaded = other.ok("load", stdin=outcome.raw).splitlines()
    assert sorted(loaded) == [
        "Loaded image: app:1", "Loaded image: db:y", "Loaded image: localhost:5000/me/db:x",
    ]  # fmt: skip
    template = "{{.Repository}}:{{.Tag}} {{.ID}}"
    assert sorted(other.ok("images", "--no-trunc", "--format", template).splitlines()) == sorted(
        lamina.ok("images", "--no-trunc", "--format", template).splitlines()
    )
    assert first in other.ok("images", "-q", "--no-trunc")


def test_save_to_a_file_is_private_complete_and_repeatable(lamina: CommandLine):  # C11
    lamina.ok("import", "-", "app", stdin=ROOTFS)
    for name in ("a.tar", "b.tar"):
        assert lamina.ok("save", "-o", name, "app") == ""
    one, two = lamina.folder / "a.tar", lamina.folder / "b.tar"
    assert one.read_bytes() == two.read_bytes() == lamina("save", "app").raw
    assert stat.S_IMODE(one.stat().st_mode) == 0o600
    one.write_bytes(b"precious")
    assert lamina("save", "-o", "a.tar", "app", "nope").status == 1
    assert one.read_bytes() == b"precious"
    assert sorted(os.listdir(lamina.folder)) == ["a.tar", "b.tar", "root"]


def test_save_of_a_repository_takes_all_of_its_tags(lamina: CommandLine, other: CommandLine):
    lamina.ok("import", "-", "app:1", stdin=ROOTFS)
    lamina.ok("import", "-", "app:2", stdin=tar_of([("x", b"")]))
    out = other.ok("load", stdin=lamina("save", "app").raw)
    assert sorted(out.splitlines()) == ["Loaded image: app:1", "Loaded image: app:2"]


def test_save_by_id_has_no_name(lamina: CommandLine, other: CommandLine):  # C05
    identity = lamina.ok("import", "-", "app:1", stdin=ROOTFS).strip()
    assert other.ok("load", "-q", stdin=lamina("save", identity[7:19]).raw) == f"Loaded image ID: {identity}\n"


def test_an_index_is_saved_whole_or_by_platform(lamina: CommandLine, other: CommandLine):
    index = random_index(5)
    place(lamina, index, "multi:1")
    other.ok("load", stdin=lamina("save", "multi:1").raw)
    assert f"@{index.index.digest}" not in other.ok("image", "inspect", "-f", "{{json .RepoDigests}}", "multi:1")
    digest = other.ok("image", "inspect", "-f", "{{.Descriptor.digest}}", "multi:1")
    assert digest == f"{index.index.digest}\n"
    lamina.ok("save", "-o", "arm.tar", "--platform", "linux/arm64", "multi:1")
    other.ok("load", "-i", str(lamina.folder / "arm.tar"))
    assert other.ok("image", "inspect", "-f", "{{.Architecture}}", "multi:1") == "arm64\n"
    refused = other("load", "--platform", "linux/s390x", "-i", str(lamina.folder / "arm.tar"))
    assert refused.err == "Error response from daemon: the archive holds no image for platform linux/s390x\n"


def test_load_says_which_names_it_moved(lamina: CommandLine, other: CommandLine):  # threat 18
    old = other.ok("import", "-", "app:1", stdin=ROOTFS).strip()
    lamina.ok("import", "-", "app:1", stdin=tar_of([("other", b"content")]))
    out = other.ok("load", stdin=lamina("save", "app:1").raw)
    assert out == (
        f"The image app:1 already exists, renaming the old one with ID {old} to empty string\nLoaded image: app:1\n"
    )
    assert old in other.ok("images", "-q", "--no-trunc", "-f", "dangling=true")


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, zstandard.compress], ids=["gzip", "xz", "zstd"])
def test_load_reads_compressed_archives(lamina: CommandLine, other: CommandLine, pack: object):  # S41
    lamina.ok("import", "-", "app:1", stdin=ROOTFS)
    saved = pack(lamina("save", "app:1").raw)  # type: ignore[operator]
    assert other.ok("load", stdin=saved) == "Loaded image: app:1\n"


def test_terminals_are_refused(lamina: CommandLine):  # S41
    lamina.ok("import", "-", "app", stdin=ROOTFS)
    saved = lamina("save", "app", terminal=True)
    assert saved.err == "cowardly refusing to save to a terminal. Use the -o flag or redirect\n"
    assert lamina("load", terminal=True).err == "requested load from stdin, but stdin is empty\n"


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["save", "nope"], "Error response from daemon: No such image: nope:latest\n"),
        (
            ["save", "-o", "no/such/x.tar", "app"],
            'failed to save image: invalid output path: directory "no/such" does not exist\n',
        ),
        (["load", "-i", "nope.tar"], "open nope.tar: no such file or directory\n"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_refusals(lamina: CommandLine, words: list[str], problem: str):
    lamina.ok("import", "-", "app", stdin=ROOTFS)
    outcome = lamina(*words)
    assert (outcome.status, outcome.err) == (1, problem)


def test_damaged_archives_bring_nothing(lamina: CommandLine, other: CommandLine):  # threat 17
    place(lamina, random_image(9, layers=1, size=200_000), "app:1")
    saved = lamina("save", "app:1").raw
    flipped = bytearray(saved)
    flipped[100_000] ^= 0xFF  # in the middle of the layer
    for damaged in (bytes(flipped), saved[:50_000], b"no archive at all", b""):
        outcome = other("load", stdin=damaged)
        assert outcome.status == 1
        assert outcome.err.startswith("Error response from daemon: standard input")
        assert len(outcome.err.splitlines()) <= 2
        (other.folder / "junk").write_bytes(damaged)
        outcome = other("load", "-i", "junk")
        assert outcome.status == 1
        assert outcome.err.startswith(f"Error response from daemon: {other.folder}/junk")
        assert other.ok("images", "-qa") == ""


def test_import_of_junk_names_the_file(lamina: CommandLine):  # C03
    (lamina.folder / "junk").write_bytes(b"junk" * 500)
    outcome = lamina("import", "junk", "app")
    assert outcome.status == 1
    assert outcome.err.startswith(f"Error response from daemon: {lamina.folder}/junk: damaged tar archive, offset 0: ")


@pytest.mark.peer
def test_skopeo_reads_what_we_save_and_we_load_what_it_writes(lamina: CommandLine, other: CommandLine):  # S41
    if shutil.which("skopeo") is None:
        pytest.skip("skopeo is not installed")
    identity = lamina.ok("import", "-", "app:1", stdin=ROOTFS).strip()
    lamina.ok("save", "-o", "app.tar", "app:1")
    path = lamina.folder
    env = {"PATH": os.environ["PATH"], "HOME": str(path)}
    (path / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    for kind in ("docker-archive", "oci-archive"):
        command = [
            "skopeo",
            "--policy",
            f"{path}/policy.json",
            "copy",
            f"{kind}:{path}/app.tar",
            f"docker-archive:{path}/{kind}.tar:sk/{kind}:1",
        ]
        subprocess.run(command, check=True, env=env, capture_output=True)
        assert other.ok("load", "-i", str(path / f"{kind}.tar")) == f"Loaded image: sk/{kind}:1\n"
        assert other.ok("images", "-q", "--no-trunc", f"sk/{kind}").strip() == identity


@pytest.mark.peer
@pytest.mark.root
def test_podman_loads_what_we_save(lamina: CommandLine):  # S41
    if shutil.which("podman") is None or os.geteuid() != 0:
        pytest.skip("needs podman and root")
    identity = lamina.ok("import", "-", "localhost/app:1", stdin=ROOTFS).strip()
    lamina.ok("save", "-o", "app.tar", "localhost/app:1")
    with tempfile.TemporaryDirectory(dir="/tmp") as short:  # podman wants a short run root
        store = ["podman", "--root", f"{short}/p", "--runroot", f"{short}/r", "--storage-driver", "vfs"]
        env = {"PATH": os.environ["PATH"], "HOME": short}
        loading = [*store, "load", "-i", f"{lamina.folder}/app.tar"]
        subprocess.run(loading, check=True, capture_output=True, env=env)
        looking = [*store, "image", "inspect", "-f", "{{.Id}}", "localhost/app:1"]
        seen = subprocess.run(looking, check=True, capture_output=True, env=env, text=True)
    assert f"sha256:{seen.stdout.strip()}" == identity


def test_what_docker_saved_plain_is_pushed_compressed(lamina: CommandLine, tmp_path: Path):  # S41, S47
    # `docker save` of the classic engine holds plain tars and no manifest; registries get what docker would push.
    digest = hashlib.sha256(ROOTFS).hexdigest()
    config = json.dumps({
        "architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]}
    }).encode()  # fmt: skip
    name = f"{hashlib.sha256(config).hexdigest()}.json"
    index = json.dumps([{"Config": name, "RepoTags": ["plain:1"], "Layers": ["one/layer.tar"]}]).encode()
    archive = tar_of([(name, config), ("one/layer.tar", ROOTFS), ("manifest.json", index)])
    assert lamina.ok("load", stdin=archive) == "Loaded image: plain:1\n"
    with running_registry(str(tmp_path / "registry")) as address:
        lamina.ok("tag", "plain:1", f"{address}/plain:1")
        lamina.ok("push", f"{address}/plain:1")
        accept = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
        with urlopen(Request(f"http://{address}/v2/plain/manifests/1", headers=accept)) as answer:
            layers = json.load(answer)["layers"]
        assert [layer["mediaType"].rpartition("+")[2] for layer in layers] == ["gzip"]
        with urlopen(f"http://{address}/v2/plain/blobs/{layers[0]['digest']}") as blob:
            assert gzip.decompress(blob.read()) == ROOTFS
