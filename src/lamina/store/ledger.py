"""What no content tells, kept beside the index, so that a lost index comes back with it (F5, ADR 0015).

`names.json` holds the names of images and which image was made from which. It is written after the transaction that
changed them and before success is reported, and always as a whole from what the index says then: whoever writes last
has read last, so writers need no order, and one that died in between is made up for by the next.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Sequence
from typing import Any, Final

from lamina.errors import LaminaError
from lamina.spec.digest import Digest
from lamina.spec.reference import Reference
from lamina.store.db import Database
from lamina.store.files import Files, raise_typed
from lamina.store.locks import KeyLocks
from lamina.store.refs import put_name, repository
from lamina.values import dataclass

_VERSION: Final = 1
_LIMIT: Final = 256 << 20


@dataclass(frozen=True, slots=True)
class Names:
    """The content of the ledger; every row as the index has it.

    Attributes:
        tags: (repository, tag, image id, digest of what it was pulled as or "").
        digests: (repository, digest, image id).
        parents: (image id, id of the image it was made from).
    """

    tags: tuple[tuple[str, ...], ...] = ()
    digests: tuple[tuple[str, ...], ...] = ()
    parents: tuple[tuple[str, ...], ...] = ()


class Ledger:
    """The file of names of a store."""

    def __init__(self, path: str, db: Database, locks: KeyLocks, files: Files) -> None:
        self._path, self._db, self._locks, self._files = path, db, locks, files

    def keep(self) -> None:
        """Makes the file say what the index says now; durable when this returns. Costs a read when it does already.

        Raises:
            StoreFull, StoreIOFailed: the disk refuses; the index has the names all the same.
        """
        if self.current():
            return
        with self._locks.hold("names", ""):
            text = _text(self._indexed())
            try:
                fd = self._files.create(f"{self._path}.new")
                try:
                    self._files.truncate(fd, 0)
                    self._files.write(fd, text)
                    self._files.sync(fd)
                finally:
                    os.close(fd)
                self._files.rename(f"{self._path}.new", self._path)
                self._files.sync_dir(os.path.dirname(self._path))
            except OSError as error:
                raise_typed(self._path, error)

    def current(self) -> bool:
        """Whether the file says what the index says."""
        indexed = self._indexed()
        written = self._bytes()
        return written == _text(indexed) if written is not None else indexed == Names()

    def difference(self) -> list[str]:
        """The tags that only the file or only the index has, or that each has for another image."""
        return sorted({f"{row[0]}:{row[1]}" for row in {*self._indexed().tags} ^ {*self.read().tags}})

    def read(self) -> Names:
        """What the file says; nothing when there is none, or one that cannot be used."""
        written = self._bytes()
        try:
            document = json.loads(written or b"{}")
            if document.get("version") != _VERSION:
                return Names()
            return Names(
                _rows(document["tags"], 4),
                _rows(document["digests"], 3),
                _rows(document["parents"], 2),
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            return Names()

    def _indexed(self) -> Names:
        with self._db.read() as connection:
            return Names(
                tuple(connection.execute(_TAGS).fetchall()),
                tuple(connection.execute(_DIGESTS).fetchall()),
                tuple(connection.execute(_PARENTS).fetchall()),
            )

    def _bytes(self) -> bytes | None:
        try:
            with open(self._path, "rb") as file:
                return file.read(_LIMIT)
        except OSError:
            return None


_TAGS: Final = "SELECT repository, tag, image_id, COALESCE(target, '') FROM names ORDER BY repository, tag"
_DIGESTS: Final = "SELECT repository, digest, image_id FROM repo_digests ORDER BY repository, digest, image_id"
_PARENTS: Final = "SELECT id, parent_id FROM images WHERE parent_id IS NOT NULL ORDER BY id"


def restore(connection: sqlite3.Connection, names: Names, now: str) -> tuple[list[str], list[str]]:
    """Gives images that came back their names, within the caller's transaction.

    Returns:
        The names that came back, and those whose image did not, as users write them.
    """
    back: list[str] = []
    lost: list[str] = []
    for name, tag, image, target in names.tags:
        shown = f"{name}:{tag}"
        try:
            reference = Reference.parse(shown)
            shown = reference.familiar
            there = connection.execute("SELECT 1 FROM manifests WHERE digest = ?", (target,)).fetchone()
            pulled_as = Digest.parse(target) if there is not None else None
            put_name(connection, str(reference.repository), reference.tag, Digest.parse(image), pulled_as, now)
            back.append(shown)
        except LaminaError:
            lost.append(shown)
    for name, digest, image in names.digests:
        try:
            there = connection.execute("SELECT 1 FROM images WHERE id = ?", (image,)).fetchone()
            if there is not None:
                connection.execute(
                    "INSERT OR IGNORE INTO repo_digests (repository, digest, image_id) VALUES (?, ?, ?)",
                    (str(repository(name)), str(Digest.parse(digest)), image),
                )
        except LaminaError:
            continue
    connection.executemany(
        "UPDATE images SET parent_id = ?2 WHERE id = ?1 AND ?2 IN (SELECT id FROM images)", names.parents
    )
    return back, lost


def _text(names: Names) -> bytes:
    """One row a line, so that people can read it and a change of one name changes one line."""

    def lines(rows: Sequence[Sequence[str]]) -> str:
        return ",".join("\n  " + json.dumps(row) for row in rows)

    parts = [f'"{key}": [{lines(getattr(names, key))}]' for key in ("tags", "digests", "parents")]
    return (f'{{"version": {_VERSION},\n' + ",\n".join(parts) + "}\n").encode()


def _rows(value: Any, width: int) -> tuple[tuple[str, ...], ...]:
    rows = tuple(tuple(row) for row in value)
    if any(len(row) != width or not all(isinstance(cell, str) for cell in row) for row in rows):
        raise TypeError("a row of another shape")
    return rows
