"""What a hostile registry tries, and the honest twin of each trick that must keep working (threats 10-14, 39-48)."""

from __future__ import annotations

import io
import json
import resource
import ssl
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lamina.errors import Integrity, Invalid, LaminaError, LimitExceeded
from lamina.image.copy import copy
from lamina.image.partial import MadeImage, MadeLayer
from lamina.image.protocols import Image, is_index
from lamina.image.validate import validate
from lamina.progress import discard
from lamina.spec import mediatype
from lamina.spec.config import ImageConfig, RunConfig
from lamina.spec.digest import Digest, InvalidDigest
from lamina.spec.distribution import Code
from lamina.spec.reference import Reference
from lamina.testing.hostile_registry import HostileServer, Reply, Seen, bearer, error_reply, json_reply
from lamina.testing.images import AMD64, layer_of, random_image
from lamina.testing.made_up_internet import HOST, NAME, SECRET, World, bend, certs_d
from lamina.transports.remote.failures import Unreachable
from lamina.transports.remote.origin import BadUrl, api_origin
from lamina.transports.remote.policy import AddressClass, Refused, Trust, classify
from lamina.transports.remote.protocol import WrongManifest
from lamina.transports.remote.referrers import referrers
from lamina.transports.remote.settings import ClientSettings
from lamina.transports.remote.sink import open_sink
from lamina.transports.remote.source import RemoteSource, open_remote
from lamina.transports.remote.tags import tags


def pull(world: World, **settings: object) -> Image:
    image = open_remote(world.client(**settings), NAME)  # type: ignore[arg-type]
    assert not is_index(image)
    return image


def protected(world: World, realm: str) -> Callable[[Seen], Reply]:
    """The registry, behind a token server at `realm`."""

    def answer(request: Seen) -> Reply:
        if request.headers.get("authorization") == "Bearer good":
            return world.registry(request)
        return bearer(realm)

    return answer


# --- 39: the realm of WWW-Authenticate ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "realm",
    [
        "http://attacker.invalid.example/token",
        "http://11.66.6.6/token",
        "http://169.254.169.254/latest/meta-data/iam",
        "http://0.0.0.0/token",
        "http://127.0.0.1/token",
        "http://localhost/token",
        "http://[::ffff:127.0.0.1]/token",
        "http://2130706433/token",
        "file:///etc/passwd",
        "http://registry.example@attacker.invalid.example/token",
        "http://attacker.invalid.example\\@registry.example/token",
        "//attacker.invalid.example/token",
    ],
)
def test_39_credentials_never_go_to_a_stranger(world: World, attacker: HostileServer, realm: str) -> None:
    world.serve(HOST, "11.0.0.1", protected(world, realm))
    world.network.servers["127.0.0.1", 80] = (attacker.host, attacker.port)
    with pytest.raises((Refused, BadUrl)):
        pull(world, login=True)
    assert attacker.connections == 0
    assert {address for address, _ in world.network.contacted} == {"11.0.0.1"}
    assert not world.servers[HOST].headers_seen("authorization")


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "10.0.0.7", "127.0.0.1", "0.0.0.0", "::1", "fd00::1", "100.64.0.1"]
)
def test_39_names_that_resolve_inward_are_not_contacted(world: World, attacker: HostileServer, address: str) -> None:
    world.serve(HOST, "11.0.0.1", protected(world, "http://auth.registry.example/token"))
    world.network.add("auth.registry.example", address, 80, attacker)
    with pytest.raises(Refused):
        pull(world, login=True)
    assert attacker.connections == 0


def test_39_twin_a_token_server_of_the_same_domain_gets_them(world: World) -> None:
    world.serve(HOST, "11.0.0.1", protected(world, "http://auth.registry.example/token"))
    auth = world.serve("auth.registry.example", "11.0.0.2", lambda _request: json_reply({"token": "good"}))
    validate(pull(world, login=True))
    (request,) = auth.seen
    assert request.headers["authorization"].startswith("Basic ")
    assert "scope=repository%3Aapp%3Apull" in request.target
    assert "service=registry" in request.target


