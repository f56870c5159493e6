"""One verdict on every backend: for the tests of calls that no estimator would make. They stand with
the other tests of a family, where its kernels have been compiled.
"""

import numpy as np
import pytest
from eqprop_fast.kernels.checks import TABLES

from .backend_list import BACKENDS
from .kernel_calls import abuses, arrays, make, taken, variant, verdict

# Whether the overflow of a sum is seen in the states may hang on the order of its terms: here a
# call that is taken and one that ends in an error with a name are the same.
EXTREME = ("NaN", "inf", "huge", "1e+308", "unaligned")
LOOSE = dict(rtol=1e-4, atol=1e-5, equal_nan=True)


def _check_taken(name, sparse):
    """The call itself is taken everywhere."""
    for backend in BACKENDS:
        assert verdict(name, backend, make(name, sparse))[0] == "taken"


def _judge(name, backend, call):
    try:
        return verdict(name, backend, call)
    except Exception as error:
        return "raised", f"{type(error).__name__}: {error}"


def _fault(name, path, label, calls, seen):
    """What is wrong with the verdicts `seen` of the backends on one abusive call, or None."""
    kinds, first = {kind for kind, _ in seen}, seen[0][1]
    if label.endswith(EXTREME) and kinds <= {"taken", "failed"}:
        return None
    if len(kinds) > 1 or "raised" in kinds:
        return dict(zip(BACKENDS, seen))
    if "refused" in kinds:
        names = {part for part in path if isinstance(part, str)} | {"learning_rule"}
        known = any(part in first for part in names) or first.startswith(tuple(TABLES[name]))
        return None if known else f"{first!r} names no argument"
    if "failed" in kinds:
        return None if len({what for _, what in seen}) == 1 else dict(zip(BACKENDS, seen))
    if path[0] == "plan" and name.startswith("nodal_head"):
        return None  # another pattern than the matrix has, within bounds: nothing to compare
    if name == "nodal_newton" and any(report.status.any() for _, report in seen):
        return None  # where Newton's method went, no two pivotings agree
    for backend, call in zip(BACKENDS, calls):
        for a, b in zip(arrays(call), arrays(calls[-1])):
            if a.dtype.kind in "fiu" and not np.allclose(a, b, **LOOSE):
                return f"{backend} leaves {a.ravel()[:4]}, {BACKENDS[-1]} {b.ravel()[:4]}"
    return None


def _check_verdicts(name, sparse):
    """Each thing that can be done to its arguments is refused everywhere or taken everywhere, with
    the same outcome; which are taken stands in taken_calls.json.
    """
    faults, n, kind = [], 0, variant(name, sparse)
    known, accepted = {call for call in taken() if call[0] == kind}, set()
    for abused in zip(
        *(abuses(name, sparse) for _ in BACKENDS)
    ):  # each backend gets arrays of its own
        path, label, _ = abused[0]
        calls = [call for _, _, call in abused]
        seen = [_judge(name, backend, call) for backend, call in zip(BACKENDS, calls)]
        fault = _fault(name, path, label, calls, seen)
        n += len(BACKENDS)
        if seen[0][0] != "refused":
            accepted.add((kind, ".".join(map(str, path)), label))
        if fault:
            faults.append(f"{'.'.join(map(str, path))}: {label}: {fault}")
    assert not faults, f"{len(faults)} of {n} calls:\n" + "\n".join(faults)
    assert n >= 60 * len(BACKENDS)
    told = "see tests/kernel_calls.py"
    assert sorted(accepted - known) == [], f"these were refused; {told}"
    assert sorted(known - accepted) == [], f"these were not refused; {told}"


def verdict_test(names):
    """The test of these kernels."""

    @pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
    @pytest.mark.parametrize("name", names)
    @pytest.mark.filterwarnings("ignore")
    def test(name, sparse):
        _check_taken(name, sparse)
        _check_verdicts(name, sparse)

    return test
