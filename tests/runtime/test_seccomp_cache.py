"""Compiled seccomp filters: taken from a running container, given to the next."""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest

from lamina.runtime import seccomp_cache
from lamina.runtime.executor import ExecRequest, Executor
from lamina.runtime.oci import Runtime

BPF = bytes(range(64))


@pytest.fixture
def crun(tmp_path: Path) -> Runtime:
    """A runtime with the state of one container in which the filter is BPF."""
    binary = tmp_path / "crun-binary"
    binary.touch()
    (tmp_path / "crun/c1").mkdir(parents=True)
    (tmp_path / "crun/c1/seccomp.bpf").write_bytes(BPF)
    return Runtime("crun", str(binary), "1.8", str(tmp_path / "crun"))


def bundle(action: str = "SCMP_ACT_ERRNO", **annotations: str) -> dict[str, Any]:
    return {"annotations": annotations, "linux": {"seccomp": {"defaultAction": action}}}


def test_a_filter_serves_the_same_profile_only(tmp_path: Path, crun: Runtime):
    run_root = str(tmp_path / "run")
    assert seccomp_cache.applied(run_root, crun, bundle()) == bundle()
    seccomp_cache.remember(run_root, crun, "c1", bundle())
    given = seccomp_cache.applied(run_root, crun, bundle(other="kept"))
    assert set(given["annotations"]) == {"other", "run.oci.seccomp_bpf_data"}
    assert given["linux"] == bundle()["linux"]
    assert seccomp_cache.applied(run_root, crun, bundle("SCMP_ACT_KILL")) == bundle("SCMP_ACT_KILL")
    newer = Runtime("crun", crun.path, "1.9", crun.root)
    assert seccomp_cache.applied(run_root, newer, bundle()) == bundle()
    other = Runtime("runc", crun.path, "1.8", crun.root)
    assert seccomp_cache.applied(run_root, other, bundle()) == bundle()


@pytest.mark.parametrize("damage", [b"", b"\0" * 40, BPF])
def test_a_damaged_filter_is_not_used(tmp_path: Path, crun: Runtime, damage: bytes):
    run_root = str(tmp_path / "run")
    seccomp_cache.remember(run_root, crun, "c1", bundle())
    (kept,) = (tmp_path / "run/seccomp").iterdir()
    kept.write_bytes(damage)
    assert seccomp_cache.applied(run_root, crun, bundle()) == bundle()


def test_a_container_that_ended_gives_no_filter(tmp_path: Path, crun: Runtime):
    seccomp_cache.remember(str(tmp_path / "run"), crun, "c2", bundle())
    assert not (tmp_path / "run").exists()


@pytest.mark.root
@pytest.mark.runtime
@pytest.mark.skipif(shutil.which("crun") is None, reason="crun is not installed")
def test_the_kept_filter_is_the_one_in_force(rootfs: Path, run_root: Path):
    executor = Executor(run_root, runtime="crun")

    def said() -> str:
        output = bytearray()
        script = "grep Seccomp: /proc/self/status; unshare -U true 2>/dev/null || echo refused"
        request = ExecRequest(str(rootfs), ("sh", "-c", script), network="none")
        assert executor.run(request, lambda _stream, piece: output.extend(piece)) == 0
        return output.decode()

    first = said()
    assert said() == first
    assert "Seccomp:\t2" in first
    (kept,) = (run_root / "seccomp").iterdir()
    # A filter that refuses nothing but unshare(2), which the machine's profile lets pass: its effect shows it is used.
    number = {"x86_64": 272, "aarch64": 97}[os.uname().machine]
    code = struct.pack(
        "=HBBIHBBIHBBIHBBI", 0x20, 0, 0, 0, 0x15, 0, 1, number, 0x06, 0, 0, 0x00050001, 0x06, 0, 0, 0x7FFF0000
    )
    kept.write_bytes(hashlib.sha256(code).digest() + code)
    assert "refused" in said()
