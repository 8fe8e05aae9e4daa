"""`USER` and `--user` resolved against the image's own passwd and group files (threat 15).

The files are opened through a descriptor of the root file system, must be regular and at most 1 MiB, and no link
leads out of the image.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from typing import Final

from lamina.errors import Invalid, NotFound
from lamina.runtime import rootfs
from lamina.values import dataclass, replace

LIMIT: Final = 1 << 20
_MAX_ID: Final = (1 << 31) - 1


class UnsafeUserDatabase(Invalid):
    """The image's passwd or group file is not what such a file is.

    Attributes:
        path: inside the image.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path} in the image {reason}; refusing to read it")
        self.path = path


class NoSuchUser(NotFound):
    """No such user or group in the image; the message is Docker's.

    Attributes:
        name: what was looked for.
    """

    def __init__(self, kind: str, name: str) -> None:
        database = "passwd" if kind == "user" else "group"
        super().__init__(f"unable to find {kind} {name}: no matching entries in {database} file")
        self.name = name


@dataclass(frozen=True, slots=True)
class User:
    """Who the container's process is.

    Attributes:
        uid: user id.
        gid: primary group id.
        additional_gids: supplementary groups, ascending.
        home: the home directory of passwd, or `/`.
        name: of passwd, or "" for an id without entry.
    """

    uid: int = 0
    gid: int = 0
    additional_gids: tuple[int, ...] = ()
    home: str = "/"
    name: str = ""


@dataclass(frozen=True, slots=True)
class _Passwd:
    name: str
    uid: int
    gid: int
    home: str


@dataclass(frozen=True, slots=True)
class _Group:
    name: str
    gid: int
    members: tuple[str, ...]


def resolve(root: str, spec: str, group_add: Iterable[str] = ()) -> User:
    """Who `spec` is in the image at `root`.

    Args:
        root: the root file system on the host.
        spec: `name`, `uid`, `name:group`, `uid:gid` or any mix; "" means root.
        group_add: further groups by name or number (`--group-add`).

    Raises:
        NoSuchUser: a name without entry.
        Invalid: an id out of range.
        UnsafeUserDatabase: the image's files are not regular, too large, or links to nowhere.
    """
    passwd_text, group_text = _databases(root)
    passwd = [entry for line in passwd_text.splitlines() if (entry := _passwd_entry(line))]
    groups = [group for line in group_text.splitlines() if (group := _group_entry(line))]
    # Further colons and what follows them mean nothing, to docker too.
    wanted, colon, wanted_group = ":".join(spec.split(":")[:2]).partition(":")
    user = _user(passwd, wanted or "0")
    if colon and wanted_group:
        user = replace(user, gid=_group(groups, wanted_group))
        supplementary: set[int] = set()
    else:
        # Without an explicit group the user's memberships count; with one they do not (as runc and docker have it).
        supplementary = {group.gid for group in groups if user.name and user.name in group.members}
    supplementary |= {_group(groups, name) for name in group_add}
    return replace(user, additional_gids=tuple(sorted(supplementary)))


def _user(passwd: list[_Passwd], wanted: str) -> User:
    number = _number(wanted)
    for entry in passwd:
        # A name that looks like a number is first a name, as with chown(1) and Docker.
        if entry.name == wanted:
            return User(entry.uid, entry.gid, (), entry.home or "/", entry.name)
    if number is None:
        raise NoSuchUser("user", wanted)
    for entry in passwd:
        if entry.uid == number:
            return User(entry.uid, entry.gid, (), entry.home or "/", entry.name)
    return User(number, 0, (), "/", "")


def _group(groups: list[_Group], wanted: str) -> int:
    for entry in groups:
        if entry.name == wanted:
            return entry.gid
    number = _number(wanted)
    if number is None:
        raise NoSuchUser("group", wanted)
    return number


def _number(text: str) -> int | None:
    if not (text.isascii() and text.isdigit()):
        return None
    value = int(text)
    if value > _MAX_ID:
        raise Invalid(f"uids and gids must be in range 0-{_MAX_ID}, not {text}")
    return value


def _passwd_entry(line: str) -> _Passwd | None:
    fields = line.strip().split(":")
    if len(fields) < 4 or not fields[0] or not _plain(fields[2]) or not _plain(fields[3]):
        return None
    return _Passwd(fields[0], int(fields[2]), int(fields[3]), fields[5] if len(fields) > 5 else "/")


def _group_entry(line: str) -> _Group | None:
    fields = line.strip().split(":")
    if len(fields) < 3 or not fields[0] or not _plain(fields[2]):
        return None
    members = tuple(name for name in fields[3].split(",") if name) if len(fields) > 3 else ()
    return _Group(fields[0], int(fields[2]), members)


def _plain(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text) <= _MAX_ID


def _databases(root: str) -> tuple[str, str]:
    with rootfs.opened(root) as root_fd:
        return _read(root_fd, "/etc/passwd"), _read(root_fd, "/etc/group")


def _read(root_fd: int, path: str) -> str:
    try:
        # O_NONBLOCK: opening a FIFO must not wait for a writer. O_NOCTTY: nor take a terminal.
        fd = rootfs.open_path(root_fd, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ENOTDIR} and not _is_link(root_fd, path):
            return ""
        # A link that leads nowhere now may lead to /dev/zero once the container's /dev is mounted.
        reason = "is a link that leads nowhere" if error.errno == errno.ENOENT else "cannot be opened safely"
        raise UnsafeUserDatabase(path, reason) from None
    with os.fdopen(fd, "rb") as file:
        facts = os.fstat(fd)
        if not stat.S_ISREG(facts.st_mode):
            raise UnsafeUserDatabase(path, "is not a regular file")
        if facts.st_size > LIMIT:
            raise UnsafeUserDatabase(path, f"is larger than {LIMIT} bytes")
        return file.read(LIMIT + 1).decode("utf-8", "surrogateescape")


def _is_link(root_fd: int, path: str) -> bool:
    try:
        fd = rootfs.open_path(root_fd, path, os.O_PATH | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        return stat.S_ISLNK(os.fstat(fd).st_mode)
    finally:
        os.close(fd)
