"""The faults: what may be changed where. Patterns over text, so that C, NumPy and Numba share one
list.
"""

import ast
import io
import re
import tokenize
from dataclasses import dataclass

NAME = r"[A-Za-z_]\w*(?:(?:->|\.)\w+|\[[\w +*-]*\])*"
VALUE = rf"(?:{NAME}|\d[\w.]*)"

# operator: [(pattern, replacements)]; a replacement is a template of the match
OPERATORS = {
    "relation": [
        (r"(?<= )<(?= )", ["<="]),
        (r"(?<= )<=(?= )", ["<"]),
        (r"(?<= )>(?= )", [">="]),
        (r"(?<= )>=(?= )", [">"]),
        (r"(?<= )==(?= )", ["!="]),
        (r"(?<= )!=(?= )", ["=="]),
    ],
    "arithmetic": [
        (r"(?<=[\w)\]] )\+(?= [\w(\-&])", ["-"]),
        (r"(?<=[\w)\]] )-(?= [\w(\-&])", ["+"]),
        (r"(?<=[\w)\]] )\*(?= [\w(\-])", ["/"]),
        (r"(?<=[\w)\]] )/(?= [\w(\-])", ["*"]),
        (r"\bvadd(?=\()", ["vsub"]),
        (r"\bvsub(?=\()", ["vadd"]),
        (r"\bvfma(?=\()", ["vfnma"]),
        (r"\bvfnma(?=\()", ["vfma"]),
    ],
    "assignment": [
        (r"(?<= )\+=(?= )", ["-=", "="]),
        (r"(?<= )-=(?= )", ["+=", "="]),
        (r"(?<= )\*=(?= )", ["/=", "="]),
        (r"(?<= )(?:\||&)=(?= )", ["="]),
    ],
    "logic": [
        (r"&&", ["||"]),
        (r"\|\|", ["&&"]),
        (r"\band\b", ["or"]),
        (r"\bor\b", ["and"]),
        (r"!(?=[A-Za-z_(])|\bnot (?=\w)", [""]),
    ],
    "constant": [
        (r"(?<![\w.])0(?![\w.])", ["1"]),
        (r"(?<![\w.])1(?![\w.])", ["0", "2"]),
        (r"(?<![\w.])(?![01](?![\w.]))(\d+)(?![\w.])", [r"(\1 + 1)", r"(\1 - 1)"]),
        (r"(?<![\w.])0\.0(?![\w.])", ["1.0"]),
        (r"(?<![\w.])(?!0\.0(?!\w))(\d+\.\d*(?:e[+-]?\d+)?)(?![\w.])", [r"(2 * \1)", r"(\1 / 2)"]),
        (r"\bTrue\b", ["False"]),
        (r"\bFalse\b", ["True"]),
    ],
    "bound": [
        (rf"(?<=[<>] )({VALUE})(?=;)", [r"\1 - 1", r"\1 + 1"]),
        (rf"\brange\(({VALUE})\)", [r"range(\1 - 1)", r"range(1, \1)"]),
        (rf"\brange\(({VALUE}), ({VALUE})\)", [r"range(\1 + 1, \2)", r"range(\1, \2 - 1)"]),
        (rf"\[({VALUE}) ?: ?({VALUE})\]", [r"[\1 + 1 : \2]", r"[\1 : \2 - 1]"]),
    ],
    "sign": [
        (
            rf"(?<![\w.>-])(?<!real )(?<!double )((?:{NAME}(?:->|\.))?\w*beta)\b(?=[;),\]]| [*/+-])",
            [r"(-\1)"],
        ),
        (r"(?<=[(=,?:] )-(?=[\w(])|(?<=[(\[])-(?=[A-Za-z_(])", [""]),
    ],
    "factor": [
        (rf" \* {VALUE}(?=[;,)\]\n ])", [""]),
        (rf" / {VALUE}(?=[;,)\]\n ])", [""]),
        (rf"\bvmul\(({NAME}), ({NAME})\)", [r"\1", r"\2"]),
        (rf"\bvfma\({NAME}, {NAME}, ({NAME})\)", [r"\1"]),
    ],
    "arguments": [
        (rf"(?<=[\w)])\(({VALUE}), ({VALUE})(?=[,)])", [r"(\2, \1"]),
        (rf"(?<=, )({VALUE}), ({VALUE})(?=\))", [r"\2, \1"]),
    ],
    "choice": [
        (rf"\? ({VALUE}) : ({VALUE})", [r"? \2 : \1"]),
        (r"(?<= )if (?!not )([^\n:]+?) else\b", [r"if not (\1) else"]),
        (
            r"(?<= )(?:el)?if (?!\()(?!not )([^\n]+?):(?=\s*\n)",
            [r"if not (\1):", "if False:", "if True:"],
        ),
        (r"\bbreak\b", ["continue"]),
        (r"\bcontinue\b", ["break"]),
    ],
    "extreme": [
        (r"\b(?:fabsf?|vabs|np\.abs|abs)(?=\()", [""]),
        (r"\bvmaxr(?=\()", ["vminr"]),
        (r"\bvminr(?=\()", ["vmaxr"]),
        (r"\bmaximum(?=\()", ["minimum"]),
        (r"\bminimum(?=\()", ["maximum"]),
        (r"\b(fmax|max)(?=\()", ["min"]),
        (r"\b(fmin|min)(?=\()", ["max"]),
        (r"\.all\(", [".any("]),
        (r"\.any\(", [".all("]),
    ],
}
C_MASK = re.compile(
    r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'"
    r"|^[ \t]*#[ \t]*(?:include|if|elif|else|endif|undef|error|pragma)[^\n]*",
    re.S | re.M,
)
C_STATEMENT = re.compile(
    r"(?<=\n)([ \t]+)((?!const |return\b|for |else\b|static )[*A-Za-z_(][^\n{}]*);(?=[ \t]*\n)"
)
C_IF = re.compile(r"\bif \(")


