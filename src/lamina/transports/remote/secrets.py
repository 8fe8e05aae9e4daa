"""What we told a registry in confidence, and how to keep it out of everything that is shown (threat 60).

A registry, or a token server, sees the password or the token, and may repeat it: in an error's text, in a redirect, in
a header that we quote. So what was sent is remembered here, and struck out of the words that come back.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from urllib.parse import parse_qs, quote, quote_plus

from lamina.errors import LaminaError

#: What stands for a secret.
STRUCK: Final = "[secret]"
#: Shorter ones are found in any text, and striking them out would only tell them.
_SHORTEST: Final = 4
_REMEMBERED: Final = 64


class Secrets:
    """The secrets of one conversation, the latest of them. Safe to use from several threads."""

    def __init__(self) -> None:
        self._spellings: dict[str, tuple[str, ...]] = {}

    def sent(self, authorization: str, form: bytes = b"") -> None:
        """Remember what a request carries.

        Args:
            authorization: its Authorization header, "" without.
            form: its body, when it is a form for a token server.
        """
        scheme, _, value = authorization.partition(" ")
        self._add(value)
        if scheme == "Basic":
            try:
                self._add(base64.b64decode(value).decode().partition(":")[2])
            except (binascii.Error, UnicodeDecodeError):
                pass
        if form:
            for token in parse_qs(form.decode("latin-1")).get("refresh_token", []):
                self._add(token)

    def _add(self, secret: str) -> None:
        if len(secret) < _SHORTEST or secret in self._spellings:
            return
        quoted = {quote(secret), quote(secret, safe=""), quote_plus(secret)}
        spellings = {secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], *quoted}
        self._spellings[secret] = tuple(sorted(spellings, key=len, reverse=True))
        for oldest in list(self._spellings)[:-_REMEMBERED]:
            self._spellings.pop(oldest, None)

    def struck(self, text: str) -> str:
        """A text without them, however they are spelled in it."""
        for spellings in list(self._spellings.values()):
            for spelling in spellings:
                text = text.replace(spelling, STRUCK)
        return text

    def struck_bytes(self, body: bytes) -> bytes:
        """The same for an answer's body."""
        return self.struck(body.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")

    @contextmanager
    def kept(self) -> Iterator[None]:
        """No error gets out of this block with any of them."""
        try:
            yield
        except LaminaError as error:
            self._strike(error)
            raise

    def _strike(self, error: LaminaError) -> None:
        """Take them out of an error: its words, its hint and its facts."""
        error.args = tuple(self.struck(part) if isinstance(part, str) else part for part in error.args)
        for name, value in list(vars(error).items()):
            if isinstance(value, str):
                setattr(error, name, self.struck(value))
