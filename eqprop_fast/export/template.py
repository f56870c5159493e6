"""Text of the runtime for one network: its conditions resolved, its names and tables put in."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

_CONDITION = re.compile(r"NET_\w+")


_INCLUDE = re.compile(r'^#include "(\w+\.c)"$', flags=re.M)


def runtime_text(name):
    """A file of csrc/embedded, with what it includes; an installed package has it beside this one."""
    here = Path(__file__).parent
    for folder in (here, here.parents[1] / "csrc" / "embedded"):
        if (folder / name).exists():
            text = (folder / name).read_text(encoding="utf-8")
            return _INCLUDE.sub(lambda match: runtime_text(match[1]), text)
    raise FileNotFoundError(f"{name} is missing: reinstall eqprop_fast")


def resolve(text, flags):
    """`text` without its ``#if NET_...`` lines and without what they exclude.

    Only lines ``#if`` over names of `flags` (with ``!``, ``&&``, ``||``) and their ``#else``,
    ``#endif`` are taken; all others stay.
    """
    lines, stack = [], []  # of each open condition: (ours, taken)
    for line in text.splitlines():
        words = line.split(None, 1)
        first = words[0] if words else ""
        if first in ("#if", "#ifdef", "#ifndef"):
            ours = first == "#if" and "NET_" in line
            stack.append([ours, _truth(words[1], flags) if ours else True])
            keep = not ours
        elif first == "#else" and stack[-1][0]:
            stack[-1][1] = not stack[-1][1]
            keep = False
        elif first == "#endif":
            keep = not stack.pop()[0]
        else:
            keep = True
        if keep and all(taken for _, taken in stack):
            lines.append(line)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines) + "\n")


def _truth(condition, flags):
    text = condition.split("/*")[0]
    text = _CONDITION.sub(lambda match: f" {bool(flags[match[0]])} ", text)
    text = text.replace("&&", " and ").replace("||", " or ").replace("!", " not ")
    if not re.fullmatch(r"[\s()]*((True|False|and|or|not)[\s()]*)+", text):
        raise ValueError(f"runtime: condition {condition!r}")
    return eval(text, {"__builtins__": {}})  # nothing but True, False, and, or, not


def macro_prefix(name):
    """`name` in capitals; one with capitals keeps them, and one of capitals only turns small, so
    that no two names have the same macros: digits, Digits and DIGITS have DIGITS_, Digits_, digits_.
    """
    if name.islower():
        return name.upper()
    return name.lower() if name.isupper() else name


def rename(text, name):
    """The prefix of all symbols and macros: net_ and NET_ become those of `name`."""
    text = re.sub(r"\bNET_", f"{macro_prefix(name)}_", text)
    return re.sub(r"\bnet_", f"{name}_", text)


def fill(text, values):
    """Put `values` where ``@KEY@`` or ``/* @KEY@ */`` stands; a key without a value is an error."""
    keys = r"/\* @([A-Z]+)@ \*/|@([A-Z]+)@"
    return re.sub(keys, lambda match: values[match[1] or match[2]], text)


def table(values, width=98, indent="    "):
    """Values, comma-separated, in lines of at most `width` characters."""
    lines, line = [], indent
    for value in values:
        if len(line) + len(value) + 1 > width:
            lines.append(line.rstrip())
            line = indent
        line += value + ", "
    return "\n".join([*lines, line.rstrip().rstrip(",")])


def c_float(value):
    """A number as the float32 constant that reads back to the same bits.

    Raises
    ------
    ValueError
        C has no constant for it.
    """
    with np.errstate(over="ignore"):
        single = np.float32(value)
    if not np.isfinite(single):
        raise ValueError(f"a number of the network is {single} in float32: it cannot be exported")
    text = f"{float(single):.9g}"
    return text + ("f" if any(c in text for c in ".e") else ".0f")


def c_string(text):
    """A C string constant; what is not printable ASCII in octal, at most three digits."""
    safe = []
    for byte in str(text).encode("utf-8"):
        char = chr(byte)
        plain = 32 <= byte < 127 and char not in '"\\?'
        safe.append(char if plain else f"\\{byte:03o}")
    return '"' + "".join(safe) + '"'
