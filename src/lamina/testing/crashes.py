"""Lets an operation of the store fail at one step after another, and says whether the store takes it.

    trial = Trial("pull", prepare, operation, frozenset({"app:1"}), driver="overlay")
    steps = trial.steps(base)
    for at in some(steps, turn=3):
        root, files = trial.die(base, at, Loss.DATA)        # or: trial.killed(base, at), trial.refused(base, at, fault)
        trial.recovers(root, f"died at {steps[at]}")

Each attempt has a store of its own below `base`, best on a file system where syncing costs nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from lamina.errors import LaminaError
from lamina.linux.mounts import Unmount, mount_points
from lamina.store.store import Store
from lamina.testing.faults import Crash, Fault, FaultyFiles, Loss
from lamina.values import dataclass

Operation = Callable[[Store], None]

#: About so many steps of one operation are tried when not all of them are.
SOME: Final = 4


def some(steps: Sequence[str], *, turn: int) -> list[int]:
    """A few steps spread over all of them; as `turn` goes on, others, until each has been there."""
    stride = max(1, round(len(steps) / SOME))
    return list(range(turn % stride, len(steps), stride))


@dataclass(frozen=True, slots=True)
class Trial:
    """An operation and what it starts from.

    Attributes:
        name: for messages.
        prepare: makes what has to be there before.
        operation: what may fail; done again it must work, whatever the first attempt came to.
        tags: the names in the store after it, in their short form.
        driver: storage driver of the stores.
        content: (path, bytes) that every image with layers shows.
    """

    name: str
    prepare: Operation
    operation: Operation
    tags: frozenset[str]
    driver: str
    content: tuple[str, bytes]

    def steps(self, base: str) -> list[str]:
        """The names of all steps."""
        _, files, outcome = self._attempt(base, None, Fault.CRASH)
        if outcome is not None:
            raise outcome
        self.clear(base)
        return files.steps

    def die(self, base: str, at: int, loss: Loss) -> str:
        """The process dies before a step, and with it what a power cut takes; returns the store's root."""
        root, files, outcome = self._attempt(base, at, Fault.CRASH)
        assert isinstance(outcome, Crash), f"{self.name}: step {at} was never reached: {outcome!r}"
        files.power_cut(loss)
        _bury(root, loss)
        return root

    def killed(self, base: str, at: int) -> str:
        """A process of its own is really killed before a step, its mounts stay; returns the store's root."""
        root = self._prepared(base)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                with Store.open(root, files=FaultyFiles(at=at, fault=Fault.KILL)) as store:
                    self.operation(store)
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 9, f"{self.name}: step {at} was never reached"
        return root

    def refused(self, base: str, at: int, fault: Fault) -> tuple[str, LaminaError | None]:
        """The disk refuses at a step; returns the store's root, and what the operation raised."""
        root, _, outcome = self._attempt(base, at, fault)
        assert outcome is None or isinstance(outcome, LaminaError), f"{self.name}: {outcome!r}"
        _bury(root, Loss.NOTHING)
        return root, outcome

    def recovers(self, root: str, context: str) -> None:
        """A new process finds nothing damaged, is swept clean, and takes the operation."""
        path, wanted = self.content
        with _opened(root) as store:
            harmful = [str(finding) for finding in store.fsck.run().findings if finding.harmful]
            assert harmful == [], context
            for image in store.images.all():
                key = store.images.snapshot(image.id)
                assert key is not None, context
                with store.snapshots.mounted(key) as tree, open(f"{tree}/{path}", "rb") as file:
                    assert file.read() == wanted, context
                assert store.images.config(image.id), context
        with _opened(root) as store:
            done = store.collector.collect(partials_kept=None)
            assert done.left == (), context
            assert _findings(store) == [], context
            self.operation(store)
        with _opened(root) as store:
            assert _findings(store) == [], context
            tags = {tag.familiar for image in store.images.all() for tag in image.tags}
            assert tags == self.tags, context
        assert mount_points(root) == [], context

    def clear(self, base: str) -> None:
        """Removes what an attempt left."""
        for point in reversed(mount_points(base)):
            Unmount(point, detach=True).execute()
        shutil.rmtree(base)

    def _prepared(self, base: str) -> str:
        """A store as it is before; made once below the directory that all attempts are in, and copied."""
        root, made = f"{base}/data", f"{os.path.dirname(base)}/prepared-{self.name}-{self.driver}"
        os.makedirs(f"{base}/stash")
        if not os.path.isdir(made):
            with Store.open(made, driver=self.driver) as store:
                self.prepare(store)
        subprocess.run(["cp", "--archive", made, root], check=True)
        return root

    def _attempt(self, base: str, at: int | None, fault: Fault) -> tuple[str, FaultyFiles, BaseException | None]:
        root = self._prepared(base)
        files = FaultyFiles(at=at, fault=fault, stash=f"{base}/stash")
        outcome: BaseException | None = None
        try:
            with Store.open(root, files=files) as store:
                self.operation(store)
        except (Crash, LaminaError) as error:
            outcome = error
        return root, files, outcome


@contextmanager
def _opened(root: str) -> Iterator[Store]:
    with Store.open(root) as store:
        store.fsck.pause = 0  # nobody else is here to be waited for
        yield store


def _findings(store: Store) -> list[str]:
    return [str(finding) for finding in store.fsck.run().findings]


def _bury(root: str, loss: Loss) -> None:
    """The process that crashed here still runs; its leases must look like those of a dead one.

    After a power cut, so must the boot.
    """
    with Store.open(root) as store, store.db.write() as connection:
        if loss is not Loss.NOTHING:
            connection.execute("UPDATE snapshots SET unsynced = 'earlier-boot' WHERE unsynced IS NOT NULL")
        connection.execute("UPDATE leases SET start = 'earlier-boot pid:[0] 0' WHERE pid = ?", (os.getpid(),))
