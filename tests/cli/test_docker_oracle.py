"""Help pages, usage errors and templates, word for word against the docker 28 client (S18, S21, S29, C53)."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lamina.cli import app
from lamina.cli.commands import Entry

pytestmark = pytest.mark.peer


def sample_commands() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "lamina_sample_commands", Path(__file__).parent / "sample_commands.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


SAMPLES = sample_commands()
SAMPLE_NAMES = {
    "image pull",
    "image ls",
    "container run",
    "container cp",
    "container stop",
    "image tag",
    "container port",
}


@pytest.fixture(autouse=True)
def commands_like_docker(monkeypatch: pytest.MonkeyPatch) -> None:
    """The nouns of this test are samples with docker's flags: the subject is what carries them."""

    def load(entry: Entry) -> Any:
        assert entry.path in SAMPLE_NAMES
        return getattr(SAMPLES, entry.path.split()[1])

    monkeypatch.setattr(app, "load", load)


def as_lamina(text: str) -> str:
    return text.replace("docker", "lamina").replace(".lamina", ".docker").replace("docs.lamina.com", "docs.docker.com")


@pytest.mark.parametrize(
    "line",
    [
        "pull --help",
        "image pull --help",
        "images --help",
        "image ls --help",
        "image list --help",
        "cp --help",
        "stop --help",
        "tag --help",
        "help pull",
        "help image ls",
        "pull -h",
    ],
)
def test_help_pages(line: str, lamina: Callable[..., Any], docker: Callable[..., Any]) -> None:  # S18
    ours, theirs = lamina(*line.split()), docker(*line.split())
    assert ours.out == as_lamina(theirs.out)
    assert (ours.status, ours.err) == (theirs.status, theirs.err)


@pytest.mark.parametrize(
    "line",
    [
        "pull",
        "pull a b",
        "image pull",
        "pull --foo x",
        "pull --no-quiet x",
        "pull -x",
        "pull -qx",
        "pull -q=maybe x",
        "pull -q=1=2 x",
        "pull --quiet=yes x",
        "pull --=x",
        "pull ---x",
        "pull --platform",
        "pull --platform=",
        "pull -qa",
        "pull --debug x",
        "image tag -- help",
        "image tag a",
        "port",
        "port a b c",
        "images -f dang",
        "run",
        "run --help=0",
        "run --rm",
        "run -foo x",
        "run --foo",
        "run --name",
        "run -e",
        "run -it --memory abc x",
        "run --shm-size=abc y",
        "run --cpus=a x",
        "run --health-interval=a x",
        "run --health-interval=5 x",
        "run --health-interval=5q x",
        "run --stop-timeout=x y",
        "run --stop-timeout=0x1g y",
        "run --cpu-shares=99999999999999999999999 x",
        "run --blkio-weight=x y",
        "run --blkio-weight=-1 y",
        "run --blkio-weight=65536 y",
        "stop -t abc x",
        "stop -t",
        "stop -t 5",
        "cp a",
        "image --foo",
        "image --debug ls",
        "--foo",
        "-x",
        "puch --foo",
        "help foo",
    ],
)
def test_usage_errors(line: str, lamina: Callable[..., Any], docker: Callable[..., Any]) -> None:
    ours, theirs = lamina(*line.split()), docker(*line.split())
    # Docker points at help by "See ..." after "requires at least"; lamina by "Run ..." everywhere.
    expected = as_lamina(theirs.err).replace("See 'lamina", "Run 'lamina")
    assert ours.err == expected
    assert (ours.status, ours.out) == (theirs.status, theirs.out)


@pytest.mark.parametrize("line", ["puch", "image puch", "prune", "hostory x", "image hostory", "image help"])
def test_unknown_commands_are_docker_s_words_and_a_suggestion(
    line: str, lamina: Callable[..., Any], docker: Callable[..., Any]
) -> None:  # S18
    ours, theirs = lamina(*line.split()), docker(*line.split())
    paragraphs = ours.err.split("\n\n")
    assert [part for part in paragraphs if not part.startswith("Did you mean")] == as_lamina(theirs.err).split("\n\n")
    assert ours.status == theirs.status == 1


TEMPLATES = [
    "{{.Name}}",
    "{{.Name}} {{.name}}",
    "{{.Endpoints.docker.Host}}",
    "{{.Endpoints.foo}}",
    "{{.Endpoints.docker.foo}}",
    "{{.Name.Foo}}",
    "{{.Endpoints.docker.Host.Foo}}",
    "{{json .Endpoints}}",
    "{{.Name 1}}",
    "{{eq 1 1.0}}",
    "{{lt 1 1.5}}",
    '{{index .Endpoints "docker" "Host"}}',
    "{{range .Name}}{{end}}",
    "{{len .}}",
    "{{.Storage}}",
    "{{.Name",
    "{{if .Name}}",
    "{{nope}}",
    "{{join 1 2}}",
    '{{define "T"}}[{{.}}]{{end}}{{template "T" .Name}}',
    r"a\tb",
]


@pytest.mark.parametrize("template", TEMPLATES)
def test_templates(template: str, docker: Callable[..., Any]) -> None:  # C53, S38
    from lamina.cli.format.gotemplate.template import parse
    from lamina.cli.format.gotemplate.values import Struct
    from lamina.cli.main import describe

    endpoint = Struct("context.EndpointMetaBase", {"Host": "unix:///var/run/docker.sock", "SkipTLSVerify": False})
    value = Struct(
        "context.contextWithTLSListing",
        {
            "Name": "default",
            "Endpoints": {"docker": endpoint},
            "Storage": Struct("S", {"MetadataPath": "<IN MEMORY>", "TLSPath": "<IN MEMORY>"}),
        },
    )
    theirs = docker("context", "inspect", "--format", template)
    try:
        out, err, status = parse(template).execute(value) + "\n", "", 0
    except Exception as error:
        out, (text, status) = "", describe(error)
        err = text + "\n"
    # Docker prints the line's end even when the template fails half-way.
    assert (out, err, status) == (theirs.out if status == 0 else "", theirs.err, theirs.status)
