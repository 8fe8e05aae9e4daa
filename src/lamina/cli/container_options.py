"""From flags to the options of a container: files read, the user's environment asked, docker's complaints."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from lamina.cli.failures import DAEMON_PREFIX, CliError
from lamina.errors import Invalid
from lamina.runtime.config import ContainerOptions, RestartPolicy
from lamina.values import replace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lamina.cli.container_flags import ContainerFlags
    from lamina.cli.context import Context
    from lamina.runtime.mount_spec import MountSpec
    from lamina.runtime.network.ports import PortMapping
    from lamina.spec.config import Healthcheck

_MODES = frozenset({"bridge", "container", "default", "host", "none"})
_HEALTH = frozenset(
    {
        "health-cmd",
        "health-interval",
        "health-retries",
        "health-start-interval",
        "health-start-period",
        "health-timeout",
    }
)


def container_options(ctx: Context, flags: ContainerFlags) -> ContainerOptions:
    """What the flags ask for.

    Raises:
        CliError: docker's client refuses it.
        Invalid: docker's daemon refuses it.
    """
    restart = restart_policy(flags.restart)
    if flags.rm and restart.name != "no":
        raise CliError("conflicting options: cannot specify both --restart and --rm")
    _check_modes(flags)
    given: dict[str, Any] = {}
    if len(flags.args) > 1:
        given["command"] = flags.args[1:]
    if "entrypoint" in flags.given:
        given["entrypoint"] = (flags.entrypoint,)
    if environment := _environment(ctx, flags):
        given["env"] = environment
    if flags.label or flags.label_file:
        given["labels"] = _labels(ctx, flags)
    if flags.network:
        given |= _networks(flags.network)
    if flags.publish:
        given["publish"] = _published(flags.publish)
    if flags.expose:
        given["expose"] = _exposed(flags.expose)
    if flags.volume or flags.mount or flags.tmpfs:
        given["mounts"] = _mounts(ctx, flags)
    if flags.security_opt:
        given |= _security(ctx, flags.security_opt)
    if flags.no_healthcheck or not flags.given.isdisjoint(_HEALTH):
        given["health"] = _health(flags)
    if flags.log_opt:
        given["log_options"] = dict(_pair(text) for text in flags.log_opt)
    for name, option in _NUMBERS.items():
        if name in flags.given:
            field = name.replace("-", "_")
            given[option or field] = getattr(flags, field)
    for name, option in _SAME.items():
        if value := getattr(flags, name):
            given[option or name] = value
    for name in ("annotation", "sysctl"):
        if pairs := getattr(flags, name):
            given[f"{name}s"] = dict(pairs)
    if flags.memory_swappiness != -1:
        if not 0 <= flags.memory_swappiness <= 100:
            raise CliError(f"invalid value: {flags.memory_swappiness}. Valid memory swappiness range is 0-100")
        given["memory_swappiness"] = flags.memory_swappiness
    if any("=" not in option for option in flags.storage_opt):
        raise CliError("invalid storage option")
    if rates := [(name, *rate) for name, field in _RATES.items() for rate in getattr(flags, field)]:
        given["device_rates"] = tuple(rates)
    if flags.mac_address:
        given["mac_address"] = _mac_address(flags.mac_address)
    if flags.ip:
        given["ip"] = flags.ip
    return ContainerOptions(
        tty=flags.tty,
        stdin_open=flags.interactive,
        auto_remove=flags.rm,
        publish_all=flags.publish_all,
        restart=restart,
        privileged=flags.privileged,
        read_only=flags.read_only,
        init=flags.init,
        **given,
    )


def restart_policy(text: str) -> RestartPolicy:
    """The value of `--restart`.

    Raises:
        CliError: its count is no number, which docker's client says.
        Invalid: anything else.
    """
    count = text.partition(":")[2].removeprefix("-")
    if ":" in text and not (count.isascii() and count.isdigit()):
        raise CliError("invalid restart policy format: maximum retry count must be an integer")
    return RestartPolicy.parse(text)


_RATES = {
    "ReadBps": "device_read_bps",
    "WriteBps": "device_write_bps",
    "ReadIOPS": "device_read_iops",
    "WriteIOPS": "device_write_iops",
}
#: Flags whose zero means something, and their option where it is called otherwise.
_NUMBERS = {
    "cpu-period": "",
    "cpu-quota": "",
    "cpu-shares": "",
    "cpus": "nano_cpus",
    "memory": "",
    "memory-reservation": "",
    "memory-swap": "",
    "oom-score-adj": "",
    "pids-limit": "",
    "shm-size": "",
    "stop-timeout": "",
}
_SAME = {
    "add_host": "extra_hosts",
    "cap_add": "",
    "cap_drop": "",
    "cgroupns": "",
    "cpuset_cpus": "",
    "cpuset_mems": "",
    "device": "devices",
    "device_cgroup_rule": "device_rules",
    "dns": "",
    "dns_option": "dns_options",
    "dns_search": "",
    "domainname": "",
    "group_add": "",
    "hostname": "",
    "ipc": "",
    "log_driver": "",
    "network_alias": "network_aliases",
    "oom_kill_disable": "",
    "pid": "",
    "platform": "",
    "runtime": "",
    "stop_signal": "",
    "storage_opt": "storage",
    "ulimit": "ulimits",
    "user": "",
    "userns": "",
    "uts": "",
    "volumes_from": "",
    "workdir": "",
}


def _check_modes(flags: ContainerFlags) -> None:
    if flags.pid not in {"", "private", "host"} and not flags.pid.startswith("container:"):
        raise CliError("--pid: invalid PID mode")
    if flags.uts not in {"", "host"}:
        raise CliError("--uts: invalid UTS mode")
    if flags.userns not in {"", "host"}:
        raise CliError("--userns: invalid USER mode")
    if flags.cgroupns not in {"", "private", "host"}:
        raise CliError("--cgroupns: invalid CGROUP mode")
    if flags.log_driver not in {"", "json-file", "local", "none"}:
        raise CliError(
            f'{DAEMON_PREFIX}error looking up logging plugin {flags.log_driver}: plugin "{flags.log_driver}" not found',
            hint="use json-file, local or none",
        )
    if not flags.disable_content_trust:
        raise CliError("content trust (Notary v1) is not supported: leave --disable-content-trust out")


# --- environment and labels ------------------------------------------------------------------------------------------


def _environment(ctx: Context, flags: ContainerFlags) -> tuple[str, ...]:
    """Proxies of config.json, then the files, then `-e`; later ones win."""
    return (
        *(f"{name}={value}" for name, value in proxies(ctx).items()),
        *variables(ctx, flags.env_file, flags.env),
    )


def proxies(ctx: Context) -> dict[str, str]:
    """The proxy variables that config.json gives to every container."""
    if not os.path.exists(os.path.join(ctx.config_dir, "config.json")):
        return {}
    from lamina.cli.dockerconfig import proxy_arguments

    return proxy_arguments(ctx)


def variables(ctx: Context, files: Sequence[str], given: Sequence[str]) -> tuple[str, ...]:
    """`--env-file` and `--env`: `NAME` alone takes the user's value, or takes the variable away.

    Raises:
        CliError: a file cannot be read, or is malformed.
    """
    found = [line for name in files for line in _lines(ctx, name, environment=True)]
    for entry in given:
        if "=" in entry or entry not in ctx.env:
            found.append(entry)
        else:
            found.append(f"{entry}={ctx.env[entry]}")
    return tuple(found)


def _lines(ctx: Context, name: str, *, environment: bool) -> list[str]:
    """The `KEY=value` lines of a file; keys alone take the user's value where `environment` says so."""
    try:
        with open(ctx.path(name), "rb") as file:
            content = file.read()
    except OSError as error:
        raise CliError(f"open {name}: {(error.strerror or str(error)).lower()}") from None
    found = []
    kind = "env file" if environment else "label file"
    for number, raw in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        try:
            line = raw.decode().removesuffix("\r").lstrip()
        except UnicodeDecodeError:
            raise CliError(f"invalid {kind} ({name}): invalid utf8 bytes at line {number}: {raw!r}") from None
        if not line or line.startswith("#"):
            continue
        key, equals, _ = line.partition("=")
        if not key:
            raise CliError(f"invalid {kind} ({name}): no variable name on line '{line}'")
        if any(character.isspace() for character in key):
            raise CliError(f"invalid {kind} ({name}): variable '{key}' contains whitespaces")
        if equals or not environment:
            found.append(line)
        elif key in ctx.env:
            found.append(f"{key}={ctx.env[key]}")
    return found


