"""From a raw request path to a resource, strictly (threat 49).

Each segment is decoded once and alone, so that `%2f` never becomes a separator and `%2e%2e` meets the grammar as `..`.
A name may hold any of the protocol's own words (`a/manifests/b`), so routes are told from their end.
"""

from __future__ import annotations

from enum import Enum
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

from lamina.registry.errors import NameInvalid, RouteUnknown
from lamina.registry.names import Repository, parse_repository
from lamina.values import dataclass

_CACHEABLE: Final = 512
_NONE: Final = Repository("")


class Resource(Enum):
    """The resources of the distribution protocol."""

    BASE = "base"
    CATALOG = "catalog"
    MANIFEST = "manifest"
    BLOB = "blob"
    UPLOADS = "uploads"
    UPLOAD = "upload"
    TAGS = "tags"
    REFERRERS = "referrers"


@dataclass(frozen=True, slots=True)
class Route:
    """A resource, its repository, and the last part: a reference, a digest, a session. The last is not parsed yet."""

    resource: Resource
    repository: Repository = _NONE
    last: str = ""


def parse_route(path: str) -> Route:
    """The resource behind a raw path, without its query.

    Raises:
        RouteUnknown: it is no path of the protocol.
        NameInvalid: the repository's name breaks the grammar.
    """
    return _cached(path) if len(path) <= _CACHEABLE else _parse(path)


def _parse(path: str) -> Route:
    segments = [_decode(segment) for segment in path.split("/")]
    if segments[:2] != ["", "v2"]:
        raise RouteUnknown
    match segments[2:]:
        case [] | [""]:
            return Route(Resource.BASE)
        case ["_catalog"]:
            return Route(Resource.CATALOG)
        case [*name, "blobs", "uploads", ""] | [*name, "blobs", "uploads"]:
            return Route(Resource.UPLOADS, _name(name))
        case [*name, "blobs", "uploads", upload]:
            return Route(Resource.UPLOAD, _name(name), upload)
        case [*name, "blobs", digest]:
            return Route(Resource.BLOB, _name(name), digest)
        case [*name, "manifests", reference]:
            return Route(Resource.MANIFEST, _name(name), reference)
        case [*name, "referrers", digest]:
            return Route(Resource.REFERRERS, _name(name), digest)
        case [*name, "tags", "list"]:
            return Route(Resource.TAGS, _name(name))
        case _:
            raise RouteUnknown


_cached = lru_cache(maxsize=8192)(_parse)


def _name(segments: list[str]) -> Repository:
    return parse_repository("/".join(segments))


def _decode(segment: str) -> str:
    if "%" not in segment:
        return segment
    decoded = unquote(segment, errors="replace")
    if "/" in decoded:
        raise NameInvalid(decoded)
    return decoded
