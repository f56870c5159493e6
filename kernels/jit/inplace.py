"""Steps of packed weights in place, for the rule that moves inner weights within a batch; plain
SGD.

Each takes w[i, j] += rate sum_b pre[b, pre_at + i] moved[b, moved_at + j] on own rows of one packed
block (layout.py says how blocks lie), pre and moved being work.pre[0] and work.moved[0].
"""

import numpy as np

from .compile import kernel
from .layout import Block
from .products import add_panels, add_row, add_to
from .tiles import TILE_SAMPLES, tile_columns
from .update import add_samples, clear, difference_coefficients, own_rows
from .views import array


@kernel
def step_panels(work, thread, rows, pre_layer, moved_layer, n_samples, rate):
    """The block `rows` in panels: from the units of the record pre_layer to those of moved_layer.
    """
    packed, pre, moved = array(work.net.packed), array(work.pre)[0], array(work.moved)[0]
    ascent, coefficients = array(work.ascent)[thread], array(work.products)[thread]
    ones, places = array(work.ones), array(work.places)
    n_out, columns = moved_layer.size, tile_columns(packed.itemsize)
    flat, factor, none = moved.reshape(moved.size), packed.dtype.type(rate), np.int64(0)
    changes = Block(moved_layer.offset, moved.shape[1], columns)
    low, high = own_rows(pre_layer.size, thread, work.n_threads)
    for first in range(low, high, TILE_SAMPLES):
        count = min(TILE_SAMPLES, high - first)
        for i in range(count):
            clear(ascent[i, :n_out])
        at = pre_layer.offset + first
        difference_coefficients(pre, at, ones, factor, count, n_samples, coefficients)
        add_panels(ascent, none, n_out, places[:count], coefficients, none, n_samples, flat, changes)
        for i in range(count):
            at = rows.start + (first + i) * rows.row
            for j in range(0, n_out, columns):
                source = ascent[i, j : min(j + columns, n_out)]
                add_to(packed[at : at + source.size], source)
                at += rows.panel


@kernel
def step_transpose(work, thread, rows, pre_layer, moved_layer, n_samples, rate):
    """The transposed block `rows` in plain rows: its row j holds w[:, j]."""
    packed, pre, moved = array(work.net.packed), array(work.pre)[0], array(work.moved)[0]
    low, high = own_rows(pre_layer.size, thread, work.n_threads)
    coefficient, row = array(work.coefficient)[thread], array(work.ascent)[thread, 0, : high - low]
    factor = packed.dtype.type(rate)
    for j in range(moved_layer.size):
        clear(row)
        for b in range(n_samples):
            coefficient[b] = factor * moved[b, moved_layer.offset + j]
        add_samples(row, coefficient[:n_samples], pre, pre_layer.offset + low)
        at = rows.start + j * rows.row + low
        add_to(packed[at : at + row.size], row)


@kernel
def step_bias(work, moved_layer, n_samples, rate):
    """net.bias of one layer; thread 0 does this."""
    at, n, moved = moved_layer.offset, moved_layer.size, array(work.moved)[0]
    bias, total = array(work.net.bias)[at : at + n], array(work.ascent)[0, 0, :n]
    clear(total)
    for b in range(n_samples):
        add_to(total, moved[b, at : at + n])
    add_row(bias, bias.dtype.type(rate), total)


@kernel
def unpack_panels(packed, rows, w, low, high):
    """w[low:high] = rows low..high of a block in panels."""
    columns = tile_columns(packed.itemsize)
    for i in range(low, high):
        at = rows.start + i * rows.row
        for first in range(0, w.shape[1], columns):
            target = w[i, first : min(first + columns, w.shape[1])]
            for j in range(target.size):
                target[j] = packed[at + j]
            at += rows.panel


@kernel
def unpack_transpose(packed, rows, w, low, high):
    """w[low:high] from a transposed block in plain rows."""
    for i in range(low, high):
        row = w[i]
        for j in range(row.size):
            row[j] = packed[rows.start + i + j * rows.row]
