"""The layered kernels one by one under pytest-benchmark: a free phase, and a training call, on each
backend.

Run by `python -m bench.run`, or alone: `pytest bench/bench_layered.py --benchmark-only`.
"""

from __future__ import annotations

import numpy as np
import pytest

from .contenders import BACKENDS, Block, Unavailable, blas_threads, kernel_records, make_contender
from .data import DatasetUnavailableError, training_batches
from .settings import BATCH_SIZE, LAYERED, initial_parameters, training_flop

N_BATCHES = 10
SETTINGS = ("P-1h", "P-2h", "EB-1h", "net1")


@pytest.fixture(scope="module")
def batches():
    try:
        return training_batches(N_BATCHES, BATCH_SIZE)
    except DatasetUnavailableError as reason:
        pytest.skip(str(reason))


@pytest.fixture(params=BACKENDS)
def kernels(request):
    from eqprop_fast.kernels import BackendUnavailableError, get_backend

    try:
        return get_backend(request.param)
    except BackendUnavailableError as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("name", SETTINGS)
def test_relax(benchmark, kernels, batches, name, n_threads):
    """`layered_relax`: one free phase of 200 samples from zero states."""
    setting = LAYERED[name]
    block = Block(setting, batches)
    spec, _ = kernel_records(setting)
    weights, biases = initial_parameters(setting)
    states = [np.zeros((len(block.x), n), np.float32) for n in setting.layers[1:]]

    def free_phase():
        for state in states:
            state[:] = 0
        kernels.layered_relax(
            spec,
            weights,
            None,
            biases,
            block.x,
            states,
            n_steps=setting.n_free_steps,
            n_threads=n_threads,
        )

    benchmark.extra_info.update(
        samples=len(block.x), steps=setting.n_free_steps, backend=kernels.name
    )
    with blas_threads(kernels.name, n_threads):
        benchmark(free_phase)
    assert all(np.isfinite(state).all() and state.any() for state in states)


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_train(benchmark, backend, batches, name, n_threads):
    """`layered_train`: ten mini-batches of free phase, nudged phase, update."""
    setting = LAYERED[name]
    try:
        contender = make_contender(backend, setting, Block(setting, batches), n_threads)
    except Unavailable as reason:
        pytest.skip(str(reason))
    samples = N_BATCHES * BATCH_SIZE
    benchmark.extra_info.update(
        samples=samples, flop=samples * training_flop(setting), backend=backend
    )
    benchmark(contender.train, 0, N_BATCHES)
    assert all(np.isfinite(p).all() for p in contender.weights + contender.biases)
