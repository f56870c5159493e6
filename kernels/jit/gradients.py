"""Exact gradients of the free phase: recorded steps, reverse steps, and the update; twin of
reference/gradients.py. gradient_training.py puts them together, implicit.py solves for the equilibrium.

One free step is recorded (bptt: each of the last ones; the others: one, at the equilibrium) as three slopes
of every unit, gain = d new / d field, keep = d new / d old, lean = d shown / d old. A reverse step takes bar,
the derivative by the states after the step, to the one before it:

    flow = gain bar,   bar = keep bar + lean (flow above . weight' + flow below . back')

In a symmetric network these products are those of the forward step, made by the same `fields`. All
derivatives are of minus the cost. Moment t of sample b is row t * (samples of the batch) + b.
"""

import numpy as np

from .activations import FOUR, ONE, SHIFTED_SIGMOID, SIGMOID, TANH, TWO, ZERO, activate, times_prime
from .compile import float_bits, kernel, matrix_at, vector_at, widest_vectors
from .layout import (
    ACTIVATION,
    BACK,
    BACK_SECOND,
    BACK_VELOCITY,
    BIAS_SECOND,
    BIAS_VELOCITY,
    BIASES,
    CLAMP,
    COST,
    COST_FACTOR,
    DECAY,
    DOWN,
    DOWN_PANEL,
    DOWN_ROW,
    DT,
    DYNAMICS,
    HAS_BACK,
    LINEAR_OUTPUT,
    N_NUDGED,
    N_WEIGHTS,
    OFFSET,
    OPTIMIZER,
    OUT_ACTIVATION,
    PRIME_HIDDEN,
    PRIME_OUTPUT,
    SECOND,
    SINGLE,
    SIZE,
    TOL_NUDGED,
    VELOCITY,
    WEIGHTS,
)  # fmt: skip
from .products import add_panels, add_to
from .relax import PHASE_SHIFT, STEP_SHIFT, copy_row, fields, new_state
from .threads import barrier
from .tiles import TILE_SAMPLES, tile_columns
from .update import difference_coefficients, pack_row, pack_rows, step_row, update_bias

# --- recording


@kernel
def fill(row, value):
    widest_vectors()
    for i in range(row.size):
        row[i] = value


@kernel
def add_second(code, r, factor, field, out):
    """out += factor * rho'' * field, given r = rho; nothing where rho is piecewise linear."""
    widest_vectors()
    n = r.size
    if code == SHIFTED_SIGMOID:
        factor = factor * FOUR * FOUR
    if code == TANH:
        for i in range(n):
            out[i] += factor * field[i] * (-TWO * r[i] * (ONE - r[i] * r[i]))
    elif code == SHIFTED_SIGMOID or code == SIGMOID:
        for i in range(n):
            out[i] += factor * field[i] * (r[i] * (ONE - r[i]) * (ONE - TWO * r[i]))


@kernel
def hold_edges(field, old, rest, gain, keep):
    """A unit that the clamp holds at an edge passes nothing on."""
    for i in range(gain.size):
        moved = gain[i] * field[i] + rest * old[i]
        inside = (moved >= ZERO) & (moved <= ONE)
        gain[i] = gain[i] if inside else ZERO
        keep[i] = keep[i] if inside else ZERO


@kernel
def slopes(ints, floats, k, s, r, new, gain, keep, field, spare):
    """gain, which holds the field, and keep of layer k of one sample. s, r: what it was and showed."""
    output = k == ints[N_WEIGHTS]
    code = ints[OUT_ACTIVATION] if output else ints[ACTIVATION]
    dt = s.dtype.type(floats[DT])
    copy_row(field, gain)
    fill(gain, dt)
    if ints[DYNAMICS] == 0:
        copy_row(spare, new if dt == ONE else field)
        if dt != ONE:
            activate(code, ints[SINGLE], spare)
        times_prime(code, field, spare, gain)
        return
    fill(keep, ONE - dt)
    if ints[PRIME_OUTPUT] if output else ints[PRIME_HIDDEN]:
        copy_row(spare, r)
        if output and ints[LINEAR_OUTPUT]:
            activate(code, ints[SINGLE], spare)
        times_prime(code, s, spare, gain)
        add_second(code, spare, dt, field, keep)
    if ints[CLAMP]:
        hold_edges(field, s, ONE - dt, gain, keep)


