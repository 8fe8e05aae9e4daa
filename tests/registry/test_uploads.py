"""Every way to bring a blob in (R04-R08)."""

from __future__ import annotations

import hashlib
import itertools
import os
import random
import socket
from collections.abc import Iterator

import pytest

from lamina.testing.registry_client import Client, digest_of

DATA = os.urandom(300_000)


def test_post_with_the_digest_takes_the_blob_at_once(client: Client, repository: str) -> None:
    # R04
    digest = digest_of(DATA)
    reply = client.request("POST", f"/v2/{repository}/blobs/uploads/?digest={digest}", DATA)
    assert reply.status == 201
    assert reply.headers["Location"] == f"/v2/{repository}/blobs/{digest}"
    assert reply.headers["Docker-Content-Digest"] == digest
    assert client.get(reply.headers["Location"]).body == DATA


def test_post_then_put(client: Client, repository: str) -> None:
    # R04, R07
    begun = client.request("POST", f"/v2/{repository}/blobs/uploads/")
    assert (begun.status, begun.headers["Range"]) == (202, "0-0")
    assert begun.headers["Location"].endswith(begun.headers["Docker-Upload-UUID"])
    done = client.request("PUT", f"{begun.headers['Location']}?digest={digest_of(DATA)}", DATA)
    assert done.status == 201
    assert client.get(done.headers["Location"]).body == DATA
    assert client.get(begun.headers["Location"]).codes == ["BLOB_UPLOAD_UNKNOWN"]


def test_docker_streams_one_patch_without_a_range(client: Client, repository: str) -> None:
    # R06
    location = client.begin(repository)
    pieces = [DATA[start : start + 32_768] for start in range(0, len(DATA), 32_768)]
    patched = client.request("PATCH", location, iter(pieces), {"Transfer-Encoding": "chunked"})
    assert (patched.status, patched.headers["Range"]) == (202, f"0-{len(DATA) - 1}")
    assert client.request("PUT", f"{patched.headers['Location']}?digest={digest_of(DATA)}").status == 201


def test_chunks_with_ranges_and_a_last_one_in_put(client: Client, repository: str) -> None:
    # R06, R07, R08
    location, cuts = client.begin(repository), [0, 1, 100_000, 250_000]
    for first, end in itertools.pairwise(cuts):
        reply = client.request("PATCH", location, DATA[first:end], {"Content-Range": f"{first}-{end - 1}"})
        assert (reply.status, reply.headers["Range"]) == (202, f"0-{end - 1}")
        status = client.get(location)
        assert (status.status, status.headers["Range"]) == (204, f"0-{end - 1}")
    last = {"Content-Range": f"250000-{len(DATA) - 1}"}
    done = client.request("PUT", f"{location}?digest={digest_of(DATA)}", DATA[250_000:], last)
    assert done.status == 201
    assert client.get(done.headers["Location"]).body == DATA


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_a_chunk_out_of_order_is_told_the_true_range(client: Client, repository: str, method: str) -> None:
    # R06, F14
    location = client.begin(repository)
    client.request("PATCH", location, DATA[:1000], {"Content-Range": "0-999"})
    query = f"?digest={digest_of(DATA)}" if method == "PUT" else ""
    wrong = client.request(method, location + query, DATA[2000:3000], {"Content-Range": "2000-2999"})
    assert (wrong.status, wrong.headers["Range"]) == (416, "0-999")
    right = client.request("PATCH", location, DATA[1000:], {"Content-Range": f"1000-{len(DATA) - 1}"})
    assert right.status == 202
    assert client.request("PUT", f"{location}?digest={digest_of(DATA)}").status == 201


@pytest.mark.parametrize("text", ["x", "5", "9-1", "0-5", "-", "99999999999999999999-0"])
def test_a_content_range_that_is_none_or_does_not_fit(client: Client, repository: str, text: str) -> None:
    location = client.begin(repository)
    reply = client.request("PATCH", location, b"abc", {"Content-Range": text})
    assert reply.status in {400, 416}
    assert client.request("PATCH", location, b"abc", {"Content-Range": "0-2"}).status == 202


def test_the_wrong_digest_ends_the_session(client: Client, repository: str) -> None:
    # R07
    location, other = client.begin(repository), digest_of(b"other")
    assert client.request("PUT", f"{location}?digest={other}", DATA).codes == ["DIGEST_INVALID"]
    assert client.get(location).codes == ["BLOB_UPLOAD_UNKNOWN"]
    assert client.get(f"/v2/{repository}/blobs/{other}").status == 404
    assert client.get(f"/v2/{repository}/blobs/{digest_of(DATA)}").status == 404
    once = client.request("POST", f"/v2/{repository}/blobs/uploads/?digest={other}", DATA)
    assert once.codes == ["DIGEST_INVALID"]


