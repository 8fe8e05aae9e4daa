"""Image archives: what we write, docker, podman and skopeo read; what they write, we read (S41, C05, C11)."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import resource
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import zstandard

from lamina.errors import Integrity, Invalid, LimitExceeded, NotFound
from lamina.image.copy import copy
from lamina.image.partial import MadeImage, MadeLayer
from lamina.image.protocols import is_index
from lamina.image.validate import InvalidImage, validate
from lamina.layer.entry import Kind, TarEntry
from lamina.layer.writer import TarWriter
from lamina.spec import mediatype
from lamina.spec.config import ImageConfig, RunConfig
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest
from lamina.spec.reference import Reference
from lamina.testing.images import AMD64, ARM64, layer_of, random_image, random_index, tar_of
from lamina.transports.archive.members import AmbiguousMember
from lamina.transports.archive.read import Archive, NotAnArchive
from lamina.transports.archive.write import save, save_file
from lamina.transports.layout import Layout, NoSuchImage

Run = Callable[..., bytes]
NAME = Reference.parse("lamina.example/team/app:1.0")


def saved(*images: tuple[object, list[Reference]]) -> bytes:
    out = bytearray()
    save(images, out.extend)  # type: ignore[arg-type]
    return bytes(out)


def opened(raw: bytes, tmp_path: Path) -> Archive:
    return Archive.read(io.BytesIO(raw), spool_dir=str(tmp_path))


def test_what_is_saved_is_read_back_byte_for_byte(tmp_path: Path) -> None:
    image = random_image(1)
    with opened(saved((image, [NAME])), tmp_path) as archive:
        (found,) = archive.images
        assert found.names == (NAME,)
        assert not is_index(found.content)
        assert found.content.manifest.raw == image.manifest.raw
        validate(found.content)


def test_several_images_share_blobs_and_keep_all_names(tmp_path: Path) -> None:
    first, second = random_image(1), random_image(2)
    other = Reference.parse("debian:12")
    raw = saved((first, [NAME, other]), (second, [Reference.parse("b:2")]), (first, []))
    with opened(raw, tmp_path) as archive:
        assert [image.names for image in archive.images] == [(NAME, other), (Reference.parse("b:2"),)]
        assert archive.image("debian:12").manifest.digest == first.manifest.digest  # type: ignore[union-attr]
        assert archive.image(str(second.manifest.digest)).manifest.digest == second.manifest.digest  # type: ignore[union-attr]
        with pytest.raises(NoSuchImage):
            archive.image()
        with pytest.raises(NoSuchImage):
            archive.image("nope:1")


def test_an_archive_depends_on_images_and_names_alone() -> None:  # A17
    assert saved((random_image(3), [NAME])) == saved((random_image(3), [NAME]))


def test_all_platforms_travel_in_one_archive(tmp_path: Path) -> None:  # A22, A9
    index = random_index(5)
    with opened(saved((index, [NAME])), tmp_path) as archive:
        content = archive.image()
        assert is_index(content)
        assert content.index.raw == index.index.raw
        validate(content)


@pytest.mark.parametrize(
    "pack",
    [lambda raw: raw, gzip.compress, bz2.compress, lzma.compress, zstandard.compress],
    ids=["plain", "gzip", "bzip2", "xz", "zstd"],
)
def test_compressed_archives_are_read_as_files_and_as_streams(pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    raw = pack(saved((random_image(1), [NAME])))
    path = tmp_path / "archive"
    path.write_bytes(raw)
    with Archive.open(str(path), spool_dir=str(tmp_path / "spool")) as archive:
        validate(archive.image(str(NAME)))
    with opened(raw, tmp_path) as archive:
        validate(archive.image(str(NAME)))


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    raw = saved((random_image(1, size=100_000), [NAME]))
    with pytest.raises(Integrity):
        opened(gzip.compress(raw)[:-30], tmp_path)
    with pytest.raises(Integrity):
        opened(raw[: len(raw) // 2], tmp_path)


def test_a_flipped_byte_is_found_when_the_blob_is_read(tmp_path: Path) -> None:  # threat 10
    image = random_image(1)
    raw = bytearray(saved((image, [NAME])))
    blob = image.layers[0].open().read()
    raw[raw.index(blob) + 200] ^= 1
    with opened(bytes(raw), tmp_path) as archive, pytest.raises(InvalidImage):
        validate(archive.image())


def test_a_file_is_complete_private_and_replaced_atomically(tmp_path: Path) -> None:  # C11
    path = tmp_path / "out.tar"
    path.write_text("old")
    broken = MadeLayer(
        Descriptor(mediatype.OCI_LAYER_GZIP, Digest.of(b"x"), 1), Digest.of(b"x"), lambda: io.BytesIO(b"y")
    )
    config = ImageConfig.make(platform=AMD64, config=RunConfig(), diff_ids=(Digest.of(b"x"),))
    with pytest.raises(Integrity):
        save_file([(MadeImage(config, [broken]), [NAME])], str(path))
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["out.tar"]
    save_file([(random_image(1), [NAME])], str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def docker_save(
    layers: list[tuple[str, bytes]], config: ImageConfig, tags: list[str], extra: Sequence[TarEntry] = ()
) -> bytes:
    """An archive as old docker versions wrote it; `layers` are (member, bytes)."""
    out = bytearray()
    tar = TarWriter(out.extend)
    name = f"{config.id.hex}.json"
    for path, content in dict(layers).items():
        if content:
            tar.add(TarEntry(path, Kind.FILE, size=len(content)), content)
    for entry in extra:
        tar.add(entry)
    tar.add(TarEntry(name, Kind.FILE, size=len(config.raw)), config.raw)
    items = json.dumps([{"Config": name, "RepoTags": tags or None, "Layers": [path for path, _ in layers]}]).encode()
    tar.add(TarEntry("manifest.json", Kind.FILE, size=len(items)), items)
    tar.close()
    return bytes(out)


def config_of(*tars: bytes) -> ImageConfig:
    return ImageConfig.make(platform=AMD64, config=RunConfig(), diff_ids=tuple(Digest.of(tar) for tar in tars))


def test_old_docker_archives_with_linked_layers_are_read(tmp_path: Path) -> None:
    one, two = tar_of([("a", b"1")]), tar_of([("b", b"2")])
    link = TarEntry("ccc/layer.tar", Kind.SYMLINK, linkname="../aaa/layer.tar")
    raw = docker_save(
        [("aaa/layer.tar", one), ("bbb/layer.tar", two), ("ccc/layer.tar", b"")],
        config_of(one, two, one),
        ["old:1"],
        [link],
    )
    with opened(raw, tmp_path) as archive:
        image = archive.image("old:1")
        assert not is_index(image)
        assert [layer.descriptor.media_type for layer in image.layers] == [mediatype.DOCKER_LAYER] * 3
        validate(image)


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress, lzma.compress], ids=["gzip", "zstd", "xz"])
def test_compressed_layers_in_docker_archives_are_found_out(pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    tar = tar_of([("a", b"1" * 5000)])
    with opened(docker_save([("l.tar", pack(tar))], config_of(tar), []), tmp_path) as archive:
        validate(archive.image())


def test_links_never_leave_the_archive(tmp_path: Path) -> None:  # threats 1, 17
    tar = tar_of([("a", b"1")])
    for target in ("/etc/passwd", "../../../../../etc/passwd", "ccc/layer.tar"):
        link = TarEntry("ccc/layer.tar", Kind.SYMLINK, linkname=target)
        with pytest.raises(NotFound):
            opened(docker_save([("ccc/layer.tar", b"")], config_of(tar), [], [link]), tmp_path)


def test_two_meanings_in_one_archive_are_refused(tmp_path: Path) -> None:
    raw = bytearray()
    tar = TarWriter(raw.extend)
    for content in (b"[]", b"[ ]"):
        tar.add(TarEntry("manifest.json", Kind.FILE, size=len(content)), content)
    tar.close()
    with pytest.raises(AmbiguousMember):
        opened(bytes(raw), tmp_path)


@pytest.mark.parametrize(
    ("member", "content"),
    [
        ("manifest.json", b"{}"),
        ("manifest.json", b"[1]"),
        ("manifest.json", b'[{"Config": 1}]'),
        ("manifest.json", b"["),
        ("x", b""),
    ],
)
def test_other_tars_are_no_image_archives(member: str, content: bytes, tmp_path: Path) -> None:
    with pytest.raises((NotAnArchive, NotFound)):
        opened(tar_of([(member, content)]), tmp_path)


def test_a_huge_manifest_is_not_read(tmp_path: Path) -> None:  # threat 14
    with pytest.raises(LimitExceeded):
        opened(tar_of([("manifest.json", b" " * (5 << 20))]), tmp_path)


def test_layers_and_diff_ids_must_pair(tmp_path: Path) -> None:
    tar = tar_of([("a", b"1")])
    with pytest.raises(Invalid):
        opened(docker_save([("l.tar", tar)], config_of(tar, tar), []), tmp_path)


def test_memory_stays_flat_for_big_layers(tmp_path: Path) -> None:
    size = 256 << 20

    class Zeros:
        def __init__(self) -> None:
            self.left = size

        def read(self, count: int = -1, /) -> bytes:
            count = min(count, self.left)
            self.left -= count
            return bytes(count)

        def close(self) -> None: ...

    hasher = Digest.of(b"").hasher()
    for _ in range(size >> 20):
        hasher.update(bytes(1 << 20))
    digest = Digest.from_hasher(hasher)
    layer = MadeLayer(Descriptor(mediatype.OCI_LAYER, digest, size), digest, Zeros)
    image = MadeImage(ImageConfig.make(platform=AMD64, config=RunConfig(), diff_ids=(digest,)), [layer])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    save_file([(image, [NAME])], str(tmp_path / "big.tar"))
    with Archive.open(str(tmp_path / "big.tar"), spool_dir=str(tmp_path)) as archive:
        copy(archive.image(), Layout.create(str(tmp_path / "layout")).sink("x"))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10  # KiB


@pytest.mark.peer
@pytest.mark.parametrize("docker", [False, True], ids=["oci", "docker"])
def test_skopeo_reads_our_archives_both_ways(docker: bool, tmp_path: Path, skopeo: Run) -> None:
    image = random_image(9, docker=docker)
    save_file([(image, [NAME])], str(tmp_path / "a.tar"))
    seen = json.loads(skopeo("inspect", "--config", f"docker-archive:{tmp_path}/a.tar:{NAME}"))
    assert seen["rootfs"]["diff_ids"] == [str(layer.diff_id) for layer in image.layers]
    assert skopeo("inspect", "--raw", f"oci-archive:{tmp_path}/a.tar") == image.manifest.raw
    skopeo("copy", f"docker-archive:{tmp_path}/a.tar:{NAME}", f"dir:{tmp_path}/dir")


@pytest.mark.peer
def test_podman_loads_our_archives(tmp_path: Path, podman: Run) -> None:
    image, second = random_image(9), random_image(10, docker=True)
    save_file(
        [(image, [NAME, Reference.parse("lamina.example/b:2")]), (second, [Reference.parse("lamina.example/c:3")])],
        str(tmp_path / "a.tar"),
    )
    loaded = podman("load", "-i", f"{tmp_path}/a.tar").decode()
    assert all(name in loaded for name in ("lamina.example/team/app:1.0", "lamina.example/b:2", "lamina.example/c:3"))
    ids = podman("images", "-a", "--no-trunc", "--format", "{{.ID}} {{.Repository}}").decode()
    assert str(image.config.id) in ids
    assert str(second.config.id) in ids


@pytest.mark.peer
@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive"])
def test_archives_that_skopeo_writes_are_read(kind: str, tmp_path: Path, skopeo: Run) -> None:
    image = random_image(11)
    copy(image, Layout.create(str(tmp_path / "layout")).sink("x"))
    skopeo("copy", f"oci:{tmp_path}/layout:x", f"{kind}:{tmp_path}/b.tar:lamina.example/x:1")
    with Archive.open(str(tmp_path / "b.tar"), spool_dir=str(tmp_path)) as archive:
        found = archive.image("lamina.example/x:1")
        assert not is_index(found)
        assert found.config.id == image.config.id
        assert [layer.diff_id for layer in found.layers] == [layer.diff_id for layer in image.layers]
        validate(found)


def test_only_one_platform_can_be_saved(tmp_path: Path) -> None:
    out = bytearray()
    save([(random_index(5), [NAME])], out.extend, only=ARM64)
    with opened(bytes(out), tmp_path) as archive:
        content = archive.image()
        assert not is_index(content)
        assert content.config.platform == ARM64


def test_saving_nothing_is_an_error() -> None:
    with pytest.raises(Invalid, match="nothing to save"):
        saved()


def test_uncompressed_oci_layers_survive(tmp_path: Path) -> None:
    layer = layer_of([("f", b"x")], media_type=mediatype.OCI_LAYER)
    config = ImageConfig.make(platform=AMD64, config=RunConfig(), diff_ids=(layer.diff_id,))
    with opened(saved((MadeImage(config, [layer]), [NAME])), tmp_path) as archive:
        validate(archive.image())
