"""Images: configs, their layers, and the manifests they came with, kept byte for byte (S01, decision 8).

The image id is the digest of the config. Manifests and indexes are first-class: a name may point at an index of which
only some platforms are here.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final

from lamina.errors import Integrity, Internal
from lamina.spec.digest import Digest, chain_ids
from lamina.spec.platform import Platform
from lamina.spec.reference import Reference, Repository
from lamina.spec.timestamp import rfc3339, utc_now
from lamina.store import marking, refs
from lamina.store.blobs import BlobNotFound, BlobStore
from lamina.store.db import Database
from lamina.store.leases import BLOB, IMAGE, SNAPSHOT, Lease, Leases
from lamina.store.records import ImageNotFound, ImageRecord, LayerNotFound

# Listing images parses no document; what reads documents is imported where one is read.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from lamina.spec.config import ImageConfig
    from lamina.spec.manifest import Index, Manifest


class ImageMismatch(Integrity):
    """A manifest and a config do not belong together.

    Attributes:
        manifest: the manifest's digest.
        image: the config's.
    """

    def __init__(self, manifest: Digest, image: Digest, problem: str) -> None:
        super().__init__(f"manifest {manifest} and config {image} do not match: {problem}")
        self.manifest, self.image = manifest, image


class ImageStore:
    """The images of a store."""

    def __init__(
        self,
        db: Database,
        blobs: BlobStore,
        leases: Leases,
        keep: Callable[[], None],
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        """`keep` is called after each change of a name (`Ledger.keep`)."""
        self._db, self._blobs, self._leases, self._keep, self._clock = db, blobs, leases, keep, clock

    # --- writing -------------------------------------------------------------------------------------------------

    def put(
        self,
        config: ImageConfig,
        *,
        manifest: Manifest | None = None,
        parent: Digest | None = None,
        tags: Iterable[Reference] = (),
        target: Digest | None = None,
        digests: Iterable[tuple[Repository, Digest]] = (),
        lease: Lease | None = None,
    ) -> ImageRecord:
        """Stores an image whose layers are unpacked here, with its names, as one step; durable when this returns.

        Args:
            config: its bytes make the id.
            manifest: exactly as received, for a byte-identical push.
            parent: the image it was made from, kept as long as this one.
            tags: names that point at it from now on.
            target: what the tags remember as pulled: an index put before; default the manifest.
            digests: names by digest (RepoDigests).
            lease: holds it; the process's own when None.

        Returns:
            The image; the same one when it was here already.

        Raises:
            LayerNotFound: a layer is not unpacked.
            ImageMismatch: the manifest names another config, or another number of layers.
            StoreFull, StoreIOFailed: the disk refuses.
        """
        lease = lease or self._leases.session()
        image = self._blobs.put(config.raw, lease=lease)
        if manifest is not None:
            _check(manifest, config, image)
            self._blobs.put(manifest.raw, lease=lease)
            target = target or manifest.digest
        now = rfc3339(self._clock())
        with self._db.write() as connection:
            insert_image(connection, config, image, parent, now)
            if manifest is not None:
                insert_manifest(connection, manifest, image, now)
            for tag in tags:
                refs.put_name(connection, str(tag.repository), tag.tag or "latest", image, target, now)
            for repository, digest in digests:
                refs.put_digest(connection, repository, digest, image)
            lease.add_in(connection, IMAGE, [str(image)])
        self._keep()
        return self.get(image)

    def put_index(self, index: Index, *, lease: Lease | None = None) -> Digest:
        """Stores an index exactly as received. Its children may be here or not.

        It stays while a name points at it, or a lease holds its blob.
        """
        lease = lease or self._leases.session()
        digest = self._blobs.put(index.raw, lease=lease)
        with self._db.write() as connection:
            insert_index(connection, index, rfc3339(self._clock()))
        return digest

    def put_manifest(self, manifest: Manifest, image: Digest, *, lease: Lease | None = None) -> Digest:
        """Adds a manifest to an image that is here: what a push or a build made of it.

        Raises:
            ImageNotFound: no such image.
            ImageMismatch: it names another config.
        """
        lease = lease or self._leases.session()
        _check(manifest, self.config(image), image)
        digest = self._blobs.put(manifest.raw, lease=lease)
        with self._db.write() as connection:
            if connection.execute("SELECT 1 FROM images WHERE id = ?", (str(image),)).fetchone() is None:
                raise ImageNotFound(str(image))
            insert_manifest(connection, manifest, image, rfc3339(self._clock()))
        return digest

    def put_artifact(self, manifest: Manifest, *, lease: Lease | None = None) -> Digest:
        """Stores the manifest of something that is no image: an attestation in an index. Its blobs are stored before.

        It stays, with its blobs, while an index that names it does, or a lease holds it.
        """
        lease = lease or self._leases.session()
        digest = self._blobs.put(manifest.raw, lease=lease)
        with self._db.write() as connection:
            insert_manifest(connection, manifest, None, rfc3339(self._clock()))
        return digest

    def touch(self, image: Digest) -> None:
        """Notes that the image was used now."""
        with self._db.write() as connection:
            connection.execute("UPDATE images SET last_used_at = ? WHERE id = ?", (rfc3339(self._clock()), str(image)))

    # --- reading -------------------------------------------------------------------------------------------------

    def get(self, image: Digest) -> ImageRecord:
        """An image by its full id.

        Raises:
            ImageNotFound: no such image.
        """
        found = self._select("WHERE id = ?", str(image))
        if not found:
            raise ImageNotFound(str(image))
        return found[0]

    def all(self) -> list[ImageRecord]:
        """Every image, the latest created first; parses no config."""
        return self._select("ORDER BY created DESC, id")

    def config(self, image: Digest) -> ImageConfig:
        """An image's config, verified.

        Raises:
            ImageNotFound: no such image.
            BlobNotFound, DamagedBlob: its config is lost or damaged; pull or load the image again.
        """
        from lamina.spec.config import ImageConfig

        self.get(image)
        return ImageConfig.parse(self._blobs.read(image))

    def hold(self, image: Digest, lease: Lease) -> ImageRecord:
        """Leases an image with everything it is made of: it is not pruned, and its parts outlive even its removal.

        Raises:
            ImageNotFound: no such image.
        """
        key = str(image)
        with self._db.write() as connection:
            if connection.execute("SELECT 1 FROM images WHERE id = ?", (key,)).fetchone() is None:
                raise ImageNotFound(key)
            lease.add_in(connection, IMAGE, [key])
            blobs = connection.execute(_PARTS, {"image": key}).fetchall()
            lease.add_in(connection, BLOB, [row[0] for row in blobs])
            snapshots = connection.execute(
                "SELECT l.snapshot FROM images AS i JOIN layers AS l ON l.chain_id = i.chain_id WHERE i.id = ?", (key,)
            ).fetchall()
            lease.add_in(connection, SNAPSHOT, [row[0] for row in snapshots])
        return self.get(image)

    def manifests(self, image: Digest) -> list[Manifest]:
        """The manifests that came with an image or were made of it, oldest first, verified."""
        from lamina.spec.manifest import Manifest

        with self._db.read() as connection:
            found = connection.execute(
                "SELECT digest FROM manifests WHERE image_id = ? ORDER BY added_at, digest", (str(image),)
            ).fetchall()
        manifests = [self.manifest(Digest.parse(row[0])) for row in found]
        return [manifest for manifest in manifests if isinstance(manifest, Manifest)]

    def manifest(self, digest: Digest) -> Manifest | Index:
        """A stored manifest or index by its digest, verified.

        Raises:
            ImageNotFound: none is stored under this digest.
            BlobNotFound, DamagedBlob: its bytes are lost or damaged.
        """
        with self._db.read() as connection:
            row = connection.execute("SELECT media_type FROM manifests WHERE digest = ?", (str(digest),)).fetchone()
        if row is None:
            raise ImageNotFound(str(digest))
        from lamina.spec.manifest import parse_manifest

        return parse_manifest(self._blobs.read(digest), row[0])

    def complete(self, digest: Digest) -> bool:
        """Whether a manifest is here with all that it names; an index, with everything below it."""
        from lamina.spec.manifest import Index

        pending, seen = [digest], {digest}
        while pending:
            current = pending.pop()
            try:
                document = self.manifest(current)
            except (ImageNotFound, BlobNotFound):
                return False
            if isinstance(document, Index):
                found = {child.digest for child in document.manifests} - seen
                pending += found
                seen |= found
            elif self.image_of(current) is None and not all(self._blobs.stat(blob.digest) for blob in document.blobs()):
                return False
        return True

    def image_of(self, manifest: Digest) -> Digest | None:
        """The image that a stored manifest describes; None for an index, or when it is not here."""
        with self._db.read() as connection:
            row = connection.execute("SELECT image_id FROM manifests WHERE digest = ?", (str(manifest),)).fetchone()
        return Digest.parse(row[0]) if row is not None and row[0] is not None else None

    def layers(self, image: Digest) -> list[tuple[Digest, Digest]]:
        """The layers of an image, bottom first: (diffID, chain id)."""
        with self._db.read() as connection:
            found = connection.execute(
                "SELECT diff_id, chain_id FROM image_layers WHERE image_id = ? ORDER BY position", (str(image),)
            ).fetchall()
        return [(Digest.parse(row[0]), Digest.parse(row[1])) for row in found]

    def snapshot(self, image: Digest) -> str | None:
        """The key of the committed snapshot that shows the image's file tree; None for an image without layers.

        Raises:
            ImageNotFound: no such image.
            LayerNotFound: its layers are lost; pull or load it again.
        """
        record = self.get(image)
        if record.chain_id is None:
            return None
        with self._db.read() as connection:
            row = connection.execute(
                "SELECT snapshot FROM layers WHERE chain_id = ?", (str(record.chain_id),)
            ).fetchone()
        if row is None:
            raise LayerNotFound(record.chain_id)
        return str(row[0])

    def children(self, image: Digest) -> list[Digest]:
        """The images that were made from this one."""
        with self._db.read() as connection:
            found = connection.execute("SELECT id FROM images WHERE parent_id = ?", (str(image),)).fetchall()
        return [Digest.parse(row[0]) for row in found]

    def ids_with_prefix(self, prefix: str) -> list[Digest]:
        """The ids whose hex starts with `prefix` (lower-case hex)."""
        with self._db.read() as connection:
            found = connection.execute(
                "SELECT id FROM images WHERE id >= ? AND id < ? ORDER BY id LIMIT 16",
                (f"sha256:{prefix}", f"sha256:{prefix}g"),
            ).fetchall()
        return [Digest.parse(row[0]) for row in found]

    def id_by_repo_digest(self, repository: Repository, digest: Digest) -> Digest | None:
        """The image that a repository has under a digest."""
        with self._db.read() as connection:
            row = connection.execute(
                "SELECT image_id FROM repo_digests WHERE repository = ? AND digest = ?", (str(repository), str(digest))
            ).fetchone()
        return None if row is None else Digest.parse(row[0])

    def _select(self, where: str, *values: str) -> list[ImageRecord]:
        with self._db.read() as connection:
            found = connection.execute(
                "SELECT id, chain_id, parent_id, created, size, os, architecture, variant, labels, added_at,"  # noqa: S608
                f" last_used_at FROM images {where}",
                values,
            ).fetchall()
            only = "WHERE image_id = ?" if values else ""
            tags: dict[str, list[Reference]] = {}
            query = f"SELECT image_id, repository, tag FROM names {only} ORDER BY repository, tag"  # noqa: S608
            for image, name, tag in connection.execute(query, values):
                tags.setdefault(image, []).append(Reference(refs.repository(name), tag))
            digests: dict[str, list[Reference]] = {}
            query = f"SELECT image_id, repository, digest FROM repo_digests {only} ORDER BY repository, digest"  # noqa: S608
            for image, name, digest in connection.execute(query, values):
                digests.setdefault(image, []).append(Reference(refs.repository(name), "", Digest.parse(digest)))
            indexed = {row[0] for row in connection.execute(marking.INDEXED_IMAGES)}
        return [
            ImageRecord(
                Digest.parse(row[0]),
                Digest.parse(row[1]) if row[1] else None,
                Digest.parse(row[2]) if row[2] else None,
                row[3],
                row[4],
                Platform(row[5], row[6], row[7]),
                json.loads(row[8]),
                row[9],
                row[10] or "",
                tuple(tags.get(row[0], ())),
                tuple(digests.get(row[0], ())),
                row[0] in indexed,
            )
            for row in found
        ]


_PARTS: Final = """
    SELECT :image
    UNION SELECT digest FROM manifests WHERE image_id = :image
    UNION SELECT p.parent FROM index_children AS p JOIN manifests AS m ON m.digest = p.digest WHERE m.image_id = :image
    UNION SELECT b.digest FROM layer_blobs AS b JOIN image_layers AS l ON l.diff_id = b.diff_id
        WHERE l.image_id = :image
