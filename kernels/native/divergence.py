"""What the C callers do about a training that diverged: C says in which batch, not where in it."""

from dataclasses import replace

import numpy as np

from ..spec import DivergenceError


def copies_of(arrays):
    return [None if a is None else a.copy() for a in arrays]


def go_back(arrays, before):
    """`arrays` in place as they were when `copies_of` them was made."""
    for a, old in zip(arrays, before):
        if a is not None:
            a[...] = old


def name_divergence(twin, network, x, y, order, plan, row_weight, particles, batch):
    """Raise the DivergenceError of `batch`: the `twin` repeats it on copies of the `network` (spec,
    weights, back, biases) to find layer and step.

    The particles of that batch are left to the twin, which keeps those of a finite free phase.
    """
    spec, weights, back, biases = network
    start = batch * plan.batch_size
    rows = order[start : start + plan.batch_size]
    sign = None if plan.sign is None else plan.sign[batch : batch + 1]
    plan = replace(plan, sign=sign, optimizer="sgd")
    weights, back, biases = copies_of(weights), back and copies_of(back), copies_of(biases)
    with np.errstate(all="ignore"):
        twin(spec, weights, back, biases, x, y, rows, plan, row_weight, particles)
    raise DivergenceError(
        f"a state became non-finite in batch {batch} of the call, by rounding: the NumPy twin, "
        "which names layer and step, stays just within the range of the dtype there",
        phase="nudged",
    )
