"""Metadata in an SQL database, by SQLAlchemy Core: SQLite here, PostgreSQL by another URL."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Row

from lamina.registry.errors import ManifestBlobUnknown, SizeMismatch, TooManyUploads
from lamina.registry.metadata import schema as t
from lamina.registry.metadata.connect import open_engine, set_aside
from lamina.registry.metadata.failures import place_of, raise_typed
from lamina.registry.metadata.protocol import ManifestRecord, References, UploadRecord
from lamina.registry.names import Repository, Tag
from lamina.spec.digest import Digest

#: Made once: to put a query together takes longer than to run it.
_BLOB_SIZE: Final = (
    sa.select(t.repository_blobs.c.size)
    .join(t.repositories)
    .where(t.repositories.c.name == sa.bindparam("repository"), t.repository_blobs.c.digest == sa.bindparam("digest"))
)
#: Values in one IN list; SQLite's limit of bound variables was 999 for long.
_BATCH: Final = 500


class SqlMetadata:
    """`Metadata` over one database URL, for example `sqlite:////data/registry.db`.

    Every method raises StoreFull or MetadataUnavailable when the disk, or the database, refuses.
    """

    def __init__(self, url: str, *, beside: str = "") -> None:
        """Open or make it; `beside` is the directory with blobs that makes an empty one a loss: LostMetadata."""
        self._engine = open_engine(url, beside=beside)
        self._place = place_of(self._engine)
        self._watch = _Watch(self._engine.url.database) if self._engine.dialect.name == "sqlite" else None
        self._insert: Any = sqlite.insert if self._engine.dialect.name == "sqlite" else postgresql.insert

    def generation(self) -> int | None:
        """SQLite's data version: changes with every commit of any other connection; None elsewhere."""
        return self._watch.read() if self._watch else None

    def close(self) -> None:
        """Give connections back."""
        if self._watch:
            self._watch.close()
        self._engine.dispose()
        set_aside(self._engine)

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        try:
            with self._engine.connect() as connection:
                yield connection
        except sa.exc.DBAPIError as error:
            raise_typed(self._place, error)

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        try:
            with self._engine.connect().execution_options(lamina_write=True) as connection, connection.begin():
                yield connection
        except sa.exc.DBAPIError as error:
            raise_typed(self._place, error)

    # -- repositories

    def has_repository(self, repository: Repository) -> bool:
        """Whether anything was ever stored under the name."""
        with self._read() as connection:
            return _repository_id(connection, repository) is not None

    def repositories(self, after: str, limit: int) -> list[Repository]:
        """Names of repositories that hold a manifest, in byte order, past `after`."""
        holds = sa.exists().where(t.manifests.c.repository_id == t.repositories.c.id)
        query = sa.select(t.repositories.c.name).where(holds, t.repositories.c.name > after)
        with self._read() as connection:
            return [
                Repository(row[0]) for row in connection.execute(query.order_by(t.repositories.c.name).limit(limit))
            ]

    def _ensure_repository(self, connection: Connection, repository: Repository) -> int:
        found = _repository_id(connection, repository)
        if found is not None:
            return found
        connection.execute(self._insert(t.repositories).values(name=repository).on_conflict_do_nothing())
        made = _repository_id(connection, repository)
        assert made is not None
        return made

    # -- blobs

    def blob_size(self, repository: Repository, digest: Digest) -> int | None:
        """The size of a blob that the repository holds, or None."""
        with self._read() as connection:
            return connection.execute(_BLOB_SIZE, {"repository": repository, "digest": str(digest)}).scalar()

    def add_blob(self, repository: Repository, digest: Digest, size: int) -> None:
        """Make a blob a member of a repository."""
        with self._write() as connection:
            self._add_blob(connection, repository, digest, size)

    def _add_blob(self, connection: Connection, repository: Repository, digest: Digest, size: int) -> None:
        row = {"repository_id": self._ensure_repository(connection, repository), "digest": str(digest), "size": size}
        connection.execute(self._insert(t.repository_blobs).values(row).on_conflict_do_nothing())

    def remove_blob(self, repository: Repository, digest: Digest) -> bool:
        """End a blob's membership; False when there was none."""
        with self._write() as connection:
            held = t.repository_blobs.c
            gone = sa.delete(t.repository_blobs).where(
                held.repository_id == _id_of(repository), held.digest == str(digest)
            )
            return connection.execute(gone).rowcount > 0

    def repositories_with_blob(self, digest: Digest, limit: int) -> list[Repository]:
        """Some repositories that hold a blob."""
        query = (
            sa.select(t.repositories.c.name)
            .join(t.repository_blobs)
            .where(t.repository_blobs.c.digest == str(digest))
            .limit(limit)
        )
        with self._read() as connection:
            return [Repository(row[0]) for row in connection.execute(query)]

    # -- manifests and tags

    def manifest(self, repository: Repository, reference: Tag | Digest) -> ManifestRecord | None:
        """The manifest under a tag or digest, or None."""
        here = t.manifests.c.repository_id == _id_of(repository)
        if isinstance(reference, Digest):
            query = sa.select(t.manifests).where(here, t.manifests.c.digest == str(reference))
        else:
            same = (t.tags.c.repository_id == t.manifests.c.repository_id) & (t.tags.c.digest == t.manifests.c.digest)
            query = sa.select(t.manifests).join(t.tags, same).where(here, t.tags.c.name == reference)
        with self._read() as connection:
            row = connection.execute(query).first()
        return _record(row) if row else None

    def check_references(self, repository: Repository, references: References) -> None:
        """What `put_manifest` would check, without storing; raises the same."""
        with self._read() as connection:
            found = _repository_id(connection, repository)
            _check_references(connection, -1 if found is None else found, repository, references)

    def put_manifest(
        self, repository: Repository, record: ManifestRecord, references: References, tags: Sequence[Tag]
    ) -> None:
        """Store a manifest and point tags at it; what it needs is checked in the same transaction.

        Raises:
            ManifestBlobUnknown: something it needs is not in the repository.
            SizeMismatch: a blob has another size than the manifest says.
        """
        with self._write() as connection:
            repository_id = self._ensure_repository(connection, repository)
            _check_references(connection, repository_id, repository, references)
            values = {
                "repository_id": repository_id,
                "digest": str(record.digest),
                "media_type": record.media_type,
                "size": record.size,
                "subject": str(record.subject) if record.subject else None,
                "artifact_type": record.artifact_type,
                "annotations": json.dumps(dict(record.annotations), ensure_ascii=False),
            }
            insert = self._insert(t.manifests).values(values)
            connection.execute(
                insert.on_conflict_do_update(index_elements=["repository_id", "digest"], set_=dict(values))
            )
            edges = [
                {"repository_id": repository_id, "manifest": str(record.digest), "target": target, "kind": kind}
                for target, kind in _edges(record, references).items()
            ]
            if edges:
                connection.execute(self._insert(t.manifest_references).on_conflict_do_nothing(), edges)
            for tag in tags:
                row = {"repository_id": repository_id, "name": tag, "digest": str(record.digest)}
                point = self._insert(t.tags).values(row)
                connection.execute(
                    point.on_conflict_do_update(
                        index_elements=["repository_id", "name"], set_={"digest": str(record.digest)}
                    )
                )

    def remove_manifest(self, repository: Repository, digest: Digest) -> bool:
        """Remove a manifest with all its tags; False when absent."""
        with self._write() as connection:
            found = _repository_id(connection, repository)
            if found is None:
                return False
            for table, column in ((t.tags, t.tags.c.digest), (t.manifest_references, t.manifest_references.c.manifest)):
                connection.execute(sa.delete(table).where(table.c.repository_id == found, column == str(digest)))
            gone = sa.delete(t.manifests).where(
                t.manifests.c.repository_id == found, t.manifests.c.digest == str(digest)
            )
            return connection.execute(gone).rowcount > 0

    def remove_tag(self, repository: Repository, tag: Tag) -> bool:
        """Remove a tag and keep its manifest; False when absent."""
        with self._write() as connection:
            gone = sa.delete(t.tags).where(t.tags.c.repository_id == _id_of(repository), t.tags.c.name == tag)
            return connection.execute(gone).rowcount > 0

    def tags(self, repository: Repository, after: str, limit: int) -> list[Tag]:
        """Tags in byte order, past `after`."""
        query = (
            sa.select(t.tags.c.name)
            .where(t.tags.c.repository_id == _id_of(repository), t.tags.c.name > after)
            .order_by(t.tags.c.name)
            .limit(limit)
        )
        with self._read() as connection:
            return [Tag(row[0]) for row in connection.execute(query)]

    def referrers(
        self, repository: Repository, subject: Digest, artifact_type: str, after: str, limit: int
    ) -> list[ManifestRecord]:
        """Manifests whose subject is a digest, ordered by their digest as text, past `after`."""
        columns = t.manifests.c
        query = sa.select(t.manifests).where(
            columns.repository_id == _id_of(repository), columns.subject == str(subject), columns.digest > after
        )
        if artifact_type:
            query = query.where(columns.artifact_type == artifact_type)
        with self._read() as connection:
            return [_record(row) for row in connection.execute(query.order_by(columns.digest).limit(limit))]

    # -- uploads

    def add_upload(self, record: UploadRecord, limit: int) -> None:
        """Open a session.

        Raises:
            TooManyUploads: there are `limit` sessions already.
        """
        with self._write() as connection:
            if _count(connection) >= limit:
                raise TooManyUploads(limit)
            connection.execute(
                t.uploads.insert().values(
                    id=record.id,
                    repository=record.repository,
                    algorithm=record.algorithm,
                    started=record.started,
                    touched=record.touched,
                )
            )

    def upload(self, upload: str) -> UploadRecord | None:
        """A session, or None."""
        with self._read() as connection:
            row = connection.execute(sa.select(t.uploads).where(t.uploads.c.id == upload)).first()
        return _upload(row) if row else None

    def touch_upload(self, upload: str, now: float) -> None:
        """Note that the session is in use."""
        with self._write() as connection:
            connection.execute(sa.update(t.uploads).where(t.uploads.c.id == upload).values(touched=now))

    def finish_upload(self, upload: str, repository: Repository, digest: Digest, size: int) -> None:
        """Close a session whose bytes became a blob: membership and end of session in one step."""
        with self._write() as connection:
            self._add_blob(connection, repository, digest, size)
            connection.execute(sa.delete(t.uploads).where(t.uploads.c.id == upload))

    def remove_upload(self, upload: str) -> None:
        """Forget a session; absent ones are no error."""
        with self._write() as connection:
            connection.execute(sa.delete(t.uploads).where(t.uploads.c.id == upload))

    def uploads(self, *, idle_since: float | None = None, limit: int = 1000) -> list[UploadRecord]:
        """Sessions, oldest use first; only those not touched since a moment when it is given."""
        query = sa.select(t.uploads).order_by(t.uploads.c.touched).limit(limit)
        if idle_since is not None:
            query = query.where(t.uploads.c.touched < idle_since)
        with self._read() as connection:
            return [_upload(row) for row in connection.execute(query)]

    def count_uploads(self) -> int:
        """How many sessions are open."""
        with self._read() as connection:
            return _count(connection)


