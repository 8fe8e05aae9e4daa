"""Finding, probing and calling OCI runtimes, good and bad."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lamina.runtime import host, oci
from lamina.testing import fake_runtime


def test_names_that_are_not_installed(tmp_path: Path):
    with pytest.raises(oci.NoSuchRuntime, match="unknown or invalid runtime name: runq"):
        oci.choose(str(tmp_path), "runq", cgroups="v2")


def test_an_old_runtime_is_refused(tmp_path: Path):  # threat 36
    path = fake_runtime.write(tmp_path / "runc", "old")
    with pytest.raises(oci.RuntimeTooOld, match=r"version 1\.0\.0; lamina needs at least 1\.1"):
        oci.choose(str(tmp_path), str(path), cgroups="v2")


@pytest.mark.parametrize("behaviour", ["junk", "crashes"])
def test_programs_that_are_no_runtime(tmp_path: Path, behaviour: fake_runtime.Behaviour):  # F24
    path = fake_runtime.write(tmp_path / "runc", behaviour)
    with pytest.raises((oci.RuntimeNotUsable, oci.RuntimeCallFailed)):
        oci.choose(str(tmp_path), str(path), cgroups="v2")


def test_a_hanging_runtime_is_killed(tmp_path: Path):  # F24
    path = fake_runtime.write(tmp_path / "runc", "hangs")
    with pytest.raises(oci.RuntimeTimeout, match=r"did not finish within 0\.2 s"):
        oci.probe_version(str(path), seconds=0.2)


def test_a_flood_of_output_is_cut(tmp_path: Path):  # F24
    path = fake_runtime.write(tmp_path / "runc", "floods")
    assert oci.probe_version(str(path)) == ("runc", "1.2.3")
    assert len(oci.call([str(path), "--version"])) == 1 << 20


def test_the_probe_is_remembered_until_the_binary_changes(tmp_path: Path):
    marks = tmp_path / "marks"
    binary = tmp_path / "runc"
    binary.write_text(f'#!/bin/sh\necho x >>{marks}\necho "runc version 1.2.3"\n')
    binary.chmod(0o755)
    for _ in range(3):
        assert oci.choose(str(tmp_path / "run"), str(binary), cgroups="v2").version == "1.2.3"
    assert marks.read_text() == "x\n"
    binary.write_text(binary.read_text().replace("1.2.3", "1.2.10"))
    assert oci.choose(str(tmp_path / "run"), str(binary), cgroups="v2").version == "1.2.10"


def test_a_torn_memory_of_probes_is_no_obstacle(tmp_path: Path):
    binary = fake_runtime.write(tmp_path / "runc", "fails")
    (tmp_path / "runtimes.json").write_text('{"')
    assert oci.choose(str(tmp_path), str(binary), cgroups="v2").name == "runc"


def test_the_runtimes_words_become_the_error(tmp_path: Path):
    path = fake_runtime.write(tmp_path / "runc", "fails")
    with pytest.raises(oci.RuntimeCallFailed, match="no space left"):
        oci.call([str(path), "create"])


@pytest.mark.runtime
@pytest.mark.skipif(not (shutil.which("crun") and shutil.which("runc")), reason="needs crun and runc")
def test_crun_comes_first_where_it_works(tmp_path: Path):
    assert oci.choose(str(tmp_path), cgroups="v2").name == "crun"
    hybrid = oci.choose(str(tmp_path), cgroups="hybrid")
    assert (hybrid.name, hybrid.hidden) == ("crun", ("/sys/fs/cgroup/unified",))
    sharing = oci.Needs(shared_mounts=True)
    assert oci.choose(str(tmp_path), cgroups="hybrid", needs=sharing).name == "runc"
    assert oci.choose(str(tmp_path), cgroups="v2", needs=sharing).name == "crun"
    with pytest.raises(oci.RuntimeNotUsable, match="hybrid"):
        oci.choose(str(tmp_path), "crun", cgroups="hybrid", needs=sharing)
    assert host.cgroup_mode() in {"v1", "v2", "hybrid"}


def test_a_container_keeps_the_runtime_that_has_it(tmp_path: Path):
    binary = fake_runtime.write(tmp_path / "runtime", "fails")
    assert oci.holding(str(tmp_path), "c1", cgroups="v2") is None
    (tmp_path / "runc/c1").mkdir(parents=True)
    found = oci.holding(str(tmp_path), "c1", str(binary), cgroups="v2")
    assert found is not None
    assert (found.name, found.path) == ("runc", str(binary))


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("executable file `x` not found in $PATH: No such file or directory", 'exec: "x": executable file not found in $PATH'),
        ("executable file `/x` not found in $PATH: No such file or directory", 'exec: "/x": stat /x: no such file or directory'),
        ("open executable: Operation not permitted", 'exec: "cmd": permission denied'),
    ],
)  # fmt: skip
def test_crun_is_quoted_in_runcs_words(said: str, wanted: str):  # C13
    error = oci.start_error(said, "cmd")
    assert error.message == f"OCI runtime create failed: unable to start container process: {wanted}"
    assert error.exit_code in {126, 127}


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ('runc create failed: unable to start container process: exec: "x": executable file not found in $PATH', 127),
        ('unable to start container process: exec: "/x": stat /x: no such file or directory', 127),
        ('unable to start container process: exec: "/etc": permission denied', 126),
        ("executable file `x` not found in $PATH: No such file or directory", 127),
        ("open executable: Permission denied", 126),
        ("exec /x: exec format error", 126),
        ('error mounting "/nope" to rootfs at "/a": stat /nope: no such file or directory', 125),
        ("unable to apply cgroup configuration: permission denied", 125),
    ],
)
def test_exit_codes_by_the_words_of_runc_and_crun(said: str, code: int):  # C13
    assert oci.start_error(said).exit_code == code
