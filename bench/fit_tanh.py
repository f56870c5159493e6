"""Derivation of the float32 tanh of kernels/jit/activations.py: tanh(x) ~ x P(x^2) / Q(x^2) on [-c, c], clamped.

Least squares on Chebyshev points, linearised (P x - tanh(x) Q = 0 weighted by 1/Q of the last round) and pushed
towards minimax by Lawson weights. Run ``python bench/fit_tanh.py``; it prints the coefficients and the largest
absolute error in exact and in float32 arithmetic.
"""

import numpy as np

CLAMP, N_P, N_Q = 8.5, 5, 5  # Q has N_Q coefficients, the first being 1


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


def evaluate32(p, q, clamp, x):
    """The same operations as the kernel, in float32 with fused multiply-adds."""
    p, q, f = p.astype(np.float32), q.astype(np.float32), np.float32
    x = np.clip(x.astype(f), f(-clamp), f(clamp))
    u = x * x
    num, den = np.full_like(x, p[-1]), np.full_like(x, q[-1])
    for c in p[-2::-1]:
        num = (num.astype(float) * u + c).astype(f)
    for c in q[-2::-1]:
        den = (den.astype(float) * u + c).astype(f)
    return np.clip(x * num / den, f(-1), f(1))


if __name__ == "__main__":
    error, (p, q) = fit()
    grid = np.linspace(-12, 12, 2_000_001)
    measured = np.abs(evaluate32(p, q, CLAMP, grid) - np.tanh(grid)).max()
    print("P =", [float(f"{c:.9e}") for c in p])
    print("Q =", [float(f"{c:.9e}") for c in q])
    print(f"max error: exact {error:.2e}, float32 {measured:.2e}")
