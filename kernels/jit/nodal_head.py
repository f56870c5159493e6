"""Sparse head of a symmetric elimination in Numba (twin: kernels/reference/nodal_head.py)."""

from .compile import kernel


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


def head_factor(plan, value, pivot):
    """As kernels.reference.nodal_head.head_factor."""
    return bool(_factor(plan.n_head, plan.ptr, plan.target, value, pivot))


def head_forward(plan, value, pivot, b):
    """As kernels.reference.nodal_head.head_forward."""
    _forward(plan.n_head, plan.ptr, plan.row, value, b)


def head_backward(plan, value, pivot, b):
    """As kernels.reference.nodal_head.head_backward."""
    _backward(plan.n_head, plan.ptr, plan.row, value, pivot, b)
