"""Exact gradients of the free phase: recorded steps, reverse steps, and the update; twin of
reference/gradients.py. gradient_training.py puts them together, implicit.py solves for the
equilibrium.

One free step is recorded (bptt: each of the last ones; the others: one, at the equilibrium) as
three slopes of every unit, gain = d new / d field, keep = d new / d old, lean = d shown / d old. A
reverse step takes bar, the derivative by the states after the step, to the one before it:

    flow = gain bar,   bar = keep bar + lean (flow above . weight' + flow below . back')

In a symmetric network these products are those of the forward step, made by the same `fields`. All
derivatives are of minus the cost. Moment t of sample b is row t * (samples of the batch) + b of
work.state, work.gain and so on; gradient_training.py makes `work`.
"""

import numpy as np

from .activations import FOUR, ONE, SHIFTED_SIGMOID, SIGMOID, TANH, TWO, ZERO, activate, times_prime
from .compile import float_bits, kernel, widest_vectors
from .layered import pack_back
from .layout import Block, back_moments, backs_of, block, target, weights_of
from .products import add_panels, add_to
from .relax import (
    CONTINUOUS,
    DISCRETE,
    PHASE_SHIFT,
    SQUARED_ERROR,
    STEP_SHIFT,
    copy_row,
    fields,
    new_state,
)
from .threads import barrier
from .tiles import TILE_SAMPLES, tile_columns
from .update import (
    Move,
    difference_coefficients,
    own_rows,
    pack_row,
    pack_rows,
    step_rows,
    update_bias,
)
from .views import array, vector

# --- recording


@kernel
def fill(row, value):
    """row = value."""
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
def slopes(job, k, s, r, new, gain, keep, field, spare):
    """gain, which holds the field, and keep of layer k of one sample. s, r: what it was and showed.
    """
    output, single = k == job.n_weights, s.itemsize == 4
    code = job.out_activation if output else job.activation
    dt = s.dtype.type(job.dt)
    copy_row(field, gain)
    fill(gain, dt)
    if job.dynamics == DISCRETE:
        copy_row(spare, new if dt == ONE else field)
        if dt != ONE:
            activate(code, single, spare)
        times_prime(code, field, spare, gain)
        return
    fill(keep, ONE - dt)
    if job.prime_output if output else job.prime_hidden:
        copy_row(spare, r)
        if output and job.linear_output:
            activate(code, single, spare)
        times_prime(code, s, spare, gain)
        add_second(code, spare, dt, field, keep)
    if job.clamp:
        hold_edges(field, s, ONE - dt, gain, keep)


@kernel
def leans(job, k, s, r, lean):
    """lean of layer k of one sample, which is s and shows r."""
    output = k == job.n_weights
    fill(lean, ONE)
    if not (output and job.linear_output):
        times_prime(job.out_activation if output else job.activation, s, r, lean)


@kernel
def step_and_record(job, work, rows, k, now, t, step):
    """Layer k of the samples `now` goes from moment t to t + 1, in place; gain takes its field."""
    n, net, layer = rows.size, work.net, array(work.net.layers)[k]
    state, shown = array(work.state)[(t + 1) * n :], array(work.shown)[(t + 1) * n :]
    gain = array(work.gain)[t * n :]
    field, failure = array(net.field), array(net.failure)
    o, end = layer.offset, layer.offset + layer.size
    finite_bits = float_bits(state.dtype.type(np.inf))
    where = (1 << PHASE_SHIFT) | (np.int64(step) << STEP_SHIFT) | k
    for a in range(now.size):
        b = now[a]
        copy_row(gain[b, o:end], field[b, o:end])
        y = target(job, rows[b])
        top = new_state(job, k, state[b, o:end], shown[b, o:end], field[b, o:end], y, 0.0, job.dt)
        if top >= finite_bits:
            if failure[b] == 0 or where < failure[b]:
                failure[b] = where


@kernel
def record_slopes(job, work, thread, k, now, t, n):
    """gain and keep of layer k of the samples `now` between moments t and t + 1 of n samples."""
    layer, continuous = array(work.net.layers)[k], job.dynamics == CONTINUOUS
    spare = array(work.spare)[thread]
    before, shown = array(work.state)[t * n :], array(work.shown)[t * n :]
    after = array(work.state)[(t + 1) * n :]
    gain, field, keep = array(work.gain)[t * n :], array(work.net.field), array(work.keep)
    o, end = layer.offset, layer.offset + layer.size
    for a in range(now.size):
        b = now[a]
        kept = keep[t * n + b, o:end] if continuous else keep[0]
        slopes(
            job, k, before[b, o:end], shown[b, o:end], after[b, o:end], gain[b, o:end], kept,
            field[b, o:end], spare[: end - o],
        )


