"""Steps of packed weights in place, for the rule that moves inner weights within a batch; plain
SGD.

Each takes w[i, j] += rate sum_b pre[b, pre_at + i] moved[b, moved_at + j] on own rows of one packed
block (layout.py says how blocks lie), pre and moved being walk.pre[0] and walk.moved[0].
"""

from .compile import kernel
from .layout import own_rows
from .products import add_row, add_to
from .tiles import TILE_SAMPLES, tile_columns
from .update import add_ascent, add_samples, clear, clear_ascent
from .views import array


@kernel
def step_panels(work, walk, thread, rows, pre_layer, moved_layer, n_samples, rate):
    """The block `rows` in panels: from the units of the record pre_layer to those of moved_layer.
    """
    packed, pre, moved = array(work.net.packed), array(walk.pre)[0], array(walk.moved)[0]
    ascent, n_out, columns = array(work.ascent)[thread], moved_layer.size, tile_columns(packed.itemsize)
    low, high = own_rows(pre_layer.size, thread, work.n_threads)
    for first in range(low, high, TILE_SAMPLES):
        count = min(TILE_SAMPLES, high - first)
        clear_ascent(work, thread, count, n_out)
        add_ascent(
            work, thread, pre, pre_layer.offset + first, moved, moved_layer.offset, count, n_out,
            n_samples, packed.dtype.type(rate),
        )
        for i in range(count):
            at = rows.start + (first + i) * rows.row
            for j in range(0, n_out, columns):
                source = ascent[i, j : min(j + columns, n_out)]
                add_to(packed[at : at + source.size], source)
                at += rows.panel


@kernel
def step_transpose(work, walk, thread, rows, pre_layer, moved_layer, n_samples, rate):
    """The transposed block `rows` in plain rows: its row j holds w[:, j]."""
    packed, pre, moved = array(work.net.packed), array(walk.pre)[0], array(walk.moved)[0]
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
def step_bias(work, walk, moved_layer, n_samples, rate):
    """net.bias of one layer; thread 0 does this."""
    at, n, moved = moved_layer.offset, moved_layer.size, array(walk.moved)[0]
    bias, total = array(work.net.bias)[at : at + n], array(work.ascent)[0, 0, :n]
    clear(total)
    for b in range(n_samples):
        add_to(total, moved[b, at : at + n])
    add_row(bias, bias.dtype.type(rate), total)
