"""What the input layer sends: lists of nonzero inputs per sample, and the drive of the first layer.

With rho the input activation, x W = (rho(x) - rho(0)) W + rho(0) (column sums of W): the first factor is as
sparse as x. Every thread owns a slice of W_0's columns, here and in the update, so that it stays in the
cache of its core.
"""

import numpy as np

from .activations import IDENTITY, ZERO, rho_scalar
from .compile import kernel, matrix_at
from .layout import INPUT_ACTIVATION, LANES, ROW, SHARES, SPARSE
from .lists import add_listed
from .products import add_row


@kernel
def column_slice(n, thread, n_threads):
    """Columns of thread `thread`: whole cache lines, the last one possibly short."""
    lines = (n + LANES - 1) // LANES
    return min(n, LANES * (lines * thread // n_threads)), min(n, LANES * (lines * (thread + 1) // n_threads))


@kernel
def own_columns(ints, table, kind, n_in, low, thread, like):
    """The first weights, or their moments, as thread `thread` has them, and what its columns are moved by."""
    n_shares = ints[SHARES]
    whole = matrix_at(table, kind, 0, n_shares * n_in, ints[ROW], like)
    if n_shares == 1:
        return whole, np.int64(0)
    return whole[thread * n_in : (thread + 1) * n_in], low


@kernel
def list_inputs(ints, x, indptr, indices, data, row, b, counts, index, value):
    """index[b], value[b] = places of the nonzero entries of row `row` of x and rho(x) - rho(0) there."""
    code = ints[INPUT_ACTIVATION]
    where, what = index[b], value[b]
    count = 0
    if ints[SPARSE]:
        for p in range(indptr[row], indptr[row + 1]):
            where[count] = indices[p]
            what[count] = data[p]
            count += 1 if data[p] != ZERO else 0
    else:
        source = x[row]
        for j in range(source.size):
            where[count] = j
            what[count] = source[j]
            count += 1 if source[j] != ZERO else 0
    if code != IDENTITY:
        base = rho_scalar(code, x.dtype.type(0))
        for p in range(count):
            what[p] = rho_scalar(code, what[p]) - base
    counts[b] = count


@kernel
def column_sums(ints, w, moved, low, high, base_sum):
    """base_sum[low:high] = rho(0) * column sums of w, or zero; column i of the layer is i - moved of w."""
    out = base_sum[low:high]
    for i in range(out.size):
        out[i] = ZERO
    if ints[INPUT_ACTIVATION] == IDENTITY:
        return
    base = rho_scalar(ints[INPUT_ACTIVATION], w.dtype.type(0))
    if base != ZERO:
        for j in range(w.shape[0]):
            add_row(out, base, w[j][low - moved : high - moved])


@kernel
def drive_slice(w, moved, b0, base_sum, counts, index, value, drive, b, low, high):
    """drive[b, low:high] = input_activation(x) W_0 + b_0 of sample b."""
    out = drive[b, low:high]
    for i in range(out.size):
        out[i] = b0[low + i] + base_sum[low + i]
    count = counts[b]
    add_listed(out, low - moved, value[b, :count], index[b, :count], w)


@kernel
def group_by_input(counts, index, value, n_samples, starts, sample, coefficient):
    """The lists of a batch turned round: entries starts[j]..starts[j+1] hold the samples in which input j is
    nonzero.
    """
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
