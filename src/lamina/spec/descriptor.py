"""Descriptors (image-spec, descriptor.md): media type, digest and size of a blob, with what is said about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from lamina.spec.digest import Digest
from lamina.spec.document import Node
from lamina.spec.platform import Platform
from lamina.values import dataclass, field, replace

_KNOWN: Final = {"mediaType", "digest", "size", "annotations", "urls", "platform", "artifactType", "data"}


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A typed, sized, digested pointer to a blob. `size` is in bytes; `extra` keeps fields lamina does not know."""

    media_type: str
    digest: Digest
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)
    urls: tuple[str, ...] = ()
    platform: Platform | None = None
    artifact_type: str = ""
    data: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @classmethod
    def of(cls, media_type: str, data: bytes, *, platform: Platform | None = None) -> Descriptor:
        """Describe bytes in memory."""
        return cls(media_type, Digest.of(data), len(data), platform=platform)

    @classmethod
    def from_node(cls, node: Node) -> Descriptor:
        """Read a descriptor.

        Raises:
            InvalidDocument: with the JSON path of the field.
        """
        size = node.at("size").integer()
        if size < 0:
            raise node.at("size").fail("negative")
        return cls(
            media_type=node.at("mediaType").string(),
            digest=node.at("digest").parse_with(Digest.parse),
            size=size,
            annotations=node.at("annotations").string_map(),
            urls=node.at("urls").strings(),
            platform=Platform.from_node(node.at("platform")) if "platform" in node else None,
            artifact_type=node.at("artifactType").string(""),
            data=node.at("data").string(""),
            extra={key: value for key, value in node.object().items() if key not in _KNOWN},
        )

    def to_json(self) -> dict[str, Any]:
        """The spec's object, in the order the spec lists the fields; empty optional fields are left out."""
        result: dict[str, Any] = {"mediaType": self.media_type, "digest": str(self.digest), "size": self.size}
        if self.urls:
            result["urls"] = list(self.urls)
        if self.annotations:
            result["annotations"] = dict(self.annotations)
        if self.data:
            result["data"] = self.data
        if self.platform:
            result["platform"] = self.platform.to_json()
        if self.artifact_type:
            result["artifactType"] = self.artifact_type
        return result | dict(self.extra)

    def with_annotations(self, **annotations: str) -> Descriptor:
        """A copy with annotations added."""
        return replace(self, annotations={**self.annotations, **annotations})
