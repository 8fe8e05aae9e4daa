"""Changes to images as new lazy views; nothing is copied or compressed before someone reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Final, cast

from lamina.errors import NotFound, Unsupported
from lamina.image.protocols import Image, ImageIndex, Layer, RawConfig, Readable, descriptor_of, is_index
from lamina.spec import mediatype
from lamina.spec.config import History, ImageConfig
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest
from lamina.spec.manifest import Index, Manifest, is_attestation, make_index, make_manifest
from lamina.spec.platform import Platform, best
from lamina.values import dataclass, replace

_TO_OCI: Final = {
    mediatype.DOCKER_MANIFEST: mediatype.OCI_MANIFEST,
    mediatype.DOCKER_INDEX: mediatype.OCI_INDEX,
    mediatype.DOCKER_CONFIG: mediatype.OCI_CONFIG,
    mediatype.DOCKER_LAYER: mediatype.OCI_LAYER,
    mediatype.DOCKER_LAYER_GZIP: mediatype.OCI_LAYER_GZIP,
    mediatype.DOCKER_LAYER_ZSTD: mediatype.OCI_LAYER_ZSTD,
    mediatype.DOCKER_FOREIGN_LAYER_GZIP: mediatype.OCI_FOREIGN_LAYER_GZIP,
}
_TO_DOCKER: Final = {oci: docker for docker, oci in _TO_OCI.items()}


class PlatformNotFound(NotFound):
    """No child of an index serves the wanted platform."""

    def __init__(self, wanted: Platform, offered: Sequence[Platform]) -> None:
        have = ", ".join(dict.fromkeys(str(platform) for platform in offered)) or "no platform at all"
        super().__init__(
            f"no matching manifest for {wanted} in the manifest list entries", hint=f"the index offers {have}"
        )
        self.wanted, self.offered = wanted, tuple(offered)


class InconvertibleType(Unsupported):
    """A media type that has no counterpart in the other vocabulary (an artifact)."""

    def __init__(self, media_type: str) -> None:
        super().__init__(f"cannot convert media type {media_type!r}: it has no counterpart")
        self.media_type = media_type


class _ImageView:
    """An image over another; subclasses replace what they change."""

    def __init__(self, base: Image) -> None:
        self.base = base

    @property
    def manifest(self) -> Manifest:
        return self.base.manifest

    @property
    def config(self) -> ImageConfig:
        return self.base.config

    @property
    def config_bytes(self) -> bytes:
        return config_bytes(self.base)

    @property
    def layers(self) -> Sequence[Layer]:
        return self.base.layers


def config_bytes(image: Image) -> bytes:
    """The bytes of an image's config blob, of artifacts too."""
    if hasattr(type(image), "config_bytes"):
        return cast("RawConfig", image).config_bytes
    return image.config.raw


class _Edited(_ImageView):
    def __init__(self, base: Image, config: ImageConfig, added: Sequence[Layer]) -> None:
        super().__init__(base)
        self._config, self._added = config, tuple(added)

    @cached_property
    def manifest(self) -> Manifest:
        old = self.base.manifest
        return _rewritten(
            old,
            config=Descriptor.of(old.config.media_type, self._config.raw),
            layers=(*old.layers, *(layer.descriptor for layer in self._added)),
        )

    @property
    def config(self) -> ImageConfig:
        return self._config

    @property
    def config_bytes(self) -> bytes:
        return self._config.raw

    @property
    def layers(self) -> Sequence[Layer]:
        return (*self.base.layers, *self._added)


def with_config(image: Image, config: ImageConfig) -> Image:
    """The image with another config; its `diff_ids` must be those of the layers, which `validate` checks."""
    return _Edited(image, config, ())


def append_layers(image: Image, layers: Sequence[Layer], history: Sequence[History] = ()) -> Image:
    """The image with layers on top; `history` gives the entries to add, one plain entry for each layer when empty."""
    entries = tuple(history) or tuple(History(comment="lamina") for _ in layers)
    config = image.config
    edited = config.edit(
        diff_ids=(*config.diff_ids, *(layer.diff_id for layer in layers)), history=(*config.history, *entries)
    )
    return _Edited(image, edited, layers)


class _AnnotatedImage(_ImageView):
    def __init__(self, base: Image, annotations: Mapping[str, str]) -> None:
        super().__init__(base)
        self._annotations = annotations

    @cached_property
    def manifest(self) -> Manifest:
        old = self.base.manifest
        return _rewritten(old, annotations={**old.annotations, **self._annotations})


def annotate_image(image: Image, annotations: Mapping[str, str]) -> Image:
    """The image with manifest annotations added (OCI only; Docker's manifests have no such field)."""
    base = image if not image.manifest.is_docker else convert_image(image, docker=False)
    return _AnnotatedImage(base, annotations)


@dataclass(frozen=True)
class _RetypedLayer:
    base: Layer
    media_type: str

    @property
    def descriptor(self) -> Descriptor:
        return replace(self.base.descriptor, media_type=self.media_type)

    @property
    def diff_id(self) -> Digest:
        return self.base.diff_id

    def open(self) -> Readable:
        return self.base.open()


class _ConvertedImage(_ImageView):
    def __init__(self, base: Image, table: Mapping[str, str]) -> None:
        super().__init__(base)
        self._table = table

    @cached_property
    def manifest(self) -> Manifest:
        old = self.base.manifest
        if old.artifact_type or old.subject:
            raise InconvertibleType(old.artifact_type or old.media_type)
        to_docker = self._table is _TO_DOCKER
        return make_manifest(
            replace(old.config, media_type=_retype(old.config.media_type, self._table)),
            [replace(layer, media_type=_retype(layer.media_type, self._table)) for layer in old.layers],
            media_type=_retype(old.media_type, self._table),
            annotations=None if to_docker else old.annotations,
        )

    @cached_property
    def layers(self) -> Sequence[Layer]:
        return [
            _RetypedLayer(layer, descriptor.media_type)
            for layer, descriptor in zip(self.base.layers, self.manifest.layers, strict=True)
        ]


