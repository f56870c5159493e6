"""Relaxation and correlations of networks of any shape; twin of reference/graph.py.

A thread relaxes its samples one after the other, all steps of one while its states are in the cache,
and correlates its channels of each connection. No sum is split: results are bit-equal for any number
of threads. `net` is the record of graph_layout.py, `own` a thread's part of it, `ask` what a
relaxation is asked.
"""

import numpy as np

from .activations import activate, times_prime
from .compile import is_finite, kernel, widest_vectors
from .graph_connections import MAX, correlate_unit, drop, lift, pad_map
from .layout import own_rows
from .relax import PHASE_SHIFT, STEP_SHIFT, add_force, copy_row, scale
from .views import array


@kernel(ordered=True)
def from_below(net, own, m, k, field):
    """field of layer k of sample m, from below."""
    layer = array(net.layers)[k]
    base, shown, links = array(net.base), array(net.shown), array(net.links)
    start = layer.offset
    copy_row(field[start : start + layer.size], base[m * net.units + start :][: layer.size])
    for c in range(links.size):
        link = links[c]
        if link.above == k and link.below > 0:
            source = m * net.units + array(net.layers)[link.below].offset
            lift(net, link, own, shown, source, field, start, link.place)
            array(own.known)[c] = 1


@kernel(ordered=True)
def find_places(net, own, m, c):
    """The places of the maxima of connection c at the present states, unless they are known."""
    link, shown = array(net.links)[c], array(net.shown)
    if link.pool == MAX and array(own.known)[c] == 0:
        source = m * net.units + array(net.layers)[link.below].offset
        lift(net, link, own, shown, source, array(own.field), -1, link.place)
        array(own.known)[c] = 1


@kernel(ordered=True)
def read_out(net, own, m, beta):
    """A read-out: its state is what it reads, what it shows the force of the target."""
    last = net.n_layers - 1
    layer, field = array(net.layers)[last], array(own.field)
    from_below(net, own, m, last, field)
    a, at = layer.offset, m * net.units + layer.offset
    state, shown = array(net.state), array(net.shown)
    copy_row(state[at : at + layer.size], field[a : a + layer.size])
    shown[at : at + layer.size] = 0
    if beta != 0:
        y = array(net.y)[m * layer.size :][: layer.size]
        factor = state.dtype.type(net.cost_factor * beta)
        add_force(net, shown[at : at + layer.size], state[at : at + layer.size], y, factor)


@kernel(ordered=True)
def fields_of(net, own, ask, m, turn):
    """Sum of all that acts on the layers of pass `turn`."""
    layers, links, field = array(net.layers), array(net.links), array(own.field)
    if net.readout and ask.beta != 0:
        read_out(net, own, m, ask.beta)
    for k in range(1, net.n_layers):
        if layers[k].turn == turn and not (ask.held and k == net.n_layers - 1):
            from_below(net, own, m, k, field)
    for c in range(links.size):
        link = links[c]
        if link.below == 0 or layers[link.below].turn != turn:
            continue
        if ask.held and link.below == net.n_layers - 1:
            continue
        if net.readout and link.above == net.n_layers - 1 and ask.beta == 0:
            continue
        find_places(net, own, m, c)
        source = m * net.units + layers[link.above].offset
        drop(net, link, own, array(net.shown), source, field, layers[link.below].offset, link.place)


@kernel(ordered=True)
def blend(a, old, dt, clamp):
    """a = old + dt (a - old), within [0, 1] with clamp."""
    widest_vectors()
    one, zero = a.dtype.type(1), a.dtype.type(0)
    for i in range(a.size):
        x = old[i] + dt * (a[i] - old[i])
        if clamp:
            x = zero if x < zero else x
            x = one if x > one else x
        a[i] = x


@kernel(ordered=True)
def settle(a, state):
    """state = a; returns the largest change, NaN if a number of `a` is none."""
    most, good = a.dtype.type(0), True
    for i in range(a.size):
        change = abs(a[i] - state[i])
        most = change if change > most else most
        good &= is_finite(a[i])
        state[i] = a[i]
    return most if good else a.dtype.type(np.nan)


@kernel(ordered=True)
def move_layer(net, own, ask, m, k):
    """Moves layer k of sample m; returns its largest change."""
    layer, last = array(net.layers)[k], net.n_layers - 1
    field, state, shown = array(own.field), array(net.state), array(net.shown)
    at = m * net.units + layer.offset
    a, s = field[layer.offset :][: layer.size], state[at :][: layer.size]
    r, single = shown[at :][: layer.size], state.itemsize == 4
    dt, nudged = state.dtype.type(ask.dt), k == last and ask.beta != 0
    factor = state.dtype.type(net.cost_factor * ask.beta)
    y = array(net.y)[m * net.n_out :][: net.n_out]
    if array(net.gain)[k - 1] != 1:
        scale(a, array(net.gain)[k - 1])
    if not net.continuous:
        if nudged and net.nudge_inside:
            add_force(net, a, s, y, factor)
        activate(layer.activation, single, a)
        if nudged and not net.nudge_inside:
            add_force(net, a, s, y, factor)
        if ask.dt != 1:
            blend(a, s, dt, 0)
        most = settle(a, s)
        copy_row(r, s)
        return most
    if net.prime_output if k == last else net.prime_hidden:
        if k == last and net.linear_output:
            activate(layer.activation, single, r)
        times_prime(layer.activation, s, r, a)
    if nudged:
        add_force(net, a, s, y, factor)
    blend(a, s, dt, net.clamp)
    most = settle(a, s)
    copy_row(r, s)
    if not (k == last and net.linear_output):
        activate(layer.activation, single, r)
    return most


