"""What a command is: a function over a context and typed options, with its usage, arity and exit rules.

    @command(PullOptions, usage="[OPTIONS] NAME[:TAG|@DIGEST]", arity=exactly(1))
    def pull(ctx: Context, options: PullOptions) -> int | None: ...

The command's name, one-line help and aliases stand in `lamina.cli.commands`, so that help imports no noun.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from lamina.cli.flags import Options
from lamina.values import dataclass

if TYPE_CHECKING:
    from lamina.cli.context import Context

OptionsT = TypeVar("OptionsT", bound=Options)


@dataclass(frozen=True, slots=True)
class Arity:
    """How many positional arguments a command takes; `most` None means any number."""

    least: int = 0
    most: int | None = None

    def complaint(self, count: int) -> str | None:
        """Docker's words when `count` is wrong, else None."""
        if self.least <= count and (self.most is None or count <= self.most):
            return None
        if self.most == 0:
            return "accepts no arguments"
        if self.most is None:
            return f"requires at least {_arguments(self.least)}"
        if self.least == self.most:
            return f"requires {_arguments(self.least)}"
        if self.least == 0:
            return f"requires at most {_arguments(self.most)}"
        return f"requires at least {self.least} and at most {_arguments(self.most)}"


def _arguments(count: int) -> str:
    return f"{count} argument" if count == 1 else f"{count} arguments"


def exactly(count: int) -> Arity:
    """Exactly `count` arguments."""
    return Arity(count, count)


def at_least(count: int) -> Arity:
    """`count` arguments or more."""
    return Arity(count, None)


def between(least: int, most: int) -> Arity:
    """From `least` to `most` arguments."""
    return Arity(least, most)


NO_ARGUMENTS = Arity(0, 0)
ANY = Arity(0, None)


@dataclass(frozen=True, slots=True)
class Command(Generic[OptionsT]):
    r"""A runnable command.

    Attributes:
        run: the handler; its result is the exit status, None is 0.
        options: the options class, whose flags it takes.
        usage: what follows the command's name in the `Usage:` line; `\n` separates forms of it.
        arity: number of arguments.
        description: first paragraph of the help page; "" uses the one-line help.
        interspersed: flags may follow arguments; False for run, create and exec (S21).
        engine_failure: exit status when the engine refuses (docker: 125 for run and create).
        names_itself: errors are printed as `lamina: ...` with a pointer to the help page (docker run and create).
        shows_help_flag: lists `--help` among the options, as docker does where `-h` means something else.
    """

    run: Callable[[Context, OptionsT], int | None]
    options: type[OptionsT]
    usage: str
    arity: Arity
    description: str = ""
    interspersed: bool = True
    engine_failure: int = 1
    names_itself: bool = False
    shows_help_flag: bool = False


AnyCommand = Command[Any]


def command(
    options: type[OptionsT],
    *,
    usage: str,
    arity: Arity,
    description: str = "",
    interspersed: bool = True,
    engine_failure: int = 1,
    names_itself: bool = False,
    shows_help_flag: bool = False,
) -> Callable[[Callable[[Context, OptionsT], int | None]], Command[OptionsT]]:
    """Makes a command of a handler; arguments as in `Command`."""

    def wrap(run: Callable[[Context, OptionsT], int | None]) -> Command[OptionsT]:
        return Command(
            run,
            options,
            usage,
            arity,
            description,
            interspersed,
            engine_failure,
            names_itself,
            shows_help_flag,
        )

    return wrap
