"""The tutorial does what it says: its console blocks are typed at a terminal, its files written, in the order of the page.

Its two ports, 8080 and 5000, are free ones here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lamina.testing.machine import debian_base, free_port, mirrors_answer
from lamina.testing.sessions import Player
from lamina.testing.transcripts import Block, parse

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "tutorial.md").read_text()
pytestmark = [
    pytest.mark.root,
    pytest.mark.runtime,
    pytest.mark.net,
]


def session(page: str) -> list[Block]:
    """The page as a session: a heading opens a block; ```console holds steps, a fence with a file's name that file."""
    lines: list[str] = []
    fence = ""
    for line in page.splitlines():
        opened = re.fullmatch(r"```(\w+)(?: (\S+))?", line)
        if line == "```":
            lines += ["%%"] if fence == "file" else []
            fence = ""
        elif opened:
            fence = "file" if opened[2] else opened[1]
            lines += [f"%% {opened[2]}"] if opened[2] else []
        elif fence in {"console", "file"}:
            lines.append(line)
        elif line.startswith("## "):
            lines.append(f"== -: {line[3:]}")
    return [block for block in parse("\n".join(lines)) if block.steps]


@pytest.fixture(scope="module")
def player(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Player]:
    base = debian_base()
    if isinstance(base, str):
        pytest.skip(base)
    if why := mirrors_answer():
        pytest.skip(why)
    one = Player(tmp_path_factory.mktemp("tutorial"))
    cache = Path(one.terminal.cwd, ".cache")
    cache.mkdir()
    (cache / "debian.tar").symlink_to(base)
    yield one
    one.close()


@pytest.fixture(scope="module")
def renumbered() -> Callable[[str], str]:
    web, registry = str(free_port()), str(free_port())
    return lambda text: text.replace("8080", web).replace("5000", registry)


@pytest.mark.parametrize("title", [block.title for block in session(PAGE)])
def test_the_tutorial_prints_what_it_shows(title: str, player: Player, renumbered: Callable[[str], str]) -> None:
    block = next(block for block in session(renumbered(PAGE)) if block.title == title)
    player.play(block, pytest.skip)


def test_the_tutorial_is_read_whole() -> None:
    typed = [step for block in session(PAGE) for step in block.steps if not step.file]
    assert len(typed) == len(re.findall(r"(?m)^\$ ", PAGE)) > 20
