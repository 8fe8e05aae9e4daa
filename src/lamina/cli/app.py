"""From arguments to a running command: global flags, names, lazy loading, usage errors in docker's words."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NamedTuple

from lamina.cli.command import AnyCommand, Command
from lamina.cli.commands import BY_NAME, GROUPS, PROGRAM, Entry, absent, words
from lamina.cli.context import Context
from lamina.cli.failures import USAGE_STATUS, CliError, UsageError
from lamina.cli.flags import FlagError, FlagParser, Options, Parsed, flag, flags_of
from lamina.cli.values import BOOL, LIST
from lamina.values import dataclass

_OTHER_STORE = "use --root for another store"
_LEVELS = frozenset({"trace", "debug", "info", "warn", "warning", "error", "fatal", "panic"})  # logrus
NEAR = 2  # edits within which a mistyped command is worth a suggestion (cobra's distance)


@dataclass(frozen=True, slots=True, kw_only=True)
class GlobalOptions(Options):
    """Flags before the command."""

    config: str = flag("config", help="Location of client config files")
    context: str = flag("context", "c", hidden=True)
    debug: bool = flag("debug", "D", kind=BOOL, help="Enable debug mode")
    host: tuple[str, ...] = flag("host", "H", kind=LIST, hidden=True)
    log_level: str = flag(
        "log-level", "l", default="info", help='Set the logging level ("debug", "info", "warn", "error", "fatal")'
    )
    root: str = flag("root", help="Directory of images, containers and build cache")
    tls: bool = flag("tls", kind=BOOL, hidden=True)
    tlscacert: str = flag("tlscacert", hidden=True)
    tlscert: str = flag("tlscert", hidden=True)
    tlskey: str = flag("tlskey", hidden=True)
    tlsverify: bool = flag("tlsverify", kind=BOOL, hidden=True)
    version: bool = flag("version", "v", kind=BOOL, help="Print version information and quit")


class Invocation(NamedTuple):
    """A command ready to run.

    Attributes:
        name: the name it was called by.
        command: what to run.
        options: its typed options.
    """

    name: str
    command: AnyCommand
    options: Options

    def run(self, ctx: Context) -> int:
        """Runs the command; the result is the exit status."""
        return self.command.run(ctx, self.options) or 0


def resolve(ctx: Context, arguments: Sequence[str]) -> Invocation | None:
    """The command that the arguments ask for, or None when a help page or the version was printed instead.

    Sets the context's `root`, `config_dir` and `debug` from the global flags.

    Raises:
        UsageError: with docker's text and status.
        CliError: the command is not part of this build.
    """
    parsed = _parse(
        "", "[OPTIONS] COMMAND [ARG...]", FlagParser(flags_of(GlobalOptions), interspersed=False), arguments
    )
    chosen = GlobalOptions(**parsed.values, given=frozenset(parsed.given))
    _apply(ctx, chosen)
    rest = parsed.args
    if chosen.version:
        from lamina import __version__

        ctx.stdout.write(f"{PROGRAM.capitalize()} version {__version__}\n")
        return None
    if parsed.help or not rest or rest == ["help"]:
        _note_short_help(ctx, parsed)
        _show_program_help(ctx)
        return None
    if rest[0] == "help":
        _help_topic(ctx, rest[1:])
        return None
    return _walk(ctx, rest)


def _apply(ctx: Context, chosen: GlobalOptions) -> None:
    if chosen.host:
        raise CliError(f"{PROGRAM} has no daemon to connect to, so -H/--host has no meaning; {_OTHER_STORE}")
    if chosen.context not in {"", "default"}:
        raise CliError(
            f'context "{chosen.context}": {PROGRAM} has no daemon to connect to, so there is only "default"; '
            + _OTHER_STORE
        )
    if chosen.log_level not in _LEVELS:
        raise CliError(f"Unable to parse logging level: {chosen.log_level}")
    if chosen.root:
        ctx.root = os.path.abspath(os.path.join(ctx.cwd, chosen.root))
    if chosen.config:
        ctx.config_dir = os.path.abspath(os.path.join(ctx.cwd, chosen.config))
    ctx.debug = ctx.debug or chosen.debug or chosen.log_level in {"debug", "trace"}


# The pages are laid out by `usage`, which a command that simply runs does not import.


def _show_program_help(ctx: Context) -> None:
    from lamina.cli.usage import program_help

    ctx.stdout.write(program_help(_globals_for_help(ctx), _width(ctx)))


def _show_group_help(ctx: Context, group: str) -> None:
    from lamina.cli.usage import group_help

    ctx.stdout.write(group_help(group))


def _show_command_help(ctx: Context, name: str, entry: Entry, found: AnyCommand) -> None:
    from lamina.cli.usage import command_help

    ctx.stdout.write(command_help(name, entry, found, _width(ctx)))


def _globals_for_help(ctx: Context) -> list[Any]:
    from lamina.values import replace

    defaults = {"config": ctx.config_dir, "root": ctx.root}
    return [replace(item, default=defaults.get(item.name, item.default)) for item in flags_of(GlobalOptions)]


def _walk(ctx: Context, rest: Sequence[str]) -> Invocation | None:
    name, after = rest[0], rest[1:]
    _refuse_absent(rest)
    if name in GROUPS:
        if after and f"{name} {after[0]}" in BY_NAME:
            return _invocation(ctx, f"{name} {after[0]}", after[1:])
        _group(ctx, name, after)
        return None
    if name in BY_NAME:
        return _invocation(ctx, name, after)
    parser = FlagParser(flags_of(GlobalOptions))
    parsed = _parse("", "[OPTIONS] COMMAND [ARG...]", parser, rest)
    if parsed.help:
        _show_program_help(ctx)
        return None
    raise _unknown(name, "")


def _refuse_absent(rest: Sequence[str]) -> None:
    if missing := absent(rest):
        name, when = missing
        reason = f"is not there yet: {when}" if when else "is not part of lamina"
        raise CliError(f"{PROGRAM}: '{PROGRAM} {name}' {reason}")


def _group(ctx: Context, group: str, after: Sequence[str]) -> None:
    parsed = _parse(group, "", FlagParser(()), after)
    if parsed.help or not parsed.args:
        _note_short_help(ctx, parsed)
        _show_group_help(ctx, group)
        return
    raise _unknown(parsed.args[0], group)


def _help_topic(ctx: Context, topic: Sequence[str]) -> None:
    _refuse_absent(topic)
    name = " ".join(topic)
    if name in GROUPS:
        _show_group_help(ctx, name)
    elif name in BY_NAME:
        entry = BY_NAME[name]
        _show_command_help(ctx, entry.shown(name), entry, load(entry))
    else:
        # Cobra names what is left after the words that it knows.
        left = topic[1:] if topic[0] in GROUPS or topic[0] in BY_NAME else topic
        raise UsageError(f"unknown help topic: {' '.join(left)}", status=1)


def _invocation(ctx: Context, name: str, arguments: Sequence[str]) -> Invocation | None:
    entry = BY_NAME[name]
    name = entry.shown(name)
    found = load(entry)
    parser = FlagParser(flags_of(found.options), interspersed=found.interspersed)
    parsed = _parse(name, found.usage, parser, arguments)
    if parsed.help:
        _note_short_help(ctx, parsed)
        _show_command_help(ctx, name, entry, found)
        return None
    if complaint := found.arity.complaint(len(parsed.args)):
        from lamina.cli.usage import usage_line

        raise UsageError(
            f"{PROGRAM}: '{PROGRAM} {name}' {complaint}\n\n{usage_line(name, found.usage)}\n\n{_more(name)}", status=1
        )
    options = found.options(**parsed.values, args=tuple(parsed.args), given=frozenset(parsed.given))
    return Invocation(name, found, options)


def load(entry: Entry) -> AnyCommand:
    """Imports the command behind an entry.

    Raises:
        CliError: its module is not part of this build.
    """
    module_name, _, attribute = entry.target.partition(":")
    full_name = f"lamina.cli.{module_name}"
    try:
        module = import_module(full_name)
    except ModuleNotFoundError as error:
        if error.name != full_name:
            raise
        raise CliError(f"{PROGRAM}: '{PROGRAM} {entry.path}' is not part of this build") from None
    found = getattr(module, attribute)
    if not isinstance(found, Command):
        raise TypeError(f"{full_name}:{attribute} is not a command")
    return found


def _parse(name: str, usage: str, parser: FlagParser, arguments: Sequence[str]) -> Parsed:
    try:
        return parser.parse(arguments)
    except FlagError as error:
        from lamina.cli.usage import usage_line

        line = usage_line(name, usage) if name else f"Usage:  {PROGRAM} {usage}"
        raise UsageError(f"{error}\n\n{line}\n\n{_more(name)}", status=USAGE_STATUS) from None


def _more(name: str) -> str:
    return f"Run '{' '.join(filter(None, (PROGRAM, name)))} --help' for more information"


def _unknown(word: str, group: str) -> UsageError:
    called = " ".join(filter(None, (PROGRAM, group, word)))
    parts = [f"{PROGRAM}: unknown command: {called}"]
    if near := suggestions(word, group):
        parts.append(
            "Did you mean this?\n" + "\n".join(f"\t{' '.join(filter(None, (PROGRAM, name)))}" for name in near)
        )
    if group:
        parts.append(f"Usage:  {PROGRAM} {group}")
    parts.append(_more(group))
    return UsageError("\n\n".join(parts), status=1)


def suggestions(word: str, group: str = "") -> list[str]:
    """Full names of commands close to a mistyped word, best first (S18: `puch`, `hostory`, `prune`)."""
    typed = word.lower()
    prefix = group + " " if group else ""
    scored = [(_distance(typed, candidate), prefix + candidate) for candidate in words(group)]
    near = [] if group else sorted(name for name in _canonical() if name.partition(" ")[2] == typed)
    if not near:
        near = [name for score, name in sorted(scored) if score <= NEAR and score < len(typed)]
    near += [name for _, name in sorted(scored) if name.removeprefix(prefix).startswith(typed) and name not in near]
    return near[:6]


def _canonical() -> frozenset[str]:
    return frozenset(entry.path for entry in BY_NAME.values())


def _distance(one: str, other: str) -> int:
    """Levenshtein distance."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        previous, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (a != b))
    return row[-1]


def _note_short_help(ctx: Context, parsed: Parsed) -> None:
    if parsed.help_by_short:
        ctx.stdout.write("Flag shorthand -h has been deprecated, use --help\n")


def _width(ctx: Context) -> int:
    return ctx.terminal_size()[0] - 1
