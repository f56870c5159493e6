"""CSV of conductances: `import_conductances` takes it, or refuses with a ValueError and changes
nothing.
"""

import functools
import os
import tempfile

import numpy as np

from eqprop_fast import ResistiveRegressor

from .common import corpus, mutate, run_inputs

TOKENS = (
    b",",
    b'"',
    b"\r",
    b"bias",
    b"1e400",
    b"-1",
    b"nan",
    b"inf",
    b"\0",
    b"1_0",
    b"9" * 20,
    "½²١".encode(),
)


@functools.cache
def fitted():
    """(a small fitted model, its file)."""
    rng = np.random.default_rng(0)
    model = ResistiveRegressor(hidden_layer_sizes=(3,), max_iter=1, random_state=0, backend="numpy")
    model.fit(rng.normal(size=(20, 2)), rng.normal(size=20))
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "g.csv")
        model.export_conductances(path)
        with open(path, "rb") as file:
            return model, file.read()


def check(data):
    """True if the file was read; AssertionError for another verdict than reading it or a
    ValueError.
    """
    model, _ = fitted()
    arrays = [*model.coefs_, *model.intercepts_]
    before = [a.copy() for a in arrays]
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "g.csv")
        with open(path, "wb") as file:
            file.write(data)
        try:
            model.import_conductances(path)
        except ValueError:
            same = all(np.array_equal(a, b) for a, b in zip(arrays, before))
            assert same, "a refused file changed the model"
            return False
    assert all(np.isfinite(a).all() for a in arrays) and all((g >= 0).all() for g in model.coefs_)
    return True


def run(seconds, seed):
    seeds = [fitted()[1], *corpus("conductances").values()]

    def make(rng):
        return mutate(rng, seeds[int(rng.integers(0, len(seeds)))], TOKENS)

    return run_inputs("conductances", seconds, seed, make, check)
