"""Value classes behave as the standard library's dataclasses, which are the oracle here."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import subprocess
import sys
from typing import Any, ClassVar, Generic, TypeVar

import pytest

from lamina import values

T = TypeVar("T")


def _family(module: Any) -> dict[str, Any]:
    """The same classes made by either module."""

    @module.dataclass(frozen=True, slots=True)
    class Point:
        x: int
        y: int = 0
        tags: list[str] = module.field(default_factory=list, hash=False)
        hidden: str = module.field(default="h", repr=False, compare=False)
        KIND: ClassVar[str] = "point"

        def norm(self) -> int:
            return self.x + self.y

    @module.dataclass(frozen=True, slots=True)
    class Point3(Point):
        z: int = 1

    @module.dataclass(slots=True)
    class Counter:
        count: int = 0

    @module.dataclass(frozen=True, slots=True, kw_only=True)
    class Named:
        name: str
        size: int = 3

    @module.dataclass(frozen=True, slots=True, order=True)
    class Version:
        major: int
        minor: int

    @module.dataclass(frozen=True, slots=True)
    class Derived:
        base: int
        double: int = module.field(init=False)

        def __post_init__(self) -> None:
            object.__setattr__(self, "double", self.base * 2)

    @module.dataclass(frozen=True)
    class Open:
        a: int
        b: tuple[int, ...] = ()

    @module.dataclass(frozen=True, slots=True)
    class Box(Generic[T]):
        item: T

    return {name: value for name, value in locals().items() if isinstance(value, type)}


OURS, THEIRS = _family(values), _family(dataclasses)

EXPRESSIONS = [
    "Point(1)",
    "Point(1, 2, ['a'])",
    "Point(x=1, y=2) == Point(1, 2)",
    "Point(1) == Point(1, hidden='other')",
    "Point(1) != Point(2)",
    "Point(1) == Point3(1)",
    "hash(Point(1)) == hash(Point(1, tags=['x']))",
    "Point(3, 4).norm()",
    "Point.KIND",
    "Point3(1, z=5)",
    "Point3.__match_args__",
    "Named.__match_args__",
    "Counter()",
    "Counter.__hash__",
    "Named(name='n')",
    "Version(1, 2) < Version(1, 3)",
    "sorted([Version(2, 0), Version(1, 9)])",
    "Derived(4)",
    "Derived(4).double",
    "Open(1).b",
    "Open.b",
    "Box('x')",
    "Point(1).tags is Point(1).tags",
    "repr(Point(1))",
    "hasattr(Point(1), '__dict__')",
]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_answers_as_the_standard_library_does(expression: str) -> None:
    ours, theirs = eval(expression, dict(OURS)), eval(expression, dict(THEIRS))
    assert repr(ours) == repr(theirs)


@pytest.mark.parametrize(
    "statement",
    [
        "Point()",
        "Point(1, 2, [], 'h', 5)",
        "Point(1, unknown=2)",
        "Named('positional')",
        "setattr(Point(1), 'x', 2)",
        "delattr(Point(1), 'x')",
        "Point(1) < Point(2)",
        "Version(1, 2) < 3",
        "hash(Counter())",
        "replace(Point(1), nothing=3)",
    ],
)
def test_refuses_as_the_standard_library_does(statement: str) -> None:
    kinds = []
    for family, module in ((OURS, values), (THEIRS, dataclasses)):
        with pytest.raises(Exception) as caught:
            eval(statement, {**family, "replace": module.replace})
        kinds.append(caught.type)
    assert kinds[0] is kinds[1]


def test_a_computed_member_cannot_be_replaced() -> None:
    for family, module in ((OURS, values), (THEIRS, dataclasses)):
        with pytest.raises((TypeError, ValueError), match="double"):  # the library's was a ValueError before 3.13
            module.replace(family["Derived"](1), double=3)


def test_replace_asdict_and_fields() -> None:
    nested = OURS["Box"]((OURS["Point"](1), {"k": [OURS["Counter"](2)]}))
    expected = THEIRS["Box"]((THEIRS["Point"](1), {"k": [THEIRS["Counter"](2)]}))
    assert values.asdict(nested) == dataclasses.asdict(expected)
    assert values.replace(OURS["Point"](1), y=9).y == 9
    assert [one.name for one in values.fields(OURS["Point3"])] == ["x", "y", "tags", "hidden", "z"]


def test_the_standard_functions_accept_our_values() -> None:
    point = OURS["Point"](1, 2)
    assert [one.name for one in dataclasses.fields(point)] == ["x", "y", "tags", "hidden"]
    assert dataclasses.replace(point, x=5).x == 5
    assert dataclasses.is_dataclass(OURS["Point"])
    assert dataclasses.asdict(point) == {"x": 1, "y": 2, "tags": [], "hidden": "h"}


def test_either_kind_can_inherit_from_the_other() -> None:
    ours: Any = OURS["Point"]
    theirs: Any = THEIRS["Point"]

    @dataclasses.dataclass(frozen=True, slots=True)
    class Child(ours):  # type: ignore[misc]
        w: int = 7

    @values.dataclass(frozen=True, slots=True)
    class Other(theirs):  # type: ignore[misc]
        w: int = 8

    assert [one.name for one in values.fields(Child)][-1] == "w"
    assert (Child(1).x, Child(1).w, Other(1, 2).y, Other(1).w) == (1, 7, 2, 8)


@values.dataclass(frozen=True, slots=True)
class Picklable:
    """At module level, where pickle finds it."""

    a: int
    b: str = "b"


def test_values_can_be_pickled_and_copied() -> None:
    value = Picklable(1)
    assert pickle.loads(pickle.dumps(value)) == value
    assert copy.copy(value) == copy.deepcopy(value) == value


def test_a_match_statement_takes_them_apart() -> None:
    match Picklable(3, "x"):
        case Picklable(3, text):
            assert text == "x"
        case _:
            pytest.fail("no match")


def test_mutable_defaults_are_refused() -> None:
    with pytest.raises(ValueError, match="mutable default"):

        @values.dataclass
        class Bad:
            items: list[int] = []  # noqa: RUF012


def test_defining_values_does_not_import_the_machinery() -> None:
    code = (
        "import sys; from lamina.values import dataclass\n"
        "@dataclass(frozen=True, slots=True)\nclass A:\n    x: int = 1\n"
        "A(2); sys.exit('dataclasses' in sys.modules or 'inspect' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