@kernel
def leans(ints, k, s, r, lean):
    output = k == ints[N_WEIGHTS]
    fill(lean, ONE)
    if not (output and ints[LINEAR_OUTPUT]):
        times_prime(ints[OUT_ACTIVATION] if output else ints[ACTIVATION], s, r, lean)


@kernel
def record_step(
    ints, floats, layout, packed, bias, drive, s0, r0, s1, r1, gain, keep, field, spare, y, rows, together,
    now, first_step, failure,
):  # fmt: skip
    """One free step of the samples `now` from (s0, r0) to (s1, r1), with its slopes."""
    last, continuous = ints[N_WEIGHTS], ints[DYNAMICS] == 1
    finite_bits = float_bits(s0.dtype.type(np.inf))
    for a in range(now.size):
        copy_row(s1[now[a]], s0[now[a]])
        if continuous:
            copy_row(r1[now[a]], r0[now[a]])
    seen = r0 if together else r1  # layers move in place, one colour after the other
    for turn in range(1 if together else 2):
        first, stride = (1, 1) if together else (1 + turn, 2)
        for k in range(first, last + 1, stride):
            o = layout[k, OFFSET]
            end = o + layout[k, SIZE]
            fields(ints, layout, packed, bias, drive, seen, field, k, now)
            for a in range(now.size):
                b = now[a]
                copy_row(gain[b, o:end], field[b, o:end])
                top = new_state(
                    ints, floats, k, s1[b, o:end], r1[b, o:end], field[b, o:end], y[rows[b]], 0.0
                )
                if top >= finite_bits:
                    where = (1 << PHASE_SHIFT) | (first_step << STEP_SHIFT) | k
                    if failure[b] == 0 or where < failure[b]:
                        failure[b] = where
    for k in range(1, last + 1):
        o = layout[k, OFFSET]
        end = o + layout[k, SIZE]
        for a in range(now.size):
            b = now[a]
            kept = keep[b if continuous else 0]
            slopes(
                ints, floats, k, s0[b, o:end], r0[b, o:end], s1[b, o:end], gain[b, o:end],
                kept[o:end] if continuous else kept, field[b, o:end], spare[: end - o],
            )  # fmt: skip


# --- reverse steps


@kernel
def reverse_rows(gain, keep, rest, continuous, bar, flow):
    widest_vectors()
    n = bar.size
    if continuous:
        for i in range(n):
            flow[i] = gain[i] * bar[i]
            bar[i] = keep[i] * bar[i]
    else:
        for i in range(n):
            flow[i] = gain[i] * bar[i]
            bar[i] = rest * bar[i]


@kernel
def add_times(out, a, b):
    widest_vectors()
    for i in range(out.size):
        out[i] += a[i] * b[i]


@kernel
def send_back(ints, layout, adjoint, zero_bias, zero_drive, flow, field, lean, bar, k, now):
    """bar of layer k += lean * (the flows of the layers beside it, sent back)."""
    o = layout[k, OFFSET]
    end = o + layout[k, SIZE]
    fields(ints, layout, adjoint, zero_bias, zero_drive, flow, field, k, now)
    for a in range(now.size):
        b = now[a]
        if ints[DYNAMICS] == 1:
            add_times(bar[b, o:end], lean[b, o:end], field[b, o:end])
        else:
            add_to(bar[b, o:end], field[b, o:end])


@kernel
def reverse_step(
    ints, floats, layout, adjoint, zero_bias, zero_drive, gain, keep, lean0, lean1, bar, flow, field,
    together, final, now,
):  # fmt: skip
    """bar goes from after a recorded step to before it, flow is left for the update; if `final`, only flow.

    lean0, lean1: of the states before and after the step; a layer may have moved before it was seen.
    """
    last, continuous = ints[N_WEIGHTS], ints[DYNAMICS] == 1
    rest = ONE - bar.dtype.type(floats[DT])
    for turn in range(0 if together else 1, -1, -1):
        first, stride = (1, 1) if together else (1 + turn, 2)
        for k in range(first, last + 1, stride):
            o = layout[k, OFFSET]
            end = o + layout[k, SIZE]
            for a in range(now.size):
                b = now[a]
                kept = keep[b, o:end] if continuous else keep[0]
                reverse_rows(gain[b, o:end], kept, rest, continuous, bar[b, o:end], flow[b, o:end])
        if final and turn == 0:
            return
        for k in range(1, last + 1):
            moves = together or k % 2 == (1 if turn == 0 else 0)
            if together or not moves:
                lean = lean1 if turn == 1 and k % 2 == 1 else lean0
                send_back(ints, layout, adjoint, zero_bias, zero_drive, flow, field, lean, bar, k, now)


