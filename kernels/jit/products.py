"""The two products everything is made of: rows added with coefficients, and dot products with a few
rows.

Sums of `add_rows` run over the rows in order, one fused multiply-add each, whatever the grouping:
its results do not depend on how a caller cuts the rows or the columns into blocks.
"""

from .compile import kernel, widest_vectors
from .tiles import TILE_SAMPLES, thin_tile, tile_columns, wide_tile
from .vectors import TILE_VECTORS


@kernel
def add_to(out, values):
    widest_vectors()
    for i in range(out.size):
        out[i] += values[i]


@kernel(ordered=True)
def add_row(out, a, w):
    widest_vectors()
    for i in range(out.size):
        out[i] += a * w[i]


@kernel(ordered=True)
def add_rows2(out, a0, a1, w0, w1):
    widest_vectors()
    for i in range(out.size):
        out[i] = (out[i] + a0 * w0[i]) + a1 * w1[i]


@kernel(ordered=True)
def add_rows4(out, a0, a1, a2, a3, w0, w1, w2, w3):
    widest_vectors()
    for i in range(out.size):
        out[i] = (((out[i] + a0 * w0[i]) + a1 * w1[i]) + a2 * w2[i]) + a3 * w3[i]


@kernel(ordered=True)
def add_panels(field, offset, n, active, shown, below, m, matrix, panels):
    """field[b, offset:][:n] += shown[b, below:][:m] @ matrix for the samples b in `active`.

    Panel p of the block `panels` holds TILE_COLUMNS columns: its row j starts at
    matrix[panels.start + p * panels.panel + j * panels.row].
    """
    columns = tile_columns(matrix.itemsize)
    lanes = columns // TILE_VECTORS
    place, base = 0, panels.start
    while place < n:
        wide = place + columns - lanes < n  # the last panel may be narrower: then vector by vector
        width = columns if wide else lanes
        turn = 0
        while turn < columns and place + turn < n:
            at = offset + place + turn
            a = 0
            while a < active.size:
                if wide:
                    rows = base, panels.row
                    wide_tile(field, at, active, a, shown, below, m, matrix, rows)
                else:
                    rows = base + turn, panels.row
                    thin_tile(field, at, active, a, shown, below, m, matrix, rows)
                a += TILE_SAMPLES
            turn += width
        place += columns
        base += panels.panel


@kernel
def _dots5(out, j, x, w0, w1, w2, w3, w4):
    widest_vectors()
    a0 = a1 = a2 = a3 = a4 = x.dtype.type(0)
    for i in range(x.size):
        a0 += x[i] * w0[i]
        a1 += x[i] * w1[i]
        a2 += x[i] * w2[i]
        a3 += x[i] * w3[i]
        a4 += x[i] * w4[i]
    out[j] += a0
    out[j + 1] += a1
    out[j + 2] += a2
    out[j + 3] += a3
    out[j + 4] += a4


@kernel
def _dot(x, w):
    widest_vectors()
    a = x.dtype.type(0)
    for i in range(x.size):
        a += x[i] * w[i]
    return a


@kernel
def add_dots(out, x, matrix, start, stride):
    """out[j] += x . row j, row j being matrix[start + j * stride :][: len(x)]."""
    n, m = x.size, out.size
    j, at = 0, start
    while j + 5 <= m:
        second, third, fourth = at + stride, at + 2 * stride, at + 3 * stride
        fifth = at + 4 * stride
        _dots5(
            out, j, x, matrix[at : at + n], matrix[second : second + n], matrix[third : third + n],
            matrix[fourth : fourth + n], matrix[fifth : fifth + n],
        )
        j += 5
        at += 5 * stride
    while j < m:
        out[j] += _dot(x, matrix[at : at + n])
        j += 1
        at += stride
