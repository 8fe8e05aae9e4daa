"""Go's fmt package for templates: print, println and printf over the values of `values`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from lamina.cli.format.gotemplate.values import TYPED_NIL, Struct, type_name
from lamina.values import dataclass

_ESCAPES = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v", "\\": "\\\\"}
MAX_WIDTH = 1_000_000  # Go's tooLarge(): wider is %!(BADWIDTH)


@dataclass(slots=True)
class Spec:
    """One conversion: its flags, width, precision and verb."""

    verb: str = "v"
    flags: str = ""
    width: int | None = None
    precision: int | None = None

    def has(self, flag: str) -> bool:
        """Whether a flag character was given."""
        return flag in self.flags


def quote(text: str, mark: str = '"', *, ascii_only: bool = False) -> str:
    """Go's %q (strconv.Quote)."""
    out = [mark]
    for char in text:
        code = ord(char)
        if char == mark:
            out.append("\\" + char)
        elif char in _ESCAPES:
            out.append(_ESCAPES[char])
        elif 0xDC80 <= code <= 0xDCFF:
            out.append(f"\\x{code - 0xDC00:02x}")
        elif (code < 0x80 or not ascii_only) and char.isprintable():
            out.append(char)
        elif code < 0x80:
            out.append(f"\\x{code:02x}")
        elif code < 0x10000:
            out.append(f"\\u{code:04x}")
        else:
            out.append(f"\\U{code:08x}")
    return "".join(out) + mark


def sprint(*values: Any) -> str:
    """`print`: a space between operands when neither is a string."""
    out: list[str] = []
    for index, value in enumerate(values):
        if index and not isinstance(value, str) and not isinstance(values[index - 1], str):
            out.append(" ")
        out.append(show(value))
    return "".join(out)


def sprintln(*values: Any) -> str:
    """`println`: a space between all operands, a newline at the end."""
    return " ".join(show(value) for value in values) + "\n"


def show(value: Any) -> str:
    """One value as `%v`."""
    return format_one(value, _PLAIN)


_PLAIN = Spec()
_DIRECTIVE = re.compile(r"([+\-# 0]*)(.*)", re.DOTALL)
_WIDTH = re.compile(r"\d+")
_INDEX = re.compile(r"\[(\d+)\]")


class _Args:
    """The operands of one printf, with Go's explicit indexes."""

    def __init__(self, values: Sequence[Any]) -> None:
        self.values = values
        self.next = 0
        self.reordered = False
        self.bad = False

    def index(self, text: str, pos: int) -> int:
        if not text.startswith("[", pos):
            return pos
        self.reordered = True
        match = _INDEX.match(text, pos)
        if match is None:
            self.bad = True
            close = text.find("]", pos)
            return pos + 1 if close < 0 else close + 1
        number = int(match[1])
        if 1 <= number <= len(self.values):
            self.next = number - 1
        else:
            self.bad = True
        return match.end()

    def take_int(self) -> int | None:
        if self.next >= len(self.values):
            return None
        value = self.values[self.next]
        self.next += 1
        good = isinstance(value, int) and not isinstance(value, bool) and abs(value) <= MAX_WIDTH
        return value if good else None


def sprintf(template: str, *values: Any) -> str:
    """`printf`, including Go's in-band complaints (`%!d(string=x)`, `%!d(MISSING)`, `%!(EXTRA int=1)`)."""
    out: list[str] = []
    args = _Args(values)
    pos = 0
    while pos < len(template):
        percent = template.find("%", pos)
        if percent < 0:
            out.append(template[pos:])
            break
        out.append(template[pos:percent])
        pos = _directive(template, percent + 1, args, out)
    if not args.reordered and args.next < len(values):
        extra = ", ".join(
            "<nil>" if value is None else f"{type_name(value)}={show(value)}" for value in values[args.next :]
        )
        out.append(f"%!(EXTRA {extra})")
    return "".join(out)


