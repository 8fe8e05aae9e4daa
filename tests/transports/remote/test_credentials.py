"""Docker's config.json and credential helpers, read and written (S49)."""

from __future__ import annotations

import base64
import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.errors import Invalid, Unavailable
from lamina.transports.remote.credentials import HUB_KEY, Credential, server_key
from lamina.transports.remote.dockerconfig import BadConfig, DockerConfig, Stored
from lamina.transports.remote.helper import CredentialHelper, HelperFailed

HELPER = r"""#!/bin/sh
# Keeps secrets as files; notes its whole environment.
env > "$VAULT/environment"
read -r line
case $1 in
store) printf %s "$line" > "$VAULT/stored" ;;
get) [ "$line" = "https://index.docker.io/v1/" ] || { echo "credentials not found in native keychain"; exit 1; }
     cat "$VAULT/stored" ;;
erase) [ -e "$VAULT/stored" ] || { echo "credentials not found in native keychain"; exit 1; }
     rm "$VAULT/stored" ;;
esac
"""


@pytest.fixture
def config(tmp_path: Path) -> DockerConfig:
    return DockerConfig(str(tmp_path / "docker"))


def write(config: DockerConfig, document: Any) -> None:
    os.makedirs(config.directory, exist_ok=True)
    Path(config.path).write_text(document if isinstance(document, str) else json.dumps(document))


def auth(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@given(
    host=st.sampled_from(["docker.io", "registry.example", "localhost:5000", "[::1]:5000"]),
    username=st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters=":"), min_size=1),
    password=st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1),
)
def test_what_is_stored_is_found(
    tmp_path_factory: pytest.TempPathFactory, host: str, username: str, password: str
) -> None:
    config = DockerConfig(str(tmp_path_factory.mktemp("docker")))
    config.store(host, Credential(username, password))
    assert config.get(host) == Credential(username, password)
    assert config.get("elsewhere.example") is None
    assert config.erase(host)
    assert config.get(host) is None
    assert not config.erase(host)


def test_the_file_is_private_and_the_rest_of_it_stays(config: DockerConfig) -> None:
    write(config, {"detachKeys": "ctrl-x", "auths": {"other.example": {"auth": auth("a:b")}}, "unknown": [1]})
    assert config.store("docker.io", Credential("alice", "pw")) == Stored(config.path)
    document = json.loads(Path(config.path).read_text())
    assert document == {
        "detachKeys": "ctrl-x",
        "unknown": [1],
        "auths": {"other.example": {"auth": auth("a:b")}, HUB_KEY: {"auth": auth("alice:pw")}},
    }
    assert stat.S_IMODE(os.stat(config.path).st_mode) == 0o600
    assert os.listdir(config.directory) == ["config.json"]


def test_a_linked_config_stays_a_link(config: DockerConfig, tmp_path: Path) -> None:
    os.makedirs(config.directory)
    (tmp_path / "real.json").write_text("{}")
    os.symlink(tmp_path / "real.json", config.path)
    config.store("registry.example", Credential("a", "b"))
    assert os.path.islink(config.path)
    assert "registry.example" in (tmp_path / "real.json").read_text()


def test_logins_at_once_are_all_kept(config: DockerConfig) -> None:
    hosts = [f"r{number}.example" for number in range(12)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda host: config.store(host, Credential("a", host)), hosts))
    assert sorted(config.hosts()) == sorted(hosts)


@pytest.mark.parametrize(
    ("entry", "credential"),
    [
        ({"auth": auth("a:b:c")}, Credential("a", "b:c")),
        ({"auth": auth("a:b\0\0")}, Credential("a", "b")),
        ({"username": "a", "password": "b"}, Credential("a", "b")),
        ({"auth": auth("a:"), "identitytoken": "t"}, Credential("a", "", identity_token="t")),
        ({"registrytoken": "r"}, Credential(registry_token="r")),
        ({}, None),
    ],
)
def test_entries_of_every_age_are_read(
    config: DockerConfig, entry: dict[str, str], credential: Credential | None
) -> None:
    write(config, {"auths": {"registry.example": entry}})
    assert config.get("registry.example") == credential


