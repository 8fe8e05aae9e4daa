"""GET /v2/_catalog (R13): the repositories that the caller may pull from."""

from __future__ import annotations

from aiohttp import web

from lamina.registry.api.call import Call
from lamina.registry.api.wire import document, link_next
from lamina.spec.distribution import CATALOG_PATH


async def list_repositories(call: Call) -> web.StreamResponse:
    """One page of names."""
    count, last = call.page()
    page = await call.run(call.registry.listing.repositories, count, last, call.may_pull)
    response = document({"repositories": page.items})
    if page.more:
        link_next(response, CATALOG_PATH, {"n": str(len(page.items)), "last": page.items[-1]})
    return response
