"""LU of one matrix with fixed pivots, dense or sparse (csrc/nodal/dense.h and sparse.h)."""

import numpy as np

from .compile import kernel
from .views import array, vector


@kernel
def dense_lu_solve(a, rdiag, b):
    """a (n * n,) becomes its factors, b (n,) the solution."""
    n = b.size
    for k in range(n):
        rdiag[k] = 1.0 / a[k * n + k]
        for r in range(k + 1, n):
            factor = a[r * n + k] * rdiag[k]
            if factor != 0.0:
                for c in range(k + 1, n):
                    a[r * n + c] -= factor * a[k * n + c]
                b[r] -= factor * b[k]
    for k in range(n - 1, -1, -1):
        total = b[k]
        for c in range(k + 1, n):
            total -= a[k * n + c] * b[c]
        b[k] = total * rdiag[k]


@kernel
def sparse_lu_solve(job, own, b):
    """Refactorises own.values in the stored pivot order; b (N) becomes the solution by unknown."""
    n, values, work, rdiag = job.n, array(own.values), array(own.work), array(own.rdiag)
    lower, upper = array(own.lower), array(own.upper)
    row_of, col_of = vector(np.int32, job.row_of, n), vector(np.int32, job.col_of, n)
    a_ptr, a_row = vector(np.int32, job.a_ptr, n + 1), vector(np.int32, job.a_row, values.size)
    a_src = vector(np.int32, job.a_src, values.size)
    l_ptr, l_row = vector(np.int32, job.l_ptr, n + 1), vector(np.int32, job.l_row, lower.size)
    u_ptr, u_row = vector(np.int32, job.u_ptr, n + 1), vector(np.int32, job.u_row, upper.size)
    for c in range(n):
        for p in range(u_ptr[c], u_ptr[c + 1]):
            work[u_row[p]] = 0.0
        for p in range(l_ptr[c], l_ptr[c + 1]):
            work[l_row[p]] = 0.0
        work[c] = 0.0
        for p in range(a_ptr[c], a_ptr[c + 1]):
            work[a_row[p]] = values[a_src[p]]
        for p in range(u_ptr[c], u_ptr[c + 1]):
            k = u_row[p]
            factor = work[k]
            upper[p] = factor
            for q in range(l_ptr[k], l_ptr[k + 1]):
                work[l_row[q]] -= lower[q] * factor
        rdiag[c] = 1.0 / work[c]
        for p in range(l_ptr[c], l_ptr[c + 1]):
            lower[p] = work[l_row[p]] * rdiag[c]
    for c in range(n):
        work[c] = b[row_of[c]]
    for c in range(n):
        factor = work[c]
        for q in range(l_ptr[c], l_ptr[c + 1]):
            work[l_row[q]] -= lower[q] * factor
    for c in range(n - 1, -1, -1):
        factor = work[c] * rdiag[c]
        b[col_of[c]] = factor
        for q in range(u_ptr[c], u_ptr[c + 1]):
            work[u_row[q]] -= upper[q] * factor
