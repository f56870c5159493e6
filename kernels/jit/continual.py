"""Nudged phases that are walked step by step: continual EP and the vector fields (2005.04168, 1808.04873);
twin of reference/rules.py.

Continual EP needs no pass over the weights at a step. Its updates telescope: after t steps

    W_k(t) - W_k(0) = c sum_s w_s ( q_k^t[s] q_{k+1}^t[s]' - q_k^0[s] q_{k+1}^0[s]' ),
    c = rate / (beta sum_s w_s),

is of rank two batches, so W_k(t) acts on a state through its products with what the samples show now (q^t)
and showed at the start (q^0). The input layer's products x[m].x[s] are the same at every step. The weights
move once, at the end, as in EP. In the continual vector field only the input layer telescopes; the inner
matrices are stepped in place, in their packed copies, and written back once the batch is known to be finite.
"""

import numpy as np

from .activations import IDENTITY, ONE, ZERO, rho_scalar
from .compile import kernel, matrix_at, vector_at
from .inplace import step_bias, step_panels, step_transpose, unpack_panels, unpack_transpose
from .layout import (
    CONTINUAL_VECTOR_FIELD,
    COPY,
    COPY_PANEL,
    COPY_ROW,
    DOWN,
    DOWN_PANEL,
    DOWN_ROW,
    DT,
    INPUT_ACTIVATION,
    N_NUDGED,
    N_WEIGHTS,
    OFFSET,
    RULE,
    SCHEDULE,
    SIZE,
    TOL_NUDGED,
    TRANSPOSE,
    TRANSPOSE_ROW,
)  # fmt: skip
from .products import add_dots, add_panels
from .relax import (
    SYNCHRONOUS,
    copy_row,
    failure_at,
    fields,
    keep_moving,
    move_layer,
    n_passes,
    pass_layers,
    step_block,
)  # fmt: skip
from .threads import barrier
from .tiles import tile_columns

# --- what the vector fields learn from: presynaptic activity before a step, weighted change in it


@kernel
def remember(state, shown, now, pre, moved, base):
    for a in range(now.size):
        b = now[a]
        copy_row(pre[base + b], shown[b])
        copy_row(moved[base + b], state[b])


@kernel
def weigh_change(state, now, weight, sign, moved, base):
    for a in range(now.size):
        b = now[a]
        w, s, d = sign * weight[b], state[b], moved[base + b]
        for i in range(d.size):
            d[i] = w * (s[i] - d[i])


@kernel
def vector_field_phase(
    ints, floats, layout, packed, bias, drive, state, shown, field, y, rows, low, high, n_samples, beta, turn,
    weight, pre, moved, steps, residual, failure, active, change,
):  # fmt: skip
    """Nudged phase `turn` (1, 2) of the samples low..high; a sample at rest changes no more.

    Row ((turn - 1) K + step) n_samples + b of `pre` and `moved` keeps step `step` of sample b.
    """
    tolerance, dt = drive.dtype.type(floats[TOL_NUDGED]), drive.dtype.type(floats[DT])
    count = high - low
    live = active[low:high]
    for a in range(count):
        live[a] = low + a
        steps[low + a] = 0
    for step in range(ints[N_NUDGED]):
        base = ((turn - 1) * ints[N_NUDGED] + step) * n_samples
        if count < high - low:
            for b in range(low, high):
                for i in range(pre.shape[1]):
                    pre[base + b, i] = ZERO
                    moved[base + b, i] = ZERO
        now = live[:count]
        remember(state, shown, now, pre, moved, base)
        step_block(
            ints, floats, layout, packed, bias, drive, state, shown, field, y, rows, now, ints[SCHEDULE],
            ints[N_WEIGHTS], beta, failure_at(turn, step), failure, change,
        )  # fmt: skip
        weigh_change(state, now, weight, ONE if turn == 1 else -ONE, moved, base)
        count = keep_moving(dt, tolerance, step, ints[N_NUDGED], now, steps, residual, failure, change)


# --- the continual rules, whose samples meet