def _labels(ctx: Context, flags: ContainerFlags) -> dict[str, str]:
    lines = [line for name in flags.label_file for line in _lines(ctx, name, environment=False)]
    return dict(_pair(line) for line in (*lines, *flags.label))


def _pair(text: str) -> tuple[str, str]:
    key, _, value = text.partition("=")
    return key, value


# --- network ---------------------------------------------------------------------------------------------------------


def _networks(values: Sequence[str]) -> dict[str, Any]:
    """`--network`, of which docker takes several where all are the user's; here a container joins one at most."""
    found = [_network(value) for value in values]
    names = [str(each["network"]) for each in found]
    for place, name in enumerate(names):
        if name in names[:place]:
            raise CliError(f'network "{name}" is specified multiple times')
    if len(names) > 1:
        own = {name in _MODES or name.startswith("container:") for name in names}
        if len(own) > 1:
            raise CliError("conflicting options: cannot attach both user-defined and non-user-defined network-modes")
        raise Invalid(f"Container cannot be connected to network endpoints: {', '.join(names)}")
    return found[0]


def _network(text: str) -> dict[str, Any]:
    """`--network NAME`, or its long form `name=NAME,alias=A,ip=1.2.3.4`."""
    if "=" not in text:
        return {"network": text}
    from lamina.cli.values import parse_csv

    found: dict[str, Any] = {}
    aliases: list[str] = []
    for part in parse_csv(text):
        key, equals, value = part.partition("=")
        match key.strip().lower():
            case "name" if equals:
                found["network"] = value
            case "alias" if equals:
                aliases.append(value)
            case "ip" if equals:
                found["ip"] = value
            case "mac-address" if equals:
                found["mac_address"] = _mac_address(value)
            case _:
                raise CliError(f"invalid field {part}" if not equals else f"invalid field key {key}")
    if "network" not in found:
        raise CliError("network name/id is not specified")
    if aliases:
        found["network_aliases"] = tuple(aliases)
    return found


