"""Every error has a wire code, and an answer tells the client what it needs and nothing of the inside (R14)."""

from __future__ import annotations

import inspect

import pytest

from lamina import errors as kinds
from lamina.errors import LaminaError
from lamina.registry import errors
from lamina.registry.api.errors import TABLE, answer_for, error_response
from lamina.spec.distribution import Code, decode_errors
from lamina.testing.registry_client import Client


def test_every_kind_has_an_answer() -> None:
    assert set(kinds.KINDS) <= {kind for kind, _, _ in TABLE}


def test_concrete_errors_come_before_their_kinds() -> None:
    order = [kind for kind, _, _ in TABLE]
    for place, kind in enumerate(order):
        assert not any(issubclass(kind, earlier) for earlier in order[:place]), kind


def test_every_error_of_the_registry_is_answered_with_a_failure() -> None:
    for _, found in inspect.getmembers(errors, inspect.isclass):
        if issubclass(found, LaminaError) and found.__module__ == errors.__name__:
            _, status = next((code, status) for kind, code, status in TABLE if issubclass(found, kind))
            assert 400 <= status < 600, found


def test_server_faults_keep_their_details_to_themselves() -> None:
    # threat 60
    response = error_response(kinds.Unavailable("cannot open /secret/path"))
    assert response.status == 503
    assert b"secret" not in bytes(response.body)  # type: ignore[arg-type]
    assert response.headers["Retry-After"] == "1"


def test_client_faults_say_what_was_wrong() -> None:
    code, status = answer_for(errors.TagInvalid("a b"))
    assert (code, status) == (Code.TAG_INVALID, 400)
    body = error_response(errors.TagInvalid("a b")).body
    assert isinstance(body, bytes)
    assert decode_errors(body)[0].message == "invalid tag 'a b'"


def test_unknown_methods_and_paths(client: Client) -> None:
    reply = client.request("PUT", "/v2/")
    assert (reply.status, reply.codes, reply.headers["Allow"]) == (405, ["UNSUPPORTED"], "GET, HEAD")
    assert client.request("POST", "/v2/a/manifests/x").status == 405
    assert client.get("/nothing").status == 404
    assert client.get("/v2/UPPER/tags/list").codes == ["NAME_INVALID"]


def test_the_base_says_that_this_is_a_registry(client: Client) -> None:
    # R01
    reply = client.get("/v2/")
    assert (reply.status, reply.body) == (200, b"{}")
    assert reply.headers["Docker-Distribution-Api-Version"] == "registry/2.0"
    assert client.request("HEAD", "/v2/").status == 200


@pytest.mark.parametrize("path", ["/v2/a/tags/list", "/v2/a/manifests/x", "/v2/UPPER/tags/list", "/nothing"])
def test_every_failure_is_a_list_of_errors(client: Client, path: str) -> None:
    reply = client.get(path)
    assert reply.headers["Content-Type"].startswith("application/json")
    assert len(reply.codes) == 1
