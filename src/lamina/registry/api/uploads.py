"""Upload sessions: POST, PATCH, PUT, GET, DELETE below /v2/NAME/blobs/uploads/ (R04-R08)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

from lamina.registry.api.body import Gone, hung_up, pour
from lamina.registry.api.call import Call
from lamina.registry.api.wire import empty
from lamina.registry.errors import SizeMismatch, UploadInvalid, UploadOutOfOrder
from lamina.registry.names import Repository, parse_repository
from lamina.registry.uploads import UploadWriter
from lamina.spec.digest import HEX_LENGTH, Digest
from lamina.spec.distribution import CONTENT_DIGEST, UPLOAD_UUID, blob_path, uploads_path

#: `first-last`, as the protocol has it; HTTP's own `bytes first-last/total` is understood as well.
_CONTENT_RANGE: Final = re.compile(r"(?:bytes[ =])?\s*(\d{1,18})-(\d{1,18})(?:/(?:\d+|\*))?")


async def begin(call: Call) -> web.StreamResponse:
    """Open a session, or mount a blob (`?mount=`), or take a whole blob at once (`?digest=`)."""
    query = call.query()
    if "mount" in query and await _mount(call, query["mount"][-1], query.get("from", [""])[-1]):
        return _created(call, Digest.parse(query["mount"][-1]))
    digest = Digest.parse(query["digest"][-1]) if "digest" in query else None
    algorithm = query.get("digest-algorithm", [digest.algorithm if digest else "sha256"])[-1]
    if algorithm not in HEX_LENGTH:
        raise UploadInvalid(f"unsupported digest algorithm {algorithm[:40]!r}")
    repository = call.route.repository
    if digest is None:
        return _progress(call, await call.run(call.registry.uploads.begin, repository, algorithm), 0, 202)
    writer = await call.run(call.registry.uploads.single, repository, digest.algorithm)
    try:
        await pour(call, writer)
        await call.bulk(writer.finish, digest)
    finally:
        await call.run(writer.close)
    return _created(call, digest)


async def _mount(call: Call, digest_text: str, source_text: str) -> bool:
    digest = Digest.parse(digest_text)
    source: Repository | None = parse_repository(source_text) if source_text else None
    repository = call.route.repository
    return await call.run(call.registry.blobs.mount, repository, digest, source, call.may_pull)


async def append(call: Call) -> web.StreamResponse:
    """PATCH: add a chunk, in order when it says where it goes, at the end when it does not."""
    async with _taken(call, call.route.last) as writer:
        await _receive(call, writer)
        return _progress(call, call.route.last, writer.offset, 202)


async def finish(call: Call) -> web.StreamResponse:
    """PUT: add the last chunk, if any, verify, and make it a blob."""
    query = call.query()
    if "digest" not in query:
        raise UploadInvalid("the digest parameter is missing")
    digest = Digest.parse(query["digest"][-1])
    async with _taken(call, call.route.last) as writer:
        await _receive(call, writer)
        await call.bulk(writer.finish, digest)
    return _created(call, digest)


async def status(call: Call) -> web.StreamResponse:
    """GET: how far did it come? The client resumes from there (F14)."""
    async with _taken(call, call.route.last) as writer:
        return _progress(call, call.route.last, writer.offset, 204)


async def cancel(call: Call) -> web.StreamResponse:
    """DELETE: forget the session and its bytes."""
    await call.run(call.registry.uploads.cancel, call.route.repository, call.route.last)
    return empty(204)


async def _receive(call: Call, writer: UploadWriter) -> None:
    """Take a chunk after comparing what it says of itself with the session."""
    text = call.request.headers.get("Content-Range")
    if text is not None:
        match = _CONTENT_RANGE.fullmatch(text.strip())
        if match is None:
            raise UploadInvalid(f"invalid Content-Range {text[:80]!r}")
        first, last = int(match[1]), int(match[2])
        if first != writer.offset:
            raise UploadOutOfOrder(call.route.last, writer.offset)
        declared = call.request.content_length
        if last < first or (declared is not None and declared != last - first + 1):
            raise SizeMismatch(f"Content-Range {first}-{last} does not fit Content-Length {declared}")
    elif hung_up(call.request):
        # It may have come back and resumed before we got to this: bytes that do not say where they go stay out.
        raise Gone("the client left before its request began")
    start = writer.offset
    await pour(call, writer)
    if text is not None and match is not None and writer.offset - start != last - first + 1:
        raise SizeMismatch(f"Content-Range {first}-{last} came with {writer.offset - start} bytes")


@asynccontextmanager
async def _taken(call: Call, upload: str) -> AsyncIterator[UploadWriter]:
    """A session taken for writing, let go of at the end whatever happens."""
    writer = await call.run(call.registry.uploads.open, call.route.repository, upload)
    try:
        yield writer
    finally:
        await call.run(writer.close)


def _location(call: Call, upload: str) -> str:
    return uploads_path(call.route.repository) + upload


def _progress(call: Call, upload: str, offset: int, status_code: int) -> web.Response:
    """The state of a session; an empty one is `0-0` too, for that is what clients expect (R04)."""
    headers = {"Location": _location(call, upload), UPLOAD_UUID: upload, "Range": f"0-{max(0, offset - 1)}"}
    return empty(status_code, headers)


def _created(call: Call, digest: Digest) -> web.Response:
    return empty(201, {"Location": blob_path(call.route.repository, digest), CONTENT_DIGEST: str(digest)})