def _mac_address(text: str) -> str:
    """`02:42:ac:11:00:02`, with dashes, or in groups of four digits with dots; given with colons."""
    import re

    pairs, fours = r"[0-9a-f]{2}([:-])(?:[0-9a-f]{2}\1){4}[0-9a-f]{2}", r"[0-9a-f]{4}(?:\.[0-9a-f]{4}){2}"
    if not re.fullmatch(f"{pairs}|{fours}", text.lower()):
        raise CliError(f"{text} is not a valid mac address")
    digits = re.sub("[:.-]", "", text).lower()
    return ":".join(digits[at : at + 2] for at in range(0, 12, 2))


def _published(values: Sequence[str]) -> tuple[PortMapping, ...]:
    from lamina.runtime.network.ports import parse_publish

    try:
        return tuple(mapping for value in values for mapping in parse_publish(value))
    except Invalid as error:
        raise CliError(error.message) from None


def _exposed(values: Sequence[str]) -> tuple[str, ...]:
    from lamina.runtime.network.ports import parse_exposed

    found: list[str] = []
    for value in values:
        if ":" in value:
            raise CliError(f"invalid port format for --expose: {value}")
        try:
            found += [f"{port}/{protocol}" for port, protocol in parse_exposed(value)]
        except Invalid:
            raise CliError(f"invalid range format for --expose: {value}, error: {_why_no_range(value)}") from None
    return tuple(found)


def _why_no_range(value: str) -> str:
    """What docker's client has against a port or a range of ports."""
    ports, slash, protocol = value.partition("/")
    if slash and protocol.lower() not in {"tcp", "udp", "sctp"}:
        return f"invalid proto: {protocol}"
    if not ports:
        return "empty string specified for ports"
    for number in ports.split("-", 1):
        if not (number.isascii() and number.isdigit()):
            return f'strconv.ParseUint: parsing "{number}": invalid syntax'
        if int(number) > 65535:
            return f'strconv.ParseUint: parsing "{number}": value out of range'
    return f"invalid range specified for port: {ports}"


# --- mounts ----------------------------------------------------------------------------------------------------------


def _mounts(ctx: Context, flags: ContainerFlags) -> tuple[MountSpec, ...]:
    from lamina.runtime.mount_spec import parse_mount, parse_tmpfs, parse_volume

    if "" in flags.volume:
        raise CliError("invalid empty volume spec")
    found = [parse_volume(value, ctx.cwd) for value in dict.fromkeys(flags.volume)]
    found += [parse_mount(value) for value in flags.mount]
    found += [parse_tmpfs(value) for value in flags.tmpfs]
    if flags.volume_driver:
        found = [replace(each, driver=flags.volume_driver) if each.type == "volume" else each for each in found]
    return tuple(found)


# --- the rest --------------------------------------------------------------------------------------------------------


def _security(ctx: Context, values: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {"security_opt": values}
    for value in values:
        name, equals, text = value.partition("=" if "=" in value else ":")
        if not equals and name != "no-new-privileges":
            raise CliError(f'Invalid --security-opt: "{value}"')
        if name == "seccomp" and text not in {"unconfined", "builtin"}:
            found["seccomp_profile"] = _profile(ctx, text)
    return found


def _profile(ctx: Context, name: str) -> dict[str, Any]:
    import json

    try:
        with open(ctx.path(name), "rb") as file:
            document = json.load(file)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise CliError(f"opening seccomp profile ({name}) failed: open {name}: {reason}") from None
    except ValueError as error:
        raise CliError(f"compacting json for seccomp profile ({name}) failed: {error}") from None
    if not isinstance(document, dict):
        raise CliError(f"compacting json for seccomp profile ({name}) failed: it is no JSON object")
    return document


def _health(flags: ContainerFlags) -> Healthcheck:
    from lamina.spec.config import Healthcheck

    if flags.no_healthcheck:
        if not flags.given.isdisjoint(_HEALTH):
            raise CliError("--no-healthcheck conflicts with --health-* options")
        return Healthcheck(("NONE",))
    for name in ("interval", "timeout", "start_period", "start_interval"):
        if getattr(flags, f"health_{name}") < 0:
            raise CliError(f"--health-{name.replace('_', '-')} cannot be negative")
    if flags.health_retries < 0:
        raise CliError("--health-retries cannot be negative")
    return Healthcheck(
        ("CMD-SHELL", flags.health_cmd) if flags.health_cmd else (),
        flags.health_interval,
        flags.health_timeout,
        flags.health_start_period,
        flags.health_start_interval,
        flags.health_retries,
    )
