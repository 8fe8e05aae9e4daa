"""What a command receives: streams, terminal, environment, directories and, when asked for, the engine.

The only place in lamina that reads the environment, the arguments and the current directory.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, TextIO

from lamina.values import dataclass, field

SYSTEM_ROOT = "/var/lib/lamina"
DEFAULT_WIDTH = 80

EngineOpener = Callable[["Context"], Any]


def open_default_engine(ctx: Context) -> Any:
    """Opens the engine over the context's root directory.

    The engine package is imported here, so that commands which need no store start without it.
    """
    from importlib import import_module

    return import_module("lamina.engine.engine").open_engine(ctx)


@dataclass(slots=True)
class Context:
    """The world of one command.

    Attributes:
        stdin, stdout, stderr: text streams; their `.buffer` is used for raw bytes.
        env: the environment.
        cwd: absolute current directory.
        root: where images and containers live (`--root`, LAMINA_ROOT, else the default for the user).
        config_dir: where `config.json` lives (`--config`, DOCKER_CONFIG, else `~/.docker`).
        debug: tracebacks for unexpected errors.
        ending: the process ends with the command, and with it whatever it has open.
        opener: opens the engine, once.
    """

    stdin: TextIO
    stdout: TextIO
    stderr: TextIO
    env: Mapping[str, str]
    cwd: str
    root: str = ""
    config_dir: str = ""
    debug: bool = False
    ending: bool = False
    opener: EngineOpener = open_default_engine
    _engine: Any = field(default=None, repr=False)

    @classmethod
    def of_process(cls) -> Context:
        """The context of the running process."""
        env = dict(os.environ)
        return cls(
            stdin=sys.stdin,
            stdout=sys.stdout,
            stderr=sys.stderr,
            env=env,
            cwd=_current_directory(env),
            root=default_root(env, os.geteuid()),
            config_dir=default_config_dir(env),
        )

    @property
    def engine(self) -> Any:
        """The engine, opened at first use."""
        if self._engine is None:
            self._engine = self.opener(self)
        return self._engine

    def close(self) -> None:
        """Closes the engine if a command opened it."""
        if self._engine is not None:
            engine, self._engine = self._engine, None
            if self.ending:
                engine.close(ending=True)
            else:
                engine.close()

    @property
    def stdout_bytes(self) -> BinaryIO:
        """Standard output for raw bytes (archives)."""
        self.stdout.flush()
        return self.stdout.buffer

    @property
    def stdin_bytes(self) -> BinaryIO:
        """Standard input as raw bytes."""
        return self.stdin.buffer

    def is_tty(self, stream: TextIO) -> bool:
        """Whether a stream is a terminal."""
        try:
            return stream.isatty()
        except ValueError:  # closed
            return False

    def terminal_size(self, stream: TextIO | None = None) -> tuple[int, int]:
        """(columns, lines) of the stream's terminal, standard output by default; (80, 24) without one."""
        for candidate in (stream or self.stdout, self.stdin):
            try:
                size = os.get_terminal_size(candidate.fileno())
            except (OSError, ValueError, AttributeError):
                continue
            if size.columns:
                return size.columns, size.lines
        return DEFAULT_WIDTH, 24

    def color(self, stream: TextIO) -> bool:
        """Whether to colour a stream: a terminal that is not dumb, and NO_COLOR unset or empty (no-color.org)."""
        return self.is_tty(stream) and not self.env.get("NO_COLOR") and self.env.get("TERM") != "dumb"

    def path(self, name: str) -> str:
        """A user's path made absolute by the current directory."""
        return os.path.normpath(os.path.join(self.cwd, name))


def _current_directory(env: Mapping[str, str]) -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:  # the shell stands in a removed directory; only relative paths will fail
        return env.get("PWD", "/")


def default_root(env: Mapping[str, str], uid: int) -> str:
    """LAMINA_ROOT, else the system's directory for root and the XDG data directory for others."""
    if root := env.get("LAMINA_ROOT"):
        return os.path.abspath(root)
    if uid == 0:
        return SYSTEM_ROOT
    data = env.get("XDG_DATA_HOME", "")
    # The XDG base directory specification: relative values are invalid and ignored.
    if not os.path.isabs(data):
        data = os.path.join(home(env), ".local", "share")
    return os.path.join(data, "lamina")


def default_config_dir(env: Mapping[str, str]) -> str:
    """DOCKER_CONFIG, else `~/.docker`."""
    return env.get("DOCKER_CONFIG") or os.path.join(home(env), ".docker")


def home(env: Mapping[str, str]) -> str:
    """HOME, else the password database's entry."""
    return env.get("HOME") or os.path.expanduser("~")
