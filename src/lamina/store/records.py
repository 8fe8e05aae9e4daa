"""Images and names as values, and what can be wrong with them. The texts are Docker's, since users script on them."""

from __future__ import annotations

from collections.abc import Mapping

from lamina.errors import Conflict, Invalid, NotFound
from lamina.spec.digest import Digest
from lamina.spec.platform import Platform
from lamina.spec.reference import Reference
from lamina.values import dataclass, field


class ImageNotFound(NotFound):
    """No such image.

    Attributes:
        name: as it was asked for.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"No such image: {name}")
        self.name = name


class AmbiguousImage(Invalid):
    """An id prefix fits several images.

    Attributes:
        prefix: as it was asked for.
        matches: the ids that fit.
    """

    def __init__(self, prefix: str, matches: tuple[Digest, ...]) -> None:
        super().__init__(
            f"multiple IDs found with provided prefix: {prefix}",
            hint="add characters: it fits " + ", ".join(match.hex[: len(prefix) + 12] for match in matches),
        )
        self.prefix, self.matches = prefix, matches


class NameNotFound(NotFound):
    """No such tag or digest of a repository.

    Attributes:
        reference: the name.
    """

    def __init__(self, reference: Reference) -> None:
        super().__init__(f"No such image: {reference.familiar}")
        self.reference = reference


class ImageInUse(Conflict):
    """An image, or a name of one, cannot be removed.

    Attributes:
        image: its id.
        forceable: whether force would do it.
        container: the container that uses it, or None.
    """

    def __init__(self, message: str, image: Digest, *, forceable: bool, container: str | None = None) -> None:
        super().__init__(message)
        self.image, self.forceable, self.container = image, forceable, container


class LayerNotFound(NotFound):
    """No unpacked layer has this chain id.

    Attributes:
        chain_id: what was asked for.
    """

    def __init__(self, chain_id: Digest) -> None:
        super().__init__(f"layer {chain_id} is not unpacked in the store")
        self.chain_id = chain_id


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """An image as the index has it; making one parses no document.

    Attributes:
        id: digest of its config.
        chain_id: of all its layers, or None when it has none.
        parent_id: the image it was built or committed from, where that is known here.
        created: RFC 3339 as the config has it, "" when absent.
        size: bytes of content in all layers.
        platform: os, architecture, variant.
        labels: from its config.
        added_at: when it came into this store, RFC 3339.
        last_used_at: when a container was last made from it, or a build; "" for never.
        tags: its names with a tag.
        digests: its names by digest, as pulled or pushed (RepoDigests).
        indexed: a tag points at an index that has it, for this platform or another.
    """

    id: Digest
    chain_id: Digest | None
    parent_id: Digest | None
    created: str
    size: int
    platform: Platform
    labels: Mapping[str, str] = field(hash=False)
    added_at: str
    last_used_at: str
    tags: tuple[Reference, ...] = ()
    digests: tuple[Reference, ...] = ()
    indexed: bool = False

    @property
    def dangling(self) -> bool:
        """Whether no tag names it, nor an index that has it."""
        return not self.tags and not self.indexed


@dataclass(frozen=True, slots=True)
class Name:
    """A tag.

    Attributes:
        reference: repository and tag.
        image: the image it runs as here.
        target: the manifest or index it was pulled as; None for what was built here.
        tagged_at: RFC 3339.
    """

    reference: Reference
    image: Digest
    target: Digest | None
    tagged_at: str


@dataclass(frozen=True, slots=True)
class Removed:
    """One line of `docker rmi`: exactly one of the two is set.

    Attributes:
        untagged: a name that is gone, in its short form.
        deleted: an image id, or the chain id of a layer, that is gone.
    """

    untagged: str = ""
    deleted: str = ""

    def __str__(self) -> str:
        return f"Untagged: {self.untagged}" if self.untagged else f"Deleted: {self.deleted}"
