"""The programs in examples/ print what their first lines promise."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lamina.testing import fake_runtime
from lamina.testing.builds import busybox_tar

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(name: str, where: Path, *arguments: str) -> str:
    """The output of an example, started as a user would."""
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, *arguments], cwd=where, stdout=subprocess.PIPE, text=True, timeout=120
    )
    assert done.returncode == 0
    return done.stdout


def promised(name: str) -> str:
    """What the docstring of an example says it prints: the indented lines after the command."""
    lines = (EXAMPLES / name).read_text().partition("\n    $ python ")[2].partition('"""')[0].splitlines()[1:]
    return "".join(f"{line[4:]}\n" for line in lines if line)


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_an_example_prints_what_it_promises(name: str, tmp_path: Path) -> None:
    command = re.search(
        rf"^    \$ python examples/{re.escape(name)}( .*)?$", (EXAMPLES / name).read_text(), re.MULTILINE
    )
    assert command is not None
    arguments = (command[1] or "").split()
    if "rootfs.tar" in arguments:
        if os.geteuid() != 0 or (why := fake_runtime.why_no_containers()):
            pytest.skip("needs root" if os.geteuid() != 0 else why)
        (tmp_path / "rootfs.tar").write_bytes(busybox_tar())
    assert run(name, tmp_path, *arguments) == promised(name)
