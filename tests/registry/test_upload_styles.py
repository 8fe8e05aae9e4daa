"""What the OCI conformance suite asks of uploads: every style, in every algorithm, with the right and a wrong digest.

The suite itself is a Go program and is run by hand (`scripts/oci-conformance`). What it found is asserted here, and in
`test_blobs` and `test_manifests`.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from lamina.testing.registry_client import Client, Reply, digest_of

DATA = os.urandom(5000)
CHUNK = 2048
STREAMED = {"Transfer-Encoding": "chunked"}

Style = Callable[[Client, str, str, str], Reply]


def at_once(client: Client, repository: str, digest: str, query: str) -> Reply:
    separator = "&" if query else "?"
    return client.request("POST", f"/v2/{repository}/blobs/uploads/{query}{separator}digest={digest}", DATA)


def post_then_put(client: Client, repository: str, digest: str, query: str) -> Reply:
    return client.request("PUT", f"{client.begin(repository, query)}?digest={digest}", DATA)


def streamed(client: Client, repository: str, digest: str, query: str) -> Reply:
    location = client.begin(repository, query)
    assert client.request("PATCH", location, iter([DATA[:100], DATA[100:]]), STREAMED).status == 202
    return client.request("PUT", f"{location}?digest={digest}")


def one_chunk(client: Client, repository: str, digest: str, query: str) -> Reply:
    return _chunked(client, repository, digest, query, len(DATA), last_in_put=False)


def chunks(client: Client, repository: str, digest: str, query: str) -> Reply:
    return _chunked(client, repository, digest, query, CHUNK, last_in_put=False)


def chunks_and_a_last_one_in_put(client: Client, repository: str, digest: str, query: str) -> Reply:
    return _chunked(client, repository, digest, query, CHUNK, last_in_put=True)


def _chunked(client: Client, repository: str, digest: str, query: str, size: int, *, last_in_put: bool) -> Reply:
    location, starts = client.begin(repository, query), range(0, len(DATA), size)
    for start in starts:
        end = min(start + size, len(DATA))
        where = {"Content-Range": f"{start}-{end - 1}"}
        if last_in_put and start == starts[-1]:
            return client.request("PUT", f"{location}?digest={digest}", DATA[start:end], where)
        if start:
            # Again what is there already: refused, told where to go on, and nothing is lost by it.
            wrong = client.request("PATCH", location, DATA[:size], {"Content-Range": f"0-{size - 1}"})
            assert (wrong.status, wrong.headers["Range"]) == (416, f"0-{start - 1}")
        sent = client.request("PATCH", location, DATA[start:end], where)
        assert (sent.status, sent.headers["Range"]) == (202, f"0-{end - 1}")
        location = sent.headers["Location"]
    return client.request("PUT", f"{location}?digest={digest}")


STYLES = [at_once, post_then_put, streamed, one_chunk, chunks, chunks_and_a_last_one_in_put]


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("style", STYLES)
def test_a_blob_comes_in(client: Client, repository: str, style: Style, algorithm: str) -> None:
    # R04, R06, R07, R15
    digest = digest_of(DATA, algorithm)
    query = "" if algorithm == "sha256" else f"?digest-algorithm={algorithm}"
    done = style(client, repository, digest, query)
    assert (done.status, done.headers["Docker-Content-Digest"]) == (201, digest)
    assert client.get(done.headers["Location"]).body == DATA
    assert client.request("DELETE", done.headers["Location"]).status == 202
    assert client.request("HEAD", done.headers["Location"]).status == 404


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("style", STYLES)
def test_other_bytes_do_not(client: Client, repository: str, style: Style, algorithm: str) -> None:
    # R07, threat 10: neither under the digest that was claimed nor under their own
    claimed = digest_of(b"something else", algorithm)
    refused = style(client, repository, claimed, "")
    assert (refused.status, refused.codes) == (400, ["DIGEST_INVALID"])
    for digest in (claimed, digest_of(DATA, algorithm)):
        assert client.request("HEAD", f"/v2/{repository}/blobs/{digest}").status == 404
