"""Prints what was rendered: raw into pipes and files, control characters spelled out on a terminal (threat 32)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lamina.cli.context import Context
    from lamina.cli.format.gotemplate.template import Template


def show(ctx: Context, text: str) -> None:
    """Writes to standard output."""
    if ctx.is_tty(ctx.stdout):
        from lamina.cli.terminal import printable

        text = printable(text, newlines=True)
    ctx.stdout.write(text)


def show_whole(ctx: Context, template: Template, value: object) -> None:
    """Writes what a template makes of one object, and a line end also where it fails, as docker's info and version do.

    Raises:
        CliError: it does not fit; the words are Go's alone.
    """
    from lamina.cli.failures import CliError
    from lamina.cli.format.gotemplate.errors import TemplateExecError

    try:
        text = template.execute(value)
    except TemplateExecError as error:
        show(ctx, "\n")
        raise CliError(error.detail) from None
    show(ctx, text + "\n")


def confirm(ctx: Context, question: str) -> bool:
    """Asks `question [y/N] `; anything but y or yes, and no answer at all, is a no (docker ends no line then)."""
    ctx.stdout.write(f"{question} [y/N] ")
    ctx.stdout.flush()
    return ctx.stdin.readline().strip().lower() in {"y", "yes"}


def time_text(seconds: float) -> str:
    """A Unix time as Go prints one: `2026-01-31 12:00:00 +0000 UTC`, in local time."""
    from datetime import UTC, datetime

    moment = datetime.fromtimestamp(seconds, UTC).astimezone()
    return moment.strftime("%Y-%m-%d %H:%M:%S %z %Z")
