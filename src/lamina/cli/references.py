"""Names of images on the command line: what docker's client refuses by itself, without asking its daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamina.cli.failures import CliError

if TYPE_CHECKING:
    from lamina.spec.reference import Reference


def reference_of(text: str) -> Reference:
    """The reference that an argument is.

    Raises:
        CliError: it is none; docker's text, without the prefix of its daemon.
    """
    from lamina.spec.reference import InvalidReference, Reference

    try:
        return Reference.parse(text)
    except InvalidReference as error:
        raise CliError(error.message) from None


def reference_or_id(text: str) -> None:
    """Checks a name or an id of an image.

    Raises:
        CliError: it can be neither; docker's text, without the prefix of its daemon.
    """
    # A name of nothing but lower-case letters and digits is one, whatever else it may be.
    if not (text.isascii() and text.isalnum() and text == text.lower()) and not text.startswith("sha256:"):
        reference_of(text)
