"""Limits of a container as a value, and as the `resources` of a bundle (runtime-spec 1.0, config-linux.md)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

from lamina.values import dataclass

PERIOD: Final = 100_000  # microseconds, the kernel's default
ThrottleName = Literal["ReadBps", "WriteBps", "ReadIOPS", "WriteIOPS"]


@dataclass(frozen=True, slots=True)
class Throttle:
    """The most that may be read from or written to a block device: bytes or operations per second."""

    name: ThrottleName
    major: int
    minor: int
    rate: int


@dataclass(frozen=True, slots=True)
class Resources:
    """Limits of one container; None leaves the kernel's default.

    Attributes:
        memory: bytes.
        memory_reservation: bytes, the soft limit.
        memory_swap: memory plus swap in bytes, -1 = unlimited swap.
        memory_swappiness: 0 to 100; cgroup v1 only.
        oom_kill_disable: wait for memory instead of being killed; cgroup v1 only.
        nano_cpus: billionths of a CPU (`--cpus 1.5` = 1_500_000_000).
        cpu_period: microseconds.
        cpu_quota: microseconds of CPU in each period.
        cpu_shares: relative weight, 1024 = normal.
        cpuset_cpus: `0-2,4`.
        cpuset_mems: NUMA nodes.
        pids: processes and threads at most, -1 = unlimited.
        oom_score_adj: -1000 to 1000.
        throttles: of block devices.
        device_rules: further `c 1:3 rwm` forms of devices that may be used.
    """

    memory: int | None = None
    memory_reservation: int | None = None
    memory_swap: int | None = None
    memory_swappiness: int | None = None
    oom_kill_disable: bool = False
    nano_cpus: int | None = None
    cpu_period: int | None = None
    cpu_quota: int | None = None
    cpu_shares: int | None = None
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    pids: int | None = None
    oom_score_adj: int | None = None
    throttles: tuple[Throttle, ...] = ()
    device_rules: tuple[str, ...] = ()


def limits(asked: Resources, *, cgroups: str, warn: Callable[[str], None]) -> dict[str, Any]:
    """The spec's `memory`, `cpu`, `pids` and `blockIO` objects, each where something is asked.

    Args:
        asked: the limits.
        cgroups: as in HostFacts.
        warn: told, in one line each, what this machine's cgroups cannot do.
    """
    result: dict[str, Any] = {}
    if memory := _memory(asked, cgroups, warn):
        result["memory"] = memory
    if cpu := _cpu(asked):
        result["cpu"] = cpu
    if asked.pids is not None:
        result["pids"] = {"limit": asked.pids}
    throttled: dict[str, list[dict[str, int]]] = {}
    for one in asked.throttles:
        rule = {"major": one.major, "minor": one.minor, "rate": one.rate}
        throttled.setdefault(f"throttle{one.name}Device", []).append(rule)
    if throttled:
        result["blockIO"] = throttled
    return result


def _memory(asked: Resources, cgroups: str, warn: Callable[[str], None]) -> Mapping[str, Any]:
    found = {
        "limit": asked.memory,
        "reservation": asked.memory_reservation,
        # Docker: swap defaults to as much again as memory.
        "swap": asked.memory_swap if asked.memory_swap is not None else asked.memory * 2 if asked.memory else None,
        "swappiness": asked.memory_swappiness,
        "disableOOMKiller": asked.oom_kill_disable or None,
    }
    found = {key: value for key, value in found.items() if value is not None}
    if cgroups == "v2":
        if found.pop("swappiness", None) is not None:
            warn(
                "Your kernel does not support memory swappiness capabilities, or the cgroup is not mounted. "
                "Memory swappiness discarded."
            )
        if found.pop("disableOOMKiller", None) is not None:
            warn("Your kernel does not support OomKillDisable. OomKillDisable discarded.")
    return found


def _cpu(asked: Resources) -> Mapping[str, Any]:
    found: dict[str, Any] = {}
    if asked.nano_cpus:
        found["period"] = PERIOD
        found["quota"] = asked.nano_cpus * PERIOD // 1_000_000_000
    further = {
        "period": asked.cpu_period,
        "quota": asked.cpu_quota,
        "shares": asked.cpu_shares,
        "cpus": asked.cpuset_cpus,
        "mems": asked.cpuset_mems,
    }
    return found | {name: value for name, value in further.items() if value}


def device_rule(text: str) -> dict[str, Any]:
    """`c 1:3 rwm` or `b 8:* r` as the spec's rule; a star is any number."""
    kind, numbers, access = text.split(" ")
    major, minor = numbers.split(":")
    rule: dict[str, Any] = {"allow": True, "type": kind, "access": access}
    return rule | {key: int(value) for key, value in (("major", major), ("minor", minor)) if value != "*"}
