"""The two functions the other layers call: checks, buffers, threads, errors; signatures of
reference/layered.py.
"""

import ctypes

import numpy as np

from ..spec import (
    GRADIENT_RULES,
    OPTIMIZERS,
    RULES,
    VECTOR_FIELD_RULES,
    DivergenceError,
    TrainStats,
    check_rule,
    free_spec,
)
from . import layered
from .compile import array_table
from .gradient_training import gradient_train
from .inputs import list_size
from .layout import (
    ADAM_STEP,
    BATCH,
    BETA,
    BETA1,
    BETA2,
    CENTERED,
    CLAMPED_SWEEP,
    CONTINUAL,
    CONTINUAL_VECTOR_FIELD,
    DECAY,
    DT,
    EPSILON,
    HAS_BACK,
    HAS_PARTICLES,
    HAS_SIGN,
    HAS_WEIGHT,
    MOMENTUM,
    N_FREE,
    N_NUDGED,
    NARROW,
    OPTIMIZER,
    RULE,
    SPARSE,
    TILE,
    TOL_FREE,
    TOL_NUDGED,
    VECTOR_FIELD,
    aligned,
    make_layout,
    pad,
    spec_options,
)  # fmt: skip
from .relax import PHASE_SHIFT, STEP_SHIFT
from .threads import run_threads
from .tiles import TILE_SAMPLES


class _InPlace:
    """C-contiguous writable arrays of one dtype for a kernel; copies that had to be made are written back on
    `done`.
    """

    def __init__(self, dtype):
        self.dtype, self.copies = dtype, []

    def __call__(self, arrays):
        good = [np.require(a, self.dtype, "CAW") for a in arrays]
        pairs = zip(arrays, good, strict=True)
        self.copies += [(a, g) for a, g in pairs if g is not a and not np.shares_memory(a, g)]
        return good

    def done(self):
        for array, good in self.copies:
            array[...] = good


def _read(array, dtype):
    """`array` as the kernels read it. A read-only one is shown as writable (nothing writes to it): Numba
    would take it for another type and compile everything anew."""
    array = np.require(array, dtype, "CA")
    if array.flags.writeable or array.size == 0:
        return array if array.flags.writeable else array.copy()
    memory = (ctypes.c_byte * array.nbytes).from_address(array.ctypes.data)
    memory.owner = array  # keeps the memory alive as long as the view
    return np.frombuffer(memory, array.dtype).reshape(array.shape)


def _check_shapes(name, arrays, shapes):
    if len(arrays) != len(shapes):
        raise ValueError(f"{name} must have {len(shapes)} entries, got {len(arrays)}")
    for k, (array, shape) in enumerate(zip(arrays, shapes, strict=False)):
        if shape is not None and array.shape != shape:
            raise ValueError(f"{name}[{k}] must have shape {shape}, got {array.shape}")


def _check_network(spec, weights, back, biases):
    """Shapes of weights and biases; returns them and the dtype of all."""
    pairs, tops = list(zip(spec.sizes, spec.sizes[1:], strict=False)), [(n,) for n in spec.sizes[1:]]
    _check_shapes("weights", weights, pairs)
    _check_shapes("biases", biases, tops)
    if back is not None:
        _check_shapes("back", back, [None] + [(m, n) for n, m in pairs[1:]])
    dtype = weights[0].dtype
    if dtype not in (np.float32, np.float64):
        raise ValueError(f"weights must be float32 or float64, got {dtype}")
    return pairs, tops, dtype


def _inputs(spec, x, dtype, ints):
    """(dense, indptr, indices, data), always of the same types, and SPARSE set to say which of them count."""
    if x.ndim != 2 or x.shape[1] != spec.sizes[0]:
        raise ValueError(f"x must have shape (n_samples, {spec.sizes[0]}), got {x.shape}")
    if not hasattr(x, "tocsr"):
        return _read(x, dtype), np.zeros(1, np.int64), np.zeros(1, np.int32), np.zeros(1, dtype)
    ints[SPARSE] = 1
    x = x.tocsr()
    if spec.input_activation != "identity" and not x.has_canonical_format:  # rho of a sum is no sum of rhos
        x = x.copy()
        x.sum_duplicates()
    indptr, indices = _read(x.indptr, np.int64), _read(x.indices, np.int32)
    return np.zeros((1, 1), dtype), indptr, indices, _read(x.data, dtype)


def _raise_divergence(where):
    phase = "free" if where >> PHASE_SHIFT == 1 else "nudged"
    step = (where >> STEP_SHIFT) & (2 ** (PHASE_SHIFT - STEP_SHIFT) - 1)
    layer = where & (2**STEP_SHIFT - 1)
    raise DivergenceError(
        f"the state of layer {layer} became non-finite at step {step} of the {phase} phase",
        layer, step, phase,
    )


def _targets(spec, x, y, dtype):
    if y.shape != (x.shape[0], spec.sizes[-1]):
        raise ValueError(f"y must have shape {(x.shape[0], spec.sizes[-1])}, got {y.shape}")
    return _read(y, dtype)


