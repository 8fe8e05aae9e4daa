"""What every byte driver does, whatever it stands on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lamina.errors import Internal
from lamina.spec.digest import Digest
from lamina.store.backends.driver import BlobNotFound, ByteDriver, UploadBusy
from lamina.store.backends.filesystem import FilesystemDriver
from lamina.store.backends.memory import MemoryDriver
from lamina.store.files import Files
from lamina.store.writing import DigestMismatch, SizeMismatch, VerifiedWriter

DATA = bytes(range(256)) * 5000
DIGEST = Digest.of(DATA)


def filesystem(tmp_path: Path) -> ByteDriver:
    for name in ("blobs", "ingest"):
        (tmp_path / name).mkdir()
    return FilesystemDriver(str(tmp_path / "blobs"), str(tmp_path / "ingest"), Files())


def memory(_tmp_path: Path) -> ByteDriver:
    return MemoryDriver()


@pytest.fixture(params=[filesystem, memory], ids=lambda make: make.__name__)
def driver(request: pytest.FixtureRequest, tmp_path: Path) -> ByteDriver:
    make: Callable[[Path], ByteDriver] = request.param
    return make(tmp_path)


def put(driver: ByteDriver, data: bytes) -> Digest:
    upload = driver.begin("one", resume=False)
    upload.write(data)
    digest = Digest.of(data)
    upload.commit(digest)
    return digest


def test_a_committed_upload_is_a_blob(driver: ByteDriver) -> None:
    assert put(driver, DATA) == DIGEST
    assert driver.size(DIGEST) == len(DATA)
    assert list(driver.list()) == [(DIGEST, len(DATA))]
    with driver.open(DIGEST) as file:
        assert file.read() == DATA
        file.seek(1000)
        assert file.read(3) == DATA[1000:1003]
    assert list(driver.partials()) == []


def test_what_is_not_there_is_not_found(driver: ByteDriver) -> None:
    assert driver.size(DIGEST) is None
    assert driver.path(DIGEST) is None
    assert driver.delete(DIGEST) == 0
    assert driver.drop("nothing") == 0
    with pytest.raises(BlobNotFound, match=DIGEST.hex):
        driver.open(DIGEST)


def test_a_path_holds_exactly_the_blob(driver: ByteDriver) -> None:
    put(driver, DATA)
    path = driver.path(DIGEST)
    assert path is None or Path(path).read_bytes() == DATA


def test_nothing_shows_before_the_commit(driver: ByteDriver) -> None:
    upload = driver.begin("half")
    upload.write(DATA)
    assert driver.size(DIGEST) is None
    assert list(driver.list()) == []
    upload.cancel()
    assert list(driver.partials()) == []


def test_a_closed_upload_is_resumed_by_name(driver: ByteDriver) -> None:
    # A10: what was fetched survives the one who fetched it
    upload = driver.begin("half")
    upload.write(DATA[:700])
    upload.close()
    [partial] = driver.partials()
    assert (partial.name, partial.size, partial.busy) == ("half", 700, False)
    again = driver.begin("half")
    assert again.offset == 700
    assert b"".join(again.existing()) == DATA[:700]
    again.write(DATA[700:])
    again.commit(DIGEST)
    with driver.open(DIGEST) as file:
        assert file.read() == DATA


def test_an_upload_can_start_over(driver: ByteDriver) -> None:
    upload = driver.begin("half")
    upload.write(b"wrong")
    upload.restart()
    assert upload.offset == 0
    upload.write(DATA)
    upload.commit(DIGEST)
    assert driver.size(DIGEST) == len(DATA)


def test_an_upload_has_one_writer(driver: ByteDriver) -> None:
    upload = driver.begin("mine")
    with pytest.raises(UploadBusy):
        driver.begin("mine")
    upload.write(b"x")
    [partial] = driver.partials()
    assert partial.busy
    assert driver.drop("mine") == 0
    upload.close()
    assert driver.drop("mine") > 0
    assert list(driver.partials()) == []


def test_a_finished_upload_takes_no_more(driver: ByteDriver) -> None:
    upload = driver.begin("done")
    upload.close()
    with pytest.raises(Internal):
        upload.write(b"more")


def test_a_blob_can_be_replaced_by_itself(driver: ByteDriver) -> None:
    put(driver, DATA)
    put(driver, DATA)
    assert list(driver.list()) == [(DIGEST, len(DATA))]


def test_delete_says_what_it_freed(driver: ByteDriver) -> None:
    put(driver, DATA)
    assert driver.delete(DIGEST) >= len(DATA)
    assert driver.size(DIGEST) is None


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
def test_every_algorithm_has_its_place(driver: ByteDriver, algorithm: str) -> None:
    digest = Digest.of(DATA, algorithm)
    upload = driver.begin("one")
    upload.write(DATA)
    upload.commit(digest)
    assert list(driver.list()) == [(digest, len(DATA))]


def test_a_verified_writer_refuses_other_bytes(driver: ByteDriver) -> None:
    writer = VerifiedWriter(driver.begin("v"), DIGEST)
    writer.write(DATA[:-1] + b"!")
    with pytest.raises(DigestMismatch) as caught:
        writer.commit()
    assert (caught.value.expected, caught.value.resumed) == (DIGEST, 0)
    assert driver.size(DIGEST) is None
    assert list(driver.partials()) == []  # wrong bytes are of no use to anybody


def test_a_verified_writer_knows_how_much_to_expect(driver: ByteDriver) -> None:
    with VerifiedWriter(driver.begin("v"), DIGEST, size=len(DATA)) as writer:
        writer.write(DATA[:-1])
        with pytest.raises(SizeMismatch):
            writer.commit()
        with pytest.raises(SizeMismatch, match="at least"):
            writer.write(b"two more")
    [partial] = driver.partials()  # too few bytes can still be continued
    assert partial.size == len(DATA) - 1
    with VerifiedWriter(driver.begin("v"), DIGEST, size=len(DATA)) as writer:
        assert writer.resumed == len(DATA) - 1
        writer.write(DATA[-1:])
        assert writer.commit() == DIGEST


def test_a_verified_writer_passes_on_what_was_there(driver: ByteDriver) -> None:
    with VerifiedWriter(driver.begin("v"), DIGEST) as writer:
        writer.write(DATA[:5000])
    seen: list[bytes] = []
    with VerifiedWriter(driver.begin("v"), DIGEST, tee=seen.append) as writer:
        assert b"".join(seen) == DATA[:5000]
        writer.write(DATA[5000:])
        writer.commit()


def test_a_writer_without_a_promise_leaves_nothing_behind(driver: ByteDriver) -> None:
    with VerifiedWriter(driver.begin("v")) as writer:
        writer.write(DATA)
    assert list(driver.partials()) == []
