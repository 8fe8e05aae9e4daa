"""Tables of the registry database and their history (F21).

Names sort by bytes on every database: SQLite does so by itself, PostgreSQL with the "C" collation.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

SCHEMA_VERSION: Final = 1

metadata = sa.MetaData()


def _text(length: int) -> sa.types.TypeEngine[str]:
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


_DIGEST: Final = 140

schema_version = sa.Table("schema_version", metadata, sa.Column("version", sa.Integer, nullable=False))

repositories = sa.Table(
    "repositories",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", _text(255), nullable=False, unique=True),
)

repository_blobs = sa.Table(
    "repository_blobs",
    metadata,
    sa.Column("repository_id", sa.ForeignKey("repositories.id"), primary_key=True),
    sa.Column("digest", _text(_DIGEST), primary_key=True),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Index("repository_blobs_by_digest", "digest"),
)

manifests = sa.Table(
    "manifests",
    metadata,
    sa.Column("repository_id", sa.ForeignKey("repositories.id"), primary_key=True),
    sa.Column("digest", _text(_DIGEST), primary_key=True),
    sa.Column("media_type", sa.String(255), nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("subject", _text(_DIGEST)),
    sa.Column("artifact_type", sa.String(255), nullable=False),
    sa.Column("annotations", sa.Text, nullable=False),
    sa.Index("manifests_by_subject", "repository_id", "subject", "digest"),
    sa.Index("manifests_by_digest", "digest"),
)

#: Edges for the collector's mark phase: every digest that a stored manifest names.
manifest_references = sa.Table(
    "manifest_references",
    metadata,
    sa.Column("repository_id", sa.ForeignKey("repositories.id"), primary_key=True),
    sa.Column("manifest", _text(_DIGEST), primary_key=True),
    sa.Column("target", _text(_DIGEST), primary_key=True),
    sa.Column("kind", sa.String(8), nullable=False),
    sa.Index("manifest_references_by_target", "target"),
)

tags = sa.Table(
    "tags",
    metadata,
    sa.Column("repository_id", sa.ForeignKey("repositories.id"), primary_key=True),
    sa.Column("name", _text(128), primary_key=True),
    sa.Column("digest", _text(_DIGEST), nullable=False),
    sa.Index("tags_by_digest", "repository_id", "digest"),
)

uploads = sa.Table(
    "uploads",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("repository", _text(255), nullable=False),
    sa.Column("algorithm", sa.String(16), nullable=False),
    sa.Column("started", sa.Float(53), nullable=False),
    sa.Column("touched", sa.Float(53), nullable=False),
    sa.Index("uploads_by_touched", "touched"),
)
