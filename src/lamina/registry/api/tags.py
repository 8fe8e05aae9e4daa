"""GET /v2/NAME/tags/list (R10)."""

from __future__ import annotations

from aiohttp import web

from lamina.registry.api.call import Call
from lamina.registry.api.wire import document, link_next
from lamina.spec.distribution import tags_path


async def list_tags(call: Call) -> web.StreamResponse:
    """One page of tags; `n=0` is an empty page without a link."""
    count, last = call.page()
    page = await call.run(call.registry.listing.tags, call.route.repository, count, last)
    response = document({"name": call.route.repository, "tags": page.items})
    if page.more:
        link_next(response, tags_path(call.route.repository), {"n": str(len(page.items)), "last": page.items[-1]})
    return response
