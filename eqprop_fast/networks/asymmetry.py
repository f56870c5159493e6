"""Independent backward weights at a chosen angle to the forward ones (2005.04168, docs/equations.md
6.3).
"""

from __future__ import annotations

import numbers

import numpy as np


def check_angle(angle, name="angle"):
    """`angle` as a float in degrees.

    Raises
    ------
    ValueError
        Not a real number, not finite, or outside [0, 180].
    """
    if isinstance(angle, bool) or not isinstance(angle, numbers.Real) or not 0 <= angle <= 180:
        raise ValueError(f"{name} must be a number of degrees in [0, 180], got {angle!r:.80}")
    return float(angle)


def backward_weights(weights, angle, random_state=None):
    """Backward weights at an angle to the forward ones.

    Start from the transpose and flip the sign of each entry with probability (1 - cos(angle)) / 2.
    The angle is reached on average over the flips: in a matrix of n entries it scatters by about
    ``1 / sqrt(n)`` rad; 0 and 180 are exact.

    Parameters
    ----------
    weights : list of ndarray, shapes (N[k], N[k+1])
        Forward weights, input first.
    angle : float
        Degrees, in [0, 180].
    random_state : None, int or numpy.random.Generator

    Returns
    -------
    back : list of ndarray, shapes (N[k+1], N[k])
        C-contiguous, of the dtype of `weights`. back[0] would lead to the clamped input: it is 0.

    Raises
    ------
    ValueError
        Angle outside [0, 180].
    """
    angle, rng = check_angle(angle), np.random.default_rng(random_state)
    back = [np.zeros(weights[0].T.shape, weights[0].dtype)]
    return back + [flipped(w.T, angle, rng) for w in weights[1:]]


def flipped(weight, angle, rng):
    """`weight` with signs flipped so that it stands at an angle to itself; see `backward_weights`."""
    probability = (1 - np.cos(np.deg2rad(angle))) / 2
    flip = rng.random(weight.shape) < probability
    return np.ascontiguousarray(np.where(flip, -weight, weight))


def measured_angle(weight, back):
    """Angle between a forward matrix and the transpose of its backward one, in degrees.

    Parameters
    ----------
    weight : ndarray, shape (n, m), or kernels of a convolution
    back : ndarray, shape (m, n); of a convolution the shape of `weight`

    Returns
    -------
    float
        ``arccos(<W_f^T, W_b> / (|W_f| |W_b|))``; NaN when one of them is 0.

    Raises
    ------
    ValueError
        The shapes do not fit.
    """
    a, b = np.asarray(weight, np.float64), np.asarray(back, np.float64)
    a = a.T if a.ndim == 2 else a
    if a.shape != b.shape:
        raise ValueError(
            f"back must have the shape of weight's transpose, got {b.shape} and {a.T.shape}"
        )
    a, b = a.ravel(), b.ravel()
    norms = np.linalg.norm(a) * np.linalg.norm(b)
    if norms == 0:
        return float("nan")
    # from the chord, not from arccos: exact where the two nearly coincide
    chord = np.linalg.norm(a / np.linalg.norm(a) - b / np.linalg.norm(b))
    return float(np.rad2deg(2 * np.arcsin(min(chord / 2, 1.0))))


def measured_angles(weights, back):
    """`measured_angle` of every layer pair above the input, in degrees, lowest first."""
    return [measured_angle(w, b) for w, b in zip(weights[1:], back[1:])]
