"""From checked arguments to jobs: one place for the C and the Numba callers, one file a family."""


def csr(x):
    """A sparse matrix as the kernels follow it: CSR, each column at most once in a row."""
    x = x.tocsr()
    if not x.has_canonical_format:
        x = x.copy()
        x.sum_duplicates()
    return x
