"""A registry client for tests that says exactly what it is told to, and small images to push with it."""

from __future__ import annotations

import hashlib
import http.client
import json
from typing import Any

from lamina.spec import mediatype
from lamina.values import dataclass


@dataclass
class Reply:
    """An answer, read to its end."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def codes(self) -> list[str]:
        """The error codes in the body."""
        return [entry["code"] for entry in self.json()["errors"]]


def digest_of(data: bytes, algorithm: str = "sha256") -> str:
    """The digest of bytes, as text."""
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


class Client:
    """Each request on a connection of its own; nothing is normalised, followed or retried."""

    def __init__(self, address: str) -> None:
        self.address = address

    def request(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Reply:
        """One request; a body that is an iterator is sent in chunks."""
        connection = http.client.HTTPConnection(self.address, timeout=30)
        try:
            connection.request(method, path, body, headers or {}, encode_chunked=not isinstance(body, bytes | None))
            response = connection.getresponse()
            return Reply(response.status, response.headers, response.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Reply:
        """GET with headers given as `Name_Of_Header=value`."""
        return self.request("GET", path, headers={key.replace("_", "-"): value for key, value in headers.items()})

    def push_blob(self, repository: str, data: bytes) -> str:
        """Push a blob in one request; its digest."""
        digest = digest_of(data)
        assert self.request("POST", f"/v2/{repository}/blobs/uploads/?digest={digest}", data).status == 201
        return digest

    def begin(self, repository: str, query: str = "") -> str:
        """Open an upload session; its location."""
        reply = self.request("POST", f"/v2/{repository}/blobs/uploads/{query}")
        assert reply.status == 202
        return reply.headers["Location"]

    def push_manifest(
        self, repository: str, reference: str, document: dict[str, Any] | bytes, media_type: str | None = None
    ) -> Reply:
        """Push a manifest under its own media type, or under another."""
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        kind = media_type or (document["mediaType"] if isinstance(document, dict) else mediatype.OCI_MANIFEST)
        return self.request("PUT", f"/v2/{repository}/manifests/{reference}", data, {"Content-Type": kind})

    def push_image(self, repository: str, tag: str, **fields: Any) -> str:
        """A small image whose blobs are there; its digest."""
        document = self.image(repository, **fields)
        reply = self.push_manifest(repository, tag, document)
        assert reply.status == 201, reply.body
        return reply.headers["Docker-Content-Digest"]

    def image(self, repository: str, layer: bytes = b"layer", **fields: Any) -> dict[str, Any]:
        """The manifest of a small image whose blobs have been pushed."""
        config = b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}'
        self.push_blob(repository, config)
        self.push_blob(repository, layer)
        return manifest_of(config, layer) | fields


def descriptor(data: bytes, media_type: str) -> dict[str, Any]:
    """A descriptor of bytes, as JSON."""
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}


def manifest_of(config: bytes, *layers: bytes) -> dict[str, Any]:
    """An image manifest, as JSON."""
    return {
        "schemaVersion": 2,
        "mediaType": mediatype.OCI_MANIFEST,
        "config": descriptor(config, mediatype.OCI_CONFIG),
        "layers": [descriptor(layer, mediatype.OCI_LAYER) for layer in layers],
    }


def index_of(*children: dict[str, Any]) -> dict[str, Any]:
    """An index, as JSON."""
    return {"schemaVersion": 2, "mediaType": mediatype.OCI_INDEX, "manifests": list(children)}