def test_39_twin_on_a_private_network_private_token_servers_are_normal(world: World) -> None:
    world.serve(HOST, "10.0.0.1", protected(world, "http://auth.registry.example/token"))
    world.serve("auth.registry.example", "10.0.0.2", lambda _request: json_reply({"access_token": "good"}))
    validate(pull(world, login=True))


def test_39_twin_a_stranger_may_be_asked_anonymously_or_when_configured(world: World) -> None:
    world.serve(HOST, "11.0.0.1", protected(world, "http://tokens.other.example/token"))
    auth = world.serve("tokens.other.example", "11.0.0.2", lambda _request: json_reply({"token": "good"}))
    validate(pull(world))
    assert not auth.headers_seen("authorization")
    validate(pull(world, login=True, trust=Trust(realms={HOST: frozenset({"tokens.other.example"})})))
    assert auth.headers_seen("authorization")


def test_39_the_scheme_never_gets_weaker(world: World, tls: ssl.SSLContext, certificates: Path, tmp_path: Path) -> None:
    world.serve(HOST, "11.0.0.1", protected(world, "http://registry.example/token"), port=443, tls=tls)
    plain = world.serve(HOST, "11.0.0.1", lambda _request: json_reply({"token": "good"}))
    with pytest.raises(Refused, match="drop TLS"):
        pull(world, login=True, insecure=(), certs_dirs=[certs_d(certificates, tmp_path, HOST)])
    assert plain.connections == 0


# --- 40: redirects of the token server ------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["http://127.0.0.1/x", "http://10.1.2.3/x", "http://inner.example/x"])
def test_40_a_token_server_cannot_redirect_inward(world: World, attacker: HostileServer, target: str) -> None:
    world.serve(HOST, "11.0.0.1", protected(world, "http://auth.registry.example/token"))
    world.serve("auth.registry.example", "11.0.0.2", lambda _request: Reply(302, b"", [("Location", target)]))
    for address in ("127.0.0.1", "10.1.2.3"):
        world.network.servers[address, 80] = (attacker.host, attacker.port)
    world.network.hosts["inner.example"] = ["10.1.2.3"]
    with pytest.raises(Refused):
        pull(world, login=True)
    assert attacker.connections == 0


def test_40_secrets_do_not_follow_a_redirected_token_request(world: World, attacker: HostileServer) -> None:
    world.serve(HOST, "11.0.0.1", protected(world, "http://auth.registry.example/token"))
    there = [("Location", "http://attacker.invalid.example/x")]
    world.serve("auth.registry.example", "11.0.0.2", lambda _request: Reply(302, b"", there))
    with pytest.raises(LaminaError):
        pull(world, login=True)
    assert not attacker.headers_seen("authorization")


def test_40_twin_a_token_server_may_redirect_on_its_own_host(world: World) -> None:
    def auth(request: Seen) -> Reply:
        return json_reply({"token": "good"}) if "moved" in request.target else Reply(307, b"", [("Location", "/moved")])

    world.serve(HOST, "11.0.0.1", protected(world, "http://auth.registry.example/token"))
    server = world.serve("auth.registry.example", "11.0.0.2", auth)
    validate(pull(world, login=True))
    assert len(server.headers_seen("authorization")) == 2


# --- 41: where uploads go -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "location",
    ["http://10.0.0.1/up", "http://attacker.invalid.example/up", "http://registry.example:81/up", "ftp://x/"],
)
def test_41_bodies_are_not_sent_to_another_origin(world: World, attacker: HostileServer, location: str) -> None:
    def change(request: Seen) -> Reply | None:
        return Reply(202, b"", [("Location", location)]) if request.method == "POST" else None

    registry = world.serve(HOST, "11.0.0.1", bend(world, change))
    world.network.servers["10.0.0.1", 80] = world.network.servers["11.0.0.1", 81] = (attacker.host, attacker.port)
    with pytest.raises((Refused, BadUrl)):
        copy(random_image(2), open_sink(world.client(), NAME))
    assert attacker.connections == 0
    assert all(not request.body for request in registry.seen)


