"""The source tree as parsed modules: what the architecture tests look at."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
SOURCE = PROJECT / "src" / "lamina"


@dataclass(frozen=True)
class Module:
    """One source file. `area` is the top-level package or module it belongs to (`spec`, `errors`)."""

    path: Path

    @property
    def name(self) -> str:
        return str(self.path.relative_to(SOURCE.parent))

    @property
    def area(self) -> str:
        return self.path.relative_to(SOURCE).parts[0].removesuffix(".py")

    def under(self, *folders: str) -> bool:
        inside = self.path.relative_to(SOURCE).as_posix()
        return any(inside == f"{folder}.py" or inside.startswith(f"{folder}/") for folder in folders)

    @cached_property
    def text(self) -> str:
        return self.path.read_text()

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.name)

    def imports(self) -> Iterator[tuple[str, int]]:
        """Every imported module's dotted name and line, lazy imports included."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield alias.name, node.lineno
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                for alias in node.names:
                    yield f"{node.module}.{alias.name}", node.lineno

    def dotted(self) -> Iterator[tuple[str, int]]:
        """Every dotted use of a name (`os.environ.get` gives that, `os.environ` and `os`) with its line."""
        for node in ast.walk(self.tree):
            parts: list[str] = []
            here: ast.expr | None = node if isinstance(node, ast.Attribute | ast.Name) else None
            while isinstance(here, ast.Attribute):
                parts.append(here.attr)
                here = here.value
            if isinstance(here, ast.Name):
                yield ".".join([here.id, *reversed(parts)]), here.lineno


@pytest.fixture(scope="session")
def modules() -> list[Module]:
    return [Module(path) for path in sorted(SOURCE.rglob("*.py"))]
