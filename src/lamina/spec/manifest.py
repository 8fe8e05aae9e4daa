"""Image manifests and indexes (image-spec, manifest.md and image-index.md; Docker schema 2 and manifest list).

Values are read from bytes and keep them: `raw` is what is hashed, stored and sent, never a re-serialisation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from lamina.errors import Unsupported
from lamina.spec import mediatype
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest
from lamina.spec.document import InvalidDocument, Node, dumps, parse
from lamina.values import dataclass, field

#: More layers than any overlay mount can stack; more children than any real index has (threat 13).
MAX_LAYERS: Final = 512
MAX_CHILDREN: Final = 10_000
_MEMBERS: Final = frozenset(
    {"schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests", "subject", "annotations"}
)
_FOLDED: Final = {name.lower(): name for name in _MEMBERS}


class UnsupportedManifest(Unsupported):
    """A manifest of a kind that lamina does not read (schema 1, or something new)."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """One image: a config and its layers, bottom first."""

    raw: bytes = field(repr=False)
    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    subject: Descriptor | None = None
    artifact_type: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def descriptor(self) -> Descriptor:
        """Points at this manifest."""
        return Descriptor(self.media_type, Digest.of(self.raw), len(self.raw), artifact_type=self.artifact_type)

    @property
    def digest(self) -> Digest:
        """Of the bytes received."""
        return Digest.of(self.raw)

    @property
    def is_docker(self) -> bool:
        """Whether it speaks Docker's media types."""
        return self.media_type == mediatype.DOCKER_MANIFEST

    def blobs(self) -> tuple[Descriptor, ...]:
        """Everything it refers to directly: config first, then layers."""
        return (self.config, *self.layers)


@dataclass(frozen=True, slots=True)
class Index:
    """Several manifests under one name, usually one per platform."""

    raw: bytes = field(repr=False)
    media_type: str
    manifests: tuple[Descriptor, ...]
    subject: Descriptor | None = None
    artifact_type: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def descriptor(self) -> Descriptor:
        """Points at this index."""
        return Descriptor(self.media_type, Digest.of(self.raw), len(self.raw), artifact_type=self.artifact_type)

    @property
    def digest(self) -> Digest:
        """Of the bytes received."""
        return Digest.of(self.raw)

    def images(self) -> tuple[Descriptor, ...]:
        """The children that are images to run: attestations (platform unknown/unknown) are left out (B16)."""
        return tuple(child for child in self.manifests if not is_attestation(child))


def is_attestation(child: Descriptor) -> bool:
    """Whether an index entry is BuildKit's attestation manifest rather than an image (B16)."""
    if child.annotations.get("vnd.docker.reference.type"):
        return True
    return child.platform is not None and (child.platform.os, child.platform.architecture) == ("unknown", "unknown")


def parse_manifest(raw: bytes, media_type: str | None = None) -> Manifest | Index:
    """Read a manifest or an index.

    Args:
        raw: the bytes as received.
        media_type: what the transport said (Content-Type, descriptor), or None when unknown.

    Raises:
        InvalidDocument: malformed, ambiguous between the two kinds, or at odds with `media_type` (threat 12).
        UnsupportedManifest: schema 1 or an unknown kind.
    """
    node = Node(parse(raw, "manifest"), "manifest")
    _refuse_lookalikes(node)
    declared = node.at("mediaType").string("")
    claimed = (media_type or "").split(";")[0].strip()
    if claimed in {mediatype.OCTET_STREAM, "application/json", "text/plain"}:
        claimed = ""
    version = node.at("schemaVersion").integer(2)
    if version == 1 or claimed in {mediatype.DOCKER_SCHEMA1, mediatype.DOCKER_SCHEMA1_SIGNED}:
        raise UnsupportedManifest(
            "Docker Image Format v1 and Docker Image manifest version 2, schema 1 are not supported",
            hint="ask the image's author to push it with a current tool",
        )
    if version != 2:
        raise node.at("schemaVersion").fail(f"want 2, got {version}")
    has_image, has_index = "layers" in node or "config" in node, "manifests" in node
    if has_image and has_index:
        raise node.fail("both an image (config, layers) and an index (manifests): ambiguous, refused")
    if declared and claimed and declared != claimed:
        raise node.at("mediaType").fail(f"says {declared}, but it was served as {claimed}")
    kind = declared or claimed or (mediatype.OCI_INDEX if has_index else mediatype.OCI_MANIFEST)
    if kind in mediatype.INDEXES:
        if has_image:
            raise node.fail(f"{kind} with the fields of an image")
        return _index(raw, kind, node)
    if kind in mediatype.MANIFESTS:
        if has_index:
            raise node.fail(f"{kind} with the fields of an index")
        return _manifest(raw, kind, node)
    raise UnsupportedManifest(f"unsupported manifest media type {kind!r}")


