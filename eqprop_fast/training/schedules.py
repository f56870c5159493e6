"""Learning-rate schedules as one factor per epoch, applied to the rate of every layer.

"constant", "invscaling" and "adaptive" follow scikit-learn's MLP; "exponential" is the ``x 0.99 per
epoch`` of 2402.11674; "cosine" is the annealing of 2006.03824 and 2312.15103.
"""

from __future__ import annotations

import math
from numbers import Real

from sklearn.utils._param_validation import Interval

from ..auto import AUTO
from ..docstrings import documented
from ..parts import Part

SCHEDULES = ("constant", "invscaling", "adaptive", "exponential", "cosine")
ADAPTIVE_DIVISOR = 5.0
ADAPTIVE_SMALLEST_RATE = 1e-6


@documented
class Exponential(Part):
    """A rate that falls by the same factor every epoch (2402.11674).

    Parameters
    ----------
    decay : float
        The factor.
    """

    word = "exponential"
    _parameter_constraints: dict = {"decay": [Interval(Real, 0, 1, closed="right")]}

    def __init__(self, decay=0.99):
        self.decay = decay


@documented
class InverseScaling(Part):
    """A rate that falls as ``1 / (samples seen + 1)**power_t``, as of scikit-learn's MLP.

    Parameters
    ----------
    power_t : float
        The exponent.
    """

    word = "invscaling"
    _parameter_constraints: dict = {"power_t": [Interval(Real, 0, None, closed="left")]}

    def __init__(self, power_t=0.5):
        self.power_t = power_t


@documented
class Cosine(Part):
    """A rate that follows half a cosine over `max_iter` epochs, then starts anew (2006.03824,
    2312.15103).

    Parameters
    ----------
    min_factor : float
        The share of the initial rate that is approached.
    """

    word = "cosine"
    _parameter_constraints: dict = {"min_factor": [Interval(Real, 0, 1, closed="both")]}

    def __init__(self, min_factor=0.0):
        self.min_factor = min_factor


# what `learning_rate` can be: those without parameters of their own are words only
RATE_WORDS = {
    AUTO: None,
    **dict.fromkeys(SCHEDULES),
    **{part.word: part for part in (InverseScaling, Exponential, Cosine)},
}


def learning_rate_factor(
    schedule, epoch, samples_seen, state_factor, *, power_t, decay, min_factor, period
):
    """Factor on the initial rates during an epoch.

    Parameters
    ----------
    schedule : str
        One of `SCHEDULES`.
    epoch : int
        Epochs done before this one.
    samples_seen : int
        Samples seen before this epoch ("invscaling": ``1 / (samples_seen + 1)**power_t``).
    state_factor : float
        What "adaptive" has reached; kept in the training state.
    power_t, decay : float
    min_factor : float
        "cosine": the factor approached after `period` epochs, when it starts again from 1 (warm
        restarts: a later `partial_fit` or warm-started `fit` is not stuck at the end).
    period : int
    """
    if schedule == "constant":
        return 1.0
    if schedule == "invscaling":
        return 1.0 / (samples_seen + 1) ** power_t
    if schedule == "adaptive":
        return state_factor
    if schedule == "exponential":
        return decay**epoch
    if schedule == "cosine":
        phase = epoch % period / period
        return min_factor + (1.0 - min_factor) * (1.0 + math.cos(math.pi * phase)) / 2.0
    raise ValueError(f"learning_rate must be one of {SCHEDULES}, got {schedule!r}")
