"""What every instruction does to the configuration, the layers and the history of an image (D06-D30, D47, S30-S35)."""

from __future__ import annotations

import io
import tarfile

import pytest

from lamina.build.builder import BuildFailed
from lamina.testing.builds import FileSpec, Workshop

pytestmark = [pytest.mark.root, pytest.mark.runtime]


def test_metadata_instructions_edit_the_configuration_and_make_no_layers(workshop: Workshop):
    # S30, S31, D16-D22, D47
    made = workshop.build(
        """\
FROM base
LABEL a=1 b="two words" c='$literal'
LABEL   Description = "This is a test"
ENV ONE=1 TWO="$ONE two"
EXPOSE 8000-8001/udp 80
VOLUME /data /logs
USER web:staff
STOPSIGNAL SIGUSR1
SHELL ["/bin/sh", "-ec"]
HEALTHCHECK --interval=5s --retries=2 CMD true
CMD first
CMD echo $ONE
ONBUILD RUN echo later
"""
    )
    config = made.config.config
    assert config.labels == {"a": "1", "b": "two words", "c": "$literal", "Description": "= This is a test"}  # S32
    assert config.env[-2:] == ("ONE=1", "TWO= two")  # all values expand against the state before the line (D08)
    assert config.exposed_ports == ("80/tcp", "8000/udp", "8001/udp")
    assert config.volumes == ("/data", "/logs")
    assert (config.user, config.stop_signal, config.shell) == ("web:staff", "SIGUSR1", ("/bin/sh", "-ec"))
    assert config.cmd == ("/bin/sh", "-ec", "echo $ONE")
    assert config.healthcheck is not None
    assert config.healthcheck.test == ("CMD-SHELL", "true")
    assert config.on_build == ("RUN echo later",)
    assert len(made.config.diff_ids) == 1
    entries = made.config.history[1:]
    assert all(entry.empty_layer for entry in entries)
    assert [entry.created_by.split(" ")[0] for entry in entries] == [
        "LABEL", "LABEL", "ENV", "EXPOSE", "VOLUME", "USER", "STOPSIGNAL", "SHELL", "HEALTHCHECK", "CMD", "CMD",
    ]  # fmt: skip


def test_run_sees_shell_form_exec_form_user_workdir_and_environment(workshop: Workshop):
    made = workshop.build(
        r"""
FROM base
ENV GREETING=hello
WORKDIR /work
USER web
RUN id -u > /tmp/id && id -g >> /tmp/id && pwd >> /tmp/id && \
    # a comment inside

    echo "$GREETING" >> /tmp/id
RUN [ "/bin/sh", "-c", "echo '$GREETING' > /tmp/exec" ]
RUN hostname > /tmp/host; echo "$PATH" > /tmp/path
""".lstrip()
    )
    assert made.read("/tmp/id") == "33\n34\n/work\nhello\n"
    assert made.read("/tmp/exec") == "$GREETING\n"  # no expansion but the shell's (D05)
    assert made.read("/tmp/host") == "buildkitsandbox\n"
    assert made.read("/tmp/path") == "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"
    assert len(made.config.diff_ids) == 1 + 4  # WORKDIR is a layer of its own (D19)
    assert [entry.created_by for entry in made.config.history[2:5:2]] == [
        "WORKDIR /work",
        made.config.history[4].created_by,
    ]
    assert made.config.history[4].created_by.startswith("RUN /bin/sh -c id -u")
    assert made.config.history[4].created_by.endswith("# buildkit")


def test_a_step_has_no_input(workshop: Workshop):
    assert workshop.build("FROM base\nRUN cat > /got; wc -c < /got > /count").read("/count") == "0\n"


def test_workdir_is_made_owned_by_the_user_and_relative_ones_join(workshop: Workshop):
    # D19
    made = workshop.build("FROM base\nUSER web\nWORKDIR /srv/app\nUSER root\nWORKDIR sub\nRUN pwd > /pwd")
    listing = made.listing()
    assert listing["srv/app"][:3] == ("0o40755", 33, 34)
    assert listing["srv/app/sub"][:3] == ("0o40755", 0, 0)
    assert made.read("/pwd") == "/srv/app/sub\n"
    assert made.config.config.working_dir == "/srv/app/sub"


