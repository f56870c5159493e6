"""Networks of any shape: the kernels on P-conv (1905.13633), and a training step of it against
PyTorch and JAX, in turns.

Under pytest-benchmark (`pytest bench/bench_graph.py --benchmark-only`) each kernel alone; run as a
module, `python -m bench.bench_graph`, the table: samples per second of a training step (batch 20, T
= 200, K = 10, synchronous, every step done), of the asynchronous one that stops by a tolerance, and
of predictions; medians of per-round ratios; the largest difference of parameters after the first
batch; and the share of the machine's sgemm rate on the arithmetic that a step needs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import pytest

BATCH, TOL = 20, 1e-3
AUTHORS_RATE = 54  # samples/s of the authors' code on this kind of machine, 2 threads
SAME_TRAJECTORY = 1e-4
# multiply-adds of one sample: up and, from the maxima alone, down the second convolution, and the
# dense layer both ways; the input's convolution is done once
STEP = 64 * 64 * 800 + 16 * 64 * 800 + 2 * 1024 * 10
ONCE = 24 * 24 * 32 * 25
LEARNING = 12 * 12 * 32 * 25 + 2 * (16 * 64 * 800 + 64 * 64 * 800 + 1024 * 10)


def flop(n_steps):
    """Floating-point operations that a sample of a training step needs."""
    return 2 * (n_steps * STEP + ONCE + LEARNING)


def p_conv(schedule="synchronous", seed=0):
    """GraphSpec, weights and biases of P-conv."""
    from eqprop_fast.networks.graph import Conv, Dense, chain, draw_parameters

    graph = chain((1, 28, 28), [Conv(32, 5, pool="max"), Conv(64, 5, pool="max"), Dense(10)])
    spec = graph.spec(activation="hard_sigmoid", out_activation="hard_sigmoid", schedule=schedule)
    return spec, *draw_parameters(spec, np.random.default_rng(seed), np.float32)


def plan(tol=-1.0, n_free=200, n_nudged=10):
    from eqprop_fast.kernels import TrainPlan

    rate = (0.15, 0.035, 0.015)
    return TrainPlan(BATCH, 0.4, n_free, n_nudged, rate, rate, tol_free=tol, tol_nudged=tol)


def data(n):
    """n rows of MNIST if it can be had, else of noise."""
    from eqprop_fast.datasets import DatasetUnavailableError, load_mnist

    try:
        X, _, y, _ = load_mnist(download=True)
        X, y = X[:n], y[:n].astype(int)
    except DatasetUnavailableError:
        rng = np.random.default_rng(0)
        X, y = rng.uniform(0, 1, (n, 784)) * (rng.random((n, 784)) < 0.2), rng.integers(0, 10, n)
    return np.ascontiguousarray(X, np.float32), np.eye(10, dtype=np.float32)[y]


class Net:
    """P-conv on one of our backends."""

    def __init__(self, backend, n_threads, schedule="synchronous", tol=-1.0):
        from eqprop_fast.kernels import get_backend

        self.kernels, self.n_threads, self.plan = get_backend(backend), n_threads, plan(tol)
        self.spec, self.weights, self.biases = p_conv(schedule)
        self.network = self.spec, self.weights, None, self.biases

    def train(self, x, y):
        rows, threads = np.arange(len(x)), self.n_threads
        self.kernels.graph_train(*self.network, x, y, rows, self.plan, n_threads=threads)

    def predict(self, x):
        states = [np.zeros((len(x), n), np.float32) for n in self.spec.sizes[1:]]
        limits = dict(n_steps=200, tol=TOL, n_threads=self.n_threads)
        self.kernels.graph_relax(*self.network, x, states, **limits)
        return states[-1].argmax(axis=1)


@pytest.fixture(params=["c", "numba"])
def backend(request):
    pytest.importorskip({"c": "eqprop_fast._native", "numba": "numba"}[request.param])
    return request.param


@pytest.mark.parametrize("n_threads", [1, 2])
def test_train(benchmark, backend, n_threads):
    """`graph_train`, asynchronous, with a tolerance."""
    x, y = data(BATCH)
    net = Net(backend, n_threads, "asynchronous", TOL)
    benchmark.extra_info.update(samples=len(x), backend=backend)
    benchmark.pedantic(net.train, (x, y), rounds=3, warmup_rounds=1)
    assert all(np.isfinite(w).all() for w in net.weights)


@pytest.mark.parametrize("n_threads", [1, 2])
def test_relax(benchmark, backend, n_threads):
    """`graph_relax`, asynchronous, with a tolerance."""
    x, _ = data(100)
    net = Net(backend, n_threads, "asynchronous")
    benchmark.extra_info.update(samples=len(x), backend=backend)
    benchmark.pedantic(net.predict, (x,), rounds=3, warmup_rounds=1)


class Rival:
    """A baseline behind the face of `Net`."""

    def __init__(self, net, convert):
        self.net, self.convert = net, convert
        self.weights, self.biases = net.weights, net.biases

    def train(self, x, y):
        for i in range(0, len(x), BATCH):
            self.net.train_batch(
                self.convert(x[i : i + BATCH].reshape(-1, 1, 28, 28)),
                self.convert(y[i : i + BATCH]),
            )
        self.weights, self.biases = self.net.weights, self.net.biases


def contenders(n_threads, only=None):
    """{name: (maker, batches in a turn)}."""

    def torch_net(**how):
        import torch

        from .baselines.conv_torch import TorchConv

        return Rival(TorchConv(*p_conv()[1:], plan(), **how), torch.from_numpy)

    def jax_net():
        from .baselines.conv_jax import JaxConv

        return Rival(JaxConv(*p_conv()[1:], plan()), lambda a: a)

    every = {
        "c": lambda: Net("c", n_threads),
        "numba": lambda: Net("numba", n_threads),
        "torch hoisted": torch_net,
        "torch hoisted, channels last": lambda: torch_net(channels_last=True),
        "torch": lambda: torch_net(hoisted=False),
        "jax": jax_net,
        "c async": lambda: Net("c", n_threads, "asynchronous", TOL),
        "numba async": lambda: Net("numba", n_threads, "asynchronous", TOL),
    }
    return {name: make for name, make in every.items() if not only or name in only}


def sgemm_turn(n_threads, clock):
    """GFLOP/s of a product as large as a step's convolution of the batch, PyTorch's best of some."""
    import torch

    torch.set_num_threads(n_threads)
    a, b = np.ones((1280, 800), np.float32), np.ones((800, 64), np.float32)
    one, two, best = torch.from_numpy(a), torch.from_numpy(b), np.inf
    for _ in range(5):
        start = clock()
        for _ in range(20):
            torch.mm(one, two)
        best = min(best, (clock() - start) / 20)
    return 2 * a.size * b.shape[1] / best / 1e9


def race(n_threads, rounds, only=None, clock=time.perf_counter, say=print):
    """Rates of all in turns, ratios of the C kernels to each, differences of parameters."""
    import torch

    torch.set_num_threads(n_threads)
    x, y = data(20 * BATCH)
    racers, absent = {}, {}
    for name, make in contenders(n_threads, only).items():
        try:
            racers[name] = make()
            racers[name].train(x[:BATCH], y[:BATCH])  # compiles; the first batch is compared below
        except ImportError as reason:
            absent[name] = str(reason)
            racers.pop(name, None)
    mine = racers["c"].weights
    gaps = {
        name: float(max(np.abs(np.asarray(a) - b).max() for a, b in zip(racer.weights, mine)))
        for name, racer in racers.items()
        if "async" not in name
    }
    rates, sgemm, shares = {name: [] for name in racers}, [], []
    for turn in range(rounds):
        sgemm.append(sgemm_turn(n_threads, clock))
        for name, racer in racers.items():
            batches = 4 if "async" in name else 1
            first = (1 + 4 * turn) % 16 * BATCH
            rows = slice(first, first + batches * BATCH)
            start = clock()
            racer.train(x[rows], y[rows])
            rates[name].append(batches * BATCH / (clock() - start))
            time.sleep(0.05)
        shares.append(rates["c"][-1] * flop(210) / 1e9 / sgemm[-1])
    result = {
        "threads": n_threads,
        "absent": absent,
        "gaps": gaps,
        "rates": {name: statistics.median(r) for name, r in rates.items()},
        "c over": {
            name: statistics.median(a / b for a, b in zip(rates["c"], r))
            for name, r in rates.items()
        },
        "sgemm": statistics.median(sgemm),
        "share of sgemm": statistics.median(shares),
    }
    images = data(1000)[0]
    for name in ("c", "numba"):
        if name in racers:
            net = Net(name, n_threads, "asynchronous")
            net.predict(images[:10])
            start = clock()
            net.predict(images)
            result[f"{name} predicts"] = len(images) / (clock() - start)
    for key, value in result.items():
        say(f"{key}: {value}")
    return result


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="python -m bench.bench_graph", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--threads", type=int, action="append")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cpu-time", action="store_true", help="count processor time; 1 thread")
    parser.add_argument("--only", action="append", help="contenders; c always runs")
    options = parser.parse_args(arguments)
    only = options.only and ["c", *options.only]
    clock = time.process_time if options.cpu_time else time.perf_counter
    threads = [1] if options.cpu_time else options.threads or [1, 2]
    results = [race(n, options.rounds, only, clock) for n in threads]
    path = Path(__file__).parent / "results" / "graph.json"
    path.write_text(json.dumps(results, indent=1) + "\n")
    wrong = [name for r in results for name, gap in r["gaps"].items() if not gap <= SAME_TRAJECTORY]
    if wrong:
        raise SystemExit(f"{wrong}: parameters differ by more than {SAME_TRAJECTORY}")


if __name__ == "__main__":
    main()