@kernel(ordered=True)
def step_sample(net, own, ask, m, step):
    """One step of sample m; its largest change, or NaN, and then where it failed in own.failure."""
    layers, links, most = array(net.layers), array(net.links), array(net.state).dtype.type(0)
    known = array(own.known)
    for turn in range(net.n_turns):
        fields_of(net, own, ask, m, turn)
        for k in range(1, net.n_layers):
            if layers[k].turn != turn or (ask.held and k == net.n_layers - 1):
                continue
            change = move_layer(net, own, ask, m, k)
            if not is_finite(change):
                failure = array(own.failure)
                here = ((ask.phase + 1) << PHASE_SHIFT) | ((step + 1) << STEP_SHIFT) | k
                failure[0] = here if failure[0] == 0 else min(failure[0], here)
                return change
            most = max(most, change)
            for c in range(links.size):
                if links[c].below == k:
                    known[c] = 0
    return most


@kernel(ordered=True)
def relax_sample(net, own, ask, m):
    """All steps of sample m, or until it rests."""
    steps, residual, links = array(net.steps), array(net.residual), array(net.links)
    for c in range(links.size):
        array(own.known)[c] = links[c].below == 0
    steps[m], residual[m] = ask.n_steps, 0
    for step in range(ask.n_steps):
        change = step_sample(net, own, ask, m, step)
        if not is_finite(change):
            return
        speed = change / residual.dtype.type(ask.dt)
        residual[m] = speed
        if ask.tol >= 0 and speed <= residual.dtype.type(ask.tol):
            steps[m] = step + 1
            break
        if ask.tol < 0 and change == 0:  # a fixed point, to the bit: all further steps repeat it
            break
    if net.readout and ask.reads:
        read_out(net, own, m, ask.beta)


@kernel(ordered=True)
def drive_sample(net, own, m):
    """base of sample m: the connections from the input, and the biases."""
    base, bias, links = array(net.base), array(net.bias), array(net.links)
    places, kept = array(own.places), array(net.where)
    copy_row(base[m * net.units : (m + 1) * net.units], bias)
    for c in range(links.size):
        link = links[c]
        if link.below == 0:
            to = m * net.units + array(net.layers)[link.above].offset
            lift(net, link, own, array(net.x), m * net.n_in, base, to, link.place)
            for i in range(link.places):
                kept[m * net.n_places + link.place + i] = places[link.place + i]


@kernel(ordered=True)
def drive_thread(thread, n_threads, control, net):
    own = array(net.own)[thread]
    low, high = own_rows(net.rows, thread, n_threads)
    for m in range(low, high):
        drive_sample(net, own, m)


@kernel(ordered=True)
def relax_thread(thread, n_threads, control, net, ask):
    own = array(net.own)[thread]
    low, high = own_rows(net.rows, thread, n_threads)
    for m in range(low, high):
        relax_sample(net, own, ask, m)


@kernel(ordered=True)
def places_thread(thread, n_threads, control, net):
    """The places of all maxima at what the samples show; those of the input are known."""
    own, links, kept = array(net.own)[thread], array(net.links), array(net.where)
    places = array(own.places)
    low, high = own_rows(net.rows, thread, n_threads)
    for m in range(low, high):
        for c in range(links.size):
            array(own.known)[c] = links[c].below == 0
            find_places(net, own, m, c)
            if links[c].below > 0:
                for i in range(links[c].places):
                    at = links[c].place + i
                    kept[m * net.n_places + at] = places[at]


@kernel(ordered=True)
def correlate(net, own, ends, thread, n_threads):
    """ends.delta (O, runs, run) += what the map below and the units above have in common, of the
    thread's channels above.
    """
    link = array(net.links)[ends.link]
    low, high, where = array(ends.low), array(ends.high), array(net.where)
    delta, padded = array(ends.delta), array(own.padded)
    only = link.pool == MAX
    n, pixels = 1 if only else link.window * link.window, link.h * link.w
    first, last = own_rows(link.O, thread, n_threads)
    for m in range(net.rows):
        source, at = low, m * ends.n_low
        if link.padding:
            pad_map(link, low, at, padded)
            source, at = padded, 0
        for o in range(first, last):
            for pixel in range(pixels):
                unit = pixel * link.O + o
                v = high[m * ends.n_high + unit] / high.dtype.type(n)
                if v == 0:
                    continue
                for i in range(n):
                    q = np.int64(where[m * net.n_places + link.place + unit]) if only else i
                    correlate_unit(link, v, pixel, q, source, at, delta, o)


@kernel(ordered=True)
def correlate_thread(thread, n_threads, control, net, work):
    own, every = array(net.own)[thread], array(work.every)
    for i in range(every.size):
        correlate(net, own, every[i], thread, n_threads)
