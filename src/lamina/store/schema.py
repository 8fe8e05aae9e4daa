"""The store's tables: numbered migrations, applied forward only.

`PRAGMA user_version` holds the number of the last one applied. A migration is a tuple of single statements, never
edited once released; a change of the tables is a new entry at the end. Times are RFC 3339 text in UTC, sizes are bytes,
`doc` columns hold JSON that only their owner reads.
"""

from __future__ import annotations

from typing import Final

_V1: Final = (
    # Facts about the store itself: its id, its storage driver.
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    # Content. A row is the truth about a blob's existence; a file without one is an orphan.
    "CREATE TABLE blobs (digest TEXT PRIMARY KEY, size INTEGER NOT NULL, created_at TEXT NOT NULL) WITHOUT ROWID",
    # File trees. `dir` is the name of the directory, never used twice, so a removed tree cannot be revived by mistake.
    # `size` counts content as Docker shows it, `disk` what du counts; both of this tree alone, without its parents.
    # `unsynced` is the boot in which the tree was written, while no sync has made it durable: it dies with that boot.
    """CREATE TABLE snapshots (
        key TEXT PRIMARY KEY,
        parent TEXT REFERENCES snapshots(key),
        kind TEXT NOT NULL CHECK (kind IN ('active', 'view', 'committed')),
        dir TEXT NOT NULL UNIQUE,
        size INTEGER NOT NULL DEFAULT 0,
        disk INTEGER NOT NULL DEFAULT 0,
        inodes INTEGER NOT NULL DEFAULT 0,
        unsynced TEXT,
        created_at TEXT NOT NULL,
        last_used_at TEXT NOT NULL
    )""",
    "CREATE INDEX snapshots_unsynced ON snapshots(unsynced) WHERE unsynced IS NOT NULL",
    "CREATE INDEX snapshots_parent ON snapshots(parent)",
    # Which snapshot holds the file tree of a chain of layers (image-spec, config.md, Layer ChainID).
    """CREATE TABLE layers (
        chain_id TEXT PRIMARY KEY,
        parent TEXT,
        diff_id TEXT NOT NULL,
        snapshot TEXT NOT NULL REFERENCES snapshots(key)
    ) WITHOUT ROWID""",
    "CREATE INDEX layers_snapshot ON layers(snapshot)",
    "CREATE INDEX layers_diff_id ON layers(diff_id)",
    # The blobs that unpack to a layer: one for each compression it was seen in.
    """CREATE TABLE layer_blobs (
        diff_id TEXT NOT NULL,
        digest TEXT NOT NULL,
        media_type TEXT NOT NULL,
        size INTEGER NOT NULL,
        created_at TEXT NOT NULL,
        PRIMARY KEY (diff_id, digest)
    ) WITHOUT ROWID""",
    "CREATE INDEX layer_blobs_digest ON layer_blobs(digest)",
    # Images by id, which is the digest of their config. The columns are what `images` prints and filters by.
    """CREATE TABLE images (
        id TEXT PRIMARY KEY,
        chain_id TEXT,
        parent_id TEXT,
        created TEXT,
        size INTEGER NOT NULL,
        os TEXT NOT NULL,
        architecture TEXT NOT NULL,
        variant TEXT NOT NULL,
        labels TEXT NOT NULL,
        added_at TEXT NOT NULL,
        last_used_at TEXT
    ) WITHOUT ROWID""",
    "CREATE INDEX images_chain ON images(chain_id)",
    "CREATE INDEX images_parent ON images(parent_id)",
    """CREATE TABLE image_layers (
        image_id TEXT NOT NULL REFERENCES images(id) ON DELETE CASCADE,
        position INTEGER NOT NULL,
        diff_id TEXT NOT NULL,
        chain_id TEXT NOT NULL,
        PRIMARY KEY (image_id, position)
    ) WITHOUT ROWID""",
    "CREATE INDEX image_layers_chain ON image_layers(chain_id)",
    "CREATE INDEX image_layers_diff_id ON image_layers(diff_id)",
    # Manifests and indexes exactly as they came; the bytes are blobs. image_id is NULL for an index, for an artifact
    # (an attestation), and for a manifest whose image is not here.
    """CREATE TABLE manifests (
        digest TEXT PRIMARY KEY,
        media_type TEXT NOT NULL,
        size INTEGER NOT NULL,
        image_id TEXT REFERENCES images(id) ON DELETE CASCADE,
        added_at TEXT NOT NULL
    ) WITHOUT ROWID""",
    "CREATE INDEX manifests_image ON manifests(image_id)",
    # The blobs that a manifest names (config and layers), so that they live as long as it does.
    """CREATE TABLE manifest_blobs (
        manifest TEXT NOT NULL REFERENCES manifests(digest) ON DELETE CASCADE,
        position INTEGER NOT NULL,
        digest TEXT NOT NULL,
        PRIMARY KEY (manifest, position)
    ) WITHOUT ROWID""",
    "CREATE INDEX manifest_blobs_digest ON manifest_blobs(digest)",
    """CREATE TABLE index_children (
        parent TEXT NOT NULL REFERENCES manifests(digest) ON DELETE CASCADE,
        position INTEGER NOT NULL,
        digest TEXT NOT NULL,
        PRIMARY KEY (parent, position)
    ) WITHOUT ROWID""",
    "CREATE INDEX index_children_digest ON index_children(digest)",
    # Names: repository and tag point at an image, and at the manifest or index they were pulled as.
    """CREATE TABLE names (
        repository TEXT NOT NULL,
        tag TEXT NOT NULL,
        image_id TEXT NOT NULL REFERENCES images(id),
        target TEXT,
        tagged_at TEXT NOT NULL,
        PRIMARY KEY (repository, tag)
    ) WITHOUT ROWID""",
    "CREATE INDEX names_image ON names(image_id)",
    "CREATE INDEX names_target ON names(target)",
    # Repo digests: under which digest a repository has the image.
    """CREATE TABLE repo_digests (
        repository TEXT NOT NULL,
        digest TEXT NOT NULL,
        image_id TEXT NOT NULL REFERENCES images(id) ON DELETE CASCADE,
        PRIMARY KEY (repository, digest, image_id)
    ) WITHOUT ROWID""",
    "CREATE INDEX repo_digests_image ON repo_digests(image_id)",
    # What running operations hold.
    """CREATE TABLE leases (
        id TEXT PRIMARY KEY,
        purpose TEXT NOT NULL,
        pid INTEGER NOT NULL,
        start TEXT NOT NULL,
        created_at TEXT NOT NULL,
        expires_at TEXT
    ) WITHOUT ROWID""",
    """CREATE TABLE lease_items (
        lease TEXT NOT NULL REFERENCES leases(id) ON DELETE CASCADE,
        kind TEXT NOT NULL,
        key TEXT NOT NULL,
        PRIMARY KEY (lease, kind, key)
    ) WITHOUT ROWID""",
    "CREATE INDEX lease_items_key ON lease_items(kind, key)",
    # Deleted in the index, maybe still on disk: the collector finishes these after a crash.
    "CREATE TABLE doomed (kind TEXT NOT NULL, key TEXT NOT NULL, PRIMARY KEY (kind, key)) WITHOUT ROWID",
    # The container runtime's.
    """CREATE TABLE containers (
        id TEXT PRIMARY KEY, name TEXT UNIQUE, created_at TEXT, image_id TEXT, snapshot_key TEXT, doc TEXT
    ) WITHOUT ROWID""",
    "CREATE INDEX containers_image ON containers(image_id)",
    "CREATE INDEX containers_snapshot ON containers(snapshot_key)",
    """CREATE TABLE endpoints (
        container_id TEXT, network TEXT, ip TEXT, mac TEXT, doc TEXT, PRIMARY KEY (network, ip)
    ) WITHOUT ROWID""",
    "CREATE INDEX endpoints_container ON endpoints(container_id)",
    "CREATE TABLE volumes (name TEXT PRIMARY KEY, created_at TEXT, doc TEXT) WITHOUT ROWID",
    "CREATE TABLE networks (name TEXT PRIMARY KEY, id TEXT UNIQUE, created_at TEXT, doc TEXT) WITHOUT ROWID",
    """CREATE TABLE ports (
        proto TEXT, host_ip TEXT, host_port INTEGER, container_id TEXT, PRIMARY KEY (proto, host_ip, host_port)
    ) WITHOUT ROWID""",
    "CREATE INDEX ports_container ON ports(container_id)",
    # The builder's.
    """CREATE TABLE build_cache (
        key TEXT PRIMARY KEY, snapshot TEXT, doc TEXT, created_at TEXT, last_used_at TEXT, size INTEGER
    ) WITHOUT ROWID""",
    "CREATE INDEX build_cache_snapshot ON build_cache(snapshot)",
    """CREATE TABLE stat_cache (
        path TEXT PRIMARY KEY, inode INTEGER, size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER, digest TEXT
    ) WITHOUT ROWID""",
)

#: Oldest first; the store is at version N when the first N have been applied.
MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (_V1,)
VERSION: Final = len(MIGRATIONS)
