"""The options of `docker run` as one value (C13), and their merge with an image's configuration (S31). Pure."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final, Literal

from lamina.errors import Invalid
from lamina.runtime.bundle import (
    DEFAULT_PATH,
    DEFAULT_SHM,
    ContainerSpec,
    Device,
    NamespaceName,
    OciMount,
    Rlimit,
)
from lamina.runtime.host import RLIMITS
from lamina.runtime.mount_spec import MountSpec
from lamina.runtime.network.ports import PortMapping
from lamina.runtime.resources import Resources, Throttle
from lamina.runtime.users import User
from lamina.spec.config import Healthcheck, RunConfig
from lamina.values import dataclass, field, fields, replace

RestartName = Literal["no", "on-failure", "always", "unless-stopped"]
_ULIMIT: Final = r"^(?P<name>[a-z]+)=(?P<soft>-1|\d+)(?::(?P<hard>-1|\d+))?$"


class NoCommand(Invalid):
    """Neither the image nor the user says what to run."""

    def __init__(self) -> None:
        super().__init__("no command specified")


class InvalidOption(Invalid):
    """An option's value outside its grammar; the message is Docker's where Docker has one.

    Attributes:
        value: as the user wrote it.
    """

    def __init__(self, message: str, value: str) -> None:
        super().__init__(message)
        self.value = value


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """When a container is started again by itself.

    Attributes:
        name: Docker's word.
        maximum: restarts at most, for `on-failure`; 0 = no limit.
    """

    name: RestartName = "no"
    maximum: int = 0

    @classmethod
    def parse(cls, text: str) -> RestartPolicy:
        """`no`, `always`, `unless-stopped`, `on-failure`, `on-failure:5`.

        Raises:
            InvalidOption: anything else.
        """
        name, colon, count = text.partition(":")
        if name in {"", "no"} and not colon:
            return cls("no")
        if count.startswith("-") and count[1:].isdecimal():
            raise InvalidOption("invalid restart policy: maximum retry count cannot be negative", text)
        if colon and not (count.isascii() and count.isdigit()):
            raise InvalidOption("invalid restart policy format: maximum retry count must be an integer", text)
        match name:
            case "always" | "unless-stopped" | "no":
                if colon:
                    message = "invalid restart policy: maximum retry count can only be used with 'on-failure'"
                    raise InvalidOption(message, text)
                policy: RestartName = "always" if name == "always" else "unless-stopped"
                return cls(policy)
            case "on-failure":
                return cls("on-failure", int(count or 0))
            case _:
                message = (
                    f"invalid restart policy: unknown policy '{name}'; "
                    "use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
                )
                raise InvalidOption(message, text)

    def wants_restart(self, exit_code: int, restarts: int, *, stopped_by_user: bool) -> bool:
        """Whether a container that just ended is to be started again."""
        if stopped_by_user or self.name == "no":
            return False
        if self.name == "on-failure":
            return exit_code != 0 and (self.maximum == 0 or restarts < self.maximum)
        return True


@dataclass(frozen=True, slots=True)
class ContainerOptions:
    """What a user asks of a container, beside the image; defaults are Docker's.

    Durations are seconds, sizes bytes. None means "as the image has it" or "no limit".

    Attributes:
        command: replaces the image's CMD.
        entrypoint: replaces the image's ENTRYPOINT and drops its CMD; `("",)` or () resets it.
        env: `NAME=value`, later ones win; over the image's.
        user: `USER` form, over the image's.
        workdir: over the image's.
        hostname: default is the short id.
        domainname: NIS domain.
        tty: `-t`.
        stdin_open: `-i`.
        stdin_once: close the input when the first attached client goes (foreground `-i`).
        labels: over the image's.
        auto_remove: `--rm`.
        network: `bridge`, `host`, `none`, `container:<id>`, or the name of a network.
        network_aliases: for container DNS on user-defined networks.
        ip: a fixed IPv4 address, or "".
        mac_address: a fixed hardware address, `02:42:ac:11:00:02`, or "".
        publish: `-p`.
        publish_all: `-P`.
        expose: `--expose`, `80/tcp` forms.
        mounts: of `-v`, `--mount` and `--tmpfs`.
        volumes_from: containers whose volumes are taken over.
        restart: policy.
        privileged: all capabilities and devices.
        read_only: root file system.
        init: an init as pid 1.
        cap_add, cap_drop: capabilities.
        security_opt: as written: `no-new-privileges`, `seccomp=...`, `apparmor=...`, `label=...`, `systempaths=...`.
        seccomp_profile: document of `--security-opt seccomp=<file>`, read by the caller.
        group_add: further groups.
        devices: `host[:container[:rwm]]`.
        sysctls: kernel parameters of the container's namespaces.
        ulimits: as Rlimit values.
        dns, dns_search, dns_options: of resolv.conf.
        extra_hosts: `(name, address)`; the address `host-gateway` is the bridge's.
        pid, ipc, uts, userns, cgroupns: `private`/"" or `host`, `container:<id>` for pid and ipc.
        memory, memory_reservation, memory_swap, shm_size: bytes.
        nano_cpus: billionths of a CPU.
        cpu_shares, cpuset_cpus, cpuset_mems, pids_limit, oom_score_adj: resources.
        cpu_period, cpu_quota, memory_swappiness, oom_kill_disable, device_rules: as in `Resources`.
        device_rates: `(name, host path, rate)`, names as those of `Throttle`.
        storage: `--storage-opt`, which no driver here knows.
        stop_signal: over the image's; "" = SIGTERM.
        stop_timeout: seconds before SIGKILL; None = 10.
        runtime: OCI runtime by name or path; "" = chosen.
        health: over the image's health check; `test=("NONE",)` disables it.
        annotations: for the OCI runtime.
        log_driver: `json-file` and `local` mean lamina's own file; `none` keeps no log.
        log_options: `max-size`, `max-file`.
        platform: as asked for, informational.
    """

    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    env: tuple[str, ...] = ()
    user: str = ""
    workdir: str = ""
    hostname: str = ""
    domainname: str = ""
    tty: bool = False
    stdin_open: bool = False
    stdin_once: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    auto_remove: bool = False
    network: str = "bridge"
    network_aliases: tuple[str, ...] = ()
    ip: str = ""
    mac_address: str = ""
    publish: tuple[PortMapping, ...] = ()
    publish_all: bool = False
    expose: tuple[str, ...] = ()
    mounts: tuple[MountSpec, ...] = ()
    volumes_from: tuple[str, ...] = ()
    restart: RestartPolicy = field(default_factory=RestartPolicy)
    privileged: bool = False
    read_only: bool = False
    init: bool = False
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    security_opt: tuple[str, ...] = ()
    seccomp_profile: Mapping[str, Any] | None = None
    group_add: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    sysctls: Mapping[str, str] = field(default_factory=dict)
    ulimits: tuple[Rlimit, ...] = ()
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    extra_hosts: tuple[tuple[str, str], ...] = ()
    pid: str = ""
    ipc: str = ""
    uts: str = ""
    userns: str = ""
    cgroupns: str = ""
    memory: int | None = None
    memory_reservation: int | None = None
    memory_swap: int | None = None
    shm_size: int | None = None
    nano_cpus: int | None = None
    cpu_period: int | None = None
    cpu_quota: int | None = None
    cpu_shares: int | None = None
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    pids_limit: int | None = None
    oom_score_adj: int | None = None
    memory_swappiness: int | None = None
    oom_kill_disable: bool = False
    device_rules: tuple[str, ...] = ()
    device_rates: tuple[tuple[str, str, int], ...] = ()
    storage: tuple[str, ...] = ()
    stop_signal: str = ""
    stop_timeout: int | None = None
    runtime: str = ""
    health: Healthcheck | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    log_driver: str = "json-file"
    log_options: Mapping[str, str] = field(default_factory=dict)
    platform: str = ""

    def to_json(self) -> dict[str, Any]:
        """For the store's index; options at their default are left out."""
        result: dict[str, Any] = {}
        for name, default in _defaults().items():
            value = getattr(self, name)
            if value == default:
                continue
            match name:
                case "publish":
                    value = [[p.container_port, p.protocol, p.host_ip, p.host_ports] for p in self.publish]
                case "mounts":
                    value = [mount.to_json() for mount in self.mounts]
                case "ulimits":
                    value = [[limit.name, limit.soft, limit.hard] for limit in self.ulimits]
                case "restart":
                    value = [self.restart.name, self.restart.maximum]
                case "health":
                    value = self.health.to_json() if self.health else None
                case _:
                    value = dict(value) if isinstance(value, Mapping) else value
            result[name] = value
        return result

    @classmethod
    def from_json(cls, doc: Mapping[str, Any]) -> ContainerOptions:
        """The inverse of `to_json`."""
        values: dict[str, Any] = {}
        for name, value in doc.items():
            match name:
                case "publish":
                    value = tuple(PortMapping(p, proto, ip, _pair(host)) for p, proto, ip, host in value)
                case "mounts":
                    value = tuple(MountSpec.from_json(mount) for mount in value)
                case "ulimits":
                    value = tuple(Rlimit(*limit) for limit in value)
                case "restart":
                    value = RestartPolicy(*value)
                case "health":
                    value = _health(value)
                case "extra_hosts" | "device_rates":
                    value = tuple(tuple(each) for each in value)
                case _:
                    value = tuple(value) if isinstance(value, list) else value
            values[name] = value
        return cls(**values)


