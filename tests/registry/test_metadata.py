"""The database: one transaction for each verb, and a generation that tells other processes' commits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lamina.registry.cache import NameCache
from lamina.registry.errors import ManifestBlobUnknown
from lamina.registry.metadata.protocol import ManifestRecord, References
from lamina.registry.metadata.sql import SqlMetadata
from lamina.registry.names import Repository, Tag
from lamina.spec.digest import Digest

A, V1 = Repository("a"), Tag("v1")
RECORD = ManifestRecord(Digest.of(b"manifest"), "application/vnd.oci.image.manifest.v1+json", 8)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[SqlMetadata, SqlMetadata]]:
    """The database as two processes see it."""
    url = f"sqlite:///{tmp_path}/registry.db"
    one, two = SqlMetadata(url), SqlMetadata(url)
    yield one, two
    one.close()
    two.close()


def test_every_commit_changes_the_generation_for_everybody(pair: tuple[SqlMetadata, SqlMetadata]) -> None:
    # threat 50, F17: what the cache relies on
    one, two = pair
    before = (one.generation(), two.generation())
    assert (one.generation(), two.generation()) == before
    one.add_blob(A, Digest.of(b"x"), 1)
    after = (one.generation(), two.generation())
    assert after[0] != before[0] and after[1] != before[1]
    two.remove_blob(A, Digest.of(b"x"))
    assert one.generation() != after[0]


def test_the_cache_forgets_when_another_process_commits(pair: tuple[SqlMetadata, SqlMetadata]) -> None:
    one, two = pair
    cache = NameCache[str](one)
    assert cache.lookup("key") is None
    cache.store("key", "answer", cache.generation())
    assert cache.lookup("key") == "answer"
    two.add_blob(A, Digest.of(b"x"), 1)
    assert cache.lookup("key") is None


def test_the_cache_does_not_keep_what_was_read_before_a_commit(pair: tuple[SqlMetadata, SqlMetadata]) -> None:
    one, two = pair
    cache = NameCache[str](one)
    cache.lookup("key")
    read_under = cache.generation()
    two.add_blob(A, Digest.of(b"x"), 1)
    cache.lookup("other")
    cache.store("key", "stale", read_under)
    assert cache.lookup("key") is None


def test_a_refused_manifest_leaves_nothing(pair: tuple[SqlMetadata, SqlMetadata]) -> None:
    one, two = pair
    with pytest.raises(ManifestBlobUnknown) as caught:
        one.put_manifest(A, RECORD, References(blobs={Digest.of(b"missing"): 7}), [V1])
    assert caught.value.missing == (Digest.of(b"missing"),)
    assert not two.has_repository(A)
    assert two.manifest(A, V1) is None


def test_a_manifest_with_more_references_than_one_query_takes(pair: tuple[SqlMetadata, SqlMetadata]) -> None:
    one, two = pair
    blobs = {Digest.of(str(number).encode()): number for number in range(600)}
    children = [Digest.of(f"child {number}".encode()) for number in range(1200)]
    for digest, size in blobs.items():
        one.add_blob(A, digest, size)
    one.put_manifest(A, RECORD, References(blobs=blobs, children=children), [V1])
    assert two.manifest(A, V1) == RECORD
    strict = References(children=children, children_required=True)
    with pytest.raises(ManifestBlobUnknown) as caught:
        two.check_references(A, strict)
    assert len(caught.value.missing) == 1200


def test_pushing_again_changes_nothing_and_deleting_takes_the_tags(pair: tuple[SqlMetadata, SqlMetadata]) -> None:
    one, two = pair
    for _ in range(2):
        one.put_manifest(A, RECORD, References(), [V1, Tag("v2")])
    assert two.tags(A, "", 10) == ["v1", "v2"]
    assert two.remove_manifest(A, RECORD.digest)
    assert not one.remove_manifest(A, RECORD.digest)
    assert (one.tags(A, "", 10), one.manifest(A, V1), one.repositories("", 10)) == ([], None, [])
