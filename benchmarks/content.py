"""What is measured: a large image, a tiny one, and a build context. Made once, the same every time, kept in the cache.

The large image has the shape of a real application image: 730 MB and 18.7k entries in four layers, about half of that
as gzip. Its files come from this machine's own /usr, so they compress and scatter as real files do; what they leave of
the size is filled with noise and words.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import random
import shutil
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

#: (entries, bytes) of each layer, bottom first.
LAYERS = ((3_500, 100 << 20), (10_300, 540 << 20), (4_700, 62 << 20), (150, 5 << 20))
SOURCES = ("/usr/lib", "/usr/share", "/usr/include", "/usr/bin", "/usr/sbin")
LARGEST = 24 << 20
MOMENT = 1_700_000_000
BUSYBOX = ("/bin/busybox", "/usr/bin/busybox")
APPLETS = ("sh", "true", "sleep", "echo", "cat", "find", "wc", "ls", "mkdir", "cp")
VERSION = 6


def _files() -> Iterator[tuple[str, int]]:
    """Regular files of this machine in a fixed order, path and size."""
    for top in SOURCES:
        for folder, folders, names in os.walk(top):
            folders.sort()
            for name in sorted(names):
                path = os.path.join(folder, name)
                if os.path.isfile(path) and not os.path.islink(path):
                    size = os.path.getsize(path)
                    if 0 < size <= LARGEST:
                        yield path, size


def _synthetic(seed: int, size: int) -> bytes:
    """Bytes that gzip to 0.6: noise with words between."""
    source, words = (
        random.Random(seed),
        b"layer digest manifest snapshot whiteout config registry blob tag build cache ",
    )
    parts: list[bytes] = []
    length = 0
    while length < size:
        piece = source.randbytes(512) if len(parts) % 2 else words * 4
        parts.append(piece)
        length += len(piece)
    return b"".join(parts)[:size]


def _info(name: str, size: int, mode: int = 0o644) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size, mode, MOMENT
    return info


def busybox() -> str:
    """This machine's static busybox.

    Raises:
        FileNotFoundError: there is none.
    """
    for path in BUSYBOX:
        if os.path.exists(path):
            return path
    raise FileNotFoundError("busybox is not here (Debian package busybox-static)")


def _add_busybox(tar: tarfile.TarFile) -> int:
    with open(busybox(), "rb") as file:
        data = file.read()
    for folder in ("bin", "etc", "tmp", "proc", "sys", "dev"):
        info = tarfile.TarInfo(folder)
        info.type, info.mode, info.mtime = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755, MOMENT
        tar.addfile(info)
    tar.addfile(_info("bin/busybox", len(data), 0o755), io.BytesIO(data))
    for applet in APPLETS:
        link = tarfile.TarInfo(f"bin/{applet}")
        link.type, link.linkname, link.mtime = tarfile.SYMTYPE, "busybox", MOMENT
        tar.addfile(link)
    return len(data)


def _write_layer(path: str, number: int, files: Iterator[tuple[str, int]]) -> None:
    entries, budget = LAYERS[number]
    made: set[str] = set()
    count = total = 0
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        if number == 0:
            total += _add_busybox(tar)
        ideal = budget / entries
        while count < entries and total < budget:
            # Real files, but none so large that the entries run out of bytes.
            found = next(files, None)
            room = budget - total
            source, size = found or (None, max(1, int(min(room, ideal))))
            if source and size > room / max(1.0, (entries - count) / 60):
                continue
            name = f"layer{number}/{source.lstrip('/') if source else f'synthetic/{count // 100}/{count}'}"
            for depth in range(1, name.count("/") + 1):
                folder = "/".join(name.split("/")[:depth])
                if folder not in made:
                    made.add(folder)
                    info = tarfile.TarInfo(folder)
                    info.type, info.mode, info.mtime = tarfile.DIRTYPE, 0o755, MOMENT
                    tar.addfile(info)
                    count += 1
            if source:
                with open(source, "rb") as file:
                    data = file.read(size)
            else:
                data = _synthetic(number * 1_000_000 + count, size)
            tar.addfile(_info(name, len(data)), io.BytesIO(data))
            total += len(data)
            count += 1
        # Fill up to the size with a few large files when many small ones used up the entries.
        part = 0
        while budget - total > 1 << 20:
            size = min(LARGEST, budget - total)
            data = _synthetic(number * 77_777 + part, size)
            tar.addfile(_info(f"layer{number}/data{part}.bin", size), io.BytesIO(data))
            total += size
            part += 1


def _digest(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _compress(source: str, target: str) -> None:
    with open(source, "rb") as plain, open(target, "wb") as file:
        with gzip.GzipFile("", "wb", 6, file, mtime=0) as packed:
            shutil.copyfileobj(plain, packed, 1 << 20)


def _layout(folder: str, layers: list[str], tag: str) -> None:
    """An OCI layout of gzip layers plus the same image as a docker archive of plain tars (`archive.tar`)."""
    blobs = os.path.join(folder, "blobs/sha256")
    os.makedirs(blobs)
    with ThreadPoolExecutor(2) as pool:
        diff_ids = list(pool.map(_digest, layers))
        packed = [f"{path}.gz" for path in layers]
        list(pool.map(_compress, layers, packed))

    def blob(data: bytes) -> tuple[str, int]:
        digest = hashlib.sha256(data).hexdigest()
        with open(os.path.join(blobs, digest), "wb") as file:
            file.write(data)
        return digest, len(data)

    descriptors = []
    for path in packed:
        digest, size = _digest(path), os.path.getsize(path)
        os.rename(path, os.path.join(blobs, digest))
        descriptors.append(
            {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": f"sha256:{digest}", "size": size}
        )
    config = {
        "created": "2023-11-14T22:13:20Z",
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine),
        "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in diff_ids]},
        "history": [{"created": "2023-11-14T22:13:20Z", "created_by": f"layer {n}"} for n in range(len(layers))],
    }
    raw = json.dumps(config).encode()
    digest, size = blob(raw)
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": f"sha256:{digest}",
            "size": size,
        },
        "layers": descriptors,
    }
    config_digest = digest
    digest, size = blob(json.dumps(manifest).encode())
    index = {
        "schemaVersion": 2,
        "manifests": [
            {
                "mediaType": manifest["mediaType"],
                "digest": f"sha256:{digest}",
                "size": size,
                "annotations": {"org.opencontainers.image.ref.name": "latest"},
            }
        ],
    }
    with open(os.path.join(folder, "index.json"), "w") as file:
        json.dump(index, file)
    with open(os.path.join(folder, "oci-layout"), "w") as file:
        json.dump({"imageLayoutVersion": "1.0.0"}, file)
    with tarfile.open(os.path.join(folder, "archive.tar"), "w") as tar:
        names = [f"{digest}/layer.tar" for digest in diff_ids]
        for name, path in zip(names, layers, strict=True):
            with open(path, "rb") as layer:
                tar.addfile(_info(name, os.path.getsize(path)), layer)
        tar.addfile(_info(f"{config_digest}.json", len(raw)), io.BytesIO(raw))
        listing = json.dumps([{"Config": f"{config_digest}.json", "RepoTags": [tag], "Layers": names}]).encode()
        tar.addfile(_info("manifest.json", len(listing)), io.BytesIO(listing))


def _once(cache: str, name: str, make: object) -> str:
    """Make a folder of the cache once, whole or not at all."""
    folder = os.path.join(cache, f"{name}-v{VERSION}")
    if not os.path.exists(folder):
        shutil.rmtree(f"{folder}.new", ignore_errors=True)
        os.makedirs(f"{folder}.new")
        make(f"{folder}.new")  # type: ignore[operator]
        os.rename(f"{folder}.new", folder)
    return folder


def large_image(cache: str) -> str:
    """The folder of the large image: an OCI layout (tag `latest`) and `archive.tar`, named localhost/bench/large:1."""

    def make(folder: str) -> None:
        files = _files()
        layers = []
        for number in range(len(LAYERS)):
            path = os.path.join(folder, f"layer{number}.tar")
            _write_layer(path, number, files)
            layers.append(path)
        _layout(folder, layers, "localhost/bench/large:1")
        for path in layers:
            os.unlink(path)

    return _once(cache, "large", make)


def small_image(cache: str) -> str:
    """The folder of a one-layer busybox image, as `large_image`."""

    def make(folder: str) -> None:
        path = os.path.join(folder, "layer.tar")
        with tarfile.open(path, "w") as tar:
            _add_busybox(tar)
        _layout(folder, [path], "localhost/bench/busybox:1")
        os.unlink(path)

    return _once(cache, "busybox", make)


def context(folder: str, *, files: int = 4_000) -> None:
    """A build context of many small files (0.2 to 4 KB, 8 MB in all) under `folder`/src, with old time stamps."""
    source = random.Random(4_000)
    for number in range(files):
        where = os.path.join(folder, "src", f"package{number // 100:02d}")
        os.makedirs(where, exist_ok=True)
        path = os.path.join(where, f"module{number:04d}.txt")
        with open(path, "wb") as file:
            file.write(_synthetic(number, source.randint(200, 4_000)))
        os.utime(path, (MOMENT, MOMENT))