@pytest.mark.parametrize("location", ["/v2/app/blobs/uploads/9", "http://registry.example/v2/app/blobs/uploads/9?x=1"])
def test_41_twin_relative_and_absolute_locations_of_the_registry_work(world: World, location: str) -> None:
    def change(request: Seen) -> Reply | None:
        if request.method != "POST":
            return None
        number = str(len(world.registry.uploads) + 100)
        world.registry.uploads[number] = b""
        return Reply(202, b"", [("Location", location.replace("9", number, 1))])

    world.serve(HOST, "11.0.0.1", bend(world, change))
    client = world.client()
    copy(random_image(2), open_sink(client, NAME))
    validate(open_remote(client, NAME))


# --- 42: Authorization and redirects ----------------------------------------------------------------------------------


def redirecting(world: World, target: str) -> Callable[[Seen], Reply]:
    """Blobs live elsewhere, behind a token for the registry."""
    answer = protected(world, "http://registry.example/token")

    def change(request: Seen) -> Reply:
        if request.path == "/token":
            return json_reply({"token": "good"})
        if "/blobs/" in request.path and request.headers.get("authorization") == "Bearer good":
            return Reply(307, b"", [("Location", target + request.path)])
        return answer(request)

    return change


def test_42_tokens_do_not_follow_to_another_host(world: World) -> None:
    world.serve(HOST, "11.0.0.1", redirecting(world, "http://cdn.example"))
    cdn = world.serve("cdn.example", "11.0.0.3", world.registry)
    validate(pull(world, login=True))
    assert cdn.seen
    assert not cdn.headers_seen("authorization")


def test_42_nor_to_another_port_and_401_there_gets_no_secret(world: World) -> None:
    def cdn_answer(request: Seen) -> Reply:
        if request.path == "/cdn-token":
            return json_reply({"token": "anonymous"})
        if request.headers.get("authorization") == "Bearer anonymous":
            return world.registry(request)
        return bearer("http://registry.example:8080/cdn-token")

    world.serve(HOST, "11.0.0.1", redirecting(world, "http://registry.example:8080"))
    cdn = world.stack.enter_context(HostileServer(cdn_answer))
    world.network.servers["11.0.0.1", 8080] = (cdn.host, cdn.port)
    validate(pull(world, login=True))
    assert set(cdn.headers_seen("authorization")) == {"Bearer anonymous"}


def test_42_a_storage_host_that_asks_for_a_password_gets_none(world: World) -> None:
    world.serve(HOST, "11.0.0.1", redirecting(world, "http://cdn.example"))
    basic = [("WWW-Authenticate", 'Basic realm="give me"')]
    cdn = world.serve("cdn.example", "11.0.0.3", lambda _request: error_reply(Code.UNAUTHORIZED, basic))
    with pytest.raises(LaminaError):
        validate(pull(world, login=True))
    with pytest.raises(LaminaError):
        pull(world, login=True).layers[0].open()
    assert not cdn.headers_seen("authorization")


@pytest.mark.parametrize("target", ["http://10.0.0.9", "http://127.0.0.1", "http://inner.example"])
def test_42_redirects_do_not_lead_inward(world: World, attacker: HostileServer, target: str) -> None:
    world.serve(HOST, "11.0.0.1", redirecting(world, target))
    world.network.hosts["inner.example"] = ["192.168.1.1"]
    for address in ("10.0.0.9", "127.0.0.1", "192.168.1.1"):
        world.network.servers[address, 80] = (attacker.host, attacker.port)
    with pytest.raises(Refused):
        pull(world, login=True).layers[0].open()
    assert attacker.connections == 0


