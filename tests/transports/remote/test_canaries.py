"""Threat 60, on the client: whatever a registry says back, no secret of ours is shown, not even with -D.

The registries here see the password or the token, rightly, and repeat it in every place that ends up in a message.
"""

from __future__ import annotations

import base64
import io
import json
import tarfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, quote, quote_plus

import pytest

from lamina.errors import Unavailable
from lamina.testing.commandline import CommandLine
from lamina.testing.hostile_registry import HostileServer, Reply, Seen, json_reply, serving
from lamina.testing.made_up_internet import HOST, NAME, SECRET, World
from lamina.transports.remote.source import open_remote

USER, PASSWORD, TOKEN = "alice", 'c4nary "p/ss&w%rd', "t0ken.of-a.c4nary_0123456789"
BASIC = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
#: A failure that is not tried again: it says that waiting would take a day.
NEVER = [("Retry-After", "86400")]
CANARIES = sorted(
    {
        BASIC,
        TOKEN,
        PASSWORD,
        json.dumps(PASSWORD)[1:-1],
        quote(PASSWORD, safe=""),
        quote_plus(PASSWORD),
        quote(PASSWORD),
    }
)


def told(request: Seen) -> str:
    """Every secret of a request, as it came and read."""
    header = request.headers.get("authorization", "")
    words = [header, request.body.decode("latin-1"), *parse_qs(request.body.decode("latin-1")).get("refresh_token", [])]
    if header.startswith("Basic "):
        words.append(base64.b64decode(header[6:]).decode().partition(":")[2])
    return " and ".join(word for word in words if word)


def complaint(status: int, code: str, text: str) -> Reply:
    return json_reply({"errors": [{"code": code, "message": f"why {text}?", "detail": text}]}, status, NEVER)


def basic(answer: Callable[[Seen], Reply]) -> Callable[[Seen], Reply]:
    """Wants the password, and then answers."""

    def handler(request: Seen) -> Reply:
        if "authorization" not in request.headers:
            return Reply(401, b"", [("WWW-Authenticate", 'Basic realm="r"')])
        return answer(request)

    return handler


def bearer(
    answer: Callable[[Seen], Reply], token: Callable[[Seen], Reply] = lambda _: json_reply({"token": TOKEN})
) -> Callable[[Seen], Reply]:
    """Wants a token of its own, and then answers."""

    def handler(request: Seen) -> Reply:
        if request.path.startswith("/token"):
            return token(request)
        if "authorization" not in request.headers:
            host = request.headers["host"]
            return Reply(401, b"", [("WWW-Authenticate", f'Bearer realm="http://{host}/token",service="s"')])
        return answer(request)

    return handler


def moved(place: Callable[[Seen], str]) -> Callable[[Seen], Reply]:
    """Sends to a place that names the secret, and knows nothing of it there."""

    def answer(request: Seen) -> Reply:
        if request.path.startswith("/away"):
            return Reply(404)
        return Reply(307, b"", [("Location", place(request))])

    return answer


def words(request: Seen) -> str:
    return quote(told(request).rpartition(" ")[2], safe="")


def no_http(request: Seen) -> Reply:
    return Reply(f"nonsense {told(request)}")  # type: ignore[arg-type]


def never(_request: Seen) -> Reply:
    raise AssertionError("nothing more is asked")


