"""What is wrong with a Dockerfile, and where (D49)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lamina.build.dockerfile.source import Range, Source
from lamina.errors import Invalid


class DockerfileError(Invalid):
    """A Dockerfile, a .dockerignore file or a value in one of them is wrong.

    Attributes:
        source: the text that is at fault, None while unknown.
        range: the lines at fault, None while unknown.
        bare: BuildKit's reader of lines finds it, before instructions are told apart, and words it without the line.
    """

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        source: Source | None = None,
        range: Range | None = None,
        bare: bool = False,
    ) -> None:
        super().__init__(message, hint=hint)
        self.source = source
        self.range = range
        self.bare = bare

    @property
    def line(self) -> int:
        """The first line at fault, 0 when unknown."""
        return self.range.start if self.range else 0

    def excerpt(self) -> str:
        """The marked lines as BuildKit prints them above the message; "" when the place is unknown."""
        return self.source.excerpt(self.range) if self.source and self.range else ""


@contextmanager
def located(source: Source, where: Range, *, parsing: bool = False) -> Iterator[None]:
    """Give the errors that pass through their place, unless they have one.

    Args:
        source: the text that is being read.
        where: the lines of the instruction.
        parsing: also prefix the message the way Docker words a parse error.
    """
    try:
        yield
    except DockerfileError as error:
        if error.range is None:
            error.source, error.range = source, where
            if parsing and not error.bare:
                error.args = (f"dockerfile parse error on line {where.start}: {error.message}",)
        raise
