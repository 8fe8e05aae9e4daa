"""Instructions that only edit the configuration: ARG ENV LABEL EXPOSE USER VOLUME STOPSIGNAL MAINTAINER ONBUILD."""

from __future__ import annotations

from typing import ClassVar, Final, Self

from lamina.build.dockerfile.blanks import split_first, trim
from lamina.build.dockerfile.errors import DockerfileError
from lamina.build.dockerfile.flags import parse_flags
from lamina.build.dockerfile.gofmt import quote
from lamina.build.dockerfile.instructions.base import (
    Expander,
    Instruction,
    at_least_one,
    one_argument,
    origin,
    words_or_json,
)
from lamina.build.dockerfile.statements import Statement
from lamina.values import dataclass, replace

_NOT_DEFERRED: Final = ("MAINTAINER", "FROM")


@dataclass(frozen=True, slots=True)
class Pair:
    """`key=value` of ENV and LABEL; `legacy` when written `key value` (D08)."""

    key: str
    value: str
    legacy: bool = False

    def __str__(self) -> str:
        return f"{self.key}={self.value}"


@dataclass(frozen=True, slots=True)
class ArgPair:
    """`name=default` of ARG; `default` is None when there is no `=`."""

    name: str
    default: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Arg(Instruction):
    """ARG (D07). Defaults are expanded one by one by the state, because later ones see earlier ones."""

    NAME: ClassVar[str] = "ARG"

    pairs: tuple[ArgPair, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Env(Instruction):
    """ENV (D08)."""

    NAME: ClassVar[str] = "ENV"

    pairs: tuple[Pair, ...]

    def expanded(self, expander: Expander) -> Self:
        """Keys and values, all against the state before the line."""
        return replace(self, pairs=_expand_pairs(self.NAME, self.pairs, expander))


@dataclass(frozen=True, slots=True, kw_only=True)
class Label(Instruction):
    """LABEL (D17)."""

    NAME: ClassVar[str] = "LABEL"

    pairs: tuple[Pair, ...]

    def expanded(self, expander: Expander) -> Self:
        """Keys and values."""
        return replace(self, pairs=_expand_pairs(self.NAME, self.pairs, expander))


@dataclass(frozen=True, slots=True, kw_only=True)
class Maintainer(Instruction):
    """MAINTAINER, deprecated: sets the author only."""

    NAME: ClassVar[str] = "MAINTAINER"

    author: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Expose(Instruction):
    """EXPOSE (D18): port specifications as written, sorted."""

    NAME: ClassVar[str] = "EXPOSE"

    ports: tuple[str, ...]

    def expanded(self, expander: Expander) -> Self:
        """One word may become several ports."""
        return replace(self, ports=tuple(port for word in self.ports for port in expander.words(word)))


@dataclass(frozen=True, slots=True, kw_only=True)
class User(Instruction):
    """USER (D19): `name[:group]` or numbers."""

    NAME: ClassVar[str] = "USER"

    user: str

    def expanded(self, expander: Expander) -> Self:
        """The user."""
        return replace(self, user=expander.word(self.user))


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume(Instruction):
    """VOLUME (D20): container paths."""

    NAME: ClassVar[str] = "VOLUME"

    paths: tuple[str, ...]

    def expanded(self, expander: Expander) -> Self:
        """Each path is one word."""
        return replace(self, paths=_volumes([expander.word(path) for path in self.paths]))


@dataclass(frozen=True, slots=True, kw_only=True)
class StopSignal(Instruction):
    """STOPSIGNAL (D21): a name or a number, checked once expanded."""

    NAME: ClassVar[str] = "STOPSIGNAL"

    signal: str

    def expanded(self, expander: Expander) -> Self:
        """The signal."""
        return replace(self, signal=expander.word(self.signal))


@dataclass(frozen=True, slots=True, kw_only=True)
class OnBuild(Instruction):
    """ONBUILD (D23).

    Attributes:
        trigger: the deferred instruction's text with the bodies of its heredocs: what the image configuration keeps.
        deferred: its name in upper case.
    """

    NAME: ClassVar[str] = "ONBUILD"

    trigger: str
    deferred: str


def arg(statement: Statement) -> Arg:
    """Build ARG."""
    parse_flags(statement.flags, {})
    words = statement.quoted_words()
    if not words:
        raise at_least_one(statement)
    pairs = []
    for word in words:
        name, equals, default = word.partition("=")
        if not name:
            raise DockerfileError("ARG names can not be blank")
        pairs.append(ArgPair(name, default if equals else None))
    return Arg(origin=origin(statement), pairs=tuple(pairs))


def env(statement: Statement) -> Env:
    """Build ENV."""
    return Env(origin=origin(statement), pairs=_pairs(statement))


def label(statement: Statement) -> Label:
    """Build LABEL."""
    return Label(origin=origin(statement), pairs=_pairs(statement))


def maintainer(statement: Statement) -> Maintainer:
    """Build MAINTAINER."""
    parse_flags(statement.flags, {})
    return Maintainer(origin=origin(statement), author=one_argument(statement))


def expose(statement: Statement) -> Expose:
    """Build EXPOSE."""
    parse_flags(statement.flags, {})
    ports = statement.words()
    if not ports:
        raise at_least_one(statement)
    return Expose(origin=origin(statement), ports=tuple(sorted(ports)))


def user(statement: Statement) -> User:
    """Build USER."""
    parse_flags(statement.flags, {})
    return User(origin=origin(statement), user=one_argument(statement))


def volume(statement: Statement) -> Volume:
    """Build VOLUME."""
    parse_flags(statement.flags, {})
    paths = words_or_json(statement)
    if not paths:
        raise at_least_one(statement)
    return Volume(origin=origin(statement), paths=_volumes([trim(path) for path in paths]))


def stop_signal(statement: Statement) -> StopSignal:
    """Build STOPSIGNAL."""
    parse_flags(statement.flags, {})
    return StopSignal(origin=origin(statement), signal=one_argument(statement))


def on_build(statement: Statement) -> OnBuild:
    """Build ONBUILD; `build` builds the deferred instruction too, so that its mistakes show here, not in a child."""
    parse_flags(statement.flags, {})
    if not statement.rest:
        raise at_least_one(statement)
    deferred = statement.inner().name
    if deferred == "ONBUILD":
        raise DockerfileError("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if deferred in _NOT_DEFERRED:
        raise DockerfileError(f"{deferred} isn't allowed as an ONBUILD trigger")
    documents = [f"\n{heredoc.content}{heredoc.name}" for heredoc in statement.heredocs]
    return OnBuild(origin=origin(statement), trigger=statement.rest + "".join(documents), deferred=deferred)


def _pairs(statement: Statement) -> tuple[Pair, ...]:
    parse_flags(statement.flags, {})
    words = statement.quoted_words()
    if not words:
        raise at_least_one(statement)
    # The first word decides: without `=` the old form, whose value is the rest of the line (S32).
    if "=" not in words[0]:
        key, value = split_first(statement.rest)
        if value is None:
            raise DockerfileError(f"{statement.name} must have two arguments", bare=True)
        return (Pair(key, value, legacy=True),)
    pairs = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise DockerfileError(
                f"Syntax error - can't find = in {quote(word)}. Must be of the form: name=value",
                hint="quote the value when it holds blanks",
                bare=True,
            )
        if not key:
            raise DockerfileError(f"{statement.name} names can not be blank")
        pairs.append(Pair(key, value))
    return tuple(pairs)


def _expand_pairs(name: str, pairs: tuple[Pair, ...], expander: Expander) -> tuple[Pair, ...]:
    result = tuple(Pair(expander.word(pair.key), expander.word(pair.value), pair.legacy) for pair in pairs)
    if not all(pair.key for pair in result):
        raise DockerfileError(f"{name} names can not be blank")
    return result


def _volumes(paths: list[str]) -> tuple[str, ...]:
    if not all(paths):
        raise DockerfileError("VOLUME specified can not be an empty string")
    return tuple(paths)
