"""Examine the whole store and name each damage with its cause; on request, set it aside (F4, F20, A1).

Nothing is ever deleted by an examination, and a repair deletes nothing that may be wanted: damaged blobs and unknown
trees go to `quarantine/`. What is set aside counts as missing, so that it is fetched or made again when it is needed.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Final

from lamina.progress import Progress, ProgressSink, discard
from lamina.spec.digest import Digest, InvalidDigest
from lamina.spec.timestamp import rfc3339
from lamina.store import container_files
from lamina.store import paths as layout
from lamina.store.backends.driver import BlobNotFound, ByteDriver
from lamina.store.db import DamagedDatabase, Database
from lamina.store.files import Files, StoreIOFailed, raise_typed
from lamina.store.leases import SNAPSHOT, Leases
from lamina.store.ledger import Ledger
from lamina.store.locks import KeyLocks
from lamina.store.paths import StorePaths
from lamina.store.rebuild import LOST_NAMES, REBUILT_AT
from lamina.values import dataclass

_CHUNK: Final = 1 << 20
_LOOKS: Final = 10
_PAUSE: Final = 0.05


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        kind: `index`, `blob`, `snapshot`, `layer`, `image`, `name`, `lease`, `partial`, `file` or `mode`.
        subject: what it is about: a digest, a key, a path.
        problem: what is wrong.
        cause: how it can have come about.
        harmful: it can make an operation fail or hide data; otherwise it only takes space, and the collector or a
            repair frees it.
        repaired: what was done about it, "" when nothing was.
    """

    kind: str
    subject: str
    problem: str
    cause: str
    harmful: bool = True
    repaired: str = ""

    def __str__(self) -> str:
        done = f" [{self.repaired}]" if self.repaired else ""
        return f"{self.kind} {self.subject}: {self.problem} ({self.cause}){done}"


@dataclass(frozen=True, slots=True)
class Report:
    """What an examination found.

    Attributes:
        findings: everything that is wrong.
        blobs, snapshots: how many were examined.
        bytes: blob bytes read.
    """

    findings: tuple[Finding, ...]
    blobs: int
    snapshots: int
    bytes: int

    @property
    def clean(self) -> bool:
        """Nothing is wrong, or all of it was put right."""
        return all(finding.repaired for finding in self.findings)


