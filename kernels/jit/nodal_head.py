"""Sparse head of a symmetric elimination in Numba (twin: kernels/reference/nodal_head.py)."""

import numpy as np

from .compile import kernel
from .views import read


@kernel
def _factor(n_head, ptr, target, value, pivot):
    at = 0
    for c in range(n_head):
        if not pivot[c] > 0:
            return False
        inverse = 1.0 / pivot[c]
        for k in range(ptr[c], ptr[c + 1]):
            factor = value[k] * inverse
            for i in range(k, ptr[c + 1]):
                where = target[at]
                at += 1
                if where >= 0:
                    value[where] -= value[i] * factor
                else:
                    pivot[-1 - where] -= value[i] * factor
        for k in range(ptr[c], ptr[c + 1]):
            value[k] *= inverse
    return True


@kernel
def _forward(n_head, ptr, row, value, b):
    for c in range(n_head):
        for k in range(ptr[c], ptr[c + 1]):
            for r in range(b.shape[1]):
                b[row[k], r] -= value[k] * b[c, r]


@kernel
def _backward(n_head, ptr, row, value, pivot, b):
    for c in range(n_head - 1, -1, -1):
        for r in range(b.shape[1]):
            b[c, r] /= pivot[c]
        for k in range(ptr[c], ptr[c + 1]):
            for r in range(b.shape[1]):
                b[c, r] -= value[k] * b[row[k], r]


def _columns(plan):
    return read(plan.ptr, np.int64), read(plan.row, np.int32)


def head_factor(plan, value, pivot):
    """As kernels.reference.nodal_head.head_factor."""
    ptr, target = read(plan.ptr, np.int64), read(plan.target, np.int64)
    return bool(_factor(plan.n_head, ptr, target, value, pivot))


def head_forward(plan, value, pivot, b):
    """As kernels.reference.nodal_head.head_forward."""
    _forward(plan.n_head, *_columns(plan), read(value, np.float64), b)


def head_backward(plan, value, pivot, b):
    """As kernels.reference.nodal_head.head_backward."""
    _backward(plan.n_head, *_columns(plan), read(value, np.float64), read(pivot, np.float64), b)
