"""The OCI runtimes on this machine (crun, runc): found, probed, chosen, and called with a deadline.

Every child gets a fixed environment (threat 38), no descriptors but its own (34), and a deadline (F24).
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from typing import IO, Final

from lamina.errors import Denied, Invalid, LaminaError, NotFound, Unavailable, Unsupported
from lamina.values import dataclass, replace

SEARCH_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# What runtimes, conmon, ip and nft see of the environment: nothing of the user's.
CLEAN_ENV: Final = {"PATH": SEARCH_PATH, "LC_ALL": "C.UTF-8"}
# The oldest releases without a known container escape in start-up (threat 36). Distributions backport fixes without
# raising the number, so these are the oldest that a supported distribution still patches.
MINIMUM: Final = {"crun": (1, 0), "runc": (1, 1)}
# crun does without the v2 half of a hybrid tree when it cannot see it; a later major release may know v2 only.
_HYBRID_CRUN: Final = (2, 0)
_UNIFIED: Final = "/sys/fs/cgroup/unified"
_SHELL: Final = "/bin/sh"
PROBE_SECONDS: Final = 10.0
CALL_SECONDS: Final = 60.0
_VERSION: Final = r"^(?P<name>[a-z-]+) version (?P<version>\d+(?:\.\d+)*)"


class NoSuchRuntime(NotFound):
    """No OCI runtime of that name is installed, or none at all.

    Attributes:
        name: what was asked for, or "" for any.
    """

    hint = "install crun or runc, or name one with --runtime"

    def __init__(self, name: str) -> None:
        super().__init__(f"no such runtime: {name}" if name else "no such runtime: neither crun nor runc is installed")
        self.name = name


class UnknownRuntime(NoSuchRuntime):
    """What was asked for by name is not installed; the words are Docker's."""

    def __init__(self, name: str) -> None:
        LaminaError.__init__(self, f"unknown or invalid runtime name: {name}")
        self.name = name


class RuntimeTooOld(Unsupported):
    """The runtime's version has known holes (threat 36).

    Attributes:
        path: of the binary.
        version: that it reports.
    """

    def __init__(self, path: str, version: str, minimum: tuple[int, ...]) -> None:
        wanted = ".".join(map(str, minimum))
        super().__init__(f"{path} is version {version}; lamina needs at least {wanted}", hint="upgrade the runtime")
        self.path = path
        self.version = version


class RuntimeNotUsable(Unsupported):
    """The runtime is there and cannot run containers on this machine."""


class RuntimeTimeout(Unavailable):
    """A runtime, or another program lamina runs, did not answer in time (F24).

    Attributes:
        program: its name.
        seconds: that it was given.
    """

    def __init__(self, program: str, seconds: float) -> None:
        super().__init__(f"{program} did not finish within {seconds:g} s and was killed")
        self.program = program
        self.seconds = seconds


class RuntimeCallFailed(LaminaError):
    """The runtime refused; the message is its own, cleaned up.

    Attributes:
        exit_code: what `docker run` would exit with: 127 command not found, 126 cannot be invoked, else 125.
        said: the runtime's raw words.
    """

    def __init__(self, said: str, exit_code: int = 125) -> None:
        verb = "exec" if said.startswith("exec failed") else "create"
        super().__init__(f"OCI runtime {verb} failed: {said}" if said else "OCI runtime failed without a message")
        self.said = said
        self.exit_code = exit_code


class StartRefused(RuntimeCallFailed, Invalid):
    """The command could not be started."""


class CommandNotFound(RuntimeCallFailed, NotFound):
    """The command does not exist in the container (exit code 127)."""


