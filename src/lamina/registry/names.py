"""Names as registries see them: parsed strictly before they are used for anything (R15, threat 49)."""

from __future__ import annotations

from typing import NewType

from lamina.errors import Invalid
from lamina.registry.errors import NameInvalid, TagInvalid
from lamina.spec.digest import Digest
from lamina.spec.reference import is_repository_path, is_tag

Repository = NewType("Repository", str)
Tag = NewType("Tag", str)


def parse_repository(text: str) -> Repository:
    """A repository path such as `team/app`.

    Raises:
        NameInvalid: it breaks the grammar or has more than 255 characters.
    """
    if not is_repository_path(text):
        raise NameInvalid(text)
    return Repository(text)


def parse_tag(text: str) -> Tag:
    """A tag such as `v1.2`.

    Raises:
        TagInvalid: it breaks the grammar or has more than 128 characters.
    """
    if not is_tag(text):
        raise TagInvalid(text)
    return Tag(text)


def parse_reference(text: str) -> Tag | Digest:
    """A tag, or a digest when there is a colon in it, which no tag may hold.

    Raises:
        TagInvalid: neither is well-formed.
        InvalidDigest: it looks like a digest and is none.
    """
    return Digest.parse(text) if ":" in text else parse_tag(text)


def is_digest(text: str) -> bool:
    """Whether the text is a digest of a supported algorithm."""
    try:
        Digest.parse(text)
    except Invalid:
        return False
    return True
