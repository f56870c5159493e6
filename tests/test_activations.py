"""Every activation of every backend, as that of hidden units, outputs and inputs, at ordinary and
at extreme values, against the NumPy twin.
"""

import numpy as np
import pytest
import scipy.sparse as sp
from eqprop_fast.kernels import LayeredSpec, TrainPlan, get_backend
from eqprop_fast.kernels.spec import ACTIVATIONS
from eqprop_fast.kernels.tolerances import tolerance

from .backend_list import BACKENDS

COMPILED = [name for name in BACKENDS if name != "numpy"]
SIZES = np.array([0, 1e-30, 1e-6, 0.25, 0.5, 1, 2, 3, 7.5, 8, 8.5, 15, 17, 30, 100, 1e3, 1e6, 1e30])
VALUES = np.concatenate([SIZES, -SIZES])
EDGES = np.array([-1, -0.5, 0, 0.5, 1, 2])


def close(got, want, dtype):
    """Within the tolerance of a state, relative where |want| > 1."""
    assert np.isfinite(want).all()
    error = np.abs(got - want) / np.maximum(1, np.abs(want))
    assert not (error > tolerance("state", dtype)).any(), (
        f"{want[error.argmax()]!r}: {got[error.argmax()]!r}"
    )


def relaxed(backend, spec, weights, x, states, n_steps=1):
    biases = [np.zeros(n, w.dtype) for n, w in zip(spec.sizes[1:], weights)]
    states = [s.copy() for s in states]
    get_backend(backend).layered_relax(spec, weights, None, biases, x, states, n_steps=n_steps)
    return states


@pytest.mark.parametrize("backend", COMPILED)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_rho(backend, dtype, name):
    """One step of the plain map: layer 1 becomes rho_in(x), then rho of it."""
    values = VALUES.astype(dtype)
    n = values.size
    weights = [np.eye(n, dtype=dtype), np.zeros((n, 1), dtype)]
    for role in ("activation", "out_activation", "input_activation"):
        for depth in (
            (1, 2) if role == "input_activation" else (2,) if role == "activation" else (1,)
        ):
            names = {"activation": "identity", "out_activation": "identity", role: name}
            spec = LayeredSpec((n, n, 1)[: depth + 1], **names)
            states = [np.zeros((3, m), dtype) for m in spec.sizes[1:]]
            x = np.stack([values, values[::-1], np.zeros(n, dtype)])
            for data in (x, sp.csr_matrix(x)):
                want = relaxed("numpy", spec, weights[:depth], data, states)[0]
                got = relaxed(backend, spec, weights[:depth], data, states)[0]
                for a, b in zip(got, want):
                    close(a, b, dtype)


@pytest.mark.parametrize("backend", COMPILED)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_rho_prime(backend, dtype, name):
    """One Euler step from ordinary and extreme states, and from the edges of the hard ones."""
    start = np.concatenate([VALUES, EDGES]).astype(dtype)
    n = start.size
    for role, depth in (("activation", 2), ("out_activation", 1)):
        for clamp in (False, True):
            spec = LayeredSpec(
                (n, n, 1)[: depth + 1],
                dynamics="continuous",
                dt=0.25,
                prime_output=True,
                clamp=clamp,
                **{"activation": "identity", "out_activation": "identity", role: name},
            )
            states = [np.tile(start, (2, 1)), np.zeros((2, 1), dtype)][:depth]
            weights = [np.eye(n, dtype=dtype), np.zeros((n, 1), dtype)][:depth]
            x = np.stack([np.ones(n, dtype), np.linspace(-1, 1, n).astype(dtype)])
            want = relaxed("numpy", spec, weights, x, states)[0]
            got = relaxed(backend, spec, weights, x, states)[0]
            for a, b in zip(got, want):
                close(a, b, dtype)


@pytest.mark.parametrize("backend", COMPILED)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("rule", ["ep", "continual"])
def test_input_activation_learns(backend, dtype, name, rule):
    """Forward and update see input_activation(x), of inputs of either sign, dense and CSR."""
    rng = np.random.default_rng(5)
    x = rng.uniform(-2, 2, (12, 9)) * (rng.uniform(size=(12, 9)) < 0.5)
    x, y = x.astype(dtype), rng.uniform(size=(12, 3)).astype(dtype)
    spec = LayeredSpec((9, 7, 3), input_activation=name)
    weights = [rng.uniform(-0.5, 0.5, s).astype(dtype) for s in ((9, 7), (7, 3))]
    plan = TrainPlan(4, 0.5, 6, 3, (0.2, 0.1), (0.1, 0.1), rule=rule)
    for data in (x, sp.csr_matrix(x)):
        results = []
        for kernels in (get_backend("numpy"), get_backend(backend)):
            w, b = [a.copy() for a in weights], [np.zeros(n, dtype) for n in (7, 3)]
            kernels.layered_train(spec, w, None, b, data, y, np.arange(12), plan)
            results.append(np.concatenate([a.ravel() for a in w + b]))
        assert np.abs(results[1] - results[0]).max() <= tolerance("trajectory", dtype)


@pytest.mark.parametrize("backend", COMPILED)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["shifted_sigmoid", "sigmoid", "tanh"])
@pytest.mark.parametrize("rule", ["ep", "continual"])
def test_large_inputs_train_as_the_twin(backend, dtype, name, rule):
    """Where sigmoids saturate nothing may be left of them: inputs of 1e6 would multiply it."""
    rng = np.random.default_rng(6)
    x, y = (
        (1e6 * rng.uniform(0.5, 1, (8, 5))).astype(dtype),
        np.eye(3, dtype=dtype)[rng.integers(0, 3, 8)],
    )
    spec = LayeredSpec((5, 7, 3), activation=name, out_activation="identity", cost="cross_entropy")
    weights = [-rng.uniform(0.1, 1, (5, 7)).astype(dtype), rng.uniform(-1, 1, (7, 3)).astype(dtype)]
    plan = TrainPlan(4, 0.5, 0, 4, (0.1, 0.1), (0.1, 0.1), rule=rule)
    results = []
    for kernels in (get_backend("numpy"), get_backend(backend)):
        w, b = [a.copy() for a in weights], [np.zeros(n, dtype) for n in (7, 3)]
        kernels.layered_train(spec, w, None, b, x, y, np.arange(8), plan)
        results.append(w + b)
    for a, b in zip(*results):
        assert np.abs(b - a).max() <= tolerance("trajectory", dtype) * max(1, np.abs(a).max())
