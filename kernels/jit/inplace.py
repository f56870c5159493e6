"""Steps of packed weights in place, for the rule that moves inner weights within a batch; plain SGD.

Each takes w[i, j] += rate sum_b pre[b, pre_at + i] moved[b, moved_at + j] on rows low..high of one packed
block; layout.py says how blocks lie.
"""

import numpy as np

from .activations import ZERO
from .compile import kernel
from .products import add_panels, add_row, add_to
from .tiles import TILE_SAMPLES, tile_columns
from .update import add_samples, difference_coefficients


@kernel
def step_panels(
    packed, start, row_stride, panel_stride, low, high, n_out, pre, pre_at, moved, moved_at, n_samples, rate,
    ascent, coefficients, ones, places,
):  # fmt: skip
    """A block in panels. `ascent` (TILE_SAMPLES, n_out) and `coefficients` (TILE_SAMPLES, n_samples) are
    scratch.
    """
    columns = tile_columns(packed.itemsize)
    flat, factor, none = moved.reshape(moved.size), packed.dtype.type(rate), np.int64(0)
    for first in range(low, high, TILE_SAMPLES):
        count = min(TILE_SAMPLES, high - first)
        for i in range(count):
            row = ascent[i, :n_out]
            for j in range(n_out):
                row[j] = ZERO
        difference_coefficients(pre, pre_at + first, ones, factor, count, n_samples, coefficients)
        add_panels(
            ascent, none, n_out, places[:count], coefficients, none, n_samples, flat, moved_at,
            moved.shape[1], columns,
        )  # fmt: skip
        for i in range(count):
            at = start + (first + i) * row_stride
            for j in range(0, n_out, columns):
                source = ascent[i, j : min(j + columns, n_out)]
                add_to(packed[at : at + source.size], source)
                at += panel_stride


@kernel
def step_transpose(
    packed, start, row_stride, low, high, n_out, pre, pre_at, moved, moved_at, n_samples, rate, ascent,
    coefficient,
):  # fmt: skip
    """A transposed block in plain rows: its row j holds w[:, j]."""
    n, factor = high - low, packed.dtype.type(rate)
    for j in range(n_out):
        row = ascent[0, :n]
        for i in range(n):
            row[i] = ZERO
        for b in range(n_samples):
            coefficient[b] = factor * moved[b, moved_at + j]
        add_samples(row, coefficient[:n_samples], pre, pre_at + low)
        at = start + j * row_stride + low
        add_to(packed[at : at + n], row)


@kernel
def step_bias(bias, moved, at, n_samples, rate, ascent):
    n = bias.size
    total = ascent[0, :n]
    for i in range(n):
        total[i] = ZERO
    for b in range(n_samples):
        add_to(total, moved[b, at : at + n])
    add_row(bias, bias.dtype.type(rate), total)


@kernel
def unpack_panels(packed, start, row_stride, panel_stride, w, low, high):
    """w[low:high] = rows low..high of a block in panels."""
    columns = tile_columns(packed.itemsize)
    for i in range(low, high):
        at = start + i * row_stride
        for first in range(0, w.shape[1], columns):
            target = w[i, first : min(first + columns, w.shape[1])]
            for j in range(target.size):
                target[j] = packed[at + j]
            at += panel_stride


@kernel
def unpack_transpose(packed, start, row_stride, w, low, high):
    for i in range(low, high):
        row = w[i]
        for j in range(row.size):
            row[j] = packed[start + i + j * row_stride]
