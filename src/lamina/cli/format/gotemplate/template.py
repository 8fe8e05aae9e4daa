"""Parse once, execute many times: the face of the template engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lamina.cli.format.gotemplate.evaluator import Evaluator
from lamina.cli.format.gotemplate.functions import FUNCTIONS, Function
from lamina.cli.format.gotemplate.nodes import Node
from lamina.cli.format.gotemplate.parser import Parser


class Template:
    """A parsed template.

    Attributes:
        text: the source.
    """

    def __init__(self, name: str, text: str, templates: Mapping[str, list[Node]]) -> None:
        self.name = name
        self.text = text
        self._templates = templates

    def execute(
        self,
        value: Any,
        *,
        missing_key_is_error: bool = False,
        functions: Mapping[str, Function] = FUNCTIONS,
    ) -> str:
        """The template applied to a value (see `values` for what stands for what).

        Args:
            value: the dot.
            missing_key_is_error: Go's `missingkey=error`, used by docker for the raw JSON of inspect.
            functions: implementations, by name.

        Raises:
            TemplateExecError: with Go's message, position and context.
        """
        return Evaluator(self.name, self.text, self._templates, functions, missing_key_is_error).run(value)


def parse(text: str, name: str = "") -> Template:
    """Parses a template.

    Raises:
        TemplateSyntaxError: with Go's message; docker exits 64 (C53).
    """
    return Template(name, text, Parser(name, text, FUNCTIONS).parse())
