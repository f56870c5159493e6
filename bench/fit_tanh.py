"""Derivation of the float32 tanh of kernels/jit/activations.py: tanh(x) ~ x P(x^2) / Q(x^2) on [-c,
c], clamped.

Least squares on Chebyshev points, linearised (P x - tanh(x) Q = 0 weighted by 1/Q of the last
round) and pushed towards minimax by Lawson weights. Run ``python bench/fit_tanh.py``; it prints the
coefficients and the largest absolute error in exact and in float32 arithmetic.
"""

import numpy as np

CLAMP, N_P, N_Q = 8, 6, 4
SCALE = 1.2276734321865843  # common factor of P and Q, the best of some hundred for the rounding to float32


def fit(clamp=CLAMP, n_p=N_P, n_q=N_Q, rounds=400):
    x = clamp * np.cos(np.pi * (np.arange(4000) + 0.5) / 8000)
    u, t = (x / clamp) ** 2, np.tanh(x)
    lawson, q = np.ones_like(x), np.ones_like(x)
    best = (np.inf, None)
    for _ in range(rounds):
        w = np.sqrt(lawson) / q
        columns = [x * u**i for i in range(n_p)] + [-t * u**i for i in range(1, n_q)]
        a = np.stack(columns, axis=1) * w[:, None]
        scale = np.linalg.norm(a, axis=0)
        c = np.linalg.lstsq(a / scale, t * w, rcond=1e-15)[0] / scale
        p, qc = c[:n_p], np.r_[1.0, c[n_p:]]
        q = np.polyval(qc[::-1], u)
        error = np.abs(x * np.polyval(p[::-1], u) / q - t)
        if error.max() < best[0] and (q > 0).all():
            powers_p, powers_q = clamp ** (-2.0 * np.arange(n_p)), clamp ** (-2.0 * np.arange(n_q))
            best = (error.max(), (p * powers_p, qc * powers_q))
        lawson = lawson * (error / error.max() + 1e-3) ** 0.5
        lawson /= lawson.mean()
    return best


def parts32(p, q, clamp, x):
    """x, P, Q in float32 with fused multiply-adds, as in the kernel."""
    f = np.float32
    p, q = p.astype(f), q.astype(f)
    x = np.clip(x.astype(f), f(-clamp), f(clamp))
    u = x * x
    num, den = np.full_like(x, p[-1]), np.full_like(x, q[-1])
    for c in p[-2::-1]:
        num = (num.astype(float) * u + c).astype(f)
    for c in q[-2::-1]:
        den = (den.astype(float) * u + c).astype(f)
    return x.astype(float), num.astype(float), den


if __name__ == "__main__":
    error, (p, q) = fit()
    p, q = p * SCALE, q * SCALE
    grid = np.linspace(-12, 12, 2_000_001).astype(np.float32)
    x, num, den = parts32(p, q, CLAMP, grid)
    one, half, exact = np.float32(1), np.float32(0.5), np.tanh(grid.astype(float))
    tanh = np.copysign(one - (den - np.abs(x) * num).astype(np.float32) / den, grid)
    sigmoid = half * (den + x * num).astype(np.float32) / den
    print("P =", [float(c) for c in p.astype(np.float32)])
    print("Q =", [float(c) for c in q.astype(np.float32)])
    print(
        f"largest error: fit {error:.2e}; float32 tanh {np.abs(tanh - exact).max():.2e}, ", end=""
    )
    print(f"(1 + tanh) / 2 {np.abs(sigmoid - (1 + exact) / 2).max():.2e}")
