"""The two functions the other layers call: checks, buffers, threads, errors; signatures of reference/layered.py."""

import numpy as np

from ..spec import OPTIMIZERS, DivergenceError, TrainStats
from . import layered
from .compile import array_table
from .inputs import list_size
from .layout import (
    ADAM_STEP, BATCH, BETA, BETA1, BETA2, CENTERED, DECAY, EPSILON, HAS_BACK, HAS_PARTICLES, HAS_SIGN, HAS_WEIGHT,
    MOMENTUM, N_FREE, N_NUDGED, OPTIMIZER, SPARSE, TILE, TOL_FREE, TOL_NUDGED, aligned, make_layout, pad,
    spec_options,
)  # fmt: skip
from .relax import PHASE_SHIFT, STEP_SHIFT
from .threads import run_threads


class _InPlace:
    """C-contiguous arrays of one dtype for a kernel; copies that had to be made are written back on `done`."""

    def __init__(self, dtype):
        self.dtype, self.copies = dtype, []

    def __call__(self, array):
        good = np.require(array, self.dtype, "CA")
        if good is not array:
            self.copies.append((array, good))
        return good

    def done(self):
        for array, good in self.copies:
            if not np.shares_memory(array, good):
                array[...] = good


def _check(spec, weights, biases, states, rows, name):
    if len(weights) != spec.n_weights or len(biases) != spec.n_weights:
        raise ValueError(f"weights and biases must have {spec.n_weights} entries, got {len(weights)}, {len(biases)}")
    for k, (n, m) in enumerate(zip(spec.sizes, spec.sizes[1:])):
        if weights[k].shape != (n, m):
            raise ValueError(f"weights[{k}] must have shape {(n, m)}, got {weights[k].shape}")
        if biases[k].shape != (m,):
            raise ValueError(f"biases[{k}] must have shape {(m,)}, got {biases[k].shape}")
        if states is not None and states[k].shape != (rows, m):
            raise ValueError(f"{name}[{k}] must have shape {(rows, m)}, got {states[k].shape}")
    dtype = weights[0].dtype
    if dtype not in (np.float32, np.float64):
        raise ValueError(f"weights must be float32 or float64, got {dtype}")
    return dtype


def _inputs(x, dtype, ints, n_in, canonical):
    """(dense, indptr, indices, data) of one fixed set of types, and the flag which of them counts."""
    if x.ndim != 2 or x.shape[1] != n_in:
        raise ValueError(f"x must have shape (n_samples, {n_in}), got {x.shape}")
    nothing = np.zeros(1, np.int64), np.zeros(1, np.int32), np.zeros(1, dtype)
    if not hasattr(x, "toarray"):
        return np.require(x, dtype, "CA"), *nothing
    ints[SPARSE] = 1
    x = x.tocsr()
    if canonical and not x.has_canonical_format:  # rho of a sum is not the sum of rhos
        x = x.copy()
        x.sum_duplicates()
    return (
        np.zeros((1, 1), dtype), np.asarray(x.indptr, np.int64), np.asarray(x.indices, np.int32),
        np.ascontiguousarray(x.data, dtype),
    )  # fmt: skip


def _raise_divergence(where):
    phase = "free" if where >> PHASE_SHIFT == 1 else "nudged"
    step = (where >> STEP_SHIFT) & (2 ** (PHASE_SHIFT - STEP_SHIFT) - 1)
    layer = where & (2**STEP_SHIFT - 1)
    raise DivergenceError(
        f"the state of layer {layer} became non-finite at step {step} of the {phase} phase", layer, step, phase
    )


def _targets(y, shape, dtype):
    if y is None:
        return None
    if y.shape != shape:
        raise ValueError(f"y must have shape {shape}, got {y.shape}")
    return np.require(y, dtype, "CA")


