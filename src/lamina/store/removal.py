"""Remove names and images under Docker's rules (S43), and prune what nothing names (S44).

Everything is decided and done in one transaction; the collector then frees what nothing needs any more.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from lamina.spec.digest import Digest
from lamina.spec.reference import Reference
from lamina.store.db import Database
from lamina.store.files import StoreFull, StoreIOFailed
from lamina.store.lookup import Found, Lookup
from lamina.store.marking import INDEXED_IMAGES, drop_layers
from lamina.store.records import ImageInUse, ImageRecord, Removed
from lamina.store.refs import remove_name, repository
from lamina.store.reserve import Reserve

_MAX_PARENTS: Final = 1000
_PLATFORMS: Final = """
    WITH RECURSIVE below(digest) AS (
        SELECT c.digest FROM names AS n JOIN index_children AS c ON c.parent = n.target
            WHERE n.repository = ? AND n.tag = ?
        UNION
        SELECT c.digest FROM index_children AS c JOIN below ON c.parent = below.digest
    )
    SELECT DISTINCT m.image_id FROM manifests AS m JOIN below ON m.digest = below.digest WHERE m.image_id IS NOT NULL
"""


class Removal:
    """Removes images."""

    def __init__(self, db: Database, lookup: Lookup, reserve: Reserve, keep: Callable[[], None]) -> None:
        """`keep` is called after each removal (`Ledger.keep`)."""
        self._db, self._lookup, self._reserve, self._keep = db, lookup, reserve, keep

    def remove(
        self,
        text: str,
        *,
        force: bool = False,
        prune: bool = True,
        running: Callable[[str], bool] = lambda _container: False,
    ) -> list[Removed]:
        """What `rmi` does with one argument: untag a name, and delete the image when that was its last one.

        Args:
            text: a name, an id or the start of one.
            force: in spite of stopped containers and further names.
            prune: also delete untagged images it was made from.
            running: whether a container, by id, is running; such an image is never deleted.

        Returns:
            What is gone, in order.

        Raises:
            ImageNotFound, AmbiguousImage: see `Lookup.find`.
            ImageInUse: a conflict, in Docker's words.
        """
        found = self._lookup.find(text)
        with self._reserve.released():
            with self._db.write() as connection:
                work = _Work(connection, force=force, prune=prune, running=running)
                work.remove(found, text)
                work.removed.extend(Removed(deleted=chain_id) for chain_id in drop_layers(connection))
            self._forget()
        return work.removed

    def prune(
        self,
        images: list[ImageRecord],
        *,
        untag: bool = False,
        running: Callable[[str], bool] = lambda _container: True,
    ) -> list[Removed]:
        """Deletes those of `images` that no container uses and nothing was made from; quietly keeps the others.

        Args:
            images: what the caller found to be unused: dangling ones, or all that no container uses.
            untag: take their names away too (`image prune -a`); without, an image that has got a name stays.
            running: whether a container is running.
        """
        removed: list[Removed] = []
        with self._reserve.released():
            for image in images:
                with self._db.write() as connection:
                    work = _Work(connection, force=False, prune=True, running=running)
                    work.prune_one(image.id, untag=untag)
                    removed += work.removed
                    removed += [Removed(deleted=chain_id) for chain_id in drop_layers(connection)]
            self._forget()
        return removed

    def _forget(self) -> None:
        # What is removed is removed, even where the disk has no room to note it; the collector notes it later.
        with suppress(StoreFull, StoreIOFailed):
            self._keep()


class _Work:
    """One removal inside a transaction."""

    def __init__(
        self, connection: sqlite3.Connection, *, force: bool, prune: bool, running: Callable[[str], bool]
    ) -> None:
        self._connection, self._force, self._prune, self._running = connection, force, prune, running
        self.removed: list[Removed] = []
        self._platforms: set[str] = set()  # images of the indexes that lost a name

    def remove(self, found: Found, text: str) -> None:
        """Untags, and deletes what that left without a name."""
        self._remove(found, text)
        self._delete_platforms()

    def _remove(self, found: Found, text: str) -> None:
        image = found.image.id
        tags, digests = self._names(image)
        if found.reference is not None:
            if not self._force and _single(tags, digests):
                self._refuse_used_name(image, text)
            self._untag(found.reference)
            tags, digests = self._names(image)
            if found.reference.digest is None:
                # Without a tag the digests of the same repository name nothing that a user would know.
                gone = found.reference.repository
                if all(tag.repository != gone for tag in tags):
                    for digest in [each for each in digests if each.repository == gone]:
                        self._untag(digest)
            if any(self._names(image)) or str(image) in self._indexed():
                return
            self._delete(image, quiet=True)
            return
        if _single(tags, digests):
            self._check(image, ignore_names=True)
            for name in (*tags, *digests):
                self._untag(name)
        self._delete(image, quiet=False)

    def prune_one(self, image: Digest, *, untag: bool) -> None:
        """Deletes an image that nothing uses."""
        if not untag and str(image) in self._indexed():
            return
        tags, digests = self._names(image)
        leased = self._connection.execute(
            "SELECT 1 FROM lease_items WHERE kind = 'image' AND key = ?", (str(image),)
        ).fetchone()
        if leased or (tags and not untag) or self._conflict(image, soft=True, names=False) is not None:
            return
        for name in (*tags, *digests):
            self._untag(name)
        self._delete(image, quiet=True)
        self._delete_platforms()

    def _indexed(self) -> set[str]:
        return {row[0] for row in self._connection.execute(INDEXED_IMAGES)}

    def _delete_platforms(self) -> None:
        """Deletes the images for other platforms that came with an index which no tag points at any more."""
        for key in sorted(self._platforms - self._indexed()):
            image = Digest.parse(key)
            leased = self._connection.execute(
                "SELECT 1 FROM lease_items WHERE kind = 'image' AND key = ?", (key,)
            ).fetchone()
            if not leased and self._conflict(image, soft=True, names=True) is None:
                self._delete(image, quiet=True)

    def _delete(self, image: Digest, *, quiet: bool) -> None:
        """Deletes an image, then the untagged ones it was made from."""
        current: Digest | None = image
        for _ in range(_MAX_PARENTS):
            if current is None:
                return
            conflict = self._conflict(current, soft=not self._force or current != image, names=True)
            if conflict is not None:
                if quiet:
                    return
                raise conflict
            row = self._connection.execute("SELECT parent_id FROM images WHERE id = ?", (str(current),)).fetchone()
            if row is None:
                return
            for name in (*self._names(current)[0], *self._names(current)[1]):
                self._untag(name)
            self._connection.execute("DELETE FROM images WHERE id = ?", (str(current),))
            self._connection.execute("DELETE FROM lease_items WHERE kind = 'image' AND key = ?", (str(current),))
            self.removed.append(Removed(deleted=str(current)))
            current = Digest.parse(row[0]) if self._prune and row[0] else None
            if current is not None and any(self._names(current)):
                return
            quiet = True

    def _untag(self, name: Reference) -> None:
        if name.digest is None:
            values = (str(name.repository), name.tag or "latest")
            self._platforms.update(row[0] for row in self._connection.execute(_PLATFORMS, values))
        if remove_name(self._connection, name) is not None:
            self.removed.append(Removed(untagged=name.familiar))

    def _names(self, image: Digest) -> tuple[list[Reference], list[Reference]]:
        tags = self._connection.execute(
            "SELECT repository, tag FROM names WHERE image_id = ? ORDER BY repository, tag", (str(image),)
        ).fetchall()
        digests = self._connection.execute(
            "SELECT repository, digest FROM repo_digests WHERE image_id = ? ORDER BY repository, digest", (str(image),)
        ).fetchall()
        return (
            [Reference(repository(row[0]), row[1]) for row in tags],
            [Reference(repository(row[0]), "", Digest.parse(row[1])) for row in digests],
        )

    def _containers(self, image: Digest) -> list[str]:
        rows = self._connection.execute(
            "SELECT id FROM containers WHERE image_id = ? ORDER BY created_at, id", (str(image),)
        ).fetchall()
        return [str(row[0]) for row in rows]

    def _refuse_used_name(self, image: Digest, text: str) -> None:
        for container in self._containers(image):
            raise ImageInUse(
                f'conflict: unable to remove repository reference "{text}" (must force) - container {container[:12]}'
                f" is using its referenced image {image.short}",
                image,
                forceable=True,
                container=container,
            )

    def _check(self, image: Digest, *, ignore_names: bool) -> None:
        conflict = self._conflict(image, soft=not self._force, names=not ignore_names)
        if conflict is not None:
            raise conflict

    def _conflict(self, image: Digest, *, soft: bool, names: bool) -> ImageInUse | None:
        """What forbids deleting an image, in Docker's order; `soft` conflicts are those that force overrides."""
        child = self._connection.execute("SELECT 1 FROM images WHERE parent_id = ?", (str(image),)).fetchone()
        if child is not None:
            return _conflict(image, "image has dependent child images", forceable=False)
        containers = self._containers(image)
        for container in containers:
            if self._running(container):
                message = f"image is being used by running container {container[:12]}"
                return _conflict(image, message, forceable=False, container=container)
        if not soft:
            return None
        tags, digests = self._names(image)
        if names and (tags or digests):
            return _conflict(image, "image is referenced in multiple repositories", forceable=True)
        for container in containers:
            message = f"image is being used by stopped container {container[:12]}"
            return _conflict(image, message, forceable=True, container=container)
        return None


def _conflict(image: Digest, why: str, *, forceable: bool, container: str | None = None) -> ImageInUse:
    must = "must be forced" if forceable else "cannot be forced"
    message = f"conflict: unable to delete {image.short} ({must}) - {why}"
    return ImageInUse(message, image, forceable=forceable, container=container)


def _single(tags: list[Reference], digests: list[Reference]) -> bool:
    """Whether all names are one: a tag, with digests of the same repository or without."""
    if len(tags) + len(digests) == 1:
        return True
    repositories = {digest.repository for digest in digests}
    if len(tags) > 1 or not repositories:
        return False
    one = (tags or digests)[0].repository
    return repositories == {one}
