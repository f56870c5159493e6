"""The caller's weights to and from the packed copies of which layout.py says how they lie."""

from .compile import kernel
from .layout import BACKWARDS, FORWARDS, LANES, backs_of, biases_of, block, own_rows, weights_of
from .relax import copy_row
from .tiles import tile_columns
from .views import array


@kernel
def pack_row(packed, rows, j, row):
    """Row j of the block `rows` of packed rows = `row`."""
    columns = tile_columns(packed.itemsize)
    at = rows.start + j * rows.row
    for first in range(0, row.size, columns):
        source = row[first : first + columns]
        target = packed[at : at + source.size]
        for i in range(source.size):
            target[i] = source[i]
        at += rows.panel


@kernel
def pack_rows(net, k, w, low, high):
    """Refresh the copy and the transpose of rows low..high of the weights k."""
    packed, above = array(net.packed), array(net.layers)[k + 1]
    if above.copy.start >= 0:
        for i in range(low, high):
            pack_row(packed, block(above.copy), i, w[i])
    if above.transpose.start >= 0:
        transpose, columns = block(above.transpose), tile_columns(packed.itemsize)
        start = low
        while start < high:  # a piece of one panel, at most LANES rows: their cache lines are used whole
            stop = min(high, start + LANES - start % LANES, start + columns - start % columns)
            at = transpose.start + start // columns * transpose.panel + start % columns
            size = stop - start
            for j in range(w.shape[1]):
                target = packed[at : at + size]
                for i in range(size):
                    target[i] = w[start + i, j]
                at += transpose.row
            start = stop


@kernel
def pack_back(net, k, back, low, high):
    """Refresh the rows low..high of the feedback weights k."""
    packed, down = array(net.packed), block(array(net.layers)[k].down)
    for j in range(low, high):
        pack_row(packed, down, j, back[j])


@kernel
def refresh(job, net, way, k, low, high):
    """Refresh rows low..high of the weights k, forwards or backwards."""
    if way == BACKWARDS:
        pack_back(net, k, backs_of(job, job.back, k), low, high)
    else:
        pack_rows(net, k, weights_of(job, job.weight, k), low, high)


@kernel
def pack_network(job, net, thread, n_threads):
    """Copies of the hidden weights and biases, own rows."""
    layers, bias = array(net.layers), array(net.bias)
    for k in range(1, job.n_weights):
        below, here = layers[k], layers[k + 1]
        low, high = own_rows(below.size, thread, n_threads)
        refresh(job, net, FORWARDS, k, low, high)
        low, high = own_rows(here.size, thread, n_threads)
        if job.back != 0:
            refresh(job, net, BACKWARDS, k, low, high)
        if thread == 0:
            copy_row(bias[here.offset : here.offset + here.size], biases_of(job, job.bias, k))


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
