"""A context over memory streams, and the real docker client as an oracle."""

from __future__ import annotations

import io
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from lamina.cli.context import Context
from lamina.cli.main import main
from lamina.testing.dockerd import DockerMissing, reference_client


class Run:
    """What one in-process command line did."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status = status
        self.out = out
        self.err = err


def memory_context(tmp_path: Path, **env: str) -> Context:
    def stream() -> io.TextIOWrapper:
        return io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="")

    return Context(
        stdin=stream(),
        stdout=stream(),
        stderr=stream(),
        env=env,
        cwd=str(tmp_path),
        root=str(tmp_path / "root"),
        config_dir="/root/.docker",
    )


def text_of(stream: object) -> str:
    assert isinstance(stream, io.TextIOWrapper)
    stream.flush()
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode()


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    return memory_context(tmp_path)


@pytest.fixture
def lamina(tmp_path: Path) -> Callable[..., Run]:
    def run(*arguments: str) -> Run:
        ctx = memory_context(tmp_path)
        status = main(arguments, ctx)
        return Run(status, text_of(ctx.stdout), text_of(ctx.stderr))

    return run


@pytest.fixture(scope="session")
def docker() -> Callable[..., Run]:
    """The docker 28 client; it needs no daemon for help, usage errors and templates."""
    try:
        program = reference_client()
    except DockerMissing as why:
        pytest.skip(str(why))

    def run(*arguments: str) -> Run:
        env = {"PATH": os.environ["PATH"], "HOME": "/root"}
        done = subprocess.run(
            [program, *arguments], capture_output=True, text=True, env=env, stdin=subprocess.DEVNULL, check=False
        )
        return Run(done.returncode, done.stdout, done.stderr)

    return run
