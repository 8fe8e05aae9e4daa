"""The wire vocabulary: routes, error bodies, fallback tags (distribution-spec 1.1)."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.spec import distribution
from lamina.spec.digest import Digest
from lamina.spec.distribution import Code, WireError, decode_errors, encode_errors
from lamina.spec.reference import is_tag

#: distribution-spec 1.1, section Error Codes: code-1 to code-14.
SPEC_CODES = {
    "BLOB_UNKNOWN", "BLOB_UPLOAD_INVALID", "BLOB_UPLOAD_UNKNOWN", "DIGEST_INVALID", "MANIFEST_BLOB_UNKNOWN",
    "MANIFEST_INVALID", "MANIFEST_UNKNOWN", "NAME_INVALID", "NAME_UNKNOWN", "SIZE_INVALID", "UNAUTHORIZED", "DENIED",
    "UNSUPPORTED", "TOOMANYREQUESTS",
}  # fmt: skip


def test_every_code_of_the_specification_is_there():
    assert {code.name for code in Code} >= SPEC_CODES
    for code in Code:
        assert 400 <= code.status < 600
        assert code.description


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (Code.MANIFEST_UNKNOWN, 404),
        (Code.BLOB_UPLOAD_UNKNOWN, 404),
        (Code.DIGEST_INVALID, 400),
        (Code.UNAUTHORIZED, 401),
        (Code.DENIED, 403),
        (Code.RANGE_INVALID, 416),
        (Code.TOOMANYREQUESTS, 429),
    ],
)
def test_codes_go_with_their_status(code: Code, status: int):
    assert code.status == status


def test_codes_that_share_status_and_words_stay_distinct():
    # Enum folds members of equal value into one; these tables must not
    assert len({code.name for code in Code}) == len(Code.__members__)


def test_routes():
    digest = Digest.of(b"x")
    assert distribution.manifest_path("a/b", "latest") == "/v2/a/b/manifests/latest"
    assert distribution.manifest_path("a/b", digest) == f"/v2/a/b/manifests/{digest}"
    assert distribution.blob_path("a", digest) == f"/v2/a/blobs/{digest}"
    assert distribution.uploads_path("a") == "/v2/a/blobs/uploads/"
    assert distribution.tags_path("a") == "/v2/a/tags/list"
    assert distribution.referrers_path("a", digest) == f"/v2/a/referrers/{digest}"
    assert (distribution.PING_PATH, distribution.CATALOG_PATH) == ("/v2/", "/v2/_catalog")


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_the_referrers_tag_is_a_tag(algorithm: str):
    digest = Digest.of(b"x", algorithm)
    tag = distribution.referrers_tag(digest)
    assert tag == f"{algorithm}-{digest.hex[:64]}"
    assert is_tag(tag)


def test_error_bodies_look_like_the_specifications():
    body = encode_errors([WireError("NAME_UNKNOWN", "no such repository", {"name": "a"}), WireError("UNKNOWN")])
    assert json.loads(body) == {
        "errors": [
            {"code": "NAME_UNKNOWN", "message": "no such repository", "detail": {"name": "a"}},
            {"code": "UNKNOWN", "message": ""},
        ]
    }


@given(st.lists(st.builds(WireError, st.text(), st.text(), st.none() | st.integers() | st.text()), max_size=3))
def test_error_bodies_round_trip(errors: list[WireError]):
    assert decode_errors(encode_errors(errors)) == errors


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>502</html>",
        b"[]",
        b"null",
        b"7",
        b'{"errors": {}}',
        b'{"errors": null}',
        b'{"errors": [7, null]}',
        b"\xff",
        b"[" * 100_000,
        b'{"errors":' * 50_000,
    ],
)
def test_a_body_that_is_none_gives_nothing(body: bytes):
    assert decode_errors(body) == []


def test_odd_entries_are_read_as_far_as_they_go():
    assert decode_errors(b'{"errors": [{"message": "m"}, {"code": 7, "detail": []}, "x"]}') == [
        WireError("", "m"),
        WireError("7", "", []),
    ]


@given(st.binary(max_size=60))
def test_arbitrary_bodies_never_raise(body: bytes):
    assert isinstance(decode_errors(body), list)
