"""Prints what was rendered: raw into pipes and files, control characters spelled out on a terminal (threat 32)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lamina.cli.context import Context


def show(ctx: Context, text: str) -> None:
    """Writes to standard output."""
    if ctx.is_tty(ctx.stdout):
        from lamina.cli.terminal import printable

        text = printable(text, newlines=True)
    ctx.stdout.write(text)


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
