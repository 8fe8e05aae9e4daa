"""How people name the places images come from and go to: `docker://`, `oci:`, `docker-archive:`, `oci-archive:`."""

from __future__ import annotations

from enum import Enum
from typing import Final

from lamina.errors import Invalid
from lamina.spec.digest import Digest
from lamina.spec.reference import Reference, is_tag
from lamina.values import dataclass


class Kind(Enum):
    """A transport; the value is its prefix."""

    REGISTRY = "docker://"
    OCI = "oci:"
    OCI_ARCHIVE = "oci-archive:"
    DOCKER_ARCHIVE = "docker-archive:"


class InvalidName(Invalid):
    """The text names no place."""

    def __init__(self, text: str, problem: str) -> None:
        super().__init__(f"invalid image name {text!r}: {problem}")
        self.text = text


@dataclass(frozen=True, slots=True)
class Name:
    """A place. A registry has a `reference`; the others a `path`, and perhaps a `member` (name or digest) within."""

    kind: Kind
    reference: Reference | None = None
    path: str = ""
    member: str = ""

    def __str__(self) -> str:
        if self.kind is Kind.REGISTRY:
            return f"{self.kind.value}{self.reference}"
        joint = "@" if _is_digest(self.member) else ":"
        return f"{self.kind.value}{self.path}" + (f"{joint}{self.member}" if self.member else "")


_FILES: Final = (Kind.OCI_ARCHIVE, Kind.DOCKER_ARCHIVE, Kind.OCI)


def parse_name(text: str) -> Name:
    """Parse a name; one without a prefix means a registry.

    `oci:DIR[:REF][@DIGEST]` and the archives split at the first colon after the prefix, as skopeo does, so a path
    cannot hold one.

    Raises:
        InvalidName: an empty path or a malformed member.
        InvalidReference: a malformed registry name.
    """
    for kind in _FILES:
        if text.startswith(kind.value):
            return _file(kind, text)
    return Name(Kind.REGISTRY, Reference.parse(text.removeprefix(Kind.REGISTRY.value)))


def _file(kind: Kind, text: str) -> Name:
    rest = text[len(kind.value) :]
    path, at, digest = rest.partition("@")
    if at and _is_digest(digest):
        if not path:
            raise InvalidName(text, "no path")
        return Name(kind, None, path, digest)
    path, colon, member = rest.partition(":")
    if not path:
        raise InvalidName(text, "no path")
    if colon and not member:
        raise InvalidName(text, "nothing after the colon")
    if member and kind is Kind.DOCKER_ARCHIVE and not is_tag(member):
        Reference.parse(member)
    return Name(kind, None, path, member)


def _is_digest(text: str) -> bool:
    try:
        Digest.parse(text)
    except Invalid:
        return False
    return True
