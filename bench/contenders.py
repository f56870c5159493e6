"""Everybody who runs in the whole-training-step comparison, behind one small face.

A contender owns its parameters and trains on consecutive mini-batches of one shared data block:
`train(first, count)` runs batches first .. first + count - 1 (modulo the block). Nothing else is
timed: data are laid out beforehand (for PyTorch and JAX, as ready-made tensors), and the first,
untimed call compiles what is to be compiled.
"""

from __future__ import annotations

import contextlib
import functools
import os
from dataclasses import replace

import numpy as np

from .settings import BATCH_SIZE, initial_back, initial_parameters

BACKENDS = ("c", "numba", "numpy")
# Asynchronous sweeps, stopping at `tol`: same fixed point, another path to it. Of the map, half as
# many sweeps as the paper has synchronous steps: a sweep is every other half of two, as
# tests/test_over_relaxation.py shows.
FAST_SUFFIX = "-async"
FAST_TOL = 1e-6  # at which the -async contenders stop
BASELINES = ("torch-published", "torch-hoisted", "jax")


class Unavailable(RuntimeError):
    """A contender cannot run here; the message says why."""


class Block:
    """A block of mini-batches, laid out once and shared by all contenders of a setting."""

    def __init__(self, setting, batches):
        self.batches = batches
        self.x = np.concatenate([x for x, _ in batches])
        self.y = np.concatenate([y for _, y in batches])
        self.signs = np.random.default_rng(1).choice([-1, 1], len(batches)).astype(np.int8)
        if not setting.random_sign:
            self.signs[:] = 1

    def __len__(self):
        return len(self.batches)

    def runs(self, first, count):
        """`count` batches from `first` on as (start, stop) ranges that do not wrap around."""
        first %= len(self)
        while count > 0:
            stop = min(first + count, len(self))
            yield first, stop
            first, count = 0, count - (stop - first)


class TorchContender:
    """A PyTorch baseline of `bench.baselines.layered_torch`."""

    exact = True

    def __init__(self, name, setting, block, n_threads, dtype=np.float32):
        try:
            import torch
        except ImportError as error:
            raise Unavailable(
                f"{name}: PyTorch is not installed (make bench installs it)"
            ) from error
        from .baselines.bptt_torch import TorchBPTT
        from .baselines.continual_torch import TorchContinual
        from .baselines.layered_torch import TorchLayered, persistent_states

        self.name, self.n_threads, self._torch, self.block = name, n_threads, torch, block
        self.weights, self.biases = initial_parameters(setting, dtype=dtype)
        if setting.kind == "continual":
            back = initial_back(setting, self.weights)
            self._net = TorchContinual(setting, self.weights, self.biases, back, name)
        elif setting.rule == "bptt":
            self._net = TorchBPTT(setting, self.weights, self.biases, name)
        else:
            self._net = TorchLayered(setting, self.weights, self.biases, name)
        self._ready = []
        for x, y in block.batches:
            states = persistent_states(setting, len(x), dtype) if setting.persistent else None
            self._ready.append(self._net.prepare(x.astype(dtype), y.astype(dtype), states))
        self._signs = block.signs.astype(float).tolist()

    def train(self, first, count):
        if self._torch.get_num_threads() != self.n_threads:
            self._torch.set_num_threads(self.n_threads)
        step, ready, signs = self._net.step, self._ready, self._signs
        for start, stop in self.block.runs(first, count):
            for i in range(start, stop):
                step(ready[i], signs[i])


class JaxContender:
    """The JAX baseline of `bench.baselines.layered_jax`, at the threads that XLA takes by itself."""

    exact = True

    def __init__(self, name, setting, block, n_threads, dtype=np.float32):
        try:
            from .baselines.layered_jax import JaxLayered
        except ImportError as error:
            raise Unavailable(f"{name}: JAX is not installed (make bench installs it)") from error
        cores = usable_cores()
        if n_threads != cores:
            raise Unavailable(f"{name}: XLA's pool has {cores} threads, whatever is asked")
        self.name, self.n_threads, self.block = name, n_threads, block
        weights, biases = initial_parameters(setting, dtype=dtype)
        x, y = (np.stack([pair[i] for pair in block.batches]).astype(dtype) for i in (0, 1))
        self._net = JaxLayered(
            setting, weights, biases, initial_back(setting, weights), x, y, block.signs
        )

    @property
    def weights(self):
        return [np.asarray(w) for w in self._net.parameters[0]]

    @property
    def biases(self):
        return [np.asarray(b) for b in self._net.parameters[1]]

    def train(self, first, count):
        for start, stop in self.block.runs(first, count):
            self._net.train(start, stop)


def usable_cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