def _backs(spec, back, dtype):
    nothing = np.zeros((1, 1), dtype)
    if back is None:
        return [nothing] * spec.n_weights
    return [nothing] + [np.require(b, dtype, "CA") for b in back[1:]]


def layered_relax(spec, weights, back, biases, x, states, y=None, beta=0.0, n_steps=1, tol=-1.0, n_threads=1):
    """Twin of `kernels.reference.layered.layered_relax`."""
    m = x.shape[0]
    dtype = _check(spec, weights, biases, states, m, "states")
    y = _targets(y, (m, spec.sizes[-1]), dtype)
    if beta != 0 and y is None:
        raise ValueError("y is needed when beta is not 0")
    steps, residual = np.zeros(m, np.int32), np.zeros(m, dtype)
    if m == 0:
        return steps, residual
    n_threads = max(1, min(int(n_threads), m))
    ints, floats = spec_options(spec, dtype)
    ints[N_FREE], ints[HAS_BACK] = n_steps, back is not None
    floats[BETA], floats[TOL_FREE] = beta, tol
    layout, units, n_packed = make_layout(spec.sizes, back is not None, dtype.itemsize)
    dense, indptr, indices, data = _inputs(x, dtype, ints, spec.sizes[0], spec.input_activation != "identity")
    in_place = _InPlace(dtype)
    w, b = [np.require(a, dtype, "CA") for a in weights], [np.require(a, dtype, "CA") for a in biases]
    s, backs = [in_place(a) for a in states], _backs(spec, back, dtype)
    table = array_table([w, b, backs, w, b, w, b, s])
    ints[TILE] = min(ints[TILE], -(-m // n_threads))
    rows, cap = n_threads * int(ints[TILE]), list_size(x, spec.sizes[0])
    worst = np.zeros(n_threads, np.int64)
    run_threads(
        layered.relax_thread, n_threads, ints, floats, layout, table, dense, indptr, indices, data,
        np.zeros((1, spec.sizes[-1]), dtype) if y is None else y, steps, residual,
        aligned(n_packed, dtype), aligned(units, dtype), aligned((rows, pad(spec.sizes[1])), dtype),
        aligned((rows, units), dtype), aligned((rows if spec.dynamics == "continuous" else 1, units), dtype),
        aligned((rows, units), dtype), aligned((n_threads, pad(spec.sizes[1])), dtype),
        np.zeros(rows, np.int64), np.zeros((rows, cap), np.int32), aligned((rows, cap), dtype),
        np.zeros(rows, np.int64), np.zeros(rows, np.int64), np.zeros(rows, dtype), np.zeros(rows, np.int64),
        np.zeros(rows, np.int64), np.zeros(rows, dtype), worst,
    )  # fmt: skip
    in_place.done()
    if worst.any():
        _raise_divergence(int(worst[worst > 0].min()))
    return steps, residual


def _plan_options(plan, ints, floats):
    if plan.rule != "ep":
        raise ValueError(f"rule {plan.rule!r} is not offered by the numba backend")
    ints[BATCH], ints[N_FREE], ints[N_NUDGED] = plan.batch_size, plan.n_free_steps, plan.n_nudged_steps
    ints[CENTERED], ints[OPTIMIZER], ints[ADAM_STEP] = plan.centered, OPTIMIZERS[plan.optimizer], plan.adam_step
    floats[BETA], floats[TOL_FREE], floats[TOL_NUDGED] = plan.beta, plan.tol_free, plan.tol_nudged
    floats[MOMENTUM], floats[DECAY] = plan.momentum, plan.weight_decay
    floats[BETA1], floats[BETA2], floats[EPSILON] = plan.beta1, plan.beta2, plan.epsilon


def layered_train(
    spec, weights, back, biases, x, y, order, plan, row_weight=None, particles=None, optimizer_state=None, n_threads=1
):
    """Twin of `kernels.reference.layered.layered_train`."""
    n_data, n = x.shape[0], spec.n_weights
    dtype = _check(spec, weights, biases, particles, n_data, "particles")
    y = _targets(y, (n_data, spec.sizes[-1]), dtype)
    order = np.ascontiguousarray(order, np.int64)
    stats = TrainStats()
    if order.size == 0:
        return stats
    if order.min() < 0 or order.max() >= n_data:
        raise ValueError(f"order must hold row numbers of x, 0 to {n_data - 1}")
    ints, floats = spec_options(spec, dtype)
    _plan_options(plan, ints, floats)
    size = int(min(plan.batch_size, order.size))
    n_threads = max(1, min(int(n_threads), size))
    ints[BATCH], ints[HAS_BACK], ints[HAS_SIGN] = size, back is not None, plan.sign is not None
    ints[HAS_WEIGHT], ints[HAS_PARTICLES] = row_weight is not None, particles is not None
    ints[TILE] = min(ints[TILE], size)
    layout, units, n_packed = make_layout(spec.sizes, back is not None, dtype.itemsize)
    dense, indptr, indices, data = _inputs(x, dtype, ints, spec.sizes[0], spec.input_activation != "identity")
    in_place, nothing = _InPlace(dtype), [np.zeros((1, 1), dtype)] * n
    w, b = [in_place(a) for a in weights], [in_place(a) for a in biases]
    moments = [nothing, nothing, nothing, nothing]
    if plan.optimizer != "sgd":
        velocity = [in_place(a) for a in optimizer_state.velocity]
        moments[:2] = velocity[:n], velocity[n:]
    if plan.optimizer == "adam":
        second = [in_place(a) for a in optimizer_state.second]
        moments[2:] = second[:n], second[n:]
    s = nothing if particles is None else [in_place(a) for a in particles]
    backs = _backs(spec, back, dtype)
    table = array_table([w, b, backs, *moments, s])
    n_1, cap = pad(spec.sizes[1]), list_size(x, spec.sizes[0])
    widest, many = max(n_1, units), max(size * cap, size, units)
    turns = 3 if plan.centered else 2
    totals = np.zeros(7)
    none = np.zeros(1, np.int8)
    run_threads(
        layered.train_thread, n_threads, ints, floats, layout, table, np.array([plan.rate, plan.bias_rate], float),
        dense, indptr, indices, data, y, order,
        none if plan.sign is None else np.ascontiguousarray(plan.sign, np.int8),
        np.ones(1, dtype) if row_weight is None else np.ascontiguousarray(row_weight, dtype),
        aligned(n_packed, dtype), aligned(units, dtype), aligned((size, n_1), dtype),
        aligned((turns, size, units), dtype),
        aligned((turns, size, units) if spec.dynamics == "continuous" else (1, 1, 1), dtype),
        aligned((size, units), dtype), aligned((size, n_1), dtype), aligned((1, n_1), dtype),
        np.zeros((2, size), np.int64), np.zeros((2, size, cap), np.int32), aligned((2, size, cap), dtype),
        np.zeros((n_threads, spec.sizes[0] + 1), np.int64), np.zeros((n_threads, many), np.int32),
        aligned((n_threads, many), dtype), aligned((n_threads, 24, widest), dtype), np.ones(size, dtype),
        np.zeros(size, dtype), np.zeros(size), *np.zeros((3, size), np.int64), np.zeros(size, np.int64),
        np.zeros(size, dtype), np.zeros(size, np.int64), np.zeros(size, np.int64), np.zeros(size, dtype), totals,
    )  # fmt: skip
    in_place.done()
    if totals[layered.FAILURE]:
        _raise_divergence(int(totals[layered.FAILURE]))
    stats.loss, (stats.n_correct, stats.free_steps, stats.nudged_steps, stats.n_samples, stats.n_batches) = (
        float(totals[layered.LOSS]), (int(v) for v in totals[layered.CORRECT : layered.FAILURE]),
    )  # fmt: skip
    return stats
