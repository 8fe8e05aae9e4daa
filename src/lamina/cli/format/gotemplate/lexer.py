"""Text to tokens, by the lexical rules of Go's text/template (delimiters, trim markers, comments)."""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple

LEFT, RIGHT = "{{", "}}"
LEFT_COMMENT, RIGHT_COMMENT = "/*", "*/"
SPACE = " \t\r\n"


class Kind(Enum):
    """Kinds of token."""

    TEXT = auto()
    LEFT_DELIM = auto()
    RIGHT_DELIM = auto()
    SPACE = auto()
    FIELD = auto()
    VARIABLE = auto()
    IDENTIFIER = auto()
    KEYWORD = auto()  # if, range, ..., and the words `.` and `nil`
    BOOL = auto()
    NUMBER = auto()
    CHAR_CONSTANT = auto()
    STRING = auto()
    RAW_STRING = auto()
    LEFT_PAREN = auto()
    RIGHT_PAREN = auto()
    PIPE = auto()
    ASSIGN = auto()
    DECLARE = auto()
    CHAR = auto()
    ERROR = auto()
    EOF = auto()


KEYWORDS = frozenset({"block", "break", "continue", "define", "else", "end", "if", "range", "nil", "template", "with"})


class Token(NamedTuple):
    """One token: kind, its text, its offset and its 1-based line."""

    kind: Kind
    text: str
    pos: int
    line: int

    def __str__(self) -> str:
        if self.kind is Kind.EOF:
            return "EOF"
        if self.kind is Kind.ERROR:
            return self.text
        if self.kind is Kind.KEYWORD:
            return f"<{self.text}>"
        from lamina.cli.format.gotemplate.printf import quote

        if len(self.text) > 10:
            return quote(self.text[:10]) + "..."
        return quote(self.text)


class LexError(Exception):
    """Internal: carries the message of the error token."""


def _is_word(char: str) -> bool:
    return char == "_" or char.isalnum()


