"""The record of a gradient, and the checks its makers share."""

from __future__ import annotations

import numbers
from dataclasses import dataclass

import numpy as np
from sklearn.utils.validation import check_array

from ..kernels import LayeredSpec
from ..relaxation import MAX_INT


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
    """An integer from `at_least` to 2**31 - 1."""
    integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not integer or not at_least <= value <= MAX_INT:
        raise ValueError(
            f"{name} must be an integer from {at_least} to {MAX_INT}, got {value!r:.80}"
        )
    return int(value)


def check_number(value, name):
    """A finite number, as a float."""
    try:
        real = isinstance(value, numbers.Real) and not isinstance(value, bool)
        number = float(value) if real else np.nan
    except OverflowError:
        number = np.inf
    if not np.isfinite(number):
        raise ValueError(f"{name} must be a finite number, got {value!r:.80}")
    return number


def _check_parameters(name, arrays, shapes, dtype):
    if not isinstance(arrays, (list, tuple)) or len(arrays) != len(shapes):
        raise ValueError(f"{name} must be a list of {len(shapes)} arrays, got {arrays!r:.80}")
    for array, shape in zip(arrays, shapes):
        if not isinstance(array, np.ndarray) or array.shape != shape or array.dtype != dtype:
            raise ValueError(f"{name} must be {dtype} arrays of shapes {shapes}")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} holds NaN or infinity")


def _samples(name, rows, dtype):
    try:
        return check_array(rows, dtype=dtype, order="C", input_name=name)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: {error}") from None


def check_network(spec, weights, biases, x, y, back=None):
    """`x`, `y` as C arrays of the weights' dtype, after checking everything else.

    Raises
    ------
    ValueError
        Names what does not fit.
    """
    if not isinstance(spec, LayeredSpec):
        raise ValueError(f"spec must be a LayeredSpec, got {spec!r:.80}")
    first = weights[0] if isinstance(weights, (list, tuple)) and weights else None
    dtype = getattr(first, "dtype", None)
    if dtype not in (np.float32, np.float64):
        raise ValueError(
            f"weights must be a list of float32 or float64 arrays, got {weights!r:.80}"
        )
    pairs = list(zip(spec.sizes, spec.sizes[1:]))
    _check_parameters("weights", weights, pairs, dtype)
    _check_parameters("biases", biases, [(m,) for _, m in pairs], dtype)
    if back is not None:
        _check_parameters("back", back, [(m, n) for n, m in pairs], dtype)
    x, y = _samples("x", x, dtype), _samples("y", y, dtype)
    for name, a, width in [("x", x, spec.sizes[0]), ("y", y, spec.sizes[-1])]:
        if a.shape[1] != width:
            raise ValueError(f"{name} must have shape (n_samples >= 1, {width}), got {a.shape}")
    if len(x) != len(y):
        raise ValueError(f"x and y must have as many rows, got {len(x)} and {len(y)}")
    return x, y
