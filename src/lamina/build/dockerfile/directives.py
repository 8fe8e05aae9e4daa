"""Parser directives: `# syntax=`, `# escape=`, `# check=` in the first lines of a Dockerfile (feature D03)."""

from __future__ import annotations

import json
import re
from typing import Final

from lamina.build.dockerfile.blanks import SPACES
from lamina.build.dockerfile.errors import DockerfileError
from lamina.build.dockerfile.source import Range
from lamina.values import dataclass, field

_FORM = re.compile(r"([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*", re.ASCII)
_KEYS: Final = ("syntax", "escape", "check")


@dataclass(frozen=True, slots=True)
class Directive:
    """One directive: `key` is lower case, `value` as written."""

    key: str
    value: str
    range: Range


@dataclass(slots=True)
class DirectiveReader:
    """Reads directives line by line until the first line that is none.

    Attributes:
        found: by key.
    """

    comment: str = "#"
    found: dict[str, Directive] = field(default_factory=dict)
    _done: bool = False

    def read(self, line: str, number: int) -> bool:
        """Take one line without leading blanks; whether it was a directive.

        Raises:
            DockerfileError: the directive is there already.
        """
        if self._done:
            return False
        directive = None
        if line.startswith(self.comment):
            directive = parse_directive(line[len(self.comment) :], number)
        if directive is None:
            self._done = True
            return False
        if directive.key in self.found:
            raise DockerfileError(f"only one {directive.key} parser directive can be used")
        self.found[directive.key] = directive
        return True


def parse_directive(text: str, number: int) -> Directive | None:
    """Read `key=value` as it stands after the comment sign; None when it is no known directive."""
    match = _FORM.fullmatch(text.lstrip(SPACES))
    if match is None or match[1].lower() not in _KEYS:
        return None
    return Directive(match[1].lower(), match[2], Range(number, number))


def detect_syntax(text: str) -> str | None:
    """The frontend image that a build definition asks for: `# syntax=`, `// syntax=` or `{"syntax": ..}`.

    A first line that begins with `#!` is passed over. Only the first word of the value counts.
    """
    text = text.removeprefix("\ufeff")
    if text.startswith("#!"):
        text = text.partition("\n")[2]
    for comment in ("#", "//"):
        reader = DirectiveReader(comment)
        try:
            for number, line in enumerate(text.split("\n"), 1):
                if not reader.read(line.removesuffix("\r"), number):
                    break
        except DockerfileError:
            # A repeated key is the parser's to report; what was read before it counts.
            pass
        if "syntax" in reader.found:
            return reader.found["syntax"].value.split(" ", 1)[0]
    return _syntax_of_json(text)


def _syntax_of_json(text: str) -> str | None:
    if not text.lstrip().startswith("{"):
        return None
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    value = document.get("syntax") if isinstance(document, dict) else None
    return value if isinstance(value, str) else None
