"""What docker's daemon refuses of a container's options before anything is made (C13, C14, S28)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from lamina.errors import Conflict, Invalid

if TYPE_CHECKING:
    from lamina.runtime.config import ContainerOptions

_LEAST_MEMORY = 6 << 20  # below it no process starts
_IPC_MODES = frozenset({"", "none", "private", "shareable", "host"})
_LEAST_DURATION = 1_000_000  # nanoseconds
_MOST_CPUS = 1 << 16
_LOG_OPTIONS = {
    "json-file": {"compress", "env", "env-regex", "labels", "labels-regex", "max-file", "max-size", "tag"},
    "local": {"compress", "max-file", "max-size"},
}
_LEAST_CPU = 10_000_000  # billionths of a CPU


def check_options(options: ContainerOptions) -> None:
    """Checks limits and options that exclude each other.

    Raises:
        Invalid: a limit that no machine, or not this one, can give.
        Conflict: an option that a namespace shared with another container or the host does not allow.
    """
    check_limits(options)
    _check_values(options)
    if options.uts == "host" and options.hostname:
        raise Conflict("conflicting options: hostname and the UTS mode")
    if options.mac_address and (options.network == "host" or options.network.startswith("container:")):
        raise Conflict("conflicting options: mac-address and the network mode")
    kind, colon, name = options.network.partition(":")
    if kind == "container" and colon:
        if not name:
            raise Invalid("invalid network mode: invalid container format container:<name|id>")
        _check_shared_network(options)


def _check_values(options: ContainerOptions) -> None:
    """Checks what would otherwise show only when the container starts or ends, or never."""
    from lamina.runtime.signals import signal_number

    if options.stop_signal:
        signal_number(options.stop_signal)
    adjust = options.oom_score_adj
    if adjust is not None and not -1000 <= adjust <= 1000:
        raise Invalid(f"invalid value {adjust}, range for oom score adj is [-1000, 1000]")
    if options.ipc not in _IPC_MODES and not options.ipc.startswith("container:"):
        raise Invalid(f"invalid IPC mode: {options.ipc}")
    driver = options.log_driver or "json-file"
    for name in options.log_options:
        if driver in _LOG_OPTIONS and name not in _LOG_OPTIONS[driver]:
            raise Invalid(f"unknown log opt '{name}' for {driver} log driver")
    _check_cpuset(options.cpuset_cpus)
    for option in options.storage:
        name = option.partition("=")[0]
        if name.lower() != "size":
            raise Invalid(f"Unknown option {name}")
        raise Invalid("--storage-opt is supported only for overlay over xfs with 'pquota' mount option")
    health = options.health
    for name, duration in (
        ("interval", health.interval), ("timeout", health.timeout), ("start period", health.start_period),
    ) if health else ():  # fmt: skip
        if duration and duration < _LEAST_DURATION:
            raise Invalid(f"{name} in Healthcheck cannot be less than 1ms")


def _check_cpuset(text: str) -> None:
    """A list such as `0-2,4`; all of it has to be on this machine."""
    if not text:
        return
    try:
        wanted = _numbers(text)
    except ValueError:
        raise Invalid(f"Invalid value {text} for cpuset cpus") from None
    with open("/sys/devices/system/cpu/online", encoding="ascii") as file:
        online = file.read().strip()
    if not wanted <= _numbers(online):
        raise Invalid(f"Requested CPUs are not available - requested {text}, available: {online}")


def _numbers(text: str) -> set[int]:
    """The numbers of a list as cpuset(7) writes it, `0-2,4`.

    Raises:
        ValueError: it is none.
    """
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        found.update(range(int(first), min(int(last if dash else first), _MOST_CPUS) + 1))
    return found


def check_limits(options: ContainerOptions) -> None:
    """Checks memory and CPU.

    Raises:
        Invalid: out of range, or one limit contradicts another.
    """
    memory, swap, reservation = options.memory or 0, options.memory_swap or 0, options.memory_reservation or 0
    if 0 < memory < _LEAST_MEMORY:
        raise Invalid("Minimum memory limit allowed is 6MB")
    if memory > 0 and 0 < swap < memory:
        raise Invalid("Minimum memoryswap limit should be larger than memory limit, see usage")
    if memory == 0 and swap > 0:
        raise Invalid("You should always set the Memory limit when using Memoryswap limit, see usage")
    if 0 < reservation < _LEAST_MEMORY:
        raise Invalid("Minimum memory reservation allowed is 6MB")
    if 0 < memory < reservation:
        raise Invalid("Minimum memory limit can not be less than memory reservation limit, see usage")
    count = os.cpu_count() or 1
    cpus = options.nano_cpus or 0
    if cpus and not _LEAST_CPU <= cpus <= count * 10**9:
        raise Invalid(f"range of CPUs is from 0.01 to {count}.00, as there are only {count} CPUs available")
    if cpus and options.cpu_period:
        raise Invalid("Conflicting options: Nano CPUs and CPU Period cannot both be set")
    if cpus and options.cpu_quota:
        raise Invalid("Conflicting options: Nano CPUs and CPU Quota cannot both be set")
    if options.cpu_period and not 1000 <= options.cpu_period <= 1_000_000:
        raise Invalid("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
    if 0 < (options.cpu_quota or 0) < 1000:
        raise Invalid("CPU cfs quota can not be less than 1ms (i.e. 1000)")


def _check_shared_network(options: ContainerOptions) -> None:
    """The other container's network has a name, ports, hosts and resolvers already."""
    for given, what in (
        (options.hostname, "hostname and the network mode"),
        (options.dns, "dns and the network mode"),
        (options.extra_hosts, "custom host-to-IP mapping and the network mode"),
        (options.publish or options.publish_all, "port publishing and the container type network mode"),
        (options.expose, "port exposing and the container type network mode"),
    ):
        if given:
            raise Conflict(f"conflicting options: {what}")
