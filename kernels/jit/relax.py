"""Relaxation of a block of samples: all their steps in one call, their states in cache; twin of
reference/layered.py.

State rows hold all layers of a sample side by side (layout.py). `shown` is what a layer shows to the others:
the state itself in the discrete map, rho(state) in continuous dynamics.
"""

import numpy as np

from .activations import ONE, SHIFTED_SIGMOID, ZERO, activate, shifted_sigmoid32, times_prime
from .compile import bits_float, float_bits, kernel, widest_vectors
from .layout import (
    ACTIVATION,
    CLAMP,
    COPY,
    COPY_PANEL,
    COPY_ROW,
    COST,
    COST_FACTOR,
    DOWN,
    DOWN_PANEL,
    DOWN_ROW,
    DT,
    DYNAMICS,
    LANES,
    LINEAR_OUTPUT,
    N_WEIGHTS,
    NUDGE_INSIDE,
    OFFSET,
    OUT_ACTIVATION,
    PRIME_HIDDEN,
    PRIME_OUTPUT,
    SINGLE,
    SIZE,
    TRANSPOSE,
    TRANSPOSE_ROW,
)  # fmt: skip
from .narrow import is_narrow, keep_outputs, leave_alternating, narrow_fields
from .products import add_dots, add_panels

STEP_SHIFT, PHASE_SHIFT = 8, 40  # a failure is one integer, phase | step | layer: the smallest came first
SYNCHRONOUS, ODD_EVEN, UPWARDS, DOWNWARDS = range(4)  # orders of visiting; the first three are spec.SCHEDULES


@kernel(inline=True)
def failure_at(phase, step):
    """Without the layer, which `move_layer` adds."""
    return ((phase + 1) << PHASE_SHIFT) | ((step + 1) << STEP_SHIFT)


@kernel
def copy_row(dst, src):
    widest_vectors()
    for i in range(dst.size):
        dst[i] = src[i]


@kernel
def add_force(ints, floats, out, s, y, beta):
    """out += -beta dC/ds at the output state s."""
    factor = s.dtype.type(floats[COST_FACTOR] * beta)
    n = s.size
    if ints[COST] == 0:
        for i in range(n):
            out[i] += factor * (y[i] - s[i])
        return
    top = s[0]
    for i in range(1, n):
        top = max(top, s[i])
    total = s.dtype.type(0)
    for i in range(n):
        total += np.exp(s[i] - top)
    for i in range(n):
        out[i] += factor * (y[i] - np.exp(s[i] - top) / total)


@kernel
def all_finite(row):
    bound = float_bits(row.dtype.type(np.inf))
    for i in range(row.size):
        if not float_bits(abs(row[i])) < bound:  # isfinite is x - x == x - x, which reassoc may drop
            return False
    return True


@kernel
def settle(s, new, dt):
    """s = new, damped by dt; returns the bits of the largest |change|."""
    widest_vectors()
    top = float_bits(dt - dt)
    if dt == ONE:
        for i in range(s.size):
            bits = float_bits(abs(new[i] - s[i]))
            s[i] = new[i]
            top = bits if bits > top else top
    else:
        for i in range(s.size):
            value = s[i] + dt * (new[i] - s[i])
            bits = float_bits(abs(value - s[i]))
            s[i] = value
            top = bits if bits > top else top
    return top


@kernel
def settle_sigmoid32(s, new):
    """s = rho(new) for float32 shifted sigmoids, the most common step; returns as `settle`."""
    widest_vectors()
    top = float_bits(ZERO)
    for i in range(s.size):
        value = shifted_sigmoid32(new[i])
        bits = float_bits(abs(value - s[i]))
        s[i] = value
        top = bits if bits > top else top
    return top


@kernel
def settle_euler(s, field, dt, clamp):
    """s += dt (field - s), clipped to [0, 1] if asked; returns the bits of the largest |change|."""
    widest_vectors()
    top = float_bits(dt - dt)
    if clamp:
        for i in range(s.size):
            value = s[i] + dt * (field[i] - s[i])
            value = ZERO if value < ZERO else value
            value = ONE if value > ONE else value
            bits = float_bits(abs(value - s[i]))
            s[i] = value
            top = bits if bits > top else top
    else:
        for i in range(s.size):
            value = s[i] + dt * (field[i] - s[i])
            bits = float_bits(abs(value - s[i]))
            s[i] = value
            top = bits if bits > top else top
    return top


