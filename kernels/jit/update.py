"""Contrast and optimiser step of every weight, fused: rank-B differences added row by row; twin of
reference/update.py.

The contrast of two phases, qb qb' - qa qa', is taken as qb (qb' - qa') + (qb - qa) qa': products of
what has moved. Units that have not give exactly 0, and not rounding, which Adam would step along.

`ascent` is minus the gradient. Threads own columns of W_0 and rows of the other weights. `work` is
the scratch of driver.py, `own` the record of a thread's columns in it.
"""

from typing import NamedTuple

import numpy as np

from .activations import IDENTITY, ONE, ZERO, rho_scalar
from .compile import kernel
from .inputs import group_by_input
from .layout import (
    BACKWARDS,
    FORWARDS,
    Block,
    back_moments,
    backs_of,
    bias_moments,
    biases_of,
    block,
    joined,
    own_rows,
    weights_of,
)
from .lists import add_listed
from .packing import refresh, unpack_transpose
from .products import add_panels, add_row, add_rows2, add_rows4
from .tiles import TILE_SAMPLES, tile_columns
from .views import array, vector

SGD, MOMENTUM_SGD, NESTEROV, ADAM = range(4)  # spec.OPTIMIZERS


class Move(NamedTuple):
    """Numbers of a step of weights along sums over samples, or over recorded steps of them."""

    n_rows: int
    scale: float  # of the sum
    rate: float
    t: float  # updates from the first on, this one included


@kernel(inline=True)
def clear(row):
    for i in range(row.size):
        row[i] = ZERO


@kernel
def step_row(job, p, ascent, m, v, rate, decay, t):
    """One step of the entries p; m, v: their moments, unused by SGD; t counts updates from 1."""
    n = p.size
    real = p.dtype.type
    r, d = real(rate), real(decay)
    if job.optimizer == SGD:
        for i in range(n):
            p[i] += r * (ascent[i] - d * p[i])
    elif job.optimizer == ADAM:
        beta1, beta2 = real(job.beta1), real(job.beta2)
        rest1, rest2 = real(1.0 - job.beta1), real(1.0 - job.beta2)
        root = np.sqrt(1.0 - job.beta2 ** t)
        corrected = r * real(root / (1.0 - job.beta1 ** t))
        epsilon = real(job.epsilon * root)
        for i in range(n):
            g = d * p[i] - ascent[i]
            m[i] = beta1 * m[i] + rest1 * g
            v[i] = beta2 * v[i] + rest2 * g * g
            p[i] -= corrected * m[i] / (np.sqrt(v[i]) + epsilon)
    else:
        momentum = real(job.momentum)
        ahead = momentum if job.optimizer == NESTEROV else ONE
        own = ONE if job.optimizer == NESTEROV else ZERO
        for i in range(n):
            g = d * p[i] - ascent[i]
            m[i] = momentum * m[i] + g
            p[i] -= r * (own * g + ahead * m[i])


@kernel
def add_samples(out, coefficients, states, low):
    """out += sum_b coefficients[b] * states[b, low : low + len(out)]."""
    n = out.size
    high = low + n
    m = coefficients.size
    b = 0
    while b + 4 <= m:
        c, rows = coefficients[b : b + 4], states[b : b + 4, low:high]
        add_rows4(out, c[0], c[1], c[2], c[3], rows[0], rows[1], rows[2], rows[3])
        b += 4
    if b + 2 <= m:
        add_rows2(out, coefficients[b], coefficients[b + 1], states[b, low:high], states[b + 1, low:high])
        b += 2
    if b < m:
        add_row(out, coefficients[b], states[b, low:high])


@kernel
def difference_slice(weight, first, second, n_samples, low, high, delta):
    """delta[b] = weight[b] (second - first) on columns low..high of the first layer."""
    for b in range(n_samples):
        w = weight[b]
        s, e, d = first[b, low:high], second[b, low:high], delta[b, low:high]
        for i in range(d.size):
            d[i] = w * (e[i] - s[i])


