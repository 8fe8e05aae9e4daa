"""Text made safe for terminals: names and messages from elsewhere must not move the cursor (threat 32)."""

from __future__ import annotations

import re

# C0 except tab, DEL, C1, and the Unicode controls that reorder or hide text (bidi overrides, line separators).
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]")
_CONTROL_EXCEPT_NEWLINE = re.compile(_CONTROL.pattern.replace("\x0a", "\x0b", 1))
_SHORT = {"\n": "\\n", "\r": "\\r"}

CURSOR_UP = "\x1b[{}A"
CURSOR_DOWN = "\x1b[{}B"
ERASE_LINE = "\x1b[2K"
ERASE_BELOW = "\x1b[0J"
HIDE_CURSOR = "\x1b[?25l"
SHOW_CURSOR = "\x1b[?25h"
COLORS = {"red": "\x1b[31m", "green": "\x1b[32m", "yellow": "\x1b[33m", "blue": "\x1b[34m", "cyan": "\x1b[36m"}
RESET = "\x1b[0m"


def printable(text: str, *, newlines: bool = False) -> str:
    r"""The text with control characters spelled out (`\x1b`), lone surrogates too; newlines kept if wanted."""
    pattern = _CONTROL_EXCEPT_NEWLINE if newlines else _CONTROL
    safe = pattern.sub(_spell, text)
    return safe.encode("utf-8", "backslashreplace").decode()


def _spell(match: re.Match[str]) -> str:
    char = match[0]
    code = ord(char)
    return _SHORT.get(char) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def clip(text: str, width: int) -> str:
    """The text cut to `width` terminal columns."""
    from lamina.cli.format.units import display_width

    if display_width(text) <= width:
        return text
    out: list[str] = []
    used = 0
    for char in text:
        used += display_width(char)
        if used > width:
            break
        out.append(char)
    return "".join(out)


def paint(text: str, color: str, *, enabled: bool) -> str:
    """The text in a colour of `COLORS`, if colours are on."""
    return f"{COLORS[color]}{text}{RESET}" if enabled else text
