"""The crossbar kernels that the other layers call: buffers, threads, errors; signatures and meaning of
reference/crossbar.py.
"""

import numpy as np
from scipy import sparse

from ..reference.crossbar import NudgeError, check_optimizer, nudge_pair, stages
from ..spec import DivergenceError, check_order
from .compile import typed_list
from .crossbar import DIVERGED, SINGULAR, relax_all, train_all
from .threads import run_threads, usable


def _csr(x, dtype):
    x = sparse.csr_matrix(x)
    return x.indptr.astype(np.int64), x.indices.astype(np.int64), x.data.astype(dtype)


def _order(schedule, n):
    return np.array(
        [k - 1 for layers in stages(schedule, n) for k in layers], dtype=np.int64
    ), schedule == "synchronous"


def _raise(status):
    if (status == SINGULAR).any():
        raise NudgeError
    if (status == DIVERGED).any():
        raise DivergenceError("crossbar: the state became non-finite")


def relax(
    weights,
    biases,
    lower,
    upper,
    x,
    states,
    *,
    input_gain=1.0,
    schedule="asynchronous",
    n_steps=4,
    tol=-1.0,
    beta=0.0,
    y=None,
    pairs=False,
    n_threads=1,
):
    """See `kernels.reference.crossbar.relax`."""
    dtype, n = weights[0].dtype, x.shape[0]
    steps, residual = np.zeros(n, dtype=np.int32), np.zeros(n, dtype=dtype)
    if n == 0:
        return steps, residual
    if y is None or beta == 0:
        y, beta = np.zeros((n, 1), dtype=dtype), 0.0
    order, together = _order(schedule, len(weights))
    n_threads = usable(n_threads, n)
    status = np.zeros(n_threads, dtype=np.int64)
    run_threads(
        relax_all,
        n_threads,
        typed_list(weights),
        typed_list(biases),
        typed_list(lower),
        typed_list(upper),
        typed_list([np.empty_like(b) for b in biases]),
        *_csr(x, dtype),
        typed_list(states),
        dtype.type(input_gain),
        order,
        together,
        n_steps,
        dtype.type(tol),
        dtype.type(beta),
        np.ascontiguousarray(y, dtype=dtype),
        pairs,
        steps,
        residual,
        status,
    )
    _raise(status)
    if not all(np.isfinite(s).all() for s in states):
        raise DivergenceError("crossbar: the state became non-finite")
    return steps, residual


def train(
    weights,
    biases,
    lower,
    upper,
    x,
    y,
    states,
    *,
    order=None,
    sample_weight=None,
    batch_size=4,
    input_gain=1.0,
    schedule="asynchronous",
    n_free_steps=4,
    n_nudged_steps=4,
    tol_free=-1.0,
    tol_nudged=-1.0,
    beta=1.0,
    nudging="centered",
    rates,
    bias_rates,
    g_min=0.0,
    g_max=np.inf,
    pairs=False,
    carry=True,
    optimizer="sgd",
    momentum=0.0,
    velocity=None,
    loss=0.0,
    n_threads=1,
):
    """See `kernels.reference.crossbar.train`."""
    check_optimizer(optimizer, velocity)
    dtype, L = weights[0].dtype, len(weights)
    real = dtype.type
    order = np.arange(x.shape[0]) if order is None else np.ascontiguousarray(order, dtype=np.int64)
    if len(order) == 0:
        return loss, 0
    check_order(order, x.shape[0])
    y = np.ascontiguousarray(y, dtype=dtype)
    weight = np.ones(x.shape[0]) if sample_weight is None else np.asarray(sample_weight)
    indptr, indices, data = _csr(x, dtype)
    most = int(np.diff(indptr).max(initial=0)) * batch_size
    lists = np.zeros(x.shape[1] + 2, np.int64), np.zeros(most, np.int64), np.zeros(most, dtype)
    sequence, together = _order(schedule, L)
    a = [s.copy() for s in states]
    free, b, diff, mean = ([np.empty_like(s) for s in states] for _ in range(4))
    if optimizer == "sgd":
        velocity = [np.empty((0, 0), dtype)] * L + [np.empty(0, dtype)] * L
    n_threads = usable(n_threads, batch_size)
    status, loss = np.zeros(n_threads, dtype=np.int64), np.array([loss, 0.0])
    run_threads(
        train_all,
        n_threads,
        typed_list(weights),
        typed_list(biases),
        typed_list(velocity[:L]),
        typed_list(velocity[L:]),
        typed_list(lower),
        typed_list(upper),
        typed_list([np.empty_like(v) for v in biases]),
        indptr,
        indices,
        data,
        order,
        np.ascontiguousarray(weight, dtype=dtype),
        real(input_gain),
        y,
        *(typed_list(v) for v in (free, a, b, diff, mean)),
        np.zeros(batch_size),
        np.zeros(batch_size),
        sequence,
        together,
        np.array([n_free_steps, n_nudged_steps]),
        np.array([tol_free, tol_nudged], dtype=dtype),
        np.array(nudge_pair(nudging, beta), dtype=dtype),
        pairs,
        carry,
        np.asarray(rates, dtype=np.float64),
        np.asarray(bias_rates, dtype=np.float64),
        float(momentum),
        optimizer == "nesterov",
        (real(g_min), real(g_max)),
        lists,
        loss,
        status,
    )
    _raise(status)
    for s, last in zip(states, a):
        s[...] = 0 if len(order) % batch_size else last
    return float(loss[0]), int(loss[1])
