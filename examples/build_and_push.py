"""Build from a Dockerfile and push to a registry, as a CI job does: no daemon, no root, a store of its own.

Three parts of lamina at work, the builder, the registry and its client:

    $ python examples/build_and_push.py
    step     [internal] load build definition from Dockerfile
    step     [internal] load .dockerignore
    step     [internal] load build context
    step     [1/2] COPY app.py /srv/
    step     [2/2] WORKDIR /srv
    pushed   app:ci, a manifest of 2 layers
    pulled   into another store, the same image: True
"""

import io
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lamina.build.progress import BuildEvent, VertexStarted
from lamina.engine.builds import BuildOptions
from lamina.engine.engine import Engine
from lamina.engine.settings import Settings
from lamina.spec.reference import Reference
from lamina.transports.local.source import open_image

DOCKERFILE = """\
FROM scratch
COPY app.py /srv/
WORKDIR /srv
CMD ["python3", "app.py"]
"""


@contextmanager
def registry(root: Path) -> Iterator[str]:
    """`lamina serve registry` on a free port; yields its host and port."""
    command = [sys.executable, "-m", "lamina.registry", "--addr", "127.0.0.1:0", "--root", str(root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().split()[-1]
        finally:
            process.terminate()


def tell(event: BuildEvent) -> None:
    """Print the steps of a build as they start."""
    if isinstance(event, VertexStarted) and event.name.startswith("["):
        print("step    ", event.name)


def main(work: Path) -> None:
    """Build, push, and pull into another store."""
    context = work / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(DOCKERFILE)
    (context / "app.py").write_text("print('hello')\n")
    with registry(work / "registry") as host:
        name = Reference.parse(f"{host}/app:ci")
        with Engine(Settings.at(str(work / "store"))) as engine:
            options = BuildOptions(str(context), cwd=str(work), tags=(name,))
            built = engine.builds.build(options, tell, stdin=io.BytesIO())
            engine.transfer.push(name)
            image = open_image(engine.store, built.image.id)
            print(f"pushed   {name.repository.path}:{name.tag}, a manifest of {len(image.layers)} layers")
        with Engine(Settings.at(str(work / "other"))) as engine:
            pulled = engine.transfer.pull(name)
            print("pulled   into another store, the same image:", pulled.image == built.image.id)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        main(Path(directory))
