"""What all instructions share: their place, and the two steps from text to value (parse, then expand)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import ClassVar, Protocol, Self

from lamina.build.dockerfile.errors import DockerfileError
from lamina.build.dockerfile.heredoc import Heredoc
from lamina.build.dockerfile.source import Range
from lamina.build.dockerfile.statements import Statement, json_strings
from lamina.values import dataclass


class Expander(Protocol):
    """Replaces variables. The state of a stage implements it; so does `Verbatim`."""

    def word(self, text: str) -> str:
        """A word: variables, quotes and escapes resolved."""

    def words(self, text: str) -> Iterable[str]:
        """The same, split at unquoted blanks."""

    def body(self, text: str) -> str:
        """The body of a heredoc: variables and escapes resolved, quotes kept."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an instruction comes from.

    Attributes:
        keyword: its keyword as written, for the casing checks.
        text: its logical line, trimmed.
        range: its lines.
        comments: the comments directly above it.
        trigger: whether it was an ONBUILD trigger of the base image; `range` is that of FROM then.
    """

    keyword: str
    text: str
    range: Range
    comments: tuple[str, ...] = ()
    trigger: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """One instruction of a Dockerfile. `NAME` is its keyword in upper case."""

    NAME: ClassVar[str] = ""

    origin: Origin

    @property
    def range(self) -> Range:
        """Its lines."""
        return self.origin.range

    def expanded(self, expander: Expander) -> Self:
        """The same instruction with the variables replaced that this kind of instruction replaces (D36).

        Raises:
            DockerfileError: an expansion failed, or its result is not valid here.
        """
        del expander
        return self


@dataclass(frozen=True, slots=True)
class CommandLine:
    """A command in shell or exec form (D05).

    Attributes:
        words: the strings of the exec form; in the shell form one string, or none when the line is empty.
        shell_form: whether it is the shell form and the stage's SHELL goes in front.
        heredocs: documents that belong to the command (D33), in order.
    """

    words: tuple[str, ...]
    shell_form: bool
    heredocs: tuple[Heredoc, ...] = ()

    def argv(self, shell: tuple[str, ...]) -> tuple[str, ...]:
        """What is executed, `shell` being the stage's SHELL."""
        return (*shell, " ".join(self.words)) if self.shell_form else self.words


def origin(statement: Statement) -> Origin:
    """The origin of a statement's instruction."""
    return Origin(statement.keyword, statement.text, statement.range, statement.comments)


def command_line(statement: Statement) -> CommandLine:
    """Read the arguments as a command.

    Raises:
        DockerfileError: a JSON array of other things than strings.
    """
    words = json_strings(statement.rest)
    if words is not None:
        return CommandLine(words, shell_form=False)
    return CommandLine((statement.rest,) if statement.rest else (), shell_form=True, heredocs=statement.heredocs)


def words_or_json(statement: Statement) -> list[str]:
    """The arguments from a JSON array or split at blanks.

    Raises:
        DockerfileError: a JSON array of other things than strings.
    """
    strings = json_strings(statement.rest)
    return statement.words() if strings is None else list(strings)


def one_argument(statement: Statement) -> str:
    """The whole of the arguments.

    Raises:
        DockerfileError: there is none.
    """
    if not statement.rest:
        raise DockerfileError(f"{statement.name} requires exactly one argument")
    return statement.rest


def at_least_one(statement: Statement) -> DockerfileError:
    """The error for missing arguments."""
    return DockerfileError(f"{statement.name} requires at least one argument")


#: Makes an instruction of a statement.
Builder = Callable[[Statement], Instruction]
