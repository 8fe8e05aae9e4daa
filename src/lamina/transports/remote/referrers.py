"""Manifests that refer to a manifest: signatures, SBOMs, attestations (distribution-spec, Listing Referrers; R11).

Registries without the API keep the list in an index under a tag made of the digest (Referrers Tag Schema).
"""

from __future__ import annotations

from lamina.errors import LimitExceeded
from lamina.spec import mediatype
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest
from lamina.spec.distribution import CONTENT_DIGEST, OCI_FILTERS_APPLIED, referrers_tag
from lamina.spec.manifest import Index, Manifest, make_index, parse_manifest
from lamina.spec.reference import Repository
from lamina.transports.remote.client import Session
from lamina.transports.remote.failures import Missing
from lamina.transports.remote.origin import Url
from lamina.transports.remote.policy import check_link
from lamina.transports.remote.protocol import (
    BadAnswer,
    check_manifest,
    digest_header,
    get_manifest,
    list_referrers,
    next_link,
    put_manifest,
)
from lamina.values import replace


def referrers(session: Session, repository: Repository, subject: Digest, artifact_type: str = "") -> list[Descriptor]:
    """What refers to `subject`, of one artifact type or all; empty when nothing does.

    Raises:
        BadAnswer, Refused, LimitExceeded: pages that go in circles, elsewhere, or on for ever.
    """
    limits = session.settings.limits
    call = list_referrers(repository, subject, artifact_type)
    url: Url | None = session.url(call.target)
    found: dict[Digest, Descriptor] = {}
    filtered = False
    visited: set[str] = set()
    for _page in range(limits.pages):
        if url is None:
            break
        if str(url) in visited:
            raise BadAnswer("the registry's pages of referrers go in circles")
        visited.add(str(url))
        response = session.fetch(call, url)
        if response.status == 404:
            response.close()
            found |= {entry.digest: entry for entry in _fallback(session, repository, subject)}
            break
        filtered = "artifactType" in response.header(OCI_FILTERS_APPLIED)
        link = next_link(response.headers("Link"))
        raw = response.read_all(limits.manifest, f"referrers of {subject}")
        found |= {entry.digest: entry for entry in _entries(raw)}
        target = Url.parse(link, response.request.url) if link else None
        if target is not None:
            check_link(url, target)
        url = target
    else:
        raise LimitExceeded(f"more than {limits.pages} pages of referrers")
    entries = list(found.values())
    return [entry for entry in entries if filtered or not artifact_type or entry.artifact_type == artifact_type]


def add_to_fallback(session: Session, repository: Repository, manifest: Manifest | Index) -> None:
    """List a pushed manifest under its subject's tag, for a registry that does not do so itself."""
    if manifest.subject is None:
        return
    kind = manifest.artifact_type
    if not kind and isinstance(manifest, Manifest):
        kind = manifest.config.media_type
    entry = replace(manifest.descriptor, artifact_type=kind, annotations=dict(manifest.annotations))
    subject = manifest.subject.digest
    have = [known for known in _fallback(session, repository, subject) if known.digest != entry.digest]
    index = make_index([*have, entry])
    tag = referrers_tag(subject)
    session.call(put_manifest(repository, tag, index.media_type, index.raw)).close()


def _fallback(session: Session, repository: Repository, subject: Digest) -> tuple[Descriptor, ...]:
    tag = referrers_tag(subject)
    try:
        response = session.call(get_manifest(repository, tag))
    except Missing:
        return ()
    raw = response.read_all(session.settings.limits.manifest, f"referrers of {subject}")
    check_manifest(raw, tag, digest_header(response.header(CONTENT_DIGEST)))
    return _entries(raw)


def _entries(raw: bytes) -> tuple[Descriptor, ...]:
    index = parse_manifest(raw, mediatype.OCI_INDEX)
    if not isinstance(index, Index):
        raise BadAnswer("the registry's list of referrers is no index")
    return index.manifests
