"""The registry protocol's vocabulary: routes, headers, error codes.

Follows distribution-spec 1.1, sections Endpoints and Error Codes.
One table for both sides of the wire: the client reads it, the server answers with it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from enum import Enum
from typing import Any, Final

from lamina.spec.digest import Digest
from lamina.values import dataclass

API_VERSION_HEADER: Final = "Docker-Distribution-Api-Version"
API_VERSION: Final = "registry/2.0"
CONTENT_DIGEST: Final = "Docker-Content-Digest"
UPLOAD_UUID: Final = "Docker-Upload-UUID"
OCI_SUBJECT: Final = "OCI-Subject"
OCI_FILTERS_APPLIED: Final = "OCI-Filters-Applied"
OCI_CHUNK_MIN: Final = "OCI-Chunk-Min-Length"
OCI_TAG: Final = "OCI-Tag"


class Code(Enum):
    """An error code with the status a server answers and what it means."""

    BLOB_UNKNOWN = (404, "blob unknown to registry")
    BLOB_UPLOAD_INVALID = (400, "blob upload invalid")
    BLOB_UPLOAD_UNKNOWN = (404, "blob upload unknown to registry")
    DIGEST_INVALID = (400, "provided digest did not match uploaded content")
    MANIFEST_BLOB_UNKNOWN = (404, "manifest references a manifest or blob unknown to registry")
    MANIFEST_INVALID = (400, "manifest invalid")
    MANIFEST_UNKNOWN = (404, "manifest unknown to registry")
    NAME_INVALID = (400, "invalid repository name")
    NAME_UNKNOWN = (404, "repository name not known to registry")
    PAGINATION_NUMBER_INVALID = (400, "invalid number of results requested")
    RANGE_INVALID = (416, "invalid content range")
    SIZE_INVALID = (400, "provided length did not match content length")
    TAG_INVALID = (400, "manifest tag did not match URI")
    UNAUTHORIZED = (401, "authentication required")
    DENIED = (403, "requested access to the resource is denied")
    UNSUPPORTED = (405, "the operation is unsupported")
    TOOMANYREQUESTS = (429, "too many requests")
    UNAVAILABLE = (503, "service unavailable")
    UNKNOWN = (500, "unknown error")

    @property
    def status(self) -> int:
        """The HTTP status that goes with the code."""
        return self.value[0]

    @property
    def description(self) -> str:
        """The default message."""
        return self.value[1]


@dataclass(frozen=True, slots=True)
class WireError:
    """One entry of an error body."""

    code: str
    message: str = ""
    detail: Any = None


def encode_errors(errors: Iterable[WireError]) -> bytes:
    """The JSON body of a failed request."""
    entries = [
        {"code": error.code, "message": error.message} | ({} if error.detail is None else {"detail": error.detail})
        for error in errors
    ]
    return json.dumps({"errors": entries}).encode()


def decode_errors(body: bytes) -> list[WireError]:
    """The entries of an error body; an empty list when it is none. Never raises: peers answer anything."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return []
    entries = document.get("errors") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        return []
    return [
        WireError(str(entry.get("code", "")), str(entry.get("message", "")), entry.get("detail"))
        for entry in entries
        if isinstance(entry, dict)
    ]


def manifest_path(repository: str, identifier: str | Digest) -> str:
    """GET, HEAD, PUT, DELETE a manifest by tag or digest."""
    return f"/v2/{repository}/manifests/{identifier}"


def blob_path(repository: str, digest: Digest) -> str:
    """GET, HEAD, DELETE a blob."""
    return f"/v2/{repository}/blobs/{digest}"


def uploads_path(repository: str) -> str:
    """POST to begin an upload."""
    return f"/v2/{repository}/blobs/uploads/"


def tags_path(repository: str) -> str:
    """GET the tags of a repository."""
    return f"/v2/{repository}/tags/list"


def referrers_path(repository: str, digest: Digest) -> str:
    """GET the manifests whose subject is a digest."""
    return f"/v2/{repository}/referrers/{digest}"


def referrers_tag(digest: Digest) -> str:
    """The fallback tag that lists referrers on registries without the API (section Referrers Tag Schema)."""
    return f"{digest.algorithm[:32]}-{digest.hex[:64]}"


CATALOG_PATH: Final = "/v2/_catalog"
PING_PATH: Final = "/v2/"
