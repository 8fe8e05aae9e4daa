"""Build contexts: what PATH, `-` and `-f` mean, and the `.dockerignore` that goes with them (D42, D43, S26, S28)."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, BinaryIO, Final

from lamina.build.dockerfile.ignore import IgnoreMatcher
from lamina.errors import Denied, Invalid, LimitExceeded, NotFound, Unsupported
from lamina.values import dataclass

if TYPE_CHECKING:
    from lamina.layer.owners import Owners

_MAX_DOCKERFILE: Final = 16 << 20
_REMOTE: Final = ("http://", "https://", "git://", "git@", "ssh://", "github.com/")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A context ready to build from.

    Attributes:
        directory: to copy from, absolute, links resolved.
        dockerfile: its text.
        name: how messages call the Dockerfile.
        ignore: the rules, None when there are none.
        ignore_size: bytes of the file they come from; 0 for none.
        owners: of an archive, the record of modes that the disk does not hold.
    """

    directory: str
    dockerfile: bytes
    name: str
    ignore: IgnoreMatcher | None
    ignore_size: int = 0
    owners: Owners | None = None


@contextmanager
def prepared(where: str, dockerfile: str, *, cwd: str, stdin: BinaryIO) -> Iterator[Prepared]:
    """Open a build context for the time of the block.

    Args:
        where: a directory, or `-`: a tar archive or a Dockerfile on `stdin`.
        dockerfile: the `-f` option: a path, `-` for stdin, or "" for the context's own.
        cwd: what relative paths are relative to.
        stdin: where `-` reads.

    Raises:
        NotFound: no such directory or Dockerfile.
        Unsupported: a URL or a git repository.
        Invalid: `-` given for both.
        Denied: the Dockerfile or the ignore file may not be read.
    """
    with ExitStack() as cleanup:
        if where == "-":
            if dockerfile == "-":
                raise Invalid("invalid argument: can't use stdin for both build context and dockerfile")
            yield _from_stdin(stdin, dockerfile, cleanup)
            return
        if where.startswith(_REMOTE):
            raise Unsupported(
                f"remote build contexts ({where}) are not supported",
                hint="clone or download it, then build the directory",
            )
        directory = os.path.join(cwd, where)
        if not os.path.isdir(directory):
            raise NotFound(f'unable to prepare context: path "{where}" not found')
        directory = os.path.realpath(directory)
        if dockerfile == "-":
            yield Prepared(directory, _bounded(stdin), "Dockerfile", *_ignore_of(directory, None))
            return
        path, name = _dockerfile_in(directory, dockerfile, cwd)
        yield Prepared(directory, _read(path, name), name, *_ignore_of(directory, path))


def _dockerfile_in(directory: str, option: str, cwd: str) -> tuple[str, str]:
    """Path and shown name; `-f` is relative to the current directory, and may lie outside the context."""
    if option:
        return os.path.join(cwd, option), os.path.basename(option)
    for name in ("Dockerfile", "dockerfile"):
        path = os.path.join(directory, name)
        if os.path.lexists(path):
            return path, name
    return os.path.join(directory, "Dockerfile"), "Dockerfile"


def _read(path: str, name: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return _bounded(file)
    except FileNotFoundError:
        raise NotFound(f"failed to read dockerfile: open {name}: no such file or directory") from None
    except IsADirectoryError:
        raise Invalid(f"failed to read dockerfile: read {name}: is a directory") from None
    except PermissionError:
        raise Denied(f"failed to read dockerfile: open {name}: permission denied") from None


def _bounded(file: BinaryIO) -> bytes:
    data = file.read(_MAX_DOCKERFILE + 1)
    if len(data) > _MAX_DOCKERFILE:
        raise LimitExceeded(f"the Dockerfile is larger than {_MAX_DOCKERFILE >> 20} MiB")
    return data


def _ignore_of(directory: str, dockerfile: str | None) -> tuple[IgnoreMatcher | None, int]:
    """The rules and their size; `<Dockerfile>.dockerignore` beside the Dockerfile wins over the context's own (D42)."""
    candidates = [f"{dockerfile}.dockerignore"] if dockerfile is not None else []
    for path in (*candidates, os.path.join(directory, ".dockerignore")):
        try:
            with open(path, "rb") as file:
                text = _bounded(file)
            return IgnoreMatcher.from_text(text, os.path.basename(path)), len(text)
        except FileNotFoundError:
            continue
        except PermissionError:
            name = os.path.basename(path)
            raise Denied(f"error reading {name}: open {name}: permission denied") from None
    return None, 0


def _from_stdin(stdin: BinaryIO, dockerfile: str, cleanup: ExitStack) -> Prepared:
    """An archive is the context; anything else is a Dockerfile with an empty context (D43)."""
    import tempfile

    from lamina.build.ops.unpack import is_archive
    from lamina.layer.apply import Devices, Ownership, WhiteoutMode, apply_layer
    from lamina.layer.compression import decompress
    from lamina.layer.owners import recorded

    # A directory in it: what the disk cannot hold of modes is noted beside.
    directory = cleanup.enter_context(tempfile.TemporaryDirectory(prefix="lamina-context-")) + "/fs"
    os.mkdir(directory, 0o755)
    spool = cleanup.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - closed by `cleanup`
    while data := stdin.read(1 << 20):
        spool.write(data)
    spool.seek(0)
    archive = is_archive(spool)
    spool.seek(0)
    if not archive:
        return Prepared(directory, _bounded(io.BytesIO(spool.read(_MAX_DOCKERFILE + 1))), "Dockerfile", None)
    owners = recorded(directory)
    apply_layer(
        decompress(spool),
        directory,
        whiteouts=WhiteoutMode.REMOVE,
        ownership=Ownership.IGNORE,
        devices=Devices.SKIP,
        owners=owners,
    )
    path = _inside(directory, dockerfile or "Dockerfile")
    name = dockerfile or "Dockerfile"
    return Prepared(directory, _read(path, name), name, *_ignore_of(directory, path), owners)


def _inside(directory: str, name: str) -> str:
    """A path of the archive; a link in it must not lead to this machine's files (threat 19)."""
    path = os.path.realpath(os.path.join(directory, name.lstrip("/")))
    if not path.startswith(os.path.realpath(directory) + os.sep):
        raise Invalid(f"failed to read dockerfile: {name} leads out of the build context")
    return path