@kernel
def record_step(job, work, thread, rows, now, t, step):
    """Free step `step` of the samples `now` from moment t to t + 1, with its slopes."""
    state, shown, n, last = array(work.state), array(work.shown), rows.size, job.n_weights
    together, continuous = work.together == 1, job.dynamics == CONTINUOUS
    for a in range(now.size):
        b = now[a]
        copy_row(state[(t + 1) * n + b], state[t * n + b])
        if continuous:
            copy_row(shown[(t + 1) * n + b], shown[t * n + b])
    seen = shown[(t if together else t + 1) * n :]  # layers move in place, one colour after the other
    for turn in range(1 if together else 2):
        first, stride = (1, 1) if together else (1 + turn, 2)
        for k in range(first, last + 1, stride):
            fields(work.net, seen, k, now)
            step_and_record(job, work, rows, k, now, t, step)
    for k in range(1, last + 1):
        record_slopes(job, work, thread, k, now, t, n)


# --- reverse steps


@kernel
def reverse_rows(gain, keep, rest, continuous, bar, flow):
    """flow = gain bar, bar = keep bar (or rest bar) of one layer of one sample."""
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
    """out += a b."""
    widest_vectors()
    for i in range(out.size):
        out[i] += a[i] * b[i]


@kernel
def send_back(job, work, flow, lean, k, now):
    """bar of layer k += lean * (the flows of the layers beside it, sent back)."""
    layer, bar, field = array(work.net.layers)[k], array(work.bar), array(work.net.field)
    o, end = layer.offset, layer.offset + layer.size
    fields(work.adjoint, flow, k, now)
    for a in range(now.size):
        b = now[a]
        if job.dynamics == CONTINUOUS:
            add_times(bar[b, o:end], lean[b, o:end], field[b, o:end])
        else:
            add_to(bar[b, o:end], field[b, o:end])


@kernel
def start_flow(job, work, k, now, t, n):
    """flow of layer k of moment t, and what bar keeps."""
    layer, continuous = array(work.net.layers)[k], job.dynamics == CONTINUOUS
    gain, keep, bar, flow = array(work.gain), array(work.keep), array(work.bar), array(work.flow)
    o, end, rest = layer.offset, layer.offset + layer.size, ONE - bar.dtype.type(job.dt)
    for a in range(now.size):
        b = now[a]
        row = t * n + b
        kept = keep[row, o:end] if continuous else keep[0]
        reverse_rows(gain[row, o:end], kept, rest, continuous, bar[b, o:end], flow[row, o:end])


@kernel
def reverse_step(job, work, t, n, final, now):
    """bar goes from moment t + 1 to moment t, work.flow is left for the update; if `final`, only
    flow.

    The leans are those of the states before and after the step; a layer may have moved before it
    was seen.
    """
    last, continuous, together = job.n_weights, job.dynamics == CONTINUOUS, work.together == 1
    lean, flow = array(work.lean), array(work.flow)[t * n :]
    lean0, lean1 = lean[t * n if continuous else 0 :], lean[(t + 1) * n if continuous else 0 :]
    for turn in range(0 if together else 1, -1, -1):
        first, stride = (1, 1) if together else (1 + turn, 2)
        for k in range(first, last + 1, stride):
            start_flow(job, work, k, now, t, n)
        if final and turn == 0:
            return
        for k in range(1, last + 1):
            moves = together or k % 2 == (1 if turn == 0 else 0)
            if together or not moves:
                send_back(job, work, flow, lean1 if turn == 1 and k % 2 == 1 else lean0, k, now)


@kernel
def start_bar(job, net, s, y, weight, bar):
    """-dC/ds at the free state s (units) of one sample, times its weight."""
    for i in range(bar.size):
        bar[i] = ZERO
    output = array(net.layers)[job.n_weights]
    o, n = output.offset, output.size
    out, force = s[o : o + n], bar[o : o + n]
    factor = weight * s.dtype.type(job.cost_factor)
    if job.cost == SQUARED_ERROR:
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
    """Largest |bar| of the samples `now`."""
    top = ZERO
    for a in range(now.size):
        row = bar[now[a]]
        for i in range(row.size):
            size = abs(row[i])
            top = size if size > top else top
    return top


@kernel
def batch_largest(thread, control, work, turn, now):
    """Largest |bar| of the whole batch, or -1 if a thread has failed; all threads call this."""
    bar, mine = array(work.bar), array(work.peaks)[turn % 2]
    mine[thread] = largest(bar, now)
    if not barrier(control, work.n_threads):
        return bar.dtype.type(-1)
    top = mine[0]
    for i in range(1, work.n_threads):
        top = mine[i] if mine[i] > top else top
    return top


@kernel
def iterate(thread, control, job, work, n, now):
    """Almeida-Pineda: bar <- J' bar, summed in work.total, at most n_nudged_steps times; then the
    flows of the sum.

    Returns the number of steps; 0 if a thread has failed.
    """
    bar, total, none = array(work.bar), array(work.total), np.int64(0)
    first = batch_largest(thread, control, work, none, now)
    if first < ZERO:
        return 0
    tolerance, relative, steps = bar.dtype.type(job.tol_nudged), bar.dtype.type(1), 1
    for a in range(now.size):
        copy_row(total[now[a]], bar[now[a]])
    while steps < job.n_nudged_steps and relative > tolerance and first > ZERO:
        reverse_step(job, work, none, n, False, now)
        for a in range(now.size):
            add_to(total[now[a]], bar[now[a]])
        if job.tol_nudged >= 0.0:
            top = batch_largest(thread, control, work, steps, now)
            if top < ZERO:
                return 0
            relative = top / first
        steps += 1
    for a in range(now.size):
        copy_row(bar[now[a]], total[now[a]])
    reverse_step(job, work, none, n, True, now)
    return steps


