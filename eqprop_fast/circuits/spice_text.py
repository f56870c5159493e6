"""The lexical side of SPICE: logical lines, numbers with suffixes, parameter expressions (no `eval`)."""

import math
import re

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
_TOKEN = re.compile(r"\s*((?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?[a-z]*|[a-z_][\w.]*|\*\*|[-+*/^(),])", re.ASCII)
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
MAX_NESTING = 40


def number(text):
    """A SPICE number such as 4.7k, 10meg, 1e-3, 22pF, 5Amps; ValueError if not one.

    Letters after the suffix, and letters that are no suffix, are units. There is no atto, as in ngspice.
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


def evaluate(text, names):
    """Value of an expression: numbers, names, + - * / ** ^, parentheses, functions; ValueError says what is
    wrong.
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
    stands in parentheses, of an argument) is that of the first product; "-" after an operator belongs to the
    number that follows, and before anything else ngspice errs or misplaces it, so it is refused.
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
            value = value + self.product(depth) if self.take() == "+" else value - self.product(depth)
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
        return -number(self.take())

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
            return number(token)
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


def value_of(text, names):
    """Value of one field: a number, or an expression in braces or quotes, or a parameter's name."""
    if len(text) >= 2 and (text[0] + text[-1]) in ("{}", "''"):
        return evaluate(text[1:-1], names)
    if text in names:
        return names[text]
    return number(text)


class Scope:
    """Parameters by name, each evaluated when first asked for: the order of definitions does not matter.

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
            if not (name[0].isalpha() or name[0] == "_"):
                fail(line, f"expected a parameter name, got {name!r}")
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
            self._values[name] = value_of(text, self)
        except CircuitError:
            raise
        except ValueError as error:
            self._fail(line, str(error))
        except RecursionError:
            self._fail(line, f"parameter {name!r} is nested too deeply")
        finally:
            self._open.pop()
        return self._values[name]


def logical_lines(text):
    """(line number, card, annotation) triples: comments gone, continuations joined, lower case.

    The annotation is the text after `; @` on a card, or after `*@` on a comment line (card "").
    """
    out = []
    for k, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if k == 1 or not line:
            continue
        if line[0] == "*":
            if line.startswith("*@"):
                out.append([k, "", line[2:].strip()])
            continue
        annotation = ""
        if ";" in line:
            line, _, comment = line.partition(";")
            comment = comment.strip()
            annotation = comment[1:].strip() if comment.startswith("@") else ""
        line = re.split(r"\s\$", line, maxsplit=1)[0].strip().lower()
        if not line:
            continue
        if line[0] == "+":
            last = next((card for card in reversed(out) if card[1]), None)
            if last is None:
                raise ValueError((k, "expected a card before this continuation line"))
            last[1] += " " + line[1:]
            last[2] = last[2] or annotation
            continue
        out.append([k, line, annotation])
    return out


_FIELD = re.compile(r"\{[^}]*\}|'[^']*'|=|[^\s=,(){}']+|[(),{}']")


def fields(card):
    """Fields of a card: words, expressions in braces or quotes kept whole, "=" alone; commas and brackets
    dropped.
    """
    found = _FIELD.findall(card)
    for field in found:
        if field in ("{", "}", "'"):
            raise ValueError(f"expected a matching {field!r}")
    return [f for f in found if f not in ("(", ")", ",")]


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
