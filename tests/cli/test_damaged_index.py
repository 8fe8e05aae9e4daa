"""The index is damaged, anywhere: one line and a way out, which leads back to every image with its name (F5)."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from lamina.image.copy import copy
from lamina.spec.reference import Reference
from lamina.store.store import Store
from lamina.testing.commandline import CommandLine
from lamina.testing.images import random_image
from lamina.transports.local.sink import LocalSink

PAGE = 4096


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two images, closed."""
    folder = tmp_path_factory.mktemp("sound")
    with Store.open(str(folder / "root"), driver="vfs") as store, store.lease("test") as lease:
        for seed in (1, 2):
            copy(random_image(seed), LocalSink(store, lease, names=[Reference.parse(f"app:{seed}")]))
    return folder


def names(lamina: CommandLine) -> list[str]:
    return sorted(lamina.ok("images", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}").splitlines())


def damaged(sound: Path, target: Path, page: int, how: str) -> CommandLine:
    shutil.copytree(sound, target)
    with open(target / "root" / "lamina.db", "r+b") as file:
        if how == "cut":
            file.truncate(page * PAGE)
        else:
            file.seek(page * PAGE)
            file.write(bytes(PAGE) if how == "zeroed" else os.urandom(PAGE))
    return CommandLine(target)


@pytest.mark.parametrize("how", ["zeroed", "junk", "cut"])
def test_every_page_of_it(sound: Path, tmp_path: Path, how: str):
    wanted = names(CommandLine(sound))
    assert len(wanted) == 2
    pages = os.path.getsize(sound / "root" / "lamina.db") // PAGE
    for page in range(pages):
        lamina = damaged(sound, tmp_path / str(page), page, how)
        used = lamina("images")
        assert used.status in {0, 1}
        if used.status:
            assert "lamina.db" in used.err
            assert "fsck --repair" in used.err
            assert "Traceback" not in used.err
            assert len(used.err.splitlines()) <= 2, used.err
        mended = lamina("fsck", "--repair")
        assert mended.status == 0, (page, mended.out, mended.err)
        assert lamina("fsck").status == 0, page
        assert names(lamina) == wanted, page
        shutil.rmtree(tmp_path / str(page))


@pytest.mark.parametrize("how", ["zeroed", "junk", "cut", "deleted"])
def test_the_journal_beside_it(sound: Path, tmp_path: Path, how: str):
    """What was committed last lies in the WAL. Without it the index is sound but old; what it lost is named."""
    folder = tmp_path / "store"
    shutil.copytree(sound, folder)
    with Store.open(str(folder / "root")) as store:
        store.refs.tag(Reference.parse("late:1"), store.lookup.find("app:1").image.id)
        crashed = tmp_path / "crashed"
        shutil.copytree(folder, crashed)  # as a power cut leaves it: the WAL is not in the database yet
    lamina = CommandLine(crashed)
    wal = crashed / "root" / "lamina.db-wal"
    size = wal.stat().st_size
    assert size > PAGE
    if how == "deleted":
        wal.unlink()
    else:
        with open(wal, "r+b") as file:
            if how == "cut":
                file.truncate(size // 2)
            else:
                file.write(bytes(size) if how == "zeroed" else os.urandom(size))
    assert names(lamina) == names(CommandLine(sound))
    found = lamina("fsck")
    assert found.status == 1
    assert "names.json: it has not the names that the index has: see docker.io/library/late:1 " in found.out
    assert lamina("fsck", "--repair").status == 0
    assert lamina("fsck").status == 0
