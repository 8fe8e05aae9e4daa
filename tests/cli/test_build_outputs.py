"""Where `build` sends an image (`--load`, `--push`, `--output`), and what waits for the full builder (C01)."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from lamina.cli.build_output import LATER
from lamina.testing.builds import fill
from lamina.testing.commandline import CommandLine
from lamina.testing.registry import running_registry

pytestmark = pytest.mark.root
FILES = {"Dockerfile": "FROM scratch\nCOPY a /\n", "a": "A"}


@pytest.fixture
def lamina(tmp_path: Path) -> CommandLine:
    fill(tmp_path / "ctx", FILES)
    return CommandLine(tmp_path, {"PATH": os.environ["PATH"]})


@pytest.mark.parametrize("flag", ["--load", "--load=true", "--output=type=docker", "-o=type=image"])
def test_an_image_is_loaded_anyway(lamina: CommandLine, flag: str):
    done = lamina("build", flag, "-q", "-t", "app", "ctx")
    assert (done.status, done.err) == (0, "")
    assert lamina.ok("images", "-q", "--no-trunc", "app").splitlines() == done.lines


@pytest.mark.parametrize(
    "flags", [["--push"], ["--push", "--load"], ["-o", "type=registry"], ["-o", "type=image,push=true"]]
)
def test_push_sends_every_tag_once_the_image_is_there(lamina: CommandLine, flags: list[str], tmp_path: Path):
    with running_registry(str(tmp_path / "registry")) as address:
        names = [f"{address}/some/app:{tag}" for tag in ("1", "2")]
        done = lamina("build", *flags, "-t", names[0], "-t", names[1], "ctx")
        assert (done.status, done.out) == (0, "")
        for name in names:
            assert re.search(rf"^#\d+ pushing {re.escape(name)}$", done.err, re.MULTILINE), done.err
        built = lamina.ok("images", "-q", "--no-trunc", names[0])
        lamina.ok("rmi", "-f", built.strip())
        for name in names:
            lamina.ok("pull", name)
            assert lamina.ok("images", "-q", "--no-trunc", name) == built
        quiet = lamina("build", *flags, "-q", "-t", names[0], "ctx")
        assert (quiet.status, quiet.out, quiet.err) == (0, built, "")


def test_push_wants_a_name_before_anything_is_built(lamina: CommandLine):
    done = lamina("build", "--push", "ctx")
    assert (done.status, done.out) == (1, "")
    assert done.err == "ERROR: tag is needed when pushing to registry\nHint: name the image with -t\n"
    assert lamina.ok("images", "-q") == ""


def test_a_push_that_fails_keeps_the_image(lamina: CommandLine):
    done = lamina("build", "--push", "--iidfile=id", "-t", "127.0.0.1:1/app", "ctx")
    assert done.status == 1
    assert "ERROR: failed to solve: failed to push 127.0.0.1:1/app:latest: " in done.err
    assert "Traceback" not in done.err
    assert not (lamina.folder / "id").exists()
    assert len(lamina.ok("images", "-q", "127.0.0.1:1/app").splitlines()) == 1


def test_no_push_after_a_build_that_failed(lamina: CommandLine, tmp_path: Path):
    with running_registry(str(tmp_path / "registry")) as address:
        (lamina.folder / "ctx/Dockerfile").write_text("FROM scratch\nCOPY none /\n")
        done = lamina("build", "--push", "-t", f"{address}/app", "ctx")
        assert done.status == 1
        assert "pushing" not in done.err


def test_warnings_fail_a_build_that_is_told_so(lamina: CommandLine):  # D40, D48
    (lamina.folder / "ctx/Dockerfile").write_text("FROM scratch\nMAINTAINER me\nCOPY a /\n")
    assert lamina("build", "-q", "ctx").status == 0
    done = lamina("build", "--build-arg", "BUILDKIT_DOCKERFILE_CHECK=error=true", "ctx")
    assert done.status == 1
    assert "ERROR: failed to solve: lint violation found for rules: MaintainerDeprecated\n" in done.err
    done = lamina("build", "--build-arg", "BUILDKIT_DOCKERFILE_CHECK=skip=all", "ctx")
    assert (done.status, "MaintainerDeprecated" in done.err) == (0, False)


@pytest.mark.parametrize("name", sorted(LATER))
def test_what_is_not_there_yet_is_said_in_one_line(lamina: CommandLine, name: str):
    value = [] if name == "check" else ["type=local,dest=out"]
    done = lamina("build", f"--{name}", *value, "-t", "app", "ctx")
    assert (done.status, done.out) == (1, "")
    assert done.err == f"'lamina build --{name}' is not there yet: {LATER[name]}\n"
    assert lamina.ok("images", "-q") == ""


@pytest.mark.parametrize(
    "flags",
    [
        ["--provenance=false"],
        ["--provenance", "false", "--sbom=0"],
        ["--attest=type=provenance,disabled=true"],
        ["--check=false"],
    ],
)
def test_to_ask_for_what_is_done_anyway_is_fine(lamina: CommandLine, flags: list[str]):
    assert lamina("build", *flags, "-q", "ctx").status == 0
