"""TLS contexts for registries, with Docker's certs.d directories (CA and client certificates per registry)."""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence

from lamina.errors import Invalid
from lamina.transports.remote.origin import Origin
from lamina.transports.remote.settings import ClientSettings


class BadCertificate(Invalid):
    """A file under certs.d cannot be used."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path


def tls_context(origin: Origin, settings: ClientSettings) -> ssl.SSLContext:
    """The context for one origin: system roots plus its certs.d; unverified only for registries marked insecure.

    Raises:
        BadCertificate: a file in its certs.d directory is unusable, or a client certificate lacks its key.
    """
    context = ssl.create_default_context()
    if settings.is_insecure(origin.host, origin.port):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if folder := certs_dir(origin, settings.certs_dirs):
        _load(context, folder)
    return context


def certs_dir(origin: Origin, roots: Sequence[str]) -> str | None:
    """The first existing `ROOT/HOST:PORT`, or `ROOT/HOST` for port 443."""
    names = [f"{origin.host}:{origin.port}"] + ([origin.host] if origin.port == 443 else [])
    if origin.host == "registry-1.docker.io":
        names.append("docker.io")
    for root in roots:
        for name in names:
            if os.path.isdir(folder := os.path.join(root, name)):
                return folder
    return None


def _load(context: ssl.SSLContext, folder: str) -> None:
    names = sorted(os.listdir(folder))
    for name in names:
        path = os.path.join(folder, name)
        try:
            if name.endswith(".crt"):
                context.load_verify_locations(path)
            elif name.endswith(".cert"):
                key = name.removesuffix(".cert") + ".key"
                if key not in names:
                    raise BadCertificate(path, f"missing key {key} for client certificate {name}")
                context.load_cert_chain(path, os.path.join(folder, key))
            elif name.endswith(".key") and name.removesuffix(".key") + ".cert" not in names:
                raise BadCertificate(
                    path, f"missing client certificate {name.removesuffix('.key')}.cert for key {name}"
                )
        except (ssl.SSLError, OSError) as error:
            raise BadCertificate(path, str(error)) from None