@kernel
def start_bar(ints, floats, layout, s, y, weight, bar):
    """-dC/ds at the free state s of one sample, times its weight."""
    for i in range(bar.size):
        bar[i] = ZERO
    o, n = layout[ints[N_WEIGHTS], OFFSET], layout[ints[N_WEIGHTS], SIZE]
    out, force = s[o : o + n], bar[o : o + n]
    factor = weight * s.dtype.type(floats[COST_FACTOR])
    if ints[COST] == 0:
        for i in range(n):
            force[i] = factor * (y[i] - out[i])
        return
    top, total = out[0], s.dtype.type(0)
    for i in range(1, n):
        top = max(top, out[i])
    for i in range(n):
        total += np.exp(out[i] - top)
    for i in range(n):
        force[i] = factor * (y[i] - np.exp(out[i] - top) / total)


@kernel
def largest(bar, now):
    top = ZERO
    for a in range(now.size):
        row = bar[now[a]]
        for i in range(row.size):
            size = abs(row[i])
            top = size if size > top else top
    return top


@kernel
def batch_largest(thread, n_threads, control, peaks, turn, bar, now):
    """Largest |bar| of the whole batch, or -1 if a thread has failed; all threads call this."""
    mine = peaks[turn % 2]
    mine[thread] = largest(bar, now)
    if not barrier(control, n_threads):
        return bar.dtype.type(-1)
    top = mine[0]
    for i in range(1, n_threads):
        top = mine[i] if mine[i] > top else top
    return top


@kernel
def iterate(
    thread, n_threads, control, ints, floats, layout, adjoint, zero_bias, zero_drive, gain, keep, lean0,
    lean1, bar, total, flow, field, peaks, together, now,
):  # fmt: skip
    """Almeida-Pineda: bar <- J' bar, summed in `total`, at most N_NUDGED times; then the flows of the sum.

    Returns the number of steps; 0 if a thread has failed.
    """
    first = batch_largest(thread, n_threads, control, peaks, 0, bar, now)
    if first < ZERO:
        return 0
    tolerance, relative, steps = bar.dtype.type(floats[TOL_NUDGED]), bar.dtype.type(1), 1
    for a in range(now.size):
        copy_row(total[now[a]], bar[now[a]])
    while steps < ints[N_NUDGED] and relative > tolerance and first > ZERO:
        reverse_step(
            ints, floats, layout, adjoint, zero_bias, zero_drive, gain, keep, lean0, lean1, bar, flow, field,
            together, False, now,
        )  # fmt: skip
        for a in range(now.size):
            add_to(total[now[a]], bar[now[a]])
        if floats[TOL_NUDGED] >= 0.0:
            top = batch_largest(thread, n_threads, control, peaks, steps, bar, now)
            if top < ZERO:
                return 0
            relative = top / first
        steps += 1
    for a in range(now.size):
        copy_row(bar[now[a]], total[now[a]])
    reverse_step(
        ints, floats, layout, adjoint, zero_bias, zero_drive, gain, keep, lean0, lean1, bar, flow, field,
        together, True, now,
    )  # fmt: skip
    return steps


# --- update


