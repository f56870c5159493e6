"""Learning of Boltzmann machines; twin of reference/boltzmann.py.

`work.first` and `work.second` are the rows of both phases (boltzmann.py), `work.pair` what they show,
less the offsets, with the transposes that the product of a gradient reads down.
"""

import numpy as np

from ..boltzmann_spec import Sweeps
from ..reference.boltzmann import diverged
from .boltzmann import columns_of, fill, make_net, make_plan, make_rows, pack_weights, run_rows
from .compile import is_finite, kernel, widest_vectors
from .layout import Block, own_rows
from .products import add_panels
from .threads import barrier, run_threads, usable
from .tiles import tile_columns
from .views import Record, aligned, argument, array, records


@kernel
def gather_batch(work, start, low, high):
    """Data and labels of the batch's rows low..high."""
    x, y, order = array(work.x), array(work.y), array(work.order)
    layers, state = array(work.net.layers), array(work.first.state)
    top = layers[layers.size - 1]
    for b in range(low, high):
        row = order[start + b]
        for i in range(x.shape[1]):
            state[b, i] = x[row, i]
        if work.labelled:
            for i in range(top.size):
                state[b, top.offset + i] = y[row, i]


@kernel
def average(out, shown, n):
    """Means of n rows."""
    widest_vectors()
    for i in range(out.size):
        out[i] = 0
    for b in range(n):
        row = shown[b]
        for i in range(out.size):
            out[i] += row[i]
    for i in range(out.size):
        out[i] /= out.dtype.type(n)


@kernel
def show_second(work, low, high):
    """What the second phase's rows low..high show: probabilities of drawn odd layers."""
    layers, state = array(work.net.layers), array(work.second.state)
    mean, shown = array(work.second.mean), array(work.shown)
    for b in range(low, high):
        for k in range(layers.size):
            source = mean if work.draws and k % 2 == 1 else state
            for i in range(layers[k].offset, layers[k].offset + layers[k].size):
                shown[b, i] = source[b, i]


@kernel
def phases(work, thread, n_threads, start, n, batch):
    """Both phases of the thread's rows."""
    low, high = own_rows(n, thread, n_threads)
    gather_batch(work, start, low, high)
    taken = run_rows(work.net, work.first, work.up, thread, low, high, np.int64(0))
    if work.draws:
        low, high = own_rows(work.second.n, thread, n_threads)
    else:
        first, second = array(work.first.state), array(work.second.state)
        for b in range(low, high):
            for i in range(first.shape[1]):
                second[b, i] = first[b, i]
        if work.labelled:  # what the data infer without labels, before they are released
            run_rows(work.net, work.second, work.alone, thread, low, high, np.int64(0))
    number = work.down.first_sweep + batch * work.down.n_sweeps
    run_rows(work.net, work.second, work.down, thread, low, high, number)
    show_second(work, low, high)
    return taken


@kernel
def centre(work, thread, n_threads, n, n_second):
    """The thread's columns of both phases, less the offsets, and their transposes with the weights
    1 / n and -1 / n_second.
    """
    offset, first, shown = array(work.offset), array(work.first.state), array(work.shown)
    high, low, across = array(work.high), array(work.low), array(work.across)
    start, stop = own_rows(offset.size, thread, n_threads)
    real = offset.dtype.type
    one, other = real(1) / real(n), -(real(1) / real(n_second))
    for b in range(n):
        for i in range(start, stop):
            high[b, i] = first[b, i] - offset[i]
    for b in range(n_second):
        for i in range(start, stop):
            low[b, i] = shown[b, i] - offset[i]
    for i in range(start, stop):
        for b in range(n):
            across[i, b] = one * high[b, i]
        for b in range(n_second):
            across[i, work.n_first + b] = other * low[b, i]


@kernel
def step(values, velocity, slope, decay, factors):
    """One row of parameters; whether all are finite."""
    rate, momentum, moves = factors
    finite = True
    for i in range(values.size):
        change = slope[i] - decay * values[i]
        if moves:
            change = momentum * velocity[i] + change
            velocity[i] = change
        values[i] += rate * change
        if not is_finite(values[i]):
            finite = False
    return finite


