"""`--change` of import and commit: Dockerfile instructions that edit a configuration, without a build (C03, C14)."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from lamina.build.dockerfile.errors import DockerfileError
from lamina.build.dockerfile.expand import Mode, expand
from lamina.build.dockerfile.instructions import (
    Cmd,
    Entrypoint,
    Env,
    Expose,
    HealthCheck,
    Instruction,
    Label,
    OnBuild,
    Pair,
    StopSignal,
    User,
    Volume,
    Workdir,
    build,
)
from lamina.build.dockerfile.lexer import Lexer
from lamina.build.dockerfile.ports import parse_ports
from lamina.build.dockerfile.signals import signal_number
from lamina.build.dockerfile.source import Source
from lamina.build.dockerfile.statements import heredoc_marks, statement
from lamina.errors import Invalid
from lamina.spec.config import RunConfig
from lamina.values import replace

#: What stands before a shell form when the configuration has no SHELL.
DEFAULT_SHELL: Final = ("/bin/sh", "-c")


class InvalidChange(Invalid):
    """A change is no instruction, or none of those that may edit a finished configuration.

    Attributes:
        change: the text as it was given.
    """

    def __init__(self, change: str, problem: str) -> None:
        super().__init__(problem)
        self.change = change


def apply_changes(config: RunConfig, changes: Sequence[str]) -> RunConfig:
    """The configuration after Dockerfile instructions: CMD ENTRYPOINT ENV EXPOSE HEALTHCHECK LABEL ONBUILD STOPSIGNAL
    USER VOLUME WORKDIR.

    Args:
        config: what they edit.
        changes: one text for each `--change`; a text may hold several lines, as in a Dockerfile.

    Raises:
        InvalidChange: malformed, or another instruction.
    """
    work = _Work(config)
    for change in changes:
        for instruction in _instructions(change):
            try:
                work.apply(instruction.expanded(work))
            except DockerfileError as error:
                raise InvalidChange(change, error.message) from None
    return work.config


def _instructions(change: str) -> Iterable[Instruction]:
    lexer = Lexer(Source("change", change), heredoc_marks)
    try:
        empty = True
        for line in lexer.lines():
            empty = False
            parsed = statement(line, lexer.escape)
            if parsed.name not in _APPLY:
                raise InvalidChange(change, f"{parsed.keyword} is not a valid change command")
            yield build(parsed)
        if empty:
            raise InvalidChange(change, "file with no instructions")
    except DockerfileError as error:
        raise InvalidChange(change, error.message) from None


class _Work:
    """A configuration being edited; also the expander of its instructions, whose variables are its ENV."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self._cmd_set = False

    def apply(self, instruction: Instruction) -> None:
        _APPLY[instruction.NAME](self, instruction)

    def word(self, text: str) -> str:
        return expand(text, self.config.environment(), Mode()).text

    def words(self, text: str) -> Iterable[str]:
        return expand(text, self.config.environment(), Mode()).words

    def body(self, text: str) -> str:
        return expand(text, self.config.environment(), Mode(quotes=False)).text

    def _edit(self, **changes: Any) -> None:
        self.config = replace(self.config, **changes)

    @property
    def _shell(self) -> tuple[str, ...]:
        return self.config.shell or DEFAULT_SHELL

    def cmd(self, instruction: Cmd) -> None:
        self._cmd_set = True
        self._edit(cmd=instruction.command.argv(self._shell))

    def entrypoint(self, instruction: Entrypoint) -> None:
        command = instruction.command
        empty = not command.words
        # A new entry point makes the old CMD meaningless, unless this very edit gave it.
        self._edit(
            entrypoint=None if empty else command.argv(self._shell),
            cmd=self.config.cmd if self._cmd_set else None,
        )

    def env(self, instruction: Env) -> None:
        env = list(self.config.env)
        for pair in instruction.pairs:
            _set(env, pair)
        self._edit(env=tuple(env))

    def expose(self, instruction: Expose) -> None:
        ports = [port for text in instruction.ports for port in parse_ports(text).ports]
        self._edit(exposed_ports=tuple(sorted({*self.config.exposed_ports, *ports})))

    def health(self, instruction: HealthCheck) -> None:
        self._edit(healthcheck=instruction.health)

    def label(self, instruction: Label) -> None:
        self._edit(labels={**self.config.labels, **{pair.key: pair.value for pair in instruction.pairs}})

    def on_build(self, instruction: OnBuild) -> None:
        self._edit(on_build=(*self.config.on_build, instruction.trigger))

    def stop_signal(self, instruction: StopSignal) -> None:
        signal_number(instruction.signal)
        self._edit(stop_signal=instruction.signal)

    def user(self, instruction: User) -> None:
        self._edit(user=instruction.user)

    def volume(self, instruction: Volume) -> None:
        self._edit(volumes=tuple(sorted({*self.config.volumes, *instruction.paths})))

    def workdir(self, instruction: Workdir) -> None:
        if not instruction.path:
            raise DockerfileError("cannot normalize nothing")
        joined = posixpath.normpath(posixpath.join("/", self.config.working_dir, instruction.path))
        # POSIX lets a path begin with two slashes; Docker does not.
        self._edit(working_dir="/" + joined.lstrip("/"))


def _set(env: list[str], pair: Pair) -> None:
    for position, entry in enumerate(env):
        if entry.partition("=")[0] == pair.key:
            env[position] = str(pair)
            return
    env.append(str(pair))


_APPLY: Final[dict[str, Callable[[_Work, Any], None]]] = {
    Cmd.NAME: _Work.cmd,
    Entrypoint.NAME: _Work.entrypoint,
    Env.NAME: _Work.env,
    Expose.NAME: _Work.expose,
    HealthCheck.NAME: _Work.health,
    Label.NAME: _Work.label,
    OnBuild.NAME: _Work.on_build,
    StopSignal.NAME: _Work.stop_signal,
    User.NAME: _Work.user,
    Volume.NAME: _Work.volume,
    Workdir.NAME: _Work.workdir,
}
