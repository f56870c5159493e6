"""Layered-crossbar kernels in Numba; same signatures and meaning as `kernels.reference.crossbar`.

Loops over one sample at a time; the total conductances are kept up to date by the learning sweep. One thread.
"""

import numpy as np
from scipy import sparse

from ..reference.crossbar import NudgeError, nudge_pair, stages
from ..spec import DivergenceError
from .compile import kernel, typed_list

_jit = kernel(strict=True)
_SINGULAR = 2


@_jit
def _drive(weight, data, indices, gain, out):
    """out = gain * x (g+ - g-) for one sample given by its non-zeros."""
    n = weight.shape[0] // 2
    out[:] = 0
    for e in range(indices.shape[0]):
        v, up, down = gain * data[e], weight[indices[e]], weight[indices[e] + n]
        for i in range(out.shape[0]):
            out[i] += v * (up[i] - down[i])


@_jit
def _totals(weights, k):
    """Sum of the conductances at each node of layer k + 1."""
    total = np.zeros_like(weights[k][0])
    for row in weights[k]:
        total += row
    if k + 1 < len(weights):
        for i in range(total.shape[0]):
            total[i] += weights[k + 1][i].sum()
    return total


@_jit
def _solve(k, weights, biases, totals, lower, upper, drive, states, beta, y, pairs, out):
    """Exact minimiser of layer k + 1 given its neighbours; False if the nudge exceeds a conductance."""
    n = out.shape[0]
    last = k + 1 == len(weights)
    out[:] = biases[k]
    if k == 0:
        out += drive
    else:
        for j in range(states[k - 1].shape[0]):
            v = states[k - 1][j]
            if v != 0:
                row = weights[k][j]
                for i in range(n):
                    out[i] += v * row[i]
    if not last:
        for i in range(n):
            row, v = weights[k + 1][i], states[k + 1]
            s = out[i]
            for j in range(v.shape[0]):
                s += row[j] * v[j]
            out[i] = s
    ok = True
    for i in range(n):
        num, den = out[i], totals[k][i]
        if last and beta != 0 and not pairs:
            num, den = num + beta * y[i], den + beta
            ok = ok and den > 0
        out[i] = num / den if den > 0 else 0
    if last and beta != 0 and pairs:
        half = n // 2
        for i in range(half):
            up = 1 / totals[k][i] if totals[k][i] > 0 else 0
            down = 1 / totals[k][half + i] if totals[k][half + i] > 0 else 0
            stiffness = 1 + beta * (up + down)
            ok = ok and stiffness > 0
            current = beta * (y[i] - (out[i] - out[half + i])) / stiffness
            out[i] += current * up
            out[half + i] -= current * down
    for i in range(n):  # comparisons, not min and max: a NaN must stay one
        if out[i] < lower[k][i]:
            out[i] = lower[k][i]
        elif out[i] > upper[k][i]:
            out[i] = upper[k][i]
    return ok


@_jit
def _relax_one(
    weights, biases, totals, lower, upper, drive, states, order, together, n_steps, tol, beta, y, pairs, new
):
    """Up to `n_steps` steps of one sample, in place. Returns steps, residual, ok."""
    residual, zero = drive[0] * 0, drive[0] * 0
    for step in range(n_steps):
        change = zero
        for k in order:
            if not _solve(k, weights, biases, totals, lower, upper, drive, states, beta, y, pairs, new[k]):
                return step, residual, False
            for i in range(new[k].shape[0]):
                moved = abs(new[k][i] - states[k][i])
                if not moved <= change:
                    change = moved
                if not together:
                    states[k][i] = new[k][i]
        if together:
            for k in order:
                states[k][:] = new[k]
        residual = change
        if tol >= 0 and change <= tol:
            return step + 1, residual, True
    return n_steps, residual, True


@_jit
def _relax_all(
    weights,
    biases,
    lower,
    upper,
    indptr,
    indices,
    data,
    states,
    gain,
    order,
    together,
    n_steps,
    tol,
    beta,
    y,
    pairs,
    steps,
    residual,
):
    totals = [_totals(weights, k) for k in range(len(weights))]
    drive = np.empty_like(biases[0])
    new = [np.empty_like(b) for b in biases]
    for m in range(steps.shape[0]):
        own = slice(indptr[m], indptr[m + 1])
        _drive(weights[0], data[own], indices[own], gain, drive)
        one = [s[m] for s in states]
        steps[m], residual[m], ok = _relax_one(
            weights,
            biases,
            totals,
            lower,
            upper,
            drive,
            one,
            order,
            together,
            n_steps,
            tol,
            beta,
            y[m],
            pairs,
            new,
        )
        if not ok:
            return _SINGULAR
    return 0


@_jit
def _learn_input(weight, indptr, indices, data, rows, gain, diff, mean, kappa, g_min, g_max):
    """g <- clip(g - kappa sum_m [(drop_a)^2 - (drop_b)^2]) for the input conductances of one batch."""
    n, width = weight.shape[0] // 2, weight.shape[1]
    step = np.zeros_like(weight)
    shift = np.zeros_like(weight[0])
    for m in range(rows.shape[0]):
        shift += diff[m] * mean[m]
        for e in range(indptr[rows[m]], indptr[rows[m] + 1]):
            j, v = indices[e], 2 * gain * data[e]
            for i in range(width):
                step[j, i] += v * diff[m, i]
                step[j + n, i] -= v * diff[m, i]
    for j in range(2 * n):
        for i in range(width):
            weight[j, i] = min(max(weight[j, i] - kappa * (shift[i] - step[j, i]), g_min), g_max)