@dataclass(frozen=True)
class Mutant:
    """`new` in place of [start, end) of the file at `path`."""

    path: str
    start: int
    end: int
    new: str
    operator: str

    def applied(self, text):
        return text[: self.start] + self.new + text[self.end :]

    def lines(self, text):
        """What names it wherever it moves to: the line above, the lines it touches, what they
        become.
        """
        first, last = text.rfind("\n", 0, self.start) + 1, text.find("\n", self.end)
        last = len(text) if last < 0 else last
        above = text[:first].rstrip().rpartition("\n")[2]
        after = text[first : self.start] + self.new + text[self.end : last]
        return tuple(" ".join(part.split()) for part in (above, text[first:last], after))


def _blank(text):
    return re.sub(r"[^\n]", " ", text)


def _mask_python(text):
    """Comments, strings, imports, signatures and decorators blanked."""
    lines, spans = text.splitlines(keepends=True), []
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    depth = opened = 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        begin, end = (
            starts[token.start[0] - 1] + token.start[1],
            starts[token.end[0] - 1] + token.end[1],
        )
        kind = tokenize.tok_name[token.type]
        if kind == "FSTRING_START":
            depth, opened = depth + 1, begin if depth == 0 else opened
        elif kind == "FSTRING_END":
            depth -= 1
            if depth == 0:
                spans.append((opened, end))
        elif kind in ("COMMENT", "STRING"):
            spans.append((begin, end))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            spans.append((starts[node.lineno - 1], starts[node.end_lineno]))
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            spans.append((starts[first - 1], starts[node.body[0].lineno - 1]))
    for begin, end in sorted(spans):
        text = text[:begin] + _blank(text[begin:end]) + text[end:]
    return text


def _dropped_python(text):
    """Spans of calls, augmented assignments, raises, and assignments to a part of something."""
    starts, at = [], 0
    for line in text.splitlines(keepends=True):
        starts.append((at, line))
        at += len(line)

    def offset(line, column):  # ast counts bytes
        begin, content = starts[line - 1]
        return begin + len(content.encode()[:column].decode())

    for node in ast.walk(ast.parse(text)):
        call = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
        part = isinstance(node, ast.Assign) and isinstance(
            node.targets[0], (ast.Subscript, ast.Attribute)
        )
        if call or part or isinstance(node, (ast.AugAssign, ast.Raise)):
            yield offset(node.lineno, node.col_offset), offset(node.end_lineno, node.end_col_offset)


def _closing(text, at):
    """Where the bracket opened at `at` closes."""
    depth = 0
    for i in range(at, len(text)):
        depth += {"(": 1, ")": -1}.get(text[i], 0)
        if depth == 0:
            return i
    return at


def candidates(path, text):
    """Every mutant of a file, {operator: [Mutant]}."""
    python = path.endswith(".py")
    shown = _mask_python(text) if python else C_MASK.sub(lambda m: _blank(m.group()), text)
    found = {}

    def add(start, end, new, operator):
        if text[start:end] != new:
            found.setdefault(operator, []).append(Mutant(path, start, end, new, operator))

    for operator, rules in OPERATORS.items():
        for pattern, replacements in rules:
            for match in re.finditer(pattern, shown):
                original = text[match.start() : match.end()]
                for replacement in replacements:
                    if shown[match.start() : match.end()] == original:
                        add(match.start(), match.end(), match.expand(replacement), operator)
    if python:
        for start, end in _dropped_python(text):
            add(start, end, "pass", "statement")
        return found
    for match in C_STATEMENT.finditer(shown):
        if match.group(2).count("(") == match.group(2).count(")"):
            add(match.start(2), match.end(2), "", "statement")
    for match in C_IF.finditer(shown):
        begin, end = match.end() - 1, _closing(shown, match.end() - 1)
        condition = text[begin : end + 1]
        for new in (f"(!{condition})", f"(0 && {condition})", f"(1 || {condition})"):
            add(begin, end + 1, new, "choice")
    return found


def changes_python(before, after):
    """Whether two sources differ in more than layout; None if the second is no Python."""
    try:
        return ast.dump(ast.parse(before)) != ast.dump(ast.parse(after))
    except SyntaxError:
        return None
