"""The lexical side of SPICE: logical lines, numbers with suffixes, parameter expressions (no
`eval`).
"""

import math
import re
from dataclasses import dataclass

from .errors import CircuitError

_NUMBER = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)([a-z]*)", re.ASCII)
_SUFFIXES = (
    ("meg", 1e6),
    ("mil", 25.4e-6),
    ("t", 1e12),
    ("g", 1e9),
    ("k", 1e3),
    ("m", 1e-3),
    ("u", 1e-6),
    ("n", 1e-9),
    ("p", 1e-12),
    ("f", 1e-15),
)
_TOKEN = re.compile(
    r"\s*((?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?[a-z]*|[a-z_][\w.]*|\*\*|[-+*/^(),])", re.ASCII
)
_FUNCTIONS = {
    "sqrt": (1, math.sqrt),
    "exp": (1, math.exp),
    "ln": (1, math.log),
    "log": (1, math.log),
    "log10": (1, math.log10),
    "abs": (1, abs),
    "min": (2, min),
    "max": (2, max),
    "pow": (2, pow),
    "sin": (1, math.sin),
    "cos": (1, math.cos),
    "tanh": (1, math.tanh),
    "int": (1, math.trunc),
}
BUILT_IN = ("temper", "time", "hertz")  # of ngspice, whatever .param says
MAX_NESTING = 40


def number(text):
    """A SPICE number such as 4.7k, 10meg, 1e-3, 22pF, 5Amps; ValueError if not one.

    Letters after the suffix, and letters that are no suffix, are units. There is no atto, as in
    ngspice.
    """
    match = _NUMBER.fullmatch(text)
    if not match:
        raise ValueError(f"expected a number, got {text[:40]!r}")
    value, letters = float(match[1]), match[2]
    for suffix, scale in _SUFFIXES:
        if letters.startswith(suffix):
            value *= scale
            break
    if not math.isfinite(value):
        raise ValueError(f"number {text[:40]!r} is too large")
    return value


def _number_in_expression(text):
    """As `number`; but there ngspice reads `mil` as milli, so it is refused."""
    if text.lstrip("0123456789.e+-").startswith("mil"):
        raise ValueError(
            f"unexpected suffix 'mil' in {text[:40]!r}: in .param and expressions ngspice reads it as milli, "
            "elsewhere as 25.4e-6; write the power of ten"
        )
    return number(text)


def evaluate(text, names):
    """Value of an expression: numbers, names, + - * / ** ^, parentheses, functions; ValueError says
    what is wrong.
    """
    tokens, at = [], 0
    text = text.strip().lower()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if not match:
            raise ValueError(f"unexpected {text[at : at + 10]!r} in expression {text[:60]!r}")
        tokens.append(match[1])
        at = match.end()
    parser = _Parser(tokens, names, text)
    try:
        value = float(parser.sum(0))
    except CircuitError:  # of another parameter's definition
        raise
    except (ArithmeticError, TypeError, ValueError) as error:
        if str(error).startswith(("expected", "unknown", "unexpected", "expression")):
            raise
        raise ValueError(f"expression {text[:60]!r} has no value ({error})") from None
    if parser.at < len(tokens):
        raise ValueError(f"unexpected {tokens[parser.at]!r} in expression {text[:60]!r}")
    if not math.isfinite(value):
        raise ValueError(f"expression {text[:60]!r} is not finite")
    return value


