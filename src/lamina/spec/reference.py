"""Image references: the full grammar of names, tags and digests (distribution/reference; features S08, R15).

    reference   := name [":" tag] ["@" digest]
    name        := [host "/"] path
    host        := first component iff it holds "." or ":" or an upper-case letter, or is "localhost"

A parsed `Reference` is always complete: `debian` is docker.io/library/debian. `familiar` gives back the short form that
people read. Authentication and transport both take the host from here, so they cannot disagree (threat 47).
"""

from __future__ import annotations

import re
from typing import Final

from lamina.errors import Invalid
from lamina.spec.digest import Digest
from lamina.values import dataclass, replace

DOCKER_HUB: Final = "docker.io"
_HUB_ALIASES: Final = {"docker.io", "index.docker.io", "registry-1.docker.io"}
OFFICIAL: Final = "library"
DEFAULT_TAG: Final = "latest"
MAX_NAME: Final = 255

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?")
_TAG = re.compile(r"[\w][\w.-]{0,127}", re.ASCII)
_ID = re.compile(r"[0-9a-f]{64}")


class InvalidReference(Invalid):
    """The text is no image reference; the message is Docker's `invalid reference format`."""

    def __init__(self, text: str, problem: str = "") -> None:
        super().__init__(f"invalid reference format{': ' + problem if problem else ''}")
        self.text, self.problem = text, problem


@dataclass(frozen=True, slots=True, order=True)
class Repository:
    """A repository in a registry: where images of one name live."""

    host: str
    path: str

    @classmethod
    def parse(cls, text: str) -> Repository:
        """Parse a name that carries neither tag nor digest.

        Raises:
            InvalidReference: bad grammar, or a tag or digest is there.
        """
        reference = Reference.parse(text)
        if reference.tag or reference.digest:
            raise InvalidReference(text, "a repository name, without tag or digest, is wanted")
        return reference.repository

    @property
    def familiar(self) -> str:
        """Without the parts that Docker users do not type; parsing it gives back the same repository (threat 47)."""
        if self.host != DOCKER_HUB:
            return f"{self.host}/{self.path}"
        short = self.path.removeprefix(f"{OFFICIAL}/") if self.path.count("/") == 1 else self.path
        first, slash, _ = short.partition("/")
        return str(self) if slash and _is_host(first) else short

    def __str__(self) -> str:
        return f"{self.host}/{self.path}"


@dataclass(frozen=True, slots=True)
class Reference:
    """An image by name: repository, and a tag or a digest or both or neither."""

    repository: Repository
    tag: str = ""
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Parse what a user types.

        Raises:
            InvalidReference: bad grammar, upper case in the path, a bare 64-hex id, or too long a name.
        """
        rest, _, digest_text = text.partition("@")
        try:
            digest = Digest.parse(digest_text) if "@" in text else None
        except Invalid as error:
            raise InvalidReference(text, error.message) from None
        name, tag = _split_tag(rest)
        if tag is not None and not _TAG.fullmatch(tag):
            raise InvalidReference(text)
        if _ID.fullmatch(text):
            problem = f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings"
            raise InvalidReference(text, problem)
        return cls(_repository(name, text), tag or "", digest)

    def tagged(self) -> Reference:
        """With the default tag when it has neither tag nor digest."""
        return self if self.tag or self.digest else replace(self, tag=DEFAULT_TAG)

    @property
    def identifier(self) -> str:
        """What a registry is asked for: the digest when pinned, else the tag, else `latest`."""
        return str(self.digest) if self.digest else self.tag or DEFAULT_TAG

    @property
    def familiar(self) -> str:
        """The short form: `debian:12` rather than `docker.io/library/debian:12`."""
        return self.repository.familiar + self._suffix()

    def with_tag(self, tag: str) -> Reference:
        """The same repository under another tag.

        Raises:
            InvalidReference: the tag breaks the grammar.
        """
        if not _TAG.fullmatch(tag):
            raise InvalidReference(tag)
        return Reference(self.repository, tag)

    def with_digest(self, digest: Digest) -> Reference:
        """The same repository pinned to a digest; the tag is dropped."""
        return Reference(self.repository, "", digest)

    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def __str__(self) -> str:
        return str(self.repository) + self._suffix()


def is_tag(text: str) -> bool:
    """Whether the text is a well-formed tag."""
    return _TAG.fullmatch(text) is not None


def is_repository_path(text: str) -> bool:
    """Whether the text is a well-formed repository path as registries see it (no host)."""
    return len(text) <= MAX_NAME and _PATH.fullmatch(text) is not None


def _split_tag(text: str) -> tuple[str, str | None]:
    """Cut the tag off: a colon after the last slash starts one."""
    colon = text.rfind(":")
    return (text[:colon], text[colon + 1 :]) if colon > text.rfind("/") else (text, None)


def _is_host(first: str) -> bool:
    """Whether the part before the first slash names a registry."""
    return "." in first or ":" in first or first == "localhost" or first.lower() != first


def _repository(name: str, text: str) -> Repository:
    host, slash, path = name.partition("/")
    if not slash or not _is_host(host):
        host, path = DOCKER_HUB, name
    if host in _HUB_ALIASES:
        host = DOCKER_HUB
        if "/" not in path and path:
            path = f"{OFFICIAL}/{path}"
    if not _HOST.fullmatch(host):
        raise InvalidReference(text)
    if not _PATH.fullmatch(path):
        if path != path.lower():
            raise InvalidReference(text, f"repository name ({path}) must be lowercase")
        raise InvalidReference(text)
    if len(path) > MAX_NAME:
        raise InvalidReference(text, f"repository name must not be more than {MAX_NAME} characters")
    return Repository(host, path)
