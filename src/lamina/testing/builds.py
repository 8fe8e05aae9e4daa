r"""Builds on a real store: a busybox image to start from, contexts from dictionaries, and looks at what came out.

workshop.context({"f": "x"}).build("FROM base\nCOPY f /")
"""

from __future__ import annotations

import functools
import io
import os
import stat
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from lamina.build.builder import Built
from lamina.build.progress import BuildEvent, VertexCached, VertexDone, VertexLog, VertexStarted
from lamina.engine.builds import BuildOptions
from lamina.engine.engine import Engine
from lamina.engine.settings import Settings
from lamina.spec.config import ImageConfig
from lamina.spec.digest import Digest
from lamina.spec.reference import Reference
from lamina.values import dataclass, field

#: What files of a context may be: text or bytes of a file; `("->", target)`; `(mode, text)`.
FileSpec = str | bytes | tuple[str, str] | tuple[int, str]
_BUSYBOX: Final = "/bin/busybox"
_USERS: Final = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:web:/var/www:/bin/sh\n"
_GROUP: Final = "root:x:0:\nweb:x:34:\nstaff:x:50:\n"


@functools.cache
def busybox_tar() -> bytes:
    """A root file system in a tar: busybox with all its applets, the user `web` (33:34), the group `staff` (50)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, mode in (("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777), ("root", 0o700), ("var", 0o755)):
            info = tarfile.TarInfo(name)
            info.type, info.mode = tarfile.DIRTYPE, mode
            archive.addfile(info)
        for name, mode, data in (
            ("bin/busybox", 0o755, Path(_BUSYBOX).read_bytes()),
            ("etc/passwd", 0o644, _USERS.encode()),
            ("etc/group", 0o644, _GROUP.encode()),
        ):
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), mode
            archive.addfile(info, io.BytesIO(data))
        applets = subprocess.run([_BUSYBOX, "--list"], capture_output=True, text=True, check=True).stdout.split()
        for applet in applets:
            if applet != "busybox":
                info = tarfile.TarInfo(f"bin/{applet}")
                info.type, info.linkname = tarfile.SYMTYPE, "busybox"
                archive.addfile(info)
    return out.getvalue()


def fill(directory: Path, files: Mapping[str, FileSpec]) -> Path:
    """Write files below a directory; parents are made."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, what in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(what, bytes):
            path.write_bytes(what)
        elif isinstance(what, str):
            path.write_text(what)
        elif isinstance(what[0], int):
            path.write_text(what[1])
            path.chmod(what[0])
        else:
            path.symlink_to(what[1])
    return directory


@dataclass(slots=True)
class Events:
    """A sink that remembers.

    Attributes:
        all: every event in order.
        on: called with each event, from the thread it comes from.
    """

    all: list[BuildEvent] = field(default_factory=list)
    on: Callable[[BuildEvent], None] = lambda _event: None
    _names: dict[str, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, event: BuildEvent) -> None:
        """Take one event."""
        with self._lock:
            self.all.append(event)
            if isinstance(event, VertexStarted | VertexCached) and event.name:
                self._names[event.id] = event.name
        self.on(event)

    def name(self, vertex: str) -> str:
        """What a vertex is called."""
        return self._names[vertex]

    @property
    def cached(self) -> list[str]:
        """The steps that change a tree and were answered from the cache, without their number."""
        names = [_bare(event.name) for event in self.all if isinstance(event, VertexCached)]
        return [name for name in names if _is_step(name)]

    @property
    def ran(self) -> list[str]:
        """The steps that ran to their end and change a tree, without their number."""
        done = [self._names[event.id] for event in self.all if isinstance(event, VertexDone) and not event.error]
        return [_bare(name) for name in done if name.startswith("[") and "] " in name and _is_step(_bare(name))]

    def output(self, needle: str = "") -> str:
        """What the steps wrote whose name has the text."""
        found = [event.data for event in self.all if isinstance(event, VertexLog) and needle in self._names[event.id]]
        return b"".join(found).decode()


def _bare(name: str) -> str:
    return name.split("] ", 1)[-1]


