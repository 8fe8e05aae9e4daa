"""From a container as a value to the OCI runtime's `config.json` (runtime-spec 1.0, config.md and config-linux.md).

Pure: nothing is read from the machine here; its facts come in as `HostFacts`. The defaults are Docker's: masked and
read-only paths, mounts, devices, capabilities, sysctls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal

from lamina.errors import Invalid
from lamina.runtime import capabilities, seccomp
from lamina.runtime.host import HostDevice, HostFacts
from lamina.runtime.resources import Resources, device_rule, limits
from lamina.runtime.users import User
from lamina.values import dataclass, field

OCI_VERSION: Final = "1.0.2"
DEFAULT_PATH: Final = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_SHM: Final = 64 << 20
INIT_PATH: Final = "/sbin/docker-init"
CGROUP_PARENT: Final = "/lamina"

MASKED_PATHS: Final = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
READONLY_PATHS: Final = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

_PROPAGATION: Final = frozenset({"private", "rprivate", "slave", "rslave", "shared", "rshared"})
_MOUNT_OPTIONS: Final = _PROPAGATION | {
    "bind", "rbind", "ro", "rw", "rro", "nosuid", "nodev", "noexec", "suid", "dev", "exec", "relatime", "noatime",
    "strictatime", "newinstance",
}  # fmt: skip
_VALUED_OPTIONS: Final = frozenset({"mode", "size", "ptmxmode", "gid", "uid", "nr_inodes", "nr_blocks"})

NamespaceName = Literal["pid", "ipc", "uts"]


class UnsafeMountOption(Invalid):
    """A mount option outside the list (threat 22).

    Attributes:
        option: the refused text.
    """

    def __init__(self, option: str) -> None:
        super().__init__(f"mount option {option!r} is not allowed")
        self.option = option


@dataclass(frozen=True, slots=True)
class OciMount:
    """One entry of the bundle's `mounts`.

    Attributes:
        destination: absolute container path.
        source: host path for a bind, else the file system's name.
        type: `bind`, `tmpfs`, `proc`, ...
        options: each checked against a fixed list.
    """

    destination: str
    source: str
    type: str = "bind"
    options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for option in self.options:
            name, equals, value = option.partition("=")
            if equals:
                if name not in _VALUED_OPTIONS or not value.rstrip("kmg%").isdigit():
                    raise UnsafeMountOption(option)
            elif option not in _MOUNT_OPTIONS:
                raise UnsafeMountOption(option)

    def to_json(self) -> dict[str, Any]:
        """The spec's object."""
        result: dict[str, Any] = {"destination": self.destination, "type": self.type, "source": self.source}
        if self.options:
            result["options"] = list(self.options)
        return result


@dataclass(frozen=True, slots=True)
class Rlimit:
    """A resource limit: `name` as in `--ulimit` (`nofile`); -1 is unlimited."""

    name: str
    soft: int
    hard: int


