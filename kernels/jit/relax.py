"""Relaxation of a block of samples: all their steps in one call, their states in cache; twin of
reference/layered.py.

`job` is an eqp_layered_job of csrc/core/jobs.h, `net` the scratch of layout.py. State rows hold all
layers of a sample side by side. `shown` is what a layer shows to the others: the state itself in
the discrete map, rho(state) in continuous dynamics.
"""

from typing import NamedTuple

import numpy as np

from .activations import ONE, SHIFTED_SIGMOID, ZERO, activate, shifted_sigmoid32, times_prime
from .compile import bits_float, float_bits, kernel, widest_vectors
from .layout import LANES, block, targets
from .narrow import is_narrow, keep_outputs, leave_alternating, narrow_fields
from .products import add_dots, add_panels
from .views import array, vector

DISCRETE, CONTINUOUS = range(2)  # spec.DYNAMICS
SQUARED_ERROR = 0  # of spec.COSTS
STEP_SHIFT, PHASE_SHIFT = 8, 40
SYNCHRONOUS, ODD_EVEN, UPWARDS, DOWNWARDS = range(4)  # orders of visiting; the first three are spec.SCHEDULES


class Phase(NamedTuple):
    """What the samples of a block do: numbers only, which cost nothing to pass on."""

    number: int  # 0 free, 1 and 2 the second phases: what a failure is filed under
    visit: int  # order of the layers
    last: int  # layers above this one stay where they are
    beta: float
    n_steps: int
    tol: float  # a sample stops when its largest change / dt is no more than this; < 0: never
    dt: float


@kernel(inline=True)
def phase_of(number, visit, last, beta, n_steps, tol, dt):
    """A Phase of fields that are always of the same types."""
    return Phase(
        np.int64(number), np.int64(visit), np.int64(last), np.float64(beta), np.int64(n_steps), tol, dt
    )


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
def add_force(job, out, s, y, factor):
    """out += factor (y - prediction) at the output state s: factor = -1 is the cost's gradient."""
    n = s.size
    if job.cost == SQUARED_ERROR:
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
def scale(field, gain):
    """field counts `gain` times."""
    widest_vectors()
    gain = field.dtype.type(gain)
    for i in range(field.size):
        field[i] *= gain


@kernel
def show(job, k, s, r):
    """r = what layer k shows of its state s (continuous dynamics), both (N[k])."""
    single = s.itemsize == 4
    copy_row(r, s)
    if k < job.n_weights:
        activate(job.activation, single, r)
    elif not job.linear_output:
        activate(job.out_activation, single, r)


@kernel
def show_all(job, net, state, shown):
    """`show` of all layers of a row."""
    layers = array(net.layers)
    for k in range(1, layers.size):
        o, n = layers[k].offset, layers[k].size
        show(job, k, state[o : o + n], shown[o : o + n])


@kernel
def fields(net, shown, k, active):
    """net.field = total input of layer k for the samples `active`: bottom-up + bias + top-down."""
    layers, packed, field = array(net.layers), array(net.packed), array(net.field)
    bias, drive, here = array(net.bias), array(net.drive), layers[k]
    o, n = here.offset, here.size
    for a in range(active.size):
        b = active[a]
        copy_row(field[b, o : o + n], drive[b, :n] if k == 1 else bias[o : o + n])
    if k > 1:
        below, m = layers[k - 1].offset, layers[k - 1].size
        if here.copy.start >= 0:
            add_panels(field, o, n, active, shown, below, m, packed, block(here.copy))
        else:
            for a in range(active.size):
                b = active[a]
                add_dots(
                    field[b, o : o + n], shown[b, below : below + m], packed, here.transpose.start,
                    here.transpose.row,
                )
    if k + 1 < layers.size:
        above = layers[k + 1]
        add_panels(field, o, n, active, shown, above.offset, above.size, packed, block(here.down))


