"""Names: a repository and tag point at an image, a repository and digest at what was pulled or pushed under it.

A tag moves in one transaction (S17, F17): readers see the old image or the new one, and the old one stays, untagged.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from datetime import datetime

from lamina.errors import Internal
from lamina.spec.digest import Digest
from lamina.spec.reference import Reference, Repository
from lamina.spec.timestamp import rfc3339, utc_now
from lamina.store.db import Database
from lamina.store.records import ImageNotFound, Name, NameNotFound


class RefStore:
    """The names of a store."""

    def __init__(self, db: Database, keep: Callable[[], None], clock: Callable[[], datetime] = utc_now) -> None:
        """`keep` is called after each change of a name (`Ledger.keep`)."""
        self._db, self._keep, self._clock = db, keep, clock

    def tag(self, reference: Reference, image: Digest, *, target: Digest | None = None) -> Digest | None:
        """Points a name at an image, moving it when it exists; durable when this returns.

        Args:
            reference: with a tag (`latest` when it has none); a digest in it is ignored.
            image: an image of this store.
            target: the manifest or index to remember for a byte-identical push; it must be stored.

        Returns:
            The image it pointed at before, or None.

        Raises:
            ImageNotFound: no such image.
        """
        repository, tag = str(reference.repository), reference.tag or "latest"
        with self._db.write() as connection:
            before = connection.execute(
                "SELECT image_id FROM names WHERE repository = ? AND tag = ?", (repository, tag)
            ).fetchone()
            put_name(connection, repository, tag, image, target, rfc3339(self._clock()))
        self._keep()
        return Digest.parse(before[0]) if before and before[0] != str(image) else None

    def untag(self, reference: Reference) -> Digest:
        """Removes a tag, or a name by digest; returns the image it pointed at, which stays.

        Raises:
            NameNotFound: no such name.
        """
        with self._db.write() as connection:
            image = remove_name(connection, reference)
        if image is None:
            raise NameNotFound(reference)
        self._keep()
        return image

    def get(self, reference: Reference) -> Name | None:
        """What a tag points at (`latest` when the reference has none); None when there is no such tag."""
        tag = reference.tag or "latest"
        with self._db.read() as connection:
            row = connection.execute(
                "SELECT image_id, target, tagged_at FROM names WHERE repository = ? AND tag = ?",
                (str(reference.repository), tag),
            ).fetchone()
        if row is None:
            return None
        return Name(Reference(reference.repository, tag), Digest.parse(row[0]), _digest(row[1]), row[2])

    def all(self) -> list[Name]:
        """Every tag, in order of repository and tag."""
        with self._db.read() as connection:
            rows = connection.execute(
                "SELECT repository, tag, image_id, target, tagged_at FROM names ORDER BY repository, tag"
            ).fetchall()
        return [
            Name(Reference(repository(row[0]), row[1]), Digest.parse(row[2]), _digest(row[3]), row[4]) for row in rows
        ]

    def add_digest(self, repository: Repository, digest: Digest, image: Digest) -> None:
        """Notes that a repository has an image under the digest of a manifest or index (RepoDigests).

        Raises:
            ImageNotFound: no such image.
        """
        with self._db.write() as connection:
            put_digest(connection, repository, digest, image)
        self._keep()


def put_name(
    connection: sqlite3.Connection, repository: str, tag: str, image: Digest, target: Digest | None, now: str
) -> None:
    """Writes a tag within the caller's transaction.

    Raises:
        ImageNotFound: no such image.
    """
    if connection.execute("SELECT 1 FROM images WHERE id = ?", (str(image),)).fetchone() is None:
        raise ImageNotFound(str(image))
    connection.execute(
        "INSERT INTO names (repository, tag, image_id, target, tagged_at) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (repository, tag) DO UPDATE SET"
        " image_id = excluded.image_id, target = excluded.target, tagged_at = excluded.tagged_at",
        (repository, tag, str(image), None if target is None else str(target), now),
    )


def put_digest(connection: sqlite3.Connection, repository: Repository, digest: Digest, image: Digest) -> None:
    """Writes a name by digest within the caller's transaction.

    Raises:
        ImageNotFound: no such image.
    """
    if connection.execute("SELECT 1 FROM images WHERE id = ?", (str(image),)).fetchone() is None:
        raise ImageNotFound(str(image))
    connection.execute(
        "INSERT OR IGNORE INTO repo_digests (repository, digest, image_id) VALUES (?, ?, ?)",
        (str(repository), str(digest), str(image)),
    )


def remove_name(connection: sqlite3.Connection, reference: Reference) -> Digest | None:
    """Removes a tag, or a name by digest, within the caller's transaction; returns its image, None for no such name."""
    name = str(reference.repository)
    if reference.digest is not None:
        where = "repo_digests WHERE repository = ? AND digest = ?"
        values: Iterable[str] = (name, str(reference.digest))
    else:
        where, values = "names WHERE repository = ? AND tag = ?", (name, reference.tag or "latest")
    row = connection.execute(f"SELECT image_id FROM {where}", tuple(values)).fetchone()  # noqa: S608 - constants
    if row is None:
        return None
    connection.execute(f"DELETE FROM {where}", tuple(values))  # noqa: S608
    return Digest.parse(row[0])


def repository(text: str) -> Repository:
    """A repository as the index spells it: always with its host."""
    host, slash, path = text.partition("/")
    if not slash:
        raise Internal(f"the index holds the repository name {text!r}, which has no host")
    return Repository(host, path)


def _digest(text: str | None) -> Digest | None:
    return None if text is None else Digest.parse(text)
