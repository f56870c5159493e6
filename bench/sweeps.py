"""`python -m bench.sweeps [CHECKPOINT]`: sweeps to tolerance, plain, over-relaxed,
Anderson-accelerated.

Why over-relaxation is in the kernels and Anderson acceleration is not (docs/architecture.md).
Per-sample Anderson mixing with m earlier states, NumPy, float64; a sample stops once no unit
changes by more than 1e-4 in a sweep. A synchronous sweep moves every layer at once, an asynchronous
one the odd layers, then the even ones: the same products. The weights are those of a checkpoint
that `eqprop-fast reproduce` left, or of P-3h after one epoch.
"""

from __future__ import annotations

import sys

import numpy as np

from eqprop_fast import EP, EqPropClassifier, Relaxation
from eqprop_fast.datasets import load_mnist

TOL, CAP, SAMPLES = 1e-4, 400, 400
MEMORIES = (0, 2, 3, 5)
FACTORS = (1.2, 1.3, 1.4, 1.5)


def rho(x):
    return 1 / (1 + np.exp(-4 * (x - 0.5)))


class Net:
    """Layers k = 0.. of a batch as column ranges of one (n_samples, n_units) array."""

    def __init__(self, coefs, intercepts, X):
        self.weights = [np.asarray(w, dtype=float) for w in coefs]
        self.biases = [np.asarray(b, dtype=float) for b in intercepts]
        ends = np.cumsum([0, *(len(b) for b in self.biases)])
        self.layers = [slice(a, b) for a, b in zip(ends, ends[1:], strict=False)]
        self.drive = X @ self.weights[0] + self.biases[0]

    def target(self, s, k, drive):
        """Where layer k would go: rho(W_k-1 s_k-1 + W_k^T s_k+1 + b_k)."""
        field = drive if k == 0 else s[:, self.layers[k - 1]] @ self.weights[k] + self.biases[k]
        if k + 1 < len(self.layers):
            field = field + s[:, self.layers[k + 1]] @ self.weights[k + 1].T
        return rho(field)

    def sweep(self, s, drive, asynchronous, factor=1.0):
        new = s.copy()
        for parity in (0, 1):
            for k in range(parity, len(self.layers), 2):
                at = self.layers[k]
                new[:, at] += factor * (
                    self.target(new if asynchronous else s, k, drive) - new[:, at]
                )
        return new


def anderson(states, residuals):
    """Next states (n_samples, n_units) from the last ones, least squares per sample, back into [0,
    1].
    """
    s, r = states[-1], residuals[-1]
    if len(states) == 1:
        return s + r
    ds = np.stack([s - old for old in states[:-1]], axis=2)
    dr = np.stack([r - old for old in residuals[:-1]], axis=2)
    gram = np.einsum("bik,bil->bkl", dr, dr)
    ridge = 1e-10 * np.trace(gram, axis1=1, axis2=2) + 1e-300
    gram += ridge[:, None, None] * np.eye(gram.shape[1])
    share = np.linalg.solve(gram, np.einsum("bik,bi->bk", dr, r)[:, :, None])[:, :, 0]
    return np.clip(s + r - np.einsum("bik,bk->bi", ds + dr, share), 0, 1)


def count(net, asynchronous, factor=1.0, memory=0):
    """Sweeps each sample needs from zero, at most CAP."""
    live, drive = np.arange(len(net.drive)), net.drive
    steps = np.full(len(drive), CAP)
    s = np.zeros((len(drive), net.layers[-1].stop))
    states, residuals = [], []
    for step in range(1, CAP + 1):
        residual = net.sweep(s, drive, asynchronous, factor) - s
        going = np.abs(residual).max(axis=1) > TOL
        steps[live[~going]] = step
        states, residuals = [*states, s][-memory - 1 :], [*residuals, residual][-memory - 1 :]
        s = anderson(states, residuals) if memory else s + residual
        if not going.all():
            live, drive, s = live[going], drive[going], s[going]
            states, residuals = [q[going] for q in states], [q[going] for q in residuals]
        if len(live) == 0:
            break
    return steps


def main(checkpoint=None):
    X, _, y, _ = load_mnist()
    if checkpoint is None:
        model = EqPropClassifier.from_paper(
            "1905.13633/P-3h",
            relaxation=Relaxation("asynchronous", n_steps=90, tol=TOL, over_relaxation=1.3),
            learning_rule=EP(beta=0.5, nudging="random_sign", n_steps=10, tol=TOL),
            max_iter=1,
            random_state=0,
        ).fit(X, y)
        coefs, intercepts = model.coefs_, model.intercepts_
    else:
        stored = np.load(checkpoint, allow_pickle=False)
        depth = sum(name.startswith("coefs_/") for name in stored.files)
        coefs = [stored[f"coefs_/{k}"] for k in range(depth)]
        intercepts = [stored[f"intercepts_/{k}"] for k in range(depth)]
    net = Net(coefs, intercepts, X[:SAMPLES].astype(float))
    print("| schedule | Anderson memory | sweeps, mean | median | 90 % | not settled after 400 |")
    print("|---|---|---|---|---|---|")
    schedules = (("synchronous", False), ("asynchronous", True))
    runs = [(name, flag, 1.0, m) for name, flag in schedules for m in MEMORIES]
    runs += [(f"asynchronous, over-relaxed {w}", True, w, 0) for w in FACTORS]
    for name, flag, factor, memory in runs:
        steps = count(net, flag, factor, memory)
        share = f"{100 * np.mean(steps >= CAP):.1f} %"
        print(
            f"| {name} | {memory or '-'} | {steps.mean():.1f} | {np.median(steps):.0f} | "
            f"{np.percentile(steps, 90):.0f} | {share} |",
            flush=True,
        )


if __name__ == "__main__":
    main(*sys.argv[1:2])
