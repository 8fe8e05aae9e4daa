"""What a store leaves on the machine is found by its folder, named, and taken away; nobody else's is touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from lamina.testing.busybox import Program, put_image
from lamina.testing.leftovers import left_by, stores, sweep

pytestmark = [
    pytest.mark.root,
    pytest.mark.runtime,
]


def _running(folder: Path) -> Program:
    folder.mkdir()
    program = Program(folder)
    with program.engine() as engine:
        put_image(engine)
    program.out("run", "-d", "--stop-signal", "KILL", "busybox", "sleep", "600")
    return program


def test_a_container_that_nobody_removed(tmp_path: Path) -> None:
    _running(tmp_path / "ours")
    other = _running(tmp_path / "other")
    ours = str(tmp_path / "ours")
    assert stores(str(tmp_path / "ours")) == [ours]
    left = left_by(ours, patience=0)
    assert {line.split()[0] for line in left} == {"bridge", "mount", "process"}
    assert not [line for line in left if str(other.root) in line]
    sweep(ours, left)
    assert left_by(ours) == []
    assert other.out("ps", "--format", "{{.State}}") == "running"
    sweep(str(other.root), left_by(str(other.root), patience=0))
    assert left_by(str(tmp_path)) == []


def test_a_store_that_was_cleaned_up_leaves_nothing(tmp_path: Path) -> None:
    program = _running(tmp_path / "ours")
    program.out("rm", "-f", *program.out("ps", "-q").split())
    assert [line.split()[0] for line in left_by(str(tmp_path))] == ["bridge"]  # as docker's outlives its containers
    sweep(str(tmp_path), left_by(str(tmp_path)))
    assert left_by(str(tmp_path)) == []