@cache
def _defaults() -> dict[str, Any]:
    plain = ContainerOptions()
    return {entry.name: getattr(plain, entry.name) for entry in fields(ContainerOptions)}


def _pair(value: Sequence[int] | None) -> tuple[int, int] | None:
    return None if value is None else (value[0], value[1])


def _health(value: Mapping[str, Any] | None) -> Healthcheck | None:
    if value is None:
        return None
    return Healthcheck(
        tuple(value.get("Test", ())),
        value.get("Interval", 0),
        value.get("Timeout", 0),
        value.get("StartPeriod", 0),
        value.get("StartInterval", 0),
        value.get("Retries", 0),
    )


def parse_ulimit(text: str) -> Rlimit:
    """A `--ulimit` value: `nofile=1024:2048` or `nofile=1024`.

    Raises:
        InvalidOption: in Docker's words.
    """
    found = re.match(_ULIMIT, text)
    if found is None:
        raise InvalidOption(f"invalid ulimit argument: {text}", text)
    if found["name"] not in RLIMITS:
        raise InvalidOption(f"invalid ulimit type: {found['name']}", text)
    soft = int(found["soft"])
    hard = int(found["hard"]) if found["hard"] is not None else soft
    if hard >= 0 and (soft < 0 or soft > hard):
        raise InvalidOption(f"ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}", text)
    return Rlimit(found["name"], soft, hard)