@kernel
def input_products(ints, counts, index, value, low, high, n_samples, dense, gram):
    """gram[m, s] = rho(x[m]) . rho(x[s]) for the samples m in low..high and all s; `dense` is zero between
    calls.
    """
    real = dense.dtype.type
    base = real(0)
    if ints[INPUT_ACTIVATION] != IDENTITY:
        base = real(rho_scalar(ints[INPUT_ACTIVATION], base))
    for m in range(low, high):
        where, what = index[m, : counts[m]], value[m, : counts[m]]
        own = real(0)
        for p in range(where.size):
            dense[where[p]] += what[p]
            own += what[p]
        for s in range(n_samples):
            js, vs = index[s, : counts[s]], value[s, : counts[s]]
            total = real(0)
            for p in range(js.size):
                total += vs[p] * dense[js[p]]
            if base != ZERO:
                other = real(0)
                for p in range(vs.size):
                    other += vs[p]
                total += base * (own + other) + real(dense.size) * base * base
            gram[m, s] = total
        for p in range(where.size):
            dense[where[p]] = ZERO


@kernel
def layer_products(layout, k, shown, now, n_samples, walk, walk_at, start, grams):
    """grams[k, 0 and 1, b, s]: what layer k shows in sample b, times what it shows in s now and at the start.
    """
    o, n = layout[k, OFFSET], layout[k, SIZE]
    for part in range(2):
        for a in range(now.size):
            b = now[a]
            out = grams[k, part, b, :n_samples]
            for s in range(n_samples):
                out[s] = ZERO
            if part == 0:
                add_dots(out, shown[b, o : o + n], walk, walk_at + o, shown.shape[1])
            else:
                add_dots(out, shown[b, o : o + n], start, o, shown.shape[1])


@kernel
def coefficients_of(ints, rates, scale, weight, grams, k, now, n_samples, parts):
    """parts[0 and 1, b, s]: how much of what layer k shows in s, now and at the start, the change of the
    weights around it adds to its field in sample b.
    """
    real = parts.dtype.type
    c_below, c_bias = real(scale * rates[0, k - 1]), real(scale * rates[1, k - 1])
    top = k == ints[N_WEIGHTS]
    c_above = real(0) if top else real(scale * rates[0, k])
    for part in range(2):
        sign = real(1) if part == 0 else real(-1)
        for a in range(now.size):
            b = now[a]
            out = parts[part, b, :n_samples]
            below = grams[k - 1, part if k > 1 else 0, b, :n_samples]
            above = grams[k if top else k + 1, part, b, :n_samples]
            if top:
                for s in range(n_samples):
                    out[s] = sign * weight[s] * (c_below * below[s] + c_bias)
            else:
                for s in range(n_samples):
                    out[s] = sign * weight[s] * (c_below * below[s] + c_bias + c_above * above[s])


@kernel
def step_inner(
    thread, n_threads, ints, layout, rates, scale, packed, bias, pre, moved, n_samples, ascent, coefficient,
    products, ones, places,
):  # fmt: skip
    """Own share of the continual vector field's move of inner weights, biases and feedback."""
    for k in range(1, ints[N_WEIGHTS]):
        below, here = layout[k, SIZE], layout[k + 1, SIZE]
        at_below, at_here = layout[k, OFFSET], layout[k + 1, OFFSET]
        low, high = below * thread // n_threads, below * (thread + 1) // n_threads
        rate = scale * rates[0, k]
        if layout[k + 1, COPY] < 0:
            step_transpose(
                packed, layout[k + 1, TRANSPOSE], layout[k + 1, TRANSPOSE_ROW], low, high, here, pre,
                at_below, moved, at_here, n_samples, rate, ascent, coefficient,
            )  # fmt: skip
        else:
            step_panels(
                packed, layout[k + 1, COPY], layout[k + 1, COPY_ROW], layout[k + 1, COPY_PANEL], low, high,
                here, pre, at_below, moved, at_here, n_samples, rate, ascent, products, ones, places,
            )  # fmt: skip
        step_panels(
            packed, layout[k, DOWN], layout[k, DOWN_ROW], layout[k, DOWN_PANEL], here * thread // n_threads,
            here * (thread + 1) // n_threads, below, pre, at_here, moved, at_below, n_samples, rate, ascent,
            products, ones, places,
        )  # fmt: skip
        if thread == 0:
            step_bias(bias[at_here : at_here + here], moved, at_here, n_samples, scale * rates[1, k], ascent)


