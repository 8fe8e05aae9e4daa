"""Wildcards of COPY: D24."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.build.dockerfile.match import BadPattern, PathPattern, clean_path, has_wildcard, match


@pytest.mark.parametrize(
    ("pattern", "path", "wanted"),
    [
        ("abc", "abc", True),
        ("*", "abc", True),
        ("*", "", True),
        ("*", "a/b", False),
        ("*.go", ".go", True),
        ("a*/b", "abc/b", True),
        ("a*/b", "a/c/b", False),
        ("a*b*c*/d", "a-b-c-/d", True),
        ("a*b?c*x", "abxbbxdbxebxczzx", True),
        ("a*b?c*x", "abxbbxdbxebxczzy", False),
        ("?", "\u263a", True),
        ("a?b", "a/b", False),
        ("**", "a/b", False),  # two stars mean nothing special here
        ("[a-c]x", "bx", True),
        ("[^a-c]x", "bx", False),
        ("[^a-c]", "/", True),
        ("[!a]", "!", True),  # negation is ^ only
        ("[!a]", "b", False),
        ("[[]", "[", True),  # how a bracket in a name is written
        ("a[[]b].txt", "a[b].txt", True),
        ("[\\]a]", "]", True),
        ("[\\-x]", "-", True),
        ("[b-a]", "b", False),  # an empty range matches nothing
        ("[^b-a]", "x", True),
        ("\\*", "*", True),
        ("\\*", "a", False),
        ("a]", "a]", True),
        ("{a,b}", "a", False),
        ("a.b", "axb", False),
    ],
)
def test_like_go(pattern: str, path: str, wanted: bool) -> None:
    assert match(pattern, path) is wanted


@pytest.mark.parametrize(
    "pattern", ["[", "[]", "[]a]", "[^", "[^]", "[-]", "[x-]", "[-x]", "[a-b-c]", "a[", "\\", "a\\", "[\\"]
)
def test_malformed(pattern: str) -> None:
    with pytest.raises(BadPattern, match=r"^syntax error in pattern "):
        match(pattern, "a")


def test_which_paths_are_patterns() -> None:
    assert [has_wildcard(text) for text in ("a/b.c", "a*", "a?", "a[", "a\\b", "a]{}")] == [
        False,
        True,
        True,
        True,
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("path", "wanted"),
    [("", "."), ("a//b/", "a/b"), ("./a/../b", "b"), ("//a", "/a"), ("/..", "/"), ("../a", "../a"), (".", ".")],
)
def test_clean(path: str, wanted: str) -> None:
    assert clean_path(path) == wanted


@given(st.text(alphabet="ab/*?", max_size=10), st.text(alphabet="ab/", max_size=10), st.booleans())
def test_both_engines_agree(pattern: str, path: str, deep: bool) -> None:
    compiled = PathPattern(pattern, deep=deep)
    machine = compiled._machine()
    assert compiled.matches(path) == (machine.run(path) & machine.accept != 0)


@given(
    st.text(alphabet="ab/*?", max_size=8),
    st.text(alphabet="ab", min_size=1, max_size=3),
    st.text(alphabet="ab/", min_size=1, max_size=5),
)
def test_pruning_never_hides_a_match(pattern: str, directory: str, rest: str) -> None:  # D41
    compiled = PathPattern(pattern, deep=True)
    if compiled.matches(f"{directory}/{rest}"):
        assert compiled.may_match_below(directory)


def test_hostile_patterns_take_linear_time() -> None:  # threat 26: backtracking would not return
    assert not match("*a" * 40 + "b", "a" * 4000)
    assert not PathPattern("**/a" * 40 + "b", deep=True).matches("a/" * 2000 + "c")
    assert not PathPattern("*[a-z]" * 40 + "0", deep=True).matches("a" * 4000)
