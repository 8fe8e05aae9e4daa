"""From request to answer: route, caller, permission, handler, and every failure as the protocol says it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Final

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from lamina.errors import LaminaError, Unauthorized
from lamina.registry.access import AccessPolicy, Action
from lamina.registry.api import base, blobs, catalog, manifests, referrers, tags, uploads
from lamina.registry.api.body import Gone
from lamina.registry.api.call import Call, Threads
from lamina.registry.api.errors import error_response, failure
from lamina.registry.api.routes import Resource, Route, parse_route
from lamina.registry.api.wire import stamp
from lamina.registry.cache import NameCache
from lamina.registry.errors import AccessDenied, MethodNotAllowed
from lamina.registry.service import Registry
from lamina.spec.distribution import Code

logger = logging.getLogger("lamina.registry")
access_logger = logging.getLogger("lamina.registry.access")

Handler = Callable[[Call], Awaitable[web.StreamResponse]]
_GRACE: Final = 0.2


class Dispatcher:
    """The server's one request handler."""

    def __init__(self, registry: Registry, policy: AccessPolicy, threads: Threads) -> None:
        self._registry, self._policy, self._threads = registry, policy, threads
        self._active: set[RequestHandler] = set()
        self._idle: asyncio.Event | None = None
        reader = manifests.ManifestReader(NameCache(registry.metadata))
        pull, push, remove = Action.PULL, Action.PUSH, Action.DELETE
        self._handlers: dict[Resource, dict[str, tuple[Action | None, Handler]]] = {
            Resource.BASE: _reads(None, base.check),
            Resource.CATALOG: _reads(None, catalog.list_repositories),
            Resource.TAGS: _reads(pull, tags.list_tags),
            Resource.REFERRERS: _reads(pull, referrers.list_referrers),
            Resource.MANIFEST: {
                **_reads(pull, reader.get),
                "PUT": (push, manifests.put),
                "DELETE": (remove, manifests.delete),
            },
            Resource.BLOB: {"GET": (pull, blobs.get), "HEAD": (pull, blobs.head), "DELETE": (remove, blobs.delete)},
            Resource.UPLOADS: {"POST": (push, uploads.begin)},
            Resource.UPLOAD: {
                "GET": (push, uploads.status),
                "PATCH": (push, uploads.append),
                "PUT": (push, uploads.finish),
                "DELETE": (push, uploads.cancel),
            },
        }

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; never raises for what a client did."""
        connection = request.protocol
        self._active.add(connection)
        try:
            return await self._respond(request)
        finally:
            self._active.discard(connection)
            if self._idle is not None and not self._active:
                self._idle.set()

    async def drain(self, connections: Callable[[], Iterable[RequestHandler]], patience: float) -> None:
        """Let running requests end, each with the last answer on its connection, and close the idle connections.

        The framework's own shutdown comes after this: it stops reading bodies, so that no upload could end in it.
        """
        self._idle = asyncio.Event()
        # A request may be in the socket already; it is served, not dropped.
        await asyncio.sleep(min(_GRACE, patience))
        for connection in connections():
            if connection not in self._active:
                connection.close()
        if self._active:
            self._idle.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await self._idle.wait()

    async def _respond(self, request: web.BaseRequest) -> web.StreamResponse:
        path, _, query = request.raw_path.partition("?")
        try:
            response = await self._answer(request, path, query)
        except LaminaError as error:
            response = error_response(error)
        except Gone:
            response = failure(Code.BLOB_UPLOAD_INVALID, "the connection broke", status=400)
            response.force_close()
        except Exception:
            logger.exception("request failed: %s %s", request.method, path[:300])
            response = failure(Code.UNKNOWN)
        if not response.prepared:
            stamp(response)
            if self._idle is not None:
                response.force_close()
        if self._registry.config.access_log:
            access_logger.info("%s %s %s %d", request.remote, request.method, path[:300], response.status)
        return response

    async def _answer(self, request: web.BaseRequest, path: str, query: str) -> web.StreamResponse:
        route = parse_route(path)
        methods = self._handlers[route.resource]
        found = methods.get(request.method)
        if found is None:
            raise MethodNotAllowed(request.method, sorted(methods))
        action, handler = found
        try:
            caller = self._policy.caller(request.headers)
            if action is not None and not caller.may(action, route.repository):
                raise AccessDenied(f"{action.value} access to repository {route.repository} is denied")
        except Unauthorized as error:
            return self._challenge(error, action, route)
        return await handler(Call(request, self._registry, self._threads, route, caller, query))

    def _challenge(self, error: Unauthorized, action: Action | None, route: Route) -> web.Response:
        response = error_response(error)
        challenge = self._policy.challenge(action, route.repository or None)
        if challenge:
            response.headers["WWW-Authenticate"] = challenge
        return response


def _reads(action: Action | None, handler: Handler) -> dict[str, tuple[Action | None, Handler]]:
    return {"GET": (action, handler), "HEAD": (action, handler)}