def test_42_twin_within_the_origin_the_token_stays(world: World) -> None:
    def change(request: Seen) -> Reply | None:
        if "/blobs/" in request.path and "?" not in request.target:
            return Reply(302, b"", [("Location", request.target + "?moved")])
        return None

    server = world.serve(HOST, "11.0.0.1", bend(world, change))
    world.registry.__class__  # noqa: B018
    basic = [("WWW-Authenticate", 'Basic realm="r"')]
    inner = server.handler
    server.handler = lambda request: (
        inner(request) if "authorization" in request.headers else error_reply(Code.UNAUTHORIZED, basic)
    )
    validate(pull(world, login=True))
    moved = [request for request in server.seen if request.target.endswith("?moved")]
    assert moved
    assert all("authorization" in request.headers for request in moved)


def test_42_redirects_end(world: World) -> None:
    def change(request: Seen) -> Reply | None:
        return Reply(302, b"", [("Location", request.target)]) if "/blobs/" in request.path else None

    world.serve(HOST, "11.0.0.1", bend(world, change))
    with pytest.raises(Refused, match="hops"):
        pull(world).layers[0].open()


# --- 43: TLS --------------------------------------------------------------------------------------------------------


@pytest.fixture
def secure(world: World, tls: ssl.SSLContext, certificates: Path, tmp_path: Path) -> dict[str, Any]:
    """registry.example over TLS, redirecting blobs to plain HTTP; returns settings that trust its certificate."""

    def change(request: Seen) -> Reply | None:
        if "/blobs/" in request.path:
            return Reply(307, b"", [("Location", f"http://cdn.example{request.path}")])
        return None

    world.serve(HOST, "11.0.0.1", bend(world, change), port=443, tls=tls)
    return {"certs_dirs": [certs_d(certificates, tmp_path, HOST, "other.example")]}


def test_43_https_is_not_given_up(world: World, secure: dict[str, Any]) -> None:
    cdn = world.serve("cdn.example", "11.0.0.3", world.registry)
    image = pull(world, insecure=(), **secure)
    with pytest.raises(Refused, match="drop TLS"):
        image.layers[0].open()
    assert cdn.connections == 0


def test_43_twin_a_registry_marked_insecure_may(world: World, secure: dict[str, Any]) -> None:
    world.serve("cdn.example", "11.0.0.3", world.registry)
    validate(pull(world, insecure=(HOST,), **secure))


def test_43_a_certificate_of_another_name_or_of_nobody_is_refused(world: World, secure: dict[str, Any]) -> None:
    world.network.add("other.example", "11.0.0.1", 443, world.servers[HOST])
    with pytest.raises(Unreachable, match="failed to verify certificate"):
        open_remote(world.client(insecure=(), **secure), Reference.parse("other.example/app:1"))
    with pytest.raises(Unreachable, match="failed to verify certificate"):
        pull(world, insecure=())
    assert not world.servers[HOST].seen


def test_43_plain_http_is_not_tried_for_registries_that_are_not_insecure(world: World) -> None:
    server = world.serve(HOST, "11.0.0.1", world.registry)
    with pytest.raises(Unreachable):
        pull(world, insecure=())
    assert server.connections == 0


def test_43_twin_loopback_may_be_plain(world: World) -> None:
    with HostileServer(world.registry) as server:
        client = world.client(insecure=())
        world.network.servers["127.0.0.1", server.port] = (server.host, server.port)
        validate(open_remote(client, Reference.parse(f"127.0.0.1:{server.port}/app:1")))


# --- 44: pagination -------------------------------------------------------------------------------------------------


def paged(link: Callable[[Seen], str], names: Callable[[Seen], list[str]]) -> Callable[[Seen], Reply | None]:
    def change(request: Seen) -> Reply | None:
        if not request.path.endswith("/tags/list"):
            return None
        return json_reply({"name": "app", "tags": names(request)}, 200, [("Link", f'<{link(request)}>; rel="next"')])

    return change


