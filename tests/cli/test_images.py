"""`lamina image ls|inspect|history|tag|rm|prune`: docker's tables, words and exit codes (C02, C04, C06, C07, C10, C12)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lamina.testing.commandline import CommandLine
from lamina.testing.images import tar_of

EPOCH = {"SOURCE_DATE_EPOCH": "1600000000"}


@pytest.fixture
def lamina(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


def rootfs(content: bytes = b"hello") -> bytes:
    return tar_of([("etc/motd", content)])


def make(lamina: CommandLine, name: str, content: bytes = b"hello", *flags: str, epoch: int = 0) -> str:
    """Imports an image; returns its full id."""
    lamina.env = {**lamina.env, **({"SOURCE_DATE_EPOCH": str(epoch)} if epoch else {})}
    return lamina.ok("import", *flags, "-", *([name] if name else []), stdin=rootfs(content)).strip()


def test_an_empty_list_is_a_header(lamina: CommandLine):
    assert lamina.ok("images") == "REPOSITORY   TAG       IMAGE ID   CREATED   SIZE\n"
    assert lamina.ok("images", "-q") == ""


def test_list_shows_every_name_newest_first(lamina: CommandLine):  # S15, S16, S17
    old = make(lamina, "debian:11", b"old", epoch=1_500_000_000)
    new = make(lamina, "debian:12", b"newer", epoch=1_600_000_000)
    lamina.ok("tag", "debian:12", "localhost:5000/me/deb:x")
    lines = lamina.ok("images").splitlines()
    assert lines[0].split() == ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]
    assert [line.split()[:3] for line in lines[1:]] == [
        ["debian", "12", new[7:19]],
        ["localhost:5000/me/deb", "x", new[7:19]],
        ["debian", "11", old[7:19]],
    ]
    assert all(line.endswith(("ago   5B", "ago   3B")) for line in lines[1:])
    assert lamina.ok("images", "-q", "--no-trunc").split() == [new, new, old]


def test_an_image_whose_name_moved_is_dangling(lamina: CommandLine):  # S16, S17
    old, new = make(lamina, "app", b"1"), make(lamina, "app", b"2")
    rows = {line.split()[2]: line.split()[:2] for line in lamina.ok("images").splitlines()[1:]}
    assert rows == {new[7:19]: ["app", "latest"], old[7:19]: ["<none>", "<none>"]}
    assert lamina.ok("images", "-q", "--no-trunc", "-f", "dangling=true").split() == [old]
    assert lamina.ok("images", "-q", "--no-trunc", "-f", "dangling=false").split() == [new]


def test_filters(lamina: CommandLine):
    old = make(lamina, "a/one:1", b"1", "-c", "LABEL stage=test", epoch=1_500_000_000)
    mid = make(lamina, "two:1", b"2", "-c", "LABEL stage=prod extra=", epoch=1_550_000_000)
    new = make(lamina, "reg.example.com/a/one:2", b"3", epoch=1_600_000_000)

    def ids(*filters: str) -> list[str]:
        flags = [word for text in filters for word in ("-f", text)]
        return lamina.ok("images", "-q", "--no-trunc", *flags).split()

    assert ids("label=stage") == [mid, old]
    assert ids("label=stage=test") == [old]
    assert ids("label=stage", "label=extra") == [mid]
    assert ids("label!=stage") == [new]
    assert ids("before=two:1") == [old]
    assert ids("since=two:1") == [new]
    assert ids("until=2019-01-01") == [old]
    assert ids("reference=a/*") == [old]
    assert ids("reference=*:1") == [mid]
    assert ids("reference=*/*/*:[0-9]") == [new]
    assert ids("reference=two", "reference=a/one") == [mid, old]
    assert lamina.ok("images", "-q", "--no-trunc", "two").split() == [mid]
    assert lamina.ok("images", "-q", "two:nope") == ""


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("color=red", "Error response from daemon: invalid filter 'color'"),
        ("dangling=maybe", "Error response from daemon: invalid filter 'dangling=[maybe]'"),
        ("before=nope", "Error response from daemon: No such image: nope:latest"),
    ],
)
def test_bad_filters_are_named(lamina: CommandLine, text: str, problem: str):
    outcome = lamina("images", "-f", text)
    assert (outcome.status, outcome.err.splitlines()[0]) == (1, problem)


def test_formats(lamina: CommandLine):  # C53
    identity = make(lamina, "app:1", b"x" * 2500, epoch=1_600_000_000)
    assert lamina.ok("images", "--format", "{{.Repository}}:{{.Tag}} {{.Size}}") == "app:1 2.5kB\n"
    assert lamina.ok("images", "--format", r"table {{.ID}}\t{{.Tag}}") == (
        f"IMAGE ID       TAG\n{identity[7:19]}   1\n"
    )
    row = json.loads(lamina.ok("images", "--format", "json", "--no-trunc"))
    assert list(row) == sorted(row)
    assert (row["ID"], row["Digest"], row["SharedSize"], row["Containers"]) == (identity, "<none>", "N/A", "N/A")
    assert "DIGEST" in lamina.ok("images", "--digests").splitlines()[0]
    assert lamina("images", "--format", "{{.Nope}}").status == 1
    assert lamina("images", "--format", "{{").status == 1  # as docker 28.2.2; inspect exits with 64


def test_a_subcommand_typed_after_images_gets_a_hint(lamina: CommandLine):  # S18
    outcome = lamina("images", "ls")
    assert outcome.status == 0
    assert 'No images found matching "ls": did you mean "lamina image ls"?' in outcome.err


def test_inspect_is_dockers_object(lamina: CommandLine):  # S38, C04
    identity = make(
        lamina, "app:1", b"hello", "-c", 'CMD ["sh"]', "-c", "ENV A=1", "-c", "EXPOSE 80", epoch=1_600_000_000
    )
    (found,) = json.loads(lamina.ok("image", "inspect", "app:1"))
    assert list(found) == [
        "Id", "RepoTags", "RepoDigests", "Parent", "Comment", "Created", "DockerVersion", "Author", "Architecture", "Os",
        "Size", "GraphDriver", "RootFS", "Metadata", "Config",
    ]  # fmt: skip
    assert (found["Id"], found["RepoTags"], found["RepoDigests"], found["Parent"]) == (identity, ["app:1"], [], "")
    assert (found["Comment"], found["Created"], found["Size"]) == ("Imported from -", "2020-09-13T12:26:40Z", 5)
    assert found["Config"] == {
        "Cmd": ["sh"], "Entrypoint": None, "Env": ["A=1"], "ExposedPorts": {"80/tcp": {}}, "Labels": None,
        "OnBuild": None, "User": "", "Volumes": None, "WorkingDir": "",
    }  # fmt: skip
    assert len(found["RootFS"]["Layers"]) == 1
    assert lamina.ok("image", "inspect", "app:1").startswith('[\n    {\n        "Id": "sha256:')


def test_inspect_templates(lamina: CommandLine):  # S38: `.id` is case-sensitive
    identity = make(lamina, "app")
    assert lamina.ok("image", "inspect", "-f", "{{.Id}} {{.ID}}", "app") == f"{identity} {identity}\n"
    assert lamina.ok("image", "inspect", "-f", "{{json .RepoTags}}", "app", identity[7:15]) == '["app:latest"]\n' * 2
    outcome = lamina("image", "inspect", "-f", "{{ .id }}", "app")
    assert outcome.status == 1
    assert 'map has no entry for key "id"' in outcome.err


def test_inspect_prints_what_exists_and_fails_for_the_rest(lamina: CommandLine):  # C04
    make(lamina, "app")
    outcome = lamina("image", "inspect", "nope", "app")
    assert outcome.status == 1
    assert [image["RepoTags"] for image in json.loads(outcome.out)] == [["app:latest"]]
    assert outcome.err == "Error response from daemon: No such image: nope:latest\n"
    missing = lamina("image", "inspect", "nope")
    assert (missing.status, missing.out) == (1, "[]\n")


def test_inspect_of_another_platform_fails(lamina: CommandLine):
    make(lamina, "app", b"x", "--platform", "linux/arm64")
    assert lamina.ok("image", "inspect", "--platform", "linux/arm64", "-f", "{{.Architecture}}", "app") == "arm64\n"
    outcome = lamina("image", "inspect", "--platform", "linux/amd64", "app")
    assert outcome.status == 1
    assert "does not match the specified platform: wanted linux/amd64, actual: linux/arm64" in outcome.err


def test_history_lines(lamina: CommandLine, tmp_path: Path):  # S37, C02
    from lamina.image.copy import copy
    from lamina.spec.reference import Reference
    from lamina.store.store import Store
    from lamina.testing.images import random_image
    from lamina.transports.local.sink import LocalSink

    with Store.open(str(lamina.root)) as store, store.lease("test") as lease:
        copy(random_image(layers=2, size=2000), LocalSink(store, lease, names=[Reference.parse("app:1")]))
    identity = lamina.ok("images", "-q").strip()
    lines = lamina.ok("history", "app:1").splitlines()
    assert lines[0].split() == ["IMAGE", "CREATED", "CREATED", "BY", "SIZE", "COMMENT"]
    assert [line.split()[0] for line in lines[1:]] == [identity, "<missing>", "<missing>"]
    assert 'CMD ["/bin/true"]' in lines[1]
    assert "0B" in lines[1]
    assert "ADD file-1 /" in lines[2]
    assert "2kB" in lines[2]
    raw = lamina.ok("history", "-H=false", "--format", "{{.CreatedAt}} {{.Size}}", "app:1").splitlines()
    assert raw == ["2020-01-01T00:00:00Z 0", "2020-01-01T00:00:00Z 2000", "2020-01-01T00:00:00Z 2000"]
    assert lamina.ok("history", "-q", "app:1").split() == [identity, "<missing>", "<missing>"]


def test_history_cuts_the_instruction_at_45_columns(lamina: CommandLine):  # S37
    from lamina.engine.engine import Engine
    from lamina.engine.settings import Settings
    from lamina.spec.config import History

    make(lamina, "app")
    with Engine(Settings.at(str(lamina.root))) as engine:
        found = engine.images.get("app").image
        step = History("2020-01-01T00:00:00Z", "/bin/sh -c " + "x" * 100, empty_layer=True)
        config = engine.images.config(found.id)
        from lamina.spec.reference import Reference

        edited = config.edit(history=(*config.history, step))
        engine.store.images.put(edited, parent=found.id, tags=[Reference.parse("child")])
    shown = lamina.ok("history", "--format", "{{.CreatedBy}}", "child").splitlines()[0]
    assert shown == "/bin/sh -c " + "x" * 33 + "…"
    assert len(shown) == 45
    assert lamina.ok("history", "--no-trunc", "--format", "{{.CreatedBy}}", "child").splitlines()[0] == step.created_by
    # The parent is here, so that its step has an id (and is no dangling image when it loses its name).
    assert lamina.ok("history", "-q", "--no-trunc", "child").splitlines()[1] == str(found.id)
    lamina.ok("rmi", "app")
    assert str(found.id) not in lamina.ok("images", "-q", "--no-trunc").split()
    assert str(found.id) in lamina.ok("images", "-qa", "--no-trunc").split()


def test_tag_is_silent_and_atomic(lamina: CommandLine):  # S17
    identity = make(lamina, "app:1")
    assert lamina.ok("image", "tag", identity[7:17], "Quay.io/me/app:2") == ""
    assert lamina.ok("images", "-q", "--no-trunc", "Quay.io/me/app").strip() == identity


BAD_TARGET = (
    'Error parsing reference: "UPPER" is not a valid repository/tag: '
    "invalid reference format: repository name (library/UPPER) must be lowercase"
)


@pytest.mark.parametrize(
    ("source", "target", "problem"),
    [
        ("nope", "x", "Error response from daemon: No such image: nope:latest"),
        ("app", "UPPER", BAD_TARGET),
        ("app", "x@sha256:" + "0" * 64, "refusing to create a tag with a digest reference"),
    ],
)
def test_tag_refusals(lamina: CommandLine, source: str, target: str, problem: str):
    make(lamina, "app")
    outcome = lamina("tag", source, target)
    assert (outcome.status, outcome.err) == (1, problem + "\n")


def test_remove_untags_first_and_deletes_last(lamina: CommandLine):  # S43
    identity = make(lamina, "app:1")
    lamina.ok("tag", "app:1", "app:2")
    assert lamina.ok("rmi", "app:1") == "Untagged: app:1\n"
    lines = lamina.ok("rmi", "app:2").splitlines()
    assert lines[:2] == ["Untagged: app:2", f"Deleted: {identity}"]
    assert lines[2].startswith("Deleted: sha256:")
    assert lamina.ok("images", "-qa") == ""


def test_remove_by_id_needs_force_for_several_repositories(lamina: CommandLine):  # S43
    identity = make(lamina, "app:1")
    lamina.ok("tag", "app:1", "other:1")
    outcome = lamina("rmi", identity[7:19])
    assert outcome.status == 1
    assert outcome.err == (
        f"Error response from daemon: conflict: unable to delete {identity[7:19]} (must be forced)"
        " - image is referenced in multiple repositories\n"
    )
    assert f"Deleted: {identity}" in lamina.ok("rmi", "-f", identity[7:19])


def test_remove_goes_on_after_a_failure(lamina: CommandLine):  # C10
    identity = make(lamina, "app")
    outcome = lamina("rmi", "nope", "app")
    assert outcome.status == 1
    assert outcome.err == "Error response from daemon: No such image: nope:latest\n"
    assert f"Deleted: {identity}" in outcome.out
    assert lamina("rmi", "-f", "nope").status == 0  # docker complains, and calls that a success


def test_prune_asks_and_says_what_it_freed(lamina: CommandLine):  # S44, C07
    old = make(lamina, "app", b"1")
    make(lamina, "app", b"2")
    refused = lamina("image", "prune", stdin=b"n\n")
    assert refused.status == 0
    assert refused.out == ("WARNING! This will remove all dangling images.\nAre you sure you want to continue? [y/N] ")
    pruned = lamina.ok("image", "prune", stdin=b"y\n")
    assert f"Deleted Images:\ndeleted: {old}\n" in pruned
    assert "\n\nTotal reclaimed space: " in pruned
    assert "Total reclaimed space: 0B" not in pruned
    assert lamina.ok("image", "prune", "-f") == "Total reclaimed space: 0B\n"


def test_prune_all_takes_what_no_container_uses(lamina: CommandLine):  # S44
    make(lamina, "app:1", b"1", "-c", "LABEL keep=yes")
    make(lamina, "app:2", b"2")
    asked = lamina("image", "prune", "-a", stdin=b"")
    assert "all images without at least one container associated to them." in asked.out
    pruned = lamina.ok("image", "prune", "-af", "--filter", "label!=keep")
    assert "untagged: app:2" in pruned
    assert lamina.ok("images", "--format", "{{.Repository}}:{{.Tag}}") == "app:1\n"
    assert lamina.ok("image", "prune", "-af", "--filter", "until=24h").endswith("Total reclaimed space: 0B\n")


def test_control_characters_are_spelled_out_on_a_terminal_only(lamina: CommandLine):  # threat 32
    make(lamina, "app", b"x", "-m", "\x1b]52;c;AAAA\x07evil\x1b[2J")
    assert "\x1b" in lamina.ok("history", "app")
    shown = lamina.ok("history", "app", terminal=True)
    assert "\x1b" not in shown
    assert r"\x1b]52;c;AAAA\x07evil" in shown
    assert "\x1b" not in lamina.ok("image", "inspect", "-f", "{{.Comment}}", "app", terminal=True)


IMAGE_COMMANDS = ["history", "import", "inspect", "load", "ls", "prune", "pull", "push", "rm", "save", "tag"]


@pytest.mark.peer
@pytest.mark.parametrize(
    "words",
    [["image", name] for name in IMAGE_COMMANDS] + [["builder", "prune"], ["system", "prune"], ["system", "info"]],
    ids=" ".join,
)
def test_help_pages_are_dockers(lamina: CommandLine, docker: Callable[..., object], words: list[str]):  # S18, S42
    theirs = getattr(docker(*words, "--help"), "out")  # noqa: B009 - the oracle's type lives in conftest
    want = theirs.replace("docker ", "lamina ").replace("docs.lamina.com", "docs.docker.com")
    assert lamina.ok(*words, "--help") == want
