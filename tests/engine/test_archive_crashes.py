"""`load`, `import` and the commit of a build die, or meet a refusing disk, at any step (F1-F3, F6, F7).

As in tests/store/test_crashes.py: what a new process finds is sound, is swept clean, and takes the command again.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from lamina.engine.engine import Engine
from lamina.engine.imports import ImportOptions
from lamina.engine.settings import Settings
from lamina.image.partial import Child, MadeIndex
from lamina.spec import mediatype
from lamina.spec.reference import Reference
from lamina.store.store import Store
from lamina.testing.crashes import Operation, Trial, some
from lamina.testing.faults import Fault, Loss
from lamina.testing.images import AMD64, attestation_of, layer_of, random_image
from lamina.testing.store_images import tar

CONTENT = ("etc/a", b"1" * 9000)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What `save` made: an index of an image with a plain and a compressed layer, and an attestation."""
    from lamina.image.partial import MadeImage
    from lamina.spec.config import ImageConfig, RunConfig
    from lamina.transports.archive.write import save_file

    layers = [layer_of([CONTENT], media_type=mediatype.OCI_LAYER), layer_of([("etc/b", b"2" * 90_000)])]
    config = ImageConfig.make(
        platform=AMD64, config=RunConfig(), diff_ids=tuple(layer.diff_id for layer in layers), created=""
    )
    image = MadeImage(config, layers)
    path = str(tmp_path_factory.mktemp("archive") / "app.tar")
    index = MadeIndex([Child(image), attestation_of(random_image(1))])
    save_file([(index, (Reference.parse("app:1"),))], path, platform=AMD64)
    return path


def engine_over(store: Store) -> Engine:
    engine = Engine(Settings.at(store.root))
    engine.__dict__["store"] = store
    return engine


def do_load(path: str, store: Store) -> None:
    engine_over(store).archives.load_file(path)


def do_import(store: Store) -> None:
    options = ImportOptions(reference=Reference.parse("app:1"))
    engine_over(store).archives.import_tar(io.BytesIO(tar(("etc", 0o755), CONTENT)), options)


def do_both(path: str, store: Store) -> None:
    """The name moves from one image to another, and the old one is removed."""
    do_import(store)
    engine = engine_over(store)
    do_load(path, store)
    engine.images.prune()


def prepare_nothing(_store: Store) -> None:
    """The store is empty."""


@pytest.fixture(params=["load", "import", "move"])
def operation(request: pytest.FixtureRequest, archive: str) -> tuple[str, Operation]:
    made: dict[str, Operation] = {
        "load": partial(do_load, archive),
        "import": do_import,
        "move": partial(do_both, archive),
    }
    return request.param, made[request.param]


@pytest.fixture(params=["vfs", pytest.param("overlay", marks=pytest.mark.root)])
def trial(request: pytest.FixtureRequest, operation: tuple[str, Operation]) -> Trial:
    return Trial(operation[0], prepare_nothing, operation[1], frozenset({"app:1"}), request.param, CONTENT)


@pytest.fixture
def base() -> Iterator[str]:
    memory = "/dev/shm"
    with tempfile.TemporaryDirectory(prefix="lamina-crash-", dir=memory if os.path.isdir(memory) else None) as path:
        yield path


@pytest.fixture(params=["some", pytest.param("every", marks=[pytest.mark.soak, pytest.mark.timeout(3600)])])
def choose(request: pytest.FixtureRequest, trial: Trial) -> Callable[[list[str], int], list[int]]:
    if request.param == "every":
        return lambda steps, _turn: list(range(len(steps)))
    return lambda steps, turn: some(steps, turn=turn + 5 * (trial.driver == "overlay"))[turn % 2 :: 2]


def test_it_can_die_at_every_step(base: str, trial: Trial, choose: Callable[[list[str], int], list[int]]) -> None:
    steps = trial.steps(f"{base}/count")
    for turn, loss in enumerate(Loss):
        for at in choose(steps, turn):
            root = trial.die(f"{base}/{at}", at, loss)
            trial.recovers(root, f"{trial.name}: died at step {at} ({steps[at]}), losing {loss.value}")
            trial.clear(f"{base}/{at}")


def test_it_can_be_killed_at_every_step(base: str, trial: Trial, choose: Callable[[list[str], int], list[int]]) -> None:
    steps = trial.steps(f"{base}/count")
    for at in choose(steps, 3):
        root = trial.killed(f"{base}/{at}", at)
        trial.recovers(root, f"{trial.name}: killed at step {at} ({steps[at]})")
        trial.clear(f"{base}/{at}")


@pytest.mark.parametrize("fault", [Fault.ENOSPC, Fault.EIO], ids=lambda fault: fault.value)
def test_the_disk_can_refuse_at_every_step(
    base: str, trial: Trial, fault: Fault, choose: Callable[[list[str], int], list[int]]
) -> None:
    steps = trial.steps(f"{base}/count")
    for at in choose(steps, 4 + (fault is Fault.EIO)):
        root, _ = trial.refused(f"{base}/{at}", at, fault)
        trial.recovers(root, f"{trial.name}: {fault.value} from step {at} ({steps[at]})")
        trial.clear(f"{base}/{at}")
