"""Layered crossbars in Numba: the jitted functions; crossbar_driver.py calls them.

Loops over one sample at a time. Threads share the samples of a batch, then the rows of the conductances, and
meet at a barrier between the two: no sum is ever split, so results are bit-equal for any number of threads.
"""

import numpy as np

from .compile import kernel
from .threads import barrier

_jit = kernel(strict=True)
DIVERGED, SINGULAR = 1, 2


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
def _share(n, thread, n_threads):
    """This thread's part of n items."""
    return n * thread // n_threads, n * (thread + 1) // n_threads


@_jit
def _totals(weights, totals, thread, n_threads):
    """Sums of the conductances at this thread's nodes of every layer; each is one sum in order."""
    for k in range(len(weights)):
        own = totals[k]
        a, b = _share(own.shape[0], thread, n_threads)
        own[a:b] = 0
        for row in weights[k]:
            for i in range(a, b):
                own[i] += row[i]
        if k + 1 < len(weights):
            for i in range(a, b):
                own[i] += weights[k + 1][i].sum()


@_jit
def relax_all(
    thread,
    n_threads,
    control,
    weights,
    biases,
    lower,
    upper,
    totals,
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
    status,
):
    """Totals, then this thread's samples."""
    _totals(weights, totals, thread, n_threads)
    if not barrier(control, n_threads):
        return
    drive, new = np.empty_like(biases[0]), [np.empty_like(b) for b in biases]
    m0, m1 = _share(steps.shape[0], thread, n_threads)
    for m in range(m0, m1):
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
            status[thread] = SINGULAR
            return


@_jit
def _moved(w, gradient, velocity, rate, momentum, nesterov):
    """(new parameter before clipping, new velocity)."""
    v = momentum * velocity + gradient
    return w - rate * (gradient + momentum * v if nesterov else v), v


@_jit
def _clip(w, g_min, g_max):
    return min(max(w, g_min), g_max)


@_jit
def _by_node(indptr, indices, data, rows, gain, start, sample, value):
    """Non-zero inputs of a batch by input node, samples in order: places start[j] to start[j + 1]."""
    start[:] = 0
    for m in range(rows.shape[0]):
        for e in range(indptr[rows[m]], indptr[rows[m] + 1]):
            start[indices[e] + 2] += 1
    for j in range(start.shape[0] - 1):
        start[j + 1] += start[j]
    for m in range(rows.shape[0]):
        for e in range(indptr[rows[m]], indptr[rows[m] + 1]):
            at = start[indices[e] + 1]
            sample[at], value[at] = m, 2 * gain * data[e]
            start[indices[e] + 1] = at + 1


@_jit
def _learn_input(weight, velocity, lists, diff, mean, numbers, nesterov, limits, j0, j1):
    """g <- clip(g - rate per sum_m [(drop_a)^2 - (drop_b)^2]) for the conductances of inputs [j0, j1)."""
    n, width = weight.shape[0] // 2, weight.shape[1]
    start, sample, value = lists
    kappa, per, rate, momentum = numbers[0], numbers[1], numbers[2], numbers[3]
    shift, step = np.zeros_like(weight[0]), np.empty_like(weight[0])
    for m in range(diff.shape[0]):
        for i in range(width):
            shift[i] += diff[m, i] * mean[m, i]
    for j in range(j0, j1):
        step[:] = 0
        for e in range(start[j], start[j + 1]):
            m, v = sample[e], value[e]
            for i in range(width):
                step[i] += v * diff[m, i]
        up, down = weight[j], weight[j + n]
        if velocity.shape[0] == 0:
            for i in range(width):
                up[i] = _clip(up[i] - kappa * (shift[i] - step[i]), *limits)
                down[i] = _clip(down[i] - kappa * (shift[i] + step[i]), *limits)
            continue
        vu, vd = velocity[j], velocity[j + n]
        for i in range(width):
            w, vu[i] = _moved(up[i], per * (shift[i] - step[i]), vu[i], rate, momentum, nesterov)
            up[i] = _clip(w, *limits)
            w, vd[i] = _moved(down[i], per * (shift[i] + step[i]), vd[i], rate, momentum, nesterov)
            down[i] = _clip(w, *limits)


@_jit
def _learn_inner(weight, velocity, below, diff_k, mean_k, numbers, nesterov, limits, j0, j1):
    """The same between two layers: the bracket is (d_j - d_k)(m_j - m_k), d = v_a - v_b, m = v_a + v_b."""
    kappa, per, rate, momentum = numbers[0], numbers[1], numbers[2], numbers[3]
    diff_j, mean_j = below
    for j in range(j0, j1):
        for i in range(weight.shape[1]):
            s = weight[j, i] * 0
            for m in range(diff_j.shape[0]):
                s += (diff_j[m, j] - diff_k[m, i]) * (mean_j[m, j] - mean_k[m, i])
            if velocity.shape[0] == 0:
                weight[j, i] = _clip(weight[j, i] - kappa * s, *limits)
            else:
                w, velocity[j, i] = _moved(weight[j, i], per * s, velocity[j, i], rate, momentum, nesterov)
                weight[j, i] = _clip(w, *limits)