class CommandNotExecutable(RuntimeCallFailed, Denied):
    """The command exists and cannot be executed (exit code 126)."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """A runtime that works here.

    Attributes:
        name: `crun` or `runc`.
        path: of the binary.
        version: as it reports.
        root: its state directory for lamina's containers.
        hidden: mount points that it must not see; it then runs in a mount namespace of its own, without them, which
            gets the host's changes and gives none back.
    """

    name: str
    path: str
    version: str
    root: str
    hidden: tuple[str, ...] = ()

    def argv(self, *arguments: str, gate: tuple[int, int] | None = None) -> list[str]:
        """A command line, with lamina's own state directory.

        Args:
            arguments: the runtime's.
            gate: two descriptors of the process that runs it. It writes a line to the first as soon as it is there,
                and becomes the runtime when the second gives a line; if that one ends instead, nothing starts.
        """
        words = [self.path, "--root", self.root, *arguments]
        if not self.hidden and gate is None:
            return words
        ready, go = (f"/proc/self/fd/{fd}" for fd in gate) if gate else ("", "")
        steps = ['exec "$0" "$@"']
        if gate:
            steps.insert(0, f"read -r _ <{go} || exit 1")
        if self.hidden:
            gone = " ".join(_quoted(point) for point in self.hidden)
            # One that someone unmounted meanwhile is gone too; if hiding fails, the runtime itself says what it minds.
            steps.insert(0, f"umount -l {gone} 2>/dev/null")
        if gate:
            steps.insert(0, f"echo >{ready} || exit 1")
        shell = [_SHELL, "-c", "; ".join(steps), *words]
        if not self.hidden:
            return shell
        return [find_program("unshare") or "unshare", "--mount", "--propagation", "slave", *shell]

    def hiding(self, points: Sequence[str]) -> Runtime:
        """The same runtime, which does not see these mount points either; one without a namespace stays as it is."""
        return replace(self, hidden=(*self.hidden, *points)) if self.hidden else self


@dataclass(frozen=True, slots=True)
class Needs:
    """What a container asks of its runtime beyond the ordinary.

    Attributes:
        shared_mounts: mounts made inside have to appear on the host (`shared`, `rshared`), so that the runtime must
            see the host's mounts as they are.
    """

    shared_mounts: bool = False


def _quoted(word: str) -> str:
    """A word for a shell; shlex is not loaded for it at each start."""
    return "'" + word.replace("'", "'\"'\"'") + "'"


def find_program(name: str) -> str | None:
    """The path of a program of this machine, by name or absolute path; the user's PATH does not count.

    Like `shutil.which`, without what shutil loads.
    """
    for directory in SEARCH_PATH.split(":"):
        path = os.path.join(directory, name)
        if os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    return None


def check_name(name: str) -> None:
    """Checks that a runtime asked for by name or absolute path is there, without running it.

    Raises:
        UnknownRuntime: it is not.
    """
    if not (os.access(name, os.X_OK) if name.startswith("/") else find_program(name)):
        raise UnknownRuntime(name)


def choose(run_root: str, wanted: str = "", *, cgroups: str, needs: Needs | None = None) -> Runtime:
    """The runtime to use; what was learnt is kept in `run_root`, keyed by the binary's identity.

    crun first: it starts a container in half of runc's time. On a hybrid machine it refuses to work as long as it sees
    the v2 tree, so there it gets a mount namespace without (ADR 0014).

    Args:
        run_root: a directory that a reboot empties, e.g. below /run.
        wanted: name or path (`--runtime`); "" chooses: crun first, runc where crun cannot do what is needed.
        cgroups: as in HostFacts.
        needs: what the container asks for; None is nothing special.

    Raises:
        NoSuchRuntime: not installed.
        RuntimeTooOld: below the minimum.
        RuntimeNotUsable: not with this machine's cgroups.
        RuntimeTimeout: it hung when asked for its version.
    """
    names = [wanted] if wanted else ["crun", "runc"]
    refusal: LaminaError | None = None
    for name in names:
        path = name if name.startswith("/") else find_program(name)
        if path is None or not os.access(path, os.X_OK):
            continue
        kind, version = _version_of(run_root, path)
        minimum = MINIMUM.get(kind, ())
        if tuple(map(int, version.split("."))) < minimum:
            refusal = refusal or RuntimeTooOld(path, version, minimum)
        elif kind == "crun" and cgroups == "hybrid":
            why = _why_not_hybrid(version, needs or Needs())
            if not why:
                return Runtime(kind, path, version, os.path.join(run_root, kind), (_UNIFIED,))
            refusal = refusal or RuntimeNotUsable(f"{path} {version} {why}; use runc")
        else:
            return Runtime(kind, path, version, os.path.join(run_root, kind))
    raise refusal or (UnknownRuntime(wanted) if wanted else NoSuchRuntime(""))


def _why_not_hybrid(version: str, needs: Needs) -> str:
    """Why crun cannot work beside hybrid cgroups, or ""."""
    if needs.shared_mounts:
        return "cannot share mounts with a host that has hybrid cgroups"
    if tuple(map(int, version.split("."))) >= _HYBRID_CRUN:
        return "is not known to work with hybrid cgroups"
    if any(find_program(tool) is None for tool in ("unshare", "umount", _SHELL)):
        return "refuses this machine's hybrid cgroups, and unshare is not installed to hide them"
    return ""


def holding(run_root: str, container_id: str, wanted: str = "", *, cgroups: str) -> Runtime | None:
    """The runtime that has a container, or None when none has.

    Args:
        run_root: as for `choose`.
        container_id: of the container.
        wanted: the `--runtime` that it was created with.
        cgroups: as for `choose`.

    Raises:
        NoSuchRuntime, ...: it was uninstalled meanwhile; as `choose`.
    """
    for kind in ("crun", "runc"):
        if os.path.isdir(os.path.join(run_root, kind, container_id)):
            return choose(run_root, wanted or kind, cgroups=cgroups)
    return None


def _version_of(run_root: str, path: str) -> tuple[str, str]:
    """Name and version of a binary, remembered until the file changes."""
    facts = os.stat(path)
    key = f"{path}:{facts.st_ino}:{facts.st_size}:{facts.st_mtime_ns}"
    cache = os.path.join(run_root, "runtimes.json")
    known: dict[str, list[str]] = {}
    try:
        with open(cache, encoding="utf-8") as file:
            known = json.load(file)
        name, version = known[key]
    except (OSError, ValueError, KeyError, TypeError):
        name, version = probe_version(path)
        entries = {old: value for old, value in known.items() if not old.startswith(path + ":")}
        _remember(cache, entries | {key: [name, version]})
    return name, version


def _remember(cache: str, known: dict[str, list[str]]) -> None:
    os.makedirs(os.path.dirname(cache), mode=0o711, exist_ok=True)
    import tempfile

    with tempfile.NamedTemporaryFile("w", dir=os.path.dirname(cache), delete=False, encoding="utf-8") as file:
        json.dump(known, file)
    os.replace(file.name, cache)


def probe_version(path: str, seconds: float = PROBE_SECONDS) -> tuple[str, str]:
    """Asks a binary what it is.

    Returns:
        Its name and dotted version, e.g. `("runc", "1.1.5")`.

    Raises:
        RuntimeNotUsable: it prints something else.
        RuntimeTimeout: it hangs.
    """
    out = call([path, "--version"], seconds=seconds).decode("utf-8", "replace")
    found = re.search(_VERSION, out, re.MULTILINE)
    if found is None:
        raise RuntimeNotUsable(f"{path} --version does not say what it is: {out[:60]!r}")
    return found["name"], found["version"]


def call(argv: Sequence[str], *, seconds: float = CALL_SECONDS, stdin: bytes = b"") -> bytes:
    """Runs a program to its end and returns its standard output (first 1 MiB).

    Raises:
        RuntimeTimeout: it took longer; its whole process group was killed.
        RuntimeCallFailed: a non-zero exit; `said` is its standard error.
        NoSuchRuntime: the program is not there.
    """
    import tempfile

    with ExitStack() as stack:
        # Files, not pipes: a grandchild that keeps them open cannot hold us, and a flood cannot fill our memory.
        out, err = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(2))
        source: IO[bytes] | int = subprocess.DEVNULL
        if stdin:
            source = stack.enter_context(tempfile.TemporaryFile())
            source.write(stdin)
            source.seek(0)
        try:
            child = subprocess.Popen(
                argv,
                stdin=source,
                stdout=out,
                stderr=err,
                env=CLEAN_ENV,
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            raise NoSuchRuntime(f"{argv[0]}: {error.strerror}") from None
        try:
            wait_for(child, seconds)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            raise RuntimeTimeout(os.path.basename(argv[0]), seconds) from None
        except BaseException:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            raise
        out.seek(0)
        err.seek(0)
        if child.returncode != 0:
            raise RuntimeCallFailed(last_words(err.read(1 << 16).decode("utf-8", "replace")))
        return out.read(1 << 20)


def wait_for(child: subprocess.Popen[bytes], seconds: float) -> int:
    """Waits for a child and returns its status; notices the end at once, where `Popen.wait` naps up to 50 ms.

    Raises:
        subprocess.TimeoutExpired: it took longer.
    """
    try:
        fd = os.pidfd_open(child.pid)
    except OSError:  # a kernel before 5.3, or no descriptors left
        return child.wait(seconds)
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        if not poll.poll(max(0.0, seconds) * 1000):
            raise subprocess.TimeoutExpired(child.args, seconds)
    finally:
        os.close(fd)
    return child.wait()


def last_words(text: str) -> str:
    """The message in a runtime's log: its last `level=error` line, JSON or plain."""
    lines = [line for line in text.splitlines() if line.strip()]
    for line in reversed(lines):
        if line.startswith("{"):
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict) and entry.get("level", "error") in {"error", "fatal", "panic"}:
                return str(entry.get("msg", "")).strip()
        elif "level=warning" not in line:
            found = re.search(r'level=error msg="(.*)"$', line)
            return (found[1].replace('\\"', '"') if found else line).strip()
    return ""


