"""`lamina system df|info|prune|fsck`, `builder prune` and the generic `inspect` (C37, C38, C40, C41, C47, S44, S45, A1)."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from lamina.image.copy import copy
from lamina.spec.reference import Reference
from lamina.store.store import Store
from lamina.testing import leftovers
from lamina.testing.commandline import CommandLine
from lamina.testing.images import random_image, tar_of
from lamina.transports.local.sink import LocalSink


@pytest.fixture
def lamina(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


def make(lamina: CommandLine, name: str, content: bytes) -> str:
    words = ["-", name] if name else ["-"]
    return lamina.ok("import", *words, stdin=tar_of([("data", content)])).strip()


def test_df_of_nothing(lamina: CommandLine):  # S45
    assert [line.split()[-4:] for line in lamina.ok("system", "df").splitlines()[:5]] == [
        ["TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"],
        ["0", "0", "0B", "0B"],
        ["0", "0", "0B", "0B"],
        ["0", "0", "0B", "0B"],
        ["0", "0", "0B", "0B"],
    ]


def test_df_counts_shared_layers_once(lamina: CommandLine):  # S45
    content = tar_of([("data", b"x" * 50_000)])
    lamina.ok("import", "-", "one", stdin=content)
    lamina.ok("import", "-m", "another", "-", "two", stdin=content)
    rows = [json.loads(line) for line in lamina.ok("system", "df", "--format", "json").splitlines()]
    assert rows[0] == {
        "Type": "Images", "TotalCount": "2", "Active": "0", "Size": "50kB", "Reclaimable": "50kB (100%)",
    }  # fmt: skip
    found = json.loads(lamina.ok("system", "df", "-v", "--format", "json"))
    assert [(row["SharedSize"], row["UniqueSize"]) for row in found["Images"]] == [("50kB", "0B")] * 2
    verbose = lamina.ok("system", "df", "-v")
    assert verbose.startswith("Images space usage:\n\nREPOSITORY   TAG       IMAGE ID")
    assert "Local Volumes space usage:\n\nVOLUME NAME   LINKS     SIZE\n" in verbose


def test_df_accounts_for_what_du_finds(lamina: CommandLine):  # A1
    from lamina.engine.engine import Engine
    from lamina.engine.settings import Settings

    make(lamina, "app", os.urandom(300_000))
    make(lamina, "app", os.urandom(500_000))
    with Engine(Settings.at(str(lamina.root))) as engine:
        said = engine.system.df().disk
        on_disk = sum(
            os.lstat(os.path.join(folder, name)).st_blocks * 512
            for folder, _, names in os.walk(lamina.root)
            for name in names
        )
    assert abs(said - on_disk) <= 64 * 1024  # directories, descriptions and lock files


def test_prune_frees_the_disk(lamina: CommandLine):  # A1, S44
    make(lamina, "", os.urandom(400_000))
    pruned = lamina.ok("system", "prune", "-f")
    assert pruned.startswith("Deleted Images:\ndeleted: sha256:")
    left = [
        path
        for folder, _, names in os.walk(lamina.root)
        for path in (os.path.join(folder, name) for name in names)
        if os.lstat(path).st_size > 100_000 and "lamina.db" not in path and not path.endswith("/reserve")
    ]
    assert left == []


def test_prune_on_a_new_store_has_nothing_to_do(lamina: CommandLine):
    assert lamina.ok("system", "prune", "-f") == "Total reclaimed space: 0B\n"
    assert lamina.ok("builder", "prune", "-f") == "Total reclaimed space: 0B\n"


def test_system_prune_lists_what_it_will_do(lamina: CommandLine):  # C40, S44
    outcome = lamina("system", "prune", "-a", "--volumes", "--filter", "label=x", stdin=b"n\n")
    assert outcome.status == 0
    assert outcome.out == (
        "WARNING! This will remove:\n"
        "  - all stopped containers\n"
        "  - all networks not used by at least one container\n"
        "  - all anonymous volumes not used by at least one container\n"
        "  - all images without at least one container associated to them\n"
        "  - all build cache\n"
        "\n"
        "  Items to be pruned will be filtered with:\n"
        "  - label=x\n"
        "\n"
        "Are you sure you want to continue? [y/N] "
    )
    refused = lamina("system", "prune", "--volumes", "--filter", "until=1h")
    assert (refused.status, refused.err) == (1, 'ERROR: The "until" filter is not supported with "--volumes"\n')


def test_info(lamina: CommandLine):  # C37
    make(lamina, "app", b"x")
    shown = lamina.ok("info")
    assert shown.startswith("Client:\n Version:    ")
    assert " Images: 1\n" in shown
    assert lamina.ok("info", "-f", "{{.Images}} {{.DockerRootDir}}") == f"1 {lamina.root}\n"
    assert json.loads(lamina.ok("info", "-f", "json"))["ContainersRunning"] == 0
    expected = "overlay2" if os.geteuid() == 0 else "vfs"
    assert lamina.ok("info", "-f", "{{.Driver}}") == expected + "\n"  # S04: the word that scripts compare
    assert lamina.ok("image", "inspect", "-f", "{{.GraphDriver.Name}}", "app") == expected + "\n"
    lamina.env = {**lamina.env, "https_proxy": "http://me:hunter2@proxy:3128"}
    assert "hunter2" not in lamina.ok("info")


def test_fsck_is_clean_then_names_the_damage_then_repairs_it(lamina: CommandLine):  # F4, A1
    make(lamina, "app", os.urandom(10_000))
    assert lamina.ok("system", "fsck").endswith(": clean\n")
    blobs = lamina.root / "blobs" / "sha256"
    victim = max(blobs.iterdir(), key=lambda path: path.stat().st_size)
    data = bytearray(victim.read_bytes())
    data[100] ^= 1
    victim.write_bytes(data)
    outcome = lamina("fsck")
    assert outcome.status == 1
    assert f"blob sha256:{victim.name}: its bytes have digest" in outcome.out
    assert "fsck --repair" in outcome.err
    assert lamina("fsck", "--fast").status == 0  # the size is right
    repaired = lamina("fsck", "--repair")
    assert "set aside in quarantine" in repaired.out
    assert repaired.status == 0
    assert lamina("fsck", "-q").out == ""


def test_a_damaged_index_is_reported_and_made_again(lamina: CommandLine):  # F5
    with Store.open(str(lamina.root)) as store, store.lease("test") as lease:
        copy(random_image(1), LocalSink(store, lease, names=[Reference.parse("app")]))
    identity = lamina.ok("images", "-q", "--no-trunc").strip()
    (lamina.root / "lamina.db").write_bytes(b"no database at all" * 500)
    for suffix in ("-wal", "-shm"):
        (lamina.root / f"lamina.db{suffix}").unlink(missing_ok=True)
    broken = lamina("images")
    assert broken.status == 1
    assert "is damaged" in broken.err.splitlines()[0]
    assert "fsck --repair" in broken.err
    mended = lamina("fsck", "--repair")
    assert "made again from the content" in mended.out
    assert identity in lamina.ok("images", "-qa", "--no-trunc")


def record(lamina: CommandLine, key: str, used: str) -> None:
    """A record of the build cache, as a build leaves it."""
    with Store.open(str(lamina.root)) as store:
        store.snapshots.prepare(f"work-{key}")
        store.snapshots.commit(f"work-{key}", f"step-{key}", size=1000)
        with store.db.write() as connection:
            connection.executemany(
                "INSERT INTO build_cache (key, snapshot, doc, created_at, last_used_at, size) VALUES (?, ?, ?, ?, ?, ?)",
                [(f"{key}{each}", f"step-{key}", "", used, used, 1000) for each in "ab"],
            )


def test_builder_prune_forgets_the_least_used_first(lamina: CommandLine):  # C47
    record(lamina, "old", "2020-01-01T00:00:00Z")
    record(lamina, "new", "2030-01-01T00:00:00Z")
    df = [json.loads(line) for line in lamina.ok("system", "df", "--format", "json").splitlines()]
    assert df[3]["TotalCount"] == "2"
    assert "WARNING! This will remove all dangling build cache." in lamina("builder", "prune").out
    assert lamina.ok("builder", "prune", "-f", "--filter", "id=nope") == "Total reclaimed space: 0B\n"
    kept = lamina.ok("builder", "prune", "-f", "--keep-storage", "1000b")
    assert kept.startswith("Deleted build cache objects:\nstep-old\n\nTotal reclaimed space: ")
    record(lamina, "other", "2019-01-01T00:00:00Z")
    assert "step-other\n\n" in lamina.ok("builder", "prune", "-f", "--filter", "until=24h")
    assert "step-new\n\n" in lamina.ok("builder", "prune", "-af")


def test_inspect_finds_images_and_complains_about_nothing(lamina: CommandLine):  # C41
    identity = make(lamina, "app", b"x")
    assert lamina.ok("inspect", "-f", "{{.Id}}", "app") == f"{identity}\n"
    outcome = lamina("inspect", "nope", "app")
    assert (outcome.status, outcome.err) == (1, "Error: No such object: nope\n")
    assert len(json.loads(outcome.out)) == 1
    assert lamina("inspect", "nope").out == "[]\n"
    assert "No such image: nope:latest" in lamina("inspect", "--type", "image", "nope").err
    assert lamina("inspect", "--type", "planet", "x").err.startswith('unknown type: "planet"')
    assert leftovers.left_by(str(lamina.folder)) == []  # who looks for something makes no bridge


@pytest.mark.root
def test_a_look_at_the_default_network_makes_it(lamina: CommandLine):  # C43
    try:
        assert lamina.ok("network", "inspect", "-f", "{{.Driver}}", "bridge") == "bridge\n"
        assert [line.split()[0] for line in leftovers.left_by(str(lamina.folder))] == ["bridge"]
    finally:
        leftovers.sweep(str(lamina.folder), ["bridge"])
    assert leftovers.left_by(str(lamina.folder)) == []


def test_df_has_docker_s_four_rows_and_the_whole_disk_on_request(lamina: CommandLine):  # C38, A1
    make(lamina, "app", os.urandom(100_000))
    kinds = ["Images", "Containers", "Local Volumes", "Build Cache"]
    assert lamina.ok("system", "df", "--format", "{{.Type}}").splitlines() == kinds
    assert lamina.ok("system", "df", "--disk", "--format", "{{.Type}}").splitlines() == [
        *kinds,
        "Layer Blobs",
        "Transfers",
    ]
    assert lamina.ok("system", "df", "--disk").splitlines()[-1].startswith("Disk usage: ")


def test_df_verbose_has_docker_s_sections(lamina: CommandLine):  # C38
    lines = lamina.ok("system", "df", "-v").splitlines()
    assert [line.split("   ")[0] for line in lines if line] == [
        "Images space usage:", "REPOSITORY", "Containers space usage:", "CONTAINER ID", "Local Volumes space usage:",
        "VOLUME NAME", "Build cache usage: 0B", "CACHE ID",
    ]  # fmt: skip
    found = json.loads(lamina.ok("system", "df", "-v", "--format", "json"))
    assert list(found) == ["Images", "Containers", "Volumes", "BuildCache"]


def test_the_size_of_an_image_counts_links_as_docker_does(lamina: CommandLine):  # C04, C06
    import io
    import tarfile

    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/to/somewhere"
        tar.addfile(link)
    lamina.ok("import", "-", "links", stdin=out.getvalue())
    assert lamina.ok("image", "inspect", "links", "-f", "{{.Size}}") == f"{len('/to/somewhere')}\n"
