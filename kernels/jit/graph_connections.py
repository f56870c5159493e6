"""Connections of a graph, up and down, of one sample; twin of reference/connections.py.

A map lies pixel by pixel, the channels of a pixel together: what a row of a kernel meets is one run
of kernel x channels numbers. A dense connection is the convolution of maps of one pixel. Maps are
places in flat arrays: `source` from `at`, `target` from `to`. `link` is a record of graph_layout.py.
"""

import numpy as np

from .compile import kernel, widest_vectors
from .runs import PIXELS, add_products, add_run
from .views import array

MAX, AVERAGE = 1, 2  # of POOLS


@kernel
def clear(target, to, n):
    row = target[to : to + n]
    for i in range(row.size):
        row[i] = 0


@kernel
def pad_map(link, source, at, padded):
    """The map with its padding, which is zero."""
    row, inner = link.line, link.W * link.C
    clear(padded, 0, link.PH * row)
    for y in range(link.H):
        to = (y + link.padding) * row + link.padding * link.C
        below, line = source[at + y * inner :][:inner], padded[to : to + inner]
        for i in range(inner):
            line[i] = below[i]


@kernel(ordered=True)
def pool_pixel(link, z, first, n, target, to, places, place):
    """target[to:][:n] += the pooled square whose entries begin at z[first], where the result is left;
    its maxima in `places`.

    The first of equal entries is the maximum. to < 0: the places only.
    """
    widest_vectors()
    best, only = z[first : first + n], link.pool == MAX
    where = places[place : place + n]
    if only:
        where[:] = 0
    for y in range(link.window):
        for x in range(link.window):
            q = y * link.window + x
            if q == 0:
                continue
            entry = z[first + (y * link.OW + x) * link.columns :][:n]
            if only:
                for j in range(n):  # a NaN is the largest, as in the twin, and must reach the states
                    over = not entry[j] <= best[j] and best[j] == best[j]
                    where[j] = q if over else where[j]
                    best[j] = entry[j] if over else best[j]
            else:
                for j in range(n):
                    best[j] += entry[j]
    if to < 0:
        return
    part = z.dtype.type(1) if only else z.dtype.type(1) / z.dtype.type(link.window * link.window)
    add_run(target, to, z, first, n, part)


@kernel(ordered=True)
def lift_row(link, up, panel, a, at, y, z):
    """z = row y of the squares of one panel of channels."""
    columns, apart, window = link.columns, link.stride * link.C, link.window
    clear(z, 0, window * link.OW * columns)
    for dy in range(window):
        top = at + (y * window + dy) * link.stride * link.line
        for run in range(link.runs):
            rows = link.up + (panel * link.runs + run) * link.run * columns
            x = 0
            while x < link.OW:
                pixels = PIXELS if x + PIXELS <= link.OW else 1
                add_products(
                    pixels, z, (dy * link.OW + x) * columns, a, top + run * link.line + x * apart,
                    apart, link.run, up, rows, columns,
                )
                x += pixels


@kernel(ordered=True)
def lift(net, link, own, source, at, target, to, place):
    """target[to:] += what comes up from source[at:]; places of maxima from `place` on.

    to < 0: the places only.
    """
    up, z, places, a = array(net.up), array(own.z), array(own.places), source
    if link.padding:
        pad_map(link, source, at, array(own.padded))
        a, at = array(own.padded), 0
    for panel in range(link.panels):
        first = panel * link.columns
        n = min(link.columns, link.O - first)
        for y in range(link.h):
            lift_row(link, up, panel, a, at, y, z)
            for x in range(link.w):
                unit = (y * link.w + x) * link.O + first
                goal = to + unit if to >= 0 else to
                if link.window == 1:
                    if to >= 0:
                        add_run(target, goal, z, x * link.columns, n, z.dtype.type(1))
                else:
                    square = x * link.window * link.columns
                    pool_pixel(link, z, square, n, target, goal, places, place + unit)


@kernel(inline=True)
def corner(link, pixel, q):
    """Where entry q of the square of a pooled pixel begins in the padded map below."""
    y = (pixel // link.w * link.window + q // link.window) * link.stride
    x = (pixel % link.w * link.window + q % link.window) * link.stride
    return y * link.line + x * link.C


@kernel(ordered=True)
def drop_unit(link, down, v, pixel, o, place, places, target, to):
    """target[to:] += what unit o of a pixel, which shows v, sends down."""
    only = link.pool == MAX
    n = 1 if only else link.window * link.window
    v = v / down.dtype.type(n)
    for i in range(n):
        q = np.int64(places[place]) if only else i
        base = to + corner(link, pixel, q)
        for run in range(link.runs):
            at = link.down + (o * link.runs + run) * link.run
            add_run(target, base + run * link.line, down, at, link.run, v)


@kernel(ordered=True)
def drop(net, link, own, source, at, target, to, place):
    """target[to:] += what comes down from source[at:]."""
    down, places, goal, start = array(net.down), array(own.places), target, to
    if link.padding:
        goal, start = array(own.padded), 0
        clear(goal, 0, link.PH * link.line)
    for o in range(link.O):
        for pixel in range(link.h * link.w):
            unit = pixel * link.O + o
            v = source[at + unit]
            if v != 0:
                drop_unit(link, down, v, pixel, o, place + unit, places, goal, start)
    if link.padding:
        inner = link.W * link.C
        for y in range(link.H):
            line = (y + link.padding) * link.line + link.padding * link.C
            add_run(target, to + y * inner, goal, line, inner, goal.dtype.type(1))


@kernel(ordered=True)
def correlate_unit(link, v, pixel, q, source, at, delta, o):
    """delta[o] += v times the runs that entry q of a pixel's square meets."""
    base = at + corner(link, pixel, q)
    for run in range(link.runs):
        to = (o * link.runs + run) * link.run
        add_run(delta, to, source, base + run * link.line, link.run, v)
