"""A made-up internet: registry.example in the open, and room for attackers and machines no registry may point at."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from lamina.spec.reference import Reference
from lamina.testing.hostile_registry import FakeNetwork, Handler, HostileServer, Reply, ScriptedRegistry, Seen
from lamina.testing.images import random_image
from lamina.transports.remote.client import Client
from lamina.transports.remote.credentials import Credential, FixedCredentials
from lamina.transports.remote.settings import ClientSettings, Patience
from lamina.values import dataclass, field

SECRET = "s3cret-password"  # noqa: S105 - of nobody
HOST = "registry.example"
NAME = Reference.parse(f"{HOST}/app:1")


@dataclass
class World:
    """Servers behind names; `registry` is honest until a test bends it."""

    network: FakeNetwork
    stack: ExitStack
    registry: ScriptedRegistry = field(default_factory=ScriptedRegistry)
    servers: dict[str, HostileServer] = field(default_factory=dict)
    waits: list[float] = field(default_factory=list)

    def stock(self) -> None:
        """Put `random_image(1)` at NAME."""
        image = random_image(1)
        self.registry.manifests["app:1"] = (image.manifest.raw, image.manifest.media_type)
        self.registry.manifests[f"app:{image.manifest.digest.hex}"] = self.registry.manifests["app:1"]
        self.registry.blobs[str(image.config.id)] = image.config.raw
        for layer in image.layers:
            self.registry.blobs[str(layer.descriptor.digest)] = layer.open().read()

    def serve(self, host: str, address: str, handler: Handler, *, port: int = 80, tls: Any = None) -> HostileServer:
        """Run a server behind a name, an address and a port."""
        server = self.stack.enter_context(HostileServer(handler, tls=tls))
        self.network.add(host, address, port, server)
        self.servers[host] = server
        return server

    def client(self, *, login: bool = False, insecure: tuple[str, ...] = (HOST,), **settings: Any) -> Client:
        """A client of this internet, with a password for HOST on demand; waits are noted, not waited."""
        credentials = FixedCredentials({HOST: Credential("alice", SECRET)} if login else {})
        patience = settings.pop("patience", Patience(connect=5, read=5))
        return self.stack.enter_context(
            Client(
                ClientSettings(
                    credentials=credentials,
                    insecure=insecure,
                    network=self.network,
                    sleep=self.waits.append,
                    jitter=lambda: 0.0,
                    patience=patience,
                    **settings,
                )
            )
        )


def bend(world: World, change: Callable[[Seen], Reply | None]) -> Handler:
    """The honest registry, except where `change` answers."""
    return lambda request: change(request) or world.registry(request)


def certs_d(certificates: Path, tmp_path: Path, *hosts: str) -> str:
    """A certs.d directory that trusts the test CA for some hosts."""
    for host in hosts:
        (tmp_path / "certs.d" / host).mkdir(parents=True)
        (tmp_path / "certs.d" / host / "ca.crt").write_bytes((certificates / "ca.crt").read_bytes())
    return str(tmp_path / "certs.d")