def test_arguments_reach_run_but_not_the_configuration(workshop: Workshop):
    # D07, D37, D45
    made = workshop.build(
        'ARG top=global\nFROM base\nRUN echo "[$top][$late]" > /a\nARG top\nARG late=default\nARG given\n'
        'RUN echo "[$top][$late][$given]" > /b\n',
        build_args={"given": "by flag", "unknown": "1"},
    )
    assert made.read("/a") == "[][]\n"
    assert made.read("/b") == "[global][default][by flag]\n"
    assert not [entry for entry in made.config.config.env if not entry.startswith("PATH=")]
    assert "|3 top=global late=default given=by flag" in made.config.history[-1].created_by
    assert made.built.unconsumed == ("unknown",)


def test_a_build_argument_that_only_a_trigger_declares_is_consumed(workshop: Workshop):
    # D23, D37
    workshop.build("FROM base\nONBUILD ARG v\nONBUILD LABEL v=$v\n", tags=["parent"])
    made = workshop.build("FROM parent\n", build_args={"v": "7", "w": "8"})
    assert made.config.config.labels == {"v": "7"}
    assert made.built.unconsumed == ("w",)


def test_env_beats_arg_even_a_passed_one(workshop: Workshop):
    # D08, as the Dockerfile reference has it
    for dockerfile in ("ENV v=env\nARG v=arg", "ARG v=arg\nENV v=env"):
        made = workshop.build(f"FROM base\n{dockerfile}\nRUN echo $v > /a\n", build_args={"v": "passed"})
        assert made.read("/a") == "env\n"


def test_proxies_reach_run_but_neither_history_nor_cache(workshop: Workshop):
    # D38
    text = "FROM base\nRUN echo $HTTP_PROXY > /p\n"
    made = workshop.build(text, build_args={"HTTP_PROXY": "http://one"})
    assert made.read("/p") == "http://one\n"
    assert "http://one" not in made.config.raw.decode()
    again = workshop.build(text, build_args={"HTTP_PROXY": "http://two"})
    assert again.id == made.id


def test_copy_forms(workshop: Workshop):
    # S35, D24
    made = workshop.build(
        "FROM base\nCOPY html/index.html /srv/www/index.html\nCOPY a b /two/\nCOPY a /var\nCOPY html /tree\n"
        "COPY *.c none*.x /src/\nCOPY ../../a /clamped\nWORKDIR /w\nCOPY a .\nCOPY --chown=web:staff --chmod=640 a /mine\n"
        "COPY --chmod=u=rwX,go= html /private\n",
        {"html/index.html": "<p>", "a": "A", "b": (0o755, "B"), "one.c": "1", "two.c": "2"},
    )
    listing = made.listing()
    assert listing["srv/www/index.html"] == ("0o100644", 0, 0, b"<p>")
    assert listing["srv/www"][:3] == ("0o40755", 0, 0)
    assert listing["two/a"][3] == b"A"
    assert listing["two/b"] == ("0o100755", 0, 0, b"B")
    assert listing["var/a"][3] == b"A"  # an existing directory takes the file in
    assert listing["tree/index.html"][3] == b"<p>"  # a directory's contents
    assert {"src/one.c", "src/two.c"} <= set(listing)
    assert listing["clamped"][3] == b"A"
    assert listing["w/a"][3] == b"A"
    assert listing["mine"] == ("0o100640", 33, 50, b"A")
    assert listing["private/index.html"][0] == "0o100600"
    assert listing["private"][0] == "0o40700"
    assert made.config.history[1].created_by == "COPY html/index.html /srv/www/index.html # buildkit"


def test_a_plain_source_must_exist_and_the_line_is_named(workshop: Workshop):
    with pytest.raises(BuildFailed, match=r'failed to compute cache key: .*"/nothing": not found') as caught:
        workshop.build("FROM base\nRUN true\nCOPY nothing /\n")
    assert "Dockerfile:3" in caught.value.excerpt
    assert ">>> COPY nothing /" in caught.value.excerpt


def test_add_extracts_archives_by_content(workshop: Workshop):
    # S36, D30
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        info = tarfile.TarInfo("inside/file")
        info.size, info.uid, info.gid = 2, 7, 8
        archive.addfile(info, io.BytesIO(b"hi"))
    files: dict[str, FileSpec] = {"odd.name": out.getvalue(), "bogus.tar.gz": "no archive"}
    made = workshop.build(
        "FROM base\nADD odd.name /x/\nADD bogus.tar.gz /x/\nCOPY odd.name /y/\nADD --chown=web odd.name /z\n"
        "ADD --unpack=false odd.name /k/\n",
        files,
    )
    listing = made.listing()
    assert listing["x/inside/file"] == ("0o100644", 7, 8, b"hi")
    assert listing["x/bogus.tar.gz"][3] == b"no archive"
    assert "y/odd.name" in listing
    assert listing["z/inside/file"][1:3] == (33, 34)
    assert "k/odd.name" in listing


