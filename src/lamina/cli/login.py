"""`lamina login` and `lamina logout` (C33, C34, S49)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamina.cli.command import between, command
from lamina.cli.failures import CliError
from lamina.cli.flags import Options, flag
from lamina.cli.values import BOOL
from lamina.values import dataclass

if TYPE_CHECKING:
    from lamina.cli.context import Context

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
    username, password = _credentials(ctx, options, server)
    stored = ctx.engine.accounts.login(server, username, password)
    if not stored.helper:
        ctx.stderr.write(
            f"\nWARNING! Your credentials are stored unencrypted in '{stored.path}'.\n"
            "Configure a credential helper to remove this warning. See\n"
            "https://docs.docker.com/go/credential-store/\n\n"
        )
    ctx.stdout.write("Login Succeeded\n")


def _credentials(ctx: Context, options: LoginOptions, server: str) -> tuple[str, str]:
    if options.password_stdin:
        if "password" in options.given:
            raise CliError("conflicting options: cannot specify both --password and --password-stdin")
        if not options.username:
            raise CliError("the --password-stdin option requires --username to be set")
        return options.username, ctx.stdin_bytes.read().decode("utf-8", "surrogateescape").rstrip("\r\n")
    if options.password:
        ctx.stderr.write("WARNING! Using --password via the CLI is insecure. Use --password-stdin.\n")
    username, password = options.username, options.password
    if not username and not password and (known := ctx.engine.accounts.known(server)) and known.password:
        ctx.stderr.write("Authenticating with existing credentials...\n")
        return known.username, known.password
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
    server = options.args[0] if options.args else ""
    # Docker says so whether or not it knew any.
    ctx.stdout.write(f"Removing login credentials for {server or HUB}\n")
    ctx.engine.accounts.logout(server)
