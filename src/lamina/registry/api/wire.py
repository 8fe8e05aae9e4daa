"""Answers that several resources share: lists with links, empty answers, documents."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

from aiohttp import web

from lamina.spec.distribution import API_VERSION, API_VERSION_HEADER

SERVER: Final = "lamina"


def stamp(response: web.StreamResponse) -> None:
    """The headers that every answer carries (R01)."""
    response.headers[API_VERSION_HEADER] = API_VERSION
    response.headers["Server"] = SERVER


def empty(status: int, headers: Mapping[str, str] | None = None) -> web.Response:
    """An answer without a body."""
    return web.Response(status=status, headers=headers)


def document(value: Any, *, content_type: str = "application/json") -> web.Response:
    """A JSON answer."""
    body = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    return web.Response(body=body, headers={"Content-Type": content_type})


def link_next(response: web.Response, path: str, fields: Mapping[str, str]) -> None:
    """Point at the next page (distribution-spec, section Listing Tags; RFC 5988)."""
    response.headers["Link"] = f'<{path}?{urlencode(fields)}>; rel="next"'