@kernel
def step_weights(work, k, low, high, n, n_second):
    """Rows low..high of the weights above layer k."""
    layers, units = array(work.net.layers), array(work.offset).size
    here, above = layers[k], layers[k + 1]
    weight = array(array(work.pairs)[k].weight)
    velocity, gradient = array(array(work.pairs)[k].velocity), array(work.gradient)
    across, number, real = array(work.across), array(work.number), weight.dtype.type
    columns = tile_columns(weight.itemsize)
    rows = number[here.offset + low : here.offset + high]
    panels = Block(above.offset, np.int64(units), np.int64(columns))
    for i in range(rows.size):
        row = gradient[rows[i]]
        for j in range(row.size):
            row[j] = 0
    zero = np.int64(0)
    add_panels(gradient, zero, above.size, rows, across, zero, np.int64(n), array(work.high_line), panels)
    add_panels(
        gradient, zero, above.size, rows, across, work.n_first, np.int64(n_second),
        array(work.low_line), panels,
    )
    factors, finite = (real(work.rate), real(work.momentum), work.moves), True
    for i in range(low, high):
        slope = gradient[here.offset + i][: above.size]
        if not step(weight[i], velocity[i], slope, real(work.weight_decay), factors):
            finite = False
    pack_weights(work.net, k, weight, low, high)
    return finite


@kernel
def shift(work, slope, k, other, rows):
    """slope -= the gradient of the weights between layers k and other, times the offset of other."""
    first, n, sign = rows
    layers, offset = array(work.net.layers), array(work.offset)
    states = array(work.high) if first else array(work.low)
    here, there = layers[k], layers[other]
    for b in range(n):
        total = offset.dtype.type(0)
        for i in range(there.offset, there.offset + there.size):
            total += states[b, i] * offset[i]
        total *= offset.dtype.type(sign)
        for i in range(here.size):
            slope[i] -= total * states[b, here.offset + i]


@kernel
def step_biases(work, n, n_second):
    layers, gap, bias = array(work.net.layers), array(work.gap), array(work.net.bias)
    velocity, slopes, real = array(work.bias_velocity), array(work.slope), bias.dtype.type
    factors, finite = (real(work.rate), real(work.momentum), work.moves), True
    one, other = real(1) / real(n), -(real(1) / real(n_second))
    for k in range(layers.size):
        low, high = layers[k].offset, layers[k].offset + layers[k].size
        slope = slopes[: high - low]
        for i in range(slope.size):
            slope[i] = gap[low + i]
        if work.centred:
            for near in range(max(0, k - 1), min(layers.size, k + 2)):
                if near != k:
                    shift(work, slope, k, near, (True, n, one))
                    shift(work, slope, k, near, (False, n_second, other))
        if not step(bias[low:high], velocity[low:high], slope, real(0), factors):
            finite = False
    return finite


@kernel
def follow(work, n, n_second):
    """Means of both phases, and the offsets that follow those of the first."""
    gap, offset, other = array(work.gap), array(work.offset), array(work.other)
    average(gap, array(work.first.state), n)
    average(other, array(work.shown), n_second)
    rate = offset.dtype.type(work.offset_rate)
    for i in range(gap.size):
        if work.centred:
            offset[i] += rate * (gap[i] - offset[i])
        gap[i] -= other[i]


@kernel
def learn(work, thread, n_threads, n, n_second):
    """The thread's parts of all weights, thread 0 the biases; whether they are finite."""
    layers, finite = array(work.net.layers), True
    for k in range(layers.size - 1):
        low, high = own_rows(layers[k].size, thread, n_threads)
        if not step_weights(work, k, low, high, n, n_second):
            finite = False
    if thread == 0 and not step_biases(work, n, n_second):
        finite = False
    return finite


@kernel
def train_all(thread, n_threads, control, work):
    """All batches; a thread that fails, or weights that are not finite, end the call."""
    bad, counts = array(work.bad), array(work.counts)
    n_rows, size = array(work.order).size, work.batch_size
    batch = 0
    for start in range(0, n_rows, size):
        n = min(size, n_rows - start)
        n_second = work.second.n if work.draws else n
        counts[thread] += phases(work, thread, n_threads, start, n, batch)
        if not barrier(control, n_threads):
            return
        if thread == 0:
            follow(work, n, n_second)
        if not barrier(control, n_threads):
            return
        centre(work, thread, n_threads, n, n_second)
        if not barrier(control, n_threads):
            return
        if not learn(work, thread, n_threads, n, n_second):
            bad[thread] = 1
        if not barrier(control, n_threads):
            return
        for t in range(n_threads):
            if bad[t] != 0:
                return
        batch += 1


