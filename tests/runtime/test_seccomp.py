"""Docker-style profiles in the OCI runtime's form."""

from __future__ import annotations

from lamina.runtime import host, seccomp

PROFILE = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": 38,
    "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]}],
    "syscalls": [
        {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [], "includes": {}, "excludes": {}},
        {"names": ["bpf"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_BPF"]}},
        {"names": ["bpf"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "excludes": {"caps": ["CAP_BPF"]}},
        {"names": ["arch_prctl"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["amd64", "x32"]}},
        {"names": ["sync_file_range2"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm64"]}},
        {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
        {"name": "personality", "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}]},
    ],
}


def _names(capabilities=(), machine="x86_64", kernel=(6, 1)) -> list[tuple[str, str]]:
    result = seccomp.to_oci(PROFILE, machine=machine, capabilities=capabilities, kernel=kernel)
    return [(name, rule["action"]) for rule in result["syscalls"] for name in rule["names"]]


def test_conditions_on_capabilities():
    assert ("bpf", "SCMP_ACT_ALLOW") in _names(["CAP_BPF"])
    assert ("bpf", "SCMP_ACT_ERRNO") not in _names(["CAP_BPF"])
    assert ("bpf", "SCMP_ACT_ERRNO") in _names()


def test_conditions_on_architecture_and_kernel():
    assert ("arch_prctl", "SCMP_ACT_ALLOW") in _names()
    assert ("sync_file_range2", "SCMP_ACT_ALLOW") in _names(machine="aarch64")
    assert ("arch_prctl", "SCMP_ACT_ALLOW") not in _names(machine="aarch64")
    assert ("ptrace", "SCMP_ACT_ALLOW") in _names(kernel=(4, 8))
    assert ("ptrace", "SCMP_ACT_ALLOW") not in _names(kernel=(4, 7))


def test_result_is_in_the_runtimes_form():
    result = seccomp.to_oci(PROFILE, machine="x86_64", capabilities=[], kernel=(6, 1))
    assert result["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    assert result["defaultErrnoRet"] == 38
    assert all(set(rule) <= {"names", "action", "errnoRet", "args"} for rule in result["syscalls"])
    assert result["syscalls"][-1]["args"] == [{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}]
    assert seccomp.to_oci(result, machine="x86_64", capabilities=[], kernel=(6, 1)) == result


def test_the_machines_own_profile_converts():
    profile = host.probe().seccomp_profile
    if profile is not None:
        rules = seccomp.to_oci(profile, machine="x86_64", capabilities=[], kernel=(6, 1))["syscalls"]
        names = {name for rule in rules for name in rule["names"]}
        assert {"read", "clone", "mount"} <= names
