"""Credential helpers: programs `docker-credential-NAME` that keep secrets outside of config.json."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from typing import Any, Final

from lamina.errors import Invalid, Unavailable
from lamina.transports.remote.credentials import Credential
from lamina.values import dataclass, field

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_TOKEN_USER: Final = "<token>"  # noqa: S105 - the user name that marks an identity token
_NOT_FOUND: Final = "credentials not found in native keychain"
_TIMEOUT: Final = 60.0
_DOING: Final = {"get": "getting", "store": "storing", "erase": "erasing"}


class HelperFailed(Unavailable):
    """A credential helper is missing, hangs, fails or answers nonsense; in Docker's words, which people look up.

    Attributes:
        program: the helper.
    """

    def __init__(self, doing: str, program: str, problem: str, output: str = "") -> None:
        super().__init__(f"error {doing} credentials - err: {problem}, out: `{output.strip()[:500]}`")
        self.program = program


@dataclass(frozen=True, slots=True)
class CredentialHelper:
    """One helper; `environment` is all that it sees of ours (threat 38)."""

    name: str
    environment: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise Invalid(f"invalid credential helper name {self.name!r}")

    @property
    def program(self) -> str:
        """The name of the executable."""
        return f"docker-credential-{self.name}"

    def get(self, server: str) -> Credential | None:
        """The credential for a server key, or None when the helper has none.

        Raises:
            HelperFailed: the program is missing or fails otherwise.
        """
        status, output = self._run("get", server)
        if status != 0:
            if _NOT_FOUND in output:
                return None
            raise HelperFailed("getting", self.program, f"exit status {status}", output)
        try:
            answer: Any = json.loads(output)
            username, secret = answer["Username"], answer["Secret"]
        except (ValueError, KeyError, TypeError):
            raise HelperFailed("getting", self.program, f"{self.program} answers no credential") from None
        if not isinstance(username, str) or not isinstance(secret, str):
            raise HelperFailed("getting", self.program, f"{self.program} answers no credential")
        if username == _TOKEN_USER:
            return Credential(identity_token=secret)
        credential = Credential(username, secret)
        return None if credential.empty else credential

    def store(self, server: str, credential: Credential) -> None:
        """Keep a credential."""
        token = credential.identity_token
        entry = {
            "ServerURL": server,
            "Username": _TOKEN_USER if token else credential.username,
            "Secret": token or credential.password,
        }
        status, output = self._run("store", json.dumps(entry))
        if status != 0:
            raise HelperFailed("storing", self.program, f"exit status {status}", output)

    def erase(self, server: str) -> bool:
        """Forget a server; False when the helper did not know it."""
        status, output = self._run("erase", server)
        if status != 0 and _NOT_FOUND not in output:
            raise HelperFailed("erasing", self.program, f"exit status {status}", output)
        return status == 0

    def _run(self, verb: str, given: str) -> tuple[int, str]:
        doing = _DOING[verb]
        path = shutil.which(self.program, path=self.environment.get("PATH", ""))
        if path is None:
            raise HelperFailed(doing, self.program, f'exec: "{self.program}": executable file not found in $PATH')
        try:
            done = subprocess.run(
                [path, verb],
                input=given.encode(),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=dict(self.environment),
                timeout=_TIMEOUT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise HelperFailed(doing, self.program, f"{path} did not end within {_TIMEOUT:.0f} seconds") from None
        except OSError as error:
            raise HelperFailed(doing, self.program, f"{path}: {error.strerror or error}") from None
        return done.returncode, done.stdout[: 64 << 10].decode(errors="replace")