@kernel
def show(ints, k, s, r):
    """r = what layer k shows of its state s (continuous dynamics)."""
    copy_row(r, s)
    if k < ints[N_WEIGHTS]:
        activate(ints[ACTIVATION], ints[SINGLE], r)
    elif not ints[LINEAR_OUTPUT]:
        activate(ints[OUT_ACTIVATION], ints[SINGLE], r)


@kernel
def show_all(ints, layout, state, shown):
    for k in range(1, ints[N_WEIGHTS] + 1):
        o = layout[k, OFFSET]
        n = layout[k, SIZE]
        show(ints, k, state[o : o + n], shown[o : o + n])


@kernel
def fields(ints, layout, packed, bias, drive, shown, field, k, active):
    """field = total input of layer k for the samples `active`: bottom-up + bias + top-down."""
    o, n = layout[k, OFFSET], layout[k, SIZE]
    for a in range(active.size):
        b = active[a]
        copy_row(field[b, o : o + n], drive[b, :n] if k == 1 else bias[o : o + n])
    if k > 1:
        below, m = layout[k - 1, OFFSET], layout[k - 1, SIZE]
        if layout[k, COPY] >= 0:
            add_panels(field, o, n, active, shown, below, m, packed, layout[k, COPY], layout[k, COPY_ROW],
                       layout[k, COPY_PANEL])  # fmt: skip
        else:
            for a in range(active.size):
                b = active[a]
                add_dots(
                    field[b, o : o + n], shown[b, below : below + m], packed, layout[k, TRANSPOSE],
                    layout[k, TRANSPOSE_ROW],
                )  # fmt: skip
    if k < ints[N_WEIGHTS]:
        add_panels(field, o, n, active, shown, layout[k + 1, OFFSET], layout[k + 1, SIZE], packed, layout[k,
        DOWN],
                   layout[k, DOWN_ROW], layout[k, DOWN_PANEL])  # fmt: skip


@kernel
def new_state(ints, floats, k, s, r, f, y, beta):
    """One step of layer k of one sample from its padded field f; returns the bits of the largest |change|."""
    output = k == ints[N_WEIGHTS]
    code = ints[OUT_ACTIVATION] if output else ints[ACTIVATION]
    dt = s.dtype.type(floats[DT])
    forced = output and beta != 0.0
    if ints[DYNAMICS] == 0:
        if not forced and dt == ONE and code == SHIFTED_SIGMOID and ints[SINGLE]:
            return settle_sigmoid32(s, f)
        if forced and ints[NUDGE_INSIDE]:
            add_force(ints, floats, f, s, y, beta)
        activate(code, ints[SINGLE], f)
        if forced and not ints[NUDGE_INSIDE]:
            add_force(ints, floats, f, s, y, beta)
        return settle(s, f, dt)
    if output and ints[PRIME_OUTPUT]:
        if ints[LINEAR_OUTPUT]:  # r shows s itself; it is written anew below
            activate(code, ints[SINGLE], r)
        times_prime(code, s, r, f)
    elif not output and ints[PRIME_HIDDEN]:
        times_prime(code, s, r, f)
    if forced:
        add_force(ints, floats, f, s, y, beta)
    top = settle_euler(s, f, dt, ints[CLAMP])
    show(ints, k, s, r)
    return top


@kernel
def n_passes(visit, n_layers):
    """Passes of one step: layers of a pass move together."""
    return 1 if visit == SYNCHRONOUS else 2 if visit == ODD_EVEN else n_layers


@kernel
def pass_layers(visit, n_layers, turn):
    """First layer and stride of pass `turn`; a stride of n_layers leaves one layer."""
    if visit == SYNCHRONOUS:
        return 1, 1
    if visit == ODD_EVEN:
        return 1 + turn, 2
    return (turn + 1 if visit == UPWARDS else n_layers - turn), n_layers


