"""The crossbar kernels that the other layers call: scratch, threads, errors; signatures and meaning
of reference/crossbar.py.
"""

import numpy as np
from scipy import sparse

from ..prepare.crossbar import relax_job, train_job
from ..reference.crossbar import NudgeError, nudge_pair, stages
from ..spec import DivergenceError
from .crossbar import DIVERGED, SINGULAR, relax_all, train_all
from .threads import run_threads, usable
from .views import Record, argument, row_records


def _raise(net):
    status = net.kept["status"]
    if (status == SINGULAR).any():
        raise NudgeError
    if (status == DIVERGED).any() or net.kept["broken"].any():
        raise DivergenceError("crossbar: the state or the conductances became non-finite")


def _network(weights, schedule, n_threads):
    """The scratch that relaxation needs: layers side by side in rows, and every thread's own."""
    dtype, widths = weights[0].dtype, [w.shape[1] for w in weights]
    offset = np.cumsum([0, *widths])
    own, kept = row_records(
        n_threads,
        **{name: np.zeros((n_threads, widths[0]), dtype) for name in ("drive", "shift", "change")},
        **{name: np.zeros((n_threads, offset[-1]), dtype) for name in ("new", "states")},
    )
    net = Record(
        offset=offset,
        sequence=np.array([k - 1 for layers in stages(schedule, len(weights)) for k in layers]),
        totals=np.zeros(offset[-1], dtype), own=own,
        status=np.zeros(n_threads, np.int64), broken=np.zeros(n_threads, np.int64),
    )
    net.kept["rows"] = kept
    return net


def relax(
    weights, biases, lower, upper, x, states, *, input_gain=1.0, schedule="asynchronous", n_steps=4, tol=-1.0,
    beta=0.0, y=None, pairs=False, n_threads=1,
):
    """See `kernels.reference.crossbar.relax`."""
    dtype, n = weights[0].dtype, x.shape[0]
    steps, residual = np.zeros(n, np.int32), np.zeros(n, dtype)
    if n == 0:
        return steps, residual
    job = relax_job(
        weights, biases, lower, upper, sparse.csr_matrix(x), states, steps, residual, input_gain=input_gain,
        schedule=schedule, n_steps=n_steps, tol=tol, beta=beta, y=y, pairs=pairs,
    )
    n_threads = usable(n_threads, n)
    net = _network(weights, schedule, n_threads)
    with job:
        run_threads(relax_all, n_threads, argument(job), argument(net))
    _raise(net)
    if not all(np.isfinite(s).all() for s in states):
        raise DivergenceError("crossbar: the state or the conductances became non-finite")
    return steps, residual


def train(
    weights, biases, lower, upper, x, y, states, *, order=None, sample_weight=None, batch_size=4,
    input_gain=1.0, schedule="asynchronous", n_free_steps=4, n_nudged_steps=4, tol_free=-1.0, tol_nudged=-1.0,
    beta=1.0, nudging="centered", rates, bias_rates, g_min=0.0, g_max=np.inf, pairs=False, carry=True,
    optimizer="sgd", momentum=0.0, velocity=None, loss=0.0, n_threads=1,
):
    """See `kernels.reference.crossbar.train`."""
    x, loss, dtype = sparse.csr_matrix(x), np.array([loss, 0.0]), weights[0].dtype
    job = train_job(
        weights, biases, lower, upper, x, y, states, loss, order=order,
        sample_weight=np.ones(x.shape[0]) if sample_weight is None else sample_weight, batch_size=batch_size,
        input_gain=input_gain, schedule=schedule, n_free_steps=n_free_steps, n_nudged_steps=n_nudged_steps,
        tol_free=tol_free, tol_nudged=tol_nudged, beta=beta, nudging=nudging, rates=rates,
        bias_rates=bias_rates, g_min=g_min, g_max=g_max, pairs=pairs, carry=carry, optimizer=optimizer,
        momentum=momentum, velocity=velocity,
    )
    n_rows = job["n_rows"]
    if n_rows == 0:
        return float(loss[0]), 0
    n_threads, most = usable(n_threads, batch_size), int(np.diff(x.indptr).max(initial=0)) * batch_size
    last = np.concatenate(states, axis=1).astype(dtype)
    net = _network(weights, schedule, n_threads)
    work = Record(
        net=net, a=last, n_data=x.shape[0],
        **{name: np.zeros_like(last) for name in ("free", "b", "diff", "mean")},
        cost=np.zeros(batch_size), correct=np.zeros(batch_size),
        betas=np.array(nudge_pair(nudging, beta), dtype),
        start=np.zeros(x.shape[1] + 2, np.int64), sample=np.zeros(most, np.int64),
        value=np.zeros(most, dtype),
    )
    with job:
        run_threads(train_all, n_threads, argument(job), argument(work))
    _raise(net)
    offset = net.kept["offset"]
    for k, s in enumerate(states):
        s[...] = 0 if n_rows % batch_size else last[:, offset[k] : offset[k + 1]]
    return float(loss[0]), int(loss[1])
