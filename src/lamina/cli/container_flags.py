"""The flags that `lamina run` and `lamina create` share (C13, C14); the lines of help are docker's."""

from __future__ import annotations

from lamina.cli.flags import Options, flag
from lamina.cli.values import BOOL, BYTES, CPUS, DURATION, ENV, INT, LIST, MAP, SWAP, UINT, Kind
from lamina.values import dataclass


def _label(text: str) -> str:
    if text.partition("=")[0].strip() == "":
        raise ValueError(f"invalid label '{text}': empty name")
    return text


def _stream(text: str) -> str:
    if text.lower() not in {"stdin", "stdout", "stderr"}:
        raise ValueError("valid streams are STDIN, STDOUT and STDERR")
    return text.lower()


def host_entry(text: str) -> tuple[str, str]:
    """`--add-host` of containers and builds: `name:address` or `name=address` to a pair.

    Raises:
        ValueError: no name, or neither an address nor `host-gateway`.
    """
    # `name=address` is the newer form; an IPv6 address may stand in brackets.
    separator = "=" if "=" in text else ":"
    name, found, address = text.partition(separator)
    if not found or not name:
        raise ValueError(f'bad format for add-host: "{text}"')
    address = address.removeprefix("[").removesuffix("]")
    if address != "host-gateway" and not _is_address(address):
        raise ValueError(f'invalid IP address in add-host: "{address}"')
    return name, address


def _is_address(text: str) -> bool:
    from ipaddress import ip_address

    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _dns(text: str) -> str:
    if not _is_address(text.strip()):
        raise ValueError(f"IP address is not correctly formatted: {text}")
    return text.strip()


def _sysctl(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"sysctl '{text}' is not allowed")
    allowed = {
        "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax",
        "kernel.shmmni", "kernel.shm_rmid_forced",
    }  # fmt: skip
    if name not in allowed and not name.startswith(("net.", "fs.mqueue.")):
        raise ValueError(f"sysctl '{text}' is not allowed")
    return name, value


def ulimit_entry(text: str) -> object:
    """`--ulimit` of containers and builds: `name=soft[:hard]`.

    Raises:
        ValueError: malformed, or no such limit.
    """
    from lamina.errors import Invalid
    from lamina.runtime.config import parse_ulimit

    try:
        return parse_ulimit(text)
    except Invalid as error:
        raise ValueError(error.message) from None


LABEL = LIST.checked(_label)


def _mount(text: str) -> str:
    """Checks what docker's client checks; the rest is refused when the container is made."""
    from lamina.runtime.mount_spec import InvalidMount, InvalidMountConfig, parse_mount

    if not text:
        raise ValueError("EOF")
    try:
        parse_mount(text)
    except InvalidMountConfig:
        pass
    except InvalidMount as error:
        raise ValueError(error.message) from None
    return text


def _device_rule(text: str) -> str:
    import re

    if not re.fullmatch(r"[acb] ([0-9]+|\*):([0-9]+|\*) [rwm]{1,3}", text):
        raise ValueError(f"invalid device cgroup format '{text}'")
    return text


def _bps(text: str) -> tuple[str, int]:
    form = (
        "<device-path>:<number>[<unit>]. Number must be a positive integer. Unit is optional and can be kb, mb, or gb"
    )
    return _rate(text, BYTES, form)


def _iops(text: str) -> tuple[str, int]:
    return _rate(text, UINT, "<device-path>:<number>. Number must be a positive integer")


def _rate(text: str, kind: Kind, form: str) -> tuple[str, int]:
    path, colon, number = text.partition(":")
    if not colon or not path or ":" in number:
        raise ValueError(f"bad format: {text}")
    if not path.startswith("/dev/"):
        raise ValueError(f"bad format for device path: {text}")
    try:
        return path, int(kind.parse(number))
    except ValueError:
        raise ValueError(f"invalid rate for device: {text}. The correct format is {form}") from None