@dataclass(frozen=True, slots=True)
class Device:
    """A device given to the container: a host node, its place inside, and what may be done (`rwm`)."""

    host: HostDevice
    path: str
    access: str = "rwm"


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """A container, resolved down to host paths and numbers, ready to become a bundle.

    Attributes:
        id: 64 hex digits, or any name that the runtime takes.
        rootfs: host path of the root file system.
        argv: what runs.
        env: `NAME=value`, already merged.
        cwd: absolute, prepared (`rootfs.prepare_workdir`).
        user: resolved ids.
        hostname: "" leaves the host's (with `uts="host"`).
        domainname: NIS domain, "" = none.
        tty: a pseudo terminal instead of pipes.
        console_size: rows and columns the terminal starts with.
        readonly: the root file system refuses writes.
        mounts: binds, volumes and tmpfs; one at a default's destination replaces the default.
        cap_add: names in any spelling, `ALL`.
        cap_drop: likewise.
        privileged: all capabilities and devices, nothing masked, no seccomp.
        rlimits: clamped to what the host allows.
        resources: cgroup limits.
        devices: beside Docker's defaults.
        sysctls: `net.*` and friends.
        network: path of a network namespace, `host`, `none` (a fresh one), or `private` likewise.
        namespaces: for pid, ipc, uts: `private`, `host`, or a path to join.
        userns_host: always the case; kept for `--userns=host`.
        masked: paths hidden; None = Docker's.
        readonly_paths: paths write-protected; None = Docker's.
        seccomp: `default`, `unconfined`, or a profile document.
        no_new_privileges: as `--security-opt no-new-privileges`.
        apparmor: profile name or "".
        selinux_label: process label or "".
        annotations: handed to the runtime as they are. crun acts on some (`run.oci.*`), so only the user's own may be
            here, never labels or annotations of an image.
        shm_size: bytes of /dev/shm; 0 for none.
        init: host path of an init (catatonit, tini) to run as pid 1, or "".
        cgroup_path: where below the cgroup roots.
    """

    id: str
    rootfs: str
    argv: tuple[str, ...]
    env: tuple[str, ...] = ()
    cwd: str = "/"
    user: User = field(default_factory=User)
    hostname: str = ""
    domainname: str = ""
    tty: bool = False
    console_size: tuple[int, int] | None = None
    readonly: bool = False
    mounts: tuple[OciMount, ...] = ()
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    privileged: bool = False
    rlimits: tuple[Rlimit, ...] = ()
    resources: Resources = field(default_factory=Resources)
    devices: tuple[Device, ...] = ()
    sysctls: Mapping[str, str] = field(default_factory=dict)
    network: str = "none"
    namespaces: Mapping[NamespaceName, str] = field(default_factory=dict)
    masked: tuple[str, ...] | None = None
    readonly_paths: tuple[str, ...] | None = None
    seccomp: Mapping[str, Any] | Literal["default", "unconfined"] = "default"
    no_new_privileges: bool = False
    apparmor: str = ""
    selinux_label: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)
    shm_size: int = DEFAULT_SHM
    init: str = ""
    cgroup_path: str = ""


def oci_spec(
    container: ContainerSpec,
    host: HostFacts,
    *,
    host_devices: Sequence[HostDevice] = (),
    warn: Callable[[str], None] = lambda _message: None,
) -> dict[str, Any]:
    """The runtime's `config.json` for one container.

    Args:
        container: what to run.
        host: the machine's facts.
        host_devices: all device nodes, needed for a privileged container.
        warn: told, in one line each, where the machine allows less than asked.

    Raises:
        UnknownCapability: in `cap_add` or `cap_drop`.
    """
    caps = capabilities.effective(
        container.cap_add, container.cap_drop, privileged=container.privileged, bounding=host.bounding
    )
    return {
        "ociVersion": OCI_VERSION,
        "process": _process(container, host, caps, warn),
        "root": {"path": container.rootfs, "readonly": container.readonly},
        **({"hostname": container.hostname} if container.hostname and _own(container, "uts") else {}),
        "mounts": [mount.to_json() for mount in all_mounts(container, host)],
        "annotations": dict(container.annotations),
        "linux": _linux(container, host, caps, host_devices, warn),
    }


def process_spec(container: ContainerSpec, host: HostFacts, warn: Callable[[str], None]) -> dict[str, Any]:
    """The `process` object alone, as `runc exec --process` takes it; without Docker's init in front.

    Raises:
        UnknownCapability: in `cap_add` or `cap_drop`.
    """
    caps = capabilities.effective(
        container.cap_add, container.cap_drop, privileged=container.privileged, bounding=host.bounding
    )
    return _process(container, host, caps, warn)


def _own(container: ContainerSpec, name: NamespaceName) -> bool:
    return container.namespaces.get(name, "private") == "private"


def _process(
    container: ContainerSpec, host: HostFacts, caps: Sequence[str], warn: Callable[[str], None]
) -> dict[str, Any]:
    user = container.user
    argv = list(container.argv)
    if container.init:
        argv = [INIT_PATH, "--", *argv]
    process: dict[str, Any] = {
        "terminal": container.tty,
        "user": {"uid": user.uid, "gid": user.gid},
        "args": argv,
        "env": list(container.env),
        "cwd": container.cwd,
        # Nothing inheritable, nothing ambient: a non-root program starts with none (threat 37).
        "capabilities": {"bounding": list(caps), "effective": list(caps), "permitted": list(caps)},
        "rlimits": [
            {"type": f"RLIMIT_{limit.name.upper()}", "soft": _unsigned(limit.soft), "hard": _unsigned(limit.hard)}
            for limit in clamped(container.rlimits, host, warn)
        ],
        "noNewPrivileges": container.no_new_privileges,
    }
    # The primary group is listed too, as Docker does since CVE-2023-25173's family.
    process["user"]["additionalGids"] = sorted({user.gid, *user.additional_gids})
    if container.tty and container.console_size is not None:
        process["consoleSize"] = {"height": container.console_size[0], "width": container.console_size[1]}
    if container.apparmor and host.apparmor:
        process["apparmorProfile"] = container.apparmor
    if container.selinux_label:
        process["selinuxLabel"] = container.selinux_label
    if container.resources.oom_score_adj is not None:
        process["oomScoreAdj"] = container.resources.oom_score_adj
    return process