@kernel
def pack_adjoint(ints, layout, table, adjoint, thread, n_threads):
    """Independent feedback: back' in the place of the weights and the weights' transpose in that of back."""
    for k in range(1, ints[N_WEIGHTS]):
        below, here = layout[k, SIZE], layout[k + 1, SIZE]
        w = matrix_at(table, WEIGHTS, k, below, here, adjoint)
        back = matrix_at(table, BACK, k, here, below, adjoint)
        pack_rows(layout, k, back.T, below * thread // n_threads, below * (thread + 1) // n_threads, adjoint)
        w = w.T
        for j in range(here * thread // n_threads, here * (thread + 1) // n_threads):
            pack_row(adjoint, layout[k, DOWN], layout[k, DOWN_ROW], layout[k, DOWN_PANEL], j, w[j])


@kernel
def learn_rows(
    ints, floats, w, m, v, pre, post, tied, pre2, post2, pre_at, post_at, scale, rate, t, low, high, ascent,
    coefficients, ones, places,
):  # fmt: skip
    """Rows low..high of a weight matrix, along sum_r pre[r] post[r]' (+ pre2[r] post2[r]' if tied)."""
    n_out, n_rows, factor = w.shape[1], pre.shape[0], w.dtype.type(scale)
    columns, row_stride = tile_columns(w.itemsize), post.shape[1]
    flat, flat2 = post.reshape(post.size), post2.reshape(post2.size)
    for start in range(low, high, TILE_SAMPLES):
        count = min(TILE_SAMPLES, high - start)
        for i in range(count):
            fill(ascent[i, :n_out], ZERO)
        difference_coefficients(pre, pre_at + start, ones, factor, count, n_rows, coefficients)
        add_panels(
            ascent, 0, n_out, places[:count], coefficients, 0, n_rows, flat, post_at, row_stride, columns
        )
        if tied:
            difference_coefficients(pre2, pre_at + start, ones, factor, count, n_rows, coefficients)
            add_panels(
                ascent, 0, n_out, places[:count], coefficients, 0, n_rows, flat2, post_at, row_stride, columns
            )
        for i in range(start, start + count):
            step_row(ints, floats, w[i], ascent[i - start, :n_out], m[min(i, m.shape[0] - 1)],
                     v[min(i, v.shape[0] - 1)], rate, floats[DECAY], t)  # fmt: skip


@kernel
def learn_inner(
    thread, n_threads, ints, floats, layout, table, rates, packed, bias, shown, flow, total, nothing, count,
    n_steps, together, scale, t, ascent, coefficients, ones, places,
):  # fmt: skip
    """Weights between neurons, with their transposes, biases and, if independent, feedback: own rows."""
    moments, second, like = ints[OPTIMIZER] != 0, ints[OPTIMIZER] == 3, packed
    n_rows = count * n_steps
    flows = flow[:n_rows]
    for k in range(1, ints[N_WEIGHTS]):
        below, here = layout[k, SIZE], layout[k + 1, SIZE]
        at_below, at_here = layout[k, OFFSET], layout[k + 1, OFFSET]
        # odd layers have moved when even ones look at them
        shift = 0 if together or k % 2 == 0 else count
        shown_below = shown[shift : shift + n_rows]
        shift = 0 if together or (k + 1) % 2 == 0 else count
        shown_here = shown[shift : shift + n_rows]
        low, high = below * thread // n_threads, below * (thread + 1) // n_threads
        w = matrix_at(table, WEIGHTS, k, below, here, like)
        learn_rows(
            ints, floats, w,
            matrix_at(table, VELOCITY, k, below if moments else 1, here if moments else 1, like),
            matrix_at(table, SECOND, k, below if second else 1, here if second else 1, like),
            shown_below, flows, not ints[HAS_BACK], flows, shown_here, at_below, at_here, scale, rates[0, k],
            t, low, high, ascent, coefficients, ones, places,
        )  # fmt: skip
        pack_rows(layout, k, w, low, high, packed)
        if ints[HAS_BACK]:
            low, high = here * thread // n_threads, here * (thread + 1) // n_threads
            back = matrix_at(table, BACK, k, here, below, like)
            learn_rows(
                ints, floats, back,
                matrix_at(table, BACK_VELOCITY, k, here if moments else 1, below if moments else 1, like),
                matrix_at(table, BACK_SECOND, k, here if second else 1, below if second else 1, like),
                shown_here, flows, False, flows, shown_here, at_here, at_below, scale, rates[0, k],
                t, low, high, ascent, coefficients, ones, places,
            )  # fmt: skip
            for j in range(low, high):
                pack_row(packed, layout[k, DOWN], layout[k, DOWN_ROW], layout[k, DOWN_PANEL], j, back[j])
        if thread == 0:
            b = vector_at(table, BIASES, k, here, like)
            update_bias(
                ints, floats, b, vector_at(table, BIAS_VELOCITY, k, here if moments else 1, like),
                vector_at(table, BIAS_SECOND, k, here if second else 1, like), ones, nothing, total, count,
                at_here, scale, rates[1, k], t, ascent,
            )  # fmt: skip
            copy_row(bias[at_here : at_here + here], b)
