"""Flags before the command, and commands of docker's that lamina has not (C51, C43-C50)."""

from __future__ import annotations

from pathlib import Path

import pytest

from lamina.testing.commandline import CommandLine

OTHER = "use --root for another store"


@pytest.fixture
def lamina(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-H", "tcp://x", "ps"), f"lamina has no daemon to connect to, so -H/--host has no meaning; {OTHER}"),
        (
            ("--context=far", "ps"),
            f'context "far": lamina has no daemon to connect to, so there is only "default"; {OTHER}',
        ),
        (("-l", "loud", "ps"), "Unable to parse logging level: loud"),  # docker's words
        (("search", "nginx"), "lamina: 'lamina search' is not there yet: it comes with the complete registry"),
        (
            ("network", "create", "--help"),
            "lamina: 'lamina network create' is not there yet: it comes with full containers",
        ),
        (("network", "remove", "x"), "lamina: 'lamina network remove' is not there yet: it comes with full containers"),
        (("help", "trust"), "lamina: 'lamina trust' is not there yet: it comes with trust and scanning"),
        (("swarm", "init"), "lamina: 'lamina swarm' is not part of lamina"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_lamina_has_not_is_said_in_one_line(lamina: CommandLine, words: tuple[str, ...], said: str):
    outcome = lamina(*words)
    assert (outcome.status, outcome.out, outcome.err) == (1, "", said + "\n")


def test_what_makes_sense_of_docker_s_global_flags_is_taken(lamina: CommandLine):  # C51
    assert lamina.ok("-c", "default", "-l", "error", "--tls=false", "images", "-q") == ""
    assert lamina.ok("-D", "images", "-q") == lamina.ok("-lfatal", "images", "-q") == ""


def test_the_debug_level_is_debug_mode(lamina: CommandLine):  # C51
    assert lamina.ok("-l", "debug", "info", "-f", "{{.ClientInfo.Debug}}") == "true\n"
    assert lamina.ok("-D", "info", "-f", "{{.ClientInfo.Debug}}") == "true\n"
    assert lamina.ok("info", "-f", "{{.ClientInfo.Debug}}") == "false\n"


def test_help_topics_name_what_is_unknown(lamina: CommandLine):  # S18
    assert lamina("help", "image", "foo").err == "unknown help topic: foo\n"
    assert lamina("help", "foo").err == "unknown help topic: foo\n"
