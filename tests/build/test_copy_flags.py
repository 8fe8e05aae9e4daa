"""`--parents`, `--exclude` and `--chmod` of COPY and ADD, by the examples and rules of the Dockerfile reference (D26, D28, D30)."""

from __future__ import annotations

import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from lamina.build.builder import BuildFailed
from lamina.testing.builds import FileSpec, Workshop

pytestmark = pytest.mark.root
FILES: dict[str, FileSpec] = {
    "x/a.txt": "1",
    "y/a.txt": "2",
    "x/y/z/deep.txt": "3",
    "x/y/b.md": "4",
    "home.txt": (0o640, "5"),
    "home.md": "6",
    "hop": (0o755, "7"),
    "hom/e.c": "8",
}


@pytest.fixture
def copied(make_workshop: Callable[..., Workshop]) -> Callable[..., dict[str, str]]:
    """Builds one instruction on nothing: paths with their permission bits, directories as such."""
    workshop = make_workshop(base=False)

    def build(line: str, context: Path | None = None) -> dict[str, str]:
        made = workshop.build(f"FROM scratch\n{line}\n", FILES, context=context)
        return {path: "/" if facts[0].startswith("0o4") else facts[0][-4:] for path, facts in made.listing().items()}

    return build


@pytest.mark.parametrize(
    ("line", "files"),
    [
        ("COPY --parents ./x/a.txt ./y/a.txt /p/", ["p/x/a.txt", "p/y/a.txt"]),
        ("COPY --parents x/./y/*.md /p/", ["p/y/b.md"]),
        ("COPY --parents x/y /p", ["p/x/y/b.md", "p/x/y/z/deep.txt"]),
        ("COPY --parents x/./y /p", ["p/y/b.md", "p/y/z/deep.txt"]),
        ("COPY --parents **/a.txt /p/", ["p/x/a.txt", "p/y/a.txt"]),
        ("COPY --parents x/**/*.txt /p/", ["p/x/a.txt", "p/x/y/z/deep.txt"]),
        ("COPY --parents=false x/a.txt /p/", ["p/a.txt"]),
        ("COPY --parents --exclude=x/y/z x/y home.md /p/", ["p/home.md", "p/x/y/b.md"]),
        ("COPY --parents --exclude=y/z x/./y home.md /p/", ["p/home.md", "p/y/b.md"]),
        ("COPY --parents --exclude=x/a.txt **/a.txt /p/", ["p/y/a.txt"]),
        ("COPY --exclude=hom *  /p/", ["p/Dockerfile", "p/a.txt", "p/home.md", "p/home.txt", "p/hop", "p/y/b.md", "p/y/z/deep.txt"]),
        ("COPY --exclude=*.txt home.txt hop /p/", ["p/hop"]),
        ("COPY --exclude=x x /p/", ["p/a.txt", "p/y/b.md", "p/y/z/deep.txt"]),
        ("COPY --parents nothing*.x /p/", []),
        ("COPY --exclude=*.txt --exclude=*.md hom* /p/", ["p/e.c"]),
        ("COPY --exclude=x --exclude=**/*.md . /p/", ["p/Dockerfile", "p/hom/e.c", "p/home.txt", "p/hop", "p/y/a.txt"]),
        ("COPY --exclude=**/*.txt x /p/", ["p/y/b.md"]),
        ("COPY --exclude=*.txt x /p/", ["p/y/b.md", "p/y/z/deep.txt"]),
        ("ADD --exclude=y x /p/", ["p/a.txt"]),
    ],
)  # fmt: skip
def test_what_is_selected_and_where_it_lands(copied: Callable[..., dict[str, str]], line: str, files: list[str]):
    # D28
    found = copied(line)
    assert sorted(path for path, kind in found.items() if kind != "/") == files


@pytest.mark.parametrize(
    ("mode", "plain", "program", "directory"),
    [
        ("0604", "0604", "0604", "0o40604"),
        ("4711", "4711", "4711", "0o44711"),
        ("u=rwX,go=rX", "0644", "0755", "0o40755"),
        ("+x", "0751", "0755", "0o40755"),
        ("go-rwx", "0600", "0700", "0o40700"),
        ("a=r,u+w", "0644", "0644", "0o40644"),
        ("g=u", "0660", "0775", "0o40775"),
    ],
)
def test_modes_in_both_notations(
    make_workshop: Callable[..., Workshop], mode: str, plain: str, program: str, directory: str
):
    # D26
    made = make_workshop(base=False).build(
        f"FROM scratch\nCOPY --chmod={mode} home.txt hop /\nADD --chmod={mode} . /all\n", FILES
    )
    found = {path: facts[0] for path, facts in made.listing().items()}
    assert found["home.txt"][-4:] == found["all/home.txt"][-4:] == plain
    assert found["hop"][-4:] == found["all/hop"][-4:] == program
    assert found["all/x"] == directory


@pytest.mark.parametrize("mode", ["9", "17777", "rwx", "u=q", "0x1", "-1"])
def test_a_mode_that_is_none(make_workshop: Callable[..., Workshop], mode: str):
    # D26
    with pytest.raises(BuildFailed) as caught:
        make_workshop(base=False).build(f"FROM scratch\nCOPY hop /\nCOPY --chmod={mode} hop /\n", FILES)
    assert f"invalid chmod parameter: '{mode}'" in caught.value.message
    assert caught.value.excerpt.splitlines()[0] == "Dockerfile:3"


@pytest.mark.parametrize("packer", ["", "gzip", "bzip2", "xz", "zstd"])
def test_an_archive_is_unpacked_whatever_packed_it(make_workshop: Callable[..., Workshop], tmp_path: Path, packer: str):
    # D30
    workshop = make_workshop(base=False)
    context = workshop.context({**FILES, "Dockerfile": "FROM scratch\nADD named-as-nothing /t/\n"})
    archive = tmp_path / "a.tar"
    with tarfile.open(archive, "w") as out:
        out.add(context / "x", "x")
    packed = subprocess.run([packer, "-c", str(archive)], capture_output=True, check=True).stdout if packer else b""
    (context / "named-as-nothing").write_bytes(packed or archive.read_bytes())
    found = workshop.build(context=context).listing()
    assert [path for path in sorted(found) if path.endswith((".txt", ".md"))] == [
        "t/x/a.txt", "t/x/y/b.md", "t/x/y/z/deep.txt",
    ]  # fmt: skip
