"""Implicit differentiation of the free equilibrium: one linear solve per sample.

The system is (I - J') z = bar, where J is the Jacobian of a synchronous step. Units of a layer do
not meet in it but through the layers beside: every other layer is eliminated through its diagonal,
the larger half if no pivot of it is small, and a dense system of the other layers is left
(csrc/layered/gradients.c does the same).

`system` is a thread's record of one sample's system: `places` says of each layer whether it is
gone, else its first row in `matrix`, whose column n is the right-hand side; `rows` and `net.field`
hold a few rows of states.
"""

import numpy as np

from .activations import ONE, ZERO
from .compile import kernel
from .gradients import fill, row_of, send_back
from .layout import LANES, Block, backs_of, weights_of
from .products import add_panels, add_row
from .relax import fields
from .tiles import tile_columns
from .views import array

PLACE = np.dtype([("gone", np.int64), ("first", np.int64)])


@kernel
def choose_layers(job, layers, keep, places):
    """Which layers are eliminated; returns the size of the system of the others."""
    halves_even = halves_odd = 0
    for k in range(1, layers.size):
        if k % 2 == 1:
            halves_odd += layers[k].size
        else:
            halves_even += layers[k].size
    chosen = 1 if halves_odd >= halves_even else 0
    small, n = keep.dtype.type(job.dt / 8.0), 0
    for k in range(1, layers.size):
        o, gone = layers[k].offset, k % 2 == chosen
        if gone:
            for i in range(layers[k].size):
                if not abs(ONE - keep[o + i]) >= small:
                    gone = False
        places[k].gone, places[k].first = 1 if gone else 0, n
        n += 0 if gone else layers[k].size
    return n


@kernel
def weight_between(job, w, back, a_below, i, u):
    """What carries the flow of unit u of a layer beside to unit i; a_below: of the layer above."""
    if a_below:
        return w[i, u]
    return back[i, u] if job.back != 0 else w[u, i]


@kernel
def rows_beside(job, work, system, b, a, e, low, n):
    """What the layer e beside layer a adds to the rows of the units low... of a: through `rows` if
    e is gone, else to the matrix itself.
    """
    layers, places, matrix = array(work.net.layers), array(system.places), array(system.matrix)
    rows = array(system.rows)
    gain, bar, scale = array(work.gain)[b], array(work.bar)[b], array(work.total)[b]
    keep, lean = row_of(work.keep, b), row_of(work.lean, b)
    k = min(a, e)  # the weights between them
    w = weights_of(job, job.weight, k)
    back = backs_of(job, job.back, k) if job.back != 0 else w
    o, at, gone = layers[a].offset, layers[e].offset, places[e].gone == 1
    for i in range(low, min(low + rows.shape[0], layers[a].size)):
        own = lean[o + i]
        right, row = gain.dtype.type(0), matrix[places[a].first + i]
        for u in range(layers[e].size):
            value = weight_between(job, w, back, e > a, i, u)
            if gone:
                rows[i - low, at + u] = value * scale[at + u]
                pivot = ONE - keep[at + u]
                right += value * (gain[at + u] / pivot * bar[at + u])
            else:
                row[places[e].first + u] = -own * value * gain[at + u]
        row[n] += own * right


@kernel
def system_rows(job, work, system, b, a, low, n):
    """Rows of the units low... of the kept layer a of sample b, as many as `rows` holds."""
    layers, places, matrix = array(work.net.layers), array(system.places), array(system.matrix)
    rows = array(system.rows)
    products, n_layers = array(system.net.field), layers.size - 1
    gain, bar = array(work.gain)[b], array(work.bar)[b]
    keep, lean = row_of(work.keep, b), row_of(work.lean, b)
    o, high = layers[a].offset, min(low + rows.shape[0], layers[a].size)
    for i in range(low, high):
        fill(rows[i - low], ZERO)
        fill(matrix[places[a].first + i], ZERO)
    for e in (a - 1, a + 1):
        if e >= 1 and e <= n_layers:
            rows_beside(job, work, system, b, a, e, low, n)
    now = array(work.places)[: high - low]
    for c in range(max(1, a - 2), min(n_layers, a + 2) + 1):
        if places[c].gone == 1 or (c - a) % 2 != 0:
            continue
        fields(system.net, rows, c, now)
        at = layers[c].offset
        for i in range(low, high):
            own = lean[o + i]
            row, place = matrix[places[a].first + i], places[c].first
            for u in range(layers[c].size):
                row[place + u] = -own * products[i - low, at + u] * gain[at + u]
    for i in range(low, high):
        row = matrix[places[a].first + i]
        row[places[a].first + i] += ONE - keep[o + i]
        row[n] += bar[o + i]


