"""One request on its way through the API: what was asked, by whom, and the threads to do it on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Final, ParamSpec, TypeVar
from urllib.parse import parse_qsl

from aiohttp import web

from lamina.errors import Invalid
from lamina.registry.access import Action, Caller
from lamina.registry.api.routes import Route
from lamina.registry.errors import PageInvalid
from lamina.registry.names import Repository
from lamina.registry.service import Registry
from lamina.values import dataclass

P = ParamSpec("P")
R = TypeVar("R")
_MAX_FIELDS: Final = 200
_MAX_DIGITS: Final = 18


@dataclass(slots=True)
class Threads:
    """Where the synchronous core runs.

    Attributes:
        quick: metadata and small files.
        bulk: hashing and writing of blobs, which may take long.
        send: reading of blobs, which must not wait behind writers (F23).
    """

    quick: Executor
    bulk: Executor
    send: Executor


@dataclass(slots=True)
class Call:
    """A request whose route is known and whose caller may do what it asks."""

    request: web.BaseRequest
    registry: Registry
    threads: Threads
    route: Route
    caller: Caller
    query_text: str

    async def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run something quick on a thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.threads.quick, lambda: function(*args, **kwargs))

    async def bulk(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run something long on a thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.threads.bulk, lambda: function(*args, **kwargs))

    async def send(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run something that feeds the client on a thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.threads.send, lambda: function(*args, **kwargs))

    def query(self) -> dict[str, list[str]]:
        """The query's fields. Raises Invalid for one with too many."""
        fields: dict[str, list[str]] = {}
        try:
            pairs = parse_qsl(self.query_text, keep_blank_values=True, max_num_fields=_MAX_FIELDS)
        except ValueError:
            raise Invalid("query with too many fields") from None
        for key, value in pairs:
            fields.setdefault(key, []).append(value)
        return fields

    def page(self) -> tuple[int | None, str]:
        """The `n` and `last` of a list request (R10); `n` is None when absent.

        Raises:
            PageInvalid: `n` is no natural number.
        """
        fields = self.query()
        last = fields.get("last", [""])[-1]
        if "n" not in fields:
            return None, last
        text = fields["n"][-1]
        if not (text.isascii() and text.isdigit()):
            raise PageInvalid(text)
        return int(text[:_MAX_DIGITS]) if len(text) > _MAX_DIGITS else int(text), last

    def may_pull(self, repository: Repository) -> bool:
        """Whether the caller may read from a repository."""
        return self.caller.may(Action.PULL, repository)
