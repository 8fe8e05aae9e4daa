"""Image configs: everything Docker and OCI put in, kept, and written the same way each time."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.spec.config import Healthcheck, History, ImageConfig, RunConfig
from lamina.spec.digest import Digest
from lamina.spec.document import InvalidDocument, dumps
from lamina.spec.platform import Platform

AMD64 = Platform("linux", "amd64")


def test_oci_example(document):
    raw = document("oci-config")
    config = ImageConfig.parse(raw)
    assert config.raw is raw
    assert config.id == Digest.of(raw)
    assert config.platform == AMD64
    assert config.created == "2024-10-31T22:22:56.015925234Z"  # nanoseconds survive as text
    assert len(config.diff_ids) == 2
    assert [entry.empty_layer for entry in config.history] == [False, True, False]
    run = config.config
    assert run.entrypoint == ("/bin/my-app-binary",)
    assert run.cmd == ("--foreground", "--config", "/etc/my-app.d/default.cfg")
    assert run.exposed_ports == ("8080/tcp",)
    assert run.volumes == ("/var/job-result-data", "/var/log/my-app-logs")
    assert run.environment()["BAR"] == "well_written_spec=yes"
    assert run.stop_signal == "SIGRTMIN+3"
    assert run.extra == {"Memory": 2048}


def test_docker_example(document):
    config = ImageConfig.parse(document("docker-config"))
    assert config.platform == Platform("linux", "arm64")  # v8 is what arm64 means
    assert config.diff_ids == ()
    run = config.config
    assert run.entrypoint is None
    assert run.cmd == ("/bin/sh", "-c", "echo <hi> & bye")
    assert run.volumes == ()
    assert run.on_build == ("COPY . /app",)
    assert run.shell == ("/bin/bash", "-o", "pipefail", "-c")
    assert run.healthcheck == Healthcheck(
        ("CMD-SHELL", "curl -f http://localhost/ || exit 1"),
        interval=30_000_000_000,
        timeout=10_000_000_000,
        start_period=5_000_000_000,
        start_interval=1_000_000_000,
        retries=3,
    )
    assert config.extra["docker_version"] == "20.10.24"


@pytest.mark.parametrize("name", ["oci-config", "docker-config"])
def test_an_edit_changes_what_it_names_and_nothing_else(document, name: str):
    before = json.loads(document(name))
    after = json.loads(ImageConfig.parse(document(name)).with_config(user="nobody").raw)
    for value in (before, after):  # absent, null and zero mean the same here
        value["config"] = {k: v for k, v in value["config"].items() if v not in (None, "", [], {}, False)}
        value["config"].pop("User", None)
        value["rootfs"].setdefault("diff_ids", [])
        value.pop("variant", None)
    after["config"] = {k: v for k, v in after["config"].items() if v not in (None, "", [], {}, False)}
    assert after == before


def test_unknown_members_survive_an_edit_at_every_level(document):
    edited = json.loads(ImageConfig.parse(document("oci-config")).edit(author="new").raw)
    assert edited["author"] == "new"
    assert edited["config"]["Memory"] == 2048
    assert edited["history"][2]["x-step"] == 7


def test_unset_is_not_empty():
    # `ENTRYPOINT []` clears an entrypoint; no ENTRYPOINT inherits it
    def written(run: RunConfig) -> Any:
        config = ImageConfig.make(platform=AMD64, config=run, diff_ids=())
        assert ImageConfig.parse(config.raw) == config
        return json.loads(config.raw)["config"]

    assert written(RunConfig(entrypoint=(), cmd=None)) == {"Entrypoint": []}
    assert written(RunConfig(entrypoint=None, cmd=())) == {"Cmd": []}
    assert written(RunConfig()) == {}


def test_an_old_image_may_hold_a_string_for_a_command():
    raw = dumps({"os": "linux", "architecture": "amd64", "config": {"Cmd": "/bin/run it"}, "rootfs": {"diff_ids": []}})
    assert ImageConfig.parse(raw).config.cmd == ("/bin/run it",)


def test_null_labels_are_empty_ones():
    raw = dumps({"os": "linux", "architecture": "amd64", "config": {"Labels": {"a": None}}})
    assert ImageConfig.parse(raw).config.labels == {"a": ""}


@pytest.mark.parametrize(
    ("document_", "message"),
    [
        ({"rootfs": {"diff_ids": ["sha256:x"]}}, "$.rootfs.diff_ids[0]: invalid digest"),
        ({"rootfs": []}, "$.rootfs: want an object"),
        ({"config": {"Env": "A=b"}}, "$.config.Env: want an array"),
        ({"config": {"Env": [None]}}, "$.config.Env[0]: required"),
        ({"config": {"Cmd": 7}}, "$.config.Cmd: want an array"),
        ({"config": {"Labels": ["a"]}}, "$.config.Labels: want an object"),
        ({"config": {"Healthcheck": {"Retries": "3"}}}, "$.config.Healthcheck.Retries: want an integer"),
        ({"config": {"Volumes": ["/v"]}}, "$.config.Volumes: want an object"),
        ({"history": [{"empty_layer": 1}]}, "$.history[0].empty_layer: want a boolean"),
        ({"os": 7}, "$.os: want a string"),
    ],
)
def test_errors_say_where(document_: dict[str, Any], message: str):
    with pytest.raises(InvalidDocument) as caught:
        ImageConfig.parse(dumps(document_))
    assert caught.value.message.startswith(f"invalid image config: {message}")


def test_later_variables_win():
    run = RunConfig(env=("A=1", "B=x=y", "A=2", "EMPTY=", "BARE"))
    assert run.environment() == {"A": "2", "B": "x=y", "EMPTY": "", "BARE": ""}


def test_labels_are_written_in_order_so_that_ids_do_not_wander():
    one = RunConfig(labels={"b": "2", "a": "1"})
    other = RunConfig(labels={"a": "1", "b": "2"})
    assert dumps(one.to_json()) == dumps(other.to_json())


_words = st.text(max_size=8)
_argv = st.none() | st.lists(_words, max_size=3).map(tuple)
_names = st.lists(_words, max_size=3, unique=True).map(sorted).map(tuple)
_numbers = st.integers(0, 1 << 62)
_run_configs = st.builds(
    RunConfig,
    user=_words,
    exposed_ports=_names,
    env=st.lists(_words, max_size=3).map(tuple),
    entrypoint=_argv,
    cmd=_argv,
    volumes=_names,
    working_dir=_words,
    labels=st.dictionaries(_words, _words, max_size=3),
    stop_signal=_words,
    healthcheck=st.none() | st.builds(Healthcheck, _names, _numbers, _numbers, _numbers, _numbers, _numbers),
    on_build=st.lists(_words, max_size=2).map(tuple),
    shell=st.lists(_words, max_size=2).map(tuple),
    args_escaped=st.booleans(),
    extra=st.dictionaries(st.sampled_from(["Memory", "x-a"]), st.none() | _numbers | _words, max_size=2),
)
_configs = st.builds(
    ImageConfig.make,
    platform=st.sampled_from(
        [AMD64, Platform("linux", "arm", "v6"), Platform("windows", "amd64", "", "10.0.1", ("f",))]
    ),
    config=_run_configs,
    diff_ids=st.lists(st.binary(max_size=3).map(Digest.of), max_size=3).map(tuple),
    history=st.lists(
        st.builds(History, _words, _words, _words, _words, st.booleans(), st.just({}) | st.just({"x-h": [1]})),
        max_size=3,
    ).map(tuple),
    created=_words,
    author=_words,
    extra=st.dictionaries(st.sampled_from(["docker_version", "x-b"]), _words, max_size=2),
)


@given(_configs)
def test_a_made_config_reads_back_and_is_made_the_same_again(config: ImageConfig):
    assert ImageConfig.parse(config.raw) == config
    assert config.edit().raw == config.raw
    assert ImageConfig.parse(config.raw).edit().raw == config.raw
