"""`lamina login` and `lamina logout` (C33, C34, S49)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamina.cli.command import between, command
from lamina.cli.failures import DAEMON_PREFIX, CliError
from lamina.cli.flags import Options, flag
from lamina.cli.values import BOOL
from lamina.errors import LaminaError
from lamina.values import dataclass

if TYPE_CHECKING:
    from lamina.cli.context import Context
    from lamina.engine.accounts import Accounts
    from lamina.transports.remote.dockerconfig import Stored

HUB = "https://index.docker.io/v1/"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginOptions(Options):
    """Flags of `lamina login`."""

    password: str = flag("password", "p", help="Password or Personal Access Token (PAT)")
    password_stdin: bool = flag(
        "password-stdin", help="Take the Password or Personal Access Token (PAT) from stdin", kind=BOOL
    )
    username: str = flag("username", "u", help="Username")


@command(
    LoginOptions,
    usage="[OPTIONS] [SERVER]",
    arity=between(0, 1),
    description="Authenticate to a registry.\nDefaults to Docker Hub if no server is specified.",
)
def login(ctx: Context, options: LoginOptions) -> None:
    """Tries the credentials, then keeps them where docker does."""
    server = options.args[0] if options.args else ""
    stored = None if {"username", "password", "password-stdin"} & options.given else _login_again(ctx, server)
    if stored is None:
        stored = _login(ctx, server, *_credentials(ctx, options))
    if not stored.helper and not stored.known:
        ctx.stderr.write(
            f"\nWARNING! Your credentials are stored unencrypted in '{stored.path}'.\n"
            "Configure a credential helper to remove this warning. See\n"
            "https://docs.docker.com/go/credential-store/\n\n"
        )
    ctx.stdout.write("Login Succeeded\n")


def _login(ctx: Context, server: str, username: str, password: str) -> Stored:
    from lamina.engine.accounts import NotKept

    accounts: Accounts = ctx.engine.accounts
    try:
        return accounts.login(server, username, password)
    except NotKept as error:
        raise CliError(error.message) from error


def _login_again(ctx: Context, server: str) -> Stored | None:
    """With what is stored; None when nothing is, or it is not good any more, so that the user is asked."""
    known = ctx.engine.accounts.known(server)
    if known is None or not (known.username and known.password):
        return None
    ctx.stderr.write(
        f"Authenticating with existing credentials... [Username: {known.username}]\n\n"
        " Info -> To login with a different account, run 'docker logout' followed by 'docker login'\n\n\n"
    )
    try:
        return _login(ctx, server, known.username, known.password)
    except CliError:
        raise
    except LaminaError as error:
        ctx.stderr.write(f"Login did not succeed, error: {DAEMON_PREFIX}{error.message}\n")
        return None


def _credentials(ctx: Context, options: LoginOptions) -> tuple[str, str]:
    username, password = options.username, options.password
    if options.password_stdin:
        if "password" in options.given:
            raise CliError("conflicting options: cannot specify both --password and --password-stdin")
        if not username:
            raise CliError("the --password-stdin option requires --username to be set")
        password = ctx.stdin_bytes.read().decode("utf-8", "surrogateescape").rstrip("\r\n")
    elif password:
        ctx.stderr.write("WARNING! Using --password via the CLI is insecure. Use --password-stdin.\n")
    if not (username and password) and not ctx.is_tty(ctx.stdin):
        raise CliError("Error: Cannot perform an interactive login from a non TTY device")
    username = username or _prompt(ctx, "Username: ")
    if not username:
        raise CliError("Error: Non-null Username Required")
    password = password or _prompt_secret(ctx)
    if not password:
        raise CliError("Error: Password Required")
    return username, password


def _prompt(ctx: Context, text: str) -> str:
    ctx.stdout.write(text)
    ctx.stdout.flush()
    return ctx.stdin.readline().strip()


def _prompt_secret(ctx: Context) -> str:
    from getpass import getpass

    return getpass("Password: ", stream=ctx.stdout)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogoutOptions(Options):
    """`lamina logout` has no flags."""


@command(
    LogoutOptions,
    usage="[SERVER]",
    arity=between(0, 1),
    description="Log out from a registry.\nIf no server is specified, the default is defined by the daemon.",
)
def logout(ctx: Context, options: LogoutOptions) -> None:
    """Forgets the credentials of a registry."""
    from lamina.transports.remote.helper import HelperFailed

    server = options.args[0] if options.args else ""
    name = ctx.engine.accounts.host_of(server) if server else HUB
    # Docker says so whether or not it knew any.
    ctx.stdout.write(f"Removing login credentials for {name}\n")
    try:
        ctx.engine.accounts.logout(server)
    except HelperFailed as error:
        ctx.stderr.write(f"WARNING: could not erase credentials:\n{name}: {error.message}\n")
