"""Tags, catalog and referrers, a page at a time (R10, R11, R13; threat 53)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from lamina.registry.config import RegistryConfig
from lamina.spec import mediatype
from lamina.testing.registry import running_registry
from lamina.testing.registry_client import Client, descriptor, digest_of, index_of


def next_page(headers: Any) -> str | None:
    found = re.fullmatch(r'<([^>]+)>; rel="next"', headers["Link"] or "")
    return found[1] if found else None


def pages(client: Client, path: str, key: str) -> Iterator[list[Any]]:
    following: str | None = path
    while following:
        reply = client.get(following)
        assert reply.status == 200
        yield reply.json()[key]
        following = next_page(reply.headers)


def put_tags(client: Client, repository: str, *tags: str) -> None:
    data = json.dumps(client.image(repository)).encode()
    query = "&".join(f"tag={tag}" for tag in tags)
    assert client.push_manifest(repository, f"{digest_of(data)}?{query}", data).status == 201


def test_tags_are_sorted_by_bytes(client: Client, repository: str) -> None:
    # R10
    put_tags(client, repository, "b", "A", "a", "_x", "10", "9")
    reply = client.get(f"/v2/{repository}/tags/list")
    assert reply.json() == {"name": repository, "tags": ["10", "9", "A", "_x", "a", "b"]}
    assert reply.headers["Link"] is None


def test_pages_of_tags(client: Client, repository: str) -> None:
    # R10
    tags = sorted(f"t{number}" for number in range(10))
    put_tags(client, repository, *tags)
    found = list(pages(client, f"/v2/{repository}/tags/list?n=4", "tags"))
    assert found == [tags[:4], tags[4:8], tags[8:]]
    exact = list(pages(client, f"/v2/{repository}/tags/list?n=5", "tags"))
    assert exact == [tags[:5], tags[5:]]


def test_last_is_exclusive_and_need_not_exist(client: Client, repository: str) -> None:
    # R10
    put_tags(client, repository, "a", "c", "e")
    assert client.get(f"/v2/{repository}/tags/list?last=c").json()["tags"] == ["e"]
    assert client.get(f"/v2/{repository}/tags/list?last=b").json()["tags"] == ["c", "e"]
    assert client.get(f"/v2/{repository}/tags/list?last=zzz").json()["tags"] == []


def test_n_of_zero_is_an_empty_page_without_a_link(client: Client, repository: str) -> None:
    # R10
    put_tags(client, repository, "a")
    reply = client.get(f"/v2/{repository}/tags/list?n=0")
    assert (reply.json()["tags"], reply.headers["Link"]) == ([], None)


@pytest.mark.parametrize("n", ["-1", "x", "1.5", "", "%201", "²"])
def test_n_that_is_no_number(client: Client, repository: str, n: str) -> None:
    # threat 53
    put_tags(client, repository, "a")
    from urllib.parse import quote

    reply = client.get(f"/v2/{repository}/tags/list?n={quote(n, safe='%')}")
    assert (reply.status, reply.codes) == (400, ["PAGINATION_NUMBER_INVALID"])


def test_a_huge_n_is_clamped(tmp_path: Any) -> None:
    # threat 53
    with running_registry(str(tmp_path), RegistryConfig(max_page=3)) as address:
        client = Client(address)
        tags = [f"t{number}" for number in range(7)]
        put_tags(client, "a", *tags)
        for n in ("", f"?n={2**31}", f"?n={'9' * 400}"):
            assert list(pages(client, f"/v2/a/tags/list{n}", "tags")) == [tags[:3], tags[3:6], tags[6:]]


def test_tags_of_an_unknown_repository(client: Client, repository: str) -> None:
    assert client.get(f"/v2/{repository}/tags/list").codes == ["NAME_UNKNOWN"]


def test_a_repository_without_tags_has_an_empty_list(client: Client, repository: str) -> None:
    # R10: [] and not null
    client.push_image(repository, "v1")
    client.request("DELETE", f"/v2/{repository}/manifests/v1")
    assert client.get(f"/v2/{repository}/tags/list").json()["tags"] == []


def test_the_catalog_in_pages(tmp_path: Any) -> None:
    # R13
    with running_registry(str(tmp_path)) as address:
        client = Client(address)
        assert client.get("/v2/_catalog").json() == {"repositories": []}
        names = ["a", "a-b", "a/b", "b", "team/app"]
        for name in reversed(names):
            client.push_image(name, "v1")
        client.push_blob("only/blobs", b"x")
        assert client.get("/v2/_catalog").json() == {"repositories": names}
        assert list(pages(client, "/v2/_catalog?n=2", "repositories")) == [names[:2], names[2:4], names[4:]]
        assert client.get("/v2/_catalog?n=0").json() == {"repositories": []}
        assert client.get("/v2/_catalog?last=a-b").json() == {"repositories": names[2:]}


def push_referrer(client: Client, repository: str, subject: dict[str, Any], number: int, kind: str = "") -> str:
    document = client.image(repository) | {"subject": subject, "annotations": {"number": str(number)}}
    if kind:
        document["artifactType"] = kind
    reply = client.push_manifest(repository, f"r{number}", document)
    assert reply.status == 201
    return reply.headers["Docker-Content-Digest"]


def subject_of(client: Client, repository: str) -> dict[str, Any]:
    client.push_image(repository, "subject")
    return descriptor(client.get(f"/v2/{repository}/manifests/subject").body, mediatype.OCI_MANIFEST)


def test_referrers_are_listed_with_type_and_annotations(client: Client, repository: str) -> None:
    # R11
    subject = subject_of(client, repository)
    typed = push_referrer(client, repository, subject, 1, "application/vnd.example.sbom")
    plain = push_referrer(client, repository, subject, 2)
    reply = client.get(f"/v2/{repository}/referrers/{subject['digest']}")
    assert (reply.status, reply.headers["Content-Type"]) == (200, mediatype.OCI_INDEX)
    found = {entry["digest"]: entry for entry in reply.json()["manifests"]}
    assert found.keys() == {typed, plain}
    assert found[typed]["artifactType"] == "application/vnd.example.sbom"
    assert found[plain]["artifactType"] == mediatype.OCI_CONFIG
    assert found[typed]["annotations"] == {"number": "1"}
    assert found[typed]["mediaType"] == mediatype.OCI_MANIFEST
    raw = client.get(f"/v2/{repository}/manifests/{typed}").body
    assert found[typed]["size"] == len(raw)


def test_referrers_are_filtered_by_type(client: Client, repository: str) -> None:
    # R11
    subject = subject_of(client, repository)
    typed = push_referrer(client, repository, subject, 1, "application/vnd.example+type")
    push_referrer(client, repository, subject, 2)
    url = f"/v2/{repository}/referrers/{subject['digest']}"
    reply = client.get(f"{url}?artifactType=application/vnd.example%2Btype")
    assert [entry["digest"] for entry in reply.json()["manifests"]] == [typed]
    assert reply.headers["OCI-Filters-Applied"] == "artifactType"
    assert client.get(url).headers["OCI-Filters-Applied"] is None
    assert client.get(f"{url}?artifactType=none").json()["manifests"] == []


def test_referrers_of_nothing(client: Client, repository: str) -> None:
    # R11: never 404
    reply = client.get(f"/v2/{repository}/referrers/{digest_of(b'nothing')}")
    assert (reply.status, reply.json()["manifests"], reply.json()["schemaVersion"]) == (200, [], 2)
    assert client.get(f"/v2/{repository}/referrers/sha256:bad").codes == ["DIGEST_INVALID"]


def test_pages_of_referrers(client: Client, repository: str) -> None:
    # R11
    subject = subject_of(client, repository)
    kind = "application/vnd.a+b"
    expected = sorted(push_referrer(client, repository, subject, number, kind) for number in range(5))
    url = f"/v2/{repository}/referrers/{subject['digest']}"
    for query in ("?n=2", f"?n=2&artifactType={kind.replace('+', '%2B')}"):
        found = list(pages(client, url + query, "manifests"))
        assert [len(page) for page in found] == [2, 2, 1]
        assert [entry["digest"] for page in found for entry in page] == expected


def test_a_page_of_referrers_stays_below_the_size_of_a_manifest(client: Client, repository: str) -> None:
    # threat 46: annotations are copied, so they count
    subject = subject_of(client, repository)
    for number in range(5):
        document = client.image(repository) | {"subject": subject, "annotations": {"big": str(number) * 1_000_000}}
        assert client.push_manifest(repository, f"r{number}", document).status == 201
    url = f"/v2/{repository}/referrers/{subject['digest']}"
    assert len(client.get(url).body) < 4 << 20
    assert sum(len(page) for page in pages(client, url, "manifests")) == 5


def test_a_deleted_referrer_is_not_listed(client: Client, repository: str) -> None:
    subject = subject_of(client, repository)
    digest = push_referrer(client, repository, subject, 1)
    client.request("DELETE", f"/v2/{repository}/manifests/{digest}")
    assert client.get(f"/v2/{repository}/referrers/{subject['digest']}").json()["manifests"] == []


def test_manifests_of_the_tag_schema_are_folded_in(client: Client, repository: str) -> None:
    # R11: a client of older registries kept its list under the tag ALGORITHM-HEX
    subject = subject_of(client, repository)
    direct = push_referrer(client, repository, subject, 1)
    folded = client.push_image(repository, "folded", annotations={"from": "tag"}, artifactType="application/x.old")
    raw = client.get(f"/v2/{repository}/manifests/{folded}").body
    entries = [descriptor(raw, mediatype.OCI_MANIFEST), descriptor(b"absent", mediatype.OCI_MANIFEST)]
    duplicate = client.get(f"/v2/{repository}/manifests/{direct}").body
    entries.append(descriptor(duplicate, mediatype.OCI_MANIFEST))
    tag = subject["digest"].replace(":", "-")
    assert client.push_manifest(repository, tag, index_of(*entries)).status == 201
    url = f"/v2/{repository}/referrers/{subject['digest']}"
    found = client.get(url).json()["manifests"]
    assert sorted(entry["digest"] for entry in found) == sorted([direct, folded])
    assert [len(page) for page in pages(client, f"{url}?n=1", "manifests")] == [1, 1]
    only = client.get(f"{url}?artifactType=application/x.old").json()["manifests"]
    assert [entry["annotations"] for entry in only] == [{"from": "tag"}]


def test_an_index_with_a_subject_is_a_referrer(client: Client, repository: str) -> None:
    subject = subject_of(client, repository)
    index = index_of() | {"subject": subject, "artifactType": "application/vnd.example.list"}
    pushed = client.push_manifest(repository, "list", index)
    assert pushed.headers["OCI-Subject"] == subject["digest"]
    found = client.get(f"/v2/{repository}/referrers/{subject['digest']}").json()["manifests"]
    assert [(entry["mediaType"], entry["artifactType"]) for entry in found] == [
        (mediatype.OCI_INDEX, "application/vnd.example.list")
    ]
