"""Sweeps of Boltzmann machines; twin of reference/boltzmann.py.

`net` is the machine with its packed weights, `rows` the states of a set of rows, all layers of a row
side by side; `plan` numbers what is done with them. Threads take runs of rows, which never meet.
"""

import numpy as np

from ..reference.boltzmann import check_states
from .activations import SIGMOID, activate
from .compile import kernel, larger, widest_vectors
from .layout import Block, block, own_rows, pad
from .packing import pack_row
from .products import add_panels
from .threads import run_threads, usable
from .threefry import GROUP, draw_row
from .tiles import tile_columns
from .views import Record, aligned, argument, array

BLOCK_ROWS = 60  # whole tiles of samples
_PLACE = np.dtype([(name, np.int64) for name in Block._fields])
LAYER = np.dtype([("size", np.int64), ("offset", np.int64), ("up", _PLACE), ("down", _PLACE)])


# --- scratch, made in Python


def make_net(machine, n_threads):
    """Layers side by side, and room for the weights in panels: `up` of those that enter a layer from
    below, `down` of those from above.
    """
    sizes, dtype = [len(b) for b in machine.biases], machine.biases[0].dtype
    columns, layers, units, used = tile_columns(dtype.itemsize), np.zeros(len(sizes), LAYER), 0, 0

    def place(n_rows, width):
        nonlocal used
        start, panel = used, n_rows * columns
        used += -(-width // columns) * panel
        return start, columns, panel

    for k, n in enumerate(sizes):
        layers[k]["size"], layers[k]["offset"] = n, units
        units += pad(n)
        if k > 0:
            layers[k]["up"] = place(sizes[k - 1], n)
        if k + 1 < len(sizes):
            layers[k]["down"] = place(sizes[k + 1], n)
    widest = -(-max(sizes) // GROUP) * GROUP
    return Record(
        layers=layers, units=units, categorical=machine.categorical_top, widest=widest,
        packed=aligned(used, dtype), bias=aligned(units, dtype),
        now=aligned((n_threads, 3, units), dtype),  # biases of two temperatures; the base's
        draws=aligned((n_threads, widest), dtype),
    )


def make_rows(net, n, dtype):
    units, widest = net.kept["units"], net.kept["widest"]
    return Record(
        n=n, state=aligned((n, units), dtype), mean=aligned((n, units), dtype),
        field=aligned((n, widest), dtype), residual=np.zeros(n, dtype),
        steps=np.zeros(n, np.int64), active=np.zeros(n, np.int64),
    )


def columns_of(net, k):
    layer = net.kept["layers"][k]
    return slice(int(layer["offset"]), int(layer["offset"] + layer["size"]))


def fill(net, machine):
    """Weights and biases into their places."""
    for k, b in enumerate(machine.biases):
        net.kept["bias"][columns_of(net, k)] = b
    record = argument(net)
    for k, w in enumerate(machine.weights):
        pack_weights(record, k, np.ascontiguousarray(w), 0, len(w))


# --- kernels


@kernel
def pack_weights(net, k, w, low, high):
    """Rows low..high of the weights between layers k and k + 1, both ways."""
    packed, layers = array(net.packed), array(net.layers)
    up, down = block(layers[k + 1].up), block(layers[k].down)
    columns = tile_columns(packed.itemsize)
    for i in range(low, high):
        pack_row(packed, up, i, w[i])
    start = low
    while start < high:
        stop = min(high, start + columns - start % columns)
        at = down.start + start // columns * down.panel + start % columns
        for j in range(w.shape[1]):
            target = packed[at : at + stop - start]
            for i in range(target.size):
                target[i] = w[start + i, j]
            at += down.row
        start = stop


@kernel
def clear(row):
    widest_vectors()
    for i in range(row.size):
        row[i] = 0


@kernel
def gather(net, rows, k, active, below, above):
    """field = what layer k gets from the layers that are named."""
    layers, field, state = array(net.layers), array(rows.field), array(rows.state)
    here = layers[k]
    for a in range(active.size):
        clear(field[active[a]])
    if below:
        other = layers[k - 1]
        add_panels(
            field, np.int64(0), here.size, active, state, other.offset, other.size, array(net.packed),
            block(here.up),
        )
    if above:
        other = layers[k + 1]
        add_panels(
            field, np.int64(0), here.size, active, state, other.offset, other.size, array(net.packed),
            block(here.down),
        )


@kernel(ordered=True)
def add_bias(field, beta, bias):
    widest_vectors()
    for i in range(bias.size):
        field[i] = beta * field[i] + bias[i]


@kernel(ordered=True, inline=True)
def softmax(row):
    top = row[0]
    for i in range(row.size):
        if not row[i] <= top:
            top = row[i]
    total = row.dtype.type(0)
    for i in range(row.size):
        row[i] = np.exp(row[i] - top)
        total += row[i]
    for i in range(row.size):
        row[i] /= total


@kernel(ordered=True)
def choose(row, u):
    """row <- one of the units, with these probabilities."""
    total, cumulated, place = row.dtype.type(0), row.dtype.type(0), 0
    for i in range(row.size):
        total += row[i]
    for i in range(row.size):
        cumulated += row[i]
        if cumulated < u * total:
            place += 1
    for i in range(row.size):
        row[i] = row.dtype.type(i == place) + 0 * total  # 0 p is NaN where p is


@kernel
def draw(row, u):
    widest_vectors()
    one, none = row.dtype.type(1), row.dtype.type(0)
    for i in range(row.size):
        row[i] = (one if u[i] <= row[i] else none) + none * row[i]  # 0 p is NaN where p is


@kernel
def renew(state, new):
    """state <- new; the largest change, a NaN if there is one."""
    most = new.dtype.type(0)
    for i in range(new.size):
        most = larger(most, abs(new[i] - state[i]))
        state[i] = new[i]
    return most


@kernel(ordered=True)
def log_sum_gain(field, categorical, temperatures, bias, before):
    """Log of the sum over a layer's states, at the new temperature less that at the old one."""
    old, beta = temperatures
    if not categorical:
        total = 0.0
        for i in range(bias.size):
            x, y = np.float64(beta * field[i] + bias[i]), np.float64(old * field[i] + before[i])
            total += max(x, 0.0) - max(y, 0.0)
            total += np.log1p(np.exp(-abs(x))) - np.log1p(np.exp(-abs(y)))
        return total
    top, under, up, down = -np.inf, -np.inf, 0.0, 0.0
    for i in range(bias.size):
        top = max(top, np.float64(beta * field[i] + bias[i]))
        under = max(under, np.float64(old * field[i] + before[i]))
    for i in range(bias.size):
        up += np.exp(np.float64(beta * field[i] + bias[i]) - top)
        down += np.exp(np.float64(old * field[i] + before[i]) - under)
    return top + np.log(up) - under - np.log(down)


@kernel
def finish_row(net, rows, plan, k, sample, number, place):
    """Layer k of one row from its inputs; the largest change."""
    layers, (thread, beta) = array(net.layers), place
    here = layers[k]
    low, high = here.offset, here.offset + here.size
    new = array(rows.field)[sample][: here.size]
    categorical = net.categorical and k + 1 == layers.size
    add_bias(new, new.dtype.type(beta), array(net.now)[thread][0][low:high])
    if categorical:
        softmax(new)
    else:
        activate(np.int64(SIGMOID), new.itemsize == 4, new)
    mean = array(rows.mean)[sample][low:high]
    for i in range(mean.size):
        mean[i] = new[i]
    if plan.draw:
        groups = GROUP if categorical else -(-here.size // GROUP) * GROUP
        draws = array(net.draws)[thread][:groups]
        draw_row(draws, sample, k, number, plan.seed)
        if categorical:
            choose(new, draws[0])
        else:
            draw(new, draws)
    state = array(rows.state)[sample][low:high]
    if k == 0 and plan.masked:
        mask = array(plan.mask)
        for i in range(new.size):
            if mask[sample, i] != 0:
                new[i] = state[i]
    return renew(state, new)


@kernel
def move_layer(net, rows, plan, k, active, number, place):
    """A layer of all active rows, and its part of the log weights."""
    layers, (thread, old, beta, summed) = array(net.layers), place
    here, residual = layers[k], array(rows.residual)
    gather(net, rows, k, active, k > 0, k + 1 < layers.size)
    low, high = here.offset, here.offset + here.size
    for a in range(active.size):
        sample = active[a]
        if summed:
            now, field = array(net.now)[thread], array(rows.field)[sample][: here.size]
            array(plan.log_weight)[sample] += log_sum_gain(
                field, net.categorical and k + 1 == layers.size,
                (field.dtype.type(old), field.dtype.type(beta)), now[0][low:high], now[1][low:high],
            )
        change = finish_row(net, rows, plan, k, sample, number, (thread, beta))
        residual[sample] = larger(residual[sample], change)


@kernel
def pass_upwards(net, rows, plan, active, thread):
    layers, clamped = array(net.layers), array(plan.clamped)
    n = layers.size
    for k in range(1, n):
        if clamped[k] != 0:
            continue
        known = k + 1 < n and clamped[k + 1] != 0
        labels = net.categorical and k + 2 == n
        gain = 2.0 if k + 1 < n and not known and not labels else 1.0
        gather(net, rows, k, active, True, known)
        for a in range(active.size):
            finish_row(net, rows, plan, k, active[a], np.int64(0), (thread, gain))


@kernel(ordered=True)
def mix(out, beta, bias, base):
    widest_vectors()
    one = bias.dtype.type(1)
    for i in range(out.size):
        out[i] = beta * bias[i] + (one - beta) * base[i]


@kernel
def cool(net, rows, plan, active, t, thread):
    """Biases of two temperatures, and the log weights of the layers that are not summed over."""
    layers, now, bias, betas = array(net.layers), array(net.now)[thread], array(net.bias), array(plan.betas)
    real = bias.dtype.type
    mix(now[1], real(betas[t]), bias, now[2])
    mix(now[0], real(betas[t + 1]), bias, now[2])
    if not plan.weighed:
        return
    state, log_weight = array(rows.state), array(plan.log_weight)
    for k in range(1 if plan.even_first else 0, layers.size, 2):
        low, high = layers[k].offset, layers[k].offset + layers[k].size
        for a in range(active.size):
            s, total = state[active[a]], real(0)
            for i in range(low, high):
                total += (now[0, i] - now[1, i]) * s[i]
            log_weight[active[a]] += total


@kernel
def run_block(net, rows, plan, thread, low, high, number):
    """All sweeps of rows low..high, the first of that number."""
    layers, clamped, betas = array(net.layers), array(plan.clamped), array(plan.betas)
    steps, residual = array(rows.steps), array(rows.residual)
    active = array(rows.active)[low:high]
    for a in range(active.size):
        active[a] = low + a
        residual[low + a] = 0
        steps[low + a] = 0
    if plan.upward:
        pass_upwards(net, rows, plan, active, thread)
        for a in range(active.size):
            residual[active[a]] = 0
    old, beta, taken = 1.0, 1.0, 0
    for t in range(plan.n_sweeps):
        if active.size == 0:
            break
        if plan.cooled:
            cool(net, rows, plan, active, t, thread)
            old, beta = betas[t], betas[t + 1]
        for a in range(active.size):
            residual[active[a]] = 0
        for half in range(2):
            first = half if plan.even_first else 1 - half
            for k in range(first, layers.size, 2):
                if clamped[k] == 0:
                    summed = plan.weighed and half == 0
                    move_layer(net, rows, plan, k, active, number + t, (thread, old, beta, summed))
        left = 0
        for a in range(active.size):
            sample = active[a]
            steps[sample] = t + 1
            taken += 1
            if not (plan.stops and residual[sample] <= plan.tol):
                active[left] = sample
                left += 1
        active = active[:left]
    return taken


@kernel
def run_rows(net, rows, plan, thread, low, high, number):
    """All sweeps of rows low..high, block after block; the sweeps they took together."""
    now, bias, taken = array(net.now)[thread], array(net.bias), 0
    for i in range(bias.size):
        now[0, i] = bias[i]
        now[2, i] = array(plan.base)[i]
    while low < high:
        stop = min(high, low + BLOCK_ROWS)
        taken += run_block(net, rows, plan, thread, low, stop, number)
        low = stop
    return taken


@kernel
def sweep_all(thread, n_threads, control, net, rows, plan):
    low, high = own_rows(rows.n, thread, n_threads)
    run_rows(net, rows, plan, thread, low, high, plan.first_sweep)


def make_plan(
    net, sweeps, clamped, mask=None, base=None, betas=None, log_weight=None
):
    """Numbers of a call, and its optional arrays."""
    base_row = np.zeros_like(net.kept["bias"])
    for k, b in enumerate(base or ()):
        base_row[columns_of(net, k)] = b
    return Record(
        n_sweeps=sweeps.n, draw=sweeps.draw, even_first=sweeps.even_first, upward=sweeps.upward,
        tol=float(sweeps.tol), stops=not sweeps.draw and sweeps.tol >= 0,
        seed=sweeps.seed, first_sweep=sweeps.first_sweep, clamped=np.asarray(clamped, np.int8),
        masked=mask is not None, mask=np.zeros((1, 1), np.int8) if mask is None else np.array(mask),
        cooled=betas is not None, betas=np.ones(2) if betas is None else np.array(betas, float),
        base=base_row, weighed=log_weight is not None,
        log_weight=np.zeros(1) if log_weight is None else log_weight,
    )


def boltzmann_sweep(
    machine, states, sweeps, clamped, mask=None, means=None, base=None, betas=None, log_weight=None,
    n_threads=1,
):
    """As kernels.reference.boltzmann.boltzmann_sweep."""
    n = len(states[0])
    if n == 0:
        return np.zeros(0, np.int32), np.zeros(0, states[0].dtype)
    n_threads = usable(n_threads, n)
    net = make_net(machine, n_threads)
    fill(net, machine)
    rows = make_rows(net, n, states[0].dtype)
    for k, s in enumerate(states):
        rows.kept["state"][:, columns_of(net, k)] = s
    plan = make_plan(net, sweeps, clamped, mask, base, betas, log_weight)
    run_threads(sweep_all, n_threads, argument(net), argument(rows), argument(plan))
    for k, s in enumerate(states):
        s[...] = rows.kept["state"][:, columns_of(net, k)]
        if means is not None and not clamped[k] and sweeps.n:
            means[k][...] = rows.kept["mean"][:, columns_of(net, k)]
    check_states(states)
    return rows.kept["steps"].astype(np.int32), rows.kept["residual"]
