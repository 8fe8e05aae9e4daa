"""Telling local sources of ADD from URLs and git repositories (features D31, D32)."""

from __future__ import annotations

import re

from lamina.build.dockerfile.steps import SourceKind

_HTTP = re.compile(r"https?://")
_GIT_SCHEME = re.compile(r"(?:git|ssh)://")
#: `git@host:path`, as ssh takes it.
_GIT_USER = re.compile(r"[A-Za-z0-9_.-]+@[A-Za-z0-9.-]+:[^/]", re.ASCII)


def source_kind(text: str) -> SourceKind:
    """What a source is by its form; over http only a path that ends in `.git` is a repository."""
    if _GIT_SCHEME.match(text) or _GIT_USER.match(text):
        return "git"
    if not _HTTP.match(text):
        return "local"
    path = text.partition("#")[0].partition("?")[0]
    return "git" if path.endswith(".git") else "http"