"""


def insert_image(
    connection: sqlite3.Connection, config: ImageConfig, image: Digest, parent: Digest | None, now: str
) -> None:
    """Writes an image's rows within the caller's transaction.

    Raises:
        LayerNotFound: a layer is not unpacked, or not durable yet.
    """
    chain = chain_ids(config.diff_ids)
    size = 0
    for chain_id in chain:
        row = connection.execute(
            "SELECT s.size FROM layers AS l JOIN snapshots AS s ON s.key = l.snapshot"
            " WHERE l.chain_id = ? AND s.unsynced IS NULL",
            (str(chain_id),),
        ).fetchone()
        if row is None:
            raise LayerNotFound(chain_id)
        size += row[0]
    connection.execute(
        "INSERT INTO images (id, chain_id, parent_id, created, size, os, architecture, variant, labels, added_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (id) DO UPDATE SET parent_id = COALESCE(excluded.parent_id, parent_id), size = excluded.size",
        (
            str(image),
            str(chain[-1]) if chain else None,
            None if parent is None else str(parent),
            config.created,
            size,
            config.platform.os,
            config.platform.architecture,
            config.platform.variant,
            json.dumps(dict(config.config.labels)),
            now,
        ),
    )
    connection.executemany(
        "INSERT OR IGNORE INTO image_layers (image_id, position, diff_id, chain_id) VALUES (?, ?, ?, ?)",
        [
            (str(image), position, str(diff_id), str(chain_id))
            for position, (diff_id, chain_id) in enumerate(zip(config.diff_ids, chain, strict=True))
        ],
    )


def insert_index(connection: sqlite3.Connection, index: Index, now: str) -> None:
    """Writes an index's rows within the caller's transaction."""
    digest = str(index.digest)
    connection.execute(
        "INSERT OR IGNORE INTO manifests (digest, media_type, size, image_id, added_at) VALUES (?, ?, ?, NULL, ?)",
        (digest, index.media_type, len(index.raw), now),
    )
    connection.executemany(
        "INSERT OR IGNORE INTO index_children (parent, position, digest) VALUES (?, ?, ?)",
        [(digest, position, str(child.digest)) for position, child in enumerate(index.manifests)],
    )


def insert_manifest(connection: sqlite3.Connection, manifest: Manifest, image: Digest | None, now: str) -> None:
    """Writes a manifest's rows within the caller's transaction; `image` is None for an artifact."""
    digest = str(manifest.digest)
    connection.execute(
        "INSERT INTO manifests (digest, media_type, size, image_id, added_at) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (digest) DO UPDATE SET image_id = COALESCE(excluded.image_id, image_id)",
        (digest, manifest.media_type, len(manifest.raw), None if image is None else str(image), now),
    )
    connection.executemany(
        "INSERT OR IGNORE INTO manifest_blobs (manifest, position, digest) VALUES (?, ?, ?)",
        [(digest, position, str(blob.digest)) for position, blob in enumerate(manifest.blobs())],
    )


def _check(manifest: Manifest, config: ImageConfig, image: Digest) -> None:
    if manifest.config.digest.algorithm != image.algorithm:
        raise Internal(f"images are named by {image.algorithm}, not {manifest.config.digest.algorithm}")
    if manifest.config.digest != image:
        raise ImageMismatch(manifest.digest, image, f"it names config {manifest.config.digest}")
    if len(manifest.layers) != len(config.diff_ids):
        raise ImageMismatch(
            manifest.digest, image, f"{len(manifest.layers)} layers there, {len(config.diff_ids)} diffIDs here"
        )
