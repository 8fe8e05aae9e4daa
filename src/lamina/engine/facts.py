"""Facts about this machine and engine, as Docker's `/info` names them (C37)."""

from __future__ import annotations

import hashlib
import os
import shutil
from datetime import datetime
from typing import Any, Final

from lamina import __version__
from lamina.engine.inspection import driver_name
from lamina.engine.registries import proxies_of
from lamina.engine.settings import Settings
from lamina.errors import LaminaError
from lamina.spec.timestamp import rfc3339

_RUNTIMES: Final = ("crun", "runc")


def system_facts(
    settings: Settings,
    *,
    root: str,
    driver: str,
    images: int,
    containers: int,
    running: int,
    paused: int,
    now: datetime,
) -> dict[str, Any]:
    """The object, keys in Docker's order.

    Args:
        settings: of the engine.
        root: the data root.
        driver: the storage driver.
        images: how many there are.
        containers: how many there are.
        running: how many of them run.
        paused: how many of them are paused.
        now: the time.
    """
    from lamina.runtime import oci

    kernel = os.uname()
    proxies = proxies_of(settings.env)
    cgroups = _cgroup_version()
    runtimes = {name: {"path": path} for name in _RUNTIMES if (path := oci.find_program(name))}
    return {
        "ID": _identity(root),
        "Containers": containers,
        "ContainersRunning": running,
        "ContainersPaused": paused,
        "ContainersStopped": containers - running - paused,
        "Images": images,
        "Driver": driver_name(driver),
        "DriverStatus": [["Backing Filesystem", _filesystem(root)]],
        "Plugins": {"Volume": ["local"], "Network": ["bridge", "host", "none"], "Authorization": None, "Log": _LOGS},
        "MemoryLimit": True,
        "SwapLimit": True,
        "CpuCfsPeriod": True,
        "CpuCfsQuota": True,
        "CPUShares": True,
        "CPUSet": True,
        "PidsLimit": True,
        "IPv4Forwarding": _read("/proc/sys/net/ipv4/ip_forward") == "1",
        "Debug": False,
        "NFd": len(os.listdir("/proc/self/fd")),
        "OomKillDisable": cgroups == "1",
        "NGoroutines": 0,
        "SystemTime": rfc3339(now),
        "LoggingDriver": "k8s-file",
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": cgroups,
        "NEventsListener": 0,
        "KernelVersion": kernel.release,
        "OperatingSystem": _operating_system(),
        "OSVersion": _os_release().get("VERSION_ID", ""),
        "OSType": kernel.sysname.lower(),
        "Architecture": kernel.machine,
        "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": {"InsecureRegistryCIDRs": ["::1/128", "127.0.0.0/8"], "Mirrors": None},
        "NCPU": len(os.sched_getaffinity(0)),
        "MemTotal": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "GenericResources": None,
        "DockerRootDir": root,
        "HttpProxy": _without_password(proxies.http),
        "HttpsProxy": _without_password(proxies.https),
        "NoProxy": proxies.no_proxy,
        "Name": kernel.nodename,
        "Labels": [],
        "ExperimentalBuild": False,
        "ServerVersion": __version__,
        "Runtimes": runtimes,
        "DefaultRuntime": _default_runtime(settings),
        "Swarm": {"NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": False},
        "LiveRestoreEnabled": True,  # there is no daemon whose restart could stop a container
        "Isolation": "",
        "InitBinary": "catatonit" if shutil.which("catatonit", path=_path(settings)) else "",
        "SecurityOptions": _security(),
        "Warnings": [] if runtimes else ["WARNING: no OCI runtime found: install crun or runc to run containers"],
    }


_LOGS: Final = ["k8s-file"]


def _default_runtime(settings: Settings) -> str:
    """What `run` takes on this machine when nobody names one; "" when none can run containers."""
    from lamina.runtime import host, oci

    try:
        return oci.choose(settings.run_root, settings.runtime, cgroups=host.cgroup_mode()).name
    except (LaminaError, OSError):
        return ""


def _path(settings: Settings) -> str:
    return settings.env.get("PATH") or os.defpath + ":/usr/sbin:/sbin"


def _identity(root: str) -> str:
    """An id of this engine: of the machine and the store."""
    machine = _read("/etc/machine-id")
    digits = hashlib.sha256(f"{machine}:{root}".encode()).hexdigest()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:32]}"


def _cgroup_version() -> str:
    return "2" if os.path.exists("/sys/fs/cgroup/cgroup.controllers") else "1"


def _filesystem(path: str) -> str:
    """The type of the file system that a path lies on, from the mount table (proc(5))."""
    device = os.stat(path).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in _read("/proc/self/mountinfo").splitlines():
        fields = line.split()
        if fields[2] == wanted and "-" in fields:
            return fields[fields.index("-") + 1]
    return "<unknown>"


def _os_release() -> dict[str, str]:
    found = {}
    for line in (_read("/etc/os-release") or _read("/usr/lib/os-release")).splitlines():
        key, equals, value = line.partition("=")
        if equals:
            found[key] = value.strip("\"'")
    return found


def _operating_system() -> str:
    return _os_release().get("PRETTY_NAME") or "<unknown>"


def _security() -> list[str]:
    options = ["name=seccomp,profile=builtin"]
    if _read("/sys/module/apparmor/parameters/enabled").startswith("Y"):
        options.insert(0, "name=apparmor")
    if os.geteuid() != 0:
        options.append("name=rootless")
    return options


def _without_password(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    secret, at, host = rest.rpartition("@")
    return f"{scheme}://xxxxx:xxxxx@{host}" if separator and at and secret else url


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""
