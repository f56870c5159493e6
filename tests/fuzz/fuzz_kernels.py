"""Arguments of the kernels, several of them wrong at once: every backend takes them or refuses
them, as one.

An input is the number from which a call is drawn. `make csan-python` runs this with the address and
undefined-behaviour sanitizers watching the C kernels.
"""

import functools
import os

import numpy as np

from tests.kernel_calls import MAKERS, bad_values, make, paths, put, verdict

from .common import run_inputs

BACKENDS = os.environ.get("EQPROP_TEST_BACKENDS", "c numpy").split()


@functools.cache
def places(name, sparse):
    """Path of each argument and part, and how many wrong values there are for it."""
    return [(path, sum(1 for _ in bad_values(value))) for path, value in paths(make(name, sparse))]


def draw(seed):
    """(name, what was done, call): one to three arguments replaced."""
    rng = np.random.default_rng(seed)
    name, sparse = sorted(MAKERS)[rng.integers(len(MAKERS))], bool(rng.integers(2))
    call, done = make(name, sparse), []
    known = places(name, sparse)
    for _ in range(rng.integers(1, 4)):
        path, n = known[rng.integers(len(known))]
        if not n or any(path[: len(other)] == other[: len(path)] for other, _ in done):
            continue
        value = dict(paths(call))[path]
        chosen = rng.integers(n)
        label, new = next(pair for k, pair in enumerate(bad_values(value)) if k == chosen)
        call = put(call, path, new)
        done.append((path, label))
    return name, done, call


def check(data):
    """True if the call was taken; AssertionError where two backends disagree."""
    seed = int.from_bytes(data[:8], "little")
    kinds = {}
    for backend in BACKENDS:
        name, done, call = draw(seed)
        kinds[backend] = verdict(name, backend, call)[0]
    assert len({kind == "refused" for kind in kinds.values()}) == 1, (name, done, kinds)
    return "refused" not in kinds.values()


def run(seconds, seed):
    return run_inputs("kernels", seconds, seed, lambda rng: rng.bytes(8), check)
