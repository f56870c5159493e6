"""Activations as devices compute them: one cut-off line or one logistic curve, told by five
numbers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

LARGEST_FLOAT = float(np.finfo(np.float32).max)


class Curve(NamedTuple):
    """``rho(x)``: ``clip(slope x, low, high)`` or, if `curved`,
    ``low + (high - low) / (1 + exp(offset - slope x))``.
    """

    slope: float
    low: float
    high: float
    offset: float = 0.0
    curved: bool = False


CURVES = {
    "identity": Curve(1.0, -np.inf, np.inf),
    "shifted_sigmoid": Curve(4.0, 0.0, 1.0, 2.0, True),
    "hard_sigmoid": Curve(1.0, 0.0, 1.0),
    "tanh": Curve(2.0, -1.0, 1.0, 0.0, True),
    "sigmoid": Curve(1.0, 0.0, 1.0, 0.0, True),
    "relu": Curve(1.0, 0.0, np.inf),
    "half_hard_sigmoid": Curve(0.5, 0.0, 1.0),
    "centered_hard_sigmoid": Curve(1.0, -0.5, 0.5),
    "wide_hard_sigmoid": Curve(1.0, -1.0, 2.0),
    "relu6": Curve(1.0, 0.0, 6.0),
}


def is_wide(name):
    """Whether its values leave [-2, 2)."""
    return CURVES[name].high > 2
