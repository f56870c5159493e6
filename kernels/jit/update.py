"""Contrast and optimiser step of every weight, fused: rank-B differences added row by row; twin of
reference/update.py.

`ascent` is minus the gradient. Threads own columns of W_0 and rows of the other weights.
"""

import numpy as np

from .activations import IDENTITY, ONE, ZERO, rho_scalar
from .compile import kernel
from .inputs import group_by_input
from .layout import (
    BETA1,
    BETA2,
    COPY,
    COPY_PANEL,
    COPY_ROW,
    DECAY,
    EPSILON,
    INPUT_ACTIVATION,
    LANES,
    MOMENTUM,
    OFFSET,
    OPTIMIZER,
    SIZE,
    TRANSPOSE,
    TRANSPOSE_PANEL,
    TRANSPOSE_ROW,
)  # fmt: skip
from .lists import add_listed
from .products import add_panels, add_row, add_rows2, add_rows4
from .tiles import TILE_SAMPLES, tile_columns

SGD, MOMENTUM_SGD, NESTEROV, ADAM = range(4)


@kernel
def step_row(ints, floats, p, ascent, m, v, rate, decay, t):
    """One optimiser step of the entries `p`; m and v are their moments (unused by SGD), t counts updates from
    1.
    """
    n = p.size
    real = p.dtype.type
    r, d = real(rate), real(decay)
    if ints[OPTIMIZER] == SGD:
        for i in range(n):
            p[i] += r * (ascent[i] - d * p[i])
    elif ints[OPTIMIZER] == ADAM:
        beta1, beta2 = real(floats[BETA1]), real(floats[BETA2])
        rest1, rest2 = real(1.0 - floats[BETA1]), real(1.0 - floats[BETA2])
        root = np.sqrt(1.0 - floats[BETA2] ** t)
        corrected = r * real(root / (1.0 - floats[BETA1] ** t))
        epsilon = real(floats[EPSILON] * root)
        for i in range(n):
            g = d * p[i] - ascent[i]
            m[i] = beta1 * m[i] + rest1 * g
            v[i] = beta2 * v[i] + rest2 * g * g
            p[i] -= corrected * m[i] / (np.sqrt(v[i]) + epsilon)
    else:
        momentum = real(floats[MOMENTUM])
        ahead = momentum if ints[OPTIMIZER] == NESTEROV else ONE
        own = ONE if ints[OPTIMIZER] == NESTEROV else ZERO
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
        add_rows4(
            out, coefficients[b], coefficients[b + 1], coefficients[b + 2], coefficients[b + 3],
            states[b, low:high], states[b + 1, low:high], states[b + 2, low:high], states[b + 3, low:high],
        )  # fmt: skip
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
def update_input(
    ints, floats, w, moved, b0, m_w, v_w, m_b, v_b, counts, index, value, delta, n_samples, scale, rate,
    bias_rate, t, low, high, starts, sample, coefficient, ascent, ones,
):  # fmt: skip
    """Columns low..high of W_0 and b_0; column i of the layer is i - moved of the matrices."""
    if low >= high:
        return
    group_by_input(counts, index, value, n_samples, starts, sample, coefficient)
    n, left, right = high - low, low - moved, high - moved
    total = ascent[1, :n]  # sum of the deltas: ascent of the bias, and of an input at rest if rho(0) != 0
    for i in range(n):
        total[i] = ZERO
    add_samples(total, ones[:n_samples], delta, low)
    base = w.dtype.type(0)
    if ints[INPUT_ACTIVATION] != IDENTITY:
        base = rho_scalar(ints[INPUT_ACTIVATION], base)
    plain = ints[OPTIMIZER] == SGD and floats[DECAY] == 0.0 and base == ZERO
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
            ints, floats, w[j][left:right], row, m_w[min(j, m_w.shape[0] - 1)][left:right],
            v_w[min(j, v_w.shape[0] - 1)][left:right], rate, floats[DECAY], t,
        )  # fmt: skip
    for i in range(n):
        total[i] *= real(scale)
    step_row(ints, floats, b0[low:high], total, m_b[low:high], v_b[low:high], bias_rate, 0.0, t)


@kernel
def update_bias(ints, floats, b, m, v, weight, first, second, n_samples, offset, scale, rate, t, ascent):
    """A bias of layer 2 or above."""
    n = b.size
    total = ascent[0, :n]
    for i in range(n):
        total[i] = ZERO
    for s in range(n_samples):
        add_row(total, weight[s], second[s, offset : offset + n])
        add_row(total, -weight[s], first[s, offset : offset + n])
    for i in range(n):
        total[i] *= b.dtype.type(scale)
    step_row(ints, floats, b, total, m, v, rate, 0.0, t)


@kernel
def difference_coefficients(states, column, weight, factor, count, n_samples, coefficients):
    """coefficients[i, b] = factor * weight[b] * states[b, column + i], i < count."""
    for b in range(n_samples):
        a = factor * weight[b]
        for i in range(count):
            coefficients[i, b] = a * states[b, column + i]


