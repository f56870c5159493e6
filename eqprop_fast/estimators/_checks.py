"""Checks of what users give that have nothing to do with networks."""

from __future__ import annotations

from numbers import Integral

import numpy as np

from ..relaxation import MAX_INT


def check_csr(X):
    """Refuse what SciPy lets pass and a kernel would follow out of its arrays."""
    indptr, indices = X.indptr, X.indices
    if indptr[0] != 0 or indptr[-1] > len(indices) or (np.diff(indptr) < 0).any():
        raise ValueError(
            "X is a damaged CSR matrix: its row pointers are not an increasing sequence from 0"
        )
    if indices.size and (indices.min() < 0 or indices.max() >= X.shape[1]):
        raise ValueError(
            f"X is a damaged CSR matrix: a column index is outside 0..{X.shape[1] - 1}"
        )


def is_list(value):
    """Whether `value` is a sequence or an array of at least one dimension."""
    return hasattr(value, "__iter__") and getattr(value, "ndim", 1) > 0


def is_size(n):
    """Whether `n` can be the size of a layer."""
    return isinstance(n, Integral) and not isinstance(n, bool) and 0 < n <= MAX_INT


def check_sizes(dtype, factors):
    """Refuse numbers (a sequence by name of the parameter) that act as 0 or as infinity in `dtype`."""
    limits = np.finfo(dtype)
    smallest, largest = float(limits.tiny), float(limits.max)
    for name, values in factors.items():
        for value in values:
            if value != 0 and not smallest <= abs(value) <= largest:
                bounds = f"{smallest:.2g} to {largest:.2g}"
                raise ValueError(f"{name}={value!r}: its size must be from {bounds} in {dtype}")


def per_layer(name, value, n_weights, allow_zero, one="layer of weights, input to output"):
    try:
        values = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be one number or a list of numbers, got {value!r}") from None
    if values.ndim == 0:
        values = np.full(n_weights, float(values))
    if values.shape != (n_weights,):
        raise ValueError(f"{name} must be one number or one per {one} ({n_weights}), got {value!r}")
    if (
        not np.isfinite(values).all()
        or (values < 0).any()
        or (not allow_zero and (values == 0).all())
    ):
        raise ValueError(
            f"{name} must hold finite numbers {'>= 0' if allow_zero else '> 0'}, got {value!r}"
        )
    return tuple(float(v) for v in values)