class _Parser:
    """Recursive descent over tokens: sum > product > power > operand, as ngspice 39 computes.

    Powers associate to the left and are those of |base|. A sign at the beginning (of an expression, of what
    stands in parentheses, of an argument) is that of the first product; "-" after an operator
    belongs to the number that follows, and before anything else ngspice errs or misplaces it, so it
    is refused.
    """

    def __init__(self, tokens, names, text):
        self.tokens, self.names, self.text, self.at = tokens, names, text, 0

    def peek(self):
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self):
        token = self.peek()
        self.at += 1
        return token

    def sum(self, depth):
        if depth > MAX_NESTING:
            raise ValueError(f"expression {self.text[:60]!r} is nested too deeply")
        value = 0.0 if self.peek() in ("+", "-") else self.product(depth)
        while self.peek() in ("+", "-"):
            value = (
                value + self.product(depth) if self.take() == "+" else value - self.product(depth)
            )
        return value

    def product(self, depth):
        value = self.power(depth)
        while self.peek() in ("*", "/"):
            value = value * self.power(depth) if self.take() == "*" else value / self.power(depth)
        return value

    def power(self, depth):
        value = self.operand(depth)
        while self.peek() in ("**", "^"):
            self.take()
            value = math.pow(abs(value), self.operand(depth))
        return value

    def operand(self, depth):
        if self.peek() not in ("+", "-"):
            return self.atom(depth)
        sign = self.take()
        if sign == "+" or not self.peek()[:1].isdigit() and self.peek()[:1] != ".":
            raise ValueError(
                f"unexpected sign {sign!r} after an operator in expression {self.text[:60]!r} "
                "(ngspice takes there only '-' before a number): put parentheses around the signed part"
            )
        return -_number_in_expression(self.take())

    def atom(self, depth):
        token = self.take()
        if token == "(":
            value = self.sum(depth + 1)
            self.expect(")")
            return value
        if token in _FUNCTIONS and self.peek() == "(":
            count, function = _FUNCTIONS[token]
            self.take()
            arguments = [self.sum(depth + 1)]
            while self.peek() == ",":
                self.take()
                arguments.append(self.sum(depth + 1))
            self.expect(")")
            if len(arguments) != count:
                raise ValueError(f"expected {count} arguments of {token}, got {len(arguments)}")
            return float(function(*arguments))
        if token and (token[0].isdigit() or token[0] == "."):
            return _number_in_expression(token)
        if token and (token[0].isalpha() or token[0] == "_"):
            if token not in self.names:
                raise ValueError(f"unknown parameter {token!r}")
            return self.names[token]
        raise ValueError(
            f"expected a number or a name, got {token or 'the end'!r} in expression {self.text[:60]!r}"
        )

    def expect(self, token):
        if self.take() != token:
            raise ValueError(f"expected {token!r} in expression {self.text[:60]!r}")


def value_of(text, names, read=number):
    """Value of one field: a number, or an expression in braces or quotes, or a parameter's name."""
    if len(text) >= 2 and (text[0] + text[-1]) in ("{}", "''"):
        return evaluate(text[1:-1], names)
    if text in names:
        return names[text]
    return read(text)


class Scope:
    """Parameters by name, each evaluated when first asked for: the order of definitions does not
    matter.

    A name that its own definition uses is that of the scope outside, as in ngspice.

    Parameters
    ----------
    definitions : dict of name -> (text, line)
    outside : mapping of name -> value
    fail : callable (line, message)
        Raises the error of a definition without a value.
    """

    def __init__(self, definitions, outside, fail):
        self._texts, self._outside, self._fail = definitions, outside, fail
        self._values, self._open = {}, []
        for name, (_, line) in definitions.items():
            if name in BUILT_IN or not (name[0].isalpha() or name[0] == "_"):
                fail(line, f"expected a parameter name of your own, got {name!r}")
        for name in definitions:
            self[name]

    def __contains__(self, name):
        return (name in self._texts and name not in self._open[-1:]) or name in self._outside

    def __getitem__(self, name):
        if name in self._values:
            return self._values[name]
        if name not in self._texts or name in self._open[-1:]:
            return self._outside[name]
        text, line = self._texts[name]
        if name in self._open:
            circle = " -> ".join([*self._open[self._open.index(name) :], name])
            self._fail(line, f"parameters that need one another: {circle}")
        if len(self._open) >= MAX_NESTING:
            self._fail(line, f"parameters need one another more than {MAX_NESTING} deep")
        self._open.append(name)
        try:
            self._values[name] = value_of(text, self, _number_in_expression)
        except CircuitError:
            raise
        except ValueError as error:
            self._fail(line, str(error))
        except RecursionError:
            self._fail(line, f"parameter {name!r} is nested too deeply")
        finally:
            self._open.pop()
        return self._values[name]


_COMMENT = re.compile(r";|//|(?<=[ \t,])\$")
_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


