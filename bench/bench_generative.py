"""Gibbs sweeps: ours, BernoulliRBM's, and the rate of the machine's sgemm; interleaved, processor time.

python -m bench.bench_generative [--visible 1000 --hidden 500 --rows 200]
"""

import argparse
import time

import numpy as np
from eqprop_fast.kernels import Boltzmann, Sweeps, available_backends, get_backend
from sklearn.neural_network import BernoulliRBM
from threadpoolctl import threadpool_limits

SWEEPS, ROUNDS = 20, 5


def seconds(run):
    start = time.process_time()
    run()
    return time.process_time() - start


def contenders(n_visible, n_hidden, rows):
    """{name: (run, units renewed, or floating-point operations of a product)}."""
    rng, sizes = np.random.default_rng(0), (n_visible, n_hidden)
    w = (0.05 * rng.normal(size=sizes)).astype(np.float32)
    machine = Boltzmann([w], [np.zeros(n, np.float32) for n in sizes])
    states = [(rng.random((rows, n)) < 0.5).astype(np.float32) for n in sizes]
    found = {}
    for name in available_backends():
        if name == "numpy":
            continue
        sweep = get_backend(name).boltzmann_sweep
        sweep(machine, states, Sweeps(1), [False, False])  # compiles
        found[name] = lambda sweep=sweep: sweep(machine, states, Sweeps(SWEEPS), [False, False])
    for dtype in ("float32", "float64"):
        theirs = BernoulliRBM(n_hidden, random_state=0)
        theirs.components_ = np.asfortranarray(w.T.astype(dtype))  # as its fit makes it
        theirs.intercept_hidden_ = np.zeros(n_hidden, dtype)
        theirs.intercept_visible_ = np.zeros(n_visible, dtype)
        v = states[0].astype(dtype)
        found[f"BernoulliRBM.gibbs {dtype}"] = lambda t=theirs, v=v: [t.gibbs(v) for _ in range(4)]
    found["sgemm"] = lambda: [states[0] @ w for _ in range(SWEEPS)]
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("visible", 1000), ("hidden", 500), ("rows", 200)):
        parser.add_argument(f"--{name}", type=int, default=default)
    size = parser.parse_args()
    runs = contenders(size.visible, size.hidden, size.rows)
    best = dict.fromkeys(runs, np.inf)
    with threadpool_limits(1, "blas"):
        for _ in range(ROUNDS):
            for name, run in runs.items():
                best[name] = min(best[name], seconds(run))
    product = 2.0 * size.visible * size.hidden * size.rows
    rate = SWEEPS * product / best.pop("sgemm") / 1e9
    print(f"one thread; sgemm {rate:.0f} GFLOP/s")
    for name, t in best.items():
        t /= 4 if "RBM" in name else SWEEPS
        share = 2 * product / t / 1e9 / rate
        per_unit = 1e9 * t / size.rows / (size.visible + size.hidden)
        print(
            f"{name:28s} {1e3 * t:7.2f} ms a sweep, {per_unit:6.2f} ns a unit, {share:.0%} of sgemm"
        )


if __name__ == "__main__":
    main()
