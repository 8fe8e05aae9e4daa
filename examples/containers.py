"""Run containers, look at what they changed, and make an image of it. Needs root, and a root file system to start from.

What `lamina run`, `diff`, `commit` and `rm` do, in Python:

    $ python examples/containers.py rootfs.tar
    exit code 3, output: hello from a container
    changed   A /greeting
    committed greeting:1.0
    exit code 0, output: kept
"""

import sys
import tempfile
from pathlib import Path

from lamina.engine.commits import CommitOptions
from lamina.engine.containers import NewContainer
from lamina.engine.engine import Engine
from lamina.engine.imports import ImportOptions
from lamina.engine.settings import Settings
from lamina.runtime.config import ContainerOptions
from lamina.spec.reference import Reference


def run(engine: Engine, image: str, script: str) -> str:
    """Run a shell script in a new container, print its exit code and output; the container's id."""
    options = ContainerOptions(command=("sh", "-c", script), network="none")
    container = engine.containers.create(NewContainer(image, options, policy="never"))
    engine.containers.supervisor.start(container.id)
    code = engine.containers.supervisor.wait(container.id)
    output = b"".join(entry.data for entry in engine.containers.logs(container))
    print(f"exit code {code}, output: {output.decode().strip()}")
    return container.id


def main(rootfs: Path, root: str) -> None:
    """The life of two containers."""
    with Engine(Settings.at(root)) as engine:
        with rootfs.open("rb") as tar:
            engine.archives.import_tar(tar, ImportOptions(reference=Reference.parse("base")))

        first = run(engine, "base", "echo kept > /greeting; echo hello from a container; exit 3")
        for change in engine.commits.diff(first):
            print("changed  ", change)
        engine.commits.commit(first, CommitOptions(reference=Reference.parse("greeting:1.0")))
        print("committed greeting:1.0")
        second = run(engine, "greeting:1.0", "cat /greeting")

        for container in (first, second):
            engine.containers.supervisor.remove(container)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        main(Path(sys.argv[1]), directory)
