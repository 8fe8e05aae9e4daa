"""`lamina serve registry`: the registry server in the foreground (S46)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamina.cli.command import NO_ARGUMENTS, command
from lamina.cli.failures import CliError
from lamina.cli.flags import Options, flag
from lamina.cli.values import BOOL, BYTES, DURATION, UINT16
from lamina.values import dataclass

if TYPE_CHECKING:
    import ssl

    from lamina.cli.context import Context
    from lamina.registry.config import RegistryConfig

DEFAULT_ADDRESS = "127.0.0.1:5000"
NANOSECONDS = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryOptions(Options):
    """Flags of `lamina serve registry`."""

    access_log: bool = flag("access-log", kind=BOOL, help="Log one line for each request to STDERR")
    addr: str = flag("addr", default=DEFAULT_ADDRESS, help="HOST:PORT to listen on; port 0 takes a free one")
    database: str = flag("database", help="SQLAlchemy URL of the metadata (default: SQLite in the storage directory)")
    drain_timeout: int = flag("drain-timeout", kind=DURATION, help="Time that running requests get at the end")
    max_blob_size: int = flag("max-blob-size", kind=BYTES, help="Refuse larger blobs")
    new_database: bool = flag("new-database", kind=BOOL, help="Start with an empty database when the old one is lost")
    no_delete: bool = flag("no-delete", kind=BOOL, help="Refuse to delete manifests, tags and blobs")
    scrub_interval: int = flag("scrub-interval", kind=DURATION, help="Time between two checks of everything stored")
    root: str = flag("root", help="Data directory (default: registry in lamina's root directory)")
    sparse_images: bool = flag("sparse-images", kind=BOOL, help="Accept an image whose layers are not there yet")
    storage: str = flag("storage", hidden=True, help="The same as --root")
    strict_indexes: bool = flag("strict-indexes", kind=BOOL, help="Refuse an index whose children are not there yet")
    tls_cert: str = flag("tls-cert", help="Serve HTTPS with this certificate chain (PEM)")
    tls_key: str = flag("tls-key", help="Private key of the certificate (PEM)")
    upload_ttl: int = flag("upload-ttl", kind=DURATION, help="Drop uploads that were idle for longer")
    workers: int = flag("workers", kind=UINT16, default=1, help="Number of server processes")


@command(
    RegistryOptions,
    usage="[OPTIONS]",
    arity=NO_ARGUMENTS,
    description="Serve an OCI registry over the distribution API.\nRuns until SIGTERM or SIGINT, then drains.",
)
def registry(ctx: Context, options: RegistryOptions) -> None:
    """Says the address once connections are accepted, then serves."""
    from lamina.registry.server import serve

    host, port = _address(options.addr)
    data = options.root or options.storage
    _log_to_stderr()

    def ready(at: str, number: int) -> None:
        ctx.stdout.write(f"Listening on {at}:{number}\n" if ":" not in at else f"Listening on [{at}]:{number}\n")
        ctx.stdout.flush()

    try:
        serve(
            host,
            port,
            ctx.path(data) if data else f"{ctx.root}/registry",
            config=_config(options),
            database=options.database,
            new_database=options.new_database,
            tls=_tls(ctx, options),
            workers=max(1, options.workers),
            ready=ready,
        )
    except OSError as error:
        raise CliError(f"cannot serve on {options.addr}: {error.strerror or error}") from error


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise CliError(f"invalid address {text!r}: want HOST:PORT")
    return host.removeprefix("[").removesuffix("]") or "0.0.0.0", int(port)


def _config(options: RegistryOptions) -> RegistryConfig:
    """The server's defaults, changed where a flag was given."""
    from lamina.registry.config import RegistryConfig
    from lamina.values import replace

    changes: dict[str, float] = {
        name.replace("-", "_"): getattr(options, name.replace("-", "_")) / NANOSECONDS
        for name in ("drain-timeout", "scrub-interval", "upload-ttl")
        if name in options.given
    }
    if "max-blob-size" in options.given:
        changes["max_blob_bytes"] = options.max_blob_size
    return replace(
        RegistryConfig(),
        delete_enabled=not options.no_delete,
        sparse_indexes=not options.strict_indexes,
        sparse_images=options.sparse_images,
        access_log=options.access_log,
        **changes,  # type: ignore[arg-type]
    )


def _tls(ctx: Context, options: RegistryOptions) -> ssl.SSLContext | None:
    if not options.tls_cert and not options.tls_key:
        return None
    if not (options.tls_cert and options.tls_key):
        raise CliError("--tls-cert and --tls-key go together")
    import ssl

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(ctx.path(options.tls_cert), ctx.path(options.tls_key))
    except (OSError, ssl.SSLError) as error:
        raise CliError(f"cannot read the certificate {options.tls_cert} with its key: {error}") from error
    return context


def _log_to_stderr() -> None:
    import logging

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