# --- update


@kernel
def pack_adjoint(job, work, thread):
    """Independent feedback: back' in the place of the weights and the weights' transpose in that of
    back.
    """
    net = work.adjoint
    packed, layers = array(net.packed), array(net.layers)
    for k in range(1, job.n_weights):
        w, back = weights_of(job, job.weight, k).T, backs_of(job, job.back, k).T
        down = block(layers[k].down)
        low, high = own_rows(back.shape[0], thread, work.n_threads)
        pack_rows(net, k, back, low, high)
        low, high = own_rows(w.shape[0], thread, work.n_threads)
        for j in range(low, high):
            pack_row(packed, down, j, w[j])


@kernel
def learn_rows(job, work, thread, w, m, v, pre, pre_at, post_at, move):
    """Own rows of a weight matrix, along sum_r pre[r] flow[r]': the flows that what a layer showed
    meets.
    """
    flow = array(work.flow)
    low, high = own_rows(w.shape[0], thread, work.n_threads)
    for start in range(low, high, TILE_SAMPLES):
        count = min(TILE_SAMPLES, high - start)
        clear_ascent(work, thread, count, w.shape[1])
        add_ascent(work, thread, pre, pre_at + start, flow, post_at, count, w.shape[1], move)
        step_rows(job, w, m, v, array(work.ascent)[thread], start, count, move)


@kernel
def learn_tied(job, work, thread, w, m, v, pre, post, k, move):
    """The same for weights that serve both ways: along sum_r pre[r] flow[r]' + flow[r] post[r]'."""
    flow, layers = array(work.flow), array(work.net.layers)
    below, here, n_out = layers[k].offset, layers[k + 1].offset, w.shape[1]
    low, high = own_rows(w.shape[0], thread, work.n_threads)
    for start in range(low, high, TILE_SAMPLES):
        count = min(TILE_SAMPLES, high - start)
        clear_ascent(work, thread, count, n_out)
        add_ascent(work, thread, pre, below + start, flow, here, count, n_out, move)
        add_ascent(work, thread, flow, below + start, post, here, count, n_out, move)
        step_rows(job, w, m, v, array(work.ascent)[thread], start, count, move)


@kernel
def clear_ascent(work, thread, count, n_out):
    """Zeroes the first `count` rows of a thread's ascent."""
    ascent = array(work.ascent)[thread]
    for i in range(count):
        fill(ascent[i, :n_out], ZERO)


@kernel
def add_ascent(work, thread, pre, pre_at, post, post_at, count, n_out, move):
    """ascent[i] += scale sum_r pre[r, pre_at + i] post[r, post_at :], for i < count."""
    ascent, coefficients = array(work.ascent)[thread], array(work.products)[thread]
    factor, places, none = ascent.dtype.type(move.scale), array(work.places), np.int64(0)
    rows = Block(post_at, post.shape[1], tile_columns(ascent.itemsize))
    flat = post.reshape(post.size)
    difference_coefficients(pre, pre_at, array(work.ones), factor, count, move.n_rows, coefficients)
    add_panels(ascent, none, n_out, places[:count], coefficients, none, move.n_rows, flat, rows)


@kernel
def learn_inner(job, work, thread, n, n_steps, scale, t):
    """Weights between neurons, with their transposes, biases and, if independent, feedback: own
    rows.
    """
    net, layers, shown = work.net, array(work.net.layers), array(work.shown)
    rates, together = vector(np.float64, job.rate, job.n_weights), work.together == 1
    for k in range(1, job.n_weights):
        move = Move(n * n_steps, scale, rates[k], t)
        # odd layers have moved when even ones look at them
        shown_below = shown[0 if together or k % 2 == 0 else n :]
        shown_here = shown[0 if together or (k + 1) % 2 == 0 else n :]
        w, m = weights_of(job, job.weight, k), weights_of(job, job.velocity, k)
        v = weights_of(job, job.second, k)
        below, here = layers[k].offset, layers[k + 1].offset
        if job.back == 0:
            learn_tied(job, work, thread, w, m, v, shown_below, shown_here, k, move)
        else:
            learn_rows(job, work, thread, w, m, v, shown_below, below, here, move)
        low, high = own_rows(w.shape[0], thread, work.n_threads)
        pack_rows(net, k, w, low, high)
        if job.back != 0:
            w, m = backs_of(job, job.back, k), back_moments(job, job.velocity, k)
            v = back_moments(job, job.second, k)
            learn_rows(job, work, thread, w, m, v, shown_here, here, below, move)
            low, high = own_rows(w.shape[0], thread, work.n_threads)
            pack_back(net, k, w, low, high)
        if thread == 0:
            move, nothing = Move(n, scale, rates[k], t), array(work.nothing)
            update_bias(
                job, net, k, array(work.ones), nothing, array(work.total), move, array(work.ascent)[0]
            )
