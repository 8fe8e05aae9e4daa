"""The repository itself: lock file, scripts and generated pages are what they claim to be."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
LOCK = (PROJECT / "requirements.lock").read_text()


def _tracked() -> list[str]:
    if shutil.which("git") is None:
        pytest.skip("needs git")
    done = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [name for name in done.stdout.decode().split("\0") if name and (PROJECT / name).exists()]


def _canonical(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[ ;<>=!~\[]", requirement, maxsplit=1)[0]).lower()


def test_lock_pins_every_dependency_with_hashes():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    wanted = [
        *project["project"]["dependencies"],
        *project["dependency-groups"]["dev"],
        *project["build-system"]["requires"],
    ]
    locked = {_canonical(line) for line in LOCK.splitlines() if re.match(r"[A-Za-z0-9]", line)}
    assert {_canonical(requirement) for requirement in wanted} - locked == set()
    for block in re.split(r"\n(?=[A-Za-z0-9])", LOCK.strip()):
        assert re.match(r"[A-Za-z0-9_.-]+==\S+", block), block[:80]
        assert "--hash=sha256:" in block, block[:80]


def test_lock_names_no_host():
    assert "://" not in LOCK


def test_scripts_can_be_run():
    names = [name for name in os.listdir(PROJECT / "scripts") if (PROJECT / "scripts" / name).is_file()]
    bare = [PROJECT / "scripts" / name for name in names if "." not in name] + [PROJECT / ".ci/run"]
    assert bare
    assert [str(path) for path in bare if not os.access(path, os.X_OK)] == []
    for path in bare:
        first = path.read_text().splitlines()[0]
        assert first in {"#!/usr/bin/env bash", "#!/usr/bin/env python3"}, path
        if first.endswith("bash"):
            assert subprocess.run(["bash", "-n", str(path)], check=False).returncode == 0, path


def test_ci_calls_the_test_command_of_the_readme():
    assert "make --no-print-directory test" in (PROJECT / ".ci/run").read_text()
    assert "make test" in (PROJECT / "README.md").read_text()
    assert "make demo" in (PROJECT / "README.md").read_text()


def test_generated_pages_are_current():
    done = subprocess.run(
        [sys.executable, str(PROJECT / "scripts/docs.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_links_between_pages_lead_somewhere():
    broken = []
    for name in _tracked():
        if not name.endswith(".md"):
            continue
        page = PROJECT / name
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in target and not target.startswith("mailto:") and not (page.parent / target).exists():
                broken.append(f"{name}: {target}")
    assert broken == []


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "docs/glossary.md"])
def test_the_last_column_of_a_page_s_tables_names_modules_that_are_there(page):
    cells = [
        line.rstrip("|\n ").rpartition("|")[2]
        for line in (PROJECT / page).read_text().splitlines()
        if line.startswith("|")
    ]
    named = {name for cell in cells for name in re.findall(r"`([a-z_]+(?:/[a-z_]*)*)`", cell)}
    assert len(named) > 5
    there = {
        path.relative_to(PROJECT / "src/lamina").with_suffix("").as_posix()
        for path in (PROJECT / "src/lamina").rglob("*")
    }
    assert {name.rstrip("/") for name in named} - there == set()


def test_the_list_of_decisions_is_whole():
    index = (PROJECT / "docs/adr/README.md").read_text()
    for path in sorted((PROJECT / "docs/adr").glob("0*.md")):
        number, title = path.name[:4], path.read_text().splitlines()[0].partition(". ")[2]
        assert f"| [{number}]({path.name}) | {title} |" in index


def test_no_private_machine_detail_is_committed():
    # mirrors, machine paths and users belong to a machine, not to the project
    private = re.compile(r"/(?:root|home/[a-z]\w*)/(?!\.?(?:cache|config|local|docker|user|me|app)\b)\S*")
    shown = re.compile(r"artifact-?registry\.|\.internal\b:?\d*/|/work/(?:main|venv)\b")
    guilty = []
    for name in _tracked():
        if not name.endswith((".py", ".md", ".toml", ".lock", "run", "setup", "Makefile")) or name.startswith("tests/"):
            continue
        text = (PROJECT / name).read_text(errors="replace")
        guilty += [f"{name}: {found[0]}" for found in shown.finditer(text)]
        guilty += [
            f"{name}: {found[0]}" for found in private.finditer(text) if name.startswith(("scripts", "Makefile"))
        ]
    assert guilty == []


def test_every_test_folder_mirrors_a_package_or_is_known():
    known = {"architecture", "contracts", "conformance", "data", "docs", "labs"}
    areas = {entry.name for entry in (PROJECT / "src/lamina").iterdir() if entry.is_dir()}
    folders = {entry.name for entry in (PROJECT / "tests").iterdir() if entry.is_dir() and entry.name[0] not in "_."}
    assert folders - areas - known == set()
