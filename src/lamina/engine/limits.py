"""Limits of running containers: changed and measured by way of their control groups (C30, C32)."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lamina.errors import Conflict, Invalid
from lamina.values import dataclass

if TYPE_CHECKING:
    from lamina.runtime.config import ContainerOptions
    from lamina.runtime.oci import Runtime
    from lamina.runtime.state import ContainerRecord

_PERIOD = 100_000  # microseconds, the kernel's default


@dataclass(frozen=True, slots=True)
class Usage:
    """What a container uses now.

    Attributes:
        cpu: nanoseconds of CPU since its start.
        memory: bytes, without the page cache that can be dropped.
        memory_limit: bytes.
        received, sent: bytes over its network interfaces.
        read, written: bytes of block devices.
        pids: processes and threads.
    """

    cpu: int
    memory: int
    memory_limit: int
    received: int
    sent: int
    read: int
    written: int
    pids: int


def apply_limits(
    runtime: Runtime, record: ContainerRecord, options: ContainerOptions, names: Mapping[str, Any]
) -> None:
    """Gives a running container the limits of `options` that `names` lists.

    Raises:
        Invalid: the kernel refuses.
    """
    from lamina.runtime import oci

    wanted: dict[str, Any] = {}
    memory = {
        "limit": options.memory if "memory" in names else None,
        "reservation": options.memory_reservation if "memory_reservation" in names else None,
        "swap": options.memory_swap if "memory_swap" in names else None,
    }
    if memory["limit"] and memory["swap"] is None and options.memory_swap is None:
        memory["swap"] = memory["limit"] * 2
    cpu: dict[str, Any] = {}
    if "cpu_shares" in names:
        cpu["shares"] = options.cpu_shares
    if "nano_cpus" in names and options.nano_cpus:
        cpu |= {"period": _PERIOD, "quota": options.nano_cpus * _PERIOD // 10**9}
    if "cpuset_cpus" in names:
        cpu["cpus"] = options.cpuset_cpus
    if "cpuset_mems" in names:
        cpu["mems"] = options.cpuset_mems
    if kept := {key: value for key, value in memory.items() if value is not None}:
        wanted["memory"] = kept
    if cpu:
        wanted["cpu"] = cpu
    if "pids_limit" in names:
        wanted["pids"] = {"limit": options.pids_limit}
    try:
        oci.call(runtime.argv("update", "--resources", "-", record.id), stdin=json.dumps(wanted).encode())
    except oci.RuntimeCallFailed as error:
        raise Invalid(f"Cannot update container {record.id}: {error.said}") from None


class NotMeasurable(Conflict):
    """The container has no control group of its own that can be read."""

    def __init__(self, container_id: str) -> None:
        super().__init__(f"the control group of container {container_id} cannot be read")


def measure(record: ContainerRecord) -> Usage:
    """What a running container uses.

    Raises:
        NotMeasurable: it ended meanwhile, or has no control group.
    """
    try:
        groups = _groups(record.state.pid)
        received, sent = _network(record.state.pid)
    except OSError:
        raise NotMeasurable(record.id) from None
    if "" in groups and not groups.keys() - {"", "name=systemd"}:
        return _unified(groups[""], received, sent)
    memory = groups.get("memory", "")
    statistics = _keyed(f"{memory}/memory.stat")
    used = _number(f"{memory}/memory.usage_in_bytes") - statistics.get("total_inactive_file", 0)
    read = written = 0
    for line in _text(f"{groups.get('blkio', '')}/blkio.throttle.io_service_bytes").splitlines():
        words = line.split()
        if len(words) == 3:
            read += int(words[2]) if words[1] == "Read" else 0
            written += int(words[2]) if words[1] == "Write" else 0
    limit = min(_number(f"{memory}/memory.limit_in_bytes") or _total_memory(), _total_memory())
    cpu = _number(f"{groups.get('cpuacct', '')}/cpuacct.usage")
    pids = _number(f"{groups.get('pids', '')}/pids.current")
    return Usage(cpu, max(0, used), limit, received, sent, read, written, pids)


def _unified(group: str, received: int, sent: int) -> Usage:
    statistics = _keyed(f"{group}/memory.stat")
    used = _number(f"{group}/memory.current") - statistics.get("inactive_file", 0)
    read = written = 0
    for line in _text(f"{group}/io.stat").splitlines():
        fields = dict(word.partition("=")[::2] for word in line.split()[1:])
        read += int(fields.get("rbytes", 0))
        written += int(fields.get("wbytes", 0))
    limit = min(_number(f"{group}/memory.max") or _total_memory(), _total_memory())
    cpu = _keyed(f"{group}/cpu.stat").get("usage_usec", 0) * 1000
    return Usage(cpu, max(0, used), limit, received, sent, read, written, _number(f"{group}/pids.current"))


def _groups(pid: int) -> dict[str, str]:
    """Controller to directory (cgroups(7), /proc/pid/cgroup); the unified hierarchy's controller is ""."""
    found = {}
    with open(f"/proc/{pid}/cgroup", encoding="utf-8") as file:
        for line in file:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            for controller in controllers.split(","):
                found[controller] = _mounted(controllers, controller) + path
    return found


def _mounted(controllers: str, controller: str) -> str:
    base = "/sys/fs/cgroup"
    if not controller:
        return f"{base}/unified" if os.path.isdir(f"{base}/unified") else base
    for name in (controllers, controller.removeprefix("name=")):
        if os.path.isdir(f"{base}/{name}"):
            return f"{base}/{name}"
    return base


def _network(pid: int) -> tuple[int, int]:
    received = sent = 0
    with open(f"/proc/{pid}/net/dev", encoding="ascii") as file:
        for line in file.readlines()[2:]:
            name, _, rest = line.partition(":")
            fields = rest.split()
            if name.strip() != "lo":
                received += int(fields[0])
                sent += int(fields[8])
    return received, sent


def _text(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except OSError:
        return ""


def _number(path: str) -> int:
    text = _text(path).strip()
    return int(text) if text.isdigit() else 0


def _keyed(path: str) -> dict[str, int]:
    pairs = (line.split() for line in _text(path).splitlines())
    return {words[0]: int(words[1]) for words in pairs if len(words) == 2 and words[1].isdigit()}


def _total_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def processors() -> int:
    """CPUs that are online."""
    return os.cpu_count() or 1