@pytest.mark.parametrize(
    "link", ["http://attacker.invalid.example/v2/app/tags/list?x=1", "http://10.0.0.1/", "https://registry.example/x"]
)
def test_44_pages_stay_on_the_registry(world: World, attacker: HostileServer, link: str) -> None:
    world.serve(HOST, "11.0.0.1", bend(world, paged(lambda _request: link, lambda _request: ["a"])))
    with pytest.raises(Refused):
        list(tags(world.client(login=True).session(HOST), NAME.repository))
    assert attacker.connections == 0


def test_44_pages_that_go_in_circles_end(world: World) -> None:
    server = world.serve(HOST, "11.0.0.1", bend(world, paged(lambda request: request.target, lambda _request: ["a"])))
    with pytest.raises(Invalid, match="circles"):
        list(tags(world.client().session(HOST), NAME.repository))
    assert len(server.seen) <= 2
    server.handler = bend(
        world, paged(lambda request: f"/v2/app/tags/list?n={len(request.target)}x", lambda _request: ["a"])
    )
    with pytest.raises(Invalid, match="nothing new"):
        list(tags(world.client().session(HOST), NAME.repository))


def test_44_pages_without_end_are_cut(world: World) -> None:
    count = iter(range(1_000_000))
    world.serve(
        HOST,
        "11.0.0.1",
        bend(world, paged(lambda _r: f"/v2/app/tags/list?p={next(count)}", lambda _r: [f"t{next(count)}"])),
    )
    settings = ClientSettings().limits
    with pytest.raises(LimitExceeded):
        list(tags(world.client(limits=replace(settings, pages=20)).session(HOST), NAME.repository))


def test_44_twin_pages_are_followed(world: World) -> None:
    def change(request: Seen) -> Reply | None:
        if "last=b" in request.target:
            return json_reply({"tags": ["c"]})
        link = [("Link", '</v2/app/tags/list?last=b&n=2>; rel="next"')]
        return json_reply({"tags": ["a", "b"]}, 200, link) if request.path.endswith("/tags/list") else None

    world.serve(HOST, "11.0.0.1", bend(world, change))
    assert list(tags(world.client().session(HOST), NAME.repository)) == ["a", "b", "c"]


# --- 45: foreign layers ---------------------------------------------------------------------------------------------


def foreign(world: World, url: str) -> MadeLayer:
    layer = layer_of([("f", b"far away")])
    entry = replace(layer.descriptor, media_type=mediatype.OCI_FOREIGN_LAYER_GZIP, urls=(url,))
    config = ImageConfig.make(platform=AMD64, config=RunConfig(), diff_ids=(layer.diff_id,))
    image = MadeImage(config, [replace(layer, descriptor=entry)])
    world.registry.manifests["app:1"] = (image.manifest.raw, image.manifest.media_type)
    world.registry.blobs[str(config.id)] = config.raw
    return layer


@pytest.mark.parametrize("allowed", [False, True])
def test_45_layer_urls_are_not_fetched_unless_allowed_and_https(
    world: World, attacker: HostileServer, allowed: bool
) -> None:
    foreign(world, "http://attacker.invalid.example/layer")
    world.serve(HOST, "11.0.0.1", world.registry)
    with pytest.raises(Refused):
        pull(world, login=True, trust=Trust(foreign_layers=allowed)).layers[0].open()
    assert attacker.connections == 0


def test_45_twin_allowed_ones_are_fetched_without_credentials(
    world: World, tls: ssl.SSLContext, certificates: Path, tmp_path: Path
) -> None:
    layer = foreign(world, "https://cdn.example/layer")
    cdn = world.serve("cdn.example", "11.0.0.3", lambda _request: Reply(200, layer.open().read()), port=443, tls=tls)
    world.serve(HOST, "11.0.0.1", protected(world, "http://registry.example/token"))
    inner = world.servers[HOST].handler
    world.servers[HOST].handler = lambda request: (
        json_reply({"token": "good"}) if request.path == "/token" else inner(request)
    )
    certs = certs_d(certificates, tmp_path, "cdn.example")
    found = pull(world, login=True, trust=Trust(foreign_layers=True), certs_dirs=[certs])
    assert Digest.of(found.layers[0].open().read()) == layer.descriptor.digest
    assert not cdn.headers_seen("authorization")


