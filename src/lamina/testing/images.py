"""Small images made of nothing: random yet reproducible, for tests of everything that moves images."""

from __future__ import annotations

import gzip
import io
import random
from collections.abc import Iterable, Mapping

from lamina.image.partial import BlobImage, Child, MadeImage, MadeIndex, MadeLayer
from lamina.image.protocols import Readable
from lamina.layer.entry import Kind, TarEntry
from lamina.layer.writer import TarWriter
from lamina.spec import mediatype
from lamina.spec.config import History, ImageConfig, RunConfig
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest
from lamina.spec.manifest import make_manifest
from lamina.spec.platform import Platform

AMD64 = Platform("linux", "amd64")
ARM64 = Platform("linux", "arm64")


def tar_of(files: Iterable[tuple[str, bytes]]) -> bytes:
    """A tar of regular files: (name, content) pairs, root-owned, at time 0."""
    out = bytearray()
    writer = TarWriter(out.extend)
    for name, content in files:
        writer.add(TarEntry(name, Kind.FILE, size=len(content)), content)
    writer.close()
    return bytes(out)


def layer_of(files: Iterable[tuple[str, bytes]], *, media_type: str = mediatype.OCI_LAYER_GZIP) -> MadeLayer:
    """A layer of those files, gzip or uncompressed as the media type says."""
    tar = tar_of(files)
    packed = mediatype.layer_compression(media_type) == "gzip"
    return MadeLayer.of(
        gzip.compress(tar, 1, mtime=0) if packed else tar, diff_id=Digest.of(tar), media_type=media_type
    )


def random_layer(seed: int, size: int = 1024, *, media_type: str = mediatype.OCI_LAYER_GZIP) -> MadeLayer:
    """A layer with one incompressible file of `size` bytes."""
    return layer_of([(f"file-{seed}", random.Random(seed).randbytes(size))], media_type=media_type)


def random_image(
    seed: int = 0, *, layers: int = 2, size: int = 1024, docker: bool = False, platform: Platform = AMD64
) -> MadeImage:
    """An image whose content follows from `seed` alone; equal arguments give equal digests."""
    kind = mediatype.DOCKER_LAYER_GZIP if docker else mediatype.OCI_LAYER_GZIP
    made = [random_layer(seed * 1000 + position, size, media_type=kind) for position in range(layers)]
    config = ImageConfig.make(
        platform=platform,
        config=RunConfig(env=("PATH=/bin",), cmd=("/bin/true",), labels={"seed": str(seed)}),
        diff_ids=tuple(layer.diff_id for layer in made),
        history=(
            *(History("2020-01-01T00:00:00Z", f"ADD file-{position} /") for position in range(layers)),
            History("2020-01-01T00:00:00Z", 'CMD ["/bin/true"]', empty_layer=True),
        ),
        created="2020-01-01T00:00:00Z",
    )
    return MadeImage(config, made, docker=docker)


def attestation_of(image: MadeImage) -> Child:
    """What BuildKit puts beside an image in an index: an artifact that says it is for no platform (A22)."""
    statement = b'{"_type":"https://in-toto.io/Statement/v0.1","predicateType":"https://slsa.dev/provenance/v0.2"}'
    config = b'{"architecture":"unknown","os":"unknown","config":{},"rootfs":{"type":"layers","diff_ids":[]}}'
    blobs = {Digest.of(data): data for data in (statement, config)}
    manifest = make_manifest(
        Descriptor.of(mediatype.OCI_CONFIG, config), [Descriptor.of("application/vnd.in-toto+json", statement)]
    )
    annotations = {
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": str(image.manifest.digest),
    }
    return Child(BlobImage(manifest, _Bytes(blobs)), Platform("unknown", "unknown"), annotations)


class _Bytes:
    """Blobs in a dictionary, as a `BlobSource`."""

    def __init__(self, blobs: Mapping[Digest, bytes]) -> None:
        self._blobs = blobs

    def open_blob(self, blob: Descriptor, offset: int = 0) -> Readable:
        return io.BytesIO(self._blobs[blob.digest][offset:])

    def read_manifest(self, child: Descriptor) -> bytes:
        return self._blobs[child.digest]


def random_index(
    seed: int = 0, platforms: Iterable[Platform] = (AMD64, ARM64), *, layers: int = 2, docker: bool = False
) -> MadeIndex:
    """One random image for each platform."""
    images = [
        random_image(seed + number, layers=layers, docker=docker, platform=platform)
        for number, platform in enumerate(platforms)
    ]
    return MadeIndex([Child(image) for image in images], docker=docker)
