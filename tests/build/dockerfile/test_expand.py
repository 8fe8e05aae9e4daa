"""Word expansion: D35."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.build.dockerfile.errors import DockerfileError
from lamina.build.dockerfile.expand import Mode, expand
from lamina.build.dockerfile.patterns import MAX_RESULT, ShellPattern

ENV = {
    "HOME": "/root",
    "EMPTY": "",
    "FILE": "a/b/c.tar.gz",
    "GLOB": "x*y?z",
    "WORDS": "a b  c",
    "ÜBER": "ü",
    "V1": "one",
}


@pytest.mark.parametrize(
    ("word", "text"),
    [
        # plain, quotes, escapes
        ("", ""),
        ("abc", "abc"),
        ("a\\tb", "atb"),
        ('"a\\tb"', "a\\tb"),
        ("'a\\tb'", "a\\tb"),
        ('"a\\"b"', 'a"b'),
        ('"a\\\\b"', "a\\b"),
        ("a'b c'd", "ab cd"),
        ('a"b\'c"', "ab'c"),
        ("'a\"b'", 'a"b'),
        ("end\\", "end"),
        ("\\'", "'"),
        # variables
        ("$HOME", "/root"),
        ("$HOME/x", "/root/x"),
        ("${HOME}x", "/rootx"),
        ("$HOMEx", ""),
        ("$V1", "one"),
        ("$ÜBER", "ü"),
        ("\\$HOME", "$HOME"),
        ("\\${HOME}", "${HOME}"),
        ("'$HOME'", "$HOME"),
        ('"$HOME"', "/root"),
        ("\"'$HOME'\"", "'/root'"),
        ("\\\\$HOME", "\\/root"),
        ("$", "$"),
        ("$.", "$."),
        ("a$ b", "a$ b"),
        ("$UNSET", ""),
        # names of shell parameters
        ("$12x", "x"),
        ("$1a", "a"),
        ("$@", ""),
        ("$*$#$?$-$$$!$0", ""),
        ("${#:-n}", "n"),
        ("$00", ""),
        # defaults
        ("${UNSET:-w}", "w"),
        ("${UNSET-w}", "w"),
        ("${EMPTY:-w}", "w"),
        ("${EMPTY-w}", ""),
        ("${HOME:-w}", "/root"),
        ("${HOME:+w}", "w"),
        ("${HOME+w}", "w"),
        ("${EMPTY:+w}", ""),
        ("${EMPTY+w}", "w"),
        ("${UNSET+w}", ""),
        ("${HOME:?m}", "/root"),
        ("${EMPTY?m}", ""),
        ("${UNSET:-}", ""),
        ("${UNSET:-${HOME}}", "/root"),
        ("${UNSET:-${ALSO:-$V1}}", "one"),
        ("${HOME:+${UNSET:-x}:}y", "x:y"),
        ("${UNSET:-'a b'}", "a b"),
        ("${UNSET:-\\$HOME}", "$HOME"),
        ("${UNSET:-a\\}b}", "a}b"),
        ("${UNSET:-{a}", "{a"),
        ("${HOME}}", "/root}"),
        # patterns
        ("${FILE#*/}", "b/c.tar.gz"),
        ("${FILE##*/}", "c.tar.gz"),
        ("${FILE%.*}", "a/b/c.tar"),
        ("${FILE%%.*}", "a/b/c"),
        ("${FILE#x}", "a/b/c.tar.gz"),
        ("${FILE%gz}", "a/b/c.tar."),
        ("${FILE#?}", "/b/c.tar.gz"),
        ("${FILE#}", "a/b/c.tar.gz"),
        ("${FILE##}", "a/b/c.tar.gz"),
        ("${FILE##*}", ""),
        ("${GLOB#x\\*}", "y?z"),
        ("${GLOB%\\?z}", "x*y"),
        ("${GLOB#x?y}", "?z"),
        ("${FILE/\\//-}", "a-b/c.tar.gz"),
        ("${FILE//\\//-}", "a-b-c.tar.gz"),
        ("${FILE//?\\/}", None),
        ("${FILE//?\\//}", "c.tar.gz"),
        ("${FILE/b*r/X}", "a/X.gz"),
        ("${FILE//$V1/X}", "a/b/c.tar.gz"),
        ("${FILE/$EMPTY/X}", "Xa/b/c.tar.gz"),
        ("${UNSET/a/b}", ""),
        ("${UNSET#a}", ""),
        # errors
        ("'open", None),
        ('"open', None),
        ("${HOME", None),
        ("${", None),
        ("${}", None),
        ("${:}", None),
        ("${:-x}", None),
        ("${.}", None),
        ("${HOME:x}", None),
        ("${HOME:=x}", None),
        ("${HOME=x}", None),
        ("${HOME:#x}", None),
        ("${HOME:%x}", None),
        ("${HOME!x}", None),
        ("${{HOME}", None),
        ("${UNSET?}", None),
        ("${UNSET:?}", None),
        ("${EMPTY:?}", None),
        ("${HOME/x}", None),
        ("${HOME/x/y", None),
        ("${HOME#\\x}", None),
    ],
)
def test_forms(word: str, text: str | None) -> None:
    if text is None:
        with pytest.raises(DockerfileError, match=r"^failed to process "):
            expand(word, ENV)
    else:
        assert expand(word, ENV).text == text


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("${X:?set $HOME}", 'failed to process "${X:?set $HOME}": X: set /root'),
        ("${X?}", 'failed to process "${X?}": X: is not allowed to be unset'),
        ("${EMPTY:?}", 'failed to process "${EMPTY:?}": EMPTY: is not allowed to be empty'),
        ("${X", "failed to process \"${X\": syntax error: missing '}'"),
        ("${X:-a", "failed to process \"${X:-a\": syntax error: missing '}'"),
        ("${X/a}", "failed to process \"${X/a}\": syntax error: missing '/' in ${}"),
        ("${HOME:=x}", 'failed to process "${HOME:=x}": unsupported modifier (:=) in substitution'),
        ("'", 'failed to process "\'": unexpected end of statement while looking for matching single-quote'),
    ],
)
def test_messages(word: str, message: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        expand(word, ENV)
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a b", ["a", "b"]),
        ("  a\t b  ", ["a", "b"]),
        ("a\\ b", ["a b"]),
        ("'a b' c", ["a b", "c"]),
        ("x${WORDS}y", ["xa", "b", "cy"]),
        ('x"${WORDS}"y', ["xa b  cy"]),
        ("$EMPTY", []),
        ('""', []),
        ("a'' b", ["a", "b"]),
        ("${UNSET:-x y}z", ["x", "yz"]),
    ],
)
def test_splitting(text: str, words: list[str]) -> None:  # D18 needs it: EXPOSE splits after expansion
    assert list(expand(text, ENV).words) == words


def test_which_variables_were_used() -> None:  # D48 UndefinedVar
    result = expand("$HOME ${A:-$B} '$C' ${EMPTY}", ENV)
    assert (set(result.matched), set(result.unmatched)) == ({"HOME", "EMPTY"}, {"A", "B"})


def test_backtick_escapes() -> None:
    assert expand("C:\\dir\\`$HOME$HOME", ENV, Mode("`")).text == "C:\\dir\\$HOME/root"


def test_bodies_of_heredocs_keep_quotes() -> None:  # D34
    assert expand('it\'s "$HOME" \\$HOME', ENV, Mode(quotes=False)).text == 'it\'s "/root" $HOME'


def test_display_keeps_what_is_unset() -> None:
    mode = Mode(keep_quotes=True, keep_unset=True)
    assert (
        expand("echo '$X' \"$X\" ${X:-1} ${X/a/b} $HOME", ENV, mode).text == "echo '$X' \"$X\" ${X:-1} ${X/a/b} /root"
    )


def test_deep_nesting_is_refused_and_not_a_crash() -> None:  # threat 26
    with pytest.raises(DockerfileError, match="nested more than"):
        expand("${a:-" * 5000 + "}" * 5000, {})


def test_exponential_growth_is_refused() -> None:  # threat 26
    env = {"A": "x" * (MAX_RESULT // 2 + 1)}
    with pytest.raises(DockerfileError, match="longer than"):
        expand("$A$A", env)
    with pytest.raises(DockerfileError, match="longer than"):
        expand("${A//x/$A}", env)


def test_hostile_patterns_take_linear_time() -> None:  # threat 26: a backtracking matcher would not return
    value = "a" * 20_000
    assert ShellPattern("*a" * 40 + "b").trim_prefix(value, longest=True) == value
    assert ShellPattern("*a" * 40 + "b").replace(value, "", all=True) == value


@given(st.text(alphabet="ab*?", max_size=5), st.text(alphabet="ab", max_size=8), st.booleans())
def test_trimming_agrees_with_the_definition(pattern: str, value: str, longest: bool) -> None:
    from fnmatch import fnmatchcase

    ends = [i for i in range(len(value) + 1) if fnmatchcase(value[:i], pattern)]
    wanted = value[(max(ends) if longest else min(ends)) :] if ends else value
    assert ShellPattern(pattern).trim_prefix(value, longest=longest) == wanted
    starts = [i for i in range(len(value) + 1) if fnmatchcase(value[i:], pattern)]
    wanted = value[: (min(starts) if longest else max(starts))] if starts else value
    assert ShellPattern(pattern).trim_suffix(value, longest=longest) == wanted


@given(st.text(alphabet="$\\{}:-+?#%/'\"<ab \t@", max_size=30))
def test_any_text_expands_or_is_refused(word: str) -> None:  # threat 26
    try:
        result = expand(word, {"a": "b b", "b": ""})
    except DockerfileError:
        return
    assert "".join("".join(result.words).split()) == "".join(result.text.split())