class _Watch:
    """SQLite's `data_version` on a connection that never writes: a few microseconds, no query planning."""

    def __init__(self, path: str | None) -> None:
        assert path is not None
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=0.0)
        self._cursor = self._connection.cursor()

    def read(self) -> int | None:
        with self._lock:
            try:
                return int(self._cursor.execute("PRAGMA data_version").fetchone()[0])
            except sqlite3.OperationalError:
                return None

    def close(self) -> None:
        with self._lock:
            self._connection.close()


def _id_of(repository: Repository) -> sa.ScalarSelect[int]:
    return sa.select(t.repositories.c.id).where(t.repositories.c.name == repository).scalar_subquery()


def _repository_id(connection: Connection, repository: Repository) -> int | None:
    return connection.execute(sa.select(t.repositories.c.id).where(t.repositories.c.name == repository)).scalar()


def _count(connection: Connection) -> int:
    return connection.execute(sa.select(sa.func.count()).select_from(t.uploads)).scalar() or 0


def _held(connection: Connection, table: sa.Table, repository_id: int, wanted: Iterable[Digest]) -> dict[str, int]:
    """Which of the digests a table of the repository has, with their sizes."""
    texts, found = [str(digest) for digest in wanted], dict[str, int]()
    for start in range(0, len(texts), _BATCH):
        query = sa.select(table.c.digest, table.c.size).where(
            table.c.repository_id == repository_id, table.c.digest.in_(texts[start : start + _BATCH])
        )
        found.update((row[0], row[1]) for row in connection.execute(query))
    return found


