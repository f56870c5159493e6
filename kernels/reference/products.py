"""Products of which every row is the same, bit for bit, whatever rows stand beside it."""

from functools import cached_property

import numpy as np
from scipy import sparse


class InOrder:
    """A matrix `w` (K, N): row m of ``a @ InOrder(w)`` is a[m, 0] w[0] + a[m, 1] w[1] + ..., in
    this order.

    BLAS adds in an order that depends on the row's place in `a`, on the processor and on threads.
    SciPy's product with a sparse matrix is a plain loop over a row's entries, several times slower.
    """

    __array_ufunc__ = None  # so that NumPy leaves `a @ self` to `__rmatmul__`

    def __init__(self, w):
        self.w = np.ascontiguousarray(w)

    @cached_property
    def T(self):
        return InOrder(self.w.T)

    def __rmatmul__(self, a):
        m, k = a.shape  # all entries are stored: 0 times infinity stays NaN
        columns = np.tile(np.arange(k, dtype=np.int32), m)
        rows = sparse.csr_array(
            (np.ravel(a), columns, k * np.arange(m + 1, dtype=np.int64)), shape=(m, k)
        )
        return rows @ self.w


def in_order(a, w):
    """`a @ w` for a dense or sparse `a`, see `InOrder`."""
    return np.asarray(a @ w) if sparse.issparse(a) else a @ InOrder(w)
