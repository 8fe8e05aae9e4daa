"""A process that applies one layer: compressed bytes come in, files and one line of JSON come out.

Unpacking makes tens of thousands of short system calls. In a thread each of them gives the interpreter lock up and
fights for it again with the threads that download, inflate and hash; in a process of its own it does not, and several
layers use several processors. The parent's half is `lamina.store.apart`.

    python -I -S -c START  OPTIONS(JSON)      stdin: the blob    stdout: the result    descriptor `root`: the tree

It dies with its parent, so that nothing writes into a tree that another process may be removing.
"""

from __future__ import annotations

import enum
import json
import os
import sys
from typing import Any, Final

from lamina.errors import Internal, LaminaError, Unsupported
from lamina.layer.applied import Applied, ApplyDenied, ApplyFailed, NeedsParents, WhiteoutMode
from lamina.layer.compression import BadStream, Compression, decompress
from lamina.layer.digesting import HashingReader
from lamina.layer.entry import BadArchive
from lamina.layer.limits import LayerLimit, Limits
from lamina.layer.paths import UnsafeEntry
from lamina.linux.syscalls import die_with_parent
from lamina.values import asdict

#: What `python -c` runs; the path of modules comes with the options, since `-I -S` finds none by itself.
START: Final = (
    "import sys, json; given = json.loads(sys.argv[1]); sys.path[:] = given['path'];"
    " from lamina.layer.worker import main; main(given)"
)
_ERRORS: Final = {
    kind.__name__: kind
    for kind in (NeedsParents, ApplyFailed, ApplyDenied, BadArchive, BadStream, UnsafeEntry, LayerLimit, Unsupported)
}


class _Input:
    """Standard input in large pieces."""

    def read(self, n: int, /) -> bytes:
        return os.read(0, n)


def options(root: int, whiteouts: WhiteoutMode, limits: Limits, *, userxattr: bool) -> str:
    """What to do, for the command line."""
    return json.dumps(
        {
            "path": [entry for entry in sys.path if entry],
            "parent": os.getpid(),
            "root": root,
            "whiteouts": whiteouts.value,
            "limits": asdict(limits),
            "userxattr": userxattr,
        }
    )


def main(given: dict[str, Any]) -> None:
    """Apply what comes in and say how it went."""
    if not die_with_parent(given["parent"]):
        os._exit(1)
    os.umask(0)  # this process makes nothing but the layer's files, and may give them their modes at once
    try:
        answer = _apply(given)
    except LaminaError as error:
        answer = {"error": error_to_json(error)}
    data = json.dumps(answer).encode()
    while data:
        data = data[os.write(1, data) :]
    # Nothing is left to tidy up that the kernel does not do faster.
    os._exit(0)


def _apply(given: dict[str, Any]) -> dict[str, Any]:
    from lamina.layer.apply import apply_layer

    limits = Limits(**given["limits"])
    source = _Input()
    content = HashingReader(decompress(source, limits=limits))
    applied = apply_layer(
        content,
        given["root"],
        whiteouts=WhiteoutMode(given["whiteouts"]),
        limits=limits,
        userxattr=given["userxattr"],
    )
    while source.read(1 << 18):  # bytes behind the archive belong to the blob all the same
        pass
    return {"applied": asdict(applied), "diff_id": content.digest}


def result_of(answer: dict[str, Any]) -> tuple[Applied, str]:
    """What was done, and the sha256 of the uncompressed archive in hex.

    Raises:
        NeedsParents, BadArchive, BadStream, UnsafeEntry, LayerLimit, ApplyFailed, ApplyDenied, Unsupported: it failed.
    """
    if "error" in answer:
        raise error_from_json(answer["error"])
    applied = answer["applied"]
    applied["implicit_dirs"] = tuple(applied["implicit_dirs"])
    return Applied(**applied), answer["diff_id"]


def error_to_json(error: LaminaError) -> dict[str, Any]:
    """An error as plain values: kind, message and facts."""
    facts = {
        name: value.value if isinstance(value, enum.Enum) else value
        for name, value in vars(error).items()
        if value is None or isinstance(value, (str, int, enum.Enum))
    }
    return {"kind": type(error).__name__, "message": error.message, "facts": facts}


def error_from_json(document: dict[str, Any]) -> LaminaError:
    """The error again, of its own class; one that is not expected here becomes `Internal`."""
    message, facts = str(document["message"]), dict(document["facts"])
    kind = _ERRORS.get(document["kind"])
    if kind is None:
        return Internal(f"unpacking failed with {document['kind']}: {message}")
    if kind is BadStream:
        facts["compression"] = Compression(facts["compression"])
    error: LaminaError = kind.__new__(kind)
    LaminaError.__init__(error, message)
    vars(error).update(facts)
    return error
