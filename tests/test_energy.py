"""Energies by their written-out sums, where they are least, and which samples came to rest."""

import numpy as np
import pytest
import scipy.sparse as sp
from eqprop_fast.kernels import LayeredSpec, get_backend
from eqprop_fast.kernels.reference.activations import rho

from eqprop_fast.networks.energy import INVERSE_INTEGRAL, layered_energy
from eqprop_fast.networks.protocol import Equilibrium

SIZES = (5, 4, 3, 2)
INVERTIBLE = ("identity", "shifted_sigmoid", "tanh", "sigmoid")


def network(seed=0):
    rng = np.random.default_rng(seed)
    weights = [0.5 * rng.normal(size=s) for s in zip(SIZES, SIZES[1:])]
    biases = [0.3 * rng.normal(size=n) for n in SIZES[1:]]
    x = rng.normal(size=(6, SIZES[0])) * (rng.random((6, SIZES[0])) < 0.5)
    return weights, biases, x


@pytest.mark.parametrize("linear_output", [False, True])
@pytest.mark.parametrize("dynamics", ["discrete", "continuous"])
@pytest.mark.parametrize("input_activation", ["identity", "sigmoid", "shifted_sigmoid"])
def test_energy_is_its_sum(dynamics, input_activation, linear_output):
    """Term by term, of dense rows and of sparse ones, whose zeros show rho(0)."""
    continuous = dynamics == "continuous"
    spec = LayeredSpec(
        SIZES,
        activation="tanh",
        out_activation="sigmoid",
        input_activation=input_activation,
        dynamics=dynamics,
        linear_output=linear_output and continuous,
    )
    weights, biases, x = network()
    states = [np.random.default_rng(1).uniform(0.1, 0.9, (6, n)) for n in SIZES[1:]]
    shown = [rho(input_activation, x), *states]
    if continuous:
        out = states[2] if linear_output else rho("sigmoid", states[2])
        shown[1:] = rho("tanh", states[0]), rho("tanh", states[1]), out
    expected = np.zeros(6)
    for k, (w, b, s) in enumerate(zip(weights, biases, states)):
        own = s * s / 2 if continuous else INVERSE_INTEGRAL["sigmoid" if k == 2 else "tanh"](s)
        expected += own.sum(axis=1) - np.einsum("mi,ij,mj->m", shown[k], w, shown[k + 1])
        expected -= shown[k + 1] @ b
    for rows in (x, sp.csr_array(x)):
        found = layered_energy(spec, weights, biases, rows, states)
        np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("activation", INVERSE_INTEGRAL)
def test_the_inverse_integral_rises_by_the_inverse(activation):
    """dG/ds = z where s = rho(z), wherever rho rises: of every activation."""
    z, h = np.linspace(-6, 6, 481) + 0.003, 1e-5
    around = np.diff([rho(activation, z + side) for side in (-0.01, 0, 0.01)], axis=0)
    z = z[around.min(axis=0) > 5e-4]
    integral, s = INVERSE_INTEGRAL[activation], rho(activation, z)
    slope = (integral(s + h) - integral(s - h)) / (2 * h)
    assert len(z) > 30
    np.testing.assert_allclose(slope, z, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("activation", INVERTIBLE)
def test_energy_is_stationary_at_rest(activation):
    """The integral of the inverse activation is that: the equilibrium is where E does not change."""
    spec = LayeredSpec(SIZES, activation=activation, out_activation=activation)
    weights, biases, x = network(2)
    weights = [0.3 * w for w in weights]
    states = [np.full((6, n), 0.5) for n in SIZES[1:]]
    get_backend("numpy").layered_relax(spec, weights, None, biases, x, states, n_steps=400)
    h = 1e-5
    for layer in range(3):
        for j in range(SIZES[layer + 1]):
            ends = []
            for sign in (1, -1):
                moved = [s.copy() for s in states]
                moved[layer][:, j] += sign * h
                ends.append(layered_energy(spec, weights, biases, x, moved))
            np.testing.assert_allclose((ends[0] - ends[1]) / (2 * h), 0, atol=1e-7)


def test_who_came_to_rest():
    """Without a tolerance, beside the largest state of all layers, at least 1."""
    states = [np.array([[5.0, 0.0], [0.2, -0.1], [0.5, 0.5]]), np.array([[-100.0], [0.3], [0.9]])]
    residual = np.array([9e-3, 9e-5, 2e-4])
    report = Equilibrium(states, np.full(3, 7), residual, np.zeros(3))
    np.testing.assert_array_equal(report.success, [True, True, False])
    given = Equilibrium(states, np.full(3, 7), residual, np.zeros(3), tol=2e-4)
    np.testing.assert_array_equal(given.success, [False, True, True])
    exact = Equilibrium(states, np.full(3, 7), 0 * residual, np.zeros(3), tol=0.0)
    assert exact.success.all()
