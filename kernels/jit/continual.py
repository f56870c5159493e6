"""Nudged phases that are walked step by step: continual EP and the vector fields (2005.04168,
1808.04873); twin of reference/rules.py.

Continual EP needs no pass over the weights at a step. Its updates telescope: after t steps

    W_k(t) - W_k(0) = c sum_s w_s ( q_k^t[s] q_{k+1}^t[s]' - q_k^0[s] q_{k+1}^0[s]' ),
    c = rate / (beta sum_s w_s),

is of rank two batches, so W_k(t) acts on a state through its products with what the samples show
now (q^t) and showed at the start (q^0). The input layer's products x[m].x[s] are the same at every
step. The weights move once, at the end, as in EP. In the continual vector field only the input
layer telescopes; the inner matrices are stepped in place, in their packed copies, and written back
once the batch is known to be finite.
"""

import numpy as np

from .activations import IDENTITY, ONE, ZERO, rho_scalar
from .compile import kernel
from .inplace import step_bias, step_panels, step_transpose
from .layout import Block, backs_of, biases_of, block, own_rows, weights_of
from .packing import unpack_panels, unpack_transpose
from .products import add_dots, add_panels
from .relax import (
    SYNCHRONOUS,
    copy_row,
    fields,
    keep_moving,
    move_layer,
    n_passes,
    pass_layers,
    phase_of,
    step_block,
)
from .threads import barrier
from .tiles import tile_columns
from .views import array, vector

# --- what the vector fields learn from: presynaptic activity before a step, weighted change in it


@kernel
def remember(state, shown, now, pre, moved, base):
    """Rows base + b of pre and moved = what sample b of `now` shows and is, before a step."""
    for a in range(now.size):
        b = now[a]
        copy_row(pre[base + b], shown[b])
        copy_row(moved[base + b], state[b])


@kernel
def weigh_change(state, now, weight, sign, moved, base):
    """Rows base + b of moved = sign weight (state after the step - state before, which they hold).
    """
    for a in range(now.size):
        b = now[a]
        w, s, d = sign * weight[b], state[b], moved[base + b]
        for i in range(d.size):
            d[i] = w * (s[i] - d[i])


@kernel
def vector_field_phase(job, work, walk, thread, state, shown, rows, low, high, phase):
    """Nudged phase 1 or 2 of the samples low..high; a sample at rest changes no more.

    Row ((phase - 1) K + step) B + b of walk.pre and walk.moved keeps step `step` of sample b, of B
    in the batch.
    """
    net, weight, pre, moved = work.net, array(work.weight), array(walk.pre)[0], array(walk.moved)[0]
    steps, live, count = array(net.steps)[thread], array(net.active)[thread][low:high], high - low
    sign = ONE if phase.number == 1 else -ONE
    for a in range(count):
        live[a] = low + a
        steps[low + a] = 0
    for step in range(phase.n_steps):
        base = ((phase.number - 1) * phase.n_steps + step) * rows.size
        if count < high - low:
            for b in range(low, high):
                for i in range(pre.shape[1]):
                    pre[base + b, i] = ZERO
                    moved[base + b, i] = ZERO
        now = live[:count]
        remember(state, shown, now, pre, moved, base)
        step_block(job, net, thread, state, shown, rows, now, phase, step)
        weigh_change(state, now, weight, sign, moved, base)
        count = keep_moving(net, thread, now, phase, step)


# --- the continual rules, whose samples meet


@kernel
def input_products(job, lists, low, high, n_samples, dense, gram):
    """gram[m, s] = rho(x[m]) . rho(x[s]) for m in low..high, all s; `dense` (N[0]) stays zero."""
    counts, index, value = array(lists.counts), array(lists.index), array(lists.value)
    real = dense.dtype.type
    base = real(0)
    if job.input_activation != IDENTITY:
        base = real(rho_scalar(job.input_activation, base))
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
def layer_products(work, walk, k, now, n_samples, place):
    """grams[k, 0 and 1, b, s]: what layer k shows in sample b, times what it shows in s now, which
    is walk.shown[place], and at the start.
    """
    grams, layer, shown = array(walk.grams), array(work.net.layers)[k], array(work.shown)[1]
    o, n, units = layer.offset, layer.size, shown.shape[1]
    start, reached = array(work.shown)[0], array(walk.shown)[place]
    flat_start, flat_now = start.reshape(start.size), reached.reshape(reached.size)
    for part in range(2):
        for a in range(now.size):
            b = now[a]
            out = grams[k, part, b, :n_samples]
            for s in range(n_samples):
                out[s] = ZERO
            add_dots(out, shown[b, o : o + n], flat_now if part == 0 else flat_start, o, units)


@kernel
def coefficients_of(job, work, walk, scale, k, now, n_samples):
    """walk.parts[0 and 1, b, s]: how much of what layer k shows in s, now and at the start, the
    change of the weights around it adds to its field in sample b.
    """
    parts, grams, weight = array(walk.parts), array(walk.grams), array(work.weight)
    n, real, top = job.n_weights, parts.dtype.type, k == job.n_weights
    rate, bias_rate = vector(np.float64, job.rate, n), vector(np.float64, job.bias_rate, n)
    c_below, c_bias = real(scale * rate[k - 1]), real(scale * bias_rate[k - 1])
    c_above = real(0) if top else real(scale * rate[k])
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
def step_inner(job, work, walk, thread, n_samples, scale):
    """Own share of the continual vector field's move of inner weights, biases and feedback."""
    layers, n = array(work.net.layers), job.n_weights
    rates, bias_rates = vector(np.float64, job.rate, n), vector(np.float64, job.bias_rate, n)
    for k in range(1, n):
        below, here, rate = layers[k], layers[k + 1], scale * rates[k]
        if here.copy.start < 0:
            step_transpose(work, walk, thread, block(here.transpose), below, here, n_samples, rate)
        else:
            step_panels(work, walk, thread, block(here.copy), below, here, n_samples, rate)
        step_panels(work, walk, thread, block(below.down), here, below, n_samples, rate)
        if thread == 0:
            step_bias(work, walk, here, n_samples, scale * bias_rates[k])


