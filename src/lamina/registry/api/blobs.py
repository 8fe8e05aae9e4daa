"""GET, HEAD, DELETE /v2/NAME/blobs/DIGEST (R03, R12)."""

from __future__ import annotations

from aiohttp import web

from lamina.registry.api.call import Call
from lamina.registry.api.conditions import byte_range, matches
from lamina.registry.api.sendfile import send_file
from lamina.registry.api.wire import empty
from lamina.spec import mediatype
from lamina.spec.digest import Digest
from lamina.spec.distribution import CONTENT_DIGEST


async def get(call: Call) -> web.StreamResponse:
    """The blob, or a range of it."""
    digest = Digest.parse(call.route.last)
    file, size = await call.run(call.registry.blobs.open, call.route.repository, digest)
    with file:
        headers = _headers(digest)
        asked = call.request.headers
        if matches(asked.get("If-None-Match"), headers["ETag"]):
            return empty(304, headers)
        part = byte_range(asked.get("Range"), size) if asked.get("If-Range") in {None, headers["ETag"]} else None
        first, count = part or (0, size)
        response = web.StreamResponse(status=206 if part else 200, headers=headers)
        if part:
            response.headers["Content-Range"] = f"bytes {first}-{first + count - 1}/{size}"
        response.content_length = count
        await send_file(call, response, file, first, count)
        return response


async def head(call: Call) -> web.StreamResponse:
    """What GET would say, without the bytes."""
    digest = Digest.parse(call.route.last)
    size = await call.run(call.registry.blobs.stat, call.route.repository, digest)
    return web.Response(headers=_headers(digest) | {"Content-Length": str(size)})


async def delete(call: Call) -> web.StreamResponse:
    """The repository does not hold the blob any more."""
    await call.run(call.registry.blobs.delete, call.route.repository, Digest.parse(call.route.last))
    return empty(202)


def _headers(digest: Digest) -> dict[str, str]:
    return {
        "Content-Type": mediatype.OCTET_STREAM,
        CONTENT_DIGEST: str(digest),
        "ETag": f'"{digest}"',
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, max-age=31536000, immutable",
        "X-Content-Type-Options": "nosniff",
    }