def command_line(image: RunConfig, options: ContainerOptions) -> tuple[str, ...]:
    """What runs: ENTRYPOINT and CMD of the image under `--entrypoint` and the arguments (S31).

    Raises:
        NoCommand: nothing is left to run.
    """
    if options.entrypoint is not None:
        entrypoint = tuple(word for word in options.entrypoint if word or len(options.entrypoint) > 1)
        argv = entrypoint + (options.command or ())
    else:
        command = options.command or image.cmd
        argv = (image.entrypoint or ()) + (command or ())
    if not argv:
        raise NoCommand
    return argv


def environment(image: RunConfig, options: ContainerOptions, *, hostname: str, home: str = "") -> tuple[str, ...]:
    """The container's environment in Docker's order: PATH, HOSTNAME, TERM, the image's, the user's, HOME."""
    merged: dict[str, str] = {}
    for entry in (DEFAULT_PATH, f"HOSTNAME={hostname}", *(["TERM=xterm"] if options.tty else []), *image.env):
        name, _, value = entry.partition("=")
        merged[name] = value
    for entry in options.env:
        name, equals, value = entry.partition("=")
        if equals:
            merged[name] = value
        else:
            merged.pop(name, None)  # `-e NAME` of a variable that the user's shell has not
    if "HOME" not in merged and home:
        merged["HOME"] = home
    return tuple(f"{name}={value}" for name, value in merged.items())


def hostname_of(container_id: str, options: ContainerOptions) -> str:
    """`--hostname`, or the short id."""
    return options.hostname or container_id[:12]


def stop_signal_of(image: RunConfig, options: ContainerOptions) -> str:
    """`--stop-signal`, the image's STOPSIGNAL, or SIGTERM."""
    return options.stop_signal or image.stop_signal or "SIGTERM"


def exposed_ports(image: RunConfig, options: ContainerOptions) -> tuple[str, ...]:
    """`80/tcp` forms of EXPOSE and `--expose`, for `-P` and inspect."""
    seen = dict.fromkeys((*image.exposed_ports, *options.expose))
    return tuple(port if "/" in port else f"{port}/tcp" for port in seen)


