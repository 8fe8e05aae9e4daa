"""Instructions that write files without running anything: COPY ADD WORKDIR (features D19, D24-D32, D34)."""

from __future__ import annotations

from typing import ClassVar, Final, Self

from lamina.build.dockerfile.errors import DockerfileError
from lamina.build.dockerfile.expand import Mode, expand
from lamina.build.dockerfile.flags import Flags, Kind, parse_flags
from lamina.build.dockerfile.heredoc import Heredoc, parse_mark
from lamina.build.dockerfile.instructions.base import Expander, Instruction, one_argument, origin, words_or_json
from lamina.build.dockerfile.statements import Statement, json_strings
from lamina.values import dataclass, replace

_COMMON_FLAGS: Final[dict[str, Kind]] = {"chown": "text", "chmod": "text", "link": "switch", "exclude": "list"}
_COPY_FLAGS: Final[dict[str, Kind]] = {**_COMMON_FLAGS, "from": "text", "parents": "switch"}
_ADD_FLAGS: Final[dict[str, Kind]] = {
    **_COMMON_FLAGS,
    "checksum": "text",
    "keep-git-dir": "switch",
    "unpack": "switch",
}


@dataclass(frozen=True, slots=True)
class Document:
    """A file whose content stands in the Dockerfile (D34).

    Attributes:
        name: the file's name when the destination is a directory.
        content: its text.
        expands: whether variables in it are still to be replaced.
    """

    name: str
    content: str
    expands: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer(Instruction):
    """What COPY and ADD have in common.

    Attributes:
        sources: paths as written, without heredocs.
        documents: the heredoc sources, in order.
        dest: the destination as written; a trailing slash matters.
        chown: `user[:group]` or "".
        chmod: octal or symbolic mode or "".
        link: `--link`.
        exclude: patterns of `--exclude`.
    """

    sources: tuple[str, ...]
    documents: tuple[Document, ...] = ()
    dest: str
    chown: str = ""
    chmod: str = ""
    link: bool = False
    exclude: tuple[str, ...] = ()

    def expanded(self, expander: Expander) -> Self:
        """Sources, destination, --chown, --chmod, and the heredocs whose delimiter is not quoted."""
        return replace(
            self,
            sources=tuple(expander.word(source) for source in self.sources),
            documents=tuple(_filled(document, expander) for document in self.documents),
            dest=expander.word(self.dest),
            chown=expander.word(self.chown),
            chmod=expander.word(self.chmod),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy(Transfer):
    """COPY.

    Attributes:
        source_stage: `--from`: a stage, an index, an image or a named context; "" is the build context.
        parents: `--parents`.
    """

    NAME: ClassVar[str] = "COPY"

    source_stage: str = ""
    parents: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Add(Transfer):
    """ADD.

    Attributes:
        checksum: `--checksum` or "".
        keep_git_dir: `--keep-git-dir`, None when not given.
        unpack: `--unpack`, None when not given.
    """

    NAME: ClassVar[str] = "ADD"

    checksum: str = ""
    keep_git_dir: bool | None = None
    unpack: bool | None = None

    def expanded(self, expander: Expander) -> Self:
        """The same as COPY, and --checksum."""
        # Named base: zero-argument super() does not work in slotted dataclasses before 3.14.
        return replace(Transfer.expanded(self, expander), checksum=expander.word(self.checksum))


@dataclass(frozen=True, slots=True, kw_only=True)
class Workdir(Instruction):
    """WORKDIR."""

    NAME: ClassVar[str] = "WORKDIR"

    path: str

    def expanded(self, expander: Expander) -> Self:
        """The path."""
        return replace(self, path=expander.word(self.path))


def copy(statement: Statement) -> Copy:
    """Build COPY."""
    words = _arguments(statement)
    flags = parse_flags(statement.flags, _COPY_FLAGS)
    sources, documents = _sources(statement, words)
    stage = flags.text("from")
    if stage and expand(stage, {}, Mode(statement.escape)).text != stage:
        raise DockerfileError(
            "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope "
            "as a workaround"
        )
    return Copy(
        origin=origin(statement),
        sources=sources,
        documents=documents,
        dest=words[-1],
        chown=flags.text("chown"),
        chmod=flags.text("chmod"),
        link=bool(flags.switch("link")),
        exclude=flags.items("exclude"),
        source_stage=stage,
        parents=bool(flags.switch("parents")),
    )


def add(statement: Statement) -> Add:
    """Build ADD."""
    words = _arguments(statement)
    flags: Flags = parse_flags(statement.flags, _ADD_FLAGS)
    sources, documents = _sources(statement, words)
    return Add(
        origin=origin(statement),
        sources=sources,
        documents=documents,
        dest=words[-1],
        chown=flags.text("chown"),
        chmod=flags.text("chmod"),
        link=bool(flags.switch("link")),
        exclude=flags.items("exclude"),
        checksum=flags.text("checksum"),
        keep_git_dir=flags.switch("keep-git-dir"),
        unpack=flags.switch("unpack"),
    )


def workdir(statement: Statement) -> Workdir:
    """Build WORKDIR."""
    parse_flags(statement.flags, {})
    return Workdir(origin=origin(statement), path=one_argument(statement))


def _arguments(statement: Statement) -> list[str]:
    words = words_or_json(statement)
    if len(words) < 2:
        raise DockerfileError(
            f"{statement.name} requires at least two arguments, but only one was provided. "
            "Destination could not be determined"
        )
    return words


def _sources(statement: Statement, words: list[str]) -> tuple[tuple[str, ...], tuple[Document, ...]]:
    """Tell paths from heredocs; words beginning `<<` are never paths, except in the JSON form."""
    *sources, dest = words
    if json_strings(statement.rest) is not None:
        return tuple(sources), ()
    if parse_mark(dest):
        raise DockerfileError(f"{statement.name} cannot accept a heredoc as a destination")
    bodies: dict[str, list[Heredoc]] = {}
    for heredoc in statement.heredocs:
        bodies.setdefault(heredoc.name, []).append(heredoc)
    paths: list[str] = []
    documents: list[Document] = []
    for source in sources:
        mark = parse_mark(source)
        if mark is None or not bodies.get(mark.name):
            paths.append(source)
            continue
        heredoc = bodies[mark.name].pop(0)
        documents.append(Document(mark.name, heredoc.body, mark.expands))
    return tuple(paths), tuple(documents)


def _filled(document: Document, expander: Expander) -> Document:
    if not document.expands:
        return document
    return Document(document.name, expander.body(document.content), expands=False)
