"""Numbers, seeds, dtypes and sizes that a check is given: refused by name, or returned."""

from __future__ import annotations

from numbers import Integral

import numpy as np

from ..gradients.record import check_count, check_number


def check_positive(value, name):
    """`value`, refused if it is not a finite real number above 0.

    Raises
    ------
    ValueError
    """
    if not check_number(value, name) > 0:
        raise ValueError(f"{name} must be > 0 and finite, got {value!r}")
    return value


def check_seed(random_state):
    """A seed that the settings can name; None draws one.

    Raises
    ------
    ValueError
    """
    if random_state is None:
        return int(np.random.default_rng().integers(2**32))
    if isinstance(random_state, bool) or not isinstance(random_state, Integral) or random_state < 0:
        raise ValueError(f"random_state must be an integer >= 0 or None, got {random_state!r}")
    return int(random_state)


def generator_of(random_state):
    """A generator: itself, or of a seed as `check_seed` takes it.

    Raises
    ------
    ValueError
    """
    if isinstance(random_state, np.random.Generator):
        return random_state
    return np.random.default_rng(check_seed(random_state))


def check_dtype(dtype):
    """`dtype` as float32 or float64.

    Raises
    ------
    ValueError
    """
    try:
        found = np.dtype(dtype)
    except (TypeError, ValueError):
        found = None
    if dtype is None or found not in (np.float32, np.float64):
        raise ValueError(f"dtype must be float32 or float64, got {dtype!r:.80}")
    return found


def check_sizes(sizes, name="sizes", length=None):
    """A tuple of counts: at least two, an input and an output layer, or as many as `length`.

    Raises
    ------
    ValueError
    """
    wanted = "at least two integers >= 1" if length is None else f"{length} integers >= 1"
    many = isinstance(sizes, (tuple, list)) or isinstance(sizes, np.ndarray) and sizes.ndim == 1
    if not many or len(sizes) < 2 or length not in (None, len(sizes)):
        raise ValueError(f"{name} must hold {wanted}, got {sizes!r:.80}")
    return tuple(check_count(n, name) for n in sizes)
