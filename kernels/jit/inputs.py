"""What the input layer sends: lists of nonzero inputs per sample, and the drive of the first layer.

With rho the input activation, x W = (rho(x) - rho(0)) W + rho(0) (column sums of W): the first
factor is as sparse as x. Every thread owns a slice of W_0's columns, here and in the update, so
that it stays in the cache of its core. `lists` is a record of layout.input_lists: per sample b, the
first counts[b] of index[b] are places of nonzero inputs and those of value[b] what they send.
"""

import numpy as np

from .activations import IDENTITY, ZERO, rho_scalar
from .compile import kernel
from .layout import LANES, n_units
from .lists import add_listed
from .products import add_row
from .views import array, matrix, vector


@kernel
def column_slice(n, thread, n_threads):
    """Columns of thread `thread`: whole cache lines, the last one possibly short."""
    lines = (n + LANES - 1) // LANES
    return min(n, LANES * (lines * thread // n_threads)), min(n, LANES * (lines * (thread + 1) // n_threads))


@kernel
def list_inputs(job, lists, row, b):
    """The list of sample b: the nonzero entries of row `row` of x."""
    where, what, count = array(lists.index)[b], array(lists.value)[b], 0
    code, n_in = job.input_activation, n_units(job, 0)
    if job.indptr != 0:
        begin = vector(np.int64, job.indptr, row + 2)[row]
        end = vector(np.int64, job.indptr, row + 2)[row + 1]
        indices, data = vector(np.int32, job.indices, end), vector(job.real, job.data, end)
        for p in range(begin, end):
            where[count] = indices[p]
            what[count] = data[p]
            count += 1 if data[p] != ZERO else 0
    else:
        source = matrix(job.real, job.x, row + 1, n_in)[row]
        for j in range(n_in):
            where[count] = j
            what[count] = source[j]
            count += 1 if source[j] != ZERO else 0
    if code != IDENTITY:
        base = rho_scalar(code, what.dtype.type(0))
        for p in range(count):
            what[p] = rho_scalar(code, what[p]) - base
    array(lists.counts)[b] = count


@kernel
def column_sums(job, w, moved, low, high, base_sum):
    """base_sum[low:high] = rho(0) * column sums of w, or zero; w begins at column `moved`."""
    out = base_sum[low:high]
    for i in range(out.size):
        out[i] = ZERO
    if job.input_activation == IDENTITY:
        return
    base = rho_scalar(job.input_activation, w.dtype.type(0))
    if base != ZERO:
        for j in range(w.shape[0]):
            add_row(out, base, w[j][low - moved : high - moved])


@kernel
def drive_slice(w, moved, b0, base_sum, lists, drive, b, low, high):
    """drive[b, low:high] = input_activation(x) W_0 + b_0 of sample b."""
    out = drive[b, low:high]
    for i in range(out.size):
        out[i] = b0[low + i] + base_sum[low + i]
    count = array(lists.counts)[b]
    add_listed(out, low - moved, array(lists.value)[b, :count], array(lists.index)[b, :count], w)


@kernel
def group_by_input(lists, n_samples, starts, sample, coefficient):
    """The lists turned round: in the samples of starts[j]..starts[j+1] input j is nonzero."""
    counts, index, value = array(lists.counts), array(lists.index), array(lists.value)
    n = starts.size - 1
    for j in range(n + 1):
        starts[j] = 0
    for b in range(n_samples):
        where = index[b]
        for p in range(counts[b]):
            starts[where[p] + 1] += 1
    for j in range(n):
        starts[j + 1] += starts[j]
    for b in range(n_samples):
        where, what = index[b], value[b]
        for p in range(counts[b]):
            at = starts[where[p]]
            sample[at] = b
            coefficient[at] = what[p]
            starts[where[p]] = at + 1
    for j in range(n, 0, -1):
        starts[j] = starts[j - 1]
    starts[0] = 0


def list_size(x, n_in):
    """Entries to reserve per sample, one more than it can use."""
    if hasattr(x, "indptr"):
        return int(np.diff(x.indptr).max(initial=0)) + 1
    return n_in + 1