def convert_image(image: Image, *, docker: bool) -> Image:
    """The image in Docker's or OCI's media types; layers and config keep their bytes, the manifest's digest changes.

    Raises:
        InconvertibleType: on reading the manifest, when it is an artifact rather than an image.
    """
    return image if image.manifest.is_docker == docker else _ConvertedImage(image, _TO_DOCKER if docker else _TO_OCI)


class _IndexView:
    """An index whose children are views themselves."""

    def __init__(self, base: ImageIndex, table: Mapping[str, str]) -> None:
        self.base, self._table = base, table

    @cached_property
    def _children(self) -> list[tuple[Descriptor, Image | ImageIndex]]:
        docker = self._table is _TO_DOCKER
        result: list[tuple[Descriptor, Image | ImageIndex]] = []
        for old in self.base.index.manifests:
            child = convert(self.base.child(old), docker=docker)
            found = descriptor_of(child)
            entry = replace(old, media_type=found.media_type, digest=found.digest, size=found.size, data="")
            result.append((entry, child))
        return result

    @cached_property
    def index(self) -> Index:
        old = self.base.index
        annotations = None if self._table is _TO_DOCKER else old.annotations
        return make_index(
            [entry for entry, _ in self._children],
            media_type=_retype(old.media_type, self._table),
            annotations=annotations,
        )

    def child(self, descriptor: Descriptor) -> Image | ImageIndex:
        for entry, content in self._children:
            if entry.digest == descriptor.digest:
                return content
        return self.base.child(descriptor)


def convert(content: Image | ImageIndex, *, docker: bool) -> Image | ImageIndex:
    """`convert_image`, or an index with every child converted (which all must be at hand)."""
    if not is_index(content):
        return convert_image(content, docker=docker)
    if (content.index.media_type == mediatype.DOCKER_INDEX) == docker:
        return content
    return _IndexView(content, _TO_DOCKER if docker else _TO_OCI)


class _AnnotatedIndex:
    def __init__(self, base: ImageIndex, annotations: Mapping[str, str]) -> None:
        self.base, self._annotations = base, annotations

    @cached_property
    def index(self) -> Index:
        old = self.base.index
        merged = {**old.annotations, **self._annotations}
        return make_index(old.manifests, media_type=old.media_type, annotations=merged)

    def child(self, descriptor: Descriptor) -> Image | ImageIndex:
        return self.base.child(descriptor)


def annotate_index(index: ImageIndex, annotations: Mapping[str, str]) -> ImageIndex:
    """The index with annotations added."""
    return _AnnotatedIndex(index, annotations)


class _Filtered:
    def __init__(self, base: ImageIndex, keep: frozenset[Digest]) -> None:
        self.base, self._keep = base, keep

    @cached_property
    def index(self) -> Index:
        old = self.base.index
        kept = [entry for entry in old.manifests if entry.digest in self._keep]
        return make_index(kept, media_type=old.media_type, annotations=old.annotations)

    def child(self, descriptor: Descriptor) -> Image | ImageIndex:
        return self.base.child(descriptor)


def keep_children(index: ImageIndex, keep: Sequence[Digest]) -> ImageIndex:
    """The index with only some of its entries."""
    return _Filtered(index, frozenset(keep))


def choose(index: ImageIndex, wanted: Platform) -> Descriptor:
    """The entry that serves a platform best; attestations never do (B16), entries without a platform serve any.

    Raises:
        PlatformNotFound: none does; the hint lists what there is.
    """
    images = index.index.images()
    stated = [entry for entry in images if entry.platform is not None]
    position = best(wanted, [entry.platform for entry in stated if entry.platform])
    if position is not None:
        return stated[position]
    unstated = [entry for entry in images if entry.platform is None]
    if unstated:
        return unstated[0]
    raise PlatformNotFound(wanted, [entry.platform for entry in stated if entry.platform])


def select_platform(content: Image | ImageIndex, wanted: Platform, *, depth: int = 8) -> Image:
    """The image for one platform; an image is returned as it is, whatever it says it runs on.

    Raises:
        PlatformNotFound: no entry serves it, or the index nests deeper than `depth` (threat 13).
    """
    while is_index(content):
        if depth == 0:
            raise PlatformNotFound(wanted, ())
        content, depth = content.child(choose(content, wanted)), depth - 1
    return content


def attestations_for(index: ImageIndex, image: Digest) -> list[Descriptor]:
    """The attestation entries of an index that speak about one of its images (B16)."""
    return [
        entry
        for entry in index.index.manifests
        if is_attestation(entry) and entry.annotations.get("vnd.docker.reference.digest") == str(image)
    ]


def _rewritten(
    old: Manifest,
    *,
    config: Descriptor | None = None,
    layers: tuple[Descriptor, ...] | None = None,
    annotations: Mapping[str, str] | None = None,
) -> Manifest:
    return make_manifest(
        config or old.config,
        old.layers if layers is None else layers,
        media_type=old.media_type,
        annotations=old.annotations if annotations is None else annotations,
        subject=old.subject,
        artifact_type=old.artifact_type,
    )


def _retype(media_type: str, table: Mapping[str, str]) -> str:
    if media_type in table:
        return table[media_type]
    if media_type in table.values():
        return media_type
    raise InconvertibleType(media_type)


def oci_type(media_type: str) -> str:
    """OCI's name for a media type of Docker's; others as they are."""
    return _TO_OCI.get(media_type, media_type)
