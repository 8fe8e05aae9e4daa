"""Registries and networks that fail: 429, 5xx, resets, truncation, at every tenth of a blob (fault F19, A10)."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.errors import Denied, Integrity, NotFound, Unauthorized, Unavailable
from lamina.image.copy import copy
from lamina.image.partial import MadeImage, MadeLayer
from lamina.image.protocols import Image, is_index
from lamina.image.validate import validate
from lamina.spec.config import ImageConfig, RunConfig
from lamina.spec.digest import Digest
from lamina.spec.distribution import Code
from lamina.spec.reference import Reference
from lamina.testing.hostile_registry import HostileServer, Reply, Seen, error_reply
from lamina.testing.images import AMD64, random_image
from lamina.testing.made_up_internet import HOST, NAME, World, bend
from lamina.transports.remote.failures import RateLimited
from lamina.transports.remote.retry import Retrying, retry_after
from lamina.transports.remote.settings import Patience
from lamina.transports.remote.sink import open_sink
from lamina.transports.remote.source import open_remote

SIZE = 1_000_000


def big(world: World) -> MadeLayer:
    """app:2 is one layer of a million bytes."""
    raw = os.urandom(SIZE)
    layer = MadeLayer.of(raw, diff_id=Digest.of(raw))
    config = ImageConfig.make(platform=AMD64, config=RunConfig(), diff_ids=(layer.diff_id,))
    image = MadeImage(config, [layer])
    world.registry.manifests["app:2"] = (image.manifest.raw, image.manifest.media_type)
    world.registry.blobs[str(layer.descriptor.digest)] = raw
    world.registry.blobs[str(config.id)] = config.raw
    return layer


def remote(world: World, tag: str = "2") -> Image:
    image = open_remote(world.client(), NAME.with_tag(tag))
    assert not is_index(image)
    return image


def once(count: int, reply: Callable[[Seen], Reply | None]) -> Callable[[Seen], Reply | None]:
    """Answer so for the first `count` requests that `reply` cares for."""
    left = [count]

    def change(request: Seen) -> Reply | None:
        found = reply(request) if left[0] else None
        left[0] -= found is not None
        return found

    return change


@pytest.mark.parametrize("decile", range(10))
@pytest.mark.parametrize("reset", [False, True], ids=["truncated", "reset"])
def test_a_blob_broken_at_any_tenth_is_taken_up_there(world: World, decile: int, reset: bool) -> None:
    layer = big(world)
    cut = SIZE * decile // 10 or 1
    raw = layer.open().read()

    def broken(request: Seen) -> Reply | None:
        wanted = request.path.endswith(layer.descriptor.digest.hex)
        return Reply(200, raw, [("Content-Length", str(SIZE))], cut=cut, reset=reset) if wanted else None

    server = world.serve(HOST, "11.0.0.1", bend(world, once(1, broken)))
    stream = remote(world).layers[0].open()
    got = bytearray()
    while data := stream.read(1 << 18):
        got += data
    assert bytes(got) == raw
    if not reset:  # after a reset, how much arrived is the kernel's affair
        assert [seen.headers.get("range") for seen in server.seen if "/blobs/sha256" in seen.path] == [
            None,
            f"bytes={cut}-",
        ]


def test_a_server_without_ranges_starts_over_and_we_skip(world: World) -> None:
    layer = big(world)
    raw = layer.open().read()

    def change(request: Seen) -> Reply | None:
        if not request.path.endswith(layer.descriptor.digest.hex):
            return None
        return Reply(
            200, raw, cut=None if "range" in request.headers else 500_000, headers=[("Content-Length", str(SIZE))]
        )

    world.serve(HOST, "11.0.0.1", bend(world, change))
    stream = remote(world).layers[0].open()
    assert b"".join(iter(lambda: stream.read(1 << 16), b"")) == raw


def test_a_server_without_ranges_may_break_again_in_what_we_have(world: World) -> None:
    layer = big(world)
    raw = layer.open().read()
    cuts = [500_000, 200_000, 0, 700_000]

    def change(request: Seen) -> Reply | None:
        if not request.path.endswith(layer.descriptor.digest.hex):
            return None
        return Reply(200, raw, cut=cuts.pop(0) if cuts else None, headers=[("Content-Length", str(SIZE))])

    world.serve(HOST, "11.0.0.1", bend(world, change))
    stream = remote(world).layers[0].open()
    assert b"".join(iter(lambda: stream.read(1 << 16), b"")) == raw


@pytest.mark.parametrize("place", ["bytes 0-499999/1000000", "bytes 400001-999999/1000000", "nonsense", ""])
def test_a_range_that_was_not_asked_for_is_refused(world: World, place: str) -> None:  # threat 10
    layer = big(world)
    raw = layer.open().read()

    def change(request: Seen) -> Reply | None:
        if not request.path.endswith(layer.descriptor.digest.hex):
            return None
        if "range" in request.headers:
            return Reply(206, raw[400_000:], [("Content-Range", place)])
        return Reply(200, raw, [("Content-Length", str(SIZE))], cut=400_000)

    world.serve(HOST, "11.0.0.1", bend(world, change))
    with closing(remote(world).layers[0].open()) as stream, pytest.raises(Integrity):
        while stream.read(1 << 16):
            pass


def test_a_blob_that_never_comes_ends(world: World) -> None:
    layer = big(world)

    def change(request: Seen) -> Reply | None:
        stuck = request.path.endswith(layer.descriptor.digest.hex)
        length = SIZE - int(request.headers.get("range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        return Reply(200, bytes(SIZE), [("Content-Length", str(SIZE))], cut=0) if stuck and length else None

    world.serve(HOST, "11.0.0.1", bend(world, change))
    with pytest.raises(Unavailable):
        remote(world).layers[0].open().read(1000)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_passing_trouble_is_waited_out(world: World, status: int) -> None:
    world.serve(
        HOST, "11.0.0.1", bend(world, once(3, lambda request: Reply(status) if "/manifests/" in request.path else None))
    )
    validate(remote(world, "1"))
    assert world.waits == [0.25, 0.5, 1.0]


def test_retry_after_is_honoured_with_a_floor(world: World) -> None:
    answers = iter(["7", "0", "0.000001"])

    def change(request: Seen) -> Reply | None:
        header = next(answers, None) if "/manifests/" in request.path else None
        return None if header is None else error_reply(Code.TOOMANYREQUESTS, [("Retry-After", header)])

    world.serve(HOST, "11.0.0.1", bend(world, change))
    validate(remote(world, "1"))
    assert world.waits == [7.0, 0.5, 1.0]


def test_a_retry_after_beyond_patience_fails_at_once_with_the_reason(world: World) -> None:
    world.serve(HOST, "11.0.0.1", lambda _request: error_reply(Code.TOOMANYREQUESTS, [("Retry-After", "86400")]))
    with pytest.raises(RateLimited, match="toomanyrequests: too many requests"):
        remote(world, "1")
    assert world.waits == []


@pytest.mark.parametrize(
    ("header", "seconds"), [("", None), ("x", None), ("-1", None), ("5", 5.0), ("9" * 99, 999_999_999.0)]
)
def test_retry_after_is_read_or_ignored(header: str, seconds: float | None) -> None:
    assert retry_after(header, 0.0) == seconds


def test_retry_after_may_be_a_date() -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    assert retry_after(format_datetime(moment, usegmt=True), moment.timestamp() - 30) == 30.0
    assert retry_after(format_datetime(moment, usegmt=True), moment.timestamp() + 30) == 0.0


@given(st.lists(st.text(max_size=30), max_size=30))
def test_waiting_is_bounded_whatever_a_server_says(headers: list[str]) -> None:
    patience = Patience()
    retrying = Retrying(patience, lambda: 0.5, lambda: 0.0)
    waits = [wait for header in headers if (wait := retrying.next_wait(header)) is not None]
    assert len(waits) < patience.attempts
    assert sum(waits) <= patience.budget
    assert all(wait >= patience.floor for wait in waits)


@pytest.mark.parametrize("decile", range(0, 10, 3))
def test_a_broken_upload_goes_on_where_the_registry_stands(world: World, decile: int) -> None:  # A10, moby#42615
    layer = big(world)
    raw = layer.open().read()
    del world.registry.blobs[str(layer.descriptor.digest)]
    kept = SIZE * decile // 10

    def change(request: Seen) -> Reply | None:
        if request.method != "PUT" or "uploads" not in request.path:
            return None
        world.registry.uploads[request.path.rpartition("/")[2]] = request.body[:kept]
        return Reply(502)

    server = world.serve(HOST, "11.0.0.1", bend(world, once(1, change)))
    open_sink(world.client(), NAME).put_blob(layer.descriptor, layer.open, lambda _event: None)
    assert world.registry.blobs[str(layer.descriptor.digest)] == raw
    resumed = [seen.headers["content-range"] for seen in server.seen if seen.method == "PATCH"]
    assert resumed == ([f"{kept}-{SIZE - 1}"] if kept else [])


@pytest.mark.parametrize("kept", [0, 1])
def test_one_byte_looks_like_none_and_the_upload_is_begun_anew(world: World, kept: int) -> None:
    # `Range: 0-0` is what registries say of an empty session as well as of one byte: there is no place to go on at
    layer = big(world)
    raw = layer.open().read()
    del world.registry.blobs[str(layer.descriptor.digest)]

    def change(request: Seen) -> Reply | None:
        if request.method != "PUT" or "uploads" not in request.path:
            return None
        world.registry.uploads[request.path.rpartition("/")[2]] = request.body[:kept]
        return Reply(502)

    server = world.serve(HOST, "11.0.0.1", bend(world, once(1, change)))
    open_sink(world.client(), NAME).put_blob(layer.descriptor, layer.open, lambda _event: None)
    assert world.registry.blobs[str(layer.descriptor.digest)] == raw
    begun = [seen.path.rpartition("/")[2] for seen in server.seen if seen.method == "PUT"]
    assert len(begun) == len(set(begun)) == 2
    assert not [seen for seen in server.seen if seen.method == "PATCH"]


@pytest.mark.parametrize("at", [1, 400_000])
def test_a_registry_that_wants_another_place_than_it_named_gets_a_new_upload(world: World, at: int) -> None:
    # 416 to a chunk, as lamina's and docker's registries answer when it does not begin where the session ends
    layer = big(world)
    raw = layer.open().read()
    del world.registry.blobs[str(layer.descriptor.digest)]

    def change(request: Seen) -> Reply | None:
        if "uploads" in request.path and request.method == "PUT" and len(request.body) == SIZE:
            return once_more(request)
        if request.method == "GET" and "uploads" in request.path:
            return Reply(204, b"", [("Range", f"0-{at}")])
        return Reply(416) if request.method == "PATCH" else None

    once_more = once(1, lambda _request: Reply(502))
    world.serve(HOST, "11.0.0.1", bend(world, change))
    open_sink(world.client(), NAME).put_blob(layer.descriptor, layer.open, lambda _event: None)
    assert world.registry.blobs[str(layer.descriptor.digest)] == raw


def test_an_upload_session_that_is_gone_is_begun_anew(world: World) -> None:
    layer = big(world)
    del world.registry.blobs[str(layer.descriptor.digest)]

    def change(request: Seen) -> Reply | None:
        if request.method != "PUT":
            return None
        del world.registry.uploads[request.path.rpartition("/")[2]]
        return Reply(500)

    world.serve(HOST, "11.0.0.1", bend(world, once(2, change)))
    open_sink(world.client(), NAME).put_blob(layer.descriptor, layer.open, lambda _event: None)
    assert str(layer.descriptor.digest) in world.registry.blobs


def test_uploads_give_up_too(world: World) -> None:
    world.serve(HOST, "11.0.0.1", bend(world, lambda request: Reply(500) if request.method == "PUT" else None))
    with pytest.raises(Unavailable):
        copy(random_image(3), open_sink(world.client(), NAME))
    assert "app:1" in world.registry.manifests


# --- what people read ---------------------------------------------------------------------------------------------------


def failing(world: World, reply: Reply) -> str:
    world.serve(HOST, "11.0.0.1", lambda _request: reply)
    with pytest.raises((NotFound, Denied, Unauthorized, Unavailable)) as raised:
        remote(world, "nope")
    return str(raised.value)


def test_a_missing_tag_in_dockers_words(world: World) -> None:
    text = failing(world, Reply(404, b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}'))
    assert text == "manifest for registry.example/app:nope not found: manifest unknown: manifest unknown"


def test_a_missing_repository_in_dockers_words(world: World) -> None:
    text = failing(
        world, Reply(404, b'{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known to registry"}]}')
    )
    assert text == "repository registry.example/app not found: name unknown: repository name not known to registry"


def test_a_forbidden_repository_in_dockers_words(world: World) -> None:  # S48, S50
    assert failing(world, error_reply(Code.DENIED)) == (
        "pull access denied for registry.example/app, repository does not exist or may require 'docker login': "
        "denied: requested access to the resource is denied"
    )


def test_a_404_without_a_body_is_explained(world: World) -> None:
    assert failing(world, Reply(404, b"<html>")).startswith("manifest for registry.example/app:nope not found")


def test_a_registry_that_is_not_there(world: World) -> None:
    world.network.hosts[HOST] = ["11.0.0.1"]
    with pytest.raises(Unavailable) as raised:
        remote(world)
    assert (
        str(raised.value)
        == 'Get "http://registry.example/v2/app/manifests/2": dial tcp 11.0.0.1:80: connect: connection refused'
    )
    with pytest.raises(
        Unavailable,
        match=r'Get "https://nowhere\.example/v2/x/manifests/latest": dial tcp: lookup nowhere.example: no such host',
    ):
        open_remote(world.client(), Reference.parse("nowhere.example/x"))


def test_control_characters_of_a_registry_do_not_reach_the_terminal(world: World) -> None:
    text = failing(world, Reply(403, b'{"errors":[{"code":"DENIED","message":"\\u001b[2Jgone\\n"}]}'))
    assert "\x1b" not in text


def test_push_refused_in_dockers_words(world: World) -> None:  # S48
    world.serve(HOST, "11.0.0.1", bend(world, lambda r: error_reply(Code.DENIED) if r.method == "POST" else None))
    with pytest.raises(Denied) as raised:
        copy(random_image(3), open_sink(world.client(), NAME))
    assert str(raised.value) == "denied: requested access to the resource is denied"


def test_a_plain_http_proxy_is_used(world: World) -> None:
    with HostileServer(lambda seen: world.registry(replace(seen, target="/" + seen.target.split("/", 3)[-1]))) as proxy:
        from lamina.transports.remote.settings import Proxies

        client = world.client(proxies=Proxies(http=proxy.url, https=proxy.url, no_proxy="other.example"))
        validate(open_remote(client, NAME))
        assert proxy.seen[-1].target.startswith("http://registry.example/v2/app/")
    assert world.network.contacted == []