@kernel
def solve(system, n, z, active):
    """z from the n x n system whose right-hand side is its column n: LU with partial pivoting, in
    blocks.

    Multipliers are kept negative, for the products add. Returns False if a pivot is exactly 0. The
    columns after n are scratch; `active` holds the row numbers.
    """
    width, columns = system.shape[1], tile_columns(system.itemsize)
    flat = system.reshape(system.size)
    for j0 in range(0, n, LANES):
        end = min(j0 + LANES, n)
        for j in range(j0, end):
            best = j
            for i in range(j + 1, n):
                if abs(system[i, j]) > abs(system[best, j]):
                    best = i
            if system[best, j] == ZERO:
                return False
            row, other = system[j], system[best]
            if best != j:
                for c in range(j0, n + 1):
                    row[c], other[c] = other[c], row[c]
            for i in range(j + 1, n):
                below = system[i]
                multiplier = -below[j] / row[j]
                below[j] = multiplier
                for c in range(j + 1, end):
                    below[c] += multiplier * row[c]
        right = n + 1 - end
        for i in range(j0 + 1, end):
            for q in range(j0, i):
                add_row(system[i, end : n + 1], system[i, q], system[q, end : n + 1])
        block = Block(j0 * width + end, width, columns)
        add_panels(system, end, right, active[end:n], system, j0, end - j0, flat, block)
    for i in range(n - 1, -1, -1):
        row, total = system[i], system[i, n]
        for c in range(i + 1, n):
            total -= row[c] * z[c]
        z[i] = total / row[i]
    return True


@kernel
def eliminate(job, work, system, b, n):
    """Fills the system of sample b; work.total[b] is scratch."""
    layers, places, rows = array(work.net.layers), array(system.places), array(system.rows)
    gain, scale = array(work.gain)[b], array(work.total)[b]
    keep, lean = row_of(work.keep, b), row_of(work.lean, b)
    for k in range(1, layers.size):
        for u in range(layers[k].offset, layers[k].offset + layers[k].size):
            if places[k].gone == 1:
                scale[u] = gain[u] * lean[u] / (ONE - keep[u])
    for k in range(1, layers.size):
        if places[k].gone == 0:
            for low in range(0, layers[k].size, rows.shape[0]):
                system_rows(job, work, system, b, k, low, n)


@kernel
def implicit_sample(job, work, thread, b):
    """Flows of sample b at its equilibrium; False if the system is singular."""
    system, layers = array(work.systems)[thread], array(work.net.layers)
    places, z, one = array(system.places), array(system.z), array(system.one)
    gain, force, flow = array(work.gain)[b], array(work.bar)[b], array(work.flow)
    none = np.int64(0)
    keep = row_of(work.keep, b)
    n = choose_layers(job, layers, keep, places)
    eliminate(job, work, system, b, n)
    if not solve(array(system.matrix), n, z, array(work.places)):
        return False
    fill(flow[b], ZERO)
    for k in range(1, layers.size):
        if places[k].gone == 0:
            for i in range(layers[k].size):
                u = layers[k].offset + i
                flow[b, u] = gain[u] * z[places[k].first + i]
    one[0] = b
    for k in range(1, layers.size):
        if places[k].gone == 1:
            send_back(work, flow, none, k, one)
            for u in range(layers[k].offset, layers[k].offset + layers[k].size):
                flow[b, u] = gain[u] / (ONE - keep[u]) * force[u]
    return True
