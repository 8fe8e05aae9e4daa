"""Docker's config.json as a store of credentials: `auths`, `credsStore`, `credHelpers` (feature S49).

The directory is passed in; nothing here reads the environment.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import fcntl
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

from lamina.errors import Invalid, Unavailable
from lamina.spec.reference import DOCKER_HUB
from lamina.transports.remote.credentials import HUB_KEY, Credential, server_key
from lamina.transports.remote.helper import CredentialHelper
from lamina.values import dataclass, field


class BadConfig(Invalid):
    """config.json cannot be understood."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}", hint="repair the file or move it away")
        self.path = path


@dataclass(frozen=True, slots=True)
class Stored:
    """Where a login was kept: in the file at `path` (unencrypted), or with a helper (`helper` is its name).

    Attributes:
        known: the file held the very same before, and was not touched.
    """

    path: str
    helper: str = ""
    known: bool = False


@dataclass(frozen=True, slots=True)
class DockerConfig:
    """The credentials half of a Docker client's configuration directory.

    Attributes:
        directory: usually `~/.docker`; it and its config.json need not exist.
        helper_env: the whole environment of credential helpers (PATH, HOME and what they need).
    """

    directory: str
    helper_env: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def path(self) -> str:
        """Where config.json is."""
        return os.path.join(self.directory, "config.json")

    def get(self, host: str) -> Credential | None:
        """The credential for a registry: its helper, else the common store, else the file.

        Raises:
            BadConfig: the file is malformed.
            Unavailable: a helper is missing or fails.
        """
        document = self._read()
        if (name := _helper_name(document, host)) and (found := self._helper(name).get(server_key(host))):
            return found
        return self._from_auths(document, host)

    def store(self, host: str, credential: Credential) -> Stored:
        """Keep a credential, in the helper configured for it or in the file (mode 0600, replaced atomically)."""
        with self._locked():
            document = self._read()
            auths = document.setdefault("auths", {})
            before = dict(auths)
            _forget(auths, host)
            if name := _helper_name(document, host):
                self._helper(name).store(server_key(host), credential)
                auths[server_key(host)] = {}
                self._write(document)
                return Stored(self.path, name)
            entry: dict[str, str] = {}
            if credential.identity_token:
                entry["auth"] = _encode(credential.username, "")
                entry["identitytoken"] = credential.identity_token
            else:
                entry["auth"] = _encode(credential.username, credential.password)
            auths[server_key(host)] = entry
            if auths == before:
                return Stored(self.path, known=True)
            self._write(document)
            return Stored(self.path)

    def erase(self, host: str) -> bool:
        """Forget a registry everywhere; False when it was not known."""
        with self._locked():
            document = self._read()
            known = False
            if name := _helper_name(document, host):
                known = self._helper(name).erase(server_key(host))
            auths = document.get("auths")
            if isinstance(auths, dict) and _forget(auths, host):
                self._write(document)
                known = True
            return known

    def hosts(self) -> list[str]:
        """Registries with an entry in the file, as references write them."""
        return [_host_of(key) for key in self._read().get("auths") or {}]

    def _helper(self, name: str) -> CredentialHelper:
        return CredentialHelper(name, self.helper_env)

    def _from_auths(self, document: dict[str, Any], host: str) -> Credential | None:
        auths = document.get("auths") or {}
        if not isinstance(auths, dict):
            raise BadConfig(self.path, "auths is no object")
        keys = [key for key in (server_key(host), host) if key in auths] or [
            key for key in auths if _host_of(key) == host
        ]
        for key in keys:
            entry = auths[key]
            if isinstance(entry, dict) and not (credential := self._decode(entry, key)).empty:
                return credential
        return None

    def _decode(self, entry: dict[str, Any], key: str) -> Credential:
        username, password = _text(entry.get("username")), _text(entry.get("password"))
        if auth := _text(entry.get("auth")):
            try:
                decoded = base64.b64decode(auth, validate=True).decode()
            except (binascii.Error, UnicodeDecodeError):
                raise BadConfig(self.path, f'auths["{key}"].auth is no base64') from None
            username, colon, password = decoded.partition(":")
            if not colon:
                raise BadConfig(self.path, f'auths["{key}"].auth holds no user name with password')
            password = password.strip("\0")
        return Credential(username, password, _text(entry.get("identitytoken")), _text(entry.get("registrytoken")))

    def _read(self) -> dict[str, Any]:
        try:
            with open(self.path, "rb") as file:
                raw = file.read()
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except OSError as error:
            raise Unavailable(f"{self.path}: {error.strerror}") from None
        try:
            document = json.loads(raw) if raw.strip() else {}
        except (ValueError, RecursionError) as error:
            raise BadConfig(self.path, str(error)) from None
        if not isinstance(document, dict):
            raise BadConfig(self.path, "it is no JSON object")
        return document

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Two logins at once must not lose one of them."""
        os.makedirs(self.directory, 0o700, exist_ok=True)
        fd = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _write(self, document: dict[str, Any]) -> None:
        target = os.path.realpath(self.path)  # the file may be a link into someone's dot-file repository
        folder = os.path.dirname(target)
        fd, temporary = tempfile.mkstemp(prefix=".config.json.", dir=folder)  # mode 0600
        try:
            with open(fd, "wb") as file:
                file.write(json.dumps(document, indent="\t").encode())
                file.flush()
                os.fsync(file.fileno())
            os.rename(temporary, target)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _helper_name(document: dict[str, Any], host: str) -> str:
    helpers = document.get("credHelpers")
    if isinstance(helpers, dict):
        for key in (server_key(host), host):
            if isinstance(name := helpers.get(key), str) and name:
                return name
    return _text(document.get("credsStore"))


def _forget(auths: dict[str, Any], host: str) -> bool:
    keys = [key for key in auths if key == server_key(host) or _host_of(key) == host]
    for key in keys:
        del auths[key]
    return bool(keys)


def _host_of(key: str) -> str:
    """The registry that a key of `auths` is about: old clients wrote whole URLs."""
    if key == HUB_KEY:
        return DOCKER_HUB
    host = key.removeprefix("https://").removeprefix("http://").partition("/")[0]
    return DOCKER_HUB if host in {"index.docker.io", "registry-1.docker.io"} else host


def _encode(username: str, password: str) -> str:
    return base64.b64encode(f"{username}:{password}".encode()).decode()


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
