"""Flags as dataclass fields, and the parser that fills them by the rules of docker's CLI (pflag).

    @dataclass(frozen=True, slots=True, kw_only=True)
    class PullOptions(Options):
        quiet: bool = flag("quiet", "q", help="Suppress verbose output", kind=BOOL)
        platform: str = flag("platform", help="Set platform if server is multi-platform capable")

Rules: `--name=value`, `--name value`, `-n value`, `-nvalue`, `-n=value`; short booleans combine (`-it`); booleans
take a value only with `=` (S29); flags may follow arguments unless the command stops at the first one (S21);
`--` ends flags; a single `-` is an argument.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lamina.cli.values import BOOL, STRING, Kind
from lamina.values import dataclass, field, fields, replace

_METADATA = "lamina.flag"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Base of every command's options.

    Attributes:
        args: the positional arguments.
        given: long names of the flags that were on the command line (docker distinguishes absent from empty).
    """

    args: tuple[str, ...] = ()
    given: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Flag:
    r"""One flag.

    Attributes:
        field: name of the dataclass field.
        name: long name without dashes.
        short: one letter, or "".
        help: usage text; `\n` starts a new line.
        kind: how values are read.
        default: value when absent.
        hidden: not shown in help.
        also: hidden alternative long names (`--net` for `--network`).
        default_text: text of the default in help, where it is not the plain value.
    """

    field: str
    name: str
    short: str
    help: str
    kind: Kind
    default: Any
    hidden: bool = False
    also: tuple[str, ...] = ()
    default_text: str | None = None

    @property
    def shown(self) -> str:
        """`-q, --quiet`."""
        return f"-{self.short}, --{self.name}" if self.short else f"--{self.name}"


def flag(
    name: str,
    short: str = "",
    *,
    help: str = "",
    kind: Kind = STRING,
    default: Any = None,
    hidden: bool = False,
    also: Sequence[str] = (),
    default_text: str | None = None,
) -> Any:
    """A dataclass field that is a flag; arguments as in `Flag`, `default` None means the kind's zero."""
    value = kind.zero if default is None else default
    spec = Flag("", name, short, help, kind, value, hidden, tuple(also), default_text)
    return field(default=value, metadata={_METADATA: spec})


def flags_of(options: type[Options]) -> list[Flag]:
    """The flags of an options class, in order of name, as help shows them."""
    found = [
        replace(item.metadata[_METADATA], field=item.name) for item in fields(options) if _METADATA in item.metadata
    ]
    return sorted(found, key=lambda spec: spec.name)


HELP = Flag("", "help", "h", "Print usage", BOOL, False, hidden=True)


class FlagError(Exception):
    """A flag is unknown, malformed or has a bad value; the text is docker's."""


class Parsed:
    """What the parser found.

    Attributes:
        values: field name to value, only for flags given.
        given: long names of the flags given.
        args: positional arguments.
        help: `--help` or `-h` was given.
        help_by_short: it was `-h`, which docker deprecates.
    """

    __slots__ = ("args", "given", "help", "help_by_short", "values")

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.given: set[str] = set()
        self.args: list[str] = []
        self.help = False
        self.help_by_short = False


class FlagParser:
    """Parses arguments for one set of flags."""

    def __init__(self, flags: Sequence[Flag], *, interspersed: bool = True) -> None:
        self._long = {name: spec for spec in flags for name in (spec.name, *spec.also)}
        self._short = {spec.short: spec for spec in flags if spec.short}
        self._long.setdefault("help", HELP)
        self._short.setdefault("h", HELP)
        self._interspersed = interspersed

    def parse(self, arguments: Sequence[str]) -> Parsed:
        """Splits arguments into flags and positionals.

        Raises:
            FlagError: with docker's text.
        """
        parsed = Parsed()
        rest = list(arguments)
        rest.reverse()  # popped from the end
        while rest:
            argument = rest.pop()
            if len(argument) < 2 or not argument.startswith("-"):
                parsed.args.append(argument)
                if not self._interspersed:
                    break
            elif argument == "--":
                break
            elif argument.startswith("--"):
                self._read_long(argument, rest, parsed)
            else:
                self._read_short(argument, rest, parsed)
        rest.reverse()
        parsed.args += rest
        return parsed

    def _read_long(self, argument: str, rest: list[str], parsed: Parsed) -> None:
        name, equals, value = argument[2:].partition("=")
        if not name or name.startswith("-"):
            raise FlagError(f"bad flag syntax: {argument}")
        spec = self._long.get(name)
        if spec is None:
            raise FlagError(f"unknown flag: --{name}")
        if not equals:
            if spec.kind.bare is not None:
                value = spec.kind.bare
            elif rest:
                value = rest.pop()
            else:
                raise FlagError(f"flag needs an argument: --{name}")
        self._set(spec, value, parsed)

    def _read_short(self, argument: str, rest: list[str], parsed: Parsed) -> None:
        letters = argument[1:]
        while letters:
            letter, tail = letters[0], letters[1:]
            spec = self._short.get(letter)
            if spec is None:
                raise FlagError(f"unknown shorthand flag: '{letter}' in -{letters}")
            if spec is HELP:
                parsed.help_by_short = True
            if len(tail) > 1 and tail[0] == "=":
                value, letters = tail[1:], ""
            elif spec.kind.bare is not None:
                value, letters = spec.kind.bare, tail
            elif tail:
                value, letters = tail, ""
            elif rest:
                value, letters = rest.pop(), ""
            else:
                raise FlagError(f"flag needs an argument: '{letter}' in -{letters}")
            self._set(spec, value, parsed)

    @staticmethod
    def _set(spec: Flag, text: str, parsed: Parsed) -> None:
        try:
            value = spec.kind.parse(text)
        except ValueError as error:
            from lamina.cli.format.gotemplate.printf import quote

            raise FlagError(f"invalid argument {quote(text)} for {quote(spec.shown)} flag: {error}") from None
        if spec is HELP or (spec.name == "help" and not spec.field):
            parsed.help = bool(value)
            return
        parsed.given.add(spec.name)
        if not spec.kind.repeats:
            parsed.values[spec.field] = value
            return
        items = value if spec.kind.splits else (value,)
        parsed.values[spec.field] = (*parsed.values.get(spec.field, ()), *items)