# Patterns are compiled when a start failed, not for each that works.
# crun's words for what runc says of commands, so that users read the same with either.
_CRUN_NOT_FOUND: Final = r"executable file `(.*)` not found in \$PATH: No such file or directory$"
_CRUN_NOT_ALLOWED: Final = r"open executable: (?:Operation not permitted|Permission denied)$"
_CRUN_EXEC: Final = r'exec(?: container process `(.*)`)?: ([^"].*)$'
_NOT_FOUND: Final = r"executable file.* not found|no such file or directory"
_NOT_ALLOWED: Final = r"permission denied|is a directory|exec format error|not executable"
_EXEC: Final = r'exec: "|exec user process|exec failed|open executable|executable file|\bexec /|exec `'


def start_error(said: str, command: str | None = None) -> RuntimeCallFailed:
    """What a failed create or start means, by the runtime's words.

    Docker's rule (run reference, Exit status): 127 when the command is not found, 126 when it cannot be invoked,
    125 for everything else. runc and crun word it differently; crun's words become runc's.

    Args:
        said: the runtime's message.
        command: what should have run, which crun does not name; None when that is not known.
    """
    said = said.replace("runc run failed:", "runc create failed:")
    program = command or ""
    missing = re.match(_CRUN_NOT_FOUND, said)
    if missing is not None:
        name = missing[1]
        why = f"stat {name}: no such file or directory" if "/" in name else "executable file not found in $PATH"
        said = f'unable to start container process: exec: "{name}": {why}'
    elif command == "" and re.match(_CRUN_NOT_ALLOWED, said):
        # crun takes the name "" for a directory of PATH.
        said = 'unable to start container process: exec: "": executable file not found in $PATH'
    elif re.match(_CRUN_NOT_ALLOWED, said):
        said = f'unable to start container process: exec: "{program}": permission denied'
    elif (failed := re.match(_CRUN_EXEC, said)) is not None:
        said = f"unable to start container process: exec {failed[1] or program}: {failed[2].lower()}"
    if re.search(_EXEC, said):
        if re.search(_NOT_FOUND, said, re.IGNORECASE):
            return CommandNotFound(said, 127)
        if re.search(_NOT_ALLOWED, said, re.IGNORECASE):
            return CommandNotExecutable(said, 126)
    return StartRefused(said, 125)