def _refuse_lookalikes(node: Node) -> None:
    """Refuse `Layers` beside or instead of `layers`: Go reads member names without regard to case (threat 12)."""
    for key in node.object():
        if key not in _MEMBERS and key.lower() in _FOLDED:
            raise node.fail(f"member {key!r} differs from {_FOLDED[key.lower()]!r} by case only: ambiguous, refused")


def _subject(node: Node) -> Descriptor | None:
    return Descriptor.from_node(node.at("subject")) if "subject" in node else None


def _manifest(raw: bytes, media_type: str, node: Node) -> Manifest:
    if "config" not in node:
        raise node.at("config").fail("required")
    return Manifest(
        raw=raw,
        media_type=media_type,
        config=Descriptor.from_node(node.at("config")),
        layers=tuple(Descriptor.from_node(layer) for layer in node.at("layers").items(limit=MAX_LAYERS)),
        subject=_subject(node),
        artifact_type=node.at("artifactType").string(""),
        annotations=node.at("annotations").string_map(),
    )


def _index(raw: bytes, media_type: str, node: Node) -> Index:
    return Index(
        raw=raw,
        media_type=media_type,
        manifests=tuple(Descriptor.from_node(child) for child in node.at("manifests").items(limit=MAX_CHILDREN)),
        subject=_subject(node),
        artifact_type=node.at("artifactType").string(""),
        annotations=node.at("annotations").string_map(),
    )


def make_manifest(
    config: Descriptor,
    layers: tuple[Descriptor, ...] | list[Descriptor],
    *,
    media_type: str = mediatype.OCI_MANIFEST,
    annotations: Mapping[str, str] | None = None,
    subject: Descriptor | None = None,
    artifact_type: str = "",
) -> Manifest:
    """Write a new manifest; the same arguments give the same bytes."""
    document: dict[str, Any] = {"schemaVersion": 2, "mediaType": media_type}
    if artifact_type:
        document["artifactType"] = artifact_type
    document |= {"config": config.to_json(), "layers": [layer.to_json() for layer in layers]}
    if subject:
        document["subject"] = subject.to_json()
    if annotations:
        document["annotations"] = dict(annotations)
    return Manifest(dumps(document), media_type, config, tuple(layers), subject, artifact_type, annotations or {})


def make_index(
    manifests: tuple[Descriptor, ...] | list[Descriptor],
    *,
    media_type: str = mediatype.OCI_INDEX,
    annotations: Mapping[str, str] | None = None,
) -> Index:
    """Write a new index; the same arguments give the same bytes."""
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "manifests": [child.to_json() for child in manifests],
    }
    if annotations:
        document["annotations"] = dict(annotations)
    return Index(dumps(document), media_type, tuple(manifests), annotations=annotations or {})


__all__ = [
    "Index",
    "InvalidDocument",
    "Manifest",
    "UnsupportedManifest",
    "is_attestation",
    "make_index",
    "make_manifest",
    "parse_manifest",
]
