"""Layer hot path against tarfile and GNU tar: inflate, deflate, apply, write.

    python benchmarks/bench_layer.py [--tree DIR] [--work DIR] [--rounds N]

Prints MB of uncompressed tar per second, best of the rounds; all in the same process environment, caches warm.
"""

from __future__ import annotations

import argparse
import gzip
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable

from lamina.layer.apply import WhiteoutMode, apply_layer
from lamina.layer.compression import Compression, compressor, decompress
from lamina.layer.diff import changes_overlay, tree_usage, write_layer, write_tree
from lamina.layer.digesting import HashingReader, HashingWriter, drain
from lamina.layer.pipeline import ReadAhead
from lamina.layer.reader import TarReader


def best(rounds: int, work: Callable[[], object], before: Callable[[], object] = lambda: None) -> float:
    """Seconds of the fastest round."""
    times = []
    for _ in range(rounds):
        before()
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tree", default="/usr/lib/python3", help="directory tree to pack")
    parser.add_argument("--work", default=None, help="where to unpack (default: a temporary directory)")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    work = tempfile.mkdtemp(prefix="lamina-bench-layer-", dir=options.work)
    try:
        run(options.tree, work, options.rounds)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def run(tree: str, work: str, rounds: int) -> None:
    layer = os.path.join(work, "layer.tar")
    with open(layer, "wb") as out:
        written = write_tree(out.write, tree)
    size = os.path.getsize(layer)
    print(f"{tree}: {written.entries} entries, {size / 1e6:.0f} MB of tar")

    def report(what: str, seconds: float) -> None:
        print(f"  {what:<44}{seconds:8.2f} s{size / 1e6 / seconds:8.0f} MB/s")

    with open(layer, "rb") as file:
        data = file.read()

    def squeeze(kind: Compression, level: int | None = None) -> bytes:
        out = io.BytesIO()
        packer = compressor(kind, out.write, level)
        view = memoryview(data)
        for start in range(0, len(data), 1 << 18):
            packer.write(view[start : start + (1 << 18)])
        packer.close()
        return out.getvalue()

    packed = squeeze(Compression.GZIP)
    zstd = squeeze(Compression.ZSTD)
    print("inflate")
    report(f"lamina gzip (ratio {size / len(packed):.2f})", best(rounds, lambda: drain(decompress(io.BytesIO(packed)))))
    report(f"lamina zstd (ratio {size / len(zstd):.2f})", best(rounds, lambda: drain(decompress(io.BytesIO(zstd)))))
    report("Python gzip", best(1, lambda: gzip.decompress(packed)))
    report(
        "gzip -d", best(1, lambda: subprocess.run(["gzip", "-dc"], input=packed, stdout=subprocess.DEVNULL, check=True))
    )
    print("compress")
    report("lamina gzip, default", best(rounds, lambda: squeeze(Compression.GZIP)))
    report("lamina zstd, default", best(rounds, lambda: squeeze(Compression.ZSTD)))
    report(
        "gzip -6", best(1, lambda: subprocess.run(["gzip", "-6c"], input=data, stdout=subprocess.DEVNULL, check=True))
    )

    target = os.path.join(work, "root")

    def fresh() -> None:
        shutil.rmtree(target, ignore_errors=True)
        os.mkdir(target)

    def ours(whiteouts: WhiteoutMode = WhiteoutMode.OVERLAY) -> None:
        with open(layer, "rb", buffering=0) as stream:
            apply_layer(stream, target, whiteouts=whiteouts)

    def pipeline() -> None:
        with ReadAhead(HashingReader(decompress(HashingReader(io.BytesIO(packed))))) as ahead:
            apply_layer(ahead, target, whiteouts=WhiteoutMode.OVERLAY)

    def read_only() -> None:
        with open(layer, "rb", buffering=0) as stream:
            for _ in TarReader(stream):
                pass

    def theirs() -> None:
        with tarfile.open(layer) as tar:
            tar.extractall(target, filter="fully_trusted")

    print("apply")
    report("read headers only", best(rounds, read_only))
    report("lamina", best(rounds, ours, fresh))
    report("lamina, on a full tree", best(rounds, lambda: ours(WhiteoutMode.REMOVE)))
    report("lamina: sha256 + inflate + sha256 + apply", best(rounds, pipeline, fresh))
    report("GNU tar", best(rounds, lambda: subprocess.run(["tar", "-xpf", layer, "-C", target], check=True), fresh))
    report("tarfile", best(rounds, theirs, fresh))

    def sink(_data: object) -> None:
        pass

    def hashed() -> None:
        write_layer(HashingWriter(sink).write, target, changes_overlay(target, []))

    def their_write() -> None:
        with open(os.devnull, "wb") as out, tarfile.open(fileobj=out, mode="w|") as tar:
            tar.add(target, ".")

    print("write")
    report("lamina", best(rounds, lambda: write_tree(sink, target)))
    report("lamina: changes + layer + sha256", best(rounds, hashed))
    report(
        "GNU tar",
        best(rounds, lambda: subprocess.run(f"tar -c --xattrs -C {target} . | cat >/dev/null", shell=True, check=True)),
    )
    report("tarfile", best(rounds, their_write))
    seconds = best(rounds, lambda: tree_usage(target))
    print(f"usage of {tree_usage(target).inodes} inodes: {seconds * 1000:.0f} ms")


if __name__ == "__main__":
    sys.exit(main())
