"""Training of deep resistive networks: the crossbar kernels against PyTorch, in turns, at the sizes
of 2402.11674.

Under pytest-benchmark (`pytest bench/bench_crossbar.py --benchmark-only`) the C kernels alone; run
as a module, `python -m bench.bench_crossbar`, the table: samples per second at batch 4 on 1 and 2
threads, medians of ratios to two PyTorch baselines (see bench/baselines/drn_torch.py), the error of
one update against float64, and the share of the machine's sgemm rate. On a busy machine,
`--cpu-time` counts processor time instead (1 thread only).
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from . import machine

BATCH = 4
MAX_FLOAT64_ERROR = 1e-5  # of an update in float64, C against both baselines


@dataclass(frozen=True)
class Setting:
    """One row of 2402.11674 and the authors' code's training rate on 2 threads, samples per second."""

    hidden: tuple
    input_gain: float
    n_steps: int
    beta: float
    rates: tuple
    authors_rate: float
    samples: int  # in one timed turn of the C kernel

    def flop(self, density):
        """Floating-point operations of one sample: sparse input drive and update, sweeps, inner
        updates.
        """
        n = (*self.hidden, 10)
        inner = sum(a * b for a, b in zip(n, n[1:]))
        sweeps = 3 * self.n_steps * 2 * inner  # three phases, both directions
        return 2 * (784 * density * n[0] * 2 + sweeps + 2 * inner)


SETTINGS = {
    "XS": Setting((100,), 100.0, 4, 1.0, (0.006, 0.006), 890, 20000),
    "1H": Setting((1024,), 480.0, 4, 1.0, (0.006, 0.006), 120, 2000),
    "2H": Setting((1024, 1024), 2000.0, 5, 1.0, (0.002, 0.006, 0.018), 90, 400),
    "3H": Setting((1024, 1024, 1024), 4000.0, 6, 2.0, (0.005, 0.02, 0.08, 0.005), 57, 200),
}


def data(n):
    from eqprop_fast.datasets import load_mnist

    X, _, y, _ = load_mnist(download=True)
    return np.ascontiguousarray(X[:n]), np.eye(10, dtype=np.float32)[y[:n].astype(int)]


class Net:
    """A setting on the C kernels with its own parameters."""

    def __init__(self, setting, dtype=np.float32, seed=0):
        from eqprop_fast.networks.resistive import ResistiveSpec, init_conductances

        spec = ResistiveSpec((784, *setting.hidden, 10))
        self.setting = setting
        self.weights, self.biases = init_conductances(
            spec, 1.0, np.random.default_rng(seed), np.dtype(dtype)
        )
        self.lower, self.upper = spec.bounds(np.dtype(dtype))
        self.carried = [np.zeros((BATCH, n), dtype) for n in spec.node_sizes]

    def astype(self, dtype):
        twin = Net(self.setting, dtype)
        for name in ("weights", "biases", "carried"):
            for a, b in zip(getattr(twin, name), getattr(self, name)):
                a[...] = b
        return twin

    def train(self, x, y, n_threads):
        from eqprop_fast.kernels import Crossbar, CrossbarPlan
        from eqprop_fast.kernels.native import crossbar

        s = self.setting
        network = Crossbar(self.weights, self.biases, self.lower, self.upper, s.input_gain)
        plan = CrossbarPlan(
            s.rates,
            s.rates,
            batch_size=BATCH,
            beta=s.beta,
            n_free_steps=s.n_steps,
            n_nudged_steps=s.n_steps,
        )
        crossbar.train(network, x, y, None, plan, self.carried, n_threads=n_threads)


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("name", SETTINGS)
def test_train(benchmark, name, n_threads):
    """`crossbar_train` on one turn of MNIST rows."""
    from eqprop_fast.datasets import DatasetUnavailableError

    pytest.importorskip("eqprop_fast._native")
    try:
        x, y = data(SETTINGS[name].samples)
    except DatasetUnavailableError as reason:
        pytest.skip(str(reason))
    net = Net(SETTINGS[name])
    benchmark.extra_info.update(samples=len(x), backend="c")
    benchmark.pedantic(net.train, (x, y, n_threads), rounds=3, warmup_rounds=1)
    assert all(np.isfinite(w).all() for w in net.weights)


def update_errors(net, x, y):
    """Largest error of one batch's update of each conductance matrix, relative to its largest
    conductance.

    "c", "expanded", "drops": in float32 against C in float64; "float64": C against both in float64.
    """
    exact = net.astype(np.float64)
    twins = [torch_copy(exact, name) for name in ("expanded", "drops")]
    x64, y64 = x.astype(np.float64), y.astype(np.float64)
    exact.train(x64, y64, 1)
    for twin in twins:
        twin.train_batch(as_tensor(x64), as_tensor(y64))
    out = {
        "float64": max(
            np.abs(w.numpy() - e).max() / np.abs(e).max()
            for twin in twins
            for w, e in zip(twin.weights, exact.weights)
        )
    }
    for name in ("c", "expanded", "drops"):
        if name == "c":
            mine = net.astype(np.float32)
            mine.train(x, y, 2)
            after = mine.weights
        else:
            torch_net = torch_copy(net, name)
            torch_net.train_batch(*map(as_tensor, (x, y)))
            after = [w.numpy() for w in torch_net.weights]
        out[name] = max(np.abs(a - e).max() / np.abs(e).max() for a, e in zip(after, exact.weights))
    return {name: float(error) for name, error in out.items()}


def as_tensor(a):
    import torch

    return torch.from_numpy(a)


def torch_copy(net, gradient):
    from .baselines.drn_torch import TorchDRN

    s = net.setting
    twin = TorchDRN(
        net.weights,
        net.biases,
        net.lower,
        net.upper,
        input_gain=s.input_gain,
        n_steps=s.n_steps,
        beta=s.beta,
        rates=s.rates,
        gradient=gradient,
    )
    twin.states = [as_tensor(c.copy()) for c in net.carried]
    return twin


def race(name, n_threads, rounds, clock, say=print):
    """Rates of C and both baselines in turns; medians of per-round ratios."""
    import torch

    torch.set_num_threads(n_threads)
    setting = SETTINGS[name]
    x, y = data(setting.samples)
    net = Net(setting)
    net.train(
        x[:400], y[:400], n_threads
    )  # past the first batches, where half of the conductances are zero
    errors = update_errors(
        net, x[400:404] if len(x) > 404 else x[:4], y[400:404] if len(y) > 404 else y[:4]
    )
    rivals = {g: torch_copy(net, g) for g in ("expanded", "drops")}
    rates = {k: [] for k in ("c", *rivals)}
    for turn in range(rounds + 1):
        for who, samples in (("c", setting.samples), ("expanded", 60), ("drops", 12)):
            samples = min(samples * (8 if name == "XS" and who != "c" else 1), len(x))
            start = clock()
            if who == "c":
                net.train(x, y, n_threads)
            else:
                for i in range(0, samples, BATCH):
                    rivals[who].train_batch(
                        as_tensor(x[i : i + BATCH]), as_tensor(y[i : i + BATCH])
                    )
            if turn:  # the first round warms up
                rates[who].append(samples / (clock() - start))
            time.sleep(0.02)
    median = {k: statistics.median(v) for k, v in rates.items()}
    ratio = {
        k: statistics.median(c / r for c, r in zip(rates["c"], rates[k], strict=True))
        for k in ("expanded", "drops")
    }
    density = float((x != 0).mean())
    return dict(
        name=name,
        threads=n_threads,
        rates=median,
        ratio=ratio,
        errors=errors,
        gflops=median["c"] * setting.flop(density) / 1e9,
    )


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="python -m bench.bench_crossbar", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--only", action="append", choices=list(SETTINGS))
    parser.add_argument("--threads", type=int, action="append")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cpu-time", action="store_true", help="count processor time; 1 thread")
    parser.add_argument(
        "--name",
        default="drn",
        help="of the .md and the .json in bench/results (default: the record, drn)",
    )
    options = parser.parse_args(arguments)
    clock = time.process_time if options.cpu_time else time.perf_counter
    threads = [1] if options.cpu_time else options.threads or [1, 2]
    sgemm = sgemm_gflops(clock)
    lines, races = [HEADER, "|---" * HEADER.count(" | ") + "|---|"], []
    print("\n".join(lines))
    for name in options.only or SETTINGS:
        for n in threads:
            races.append(race(name, n, options.rounds, clock))
            lines.append(row(races[-1], sgemm))
            print(lines[-1], flush=True)
    about = machine.describe()
    where = machine.paragraph(
        f"Machine: {machine.in_words(about)}; NumPy's sgemm on 1 thread: {sgemm:.0f} GFLOP/s."
    )
    path = Path(__file__).parent / "results" / options.name
    path.with_suffix(".md").write_text("\n".join([BEFORE, where, "", *lines]) + "\n")
    record = dict(
        about, sgemm=sgemm, races=races, authors={k: s.authors_rate for k, s in SETTINGS.items()}
    )
    path.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
    print(f"written: bench/results/{options.name}.json, .md")
    wrong = [r["name"] for r in races if not r["errors"]["float64"] <= MAX_FLOAT64_ERROR]
    if wrong:
        raise SystemExit(
            f"{wrong}: the update differs from a baseline by more than {MAX_FLOAT64_ERROR}"
        )


BEFORE = """\
Training of deep resistive networks (2402.11674) on MNIST, batch 4, samples/s; `python -m
bench.bench_crossbar`, contenders in turns. Two PyTorch baselines of our own
(`bench/baselines/drn_torch.py`): `drops` computes the gradient as the paper writes it, from the voltage
drop of every conductance, as the authors' code does; `expanded` is tuned, the squares multiplied out into
matrix products. Ratios to each are medians of rounds at this thread count. Authors: their code's rate on
this kind of machine, 2 threads, measured beforehand. Errors: of one batch's update, relative to the largest
conductance; float32 (C / expanded / drops) against C in float64, and in float64 C against both baselines.
"""
HEADER = (
    "| net | threads | C | expanded | drops | authors | C / expanded | C / drops | s per epoch | of sgemm | "
    "float32 error | float64 error |"
)


def row(r, sgemm):
    """A line of the table."""
    e = " / ".join(f"{r['errors'][k]:.0e}" for k in ("c", "expanded", "drops"))
    rate = {k: f"{v:,.0f}" for k, v in r["rates"].items()}
    return (
        f"| {r['name']} | {r['threads']} | {rate['c']} | {rate['expanded']} | {rate['drops']} | "
        f"{SETTINGS[r['name']].authors_rate} | {r['ratio']['expanded']:.1f}x | {r['ratio']['drops']:.1f}x | "
        f"{60000 / r['rates']['c']:.1f} | {r['gflops'] / (r['threads'] * sgemm):.0%} | {e} | "
        f"{r['errors']['float64']:.0e} |"
    )


def sgemm_gflops(clock, n=1536, repeats=5):
    """NumPy's matrix product on one thread."""
    from threadpoolctl import threadpool_limits

    a, best = np.ones((n, n), np.float32), np.inf
    with threadpool_limits(1):
        for _ in range(repeats):
            start = clock()
            a @ a
            best = min(best, clock() - start)
    return 2 * n**3 / best / 1e9


if __name__ == "__main__":
    main()
