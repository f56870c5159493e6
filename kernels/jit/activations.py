"""Activations over contiguous rows, one loop per function so that each vectorises; twin of
reference/activations.py.

float32 sigmoids and tanh use a clamped rational approximation (largest error 2.0e-7 for the
sigmoid, 2.7e-7 for tanh; derived by bench/fit_tanh.py): without a vector math library, exp would be
one scalar call per unit. float64 uses exp and tanh themselves. Comparisons are written so that a
NaN comes out as NaN.
"""

import numpy as np

from .compile import kernel, widest_vectors

# np.float32 constants: exact in both precisions, and they never widen a float32 expression
ZERO, HALF, ONE, TWO, FOUR, SIX = (np.float32(v) for v in (0, 0.5, 1, 2, 4, 6))
MINUS_HALF = np.float32(-0.5)

CLAMP, MINUS_CLAMP = np.float32(8), np.float32(-8)
P0, P1, P2, P3, P4, P5 = (
    np.float32(v)
    for v in (
        1.2276732921600342, 0.15926103293895721, 0.0036570210941135883,
        1.205040007334901e-05, -1.7822605613559972e-08, 2.826961754964774e-11,
    )
)
Q0, Q1, Q2, Q3 = (
    np.float32(v) for v in (1.2276734113693237, 0.5684850811958313, 0.029462780803442, 0.00029002505470998585)
)

IDENTITY, SHIFTED_SIGMOID, HARD_SIGMOID, TANH, SIGMOID = range(5)
RELU, HALF_HARD, CENTERED_HARD, WIDE_HARD, RELU6 = range(5, 10)


@kernel(inline=True)
def _half_sum_ratio(x):
    """(1 + tanh x) / 2 as (Q + x P) / 2Q: one rounding less than through the ratio x P / Q.

    Beyond the clamp exactly 0 or 1: the 1e-7 that is left there would be multiplied by a large
    input.
    """
    c = CLAMP if x > CLAMP else x
    c = MINUS_CLAMP if c < MINUS_CLAMP else c
    u = c * c
    p = ((((P5 * u + P4) * u + P3) * u + P2) * u + P1) * u + P0
    q = ((Q3 * u + Q2) * u + Q1) * u + Q0
    t = HALF * (c * p + q) / q
    t = ONE if x > CLAMP else t
    return ZERO if x < MINUS_CLAMP else t


@kernel(inline=True)
def shifted_sigmoid32(x):
    return _half_sum_ratio(TWO * x - ONE)


@kernel(inline=True)
def _tanh32(x):
    a = x if x >= ZERO else -x
    c = CLAMP if a > CLAMP else a
    u = c * c
    p = ((((P5 * u + P4) * u + P3) * u + P2) * u + P1) * u + P0
    q = ((Q3 * u + Q2) * u + Q1) * u + Q0
    t = ONE - (q - c * p) / q
    t = ONE if a > CLAMP else t
    return t if x >= ZERO else -t


@kernel(inline=True)
def _clip(x, low, high):
    x = low if x < low else x
    return high if x > high else x


@kernel(inline=True)
def relu(x):
    return ZERO if x < ZERO else x


@kernel(inline=True)
def rho_scalar(code, x):
    """rho of one number, by the exact functions (inputs, rho(0))."""
    if code == SHIFTED_SIGMOID:
        return ONE / (ONE + np.exp(TWO - FOUR * x))
    if code == HARD_SIGMOID:
        return _clip(x, ZERO, ONE)
    if code == TANH:
        return np.tanh(x)
    if code == SIGMOID:
        return ONE / (ONE + np.exp(-x))
    if code == RELU:
        return relu(x)
    if code == HALF_HARD:
        return _clip(HALF * x, ZERO, ONE)
    if code == CENTERED_HARD:
        return _clip(x, MINUS_HALF, HALF)
    if code == WIDE_HARD:
        return _clip(x, -ONE, TWO)
    if code == RELU6:
        return _clip(x, ZERO, SIX)
    return x


@kernel
def activate(code, single, row):
    """row = rho(row), in place: a second array would fail the vectorised loop's overlap check."""
    widest_vectors()
    n = row.size
    if code == IDENTITY:
        return
    if code == SHIFTED_SIGMOID and single:
        for i in range(n):
            row[i] = shifted_sigmoid32(row[i])
    elif code == SHIFTED_SIGMOID:
        for i in range(n):
            row[i] = ONE / (ONE + np.exp(TWO - FOUR * row[i]))
    elif code == HARD_SIGMOID:
        for i in range(n):
            row[i] = _clip(row[i], ZERO, ONE)
    elif code == TANH and single:
        for i in range(n):
            row[i] = _tanh32(row[i])
    elif code == TANH:
        for i in range(n):
            row[i] = np.tanh(row[i])
    elif code == SIGMOID and single:
        for i in range(n):
            row[i] = _half_sum_ratio(HALF * row[i])
    elif code == SIGMOID:
        for i in range(n):
            row[i] = ONE / (ONE + np.exp(-row[i]))
    elif code == RELU:
        for i in range(n):
            row[i] = relu(row[i])
    elif code == HALF_HARD:
        for i in range(n):
            row[i] = _clip(HALF * row[i], ZERO, ONE)
    elif code == CENTERED_HARD:
        for i in range(n):
            row[i] = _clip(row[i], MINUS_HALF, HALF)
    elif code == RELU6:
        for i in range(n):
            row[i] = _clip(row[i], ZERO, SIX)
    else:
        for i in range(n):
            row[i] = _clip(row[i], -ONE, TWO)


@kernel
def times_prime(code, s, r, field):
    """field *= rho'(s), given r = rho(s); hard edges count as inside (docs/equations.md 1.1)."""
    widest_vectors()
    n = s.size
    if code == SHIFTED_SIGMOID:
        for i in range(n):
            field[i] *= FOUR * r[i] * (ONE - r[i])
    elif code == TANH:
        for i in range(n):
            field[i] *= ONE - r[i] * r[i]
    elif code == SIGMOID:
        for i in range(n):
            field[i] *= r[i] * (ONE - r[i])
    elif code == HARD_SIGMOID:
        for i in range(n):
            field[i] *= ONE if (s[i] >= ZERO) & (s[i] <= ONE) else ZERO
    elif code == RELU:
        for i in range(n):
            field[i] *= ONE if s[i] >= ZERO else ZERO
    elif code == HALF_HARD:
        for i in range(n):
            field[i] *= HALF if (s[i] >= ZERO) & (s[i] <= TWO) else ZERO
    elif code == CENTERED_HARD:
        for i in range(n):
            field[i] *= ONE if (s[i] >= MINUS_HALF) & (s[i] <= HALF) else ZERO
    elif code == WIDE_HARD:
        for i in range(n):
            field[i] *= ONE if (s[i] >= -ONE) & (s[i] <= TWO) else ZERO
    elif code == RELU6:
        for i in range(n):
            field[i] *= ONE if (s[i] >= ZERO) & (s[i] <= SIX) else ZERO