def _is_step(name: str) -> bool:
    return name.split(" ", 1)[0] in {"RUN", "COPY", "ADD", "WORKDIR", "ONBUILD"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished build: the image, what happened, and the workshop to look at it with."""

    built: Built
    events: Events
    engine: Engine

    @property
    def id(self) -> Digest:
        """The image's id."""
        return self.built.image.id

    @property
    def config(self) -> ImageConfig:
        """What the image says about itself."""
        return self.engine.store.images.config(self.id)

    @property
    def warnings(self) -> list[str]:
        """The names of the checks that found something."""
        return [warning.rule.name for warning in self.built.warnings]

    @contextmanager
    def tree(self) -> Iterator[Path]:
        """The image's files, for the time of the block."""
        with image_tree(self.engine, self.id) as root:
            yield root

    def read(self, path: str) -> str:
        """The text of a file of the image."""
        with self.tree() as root:
            return (root / path.lstrip("/")).read_text()

    def listing(self) -> dict[str, tuple[Any, ...]]:
        """See `listing`."""
        with self.tree() as root:
            return listing(root)


@contextmanager
def image_tree(engine: Engine, image: Digest) -> Iterator[Path]:
    """The files of an image of a store, for the time of the block."""
    store = engine.store
    snapshot = store.layers.snapshot_of(store.images.config(image).diff_ids)
    assert snapshot is not None, "an image without layers has no files"
    plain = store.snapshots.plain(snapshot)
    if plain is not None:
        yield Path(plain)
        return
    key = f"look-{os.urandom(8).hex()}"
    store.snapshots.view(key, snapshot)
    try:
        with store.snapshots.mounted(key, readonly=True) as root:
            yield Path(root)
    finally:
        store.snapshots.remove(key)


def listing(root: Path) -> dict[str, tuple[Any, ...]]:
    """Every path with its kind, permission bits, owner, and content or target; times left out."""
    found: dict[str, tuple[Any, ...]] = {}
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(folder, name)
            facts = path.lstat()
            what: object = None
            if stat.S_ISREG(facts.st_mode):
                what = Digest.of(path.read_bytes()) if facts.st_size > 256 else path.read_bytes()
            elif stat.S_ISLNK(facts.st_mode):
                what = os.readlink(path)
            found[str(path.relative_to(root))] = (oct(facts.st_mode), facts.st_uid, facts.st_gid, what)
    return found


class Workshop:
    """A store with one image, `base`, and directories to build.

    Args:
        folder: everything is below it.
        name: of the store, for several in one test.
        env: the environment that builds see.
        driver: of the store, "" for the best one here.
    """

    def __init__(
        self, folder: Path, name: str = "store", env: Mapping[str, str] | None = None, driver: str = ""
    ) -> None:
        self.folder = folder
        self.engine = Engine(Settings.at(str(folder / name), env=env or {}, storage_driver=driver))
        self._contexts = 0

    def close(self) -> None:
        """Close the store; nothing of its networks stays on the machine."""
        if "store" in self.engine.__dict__:
            self.engine.bridges.remove_bridges()
        self.engine.close()

    def import_base(self, name: str = "base", changes: tuple[str, ...] = (), content: bytes = b"") -> Digest:
        """Put an image of one layer into the store."""
        from lamina.engine.imports import ImportOptions

        options = ImportOptions(reference=Reference.parse(name).tagged(), changes=changes)
        return self.engine.archives.import_tar(io.BytesIO(content or busybox_tar()), options)

    def context(self, files: Mapping[str, FileSpec]) -> Path:
        """A new directory with files."""
        self._contexts += 1
        return fill(self.folder / f"context{self._contexts}", files)

    def build(
        self,
        dockerfile: str = "",
        files: Mapping[str, FileSpec] | None = None,
        *,
        context: Path | None = None,
        stdin: bytes = b"",
        cancelled: threading.Event | None = None,
        on: Callable[[BuildEvent], None] = lambda _event: None,
        events: Events | None = None,
        **options: Any,
    ) -> Outcome:
        """Build; `dockerfile` is written into the context, which is made of `files` unless given.

        Keyword options are those of `BuildOptions`; `tags` may be strings. Steps have no network unless asked for.
        """
        where = context if context is not None else self.context(files or {})
        if dockerfile:
            (where / "Dockerfile").write_text(dockerfile)
        tags = tuple(Reference.parse(tag).tagged() if isinstance(tag, str) else tag for tag in options.pop("tags", ()))
        options.setdefault("context", str(where))
        options.setdefault("cwd", str(self.folder))
        options.setdefault("network", "none")
        if events is None:
            events = Events(on=on)
        built = self.engine.builds.build(
            BuildOptions(tags=tags, **options), events, stdin=io.BytesIO(stdin), cancelled=cancelled
        )
        return Outcome(built, events, self.engine)

    def build_file(self, context: Path | str, dockerfile: str, *, stdin: bytes = b"") -> Outcome:
        """Build with a context and a `-f` as a user writes them; relative ones are below the workshop's folder.

        A Dockerfile of that name in the context is taken when there is none beside it.
        """
        if dockerfile and isinstance(context, Path) and (context / dockerfile).is_file():
            dockerfile = str(context / dockerfile)
        events = Events()
        options = BuildOptions(context=str(context), cwd=str(self.folder), dockerfile=dockerfile, network="none")
        return Outcome(self.engine.builds.build(options, events, stdin=io.BytesIO(stdin)), events, self.engine)
