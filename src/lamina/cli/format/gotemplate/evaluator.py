"""Executes a tree over values with Go's rules and Go's error texts.

`_at` mirrors the moments at which Go's executor notes its current node, because that node is what an error quotes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from lamina.cli.format.gotemplate.errors import TemplateExecError
from lamina.cli.format.gotemplate.functions import CallError, Function
from lamina.cli.format.gotemplate.nodes import (
    Action,
    Bool,
    Branch,
    Chain,
    Command,
    Dot,
    Field,
    Identifier,
    Include,
    Jump,
    Nil,
    Node,
    Number,
    Pipe,
    String,
    Text,
    Variable,
)
from lamina.cli.format.gotemplate.printf import quote, show
from lamina.cli.format.gotemplate.values import TYPED_NIL, Struct, is_string_list, truth, type_name

MAX_INCLUDES = 150  # nested {{template}} calls; Go allows 100,000, Python's stack does not
MAX_OUTPUT = 64 << 20  # characters


class _Missing:
    """No final value was piped in."""


MISSING: Final = _Missing()


class _Jump(Exception):
    """`break` or `continue` on its way to the range."""

    def __init__(self, word: str) -> None:
        super().__init__(word)
        self.word = word


class Evaluator:
    """One execution."""

    def __init__(
        self,
        name: str,
        text: str,
        templates: Mapping[str, list[Node]],
        functions: Mapping[str, Function],
        missing_key_is_error: bool,
    ) -> None:
        self._name = name
        self._current = name
        self._text = text
        self._templates = templates
        self._functions = functions
        self._strict = missing_key_is_error
        self._variables: list[tuple[str, Any]] = []
        self._node: Node | None = None
        self._out: list[str] = []
        self._written = 0
        self._depth = 0

    def run(self, value: Any) -> str:
        """Executes the template named like the whole text."""
        self._variables = [("$", value)]
        self._walk_list(value, self._templates[self._name])
        return "".join(self._out)

    # Errors and output.

    def _at(self, node: Node) -> None:
        self._node = node

    def _error(self, message: str) -> TemplateExecError:
        head = f"template: {self._name}: "
        if self._node is not None:
            before = self._text[: self._node.pos]
            line = before.count("\n") + 1
            column = len(before[before.rfind("\n") + 1 :].encode("utf-8", "surrogateescape"))
            head = f"template: {self._name}:{line}:{column}: executing {quote(self._current)} at <{self._node}>: "
        return TemplateExecError(head + message)

    def _write(self, text: str) -> None:
        self._written += len(text)
        if self._written > MAX_OUTPUT:
            raise self._error("output too large")
        self._out.append(text)

    # Statements.

    def _walk_list(self, dot: Any, nodes: Sequence[Node]) -> None:
        for node in nodes:
            self._walk(dot, node)

    def _walk(self, dot: Any, node: Node) -> None:
        if isinstance(node, Text):
            self._write(node.text)
            return
        self._at(node)
        if isinstance(node, Action):
            value = self._pipeline(dot, node.pipe)
            if not node.pipe.declared:
                self._write("<no value>" if value is None else show(value))
        elif isinstance(node, Branch):
            if node.word == "range":
                self._range(dot, node)
            else:
                self._if_or_with(dot, node)
        elif isinstance(node, Include):
            self._include(dot, node)
        elif isinstance(node, Jump):
            raise _Jump(node.word)

    def _if_or_with(self, dot: Any, node: Branch) -> None:
        mark = len(self._variables)
        value = self._pipeline(dot, node.pipe)
        if truth(value):
            self._walk_list(value if node.word == "with" else dot, node.body)
        elif node.otherwise is not None:
            self._walk_list(dot, node.otherwise)
        del self._variables[mark:]

    def _range(self, dot: Any, node: Branch) -> None:
        mark = len(self._variables)
        value = self._pipeline(dot, node.pipe)
        inner = len(self._variables)
        pairs: list[tuple[Any, Any]]
        if isinstance(value, Mapping):
            pairs = sorted(value.items())
        elif isinstance(value, (list, tuple)):
            pairs = list(enumerate(value))
        elif isinstance(value, int) and not isinstance(value, bool):
            if len(node.pipe.declared) > 1:
                raise self._error(f"can't use {value} to iterate over more than one variable")
            pairs = [(index, index) for index in range(value)]
        elif value is None:
            pairs = []
        else:
            raise self._error(f"range can't iterate over {show(value)}")
        try:
            for key, item in pairs:
                self._declare(node.pipe, key, item)
                try:
                    self._walk_list(item, node.body)
                except _Jump as jump:
                    if jump.word == "break":
                        break
                del self._variables[inner:]
            if not pairs and node.otherwise is not None:
                self._walk_list(dot, node.otherwise)
        finally:
            del self._variables[mark:]

    def _declare(self, pipe: Pipe, key: Any, item: Any) -> None:
        names = [variable.names[0] for variable in pipe.declared]
        values = [item] if len(names) == 1 else [key, item]
        for name, value in zip(names, values, strict=False):
            if pipe.assigns:
                self._assign(name, value)
            else:
                self._variables.append((name, value))

    def _assign(self, name: str, value: Any) -> None:
        for index in range(len(self._variables) - 1, -1, -1):
            if self._variables[index][0] == name:
                self._variables[index] = (name, value)
                return
        raise self._error(f"undefined variable: {name}")

    def _include(self, dot: Any, node: Include) -> None:
        body = self._templates.get(node.name)
        if body is None:
            raise self._error(f"template {quote(node.name)} not defined")
        if self._depth >= MAX_INCLUDES:
            raise self._error(f"exceeded maximum template depth ({MAX_INCLUDES})")
        value = None if node.pipe is None else self._pipeline(dot, node.pipe)
        outer = (self._variables, self._current)
        self._variables, self._current = [("$", value)], node.name
        self._depth += 1
        self._walk_list(value, body)
        self._depth -= 1
        self._variables, self._current = outer

    # Pipelines and commands.

    def _pipeline(self, dot: Any, pipe: Pipe) -> Any:
        self._at(pipe)
        value: Any = MISSING
        for command in pipe.commands:
            value = self._command(dot, command, value)
        for variable in pipe.declared:
            if pipe.assigns:
                self._assign(variable.names[0], value)
            else:
                self._variables.append((variable.names[0], value))
        return value

    def _command(self, dot: Any, command: Command, final: Any) -> Any:
        first = command.args[0]
        match first:
            case Field():
                self._at(first)
                return self._fields(dot, first.names, command.args, final)
            case Chain():
                return self._chain(dot, first, command.args, final)
            case Identifier():
                return self._function(dot, first, command, command.args, final)
            case Pipe():
                self._not_a_function(command.args, final)
                return self._pipeline(dot, first)
            case Variable():
                return self._variable(first, dot, command.args, final)
            case _:
                self._at(first)
                self._not_a_function(command.args, final)
                if isinstance(first, Nil):
                    raise self._error("nil is not a command")
                return self._constant(dot, first)

    def _not_a_function(self, args: Sequence[Node], final: Any) -> None:
        if len(args) > 1 or final is not MISSING:
            raise self._error(f"can't give argument to non-function {args[0]}")

    def _constant(self, dot: Any, node: Node) -> Any:
        match node:
            case Bool() | String():
                return node.value
            case Number():
                if isinstance(node.value, int) and not -(2**63) <= node.value < 2**63:
                    raise self._error(f"{node.text} overflows int")
                return node.value
            case Dot():
                return dot
            case _:
                raise self._error(f"can't evaluate command {quote(str(node))}")

    def _variable(self, node: Variable, dot: Any, args: Sequence[Node], final: Any) -> Any:
        self._at(node)
        value = next((value for name, value in reversed(self._variables) if name == node.names[0]), MISSING)
        if value is MISSING:
            raise self._error(f"undefined variable: {node.names[0]}")
        if len(node.names) == 1:
            self._not_a_function(args, final)
            return value
        return self._fields(value, node.names[1:], args, final, dot)

    def _chain(self, dot: Any, node: Chain, args: Sequence[Node], final: Any) -> Any:
        self._at(node)
        if isinstance(node.node, Nil):
            raise self._error(f"indirection through explicit nil in {node}")
        value = self._argument(dot, "any", node.node)
        return self._fields(value, node.names, args, final, dot)

    def _fields(self, receiver: Any, names: Sequence[str], args: Sequence[Node], final: Any, dot: Any = MISSING) -> Any:
        dot = receiver if dot is MISSING else dot
        known_type = type_name(receiver)
        for name in names[:-1]:
            holder, receiver = receiver, self._field(dot, name, (), MISSING, receiver, known_type)
            # What comes out of a map has the map's element type.
            known_type = "interface {}" if isinstance(holder, Mapping) else type_name(receiver)
        return self._field(dot, names[-1], args, final, receiver, known_type)

    def _field(self, dot: Any, name: str, args: Sequence[Node], final: Any, receiver: Any, known_type: str) -> Any:
        given = len(args) > 1 or final is not MISSING
        if receiver is None or receiver is TYPED_NIL:
            if receiver is None and not self._strict:
                raise self._error(f"nil data; no entry for key {quote(name)}")
            raise self._error(f"nil pointer evaluating interface {{}}.{name}")
        if isinstance(receiver, Struct) and receiver.has(name):
            value = receiver.raw(name)
            if callable(value):
                return self._method(dot, name, value, args, final)
            if given:
                raise self._error(f"{name} has arguments but cannot be invoked as function")
            return TYPED_NIL if value is None else value
        if isinstance(receiver, Mapping):
            if given:
                raise self._error(f"{name} is not a method but has arguments")
            if name in receiver:
                return receiver[name]
            if self._strict:
                raise self._error(f"map has no entry for key {quote(name)}")
            return None
        raise self._error(f"can't evaluate field {name} in type {known_type}")

    def _method(self, dot: Any, name: str, method: Callable[..., Any], args: Sequence[Node], final: Any) -> Any:
        wanted = [
            "string" if parameter.annotation in {"str", str} else "any"
            for parameter in inspect.signature(method).parameters.values()
        ]
        node = self._node
        values = self._arguments(dot, name, Function(method, tuple(wanted)), args, final)
        try:
            return method(*values)
        except CallError as error:
            self._node = node
            raise self._error(f"error calling {name}: {error}") from None

    def _function(self, dot: Any, node: Identifier, command: Node, args: Sequence[Node], final: Any) -> Any:
        self._at(node)
        function = self._functions[node.name]
        if node.name in {"and", "or"}:
            return self._short_circuit(dot, node.name, args, final)
        values = self._arguments(dot, node.name, function, args, final)
        if node.name == "call" and values[0] is not None and not callable(values[0]):
            self._at(command)
            raise self._error(f"error calling call: non-function {args[1]} of type {type_name(values[0])}")
        try:
            return function.call(*values)
        except CallError as error:
            self._at(command)
            raise self._error(f"error calling {node.name}: {error}") from None

    def _short_circuit(self, dot: Any, name: str, args: Sequence[Node], final: Any) -> Any:
        count = len(args) - 1 + (final is not MISSING)
        if count == 0:
            raise self._error(f"wrong number of args for {name}: want at least 1 got 0")
        value: Any = None
        for node in args[1:]:
            value = self._argument(dot, "any", node)
            if truth(value) == (name == "or"):
                return value
        return value if final is MISSING else final

    # Arguments.

    def _arguments(self, dot: Any, name: str, function: Function, args: Sequence[Node], final: Any) -> list[Any]:
        nodes = list(args[1:])
        fixed = len(function.parameters)
        count = len(nodes) + (final is not MISSING)
        if function.rest is None and count != fixed:
            raise self._error(f"wrong number of args for {name}: want {fixed} got {count}")
        if function.rest is not None and count < fixed:
            raise self._error(f"wrong number of args for {name}: want at least {fixed} got {count}")
        types = [*function.parameters, *[function.rest or "any"] * (count - fixed)]
        values = [self._argument(dot, kind, node) for kind, node in zip(types, nodes, strict=False)]
        if final is not MISSING:
            values.append(self._validate(final, types[len(nodes)]))
        return values

    def _argument(self, dot: Any, kind: str, node: Node) -> Any:
        self._at(node)
        match node:
            case Dot():
                return self._validate(dot, kind)
            case Nil():
                if kind in {"any", "[]string"}:
                    return None
                raise self._error(f"cannot assign nil to {kind}")
            case Field():
                return self._validate(self._fields(dot, node.names, (node,), MISSING), kind)
            case Variable():
                return self._validate(self._variable(node, dot, (), MISSING), kind)
            case Pipe():
                return self._validate(self._pipeline(dot, node), kind)
            case Identifier():
                return self._validate(self._function(dot, node, node, (), MISSING), kind)
            case Chain():
                return self._validate(self._chain(dot, node, (), MISSING), kind)
            case _:
                return self._literal(dot, kind, node)

    def _literal(self, dot: Any, kind: str, node: Node) -> Any:
        match kind:
            case "string":
                if isinstance(node, String):
                    return node.value
                raise self._error(f"expected string; found {node}")
            case "int":
                if isinstance(node, Number) and isinstance(node.value, int):
                    return node.value
                raise self._error(f"expected integer; found {node}")
            case "any":
                return self._constant(dot, node)
            case _:
                raise self._error(f"can't handle {node} for arg of type {kind}")

    def _validate(self, value: Any, kind: str) -> Any:
        if kind == "any":
            return value
        if value is None or value is TYPED_NIL:
            if kind == "[]string":
                return []
            raise self._error(f"invalid value; expected {kind}")
        if kind == "[]string" and isinstance(value, (list, tuple)) and (is_string_list(value) or not value):
            return value
        if type_name(value) != kind:
            raise self._error(f"wrong type for value; expected {kind}; got {type_name(value)}")
        return value
