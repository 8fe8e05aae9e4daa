"""What the registry asks of its metadata database.

All methods are synchronous, thread-safe and atomic: each is one transaction, durable when it returns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from lamina.registry.names import Repository, Tag
from lamina.spec.digest import Digest
from lamina.values import dataclass, field


@dataclass(frozen=True, slots=True)
class ManifestRecord:
    """What is known about a manifest in a repository, without its bytes. `size` in bytes."""

    digest: Digest
    media_type: str
    size: int
    subject: Digest | None = None
    artifact_type: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class References:
    """What a manifest refers to.

    Attributes:
        blobs: config and layers with the sizes the manifest declares.
        blobs_required: whether the blobs must be in the repository; those that are must have their size either way.
        foreign: layers that need not be stored (non-distributable).
        children: entries of an index; manifests, or blobs in a build cache.
        children_required: whether the children must be in the repository.
    """

    blobs: Mapping[Digest, int] = field(default_factory=dict)
    blobs_required: bool = True
    foreign: Sequence[Digest] = ()
    children: Sequence[Digest] = ()
    children_required: bool = False


@dataclass(frozen=True, slots=True)
class UploadRecord:
    """An upload session. `started` and `touched` are seconds since the epoch."""

    id: str
    repository: Repository
    algorithm: str
    started: float
    touched: float


class Metadata(Protocol):
    """The tables, as verbs."""

    def generation(self) -> int | None:
        """A number that changes whenever anything committed, by any process; None when this is not cheap to know."""

    def close(self) -> None:
        """Give connections back."""

    # -- repositories
    def has_repository(self, repository: Repository) -> bool:
        """Whether anything was ever stored under the name."""
        ...

    def repositories(self, after: str, limit: int) -> list[Repository]:
        """Names of repositories that hold a manifest, in byte order, past `after`."""
        ...

    # -- blobs
    def blob_size(self, repository: Repository, digest: Digest) -> int | None:
        """The size of a blob that the repository holds, or None."""

    def add_blob(self, repository: Repository, digest: Digest, size: int) -> None:
        """Make a blob a member of a repository."""

    def remove_blob(self, repository: Repository, digest: Digest) -> bool:
        """End a blob's membership; False when there was none."""
        ...

    def repositories_with_blob(self, digest: Digest, limit: int) -> list[Repository]:
        """Some repositories that hold a blob."""
        ...

    # -- manifests and tags
    def manifest(self, repository: Repository, reference: Tag | Digest) -> ManifestRecord | None:
        """The manifest under a tag or digest, or None."""

    def check_references(self, repository: Repository, references: References) -> None:
        """What `put_manifest` would check, without storing; raises the same."""

    def put_manifest(
        self, repository: Repository, record: ManifestRecord, references: References, tags: Sequence[Tag]
    ) -> None:
        """Store a manifest and point tags at it.

        Raises:
            ManifestBlobUnknown: something it needs is not in the repository.
            SizeMismatch: a blob has another size than the manifest says.
        """

    def remove_manifest(self, repository: Repository, digest: Digest) -> bool:
        """Remove a manifest with all its tags; False when absent."""
        ...

    def remove_tag(self, repository: Repository, tag: Tag) -> bool:
        """Remove a tag and keep its manifest; False when absent."""
        ...

    def tags(self, repository: Repository, after: str, limit: int) -> list[Tag]:
        """Tags in byte order, past `after`."""
        ...

    def referrers(
        self, repository: Repository, subject: Digest, artifact_type: str, after: str, limit: int
    ) -> list[ManifestRecord]:
        """Manifests whose subject is a digest, ordered by their digest as text, past `after`."""
        ...

    # -- uploads
    def add_upload(self, record: UploadRecord, limit: int) -> None:
        """Open a session.

        Raises:
            TooManyUploads: there are `limit` sessions already.
        """

    def upload(self, upload: str) -> UploadRecord | None:
        """A session, or None."""

    def touch_upload(self, upload: str, now: float) -> None:
        """Note that the session is in use."""

    def finish_upload(self, upload: str, repository: Repository, digest: Digest, size: int) -> None:
        """Close a session whose bytes became a blob: membership and end of session in one step."""

    def remove_upload(self, upload: str) -> None:
        """Forget a session; absent ones are no error."""

    def uploads(self, *, idle_since: float | None = None, limit: int = 1000) -> list[UploadRecord]:
        """Sessions, oldest use first; only those not touched since a moment when it is given."""
        ...

    def count_uploads(self) -> int:
        """How many sessions are open."""
        ...
