"""Implicit differentiation of the free equilibrium: one linear solve per sample.

The system is (I - J') z = bar, where J is the Jacobian of a synchronous step. Units of a layer do not meet in
it but through the layers beside: every other layer is eliminated through its diagonal, the larger half if no
pivot of it is small, and a dense system of the other layers is left (csrc/layered/gradients.c does the same).
"""

from .activations import ONE, ZERO
from .compile import kernel, matrix_at
from .gradients import fill, send_back
from .layout import BACK, DT, DYNAMICS, HAS_BACK, LANES, N_WEIGHTS, OFFSET, SIZE, WEIGHTS
from .products import add_panels, add_row
from .relax import fields
from .tiles import tile_columns

GONE, PLACE = range(2)  # places of a layer in the system: eliminated, or its first row


@kernel
def own_pivot(ints, floats, keep, u):
    """1 - d new / d old of unit u of a row."""
    return ONE - (keep[u] if ints[DYNAMICS] == 1 else ONE - keep.dtype.type(floats[DT]))


@kernel
def choose_layers(ints, floats, layout, keep, system_places):
    """Which layers are eliminated; returns the size of the system of the others."""
    n_weights = ints[N_WEIGHTS]
    halves_even = halves_odd = 0
    for k in range(1, n_weights + 1):
        if k % 2 == 1:
            halves_odd += layout[k, SIZE]
        else:
            halves_even += layout[k, SIZE]
    chosen = 1 if halves_odd >= halves_even else 0
    small, n = keep.dtype.type(floats[DT] / 8.0), 0
    for k in range(1, n_weights + 1):
        o, gone = layout[k, OFFSET], k % 2 == chosen
        if gone:
            for i in range(layout[k, SIZE]):
                if not abs(own_pivot(ints, floats, keep, o + i)) >= small:
                    gone = False
        system_places[k, GONE], system_places[k, PLACE] = gone, n
        n += 0 if gone else layout[k, SIZE]
    return n


@kernel
def weight_between(ints, w, back, a_below, i, u):
    """Weight that carries the flow of unit u of a layer beside to unit i; a_below: of the layer above."""
    if a_below:
        return w[i, u]
    return back[i, u] if ints[HAS_BACK] else w[u, i]


@kernel
def system_rows(
    ints, floats, layout, table, packed, bias, zero_drive, system_places, a, low, high, gain, keep, lean, bar,
    scale, system, n, rows, products, places,
):  # fmt: skip
    """Rows of the units low..high of the kept layer a; `rows` and `products` hold as many state rows."""
    n_weights, o = ints[N_WEIGHTS], layout[a, OFFSET]
    continuous = ints[DYNAMICS] == 1
    for i in range(low, high):
        fill(rows[i - low], ZERO)
        fill(system[system_places[a, PLACE] + i], ZERO)
    for e in (a - 1, a + 1):
        if e < 1 or e > n_weights:
            continue
        k = min(a, e)  # the weights between them
        w = matrix_at(table, WEIGHTS, k, layout[k, SIZE], layout[k + 1, SIZE], gain)
        back = matrix_at(table, BACK, k, layout[k + 1, SIZE], layout[k, SIZE], gain) if ints[HAS_BACK] else w
        at, gone = layout[e, OFFSET], system_places[e, GONE] == 1
        for i in range(low, high):
            own = lean[o + i] if continuous else ONE
            right = gain.dtype.type(0)
            for u in range(layout[e, SIZE]):
                value = weight_between(ints, w, back, e > a, i, u)
                if gone:
                    rows[i - low, at + u] = value * scale[at + u]
                    pivot = own_pivot(ints, floats, keep, at + u)
                    right += value * (gain[at + u] / pivot * bar[at + u])
                else:
                    row = system[system_places[a, PLACE] + i]
                    row[system_places[e, PLACE] + u] = -own * value * gain[at + u]
            system[system_places[a, PLACE] + i, n] += own * right
    now = places[: high - low]
    for c in range(max(1, a - 2), min(n_weights, a + 2) + 1):
        if system_places[c, GONE] == 1 or (c - a) % 2 != 0:
            continue
        fields(ints, layout, packed, bias, zero_drive, rows, products, c, now)
        at = layout[c, OFFSET]
        for i in range(low, high):
            own = lean[o + i] if continuous else ONE
            row, place = system[system_places[a, PLACE] + i], system_places[c, PLACE]
            for u in range(layout[c, SIZE]):
                row[place + u] = -own * products[i - low, at + u] * gain[at + u]
    for i in range(low, high):
        row = system[system_places[a, PLACE] + i]
        row[system_places[a, PLACE] + i] += own_pivot(ints, floats, keep, o + i)
        row[n] += bar[o + i]


@kernel
def solve(system, n, z, active):
    """z from the n x n system whose right-hand side is its column n: LU with partial pivoting, in blocks.

    Multipliers are kept negative, for the products add. Returns False if a pivot is exactly 0. The columns
    after n are scratch; `active` holds the row numbers.
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
        add_panels(
            system, end, right, active[end:n], system, j0, end - j0, flat, j0 * width + end, width, columns
        )
    for i in range(n - 1, -1, -1):
        row, total = system[i], system[i, n]
        for c in range(i + 1, n):
            total -= row[c] * z[c]
        z[i] = total / row[i]
    return True


@kernel
def implicit_sample(
    ints, floats, layout, table, packed, adjoint, bias, zero_drive, b, gain, keep, lean, bar, flow, total,
    field, system_places, system, z, rows, products, places, one,
):  # fmt: skip
    """Flows of sample b at its equilibrium; False if the system is singular. total[b] is scratch, one a
    single place."""
    n_weights, continuous = ints[N_WEIGHTS], ints[DYNAMICS] == 1
    g, force, scale = gain[b], bar[b], total[b]
    kept, leaning = keep[b if continuous else 0], lean[b if continuous else 0]
    n = choose_layers(ints, floats, layout, kept, system_places)
    for k in range(1, n_weights + 1):
        for u in range(layout[k, OFFSET], layout[k, OFFSET] + layout[k, SIZE]):
            if system_places[k, GONE] == 1:
                pivot = own_pivot(ints, floats, kept, u)
                scale[u] = g[u] * (leaning[u] if continuous else ONE) / pivot
    for k in range(1, n_weights + 1):
        if system_places[k, GONE] == 1:
            continue
        for low in range(0, layout[k, SIZE], rows.shape[0]):
            system_rows(
                ints, floats, layout, table, packed, bias, zero_drive, system_places, k, low,
                min(low + rows.shape[0], layout[k, SIZE]), g, kept, leaning, force, scale, system, n, rows,
                products, places,
            )  # fmt: skip
    if not solve(system, n, z, places):
        return False
    fill(flow[b], ZERO)
    for k in range(1, n_weights + 1):
        if system_places[k, GONE] == 0:
            for i in range(layout[k, SIZE]):
                u = layout[k, OFFSET] + i
                flow[b, u] = g[u] * z[system_places[k, PLACE] + i]
    one[0] = b
    for k in range(1, n_weights + 1):
        if system_places[k, GONE] == 1:
            send_back(ints, layout, adjoint, bias, zero_drive, flow, field, lean, bar, k, one)
            for u in range(layout[k, OFFSET], layout[k, OFFSET] + layout[k, SIZE]):
                flow[b, u] = g[u] / own_pivot(ints, floats, kept, u) * force[u]
    return True