class KernelContender:
    """One of our backends: a `layered_train` call over a range of batches."""

    def __init__(self, name, setting, block, n_threads, dtype=np.float32, tol=None):
        from eqprop_fast.kernels import BackendUnavailableError, get_backend

        backend = name.removesuffix(FAST_SUFFIX)
        self.exact = not name.endswith(FAST_SUFFIX)
        try:
            self._kernels = get_backend(backend)
        except BackendUnavailableError as error:
            raise Unavailable(f"{name}: {error}") from error
        self.name, self.n_threads, self.block = name, n_threads, block
        self.isa = self._kernels.isa
        self.weights, self.biases = initial_parameters(setting, dtype=dtype)
        self._back = initial_back(setting, self.weights)
        self._spec, self._plan = kernel_records(setting)
        if not self.exact:
            self._spec = replace(self._spec, schedule="asynchronous")
            part = 2 if setting.kind == "prototypical" else 1
            self._plan = replace(
                self._plan,
                tol_free=tol,
                tol_nudged=tol,
                n_free_steps=setting.n_free_steps // part,
                n_nudged_steps=setting.n_nudged_steps // part,
                over_relaxation=setting.over_relaxation,
            )
        self._x, self._y = block.x.astype(dtype), block.y.astype(dtype)
        self._particles = None
        if setting.persistent:
            self._particles = [np.zeros((len(self._x), n), dtype) for n in setting.layers[1:]]
        self._random_sign = setting.random_sign

    def train(self, first, count):
        with blas_threads(self._kernels.name, self.n_threads):
            self._train(first, count)

    def _train(self, first, count):
        for start, stop in self.block.runs(first, count):
            order = np.arange(start * BATCH_SIZE, stop * BATCH_SIZE, dtype=np.int64)
            plan = self._plan
            if self._random_sign:
                plan = replace(plan, sign=self.block.signs[start:stop])
            self._kernels.layered_train(
                self._spec,
                self.weights,
                self._back,
                self.biases,
                self._x,
                self._y,
                order,
                plan,
                particles=self._particles,
                n_threads=self.n_threads,
            )


def blas_threads(backend, n_threads):
    """A context for NumPy's products, which run in OpenBLAS and take every core unless told
    otherwise.
    """
    if backend != "numpy":
        return contextlib.nullcontext()
    return _openblas().limit(limits=n_threads)


@functools.cache
def _openblas():
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(internal_api="openblas")


def kernel_records(setting):
    """The `LayeredSpec` and `TrainPlan` that say the same as a bench setting."""
    from eqprop_fast.kernels import LayeredSpec, TrainPlan

    if setting.kind == "continual":
        return _continual_records(setting)
    energy = setting.kind == "energy"
    spec = LayeredSpec(
        sizes=setting.layers,
        dynamics="continuous" if energy else "discrete",
        activation=setting.activation,
        out_activation=setting.activation,
        input_activation=setting.activation if setting.input_through_rho else "identity",
        clamp=energy,
        cost_factor=2.0 * setting.cost_scale,
        dt=setting.dt,
    )
    plan = TrainPlan(
        batch_size=BATCH_SIZE,
        beta=setting.beta,
        n_free_steps=setting.n_free_steps,
        n_nudged_steps=setting.n_nudged_steps,
        rate=setting.learning_rates,
        bias_rate=setting.learning_rates,
        rule=setting.rule,
    )
    return spec, plan


def make_contender(name, setting, block, n_threads, dtype=np.float32, tol=FAST_TOL):
    """The contender called `name`; raises `Unavailable` with the reason where it cannot run."""
    if name == "jax":
        return JaxContender(name, setting, block, n_threads, dtype)
    if name in BASELINES:
        return TorchContender(name, setting, block, n_threads, dtype)
    return KernelContender(name, setting, block, n_threads, dtype, tol)


def _continual_records(setting):
    from eqprop_fast.kernels import LayeredSpec, TrainPlan

    bias_rate = setting.learning_rates
    if (
        setting.vector_field
    ):  # the authors' discrete class leaves the first hidden layer's bias alone
        bias_rate = (0.0, *bias_rate[1:])
    plan = TrainPlan(
        batch_size=BATCH_SIZE,
        beta=setting.beta,
        n_free_steps=setting.n_free_steps,
        n_nudged_steps=setting.n_nudged_steps,
        rate=setting.learning_rates,
        bias_rate=bias_rate,
        rule="continual_vector_field" if setting.vector_field else "continual",
    )
    return LayeredSpec(sizes=setting.layers), plan


def parameter_gap(contender, reference):
    """Largest |difference| of any weight or bias."""
    pairs = zip(
        contender.weights + contender.biases, reference.weights + reference.biases, strict=True
    )
    return float(max(np.abs(np.asarray(a, np.float64) - b).max() for a, b in pairs))
