"""Symmetric elimination in two parts: a sparse head of cheap pivots, then a dense tail (the
readable twin).

Random sparse networks fill in: after most nodes have been eliminated almost for free, the rest is a
dense matrix. So the head is eliminated entry by entry with places that were computed once for the
topology, and the tail goes to LAPACK's Cholesky. The order is minimum degree, from SuperLU.
"""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import linalg


@dataclass(frozen=True)
class HeadPlan:
    """Places of everything, for one pattern. `order[p]` is the unknown at pivot p.

    The buffer `value` holds the strict lower columns of the head (`ptr`, `row`), then the dense
    tail, row-major. `target`: for each head column, each k and each i >= k of its rows, where the
    product l_i l_k d is taken off: a place in `value`, or -1 - p for the diagonal of head pivot p.
    `a_place`, `a_from`: where entries of the CSR data go.
    """

    n: int
    n_head: int
    order: np.ndarray
    ptr: np.ndarray
    row: np.ndarray
    target: np.ndarray
    a_place: np.ndarray
    a_from: np.ndarray
    diagonal_from: np.ndarray
    diagonal_at: np.ndarray

    @property
    def n_tail(self):
        return self.n - self.n_head


def plan_head(matrix, max_share=0.3):
    """HeadPlan of a CSR matrix with symmetric pattern: the head ends where a column holds
    `max_share` of what is left.
    """
    n = matrix.shape[0]
    order = np.argsort(
        linalg.splu(
            matrix.tocsc(),
            permc_spec="MMD_AT_PLUS_A",
            diag_pivot_thresh=0.0,
            options={"SymmetricMode": True},
        ).perm_c
    )
    position = np.argsort(order)
    permuted = matrix[order][:, order].tocsc()
    permuted.sort_indices()
    children, columns = {}, []
    for j in range(n):
        own = permuted.indices[permuted.indptr[j] : permuted.indptr[j + 1]]
        merged = np.unique(
            np.concatenate([own[own > j]] + [columns[c][1:] for c in children.pop(j, ())])
        )
        if merged.size > max_share * (n - j):
            break
        columns.append(merged)
        if merged.size:
            children.setdefault(int(merged[0]), []).append(j)
    h = len(columns)
    ptr = np.concatenate([[0], np.cumsum([c.size for c in columns])]).astype(np.int64)
    row = np.concatenate(columns).astype(np.int32) if h else np.zeros(0, np.int32)
    tail, n_tail = int(ptr[-1]), n - h

    def place(i, k):
        """Where entry (i, k), i >= k (arrays i, one k), lives."""
        if k >= h:
            return tail + (i - h) * n_tail + (k - h)
        found = ptr[k] + np.searchsorted(columns[k], i)
        return np.where(i == k, -1 - k, found)

    target = [place(c[q:].astype(np.int64), int(c[q])) for c in columns for q in range(c.size)]
    rows = position[np.repeat(np.arange(n), np.diff(matrix.indptr))].astype(np.int64)
    cols = position[matrix.indices].astype(np.int64)
    source = np.arange(matrix.nnz)
    in_tail = (rows >= cols) & (cols >= h)
    a_place, a_from = [tail + (rows[in_tail] - h) * n_tail + (cols[in_tail] - h)], [source[in_tail]]
    low = np.flatnonzero((rows > cols) & (cols < h))
    low = low[np.lexsort((rows[low], cols[low]))]
    key = np.repeat(np.arange(h, dtype=np.int64), np.diff(ptr)) * n + row
    a_place.append(np.searchsorted(key, cols[low] * n + rows[low]))
    a_from.append(source[low])
    diagonal = (rows == cols) & (cols < h)
    return HeadPlan(
        n,
        h,
        order,
        ptr,
        row,
        np.concatenate(target) if target else np.zeros(0, np.int64),
        np.concatenate(a_place),
        np.concatenate(a_from),
        source[diagonal],
        cols[diagonal],
    )


def head_factor(plan, value, pivot):
    """Eliminate the head in place; False if a pivot is not positive.

    Parameters
    ----------
    value : float64 (nnz + n_tail^2,), in/out
        In: lower entries of A at their places. Out: L of the head, then the lower half of the
        tail's Schur complement.
    pivot : float64 (n_head,), in/out
        In: the diagonal of A; out: D.
    """
    at = 0
    for c in range(plan.n_head):
        if not pivot[c] > 0:
            return False
        column = value[plan.ptr[c] : plan.ptr[c + 1]]
        for k in range(column.size):
            change = column[k:] * (column[k] / pivot[c])
            target = plan.target[at : at + change.size]
            inside = target >= 0
            value[target[inside]] -= change[inside]
            pivot[-1 - target[~inside]] -= change[~inside]
            at += change.size
        column /= pivot[c]
    return True


def head_forward(plan, value, pivot, b):
    """b (n, n_rows), by pivot: b <- L^-1 b over the head's columns, in place."""
    for c in range(plan.n_head):
        span = slice(plan.ptr[c], plan.ptr[c + 1])
        b[plan.row[span]] -= value[span, None] * b[c]


def head_backward(plan, value, pivot, b):
    """b <- L^-T D^-1 b over the head, in place, once the tail's rows hold their solution."""
    for c in range(plan.n_head - 1, -1, -1):
        span = slice(plan.ptr[c], plan.ptr[c + 1])
        b[c] = b[c] / pivot[c] - value[span] @ b[plan.row[span]]
