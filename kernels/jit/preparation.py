"""What the calls into the kernels prepare: checked arrays, options, layout, the table of addresses."""

import ctypes

import numpy as np

from ..spec import GRADIENT_RULES, OPTIMIZERS, RULES, DivergenceError, check_order
from .compile import array_table
from .inputs import column_slice
from .layout import (
    ADAM_STEP,
    BATCH,
    BETA,
    BETA1,
    BETA2,
    CENTERED,
    DECAY,
    EPSILON,
    HAS_BACK,
    HAS_PARTICLES,
    HAS_SIGN,
    HAS_WEIGHT,
    MOMENTUM,
    N_FREE,
    N_NUDGED,
    OPTIMIZER,
    ROW,
    RULE,
    SHARES,
    SPARSE,
    TILE,
    TOL_FREE,
    TOL_NUDGED,
    aligned,
    make_layout,
    pad,
    spec_options,
)  # fmt: skip
from .relax import PHASE_SHIFT, STEP_SHIFT
from .threads import usable


class InPlace:
    """C-contiguous writable arrays of one dtype for a kernel, which runs in a `with` block of this: copies
    that had to be made are written back at its end, be it an exception.
    """

    def __init__(self, dtype):
        self.dtype, self.copies = dtype, []

    def __call__(self, arrays):
        good = [np.require(a, self.dtype, "CAW") for a in arrays]
        pairs = zip(arrays, good, strict=True)
        self.copies += [(a, g) for a, g in pairs if g is not a and not np.shares_memory(a, g)]
        return good

    def in_shares(self, matrix, n_threads):
        """A copy that holds the columns of each thread one thread after another, in whole cache lines."""
        slices = [column_slice(matrix.shape[1], t, n_threads) for t in range(n_threads)]
        n, width = matrix.shape[0], pad(max(high - low for low, high in slices))
        shares = aligned((n_threads * n, width), self.dtype)
        for t, (low, high) in enumerate(slices):
            copy = shares[t * n : (t + 1) * n, : high - low]
            copy[...] = matrix[:, low:high]
            self.copies.append((matrix[:, low:high], copy))
        return shares

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for array, good in self.copies:
            array[...] = good


def read(array, dtype):
    """`array` as the kernels read it. A read-only one is shown as writable (nothing writes to it): Numba
    would take it for another type and compile everything anew."""
    array = np.require(array, dtype, "CA")
    if array.flags.writeable or array.size == 0:
        return array if array.flags.writeable else array.copy()
    memory = (ctypes.c_byte * array.nbytes).from_address(array.ctypes.data)
    memory.owner = array  # keeps the memory alive as long as the view
    return np.frombuffer(memory, array.dtype).reshape(array.shape)


def check_shapes(name, arrays, shapes):
    if len(arrays) != len(shapes):
        raise ValueError(f"{name} must have {len(shapes)} entries, got {len(arrays)}")
    for k, (array, shape) in enumerate(zip(arrays, shapes, strict=False)):
        if shape is not None and array.shape != shape:
            raise ValueError(f"{name}[{k}] must have shape {shape}, got {array.shape}")


def check_network(spec, weights, back, biases):
    """Shapes of weights and biases; returns them and the dtype of all."""
    pairs, tops = list(zip(spec.sizes, spec.sizes[1:], strict=False)), [(n,) for n in spec.sizes[1:]]
    check_shapes("weights", weights, pairs)
    check_shapes("biases", biases, tops)
    if back is not None:
        check_shapes("back", back, [None] + [(m, n) for n, m in pairs[1:]])
    dtype = weights[0].dtype
    if dtype not in (np.float32, np.float64):
        raise ValueError(f"weights must be float32 or float64, got {dtype}")
    return pairs, tops, dtype


def inputs(spec, x, dtype, ints):
    """(dense, indptr, indices, data), always of the same types, and SPARSE set to say which of them count."""
    if x.ndim != 2 or x.shape[1] != spec.sizes[0]:
        raise ValueError(f"x must have shape (n_samples, {spec.sizes[0]}), got {x.shape}")
    if not hasattr(x, "tocsr"):
        return read(x, dtype), np.zeros(1, np.int64), np.zeros(1, np.int32), np.zeros(1, dtype)
    ints[SPARSE] = 1
    x = x.tocsr()
    if spec.input_activation != "identity" and not x.has_canonical_format:  # rho of a sum is no sum of rhos
        x = x.copy()
        x.sum_duplicates()
    indptr, indices = read(x.indptr, np.int64), read(x.indices, np.int32)
    return np.zeros((1, 1), dtype), indptr, indices, read(x.data, dtype)


def raise_divergence(where):
    phase = "free" if where >> PHASE_SHIFT == 1 else "nudged"
    step = (where >> STEP_SHIFT) & (2 ** (PHASE_SHIFT - STEP_SHIFT) - 1)
    layer = where & (2**STEP_SHIFT - 1)
    raise DivergenceError(
        f"the state of layer {layer} became non-finite at step {step} of the {phase} phase",
        layer, step, phase,
    )


def targets(spec, x, y, dtype):
    if y.shape != (x.shape[0], spec.sizes[-1]):
        raise ValueError(f"y must have shape {(x.shape[0], spec.sizes[-1])}, got {y.shape}")
    return read(y, dtype)


