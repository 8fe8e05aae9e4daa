"""The compatibility table tells the truth: what it lists as working is what `--help` knows."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sysconfig
import tomllib
from pathlib import Path

import pytest

from lamina.cli.commands import ABSENT, BY_NAME

PROJECT = Path(__file__).resolve().parents[2]
TABLE = tomllib.loads((PROJECT / "docs/compatibility.toml").read_text())["command"]
PROGRAM = os.path.join(sysconfig.get_path("scripts"), "lamina")
WORKING = [entry for entry in TABLE if entry["status"] != "no"]


def _built(name: str) -> bool:
    """Whether the module that has a command is there (areas are merged one after the other)."""
    module, _, _ = BY_NAME[name].target.partition(":")
    return importlib.util.find_spec(f"lamina.cli.{module}") is not None


def _run(command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([PROGRAM, *command.split(), *arguments], capture_output=True, text=True, check=False)


def test_table_is_well_formed():
    names = [name for entry in TABLE for name in (entry["name"], *entry.get("also", []))]
    assert sorted(names) == sorted(set(names))
    assert {entry["status"] for entry in TABLE} <= {"yes", "part", "no"}
    assert [entry["name"] for entry in TABLE if entry["status"] == "part" and not entry.get("notes")] == []


def test_the_table_and_the_program_know_the_same_commands():
    listed = {name for entry in WORKING for name in (entry["name"], *entry.get("also", []))}
    assert listed == set(BY_NAME)
    for entry in WORKING:
        for other in entry.get("also", []):
            assert BY_NAME[other] is BY_NAME[entry["name"]]


@pytest.mark.parametrize("entry", WORKING, ids=lambda entry: entry["name"].replace(" ", "-"))
def test_a_working_command_knows_its_flags(entry):
    if not _built(entry["name"]):
        pytest.skip("this part of the command line is not there yet")
    shown = _run(entry["name"], "--help")
    assert shown.returncode == 0, shown.stderr
    assert [flag for flag in entry.get("flags", []) if flag not in shown.stdout.split()] == []


@pytest.mark.parametrize(
    "entry", [entry for entry in TABLE if entry["status"] == "no"], ids=lambda entry: entry["name"]
)
def test_what_is_not_there_yet_is_refused_in_one_line(entry):
    assert entry["name"] not in BY_NAME
    for name in (entry["name"], *entry.get("also", [])):
        done = _run(name)
        assert (done.returncode, done.stdout) == (1, "")
        assert re.fullmatch(rf"lamina: 'lamina {name}' is (not there yet: .+|not part of lamina)\n", done.stderr)


def test_the_table_and_the_program_miss_the_same_commands():
    listed = {name for entry in TABLE if entry["status"] == "no" for name in (entry["name"], *entry.get("also", []))}
    assert listed == set(ABSENT)
