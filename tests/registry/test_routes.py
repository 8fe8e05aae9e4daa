"""Paths are told from their end and decoded once, segment by segment (R15, threat 49)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.errors import LaminaError
from lamina.registry.api.routes import Resource, Route, parse_route
from lamina.registry.errors import NameInvalid, RouteUnknown
from lamina.spec.reference import is_repository_path


@pytest.mark.parametrize(
    ("path", "resource", "repository", "last"),
    [
        ("/v2", Resource.BASE, "", ""),
        ("/v2/", Resource.BASE, "", ""),
        ("/v2/_catalog", Resource.CATALOG, "", ""),
        ("/v2/a/tags/list", Resource.TAGS, "a", ""),
        ("/v2/a/b__c/manifests/latest", Resource.MANIFEST, "a/b__c", "latest"),
        ("/v2/a/manifests/sha256%3Aab", Resource.MANIFEST, "a", "sha256:ab"),
        ("/v2/a/manifests/manifests/x", Resource.MANIFEST, "a/manifests", "x"),
        ("/v2/a/blobs/sha256:ab", Resource.BLOB, "a", "sha256:ab"),
        ("/v2/a/blobs/uploads/", Resource.UPLOADS, "a", ""),
        ("/v2/a/blobs/uploads", Resource.UPLOADS, "a", ""),
        ("/v2/a/blobs/uploads/id", Resource.UPLOAD, "a", "id"),
        ("/v2/blobs/uploads/blobs/uploads/id", Resource.UPLOAD, "blobs/uploads", "id"),
        ("/v2/tags/list/tags/list", Resource.TAGS, "tags/list", ""),
        ("/v2/a/referrers/sha256:ab", Resource.REFERRERS, "a", "sha256:ab"),
    ],
)
def test_every_route_of_the_protocol(path: str, resource: Resource, repository: str, last: str) -> None:
    route = parse_route(path)
    assert (route.resource, route.repository, route.last) == (resource, repository, last)


@pytest.mark.parametrize("path", ["", "/", "/v1/", "/v2/a", "/v2/a/b/c", "/v2/manifests", "v2/", "/v2/a/tags/list/x"])
def test_paths_outside_of_the_protocol(path: str) -> None:
    with pytest.raises(RouteUnknown):
        parse_route(path)


@pytest.mark.parametrize(
    "name",
    [
        "..",
        "a/../b",
        "%2e%2e",
        "%2e%2e/%2e%2e/etc",
        "a%2f..%2fb",
        "a%00b",
        "a\x00b",
        "A",
        "_uploads",
        "a//b",
        "a/",
        "/a",
        "a b",
        "-a",
        "a.",
        "a___b",
        "é",
        "%C3%A9",
        "a" * 256,
        "",
    ],
)
def test_names_outside_of_the_grammar_never_become_routes(name: str) -> None:
    # threat 49
    with pytest.raises(NameInvalid):
        parse_route(f"/v2/{name}/tags/list")


@given(st.text(alphabet="abv2/._-%0:~\x00AZ", max_size=60))
def test_whatever_parses_has_a_valid_name(text: str) -> None:
    # threat 49: a fuzz of the one gate that every request passes
    try:
        route = parse_route("/v2/" + text)
    except LaminaError:
        return
    assert route == Route(route.resource) or is_repository_path(route.repository)