def _directive(template: str, pos: int, args: _Args, out: list[str]) -> int:
    match = re.compile(r"[+\-# 0]*").match(template, pos)
    flags = match[0] if match else ""
    spec = Spec(flags=flags)
    pos += len(flags)
    args.bad = False
    pos = args.index(template, pos)
    if template.startswith("*", pos):
        pos += 1
        spec.width = args.take_int()
        if spec.width is None:
            out.append("%!(BADWIDTH)")
        elif spec.width < 0:
            spec.width, spec.flags = -spec.width, spec.flags + "-"
    elif number := _WIDTH.match(template, pos):
        pos = number.end()
        spec.width = int(number[0]) if int(number[0]) <= MAX_WIDTH else None
    if template.startswith(".", pos):
        pos = args.index(template, pos + 1)
        if template.startswith("*", pos):
            pos += 1
            spec.precision = args.take_int()
            if spec.precision is None or spec.precision < 0:
                spec.precision = None
                out.append("%!(BADPREC)")
        elif number := _WIDTH.match(template, pos):
            pos = number.end()
            spec.precision = min(int(number[0]), MAX_WIDTH)
        else:
            spec.precision = 0
    pos = args.index(template, pos)
    if pos >= len(template):
        out.append("%!(NOVERB)")
        return pos
    spec.verb = template[pos]
    pos += 1
    if spec.verb == "%":
        out.append("%")
    elif args.bad:
        out.append(f"%!{spec.verb}(BADINDEX)")
    elif args.next >= len(args.values):
        out.append(f"%!{spec.verb}(MISSING)")
    else:
        out.append(format_one(args.values[args.next], spec))
        args.next += 1
    return pos


def format_one(value: Any, spec: Spec) -> str:
    """One value under one conversion."""
    if value is TYPED_NIL:
        value = None
    if spec.verb == "T":
        return _pad(type_name(value), spec)
    if value is None:
        return _pad("<nil>", spec) if spec.verb == "v" else f"%!{spec.verb}(<nil>)"
    if spec.verb == "p":
        return _bad(value, spec)
    if isinstance(value, bool):
        return _pad("true" if value else "false", spec) if spec.verb in "tv" else _bad(value, spec)
    if isinstance(value, int):
        return _integer(value, spec)
    if isinstance(value, float):
        return _float(value, spec)
    if isinstance(value, complex):
        return f"({_float(value.real, spec)}{_float(value.imag, Spec(spec.verb, spec.flags + '+'))}i)"
    if isinstance(value, str):
        return _string(value, spec)
    return _composite(value, spec)


def _bad(value: Any, spec: Spec) -> str:
    return f"%!{spec.verb}({type_name(value)}={show(value)})"


def _pad(text: str, spec: Spec, *, zero: bool = False) -> str:
    if spec.width is None or len(text) >= spec.width:
        return text
    if spec.has("-"):
        return text.ljust(spec.width)
    if zero and spec.has("0"):
        sign = text[0] if text[:1] in {"+", "-", " "} else ""
        return sign + text[len(sign) :].rjust(spec.width - len(sign), "0")
    return text.rjust(spec.width)


def _integer(value: int, spec: Spec) -> str:
    verb = spec.verb
    sharp = spec.has("#")
    size = abs(value)
    match verb:
        case "d" | "v":
            digits = str(size)
        case "b":
            digits = ("0b" if sharp else "") + f"{size:b}"
        case "o":
            digits = ("0" if sharp else "") + f"{size:o}"
        case "O":
            digits = f"0o{size:o}"
        case "x":
            digits = ("0x" if sharp else "") + f"{size:x}"
        case "X":
            digits = ("0X" if sharp else "") + f"{size:X}"
        case "c":
            return _pad(_rune(value), spec)
        case "q":
            return _pad(quote(_rune(value), "'", ascii_only=spec.has("+")), spec)
        case "U":
            shown = f" '{chr(value)}'" if sharp and 0 <= value < 0x110000 and chr(value).isprintable() else ""
            return _pad(f"U+{size:04X}{shown}", spec)
        case _:
            return _bad(value, spec)
    if spec.precision is not None:
        digits = "" if spec.precision == 0 and value == 0 else digits.rjust(spec.precision, "0")
    sign = "-" if value < 0 else "+" if spec.has("+") else " " if spec.has(" ") else ""
    return _pad(sign + digits, spec, zero=spec.precision is None)


def _rune(value: int) -> str:
    valid = 0 <= value < 0x110000 and not 0xD800 <= value < 0xE000
    return chr(value) if valid else "�"


