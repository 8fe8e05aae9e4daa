"""Listings: tags of a repository, repositories of a registry, page by page (threat 44)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from lamina.errors import LaminaError, LimitExceeded
from lamina.spec.reference import Repository
from lamina.transports.remote.client import Session
from lamina.transports.remote.failures import for_pull
from lamina.transports.remote.origin import Url
from lamina.transports.remote.policy import check_link
from lamina.transports.remote.protocol import BadAnswer, Call, list_repositories, list_tags, names, next_link


def tags(session: Session, repository: Repository, *, page: int = 0) -> Iterator[str]:
    """The tags of a repository, each once, in the registry's order.

    Raises:
        RepositoryNotFound, PullAccessDenied: in Docker's words.
        Refused: a page points at another origin.
        BadAnswer: a page points at itself or brings nothing new.
    """
    call = list_tags(repository, count=page)
    try:
        yield from _pages(session, call, lambda body: names(body, "tags"), "tags")
    except LaminaError as error:
        raise for_pull(error, repository.familiar, repository.familiar) from None


def repositories(session: Session, *, page: int = 0) -> Iterator[str]:
    """The repositories of a registry (paths), where it offers its catalog; errors as for `tags`."""
    yield from _pages(session, list_repositories(count=page), lambda body: names(body, "repositories"), "catalog")


def _pages(session: Session, call: Call, read: Callable[[bytes], list[str]], what: str) -> Iterator[str]:
    limits = session.settings.limits
    url: Url | None = session.url(call.target)
    visited: set[str] = set()
    seen: set[str] = set()
    for _page in range(limits.pages):
        if url is None:
            return
        if str(url) in visited:
            raise BadAnswer(f"the registry's pages of {what} go in circles")
        visited.add(str(url))
        response = session.fetch(call, url)
        answered = response.request.url
        link = next_link(response.headers("Link"))
        body = response.read_all(limits.listing, what)
        fresh = [name for name in read(body) if name not in seen]
        seen.update(fresh)
        yield from fresh
        if link is None:
            return
        target = Url.parse(link, answered)
        check_link(url, target)
        if not fresh:
            raise BadAnswer(f"the registry's pages of {what} bring nothing new")
        url = target
    raise LimitExceeded(f"the registry's list of {what} has more than {limits.pages} pages")