def _check_references(
    connection: Connection, repository_id: int, repository: Repository, references: References
) -> None:
    held = _held(connection, t.repository_blobs, repository_id, references.blobs)
    missing = [digest for digest in references.blobs if references.blobs_required and str(digest) not in held]
    if references.children_required:
        children = _held(connection, t.manifests, repository_id, references.children)
        children |= _held(connection, t.repository_blobs, repository_id, references.children)
        missing += [digest for digest in references.children if str(digest) not in children]
    if missing:
        raise ManifestBlobUnknown(repository, missing)
    for digest, size in references.blobs.items():
        if held.get(str(digest), size) != size:
            raise SizeMismatch(f"manifest says {size} bytes for {digest}, the blob has {held[str(digest)]}")


def _edges(record: ManifestRecord, references: References) -> dict[str, str]:
    edges = {str(digest): "foreign" for digest in references.foreign}
    edges |= {str(digest): "child" for digest in references.children}
    if record.subject:
        edges.setdefault(str(record.subject), "subject")
    return edges | {str(digest): "blob" for digest in references.blobs}


def _record(row: Row[Any]) -> ManifestRecord:
    return ManifestRecord(
        digest=Digest.parse(row.digest),
        media_type=row.media_type,
        size=row.size,
        subject=Digest.parse(row.subject) if row.subject else None,
        artifact_type=row.artifact_type,
        annotations=json.loads(row.annotations),
    )


def _upload(row: Row[Any]) -> UploadRecord:
    return UploadRecord(row.id, Repository(row.repository), row.algorithm, row.started, row.touched)