def test_later_writes_below_a_volume_are_kept(workshop: Workshop):
    # D20: BuildKit's way
    made = workshop.build("FROM base\nRUN mkdir /v\nVOLUME /v\nRUN echo kept > /v/f\n")
    assert made.read("/v/f") == "kept\n"


def test_triggers_run_in_the_child_once(workshop: Workshop):
    # D23
    workshop.build("FROM base\nONBUILD COPY f /from-child\nONBUILD RUN echo trigger >> /log\n", tags=["parent"])
    child = workshop.build("FROM parent\nRUN echo child >> /log\n", {"f": "F"}, tags=["child"])
    assert child.read("/log") == "trigger\nchild\n"
    assert child.read("/from-child") == "F"
    assert child.config.config.on_build is None or child.config.config.on_build == ()
    grandchild = workshop.build("FROM child\nRUN echo grand >> /log\n")
    assert grandchild.read("/log") == "trigger\nchild\ngrand\n"


def test_entrypoint_clears_only_an_inherited_command(workshop: Workshop):
    # D16
    workshop.build('FROM base\nCMD ["inherited"]\n', tags=["parent"])
    assert workshop.build('FROM parent\nENTRYPOINT ["e"]\n').config.config.cmd is None
    assert workshop.build('FROM parent\nCMD ["own"]\nENTRYPOINT ["e"]\n').config.config.cmd == ("own",)


def test_from_scratch(workshop: Workshop):
    made = workshop.build('FROM scratch\nCOPY f /\nCMD ["/f"]\n', {"f": "x"})
    assert made.listing() == {"f": ("0o100644", 0, 0, b"x")}
    assert len(made.config.diff_ids) == 1
    empty = workshop.build("FROM scratch\nLABEL a=b\n")
    assert empty.config.diff_ids == ()
    assert empty.config.config.labels == {"a": "b"}


def test_labels_of_the_command_line_come_last(workshop: Workshop):
    made = workshop.build("FROM base\nLABEL a=file b=file\n", labels={"b": "flag", "c": "flag"})
    assert made.config.config.labels == {"a": "file", "b": "flag", "c": "flag"}


def test_the_network_of_steps(workshop: Workshop):
    # D15
    made = workshop.build("FROM base\nRUN ls /sys/class/net > /none", network="none")
    assert made.read("/none") == "lo\n"
    own = workshop.build("FROM base\nRUN ls /sys/class/net > /own; grep nameserver /etc/resolv.conf", network="default")
    assert own.read("/own") == "eth0\nlo\n"
    host = workshop.build("FROM base\nRUN cat /proc/net/dev > /host", network="host")
    with open("/proc/net/dev", encoding="ascii") as file:
        interfaces = {line.partition(":")[0].strip() for line in file if ":" in line}
    assert {line.partition(":")[0].strip() for line in host.read("/host").splitlines() if ":" in line} >= {"lo"}
    assert len(interfaces & {line.partition(":")[0].strip() for line in host.read("/host").splitlines()}) >= 1


def test_added_hosts(workshop: Workshop):
    made = workshop.build("FROM base\nRUN cat /etc/hosts > /h", network="none", add_hosts=("db:10.1.2.3",))
    assert "10.1.2.3\tdb" in made.read("/h")
    with made.tree() as root:
        assert not (root / "etc/hosts").exists()  # mounted for the step, not part of the layer (threat 24)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("RUN --mount=type=cache,target=/c true", "RUN --mount is not supported"),
        ("RUN <<EOF\ntrue\nEOF", "a heredoc is not supported"),
        ("COPY <<EOF /f\ntext\nEOF", "a heredoc is not supported"),
        ("ADD https://example.com/f /f", "ADD from a remote source"),
        ("ADD https://example.com/r.git /f", "ADD from a remote source"),
        ("RUN --security=insecure true", "--security"),
        ("COPY --from=$x a /", "variable expansion is not supported for --from"),
    ],
)
def test_what_is_missing_is_refused_with_its_place(workshop: Workshop, line: str, what: str):
    with pytest.raises(BuildFailed, match=what) as caught:
        workshop.build(f"FROM base\n{line}\n")
    assert "Dockerfile:2" in caught.value.excerpt
    assert "\n" not in caught.value.message