#: What a registry does with what it has seen.
REGISTRIES: dict[str, Callable[[Seen], Reply]] = {
    **{
        f"{kind.__name__} {status} {code}": kind(lambda seen, s=status, c=code: complaint(s, c, told(seen)))  # type: ignore[misc]
        for kind in (basic, bearer)
        for status, code in (
            *((400, "UNSUPPORTED"), (401, "UNAUTHORIZED"), (403, "DENIED"), (404, "MANIFEST_UNKNOWN")),
            *((404, "NAME_UNKNOWN"), (429, "TOOMANYREQUESTS"), (500, "UNKNOWN")),
        )
        if kind is basic or status in (401, 403)
    },
    "the secret is the code": bearer(lambda seen: complaint(403, told(seen).rpartition(" ")[2], "x")),
    "no JSON": basic(lambda seen: Reply(400, told(seen).encode())),
    "upload elsewhere": basic(
        lambda seen: Reply(404) if seen.method != "POST" else Reply(202, b"", [("Location", f"gopher://{words(seen)}/")])
    ),
    "a manifest type": bearer(lambda seen: Reply(200, b"{}", [("Content-Type", told(seen))])),
    "a digest header": bearer(lambda seen: Reply(200, b"{}", [("Docker-Content-Digest", told(seen))])),
    "moved": basic(moved(lambda seen: f"/away/{words(seen)}")),
    "moved with a token": bearer(moved(lambda seen: f"/away/{words(seen)}")),
    "moved inside": basic(moved(lambda seen: f"http://169.254.1.1/{words(seen)}")),
    "moved to no URL": basic(moved(lambda seen: f"gopher://{words(seen)}/")),
    "moved to a login": basic(moved(lambda seen: f"http://{USER}:{words(seen)}@127.0.0.1:1/")),
    "token 401": bearer(never, lambda seen: complaint(401, "UNAUTHORIZED", told(seen))),
    "token 403": bearer(never, lambda seen: complaint(403, "DENIED", told(seen))),
    "token 500": bearer(never, lambda seen: complaint(500, "UNKNOWN", told(seen))),
    "token no JSON": bearer(never, lambda seen: Reply(200, told(seen).encode())),
    "token is none": bearer(never, lambda seen: json_reply({"token": f"{told(seen)}\n"})),
    "token moved": bearer(never, moved(lambda seen: f"http://169.254.1.1/{words(seen)}")),
    "realm": basic(lambda seen: Reply(401, b"", [("WWW-Authenticate", f'Bearer realm="http://a.example/{words(seen)}"')])),
    "realm is no URL": bearer(lambda seen: Reply(401, b"", [("WWW-Authenticate", f'Bearer realm="{words(seen)}"')])),
    "realm elsewhere": bearer(
        lambda seen: Reply(401, b"", [("WWW-Authenticate", f'Bearer realm="http://127.0.0.9:1/{words(seen)}"')])
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("canary")


@pytest.fixture(scope="module")
def server() -> Iterator[HostileServer]:
    with serving(never) as running:
        yield running


@pytest.fixture(scope="module")
def stocked(folder: Path, server: HostileServer) -> CommandLine:
    """A store with an image for the server's `app:1`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("empty"))
    lamina = CommandLine(folder)
    lamina.ok("import", "-", f"{server.authority}/app:1", stdin=buffer.getvalue())
    lamina.config_dir.mkdir()
    return lamina


CASES = [(name, False) for name in REGISTRIES]
#: Only a token server sees an identity token.
CASES += [(name, True) for name in ("token 401", "token no JSON", "bearer 403 DENIED")]


@pytest.mark.parametrize(("registry", "identity"), CASES)
def test_a_secret_that_a_registry_repeats_is_not_shown(
    stocked: CommandLine, server: HostileServer, registry: str, identity: bool
) -> None:
    # threat 60
    account = {"auth": base64.b64encode(f"{USER}:".encode()).decode(), "identitytoken": PASSWORD}
    server.handler, name = REGISTRIES[registry], f"{server.authority}/app:1"
    server.seen.clear()
    log_in(stocked, server, account if identity else {"auth": BASIC})
    login = ("login", "-u", USER, "--password-stdin", server.authority)
    shown = [
        stocked("-D", "pull", name),
        stocked("-D", "push", name),
        *([] if identity else [stocked("-D", *login, stdin=PASSWORD.encode())]),
    ]
    assert any(told(seen) for seen in server.seen), "no secret was ever sent: nothing was tested"
    for outcome in shown:
        assert "Traceback" in outcome.err or outcome.status == 0
        for canary in CANARIES:
            assert canary not in outcome.out + outcome.err, f"{canary} in:\n{outcome.out}{outcome.err}"


def log_in(lamina: CommandLine, server: HostileServer, account: dict[str, str]) -> None:
    (lamina.config_dir / "config.json").write_text(json.dumps({"auths": {server.authority: account}}))


def test_nor_is_one_that_comes_back_as_no_answer_at_all(world: World) -> None:
    # threat 60: here a waiting client would be slow on the command line
    world.serve(HOST, "11.0.0.1", basic(no_http))
    with pytest.raises(Unavailable, match=r"connection broken: .*nonsense") as broken:
        open_remote(world.client(login=True), NAME)
    assert SECRET not in "".join(traceback.format_exception(broken.value))
    assert base64.b64encode(f"alice:{SECRET}".encode()).decode() not in str(broken.value)


def test_what_is_no_secret_is_said(stocked: CommandLine, server: HostileServer) -> None:
    # the legitimate twin: the registry's words reach the user
    server.handler = basic(lambda _seen: complaint(403, "DENIED", "the account is closed"))
    log_in(stocked, server, {"auth": BASIC})
    assert "denied: why the account is closed?" in stocked("pull", f"{server.authority}/app").err
