"""Writes the generated pages of docs/ from their tables.

    python scripts/docs.py            write
    python scripts/docs.py --check    only say, by exit code 1, which pages are not current

Only the standard library is used, so that it runs before anything is installed.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent.parent / "docs"
MARK = {"yes": "yes", "part": "in part", "no": "not yet"}


def compatibility(table: dict[str, Any]) -> str:
    """The page of commands next to the docker CLI, from compatibility.toml."""
    meta, commands = table["meta"], table["command"]
    lines = [
        "# Compatibility with the docker command line",
        "",
        "<!-- Written by scripts/docs.py from compatibility.toml: edit that file, then run `make docs`. -->",
        "",
        f"Type `lamina` where you typed `docker`; the reference is {meta['reference']}. *yes* means the flags that",
        "most people use, with the same output and exit codes; *in part* works, and the note says what is missing;",
        "*not yet* is refused with one clear line.",
        "",
        "| command | also | works | flags | note |",
        "|---|---|---|---|---|",
    ]
    for command in sorted(commands, key=lambda entry: str(entry["name"])):
        flags = " ".join(f"`{flag}`" for flag in command.get("flags", []))
        also = ", ".join(f"`{name}`" for name in command.get("also", []))
        note = command.get("notes", "").replace("|", "\\|")
        lines.append(f"| `{command['name']}` | {also} | {MARK[command['status']]} | {flags} | {note} |")
    counts = {status: sum(entry["status"] == status for entry in commands) for status in MARK}
    lines += ["", f"{counts['yes']} work, {counts['part']} work in part, {counts['no']} are to come.", ""]
    for section in table.get("behaviour", []):
        lines += [f"## {section['title']}", "", section["text"].strip(), ""]
    return "\n".join(lines)


PAGES: dict[str, tuple[str, Callable[[dict[str, Any]], str]]] = {
    "compatibility.md": ("compatibility.toml", compatibility),
}


def main(arguments: list[str]) -> int:
    """Write or check every page; the exit code is 1 when a check finds a stale page."""
    check, stale = arguments == ["--check"], []
    if arguments and not check:
        print(__doc__)
        return 2
    for name, (source, render) in PAGES.items():
        text = render(tomllib.loads((DOCS / source).read_text()))
        page = DOCS / name
        if page.exists() and page.read_text() == text:
            continue
        stale.append(name)
        if not check:
            page.write_text(text)
    for name in stale:
        print(f"docs/{name}: " + ("not current, run `make docs`" if check else "written"))
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
