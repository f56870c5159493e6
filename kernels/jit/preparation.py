"""What training calls have in common: the scratch that every learning rule needs, and its results.
"""

import numpy as np

from ..prepare.layered import MOMENTS
from ..spec import DivergenceError
from .inputs import column_slice, list_size
from .layout import input_lists, make_network, pad
from .relax import PHASE_SHIFT, STEP_SHIFT
from .threads import usable
from .views import Record, aligned, records

# From so many batches on, the first weights are copied for a call: where the columns of two threads
# lie in one row, a core's prefetcher reads ahead what the other is writing.
COPY_BATCHES = 8


def raise_divergence(where):
    """DivergenceError of a failure as relax.py files it."""
    phase = "free" if where >> PHASE_SHIFT == 1 else "nudged"
    step = (where >> STEP_SHIFT) & (2 ** (PHASE_SHIFT - STEP_SHIFT) - 1)
    layer = where & (2**STEP_SHIFT - 1)
    raise DivergenceError(
        f"the state of layer {layer} became non-finite at step {step} of the {phase} phase",
        layer, step, phase,
    )


def _in_shares(matrix, n_threads, job):
    """A copy (n_threads, rows, width) that holds the columns of each thread apart, in whole cache
    lines; it is written back when the job ends.
    """
    slices = [column_slice(matrix.shape[1], t, n_threads) for t in range(n_threads)]
    shares = aligned((n_threads, matrix.shape[0], pad(max(high - low for low, high in slices))), matrix.dtype)
    for share, (low, high) in zip(shares, slices, strict=True):
        share[:, : high - low] = matrix[:, low:high]
        job.copies.append((matrix[:, low:high], share[:, : high - low]))
    return shares


def _first_weights(job, plan, n_threads):
    """Record of the first weights and their moments, (shares, N[0], columns), and one of each
    thread's columns: which share they are in, and where.
    """
    weights = job.arrays("weight")[0]
    apart = n_threads > 1 and job["n_rows"] > COPY_BATCHES * job["batch_size"]
    moved = MOMENTS.get(plan.optimizer, ())

    def first(field):
        array = job.arrays(field)[0]
        return _in_shares(array, n_threads, job) if apart else array[None]

    first_weights = first("weight")
    record = Record(
        weights=first_weights,
        **{name: first(name) if name in moved else first_weights for name in ("velocity", "second")},
    )
    slices = [column_slice(weights.shape[1], t, n_threads) for t in range(n_threads)]
    own = [
        Record(thread=t, share=t if apart else 0, moved=low if apart else 0, low=low, high=high)
        for t, (low, high) in enumerate(slices)
    ]
    return record, records(own)


def scratch(spec, plan, job, x, back, n_threads, *, states, n_sums, n_rows):
    """(fields of the work record, n_threads) that all learning rules need.

    `states` are rows of states, `n_rows` the rows that weights learn from, `n_sums` at least as
    many as any other row that add_panels sums for them.
    """
    dtype, n_in, n_1 = job.dtype, spec.sizes[0], pad(spec.sizes[1])
    size = int(min(job["batch_size"], job["n_rows"]))
    job.numbers(batch_size=size)
    n_threads = usable(n_threads, size)
    first, own = _first_weights(job, plan, n_threads)
    net = make_network(spec.sizes, back is not None, dtype, size, x.shape[0], n_threads)
    units, capacity = net.kept["units"], list_size(x, n_in)
    net.memory["tile"] = min(net.kept["tile"], size)
    lists, kept = input_lists(2, size, capacity, dtype)  # of this batch and of the next
    job.kept.append(kept)
    many = max(size * capacity, size, units, n_sums)
    state = aligned((*states, units), dtype)
    return {
        "net": net, "n_threads": n_threads, "first": first, "own": own, "lists": lists,
        "state": state,
        "shown": aligned(state.shape, dtype) if spec.dynamics == "continuous" else state,
        "base_sum": aligned(n_1, dtype), "weight": np.zeros(size, dtype), "loss": np.zeros(size),
        "correct": np.zeros(size, np.int64), "free_steps": np.zeros(size, np.int64),
        "nudged_steps": np.zeros(size, np.int64), "failed": 0,
        "starts": np.zeros((n_threads, n_in + 1), np.int64), "sample": np.zeros((n_threads, many), np.int32),
        "coefficient": aligned((n_threads, many), dtype), "ones": np.ones(n_rows, dtype),
    }, n_threads
