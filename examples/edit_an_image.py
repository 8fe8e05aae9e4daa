"""Change an image without running anything: no root, no daemon, no registry.

A file system becomes an image; another layer and another command are views over it, and nothing is copied before the
result is saved as an archive that `docker load` and `podman load` take.

    $ python examples/edit_an_image.py greeting.tar
    imported debian-like:1.0 with 1 layer, command ('cat', '/etc/greeting')
    changed  it to 2 layers, command ('cat', '/etc/greeting', '/etc/farewell')
    saved    greeting.tar
    loaded   greeting:2.0
"""

import gzip
import io
import sys
import tarfile
import tempfile

from lamina.engine.engine import Engine
from lamina.engine.imports import ImportOptions
from lamina.engine.settings import Settings
from lamina.image.mutate import append_layers, with_config
from lamina.image.partial import MadeLayer
from lamina.spec.digest import Digest
from lamina.spec.reference import Reference
from lamina.transports.archive.write import save_file
from lamina.transports.local.source import open_image
from lamina.values import replace


def tar_of(files: dict[str, bytes]) -> bytes:
    """A tar of some files."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return stream.getvalue()


def main(target: str) -> None:
    """Make, change, save and load an image."""
    with tempfile.TemporaryDirectory() as root, Engine(Settings.at(root)) as engine:
        first = Reference.parse("debian-like:1.0")
        options = ImportOptions(reference=first, changes=('CMD ["cat", "/etc/greeting"]', "ENV LANG=C.UTF-8"))
        tar = io.BytesIO(tar_of({"etc/greeting": b"good morning\n"}))
        image = open_image(engine.store, engine.archives.import_tar(tar, options))
        print(f"imported {first.familiar} with {len(image.layers)} layer, command {image.config.config.cmd}")

        added = tar_of({"etc/farewell": b"good night\n"})
        changed = append_layers(image, [MadeLayer.of(gzip.compress(added, mtime=0), diff_id=Digest.of(added))])
        command = replace(changed.config.config, cmd=("cat", "/etc/greeting", "/etc/farewell"))
        changed = with_config(changed, changed.config.edit(config=command))
        print(f"changed  it to {len(changed.layers)} layers, command {changed.config.config.cmd}")

        second = Reference.parse("greeting:2.0")
        save_file([(changed, (second,))], target)
        print(f"saved    {target}")
        for loaded in engine.archives.load_file(target):
            print("loaded  ", *(name.familiar for name in loaded.names))


if __name__ == "__main__":
    main(sys.argv[1])
