"""The invariants of images, stated once: what must be true of every image from every source.

Image-spec manifest.md, config.md (sections Layer DiffID, Properties) and descriptor.md (section Verification).
"""

from __future__ import annotations

from collections.abc import Iterator

from lamina.errors import Integrity, LaminaError
from lamina.image.mutate import config_bytes
from lamina.image.protocols import Image, ImageIndex, Layer, MissingChild, is_index
from lamina.image.verify import SizeMismatch
from lamina.spec import mediatype
from lamina.spec.digest import Digest
from lamina.spec.manifest import is_attestation
from lamina.values import dataclass

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Problem:
    """One broken invariant: where (`manifest`, `config`, `layer 3`, `index entry 0`), and what."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class InvalidImage(Integrity):
    """An image or index breaks at least one invariant."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("invalid image: " + "; ".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


def validate(content: Image | ImageIndex, *, layers: bool = True, sparse: bool = False) -> None:
    """Check everything that can be checked.

    Args:
        content: an image, or an index and all its children.
        layers: read every layer too (digest, size, diffID); False checks documents only.
        sparse: accept children that the source does not hold.

    Raises:
        InvalidImage: listing all problems found.
    """
    problems = list(check_index(content, layers, sparse, set()) if is_index(content) else check_image(content, layers))
    if problems:
        raise InvalidImage(problems)


def check_image(image: Image, layers: bool = True) -> Iterator[Problem]:
    """The problems of one image."""
    manifest = image.manifest
    raw = config_bytes(image)
    if (found := Digest.of(raw, manifest.config.digest.algorithm)) != manifest.config.digest:
        yield Problem("config", f"digest is {found}, the manifest says {manifest.config.digest}")
    if len(raw) != manifest.config.size:
        yield Problem("config", f"size is {len(raw)}, the manifest says {manifest.config.size}")
    if manifest.config.media_type not in mediatype.CONFIGS:
        return  # an artifact: what its blobs mean is not ours to judge
    try:
        config = image.config
    except LaminaError as error:
        yield Problem("config", error.message)
        return
    if len(config.diff_ids) != len(manifest.layers):
        yield Problem("config", f"{len(config.diff_ids)} diff_ids for {len(manifest.layers)} layers in the manifest")
        return
    filled = sum(not entry.empty_layer for entry in config.history)
    if config.history and filled != len(config.diff_ids):
        yield Problem("config", f"{filled} history entries with a layer for {len(config.diff_ids)} layers")
    if len(image.layers) != len(manifest.layers):
        yield Problem("manifest", f"{len(manifest.layers)} layers, the image yields {len(image.layers)}")
        return
    for position, (layer, entry, diff_id) in enumerate(
        zip(image.layers, manifest.layers, config.diff_ids, strict=True)
    ):
        where = f"layer {position}"
        if (layer.descriptor.digest, layer.descriptor.size) != (entry.digest, entry.size):
            yield Problem(where, f"is {layer.descriptor.digest}, the manifest says {entry.digest}")
        if layer.diff_id != diff_id:
            yield Problem(where, f"diffID is {layer.diff_id}, the config says {diff_id}")
        if layers and not mediatype.is_foreign(entry.media_type):
            yield from _check_layer(where, layer)


def _check_layer(where: str, layer: Layer) -> Iterator[Problem]:
    from lamina.layer.compression import decompress
    from lamina.layer.digesting import HashingReader, drain

    try:
        _check_blob(layer)
        stream = layer.open()
        try:
            content = HashingReader(decompress(stream), layer.diff_id.algorithm)
            drain(content, _CHUNK)
        finally:
            stream.close()
    except LaminaError as error:
        yield Problem(where, error.message)
        return
    found = Digest(layer.diff_id.algorithm, content.digest)
    if found != layer.diff_id:
        yield Problem(where, f"content hashes to {found}, its diffID is {layer.diff_id}")


def check_index(
    index: ImageIndex, layers: bool = True, sparse: bool = False, seen: set[Digest] | None = None
) -> Iterator[Problem]:
    """The problems of an index and its children."""
    seen = set() if seen is None else seen
    for position, entry in enumerate(index.index.manifests):
        if entry.digest in seen:
            continue
        seen.add(entry.digest)
        where = f"index entry {position}"
        try:
            child = index.child(entry)
            found = child.index.descriptor if is_index(child) else child.manifest.descriptor
            if (found.digest, found.size) != (entry.digest, entry.size):
                yield Problem(where, f"is {found.digest}, the index says {entry.digest}")
            nested = check_index(child, layers, sparse, seen) if is_index(child) else check_image(child, layers)
            for problem in nested:
                yield Problem(f"{where}, {problem.where}", problem.what)
            if not is_index(child) and entry.platform and not is_attestation(entry):
                stated = child.config.platform
                if (stated.os, stated.architecture) != (entry.platform.os, entry.platform.architecture):
                    yield Problem(where, f"platform is {entry.platform}, the config says {stated}")
        except MissingChild:
            if not sparse:
                yield Problem(where, f"{entry.digest} is not held here")
        except LaminaError as error:
            yield Problem(where, error.message)


def _check_blob(layer: Layer) -> None:
    """Read the blob whole: its own reader verifies digest and size, and the count is checked again here."""
    stream = layer.open()
    count = 0
    try:
        while data := stream.read(_CHUNK):
            count += len(data)
    finally:
        stream.close()
    if count != layer.descriptor.size:
        raise SizeMismatch(f"blob {layer.descriptor.digest}", layer.descriptor.size, count)
