"""Signal names of STOPSIGNAL (feature D21); the numbers of Linux, whatever machine reads the file."""

from __future__ import annotations

from typing import Final

from lamina.build.dockerfile.errors import DockerfileError

_NAMES: Final = (
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
)  # fmt: skip
_RTMIN: Final = 34
_RTMAX: Final = 64


def _numbers() -> dict[str, int]:
    numbers = {name: number for number, name in enumerate(_NAMES, 1)}
    numbers |= {"IOT": 6, "CLD": 17, "POLL": 29, "UNUSED": 31, "RTMIN": _RTMIN, "RTMAX": _RTMAX}
    numbers |= {f"RTMIN+{offset}": _RTMIN + offset for offset in range(1, 16)}
    return numbers | {f"RTMAX-{offset}": _RTMAX - offset for offset in range(1, 15)}


_NUMBERS: Final = _numbers()


def signal_number(text: str) -> int:
    """The number of `9`, `KILL`, `SIGKILL`, `sigkill`, `SIGRTMIN+3`.

    Raises:
        DockerfileError: no such signal.
    """
    if text.isascii() and text.isdigit() and len(text) < 4:
        if 1 <= int(text) <= _RTMAX:
            return int(text)
    elif (number := _NUMBERS.get(text.upper().removeprefix("SIG"))) is not None:
        return number
    raise DockerfileError(f"Invalid signal: {text}", hint="give a name such as SIGTERM or a number from 1 to 64")
