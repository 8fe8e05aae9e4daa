"""Blobs: verified on the way in, leased from the first moment, found damaged when they are."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from lamina.errors import Cancelled, LimitExceeded
from lamina.spec.digest import Digest
from lamina.store.backends.driver import BlobNotFound
from lamina.store.blobs import DamagedBlob
from lamina.store.store import Store
from lamina.store.writing import DigestMismatch, SizeMismatch

DATA = os.urandom(300_000)
DIGEST = Digest.of(DATA)


def put(store: Store, data: bytes = DATA) -> Digest:
    return store.blobs.put(data)


def damage(store: Store, digest: Digest) -> None:
    path = store.blobs.path(digest)
    assert path is not None
    with open(path, "r+b") as file:
        file.seek(1000)
        byte = file.read(1)
        file.seek(1000)
        file.write(bytes([byte[0] ^ 1]))


def test_a_blob_comes_back_as_it_went_in(store: Store) -> None:
    assert put(store) == DIGEST
    info = store.blobs.stat(DIGEST)
    assert info is not None
    assert info.size == len(DATA)
    assert store.blobs.read(DIGEST) == DATA
    with store.blobs.open(DIGEST) as file:
        file.seek(-10, os.SEEK_END)
        assert file.read() == DATA[-10:]
    assert [each.digest for each in store.blobs.all()] == [DIGEST]


def test_another_process_sees_it(store: Store) -> None:
    put(store)
    with Store.open(store.root) as other:
        assert other.blobs.read(DIGEST) == DATA


def test_nothing_is_found_where_nothing_is(store: Store) -> None:
    assert store.blobs.stat(DIGEST) is None
    assert store.blobs.hold(DIGEST) is None
    for read in (store.blobs.open, store.blobs.read, store.blobs.verify):
        with pytest.raises(BlobNotFound):
            read(DIGEST)


def test_an_ingest_continues_where_the_last_one_stopped(store: Store) -> None:
    # A10: partials survive whoever wrote them
    with store.blobs.ingest(DIGEST, size=len(DATA)) as writer:
        assert writer is not None
        writer.write(DATA[:100_000])
    with Store.open(store.root) as other, other.blobs.ingest(DIGEST, size=len(DATA)) as writer:
        assert writer is not None
        assert writer.offset == writer.resumed == 100_000
        writer.write(DATA[100_000:])
        assert writer.commit() == DIGEST
    with store.blobs.ingest(DIGEST) as writer:
        assert writer is None  # S03: there already
    assert store.blobs.partials() == []


def test_wrong_bytes_never_become_a_blob(store: Store) -> None:
    with store.blobs.ingest(DIGEST) as writer:
        assert writer is not None
        writer.write(DATA[:-1] + b"?")
        with pytest.raises(DigestMismatch):
            writer.commit()
    with store.blobs.ingest(DIGEST, size=10) as writer:
        assert writer is not None
        with pytest.raises(SizeMismatch):
            writer.write(b"eleven bytes")
    assert store.blobs.stat(DIGEST) is None
    assert store.fsck.run().clean


def test_a_writer_without_a_promise_finds_the_digest_itself(store: Store) -> None:
    for _again in range(2):
        with store.blobs.writer() as writer:
            writer.write(DATA)
            assert writer.commit(size=len(DATA)) == DIGEST
    with store.blobs.writer() as writer:
        writer.write(DATA)
        with pytest.raises(DigestMismatch):
            writer.commit(digest=Digest.of(b"something else"))
    assert store.blobs.partials() == []
    assert len(store.blobs.all()) == 1


@pytest.mark.parametrize("algorithm", ["sha384", "sha512"])
def test_other_algorithms_are_verified_too(store: Store, algorithm: str) -> None:
    digest = Digest.of(DATA, algorithm)
    with store.blobs.ingest(digest) as writer:
        assert writer is not None
        writer.write(DATA)
        writer.commit()
    assert store.blobs.read(digest) == DATA


def test_reading_small_documents_is_bounded_and_verified(store: Store) -> None:
    put(store)
    with pytest.raises(LimitExceeded):
        store.blobs.read(DIGEST, limit=1000)
    damage(store, DIGEST)
    with pytest.raises(DamagedBlob) as caught:
        store.blobs.read(DIGEST)
    assert caught.value.digest == DIGEST
    assert "pull or load" in str(caught.value.hint)


def test_damaged_bytes_are_never_passed_off_as_good(store: Store) -> None:
    # F20
    put(store)
    damage(store, DIGEST)
    with pytest.raises(DamagedBlob):
        store.blobs.verify(DIGEST)
    with pytest.raises(DamagedBlob), store.blobs.open(DIGEST, verify=True) as file:
        file.read()
    with store.blobs.open(DIGEST) as file:  # seekable, for those who check themselves
        assert file.read() != DATA


def test_a_lost_or_cut_file_counts_as_missing_and_is_fetched_again(store: Store) -> None:
    # F4
    put(store)
    path = store.blobs.path(DIGEST)
    assert path is not None
    os.truncate(path, 100)
    assert store.blobs.stat(DIGEST) is None
    with store.blobs.ingest(DIGEST) as writer:
        assert writer is not None
        writer.write(DATA)
        writer.commit()
    assert store.blobs.read(DIGEST) == DATA
    os.unlink(path)
    assert store.blobs.stat(DIGEST) is None
    put(store)
    assert store.blobs.read(DIGEST) == DATA


def test_bytes_whose_writer_died_before_its_row_are_taken_in(store: Store) -> None:
    path = Path(store.paths.blobs, DIGEST.algorithm, DIGEST.hex)
    path.write_bytes(DATA)
    assert store.blobs.stat(DIGEST) is None
    with store.blobs.ingest(DIGEST) as writer:
        assert writer is None
    assert store.blobs.read(DIGEST) == DATA


def test_wrong_bytes_under_the_right_name_are_not(store: Store) -> None:
    path = Path(store.paths.blobs, DIGEST.algorithm, DIGEST.hex)
    path.write_bytes(b"something else")
    with store.blobs.ingest(DIGEST) as writer:
        assert writer is not None
        writer.write(DATA)
        writer.commit()
    assert path.read_bytes() == DATA


def test_one_ingest_at_a_time_and_the_others_find_it_done(store: Store) -> None:
    # F8, in one process
    started, waits = threading.Event(), threading.Event()
    outcomes: list[bool] = []

    def follow() -> None:
        started.wait()
        with store.blobs.ingest(DIGEST, waiting=waits.set) as writer:
            outcomes.append(writer is None)

    thread = threading.Thread(target=follow)
    thread.start()
    with store.blobs.ingest(DIGEST) as writer:
        assert writer is not None
        started.set()
        assert waits.wait(30)
        writer.write(DATA)
        writer.commit()
    thread.join()
    assert outcomes == [True]


def test_waiting_can_be_given_up(store: Store) -> None:
    with store.blobs.ingest(DIGEST), pytest.raises(Cancelled):
        with store.blobs.ingest(DIGEST, cancelled=lambda: True):
            pass


def test_no_lock_files_are_left(store: Store) -> None:
    put(store)
    assert os.listdir(store.paths.locks) == []