_BPS = LIST.checked(_bps).named("list", empty_text="[]")
_IOPS = LIST.checked(_iops).named("list", empty_text="[]")
_CGROUPNS = (
    "Cgroup namespace to use (host|private)\n"
    "'host':    Run the container in the Docker host's cgroup namespace\n"
    "'private': Run the container in its own private cgroup namespace\n"
    "'':        Use the cgroup namespace as configured by the\n"
    "           default-cgroupns-mode option on the daemon (default)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerFlags(Options):
    """What may be asked of a new container."""

    add_host: tuple[tuple[str, str], ...] = flag(
        "add-host", kind=LIST.checked(host_entry), help="Add a custom host-to-IP mapping (host:ip)"
    )
    annotation: tuple[tuple[str, str], ...] = flag(
        "annotation", kind=MAP, help="Add an annotation to the container (passed through to the OCI runtime)"
    )
    attach: tuple[str, ...] = flag("attach", "a", kind=LIST.checked(_stream), help="Attach to STDIN, STDOUT or STDERR")
    cap_add: tuple[str, ...] = flag("cap-add", kind=LIST, help="Add Linux capabilities")
    cap_drop: tuple[str, ...] = flag("cap-drop", kind=LIST, help="Drop Linux capabilities")
    cgroupns: str = flag("cgroupns", help=_CGROUPNS)
    cidfile: str = flag("cidfile", help="Write the container ID to the file")
    cpu_period: int = flag("cpu-period", kind=INT, help="Limit CPU CFS (Completely Fair Scheduler) period")
    cpu_quota: int = flag("cpu-quota", kind=INT, help="Limit CPU CFS (Completely Fair Scheduler) quota")
    cpu_shares: int = flag("cpu-shares", "c", kind=INT, help="CPU shares (relative weight)")
    cpus: int = flag("cpus", kind=CPUS, help="Number of CPUs")
    cpuset_cpus: str = flag("cpuset-cpus", help="CPUs in which to allow execution (0-3, 0,1)")
    cpuset_mems: str = flag("cpuset-mems", help="MEMs in which to allow execution (0-3, 0,1)")
    device: tuple[str, ...] = flag("device", kind=LIST, help="Add a host device to the container")
    device_cgroup_rule: tuple[str, ...] = flag(
        "device-cgroup-rule", kind=LIST.checked(_device_rule), help="Add a rule to the cgroup allowed devices list"
    )
    device_read_bps: tuple[tuple[str, int], ...] = flag(
        "device-read-bps", kind=_BPS, help="Limit read rate (bytes per second) from a device"
    )
    device_read_iops: tuple[tuple[str, int], ...] = flag(
        "device-read-iops", kind=_IOPS, help="Limit read rate (IO per second) from a device"
    )
    device_write_bps: tuple[tuple[str, int], ...] = flag(
        "device-write-bps", kind=_BPS, help="Limit write rate (bytes per second) to a device"
    )
    device_write_iops: tuple[tuple[str, int], ...] = flag(
        "device-write-iops", kind=_IOPS, help="Limit write rate (IO per second) to a device"
    )
    disable_content_trust: bool = flag("disable-content-trust", kind=BOOL, default=True, help="Skip image verification")
    dns: tuple[str, ...] = flag("dns", kind=LIST.checked(_dns), help="Set custom DNS servers")
    dns_option: tuple[str, ...] = flag("dns-option", kind=LIST, help="Set DNS options", also=("dns-opt",))
    dns_search: tuple[str, ...] = flag("dns-search", kind=LIST, help="Set custom DNS search domains")
    domainname: str = flag("domainname", help="Container NIS domain name")
    entrypoint: str = flag("entrypoint", help="Overwrite the default ENTRYPOINT of the image")
    env: tuple[str, ...] = flag("env", "e", kind=ENV, help="Set environment variables")
    env_file: tuple[str, ...] = flag("env-file", kind=LIST, help="Read in a file of environment variables")
    expose: tuple[str, ...] = flag("expose", kind=LIST, help="Expose a port or a range of ports")
    group_add: tuple[str, ...] = flag("group-add", kind=LIST, help="Add additional groups to join")
    health_cmd: str = flag("health-cmd", help="Command to run to check health")
    health_interval: int = flag(
        "health-interval", kind=DURATION, default_text="0s", help="Time between running the check (ms|s|m|h)"
    )
    health_retries: int = flag("health-retries", kind=INT, help="Consecutive failures needed to report unhealthy")
    health_start_interval: int = flag(
        "health-start-interval",
        kind=DURATION,
        default_text="0s",
        help="Time between running the check during the start period (ms|s|m|h)",
    )
    health_start_period: int = flag(
        "health-start-period",
        kind=DURATION,
        default_text="0s",
        help="Start period for the container to initialize before starting health-retries countdown (ms|s|m|h)",
    )
    health_timeout: int = flag(
        "health-timeout", kind=DURATION, default_text="0s", help="Maximum time to allow one check to run (ms|s|m|h)"
    )
    hostname: str = flag("hostname", "h", help="Container host name")
    init: bool = flag(
        "init", kind=BOOL, help="Run an init inside the container that forwards signals and reaps processes"
    )
    interactive: bool = flag("interactive", "i", kind=BOOL, help="Keep STDIN open even if not attached")
    ip: str = flag("ip", help="IPv4 address (e.g., 172.30.100.104)")
    ipc: str = flag("ipc", help="IPC mode to use")
    label: tuple[str, ...] = flag("label", "l", kind=LABEL, help="Set meta data on a container")
    label_file: tuple[str, ...] = flag("label-file", kind=LIST, help="Read in a line delimited file of labels")
    log_driver: str = flag("log-driver", help="Logging driver for the container")
    log_opt: tuple[str, ...] = flag("log-opt", kind=LIST, help="Log driver options")
    mac_address: str = flag("mac-address", help="Container MAC address (e.g., 92:d0:c6:0a:29:33)")
    memory: int = flag("memory", "m", kind=BYTES, help="Memory limit")
    memory_reservation: int = flag("memory-reservation", kind=BYTES, help="Memory soft limit")
    memory_swap: int = flag(
        "memory-swap",
        kind=SWAP,
        help="Swap limit equal to memory plus swap: '-1' to enable unlimited swap",
    )
    memory_swappiness: int = flag(
        "memory-swappiness", kind=INT, default=-1, help="Tune container memory swappiness (0 to 100)"
    )
    mount: tuple[str, ...] = flag(
        "mount", kind=LIST.checked(_mount).named("mount"), help="Attach a filesystem mount to the container"
    )
    name: str = flag("name", help="Assign a name to the container")
    network: tuple[str, ...] = flag(
        "network", kind=LIST.named("network"), help="Connect a container to a network", also=("net",)
    )
    network_alias: tuple[str, ...] = flag(
        "network-alias", kind=LIST, help="Add network-scoped alias for the container", also=("net-alias",)
    )
    no_healthcheck: bool = flag("no-healthcheck", kind=BOOL, help="Disable any container-specified HEALTHCHECK")
    oom_kill_disable: bool = flag("oom-kill-disable", kind=BOOL, help="Disable OOM Killer")
    oom_score_adj: int = flag("oom-score-adj", kind=INT, help="Tune host's OOM preferences (-1000 to 1000)")
    pid: str = flag("pid", help="PID namespace to use")
    pids_limit: int = flag("pids-limit", kind=INT, help="Tune container pids limit (set -1 for unlimited)")
    platform: str = flag("platform", help="Set platform if server is multi-platform capable")
    privileged: bool = flag("privileged", kind=BOOL, help="Give extended privileges to this container")
    publish: tuple[str, ...] = flag("publish", "p", kind=LIST, help="Publish a container's port(s) to the host")
    publish_all: bool = flag("publish-all", "P", kind=BOOL, help="Publish all exposed ports to random ports")
    quiet: bool = flag("quiet", "q", kind=BOOL, help="Suppress the pull output")
    read_only: bool = flag("read-only", kind=BOOL, help="Mount the container's root filesystem as read only")
    restart: str = flag("restart", default="no", help="Restart policy to apply when a container exits")
    rm: bool = flag(
        "rm",
        kind=BOOL,
        help="Automatically remove the container and its associated anonymous volumes when it exits",
    )
    runtime: str = flag("runtime", help="Runtime to use for this container")
    security_opt: tuple[str, ...] = flag("security-opt", kind=LIST, help="Security Options")
    shm_size: int = flag("shm-size", kind=BYTES, help="Size of /dev/shm")
    stop_signal: str = flag("stop-signal", help="Signal to stop the container")
    stop_timeout: int = flag("stop-timeout", kind=INT, help="Timeout (in seconds) to stop a container")
    storage_opt: tuple[str, ...] = flag("storage-opt", kind=LIST, help="Storage driver options for the container")
    sysctl: tuple[tuple[str, str], ...] = flag("sysctl", kind=MAP.checked(_sysctl), help="Sysctl options")
    tmpfs: tuple[str, ...] = flag("tmpfs", kind=LIST, help="Mount a tmpfs directory")
    tty: bool = flag("tty", "t", kind=BOOL, help="Allocate a pseudo-TTY")
    ulimit: tuple[object, ...] = flag(
        "ulimit", kind=LIST.checked(ulimit_entry).named("ulimit", empty_text="[]"), help="Ulimit options"
    )
    user: str = flag("user", "u", help="Username or UID (format: <name|uid>[:<group|gid>])")
    userns: str = flag("userns", help="User namespace to use")
    uts: str = flag("uts", help="UTS namespace to use")
    volume: tuple[str, ...] = flag("volume", "v", kind=LIST, help="Bind mount a volume")
    volume_driver: str = flag("volume-driver", help="Optional volume driver for the container")
    volumes_from: tuple[str, ...] = flag(
        "volumes-from", kind=LIST, help="Mount volumes from the specified container(s)"
    )
    workdir: str = flag("workdir", "w", help="Working directory inside the container")
