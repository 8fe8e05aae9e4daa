"""`login` and `logout` beside docker's: the same words, statuses and config.json, against a registry with htpasswd (S49)."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from lamina.testing.docker_registry import PASSWORD, USER
from lamina.testing.dockerd import SYSTEM_PATH, Docker, DockerMissing, reference_client

pytestmark = [pytest.mark.peer, pytest.mark.root]

LAMINA = "import sys; sys.argv[0] = 'lamina'; from lamina.cli.main import entry; entry()"
KEYCHAIN = "credentials not found in native keychain"
#: A credential helper that keeps one file for each server key, and one that is of no use.
HELPERS = {
    "vault": f"""#!/usr/bin/env python3
import json, os, sys
verb, given = sys.argv[1], sys.stdin.read().strip()
server = json.loads(given)["ServerURL"] if verb == "store" else given
path = os.path.join(os.environ["HOME"], "vault." + server.replace("/", "_"))
if verb == "store":
    open(path, "w").write(given)
elif not os.path.exists(path):
    sys.exit(print({KEYCHAIN!r}) or 1)
elif verb == "get":
    print(open(path).read())
else:
    os.unlink(path)
""",
    "broken": "#!/bin/sh\necho the vault is locked\nexit 1\n",
}


def auth(user: str, password: str, **more: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode(), **more}


RIGHT, WRONG = auth(USER, PASSWORD), auth(USER, "wrong")
GIVEN = ("login", "-u", USER, "-p", PASSWORD, "{registry}")


class Story(NamedTuple):
    """Commands with their standard input, one after the other on one config.json; `{registry}` is filled in."""

    id: str
    commands: list[tuple[tuple[str, ...], bytes]]
    config: dict[str, Any] | None = None


def story(name: str, *commands: tuple[str, ...], config: dict[str, Any] | None = None) -> Story:
    return Story(name, [(command, b"") for command in commands], config)


STDIN = ("login", "-u", USER, "--password-stdin", "{registry}")
STORIES = [
    Story(
        "from stdin, again, and out",
        [
            (STDIN, f"{PASSWORD}\n".encode()),
            (("login", "{registry}"), b""),
            (("logout", "{registry}"), b""),
            (("logout", "{registry}"), b""),
            (("login", "{registry}"), b""),
        ],
    ),
    Story("nothing on stdin", [(STDIN, b"")]),
    Story("wrong on stdin", [(STDIN, b"wrong")]),
    story("in the arguments, twice", GIVEN, GIVEN, ("login", "-u", USER, "-p", PASSWORD, "http://{registry}/v2/")),
    story("wrong leaves what was right", GIVEN, ("login", "-u", USER, "-p", "wrong", "{registry}")),
    story("nobody there", ("login", "-u", USER, "-p", PASSWORD, "127.0.0.1:1")),
    story("half of it", ("login", "-u", USER, "{registry}"), ("login", "--password-stdin", "{registry}")),
    story("both ways", ("login", "-u", USER, "-p", "x", "--password-stdin", "{registry}")),
    story("stored and wrong", ("login", "{registry}"), config={"auths": {"{registry}": WRONG}}),
    story("stored, another account", ("login", "-u", "you", "{registry}"), config={"auths": {"{registry}": RIGHT}}),
    story("an identity token", ("login", "{registry}"), config={"auths": {"{registry}": auth(USER, "", identitytoken="t")}}),
    story("a whole URL", ("logout", "http://{registry}/v2/"), config={"auths": {"{registry}": RIGHT}}),
    story("the hub", ("logout",)),
    story("a store", GIVEN, ("login", "{registry}"), ("logout", "{registry}"), config={"credsStore": "vault"}),
    story("a store and a wrong password", ("login", "-u", USER, "-p", "no", "{registry}"), config={"credsStore": "vault"}),
    story(
        "a helper of this registry",
        GIVEN,
        ("logout", "{registry}"),
        config={"credHelpers": {"{registry}": "vault"}, "credsStore": "absent"},
    ),
    story("a store that is not there", GIVEN, config={"credsStore": "absent"}),
    story("a store that fails", GIVEN, ("login", "{registry}"), config={"credsStore": "broken"}),
]  # fmt: skip


class Clients(NamedTuple):
    """docker and lamina, each with a home of its own."""

    folder: Path
    registry: str
    daemon: str
    docker: str

    def run(self, client: str, command: tuple[str, ...], stdin: bytes) -> tuple[int, str, str]:
        """Status, output and errors, with the home folder's name taken out."""
        home = self.folder / client
        argv = [self.docker, "-H", self.daemon] if client == "docker" else [sys.executable, "-c", LAMINA]
        argv += [] if client == "docker" else ["--root", str(self.folder / "store")]
        environment = {"PATH": f"{self.folder}/bin:/usr/local/bin:{SYSTEM_PATH}", "HOME": str(home)}
        done = subprocess.run(
            [*argv, *(word.format(registry=self.registry) for word in command)],
            input=stdin, capture_output=True, env=environment, timeout=60,
        )  # fmt: skip
        out, err = (text.decode().replace(str(home), "HOME") for text in (done.stdout, done.stderr))
        return done.returncode, out, err

    def config(self, client: str) -> Any:
        path = self.folder / client / ".docker" / "config.json"
        return json.loads(path.read_text()) if path.exists() else None