@kernel
def update_input(job, work, own, lists, delta, n_samples, scale, t):
    """Own columns of W_0 and b_0, along the inputs of `lists` times the rows of `delta`."""
    low, high = own.low, own.high
    if low >= high:
        return
    starts, sample = array(work.starts)[own.thread], array(work.sample)[own.thread]
    coefficient, ascent = array(work.coefficient)[own.thread], array(work.ascent)[own.thread]
    group_by_input(lists, n_samples, starts, sample, coefficient)
    w, m = array(work.first.weights)[own.share], array(work.first.velocity)
    v = array(work.first.second)
    m, v = m[own.share], v[own.share]
    n, left, right = high - low, low - own.moved, high - own.moved
    rate, bias_rate = vector(np.float64, job.rate, 1)[0], vector(np.float64, job.bias_rate, 1)[0]
    total = ascent[1, :n]  # sum of the deltas: ascent of the bias, and of an input at rest if rho(0) != 0
    clear(total)
    add_samples(total, array(work.ones)[:n_samples], delta, low)
    base = w.dtype.type(0)
    if job.input_activation != IDENTITY:
        base = rho_scalar(job.input_activation, base)
    plain = job.optimizer == SGD and job.weight_decay == 0.0 and base == ZERO
    real = w.dtype.type
    factor = real(scale * rate) if plain else real(scale)
    for p in range(starts[w.shape[0]]):
        coefficient[p] *= factor
    row = ascent[0, :n]
    for j in range(w.shape[0]):
        begin, end = starts[j], starts[j + 1]
        if plain:
            if begin < end:
                add_listed(w[j][left:right], low, coefficient[begin:end], sample[begin:end], delta)
            continue
        for i in range(n):
            row[i] = base * factor * total[i]
        add_listed(row, low, coefficient[begin:end], sample[begin:end], delta)
        step_row(
            job, w[j][left:right], row, m[j][left:right], v[j][left:right], rate, job.weight_decay, t
        )
    for i in range(n):
        total[i] *= real(scale)
    b, m_b = biases_of(job, job.bias, 0), bias_moments(job, job.velocity, 0)
    v_b = bias_moments(job, job.second, 0)
    step_row(job, b[low:high], total, m_b[low:high], v_b[low:high], bias_rate, 0.0, t)


@kernel
def update_bias(job, net, k, weight, first, second, move, ascent):
    """The bias of layer k + 1, k >= 1, along weight (second - first); net.bias copies it."""
    b, rate = biases_of(job, job.bias, k), vector(np.float64, job.bias_rate, k + 1)[k]
    n, offset = b.size, array(net.layers)[k + 1].offset
    total = ascent[0, :n]
    clear(total)
    for s in range(move.n_rows):
        w, a, b_s = weight[s], first[s, offset : offset + n], second[s, offset : offset + n]
        for i in range(n):
            total[i] += w * (b_s[i] - a[i])
    for i in range(n):
        total[i] *= b.dtype.type(move.scale)
    m, v = bias_moments(job, job.velocity, k), bias_moments(job, job.second, k)
    step_row(job, b, total, m, v, rate, 0.0, move.t)
    copy = array(net.bias)[offset : offset + n]
    for i in range(n):
        copy[i] = b[i]


@kernel
def clear_ascent(work, thread, count, n_out):
    """Zeroes the first `count` rows of a thread's ascent."""
    ascent = array(work.ascent)[thread]
    for i in range(count):
        clear(ascent[i, :n_out])


@kernel
def add_ascent(work, thread, pre, pre_at, post, post_at, count, n_out, n_rows, factor):
    """ascent[i, :n_out] += factor sum_b row_weight[b] pre[b, pre_at + i] post[b, post_at :], for
    i < count and the first n_rows rows b; work.products takes the coefficients of the sum.
    """
    ascent, coefficients = array(work.ascent)[thread], array(work.products)[thread]
    weight, places, none = array(work.row_weight), array(work.places), np.int64(0)
    for b in range(n_rows):
        a = factor * weight[b]
        for i in range(count):
            coefficients[i, b] = a * pre[b, pre_at + i]
    rows = Block(post_at, post.shape[1], tile_columns(ascent.itemsize))
    flat = post.reshape(post.size)
    add_panels(ascent, none, n_out, places[:count], coefficients, none, n_rows, flat, rows)


