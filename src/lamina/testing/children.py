"""Servers that tests start end with the tests, also when those are killed and no fixture gets its turn."""

from __future__ import annotations

import shutil
from collections.abc import Sequence


def dying_with_us(command: Sequence[str]) -> list[str]:
    """A command whose process the kernel kills when the thread that starts it ends, however it ends (prctl(2)).

    Its process id stays the one that was started. Without util-linux's setpriv it is the command as it was.
    """
    guard = ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []
    return [*guard, *command]
