"""Reading and deleting blobs (R03, R12)."""

from __future__ import annotations

import http.client
import os
import socket

import pytest

from lamina.testing.registry_client import Client, digest_of

DATA = os.urandom(100_000)


@pytest.fixture
def url(client: Client, repository: str) -> str:
    return f"/v2/{repository}/blobs/{client.push_blob(repository, DATA)}"


def test_get_and_head_agree(client: Client, url: str) -> None:
    got, head = client.get(url), client.request("HEAD", url)
    assert (got.status, got.body) == (200, DATA)
    assert (head.status, head.body) == (200, b"")
    for name in ("Content-Length", "Docker-Content-Digest", "Content-Type", "Accept-Ranges", "ETag"):
        assert got.headers[name] == head.headers[name]
    assert got.headers["Content-Length"] == "100000"
    assert got.headers["Docker-Content-Digest"] == digest_of(DATA)
    assert got.headers["Docker-Distribution-Api-Version"] == "registry/2.0"


@pytest.mark.parametrize(
    ("header", "expected", "place"),
    [
        ("bytes=0-0", DATA[:1], "bytes 0-0/100000"),
        ("bytes=500-1499", DATA[500:1500], "bytes 500-1499/100000"),
        ("bytes=99000-", DATA[99000:], "bytes 99000-99999/100000"),
        ("bytes=-5", DATA[-5:], "bytes 99995-99999/100000"),
        ("bytes=99000-200000", DATA[99000:], "bytes 99000-99999/100000"),
    ],
)
def test_a_range(client: Client, url: str, header: str, expected: bytes, place: str) -> None:
    reply = client.get(url, Range=header)
    assert (reply.status, reply.body, reply.headers["Content-Range"]) == (206, expected, place)
    assert reply.headers["Content-Length"] == str(len(expected))


@pytest.mark.parametrize("header", ["bytes=100000-", "bytes=500-0"])
def test_a_range_past_the_end(client: Client, url: str, header: str) -> None:
    # The second is no range at all; to ignore it is allowed too, but the OCI suite takes that for a missing feature.
    reply = client.get(url, Range=header)
    assert (reply.status, reply.headers["Content-Range"]) == (416, "bytes */100000")


@pytest.mark.parametrize("size", [1, 2, 65_535, 65_536, 65_537, 1_000_000])
def test_small_and_large_blobs_are_answered_alike(client: Client, repository: str, size: int) -> None:
    # R03: small ones are sent from memory, large ones from the file
    data = os.urandom(size)
    url = f"/v2/{repository}/blobs/{client.push_blob(repository, data)}"
    assert client.get(url).body == data
    for header, expected in (("bytes=0-0", data[:1]), ("bytes=-1", data[-1:]), (f"bytes={size - 1}-", data[-1:])):
        reply = client.get(url, Range=header)
        assert (reply.status, reply.body, reply.headers["Content-Length"]) == (206, expected, "1")
    assert client.get(url, Range=f"bytes={size}-").status == 416
    assert client.request("HEAD", url).headers["Content-Length"] == str(size)


def test_a_range_of_another_entity_is_answered_with_the_whole(client: Client, url: str) -> None:
    etag = client.get(url).headers["ETag"]
    assert client.get(url, Range="bytes=0-1", If_Range=etag).status == 206
    assert client.get(url, Range="bytes=0-1", If_Range='"other"').body == DATA


def test_what_the_client_has_is_not_sent_again(client: Client, url: str) -> None:
    reply = client.get(url, If_None_Match=client.get(url).headers["ETag"])
    assert (reply.status, reply.body) == (304, b"")


def test_unknown_blobs(client: Client, repository: str) -> None:
    missing = f"/v2/{repository}/blobs/{digest_of(b'missing')}"
    assert client.get(missing).codes == ["BLOB_UNKNOWN"]
    assert client.request("HEAD", missing).status == 404
    assert client.request("DELETE", missing).codes == ["BLOB_UNKNOWN"]
    assert client.get(f"/v2/{repository}/blobs/sha256:short").codes == ["DIGEST_INVALID"]


def test_delete(client: Client, url: str) -> None:
    # R12
    assert client.request("DELETE", url).status == 202
    assert client.get(url).codes == ["BLOB_UNKNOWN"]
    assert client.request("DELETE", url).status == 404


def test_a_deleted_blob_can_be_pushed_again(client: Client, repository: str, url: str) -> None:
    # F11
    client.request("DELETE", url)
    client.push_blob(repository, DATA)
    assert client.get(url).body == DATA


def test_many_requests_on_one_connection(client: Client, url: str) -> None:
    # sendfile writes beside the transport: answers must not be mixed up.
    connection = http.client.HTTPConnection(client.address, timeout=30)
    for number in range(50):
        connection.request("GET", url, headers={"Range": f"bytes={number}-{number + 9}"})
        assert connection.getresponse().read() == DATA[number : number + 10]
        connection.request("HEAD", url)
        assert connection.getresponse().read() == b""
    connection.close()


def test_pipelined_requests_are_answered_in_order(client: Client, url: str) -> None:
    host, port = client.address.split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        one = f"GET {url} HTTP/1.1\r\nHost: h\r\nRange: bytes={{0}}-{{0}}\r\n\r\n"
        connection.sendall("".join(one.format(number) for number in range(20)).encode())
        stream = connection.makefile("rb")
        for number in range(20):
            while stream.readline().strip():
                pass
            assert stream.read(1) == DATA[number : number + 1]