@kernel
def unpack_inner(job, work, thread):
    """The same share from the packed copies to the caller's arrays."""
    layers, packed, copied = array(work.net.layers), array(work.net.packed), array(work.net.bias)
    for k in range(1, job.n_weights):
        below, here = layers[k], layers[k + 1]
        low, high = own_rows(below.size, thread, work.n_threads)
        w, back = weights_of(job, job.weight, k), backs_of(job, job.back, k)
        if here.copy.start < 0:
            unpack_transpose(packed, block(here.transpose), w, low, high)
        else:
            unpack_panels(packed, block(here.copy), w, low, high)
        low, high = own_rows(here.size, thread, work.n_threads)
        unpack_panels(packed, block(below.down), back, low, high)
        if thread == 0:
            copy_row(biases_of(job, job.bias, k), copied[here.offset : here.offset + here.size])


@kernel
def note_walk(work, walk, low, high, step):
    """What the samples low..high have come to, for all threads: how far the first layer is from the
    start, or what all layers show; returns its place in walk.shown, of which there are two in turn,
    for some thread may still read the last one.
    """
    reached, state, shown = array(walk.shown), array(work.state), array(work.shown)
    if walk.raw == 1:
        first = array(work.net.layers)[1]
        for b in range(low, high):
            for i in range(first.size):
                reached[0, b, i] = state[1, b, i] - state[0, b, i]
        return 0
    for b in range(low, high):
        copy_row(reached[step % 2, b], shown[1, b])
    return step % 2


@kernel
def add_moved_weights(job, work, walk, k, now, n_samples, scale, place):
    """Adds to the fields of layer k what the weights have moved since the start of the phase."""
    field, parts, layer = array(work.net.field), array(walk.parts), array(work.net.layers)[k]
    start, reached = array(work.shown)[0], array(walk.shown)[place]
    columns = tile_columns(field.itemsize)
    none, samples = np.int64(0), Block(layer.offset, start.shape[1], columns)
    if walk.raw == 0:
        coefficients_of(job, work, walk, scale, k, now, n_samples)
        flat = start.reshape(start.size)
        add_panels(field, layer.offset, layer.size, now, parts[1], none, n_samples, flat, samples)
    flat = reached.reshape(reached.size)
    add_panels(field, layer.offset, layer.size, now, parts[0], none, n_samples, flat, samples)


@kernel
def continual_step(job, work, walk, thread, rows, now, phase, step, scale, place):
    """One step of all layers of the samples `now`; from the second on, with the moved weights."""
    net, state, shown = work.net, array(work.state)[1], array(work.shown)[1]
    change, n_layers, visit, raw = array(net.change)[thread], phase.last, phase.visit, walk.raw == 1
    for a in range(now.size):
        change[now[a]] = ZERO
    for turn in range(n_passes(visit, n_layers)):
        first, stride = pass_layers(visit, n_layers, turn)
        if step > 0 and not raw:
            for k in range(1, n_layers + 1):
                if n_layers > 1 and (visit == SYNCHRONOUS or (k - first) % 2 != 0):  # a neighbour moves
                    layer_products(work, walk, k, now, rows.size, place)
        for k in range(first, n_layers + 1, stride):
            fields(net, shown, k, now)
            if step > 0 and (k == 1 or not raw):
                add_moved_weights(job, work, walk, k, now, rows.size, scale, place)
        for k in range(first, n_layers + 1, stride):
            move_layer(job, net, thread, state, shown, rows, k, now, phase, step)


@kernel
def continual_phase(thread, control, job, work, walk, rows, low, high, beta, scale):
    """Nudged phase of the continual rules, all threads together; False if one of them has failed.

    States 0 are those of the free phase, states 1 begin as their copies. A sample that becomes
    non-finite goes on: every thread must come to every barrier. The last move of the inner weights
    is left to the caller.
    """
    raw, weight, nudged_steps = walk.raw == 1, array(work.weight), array(work.nudged_steps)
    state, shown = array(work.state)[1], array(work.shown)[1]
    pre, moved = array(walk.pre)[0], array(walk.moved)[0]
    n_steps, tol = job.n_nudged_steps, job.tol_nudged
    phase = phase_of(1, job.schedule, job.n_weights, beta, n_steps, tol, job.dt)
    now, none, place = array(work.net.active)[thread][low:high], np.int64(0), np.int64(0)
    for a in range(now.size):
        now[a] = low + a
        nudged_steps[low + a] = phase.n_steps
    for step in range(phase.n_steps):
        if step > 0 and raw:
            if not barrier(control, work.n_threads):
                return False
            step_inner(job, work, walk, thread, rows.size, scale)
        if step > 0:
            place = note_walk(work, walk, low, high, step)
            if not barrier(control, work.n_threads):
                return False
            if step == 1 and raw:  # not before a barrier: it reads every sample's weight
                coefficients_of(job, work, walk, scale, none + 1, now, rows.size)
        if raw:
            remember(state, shown, now, pre, moved, none)
        continual_step(job, work, walk, thread, rows, now, phase, step, scale, place)
        if raw:
            weigh_change(state, now, weight, ONE, moved, none)
    return True
