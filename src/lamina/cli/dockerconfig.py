"""The parts of docker's config.json that the command line itself acts on (C52): proxies, detachKeys, formats."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from lamina.cli.failures import CliError

if TYPE_CHECKING:
    from lamina.cli.context import Context

_PROXY_KEYS = {
    "httpProxy": "HTTP_PROXY",
    "httpsProxy": "HTTPS_PROXY",
    "ftpProxy": "FTP_PROXY",
    "noProxy": "NO_PROXY",
    "allProxy": "ALL_PROXY",
}


def load(ctx: Context) -> dict[str, Any]:
    """The document; {} when there is none.

    Raises:
        CliError: it is malformed.
    """
    import json

    path = os.path.join(ctx.config_dir, "config.json")
    try:
        with open(path, "rb") as file:
            document = json.load(file)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise CliError(f"{path}: {error}") from None
    if not isinstance(document, dict):
        raise CliError(f"{path}: it is no JSON object")
    return document


def proxy_arguments(ctx: Context) -> dict[str, str]:
    """`proxies.default` as variables in upper and lower case, for builds and containers."""
    proxies = load(ctx).get("proxies")
    default = proxies.get("default") if isinstance(proxies, dict) else None
    found: dict[str, str] = {}
    for key, name in _PROXY_KEYS.items():
        value = default.get(key) if isinstance(default, dict) else None
        if isinstance(value, str) and value:
            found[name] = found[name.lower()] = value
    return found
