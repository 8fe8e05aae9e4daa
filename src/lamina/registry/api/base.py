"""GET /v2/: is this a registry? (R01)."""

from __future__ import annotations

from aiohttp import web

from lamina.registry.api.call import Call


async def check(_call: Call) -> web.StreamResponse:
    """200 with an empty object; the version header is on every answer."""
    return web.Response(body=b"{}", content_type="application/json")
