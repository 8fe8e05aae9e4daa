"""Tokens to tree, by the grammar of Go's text/template/parse."""

from __future__ import annotations

from collections.abc import Container

from lamina.cli.format.gotemplate.constants import parse_number, unquote
from lamina.cli.format.gotemplate.errors import TemplateSyntaxError
from lamina.cli.format.gotemplate.lexer import Kind, Lexer, Token
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

MAX_DEPTH = 200  # of nested actions and parentheses: a hostile template must not exhaust the stack


class _Mark(Node):
    """`{{end}}`, or `{{else}}` with the word (`if`, `with` or "") that follows it."""

    __slots__ = ("follows", "word")

    def __init__(self, pos: int, word: str, follows: str = "") -> None:
        super().__init__(pos)
        self.word = word
        self.follows = follows

    def __str__(self) -> str:
        return f"{{{{{self.word}}}}}"


class Parser:
    """Parses one text into a set of named templates.

    Args:
        name: the template's name, quoted in errors (docker uses "" nearly everywhere).
        text: the template.
        functions: known function names; others are a parse error, as in Go.
    """

    def __init__(self, name: str, text: str, functions: Container[str]) -> None:
        self._name = name
        self._functions = functions
        self._tokens = Lexer(text).tokens()
        self._next = 0
        self._line = 1
        self._variables = ["$"]
        self._ranges = 0
        self._action_line = 0
        self._depth = 0
        self.templates: dict[str, list[Node]] = {}

    def parse(self) -> dict[str, list[Node]]:
        """Every template defined by the text; the text itself is under its own name.

        Raises:
            TemplateSyntaxError: with Go's message.
        """
        body: list[Node] = []
        while self._peek().kind is not Kind.EOF:
            if self._peek().kind is Kind.LEFT_DELIM:
                mark = self._next
                self._take()
                if self._is_keyword(self._take_solid(), "define"):
                    self._definition()
                    continue
                self._next = mark
            node = self._text_or_action()
            if isinstance(node, _Mark):
                raise self._error(f"unexpected {node}")
            if node is not None:
                body.append(node)
        if self._name not in self.templates or not _is_empty(body):
            self.templates[self._name] = body
        return self.templates

    # Token access. `_line` is the line of the last token read, which is what Go reports.

    def _peek(self) -> Token:
        return self._tokens[min(self._next, len(self._tokens) - 1)]

    def _take(self) -> Token:
        token = self._peek()
        self._next += 1
        self._line = token.line
        return token

    def _peek_solid(self) -> Token:
        while self._peek().kind is Kind.SPACE:
            self._take()
        return self._peek()

    def _take_solid(self) -> Token:
        self._peek_solid()
        return self._take()

    def _back(self) -> None:
        self._next -= 1

    @staticmethod
    def _is_keyword(token: Token, word: str) -> bool:
        return token.kind is Kind.KEYWORD and token.text == word

    def _error(self, message: str) -> TemplateSyntaxError:
        return TemplateSyntaxError(f"template: {self._name}:{self._line}: {message}")

    def _unexpected(self, token: Token, context: str) -> TemplateSyntaxError:
        if token.kind is Kind.ERROR:
            extra = ""
            if self._action_line not in {0, token.line}:
                extra = f" in action started at {self._name}:{self._action_line}"
                if token.text.endswith(" action"):
                    extra = extra.removeprefix(" in action")
            return self._error(token.text + extra)
        return self._error(f"unexpected {token} in {context}")

    def _expect(self, kind: Kind, context: str) -> Token:
        token = self._take_solid()
        if token.kind is not kind:
            raise self._unexpected(token, context)
        return token

    # Lists and actions.

    def _definition(self) -> None:
        context = "define clause"
        name = self._template_name(self._take_solid(), context)
        self._expect(Kind.RIGHT_DELIM, context)
        outer, self._variables, ranges, self._ranges = self._variables, ["$"], self._ranges, 0
        body, end = self._list()
        if end.word != "end":
            raise self._error(f"unexpected {end} in {context}")
        self._variables, self._ranges = outer, ranges
        self._add(name, body)

    def _add(self, name: str, body: list[Node]) -> None:
        existing = self.templates.get(name)
        if existing is None or _is_empty(existing):
            self.templates[name] = body
        elif not _is_empty(body):
            raise self._error(f'template: multiple definition of template "{name}"')

    def _list(self) -> tuple[list[Node], _Mark]:
        body: list[Node] = []
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._error("too deeply nested")
        while self._peek_solid_is_not_eof():
            node = self._text_or_action()
            if isinstance(node, _Mark):
                self._depth -= 1
                return body, node
            if node is not None:
                body.append(node)
        self._take()
        raise self._error("unexpected EOF")

    def _peek_solid_is_not_eof(self) -> bool:
        return self._peek_solid().kind is not Kind.EOF

    def _text_or_action(self) -> Node | None:
        token = self._take_solid()
        if token.kind is Kind.TEXT:
            return Text(token.pos, token.text)
        if token.kind is Kind.LEFT_DELIM:
            self._action_line = token.line
            node = self._action()
            self._action_line = 0
            return node
        raise self._unexpected(token, "input")

    def _action(self) -> Node | None:
        token = self._take_solid()
        if token.kind is Kind.KEYWORD:
            match token.text:
                case "if" | "with" | "range":
                    return self._branch(token.pos, token.text)
                case "end":
                    return _Mark(self._expect(Kind.RIGHT_DELIM, "end").pos, "end")
                case "else":
                    return self._else(token)
                case "template":
                    return self._include()
                case "block":
                    return self._block()
                case "break" | "continue":
                    return self._jump(token)
                case _:
                    pass
        self._back()
        first = self._peek()
        return Action(first.pos, self._pipeline("command", Kind.RIGHT_DELIM))

    def _jump(self, token: Token) -> Node:
        if (after := self._take_solid()).kind is not Kind.RIGHT_DELIM:
            raise self._unexpected(after, f"{{{{{token.text}}}}}")
        if not self._ranges:
            raise self._error(f"{{{{{token.text}}}}} outside {{{{range}}}}")
        return Jump(token.pos, token.text)

    def _else(self, token: Token) -> Node:
        following = self._peek_solid()
        if following.kind is Kind.KEYWORD and following.text in {"if", "with"}:
            return _Mark(following.pos, "else", following.text)
        return _Mark(self._expect(Kind.RIGHT_DELIM, token.text).pos, "else")

    def _branch(self, pos: int, word: str) -> Node:
        mark = len(self._variables)
        pipe = self._pipeline(word, Kind.RIGHT_DELIM)
        self._ranges += word == "range"
        body, end = self._list()
        self._ranges -= word == "range"
        otherwise: list[Node] | None = None
        if end.word == "else":
            if end.follows and end.follows == word:
                # `{{else if x}}` reads as `{{else}}{{if x}}...{{end}}` closed by the same end.
                self._take()
                otherwise = [self._branch(end.pos, word)]
            elif end.follows:
                raise self._unexpected(self._peek(), "input")
            else:
                otherwise, end = self._list()
                if end.word != "end":
                    raise self._error(f"expected end; found {end}")
        del self._variables[mark:]
        return Branch(pos, word, pipe, body, otherwise)

    def _include(self) -> Node:
        context = "template clause"
        token = self._take_solid()
        name = self._template_name(token, context)
        pipe = None
        if self._take_solid().kind is not Kind.RIGHT_DELIM:
            self._back()
            pipe = self._pipeline(context, Kind.RIGHT_DELIM)
        return Include(token.pos, name, pipe)

    def _block(self) -> Node:
        context = "block clause"
        token = self._take_solid()
        name = self._template_name(token, context)
        pipe = self._pipeline(context, Kind.RIGHT_DELIM)
        outer, self._variables, ranges, self._ranges = self._variables, ["$"], self._ranges, 0
        body, end = self._list()
        if end.word != "end":
            raise self._error(f"unexpected {end} in {context}")
        self._variables, self._ranges = outer, ranges
        self._add(name, body)
        return Include(token.pos, name, pipe)

    def _template_name(self, token: Token, context: str) -> str:
        if token.kind not in {Kind.STRING, Kind.RAW_STRING}:
            raise self._unexpected(token, context)
        return self._unquote(token)

    def _unquote(self, token: Token) -> str:
        try:
            return unquote(token.text)
        except ValueError:
            raise self._error("invalid syntax") from None

    # Pipelines.

    def _pipeline(self, context: str, end: Kind) -> Pipe:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._error("too deeply nested")
        pipe = Pipe(self._peek_solid().pos)
        self._declarations(pipe, context)
        while True:
            token = self._take_solid()
            if token.kind is end:
                self._check(pipe, context)
                self._depth -= 1
                return pipe
            if token.kind in _OPERANDS or (token.kind is Kind.KEYWORD and token.text in {".", "nil"}):
                self._back()
                pipe.commands.append(self._command())
            else:
                raise self._unexpected(token, context)

    def _declarations(self, pipe: Pipe, context: str) -> None:
        while self._peek_solid().kind is Kind.VARIABLE:
            mark, line = self._next, self._line
            token = self._take()
            following = self._peek_solid()
            if following.kind in {Kind.ASSIGN, Kind.DECLARE}:
                pipe.assigns = following.kind is Kind.ASSIGN
                self._take_solid()
                pipe.declared.append(Variable(token.pos, [token.text]))
                self._variables.append(token.text)
                return
            if following.kind is Kind.CHAR and following.text == ",":
                self._take_solid()
                pipe.declared.append(Variable(token.pos, [token.text]))
                self._variables.append(token.text)
                if context == "range" and len(pipe.declared) < 2:
                    if self._peek_solid().kind in {Kind.VARIABLE, Kind.RIGHT_DELIM, Kind.RIGHT_PAREN}:
                        continue
                    raise self._error(f"range can only initialize variables")  # noqa: F541 - Go's words
                raise self._error(f"too many declarations in {context}")
            self._next, self._line = mark, line
            return

    def _check(self, pipe: Pipe, context: str) -> None:
        if not pipe.commands:
            raise self._error(f"missing value for {context}")
        for position, command in enumerate(pipe.commands[1:], 2):
            first = command.args[0]
            if isinstance(first, (Bool, Dot, Nil, Number, String)):
                raise self._error(f"non executable command in pipeline stage {position}")

    def _command(self) -> Command:
        command = Command(self._peek_solid().pos, [])
        while True:
            self._peek_solid()
            operand = self._operand()
            if operand is not None:
                command.args.append(operand)
            token = self._take()
            if token.kind is Kind.SPACE:
                continue
            if token.kind in {Kind.RIGHT_DELIM, Kind.RIGHT_PAREN}:
                self._back()
            elif token.kind is not Kind.PIPE:
                raise self._unexpected(token, "operand")
            break
        if not command.args:
            raise self._error("empty command")
        return command

    def _operand(self) -> Node | None:
        node = self._term()
        if node is None:
            return None
        if self._peek().kind is not Kind.FIELD:
            return node
        pos = self._peek().pos
        names: list[str] = []
        while self._peek().kind is Kind.FIELD:
            names.append(self._take().text[1:])
        if isinstance(node, Field):
            return Field(pos, [*node.names, *names])
        if isinstance(node, Variable):
            return Variable(pos, [*node.names, *names])
        if isinstance(node, (Bool, String, Number, Nil, Dot)):
            from lamina.cli.format.gotemplate.printf import quote

            raise self._error(f"unexpected . after term {quote(str(node))}")
        return Chain(pos, node, names)

    def _term(self) -> Node | None:
        token = self._take_solid()
        match token.kind:
            case Kind.IDENTIFIER:
                if token.text not in self._functions:
                    raise self._error(f'function "{token.text}" not defined')
                return Identifier(token.pos, token.text)
            case Kind.KEYWORD if token.text == ".":
                return Dot(token.pos)
            case Kind.KEYWORD if token.text == "nil":
                return Nil(token.pos)
            case Kind.VARIABLE:
                if token.text not in self._variables:
                    raise self._error(f'undefined variable "{token.text}"')
                return Variable(token.pos, [token.text])
            case Kind.FIELD:
                return Field(token.pos, [token.text[1:]])
            case Kind.BOOL:
                return Bool(token.pos, token.text == "true")
            case Kind.CHAR_CONSTANT | Kind.NUMBER:
                try:
                    return Number(token.pos, token.text, parse_number(token.text))
                except ValueError as error:
                    raise self._error(str(error)) from None
            case Kind.LEFT_PAREN:
                return self._pipeline("parenthesized pipeline", Kind.RIGHT_PAREN)
            case Kind.STRING | Kind.RAW_STRING:
                return String(token.pos, token.text, self._unquote(token))
            case _:
                self._back()
                return None


_OPERANDS = frozenset(
    {
        Kind.BOOL,
        Kind.CHAR_CONSTANT,
        Kind.FIELD,
        Kind.IDENTIFIER,
        Kind.NUMBER,
        Kind.RAW_STRING,
        Kind.STRING,
        Kind.VARIABLE,
        Kind.LEFT_PAREN,
    }
)


def _is_empty(body: list[Node]) -> bool:
    return all(isinstance(node, Text) and not node.text.strip() for node in body)
