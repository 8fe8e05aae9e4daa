"""The processes of a container, as the host's ps(1) lists them (`docker top`, C25)."""

from __future__ import annotations

from collections.abc import Sequence

from lamina.errors import Invalid, NotFound
from lamina.runtime import oci


def processes(first: int, arguments: Sequence[str] = ()) -> tuple[list[str], list[list[str]]]:
    """Titles, and a row for each process in the pid namespace of `first` (a pid on the host).

    Raises:
        Invalid: ps refuses its arguments, or leaves the PID column out.
        NotFound: there is no ps on this machine.
    """
    program = oci.find_program("ps")
    if program is None:
        raise NotFound("ps: executable file not found", hint="install procps")
    try:
        text = oci.call([program, *(arguments or ("-ef",))]).decode("utf-8", "replace")
    except oci.RuntimeCallFailed as error:
        raise Invalid(f"ps: {error.said}") from None
    lines = text.splitlines()
    titles = lines[0].split() if lines else []
    if "PID" not in titles:
        raise Invalid("Couldn't find PID field in ps output")
    column = titles.index("PID")
    own = _namespace(first)
    rows = []
    for line in lines[1:]:
        fields = line.split(None, len(titles) - 1)
        if len(fields) > column and fields[column].isdigit() and _namespace(int(fields[column])) == own:
            rows.append(fields)
    return titles, rows


def _namespace(pid: int) -> str | None:
    import os

    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return None