class Lexer:
    """Splits one template. `tokens()` ends with EOF or with one ERROR token."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._pos = 0
        self._line = 1
        self._out: list[Token] = []
        self._parens = 0

    def tokens(self) -> list[Token]:
        """All tokens of the text."""
        try:
            self._run()
            self._out.append(Token(Kind.EOF, "", len(self._text), self._line))
        except LexError as error:
            self._out.append(Token(Kind.ERROR, str(error), self._pos, self._line))
        return self._out

    def _emit(self, kind: Kind, end: int) -> None:
        text = self._text[self._pos : end]
        self._out.append(Token(kind, text, self._pos, self._line))
        self._line += text.count("\n")
        self._pos = end

    def _skip(self, end: int) -> None:
        self._line += self._text.count("\n", self._pos, end)
        self._pos = end

    def _at(self, offset: int) -> str:
        return self._text[offset : offset + 1]

    def _run(self) -> None:
        text = self._text
        while True:
            start = text.find(LEFT, self._pos)
            if start < 0:
                if self._pos < len(text):
                    self._emit(Kind.TEXT, len(text))
                return
            trims = text[start + 2 : start + 3] == "-" and text[start + 3 : start + 4] in tuple(SPACE)
            end = start
            if trims:
                while end > self._pos and text[end - 1] in SPACE:
                    end -= 1
            if end > self._pos:
                self._emit(Kind.TEXT, end)
            self._skip(start)
            inside = start + (4 if trims else 2)
            if text.startswith(LEFT_COMMENT, inside):
                self._comment(inside)
                continue
            self._emit(Kind.LEFT_DELIM, start + 2)
            self._skip(inside)
            self._parens = 0
            self._action()

    def _comment(self, start: int) -> None:
        close = self._text.find(RIGHT_COMMENT, start)
        if close < 0:
            raise LexError("unclosed comment")
        after = close + 2
        if self._text.startswith(RIGHT, after):
            self._skip(after + 2)
            return
        if self._text[after : after + 1] in tuple(SPACE) and self._text.startswith("-" + RIGHT, after + 1):
            self._skip(after + 4)
            self._trim_following()
            return
        raise LexError("comment ends before closing delimiter")

    def _trim_following(self) -> None:
        end = self._pos
        while end < len(self._text) and self._text[end] in SPACE:
            end += 1
        self._skip(end)

    def _action(self) -> None:
        """Tokens up to and including the right delimiter."""
        text = self._text
        while True:
            pos = self._pos
            char = self._at(pos)
            trims = char != "" and char in SPACE and text.startswith("-" + RIGHT, pos + 1)
            if trims or text.startswith(RIGHT, pos):
                if self._parens:
                    raise LexError("unclosed left paren")
                if trims:
                    self._skip(pos + 2)
                self._emit(Kind.RIGHT_DELIM, self._pos + 2)
                if trims:
                    self._trim_following()
                return
            if char == "":
                raise LexError("unclosed action")
            self._inside(char, pos)

    def _inside(self, char: str, pos: int) -> None:
        if char in SPACE:
            end = pos
            while self._at(end) and self._at(end) in SPACE:
                if self._text.startswith("-" + RIGHT, end + 1):
                    break
                end += 1
            self._emit(Kind.SPACE, end)
        elif char == "=":
            self._emit(Kind.ASSIGN, pos + 1)
        elif char == ":":
            if self._at(pos + 1) != "=":
                raise LexError("expected :=")
            self._emit(Kind.DECLARE, pos + 2)
        elif char == "|":
            self._emit(Kind.PIPE, pos + 1)
        elif char == '"':
            self._quoted('"', Kind.STRING, "unterminated quoted string")
        elif char == "'":
            self._quoted("'", Kind.CHAR_CONSTANT, "unterminated character constant")
        elif char == "`":
            end = self._text.find("`", pos + 1)
            if end < 0:
                raise LexError("unterminated raw quoted string")
            self._emit(Kind.RAW_STRING, end + 1)
        elif char == "$":
            self._word(Kind.VARIABLE)
        elif char == "." and not ("0" <= self._at(pos + 1) <= "9"):
            if self._terminates(pos + 1):
                self._emit(Kind.KEYWORD, pos + 1)
            else:
                self._word(Kind.FIELD)
        elif char in "+-." or "0" <= char <= "9":
            self._number()
        elif _is_word(char):
            self._identifier()
        elif char == "(":
            self._parens += 1
            self._emit(Kind.LEFT_PAREN, pos + 1)
        elif char == ")":
            self._parens -= 1
            if self._parens < 0:
                raise LexError("unexpected right paren")
            self._emit(Kind.RIGHT_PAREN, pos + 1)
        elif " " < char <= "~":
            self._emit(Kind.CHAR, pos + 1)
        else:
            raise LexError(f"unrecognized character in action: {_unicode(char)}")

    def _terminates(self, pos: int) -> bool:
        char = self._at(pos)
        return char == "" or char in SPACE or char in ".,|:()=" or self._text.startswith(RIGHT, pos)

    def _word(self, kind: Kind) -> None:
        """A field or variable: the sigil, then a word, then a terminator."""
        end = self._pos + 1
        while self._at(end) and _is_word(self._at(end)):
            end += 1
        if not self._terminates(end):
            raise LexError(f"bad character {_unicode(self._at(end))}")
        self._emit(kind, end)

    def _identifier(self) -> None:
        end = self._pos
        while self._at(end) and _is_word(self._at(end)):
            end += 1
        if not self._terminates(end):
            raise LexError(f"bad character {_unicode(self._at(end))}")
        word = self._text[self._pos : end]
        if word in KEYWORDS:
            self._emit(Kind.KEYWORD, end)
        elif word in {"true", "false"}:
            self._emit(Kind.BOOL, end)
        else:
            self._emit(Kind.IDENTIFIER, end)

    def _quoted(self, mark: str, kind: Kind, unterminated: str) -> None:
        end = self._pos + 1
        while True:
            char = self._at(end)
            if char == "\\" and self._at(end + 1) not in {"", "\n"}:
                end += 2
                continue
            if char in {"", "\n"}:
                raise LexError(unterminated)
            end += 1
            if char == mark:
                self._emit(kind, end)
                return

    def _number(self) -> None:
        end = self._pos
        if self._at(end) in {"+", "-"}:
            end += 1
        digits, exponent = "0123456789_", "eE"
        if self._at(end) == "0":
            prefix = self._at(end + 1).lower()
            if prefix == "x":
                digits, exponent, end = "0123456789abcdefABCDEF_", "pP", end + 2
            elif prefix == "o":
                digits, end = "01234567_", end + 2
            elif prefix == "b":
                digits, end = "01_", end + 2
        end = self._run_of(end, digits)
        if self._at(end) == ".":
            end = self._run_of(end + 1, digits)
        if self._at(end) and self._at(end) in exponent and len(digits) != 9 and len(digits) != 3:
            end += 1
            if self._at(end) in {"+", "-"}:
                end += 1
            end = self._run_of(end, "0123456789_")
        if self._at(end) == "i":
            end += 1
        following = self._at(end)
        if following and _is_word(following):
            from lamina.cli.format.gotemplate.printf import quote

            raise LexError(f"bad number syntax: {quote(self._text[self._pos : end + 1])}")
        self._emit(Kind.NUMBER, end)

    def _run_of(self, pos: int, allowed: str) -> int:
        while self._at(pos) and self._at(pos) in allowed:
            pos += 1
        return pos


def _unicode(char: str) -> str:
    """Go's %#U: `U+0027 '''`."""
    if not char:
        return "U+FFFFFFFFFFFFFFFF"
    shown = f" '{char}'" if char.isprintable() else ""
    return f"U+{ord(char):04X}{shown}"