def backs(spec, back, dtype):
    nothing = np.zeros((1, 1), dtype)
    if back is None:
        return [nothing] * spec.n_weights
    return [nothing] + [np.require(b, dtype, "CA") for b in back[1:]]


def plan_options(plan, ints, floats):
    if plan.beta == 0 and plan.rule not in GRADIENT_RULES:
        raise ValueError("beta must not be 0: updates are divided by it")
    ints[RULE] = RULES[plan.rule]
    ints[BATCH], ints[N_FREE], ints[N_NUDGED] = plan.batch_size, plan.n_free_steps, plan.n_nudged_steps
    ints[CENTERED], ints[OPTIMIZER] = plan.centered, OPTIMIZERS[plan.optimizer]
    ints[ADAM_STEP] = plan.adam_step
    floats[BETA], floats[TOL_FREE], floats[TOL_NUDGED] = plan.beta, plan.tol_free, plan.tol_nudged
    floats[MOMENTUM], floats[DECAY] = plan.momentum, plan.weight_decay
    floats[BETA1], floats[BETA2], floats[EPSILON] = plan.beta1, plan.beta2, plan.epsilon


def moments(name, state, pairs, tops, learns_back, in_place):
    """The arrays optimizer_state.`name` for weights, biases and backward weights (from slot 2L + 1 on)."""
    n, arrays = len(pairs), getattr(state, name, None) or []
    shapes = pairs + tops
    if learns_back:
        shapes += [None] + [(k, j) for j, k in pairs[1:]]
    check_shapes(f"optimizer_state.{name}", arrays[: len(shapes)], shapes)
    backs = in_place(arrays[2 * n + 1 : 3 * n]) if learns_back else []
    nothing = np.zeros((1, 1), arrays[0].dtype)
    backs = [nothing, *backs] + [nothing] * (n - 1 - len(backs))
    return in_place(arrays[:n]), in_place(arrays[n : 2 * n]), backs


# From so many batches on, the first weights are copied for a call: where the columns of two threads lie in
# one row, a core's prefetcher reads ahead what the other is writing.
COPY_BATCHES = 8
SLOTS = {"momentum": ("velocity",), "nesterov": ("velocity",), "adam": ("velocity", "second")}


class Training:
    """The checked arguments of a training call, as the kernels take them; `learns_back`: back is in/out.

    With an empty `order` there is nothing to do, and only `size` (0) is set.
    """

    def __init__(
        self, spec, weights, back, biases, x, y, order, plan, row_weight, particles, optimizer_state,
        n_threads, learns_back,
    ):  # fmt: skip
        n_data, n = x.shape[0], spec.n_weights
        pairs, tops, dtype = check_network(spec, weights, back, biases)
        if particles is not None:
            check_shapes("particles", particles, [(n_data, m) for m in spec.sizes[1:]])
        if row_weight is not None:
            check_shapes("row_weight", [row_weight], [(n_data,)])
        self.y, self.order, self.dtype = targets(spec, x, y, dtype), read(order, np.int64), dtype
        check_order(self.order, n_data)
        self.size = int(min(plan.batch_size, self.order.size))
        if self.order.size == 0:
            return
        self.ints, self.floats = ints, floats = spec_options(spec, dtype)
        plan_options(plan, ints, floats)
        if len(plan.rate) != n or len(plan.bias_rate) != n:
            raise ValueError(
                f"rate and bias_rate need {n} entries, got {len(plan.rate)}, {len(plan.bias_rate)}"
            )
        if plan.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {plan.batch_size}")
        self.n_threads = usable(n_threads, self.size)
        ints[BATCH], ints[HAS_BACK], ints[HAS_SIGN] = self.size, back is not None, plan.sign is not None
        ints[HAS_WEIGHT], ints[HAS_PARTICLES] = row_weight is not None, particles is not None
        ints[TILE] = min(ints[TILE], self.size)
        self.layout, self.units, self.n_packed = make_layout(spec.sizes, back is not None, dtype.itemsize)
        self.data = inputs(spec, x, dtype, ints)
        self.in_place, nothing = InPlace(dtype), [np.zeros((1, 1), dtype)] * n
        w, b = self.in_place(weights), self.in_place(biases)
        feedback = [nothing[0], *self.in_place(back[1:])] if learns_back else backs(spec, back, dtype)
        slots, moved = [nothing] * 6, SLOTS.get(plan.optimizer, ())
        for i, name in enumerate(moved):
            slots[3 * i : 3 * i + 3] = moments(
                name, optimizer_state, pairs, tops, learns_back, self.in_place
            )
        states = nothing if particles is None else self.in_place(particles)
        if self.n_threads > 1 and self.order.size > COPY_BATCHES * self.size:
            for arrays in [w, *slots[: 3 * len(moved) : 3]]:
                arrays[0] = self.in_place.in_shares(arrays[0], self.n_threads)
            ints[ROW], ints[SHARES] = w[0].shape[1], self.n_threads
        self.table = array_table([w, b, feedback, *slots, states])
        self.kept = w, b, feedback, slots, states  # the table has only their addresses
        self.rates = np.array([plan.rate, plan.bias_rate], float)
        self.row_weight = np.ones(1, dtype) if row_weight is None else read(row_weight, dtype)
