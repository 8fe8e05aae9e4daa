"""How cache keys are made: one framing for all, so that no two different lists of parts collide."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from lamina.spec.digest import Digest

#: Part of every key: raise it when the meaning of a recorded result changes.
FORMAT = b"lamina-cache-1"


def make_key(*parts: bytes | str | Digest) -> Digest:
    """The key for an ordered list of parts."""
    hasher = hashlib.sha256(FORMAT)
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogateescape")
        hasher.update(len(data).to_bytes(8, "big"))
        hasher.update(data)
    return Digest.from_hasher(hasher)


def list_part(items: Iterable[str]) -> bytes:
    """Frame a list so that it can be one part (`["a", "b"]` and `["ab"]` differ)."""
    encoded = [item.encode("utf-8", "surrogateescape") for item in items]
    return b"".join(len(item).to_bytes(8, "big") + item for item in encoded)
