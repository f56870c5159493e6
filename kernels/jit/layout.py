"""How a network lies in flat buffers: places in the option arrays, and one row of places per layer.

The jitted functions take the options as one integer and one float array, so that a single compiled version
serves every network.
"""

import numpy as np

from .. import spec as names
from .tiles import tile_columns

# integer options
(N_WEIGHTS, DYNAMICS, SCHEDULE, ACTIVATION, OUT_ACTIVATION, INPUT_ACTIVATION, PRIME_HIDDEN, PRIME_OUTPUT,
LINEAR_OUTPUT,
 CLAMP, NUDGE_INSIDE, COST, SINGLE, BATCH, N_FREE, N_NUDGED, CENTERED, OPTIMIZER, ADAM_STEP, SPARSE, HAS_SIGN,
 HAS_WEIGHT, HAS_PARTICLES, TILE, HAS_BACK, RULE, ROW,
 SHARES) = range(28)  # fmt: skip
N_INTS = 28
# float options
(COST_FACTOR, DT, BETA, TOL_FREE, TOL_NUDGED, MOMENTUM, DECAY, BETA1, BETA2, EPSILON) = range(10)
N_FLOATS = 10
# kinds of array in the table of addresses (compile.array_table)
(WEIGHTS, BIASES, BACK, VELOCITY, BIAS_VELOCITY, BACK_VELOCITY, SECOND, BIAS_SECOND, BACK_SECOND,
 STATES) = range(10)  # fmt: skip
# codes of the learning rules
(EP, CONTINUAL, VECTOR_FIELD, CONTINUAL_VECTOR_FIELD, CLAMPED_SWEEP, CONTRASTIVE, COUPLED) = (
    names.RULES[rule]
    for rule in ("ep", "continual", "vector_field", "continual_vector_field", "clamped_sweep", "contrastive",
                 "coupled")
)  # fmt: skip
# places of layer k, row k of the layout: units, first column in state rows; then for the weights that enter
# it from below (k >= 2): start of their copy (rows = units below) or -1, and of their transpose (rows = units
# of k) or -1; then start of the feedback rows that enter it from above; each with the strides of rows and
# panels. A block of rows is laid out in panels of a few vectors (see tiles.py), or, for dot products,
# plainly.
(SIZE, OFFSET, COPY, COPY_ROW, COPY_PANEL, TRANSPOSE, TRANSPOSE_ROW, TRANSPOSE_PANEL, DOWN, DOWN_ROW,
 DOWN_PANEL) = range(11)  # fmt: skip
N_PLACES = 11

LINE = 128  # bytes that a processor fetches together: a pair of cache lines
LANES = 16  # rows are padded to this many entries: one cache line of float32
NARROW = 24  # a layer with fewer units takes dot products with the layer below instead of added rows

NARROW_GROUP, NARROW_MAX = 5, 10  # outputs of the passes of narrow.py, which read so many rows of weights
FIELD_ROOM = 3 * LANES  # entries behind the layers in rows of fields: the outputs narrow.py remembers


def pad(n):
    return -(-n // LANES) * LANES


def make_layout(sizes, has_back, itemsize):
    """Layout table (L+1, N_PLACES), entries of a state row, entries of the packed hidden weights."""
    n = len(sizes) - 1
    table = np.full((n + 1, N_PLACES), -1, np.int64)
    table[:, SIZE] = sizes
    units = 0
    for k in range(1, n + 1):
        table[k, OFFSET] = units
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
            table[k, COPY : COPY_PANEL + 1] = place(below, here)
        if narrow or not has_back:
            table[k, TRANSPOSE : TRANSPOSE_PANEL + 1] = place(here, below, plain=narrow)
        down = place(here, below, plain=narrow) if has_back else table[k, TRANSPOSE : TRANSPOSE_PANEL + 1]
        table[k - 1, DOWN : DOWN_PANEL + 1] = down
    return table, units, max(used, 1)


def spec_options(spec, dtype):
    """The option arrays filled with what a LayeredSpec says."""
    ints, floats = np.zeros(N_INTS, np.int64), np.zeros(N_FLOATS)
    ints[N_WEIGHTS] = spec.n_weights
    ints[DYNAMICS] = names.DYNAMICS[spec.dynamics]
    ints[SCHEDULE] = names.SCHEDULES[spec.schedule]
    ints[ACTIVATION] = names.ACTIVATIONS[spec.activation]
    ints[OUT_ACTIVATION] = names.ACTIVATIONS[spec.out_activation]
    ints[INPUT_ACTIVATION] = names.ACTIVATIONS[spec.input_activation]
    ints[PRIME_HIDDEN], ints[PRIME_OUTPUT] = spec.prime_hidden, spec.prime_output
    ints[LINEAR_OUTPUT], ints[CLAMP], ints[NUDGE_INSIDE] = spec.linear_output, spec.clamp, spec.nudge_inside
    ints[COST] = names.COSTS[spec.cost]
    ints[SINGLE] = dtype == np.float32
    ints[ROW], ints[SHARES] = spec.sizes[1], 1  # first weights: entries of a row, parts that lie one by one
    floats[COST_FACTOR], floats[DT] = spec.cost_factor, spec.dt
    # samples relaxed together: few while their states fit the first cache, many to reuse large hidden weights
    wide = [a * b for a, b in zip(spec.sizes[1:], spec.sizes[2:], strict=False) if min(a, b) >= NARROW]
    ints[TILE] = 64 if wide and max(wide) > 8192 else 8
    return ints, floats


def aligned(shape, dtype):
    """Zeroed array that begins a LINE."""
    dtype = np.dtype(dtype)
    size = int(np.prod(shape)) * dtype.itemsize
    raw = np.zeros(size + LINE, np.uint8)
    start = -raw.ctypes.data % LINE
    return raw[start : start + size].view(dtype).reshape(shape)


def progress(n_threads, size, dtype):
    """Steps, residuals, first failures, moving samples and changes of `size` samples: all but the failures,
    which all threads read, in a row per thread on cache lines of its own.
    """
    shape = (n_threads, pad(size))
    return (
        aligned(shape, np.int64), aligned(shape, dtype), aligned(size, np.int64), aligned(shape, np.int64),
        aligned(shape, dtype),
    )  # fmt: skip