@pytest.mark.parametrize("digest", ["", "sha256:abc", "md5:" + "0" * 32, "sha256:" + "A" * 64, "../../x"])
def test_digests_outside_of_the_grammar(client: Client, repository: str, digest: str) -> None:
    # R15
    assert client.request("PUT", f"{client.begin(repository)}?digest={digest}", DATA).codes == ["DIGEST_INVALID"]
    assert client.request("POST", f"/v2/{repository}/blobs/uploads/?mount={digest}").codes == ["DIGEST_INVALID"]


def test_put_without_a_digest(client: Client, repository: str) -> None:
    assert client.request("PUT", client.begin(repository), DATA).codes == ["BLOB_UPLOAD_INVALID"]


@pytest.mark.parametrize("algorithm", ["sha384", "sha512"])
def test_other_digest_algorithms_announced_or_not(client: Client, repository: str, algorithm: str) -> None:
    # R04, R15
    digest = digest_of(DATA, algorithm)
    for query in (f"?digest-algorithm={algorithm}", ""):
        location = client.begin(repository, query)
        client.request("PATCH", location, DATA)
        done = client.request("PUT", f"{location}?digest={digest}")
        assert done.status == 201
        assert client.get(done.headers["Location"]).body == DATA
    assert client.request("POST", f"/v2/{repository}/blobs/uploads/?digest-algorithm=md5").status == 400


def test_cancel(client: Client, repository: str) -> None:
    # R08
    location = client.begin(repository)
    client.request("PATCH", location, DATA)
    assert client.request("DELETE", location).status == 204
    for method in ("GET", "DELETE", "PATCH", "PUT"):
        assert client.request(method, f"{location}?digest={digest_of(DATA)}").codes == ["BLOB_UPLOAD_UNKNOWN"]


def test_the_empty_blob(client: Client, repository: str) -> None:
    digest = client.push_blob(repository, b"")
    reply = client.get(f"/v2/{repository}/blobs/{digest}")
    assert (reply.status, reply.body, reply.headers["Content-Length"]) == (200, b"", "0")


def test_mount_with_and_without_a_source(client: Client, repository: str) -> None:
    # R05
    data = DATA + repository.encode()
    source, target, third = f"{repository}/source", f"{repository}/target", f"{repository}/third"
    digest = client.push_blob(source, data)
    mounted = client.request("POST", f"/v2/{target}/blobs/uploads/?mount={digest}&from={source}")
    assert (mounted.status, mounted.headers["Location"]) == (201, f"/v2/{target}/blobs/{digest}")
    assert client.get(f"/v2/{target}/blobs/{digest}").body == data
    assert client.request("POST", f"/v2/{third}/blobs/uploads/?mount={digest}").status == 201
    assert client.request("HEAD", f"/v2/{third}/blobs/{digest}").status == 200


def test_a_mount_that_finds_nothing_becomes_a_session(client: Client, repository: str) -> None:
    # R05
    data = b"mount" + repository.encode()
    reply = client.request("POST", f"/v2/{repository}/blobs/uploads/?mount={digest_of(data)}&from={repository}/no")
    assert reply.status == 202
    done = client.request("PUT", f"{reply.headers['Location']}?digest={digest_of(data)}", data)
    assert done.status == 201


def test_expect_100_continue_is_answered_before_the_body(client: Client, repository: str) -> None:
    host, port = client.address.split(":")
    location = client.begin(repository)
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        head = f"PUT {location}?digest={digest_of(b'x')} HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n"
        connection.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
        connection.sendall(b"x")
        assert connection.recv(1000).startswith(b"HTTP/1.1 201 ")


def test_a_large_blob_in_pieces_of_any_size(client: Client, repository: str) -> None:
    # Pieces smaller and larger than what one thread turn takes, over both ways to hash.
    rng = random.Random(7)
    data = rng.randbytes(9 << 20)

    def pieces() -> Iterator[bytes]:
        start = 0
        while start < len(data):
            size = rng.choice([1, 1000, 70_000, 3 << 20])
            yield data[start : start + size]
            start += size

    location = client.begin(repository)
    assert client.request("PATCH", location, pieces(), {"Transfer-Encoding": "chunked"}).status == 202
    done = client.request("PUT", f"{location}?digest={digest_of(data)}")
    assert done.status == 201
    back = client.get(done.headers["Location"]).body
    assert hashlib.sha256(back).hexdigest() == digest_of(data).split(":")[1]