@kernel
def unpack_inner(thread, n_threads, ints, layout, table, weights, biases, backs, packed, bias):
    """The same share from the packed copies to the caller's arrays, rows `weights`... of the table."""
    for k in range(1, ints[N_WEIGHTS]):
        below, here = layout[k, SIZE], layout[k + 1, SIZE]
        low, high = below * thread // n_threads, below * (thread + 1) // n_threads
        w = matrix_at(table, weights, k, below, here, packed)
        if layout[k + 1, COPY] < 0:
            unpack_transpose(packed, layout[k + 1, TRANSPOSE], layout[k + 1, TRANSPOSE_ROW], w, low, high)
        else:
            unpack_panels(
                packed, layout[k + 1, COPY], layout[k + 1, COPY_ROW], layout[k + 1, COPY_PANEL], w, low, high
            )
        back = matrix_at(table, backs, k, here, below, packed)
        low, high = here * thread // n_threads, here * (thread + 1) // n_threads
        unpack_panels(packed, layout[k, DOWN], layout[k, DOWN_ROW], layout[k, DOWN_PANEL], back, low, high)
        if thread == 0:
            o = layout[k + 1, OFFSET]
            copy_row(vector_at(table, biases, k, here, packed), bias[o : o + here])


@kernel
def continual_phase(
    thread, n_threads, control, ints, floats, layout, rates, scale, packed, bias, drive, state, shown, origin,
    start, field, y, rows, low, high, n_samples, beta, weight, grams, parts, walk, pre, moved, ascent,
    coefficient, products, ones, places, nudged_steps, failure, active, change,
):  # fmt: skip
    """Nudged phase of the continual rules, all threads together; False if one of them has failed.

    `origin` and `start` are the states of the free phase and what they show. A sample that becomes non-finite
    goes on: every thread must come to every barrier. The last move of the inner weights is left to the
    caller.
    """
    n_weights, visit = ints[N_WEIGHTS], ints[SCHEDULE]
    units, n_1, n_steps = state.shape[1], layout[1, SIZE], ints[N_NUDGED]
    raw = ints[RULE] == CONTINUAL_VECTOR_FIELD
    columns = tile_columns(packed.itemsize)
    flat_walk, flat_start = walk.reshape(walk.size), start.reshape(start.size)
    now = active[low:high]
    for a in range(now.size):
        now[a] = low + a
        nudged_steps[low + a] = n_steps
    none = walk_at = np.int64(0)
    for step in range(n_steps):
        if step > 0 and raw:
            if not barrier(control, n_threads):
                return False
            step_inner(
                thread, n_threads, ints, layout, rates, scale, packed, bias, pre, moved, n_samples, ascent,
                coefficient, products, ones, places,
            )  # fmt: skip
            for b in range(low, high):
                for i in range(n_1):
                    walk[0, b, i] = state[b, i] - origin[b, i]
        elif step > 0:  # two places in turn: some thread may still read the last one
            walk_at = (step % 2) * walk.shape[1] * units
            for b in range(low, high):
                copy_row(walk[step % 2, b], shown[b])
        if step > 0 and not barrier(control, n_threads):
            return False
        if step == 1 and raw:  # not before a barrier: it reads every sample's weight
            coefficients_of(ints, rates, scale, weight, grams, none + 1, now, n_samples, parts)
        if raw:
            remember(state, shown, now, pre, moved, none)
        for b in range(low, high):
            change[b] = ZERO
        for turn in range(n_passes(visit, n_weights)):
            first, stride = pass_layers(visit, n_weights, turn)
            if step > 0 and not raw:
                for k in range(1, n_weights + 1):
                    if n_weights > 1 and (visit == SYNCHRONOUS or (k - first) % 2 != 0):  # a neighbour moves
                        layer_products(
                            layout, k, shown, now, n_samples, flat_walk, walk_at, flat_start, grams
                        )
            for k in range(first, n_weights + 1, stride):
                o, n = layout[k, OFFSET], layout[k, SIZE]
                fields(ints, layout, packed, bias, drive, shown, field, k, now)
                if step == 0 or (raw and k > 1):
                    continue
                if not raw:
                    coefficients_of(ints, rates, scale, weight, grams, k, now, n_samples, parts)
                    add_panels(field, o, n, now, parts[1], none, n_samples, flat_start, o, units, columns)
                at = walk_at + o
                add_panels(field, o, n, now, parts[0], none, n_samples, flat_walk, at, units, columns)
            for k in range(first, n_weights + 1, stride):
                move_layer(
                    ints, floats, layout, state, shown, field, y, rows, k, now, beta,
                    failure_at(1, step), failure, change,
                )  # fmt: skip
        if raw:
            weigh_change(state, now, weight, ONE, moved, none)
    return True
