"""Nodal analysis against ngspice (same netlist, same model cards) and against SciPy's splu (same
matrix, same run).

As tests: `pytest bench/bench_nodal.py` (pytest-benchmark). As a table of ratios, taken in turns:
`python -m bench.bench_nodal`. Both wall time and processor time are taken: on a shared machine only
the second is worth comparing.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from pathlib import Path

import numpy as np
import pytest
from eqprop_fast.kernels import Conductances, available_backends, get_backend
from eqprop_fast.kernels.reference.nodal_head import plan_head
from scipy import sparse
from scipy.sparse.linalg import splu

from eqprop_fast.circuits import Netlist, operating_point, parse_spice, to_spice
from eqprop_fast.circuits.builders import complementary, layered_netlist
from eqprop_fast.circuits.factor import SymmetricFactor
from eqprop_fast.circuits.learning import _square_difference
from eqprop_fast.circuits.ngspice import ngspice_available, run_ngspice_text
from eqprop_fast.circuits.operating_point import solver_of

from . import machine

INPUT_GAIN = 50.0  # volt per pixel: strong enough that many hidden diodes conduct
NGSPICE_SECONDS = 2.05  # one operating point of a 1568-100-10 net, measured by hand beforehand
NETWORK_NODES = 10_000


def paper_netlist():
    """1568-100-10 with exponential diodes and amplifiers, as in 2006.01981, and 256 input vectors
    like MNIST's.
    """
    net = layered_netlist([784, 100, 10], low=0.7, high=0.3, random_state=0)
    rng = np.random.default_rng(0)
    pixels = rng.random((256, 784)) * (rng.random((256, 784)) < 0.19)
    return net, complementary(pixels, INPUT_GAIN)


def random_network(n=NETWORK_NODES, seed=0):
    """A random connected resistor network as a netlist: a random tree, as many edges and a half
    again, 2 % grounded.
    """
    rng = np.random.default_rng(seed)
    net = Netlist("random linear network")
    net.voltage_source("v1", "s", "0", 1.0)
    net.resistor("rs", "s", "n0", 100.0)
    ohms = iter(10 ** rng.uniform(2, 4, 4 * n))
    for k in range(1, n):
        net.resistor(f"rt{k}", f"n{k}", f"n{rng.integers(k)}", float(next(ohms)))
    for k in range(3 * n // 2):
        a, b = rng.integers(0, n, 2)
        if a != b:
            net.resistor(f"rx{k}", f"n{a}", f"n{b}", float(next(ohms)))
    for k in range(0, n, 50):
        net.resistor(f"rg{k}", f"n{k}", "0", float(next(ohms)))
    return net


def clocks(function):
    """Wall and processor seconds (children's included) of one call."""
    t = os.times()
    start = time.perf_counter()
    function()
    wall = time.perf_counter() - start
    u = os.times()
    return wall, sum(u[k] - t[k] for k in range(4))


def turns(contenders, rounds):
    """Median (wall, processor) seconds of each contender, taken in turns A B C A B C; a pair is
    (function, repeats).
    """
    found = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, (function, repeats) in contenders.items():
            wall, cpu = clocks(lambda f=function, r=repeats: [f() for _ in range(r)])
            found[name].append((wall / repeats, cpu / repeats))
    return {
        name: tuple(statistics.median(c) for c in zip(*t, strict=True)) for name, t in found.items()
    }


def against_ngspice(rounds=3, backend="c"):
    """Seconds per operating point: ngspice, one of ours, one of ours from the SPICE text, one of a
    batch of 256.
    """
    net, x = paper_netlist()
    text = to_spice(net, x[0], end=False)
    operating_point(net, x[:1], backend=backend)

    contenders = {
        "ours, one": (lambda: operating_point(net, x[0], backend=backend), 20),
        "ours, one of 256": (lambda: operating_point(net, x, backend=backend), 3),
        "ours, from the text": (lambda: operating_point(parse_spice(text), backend=backend), 1),
    }
    if ngspice_available():
        contenders["ngspice"] = (
            lambda: run_ngspice_text(text, options="numdgt=10", timeout=3600),
            1,
        )
    found = turns(contenders, rounds)
    found["ours, one of 256"] = tuple(t / 256 for t in found["ours, one of 256"])
    return found


def against_splu(rounds=3, n=NETWORK_NODES):
    """Seconds to refactor and solve after all conductances changed: splu as it comes, at its best,
    and ours.
    """
    solver = solver_of(random_network(n))
    a = solver.a.tocsr()
    a.sort_indices()
    b = np.random.default_rng(0).normal(size=(1, a.shape[0]))
    csc, kernels, plan = a.tocsc(), get_backend(), plan_head(a)
    stored = a[plan.order][:, plan.order].tocsc()
    residual = np.abs(SymmetricFactor(plan, a.data, kernels).solve(b) @ a.T - b).max()
    symmetric = {"SymmetricMode": True}
    contenders = {
        "splu": (lambda: splu(csc).solve(b[0]), 1),
        "splu, minimum degree": (lambda: splu(csc, permc_spec="MMD_AT_PLUS_A").solve(b[0]), 1),
        "splu, stored order, symmetric mode": (
            lambda: splu(
                stored, permc_spec="NATURAL", diag_pivot_thresh=0.0, options=symmetric
            ).solve(b[0]),
            1,
        ),
        "ours": (lambda: SymmetricFactor(plan, a.data, kernels).solve(b), 1),
    }
    return turns(contenders, rounds), residual


def update_job(m=32):
    """A step of the conductances between 1568 rows and 100 columns, as `nodal_update` takes it: m
    samples.
    """
    rng = np.random.default_rng(0)
    rows, columns = 1568, 100
    pairs = np.stack(np.divmod(np.arange(rows * columns), columns), axis=1)
    pairs[:, 1] += rows
    d, t = np.zeros((rows + columns, m)), rng.normal(size=(rows + columns, m))
    d[rows:] = 1e-4 * rng.normal(size=(columns, m))  # sources do not move
    n = len(pairs)
    conductances = Conductances(
        pairs.astype(np.int32),
        np.ones(n),
        np.full(n, 1e-3),
        np.zeros(n),
        np.full(n, 1e-7),
        np.ones(n),
    )
    return dict(conductances=conductances, difference=d, total=t, gradient=np.zeros(n))


def product_update(job, learning_rate, momentum):
    """The same step by a rank-M matrix product in NumPy, pairs picked from it."""
    c, gradient = job["conductances"], job["gradient"]
    gradient[:] = c.scale * _square_difference(job["difference"].T, job["total"].T, c.pairs)
    assert np.isfinite(gradient).all()
    c.velocity[:] = momentum * c.velocity - learning_rate * gradient
    np.clip(c.conductance + c.velocity, c.low, c.high, out=c.conductance)


def updates(rounds=3, m=32):
    """Seconds of one update of 1568 x 100 conductances for m samples, by the product and by the
    kernels.
    """
    job, options = update_job(m), dict(learning_rate=1e-6, momentum=0.9)
    contenders = {"rank-M product": (lambda: product_update(job, **options), 20)}
    for name in available_backends():
        kernel = get_backend(name).nodal_update
        kernel(**job, **options)
        contenders[name] = (
            lambda kernel=kernel: kernel(**job, **options),
            20 if name != "numpy" else 3,
        )
    return turns(contenders, rounds)


def tables(rounds=3):
    """All tables as Markdown lines."""
    lines = []
    for title, found, mine in (
        (
            "1568-100-10 net, exponential diodes and amplifiers",
            against_ngspice(rounds),
            "ours, one",
        ),
        (
            f"{NETWORK_NODES}-node random linear network: refactor, solve",
            against_splu(rounds)[0],
            "ours",
        ),
        ("step of 1568 x 100 conductances, 32 samples", updates(rounds), available_backends()[0]),
    ):
        lines += [f"| {title} | wall, s | processor, s | / {mine} |", "|---|---|---|---|"]
        for name, (wall, cpu) in found.items():
            lines.append(
                f"| {name} | {wall:.6f} | {cpu:.6f} | {cpu / max(found[mine][1], 1e-9):.2f}x |"
            )
        lines.append("")
    return lines


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="python -m bench.bench_nodal", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--name", help="of a .md in bench/results to write as well (the record: nodal)"
    )
    options = parser.parse_args(arguments)
    lines = [
        *tables(options.rounds),
        machine.paragraph(
            "Ratios are of processor seconds. For orientation: ngspice takes "
            f"{NGSPICE_SECONDS} s for one operating point of a 1568-100-10 net."
        ),
    ]
    print("\n".join(lines))
    if options.name:
        head = [
            "Nodal analysis against ngspice and SciPy's splu, in turns; `python -m bench.bench_nodal`.",
            machine.paragraph(f"Machine: {machine.in_words(machine.describe())}."),
        ]
        path = Path(__file__).parent / "results" / f"{options.name}.md"
        path.write_text("\n\n".join(head) + "\n\n" + "\n".join(lines) + "\n")