@_jit
def _learn_bias(bias, velocity, diff, numbers, nesterov):
    kappa, per, rate, momentum = numbers[0], numbers[1], numbers[2], numbers[3]
    for i in range(bias.shape[0]):
        s = bias[i] * 0
        for m in range(diff.shape[0]):
            s += diff[m, i]
        if velocity.shape[0] == 0:
            bias[i] += kappa * s
        else:
            bias[i], velocity[i] = _moved(bias[i], -per * s, velocity[i], rate, momentum, nesterov)


@_jit
def _score(v, y, pairs, weight):
    """Weighted cost of one sample and whether its argmax is right; NaN stays NaN."""
    half = y.shape[0]
    cost, best, wanted, top = 0.0, 0, 0, v[0] * 0
    for i in range(half):
        u = v[i] - v[half + i] if pairs else v[i]
        e = u - y[i]
        cost += 0.5 * e * e
        if i == 0 or u > top:
            best, top = i, u
        if y[i] > y[wanted]:
            wanted = i
    return weight * cost, best == wanted


@_jit
def train_all(
    thread,
    n_threads,
    control,
    weights,
    biases,
    velocities,
    bias_velocities,
    lower,
    upper,
    totals,
    indptr,
    indices,
    data,
    order,
    row_weight,
    gain,
    y,
    free,
    a,
    b,
    diff,
    mean,
    cost,
    correct,
    sequence,
    together,
    steps,
    tols,
    betas,
    pairs,
    carry,
    rates,
    bias_rates,
    momentum,
    nesterov,
    limits,
    lists,
    loss,
    status,
):
    """Batches of a.shape[0] samples: every thread relaxes its samples, then moves its rows of conductances.

    A thread's sample m starts where its own a[m] ended, so nothing else need be handed over.
    """
    size, L = a[0].shape[0], len(weights)
    drive, new = np.empty_like(biases[0]), [np.empty_like(v) for v in biases]
    fresh = False  # whether the last batch was of another size
    zero, numbers = gain * 0, np.empty(4, drive.dtype)
    for first in range(0, order.shape[0], size):
        rows = order[first : first + size]
        n = rows.shape[0]
        from_zero = fresh or n < size or not carry
        fresh = n < size
        _totals(weights, totals, thread, n_threads)
        if thread == 0:
            _by_node(indptr, indices, data, rows, gain, *lists)
        if not barrier(control, n_threads):
            return
        m0, m1 = _share(n, thread, n_threads)
        for m in range(m0, m1):
            own = slice(indptr[rows[m]], indptr[rows[m] + 1])
            _drive(weights[0], data[own], indices[own], gain, drive)
            target, w = y[rows[m]], row_weight[rows[m]]
            one, one_a, one_b = [s[m] for s in free], [s[m] for s in a], [s[m] for s in b]
            for k in range(L):
                if from_zero:
                    one[k][:] = 0
                else:
                    one[k][:] = one_a[k]
            for turn in range(3):
                v = one if turn == 0 else one_a if turn == 1 else one_b
                beta = zero if turn == 0 else betas[turn - 1]
                if turn:
                    for k in range(L):
                        v[k][:] = one[k]
                if turn == 2 and beta == 0:
                    continue
                which = min(turn, 1)
                ok = _relax_one(
                    weights,
                    biases,
                    totals,
                    lower,
                    upper,
                    drive,
                    v,
                    sequence,
                    together,
                    steps[which],
                    tols[which],
                    beta,
                    target,
                    pairs,
                    new,
                )[2]
                if not ok:
                    status[thread] = SINGULAR
                if turn == 0:
                    cost[m], correct[m] = _score(one[L - 1], target, pairs, w)
                    if not np.isfinite(cost[m]) and status[thread] == 0:
                        status[thread] = DIVERGED
            for k in range(L):
                for i in range(one_a[k].shape[0]):
                    diff[k][m, i] = w * (one_a[k][i] - one_b[k][i])
                    mean[k][m, i] = one_a[k][i] + one_b[k][i]
        if not barrier(control, n_threads):
            return
        if status.max() != 0:
            return
        total = 0.0
        for m in range(n):
            total += row_weight[rows[m]]
        per = 1.0 / ((betas[0] - betas[1]) * total) if total > 0 else 0.0
        if thread == 0:
            for m in range(n):
                loss[0] += cost[m]
                loss[1] += correct[m]
            for k in range(L):
                numbers[:] = bias_rates[k] * per, per, bias_rates[k], momentum
                _learn_bias(biases[k], bias_velocities[k], diff[k][:n], numbers, nesterov)
        for k in range(L):
            n_rows = weights[k].shape[0] if k else weights[k].shape[0] // 2
            j0, j1 = _share(n_rows, thread, n_threads)
            numbers[:] = 0.5 * rates[k] * per, 0.5 * per, rates[k], momentum
            w, v, d, m = weights[k], velocities[k], diff[k][:n], mean[k][:n]
            if k:
                below = diff[k - 1][:n], mean[k - 1][:n]
                _learn_inner(w, v, below, d, m, numbers, nesterov, limits, j0, j1)
            else:
                _learn_input(w, v, lists, d, m, numbers, nesterov, limits, j0, j1)
        if not barrier(control, n_threads):
            return
