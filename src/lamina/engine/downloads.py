"""Files from web servers, as streams (`lamina import URL`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import HTTPError

from lamina.engine.registries import proxies_of
from lamina.errors import Unavailable

if TYPE_CHECKING:
    from lamina.image.protocols import Readable

_TIMEOUT = urllib3.Timeout(connect=30, read=60)


class DownloadFailed(Unavailable):
    """A URL could not be read.

    Attributes:
        url: without credentials and query.
        reason: why.
    """

    def __init__(self, url: str, reason: str) -> None:
        parts = urlsplit(url)
        self.url = f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}"
        self.reason = reason
        super().__init__(f'Get "{self.url}": {reason}')


class _Body:
    """A response's bytes; a connection that breaks is an error, never a short file."""

    def __init__(self, response: urllib3.BaseHTTPResponse, url: str) -> None:
        self._response, self._url = response, url

    def read(self, size: int = -1, /) -> bytes:
        try:
            return bytes(self._response.read(None if size < 0 else size, decode_content=False))
        except (HTTPError, OSError) as error:
            raise DownloadFailed(self._url, str(error)) from None

    def close(self) -> None:
        self._response.close()


@contextmanager
def download(url: str, env: Mapping[str, str]) -> Iterator[Readable]:
    """Open a URL, following redirects, through the proxies that the environment names.

    Args:
        url: http or https.
        env: HTTP_PROXY, HTTPS_PROXY, NO_PROXY in either case.

    Raises:
        DownloadFailed: no answer, or not 200; also raised while reading.
    """
    proxy = _proxy(url, env)
    manager = urllib3.ProxyManager(proxy, timeout=_TIMEOUT) if proxy else urllib3.PoolManager(timeout=_TIMEOUT)
    try:
        try:
            response = manager.request("GET", url, preload_content=False, redirect=True)
        except HTTPError as error:
            raise DownloadFailed(url, str(getattr(error, "reason", None) or error)) from None
        if response.status != 200:
            response.close()
            raise DownloadFailed(url, f"unexpected status {response.status}")
        body = _Body(response, url)
        try:
            yield body
        finally:
            body.close()
    finally:
        manager.clear()


def _proxy(url: str, env: Mapping[str, str]) -> str:
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    proxies = proxies_of(env)
    for entry in (each.strip().lower().lstrip(".") for each in proxies.no_proxy.split(",")):
        if entry == "*" or (entry and (host == entry or host.endswith("." + entry))):
            return ""
    return proxies.https if parts.scheme.lower() == "https" else proxies.http
