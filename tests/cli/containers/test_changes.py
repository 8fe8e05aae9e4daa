"""What containers change: diff, commit, export and import, cp."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tarfile

import pytest

pytestmark = [pytest.mark.root, pytest.mark.runtime]
WORK = "echo new > /etc/new; rm /data/seed; mkdir -p /made/deep; rm -r /root; mkdir /root; echo x > /root/x"


@pytest.fixture
def worked(lamina):
    lamina.out("run", "--name", "worked", "busybox", "sh", "-c", WORK)
    return "worked"


def test_diff_lists_paths_in_order_with_their_parents(lamina, worked):  # C18, S24
    assert lamina.out("diff", worked).splitlines() == [
        "C /data", "D /data/seed", "C /etc", "A /etc/new", "A /made", "A /made/deep", "C /root", "A /root/x",
    ]  # fmt: skip
    lamina.out("run", "--name", "idle", "busybox", "true")
    assert lamina.out("diff", "idle") == ""  # what the runtime mounts on is nobody's change


def test_commit_makes_an_image_of_the_changes(lamina, worked):  # C16, S25
    image = lamina.out("commit", "-a", "me", "-m", "why", "-c", 'CMD ["cat", "/etc/new"]', worked, "derived:1")
    assert image.startswith("sha256:")
    assert lamina.out("run", "--rm", "derived:1") == "new"
    assert lamina.out("run", "--rm", "derived:1", "sh", "-c", "ls /data; ls /root; echo $FROM_IMAGE") == "x\nyes"
    shown = json.loads(lamina.out("image", "inspect", "derived:1"))[0]
    assert (shown["Author"], shown["Comment"], len(shown["RootFS"]["Layers"])) == ("me", "why", 2)
    assert lamina.out("history", "--format", "{{.Comment}}", "derived:1").splitlines()[0] == "why"
    # Nothing changed: nothing added.
    lamina.out("run", "--name", "same", "derived:1")
    again = lamina.out("commit", "same")
    assert json.loads(lamina.out("image", "inspect", again))[0]["RootFS"] == shown["RootFS"]
    lamina.out("rm", "same")
    lamina.out("rmi", again, "derived:1")


@pytest.mark.peer
def test_skopeo_reads_a_committed_image(lamina, worked, tmp_path):
    if shutil.which("skopeo") is None:
        pytest.skip("needs skopeo")
    lamina.out("commit", worked, "derived:2")
    archive = tmp_path / "image.tar"
    lamina.out("save", "-o", str(archive), "derived:2")
    done = subprocess.run(
        ["skopeo", "copy", "--insecure-policy", f"docker-archive:{archive}", f"dir:{tmp_path / 'dir'}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    layers = json.loads((tmp_path / "dir/manifest.json").read_text())["layers"]
    top = (tmp_path / "dir" / layers[-1]["digest"].removeprefix("sha256:")).read_bytes()
    names = tarfile.open(fileobj=io.BytesIO(top)).getnames()
    assert {"etc/new", "data/.wh.seed", "root/x"} <= set(names)
    lamina.out("rmi", "derived:2")


def test_export_and_import_flatten(lamina, worked, tmp_path):  # C20, S40
    archive = tmp_path / "tree.tar"
    lamina.out("export", "-o", str(archive), worked)
    with tarfile.open(archive) as tree:
        names = set(tree.getnames())
    assert {"etc/new", "bin/busybox", "made/deep"} <= names
    assert "data/seed" not in names
    lamina.out("import", str(archive), "flat:1")
    assert lamina.out("run", "--rm", "flat:1", "cat", "/etc/new") == "new"
    assert len(json.loads(lamina.out("image", "inspect", "flat:1"))[0]["RootFS"]["Layers"]) == 1
    lamina.out("rmi", "flat:1")


# -- cp (C17) ---------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["running", "stopped"])
def target(request, lamina):
    name = f"target-{request.param}"
    lamina.out("run", "-d", "--name", name, "-v", "copied:/vol", "busybox", "sleep", "60")
    if request.param == "stopped":
        lamina.out("kill", name)
        lamina("wait", name)
    return name


def test_cp_both_ways(lamina, target, tmp_path):
    source = tmp_path / "dir"
    (source / "sub").mkdir(parents=True)
    (source / "sub/file").write_text("content\n")
    (source / "link").symlink_to("/etc/passwd")
    os.chown(source / "sub/file", 1234, 1234)
    lamina.out("cp", str(source), f"{target}:/tmp")  # into an existing directory
    lamina.out("cp", f"{source}/.", f"{target}:/vol")  # the content, and into a volume
    lamina.out("cp", str(source / "sub/file"), f"{target}:/tmp/renamed")
    back = tmp_path / "back"
    lamina.out("cp", f"{target}:/tmp/dir", str(back))  # a new directory
    assert (back / "sub/file").read_text() == "content\n"
    assert os.readlink(back / "link") == "/etc/passwd"  # S: links are copied as links
    lamina.out("cp", "-a", f"{target}:/tmp/renamed", str(tmp_path / "one"))
    assert (tmp_path / "one").read_text() == "content\n"
    assert (tmp_path / "one").stat().st_uid == 0  # root owns what was copied in
    lamina.out("cp", f"{target}:/vol/sub/file", str(tmp_path / "two"))
    assert (tmp_path / "two").read_text() == "content\n"


def test_cp_speaks_tar(lamina, target, tmp_path):
    out = subprocess.run([*lamina.argv, "cp", f"{target}:/data", "-"], capture_output=True, env=lamina.env, check=True)
    with tarfile.open(fileobj=io.BytesIO(out.stdout)) as archive:
        assert archive.getnames() == ["data", "data/seed"]
        assert archive.getmember("data/seed").uid == 33
    lamina.out("cp", "-", f"{target}:/tmp", stdin=out.stdout)
    lamina.out("cp", f"{target}:/tmp/data/seed", str(tmp_path / "seed"))
    assert (tmp_path / "seed").read_text() == "from the image\n"


def test_cp_complaints(lamina, target, tmp_path):
    missing = lamina("cp", f"{target}:/nope", str(tmp_path))
    assert (missing.returncode, missing.stderr) == (
        1,
        f"Error response from daemon: Could not find the file /nope in container {target}\n",
    )
    assert lamina("cp", "a:/x", "b:/y").stderr == "copying between containers is not supported\n"
    assert lamina("cp", "/x", "/y").stderr == "must specify at least one container source\n"
    assert lamina("cp", str(tmp_path), f"{target}:/data/seed").stderr == "cannot copy directory\n"


def test_cp_never_follows_the_containers_links_out(lamina, tmp_path):  # threat 33
    lamina.out("run", "--name", "evil", "busybox", "sh", "-c", f"ln -s {tmp_path} /out; ln -s /etc/passwd /data/p")
    (tmp_path / "precious").write_text("mine\n")
    stolen = lamina("cp", "evil:/out/precious", str(tmp_path / "stolen"))
    assert stolen.returncode == 1
    payload = tmp_path / "payload"
    payload.write_text("evil\n")
    lamina("cp", str(payload), "evil:/out/precious")
    assert (tmp_path / "precious").read_text() == "mine\n"
    lamina.out("cp", "-L", "evil:/data/p", str(tmp_path / "passwd"))
    assert (tmp_path / "passwd").read_text().startswith("root:x:0:0:root:/root:/bin/sh\nweb:")  # the image's own


def test_cp_runs_nothing_of_the_image(lamina, tmp_path):  # threat 33
    lamina.out(
        "run", "--name", "trap", "busybox", "sh", "-c",
        "for p in tar gzip xz unpigz; do rm -f /bin/$p; echo '#!/bin/sh' > /bin/$p; echo 'touch /ran' >> /bin/$p;"
        " chmod +x /bin/$p; done",
    )  # fmt: skip
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:xz") as archive:
        info = tarfile.TarInfo("inside")
        info.size = 2
        archive.addfile(info, io.BytesIO(b"x\n"))
    lamina.out("cp", "-", "trap:/tmp", stdin=packed.getvalue())
    lamina.out("cp", "trap:/tmp/inside", str(tmp_path / "inside"))
    assert (tmp_path / "inside").read_text() == "x\n"
    assert lamina("cp", "trap:/ran", str(tmp_path)).returncode == 1
