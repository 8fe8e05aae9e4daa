"""The edge: kinds of error to statuses and words, quiet pipes, clean interrupts, version, lean start."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lamina import errors
from lamina.cli import app
from lamina.cli.command import NO_ARGUMENTS, Command
from lamina.cli.commands import BY_NAME, ENTRIES, GROUPS
from lamina.cli.context import Context, default_config_dir, default_root
from lamina.cli.failures import EDGES, CliError
from lamina.cli.flags import Options
from lamina.cli.main import describe, main


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException, **settings: Any) -> None:
    def run(_ctx: Context, _options: Options) -> int:
        raise error

    monkeypatch.setattr(app, "load", lambda _entry: Command(run, Options, "[OPTIONS]", NO_ARGUMENTS, **settings))


def test_every_kind_of_error_has_an_edge() -> None:
    assert set(EDGES) == set(errors.KINDS)


@pytest.mark.parametrize("kind", errors.KINDS)
def test_no_kind_shows_a_traceback(
    kind: type[errors.LaminaError], lamina: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, kind("image \x1b[2Jx is odd", hint="try another"))
    run = lamina("ps")
    assert run.status == EDGES[kind].status
    assert run.out == ""
    prefix = "Error response from daemon: " if EDGES[kind].prefixed else ""
    assert run.err == f"{prefix}image \\x1b[2Jx is odd\nHint: try another\n"  # threat 32


def test_run_names_itself_and_exits_125(lamina: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, errors.NotFound("No such image: x"), engine_failure=125, names_itself=True)
    run = lamina("run")
    assert run.status == 125
    assert run.err == (
        "lamina: Error response from daemon: No such image: x\n\nRun 'lamina run --help' for more information\n"
    )


def test_a_command_s_own_refusal_stands_alone(lamina: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, CliError("Error: No such object: x", status=3))
    run = lamina("ps")
    assert (run.status, run.err) == (3, "Error: No such object: x\n")


@pytest.mark.parametrize(
    ("error", "text", "status"),
    [
        (FileNotFoundError(errno.ENOENT, "x", "Dockerfile"), "Dockerfile: no such file or directory", 1),
        (OSError(errno.ENOSPC, "x"), "no space left on device (free some with 'lamina system prune')", 1),
        (OSError(errno.EXDEV, "x", "a", None, "b"), "a -> b: invalid cross-device link", 1),
        (ZeroDivisionError("x"), "internal error: ZeroDivisionError: x (run with --debug for the traceback)", 70),
    ],
)
def test_other_errors(error: Exception, text: str, status: int) -> None:
    assert describe(error) == (text, status)


def test_debug_shows_the_traceback(lamina: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, ZeroDivisionError("x"))
    assert "Traceback" not in lamina("ps").err
    assert "Traceback" in lamina("--debug", "ps").err


def test_interrupt_is_130_and_silent(lamina: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, KeyboardInterrupt())
    run = lamina("ps")
    assert (run.status, run.out, run.err) == (130, "", "")


def test_the_engine_is_opened_once_and_closed_after_a_failure(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []

    class Engine:
        def close(self) -> None:
            events.append("closed")

    def opener(_ctx: Context) -> Engine:
        events.append("opened")
        return Engine()

    ctx.opener = opener

    def run(ctx: Context, _options: Options) -> int:
        assert ctx.engine is ctx.engine
        raise errors.Conflict("in use")

    monkeypatch.setattr(app, "load", lambda _entry: Command(run, Options, "", NO_ARGUMENTS))
    assert main(["ps"], ctx) == 1
    assert events == ["opened", "closed"]


def python(*arguments: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, **settings)


def test_a_reader_that_goes_away_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-c", "from lamina.cli.main import entry; entry()", "--help"],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write)
    assert done.stderr == ""
    assert done.returncode == 141


HEAVY = (
    "urllib3",
    "aiohttp",
    "sqlalchemy",
    "isal",
    "zstandard",
    "rich",
    "asyncio",
    "click",
    "ssl",
    "sqlite3",
    "logging",
)


@pytest.mark.parametrize("line", [["version"], ["--help"], ["image", "--help"], ["puch"]])
def test_a_lean_start(line: list[str]) -> None:
    code = (
        "import atexit, sys\nfrom lamina.cli.main import entry\n"
        "atexit.register(lambda: print('\\n'.join(sys.modules), file=sys.stderr, flush=True))\n"
        "entry()"
    )
    loaded = {name.partition(".")[0] for name in python("-c", code, *line).stderr.split("\n")}
    assert "lamina" in loaded
    assert loaded.isdisjoint(HEAVY)


def test_version_has_two_blocks(lamina: Callable[..., Any]) -> None:  # C36, S61
    run = lamina("version")
    assert run.status == 0
    client, server = run.out.split("\n\n")
    assert client.startswith("Client:\n Version:          ")
    assert server.startswith("Server: lamina (embedded, no daemon)\n Engine:\n  Version:         ")


def test_version_templates(lamina: Callable[..., Any]) -> None:
    assert lamina("version", "--format", "{{.Client.APIVersion}} {{.Server.Platform.Name}}").out == (
        "1.50 lamina (embedded, no daemon)\n"
    )
    assert '"Client":{"Version":' in lamina("version", "-f", "json").out
    assert '"ApiVersion":"1.50"' in lamina("version", "-f", "{{json .}}").out
    broken = lamina("version", "--format={{.Client")
    assert (broken.status, broken.err) == (64, "template parsing error: template: version:1: unclosed action\n")
    missing = lamina("version", "--format={{.Client.Foo}}")
    assert missing.status == 1
    assert "can't evaluate field Foo in type system.clientVersion" in missing.err


def test_global_flags_move_the_directories(ctx: Context, tmp_path: Path) -> None:
    assert main(["--root", "here", "--config=conf", "version"], ctx) == 0
    assert (ctx.root, ctx.config_dir) == (str(tmp_path / "here"), str(tmp_path / "conf"))


@pytest.mark.parametrize(
    ("env", "uid", "root"),
    [
        ({}, 0, "/var/lib/lamina"),
        ({"LAMINA_ROOT": "/x"}, 0, "/x"),
        ({"HOME": "/home/a"}, 1000, "/home/a/.local/share/lamina"),
        ({"HOME": "/home/a", "XDG_DATA_HOME": "/data"}, 1000, "/data/lamina"),
        ({"HOME": "/home/a", "XDG_DATA_HOME": "relative"}, 1000, "/home/a/.local/share/lamina"),
    ],
)
def test_default_root(env: dict[str, str], uid: int, root: str) -> None:
    assert default_root(env, uid) == root


def test_default_config_dir() -> None:  # C52
    assert default_config_dir({"DOCKER_CONFIG": "/c", "HOME": "/h"}) == "/c"
    assert default_config_dir({"HOME": "/h"}) == "/h/.docker"


def test_names_are_unique_and_groups_exist() -> None:
    names = [name for entry in ENTRIES for name in entry.names]
    assert len(names) == len(set(names)) == len(BY_NAME)
    assert {name.partition(" ")[0] for name in names if " " in name} == set(GROUPS)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.path)
def test_every_entry_that_is_built_leads_to_a_command(entry: Any) -> None:
    try:
        found = app.load(entry)
    except CliError as error:
        pytest.skip(str(error))
    assert isinstance(found, Command)


def test_a_command_that_is_not_built_says_so(lamina: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    entry = BY_NAME["ps"]._replace(target="nowhere:ls")
    monkeypatch.setitem(BY_NAME, "ps", entry)
    run = lamina("ps")
    assert (run.status, run.err) == (1, "lamina: 'lamina container ls' is not part of this build\n")


def test_no_color_without_a_terminal(ctx: Context) -> None:
    assert ctx.color(ctx.stdout) is False
