"""Typed sessions as text: what is typed, what the terminal must show then, and where both come from.

A session file is read by people first. Line by line:

    == 308-311 S25: commit gives the new image's id      a block: lines of the lab it types, rows of features.md, title
    !! 147-177 S09: needs the Hub                        part of the lab that is left out, with the reason
    %% Dockerfile                                        a file is written; its lines follow, up to a line `%%`
    $ docker commit web                                  typed at the shell
    >> exit                                              typed at a container's prompt, or as the answer that a command
                                                         asks for (^P ^Q ^C ^D: control keys)
    sha256:<NEW:sha256>                                  what must appear; what matched is kept as NEW
    $ docker run -ti <NEW>                               and typed here
    ...                                                  any lines, also none
    [exit 125]                                           the command's status, else 0
    ;; a remark

Placeholders: `<id>` 12 hex digits, `<sha256>` 64, `<size>` (`168MB`), `<age>` (`2 hours ago`), `<number>`,
`<word>` (no blank), `<*>` (anything). Two or more blanks match any run of them, because the width of a table depends
on what is in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from lamina.values import dataclass, field

KINDS = {
    "id": r"[0-9a-f]{12}",
    "sha256": r"[0-9a-f]{64}",
    "size": r"[0-9]+(?:\.[0-9]+)?\ ?[kMGT]?B",
    "age": r"(?:Less\ than\ a\ second|About\ an?\ \w+|[0-9]+\ \w+)(?:\ ago)?",
    "number": r"[0-9]+(?:\.[0-9]+)?",
    "word": r"\S+",
    "*": r".*?",
}
_PLACEHOLDER = re.compile(
    r"<(?:(?P<name>[A-Z][A-Z0-9_]*)(?::(?P<kind>\w+))?|(?P<bare>id|sha256|size|age|number|word|\*))>"
)
_KNOWN = re.compile(r"<([A-Z][A-Z0-9_]*)>")
_HEAD = re.compile(r"(?P<sign>==|!!) (?P<lines>\S+)(?P<rows>(?: [SCDBR][0-9]+)*): (?P<title>.+)")
_STATUS = re.compile(r"\[exit (?P<status>[0-9]+)\]")
_KEYS = re.compile(r"\^([A-Z])")


class Mismatch(AssertionError):
    """What appeared is not what the session says."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing typed.

    Attributes:
        text: as written, placeholders not yet filled in.
        inside: typed at a container's prompt rather than at the shell's.
        shows: expected lines.
        status: expected exit status; None while a container's prompt is what comes back.
        line: where it stands in the file.
        file: the name of a file to write instead; then `text` is its content.
    """

    text: str
    inside: bool
    line: int
    shows: tuple[str, ...] = ()
    status: int = 0
    file: str = ""


@dataclass(frozen=True, slots=True)
class Block:
    """Steps that belong together.

    Attributes:
        lines: of the lab (`308-311`), `-` for preparation of our own.
        rows: of the table of features (`S25`).
        title: what it shows; for a part that is left out the reason.
        left_out: not played.
        steps: in order.
    """

    lines: str
    rows: tuple[str, ...]
    title: str
    left_out: bool = False
    steps: tuple[Step, ...] = field(default=())


def parse(text: str) -> list[Block]:
    """The blocks of a session file.

    Raises:
        ValueError: with the line that makes no sense.
    """
    blocks: list[Block] = []
    heads: list[re.Match[str]] = []
    steps: list[list[Step]] = []
    lines = iter(enumerate(text.splitlines(), 1))
    for number, line in lines:
        if line.startswith(";;") or (not line.strip() and not (steps and steps[-1])):
            continue
        if head := _HEAD.fullmatch(line):
            heads.append(head)
            steps.append([])
        elif line.startswith(("==", "!!")) or not steps or heads[-1]["sign"] == "!!":
            raise ValueError(f"line {number}: {line!r} is no part of a block")
        elif line.startswith("%% "):
            steps[-1].append(Step(_file_body(lines), inside=False, line=number, file=line[3:]))
        elif line.startswith(("$ ", ">> ")):
            steps[-1].append(Step(line.partition(" ")[2], inside=line[0] == ">", line=number))
        else:
            steps[-1][-1] = _with_expectation(steps[-1][-1], line)
    for head, found in zip(heads, steps, strict=True):
        blocks.append(
            Block(
                head["lines"],
                tuple(head["rows"].split()),
                head["title"],
                head["sign"] == "!!",
                tuple(map(_trimmed, found)),
            )
        )
    return blocks


def _file_body(lines: Iterator[tuple[int, str]]) -> str:
    body: list[str] = []
    number = 0
    for number, line in lines:  # noqa: B007 - named in the error
        if line == "%%":
            return "".join(f"{one}\n" for one in body)
        body.append(line)
    raise ValueError(f"line {number}: the file before has no closing %%")


def _with_expectation(step: Step, line: str) -> Step:
    if status := _STATUS.fullmatch(line):
        return Step(step.text, step.inside, step.line, step.shows, int(status["status"]))
    if step.file:
        if line.strip():
            raise ValueError(f"line {step.line}: output after a file")
        return step
    return Step(step.text, step.inside, step.line, (*step.shows, line), step.status)


def _trimmed(step: Step) -> Step:
    """Without the blank lines that set the next step apart."""
    shows = list(step.shows)
    while shows and not shows[-1].strip():
        shows.pop()
    return Step(step.text, step.inside, step.line, tuple(shows), step.status, step.file)


def fill_in(text: str, known: Mapping[str, str]) -> str:
    """The text with the names that are known; anything else between angle brackets stays (shell redirections)."""
    return _KNOWN.sub(lambda found: known.get(found[1], found[0]), text)


def keys(text: str) -> bytes:
    """What a terminal sends for the text: control keys where it consists of nothing else, else a line with Enter."""
    if re.fullmatch(rf"(?:{_KEYS.pattern})+", text):
        return bytes(ord(key) & 0x1F for key in _KEYS.findall(text))
    return text.encode() + b"\r"


def _line_pattern(line: str, known: Mapping[str, str], kept: set[str]) -> str:
    parts: list[str] = []
    end = 0
    for found in _PLACEHOLDER.finditer(line):
        parts.append(_literal(line[end : found.start()]))
        end = found.end()
        name, kind = found["name"], found["kind"] or found["bare"]
        if name in known:
            parts.append(re.escape(known[name]))
        elif name in kept:
            parts.append(f"(?P={name})")
        elif name and kind:
            kept.add(name)
            parts.append(f"(?P<{name}>{KINDS[kind]})")
        elif name:
            parts.append(re.escape(found[0]))
        else:
            parts.append(KINDS[kind])
    parts.append(_literal(line[end:].rstrip()))
    return "".join(parts) + " *"


def _literal(text: str) -> str:
    return re.sub(r"(?:\\ ){2,}", "[ ]{2,}", re.escape(text))


def compare(shows: Sequence[str], seen: Sequence[str], known: Mapping[str, str]) -> dict[str, str]:
    """What was kept by name, when the lines seen are as expected.

    Raises:
        Mismatch: with both, and the first expected line that has no counterpart.
    """
    kept: set[str] = set()
    pattern = "".join("(?:.*\\n)*?" if line == "..." else _line_pattern(line, known, kept) + "\\n" for line in shows)
    text = "".join(f"{line}\n" for line in seen)
    if found := re.fullmatch(pattern, text):
        return found.groupdict()
    raise Mismatch(
        "expected:\n"
        + "".join(f"  {line}\n" for line in shows or ["(nothing)"])
        + "appeared:\n"
        + "".join(f"  {line}\n" for line in _shortened(seen) or ["(nothing)"])
        + _first_missing(shows, text, known)
    )


def _shortened(lines: Sequence[str]) -> Sequence[str]:
    return lines if len(lines) <= 60 else [*lines[:20], f"[{len(lines) - 60} lines]", *lines[-40:]]


def _first_missing(shows: Sequence[str], text: str, known: Mapping[str, str]) -> str:
    for count in range(1, len(shows) + 1):
        kept: set[str] = set()
        start = "".join(
            "(?:.*\\n)*?" if line == "..." else _line_pattern(line, known, kept) + "\\n" for line in shows[:count]
        )
        if not re.match(start, text):
            return f"first expected line without a counterpart: {shows[count - 1]!r}"
    return "more appeared than expected"
