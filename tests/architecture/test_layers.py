"""Imports point one way (design.md, section 2), and the contracts that say so cover everything."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
SOURCE = PROJECT / "src" / "lamina"


def _contracts() -> list[dict[str, Any]]:
    contracts: list[dict[str, Any]] = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["importlinter"][
        "contracts"
    ]
    return contracts


def test_import_linter_keeps_every_contract():
    program = os.path.join(sysconfig.get_path("scripts"), "lint-imports")
    done = subprocess.run([program, "--no-cache"], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Contracts: {len(_contracts())} kept, 0 broken" in done.stdout


def test_every_package_is_placed_in_a_layer():
    layers = next(contract for contract in _contracts() if contract["type"] == "layers")
    assert layers["exhaustive"] is True
    placed = {name.strip() for layer in layers["layers"] for name in layer.split("|")}
    there = {
        entry.name.removesuffix(".py")
        for entry in SOURCE.iterdir()
        if entry.suffix == ".py" or (entry / "__init__.py").exists()
    }
    free = {"__init__", *layers["exhaustive_ignores"]}
    assert there - free <= placed
    assert placed - there == set(), "a layer without a package"


def test_every_folder_with_code_is_a_package():
    # a folder without __init__.py is invisible to import-linter
    folders = {path.parent for path in SOURCE.rglob("*.py")}
    assert [str(folder) for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []


def test_product_code_never_imports_the_public_fakes(modules):
    assert [
        f"{module.name}:{line}"
        for module in modules
        if not module.under("testing")
        for name, line in module.imports()
        if name.startswith("lamina.testing")
    ] == []


def test_spec_stands_alone():
    """The values at the bottom import with nothing but the standard library at hand."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import pkgutil, importlib, lamina.spec as spec;"
        "[importlib.import_module('lamina.spec.' + m.name) for m in pkgutil.iter_modules(spec.__path__)];"
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'click', 'urllib3', 'aiohttp', 'ssl', 'socket',"
        "'sqlite3', 'sqlalchemy', 'isal', 'zstandard', 'ctypes'}))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, str(PROJECT / "src")], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
