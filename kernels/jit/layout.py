"""How a network lies in flat buffers: a record of places a layer, and the scratch to relax it."""

from typing import NamedTuple

import numpy as np

from .compile import accessor, kernel
from .tiles import tile_columns
from .views import Record, aligned, array, matrix, records, vector

LANES = 16  # rows are padded to this many entries: one cache line of float32
NARROW = 24  # a layer with fewer units takes dot products with the layer below instead of added rows
NARROW_GROUP, NARROW_MAX = 5, 10
FIELD_ROOM = 3 * LANES  # entries behind the layers in rows of fields: the outputs narrow.py remembers


class Block(NamedTuple):
    """Where packed rows lie: start of the first, strides of rows and of panels.

    A block is laid out in panels of a few vectors (tiles.py), or, for dot products, in plain rows.
    """

    start: int
    row: int
    panel: int


_BLOCK = np.dtype([(name, np.int64) for name in Block._fields])
# A layer: units; first column in state rows; then, for the weights that enter it from below (from
# layer 2 on), their copy (rows = units below) and their transpose (rows = units here), start -1 if
# there is none; then the feedback rows that enter it from above.
LAYER = np.dtype(
    [("size", np.int64), ("offset", np.int64), ("copy", _BLOCK), ("transpose", _BLOCK), ("down", _BLOCK)]
)
NO_BLOCK = Block(-1, -1, -1)
FORWARDS, BACKWARDS = np.int64(0), np.int64(1)  # weights k, and the feedback weights beside them


@kernel(inline=True)
def block(record):
    """The block of a layer's record."""
    return Block(record.start, record.row, record.panel)


def pad(n):
    return -(-n // LANES) * LANES


def make_layout(sizes, has_back, itemsize):
    """Layers (L+1), entries of a state row, entries of the packed hidden weights."""
    n = len(sizes) - 1
    layers = np.zeros(n + 1, LAYER)
    layers["size"] = sizes
    for name in ("copy", "transpose", "down"):
        layers[name] = NO_BLOCK
    units = 0
    for k in range(1, n + 1):
        layers[k]["offset"] = units
        units += pad(sizes[k])
    used, columns = 0, tile_columns(itemsize)

    def place(rows, width, plain=False):
        nonlocal used
        start, width = used, pad(width)
        panels = -(-width // columns)
        if plain and rows <= NARROW_MAX:
            rows = NARROW_GROUP if rows <= NARROW_GROUP and not has_back else NARROW_MAX
        used += rows * (width if plain else panels * columns)
        return (start, width, columns) if plain else (start, columns, rows * columns)

    for k in range(2, n + 1):
        below, here = sizes[k - 1], sizes[k]
        narrow = here < NARROW and here < below
        if not narrow:
            layers[k]["copy"] = place(below, here)
        if narrow or not has_back:
            layers[k]["transpose"] = place(here, below, plain=narrow)
        layers[k - 1]["down"] = (
            place(here, below, plain=narrow) if has_back else tuple(layers[k]["transpose"])
        )
    return layers, units, max(used, 1)


def tile_of(sizes):
    """Samples relaxed together: few, in the first cache, or many, to reuse large hidden weights."""
    wide = [a * b for a, b in zip(sizes[1:], sizes[2:], strict=False) if min(a, b) >= NARROW]
    return 64 if wide and max(wide) > 8192 else 8


def make_network(sizes, has_back, dtype, rows, n_data, n_threads, **instead):
    """The scratch in which `rows` of `n_data` samples relax: what relax.py calls `net`.

    What every step writes has a row per thread, on cache lines of its own: threads on one line slow
    each other down. `instead` are arrays to share with another network.
    """
    layers, units, n_packed = make_layout(sizes, has_back, np.dtype(dtype).itemsize)
    made = {
        "packed": (n_packed, dtype),  # hidden weights as `layers` says
        "bias": (units, dtype),
        "drive": ((rows, pad(sizes[1])), dtype),  # what the inputs add to the first layer's field
        "field": ((rows, units + FIELD_ROOM), dtype),
        "failure": (rows, np.int64),  # where a sample became non-finite (relax.py), 0: nowhere
        "steps": ((n_threads, pad(rows)), np.int64),
        "residual": ((n_threads, pad(rows)), dtype),
        "active": ((n_threads, pad(rows)), np.int64),  # samples that still move
        "change": ((n_threads, pad(rows)), dtype),  # largest change of a step
    }
    made = {name: instead[name] if name in instead else aligned(*how) for name, how in made.items()}
    return Record(
        layers=layers, units=units, tile=tile_of(sizes), n_data=n_data, n_threads=n_threads, **made
    )


def input_lists(n, rows, capacity, dtype):
    """n records of the nonzero inputs of `rows` samples: how many, where, and rho(x) - rho(0)."""
    kept = [
        Record(
            counts=np.zeros(rows, np.int64), index=np.zeros((rows, capacity), np.int32),
            value=aligned((rows, capacity), dtype),
        )
        for _ in range(n)
    ]
    return records(kept), kept


@kernel(inline=True)
def own_rows(n, thread, n_threads):
    """Rows of thread `thread`."""
    return n * thread // n_threads, n * (thread + 1) // n_threads


@accessor
def joined(net, way, k):
    """The layers from which and to which the weights k lead, forwards or backwards."""
    layers = array(net.layers)
    return layers[k + way], layers[k + 1 - way]


# --- the arrays of a job


@kernel(inline=True)
def address_in(table, k):
    """Address number k of a table of the job, which may be NULL."""
    return vector(np.int64, table, k + 1)[k] if table != 0 else np.int64(0)


@kernel(inline=True)
def n_units(job, k):
    """Units of layer k, 0 being the inputs."""
    return np.int64(vector(np.int32, job.size, k + 1)[k])


@accessor
def weights_of(job, table, k):
    """Matrix k (N[k], N[k+1]) of a table shaped as the weights."""
    return matrix(job.real, address_in(table, k), n_units(job, k), n_units(job, k + 1))


@accessor
def biases_of(job, table, k):
    """Vector k (N[k+1]) of a table shaped as the biases."""
    return vector(job.real, address_in(table, k), n_units(job, k + 1))


@accessor
def backs_of(job, table, k):
    """Matrix k (N[k+1], N[k]) of a table shaped as the feedback weights."""
    return matrix(job.real, address_in(table, k), n_units(job, k + 1), n_units(job, k))


@accessor
def bias_moments(job, table, k):
    """The moments (N[k+1]) of bias k: they follow those of the weights."""
    return vector(job.real, address_in(table, job.n_weights + k), n_units(job, k + 1))


@accessor
def back_moments(job, table, k):
    """The moments (N[k+1], N[k]) of feedback weights k: they follow those of the biases."""
    return matrix(job.real, address_in(table, 2 * job.n_weights + k), n_units(job, k + 1), n_units(job, k))


@accessor
def states_of(job, k, rows):
    """Layer k (rows, N[k]) of the job's states."""
    return matrix(job.real, address_in(job.state, k - 1), rows, n_units(job, k))


@accessor
def targets(job, n_data):
    """y (n_data, N[L])."""
    return matrix(job.real, job.y, n_data, n_units(job, job.n_weights))
