"""`--change` of import and commit (C03): the Dockerfile's words on a finished configuration."""

from __future__ import annotations

import pytest

from lamina.engine.changes import InvalidChange, apply_changes
from lamina.spec.config import Healthcheck, RunConfig


def test_every_instruction_edits_its_field():
    config = apply_changes(
        RunConfig(),
        [
            'CMD ["sh", "-c", "true"]',
            "ENV A=1 B='two words'",
            "EXPOSE 80 53/udp 8000-8002",
            "HEALTHCHECK --interval=5s --retries=2 CMD curl -f localhost",
            'LABEL stage=test "spaced key"="v"',
            "ONBUILD RUN make",
            "STOPSIGNAL SIGQUIT",
            "USER app:app",
            "VOLUME /data /logs",
            "WORKDIR /srv",
        ],
    )
    assert config == RunConfig(
        user="app:app",
        exposed_ports=("53/udp", "80/tcp", "8000/tcp", "8001/tcp", "8002/tcp"),
        env=("A=1", "B=two words"),
        cmd=("sh", "-c", "true"),
        volumes=("/data", "/logs"),
        working_dir="/srv",
        labels={"stage": "test", "spaced key": "v"},
        stop_signal="SIGQUIT",
        healthcheck=Healthcheck(("CMD-SHELL", "curl -f localhost"), interval=5 * 10**9, retries=2),
        on_build=("RUN make",),
    )


def test_shell_form_goes_through_the_shell_of_the_image():
    assert apply_changes(RunConfig(), ["CMD echo hi"]).cmd == ("/bin/sh", "-c", "echo hi")
    assert apply_changes(RunConfig(shell=("/bin/bash", "-ec")), ["ENTRYPOINT run it"]).entrypoint == (
        "/bin/bash",
        "-ec",
        "run it",
    )


def test_a_new_entrypoint_drops_the_old_cmd_but_not_one_given_with_it():
    base = RunConfig(cmd=("old",), entrypoint=("e",))
    assert apply_changes(base, ['ENTRYPOINT ["new"]']).cmd is None
    assert apply_changes(base, ['CMD ["x"]', 'ENTRYPOINT ["new"]']).cmd == ("x",)
    assert apply_changes(base, ["ENTRYPOINT []"]).entrypoint is None


def test_variables_come_from_the_environment_so_far():
    config = apply_changes(
        RunConfig(env=("HOME=/root",), working_dir="/a"),
        ["ENV D=$HOME/d", "WORKDIR sub/../b", "VOLUME $D", "LABEL at=${D:-x}"],
    )
    assert config.env == ("HOME=/root", "D=/root/d")
    assert (config.working_dir, config.volumes, config.labels["at"]) == ("/a/b", ("/root/d",), "/root/d")


def test_env_is_replaced_in_place_and_one_text_may_hold_several_lines():
    assert apply_changes(RunConfig(env=("A=1", "B=2")), ["ENV A=3\nENV C=4"]).env == ("A=3", "B=2", "C=4")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("RUN make", "RUN is not a valid change command"),
        ("from scratch", "from is not a valid change command"),
        ("COPY a b", "COPY is not a valid change command"),
        ("NONSENSE", "NONSENSE is not a valid change command"),
        ("ENV", "ENV requires at least one argument"),
        ("EXPOSE 99999", "invalid containerPort: 99999"),
        ("STOPSIGNAL SIGNOPE", "Invalid signal: SIGNOPE"),
        ("LABEL a", "LABEL must have two arguments"),
    ],
)
def test_what_is_no_change_is_refused_by_name(change: str, problem: str):
    with pytest.raises(InvalidChange) as caught:
        apply_changes(RunConfig(), [change])
    assert caught.value.message == problem
    assert caught.value.change == change
