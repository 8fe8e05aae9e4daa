"""Content digests (image-spec, descriptor.md, section Digests).

A `Digest` is parsed once, at the boundary, from an allow-list of algorithms with exact lower-case hex. Nothing else
may build a path or a URL from a digest, so `sha256:../../x` cannot exist past this module.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Final, Protocol

from lamina.errors import Invalid
from lamina.values import dataclass

HEX_LENGTH: Final = {"sha256": 64, "sha384": 96, "sha512": 128}
_SMALL: Final = 1 << 16  # a manifest or a configuration
_DIGEST = re.compile(r"(sha256|sha384|sha512):([0-9a-f]+)")


class InvalidDigest(Invalid):
    """The text is no digest of a supported algorithm."""

    def __init__(self, text: str) -> None:
        shown = text if len(text) <= 200 else text[:200] + "..."
        super().__init__(f"invalid digest {shown!r}: want ALGORITHM:HEX with sha256, sha384 or sha512")
        self.text = text


class Hasher(Protocol):
    """The part of hashlib's objects that lamina uses."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        """Add bytes."""

    def hexdigest(self) -> str:
        """The lower-case hex of everything added."""
        ...


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """The identity of a run of bytes. Made by `parse` or `of`; the constructor trusts its caller."""

    algorithm: str
    hex: str

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Parse `algorithm:hex`.

        Raises:
            InvalidDigest: unknown algorithm, wrong length, upper case or anything else.
        """
        match = _DIGEST.fullmatch(text) if isinstance(text, str) else None
        if match is None or len(match[2]) != HEX_LENGTH[match[1]]:
            raise InvalidDigest(text if isinstance(text, str) else repr(text))
        return cls(match[1], match[2])

    @classmethod
    def of(cls, data: bytes | bytearray | memoryview, algorithm: str = "sha256") -> Digest:
        """The digest of bytes in memory."""
        if algorithm == "sha256" and len(data) <= _SMALL and "hashlib" not in sys.modules:
            return cls(algorithm, small_sha256(data).hex())
        import hashlib

        return cls(algorithm, hashlib.new(algorithm, data).hexdigest())

    @classmethod
    def from_hasher(cls, hasher: Hasher, algorithm: str = "sha256") -> Digest:
        """The digest of what a hasher has seen."""
        return cls(algorithm, hasher.hexdigest())

    def hasher(self) -> Hasher:
        """A fresh hasher of this digest's algorithm, for verifying a stream."""
        import hashlib

        return hashlib.new(self.algorithm)

    @property
    def short(self) -> str:
        """The 12 hex characters that Docker shows."""
        return self.hex[:12]

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"


def sha256() -> Hasher:
    """A fresh SHA-256 hasher, the algorithm of everything lamina makes."""
    import hashlib

    return hashlib.sha256()


def small_sha256(data: bytes | bytearray | memoryview) -> bytes:
    """The SHA-256 of a few bytes, without OpenSSL: loading that takes longer than its speed gains."""
    try:
        from _sha2 import sha256 as make  # type: ignore[import-not-found] # Python 3.12
    except ImportError:
        try:
            from _sha256 import sha256 as make  # type: ignore[import-not-found]
        except ImportError:
            from hashlib import sha256 as make
    digest: bytes = make(data).digest()
    return digest


def chain_ids(diff_ids: list[Digest] | tuple[Digest, ...]) -> list[Digest]:
    """The chain id of each layer, bottom first (image-spec, config.md, section Layer ChainID)."""
    chain: list[Digest] = []
    for diff_id in diff_ids:
        chain.append(Digest.of(f"{chain[-1]} {diff_id}".encode()) if chain else diff_id)
    return chain


HasherFactory = Callable[[], Hasher]
EMPTY_SHA256: Final = Digest("sha256", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
