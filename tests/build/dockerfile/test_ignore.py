"""Ignore files: D41, D42."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.build.dockerfile.errors import DockerfileError
from lamina.build.dockerfile.ignore import IgnoreMatcher


@pytest.mark.parametrize(
    ("text", "path", "excluded"),
    [
        ("", "a", False),
        ("a", "a", True),
        ("a", "a/b", True),  # a parent takes its children along
        ("a", "b/a", False),  # patterns are anchored at the root
        ("/a", "a", True),
        ("a/", "a", True),
        ("./a//b/../c", "a/c", True),
        ("  a  ", "a", True),
        ("\ufeffa", "a", True),
        ("a\r\nb\r\n", "b", True),
        ("# a\na", "a", True),
        ("#a", "#a", False),
        (" #a", "#a", True),  # a comment begins in the first column only
        ("*.o", "a.o", True),
        ("*.o", "d/a.o", False),
        ("*/*.o", "d/a.o", True),
        ("**/*.o", "a.o", True),
        ("**/*.o", "d/e/a.o", True),
        ("**", "d/a", True),
        ("*", "d/a", True),
        ("d/**", "d", False),
        ("d/**", "d/e/a", True),
        ("**/d", "e/d/a", True),
        ("**d", "e/xd", True),
        ("d**/a", "d/e/a", True),
        ("d**/a", "dx/a", True),
        ("d**a", "dxa", False),
        ("d**a", "dx/a", True),
        ("**/d/**", "e/d/f/a", True),
        ("a?", "ab", True),
        ("a?", "a/", False),
        ("[a-c]", "b", True),
        ("a\\*", "a*", True),
        ("a\\*", "ab", False),
        (".", "a", False),
        ("/", "a", False),
        ("a\n!a", "a", False),
        ("!a\na", "a", True),  # the last match wins
        ("*\n!a", "a", False),
        ("*\n!a", "b", True),
        ("*\n!a/b", "a/b", False),
        ("*\n!a/b", "a/c", True),
        ("*\n!a\na/b", "a/b", True),
        ("d\n!d/a", "d/a", False),
        ("d\n!d/a", "d/b", True),
        ("**\n! a", "a/b", False),
        ("*.md\n!README*.md\nREADME-secret.md", "README-secret.md", True),
        ("*.md\n!README*.md\nREADME-secret.md", "README-x.md", False),
        ("a", ".", False),
        ("*", "", False),
    ],
)
def test_rules(text: str, path: str, excluded: bool) -> None:  # D41
    assert IgnoreMatcher.from_text(text).excluded(path) is excluded


@pytest.mark.parametrize(
    ("text", "line"), [("a\n!\nb", 2), ("! ", 1), ("!/", 1), ("a\n\n[", 3), ("[z-a]", 1), ("a\\", 1)]
)
def test_wrong_rules(text: str, line: int) -> None:  # D41
    with pytest.raises(DockerfileError, match=r"illegal exclusion pattern|syntax error in pattern") as caught:
        IgnoreMatcher.from_text(text)
    assert caught.value.line == line
    assert caught.value.excerpt().startswith(f".dockerignore:{line}\n")


@pytest.mark.parametrize(
    ("text", "directory", "walk"),
    [
        ("d", "d", False),
        ("d", "e", True),
        ("d\n!d/a", "d", True),
        ("d\n!e/a", "d", False),
        ("d\n!*/a", "d", True),
        ("d\n!*/a", "d/e", False),
        ("d\n!**/a", "d/e", True),
        ("d\n!d/e/*.c", "d/e", True),
        ("d\n!d/e/*.c", "d/f", False),
        ("!d/a\nd", "d", False),  # what comes later cannot be overruled from earlier
        ("*\n!src", "src", True),
        ("*\n!src", "doc", False),
        ("*\n!src\nsrc/old", "src/old", False),
        ("**", ".", True),
    ],
)
def test_directories_that_can_be_skipped(text: str, directory: str, walk: bool) -> None:  # D41
    assert IgnoreMatcher.from_text(text).may_contain_included(directory) is walk


RULES = st.lists(st.tuples(st.booleans(), st.text(alphabet="ab/*", min_size=1, max_size=5)), max_size=4)
PATHS = st.lists(st.sampled_from(["a", "b", "ab", "ba"]), min_size=1, max_size=4).map("/".join)


@given(RULES, st.lists(PATHS, max_size=8))
def test_remembering_and_skipping_change_nothing(rules: list[tuple[bool, str]], paths: list[str]) -> None:  # D41
    text = "\n".join(("!" if negated else "") + pattern for negated, pattern in rules)
    try:
        matcher = IgnoreMatcher.from_text(text)
    except DockerfileError:
        return
    for path in paths:
        fresh = IgnoreMatcher.from_text(text).excluded(path)
        assert matcher.excluded(path) == fresh
        parts = path.split("/")
        if not fresh:
            assert all(matcher.may_contain_included("/".join(parts[:i])) for i in range(1, len(parts)))


def test_rules_are_known_for_messages() -> None:  # D48 CopyIgnoredFile
    matcher = IgnoreMatcher.from_text("a\n\n!b")
    assert [(rule.pattern, rule.includes, rule.line) for rule in matcher.rules] == [("a", False, 1), ("b", True, 3)]
    assert matcher.includes_some
    assert not IgnoreMatcher.from_patterns(["a", " ", ""]).includes_some
    assert not IgnoreMatcher.from_text("# nothing")


def test_paths_of_thousands_of_components() -> None:  # threat 26
    deep = "/".join(["a"] * 20_000)
    assert IgnoreMatcher.from_text("*\n!a/a/b").excluded(deep)


def test_names_that_are_no_utf8_can_be_matched() -> None:  # D41
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    assert IgnoreMatcher.from_text(b"caf\xe9").excluded(name)