@pytest.fixture
def clients(tmp_path: Path, guarded: str, dockerd: Docker) -> Clients:
    try:
        docker = reference_client()
    except DockerMissing as why:
        pytest.skip(str(why))
    (tmp_path / "bin").mkdir()
    for name, text in HELPERS.items():
        program = tmp_path / "bin" / f"docker-credential-{name}"
        program.write_text(text)
        program.chmod(0o755)
    return Clients(tmp_path, guarded, dockerd.host, docker)


@pytest.mark.parametrize("case", STORIES, ids=lambda case: case.id)
def test_lamina_says_and_keeps_what_docker_does(case: Story, clients: Clients) -> None:
    for client in ("docker", "lamina"):
        folder = clients.folder / client / ".docker"
        folder.mkdir(parents=True)
        if case.config is not None:
            (folder / "config.json").write_text(json.dumps(case.config).replace("{registry}", clients.registry))
    for command, stdin in case.commands:
        theirs, ours = (clients.run(client, command, stdin) for client in ("docker", "lamina"))
        assert ours == theirs
        assert clients.config("lamina") == clients.config("docker")


def test_a_login_opens_the_registry_and_a_logout_closes_it(lamina: Any, guarded: str) -> None:  # S48, S50
    name = f"{guarded}/team/app:1"
    lamina.ok("tag", "peers/base:1", name)
    assert b"no basic auth credentials" in lamina("push", name).stderr
    lamina.ok("login", "-u", USER, "--password-stdin", guarded, stdin=PASSWORD.encode())
    digest = lamina.ok("push", name).partition("digest: ")[2].split()[0]
    assert f"Digest: {digest}" in lamina.ok("pull", name)
    lamina.ok("logout", guarded)
    refused = lamina("pull", name)
    assert refused.returncode == 1
    assert b"no basic auth credentials" in refused.stderr


def test_credentials_are_shared_with_docker(lamina: Any, dockerd: Docker, clients: Clients, guarded: str) -> None:
    """What either client has stored, file or helper, the other one uses."""
    for config in ({}, {"credsStore": "vault"}):
        for writer, reader in (("docker", "lamina"), ("lamina", "docker")):
            folder = clients.folder / writer / ".docker"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "config.json").write_text(json.dumps(config))
            assert clients.run(writer, STDIN, PASSWORD.encode())[0] == 0
            other = clients.folder / reader
            other.mkdir(exist_ok=True)
            for path in (clients.folder / writer).glob("vault.*"):
                (other / path.name).write_bytes(path.read_bytes())
            (other / ".docker").mkdir(exist_ok=True)
            (other / ".docker" / "config.json").write_bytes((folder / "config.json").read_bytes())
            status, out, err = clients.run(reader, ("login", "{registry}"), b"")
            assert (status, out) == (0, "Login Succeeded\n"), err
            assert err.startswith(f"Authenticating with existing credentials... [Username: {USER}]\n")


def test_credentials_are_shared_with_podman(lamina: Any, podman: Any, guarded: str) -> None:
    """One config.json for both: what `podman login` wrote opens the registry for lamina, and the other way round."""
    name, config = f"{guarded}/shared/app:1", lamina.home / ".docker" / "config.json"
    config.parent.mkdir(exist_ok=True)
    config.write_text("{}")
    lamina.ok("tag", "peers/base:1", name)
    shared = ("--authfile", str(config), "--tls-verify=false")
    assert podman.ok("login", *shared, "-u", USER, "-p", PASSWORD, guarded) == "Login Succeeded!"
    digest = lamina.ok("push", name).partition("digest: ")[2].split()[0]
    lamina.ok("logout", guarded)
    assert podman("pull", "-q", *shared, name).returncode != 0
    lamina.ok("login", "-u", USER, "--password-stdin", guarded, stdin=PASSWORD.encode())
    podman.ok("pull", "-q", *shared, name)
    assert podman.ok("image", "inspect", "-f", "{{.Digest}}", name) == digest
    podman.ok("logout", *shared[:2], guarded)
    assert b"no basic auth credentials" in lamina("push", name).stderr


def test_a_helper_that_fails_does_not_close_public_registries(lamina: Any, registry: str, guarded: str) -> None:
    """docker goes on as a stranger, and so do we; where that is not enough, the reason is given."""
    lamina.ok("tag", "peers/base:1", f"{registry}/open/base:1")
    (lamina.home / ".docker").mkdir(exist_ok=True)
    (lamina.home / ".docker" / "config.json").write_text('{"credsStore": "absent"}')
    lamina.ok("push", f"{registry}/open/base:1")
    lamina.ok("pull", f"{registry}/open/base:1")
    refused = lamina("pull", f"{guarded}/a:1").stderr.decode()
    assert "no basic auth credentials" in refused
    assert 'exec: "docker-credential-absent": executable file not found in $PATH' in refused
