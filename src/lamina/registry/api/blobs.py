"""GET, HEAD, DELETE /v2/NAME/blobs/DIGEST (R03, R12)."""

from __future__ import annotations

from typing import BinaryIO, Final

from aiohttp import web

from lamina.registry.api.call import Call
from lamina.registry.api.conditions import byte_range, matches
from lamina.registry.api.sendfile import send_file
from lamina.registry.api.wire import empty
from lamina.registry.blobs import Blobs
from lamina.registry.errors import DamagedContent
from lamina.registry.names import Repository
from lamina.spec import mediatype
from lamina.spec.digest import Digest
from lamina.spec.distribution import CONTENT_DIGEST

_SMALL: Final = 64 << 10


async def get(call: Call) -> web.StreamResponse:
    """The blob, or a range of it."""
    digest = Digest.parse(call.route.last)
    file, size, whole = await call.run(_open, call.registry.blobs, call.route.repository, digest)
    with file:
        headers = _headers(digest)
        asked = call.request.headers
        if matches(asked.get("If-None-Match"), headers["ETag"]):
            return empty(304, headers)
        part = byte_range(asked.get("Range"), size) if asked.get("If-Range") in {None, headers["ETag"]} else None
        first, count = part or (0, size)
        status = 206 if part else 200
        if part:
            headers["Content-Range"] = f"bytes {first}-{first + count - 1}/{size}"
        if whole is not None:
            return web.Response(status=status, headers=headers, body=whole[first : first + count])
        response = web.StreamResponse(status=status, headers=headers)
        response.content_length = count
        await send_file(call, response, file, first, count)
        return response


def _open(blobs: Blobs, repository: Repository, digest: Digest) -> tuple[BinaryIO, int, bytes | None]:
    """The file, its size, and its bytes when they are few: a turn on a thread costs more than to copy them."""
    file, size = blobs.open(repository, digest)
    if size > _SMALL:
        return file, size, None
    try:
        data = file.read(size)
        if len(data) != size:
            raise DamagedContent(digest)
    except BaseException:
        file.close()
        raise
    return file, size, data


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
