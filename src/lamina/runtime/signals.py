"""Names of signals as users write them."""

from __future__ import annotations

import signal as signals

from lamina.errors import Invalid


def signal_number(name: str) -> int:
    """`SIGTERM`, `TERM`, `term`, `15` or `SIGRTMIN+3` as a number.

    Raises:
        Invalid: Linux has no such signal.
    """
    text = name.strip().upper()
    if text.isdigit() and 0 < int(text) < 65:
        return int(text)
    base, plus, offset = text.removeprefix("SIG").partition("+")
    if plus and base == "RTMIN" and offset.isdigit() and int(offset) <= 30:
        return int(signals.SIGRTMIN) + int(offset)
    try:
        return int(signals.Signals[f"SIG{base}"]) if not plus else _invalid_signal(name)
    except KeyError:
        return _invalid_signal(name)


def _invalid_signal(name: str) -> int:
    raise Invalid(f"invalid signal: {name}")
