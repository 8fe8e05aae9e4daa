"""What can go wrong in a registry: concrete errors that carry their facts; `api.errors` gives each its wire code."""

from __future__ import annotations

from collections.abc import Sequence

from lamina.errors import Conflict, Denied, Integrity, Invalid, LimitExceeded, NotFound, Unsupported
from lamina.spec.digest import Digest


class NameInvalid(Invalid):
    """The repository name breaks the grammar (R15)."""

    def __init__(self, name: str) -> None:
        super().__init__(f"invalid repository name {_shown(name)}")
        self.name = name


class TagInvalid(Invalid):
    """The tag breaks the grammar (R15)."""

    def __init__(self, tag: str) -> None:
        super().__init__(f"invalid tag {_shown(tag)}")
        self.tag = tag


class NameUnknown(NotFound):
    """No such repository."""

    def __init__(self, name: str) -> None:
        super().__init__(f"repository {name} not known to registry")
        self.name = name


class BlobUnknown(NotFound):
    """The repository does not hold the blob, whatever other repositories hold (threat 50)."""

    def __init__(self, repository: str, digest: Digest) -> None:
        super().__init__(f"blob {digest} unknown to repository {repository}")
        self.repository, self.digest = repository, digest


class ManifestUnknown(NotFound):
    """The repository holds no such manifest or tag."""

    def __init__(self, repository: str, reference: str) -> None:
        super().__init__(f"manifest {reference} unknown to repository {repository}")
        self.repository, self.reference = repository, reference


class ManifestInvalid(Invalid):
    """The manifest cannot be stored as it is."""


class ManifestBlobUnknown(NotFound):
    """A manifest refers to content that the repository does not hold."""

    def __init__(self, repository: str, missing: Sequence[Digest]) -> None:
        first = ", ".join(str(digest) for digest in missing[:3])
        super().__init__(f"manifest refers to {len(missing)} blob(s) unknown to repository {repository}: {first}")
        self.repository, self.missing = repository, tuple(missing)


class SizeMismatch(Invalid):
    """A length that was declared is not the length that is there."""


class DigestMismatch(Integrity):
    """Content does not have the digest that was promised for it."""

    def __init__(self, expected: Digest, actual: Digest) -> None:
        super().__init__(f"content has digest {actual}, not {expected}")
        self.expected, self.actual = expected, actual


class UploadUnknown(NotFound):
    """No such upload session in this repository: never begun, finished, cancelled or expired."""

    def __init__(self, upload: str) -> None:
        super().__init__("upload session unknown: never begun, finished, cancelled or expired")
        self.upload = upload


class UploadOutOfOrder(Conflict):
    """A chunk does not begin where the session ends; `offset` is where it ends (R06, F14)."""

    def __init__(self, upload: str, offset: int) -> None:
        super().__init__(f"chunk out of order: the session holds {offset} bytes")
        self.upload, self.offset = upload, offset


class UploadInvalid(Invalid):
    """The request for an upload session makes no sense."""


class MethodNotAllowed(Unsupported):
    """The resource does not know the method; `allowed` are those it knows."""

    def __init__(self, method: str, allowed: Sequence[str]) -> None:
        super().__init__(f"method {_shown(method)} is not supported here")
        self.allowed = tuple(allowed)


class RouteUnknown(NotFound):
    """The path is none of the protocol."""

    def __init__(self) -> None:
        super().__init__("no such endpoint")


class RangeUnsatisfiable(Conflict):
    """A read range lies outside of the blob; `size` is the blob's length in bytes."""

    def __init__(self, size: int) -> None:
        super().__init__(f"range not satisfiable: the blob has {size} bytes")
        self.size = size


class TooManyUploads(LimitExceeded):
    """The registry holds as many open upload sessions as it may."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} upload sessions are open, try again later")
        self.limit = limit


class ManifestTooLarge(LimitExceeded):
    """A manifest is longer than the registry accepts; `limit` in bytes."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"manifest exceeds the limit of {limit} bytes")
        self.limit = limit


class BlobTooLarge(LimitExceeded):
    """A blob is longer than the registry accepts; `limit` in bytes."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"blob exceeds the limit of {limit} bytes")
        self.limit = limit


class SlowClient(LimitExceeded):
    """A request body arrives too slowly, or not at all."""


class PageInvalid(Invalid):
    """`n` is no count."""

    def __init__(self, text: str) -> None:
        super().__init__(f"invalid number of results requested: n={_shown(text)}")


class DeleteDisabled(Unsupported):
    """The registry is configured to keep everything."""

    def __init__(self) -> None:
        super().__init__("deletes are disabled on this registry")


class AccessDenied(Denied):
    """The caller may not do that here."""


class DamagedContent(NotFound):
    """Stored bytes do not match their digest any more; they are never served (F20)."""

    def __init__(self, digest: Digest) -> None:
        super().__init__(f"stored content of {digest} is damaged; push it again to repair it")
        self.digest = digest


class NewerSchema(Unsupported):
    """The database was written by a newer lamina (F21)."""

    def __init__(self, found: int, known: int) -> None:
        super().__init__(
            f"the registry database has schema {found}, this lamina knows {known}",
            hint="use the newer lamina that wrote it",
        )
        self.found, self.known = found, known


def _shown(text: str) -> str:
    return repr(text if len(text) <= 100 else text[:100] + "...")
