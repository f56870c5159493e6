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
from .compile import accessor, kernel, widest_vectors
from .layout import BACKWARDS, FORWARDS, backs_of, joined, own_rows, weights_of
from .packing import pack_back, pack_rows, refresh
from .products import add_to
from .relax import CONTINUOUS, DISCRETE, add_force, copy_row, fields, move_layer, phase_of
from .threads import barrier
from .tiles import TILE_SAMPLES
from .update import Move, add_ascent, clear_ascent, step_rows, update_bias
from .views import array, vector


@accessor
def row_of(described, row):
    """A row of work.keep or work.lean: of the map they have one, which serves all."""
    rows = array(described)
    return rows[row if rows.shape[0] > 1 else 0]


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
def record_slopes(job, work, thread, k, now, t, n):
    """gain and keep of layer k of the samples `now` between moments t and t + 1 of n samples."""
    layer, spare = array(work.net.layers)[k], array(work.spare)[thread]
    before, shown = array(work.state)[t * n :], array(work.shown)[t * n :]
    after = array(work.state)[(t + 1) * n :]
    gain, field = array(work.gain)[t * n :], array(work.net.field)
    o, end = layer.offset, layer.offset + layer.size
    for a in range(now.size):
        b = now[a]
        slopes(
            job, k, before[b, o:end], shown[b, o:end], after[b, o:end], gain[b, o:end],
            row_of(work.keep, t * n + b)[o:end], field[b, o:end], spare[: end - o],
        )


@kernel
def record_step(job, work, thread, rows, now, t, step):
    """Free step `step`, from 0 on, of the samples `now` from moment t to t + 1, with its slopes."""
    state, shown, gain = array(work.state), array(work.shown), array(work.gain)
    net, field, layers, n = work.net, array(work.net.field), array(work.net.layers), rows.size
    together, continuous = work.together == 1, job.dynamics == CONTINUOUS
    phase = phase_of(0, job.schedule, job.n_weights, 0.0, 1, -1.0, job.dt)
    for a in range(now.size):
        b = now[a]
        copy_row(state[(t + 1) * n + b], state[t * n + b])
        if continuous:
            copy_row(shown[(t + 1) * n + b], shown[t * n + b])
    after, after_shown = state[(t + 1) * n :], shown[(t + 1) * n :]
    seen = shown[t * n :] if together else after_shown  # layers move in place, colour after colour
    for turn in range(1 if together else 2):
        first, stride = (1, 1) if together else (1 + turn, 2)
        for k in range(first, layers.size, stride):
            fields(net, seen, k, now)
            o, end = layers[k].offset, layers[k].offset + layers[k].size
            for a in range(now.size):
                copy_row(gain[t * n + now[a], o:end], field[now[a], o:end])
            move_layer(job, net, thread, after, after_shown, rows, k, now, phase, step)
    for k in range(1, layers.size):
        record_slopes(job, work, thread, k, now, t, n)


# --- reverse steps


@kernel
def reverse_rows(gain, keep, bar, flow):
    """flow = gain bar, bar = keep bar of one layer of one sample."""
    widest_vectors()
    for i in range(bar.size):
        flow[i] = gain[i] * bar[i]
        bar[i] = keep[i] * bar[i]


@kernel
def add_times(out, a, b):
    """out += a b."""
    widest_vectors()
    for i in range(out.size):
        out[i] += a[i] * b[i]


@kernel
def send_back(work, flow, at, k, now):
    """bar of layer k += lean * (the flows of the layers beside it, sent back); `at` is the moment's
    first row.
    """
    layer, bar, field = array(work.net.layers)[k], array(work.bar), array(work.net.field)
    o, end = layer.offset, layer.offset + layer.size
    fields(work.adjoint, flow, k, now)
    for a in range(now.size):
        b = now[a]
        add_times(bar[b, o:end], row_of(work.lean, at + b)[o:end], field[b, o:end])