def _unsigned(value: int) -> int:
    return (1 << 64) - 1 if value < 0 else value


def clamped(limits: Sequence[Rlimit], host: HostFacts, warn: Callable[[str], None]) -> list[Rlimit]:
    """The limits, lowered to the host's hard ones where this process may not raise those."""

    def infinite(value: int) -> float:
        return float("inf") if value < 0 else value

    result: list[Rlimit] = []
    for limit in limits:
        ceiling = host.hard_limits.get(limit.name, -1)
        if host.can_raise_limits or infinite(limit.hard) <= infinite(ceiling):
            result.append(limit)
            continue
        warn(f"ulimit {limit.name}: lowered to {ceiling}, this machine's hard limit")
        soft = limit.soft if infinite(limit.soft) <= ceiling else ceiling
        result.append(Rlimit(limit.name, soft, ceiling))
    return result


def all_mounts(container: ContainerSpec, host: HostFacts) -> list[OciMount]:
    """Docker's default mounts with the container's merged in; parents come before children."""
    basic = ("nosuid", "noexec", "nodev")
    access = "rw" if container.privileged else "ro"
    defaults = [
        OciMount("/proc", "proc", "proc", basic),
        OciMount("/dev", "tmpfs", "tmpfs", ("nosuid", "strictatime", "mode=755", "size=65536k")),
        OciMount(
            "/dev/pts", "devpts", "devpts", ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5")
        ),
        OciMount("/sys", "sysfs", "sysfs", (*basic, access)),
        OciMount("/sys/fs/cgroup", "cgroup", "cgroup", (access, *basic)),
    ]
    shared = container.namespaces.get("ipc") == "host"
    # A new mount shows the queues of the namespace it is made in, the host's too; not every host mounts them itself.
    bound = shared and host.rootless
    queues = OciMount("/dev/mqueue", "/dev/mqueue", "bind", ("rbind", *basic))
    defaults.append(queues if bound else OciMount("/dev/mqueue", "mqueue", "mqueue", basic))
    if shared:
        defaults.append(OciMount("/dev/shm", "/dev/shm", "bind", ("rbind", *basic)))
    elif container.shm_size:
        defaults.append(OciMount("/dev/shm", "shm", "tmpfs", (*basic, "mode=1777", f"size={container.shm_size}")))
    if container.init:
        defaults.append(OciMount(INIT_PATH, container.init, "bind", ("bind", "ro")))
    if host.rootless and container.network == "host":
        # sysfs shows a network namespace; mounting it anew needs to own that namespace.
        defaults[3] = OciMount("/sys", "/sys", "bind", ("rbind", *basic, "ro"))
    if container.namespaces.get("pid") == "host":
        defaults[0] = OciMount("/proc", "/proc", "bind", ("rbind", *basic))
    taken = {mount.destination for mount in container.mounts}
    merged = [mount for mount in defaults if mount.destination not in taken] + list(container.mounts)
    return sorted(merged, key=lambda mount: mount.destination.rstrip("/").count("/"))


def mount_targets(container: ContainerSpec, host: HostFacts) -> list[str]:
    """The places below the root file system that the runtime makes when the image lacks them."""
    return [mount.destination for mount in all_mounts(container, host)]


