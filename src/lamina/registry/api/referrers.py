"""GET /v2/NAME/referrers/DIGEST (R11): always an index, empty when nothing refers."""

from __future__ import annotations

from aiohttp import web

from lamina.registry.api.call import Call
from lamina.registry.api.wire import document, link_next
from lamina.registry.metadata.protocol import ManifestRecord
from lamina.spec import mediatype
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest
from lamina.spec.distribution import OCI_FILTERS_APPLIED, referrers_path


async def list_referrers(call: Call) -> web.StreamResponse:
    """One page of descriptors, filtered by `artifactType` when asked."""
    subject = Digest.parse(call.route.last)
    artifact_type = call.query().get("artifactType", [""])[-1]
    count, last = call.page()
    repository = call.route.repository
    page = await call.run(call.registry.listing.referrers, repository, subject, artifact_type, count, last)
    index = {
        "schemaVersion": 2,
        "mediaType": mediatype.OCI_INDEX,
        "manifests": [_descriptor(record).to_json() for record in page.items],
    }
    response = document(index, content_type=mediatype.OCI_INDEX)
    if artifact_type:
        response.headers[OCI_FILTERS_APPLIED] = "artifactType"
    if page.more:
        fields = {"n": str(len(page.items)), "last": str(page.items[-1].digest)}
        if artifact_type:
            fields["artifactType"] = artifact_type
        link_next(response, referrers_path(repository, subject), fields)
    return response


def _descriptor(record: ManifestRecord) -> Descriptor:
    return Descriptor(
        record.media_type,
        record.digest,
        record.size,
        annotations=record.annotations,
        artifact_type=record.artifact_type,
    )
