"""The mutation runner's faults (tests/mutation): where they apply, and that they are faults."""

import json
from pathlib import Path

import pytest

from .mutation.families import FAMILIES
from .mutation.operators import OPERATORS, candidates, changes_python

ROOT = Path(__file__).resolve().parent.parent
C = """
/* a < b stays */
static int f(const real *x, int n) {
    if (n < 1) return 0;
    for (int i = 0; i < n; i++) x[i] += beta * vmul(a, b);
    total(x, n);
    return x ? n : 1;
}
"""
PYTHON = '''
def f(x, n=1):
    """a < b stays"""
    if n <= 0:
        raise ValueError(f"{n + 1}")
    for i in range(n):
        x[i] = -beta * max(x, n)
    return x if n and x.all() else 2.5
'''


def outcomes(path, text):
    found = candidates(path, text)
    return {m.lines(text)[1:] for mutants in found.values() for m in mutants}


@pytest.mark.parametrize(
    "before, after",
    [
        ("if (n < 1) return 0;", "if (n <= 1) return 0;"),
        ("if (n < 1) return 0;", "if (!(n < 1)) return 0;"),
        (
            "for (int i = 0; i < n; i++) x[i] += beta * vmul(a, b);",
            "for (int i = 0; i < n - 1; i++) x[i] += beta * vmul(a, b);",
        ),
        (
            "for (int i = 0; i < n; i++) x[i] += beta * vmul(a, b);",
            "for (int i = 0; i < n; i++) x[i] += (-beta) * vmul(a, b);",
        ),
        (
            "for (int i = 0; i < n; i++) x[i] += beta * vmul(a, b);",
            "for (int i = 0; i < n; i++) x[i] += beta * a;",
        ),
        ("total(x, n);", ";"),
        ("total(x, n);", "total(n, x);"),
        ("return x ? n : 1;", "return x ? 1 : n;"),
    ],
)
def test_c(before, after):
    assert (before, after) in outcomes("a.c", C)


@pytest.mark.parametrize(
    "before, after",
    [
        ("if n <= 0:", "if n < 0:"),
        ("if n <= 0:", "if not (n <= 0):"),
        ('raise ValueError(f"{n + 1}")', "pass"),
        ("for i in range(n):", "for i in range(n - 1):"),
        ("x[i] = -beta * max(x, n)", "x[i] = beta * max(x, n)"),
        ("x[i] = -beta * max(x, n)", "x[i] = -beta * min(x, n)"),
        ("x[i] = -beta * max(x, n)", "pass"),
        ("return x if n and x.all() else 2.5", "return x if n or x.all() else 2.5"),
        ("return x if n and x.all() else 2.5", "return x if n and x.any() else 2.5"),
        ("return x if n and x.all() else 2.5", "return x if n and x.all() else (2 * 2.5)"),
    ],
)
def test_python(before, after):
    assert (before, after) in outcomes("a.py", PYTHON)


def test_words_are_left_alone():
    for path, text in (("a.c", C), ("a.py", PYTHON)):
        assert not [before for before, _ in outcomes(path, text) if "stays" in before]
    assert not [after for before, after in outcomes("a.py", PYTHON) if before.startswith("def ")]


@pytest.mark.parametrize("family", FAMILIES)
def test_family(family):
    """Its files and tests are there, every file offers something, and what is offered is a change."""
    for name in FAMILIES[family].tests:
        assert (ROOT / name).exists(), name
    seen = set()
    for patterns in FAMILIES[family].sources.values():
        for pattern in patterns:
            paths = list(ROOT.glob(pattern))
            assert paths, pattern
            text = paths[0].read_text()
            found = candidates(paths[0].name, text)
            seen |= set(found)
            for mutants in found.values():
                assert mutants[0].applied(text) != text
                if paths[0].suffix == ".py":
                    assert changes_python(text, mutants[0].applied(text)) is not False
    assert seen <= {*OPERATORS, "statement"} and len(seen) > 6


def test_named_mutants():
    """What they change is there, once, in a file of their family."""
    for row in json.loads((ROOT / "tests" / "mutation" / "named.json").read_text()):
        text = (ROOT / row["path"]).read_text()
        assert text.count(row["before"]) == 1 and row["after"] not in text, row
        patterns = sum(FAMILIES[row["family"]].sources.values(), [])
        assert any(ROOT / row["path"] in ROOT.glob(pattern) for pattern in patterns), row
