"""Image references: what people type, what it means, and what is no name at all (S08, R15, threat 47).

The table was checked, name by name, against docker CLI 28.2.2.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.spec.digest import Digest
from lamina.spec.reference import InvalidReference, Reference, Repository, is_repository_path, is_tag

SHA = "sha256:" + "0123456789abcdef" * 4
SHA512 = "sha512:" + "0123456789abcdef" * 8
HUB = "docker.io"

# text, host, path, tag, has digest, familiar form
GOOD = [
    ("debian", HUB, "library/debian", "", False, "debian"),
    ("debian:12", HUB, "library/debian", "12", False, "debian:12"),
    ("library/debian", HUB, "library/debian", "", False, "debian"),
    ("docker.io/debian", HUB, "library/debian", "", False, "debian"),
    ("docker.io/library/debian:12", HUB, "library/debian", "12", False, "debian:12"),
    ("index.docker.io/debian", HUB, "library/debian", "", False, "debian"),
    ("index.docker.io/jpetazzo/clock", HUB, "jpetazzo/clock", "", False, "jpetazzo/clock"),
    ("jpetazzo/clock", HUB, "jpetazzo/clock", "", False, "jpetazzo/clock"),  # S08
    (f"debian@{SHA}", HUB, "library/debian", "", True, f"debian@{SHA}"),
    (f"debian:12@{SHA}", HUB, "library/debian", "12", True, f"debian:12@{SHA}"),
    (f"debian@{SHA512}", HUB, "library/debian", "", True, f"debian@{SHA512}"),
    ("registry.example.com:5000/my-private-image", "registry.example.com:5000", "my-private-image", "", False, None),
    ("localhost:5000/wordpress", "localhost:5000", "wordpress", "", False, None),
    ("localhost/wordpress:1", "localhost", "wordpress", "1", False, None),
    ("127.0.0.1:5000/a/b/c:x", "127.0.0.1:5000", "a/b/c", "x", False, None),
    ("[::1]:5000/repo", "[::1]:5000", "repo", "", False, None),
    ("[2001:db8::1]/repo:t", "[2001:db8::1]", "repo", "t", False, None),
    ("a.local/x", "a.local", "x", "", False, None),
    ("Upper/repo", "Upper", "repo", "", False, None),  # upper case can only be a host
    ("xn--bcher-kva.example/x", "xn--bcher-kva.example", "x", "", False, None),
    ("a/b/c/d/e", HUB, "a/b/c/d/e", "", False, "a/b/c/d/e"),
    ("a__b/c.d/e---f", HUB, "a__b/c.d/e---f", "", False, "a__b/c.d/e---f"),
    ("0/1", HUB, "0/1", "", False, "0/1"),
    ("foo:_.-", HUB, "library/foo", "_.-", False, "foo:_.-"),
    ("foo:" + "t" * 128, HUB, "library/foo", "t" * 128, False, None),
    ("foo:5000", HUB, "library/foo", "5000", False, "foo:5000"),  # no slash: a tag, not a port
    ("foo:5000/bar", "foo:5000", "bar", "", False, None),
    ("docker.io/library/a/b", HUB, "library/a/b", "", False, "library/a/b"),
    ("library/library", HUB, "library/library", "", False, "library"),
    ("e" * 63, HUB, "library/" + "e" * 63, "", False, None),
    ("a" * 64 + ":tag", HUB, "library/" + "a" * 64, "tag", False, None),  # only the bare form looks like an id
    ("scratch", HUB, "library/scratch", "", False, "scratch"),
]

BAD = [
    "", ":", "@", "/", ":tag", f"@{SHA}", "debian:", "debian@", "debian:12:13", "a:b:c", "a//b", "/a", "a/", "-a", "a-",
    "a_", "_a", ".a", "a.", "a..b", "a___b", "a-._b", "a b", " a", "a ", "a\n", "a\tb", "a\0b", "a/B", "a.b/C",
    "foo:.tag", "foo:-tag", "foo:ta g", "foo:tag\n", "foo:täg", "foo:" + "t" * 129, "föö", "bücher.example/x",
    "my_host:5000/x", "host:port/x", "a.b:80:90/x", "a.b:/x", "-a.b/x", "a-.b/x", "a..b/x", ".a.b/x", "a.b./x",
    "[::1/x", "::1/x", "[fe80::1%25eth0]:5000/x", "[::ffff:1.2.3.4]:5000/x", "user@host.example/x", "user:pw@h.example/x",
    "https://h.example/x", "http:///x", "h.example/x?y", "h.example/x#y", "a%2fb", "..", "../etc/passwd", "a/../b",
    "h.example/../x", "h.example/a\\b", "foo@sha256:abc", f"foo@{SHA.upper()}", f"foo@{SHA}0", f"foo@{SHA[:-1]}",
    "foo@md5:" + "a" * 32, f"foo@{SHA}@{SHA}", f"foo@{SHA}:tag", "foo@" + "a" * 64, "h.example/" + "a" * 256,
    "a" * 248,  # library/ counts, as in docker
    "٣/x", "ａ/b",
]  # fmt: skip


@pytest.mark.parametrize(("text", "host", "path", "tag", "pinned", "familiar"), GOOD, ids=[row[0][:40] for row in GOOD])
def test_names_as_docker_reads_them(text: str, host: str, path: str, tag: str, pinned: bool, familiar: str | None):
    reference = Reference.parse(text)
    assert (reference.repository.host, reference.repository.path, reference.tag) == (host, path, tag)
    assert (reference.digest is not None) == pinned
    assert reference.familiar == (familiar or text)


@pytest.mark.parametrize("text", BAD, ids=lambda text: text[:30].encode("unicode_escape").decode())
def test_what_is_no_name_is_refused(text: str):
    with pytest.raises(InvalidReference) as caught:
        Reference.parse(text)
    assert caught.value.message.startswith("invalid reference format")
    assert caught.value.text == text


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("Debian", "invalid reference format: repository name (library/Debian) must be lowercase"),
        ("h.example/Repo:1", "invalid reference format: repository name (Repo) must be lowercase"),
        ("a" * 64, f"invalid repository name ({'a' * 64}), cannot specify 64-byte hexadecimal strings"),
    ],
)
def test_messages_are_dockers(text: str, problem: str):
    with pytest.raises(InvalidReference) as caught:
        Reference.parse(text)
    assert caught.value.message.endswith(problem)


def test_length_limit_is_the_paths():
    assert Reference.parse("h.example/" + "a" * 255).repository.path == "a" * 255
    assert Reference.parse("a" * 247).repository.path == "library/" + "a" * 247


def test_authentication_and_transport_see_one_host():  # threat 47
    for alias in (
        "debian",
        "docker.io/debian",
        "index.docker.io/library/debian",
        "registry-1.docker.io/library/debian",
    ):
        assert Reference.parse(alias).repository.host == HUB
    # none of these may be taken for Docker Hub, or Hub's credentials would go there
    for other in (
        "docker.io.evil.example/x",
        "evil.example/docker.io/x",
        "Docker.io/x",
        "docker.io:443/x",
        "docker.iо/x",
    ):
        try:
            assert Reference.parse(other).repository.host != HUB
        except InvalidReference:
            continue


def test_a_path_on_hub_that_looks_like_a_host_keeps_its_host():  # threat 47
    odd = Reference.parse("docker.io/evil.example/x")
    assert odd.repository == Repository(HUB, "evil.example/x")
    assert odd.familiar == "docker.io/evil.example/x"
    assert Reference.parse("docker.io/localhost/x").familiar == "docker.io/localhost/x"


def test_defaults_and_what_a_registry_is_asked_for():
    plain = Reference.parse("debian")
    assert str(plain) == "docker.io/library/debian"
    assert str(plain.tagged()) == "docker.io/library/debian:latest"
    assert plain.identifier == "latest"
    both = Reference.parse(f"debian:12@{SHA}")
    assert both.tagged() is both
    assert both.identifier == SHA  # a pin beats a tag (threat 48)
    assert Reference.parse("debian:12").identifier == "12"


def test_changing_tag_and_digest():
    reference = Reference.parse("h.example/x:1")
    assert str(reference.with_tag("2")) == "h.example/x:2"
    assert str(reference.with_digest(Digest.parse(SHA))) == f"h.example/x@{SHA}"
    with pytest.raises(InvalidReference):
        reference.with_tag("no good")


def test_a_repository_is_a_name_alone():
    assert Repository.parse("debian") == Repository(HUB, "library/debian")
    assert str(Repository.parse("h.example/a/b")) == "h.example/a/b"
    for text in ("debian:12", f"debian@{SHA}", "Debian"):
        with pytest.raises(InvalidReference):
            Repository.parse(text)


def test_what_a_server_accepts_in_a_path():  # R15, threat 49
    assert is_repository_path("a/b-c/d__e")
    assert is_repository_path("a" * 255)
    for text in ("", "a" * 256, "A", "a/", "../a", "a/..", "a%2e", "_uploads", "a/_manifests", "a\n", "a:b", "a@b"):
        assert not is_repository_path(text)
    assert is_tag("v1.0_x-y")
    for text in ("", "-", ".", "a/b", "t" * 129, "a\n", "ä"):
        assert not is_tag(text)


_word = st.from_regex(r"[a-z0-9]{1,5}", fullmatch=True)
_component = st.builds(
    lambda parts, glue: glue.join(parts),
    st.lists(_word, min_size=1, max_size=3),
    st.sampled_from([".", "_", "__", "-", "---"]),
)
_path = st.lists(_component, min_size=1, max_size=4).map("/".join)
_host = st.sampled_from(
    ["", "localhost/", "h.example/", "h.example:5000/", "[::1]:80/", "A/", "docker.io/", "127.0.0.1/"]
)
_tag = st.from_regex(r"(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,9})?", fullmatch=True)
_pin = st.sampled_from(["", f"@{SHA}", f"@{SHA512}"])


@given(_host, _path, _tag, _pin)
def test_whatever_the_grammar_makes_parses_and_comes_back(host: str, path: str, tag: str, pin: str):
    reference = Reference.parse(host + path + tag + pin)
    assert Reference.parse(str(reference)) == reference
    assert Reference.parse(reference.familiar) == reference
    assert reference.tag == tag[1:]
    assert str(reference.digest or "") == pin[1:]


@given(st.text(alphabet=st.sampled_from("aZ09._-:/@[]% \n\0é") | st.characters(), max_size=40))
def test_arbitrary_text_is_a_stable_name_or_refused(text: str):
    try:
        reference = Reference.parse(text)
    except InvalidReference:
        return
    assert Reference.parse(str(reference)) == reference
    assert Reference.parse(reference.familiar) == reference
    assert is_repository_path(reference.repository.path)


def test_hostile_lengths_end_quickly():
    for text in ("a-" * 200_000, "a/" * 200_000, "a." * 200_000 + "/x", "[" + ":" * 400_000, "a" * 400_000 + "!/x"):
        with pytest.raises(InvalidReference):
            Reference.parse(text)