def _second_plan(net, plan, n):
    sweeps = Sweeps(
        plan.n_sweeps, plan.draw, True, seed=plan.seed, first_sweep=plan.first_sweep
    )
    return make_plan(net, sweeps, [False] * n)


def _record(machine, x, y, order, plan, particles, offsets, velocity, n_threads):
    """All that the threads work on; copies of what the call changes."""
    dtype, n_layers, n = x.dtype, len(machine.biases), min(plan.batch_size, len(order))
    net = make_net(machine, n_threads)
    fill(net, machine)
    units, n_second = net.kept["units"], len(particles[0]) if plan.draw else n
    clamped = [True, *[False] * (n_layers - 2), y is not None]
    up = Sweeps(plan.n_mean_field, draw=False, upward=True, tol=plan.tol)
    first, second = make_rows(net, n, dtype), make_rows(net, n_second, dtype)
    row = {name: aligned(units, dtype) for name in ("offset", "gap", "other", "bias_velocity")}
    for k in range(n_layers):
        at = columns_of(net, k)
        if plan.draw:
            second.kept["state"][:, at] = particles[k]
        if offsets is not None:
            row["offset"][at] = offsets[k]
        if velocity is not None:
            row["bias_velocity"][at] = velocity[n_layers - 1 + k]
    pairs = [
        Record(weight=w.copy(), velocity=velocity[k].copy() if velocity else np.zeros_like(w))
        for k, w in enumerate(machine.weights)
    ]
    high, low = aligned((n, units), dtype), aligned((n_second, units), dtype)
    work = Record(
        net=net, first=first, second=second, up=make_plan(net, up, clamped),
        alone=make_plan(net, up, [True, *[False] * (n_layers - 1)]),
        down=_second_plan(net, plan, n_layers), x=x, y=np.zeros((1, 1), dtype) if y is None else y,
        order=order, labelled=y is not None, draws=plan.draw, batch_size=plan.batch_size,
        shown=aligned((n_second, units), dtype), high=high, low=low, high_line=high.reshape(-1),
        low_line=low.reshape(-1), across=aligned((units, n + n_second), dtype), n_first=n,
        gradient=aligned((units, -(-max(map(len, machine.biases)) // 64) * 64), dtype),
        number=np.arange(units), pairs=records(pairs), slope=aligned(units, dtype),
        rate=float(plan.rate), momentum=float(plan.momentum), moves=velocity is not None,
        weight_decay=float(plan.weight_decay), offset_rate=float(plan.offset_rate),
        centred=offsets is not None, bad=np.zeros(n_threads, np.int64),
        counts=np.zeros(n_threads, np.int64), **row,
    )
    work.kept["pair_list"] = pairs
    return work


def _write_back(work, machine, plan, particles, offsets, velocity):
    kept, n = work.kept, len(machine.biases)
    net = kept["net"]
    for k, (w, pair) in enumerate(zip(machine.weights, kept["pair_list"], strict=True)):
        w[...] = pair.kept["weight"]
        if velocity is not None:
            velocity[k][...] = pair.kept["velocity"]
    for k in range(n):
        at = columns_of(net, k)
        machine.biases[k][...] = net.kept["bias"][at]
        if plan.draw:
            particles[k][...] = kept["second"].kept["state"][:, at]
        if offsets is not None:
            offsets[k][...] = kept["offset"][at]
        if velocity is not None:
            velocity[n - 1 + k][...] = kept["bias_velocity"][at]


def boltzmann_train(machine, x, y, order, plan, particles, offsets=None, velocity=None, n_threads=1):
    """As kernels.reference.boltzmann.boltzmann_train."""
    if len(order) == 0:
        return 0, 0
    n_threads = usable(n_threads, plan.batch_size)
    work = _record(machine, x, y, order, plan, particles, offsets, velocity, n_threads)
    run_threads(train_all, n_threads, argument(work))
    if work.kept["bad"].any():
        raise diverged()
    _write_back(work, machine, plan, particles, offsets, velocity)
    return -(-len(order) // plan.batch_size), int(work.kept["counts"].sum())
