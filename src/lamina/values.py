"""Value classes: `dataclasses.dataclass` in meaning, but made when first used.

The standard library writes and compiles code for every class when its module is imported, half a millisecond each,
and imports `inspect` to do so. lamina has hundreds of values and a command touches a few dozen, so most of the start-up
time of `lamina run` went there. Here a class costs some microseconds at import; the first call compiles its methods.

Type checkers see the standard library's names, and its functions (`dataclasses.fields`, `replace`, `is_dataclass`)
accept these classes. Supported: `frozen`, `slots`, `kw_only`, `order`, `field` with everything but `InitVar`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = ["asdict", "dataclass", "field", "fields", "replace"]

if TYPE_CHECKING:
    from dataclasses import asdict, dataclass, field, fields, replace
else:

    class _Missing:
        """No default."""

        def __repr__(self) -> str:
            return "MISSING"

    MISSING = _Missing()

    class Field:
        """One field; the attributes are those of `dataclasses.Field`."""

        __slots__ = (
            "compare",
            "default",
            "default_factory",
            "hash",
            "init",
            "kw_only",
            "metadata",
            "name",
            "repr",
            "type",
        )

        def __init__(self, default, default_factory, init, repr, hash, compare, metadata, kw_only) -> None:
            self.name = self.type = None
            self.default, self.default_factory, self.init, self.repr = default, default_factory, init, repr
            self.hash, self.compare, self.metadata, self.kw_only = hash, compare, metadata, kw_only

    def field(
        *,
        default=MISSING,
        default_factory=MISSING,
        init=True,
        repr=True,
        hash=None,
        compare=True,
        metadata=None,
        kw_only=MISSING,
    ):
        """As `dataclasses.field`."""
        return Field(default, default_factory, init, repr, hash, compare, metadata or {}, kw_only)

    def dataclass(cls=None, /, *, frozen=False, slots=False, kw_only=False, order=False):
        """As `dataclasses.dataclass`."""

        def wrap(cls):
            return _make(cls, frozen, slots, kw_only, order)

        return wrap if cls is None else wrap(cls)

    def fields(value):
        """As `dataclasses.fields`."""
        for base in (value if isinstance(value, type) else type(value)).__mro__:
            if "__value_fields__" in base.__dict__:
                return tuple(base.__value_fields__.values())
            if "__dataclass_fields__" in base.__dict__:
                break  # the standard library made this one, maybe on top of ours
        import dataclasses

        return dataclasses.fields(value)

    def replace(value, /, **changes):
        """As `dataclasses.replace` of Python 3.13."""
        for one in fields(value):
            if not one.init:
                if one.name in changes:
                    raise TypeError(f"field {one.name} is declared with init=False, it cannot be specified")
            elif one.name not in changes:
                changes[one.name] = getattr(value, one.name)
        return value.__class__(**changes)

    def asdict(value):
        """As `dataclasses.asdict`: nested values, lists, tuples and mappings become plain ones."""
        if hasattr(type(value), "__value_fields__"):
            return {one.name: asdict(getattr(value, one.name)) for one in fields(value)}
        if isinstance(value, list | tuple):
            plain = [asdict(item) for item in value]
            return type(value)(*plain) if hasattr(value, "_fields") else type(value)(plain)
        if isinstance(value, dict):
            return {asdict(key): asdict(item) for key, item in value.items()}
        return value

    def _make(cls, frozen, slots, kw_only, order):
        inherited = _inherited(cls)
        own = _own(cls, kw_only)
        known = {**inherited, **own}
        namespace = {
            "__value_fields__": known,
            "__dataclass_fields__": _Standard(),
            "__dataclass_params__": _StandardParams(frozen, order),
            "__match_args__": tuple(one.name for one in known.values() if one.init and not one.kw_only),
        }
        lazy = ["__init__", "__repr__", "__eq__"]
        defined = cls.__dict__
        if frozen:
            namespace["__setattr__"], namespace["__delattr__"] = _frozen_set, _frozen_delete
        if frozen and slots:
            namespace["__getstate__"], namespace["__setstate__"] = _state, _restore
        if "__hash__" not in defined or (defined["__hash__"] is None and "__eq__" in defined):
            if frozen:
                lazy.append("__hash__")
            else:
                namespace["__hash__"] = None
        if order:
            lazy += ["__lt__", "__le__", "__gt__", "__ge__"]
        lazy = [name for name in lazy if name not in defined or (name == "__hash__" and defined[name] is None)]
        made = _slotted(cls, own, inherited, namespace) if slots else _plain(cls, own, namespace)
        for name in lazy:
            setattr(made, name, _trampoline(made, name, frozen))
        return made

    def _inherited(cls):
        known = {}
        for base in reversed(cls.__mro__[1:]):
            if "__value_fields__" in base.__dict__:
                known.update(base.__value_fields__)
            elif "__dataclass_fields__" in base.__dict__:
                known.update(_from_standard(base.__dataclass_fields__))
        return known

    def _own(cls, kw_only):
        own = {}
        for name, annotation in cls.__dict__.get("__annotations__", {}).items():  # noqa: RUF063 - inspect is what must not be imported
            text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
            if text.startswith(("ClassVar", "typing.ClassVar")):
                continue
            given = cls.__dict__.get(name, MISSING)
            one = given if isinstance(given, Field) else Field(given, MISSING, True, True, None, True, {}, MISSING)
            if isinstance(one.default, list | dict | set):
                raise ValueError(f"mutable default {type(one.default)} for field {name}: use default_factory")
            one.name, one.type = name, annotation
            if one.kw_only is MISSING:
                one.kw_only = kw_only
            own[name] = one
        return own

    def _slotted(cls, own, inherited, namespace):
        """The class again with slots, as they cannot be added to one that exists."""
        body = {key: value for key, value in cls.__dict__.items() if key not in own}
        body.pop("__dict__", None)
        body.pop("__weakref__", None)
        slots = tuple(name for name in own if name not in inherited)
        return type(cls)(
            cls.__name__,
            cls.__bases__,
            {**body, **namespace, "__slots__": slots, "__qualname__": cls.__qualname__},
        )

    def _plain(cls, own, namespace):
        for one in own.values():
            if one.default is not MISSING:
                setattr(cls, one.name, one.default)
            elif one.name in cls.__dict__:
                delattr(cls, one.name)
        for key, value in namespace.items():
            setattr(cls, key, value)
        return cls

    def _trampoline(cls, name, frozen):
        """A method that writes and compiles itself when it is called, takes its own place, and answers."""

        def method(*args, **kwargs):
            return _compile(cls, name, frozen)(*args, **kwargs)

        method.__name__, method.__qualname__, method.__module__ = name, f"{cls.__qualname__}.{name}", cls.__module__
        return method

    def _compile(cls, name, frozen):
        scope = {"_factory": _FACTORY}
        lines = _WRITERS[name](cls, list(cls.__value_fields__.values()), scope, frozen)
        exec("\n".join(lines), scope)  # noqa: S102 - our own text: names of fields, which are identifiers
        function = scope[name]
        function.__qualname__, function.__module__ = f"{cls.__qualname__}.{name}", cls.__module__
        setattr(cls, name, function)
        return function

    _FACTORY = object()

    def _write_init(cls, known, scope, frozen):
        positional = [one for one in known if one.init and not one.kw_only]
        named = [one for one in known if one.init and one.kw_only]
        parameters = ["self", *(_parameter(one, scope) for one in positional)]
        if named:
            parameters += ["*", *(_parameter(one, scope) for one in named)]
        lines = [f"def __init__({', '.join(parameters)}):", " pass"]
        for one in known:
            if one.init:
                value = one.name
                if one.default_factory is not MISSING:
                    value = f"_make_{one.name}() if {one.name} is _factory else {one.name}"
            elif one.default_factory is not MISSING:
                scope[f"_make_{one.name}"] = one.default_factory
                value = f"_make_{one.name}()"
            elif one.default is not MISSING:
                scope[f"_default_{one.name}"] = one.default
                value = f"_default_{one.name}"
            else:
                continue
            before, after = _assignment(cls, one.name, scope, frozen)
            lines.append(f" {before}{value}{after}")
        if hasattr(cls, "__post_init__"):
            lines.append(" self.__post_init__()")
        return lines

    def _parameter(one, scope):
        if one.default is not MISSING:
            scope[f"_default_{one.name}"] = one.default
            return f"{one.name}=_default_{one.name}"
        if one.default_factory is not MISSING:
            scope[f"_make_{one.name}"] = one.default_factory
            return f"{one.name}=_factory"
        return one.name

    def _assignment(cls, name, scope, frozen):
        """What stands before and after the value: through the slot itself where there is one, past `__setattr__`."""
        if not frozen:
            return f"self.{name} = ", ""
        slot = getattr(cls, name, None)
        if type(slot).__name__ == "member_descriptor":
            scope[f"_set_{name}"] = slot.__set__
            return f"_set_{name}(self, ", ")"
        scope["_set"] = object.__setattr__
        return f"_set(self, {name!r}, ", ")"

    def _write_repr(_cls, known, _scope, _frozen):
        shown = ", ".join(f"{one.name}={{self.{one.name}!r}}" for one in known if one.repr)
        return ["def __repr__(self):", f' return f"{{self.__class__.__qualname__}}({shown})"']

    def _tuple(owner, names):
        return f"({''.join(f'{owner}.{name}, ' for name in names)})"

    def _write_comparison(name, operator):
        def write(_cls, known, _scope, _frozen):
            names = [one.name for one in known if one.compare]
            return [
                f"def {name}(self, other):",
                " if other.__class__ is not self.__class__: return NotImplemented",
                f" return {_tuple('self', names)} {operator} {_tuple('other', names)}",
            ]

        return write

    def _write_hash(_cls, known, _scope, _frozen):
        names = [one.name for one in known if (one.compare if one.hash is None else one.hash)]
        return ["def __hash__(self):", f" return hash({_tuple('self', names)})"]

    _WRITERS = {
        "__init__": _write_init,
        "__repr__": _write_repr,
        "__eq__": _write_comparison("__eq__", "=="),
        "__lt__": _write_comparison("__lt__", "<"),
        "__le__": _write_comparison("__le__", "<="),
        "__gt__": _write_comparison("__gt__", ">"),
        "__ge__": _write_comparison("__ge__", ">="),
        "__hash__": _write_hash,
    }

    def _frozen_set(self, name, _value):
        from dataclasses import FrozenInstanceError

        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def _frozen_delete(self, name):
        from dataclasses import FrozenInstanceError

        raise FrozenInstanceError(f"cannot delete field {name!r}")

    def _state(self):
        return [getattr(self, name) for name in self.__value_fields__]

    def _restore(self, state):
        for name, value in zip(self.__value_fields__, state, strict=True):
            object.__setattr__(self, name, value)

    class _Standard:
        """`__dataclass_fields__`, made for whoever asks: the standard library's functions and subclasses."""

        def __get__(self, _instance: Any, owner: Any) -> dict[str, Any]:
            import dataclasses

            made = {}
            for one in owner.__value_fields__.values():
                options = {"default": one.default, "default_factory": one.default_factory}
                given = {key: value for key, value in options.items() if value is not MISSING}
                standard = dataclasses.field(
                    init=one.init,
                    repr=one.repr,
                    hash=one.hash,
                    compare=one.compare,
                    metadata=one.metadata,
                    kw_only=one.kw_only,
                    **given,
                )
                standard.name, standard.type, standard._field_type = one.name, one.type, dataclasses._FIELD
                made[one.name] = standard
            return made

    class _StandardParams:
        """`__dataclass_params__`: what a subclass made by the standard library checks."""

        def __init__(self, frozen: bool, order: bool) -> None:
            self.init = self.repr = self.eq = True
            self.frozen, self.order, self.unsafe_hash = frozen, order, False

    def _from_standard(found):
        import dataclasses

        def known(value):
            return MISSING if value is dataclasses.MISSING else value

        made = {}
        for name, one in found.items():
            if one._field_type is not dataclasses._FIELD:
                continue
            copy = Field(
                known(one.default),
                known(one.default_factory),
                one.init,
                one.repr,
                one.hash,
                one.compare,
                one.metadata,
                bool(one.kw_only),
            )
            copy.name, copy.type = name, one.type
            made[name] = copy
        return made
