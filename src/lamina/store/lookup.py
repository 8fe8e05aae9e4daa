"""Find an image by what a user types: name, name with digest, id, or the start of an id (S05)."""

from __future__ import annotations

import re
from typing import Final

from lamina.spec.digest import Digest, InvalidDigest
from lamina.spec.reference import InvalidReference, Reference
from lamina.store.images import ImageStore
from lamina.store.records import AmbiguousImage, ImageNotFound, ImageRecord
from lamina.store.refs import RefStore
from lamina.values import dataclass

_PREFIX: Final = re.compile(r"(?:sha256:)?([0-9a-f]{1,64})")


@dataclass(frozen=True, slots=True)
class Found:
    """An image and how it was found.

    Attributes:
        image: the image.
        reference: the name that led to it (with its tag, or its digest); None when it was found by id.
        target: the manifest or index that the name was pulled as, where there is one.
    """

    image: ImageRecord
    reference: Reference | None = None
    target: Digest | None = None


class Lookup:
    """Resolves names and ids."""

    def __init__(self, images: ImageStore, refs: RefStore) -> None:
        self._images, self._refs = images, refs

    def find(self, text: str) -> Found:
        """Resolves as Docker does: a full id, then a name, then the start of an id.

        Raises:
            ImageNotFound: nothing fits; `No such image: NAME`.
            AmbiguousImage: an id prefix fits several images.
        """
        try:
            return Found(self._images.get(Digest.parse(text)))
        except (InvalidDigest, ImageNotFound):
            pass
        named = self._by_name(text)
        if named is not None:
            return named
        match = _PREFIX.fullmatch(text)
        if match is not None:
            ids = self._images.ids_with_prefix(match[1])
            if len(ids) > 1:
                raise AmbiguousImage(text, tuple(ids))
            if ids:
                return Found(self._images.get(ids[0]))
        raise ImageNotFound(_shown(text))

    def try_find(self, text: str) -> Found | None:
        """Like `find`, None when nothing fits.

        Raises:
            AmbiguousImage: an id prefix fits several images.
        """
        try:
            return self.find(text)
        except ImageNotFound:
            return None

    def _by_name(self, text: str) -> Found | None:
        try:
            reference = Reference.parse(text)
        except InvalidReference:
            return None
        if reference.digest is not None:
            # The digest decides; a tag beside it is a comment (distribution/reference).
            image = self._images.id_by_repo_digest(reference.repository, reference.digest)
            if image is None:
                return None
            pinned = reference.repository
            return Found(self._images.get(image), Reference(pinned, "", reference.digest), reference.digest)
        name = self._refs.get(reference)
        return None if name is None else Found(self._images.get(name.image), name.reference, name.target)


def _shown(text: str) -> str:
    """As Docker repeats it: a name with its tag."""
    try:
        return Reference.parse(text).tagged().familiar
    except InvalidReference:
        return text