def _linux(
    container: ContainerSpec,
    host: HostFacts,
    caps: Sequence[str],
    host_devices: Sequence[HostDevice],
    warn: Callable[[str], None],
) -> dict[str, Any]:
    privileged = container.privileged
    masked = container.masked if container.masked is not None else () if privileged else MASKED_PATHS
    readonly = (
        container.readonly_paths if container.readonly_paths is not None else () if privileged else READONLY_PATHS
    )
    linux: dict[str, Any] = {
        "sysctl": _sysctls(container),
        "resources": _resources(container, host, warn),
        "cgroupsPath": container.cgroup_path or f"{CGROUP_PARENT}/{container.id}",
        "namespaces": _namespaces(container, host),
        "devices": _devices(container, host_devices),
        "maskedPaths": list(masked),
        "readonlyPaths": list(readonly),
        "rootfsPropagation": "private",
    }
    profile = container.seccomp
    if profile == "default":
        profile = "unconfined" if privileged or host.seccomp_profile is None else host.seccomp_profile
        if host.seccomp_profile is None and not privileged:
            warn("no default seccomp profile is installed on this machine; the container runs without one")
    if not isinstance(profile, str):
        linux["seccomp"] = seccomp.to_oci(profile, machine=host.machine, capabilities=caps, kernel=host.kernel)
    if container.selinux_label:
        linux["mountLabel"] = container.selinux_label
    return linux


def _sysctls(container: ContainerSpec) -> dict[str, str]:
    result: dict[str, str] = {}
    if container.network != "host":
        # Docker's: any user may bind low ports and ping without NET_RAW.
        result["net.ipv4.ip_unprivileged_port_start"] = "0"
        result["net.ipv4.ping_group_range"] = "0 2147483647"
    if container.domainname and _own(container, "uts"):
        result["kernel.domainname"] = container.domainname
    return result | dict(container.sysctls)


def _namespaces(container: ContainerSpec, host: HostFacts) -> list[dict[str, str]]:
    result = [{"type": "mount"}]
    if container.network not in {"host", "none", "private"}:
        result.append({"type": "network", "path": container.network})
    elif container.network != "host":
        result.append({"type": "network"})
    names: tuple[NamespaceName, ...] = ("uts", "pid", "ipc")
    for name in names:
        value = container.namespaces.get(name, "private")
        if value == "private":
            result.append({"type": name})
        elif value != "host":
            result.append({"type": name, "path": value})
    if host.cgroups == "v2" and not container.privileged:
        result.append({"type": "cgroup"})
    return result


def _devices(container: ContainerSpec, host_devices: Sequence[HostDevice]) -> list[dict[str, Any]]:
    # /dev/null, zero, full, random, urandom, tty, ptmx and console come from the runtime itself (config-linux.md).
    chosen = [(device, device.path) for device in host_devices] if container.privileged else []
    chosen += [(device.host, device.path) for device in container.devices]
    return [
        {
            "path": path,
            "type": device.kind,
            "major": device.major,
            "minor": device.minor,
            "fileMode": device.mode,
            "uid": device.uid,
            "gid": device.gid,
        }
        for device, path in {path: (device, path) for device, path in chosen}.values()
    ]


# What every container may use: config-linux.md "Default Devices", plus mknod of anything (access m).
_ALLOWED_DEVICES: Final = (
    ("c", None, None, "m"),
    ("b", None, None, "m"),
    ("c", 1, 3, "rwm"),
    ("c", 1, 5, "rwm"),
    ("c", 1, 7, "rwm"),
    ("c", 1, 8, "rwm"),
    ("c", 1, 9, "rwm"),
    ("c", 5, 0, "rwm"),
    ("c", 5, 1, "rwm"),
    ("c", 5, 2, "rwm"),
    ("c", 136, None, "rwm"),
)


def _resources(container: ContainerSpec, host: HostFacts, warn: Callable[[str], None]) -> dict[str, Any]:
    asked = container.resources
    devices: list[dict[str, Any]]
    if container.privileged:
        devices = [{"allow": True, "access": "rwm"}]
    else:
        devices = [{"allow": False, "access": "rwm"}]
        for kind, major, minor, access in _ALLOWED_DEVICES:
            devices.append(_device_rule(kind, major, minor, access))
        for device in container.devices:
            devices.append(_device_rule(device.host.kind, device.host.major, device.host.minor, device.access))
        devices += [device_rule(text) for text in asked.device_rules]
    found = limits(asked, cgroups=host.cgroups, warn=warn)
    if host.rootless and found and host.cgroups != "v2":
        warn("resource limits need cgroup v2 when running without root; they are ignored")
        return {"devices": devices}
    return {"devices": devices, **found}


def _device_rule(kind: str, major: int | None, minor: int | None, access: str) -> dict[str, Any]:
    rule: dict[str, Any] = {"allow": True, "type": kind, "access": access}
    if major is not None:
        rule["major"] = major
    if minor is not None:
        rule["minor"] = minor
    return rule
