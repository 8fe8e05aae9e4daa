"""What inspect says about a container: Docker's JSON object, key by key in its order (C21, Engine API 1.50)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from lamina.engine.container_config import effective
from lamina.engine.inspection import config_json, driver_name
from lamina.engine.listing import argv_of, network_of, ports_of, size_of
from lamina.engine.networks import network_id
from lamina.runtime.config import ContainerOptions, hostname_of
from lamina.spec.timestamp import ZERO

if TYPE_CHECKING:
    from lamina.engine.engine import Engine
    from lamina.runtime.state import ContainerRecord


def container_json(engine: Engine, record: ContainerRecord, *, size: bool = False) -> dict[str, Any]:
    """The object."""
    options = ContainerOptions.from_json(record.options)
    argv = argv_of(record, options)
    paths = engine.runtime_paths
    directory = paths.container(record.id)
    log = "" if options.log_driver == "none" else paths.log(record.id)
    result: dict[str, Any] = {
        "Id": record.id,
        "Created": record.created_at,
        "Path": argv[0] if argv else "",
        "Args": list(argv[1:]),
        "State": _state(record),
        "Image": record.image_id,
        "ResolvConfPath": os.path.join(directory, "resolv.conf"),
        "HostnamePath": os.path.join(directory, "hostname"),
        "HostsPath": os.path.join(directory, "hosts"),
        "LogPath": log,
        "Name": f"/{record.name}",
        "RestartCount": record.state.restart_count,
        "Driver": driver_name(engine.store.storage_driver),
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": None,
        "HostConfig": _host_config(options),
        "GraphDriver": _graph(engine, record),
    }
    if size:
        counted = size_of(engine, record)
        result |= {"SizeRw": counted.own, "SizeRootFs": counted.whole}
    return result | {
        "Mounts": [_mount(doc) for doc in record.mounts],
        "Config": _config(record, options),
        "NetworkSettings": _network(engine, record, options),
    }


def _state(record: ContainerRecord) -> dict[str, Any]:
    state = record.state
    result: dict[str, Any] = {
        "Status": state.status,
        "Running": state.running,
        "Paused": state.status == "paused",
        "Restarting": state.status == "restarting",
        "OOMKilled": state.oom_killed,
        "Dead": state.status == "dead",
        "Pid": state.pid,
        "ExitCode": state.exit_code,
        "Error": state.error,
        "StartedAt": state.started_at or ZERO,
        "FinishedAt": state.finished_at or ZERO,
    }
    if state.health:
        result["Health"] = {"Status": state.health, "FailingStreak": 0, "Log": []}
    return result


def _config(record: ContainerRecord, options: ContainerOptions) -> dict[str, Any]:
    streams = record.engine.get("streams", ())
    attached = {
        "Hostname": hostname_of(record.id, options),
        "Domainname": options.domainname,
        "AttachStdin": "stdin" in streams,
        "AttachStdout": "stdout" in streams,
        "AttachStderr": "stderr" in streams,
        "Tty": options.tty,
        "OpenStdin": options.stdin_open,
        "StdinOnce": options.stdin_open and "stdin" in streams,
        "Image": record.engine.get("image", ""),
    }
    run = config_json(effective(record))
    if options.stop_timeout is not None:
        run["StopTimeout"] = options.stop_timeout
    merged = attached | run
    return {key: merged.pop(key) for key in _CONFIG_ORDER if key in merged} | merged


_CONFIG_ORDER = (
    "Hostname", "Domainname", "User", "AttachStdin", "AttachStdout", "AttachStderr", "ExposedPorts", "Tty",
    "OpenStdin", "StdinOnce", "Env", "Cmd", "Healthcheck", "ArgsEscaped", "Image", "Volumes", "WorkingDir",
    "Entrypoint", "OnBuild", "Labels", "StopSignal", "StopTimeout", "Shell",
)  # fmt: skip


def _host_config(options: ContainerOptions) -> dict[str, Any]:
    binds = [
        ":".join(filter(None, (mount.source, mount.target, "ro" if mount.readonly else "")))
        for mount in options.mounts
        if mount.source and (mount.create_source or mount.type == "volume")
    ]
    bindings: dict[str, list[dict[str, str]]] = {}
    for port in options.publish:
        host = "" if port.host_ports is None else "-".join(str(one) for one in dict.fromkeys(port.host_ports))
        bindings.setdefault(f"{port.container_port}/{port.protocol}", []).append(
            {"HostIp": "" if port.host_ip == "0.0.0.0" else port.host_ip, "HostPort": host}
        )
    return {
        "Binds": binds or None,
        "ContainerIDFile": "",
        "LogConfig": {"Type": options.log_driver, "Config": dict(options.log_options)},
        "NetworkMode": network_of(options),
        "PortBindings": dict(sorted(bindings.items())),
        "RestartPolicy": {"Name": options.restart.name, "MaximumRetryCount": options.restart.maximum},
        "AutoRemove": options.auto_remove,
        "VolumeDriver": "",
        "VolumesFrom": list(options.volumes_from) or None,
        "ConsoleSize": [0, 0],
        "Annotations": dict(options.annotations),
        "CapAdd": list(options.cap_add) or None,
        "CapDrop": list(options.cap_drop) or None,
        "CgroupnsMode": options.cgroupns or "private",
        "Dns": list(options.dns),
        "DnsOptions": list(options.dns_options),
        "DnsSearch": list(options.dns_search),
        "ExtraHosts": [f"{name}:{address}" for name, address in options.extra_hosts] or None,
        "GroupAdd": list(options.group_add) or None,
        "IpcMode": options.ipc or "private",
        "Cgroup": "",
        "Links": None,
        "OomScoreAdj": options.oom_score_adj or 0,
        "PidMode": options.pid,
        "Privileged": options.privileged,
        "PublishAllPorts": options.publish_all,
        "ReadonlyRootfs": options.read_only,
        "SecurityOpt": list(options.security_opt) or None,
        "Tmpfs": {mount.target: "" for mount in options.mounts if mount.type == "tmpfs"},
        "UTSMode": options.uts,
        "UsernsMode": options.userns,
        "ShmSize": options.shm_size or 64 << 20,
        "Sysctls": dict(options.sysctls),
        "Runtime": options.runtime or "runc",
        "Isolation": "",
        "CpuShares": options.cpu_shares or 0,
        "Memory": options.memory or 0,
        "NanoCpus": options.nano_cpus or 0,
        "CgroupParent": "",
        "BlkioWeight": 0,
        "BlkioWeightDevice": [],
        "BlkioDeviceReadBps": _rates(options, "ReadBps"),
        "BlkioDeviceWriteBps": _rates(options, "WriteBps"),
        "BlkioDeviceReadIOps": _rates(options, "ReadIOPS"),
        "BlkioDeviceWriteIOps": _rates(options, "WriteIOPS"),
        "CpuPeriod": options.cpu_period or 0,
        "CpuQuota": options.cpu_quota or 0,
        "CpuRealtimePeriod": 0,
        "CpuRealtimeRuntime": 0,
        "CpusetCpus": options.cpuset_cpus,
        "CpusetMems": options.cpuset_mems,
        "Devices": [_device(text) for text in options.devices],
        "DeviceCgroupRules": list(options.device_rules) or None,
        "DeviceRequests": None,
        "MemoryReservation": options.memory_reservation or 0,
        "MemorySwap": options.memory_swap or 0,
        "MemorySwappiness": options.memory_swappiness,
        "OomKillDisable": options.oom_kill_disable or None,
        "PidsLimit": options.pids_limit,
        "Ulimits": [{"Name": one.name, "Hard": one.hard, "Soft": one.soft} for one in options.ulimits],
        "CpuCount": 0,
        "CpuPercent": 0,
        "IOMaximumIOps": 0,
        "IOMaximumBandwidth": 0,
        "MaskedPaths": None if options.privileged else _MASKED,
        "ReadonlyPaths": None if options.privileged else _READONLY,
        "Init": options.init,
    }


_MASKED = [
    "/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
    "/sys/devices/virtual/powercap",
]  # fmt: skip
_READONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]


def _rates(options: ContainerOptions, kind: str) -> list[dict[str, Any]]:
    return [{"Path": path, "Rate": rate} for name, path, rate in options.device_rates if name == kind]


def _device(text: str) -> dict[str, str]:
    host, _, rest = text.partition(":")
    inside, _, access = rest.partition(":")
    return {"PathOnHost": host, "PathInContainer": inside or host, "CgroupPermissions": access or "rwm"}


def _graph(engine: Engine, record: ContainerRecord) -> dict[str, Any]:
    doc = record.rootfs
    if doc.get("type") != "overlay":
        return {"Data": {}, "Name": driver_name(engine.store.storage_driver)}
    data = {
        "ID": record.id,
        "LowerDir": ":".join(doc["lower"]),
        "MergedDir": doc["target"],
        "UpperDir": doc["upper"],
        "WorkDir": doc["work"],
    }
    return {"Data": data, "Name": driver_name(engine.store.storage_driver)}


def _mount(doc: Any) -> dict[str, Any]:
    result: dict[str, Any] = {"Type": doc["type"]}
    if doc["type"] == "volume":
        result |= {"Name": doc["source"], "Source": doc["path"]}
    elif doc["type"] == "bind":
        result["Source"] = doc["source"]
    else:
        result["Source"] = ""
    result["Destination"] = doc["target"]
    if doc["type"] == "volume":
        result["Driver"] = doc.get("driver") or "local"
    return result | {
        "Mode": "ro" if doc.get("readonly") else "z" if doc["type"] == "volume" and not doc["anonymous"] else "",
        "RW": not doc.get("readonly", False),
        "Propagation": (doc.get("propagation") or "rprivate") if doc["type"] == "bind" else "",
    }


def _network(engine: Engine, record: ContainerRecord, options: ContainerOptions) -> dict[str, Any]:
    endpoint = record.state.endpoint if record.state.running else None
    name = network_of(options)
    ports: dict[str, Any] = {}
    for port in ports_of(record, options):
        key = f"{port.container_port}/{port.protocol}"
        if port.host_port:
            ports.setdefault(key, []).append({"HostIp": port.host_ip, "HostPort": str(port.host_port)})
        else:
            ports.setdefault(key, None)
    address, _, prefix = str(endpoint["address"]).partition("/") if endpoint else ("", "", "0")
    inner = {
        "EndpointID": _endpoint_id(record) if endpoint else "",
        "Gateway": endpoint["gateway"] if endpoint else "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "IPAddress": address,
        "IPPrefixLen": int(prefix or 0),
        "IPv6Gateway": "",
        "MacAddress": endpoint["mac"] if endpoint else "",
    }
    networks = {}
    if not name.startswith("container:"):
        networks[name] = {
            "IPAMConfig": {"IPv4Address": options.ip} if options.ip else None,
            "Links": None,
            "Aliases": list(options.network_aliases) or None,
            "MacAddress": inner["MacAddress"],
            "DriverOpts": None,
            "GwPriority": 0,
            "NetworkID": network_id(engine, name),
            "EndpointID": inner["EndpointID"],
            "Gateway": inner["Gateway"],
            "IPAddress": inner["IPAddress"],
            "IPPrefixLen": inner["IPPrefixLen"],
            "IPv6Gateway": "",
            "GlobalIPv6Address": "",
            "GlobalIPv6PrefixLen": 0,
            "DNSNames": None,
        }
    namespace = str(endpoint["namespace"]) if endpoint else ""
    return {
        "Bridge": "",
        "SandboxID": _endpoint_id(record) if endpoint else "",
        "SandboxKey": namespace,
        "Ports": ports,
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        **inner,
        "Networks": networks,
    }


def _endpoint_id(record: ContainerRecord) -> str:
    """64 hex digits that stand for this run's place in its network."""
    import hashlib

    return hashlib.sha256(f"{record.id} {record.state.started_at}".encode()).hexdigest()
