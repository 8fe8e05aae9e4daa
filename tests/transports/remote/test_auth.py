"""The token dance, step by step and without a server (R16, S51), then against one."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.errors import Denied, LaminaError, Unauthorized
from lamina.image.copy import CopyOptions, copy
from lamina.image.validate import validate
from lamina.progress import Progress
from lamina.spec.distribution import Code
from lamina.spec.reference import Repository
from lamina.testing.hostile_registry import Reply, Seen, bearer, error_reply, json_reply
from lamina.testing.images import random_image
from lamina.testing.made_up_internet import HOST, NAME, SECRET, World
from lamina.transports.remote.auth import Authenticator, LoginFailed, NoCredentialsGiven, TokenReply, TokenRequest
from lamina.transports.remote.challenge import Challenge, parse_challenges
from lamina.transports.remote.credentials import Credential
from lamina.transports.remote.helper import HelperFailed
from lamina.transports.remote.login import LoginRefused, try_login
from lamina.transports.remote.origin import Origin
from lamina.transports.remote.policy import Trust
from lamina.transports.remote.sink import open_sink
from lamina.transports.remote.source import open_remote

ORIGIN = Origin("https", "registry.example", 443)
CHALLENGE = [Challenge("bearer", {"realm": "https://auth.registry.example/t", "service": "reg"})]
PULL, PUSH = "repository:app:pull", "repository:app:pull,push"


def dancer(credential: Credential | None = None, now: Callable[[], float] = lambda: 0.0) -> Authenticator:
    return Authenticator(ORIGIN, lambda: credential, Trust(), now)


def dance(
    auth: Authenticator, reply: TokenReply, scopes: list[str], challenges: list[Challenge] = CHALLENGE
) -> tuple[TokenRequest, str]:
    steps = auth.negotiate(challenges, scopes)
    request = next(steps)
    try:
        steps.send(reply)
    except StopIteration as stop:
        return request, stop.value
    raise AssertionError("a second request")


def token(value: str = "t", **more: object) -> TokenReply:
    return TokenReply(200, json.dumps({"token": value, **more}).encode())


def test_strangers_ask_for_a_token_without_a_name() -> None:
    request, header = dance(dancer(), token(), [PULL])
    assert header == "Bearer t"
    assert (request.method, request.headers, request.body) == ("GET", {}, b"")
    assert parse_qs(urlsplit(str(request.url)).query) == {"service": ["reg"], "scope": [PULL]}


def test_a_password_goes_along_as_basic() -> None:
    request, _ = dance(dancer(Credential("alice", "pw")), token(), [PULL])
    assert request.headers == {"Authorization": "Basic YWxpY2U6cHc="}
    assert parse_qs(urlsplit(str(request.url)).query)["account"] == ["alice"]


def test_an_identity_token_is_posted_as_oauth2() -> None:
    request, header = dance(
        dancer(Credential("u", identity_token="refresh")), TokenReply(200, b'{"access_token":"a"}'), [PULL]
    )
    assert (request.method, header) == ("POST", "Bearer a")
    form = parse_qs(request.body.decode())
    assert form["grant_type"] == ["refresh_token"]
    assert form["refresh_token"] == ["refresh"]
    assert form["scope"] == [PULL]
    assert "refresh" not in str(request.url)


def test_a_mount_asks_for_both_repositories() -> None:
    request, _ = dance(dancer(), token(), [PUSH, "repository:other:pull"])
    assert parse_qs(urlsplit(str(request.url)).query)["scope"] == [PUSH, "repository:other:pull"]


def test_tokens_are_kept_by_scope_until_shortly_before_they_expire() -> None:
    now = [1000.0]
    auth = dancer(now=lambda: now[0])
    dance(auth, token("one", expires_in=300), [PULL])
    assert auth.authorization([PULL]) == "Bearer one"
    assert auth.authorization([PUSH]) is None
    now[0] += 269
    assert auth.authorization([PULL]) == "Bearer one"
    now[0] += 2
    assert auth.authorization([PULL]) is None
    dance(auth, token("two"), [PULL], [])  # the realm is known by now
    assert auth.authorization([PULL]) == "Bearer two"


def test_a_refused_token_is_forgotten() -> None:
    auth = dancer()
    dance(auth, token(), [PULL])
    auth.forget("Bearer t")
    assert auth.authorization([PULL]) is None


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"token": 1}', b'{"token": "a\\r\\nX: y"}', b'{"token": ""}', b"[" * 9999]
)
def test_a_token_server_that_talks_nonsense(body: bytes) -> None:
    with pytest.raises(LaminaError):
        dance(dancer(), TokenReply(200, body), [PULL])


def test_a_wrong_password_is_the_users_problem() -> None:
    with pytest.raises(LoginFailed):
        dance(dancer(Credential("a", "b")), TokenReply(401, b""), [PULL])


def test_basic_needs_a_name() -> None:
    basic = [Challenge("basic", {"realm": "x"})]
    with pytest.raises(NoCredentialsGiven, match="no basic auth credentials"):
        next(dancer().negotiate(basic, []))
    steps = dancer(Credential("alice", "pw")).negotiate(basic, [])
    with pytest.raises(StopIteration) as stop:
        next(steps)
    assert stop.value.value == "Basic YWxpY2U6cHc="


@pytest.mark.parametrize(
    ("header", "challenges"),
    [
        (
            'Bearer realm="https://a/t",service="s",scope="repository:a:pull,push"',
            [("bearer", {"realm": "https://a/t", "service": "s", "scope": "repository:a:pull,push"})],
        ),
        ('Basic realm="x"', [("basic", {"realm": "x"})]),
        ('bearer realm=https://a/t, SERVICE="s"', [("bearer", {"realm": "https://a/t", "service": "s"})]),
        (
            'Basic realm="a", Bearer realm="b",service="c"',
            [("basic", {"realm": "a"}), ("bearer", {"realm": "b", "service": "c"})],
        ),
        ('Bearer realm="a\\"b"', [("bearer", {"realm": 'a"b'})]),
        ("Negotiate", [("negotiate", {})]),
        ("", []),
        ('="', []),
    ],
)
def test_challenges_are_read(header: str, challenges: list[tuple[str, dict[str, str]]]) -> None:
    assert [(challenge.scheme, challenge.parameters) for challenge in parse_challenges([header])] == challenges


@given(st.lists(st.text(max_size=200), max_size=3))
def test_any_header_is_survived(headers: list[str]) -> None:
    parse_challenges(headers)


class Guarded:
    """A registry with a token server; checks scopes as real ones do."""

    def __init__(self, world: World) -> None:
        self.world, self.granted = world, dict[str, set[str]]()
        self.server = world.serve(HOST, "11.0.0.1", self.answer)

    def answer(self, request: Seen) -> Reply:
        if request.path == "/token":
            scopes = set(parse_qs(request.target.partition("?")[2]).get("scope", []))
            known = request.headers.get("authorization", "").startswith("Basic ")
            granted = {scope for scope in scopes if known or scope.endswith(":pull")}
            value = f"t{self.tokens()}"
            self.granted[value] = granted
            return json_reply({"token": value})
        needed = "repository:app:pull,push" if request.method in {"POST", "PUT", "PATCH"} else "repository:app:pull"
        held = self.granted.get(request.headers.get("authorization", "").removeprefix("Bearer "))
        if held is None:
            return bearer("http://registry.example/token", scope=needed)
        if not any(scope.startswith(needed) for scope in held):
            denied = f'Bearer realm="http://registry.example/token",error="insufficient_scope",scope="{needed}"'
            return error_reply(Code.UNAUTHORIZED, [("WWW-Authenticate", denied)])
        return self.world.registry(request)

    def tokens(self) -> int:
        return sum(request.path == "/token" for request in self.server.seen)


def test_one_token_serves_a_whole_pull_from_many_threads(world: World) -> None:
    guarded = Guarded(world)
    image = open_remote(world.client(login=True), NAME)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _number: validate(image), range(8)))
    assert guarded.tokens() == 1


def test_strangers_pull_and_may_not_push(world: World) -> None:  # S48, S50
    Guarded(world)
    client = world.client()
    validate(open_remote(client, NAME))
    with pytest.raises((Denied, Unauthorized)):
        copy(random_image(5), open_sink(client, NAME))


def test_a_push_with_a_mount_gets_both_scopes(world: World) -> None:
    guarded = Guarded(world)
    events: list[Progress] = []
    options = CopyOptions(mount_sources=lambda _blob: [Repository(HOST, "base")])
    copy(random_image(5), open_sink(world.client(login=True), NAME.with_tag("5")), options, report=events.append)
    asked = [parse_qs(seen.target.partition("?")[2])["scope"] for seen in guarded.server.seen if seen.path == "/token"]
    assert ["repository:app:pull,push", "repository:base:pull"] in asked
    assert [event.status for event in events if event.final] == ["Pushed", "Pushed"]  # this registry does not mount


def test_an_expired_token_is_renewed_in_the_middle(world: World) -> None:
    guarded = Guarded(world)
    image = open_remote(world.client(login=True), NAME)
    guarded.granted.clear()
    validate(image)


def test_a_login_is_tried_before_it_is_kept(world: World) -> None:  # S49
    basic = [("WWW-Authenticate", 'Basic realm="r"')]
    good = "Basic YWxpY2U6czNjcmV0LXBhc3N3b3Jk"
    world.serve(
        HOST,
        "11.0.0.1",
        lambda seen: (
            json_reply({}) if seen.headers.get("authorization") == good else error_reply(Code.UNAUTHORIZED, basic)
        ),
    )
    try_login(world.client(), HOST, Credential("alice", SECRET))
    with pytest.raises(LoginRefused) as refused:
        try_login(world.client(), HOST, Credential("alice", "wrong"))
    assert str(refused.value) == "login attempt to http://registry.example/v2/ failed with status: 401 Unauthorized"


def test_a_token_server_that_refuses_a_login_is_quoted(world: World) -> None:  # S49: as Docker Hub does
    def answer(seen: Seen) -> Reply:
        if seen.path == "/token":
            return Reply(401, b'{"details":"incorrect username or password"}')
        return bearer("http://registry.example/token")

    world.serve(HOST, "11.0.0.1", answer)
    with pytest.raises(LoginRefused) as refused:
        try_login(world.client(), HOST, Credential("alice", "wrong"))
    assert str(refused.value) == 'Get "http://registry.example/v2/": unauthorized: incorrect username or password'


def test_a_helper_that_fails_is_told_of_where_a_stranger_may_not_go(world: World) -> None:  # S50
    class Locked:
        def get(self, host: str) -> Credential | None:
            raise HelperFailed("getting", f"docker-credential-{host}", "exit status 1", "the vault is locked")

    Guarded(world)
    client = world.client().with_settings(credentials=Locked())
    validate(open_remote(client, NAME))
    with pytest.raises((Denied, Unauthorized)) as refused:
        copy(random_image(5), open_sink(client, NAME))
    assert refused.value.hint == "error getting credentials - err: exit status 1, out: `the vault is locked`"