def workdir_of(image: RunConfig, options: ContainerOptions) -> str:
    """`--workdir`, or the image's; relative ones start at `/`.

    Raises:
        InvalidOption: `--workdir` is not absolute.
    """
    if options.workdir and not options.workdir.startswith("/"):
        message = f"the working directory '{options.workdir}' is invalid, it needs to be an absolute path"
        raise InvalidOption(message, options.workdir)
    chosen = options.workdir or image.working_dir or "/"
    return chosen if chosen.startswith("/") else posixpath.join("/", chosen)


def container_spec(
    image: RunConfig,
    options: ContainerOptions,
    *,
    container_id: str,
    rootfs: str,
    user: User,
    cwd: str,
    network: str,
    namespaces: Mapping[NamespaceName, str],
    mounts: Sequence[OciMount] = (),
    devices: Sequence[Device] = (),
    throttles: Sequence[Throttle] = (),
    init_path: str = "",
) -> ContainerSpec:
    """The container's bundle as a value, from what the image says and what the user asks.

    Args:
        image: the image's run configuration.
        options: the user's.
        container_id: 64 hex digits.
        rootfs: where the root file system is mounted.
        user: resolved in it.
        cwd: prepared in it.
        network: namespace path, `host` or `none`.
        namespaces: resolved modes of pid, ipc and uts.
        mounts: volumes, binds and etc files, resolved.
        devices: resolved.
        throttles: resolved.
        init_path: of an init on the host, used with `--init`.

    Raises:
        NoCommand: nothing to run.
        InvalidOption: an unknown security option.
    """
    hostname = hostname_of(container_id, options)
    base = ContainerSpec(
        id=container_id,
        rootfs=rootfs,
        argv=command_line(image, options),
        env=environment(image, options, hostname=hostname, home=user.home),
        cwd=cwd,
        user=user,
        hostname=hostname,
        domainname=options.domainname,
        tty=options.tty,
        readonly=options.read_only,
        mounts=tuple(mounts),
        cap_add=options.cap_add,
        cap_drop=options.cap_drop,
        privileged=options.privileged,
        rlimits=options.ulimits,
        resources=Resources(
            memory=options.memory,
            memory_reservation=options.memory_reservation,
            memory_swap=options.memory_swap,
            nano_cpus=options.nano_cpus,
            cpu_period=options.cpu_period,
            cpu_quota=options.cpu_quota,
            cpu_shares=options.cpu_shares,
            cpuset_cpus=options.cpuset_cpus,
            cpuset_mems=options.cpuset_mems,
            # As Docker reads it: nothing is no limit.
            pids=options.pids_limit if (options.pids_limit or 0) > 0 else None,
            oom_score_adj=options.oom_score_adj,
            memory_swappiness=options.memory_swappiness,
            oom_kill_disable=options.oom_kill_disable,
            throttles=tuple(throttles),
            device_rules=options.device_rules,
        ),
        devices=tuple(devices),
        sysctls=options.sysctls,
        network=network,
        namespaces=namespaces,
        annotations=options.annotations,
        shm_size=0 if options.ipc == "none" else options.shm_size or DEFAULT_SHM,
        init=init_path if options.init else "",
        seccomp=options.seccomp_profile or "default",
    )
    for option in options.security_opt:
        base = _with_security(base, option)
    return base


def _with_security(spec: ContainerSpec, option: str) -> ContainerSpec:
    """One `--security-opt` value applied (docker run reference, Security configuration)."""
    name, _, value = option.replace(":", "=", 1).partition("=") if "=" not in option else option.partition("=")
    match name:
        case "no-new-privileges":
            if value not in {"", "true", "false"}:
                raise InvalidOption(f'invalid --security-opt 2: "{option}"', option)
            return replace(spec, no_new_privileges=value != "false")
        case "seccomp":
            # A file's content comes as `seccomp_profile`; only the words are left here.
            return replace(spec, seccomp="unconfined") if value == "unconfined" else spec
        case "apparmor":
            return replace(spec, apparmor=value)
        case "label":
            if value == "disable":
                return replace(spec, selinux_label="")
            kind, _, part = value.partition(":")
            if kind in {"type", "user", "role", "level"} and part:
                return spec  # meaningful under SELinux only, which this system does not enforce
            raise InvalidOption(f'invalid --security-opt 2: "{option}"', option)
        case "systempaths":
            if value == "unconfined":
                return replace(spec, masked=(), readonly_paths=())
            raise InvalidOption(f'invalid --security-opt 2: "{option}"', option)
        case _:
            raise InvalidOption(f'invalid --security-opt 2: "{option}"', option)
