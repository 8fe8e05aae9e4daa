"""What can go wrong with a template, in the words of Go's text/template."""

from __future__ import annotations

from lamina.errors import Invalid


class TemplateError(Invalid):
    """A template could not be parsed or executed.

    Attributes:
        detail: Go's own text (`template: :1:2: executing "" at <.id>: ...`).
        exit_status: what docker exits with: 64 for a parse error, 1 for an execution error.
    """

    exit_status = 1

    def __init__(self, detail: str) -> None:
        super().__init__(f"template parsing error: {detail}")
        self.detail = detail


class TemplateSyntaxError(TemplateError):
    """The text is not a template (C53: docker exits 64)."""

    exit_status = 64


class TemplateExecError(TemplateError):
    """The template does not fit the value (docker uses the same prefix and exits 1)."""
