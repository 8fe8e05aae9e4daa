"""Named volumes: directories of the store that outlive containers (S58)."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

from lamina.errors import Conflict, Invalid, NotFound, Unsupported
from lamina.runtime import rootfs, volume_driver
from lamina.runtime.mount_spec import valid_volume_name, why_not_a_name
from lamina.store import locks
from lamina.store.db import Database
from lamina.store.files import Files, raise_typed
from lamina.store.leases import VOLUME, Leases, settle
from lamina.values import dataclass

_CHUNK: Final = 1 << 20
_SEED: Final = "_seed"


class NoSuchVolume(NotFound):
    """No volume of that name.

    Attributes:
        name: asked for.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"get {name}: no such volume")
        self.name = name


class VolumeInUse(Conflict):
    """A container refers to the volume.

    Attributes:
        name: of the volume.
        containers: ids.
    """

    def __init__(self, name: str, containers: list[str]) -> None:
        super().__init__(f"remove {name}: volume is in use - [{', '.join(containers)}]")
        self.name = name
        self.containers = containers


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume.

    Attributes:
        name: unique.
        path: its directory on the host.
        created_at: RFC 3339.
        labels: the user's.
        anonymous: made without a name; goes with `docker rm -v` and `--rm`.
        options: of the driver, kept for inspect.
    """

    name: str
    path: str
    created_at: str
    labels: Mapping[str, str]
    anonymous: bool
    options: Mapping[str, str]


class Volumes:
    """The volumes of one store.

    Args:
        database: the store's index.
        directory: `<root>/volumes`.
        clock: the time as RFC 3339 text.
        files: the file layer.
    """

    def __init__(
        self, database: Database, directory: str, clock: Callable[[], str], files: Files | None = None
    ) -> None:
        self._database = database
        self._directory = directory
        self._clock = clock
        self._files = files or Files()

    def create(
        self,
        name: str = "",
        *,
        labels: Mapping[str, str] | None = None,
        driver: str = "",
        options: Mapping[str, str] | None = None,
        pending: bool = False,
    ) -> Volume:
        """Makes a volume; one that exists already is returned as it is.

        Args:
            name: "" makes an anonymous one with a 64-hex name.
            labels: the user's.
            driver: only `local` exists.
            options: of the driver: `type`, `device` and `o`, as for mount(8).
            pending: made for a container that does not exist yet: should this process die before it does, the volume
                is nobody's, and goes with the next collection.

        Raises:
            Invalid: not a name for a volume, or options that make no sense.
            Unsupported: another driver.
        """
        chosen = name or os.urandom(32).hex()
        if driver not in {"", "local"}:
            raise Unsupported(f'create {chosen}: error looking up volume plugin {driver}: plugin "{driver}" not found')
        if name and not valid_volume_name(name):
            raise Invalid(f"create {name}: {why_not_a_name(name)}")
        if options:
            volume_driver.check(chosen, options)
        doc = {"labels": dict(labels or {}), "anonymous": not name, "options": dict(options or {})}
        lease = Leases(self._database).acquire("make a volume for a container") if pending else None
        with self._database.write() as connection:
            if lease is not None:
                lease.add_in(connection, VOLUME, [chosen])
            connection.execute(
                "INSERT OR IGNORE INTO volumes (name, created_at, doc) VALUES (?, ?, ?)",
                (chosen, self._clock(), json.dumps(doc)),
            )
        # After its row: a directory that nobody knows of could be neither listed nor removed.
        os.makedirs(self._data(chosen), mode=0o755, exist_ok=True)
        os.chmod(self._directory, 0o711)
        return self.get(chosen)

    def acquire(self, name: str, holder: str) -> None:
        """Has what a volume stands for mounted, for the container `holder`; most volumes are plain directories.

        Raises:
            VolumeNotMounted: the kernel refuses.
        """
        options = self.get(name).options
        if options:
            volume_driver.acquire(os.path.join(self._directory, name), options, holder)

    def get(self, name: str) -> Volume:
        """A volume by name.

        Raises:
            NoSuchVolume: there is none.
        """
        with self._database.read() as connection:
            row = connection.execute("SELECT created_at, doc FROM volumes WHERE name = ?", (name,)).fetchone()
        if row is None:
            raise NoSuchVolume(name)
        return self._volume(name, row[0], row[1])

    def all(self) -> list[Volume]:
        """Every volume, by name."""
        with self._database.read() as connection:
            rows = connection.execute("SELECT name, created_at, doc FROM volumes ORDER BY name").fetchall()
        return [self._volume(*row) for row in rows]

    def remove(self, name: str, users: list[str], *, force: bool = False) -> None:
        """Removes a volume and what is in it.

        Args:
            name: of the volume.
            users: ids of the containers that refer to it.
            force: a volume that does not exist is success.

        Raises:
            NoSuchVolume: there is none.
            VolumeInUse: `users` is not empty.
        """
        if users:
            raise VolumeInUse(name, users)
        # Emptied before it is forgotten: killed in between, its name must not bring the old content back.
        # Removal is by directory descriptors and never follows a link (threat 24).
        try:
            self.get(name)
        except NoSuchVolume:
            if force:
                return
            raise
        volume_driver.abandon(os.path.join(self._directory, name))
        with suppress(FileNotFoundError):
            import shutil

            shutil.rmtree(os.path.join(self._directory, name))
        with self._database.write() as connection:
            connection.execute("DELETE FROM volumes WHERE name = ?", (name,))
            settle(connection, VOLUME, [name])

    def seed(self, name: str, root: str, target: str, *, durable: bool = True) -> bool:
        """Fills an empty volume with what the image has at `target`; owner and mode of the directory come along.

        The content is copied beside the volume and moved in when it is whole: a seeding that was killed is completed
        or done again by the next, and of two at once only one happens.

        Args:
            name: of the volume.
            root: the mounted root file system.
            target: container path.
            durable: the content is on disk before the volume counts as seeded; a power cut leaves all of it, or a
                volume that is seeded again. Not needed for one that goes with the run.

        Returns:
            Whether anything was taken over; False for a volume in use before, or nothing in the image.

        Raises:
            StoreFull, StoreIOFailed: the disk refuses.
        """
        data = self._data(name)
        ready = os.path.join(self._directory, name, _SEED)
        if os.listdir(data) and not os.path.isdir(ready):
            return False
        with rootfs.opened(root) as root_fd, locks.directory(os.path.dirname(data)):
            try:
                if self.get(name).options and volume_driver.is_mounted(os.path.dirname(data)):
                    # Nothing can be moved in from beside it.
                    return _copy_into(root_fd, target, data, self._files if durable else None)
                if not os.path.isdir(ready) and (
                    os.listdir(data) or not _copy_aside(root_fd, target, ready, self._files, durable=durable)
                ):
                    return False
                _move_in(ready, data, self._files, durable=durable)
            except OSError as error:
                raise_typed(data, error)
        return True

    def _data(self, name: str) -> str:
        return os.path.join(self._directory, name, "_data")

    def _volume(self, name: str, created_at: str, doc: str) -> Volume:
        facts = json.loads(doc)
        return Volume(name, self._data(name), created_at, facts["labels"], facts["anonymous"], facts["options"])


def _copy_into(root_fd: int, target: str, data: str, files: Files | None) -> bool:
    """Copies a directory of the image into `data`, durably with `files`; False for no directory."""
    try:
        source = rootfs.open_path(root_fd, target, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return False
    destination = os.open(data, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _copy_directory(source, destination, {})
    finally:
        os.close(source)
        os.close(destination)
    if files is not None:
        files.sync_tree(data)
    return True


def _copy_aside(root_fd: int, target: str, ready: str, files: Files, *, durable: bool) -> bool:
    """Copies a directory of the image to `ready`, which is there only when it is whole; False for no directory."""
    try:
        source = rootfs.open_path(root_fd, target, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return False
    unfinished = ready + ".new"
    try:
        files.remove_tree(unfinished)
        files.mkdir(unfinished, 0o700)
        destination = os.open(unfinished, os.O_RDONLY | os.O_DIRECTORY)
        try:
            _copy_directory(source, destination, {})
        finally:
            os.close(destination)
    finally:
        os.close(source)
    if durable:
        files.sync_tree(unfinished)
    files.rename(unfinished, ready)
    if durable:
        files.sync_dir(os.path.dirname(ready))
    return True


def _move_in(ready: str, data: str, files: Files, *, durable: bool) -> None:
    """Moves what is in `ready` into the volume; what a container has put there meanwhile stays as it is."""
    source, destination = (os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in (ready, data))
    try:
        facts = os.fstat(source)
        for name in os.listdir(source):
            if name not in os.listdir(destination):
                files.rename(f"{ready}/{name}", f"{data}/{name}")
        _copy_facts(facts, source, destination)
    finally:
        os.close(source)
        os.close(destination)
    if durable:
        files.sync_dir(data)
    files.remove_tree(ready)


def _copy_directory(source: int, destination: int, links: dict[tuple[int, int], int]) -> None:
    """Copies all that is in one directory into another, with owners, modes, times, links and attributes.

    `links` maps inodes with several names to a descriptor (O_PATH) of their copy.
    """
    top = not links
    for entry in os.scandir(source):
        name = entry.name
        facts = os.stat(name, dir_fd=source, follow_symlinks=False)
        inode = (facts.st_dev, facts.st_ino)
        if inode in links:
            os.link(f"/proc/self/fd/{links[inode]}", name, dst_dir_fd=destination, follow_symlinks=True)
            continue
        _copy_entry(source, destination, name, facts, links)
        if facts.st_nlink > 1 and not stat.S_ISDIR(facts.st_mode):
            links[inode] = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=destination)
    _copy_facts(os.fstat(source), source, destination)
    if top:
        for fd in links.values():
            os.close(fd)


def _copy_entry(
    source: int, destination: int, name: str, facts: os.stat_result, links: dict[tuple[int, int], int]
) -> None:
    mode = facts.st_mode
    if stat.S_ISDIR(mode):
        os.mkdir(name, 0o700, dir_fd=destination)
        inner_source = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=source)
        inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=destination)
        try:
            _copy_directory(inner_source, inner, links)
        finally:
            os.close(inner_source)
            os.close(inner)
    elif stat.S_ISREG(mode):
        reading = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=source)
        writing = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=destination)
        try:
            while os.sendfile(writing, reading, None, _CHUNK * 64):
                pass
            _copy_facts(facts, reading, writing)
        finally:
            os.close(reading)
            os.close(writing)
    elif stat.S_ISLNK(mode):
        os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=destination)
        os.chown(name, facts.st_uid, facts.st_gid, dir_fd=destination, follow_symlinks=False)
    else:
        os.mknod(name, mode, facts.st_rdev, dir_fd=destination)
        os.chown(name, facts.st_uid, facts.st_gid, dir_fd=destination, follow_symlinks=False)
        os.chmod(name, stat.S_IMODE(mode), dir_fd=destination)


def _copy_facts(facts: os.stat_result, source: int, destination: int) -> None:
    os.fchown(destination, facts.st_uid, facts.st_gid)
    os.fchmod(destination, stat.S_IMODE(facts.st_mode))
    for attribute in os.listxattr(source):
        if not attribute.startswith("trusted."):  # the overlay's own bookkeeping
            os.setxattr(destination, attribute, os.getxattr(source, attribute))
    os.utime(destination, ns=(facts.st_atime_ns, facts.st_mtime_ns))