def _float(value: float, spec: Spec) -> str:
    verb = spec.verb
    if verb == "b":
        mantissa, exponent = math.frexp(abs(value))
        text = f"{int(mantissa * 2**53)}p{exponent - 53:+d}"
    elif verb in "eE" or verb in "fF":
        text = f"{abs(value):.{6 if spec.precision is None else spec.precision}{verb}}"
    elif verb in "gGv":
        text = general(abs(value), spec.precision)
        text = text.upper() if verb == "G" else text
    elif verb in "xX":
        text = float.hex(abs(value))
    else:
        return _bad(value, spec)
    if math.isinf(value):
        sign = "-" if value < 0 else "+"
        return _pad(sign + "Inf", spec)
    if math.isnan(value):
        return _pad("NaN", spec)
    negative = math.copysign(1, value) < 0
    sign = "-" if negative else "+" if spec.has("+") else " " if spec.has(" ") else ""
    return _pad(sign + text, spec, zero=True)


def general(value: float, precision: int | None = None) -> str:
    """Go's %g of a non-negative float: shortest digits, an exponent below 1e-04 and from 1e+06 on."""
    if math.isinf(value) or math.isnan(value):
        return ""
    if precision is not None:
        return f"{value:.{precision}g}"
    shortest = repr(value)
    if "e" in shortest:
        mantissa, _, exponent_text = shortest.partition("e")
        digits = mantissa.replace(".", "")
        exponent = int(exponent_text)
    else:
        whole, _, fraction = shortest.partition(".")
        fraction = "" if fraction == "0" else fraction
        digits = (whole + fraction).lstrip("0")
        if whole != "0":
            exponent = len(whole) - 1
        else:
            exponent = -(len(fraction) - len(fraction.lstrip("0")) + 1) if fraction else 0
    digits = digits.rstrip("0") or "0"
    limit = 6  # strconv: shortest %g switches to an exponent from 1e+06 on
    if exponent < -4 or exponent >= limit:
        return digits[0] + ("." + digits[1:] if len(digits) > 1 else "") + f"e{exponent:+03d}"
    if exponent < 0:
        return "0." + "0" * (-exponent - 1) + digits
    whole = digits[: exponent + 1].ljust(exponent + 1, "0")
    return whole + ("." + digits[exponent + 1 :] if len(digits) > exponent + 1 else "")


def _string(value: str, spec: Spec) -> str:
    match spec.verb:
        case "v" if spec.has("#"):
            return _pad(quote(value), spec)
        case "v" | "s":
            return _pad(value if spec.precision is None else value[: spec.precision], spec, zero=True)
        case "q":
            text = value if spec.precision is None else value[: spec.precision]
            if spec.has("#") and "`" not in text and text.isprintable():
                return _pad(f"`{text}`", spec)
            return _pad(quote(text, ascii_only=spec.has("+")), spec)
        case "x" | "X":
            raw = value.encode("utf-8", "surrogateescape")
            raw = raw if spec.precision is None else raw[: spec.precision]
            pairs = [f"{byte:02{spec.verb}}" for byte in raw]
            prefix = "0" + spec.verb if spec.has("#") else ""
            separator = " " if spec.has(" ") else ""
            text = (
                separator.join(prefix + pair for pair in pairs) if separator else prefix * bool(pairs) + "".join(pairs)
            )
            return _pad(text, spec)
        case _:
            return _bad(value, spec)


def _composite(value: Any, spec: Spec) -> str:
    sharp = spec.verb == "v" and spec.has("#")
    if isinstance(value, Mapping):
        items = [f"{format_one(key, spec)}:{format_one(item, spec)}" for key, item in sorted(value.items())]
        return f"{type_name(value)}{{{', '.join(items)}}}" if sharp else f"map[{' '.join(items)}]"
    if isinstance(value, (list, tuple)):
        items = [format_one(item, spec) for item in value]
        return f"{type_name(value)}{{{', '.join(items)}}}" if sharp else f"[{' '.join(items)}]"
    if isinstance(value, Struct):
        shown = [(name, format_one(value.get(name), spec)) for name in value.names()]
        if sharp:
            return f"{value.type_name}{{{', '.join(f'{name}:{text}' for name, text in shown)}}}"
        named = spec.verb == "v" and spec.has("+")
        return "{" + " ".join(f"{name}:{text}" if named else text for name, text in shown) + "}"
    return _pad(str(value), spec)
