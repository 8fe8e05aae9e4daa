"""Facts about this machine that decide how a container's bundle looks; read once, then passed as a value."""

from __future__ import annotations

import json
import os
import resource
import stat
from collections.abc import Mapping
from typing import Any, Final

from lamina.runtime import capabilities
from lamina.values import dataclass, field

SECCOMP_PROFILES: Final = ("/etc/containers/seccomp.json", "/usr/share/containers/seccomp.json")
RLIMITS: Final = {
    "core": resource.RLIMIT_CORE,
    "cpu": resource.RLIMIT_CPU,
    "data": resource.RLIMIT_DATA,
    "fsize": resource.RLIMIT_FSIZE,
    "locks": 10,
    "memlock": resource.RLIMIT_MEMLOCK,
    "msgqueue": resource.RLIMIT_MSGQUEUE,
    "nice": resource.RLIMIT_NICE,
    "nofile": resource.RLIMIT_NOFILE,
    "nproc": resource.RLIMIT_NPROC,
    "rss": resource.RLIMIT_RSS,
    "rtprio": resource.RLIMIT_RTPRIO,
    "rttime": resource.RLIMIT_RTTIME,
    "sigpending": resource.RLIMIT_SIGPENDING,
    "stack": resource.RLIMIT_STACK,
}


@dataclass(frozen=True, slots=True)
class HostDevice:
    """A device node of the host, as `--privileged` and `--device` hand it on.

    Attributes:
        path: below /dev.
        kind: `c` or `b`.
        major: device number.
        minor: device number.
        mode: permission bits.
        uid: owner.
        gid: group.
    """

    path: str
    kind: str
    major: int
    minor: int
    mode: int
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What the bundle needs to know about the machine.

    Attributes:
        cgroups: `v1`, `hybrid` (v1 controllers beside a v2 tree) or `v2`.
        machine: uname's, e.g. `x86_64`.
        kernel: major and minor version.
        bounding: capabilities that a child of this process can have at all.
        hard_limits: rlimit name (`nofile`) -> hard limit, -1 = unlimited.
        can_raise_limits: CAP_SYS_RESOURCE is held, so hard limits may be raised.
        apparmor: the kernel enforces AppArmor.
        rootless: not running as root.
        seccomp_profile: the machine's default profile in Docker's form, or None where none is installed.
    """

    cgroups: str
    machine: str
    kernel: tuple[int, int]
    bounding: tuple[str, ...]
    hard_limits: Mapping[str, int]
    can_raise_limits: bool
    apparmor: bool = False
    rootless: bool = False
    seccomp_profile: Mapping[str, Any] | None = field(default=None, repr=False)


def probe() -> HostFacts:
    """Reads the facts of the running machine; a few milliseconds at most."""
    uname = os.uname()
    bounding = capabilities.from_mask(_status_mask("CapBnd"))
    effective = capabilities.from_mask(_status_mask("CapEff"))
    return HostFacts(
        cgroups=cgroup_mode(),
        machine=uname.machine,
        kernel=_kernel(uname.release),
        bounding=bounding,
        hard_limits={name: resource.getrlimit(number)[1] for name, number in RLIMITS.items()},
        can_raise_limits="CAP_SYS_RESOURCE" in effective,
        apparmor=_read("/sys/module/apparmor/parameters/enabled").startswith("Y"),
        rootless=os.geteuid() != 0,
        seccomp_profile=_default_profile(),
    )


def cgroup_mode(root: str = "/sys/fs/cgroup") -> str:
    """`v2`, `hybrid` or `v1`, by what is mounted below `root` (cgroups(7))."""
    if os.path.exists(os.path.join(root, "cgroup.controllers")):
        return "v2"
    return "hybrid" if os.path.exists(os.path.join(root, "unified", "cgroup.controllers")) else "v1"


def devices(root: str = "/dev") -> list[HostDevice]:
    """The host's device nodes for `--privileged`; terminals, shm and mqueue are the container's own."""
    found: list[HostDevice] = []
    skip = {"pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev", "console"}
    for directory, names, files in os.walk(root):
        if directory == root:
            names[:] = [name for name in names if name not in skip]
        for name in files:
            if name in skip:
                continue
            device = device_at(os.path.join(directory, name))
            if device is not None:
                found.append(device)
    return found


def device_at(path: str) -> HostDevice | None:
    """The device node at a path (links are not followed), or None when it is not one."""
    try:
        facts = os.lstat(path)
    except OSError:
        return None
    if stat.S_ISCHR(facts.st_mode):
        kind = "c"
    elif stat.S_ISBLK(facts.st_mode):
        kind = "b"
    else:
        return None
    number = facts.st_rdev
    mode = stat.S_IMODE(facts.st_mode)
    return HostDevice(path, kind, os.major(number), os.minor(number), mode, facts.st_uid, facts.st_gid)


def _default_profile() -> Mapping[str, Any] | None:
    for path in SECCOMP_PROFILES:
        text = _read(path)
        if text:
            profile: Mapping[str, Any] = json.loads(text)
            return profile
    return None


def _kernel(release: str) -> tuple[int, int]:
    major, _, rest = release.partition(".")
    minor = rest.partition(".")[0]
    return int(major), int("".join(character for character in minor if character.isdigit()) or 0)


def _status_mask(name: str) -> int:
    for line in _read("/proc/self/status").splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1], 16)
    return 0


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""