@kernel
def step_rows(job, way, k, ascent, start, count, move):
    """Steps `count` rows of the weights k from `start` on, along the rows of `ascent`."""
    if way == BACKWARDS:
        w, m = backs_of(job, job.back, k), back_moments(job, job.velocity, k)
        v = back_moments(job, job.second, k)
    else:
        w, m = weights_of(job, job.weight, k), weights_of(job, job.velocity, k)
        v = weights_of(job, job.second, k)
    for i in range(count):
        g, j = ascent[i, : w.shape[1]], start + i
        step_row(job, w[j], g, m[j], v[j], move.rate, job.weight_decay, move.t)


@kernel
def update_hidden(job, work, thread, way, k, move):
    """Own rows of the weights k, forwards or backwards, a few at a time.

    The contrast is sum_b weight[b] before[p, b, pre] after[q, b, post], over the pairs (p, q) of
    work.contrast.
    """
    before, after, contrast = array(work.before), array(work.after), array(work.contrast)
    pre, post = joined(work.net, way, k)
    factor = after.dtype.type(move.scale)
    low, high = own_rows(pre.size, thread, work.n_threads)
    for start in range(low, high, TILE_SAMPLES):
        count = min(TILE_SAMPLES, high - start)
        clear_ascent(work, thread, count, post.size)
        for part in range(len(contrast)):
            add_ascent(
                work, thread, before[contrast[part, 0]], pre.offset + start, after[contrast[part, 1]],
                post.offset, count, post.size, move.n_rows, factor,
            )
        step_rows(job, way, k, array(work.ascent)[thread], start, count, move)
    refresh(job, work.net, way, k, low, high)


@kernel
def update_narrow(job, work, thread, k, move):
    """The same where layer k + 1 is narrow: by columns, the long side; packs the transpose too."""
    below, here, packed = array(work.net.layers)[k], array(work.net.layers)[k + 1], array(work.net.packed)
    w, m = weights_of(job, job.weight, k), weights_of(job, job.velocity, k)
    v, rate, decay = weights_of(job, job.second, k), move.rate, job.weight_decay
    low, high = own_rows(below.size, thread, work.n_threads)
    n, n_out, transpose = high - low, here.size, here.transpose
    ascent, coefficient = array(work.ascent)[thread], array(work.coefficient)[thread]
    if n <= 0:
        return
    for j in range(n_out):
        narrow_ascent(work, thread, below.offset + low, here.offset + j, ascent[j, :n], move)
    if job.optimizer == SGD:  # on the transpose, which holds the same numbers
        for j in range(n_out):
            at = transpose.start + j * transpose.row + low
            row = packed[at : at + n]
            step_row(job, row, ascent[j, :n], coefficient, coefficient, rate, decay, move.t)
        unpack_transpose(packed, block(transpose), w, low, high)
        return
    row = coefficient[:n_out]
    for i in range(low, high):
        for j in range(n_out):
            row[j] = ascent[j, i - low]
        step_row(job, w[i], row, m[i], v[i], rate, decay, move.t)
    refresh(job, work.net, FORWARDS, k, low, high)


@kernel
def narrow_ascent(work, thread, below, unit, row, move):
    """row = the contrast of one unit with the units `below`... beside it."""
    before, after, contrast = array(work.before), array(work.after), array(work.contrast)
    weight, coefficient = array(work.row_weight), array(work.coefficient)[thread]
    factor = row.dtype.type(move.scale)
    clear(row)
    for part in range(len(contrast)):
        states = after[contrast[part, 1]]
        for b in range(move.n_rows):
            coefficient[b] = states[b, unit] * weight[b] * factor
        add_samples(row, coefficient[: move.n_rows], before[contrast[part, 0]], below)
