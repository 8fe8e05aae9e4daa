"""Digests: exact text in, nothing else (image-spec, descriptor.md, section Digests)."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.errors import Invalid
from lamina.spec.digest import EMPTY_SHA256, HEX_LENGTH, Digest, InvalidDigest, chain_ids, sha256

A64 = "a" * 64
BAD = [
    "",
    "sha256",
    "sha256:",
    f"sha256{A64}",  # no colon
    f":{A64}",
    f"sha256:{A64[:-1]}",
    f"sha256:{A64}a",
    f"sha256:{'A' * 64}",
    f"SHA256:{A64}",
    f"sha256:{'g' * 64}",
    f"sha512:{A64}",  # short for its algorithm
    f"sha256:{'a' * 128}",
    "md5:" + "a" * 32,
    f"sha1:{'a' * 40}",
    f"sha256+b64:{A64}",
    "sha256:../../../../etc/passwd",
    f"sha256:../{'a' * 61}",
    f"sha256:{'a' * 62}/x",
    f"sha256:{'a' * 63}\0",
    f" sha256:{A64}",
    f"sha256:{A64} ",
    f"sha256:{A64}\n",
    f"sha256:{A64}\r\n",
    f"sha256:{'٣' * 64}",  # digits, but not of ASCII
    f"sha256:sha256:{A64}",
    f"sha256:{A64}@sha256:{A64}",
]


@pytest.mark.parametrize("text", BAD, ids=lambda text: text[:24].encode("unicode_escape").decode())
def test_anything_but_algorithm_and_exact_hex_is_refused(text: str):  # threat 11
    with pytest.raises(InvalidDigest) as caught:
        Digest.parse(text)
    assert isinstance(caught.value, Invalid)
    assert caught.value.text == text


@pytest.mark.parametrize("value", [None, 7, b"sha256:" + b"a" * 64, ["sha256:" + A64]])
def test_values_that_are_no_text_are_refused_too(value):
    with pytest.raises(InvalidDigest):
        Digest.parse(value)


def test_an_endless_text_does_not_make_an_endless_message():
    with pytest.raises(InvalidDigest) as caught:
        Digest.parse("sha256:" + "x" * 1_000_000)
    assert len(caught.value.message) < 400


@pytest.mark.parametrize(("algorithm", "length"), HEX_LENGTH.items())
def test_supported_algorithms_round_trip(algorithm: str, length: int):
    text = f"{algorithm}:{'0f' * (length // 2)}"
    digest = Digest.parse(text)
    assert (str(digest), digest.algorithm, len(digest.hex)) == (text, algorithm, length)


@given(st.binary(), st.sampled_from(sorted(HEX_LENGTH)))
def test_the_digest_of_bytes_is_the_algorithms_own(data: bytes, algorithm: str):
    digest = Digest.of(data, algorithm)
    assert digest.hex == hashlib.new(algorithm, data).hexdigest()
    assert Digest.parse(str(digest)) == digest
    hasher = digest.hasher()
    hasher.update(memoryview(data))
    assert Digest.from_hasher(hasher, algorithm) == digest


@given(st.text())
def test_arbitrary_text_parses_to_itself_or_not_at_all(text: str):
    try:
        assert str(Digest.parse(text)) == text
    except InvalidDigest:
        pass


def test_the_empty_digest_and_the_short_form():
    assert str(EMPTY_SHA256) == "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert EMPTY_SHA256.short == "e3b0c44298fc"
    assert sha256().hexdigest() == EMPTY_SHA256.hex


def test_digests_are_values():
    one, same, other = Digest.of(b"1"), Digest.parse(str(Digest.of(b"1"))), Digest.of(b"2")
    assert one == same
    assert len({one, same, other}) == 2
    assert sorted([one, other]) == sorted([other, one])


def test_chain_ids_follow_the_specs_recursion():
    # image-spec, config.md, Layer ChainID: ChainID(A|B) = Digest(ChainID(A) + " " + DiffID(B))
    a, b, c = Digest.of(b"a"), Digest.of(b"b"), Digest.of(b"c")
    ab = Digest.of(f"{a} {b}".encode())
    assert chain_ids([a, b, c]) == [a, ab, Digest.of(f"{ab} {c}".encode())]
    assert chain_ids(()) == []


@given(st.lists(st.binary(max_size=4), max_size=6))
def test_a_chain_id_depends_on_everything_below(contents: list[bytes]):
    diff_ids = [Digest.of(content) for content in contents]
    whole = chain_ids(diff_ids)
    assert [chain_ids(diff_ids[:count])[-1] for count in range(1, len(diff_ids) + 1)] == whole
