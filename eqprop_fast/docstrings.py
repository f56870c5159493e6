"""Each parameter is documented once: in the class that brings it, for all that inherit it."""

from __future__ import annotations

import inspect
import re

_SECTION = re.compile(r"^(\w[\w ]*)\n-{3,}\n", re.MULTILINE)
_ENTRY = re.compile(r"^\S.*\n(?:(?: .*)?\n)*", re.MULTILINE)


def documented(cls):
    """Class decorator: fill in the sections Parameters and Attributes of the docstring.

    Parameters come in the order of the constructor, with its defaults; the text of each is that of
    the nearest class, among `cls` and its bases, whose docstring has it. Attributes are those of
    the bases, then the class's own.

    Raises
    ------
    TypeError
        A parameter that no docstring has.
    """
    if cls.__doc__ is None:  # python -OO
        return cls
    documents = [_sections(base) for base in cls.__mro__ if base.__module__.startswith(__package__)]
    head, own = documents[0]
    texts = {}
    for _, sections in documents:
        for names, text in _entries(sections.get("Parameters", "")):
            for name in names:
                texts.setdefault(name, (names, text))
    parameters = _in_order(cls, texts)
    sections = {"Parameters": parameters} if parameters else {}
    attributes = "".join(s.get("Attributes", "") for _, s in reversed(documents))
    if attributes:
        sections["Attributes"] = attributes
    sections.update({title: text for title, text in own.items() if title not in sections})
    parts = [f"{title}\n{'-' * len(title)}\n{text.strip()}\n" for title, text in sections.items()]
    cls.__doc__ = "\n".join([head.strip() + "\n", *parts])
    return cls


def _sections(cls):
    """What stands before the first section, and {title: text}."""
    head, *rest = _SECTION.split(inspect.cleandoc(cls.__dict__.get("__doc__") or "") + "\n")
    return head, dict(zip(rest[::2], rest[1::2]))


def _entries(text):
    """(names, text) of each entry of a section."""
    for entry in _ENTRY.findall(text):
        yield entry.partition(" : ")[0].split(", "), entry.rstrip() + "\n"


def _in_order(cls, texts):
    defaults = {p.name: p.default for p in inspect.signature(cls).parameters.values()}
    written, lines = set(), []
    for name in defaults:
        if name not in texts:
            raise TypeError(f"{cls.__name__}: no docstring has the parameter {name!r}")
        if name in written:
            continue
        names, text = texts[name]
        written.update(names)
        first, _, rest = text.partition("\n")
        values = [_written(defaults[n]) for n in names if defaults[n] is not inspect._empty]
        default = f", default={', '.join(values)}" if values else ""
        lines.append(f"{first}{default}\n{rest}")
    return "".join(lines)


def _written(default):
    return f'"{default}"' if isinstance(default, str) else repr(default)
