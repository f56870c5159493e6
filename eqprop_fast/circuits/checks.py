"""What the public functions of circuits ask of their arguments: every error names the argument."""

import numbers

import numpy as np

from .errors import ElementError

LARGEST = 1e100  # volt, ampere: squares and products with conductances of 1e30 S are still numbers


def number(what, value, *, low=None, high=None, finite=True, positive=False):
    """`value` as a float; ElementError unless it is a real number in the range."""
    if type(value) is not float and (
        isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real)
    ):
        raise ElementError(f"{what} must be a number, got {value!r}")
    try:
        value = float(value)
    except OverflowError:
        raise ElementError(f"{what} must be finite, got a number too large for float64") from None
    if np.isnan(value) or (finite and not np.isfinite(value)):
        raise ElementError(f"{what} must be finite, got {value}")
    if low is not None and not low <= value <= high:
        raise ElementError(f"{what} must be between {low} and {high}, got {value}")
    if positive and not value > 0:
        raise ElementError(f"{what} must be positive, got {value}")
    return value


def count(what, value, least=1):
    """`value` as an int; ElementError unless it is a whole number of at least `least`."""
    if (
        isinstance(value, (bool, np.bool_))
        or not isinstance(value, numbers.Integral)
        or value < least
    ):
        raise ElementError(f"{what} must be a whole number of at least {least}, got {value!r}")
    return int(value)


def flag(what, value):
    """`value` as a bool; ElementError unless it is one."""
    if not isinstance(value, (bool, np.bool_)):
        raise ElementError(f"{what} must be True or False, got {value!r}")
    return bool(value)


def choice(what, value, options):
    """ElementError unless `value` is one of `options`."""
    if not isinstance(value, str) or value not in options:
        raise ElementError(f"{what} must be one of {tuple(options)}, got {value!r}")
    return value


def generator(random_state):
    """numpy.random.default_rng of `random_state`; ElementError for what it does not take."""
    try:
        return np.random.default_rng(random_state)
    except (TypeError, ValueError):
        raise ElementError(
            f"random_state must be None, a whole number >= 0 or a Generator, got {random_state!r}"
        ) from None


def array(what, values, ndim=None):
    """`values` as a float64 array of finite real numbers (of `ndim` dimensions); else ElementError."""
    try:
        found = np.asarray(values)
        if found.dtype.kind == "c":
            raise TypeError
        found = np.asarray(found, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise ElementError(f"{what} must be an array of real numbers") from None
    if ndim is not None and found.ndim != ndim:
        raise ElementError(f"{what} must have {ndim} dimensions, got shape {found.shape}")
    if not np.isfinite(found).all():
        raise ElementError(
            f"{what} must be finite numbers, got NaN, infinity or a number too large"
        )
    return found


def bounded(what, values):
    """ElementError if an entry is larger than `LARGEST`: currents and powers would not be numbers."""
    if values is not None and not (np.abs(values) <= LARGEST).all():
        raise ElementError(
            f"{what} must not be larger than {LARGEST:g}, got {np.abs(values).max():g}"
        )
    return values
