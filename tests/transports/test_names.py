"""Names of places."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.errors import Invalid
from lamina.spec.reference import Reference
from lamina.transports.names import Kind, parse_name

HEX = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "kind", "path", "member"),
    [
        ("oci:dir", Kind.OCI, "dir", ""),
        ("oci:/a/b:v1", Kind.OCI, "/a/b", "v1"),
        ("oci:/a/b:localhost:5000/x:1", Kind.OCI, "/a/b", "localhost:5000/x:1"),
        (f"oci:dir@{HEX}", Kind.OCI, "dir", HEX),
        ("oci-archive:x.tar", Kind.OCI_ARCHIVE, "x.tar", ""),
        ("docker-archive:x.tar:debian:12", Kind.DOCKER_ARCHIVE, "x.tar", "debian:12"),
    ],
)
def test_files_and_directories(text: str, kind: Kind, path: str, member: str) -> None:
    name = parse_name(text)
    assert (name.kind, name.path, name.member) == (kind, path, member)
    assert str(name) == text


@pytest.mark.parametrize("text", ["debian", "docker://debian", "docker://localhost:5000/a/b:1", "oci/app:1", "ocix:1"])
def test_the_rest_is_a_registry(text: str) -> None:
    name = parse_name(text)
    assert name.kind is Kind.REGISTRY
    assert name.reference == Reference.parse(text.removeprefix("docker://"))


@pytest.mark.parametrize(
    "text", ["oci:", "oci::tag", "oci:dir:", "docker-archive:x:a/UPPER", "docker://", "docker://A B", "https://x/y"]
)
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        parse_name(text)


@given(st.text(max_size=60))
def test_any_text_is_a_name_or_invalid(text: str) -> None:
    for prefix in ("", "oci:", "docker-archive:", "docker://"):
        try:
            name = parse_name(prefix + text)
        except Invalid:
            continue
        assert parse_name(str(name)) == name
