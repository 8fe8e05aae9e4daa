"""Help pages and usage lines in docker's layout (S18); compared with docker 28.2.2 in the tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lamina.cli.command import AnyCommand
from lamina.cli.commands import BY_NAME, ENTRIES, GROUPS, PROGRAM, Entry, children
from lamina.cli.flags import HELP, Flag, flags_of

TAGLINE = "The whole container image system, without a daemon"
SLOP = 5  # columns by which a last line may overrun rather than leave a short orphan


def usage_line(name: str, usage: str) -> str:
    """`Usage:  lamina cp [OPTIONS] ...`, further forms on lines of their own."""
    first, *more = usage.split("\n")
    word = name.rpartition(" ")[2]
    lines = [f"Usage:  {PROGRAM} {name} {first}".rstrip(), *(f"\t{PROGRAM} {word} {form}" for form in more)]
    return "\n".join(lines)


def command_help(name: str, entry: Entry, command: AnyCommand, width: int) -> str:
    """The help page of a command, called by one of its names."""
    parts = [usage_line(name, command.usage), command.description or entry.summary]
    if len(entry.names) > 1:
        parts.append("Aliases:\n  " + ", ".join(f"{PROGRAM} {other}" for other in entry.names))
    flags = flags_of(command.options)
    if command.shows_help_flag:
        flags = sorted([*flags, Flag("", HELP.name, "", HELP.help, HELP.kind, False)], key=lambda item: item.name)
    if options := flag_usages(flags, width):
        parts.append("Options:\n" + options)
    return "\n\n".join(parts) + "\n"


def group_help(group: str) -> str:
    """The help page of a management command."""
    return (
        f"Usage:  {PROGRAM} {group} COMMAND\n\n{GROUPS[group]}\n\nCommands:\n{_listing(children(group))}\n"
        f"Run '{PROGRAM} {group} COMMAND --help' for more information on a command.\n"
    )


def program_help(flags: Sequence[Flag], width: int) -> str:
    """The help page of the program."""
    common = [(_shortest(entry), entry.summary) for word in _COMMON for entry in [BY_NAME[word]] if entry.common]
    top = sorted(
        (name, entry.summary) for entry in ENTRIES for name in entry.names if " " not in name and not entry.common
    )
    sections = [
        f"Usage:  {PROGRAM} [OPTIONS] COMMAND",
        TAGLINE,
        "Common Commands:\n" + _listing(common),
        "Management Commands:\n" + _listing(sorted(GROUPS.items())),
        "Commands:\n" + _listing(top),
        "Global Options:\n" + flag_usages(flags, width) + "\n",
        f"Run '{PROGRAM} COMMAND --help' for more information on a command.\n",
    ]
    return "\n\n".join(section.rstrip("\n") for section in sections) + "\n"


_COMMON = ("run", "exec", "ps", "build", "pull", "push", "images", "login", "logout", "version", "info")


def _shortest(entry: Entry) -> str:
    return min(entry.names, key=lambda name: (name.count(" "), len(name)))


def _listing(rows: Sequence[tuple[str, str]]) -> str:
    # cobra's minimum column is 11; docker's names are all shorter.
    width = max((len(name) for name, _ in rows), default=0)
    width = max(width, 11)
    return "".join(f"  {name.ljust(width)} {summary}\n" for name, summary in rows)


def flag_usages(flags: Sequence[Flag], width: int) -> str:
    """The options block, wrapped to `width` columns (0: not wrapped)."""
    heads: list[tuple[str, str]] = []
    for flag in flags:
        if flag.hidden:
            continue
        head = f"  -{flag.short}, --{flag.name}" if flag.short else f"      --{flag.name}"
        if flag.kind.word:
            head += " " + flag.kind.word
        heads.append((head, flag.help + _default(flag)))
    column = max((len(head) for head, _ in heads), default=0) + 3
    return "\n".join(f"{head.ljust(column)}{_wrap(text, column, width)}" for head, text in heads)


def _default(flag: Flag) -> str:
    text = _default_text(flag)
    return f" (default {text})" if text else ""


def _default_text(flag: Flag) -> str:
    if flag.default_text is not None:
        return flag.default_text
    value: Any = flag.default
    if not value or value == flag.kind.zero:
        return flag.kind.empty_text
    if value is True:
        return "true"
    if isinstance(value, str):
        from lamina.cli.format.gotemplate.printf import quote

        return quote(value)
    if isinstance(value, (tuple, list)):
        return "[" + ",".join(map(str, value)) + "]"
    return str(value)


def _wrap(text: str, indent: int, width: int) -> str:
    """Text set between `indent` and `width`; a narrow terminal gets it below, indented by 16."""
    lead = ""
    room = width - indent
    if width and room < 24:
        indent, room, lead = 16, width - 16, "\n" + " " * 16
    newline = "\n" + " " * indent
    if not width or room < 24:
        return text.replace("\n", newline)
    lines: list[str] = []
    rest = text
    while rest:
        line, rest = _first_line(rest, room - SLOP)
        lines.append(line)
    return (
        lead + newline.join(lines).replace("\n", newline)
        if lead
        else newline.join(line.replace("\n", newline) for line in lines)
    )


def _first_line(text: str, room: int) -> tuple[str, str]:
    if room + SLOP > len(text):
        return text, ""
    head = text[:room]
    blank = max(head.rfind(" "), head.rfind("\t"), head.rfind("\n"))
    if blank <= 0:
        return text, ""
    newline = head.rfind("\n")
    if 0 < newline < blank:
        blank = newline
    return text[:blank], text[blank + 1 :]
