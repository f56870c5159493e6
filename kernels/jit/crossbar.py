"""Layered crossbars in Numba: what a thread does; crossbar_driver.py calls it.

Loops over one sample at a time. Threads share the samples of a batch, then the rows of the
conductances, and meet at a barrier between the two: no sum is ever split, so results are bit-equal
for any number of threads.

`job` is an eqp_crossbar_job of csrc/core/jobs.h; `net` and `work` hold the scratch that
crossbar_driver.py makes for relaxing and for learning, `own` is a thread's part of it. A row of
states holds the nodes of all layers side by side, layer k + 1 from net.offset[k] on.
"""

from typing import NamedTuple

import numpy as np

from .compile import accessor, is_finite, kernel, larger
from .layout import address_in, bias_moments, biases_of, n_units, own_rows
from .threads import barrier
from .views import array, matrix, vector

_jit = kernel(strict=True)
_inline = kernel(strict=True, inline=True)
DIVERGED, SINGULAR = 1, 2
SYNCHRONOUS = 0  # of job.schedule
SGD, NESTEROV = 0, 2  # of job.optimizer


class Step(NamedTuple):
    """Numbers of one learning step, of the kernel's precision."""

    kappa: float  # rate times gradient per contrast
    per: float  # gradient per contrast
    rate: float
    momentum: float
    plain: bool
    nesterov: bool
    low: float
    high: float


@accessor
def conductances(job, table, k):
    """Matrix k (2 N[0] or N[k], N[k+1]) of a table shaped as the weights."""
    n_rows = n_units(job, k) * (2 if k == 0 else 1)
    return matrix(job.real, address_in(table, k), n_rows, n_units(job, k + 1))


