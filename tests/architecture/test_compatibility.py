"""The compatibility table tells the truth: what it lists as working is what `--help` knows."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
TABLE = tomllib.loads((PROJECT / "docs/compatibility.toml").read_text())["command"]
WORKING = [entry for entry in TABLE if entry["status"] != "no"]

needs_cli = pytest.mark.skipif(
    importlib.util.find_spec("lamina.cli.main") is None, reason="the command line is not there yet"
)


def _help(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lamina", *command.split(), "--help"], capture_output=True, text=True, check=False
    )


def test_table_is_well_formed():
    names = [name for entry in TABLE for name in (entry["name"], *entry.get("also", []))]
    assert len(names) == len(set(names))
    assert {entry["status"] for entry in TABLE} <= {"yes", "part", "no"}
    assert [entry["name"] for entry in TABLE if entry["status"] == "part" and not entry.get("notes")] == []


@needs_cli
@pytest.mark.parametrize("entry", WORKING, ids=lambda entry: entry["name"].replace(" ", "-"))
def test_a_working_command_knows_its_flags_and_other_names(entry):
    shown = _help(entry["name"])
    assert shown.returncode == 0, shown.stderr
    assert [flag for flag in entry.get("flags", []) if flag not in shown.stdout] == []
    for other in entry.get("also", []):
        again = _help(other)
        assert again.returncode == 0, f"{other}: {again.stderr}"
        assert [flag for flag in entry.get("flags", []) if flag not in again.stdout] == []


@needs_cli
@pytest.mark.parametrize(
    "entry", [entry for entry in TABLE if entry["status"] == "no"], ids=lambda entry: entry["name"]
)
def test_what_is_not_there_yet_is_refused_in_one_line(entry):
    done = subprocess.run(
        [sys.executable, "-m", "lamina", *entry["name"].split()], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
