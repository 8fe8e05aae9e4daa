"""The variables of a stage: ENV and ARG, which of the two wins, and expansion with them (features D08, D35-D40)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from lamina.build.dockerfile.expand import Expansion, Mode, expand

#: Told about the names that were used and neither set nor declared, sorted.
OnUnset = Callable[[list[str]], None]


class Variables:
    """ENV and ARG of one stage at one point.

    An ENV always hides an ARG of the same name, also one that a build argument sets and one that comes later: so says
    the Dockerfile reference ("Using ARG variables"), and so do buildah and the classic builder. BuildKit's code lets a
    later ARG with a value win. An ARG that is declared again without a value keeps the one it has.

    Attributes:
        env: ENV, those of the base image included, in order.
        args: what ARG declared here or in the stage that this one is built from; None without a value.
    """

    def __init__(self, env: Mapping[str, str], args: Mapping[str, str | None], *, escape: str) -> None:
        self.env = dict(env)
        self.args = dict(args)
        self._mode = Mode(escape)
        self.on_unset: OnUnset | None = None
        self._visible: dict[str, str] | None = None

    def set_env(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Set ENV."""
        self.env.update(pairs)
        self._visible = None

    def declare(self, name: str, value: str | None) -> None:
        """Declare an ARG."""
        if value is not None or name not in self.args:
            self.args[name] = value
        self._visible = None

    def visible(self) -> dict[str, str]:
        """All that are set, as RUN sees them: ENV in order, then ARG."""
        if self._visible is None:
            self._visible = dict(self.env)
            for name, value in self.args.items():
                if value is not None:
                    self._visible.setdefault(name, value)
        return self._visible

    def arguments(self) -> dict[str, str]:
        """The ARGs for the history of RUN: the value in force, "" without one."""
        visible = self.visible()
        return {name: visible.get(name, value or "") for name, value in self.args.items()}

    def word(self, text: str) -> str:
        """Expand a word."""
        return self._expand(text, self._mode).text

    def words(self, text: str) -> tuple[str, ...]:
        """Expand and split at blanks."""
        return self._expand(text, self._mode).words

    def body(self, text: str) -> str:
        """Expand the body of a heredoc, whose escape character is always the backslash."""
        return self._expand(text, Mode(quotes=False)).text

    def _expand(self, text: str, mode: Mode) -> Expansion:
        expansion = expand(text, self.visible(), mode)
        if self.on_unset is not None and (names := expansion.unmatched - self.args.keys()):
            self.on_unset(sorted(names))
        return expansion
