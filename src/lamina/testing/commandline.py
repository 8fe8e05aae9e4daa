"""The command line in this process, over streams in memory: what a user types, and everything that comes back."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lamina.cli.context import Context
from lamina.cli.main import main


class Terminal(io.TextIOWrapper):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        """It does."""
        return True


@dataclass(frozen=True)
class Outcome:
    """What a command did: exit status, standard output (as bytes and as text), standard error."""

    status: int
    raw: bytes
    err: str

    @property
    def out(self) -> str:
        """Standard output as text."""
        return self.raw.decode()

    @property
    def lines(self) -> list[str]:
        """Standard output, line by line."""
        return self.out.splitlines()


class CommandLine:
    """`lamina` over one store.

    Args:
        folder: becomes the current directory; the store, the user's configuration and HOME are made in it.
        env: the environment.
    """

    def __init__(self, folder: Path, env: Mapping[str, str] | None = None) -> None:
        self.folder, self.env = folder, {"HOME": str(folder), **(env or {})}
        self.root = folder / "root"
        self.config_dir = folder / ".docker"

    def __call__(self, *arguments: str, stdin: bytes = b"", terminal: bool = False) -> Outcome:
        """Run one command line; `terminal` makes all three streams terminals."""
        kind = Terminal if terminal else io.TextIOWrapper
        streams = [kind(io.BytesIO(data), encoding="utf-8", newline="") for data in (stdin, b"", b"")]
        ctx = Context(
            stdin=streams[0],
            stdout=streams[1],
            stderr=streams[2],
            env=self.env,
            cwd=str(self.folder),
            root=str(self.root),
            config_dir=str(self.config_dir),
        )
        status = main(arguments, ctx)
        for stream in streams[1:]:
            stream.flush()
        out, err = (stream.buffer.getvalue() for stream in streams[1:])  # type: ignore[attr-defined]
        return Outcome(status, out, err.decode())

    def ok(self, *arguments: str, stdin: bytes = b"", terminal: bool = False) -> str:
        """Run a command line that has to succeed; returns its standard output."""
        outcome = self(*arguments, stdin=stdin, terminal=terminal)
        assert outcome.status == 0, f"{arguments}: {outcome.status}\n{outcome.out}\n{outcome.err}"
        return outcome.out