def _backs(spec, back, dtype):
    nothing = np.zeros((1, 1), dtype)
    if back is None:
        return [nothing] * spec.n_weights
    return [nothing] + [np.require(b, dtype, "CA") for b in back[1:]]


def layered_relax(spec, weights, back, biases, x, states, y=None, beta=0.0, n_steps=1, tol=-1.0, n_threads=1):
    """Twin of `kernels.reference.layered.layered_relax`."""
    m = x.shape[0]
    _, _, dtype = _check_network(spec, weights, back, biases)
    _check_shapes("states", states, [(m, n) for n in spec.sizes[1:]])
    if beta != 0 and y is None:
        raise ValueError("y is needed when beta is not 0")
    y = np.zeros((1, spec.sizes[-1]), dtype) if y is None else _targets(spec, x, y, dtype)
    steps, residual = np.zeros(m, np.int32), np.zeros(m, dtype)
    if m == 0:
        return steps, residual
    n_threads = max(1, min(int(n_threads), m))
    ints, floats = spec_options(spec, dtype)
    ints[N_FREE], ints[HAS_BACK] = n_steps, back is not None
    floats[BETA], floats[TOL_FREE] = beta, tol
    layout, units, n_packed = make_layout(spec.sizes, back is not None, dtype.itemsize)
    dense, indptr, indices, data = _inputs(spec, x, dtype, ints)
    in_place = _InPlace(dtype)
    w, b = [np.require(a, dtype, "CA") for a in weights], [np.require(a, dtype, "CA") for a in biases]
    s, backs = in_place(states), _backs(spec, back, dtype)
    table = array_table([w, b, backs, w, b, backs, w, b, backs, s])
    ints[TILE] = min(ints[TILE], -(-m // n_threads))
    rows, cap = n_threads * int(ints[TILE]), list_size(x, spec.sizes[0])
    worst = np.zeros(n_threads, np.int64)
    run_threads(
        layered.relax_thread, n_threads, ints, floats, layout, table, dense, indptr, indices, data,
        y, steps, residual,
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
    if plan.beta == 0:
        raise ValueError("beta must not be 0: updates are divided by it")
    ints[RULE] = RULES[plan.rule]
    ints[BATCH], ints[N_FREE], ints[N_NUDGED] = plan.batch_size, plan.n_free_steps, plan.n_nudged_steps
    ints[CENTERED], ints[OPTIMIZER] = plan.centered, OPTIMIZERS[plan.optimizer]
    ints[ADAM_STEP] = plan.adam_step
    floats[BETA], floats[TOL_FREE], floats[TOL_NUDGED] = plan.beta, plan.tol_free, plan.tol_nudged
    floats[MOMENTUM], floats[DECAY] = plan.momentum, plan.weight_decay
    floats[BETA1], floats[BETA2], floats[EPSILON] = plan.beta1, plan.beta2, plan.epsilon


def _moments(name, state, pairs, tops, learns_back, in_place):
    """The arrays optimizer_state.`name` for weights, biases and backward weights (from slot 2L + 1 on)."""
    n, arrays = len(pairs), getattr(state, name, None) or []
    shapes = pairs + tops
    if learns_back:
        shapes += [None] + [(k, j) for j, k in pairs[1:]]
    _check_shapes(f"optimizer_state.{name}", arrays[: len(shapes)], shapes)
    backs = in_place(arrays[2 * n + 1 : 3 * n]) if learns_back else []
    nothing = np.zeros((1, 1), arrays[0].dtype)
    backs = [nothing, *backs] + [nothing] * (n - 1 - len(backs))
    return in_place(arrays[:n]), in_place(arrays[n : 2 * n]), backs


def layered_train(
    spec, weights, back, biases, x, y, order, plan, row_weight=None, particles=None, optimizer_state=None,
    n_threads=1,
):  # fmt: skip
    """Twin of `kernels.reference.layered.layered_train`."""
    if plan.rule in GRADIENT_RULES:
        return gradient_train(
            spec, weights, back, biases, x, y, order, plan, row_weight, particles, optimizer_state, n_threads
        )
    check_rule(spec, plan, back is not None, particles is not None)
    n_data, n = x.shape[0], spec.n_weights
    pairs, tops, dtype = _check_network(spec, weights, back, biases)
    if particles is not None:
        _check_shapes("particles", particles, [(n_data, m) for m in spec.sizes[1:]])
    if row_weight is not None:
        _check_shapes("row_weight", [row_weight], [(n_data,)])
    y = _targets(spec, x, y, dtype)
    order = _read(order, np.int64)
    stats = TrainStats()
    if order.size == 0:
        return stats
    if order.min() < 0 or order.max() >= n_data:
        raise ValueError(f"order must hold row numbers of x, 0 to {n_data - 1}")
    ints, floats = spec_options(spec, dtype)
    _plan_options(plan, ints, floats)
    free_floats = floats.copy()
    free_floats[DT] = free_spec(spec, plan.over_relaxation).dt
    if len(plan.rate) != n or len(plan.bias_rate) != n:
        raise ValueError(f"rate and bias_rate need {n} entries, got {len(plan.rate)}, {len(plan.bias_rate)}")
    if plan.batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {plan.batch_size}")
    if plan.sign is not None and len(plan.sign) * plan.batch_size < order.size:
        raise ValueError("sign must have one entry per batch")
    size = int(min(plan.batch_size, order.size))
    n_threads = max(1, min(int(n_threads), size))
    ints[BATCH], ints[HAS_BACK], ints[HAS_SIGN] = size, back is not None, plan.sign is not None
    ints[HAS_WEIGHT], ints[HAS_PARTICLES] = row_weight is not None, particles is not None
    ints[TILE] = min(ints[TILE], size)
    layout, units, n_packed = make_layout(spec.sizes, back is not None, dtype.itemsize)
    dense, indptr, indices, data = _inputs(spec, x, dtype, ints)
    in_place, nothing = _InPlace(dtype), [np.zeros((1, 1), dtype)] * n
    w, b = in_place(weights), in_place(biases)
    learns_back = plan.rule in VECTOR_FIELD_RULES
    backs = [nothing[0], *in_place(back[1:])] if learns_back else _backs(spec, back, dtype)
    moments = [nothing] * 6
    slots = {"momentum": ("velocity",), "nesterov": ("velocity",), "adam": ("velocity", "second")}
    for i, name in enumerate(slots.get(plan.optimizer, ())):
        moments[3 * i : 3 * i + 3] = _moments(name, optimizer_state, pairs, tops, learns_back, in_place)
    s = nothing if particles is None else in_place(particles)
    table = array_table([w, b, backs, *moments, s])
    n_1, cap = pad(spec.sizes[1]), list_size(x, spec.sizes[0])
    continuous, rule = spec.dynamics == "continuous", ints[RULE]
    # rows of recorded (activity, change); places of the states of all samples; products of all with all
    records = {VECTOR_FIELD: plan.n_nudged_steps * (2 if plan.centered else 1), CLAMPED_SWEEP: 1,
               CONTINUAL_VECTOR_FIELD: 1}.get(rule, 0) * size  # fmt: skip
    walks = {CONTINUAL: 2, CONTINUAL_VECTOR_FIELD: 1}.get(rule, 0)
    width = pad(size) if walks else 1
    widest, many = max(n_1, units), max(size * cap, size, units, records)
    ends = 3 if plan.centered else 2
    turns = [0] if records else [1, 2] if plan.centered else [1, 0]
    totals = np.zeros(7)
    run_threads(
        layered.train_thread, n_threads, ints, floats, free_floats, layout, table,
        np.array([plan.rate, plan.bias_rate], float), dense, indptr, indices, data, y, order,
        np.zeros(1, np.int8) if plan.sign is None else _read(plan.sign, np.int8),
        np.ones(1, dtype) if row_weight is None else _read(row_weight, dtype),
        aligned(n_packed, dtype), aligned(units, dtype), aligned((size, n_1), dtype),
        aligned((ends, size, units), dtype),
        aligned((ends, size, units) if continuous else (1, 1, 1), dtype),
        aligned((size, units), dtype), aligned((size, n_1), dtype), aligned((1, n_1), dtype),
        np.zeros((2, size), np.int64), np.zeros((2, size, cap), np.int32), aligned((2, size, cap), dtype),
        np.zeros((n_threads, spec.sizes[0] + 1), np.int64), np.zeros((n_threads, many), np.int32),
        aligned((n_threads, many), dtype), aligned((n_threads, NARROW, widest), dtype),
        aligned((n_threads, TILE_SAMPLES, max(size, records)), dtype), np.arange(TILE_SAMPLES),
        np.ones(max(size, records), dtype), np.array(turns),
        aligned((1, records, units) if records else (1, 1, 1), dtype),
        aligned((1, records, units) if records else (1, 1, 1), dtype),
        aligned((walks, size, units) if walks else (1, 1, 1), dtype),
        aligned((n + 1, 2, size, width) if walks else (1, 1, 1, 1), dtype),
        aligned((2, size, width) if walks else (1, 1, 1), dtype),
        aligned((n_threads, spec.sizes[0] if walks else 1), dtype),
        np.zeros(size, dtype), np.zeros(size), *np.zeros((3, size), np.int64), np.zeros(size, np.int64),
        np.zeros(size, dtype), np.zeros(size, np.int64), np.zeros(size, np.int64), np.zeros(size, dtype),
        totals,
    )  # fmt: skip
    in_place.done()
    if totals[layered.FAILURE]:
        _raise_divergence(int(totals[layered.FAILURE]))
    stats.loss, (stats.n_correct, stats.free_steps, stats.nudged_steps, stats.n_samples, stats.n_batches) = (
        float(totals[layered.LOSS]), (int(v) for v in totals[layered.CORRECT : layered.FAILURE]),
    )  # fmt: skip
    return stats
