"""Annotation keys (image-spec, annotations.md) and the Docker and BuildKit keys that clients act on."""

from __future__ import annotations

from typing import Final

CREATED: Final = "org.opencontainers.image.created"
REF_NAME: Final = "org.opencontainers.image.ref.name"
BASE_NAME: Final = "org.opencontainers.image.base.name"
BASE_DIGEST: Final = "org.opencontainers.image.base.digest"
TITLE: Final = "org.opencontainers.image.title"
#: containerd's full reference of an image in an OCI layout; Docker and podman read it on load.
CONTAINERD_NAME: Final = "io.containerd.image.name"
DOCKER_REFERENCE_TYPE: Final = "vnd.docker.reference.type"
DOCKER_REFERENCE_DIGEST: Final = "vnd.docker.reference.digest"