@pytest.mark.parametrize(
    "key",
    ["registry.example", "https://registry.example", "https://registry.example/v1/", "http://registry.example/v2/"],
)
def test_old_keys_are_whole_urls(config: DockerConfig, key: str) -> None:
    write(config, {"auths": {key: {"auth": auth("a:b")}}})
    assert config.get("registry.example") == Credential("a", "b")
    assert config.get("registry.example.evil") is None
    config.store("registry.example", Credential("c", "d"))
    assert config.get("registry.example") == Credential("c", "d")
    assert config.hosts() == ["registry.example"]


def test_docker_hub_has_its_own_key() -> None:
    assert (server_key("docker.io"), server_key("quay.io")) == (HUB_KEY, "quay.io")


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"auths": [1]}',
        '{"auths": {"r.example": {"auth": "%%%"}}}',
        '{"auths": {"r.example": {"auth": "bm9jb2xvbg=="}}}',
    ],
)
def test_a_broken_file_is_named(config: DockerConfig, text: str) -> None:
    write(config, text)
    with pytest.raises((BadConfig, Invalid), match=r"config\.json"):
        config.get("r.example")


def test_an_empty_or_missing_file_is_nothing(config: DockerConfig) -> None:
    assert config.get("docker.io") is None
    write(config, "")
    assert config.get("docker.io") is None


@pytest.fixture
def vault(tmp_path: Path) -> dict[str, str]:
    """A credential helper called `vault` and its environment."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "docker-credential-vault"
    program.write_text(HELPER)
    program.chmod(0o755)
    return {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "VAULT": str(tmp_path)}


@pytest.mark.parametrize(
    "document",
    [
        {"credsStore": "vault"},
        {"credHelpers": {HUB_KEY: "vault"}},
        {"credHelpers": {"docker.io": "vault"}, "credsStore": "absent"},
    ],
)
def test_a_helper_keeps_the_secret_out_of_the_file(
    tmp_path: Path, vault: dict[str, str], document: dict[str, Any]
) -> None:
    config = DockerConfig(str(tmp_path / "docker"), vault)
    write(config, document)
    assert config.store("docker.io", Credential("alice", "pw")) == Stored(config.path, "vault")
    assert "pw" not in Path(config.path).read_text()
    assert auth("alice:pw") not in Path(config.path).read_text()
    assert json.loads((tmp_path / "stored").read_text()) == {"ServerURL": HUB_KEY, "Username": "alice", "Secret": "pw"}
    assert config.get("docker.io") == Credential("alice", "pw")
    assert config.erase("docker.io")
    assert not (tmp_path / "stored").exists()


def test_an_identity_token_travels_under_its_marker(tmp_path: Path, vault: dict[str, str]) -> None:
    helper = CredentialHelper("vault", vault)
    helper.store(HUB_KEY, Credential(identity_token="refresh"))
    assert json.loads((tmp_path / "stored").read_text())["Username"] == "<token>"
    assert helper.get(HUB_KEY) == Credential(identity_token="refresh")
    assert helper.get("elsewhere.example") is None


def test_a_helper_sees_only_its_own_environment(
    tmp_path: Path, vault: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:  # threat 38
    monkeypatch.setenv("CANARY", "tweet")
    CredentialHelper("vault", vault).erase("x")
    assert "CANARY" not in (tmp_path / "environment").read_text()


def test_helpers_that_are_missing_or_misnamed_or_mad(tmp_path: Path, vault: dict[str, str]) -> None:
    with pytest.raises(HelperFailed, match="executable file not found"):
        CredentialHelper("absent", vault).get("x")
    for name in ("../../bin/sh", "a b", "", "-x", "a/b"):
        with pytest.raises(Invalid):
            CredentialHelper(name)
    (tmp_path / "stored").write_text("[]")
    with pytest.raises(Unavailable):
        CredentialHelper("vault", vault).get(HUB_KEY)


def test_secrets_are_not_in_reprs() -> None:
    shown = repr(Credential("alice", "hunter2", "token-i", "token-r"))
    assert "alice" in shown
    assert not any(secret in shown for secret in ("hunter2", "token-i", "token-r"))
