"""Build contexts: directories, `-f`, standard input, `.dockerignore`, and links that try to leave (D42, D43, S26, S28, S60)."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lamina.build.builder import BuildFailed
from lamina.errors import Invalid, LaminaError, NotFound, Unsupported
from lamina.testing.builds import Workshop

pytestmark = pytest.mark.root

COPY_ALL = "FROM scratch\nCOPY . /\n"


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    workshop = Workshop(tmp_path)
    yield workshop
    workshop.close()


def _tar(entries: dict[str, str | tuple[str, str]], mode: str = "w") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:  # type: ignore[call-overload]
        for name, what in entries.items():
            info = tarfile.TarInfo(name)
            if isinstance(what, tuple):
                info.type, info.linkname = tarfile.SYMTYPE, what[1]
                archive.addfile(info)
                continue
            data = what.encode()
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def test_the_ignore_file_hides_what_it_names(workshop: Workshop):
    # D41, D42, S60
    files = {
        ".dockerignore": "# comment\n*.log\nout\n!out/keep\n**/deep.tmp\nDockerfile\n.dockerignore\n",
        "a": "",
        "a.log": "",
        "out/gone": "",
        "out/keep": "",
        "x/y/deep.tmp": "",
        "x/y/f": "",
    }
    made = workshop.build(COPY_ALL, files)
    assert set(made.listing()) == {"a", "out", "out/keep", "x", "x/y", "x/y/f"}


def test_an_ignored_source_is_missing_and_the_reason_is_told(workshop: Workshop):
    # D48 CopyIgnoredFile
    with pytest.raises(BuildFailed, match="not found") as caught:
        workshop.build("FROM scratch\nCOPY a.log /\n", {".dockerignore": "*.log", "a.log": ""})
    assert "excluded by .dockerignore" in str(caught.value.hint)


def test_the_ignore_file_beside_the_dockerfile_wins(workshop: Workshop):
    files = {".dockerignore": "a\n", "own.Dockerfile.dockerignore": "b\n*ocker*\n", "a": "", "b": ""}
    context = workshop.context({**files, "own.Dockerfile": COPY_ALL})
    made = workshop.build_file(context, "own.Dockerfile")
    assert set(made.listing()) == {"a"}


def test_the_dockerfile_may_lie_outside_or_be_lower_case(workshop: Workshop):
    # S26, D43
    outside = workshop.folder / "elsewhere"
    outside.write_text(COPY_ALL)
    context = workshop.context({"a": ""})
    assert set(workshop.build_file(context, "elsewhere").listing()) == {"a"}
    assert set(workshop.build_file(context, str(outside)).listing()) == {"a"}
    lower = workshop.context({"dockerfile": COPY_ALL, "a": ""})
    assert set(workshop.build(context=lower).listing()) == {"a", "dockerfile"}


def test_a_dockerfile_from_standard_input(workshop: Workshop):
    context = workshop.context({"a": ""})
    assert set(workshop.build_file(context, "-", stdin=COPY_ALL.encode()).listing()) == {"a"}
    alone = workshop.build_file("-", "", stdin=b"FROM scratch\nLABEL a=b\n")
    assert alone.config.config.labels == {"a": "b"}
    with pytest.raises(BuildFailed, match="not found"):
        workshop.build_file("-", "", stdin=b"FROM scratch\nCOPY a /\n")  # there is no context


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_context_from_standard_input(workshop: Workshop, mode: str):
    data = _tar({"Dockerfile": COPY_ALL, "d/f": "F", ".dockerignore": "Dockerfile\n.dockerignore"}, mode)
    made = workshop.build_file("-", "", stdin=data)
    assert made.listing()["d/f"][1:] == (0, 0, b"F")
    named = workshop.build_file("-", "sub/Other", stdin=_tar({"sub/Other": COPY_ALL}, mode))
    assert set(named.listing()) == {"sub", "sub/Other"}


def test_links_of_a_context_lead_nowhere_else(workshop: Workshop):
    # threat 19
    (workshop.folder / "canary").write_text("secret")
    context = workshop.context({"x": ("->", str(workshop.folder / "canary")), "up": ("->", "../canary")})
    for name in ("x", "up"):
        with pytest.raises(BuildFailed, match="not found"):
            workshop.build(f"FROM scratch\nCOPY {name} /f\n", context=context)
    whole = workshop.build("FROM scratch\nCOPY . /c/\n", context=context)
    assert whole.listing()["c/x"][3] == str(workshop.folder / "canary")  # the link itself, not what it points at
    with pytest.raises(LaminaError):
        workshop.build_file("-", "", stdin=_tar({"Dockerfile": ("->", str(workshop.folder / "canary"))}))


def test_a_hostile_archive_writes_nothing_outside(workshop: Workshop):
    # threat 19
    data = _tar({"l": ("->", str(workshop.folder)), "l/planted": "x", "Dockerfile": "FROM scratch\nLABEL a=b\n"})
    try:
        workshop.build_file("-", "", stdin=data)
    except LaminaError:
        pass
    assert not os.path.lexists(workshop.folder / "planted")


def test_what_is_no_context(workshop: Workshop):
    with pytest.raises(NotFound, match='unable to prepare context: path "none" not found'):
        workshop.build_file("none", "")
    with pytest.raises(Unsupported, match="remote build contexts"):
        workshop.build_file("https://example.com/repo.git", "")
    with pytest.raises(Invalid, match="can't use stdin for both"):
        workshop.build_file("-", "-")
    with pytest.raises(NotFound, match="failed to read dockerfile: open Dockerfile: no such file"):
        workshop.build(context=workshop.context({"a": ""}))
    with pytest.raises(NotFound, match="open Nope: no such file"):
        workshop.build_file(workshop.context({}), "Nope")


def test_checks_are_reported_and_can_be_made_errors(workshop: Workshop):
    # D48
    text = "FROM scratch AS Odd\nMAINTAINER me\nLABEL a b\nENV SECRET_TOKEN=x\ncopy a.log /\n"
    files = {"a.log": ""}
    made = workshop.build(text, files)
    assert set(made.warnings) >= {
        "StageNameCasing",
        "MaintainerDeprecated",
        "LegacyKeyValueFormat",
        "SecretsUsedInArgOrEnv",
        "ConsistentInstructionCasing",
    }
    assert workshop.build("# check=skip=all\n" + text, files).warnings == []
    with pytest.raises(BuildFailed, match="lint violation found for rules: "):
        workshop.build("# check=error=true\n" + text, files)
