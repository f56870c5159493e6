"""Contrast and optimiser step of every weight, fused: rank-B differences added row by row; twin of
reference/update.py.

`ascent` is minus the gradient. Threads own columns of W_0 and rows of the other weights. `work` is
the scratch of driver.py, `own` the record of a thread's columns in it.
"""

from typing import NamedTuple

import numpy as np

from .activations import IDENTITY, ONE, ZERO, rho_scalar
from .compile import kernel
from .inputs import group_by_input
from .layout import LANES, Block, bias_moments, biases_of, block
from .lists import add_listed
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
def own_rows(n, thread, n_threads):
    """Rows of thread `thread`."""
    return n * thread // n_threads, n * (thread + 1) // n_threads


@kernel(inline=True)
def clear(row):
    for i in range(row.size):
        row[i] = ZERO


@kernel
def step_row(job, p, ascent, m, v, rate, decay, t):
    """One optimiser step of the entries `p`; m and v are their moments (unused by SGD), t counts
    updates from 1.
    """
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
            d[i] = w * e[i] - w * s[i]


@kernel
def update_input(job, work, own, lists, delta, n_samples, scale, t):
    """Own columns of W_0, and of b_0, along the inputs of `lists` times the rows of `delta` (B,
    N[1]).
    """
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
    """The bias of layer k + 1, k >= 1, along weight (second - first) summed over samples; net.bias
    copies it.
    """
    b, rate = biases_of(job, job.bias, k), vector(np.float64, job.bias_rate, k + 1)[k]
    n, offset = b.size, array(net.layers)[k + 1].offset
    total = ascent[0, :n]
    clear(total)
    for s in range(move.n_rows):
        add_row(total, weight[s], second[s, offset : offset + n])
        add_row(total, -weight[s], first[s, offset : offset + n])
    for i in range(n):
        total[i] *= b.dtype.type(move.scale)
    m, v = bias_moments(job, job.velocity, k), bias_moments(job, job.second, k)
    step_row(job, b, total, m, v, rate, 0.0, move.t)
    copy = array(net.bias)[offset : offset + n]
    for i in range(n):
        copy[i] = b[i]


@kernel
def difference_coefficients(states, column, weight, factor, count, n_samples, coefficients):
    """coefficients[i, b] = factor * weight[b] * states[b, column + i], i < count."""
    for b in range(n_samples):
        a = factor * weight[b]
        for i in range(count):
            coefficients[i, b] = a * states[b, column + i]


@kernel
def step_rows(job, w, m, v, ascent, start, count, move):
    """The optimiser's step of `count` rows of w from `start` on, along the rows of `ascent`."""
    n_out = w.shape[1]
    for i in range(start, start + count):
        step_row(job, w[i], ascent[i - start, :n_out], m[i], v[i], move.rate, job.weight_decay, move.t)


@kernel
def update_hidden(job, work, thread, w, m, v, pre_at, post_at, move):
    """Own rows of the weights w from one layer to another, a few at a time.

    The contrast is sum_b weight[b] before[turn, b, pre_at + i] after[turn, b, post_at + j] of
    turns[0], less that of turns[1] if there is one; work.products (TILE_SAMPLES, rows) takes its
    coefficients.
    """
    before, after, turns = array(work.before), array(work.after), array(work.turns)
    weight, places = array(work.row_weight), array(work.places)
    ascent, coefficients = array(work.ascent)[thread], array(work.products)[thread]
    n_out, factor, none = w.shape[1], w.dtype.type(move.scale), np.int64(0)
    columns, row_stride = tile_columns(w.itemsize), after.shape[2]
    flat = after.reshape(after.size)
    low, high = own_rows(w.shape[0], thread, work.n_threads)
    for start in range(low, high, TILE_SAMPLES):
        count = min(TILE_SAMPLES, high - start)
        for i in range(count):
            clear(ascent[i, :n_out])
        for part in range(turns.size):
            turn, sign = turns[part], factor if part == 0 else -factor
            difference_coefficients(
                before[turn], pre_at + start, weight, sign, count, move.n_rows, coefficients
            )
            rows = Block(turn * after.shape[1] * row_stride + post_at, row_stride, columns)
            add_panels(ascent, none, n_out, places[:count], coefficients, none, move.n_rows, flat, rows)
        step_rows(job, w, m, v, ascent, start, count, move)


@kernel
def update_narrow(job, work, thread, k, w, m, v, move):
    """The same between layers k and k + 1 when the latter is narrow: by columns of w, which are the
    long side; also refreshes its transpose.
    """
    layers, packed = array(work.net.layers), array(work.net.packed)
    low, high = own_rows(w.shape[0], thread, work.n_threads)
    n, n_out, transpose = high - low, w.shape[1], layers[k + 1].transpose
    ascent, coefficient = array(work.ascent)[thread], array(work.coefficient)[thread]
    if n <= 0:
        return
    for j in range(n_out):
        narrow_ascent(work, thread, layers[k].offset + low, layers[k + 1].offset + j, ascent[j, :n], move)
    if job.optimizer == SGD:  # on the transpose, which holds the same numbers
        for j in range(n_out):
            at = transpose.start + j * transpose.row + low
            row = packed[at : at + n]
            step_row(
                job, row, ascent[j, :n], coefficient, coefficient, move.rate, job.weight_decay, move.t
            )
        for i in range(n):
            at = transpose.start + low + i
            row = w[low + i]
            for j in range(n_out):
                row[j] = packed[at + j * transpose.row]
        return
    row = coefficient[:n_out]
    for i in range(low, high):
        for j in range(n_out):
            row[j] = ascent[j, i - low]
        step_row(job, w[i], row, m[i], v[i], move.rate, job.weight_decay, move.t)
    pack_rows(work.net, k, w, low, high)


@kernel
def narrow_ascent(work, thread, below, unit, row, move):
    """row = the contrast of one unit with the units `below`... beside it."""
    before, after, turns = array(work.before), array(work.after), array(work.turns)
    weight, coefficient = array(work.row_weight), array(work.coefficient)[thread]
    factor = row.dtype.type(move.scale)
    clear(row)
    for part in range(turns.size):
        turn, sign = turns[part], factor if part == 0 else -factor
        for b in range(move.n_rows):
            coefficient[b] = after[turn, b, unit] * weight[b] * sign
        add_samples(row, coefficient[: move.n_rows], before[turn], below)


@kernel
def pack_row(packed, rows, j, row):
    """Row j of the block `rows` of packed rows = `row`."""
    columns = tile_columns(packed.itemsize)
    at = rows.start + j * rows.row
    for first in range(0, row.size, columns):
        source = row[first : first + columns]
        target = packed[at : at + source.size]
        for i in range(source.size):
            target[i] = source[i]
        at += rows.panel


@kernel
def pack_rows(net, k, w, low, high):
    """Refresh the copy and the transpose of rows low..high of the weights between layers k and k +
    1.
    """
    packed, above = array(net.packed), array(net.layers)[k + 1]
    if above.copy.start >= 0:
        for i in range(low, high):
            pack_row(packed, block(above.copy), i, w[i])
    if above.transpose.start >= 0:
        transpose, columns = block(above.transpose), tile_columns(packed.itemsize)
        start = low
        while start < high:  # a piece of one panel, at most LANES rows: their cache lines are used whole
            stop = min(high, start + LANES - start % LANES, start + columns - start % columns)
            at = transpose.start + start // columns * transpose.panel + start % columns
            size = stop - start
            for j in range(w.shape[1]):
                target = packed[at : at + size]
                for i in range(size):
                    target[i] = w[start + i, j]
                at += transpose.row
            start = stop