def test_45_twin_a_broken_one_is_taken_up_where_it_broke(
    world: World, tls: ssl.SSLContext, certificates: Path, tmp_path: Path
) -> None:
    raw = foreign(world, "https://cdn.example/layer").open().read()
    starts: list[int] = []

    def cdn(request: Seen) -> Reply:
        start = int(request.headers.get("range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        starts.append(start)
        place = [("Content-Range", f"bytes {start}-{len(raw) - 1}/{len(raw)}")] if start else []
        rest = [("Content-Length", str(len(raw) - start))]
        return Reply(206 if start else 200, raw[start:], place + rest, cut=20 if len(starts) < 3 else None)

    world.serve("cdn.example", "11.0.0.3", cdn, port=443, tls=tls)
    world.serve(HOST, "11.0.0.1", world.registry)
    certs = certs_d(certificates, tmp_path, "cdn.example")
    image = pull(world, trust=Trust(foreign_layers=True), certs_dirs=[certs])
    source = RemoteSource(
        world.client(trust=Trust(foreign_layers=True), certs_dirs=[certs]).session(HOST), NAME.repository
    )
    stream = source.open_blob(image.layers[0].descriptor, 10)
    assert b"".join(iter(lambda: stream.read(1 << 16), b"")) == raw[10:]
    assert starts == [10, 30, 50]


# --- 14, 46: endless bodies -------------------------------------------------------------------------------------------


def endless() -> Iterator[bytes]:
    chunk = b"x" * (1 << 16)
    for _ in range(16_384):  # 1 GiB
        yield chunk


@pytest.mark.parametrize(
    "where", ["manifest", "error", "token", "tags", "referrers", "token-error", "redirect", "upload"]
)
def test_46_no_body_is_read_without_a_limit(world: World, where: str) -> None:
    def change(request: Seen) -> Reply | None:
        path = request.path
        if where in {"token", "token-error"}:
            if path == "/token":
                return Reply(200 if where == "token" else 400, endless)
            return bearer("http://registry.example/token")
        if where == "upload":
            return Reply(500, endless) if request.method == "POST" else None
        if where == "redirect":
            return Reply(302, endless, [("Location", "http://registry.example/loop")])
        if where == "error":
            return Reply(400, endless)
        return Reply(200, endless, [("Content-Type", mediatype.OCI_MANIFEST)])

    world.serve(HOST, "11.0.0.1", bend(world, change))
    client = world.client(login=True)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(LaminaError):
        if where == "tags":
            list(tags(client.session(HOST), NAME.repository))
        elif where == "referrers":
            referrers(client.session(HOST), NAME.repository, Digest.of(b""))
        elif where == "upload":
            copy(random_image(2), open_sink(client, NAME))
        else:
            open_remote(client, NAME)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 48 << 10  # KiB


def test_46_a_blob_is_read_to_its_size_and_no_further(world: World) -> None:
    digest = random_image(1).layers[0].descriptor.digest
    sent = 0

    def more() -> Iterator[bytes]:
        nonlocal sent
        for chunk in endless():
            sent += len(chunk)
            yield chunk

    world.serve(
        HOST, "11.0.0.1", bend(world, lambda seen: Reply(200, more) if seen.path.endswith(digest.hex) else None)
    )
    with closing(pull(world).layers[0].open()) as stream, pytest.raises(Integrity):
        while stream.read(1000):
            pass
    assert sent < 32 << 20


def test_14_a_manifest_over_the_limit_is_refused_by_its_length(world: World) -> None:
    world.registry.manifests["app:1"] = (b"{" + b" " * (5 << 20), mediatype.OCI_MANIFEST)
    world.serve(HOST, "11.0.0.1", world.registry)
    with pytest.raises(LimitExceeded):
        pull(world)


def test_14_a_config_over_the_limit_is_not_fetched(world: World) -> None:
    image = random_image(1)
    big = replace(image.manifest.config, size=100 << 20)
    document = json.loads(image.manifest.raw)
    document["config"] = big.to_json()
    world.registry.manifests["app:1"] = (json.dumps(document).encode(), mediatype.OCI_MANIFEST)
    world.serve(HOST, "11.0.0.1", world.registry)
    with pytest.raises(LaminaError):
        _ = pull(world).config


# --- 47: one reading of names ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "origin", "key"),
    [
        ("debian", "https://registry-1.docker.io", "docker.io"),
        ("docker.io/library/debian", "https://registry-1.docker.io", "docker.io"),
        ("index.docker.io/a/b", "https://registry-1.docker.io", "docker.io"),
        ("docker.io.evil.example/a", "https://docker.io.evil.example", "docker.io.evil.example"),
        ("evil.example/docker.io/a", "https://evil.example", "evil.example"),
        ("localhost/a", "https://localhost", "localhost"),
        ("localhost:5000/a", "https://localhost:5000", "localhost:5000"),
        ("a.local/b", "https://a.local", "a.local"),
        ("registry.example:443/a", "https://registry.example", "registry.example:443"),
        ("127.0.0.1:5000/a", "https://127.0.0.1:5000", "127.0.0.1:5000"),
        ("[::1]:5000/a", "https://[::1]:5000", "[::1]:5000"),
    ],
)
def test_47_transport_and_credentials_use_the_same_host(name: str, origin: str, key: str) -> None:
    host = Reference.parse(name).repository.host
    assert (str(api_origin(host)), host) == (origin, key)


@pytest.mark.parametrize(
    "name", ["a.local", "registry.internal", "10.0.0.1", "192.168.0.1", "docker.io", "localhost.evil.example"]
)
def test_47_only_loopback_may_be_plain_by_itself(name: str) -> None:
    assert not ClientSettings().is_insecure(name, 80)
    assert ClientSettings(insecure=["10.0.0.0/8"]).is_insecure("10.0.0.1", 80)


# --- 10, 11, 12, 48: content --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flaw", ["flip", "append", "short", "other"])
def test_10_wrong_blobs_are_found(world: World, flaw: str) -> None:
    digest = str(random_image(1).layers[0].descriptor.digest)
    raw = world.registry.blobs[digest]
    wrong = {"flip": raw[:-1] + bytes([raw[-1] ^ 1]), "append": raw + b"x", "short": raw[:-1], "other": b""}[flaw]
    world.registry.blobs[digest] = wrong
    world.serve(HOST, "11.0.0.1", world.registry)
    with pytest.raises(Integrity):
        stream = pull(world).layers[0].open()
        while stream.read(1000):
            pass


def test_10_a_push_of_wrong_bytes_stores_nothing(world: World) -> None:
    layer = layer_of([("a", b"1")])
    lying = replace(layer, open_raw=lambda: io.BytesIO(bytes(layer.descriptor.size)))
    world.serve(HOST, "11.0.0.1", world.registry)
    with pytest.raises(Integrity):
        open_sink(world.client(), NAME).put_blob(layer.descriptor, lying.open_raw, discard)
    assert str(layer.descriptor.digest) not in world.registry.blobs
    assert world.registry.uploads == {}


@pytest.mark.parametrize(
    "digest", ["sha256:../../x", "sha256:" + "A" * 64, "sha256:" + "a" * 63, "sha512:" + "a" * 64, "x"]
)
def test_11_a_digest_header_is_parsed_or_refused(world: World, digest: str) -> None:
    def change(request: Seen) -> Reply | None:
        raw, kind = world.registry.manifests["app:1"]
        return (
            Reply(200, raw, [("Content-Type", kind), ("Docker-Content-Digest", digest)])
            if "manifests" in request.path
            else None
        )

    world.serve(HOST, "11.0.0.1", bend(world, change))
    with pytest.raises(InvalidDigest):
        pull(world)


@pytest.mark.parametrize("served_as", [mediatype.OCI_MANIFEST, mediatype.OCI_INDEX])
def test_12_a_document_with_two_meanings_is_refused(world: World, served_as: str) -> None:
    document = json.loads(random_image(1).manifest.raw)
    document["manifests"] = [random_image(2).manifest.descriptor.to_json()]
    del document["mediaType"]
    world.registry.manifests["app:1"] = (json.dumps(document).encode(), served_as)
    world.serve(HOST, "11.0.0.1", world.registry)
    with pytest.raises(Invalid, match="ambiguous"):
        pull(world)


def test_12_a_document_served_as_another_type_is_refused(world: World) -> None:
    world.registry.manifests["app:1"] = (random_image(1).manifest.raw, mediatype.OCI_INDEX)
    world.serve(HOST, "11.0.0.1", world.registry)
    with pytest.raises(Invalid):
        pull(world)


def test_48_a_pinned_digest_is_always_hashed_again(world: World) -> None:
    wanted, other = random_image(1).manifest, random_image(2).manifest

    def change(request: Seen) -> Reply | None:
        if "/manifests/" not in request.path:
            return None
        lie = [("Content-Type", other.media_type), ("Docker-Content-Digest", str(wanted.digest))]
        return Reply(200, other.raw, lie)

    world.serve(HOST, "11.0.0.1", bend(world, change))
    source = RemoteSource(world.client().session(HOST), NAME.repository)
    with pytest.raises(WrongManifest):
        source.image(NAME.with_digest(wanted.digest))
    with pytest.raises(WrongManifest):
        source.read_manifest(wanted.descriptor)


def test_48_head_cannot_lie_about_a_pinned_digest(world: World) -> None:
    other = random_image(2).manifest
    world.registry.manifests[f"app:{random_image(1).manifest.digest.hex}"] = (other.raw, other.media_type)
    world.serve(HOST, "11.0.0.1", world.registry)
    source = RemoteSource(world.client().session(HOST), NAME.repository)
    with pytest.raises(WrongManifest):
        source.resolve(NAME.with_digest(random_image(1).manifest.digest))


def test_48_twin_a_digest_is_what_it_says(world: World) -> None:
    world.serve(HOST, "11.0.0.1", world.registry)
    pinned = NAME.with_digest(random_image(1).manifest.digest)
    source = RemoteSource(world.client().session(HOST), NAME.repository)
    assert source.resolve(pinned).digest == pinned.digest
    validate(source.image(pinned))


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("8.8.8.8", AddressClass.PUBLIC),
        ("10.0.0.1", AddressClass.PRIVATE),
        ("100.64.1.1", AddressClass.PRIVATE),
        ("fd00::1", AddressClass.PRIVATE),
        ("127.9.9.9", AddressClass.LOOPBACK),
        ("::1", AddressClass.LOOPBACK),
        ("::ffff:127.0.0.1", AddressClass.LOOPBACK),
        ("64:ff9b::7f00:1", AddressClass.LOOPBACK),
        ("2002:7f00:1::", AddressClass.LOOPBACK),
        ("169.254.169.254", AddressClass.SPECIAL),
        ("fe80::1%eth0", AddressClass.SPECIAL),
        ("0.0.0.0", AddressClass.SPECIAL),
        ("::", AddressClass.SPECIAL),
        ("224.0.0.1", AddressClass.SPECIAL),
        ("240.0.0.1", AddressClass.SPECIAL),
    ],
)
def test_addresses_in_every_disguise_are_classified(address: str, kind: AddressClass) -> None:
    assert classify(address) is kind


def test_secrets_do_not_show(world: World) -> None:
    client = world.client(login=True)
    assert SECRET not in repr(client.settings)
