"""Plays transcripts: types their steps at a terminal and holds what appears against what they say."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from lamina.testing.takedown import take_down
from lamina.testing.terminals import Terminal
from lamina.testing.transcripts import Block, Mismatch, Step, compare, fill_in, keys

#: With `docker` for `lamina` a session reads as the lab is written.
PROFILE = 'docker() { lamina "$@"; }\n'


class Player:
    """One session on one store.

    Args:
        folder: empty; the store, the client configuration and the shell's home are made below it.
        known: values for the placeholders from the start (`PORT`).
        env: added to the shell's small environment.
    """

    def __init__(self, folder: Path, *, known: Mapping[str, str] = {}, env: Mapping[str, str] = {}) -> None:
        self.root = folder / "root"
        self.known = dict(known)
        home = folder / "home"
        home.mkdir()
        scripts = os.path.dirname(sys.executable)
        self.env = {
            "PATH": f"{scripts}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "LAMINA_ROOT": str(self.root),
            "DOCKER_CONFIG": str(folder / "config"),
            "NO_COLOR": "1",
            **env,
        }
        if "PYTHONPATH" in os.environ:  # the shell's lamina is the one that this process imports
            self.env["PYTHONPATH"] = os.environ["PYTHONPATH"]
        self.terminal = Terminal(str(home), self.env)
        self._inside = False
        self._broken = ""
        self._type(PROFILE.strip(), "")

    def play(self, block: Block, skip: Callable[[str], object]) -> None:
        """Types a block's steps.

        After a step that went wrong nothing stands where later ones expect it: they call `skip` with the reason.

        Raises:
            Mismatch: what appeared is not what the block says.
        """
        if self._broken:
            skip(f"an earlier step failed: {self._broken}")
        for step in block.steps:
            self._broken = f"line {step.line}: {step.text.splitlines()[0]}"
            self._step(step)
        self._broken = ""

    def _step(self, step: Step) -> None:
        if step.file:
            Path(self.terminal.cwd, step.file).write_text(fill_in(step.text, self.known))
            return
        text = fill_in(step.text, self.known)
        if step.inside != self._inside:  # what is meant for a container must never reach this machine's shell
            raise Mismatch(
                f"line {step.line}: {text}\nthe prompt is {'a container' if self._inside else 'the shell'}'s"
            )
        seen, status = self._type(text, text)
        try:
            self.known |= compare(step.shows, seen, self.known)
            if status is not None and status != step.status:
                raise Mismatch(f"exit status {status}, not {step.status}; appeared:\n" + "\n".join(seen))
        except Mismatch as error:
            raise Mismatch(f"line {step.line}: {text}\n{error}") from None

    def _type(self, text: str, echo: str) -> tuple[list[str], int | None]:
        seen, status = self.terminal.type(keys(text), echo=echo)
        self._inside = status is None
        return seen, status

    def close(self) -> None:
        """Ends the shell, its background jobs and every container of the store; nothing stays mounted."""
        self.terminal.close()
        take_down(str(self.root))
