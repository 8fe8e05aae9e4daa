"""JSON objects as docker's typed structs print them in a template: `[]` for a list that is null, structs in order.

Docker first runs a `--format` of inspect over its Go types and, where that fails, over the raw JSON (C53).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lamina.cli.format.gotemplate.values import NIL_LIST, NIL_MAP, TYPED_NIL, Struct

_LISTS = frozenset(
    {
        "Aliases", "Args", "Binds", "BlkioDeviceReadBps", "BlkioDeviceReadIOps", "BlkioDeviceWriteBps",
        "BlkioDeviceWriteIOps", "BlkioWeightDevice", "CapAdd", "CapDrop", "Cmd", "DNSNames", "DeviceCgroupRules",
        "DeviceRequests", "Devices", "Dns", "DnsOptions", "DnsSearch", "Entrypoint", "Env", "ExecIDs", "ExtraHosts",
        "GroupAdd", "Links", "MaskedPaths", "OnBuild", "ReadonlyPaths", "RepoDigests", "RepoTags",
        "SecondaryIPAddresses", "SecondaryIPv6Addresses", "SecurityOpt", "Shell", "Ulimits", "VolumesFrom",
    }
)  # fmt: skip
_MAPS = frozenset(
    {"DriverOpts", "ExposedPorts", "Labels", "Options", "PortBindings", "Ports", "StorageOpt", "Sysctls", "Tmpfs",
     "Volumes"}
)  # fmt: skip
#: The members of an image's configuration, in the order of the OCI type; empty ones are left out of JSON.
_IMAGE_CONFIG: dict[str, Any] = {
    "User": "", "ExposedPorts": NIL_MAP, "Env": NIL_LIST, "Entrypoint": NIL_LIST, "Cmd": NIL_LIST,
    "Volumes": NIL_MAP, "WorkingDir": "", "Labels": NIL_MAP, "StopSignal": "", "ArgsEscaped": False,
    "Healthcheck": TYPED_NIL, "OnBuild": NIL_LIST, "Shell": NIL_LIST,
}  # fmt: skip


def typed(value: Mapping[str, Any]) -> dict[str, Any]:
    """An inspected object with the values that its Go type would have."""
    found: dict[str, Any] = _typed(value, "")
    if "RootFS" in found and isinstance(found.get("Config"), dict):
        found["Config"] = _image_config(found["Config"])
    return found


def _typed(value: Any, key: str) -> Any:
    if value is None:
        # A port that is exposed only has a null instead of a list of bindings.
        return NIL_LIST if key in _LISTS or "/" in key else NIL_MAP if key in _MAPS else TYPED_NIL
    if isinstance(value, dict):
        if value.keys() == {"HostIp", "HostPort"}:
            return Struct(
                "nat.PortBinding",
                {"HostIP": value["HostIp"], "HostPort": value["HostPort"]},
                json_names={"HostIP": "HostIp", "HostPort": "HostPort"},
            )
        return {name: _typed(each, name) for name, each in value.items()}
    if isinstance(value, list):
        return [_typed(each, "") for each in value]
    return value


def _image_config(config: dict[str, Any]) -> Struct:
    fields = {
        name: config[name] if config.get(name) not in (None, "", [], {}) else zero
        for name, zero in _IMAGE_CONFIG.items()
    }
    shown = {name: name for name, zero in _IMAGE_CONFIG.items() if fields[name] is not zero}
    return Struct("v1.DockerOCIImageConfig", fields, json_names=shown)
