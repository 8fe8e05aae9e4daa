"""WWW-Authenticate challenges (RFC 9110, section 11.6.1), as registries send them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from lamina.values import dataclass

_WORD: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_SCHEME = re.compile(rf"\s*({_WORD})(?:\s+|\s*$|(?=\s*,))")
_PARAM = re.compile(rf'\s*({_WORD})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_WORD}|[^\s,"]+))\s*(?:,|$)')
_MAX: Final = 16 << 10


@dataclass(frozen=True, slots=True)
class Challenge:
    """One scheme a server accepts; `scheme` and parameter names are lower case."""

    scheme: str
    parameters: Mapping[str, str]

    @property
    def realm(self) -> str:
        """The realm, "" when absent."""
        return self.parameters.get("realm", "")


def parse_challenges(headers: Iterable[str]) -> list[Challenge]:
    """Read all challenges from the values of WWW-Authenticate headers; what cannot be read is left out."""
    found: list[Challenge] = []
    for header in headers:
        if len(header) <= _MAX:
            found += _parse(header)
    return found


def _parse(header: str) -> list[Challenge]:
    found: list[Challenge] = []
    position = 0
    while position < len(header):
        param = _PARAM.match(header, position)
        if param is not None and found:
            quoted = param[2]
            value = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else param[3]
            parameters = dict(found[-1].parameters)
            parameters.setdefault(param[1].lower(), value)
            found[-1] = Challenge(found[-1].scheme, parameters)
            position = param.end()
            continue
        scheme = _SCHEME.match(header, position)
        if scheme is None:
            comma = header.find(",", position)
            if comma < 0:
                break
            position = comma + 1
            continue
        found.append(Challenge(scheme[1].lower(), {}))
        position = scheme.end()
    return found
