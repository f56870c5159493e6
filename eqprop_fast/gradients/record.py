"""The record of a gradient, and the checks its makers share."""

from __future__ import annotations

import numbers
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class LayeredGradient:
    """Gradient of the mean cost of a batch by every parameter of a layered network.

    Attributes
    ----------
    weights : list of ndarray, shapes (N[k], N[k+1])
    biases : list of ndarray, shapes (N[k+1],)
    back : list of ndarray, shapes (N[k+1], N[k]), or None
        None when the network is symmetric: `weights` then collects both directions.
    cost : float
        Mean cost at the free state it was taken at.
    states : list of ndarray, shapes (M, N[k]), layers 1..L
        That free state.
    n_steps : int
        Reverse (bptt, recurrent_backprop) or nudged steps; 0 for a direct solve.
    """

    weights: list
    biases: list
    back: list | None
    cost: float
    states: list
    n_steps: int

    def flat(self):
        """All entries in one vector: weights, biases, backward weights."""
        return np.concatenate(
            [a.ravel() for a in [*self.weights, *self.biases, *(self.back or [])]]
        )


def check_count(value, name, at_least=1):
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < at_least:
        raise ValueError(f"{name} must be an integer >= {at_least}, got {value!r}")
    return int(value)


def check_network(spec, weights, biases, x, y, back=None):
    """`x`, `y` as C arrays of the weights' dtype, after checking every shape.

    Raises
    ------
    ValueError
        Names what does not fit.
    """
    n = spec.n_weights
    dtype = weights[0].dtype
    if dtype not in (np.float32, np.float64):
        raise ValueError(f"weights must be float32 or float64, got {dtype}")
    for name, arrays, shapes in [
        ("weights", weights, list(zip(spec.sizes, spec.sizes[1:]))),
        ("biases", biases, [(m,) for m in spec.sizes[1:]]),
        ("back", back, list(zip(spec.sizes[1:], spec.sizes))),
    ]:
        if arrays is None:
            continue
        if len(arrays) != n or any(
            a.shape != s or a.dtype != dtype for a, s in zip(arrays, shapes)
        ):
            raise ValueError(f"{name} must be {n} {dtype} arrays of shapes {shapes}")
    x, y = np.ascontiguousarray(x, dtype), np.ascontiguousarray(y, dtype)
    for name, a, width in [("x", x, spec.sizes[0]), ("y", y, spec.sizes[-1])]:
        if a.ndim != 2 or a.shape[1] != width or not len(a):
            raise ValueError(f"{name} must have shape (n_samples >= 1, {width}), got {a.shape}")
        if not np.isfinite(a).all():
            raise ValueError(f"{name} holds NaN or infinity")
    if len(x) != len(y):
        raise ValueError(f"x and y must have as many rows, got {len(x)} and {len(y)}")
    return x, y
