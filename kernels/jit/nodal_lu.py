"""LU with fixed pivots for one matrix, dense or of a stored sparse pattern (twins of csrc/nodal_dense.h,
nodal_sparse.h).
"""

from .compile import kernel


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
def sparse_lu_solve(
    row_of, col_of, a_ptr, a_row, a_src, l_ptr, l_row, u_ptr, u_row, values, lower, upper, rdiag, work, b
):
    """Left-looking refactorisation in the stored pivot order; b (n,) by equation becomes the solution by
    unknown.
    """
    n = b.size
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
