"""The labs, typed with `docker` for lamina at a real terminal, block by block in the order of the lab.

The sessions are the `*.session` files here; `lamina.testing.transcripts` says how they are written. 001 and 003 build on a
Debian made on this machine and install from its mirrors; `offline.session` tells the same story on busybox without any network.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lamina.testing.sessions import Player
from lamina.testing.transcripts import Block, parse

HERE = Path(__file__).parent
SESSIONS = {path.stem: parse(path.read_text()) for path in sorted(HERE.glob("*.session"))}
pytestmark = [
    pytest.mark.root,
    pytest.mark.runtime,
]


def blocks(*names: str) -> pytest.MarkDecorator:
    played = [(name, block) for name in names for block in SESSIONS[name] if not block.left_out]
    return pytest.mark.parametrize(
        ("name", "block"),
        played,
        ids=[f"{name}:{block.lines}-{block.title.replace(' ', '-')}" for name, block in played],
    )


@pytest.mark.net
@blocks("001", "003")
def test_lab(name: str, block: Block, debian: Path, mirrors: None, players: Callable[..., Player]) -> None:
    players(name, BASE=str(debian)).play(block, pytest.skip)


@blocks("offline")
def test_story_without_any_network(name: str, block: Block, busybox: Path, players: Callable[..., Player]) -> None:
    players(name, BASE=str(busybox)).play(block, pytest.skip)


@pytest.mark.parametrize("name", ["001", "003"])
def test_a_session_follows_the_order_of_its_lab_and_explains_what_it_leaves_out(name: str) -> None:
    lines = [int(block.lines.partition("-")[0]) for block in SESSIONS[name] if block.lines != "-"]
    assert lines == sorted(lines)
    assert all(len(block.title) > 10 and not block.steps for block in SESSIONS[name] if block.left_out)
    assert all(block.steps for block in SESSIONS[name] if not block.left_out)


def test_every_row_that_the_labs_show_is_played_or_left_out_with_a_reason() -> None:
    # S01-S49 of features.md; a row is quoted by the blocks that show it
    quoted = {row for session in SESSIONS.values() for block in session for row in block.rows}
    assert {f"S{number:02}" for number in range(1, 50)} - quoted == set()