@kernel
def move_layer(
    ints, floats, layout, state, shown, field, y, rows, k, now, beta, where, failure, change
):  # fmt: skip
    """New states of layer k of the samples `now` from their fields; `change` keeps the largest of a step.

    A sample that becomes non-finite gets failure[b] = where | k, unless an earlier place is known.
    """
    finite_bits = float_bits(state.dtype.type(np.inf))
    o = layout[k, OFFSET]
    end = o + layout[k, SIZE]
    padded = end + (o - end) % LANES
    for a in range(now.size):
        b = now[a]
        top = new_state(
            ints, floats, k, state[b, o:end], shown[b, o:end], field[b, o:padded], y[rows[b]], beta
        )
        if top >= finite_bits:
            if failure[b] == 0 or (where | k) < failure[b]:
                failure[b] = where | k
        else:
            size = bits_float(top)
            change[b] = size if size > change[b] else change[b]


@kernel
def step_block(
    ints, floats, layout, packed, bias, drive, state, shown, field, y, rows, now, visit, last, beta, where,
    failure, change,
):  # fmt: skip
    """One step of the layers 1..last of the samples `now`."""
    for a in range(now.size):
        change[now[a]] = ZERO
    together = visit == SYNCHRONOUS and last == 2 and is_narrow(ints, layout)
    for turn in range(n_passes(visit, ints[N_WEIGHTS])):
        first, stride = pass_layers(visit, ints[N_WEIGHTS], turn)
        if together:
            narrow_fields(ints, layout, packed, bias, drive, shown, field, now)
        else:
            for k in range(first, last + 1, stride):
                fields(ints, layout, packed, bias, drive, shown, field, k, now)
        for k in range(first, last + 1, stride):
            move_layer(
                ints, floats, layout, state, shown, field, y, rows, k, now, beta, where, failure, change
            )


@kernel
def keep_moving(dt, tolerance, step, n_steps, now, steps, residual, failure, change):
    """Moves the samples that are to go on to the front of `now`; returns their number.

    Without a tolerance all steps count as made, but a step that changes nothing stands for the rest.
    """
    left = 0
    for a in range(now.size):
        b = now[a]
        steps[b] = step + 1
        residual[b] = change[b] / dt
        if failure[b] == 0 and residual[b] > max(tolerance, ZERO):
            now[left] = b
            left += 1
        elif failure[b] == 0 and tolerance < ZERO:
            steps[b] = n_steps
    return left


@kernel
def relax_block(
    ints, floats, layout, packed, bias, drive, state, shown, field, y, rows, low, high, visit, last, beta,
    n_steps, tol, phase, steps, residual, failure, active, change,
):  # fmt: skip
    """Relax the samples low..high of the buffers; y[rows[b]] is the target of sample b.

    A sample stops after the step in which its largest change / dt is <= tol, or in which it became non-finite
    (failure[b] then says where; 0 otherwise). `visit` is the order of the layers; those above `last` stay
    where they are.
    """
    tolerance, dt = drive.dtype.type(tol), drive.dtype.type(floats[DT])
    count = high - low
    live = active[low:high]
    for a in range(count):
        live[a] = low + a
        steps[low + a] = 0
        residual[low + a] = ZERO
    # steps alternate, once they do, only in the plain synchronous map
    watched = (
        tolerance < ZERO and visit == SYNCHRONOUS and last == 2 and ints[DYNAMICS] == 0 and dt == ONE
        and is_narrow(ints, layout)
    )  # fmt: skip
    for step in range(n_steps):
        if count == 0:
            break
        now = live[:count]
        where = failure_at(phase, step)
        if watched:
            keep_outputs(layout, state, field, now, step)
        step_block(
            ints, floats, layout, packed, bias, drive, state, shown, field, y, rows, now, visit, last, beta,
            where, failure, change,
        )  # fmt: skip
        count = keep_moving(dt, tolerance, step, n_steps, now, steps, residual, failure, change)
        if watched:
            count = leave_alternating(layout, state, field, now[:count], step, n_steps, steps)
