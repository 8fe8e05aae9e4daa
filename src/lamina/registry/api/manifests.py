"""GET, HEAD, PUT, DELETE /v2/NAME/manifests/REFERENCE (R02, R09, R12)."""

from __future__ import annotations

from aiohttp import web
from multidict import CIMultiDict

from lamina.errors import Invalid
from lamina.registry.api.body import read_all
from lamina.registry.api.call import Call
from lamina.registry.api.conditions import matches
from lamina.registry.api.wire import empty
from lamina.registry.cache import NameCache
from lamina.registry.errors import ManifestTooLarge
from lamina.registry.manifests import StoredManifest
from lamina.registry.names import parse_reference, parse_tag
from lamina.spec.digest import Digest
from lamina.spec.distribution import CONTENT_DIGEST, OCI_SUBJECT, OCI_TAG, manifest_path
from lamina.values import dataclass


@dataclass(frozen=True, slots=True)
class Answer:
    """A manifest ready to be sent."""

    data: bytes
    etag: str
    headers: CIMultiDict[str]

    @classmethod
    def of(cls, stored: StoredManifest) -> Answer:
        """Exactly the bytes and the type that were pushed."""
        digest = str(stored.record.digest)
        etag = f'"{digest}"'
        headers = CIMultiDict({"Content-Type": stored.record.media_type, CONTENT_DIGEST: digest, "ETag": etag})
        return cls(stored.data, etag, headers)


class ManifestReader:
    """GET and HEAD, from memory while the database did not change."""

    def __init__(self, cache: NameCache[Answer]) -> None:
        self._cache = cache

    async def get(self, call: Call) -> web.StreamResponse:
        """The manifest whatever Accept says: digests are never rewritten."""
        route = call.route
        key = (route.repository, route.last)
        answer = self._cache.lookup(key)
        if answer is None:
            reference = parse_reference(route.last)
            generation = self._cache.generation()
            answer = Answer.of(await call.run(call.registry.manifests.get, route.repository, reference))
            self._cache.store(key, answer, generation)
        if matches(call.request.headers.get("If-None-Match"), answer.etag):
            return web.Response(status=304, headers=answer.headers)
        return web.Response(body=answer.data, headers=answer.headers)


async def put(call: Call) -> web.StreamResponse:
    """Store exactly these bytes; several tags may be given with a digest (`?tag=`)."""
    config, repository = call.registry.config, call.route.repository
    reference = parse_reference(call.route.last)
    names = call.query().get("tag", [])
    if names and not isinstance(reference, Digest):
        raise Invalid("tag parameters go with a push by digest only")
    if len(names) > config.max_tags_per_push:
        raise Invalid(f"{len(names)} tags at once exceed the limit of {config.max_tags_per_push}")
    tags = [parse_tag(name) for name in dict.fromkeys(names)]
    data = await read_all(call.request, config, config.max_manifest_bytes, ManifestTooLarge)
    media_type = call.request.headers.get("Content-Type", "")
    record = await call.run(call.registry.manifests.put, repository, reference, media_type, data, tags)
    headers = CIMultiDict({"Location": manifest_path(repository, record.digest), CONTENT_DIGEST: str(record.digest)})
    if record.subject:
        headers[OCI_SUBJECT] = str(record.subject)
    for tag in tags:
        headers.add(OCI_TAG, tag)
    return empty(201, headers)


async def delete(call: Call) -> web.StreamResponse:
    """A tag alone, or a manifest with its tags."""
    await call.run(call.registry.manifests.delete, call.route.repository, parse_reference(call.route.last))
    return empty(202)