@kernel
def start_flow(work, k, now, at):
    """flow of layer k at the moment whose first row is `at`, and what bar keeps."""
    layer, gain = array(work.net.layers)[k], array(work.gain)
    bar, flow, o, end = array(work.bar), array(work.flow), layer.offset, layer.offset + layer.size
    for a in range(now.size):
        b, row = now[a], at + now[a]
        reverse_rows(gain[row, o:end], row_of(work.keep, row)[o:end], bar[b, o:end], flow[row, o:end])


@kernel
def reverse_step(job, work, t, n, final, now):
    """bar goes from moment t + 1 to moment t, work.flow is left for the update; if `final`, only
    flow.

    The leans are those of the states before and after the step; a layer may have moved before it
    was seen.
    """
    last, together, flow = job.n_weights, work.together == 1, array(work.flow)[t * n :]
    for turn in range(0 if together else 1, -1, -1):
        first, stride = (1, 1) if together else (1 + turn, 2)
        for k in range(first, last + 1, stride):
            start_flow(work, k, now, t * n)
        if final and turn == 0:
            return
        for k in range(1, last + 1):
            moves = together or k % 2 == (1 if turn == 0 else 0)
            if together or not moves:
                send_back(work, flow, (t + 1 if turn == 1 and k % 2 == 1 else t) * n, k, now)


@kernel
def start_bar(job, net, s, y, weight, bar):
    """-dC/ds at the free state s (units) of one sample, times its weight."""
    fill(bar, ZERO)
    output = array(net.layers)[job.n_weights]
    o, end = output.offset, output.offset + output.size
    add_force(job, bar[o:end], s[o:end], y, weight * s.dtype.type(job.cost_factor))


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
    """Independent feedback: back' in the place of the weights, their transpose in that of back."""
    net = work.adjoint
    for k in range(1, job.n_weights):
        w, back = weights_of(job, job.weight, k).T, backs_of(job, job.back, k).T
        low, high = own_rows(back.shape[0], thread, work.n_threads)
        pack_rows(net, k, back, low, high)
        low, high = own_rows(w.shape[0], thread, work.n_threads)
        pack_back(net, k, w, low, high)


@accessor
def shown_to(work, k, n):
    """What layer k showed to those beside it: odd ones have moved when even ones look at them."""
    return array(work.shown)[0 if work.together == 1 or k % 2 == 0 else n :]


@kernel
def learn_matrix(job, work, thread, way, k, n, move):
    """Own rows of the weights k, forwards or backwards, along sum_r shown[r] flow[r]': the flows
    that what a layer showed meets; and, if they serve both ways, + flow[r] shown[r]'.
    """
    pre, post = joined(work.net, way, k)
    flow, factor = array(work.flow), array(work.flow).dtype.type(move.scale)
    shown, other = shown_to(work, k + way, n), shown_to(work, k + 1 - way, n)
    low, high = own_rows(pre.size, thread, work.n_threads)
    for start in range(low, high, TILE_SAMPLES):
        count, at = min(TILE_SAMPLES, high - start), pre.offset + start
        clear_ascent(work, thread, count, post.size)
        add_ascent(work, thread, shown, at, flow, post.offset, count, post.size, move.n_rows, factor)
        if job.back == 0:
            add_ascent(work, thread, flow, at, other, post.offset, count, post.size, move.n_rows, factor)
        step_rows(job, way, k, array(work.ascent)[thread], start, count, move)
    refresh(job, work.net, way, k, low, high)


@kernel
def learn_inner(job, work, thread, n, scale, t):
    """Weights between neurons, their biases and, if independent, feedback: own rows."""
    rates, nothing = vector(np.float64, job.rate, job.n_weights), array(work.nothing)
    ones, ascent = array(work.ones), array(work.ascent)[0]
    for k in range(1, job.n_weights):
        move = Move(n * work.n_recorded, scale, rates[k], t)
        learn_matrix(job, work, thread, FORWARDS, k, n, move)
        if job.back != 0:
            learn_matrix(job, work, thread, BACKWARDS, k, n, move)
        if thread == 0:
            move = Move(n, scale, rates[k], t)
            update_bias(job, work.net, k, ones, nothing, array(work.total), move, ascent)