@kernel
def new_state(job, k, s, r, f, y, beta, dt):
    """One step of layer k of one sample from its padded field f; returns the bits of the largest
    |change|.

    s, r (N[k]): what it is and shows; y (N[L]): the target.
    """
    output, single = k == job.n_weights, s.itemsize == 4
    code = job.out_activation if output else job.activation
    dt = s.dtype.type(dt)
    forced, factor = output and beta != 0.0, s.dtype.type(job.cost_factor * beta)
    if job.gain != 0:
        scale(f, vector(np.float64, job.gain, k)[k - 1])
    if job.dynamics == DISCRETE:
        if not forced and dt == ONE and code == SHIFTED_SIGMOID and single:
            return settle_sigmoid32(s, f)
        if forced and job.nudge_inside:
            add_force(job, f, s, y, factor)
        activate(code, single, f)
        if forced and not job.nudge_inside:
            add_force(job, f, s, y, factor)
        return settle(s, f, dt)
    if output and job.prime_output:
        if job.linear_output:  # r shows s itself; it is written anew below
            activate(code, single, r)
        times_prime(code, s, r, f)
    elif not output and job.prime_hidden:
        times_prime(code, s, r, f)
    if forced:
        add_force(job, f, s, y, factor)
    top = settle_euler(s, f, dt, job.clamp)
    show(job, k, s, r)
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
def move_layer(job, net, thread, state, shown, rows, k, now, phase, step):
    """New states of layer k of the samples `now` from their fields; net.change keeps the largest.

    y[rows[b]] is the target of sample b. A sample that becomes non-finite gets a place in
    net.failure, unless an earlier one is known.
    """
    field, failure, change = array(net.field), array(net.failure), array(net.change)[thread]
    finite_bits, where = float_bits(state.dtype.type(np.inf)), failure_at(phase.number, step) | k
    layer, y = array(net.layers)[k], targets(job, net.n_data)
    o, end = layer.offset, layer.offset + layer.size
    padded = end + (o - end) % LANES
    for a in range(now.size):
        b = now[a]
        top = new_state(
            job, k, state[b, o:end], shown[b, o:end], field[b, o:padded], y[rows[b]], phase.beta,
            phase.dt,
        )
        if top >= finite_bits:
            if failure[b] == 0 or where < failure[b]:
                failure[b] = where
        else:
            size = bits_float(top)
            change[b] = size if size > change[b] else change[b]


@kernel
def step_block(job, net, thread, state, shown, rows, now, phase, step):
    """One step of the layers 1..phase.last of the samples `now`."""
    change, n_layers = array(net.change)[thread], array(net.layers).size - 1
    for a in range(now.size):
        change[now[a]] = ZERO
    together = phase.visit == SYNCHRONOUS and phase.last == 2 and is_narrow(net)
    for turn in range(n_passes(phase.visit, n_layers)):
        first, stride = pass_layers(phase.visit, n_layers, turn)
        if together:
            narrow_fields(job, net, shown, now)
        else:
            for k in range(first, phase.last + 1, stride):
                fields(net, shown, k, now)
        for k in range(first, phase.last + 1, stride):
            move_layer(job, net, thread, state, shown, rows, k, now, phase, step)


@kernel
def keep_moving(net, thread, now, phase, step):
    """Moves the samples that are to go on to the front of `now`; returns their number.

    Without a tolerance all steps count as made, but a step that changes nothing stands for the
    rest.
    """
    steps, residual = array(net.steps)[thread], array(net.residual)[thread]
    change, failure = array(net.change)[thread], array(net.failure)
    real, left = change.dtype.type, 0
    dt, tolerance = real(phase.dt), real(phase.tol)
    for a in range(now.size):
        b = now[a]
        steps[b] = step + 1
        residual[b] = change[b] / dt
        if failure[b] == 0 and residual[b] > max(tolerance, ZERO):
            now[left] = b
            left += 1
        elif failure[b] == 0 and tolerance < ZERO:
            steps[b] = phase.n_steps
    return left


@kernel
def relax_block(job, net, thread, state, shown, rows, low, high, phase):
    """Relax the samples low..high of the buffers; y[rows[b]] is the target of sample b.

    A sample stops after the step in which its largest change / dt is <= tol, or in which it became
    non-finite (net.failure[b] then says where; 0 otherwise). net.steps and net.residual say how far
    each came.
    """
    steps, residual = array(net.steps)[thread], array(net.residual)[thread]
    count, live = high - low, array(net.active)[thread][low:high]
    for a in range(count):
        live[a] = low + a
        steps[low + a] = 0
        residual[low + a] = ZERO
    # steps alternate, once they do, only in the plain synchronous map
    plain = job.dynamics == DISCRETE and state.dtype.type(phase.dt) == ONE and phase.visit == SYNCHRONOUS
    watched = plain and phase.tol < 0 and phase.last == 2 and is_narrow(net)
    for step in range(phase.n_steps):
        if count == 0:
            break
        now = live[:count]
        if watched:
            keep_outputs(net, state, now, step)
        step_block(job, net, thread, state, shown, rows, now, phase, step)
        count = keep_moving(net, thread, now, phase, step)
        if watched:
            count = leave_alternating(net, state, now[:count], step, phase.n_steps, steps)
