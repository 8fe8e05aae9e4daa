"""A repository shows its own blobs only, whoever holds the bytes; what a caller may not read does not exist (threat 50)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from lamina.errors import Unauthorized
from lamina.registry.access import Action, Caller
from lamina.registry.names import Repository
from lamina.testing.registry import running_registry
from lamina.testing.registry_client import Client, digest_of

SECRET = b"the bytes of repository a"


def reads(client: Client, repository: str, digest: str) -> set[int]:
    """The status of every way to read a blob."""
    url = f"/v2/{repository}/blobs/{digest}"
    ways = [client.get(url), client.request("HEAD", url), client.get(url, Range="bytes=0-3")]
    return {reply.status for reply in ways} | {client.get(url, If_None_Match=f'"{digest}"').status}


def test_a_blob_of_another_repository_is_unknown_here(client: Client, repository: str) -> None:
    a, b = f"{repository}/a", f"{repository}/b"
    digest = client.push_blob(a, SECRET)
    client.push_blob(b, b"something else")
    assert reads(client, a, digest) == {200, 206, 304}
    assert reads(client, b, digest) == {404}
    assert client.request("DELETE", f"/v2/{b}/blobs/{digest}").status == 404
    assert reads(client, a, digest) == {200, 206, 304}


def test_a_deleted_blob_is_unknown_though_its_bytes_live_on_elsewhere(client: Client, repository: str) -> None:
    a, b = f"{repository}/a", f"{repository}/b"
    digest = client.push_blob(a, SECRET)
    client.push_blob(b, SECRET)
    assert client.request("DELETE", f"/v2/{a}/blobs/{digest}").status == 202
    assert reads(client, a, digest) == {404}
    assert reads(client, b, digest) == {200, 206, 304}
    refused = client.request("POST", f"/v2/{repository}/c/blobs/uploads/?mount={digest}&from={a}")
    assert refused.status == 202


def test_a_deleted_manifest_is_unknown_though_it_was_cached(client: Client, repository: str) -> None:
    a, b = f"{repository}/a", f"{repository}/b"
    digest = client.push_image(a, "v1")
    client.push_image(b, "v1")
    for _ in range(3):
        assert client.get(f"/v2/{a}/manifests/{digest}").status == 200
    assert client.request("DELETE", f"/v2/{a}/manifests/{digest}").status == 202
    assert client.get(f"/v2/{a}/manifests/{digest}").status == 404
    assert client.get(f"/v2/{b}/manifests/{digest}").status == 200


def test_an_upload_belongs_to_its_repository(client: Client, repository: str) -> None:
    # threat 49
    location = client.begin(f"{repository}/a")
    foreign = location.replace(f"{repository}/a", f"{repository}/b")
    for method in ("GET", "PATCH", "PUT", "DELETE"):
        query = f"?digest={digest_of(SECRET)}"
        assert client.request(method, foreign + query, SECRET).codes == ["BLOB_UPLOAD_UNKNOWN"]
    assert client.request("PUT", f"{location}?digest={digest_of(SECRET)}", SECRET).status == 201


@dataclass
class User:
    name: str

    def may(self, action: Action, repository: Repository) -> bool:
        return repository.startswith(f"{self.name}/") or (repository.startswith("public/") and action is Action.PULL)


class ByHeader:
    """A policy for these tests: the X-User header is the user, who owns the repositories below that name."""

    def caller(self, headers: Mapping[str, str]) -> Caller:
        if "X-User" not in headers:
            raise Unauthorized("who are you?")
        return User(headers["X-User"])

    def challenge(self, action: Action | None, repository: Repository | None) -> str:
        return f'Bearer realm="https://token/",scope="repository:{repository}:{action.value if action else ""}"'


class UserClient(Client):
    def __init__(self, address: str, user: str) -> None:
        super().__init__(address)
        self.user = user

    def request(self, method: str, path: str, body=None, headers=None):
        return super().request(method, path, body, {"X-User": self.user} | (headers or {}))


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_registry(str(tmp_path_factory.mktemp("guarded")), policy=ByHeader()) as address:
        yield address


def test_without_credentials_everything_is_a_challenge(guarded: str) -> None:
    anonymous = Client(guarded)
    reply = anonymous.get("/v2/ann/app/tags/list")
    assert (reply.status, reply.codes) == (401, ["UNAUTHORIZED"])
    assert reply.headers["WWW-Authenticate"].endswith('scope="repository:ann/app:pull"')
    assert anonymous.get("/v2/").status == 401
    assert anonymous.request("PUT", "/v2/ann/app/manifests/x", b"{}").headers["WWW-Authenticate"].endswith(':push"')


def test_a_mount_asks_for_the_right_to_read_the_source(guarded: str) -> None:
    # R05: named or not, a source that the caller may not read counts as absent
    ann, bob = UserClient(guarded, "ann"), UserClient(guarded, "bob")
    digest = ann.push_blob("ann/app", SECRET)
    for query in (f"?mount={digest}&from=ann/app", f"?mount={digest}"):
        assert bob.request("POST", f"/v2/bob/app/blobs/uploads/{query}").status == 202
        assert bob.request("HEAD", f"/v2/bob/app/blobs/{digest}").status == 404
        assert ann.request("POST", f"/v2/ann/two/blobs/uploads/{query}").status == 201


def test_others_repositories_can_be_neither_read_nor_written(guarded: str) -> None:
    ann, bob = UserClient(guarded, "ann"), UserClient(guarded, "bob")
    digest = ann.push_image("ann/app", "v1")
    for method, path in [
        ("GET", "manifests/v1"),
        ("HEAD", f"manifests/{digest}"),
        ("PUT", "manifests/v2"),
        ("DELETE", "manifests/v1"),
        ("GET", "tags/list"),
        ("GET", f"referrers/{digest}"),
        ("GET", f"blobs/{digest}"),
        ("DELETE", f"blobs/{digest}"),
        ("POST", "blobs/uploads/"),
        ("PATCH", "blobs/uploads/x"),
    ]:
        assert bob.request(method, f"/v2/ann/app/{path}").status == 403, (method, path)
    assert ann.get("/v2/ann/app/manifests/v1").status == 200


class Rights:
    """A caller, and a policy for these tests: the X-Rights header lists what may be done, everywhere."""

    def __init__(self, rights: str = "") -> None:
        self.rights = rights.split()

    def may(self, action: Action, _repository: Repository) -> bool:
        return action.value in self.rights

    def caller(self, headers: Mapping[str, str]) -> Caller:
        return Rights(headers.get("X-Rights", ""))

    def challenge(self, _action: Action | None, _repository: Repository | None) -> str:
        return ""


#: Every verb of every route below a repository, and the one right that it needs.
VERBS = [
    ("GET", "tags/list", "pull"),
    ("HEAD", "tags/list", "pull"),
    ("GET", "manifests/v1", "pull"),
    ("HEAD", "manifests/v1", "pull"),
    ("PUT", "manifests/v2", "push"),
    ("DELETE", "manifests/v1", "delete"),
    ("DELETE", "manifests/{digest}", "delete"),
    ("GET", "blobs/{digest}", "pull"),
    ("HEAD", "blobs/{digest}", "pull"),
    ("DELETE", "blobs/{digest}", "delete"),
    ("GET", "referrers/{digest}", "pull"),
    ("HEAD", "referrers/{digest}", "pull"),
    ("POST", "blobs/uploads/", "push"),
    ("GET", "blobs/uploads/{upload}", "push"),
    ("PATCH", "blobs/uploads/{upload}", "push"),
    ("PUT", "blobs/uploads/{upload}?digest={digest}", "push"),
    ("DELETE", "blobs/uploads/{upload}", "push"),
]


def test_each_verb_needs_its_own_right_and_no_other(tmp_path: Path) -> None:
    # threat 51: a push token does not delete, nor does it read; the right alone is enough
    with running_registry(str(tmp_path), policy=Rights()) as address:
        client = Client(address)
        for method, path, needed in VERBS:
            filled = f"/v2/a/{path.format(digest=digest_of(SECRET), upload='0' * 32)}"
            for rights in ("", "pull", "push", "delete", "pull push", "pull delete", "push delete"):
                status = client.request(method, filled, b"", {"X-Rights": rights}).status
                assert (status != 403) == (needed in rights.split()), (method, path, rights, status)


def test_the_catalog_shows_what_the_caller_may_read(guarded: str) -> None:
    # R13
    ann, bob = UserClient(guarded, "ann"), UserClient(guarded, "bob")
    for number in range(5):
        ann.push_image(f"ann/n{number}", "v1")
        bob.push_image(f"bob/n{number}", "v1")
    assert all(name.startswith("bob/") for name in bob.get("/v2/_catalog").json()["repositories"])
    assert len(bob.get("/v2/_catalog?n=3").json()["repositories"]) == 3
    assert "ann/n4" in ann.get("/v2/_catalog").json()["repositories"]
