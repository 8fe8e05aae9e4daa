"""The distribution protocol as values: what to ask, and how to read the answers. No I/O.

Request builders return a `Call`; response parsers take headers and bodies. Section names are distribution-spec 1.1.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote, urlencode

from lamina.errors import Integrity, Invalid
from lamina.spec import distribution as dist
from lamina.spec import mediatype
from lamina.spec.digest import Digest
from lamina.spec.reference import Repository, is_tag
from lamina.transports.remote.auth import CATALOG_SCOPE, delete_scope, pull_scope, push_scope
from lamina.transports.remote.wire import Body
from lamina.values import dataclass, field

_RANGE = re.compile(r"(?:bytes[= ])?0-(\d+)")
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(?:\d+|\*)")
_LINK = re.compile(r'\s*<([^>]*)>\s*((?:;\s*[\w-]+\s*=\s*(?:"[^"]*"|[^\s;,]+)\s*)*)(?:,|$)')


@dataclass(frozen=True, slots=True)
class Call:
    """A request before it has an origin.

    Attributes:
        scopes: what it needs to be allowed, for the token server.
        expect: statuses that are no failure.
        follow: whether redirects are followed (never for bodies).
        retry: whether a failed try may be repeated as it is.
    """

    method: str
    target: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body = None
    scopes: tuple[str, ...] = ()
    expect: frozenset[int] = frozenset({200})
    follow: bool = True
    retry: bool = True


class BadAnswer(Invalid):
    """A registry answered something that the protocol does not know."""


class WrongManifest(Integrity):
    """A registry answered other bytes than those the digest names (threat 48)."""

    def __init__(self, wanted: object, got: Digest) -> None:
        super().__init__(f"manifest {wanted}: the registry answered {got}")
        self.wanted, self.got = wanted, got


def ping() -> Call:
    """Is there a registry? (section Determining Support)."""
    return Call("GET", dist.PING_PATH)


def get_manifest(repository: Repository, identifier: str, *, head: bool = False) -> Call:
    """A manifest by tag or digest (section Pulling manifests)."""
    return Call(
        "HEAD" if head else "GET",
        dist.manifest_path(repository.path, identifier),
        {"Accept": ", ".join(mediatype.ACCEPT_MANIFESTS)},
        scopes=(pull_scope(repository.path),),
    )


def put_manifest(repository: Repository, identifier: str, media_type: str, raw: bytes) -> Call:
    """Store a manifest (section Pushing Manifests)."""
    return Call(
        "PUT",
        dist.manifest_path(repository.path, identifier),
        {"Content-Type": media_type},
        raw,
        (push_scope(repository.path),),
        frozenset({200, 201, 202}),
        follow=False,
    )


def delete_manifest(repository: Repository, identifier: str) -> Call:
    """Remove a tag, or a manifest by digest (section Content Management)."""
    path = dist.manifest_path(repository.path, identifier)
    return Call("DELETE", path, scopes=(delete_scope(repository.path),), expect=frozenset({200, 202}), follow=False)


def get_blob(repository: Repository, digest: Digest, offset: int = 0) -> Call:
    """A blob, or what is left of it (section Pulling blobs; RFC 9110 section 14)."""
    headers = {"Range": f"bytes={offset}-"} if offset else {}
    expect = frozenset({200, 206}) if offset else frozenset({200})
    path = dist.blob_path(repository.path, digest)
    return Call("GET", path, headers, scopes=(pull_scope(repository.path),), expect=expect)


def head_blob(repository: Repository, digest: Digest, *, scope: str) -> Call:
    """Is a blob there? 404 is an answer (section Checking if content exists in the registry)."""
    return Call("HEAD", dist.blob_path(repository.path, digest), scopes=(scope,), expect=frozenset({200, 404}))


def start_upload(repository: Repository) -> Call:
    """Begin an upload (section Pushing a blob in chunks, POST then PUT)."""
    return Call(
        "POST",
        dist.uploads_path(repository.path),
        {"Content-Length": "0"},
        scopes=(push_scope(repository.path),),
        expect=frozenset({202}),
        follow=False,
    )


def mount(repository: Repository, digest: Digest, source: Repository) -> Call:
    """Adopt a blob from another repository: 201, or 202 with an upload begun instead (section Mounting a blob)."""
    query = urlencode({"mount": str(digest), "from": source.path}, safe=":/")
    return Call(
        "POST",
        f"{dist.uploads_path(repository.path)}?{query}",
        {"Content-Length": "0"},
        scopes=(push_scope(repository.path), pull_scope(source.path)),
        expect=frozenset({201, 202}),
        follow=False,
    )


def list_tags(repository: Repository, *, last: str = "", count: int = 0) -> Call:
    """One page of tags (section Content Discovery)."""
    query = urlencode([(key, value) for key, value in (("n", str(count or "")), ("last", last)) if value])
    target = dist.tags_path(repository.path) + (f"?{query}" if query else "")
    return Call("GET", target, scopes=(pull_scope(repository.path),))


def list_repositories(*, last: str = "", count: int = 0) -> Call:
    """One page of the catalog (Docker's extension)."""
    query = urlencode([(key, value) for key, value in (("n", str(count or "")), ("last", last)) if value])
    return Call("GET", dist.CATALOG_PATH + (f"?{query}" if query else ""), scopes=(CATALOG_SCOPE,))


def list_referrers(repository: Repository, digest: Digest, artifact_type: str = "") -> Call:
    """What refers to a manifest; 404 means that the registry lacks the API (section Listing Referrers)."""
    query = f"?artifactType={quote(artifact_type, safe='')}" if artifact_type else ""
    return Call(
        "GET",
        dist.referrers_path(repository.path, digest) + query,
        {"Accept": mediatype.OCI_INDEX},
        scopes=(pull_scope(repository.path),),
        expect=frozenset({200, 404}),
    )


def received(range_header: str) -> int:
    """How many bytes an upload session holds, from `Range: 0-N`; 0 when it says nothing."""
    match = _RANGE.fullmatch(range_header.strip())
    if match is None:
        return 0
    last = int(match[1])
    return last + 1 if last else 0


def content_start(content_range: str) -> int | None:
    """The first byte of a partial answer, None when unreadable."""
    match = _CONTENT_RANGE.fullmatch(content_range.strip())
    return int(match[1]) if match else None


def next_link(headers: Sequence[str]) -> str | None:
    """The target of `rel=next` (RFC 8288)."""
    for header in headers:
        for match in _LINK.finditer(header[: 8 << 10]):
            if re.search(r';\s*rel\s*=\s*"?next"?\s*(;|$)', match[2], re.IGNORECASE):
                return match[1]
    return None


def names(body: bytes, key: str) -> list[str]:
    """The list under `tags` or `repositories`; null counts as empty.

    Raises:
        BadAnswer: no such document.
    """
    try:
        document: Any = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    found = document.get(key) if isinstance(document, dict) else [0]
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise BadAnswer(f"the registry's list of {key} is malformed")
    return [name for name in found if key != "tags" or is_tag(name)]


def digest_header(value: str) -> Digest | None:
    """Docker-Content-Digest, None when absent.

    Raises:
        InvalidDigest: it is there and malformed (threat 11).
    """
    return Digest.parse(value.strip()) if value.strip() else None


def check_manifest(raw: bytes, identifier: str, announced: Digest | None) -> Digest:
    """Hash a manifest that was received and compare with what was asked for and announced.

    Returns:
        its digest, in the algorithm asked for.

    Raises:
        WrongManifest: it is another one (threats 10 and 48).
    """
    for wanted in (Digest.parse(identifier) if ":" in identifier else None, announced):
        if wanted is not None and (got := Digest.of(raw, wanted.algorithm)) != wanted:
            raise WrongManifest(wanted, got)
    return Digest.parse(identifier) if ":" in identifier else announced or Digest.of(raw)


UPLOAD_TYPE: Final = {"Content-Type": mediatype.OCTET_STREAM}