# --- pytest-benchmark ---


@pytest.fixture(scope="module")
def paper():
    net, x = paper_netlist()
    operating_point(net, x[:1])
    return net, x


@pytest.mark.parametrize("count", [1, 8, 256])
@pytest.mark.parametrize("backend", ["c", "numba"])
def test_paper_net(benchmark, paper, backend, count):
    net, x = paper
    point = operating_point(net, x[:count], backend=backend)
    assert point.success.all()
    benchmark(lambda: operating_point(net, x[:count], backend=backend))


@pytest.mark.needs_ngspice
@pytest.mark.skipif(not ngspice_available(), reason="the program ngspice is not installed")
def test_paper_net_ngspice(benchmark, paper):
    net, x = paper
    text = to_spice(net, x[0], end=False)
    benchmark.pedantic(
        lambda: run_ngspice_text(text, options="numdgt=10", timeout=3600), rounds=1, iterations=1
    )


@pytest.fixture(scope="module")
def network():
    a = sparse.csr_matrix(solver_of(random_network()).a)
    a.sort_indices()
    return a, plan_head(a)


@pytest.mark.parametrize("who", ["splu-mmd", "ours"])
def test_random_network(benchmark, network, who):
    a, plan = network
    csc, b, kernels = a.tocsc(), np.ones((1, a.shape[0])), get_backend()
    if who == "ours":
        benchmark.pedantic(lambda: SymmetricFactor(plan, a.data, kernels).solve(b), rounds=3)
    else:
        benchmark.pedantic(lambda: splu(csc, permc_spec="MMD_AT_PLUS_A").solve(b[0]), rounds=3)


@pytest.mark.parametrize("m", [4, 32, 256])
@pytest.mark.parametrize("who", ["product", "c", "numba"])
def test_update(benchmark, who, m):
    job, options = update_job(m), dict(learning_rate=1e-6, momentum=0.9)
    if who == "product":
        benchmark(lambda: product_update(job, **options))
    else:
        kernel = get_backend(who).nodal_update
        kernel(**job, **options)
        benchmark(lambda: kernel(**job, **options))


if __name__ == "__main__":
    main()
