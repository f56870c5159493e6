"""Activations rho and their derivatives, the readable truth.

Derivatives are given as functions of (s, rho(s)); hard ones are 1 on the closed interval, so that a
unit that reached an edge can leave it (docs/equations.md 1.1).
"""

import numpy as np
from scipy.special import expit


def _inside(s, low, high):
    return ((s >= low) & (s <= high)).astype(s.dtype)


# name -> (rho(x), rho'(s, rho(s)))
TABLE = {
    "identity": (lambda x: x.copy(), lambda s, r: np.ones_like(s)),
    "shifted_sigmoid": (lambda x: expit(4 * x - 2), lambda s, r: 4 * r * (1 - r)),
    "hard_sigmoid": (lambda x: np.clip(x, 0, 1), lambda s, r: _inside(s, 0, 1)),
    "tanh": (np.tanh, lambda s, r: 1 - r * r),
    "sigmoid": (expit, lambda s, r: r * (1 - r)),
    "relu": (lambda x: np.maximum(x, 0), lambda s, r: (s >= 0).astype(s.dtype)),
    "half_hard_sigmoid": (lambda x: np.clip(x / 2, 0, 1), lambda s, r: _inside(s, 0, 2) / 2),
    "centered_hard_sigmoid": (lambda x: np.clip(x, -0.5, 0.5), lambda s, r: _inside(s, -0.5, 0.5)),
    "wide_hard_sigmoid": (lambda x: np.clip(x, -1, 2), lambda s, r: _inside(s, -1, 2)),
    "relu6": (lambda x: np.clip(x, 0, 6), lambda s, r: _inside(s, 0, 6)),
}


# rho''(s, rho(s)), for the reverse pass of the continuous dynamics; 0 where rho is piecewise linear
SECOND = {
    "shifted_sigmoid": lambda s, r: 16 * r * (1 - r) * (1 - 2 * r),
    "tanh": lambda s, r: -2 * r * (1 - r * r),
    "sigmoid": lambda s, r: r * (1 - r) * (1 - 2 * r),
}


def rho(name, x):
    """The activation (docs/equations.md 1.1)."""
    return TABLE[name][0](x)


def rho_prime(name, s, r):
    """Its slope at s, where r = rho(s)."""
    return TABLE[name][1](s, r)


def rho_second(name, s, r):
    """Its second derivative at s; 0 of functions of straight pieces."""
    return SECOND[name](s, r) if name in SECOND else np.zeros_like(s)


def softmax(s):
    """Of each row (M, N)."""
    e = np.exp(s - s.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)
