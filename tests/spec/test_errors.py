"""Error kinds: every error is of exactly one, wherever it is raised."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import pytest

import lamina
from lamina.errors import KINDS, Internal, LaminaError, NotFound, kind_of
from lamina.progress import Progress, discard


def _concrete() -> list[type[LaminaError]]:
    found: set[type[LaminaError]] = set()
    for module in pkgutil.walk_packages(lamina.__path__, "lamina."):
        if module.name.endswith("__main__") or ".testing" in module.name:
            continue
        for _, value in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if issubclass(value, LaminaError) and value is not LaminaError:
                found.add(value)
    return sorted(found, key=lambda error: (error.__module__, error.__name__))


#: A base of classes that each take one kind beside it; never raised itself.
UNPLACED = {"lamina.runtime.oci.RuntimeCallFailed"}


def test_every_error_class_has_exactly_one_kind():
    assert {
        f"{error.__module__}.{error.__name__}": [kind.__name__ for kind in KINDS if issubclass(error, kind)]
        for error in _concrete()
        if sum(issubclass(error, kind) for kind in KINDS) != 1
        and f"{error.__module__}.{error.__name__}" not in UNPLACED
    } == {}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_kind_knows_its_own(kind: type[LaminaError]):
    assert kind_of(kind("x")) is kind
    assert kind_of(type("Concrete", (kind,), {})("x")) is kind


def test_an_error_of_no_kind_counts_as_a_bug():
    assert kind_of(LaminaError("x")) is Internal


def test_message_and_hint():
    plain, helped = NotFound("No such image: x"), NotFound("No such image: x", hint="pull it first")
    assert (plain.message, plain.hint) == ("No such image: x", None)
    assert (helped.message, helped.hint) == ("No such image: x", "pull it first")
    assert str(helped) == "No such image: x"


def test_progress_events_are_values():
    assert Progress("abc", "Downloading", 1, 2) == Progress("abc", "Downloading", 1, 2)
    discard(Progress("", "done"))
