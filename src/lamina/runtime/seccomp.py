"""Turns a Docker-style seccomp profile into the OCI runtime's form. Pure: no file is read here.

A profile lists rules with conditions (capabilities, architectures, kernel versions); the runtime-spec's
`linux.seccomp` (config-linux.md, Seccomp) has none, so conditions are decided here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

# Python's platform.machine() -> Go's names, which profiles use.
_GO_ARCH: Final = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm",
    "armv6l": "arm",
    "i686": "x86",
    "i386": "x86",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
    "riscv64": "riscv64",
    "mips64": "mips64",
    "loongarch64": "loong64",
}
_SECCOMP_ARCH: Final = {
    "amd64": "SCMP_ARCH_X86_64",
    "arm64": "SCMP_ARCH_AARCH64",
    "arm": "SCMP_ARCH_ARM",
    "x86": "SCMP_ARCH_X86",
    "ppc64le": "SCMP_ARCH_PPC64LE",
    "s390x": "SCMP_ARCH_S390X",
    "riscv64": "SCMP_ARCH_RISCV64",
    "mips64": "SCMP_ARCH_MIPS64",
    "loong64": "SCMP_ARCH_LOONGARCH64",
}


def to_oci(
    profile: Mapping[str, Any],
    *,
    machine: str,
    capabilities: Collection[str],
    kernel: tuple[int, int],
) -> dict[str, Any]:
    """The `linux.seccomp` object of a profile for one container on one machine.

    Args:
        profile: Docker's or containers-common's JSON document; a document already in OCI form passes unharmed.
        machine: as uname(2) says it, e.g. `x86_64`.
        capabilities: the container's, with their `CAP_` prefix; rules may be tied to them.
        kernel: major and minor of the running kernel; rules may ask for a minimum.
    """
    arch = _GO_ARCH.get(machine, machine)
    result: dict[str, Any] = {"defaultAction": profile["defaultAction"]}
    if profile.get("defaultErrnoRet") is not None:
        result["defaultErrnoRet"] = profile["defaultErrnoRet"]
    architectures = _architectures(profile, arch)
    if architectures:
        result["architectures"] = architectures
    for key in ("flags", "listenerPath", "listenerMetadata"):
        if profile.get(key):
            result[key] = profile[key]
    result["syscalls"] = [
        _rule(rule)
        for rule in profile.get("syscalls") or ()
        if _included(rule.get("includes") or {}, arch, capabilities, kernel)
        and not _excluded(rule.get("excludes") or {}, arch, capabilities, kernel)
    ]
    return result


def _architectures(profile: Mapping[str, Any], arch: str) -> list[str]:
    if profile.get("architectures"):
        return list(profile["architectures"])
    native = _SECCOMP_ARCH.get(arch)
    for entry in profile.get("archMap") or ():
        if entry["architecture"] == native:
            return [native, *(entry.get("subArchitectures") or ())]
    return [native] if native else []


def _included(when: Mapping[str, Any], arch: str, capabilities: Collection[str], kernel: tuple[int, int]) -> bool:
    if when.get("arches") and arch not in when["arches"]:
        return False
    if any(name not in capabilities for name in when.get("caps") or ()):
        return False
    return not when.get("minKernel") or kernel >= _version(when["minKernel"])


def _excluded(when: Mapping[str, Any], arch: str, capabilities: Collection[str], kernel: tuple[int, int]) -> bool:
    if when.get("arches") and arch in when["arches"]:
        return True
    if any(name in capabilities for name in when.get("caps") or ()):
        return True
    return bool(when.get("minKernel")) and kernel >= _version(when["minKernel"])


def _version(text: str) -> tuple[int, int]:
    major, _, rest = text.partition(".")
    return int(major), int(rest.partition(".")[0] or 0)


def _rule(rule: Mapping[str, Any]) -> dict[str, Any]:
    names: Sequence[str] = rule.get("names") or [rule["name"]]
    result: dict[str, Any] = {"names": list(names), "action": rule["action"]}
    if rule.get("errnoRet") is not None:
        result["errnoRet"] = rule["errnoRet"]
    if rule.get("args"):
        result["args"] = [{key: value for key, value in arg.items() if value is not None} for arg in rule["args"]]
    return result