class Fsck:
    """Examines a store.

    Attributes:
        pause: seconds between looks at a file that is behind the index: it may be about to be written.
    """

    def __init__(
        self,
        db: Database,
        driver: ByteDriver,
        paths: StorePaths,
        locks: KeyLocks,
        leases: Leases,
        ledger: Ledger,
        files: Files,
        clock: Callable[[], datetime],
    ) -> None:
        self._db, self._driver, self._paths, self._locks = db, driver, paths, locks
        self._leases, self._ledger, self._files, self._clock = leases, ledger, files, clock
        self.pause = _PAUSE

    def run(self, *, repair: bool = False, content: bool = True, report: ProgressSink = discard) -> Report:
        """Examines everything. Other processes may use the store meanwhile.

        Args:
            repair: put right what can be; see the module.
            content: read every blob and compare its digest; without, only sizes are compared.
            report: told of each blob.

        Raises:
            DamagedDatabase: the index cannot be read at all; or (repair) it is damaged, which `Store.reset_index`
                puts right.
        """
        problems = self._db.check()
        if problems and repair:
            raise DamagedDatabase(self._paths.database, problems[0])
        findings = [Finding("index", self._paths.database, each, "a crash or a fault of the disk") for each in problems]
        findings += self._rebuilt(repair=repair)
        damaged, blobs, size = self._blobs(content=content, report=report)
        findings += self._settle_blobs(damaged, repair=repair)
        trees = list(self._snapshots())
        findings += self._settle_snapshots(trees, repair=repair)
        findings += self._references(repair=repair)
        findings += self._unknown_containers(repair=repair)
        findings += self._leftovers(repair=repair)
        findings += self._names_file(repair=repair)
        findings += self._container_files(repair=repair)
        findings += self._modes(repair=repair)
        with self._db.read() as connection:
            snapshots = int(connection.execute("SELECT count(*) FROM snapshots").fetchone()[0])
        return Report(tuple(findings), blobs, snapshots, size)

    # --- the index ------------------------------------------------------------------------------------------------

    def _rebuilt(self, *, repair: bool) -> Iterator[Finding]:
        """What the loss of an index cost: said until a repair, so that it is said to somebody."""
        with self._db.read() as connection:
            facts = dict(connection.execute("SELECT key, value FROM meta").fetchall())
        if REBUILT_AT not in facts:
            return
        cause = f"the index was lost, and made again from the content at {facts[REBUILT_AT]}"
        yield self._run(
            repair,
            Finding("index", self._paths.database, "it knows no build cache from before", cause),
            "DELETE FROM meta WHERE key = ?",
            (REBUILT_AT,),
            "noted",
        )
        for name in json.loads(facts.get(LOST_NAMES, "[]")):
            finding = Finding("name", name, "its image did not come back; pull or load it again", cause)
            yield self._run(repair, finding, "DELETE FROM meta WHERE key = ?", (LOST_NAMES,), "noted")

    def _names_file(self, *, repair: bool) -> Iterator[Finding]:
        # Others name images meanwhile: the index is ahead for a moment each time.
        for _look in range(_LOOKS):
            if self._ledger.current():
                return
            time.sleep(self.pause)
        tags = ", ".join(self._ledger.difference())
        finding = Finding(
            "file",
            self._paths.names,
            "it has not the names that the index has" + (f": see {tags}" if tags else ""),
            "a process died while it named an image, it was changed, or the index lost its last changes",
            harmful=False,
        )
        if repair:
            self._ledger.keep()
            finding = _done(finding, "written again from the index")
        yield finding

    def _unknown_containers(self, *, repair: bool) -> Iterator[Finding]:
        """Before trees are looked at: those of these containers are not to be set aside."""
        found = container_files.unknown(self._db)
        back: list[str] = []
        if found and repair:
            with self._db.write() as connection:
                back = container_files.restore(connection, self._paths)
        for each in found:
            finding = Finding(
                "container", each, "the index does not know it, its record does", "the index lost its last changes"
            )
            yield _done(finding, "taken back into the index") if each in back else finding

    def _container_files(self, *, repair: bool) -> Iterator[Finding]:
        late = container_files.outdated(self._db)
        for _look in range(_LOOKS):
            if not late:
                return
            time.sleep(self.pause)
            late = [each for each in late if each in container_files.outdated(self._db)]
        for each in late:
            finding = Finding(
                "file",
                container_files.record_file(self._paths.root, each),
                "it does not say of the container what the index says",
                "a process died while it changed the container, an earlier lamina made it, or the file was changed",
                harmful=False,
            )
            if repair:
                container_files.keep(self._db, each)
                finding = _done(finding, "written again from the index")
            yield finding

    # --- blobs ---------------------------------------------------------------------------------------------------

    def _blobs(self, *, content: bool, report: ProgressSink) -> tuple[list[tuple[Digest, Finding]], int, int]:
        with self._db.read() as connection:
            known = connection.execute("SELECT digest, size FROM blobs ORDER BY digest").fetchall()
        damaged: list[tuple[Digest, Finding]] = []
        read = 0
        for position, (text, size) in enumerate(known, start=1):
            digest = Digest.parse(text)
            report(Progress(digest.short, "Verifying", position, len(known)))
            problem, cause = self._blob_problem(digest, size, content=content)
            if problem and self._still_listed(digest):
                damaged.append((digest, Finding("blob", text, problem, cause)))
            read += size
        return damaged, len(known), read if content else 0

    def _blob_problem(self, digest: Digest, size: int, *, content: bool) -> tuple[str, str]:
        actual = self._driver.size(digest)
        if actual is None:
            return "its bytes are missing", "the file was removed behind the store's back, or the disk lost it"
        if actual != size:
            return f"it has {actual} bytes, not {size}", "it was cut or changed behind the store's back"
        if not content:
            return "", ""
        hasher = digest.hasher()
        try:
            with self._driver.open(digest) as file:
                while chunk := file.read(_CHUNK):
                    hasher.update(chunk)
        except BlobNotFound:
            return "its bytes are missing", "the file was removed while it was examined"
        except (OSError, StoreIOFailed) as error:
            return f"it cannot be read: {error}", "a fault of the disk"
        found = Digest.from_hasher(hasher, digest.algorithm)
        if found != digest:
            return f"its bytes have digest {found}", "bit rot, or it was changed behind the store's back"
        return "", ""

    def _still_listed(self, digest: Digest) -> bool:
        with self._db.read() as connection:
            return connection.execute("SELECT 1 FROM blobs WHERE digest = ?", (str(digest),)).fetchone() is not None

    def _settle_blobs(self, damaged: list[tuple[Digest, Finding]], *, repair: bool) -> Iterator[Finding]:
        for digest, finding in damaged:
            if not repair:
                yield finding
                continue
            with self._locks.hold("blob", str(digest)):
                path = self._driver.path(digest)
                if path is not None:
                    self._quarantine(path, f"{digest.algorithm}-{digest.hex}")
                with self._db.write() as connection:
                    connection.execute("DELETE FROM blobs WHERE digest = ?", (str(digest),))
            yield _done(finding, "set aside in quarantine; it is fetched again when needed")

    # --- snapshots -----------------------------------------------------------------------------------------------

    def _snapshots(self) -> Iterator[tuple[str, Finding]]:
        with self._db.read() as connection:
            rows = connection.execute("SELECT key, parent, kind, dir FROM snapshots").fetchall()
        keys = {str(row[0]) for row in rows}
        for key, parent, kind, directory in rows:
            tree = f"{self._paths.snapshot(directory)}/fs"
            if kind != "view" and not os.path.isdir(tree) and self._still_there(key):
                cause = "the directory was removed behind the store's back, or the disk lost it"
                if kind == "active":
                    cause = "its process died while it was being made"
                yield key, Finding("snapshot", key, f"its file tree {tree} is missing", cause, harmful=kind != "active")
            if parent is not None and parent not in keys:
                yield key, Finding("snapshot", key, f"its parent {parent} is missing", "a damaged index")

    def _still_there(self, key: str) -> bool:
        with self._db.read() as connection:
            return connection.execute("SELECT 1 FROM snapshots WHERE key = ?", (key,)).fetchone() is not None

    def _settle_snapshots(self, lost: list[tuple[str, Finding]], *, repair: bool) -> Iterator[Finding]:
        if not repair:
            yield from (finding for _, finding in lost)
            return
        for key, finding in lost:
            with self._db.write() as connection:
                used = _forget_snapshot(connection, key)
            yield finding if used else _done(finding, "taken out of the index")

    # --- references ----------------------------------------------------------------------------------------------

    def _references(self, *, repair: bool) -> Iterator[Finding]:
        """What refers to something that is not there. Blobs that were just set aside count as not there."""
        gone = "its blob is damaged or was lost; pull or load the image again"
        with self._db.read() as connection:
            configs = connection.execute("SELECT id FROM images WHERE id NOT IN (SELECT digest FROM blobs)").fetchall()
            manifests = connection.execute(
                "SELECT digest FROM manifests WHERE digest NOT IN (SELECT digest FROM blobs)"
            ).fetchall()
            layers = connection.execute(
                "SELECT DISTINCT image_id, chain_id FROM image_layers"
                " WHERE chain_id NOT IN (SELECT chain_id FROM layers) ORDER BY image_id, position"
            ).fetchall()
            targets = connection.execute(
                "SELECT repository, tag, target FROM names WHERE target IS NOT NULL"
                " AND target NOT IN (SELECT digest FROM manifests)"
            ).fetchall()
            containers = connection.execute(
                "SELECT id, snapshot_key FROM containers WHERE snapshot_key IS NOT NULL"
                " AND snapshot_key NOT IN (SELECT key FROM snapshots)"
            ).fetchall()
            cache = connection.execute(
                "SELECT key FROM build_cache WHERE snapshot IS NOT NULL AND snapshot NOT IN (SELECT key FROM snapshots)"
            ).fetchall()
        for (image,) in configs:
            yield Finding("image", image, "its config is missing", gone)
        for image, chain in layers:
            yield Finding(
                "image", image, f"its layer {chain} is missing", "its file tree was lost; pull or load it again"
            )
        for container, key in containers:
            yield Finding("container", container, f"its writable layer {key} is missing", "its file tree was lost")
        for (digest,) in manifests:
            finding = Finding("manifest", digest, "its bytes are missing", gone, harmful=False)
            yield self._run(
                repair, finding, "DELETE FROM manifests WHERE digest = ?", (digest,), "taken out of the index"
            )
        for repository, tag, target in targets:
            finding = Finding("name", f"{repository}:{tag}", f"manifest {target} is missing", gone, harmful=False)
            query = "UPDATE names SET target = NULL WHERE repository = ? AND tag = ?"
            yield self._run(repair, finding, query, (repository, tag), "the name points at the image alone")
        for (key,) in cache:
            finding = Finding("build cache record", key, "its file tree is missing", "it was lost", harmful=False)
            yield self._run(
                repair, finding, "DELETE FROM build_cache WHERE key = ?", (key,), "forgotten; it is built again"
            )

    def _run(self, repair: bool, finding: Finding, query: str, values: tuple[str, ...], done: str) -> Finding:
        if not repair:
            return finding
        with self._db.write() as connection:
            connection.execute(query, values)
        return _done(finding, done)

    # --- what the index does not know ----------------------------------------------------------------------------

    def _leftovers(self, *, repair: bool) -> Iterator[Finding]:
        for lease in self._leases.all():
            if not lease.alive:
                finding = Finding(
                    "lease", lease.id, f"its owner is gone ({lease.purpose})", "the process died", harmful=False
                )
                yield self._run(repair, finding, "DELETE FROM leases WHERE id = ?", (lease.id,), "ended")
        with self._db.read() as connection:
            known = {row[0] for row in connection.execute("SELECT digest FROM blobs")}
            directories = {row[0] for row in connection.execute("SELECT dir FROM snapshots")}
            doomed = {(row[0], row[1]) for row in connection.execute("SELECT kind, key FROM doomed")}
        for kind, key in sorted(doomed):
            if not self._on_disk(kind, key):
                continue
            yield Finding(
                kind, key, "deleted, but still on disk", "a collection was cut short; collect again", harmful=False
            )
        for digest, size in self._driver.list():
            if str(digest) not in known and ("blob", str(digest)) not in doomed and not self._busy(digest):
                yield Finding(
                    "blob",
                    str(digest),
                    f"{size} bytes that the index does not know",
                    "a crash at its end",
                    harmful=False,
                )
        mounted = _mount_table()
        for entry in _names(self._paths.snapshots):
            if entry not in directories and (SNAPSHOT, entry) not in doomed and not self._known_now(entry):
                if entry in mounted:
                    yield Finding(
                        "snapshot",
                        self._paths.snapshots + "/" + entry,
                        "a file tree that the index does not know, but that is mounted; end what uses it",
                        "the index was lost and made again while a container or a build ran",
                    )
                    continue
                finding = Finding(
                    "snapshot",
                    self._paths.snapshots + "/" + entry,
                    "a file tree that the index does not know",
                    "the index was lost and made again, or a probe was cut short",
                    harmful=False,
                )
                if repair:
                    self._quarantine(f"{self._paths.snapshots}/{entry}", f"snapshot-{entry}")
                    finding = _done(finding, "set aside in quarantine")
                yield finding
        for path in self._strangers():
            yield Finding("file", path, "no part of a store", "somebody put it there", harmful=False)

    def _on_disk(self, kind: str, key: str) -> bool:
        if kind == SNAPSHOT:
            return os.path.lexists(self._paths.snapshot(key))
        return self._driver.size(Digest.parse(key)) is not None

    def _busy(self, digest: Digest) -> bool:
        """Whether somebody is ingesting it, or has by now."""
        with self._locks.attempt("blob", str(digest)) as free:
            return not free or self._still_listed(digest)

    def _known_now(self, directory: str) -> bool:
        with self._db.read() as connection:
            row = connection.execute(
                "SELECT 1 FROM snapshots WHERE dir = ? UNION SELECT 1 FROM doomed WHERE key = ?", (directory, directory)
            ).fetchone()
        return row is not None or not os.path.lexists(f"{self._paths.snapshots}/{directory}")

    def _strangers(self) -> Iterator[str]:
        for name in _names(self._paths.ingest):
            if layout.part_name(name) is None:
                yield f"{self._paths.ingest}/{name}"
        for algorithm in _names(self._paths.blobs):
            for name in _names(f"{self._paths.blobs}/{algorithm}"):
                try:
                    Digest.parse(f"{algorithm}:{name}")
                except InvalidDigest:
                    yield f"{self._paths.blobs}/{algorithm}/{name}"

    def _modes(self, *, repair: bool) -> Iterator[Finding]:
        """Who may look inside (threat 59)."""
        wanted = [*self._paths.directories(), (self._paths.database, layout.FILE)]
        if os.path.lexists(self._paths.names):
            wanted.append((self._paths.names, layout.FILE))
        for path, mode in wanted:
            try:
                actual = os.stat(path).st_mode & 0o777
            except FileNotFoundError:
                yield Finding("file", path, "it is missing", "it was removed behind the store's back")
                continue
            if actual & ~mode:
                finding = Finding("mode", path, f"mode {actual:o} lets others in; want {mode:o}", "it was changed")
                if repair:
                    os.chmod(path, mode)
                    finding = _done(finding, "changed back")
                yield finding

    def _quarantine(self, path: str, name: str) -> None:
        try:
            if not os.path.isdir(self._paths.quarantine):
                self._files.mkdir(self._paths.quarantine, layout.DIRECTORY)
            stamp = rfc3339(self._clock()).replace(":", "").replace(".", "-")
            self._files.rename(path, f"{self._paths.quarantine}/{name}-{stamp}")
            self._files.sync_dir(self._paths.quarantine)
        except OSError as error:
            raise_typed(path, error)


def _done(finding: Finding, what: str) -> Finding:
    return Finding(finding.kind, finding.subject, finding.problem, finding.cause, finding.harmful, what)


def _mount_table() -> str:
    """Every mount with its options, which name the directories that overlays are made of; names are never reused."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
            return table.read()
    except OSError:
        return ""


def _names(directory: str) -> Iterable[str]:
    try:
        return sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _forget_snapshot(connection: sqlite3.Connection, key: str) -> bool:
    """Takes a lost tree out of the index with the layers and cache records on it; True when something else needs it."""
    connection.execute("DELETE FROM layers WHERE snapshot = ?", (key,))
    connection.execute("DELETE FROM build_cache WHERE snapshot = ?", (key,))
    user = connection.execute(
        "SELECT 1 FROM snapshots WHERE parent = ? UNION SELECT 1 FROM containers WHERE snapshot_key = ?", (key, key)
    ).fetchone()
    if user is not None:
        return True
    connection.execute("DELETE FROM snapshots WHERE key = ?", (key,))
    connection.execute("DELETE FROM lease_items WHERE kind = ? AND key = ?", (SNAPSHOT, key))
    return False