@_jit
def _learn_inner(weight, diff_j, mean_j, diff_k, mean_k, kappa, g_min, g_max):
    """The same between two layers: the bracket is (d_j - d_k)(m_j - m_k), d = v_a - v_b, m = v_a + v_b."""
    for j in range(weight.shape[0]):
        for i in range(weight.shape[1]):
            s = weight[j, i] * 0
            for m in range(diff_j.shape[0]):
                s += (diff_j[m, j] - diff_k[m, i]) * (mean_j[m, j] - mean_k[m, i])
            weight[j, i] = min(max(weight[j, i] - kappa * s, g_min), g_max)


@_jit
def _phases(
    weights,
    biases,
    lower,
    upper,
    indptr,
    indices,
    data,
    rows,
    gain,
    y,
    free,
    a,
    b,
    order,
    together,
    n_free,
    n_nudged,
    tol_free,
    tol_nudged,
    beta_a,
    beta_b,
    pairs,
):
    """Free phase, then the nudged ones, of the samples of a batch."""
    totals = [_totals(weights, k) for k in range(len(weights))]
    drive, new = np.empty_like(biases[0]), [np.empty_like(v) for v in biases]
    for m in range(rows.shape[0]):
        own = slice(indptr[rows[m]], indptr[rows[m] + 1])
        _drive(weights[0], data[own], indices[own], gain, drive)
        one, one_a, one_b = [s[m] for s in free], [s[m] for s in a], [s[m] for s in b]
        target = y[rows[m]]
        ok = _relax_one(
            weights,
            biases,
            totals,
            lower,
            upper,
            drive,
            one,
            order,
            together,
            n_free,
            tol_free,
            beta_a * 0,
            target,
            pairs,
            new,
        )[2]
        for k in range(len(one)):
            one_a[k][:] = one[k]
            one_b[k][:] = one[k]
        ok = (
            ok
            and _relax_one(
                weights,
                biases,
                totals,
                lower,
                upper,
                drive,
                one_a,
                order,
                together,
                n_nudged,
                tol_nudged,
                beta_a,
                target,
                pairs,
                new,
            )[2]
        )
        if beta_b != 0:
            ok = (
                ok
                and _relax_one(
                    weights,
                    biases,
                    totals,
                    lower,
                    upper,
                    drive,
                    one_b,
                    order,
                    together,
                    n_nudged,
                    tol_nudged,
                    beta_b,
                    target,
                    pairs,
                    new,
                )[2]
            )
        if not ok:
            return _SINGULAR
    return 0


def _csr(x, dtype):
    x = sparse.csr_matrix(x)
    return x.indptr.astype(np.int64), x.indices.astype(np.int64), x.data.astype(dtype)


def _order(schedule, n):
    return np.array(
        [k - 1 for layers in stages(schedule, n) for k in layers], dtype=np.int64
    ), schedule == "synchronous"


def _raise(status):
    if status == _SINGULAR:
        raise NudgeError


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
    _raise(
        _relax_all(
            typed_list(weights),
            typed_list(biases),
            typed_list(lower),
            typed_list(upper),
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
        )
    )
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
    n_threads=1,
):
    """See `kernels.reference.crossbar.train`."""
    dtype = weights[0].dtype
    real = dtype.type
    order = np.arange(x.shape[0]) if order is None else np.asarray(order)
    y = np.ascontiguousarray(y, dtype=dtype)
    weight = (
        np.ones(x.shape[0], dtype=dtype) if sample_weight is None else np.asarray(sample_weight, dtype=dtype)
    )
    indptr, indices, data = _csr(x, dtype)
    sequence, together = _order(schedule, len(weights))
    beta_a, beta_b = nudge_pair(nudging, beta)
    ws, bs, lo, hi = (typed_list(v) for v in (weights, biases, lower, upper))
    loss, n_correct, half = 0.0, 0, y.shape[1]
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        n = len(rows)
        free = [s[:n].copy() if carry and n == batch_size else np.zeros_like(s[:n]) for s in states]
        a, b = [np.empty_like(s) for s in free], [np.empty_like(s) for s in free]
        _raise(
            _phases(
                ws,
                bs,
                lo,
                hi,
                indptr,
                indices,
                data,
                rows,
                real(input_gain),
                y,
                typed_list(free),
                typed_list(a),
                typed_list(b),
                sequence,
                together,
                n_free_steps,
                n_nudged_steps,
                real(tol_free),
                real(tol_nudged),
                real(beta_a),
                real(beta_b),
                pairs,
            )
        )
        prediction = free[-1][:, :half] - free[-1][:, half:] if pairs else free[-1]
        cost = 0.5 * ((prediction - y[rows]) ** 2).sum(axis=1)
        if not np.isfinite(cost).all():
            raise DivergenceError("crossbar: the state became non-finite")
        loss += float((weight[rows] * cost).sum())
        n_correct += int((prediction.argmax(axis=1) == y[rows].argmax(axis=1)).sum())
        diff = [weight[rows, None] * (p - q) for p, q in zip(a, b)]
        mean = [p + q for p, q in zip(a, b)]
        total = float(weight[rows].sum(dtype=np.float64))
        per = 1.0 / ((beta_a - beta_b) * total) if total > 0 else 0.0
        limits = real(g_min), real(g_max)
        for k in range(1, len(weights)):
            _learn_inner(
                weights[k], diff[k - 1], mean[k - 1], diff[k], mean[k], real(0.5 * rates[k] * per), *limits
            )
        _learn_input(
            weights[0],
            indptr,
            indices,
            data,
            rows,
            real(input_gain),
            diff[0],
            mean[0],
            real(0.5 * rates[0] * per),
            *limits,
        )
        for k in range(len(weights)):
            biases[k] += real(bias_rates[k] * per) * diff[k].sum(axis=0)
        for k, s in enumerate(states):
            s[...] = a[k] if n == batch_size else 0
    return loss, n_correct
