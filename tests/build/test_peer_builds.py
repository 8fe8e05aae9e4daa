"""The same Dockerfiles by buildah: configuration and files must come out the same (mark peer).

Left out, because lamina follows BuildKit there: a directory copied from a stage keeps its owner (buildah gives it to
root), and writing to one of two hard links of a lower layer parts them (overlayfs does, buildah's vfs does not). CMD in shell form after SHELL: buildah keeps /bin/sh -c.
"""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lamina.testing.builds import FileSpec, Workshop, busybox_tar, listing

pytestmark = [pytest.mark.root, pytest.mark.runtime, pytest.mark.peer]


def _tree() -> bytes:
    """An archive to ADD: owners, modes, a link and a hard link."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, kind, owner, mode in (
            ("x", b"5", 5, 0o750),
            ("x/f", b"0", 6, 0o4711),
            ("x/l", b"2", 7, 0o777),
            ("x/h", b"1", 6, 0o4711),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.uid, info.gid, info.mode, info.linkname = kind, owner, owner + 1, mode, "x/f"
            archive.addfile(info)
    return out.getvalue()


FILES: dict[str, FileSpec] = {
    "a": "A",
    "run.sh": (0o755, "#!/bin/sh\n"),
    "d/f": "F",
    "d/sub/g": (0o600, "G"),
    "d/l": ("->", "f"),
    "skip.log": "no",
    "tree.tar": _tree(),
    ".dockerignore": "*.log\n",
}
FIELDS = (
    "Env", "Cmd", "Entrypoint", "WorkingDir", "Labels", "ExposedPorts", "Volumes", "User", "StopSignal", "OnBuild",
    "Healthcheck", "Shell",
)  # fmt: skip
DOCKERFILES = {
    "shell-forms": "FROM base\nENTRYPOINT exec top -b\nCMD echo $HOME\nLABEL a=1\nLABEL a=2\n",
    "copies": """\
FROM base
COPY . /all/
COPY a run.sh /bin2/
COPY d /dir
COPY d/f /var
COPY --chown=web:staff a /owned
COPY --chmod=0711 a /moded
COPY *.sh /glob/
""",
    "runs": """\
FROM base
WORKDIR /w
RUN echo 1 > rel && mkdir -p x/y && chown 33:34 x && chmod 750 x && ln -s rel link && ln rel hard
RUN rm -r x/y && rm /bin/vi && echo two >> x/f
USER web
RUN id -u > /tmp/id; echo $HOME > /tmp/home
""",
    "stages": """\
ARG v=global
FROM base AS one
ARG v
RUN echo $v > /v && mkdir /d && echo x > /d/x && chown 33:34 /d/x
FROM base
WORKDIR /srv
COPY --from=one /v /d/x ./
COPY --from=one /d /d
CMD ["cat", "v"]
""",
    # Every instruction. VOLUME stands behind RUN, for which buildah makes its directory.
    "all-eighteen": """\
ARG from=base
FROM $from AS one
COPY a /v
FROM base
MAINTAINER me <me@example.org>
ENV A=1 B="two words" C=$A
ENV legacy value with blanks
LABEL x=y "a b"='c d'
EXPOSE 80 53/udp
WORKDIR /w
WORKDIR sub
COPY a d ./
COPY --from=one /v /v
ADD tree.tar /t/
SHELL ["/bin/sh", "-ec"]
RUN echo "$A $B" > out && mkdir -p m/n
VOLUME /data
STOPSIGNAL SIGINT
HEALTHCHECK --interval=5s --retries=2 CMD ["true"]
ONBUILD LABEL later=1
USER web
ENTRYPOINT ["/bin/sh", "-c"]
CMD ["echo hi"]
""",
    "arguments": 'FROM base\nARG x=1\nENV Y=${x:-2}${z:+no}\nARG z=3\nRUN echo "$x $Y $z" > /out\nCMD exit\n',
}


class Buildah:
    """buildah on a store of its own, with the same base image."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "base.tar").write_bytes(busybox_tar())
        (folder / "Base").write_text("FROM scratch\nADD base.tar /\n")
        self("bud", "-q", "-t", "base", "-f", str(folder / "Base"), str(folder))

    def __call__(self, *arguments: str) -> str:
        command = ["buildah", "--root", str(self._folder / "root"), "--runroot", str(self._folder / "run")]
        command += ["--storage-driver", "vfs", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def build(self, context: Path) -> tuple[dict[str, Any], dict[str, tuple[Any, ...]]]:
        """Configuration and files of the image that a context makes."""
        image = self("bud", "-q", "--format", "docker", "--isolation", "chroot", "--pull-never", str(context))
        config = json.loads(self("inspect", "--type", "image", image))["Docker"]["config"]
        container = self("from", "--pull-never", image)
        mounted = Path(self("mount", container))
        try:
            return config, listing(mounted)
        finally:
            self("umount", container)


@pytest.fixture(scope="module")
def buildah(tmp_path_factory: pytest.TempPathFactory) -> Buildah:
    if shutil.which("buildah") is None:
        pytest.skip("no buildah")
    return Buildah(tmp_path_factory.mktemp("buildah"))


@pytest.mark.parametrize("name", DOCKERFILES)
def test_buildah_makes_the_same(make_workshop: Callable[..., Workshop], buildah: Buildah, name: str):
    workshop = make_workshop()
    context = workshop.context({**FILES, "Dockerfile": DOCKERFILES[name]})
    ours = workshop.build(context=context)
    their_config, their_files = buildah.build(context)
    config = json.loads(ours.config.raw)["config"]
    ours_config = {field: config.get(field) for field in FIELDS}
    theirs = {field: their_config.get(field) for field in FIELDS}
    if theirs["Labels"]:
        theirs["Labels"].pop("io.buildah.version", None)
    for known in (ours_config, theirs):
        # A PATH that the base does not set is not stored by BuildKit's kind of builder unless the image has one.
        known["Env"] = sorted(entry for entry in known["Env"] or () if not entry.startswith("PATH="))
        for field in FIELDS:
            known[field] = known[field] or None
    assert ours_config == theirs
    our_files = ours.listing()
    for files in (our_files, their_files):
        for path in ("proc", "sys", "dev", "run", "run/secrets", "etc/hosts", "etc/resolv.conf", "etc/hostname"):
            files.pop(path, None)  # buildah's mount points stay behind in its layers
    assert our_files == their_files
