"""`python -m lamina.registry --addr HOST:PORT --root DIR`: the server without the command line's framework."""

from __future__ import annotations

import argparse
import sys

from lamina.errors import LaminaError
from lamina.registry.config import RegistryConfig
from lamina.registry.server import serve
from lamina.values import replace


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(prog="python -m lamina.registry")
    parser.add_argument("--addr", default="127.0.0.1:5000", help="HOST:PORT to listen on; port 0 takes a free one")
    parser.add_argument("--root", required=True, help="data directory")
    parser.add_argument("--new-database", action="store_true", help="replace a database that is lost by an empty one")
    parser.add_argument("--workers", type=int, default=1, help="server processes")
    parser.add_argument("--drain", type=float, default=30.0, help="seconds that running requests get at the end")
    arguments = parser.parse_args()
    host, _, port = arguments.addr.rpartition(":")
    try:
        serve(
            host.strip("[]") or "127.0.0.1",
            int(port),
            arguments.root,
            config=replace(RegistryConfig(), drain_timeout=arguments.drain),
            new_database=arguments.new_database,
            workers=arguments.workers,
            ready=lambda at, number: print(f"listening on {at}:{number}", flush=True),  # noqa: T201 - a program's output
        )
    except LaminaError as error:
        sys.exit(f"{error.message}\n{error.hint}" if error.hint else error.message)


if __name__ == "__main__":
    main()