@kernel
def update_hidden(
    ints, floats, w, m, v, weight, pre, pre_at, post, post_at, turns, n_samples, scale, rate, t, low, high,
    ascent, coefficients, places,
):  # fmt: skip
    """Rows low..high of the weights from one layer to another, a few at a time.

    The contrast is sum_b weight[b] pre[turn, b, pre_at + i] post[turn, b, post_at + j] of turns[0], less that
    of turns[1] if there is one. `coefficients` (TILE_SAMPLES, n_samples) is scratch.
    """
    n_out, factor, none = w.shape[1], w.dtype.type(scale), np.int64(0)
    columns, row_stride = tile_columns(w.itemsize), post.shape[2]
    flat = post.reshape(post.size)
    for start in range(low, high, TILE_SAMPLES):
        count = min(TILE_SAMPLES, high - start)
        for i in range(count):
            row = ascent[i, :n_out]
            for j in range(n_out):
                row[j] = ZERO
        for part in range(turns.size):
            turn = turns[part]
            sign = factor if part == 0 else -factor
            difference_coefficients(pre[turn], pre_at + start, weight, sign, count, n_samples, coefficients)
            add_panels(ascent, none, n_out, places[:count], coefficients, none, n_samples, flat,
                       turn * post.shape[1] * row_stride + post_at, row_stride, columns)  # fmt: skip
        for i in range(start, start + count):
            step_row(ints, floats, w[i], ascent[i - start, :n_out], m[min(i, m.shape[0] - 1)],
                     v[min(i, v.shape[0] - 1)], rate, floats[DECAY], t)  # fmt: skip


@kernel
def update_narrow(
    ints, floats, layout, k, w, m, v, weight, pre, post, turns, n_samples, scale, rate, t, low, high,
    ascent, coefficient, packed,
):  # fmt: skip
    """The same between layers k and k+1 when the latter is narrow: by columns of w, which are the long side;
    also refreshes its transpose.
    """
    below, here = layout[k, OFFSET] + low, layout[k + 1, OFFSET]
    n, n_out = high - low, layout[k + 1, SIZE]
    factor = w.dtype.type(scale)
    if n <= 0:
        return
    for j in range(n_out):
        row = ascent[j, :n]
        for i in range(n):
            row[i] = ZERO
        for part in range(turns.size):
            turn = turns[part]
            sign = factor if part == 0 else -factor
            for b in range(n_samples):
                coefficient[b] = post[turn, b, here + j] * weight[b] * sign
            add_samples(row, coefficient[:n_samples], pre[turn], below)
    if ints[OPTIMIZER] == SGD:  # on the transpose, which holds the same numbers
        for j in range(n_out):
            at = layout[k + 1, TRANSPOSE] + j * layout[k + 1, TRANSPOSE_ROW] + low
            row = packed[at : at + n]
            step_row(ints, floats, row, ascent[j, :n], coefficient, coefficient, rate, floats[DECAY], t)
        for i in range(n):
            at = layout[k + 1, TRANSPOSE] + low + i
            row = w[low + i]
            for j in range(n_out):
                row[j] = packed[at + j * layout[k + 1, TRANSPOSE_ROW]]
        return
    row = coefficient[:n_out]
    for i in range(low, high):
        for j in range(n_out):
            row[j] = ascent[j, i - low]
        step_row(ints, floats, w[i], row, m[min(i, m.shape[0] - 1)], v[min(i, v.shape[0] - 1)], rate,
                 floats[DECAY], t)  # fmt: skip
    pack_rows(layout, k, w, low, high, packed)


@kernel
def pack_row(packed, start, row_stride, panel_stride, j, row):
    """Row j of a block of packed rows = `row`."""
    columns = tile_columns(packed.itemsize)
    at = start + j * row_stride
    for first in range(0, row.size, columns):
        source = row[first : first + columns]
        target = packed[at : at + source.size]
        for i in range(source.size):
            target[i] = source[i]
        at += panel_stride


@kernel
def pack_rows(layout, k, w, low, high, packed):
    """Refresh the copy and the transpose of rows low..high of the weights between layers k and k+1."""
    n_out = w.shape[1]
    if layout[k + 1, COPY] >= 0:
        for i in range(low, high):
            pack_row(packed, layout[k + 1, COPY], layout[k + 1, COPY_ROW], layout[k + 1, COPY_PANEL], i, w[i])
    if layout[k + 1, TRANSPOSE] >= 0:
        columns, row_stride = tile_columns(packed.itemsize), layout[k + 1, TRANSPOSE_ROW]
        start = low
        while start < high:  # a piece of one panel, at most LANES rows: their cache lines are used whole
            stop = min(high, start + LANES - start % LANES, start + columns - start % columns)
            panel = start // columns
            at = layout[k + 1, TRANSPOSE] + panel * layout[k + 1, TRANSPOSE_PANEL] + start % columns
            size = stop - start
            for j in range(n_out):
                target = packed[at : at + size]
                for i in range(size):
                    target[i] = w[start + i, j]
                at += row_stride
            start = stop