@accessor
def targets(job, row):
    """Row `row` of y: as many as there are outputs, or pairs of them."""
    n = n_units(job, job.n_weights)
    return matrix(job.real, job.y, row + 1, n // 2 if job.pairs else n)[row]


# --- one sample


@_jit
def drive_sample(job, row, out):
    """out (N[1]) = gain * x (g+ - g-) for one row of x, given by its non-zeros."""
    weight, n = conductances(job, job.weight, 0), n_units(job, 0)
    begin, end = vector(np.int64, job.indptr, row + 2)[row : row + 2]
    indices, data = vector(np.int32, job.indices, end), vector(job.real, job.data, end)
    gain = out.dtype.type(job.input_gain)
    for i in range(out.size):
        out[i] = 0
    for e in range(begin, end):
        v, up, down = gain * data[e], weight[indices[e]], weight[indices[e] + n]
        for i in range(out.size):
            out[i] += v * (up[i] - down[i])


@_jit
def add_currents(job, net, own, k, states, out):
    """out (N[k+1]): the currents into layer k + 1 from its biases and from the layers beside it."""
    offset, bias, drive = array(net.offset), biases_of(job, job.bias, k), array(own.drive)
    n = out.size
    for i in range(n):
        out[i] = bias[i]
    if k == 0:
        for i in range(n):
            out[i] += drive[i]
    else:
        weight = conductances(job, job.weight, k)
        for j in range(weight.shape[0]):
            v = states[offset[k - 1] + j]
            if v != 0:
                row = weight[j]
                for i in range(n):
                    out[i] += v * row[i]
    if k + 1 < job.n_weights:
        weight, v = conductances(job, job.weight, k + 1), states[offset[k + 1] : offset[k + 2]]
        for i in range(n):
            row, s = weight[i], out[i]
            for j in range(v.size):
                s += row[j] * v[j]
            out[i] = s


@_jit
def nudge_pairs(totals, beta, y, out):
    """beta (y - prediction) into one node, out of the other; False if they cannot give that."""
    half, ok = out.size // 2, True
    for i in range(half):
        up = 1 / totals[i] if totals[i] > 0 else 0
        down = 1 / totals[half + i] if totals[half + i] > 0 else 0
        stiffness = 1 + beta * (up + down)
        ok = ok and stiffness > 0
        current = beta * (y[i] - (out[i] - out[half + i])) / stiffness
        out[i] += current * up
        out[half + i] -= current * down
    return ok


@_jit
def solve_layer(job, net, own, k, states, beta, y):
    """Exact minimiser of layer k + 1 in own.new; False if the nudge exceeds a conductance."""
    offset = array(net.offset)
    out = array(own.new)[offset[k] : offset[k + 1]]
    totals = array(net.totals)[offset[k] : offset[k + 1]]
    lower, upper = biases_of(job, job.lower, k), biases_of(job, job.upper, k)
    add_currents(job, net, own, k, states, out)
    nudged, ok = k + 1 == job.n_weights and beta != 0, True
    for i in range(out.size):
        num, den = out[i], totals[i]
        if nudged and not job.pairs:
            num, den = num + beta * y[i], den + beta
            ok = ok and den > 0
        out[i] = num / den if den > 0 else 0
    if nudged and job.pairs:
        ok = nudge_pairs(totals, beta, y, out)
    for i in range(out.size):  # comparisons, not min and max: a NaN must stay one
        if out[i] < lower[i]:
            out[i] = lower[i]
        elif out[i] > upper[i]:
            out[i] = upper[i]
    return ok


@_jit
def relax_sample(job, net, own, states, n_steps, tol, beta, y):
    """Up to `n_steps` steps of one sample's states, in place. Returns steps, residual, ok."""
    offset, order, new = array(net.offset), array(net.sequence), array(own.new)
    together = job.schedule == SYNCHRONOUS
    residual = zero = states.dtype.type(0)
    if n_steps == 0 and beta != 0:  # a nudge without equilibrium is refused though no step meets it
        return 0, residual, solve_layer(job, net, own, job.n_weights - 1, states, beta, y)
    for step in range(n_steps):
        change = zero
        for k in order:
            if not solve_layer(job, net, own, k, states, beta, y):
                return step, residual, False
            for i in range(offset[k], offset[k + 1]):
                change = larger(change, abs(new[i] - states[i]))
                if not together:
                    states[i] = new[i]
        if together:
            for i in range(new.size):
                states[i] = new[i]
        residual = change
        if tol >= 0 and change <= tol:
            return step + 1, residual, True
    return n_steps, residual, True


@_jit
def sum_conductances(job, net, thread, n_threads):
    """net.totals at this thread's nodes of every layer; each is one sum in order. Says in
    net.broken if one is no number: in an array of its own, since fast threads write to net.status
    while slow ones still ask.
    """
    offset, broken = array(net.offset), array(net.broken)
    for k in range(job.n_weights):
        own, below = array(net.totals)[offset[k] : offset[k + 1]], conductances(job, job.weight, k)
        first, last = own_rows(own.size, thread, n_threads)
        for i in range(first, last):
            own[i] = 0
        for j in range(below.shape[0]):
            row = below[j]
            for i in range(first, last):
                own[i] += row[i]
        if k + 1 < job.n_weights:
            above = conductances(job, job.weight, k + 1)
            for i in range(first, last):
                row, s = above[i], own.dtype.type(0)
                for j in range(row.size):
                    s += row[j]
                own[i] += s
        for i in range(first, last):
            if not is_finite(own[i]):
                broken[thread] = True


@_inline
def none_of(flags):
    none = True
    for t in range(flags.size):
        none = none and flags[t] == 0
    return none


@_jit
def relax_all(thread, n_threads, control, job, net):
    """Totals, then this thread's samples; `job.state` is in/out."""
    offset, own, status = array(net.offset), array(net.own)[thread], array(net.status)
    states, n = array(own.states), job.n_rows
    steps, residual = vector(np.int32, job.steps, n), vector(job.real, job.residual, n)
    beta, tol = states.dtype.type(job.beta), states.dtype.type(job.tol_free)
    sum_conductances(job, net, thread, n_threads)
    if not barrier(control, n_threads):
        return
    if not none_of(array(net.broken)):
        return
    first, last = own_rows(n, thread, n_threads)
    for m in range(first, last):
        drive_sample(job, m, array(own.drive))
        for k in range(job.n_weights):
            layer = matrix(job.real, address_in(job.state, k), n, n_units(job, k + 1))
            states[offset[k] : offset[k + 1]] = layer[m]
        y = targets(job, m)
        steps[m], residual[m], ok = relax_sample(job, net, own, states, job.n_free_steps, tol, beta, y)
        for k in range(job.n_weights):
            layer = matrix(job.real, address_in(job.state, k), n, n_units(job, k + 1))
            layer[m] = states[offset[k] : offset[k + 1]]
        if not ok:
            status[thread] = SINGULAR
            return


# --- learning


@_inline
def stepped(w, contrast, velocity, step):
    """(new parameter before clipping, new velocity)."""
    if step.plain:
        return w - step.kappa * contrast, velocity
    gradient = step.per * contrast
    v = step.momentum * velocity + gradient
    return w - step.rate * (gradient + step.momentum * v if step.nesterov else v), v


@_inline
def clip(w, step):
    return min(max(w, step.low), step.high)


@_jit
def list_by_node(job, work, rows):
    """Non-zero inputs of a batch by input node, samples in order: places start[j] to start[j + 1].
    """
    start, sample, value = array(work.start), array(work.sample), array(work.value)
    n_data = work.n_data
    indptr = vector(np.int64, job.indptr, n_data + 1)
    indices = vector(np.int32, job.indices, indptr[n_data])
    data = vector(job.real, job.data, indptr[n_data])
    gain = value.dtype.type(job.input_gain)
    for j in range(start.size):
        start[j] = 0
    for m in range(rows.size):
        for e in range(indptr[rows[m]], indptr[rows[m] + 1]):
            start[indices[e] + 2] += 1
    for j in range(start.size - 1):
        start[j + 1] += start[j]
    for m in range(rows.size):
        for e in range(indptr[rows[m]], indptr[rows[m] + 1]):
            at = start[indices[e] + 1]
            sample[at], value[at] = m, 2 * gain * data[e]
            start[indices[e] + 1] = at + 1


@_jit
def learn_input(job, work, own, step, n, first, last):
    """g <- clip(g - rate per sum_m [(drop_a)^2 - (drop_b)^2]) from inputs first..last."""
    weight, velocity = conductances(job, job.weight, 0), conductances(job, job.velocity, 0)
    start, sample, value = array(work.start), array(work.sample), array(work.value)
    diff, mean, n_in = array(work.diff), array(work.mean), n_units(job, 0)
    shift, change, idle = array(own.shift), array(own.change), array(own.idle)
    width, one = weight.shape[1], shift.dtype.type(1)
    for i in range(width):
        shift[i] = 0
    for m in range(n):
        for i in range(width):
            shift[i] += diff[m, i] * mean[m, i]
    for j in range(first, last):
        for i in range(width):
            change[i] = 0
        for e in range(start[j], start[j + 1]):
            d, x = diff[sample[e]], value[e]
            for i in range(width):
                change[i] += x * d[i]
        for sign, row in ((-one, j), (one, j + n_in)):
            g, v = weight[row], idle if step.plain else velocity[row]
            for i in range(width):
                w, v[i] = stepped(g[i], shift[i] + sign * change[i], v[i], step)
                g[i] = clip(w, step)


@_jit
def learn_inner(job, work, own, k, step, n, first, last):
    """The same between layers k and k + 1: the bracket is (d_j - d_i)(m_j - m_i), d = v_a - v_b and
    m = v_a + v_b of `n` samples.
    """
    weight, velocity = conductances(job, job.weight, k), conductances(job, job.velocity, k)
    diff, mean, offset = array(work.diff), array(work.mean), array(work.net.offset)
    below, here = offset[k - 1], offset[k]
    for j in range(first, last):
        g, v = weight[j], array(own.idle) if step.plain else velocity[j]
        for i in range(g.size):
            s = g[i] * 0
            for m in range(n):
                s += (diff[m, below + j] - diff[m, here + i]) * (mean[m, below + j] - mean[m, here + i])
            w, v[i] = stepped(g[i], s, v[i], step)
            g[i] = clip(w, step)


@_jit
def learn_bias(job, work, own, k, step, n):
    """Biases of layer k + 1: their contrast is minus the sum of v_a - v_b."""
    bias, at, diff = biases_of(job, job.bias, k), array(work.net.offset)[k], array(work.diff)
    v = array(own.idle) if step.plain else bias_moments(job, job.velocity, k)
    for i in range(bias.size):
        s = bias[i] * 0
        for m in range(n):
            s += diff[m, at + i]
        bias[i], v[i] = stepped(bias[i], -s, v[i], step)


@_jit
def score(v, y, pairs, weight):
    """Weighted cost of one sample and whether its argmax is right; NaN stays NaN."""
    half = y.size
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
def phases(job, work, own, m, row, from_zero):
    """The free and the nudged states of sample m, which is row `row` of the data, and their
    contrast.

    Its free phase starts where the last batch's phase a ended, or from zero.
    """
    free, a, b = array(work.free)[m], array(work.a)[m], array(work.b)[m]
    diff, mean, betas = array(work.diff)[m], array(work.mean)[m], array(work.betas)
    cost, correct, status = array(work.cost), array(work.correct), array(work.net.status)
    real, y = free.dtype.type, targets(job, row)
    weight = vector(job.real, job.row_weight, row + 1)[row]
    for i in range(free.size):
        free[i] = 0 if from_zero else a[i]
    drive_sample(job, row, array(own.drive))
    n_steps, tol = job.n_free_steps, real(job.tol_free)
    ok = relax_sample(job, work.net, own, free, n_steps, tol, 0.0, y)[2]
    cost[m], correct[m] = score(free[array(work.net.offset)[job.n_weights - 1] :], y, job.pairs, weight)
    if not np.isfinite(cost[m]) and status[own.thread] == 0:
        status[own.thread] = DIVERGED
    n_steps, tol = job.n_nudged_steps, real(job.tol_nudged)
    for i in range(free.size):
        a[i] = b[i] = free[i]
    ok = relax_sample(job, work.net, own, a, n_steps, tol, np.float64(betas[0]), y)[2] and ok
    if betas[1] != 0:
        ok = relax_sample(job, work.net, own, b, n_steps, tol, np.float64(betas[1]), y)[2] and ok
    if not ok:
        status[own.thread] = SINGULAR
    for i in range(free.size):
        diff[i] = weight * (a[i] - b[i])
        mean[i] = a[i] + b[i]


@_inline
def step_of(job, real, rate, per, per_rate):
    """A step along `per` times a contrast; per_rate: rate times per, rounded as it always was."""
    return Step(
        real(per_rate), real(per), real(rate), real(job.momentum), job.optimizer == SGD,
        job.optimizer == NESTEROV, real(job.g_min), real(job.g_max),
    )


@_jit
def learn(job, work, own, rows, n_threads):
    """The batch's step of this thread's rows of the conductances; thread 0 also steps the biases.
    """
    n, betas, real = rows.size, array(work.betas), array(work.betas).dtype.type
    rates = vector(np.float64, job.rate, job.n_weights)
    bias_rates = vector(np.float64, job.bias_rate, job.n_weights)
    weight, loss = vector(job.real, job.row_weight, work.n_data), vector(np.float64, job.loss, 2)
    cost, correct, total = array(work.cost), array(work.correct), 0.0
    for m in range(n):
        total += weight[rows[m]]
    per = 1.0 / ((betas[0] - betas[1]) * total) if total > 0 else 0.0
    if own.thread == 0:
        for m in range(n):
            loss[0] += cost[m]
            loss[1] += correct[m]
        for k in range(job.n_weights):
            learn_bias(job, work, own, k, step_of(job, real, bias_rates[k], per, bias_rates[k] * per), n)
    for k in range(job.n_weights):
        step = step_of(job, real, rates[k], 0.5 * per, 0.5 * rates[k] * per)
        first, last = own_rows(n_units(job, k), own.thread, n_threads)
        if k == 0:
            learn_input(job, work, own, step, n, first, last)
        else:
            learn_inner(job, work, own, k, step, n, first, last)


@_jit
def train_all(thread, n_threads, control, job, work):
    """Batches of B samples: every thread relaxes its samples, then moves its rows of conductances.

    A thread's sample m starts where its own a[m] ended, so nothing else need be handed over.
    """
    own, status, size = array(work.net.own)[thread], array(work.net.status), job.batch_size
    order = vector(np.int64, job.order, job.n_rows)
    fresh = False  # whether the last batch was of another size
    for begin in range(0, order.size, size):
        rows = order[begin : begin + size]
        n = rows.size
        from_zero = fresh or n < size or not job.carry
        fresh = n < size
        sum_conductances(job, work.net, thread, n_threads)
        if thread == 0:
            list_by_node(job, work, rows)
        if not barrier(control, n_threads):
            return
        if not none_of(array(work.net.broken)):
            return
        first, last = own_rows(n, thread, n_threads)
        for m in range(first, last):
            phases(job, work, own, m, rows[m], from_zero)
        if not barrier(control, n_threads):
            return
        if not none_of(status):
            return
        learn(job, work, own, rows, n_threads)
        if not barrier(control, n_threads):
            return