@dataclass
class Line:
    """A logical line: comments gone, continuations joined, ASCII letters in lower case.

    Attributes
    ----------
    number : int
        Of the physical line it begins on, from 1.
    text : str
        The card; "" for a `*@` comment line.
    note : str
        What stands after `; @` on a card, or after `*@`.
    """

    number: int
    text: str
    note: str

    def __post_init__(self):
        self.word = self.text.split(None, 1)[0] if self.text else ""


def logical_lines(text):
    """The `Line`s of a text after its title; ValueError((line number, message))."""
    out, card = [], None  # [number, parts of the card, note]; the last one that is a card
    for k, raw in enumerate(text.split("\n"), start=1):
        line = raw.removesuffix("\r").strip(" \t")
        if k == 1 or not line:
            continue
        if line.startswith("*@"):
            out.append([k, [], line[2:].strip(" \t")])
            _printable(k, line)
        if line[0] == "*":
            continue
        note = ""
        comment = _COMMENT.search(line)
        if comment:
            after = line[comment.end() :].lstrip(" \t")
            if comment[0] == ";" and after.startswith("@"):
                note = after[1:].strip(" \t")
                _printable(k, note)
            line = line[: comment.start()].rstrip(" \t")
        if not line:
            if note:
                raise ValueError((k, "expected a card before '; @'"))
            continue
        _printable(k, line)
        line = line.lower() if line.isascii() else line.translate(_LOWER)
        if line[0] != "+":
            card = [k, [line], note]
            out.append(card)
            continue
        if card is None:
            raise ValueError((k, "expected a card before this continuation line"))
        card[1].append(line[1:])
        if note and card[2]:
            raise ValueError((k, "one card has two '; @' annotations"))
        card[2] = card[2] or note
    return [Line(k, " ".join(parts), note) for k, parts, note in out]


def _printable(k, text):
    bad = (
        ""
        if text.isprintable()
        else next((c for c in text if c != "\t" and not c.isprintable()), "")
    )
    if bad:
        raise ValueError((k, f"unexpected character {bad!r} (or text that is not UTF-8)"))


_FIELD = re.compile(r"\{[^{}]*\}|'[^']*'|[=(),{}']|[^\s=(),{}']+", re.ASCII)
_SEPARATORS = " \t,="


def fields(card, calls=()):
    """Fields of a card: words, expressions in braces or quotes kept whole, "=" alone.

    Commas are dropped, and so are brackets, which must match; those behind a word of `calls` are
    fields. Elsewhere a bracket that follows a word directly, as in `poly(1)`, is an error: it would
    be a function.
    """
    out, kept, last = [], [], 0  # kept: of every open bracket, whether it is a field
    for match in _FIELD.finditer(card):
        field, before = match[0], card[match.start() - 1 : match.start()]
        if field in ("{", "}", "'"):
            raise ValueError(f"expected a matching {field!r}")
        if field[0] in "{'(" and before and before not in _SEPARATORS + "(":
            if field != "(" or not out or out[-1] not in calls or before == ")":
                raise ValueError(f"unexpected {field[0]!r} after {card[last : match.start()]!r}")
        if field[0] not in "=,()" and before and before in "})'":
            raise ValueError(f"unexpected {field[:40]!r} after {before!r}")
        if field == "(":
            kept.append(bool(out) and out[-1] in calls)
            if kept[-1]:
                out.append(field)
        elif field == ")":
            if not kept or before == "(":
                raise ValueError("unmatched ')'" if not kept else "unexpected '()'")
            if kept.pop():
                out.append(field)
        elif field != ",":
            out.append(field)
        last = match.start()
    if kept:
        raise ValueError("unmatched '('")
    return out


def assignments(words):
    """Leading words and the dictionary of the name=value pairs that follow."""
    plain, pairs, k = [], {}, 0
    while k < len(words):
        if k + 1 < len(words) and words[k + 1] == "=":
            if k + 2 >= len(words) or words[k] == "=" or words[k + 2] == "=":
                raise ValueError(f"expected a value after {words[k]!r} =")
            if words[k] in pairs:
                raise ValueError(f"{words[k]!r} is given twice")
            pairs[words[k]] = words[k + 2]
            k += 3
        elif words[k] == "=":
            raise ValueError("expected a name before '='")
        else:
            if pairs:
                raise ValueError(f"expected name=value, got {words[k]!r}")
            plain.append(words[k])
            k += 1
    return plain, pairs
