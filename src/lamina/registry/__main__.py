"""`python -m lamina.registry --addr HOST:PORT --root DIR`: the server without the command line's framework."""

from __future__ import annotations

import argparse

from lamina.registry.server import serve


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(prog="python -m lamina.registry")
    parser.add_argument("--addr", default="127.0.0.1:5000", help="HOST:PORT to listen on; port 0 takes a free one")
    parser.add_argument("--root", required=True, help="data directory")
    arguments = parser.parse_args()
    host, _, port = arguments.addr.rpartition(":")
    serve(
        host.strip("[]") or "127.0.0.1",
        int(port),
        arguments.root,
        ready=lambda at, number: print(f"listening on {at}:{number}", flush=True),  # noqa: T201 - a program's output
    )


if __name__ == "__main__":
    main()
