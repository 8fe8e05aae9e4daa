"""Where everything lies on disk. Every path of the store is built here and nowhere else.

ROOT/                       0711  containers of other users pass through to their root file systems
  lamina.db  -wal  -shm     0600  the index (store.db)
  names.json                0600  the names of images once more, to rebuild the index from (store.ledger)
  blobs/                    0700  content by digest, laid out like an OCI image layout's blobs/
    sha256/HEX              0600
  ingest/                   0700  content not complete yet
    sha256-HEX.part         0600  expected digest known: resumed by whoever wants it next
    UUID.part               0600  digest not known yet: dropped with its writer
  locks/                    0700  one file for each digest being ingested, while it is
  snapshots/                0711  file trees, by a name that is never used twice
    DIR/                    0711
      fs/                         the tree (vfs) or this layer's changes (overlay: upper, later lower)
      work/                       overlay's scratch directory, gone once committed
      snapshot.json         0600  what the index knows about it, to rebuild the index from
  containers/ID/                  the container runtime's: logs, files of /etc
    record.json             0600  what the index knows about it, to rebuild the index from (store.container_files)
  quarantine/               0700  what fsck --repair set aside
"""

from __future__ import annotations

import re
from typing import Final

from lamina.errors import Internal
from lamina.spec.digest import Digest, InvalidDigest, small_sha256
from lamina.values import dataclass

DIRECTORY: Final = 0o700
TRAVERSABLE: Final = 0o711
FILE: Final = 0o600

#: How the directories begin in which storage drivers are tried out.
PROBE: Final = "probe-"

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,159}")
_PART = ".part"


@dataclass(frozen=True, slots=True)
class StorePaths:
    """The tree under `root`, an absolute path."""

    root: str

    @property
    def database(self) -> str:
        """The index."""
        return f"{self.root}/lamina.db"

    @property
    def names(self) -> str:
        """The names of images, beside the index."""
        return f"{self.root}/names.json"

    @property
    def reserve(self) -> str:
        """Space for cleaning up."""
        return f"{self.root}/reserve"

    @property
    def blobs(self) -> str:
        """Content by digest."""
        return f"{self.root}/blobs"

    @property
    def ingest(self) -> str:
        """Content that is not complete."""
        return f"{self.root}/ingest"

    @property
    def locks(self) -> str:
        """Lock files."""
        return f"{self.root}/locks"

    @property
    def snapshots(self) -> str:
        """File trees."""
        return f"{self.root}/snapshots"

    @property
    def volumes(self) -> str:
        """The container runtime's volumes, which it makes there."""
        return f"{self.root}/volumes"

    @property
    def quarantine(self) -> str:
        """What fsck set aside."""
        return f"{self.root}/quarantine"

    def directories(self) -> tuple[tuple[str, int], ...]:
        """Every fixed directory with its mode, parents first."""
        return (
            (self.root, TRAVERSABLE),
            (self.blobs, DIRECTORY),
            (f"{self.blobs}/sha256", DIRECTORY),
            (self.ingest, DIRECTORY),
            (self.locks, DIRECTORY),
            (self.snapshots, TRAVERSABLE),
        )

    def snapshot(self, name: str) -> str:
        """The directory of one snapshot."""
        return f"{self.snapshots}/{checked(name)}"


def blob_file(blobs: str, digest: Digest) -> str:
    """The file of a blob below the directory `blobs`."""
    return f"{blobs}/{digest.algorithm}/{digest.hex}"


def part_file(ingest: str, name: str) -> str:
    """The file of an upload below the directory `ingest`."""
    return f"{ingest}/{checked(name)}{_PART}"


def part_name(file_name: str) -> str | None:
    """The upload that a file of the ingest directory belongs to; None when it is none."""
    name = file_name.removesuffix(_PART)
    return name if file_name.endswith(_PART) and _NAME.fullmatch(name) else None


def upload_name(digest: Digest) -> str:
    """The upload in which content with this expected digest gathers."""
    return f"{digest.algorithm}-{digest.hex}"


def upload_digest(name: str) -> Digest | None:
    """The expected digest of an upload; None when it was not known."""
    algorithm, _, rest = name.partition("-")
    try:
        return Digest.parse(f"{algorithm}:{rest}")
    except InvalidDigest:
        return None


def lock_file(locks: str, kind: str, key: str) -> str:
    """The lock file of a key; keys may hold anything."""
    return f"{locks}/{checked(kind)}-{small_sha256(key.encode()).hex()}"


def checked(name: str) -> str:
    """A name that is safe as one path component.

    Raises:
        Internal: it is not; nothing from outside may come this far.
    """
    if not _NAME.fullmatch(name):
        raise Internal(f"{name[:80]!r} is not a name of the store")
    return name
