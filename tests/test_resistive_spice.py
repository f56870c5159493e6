"""A fitted resistive network as a circuit: the general nodal solver and ngspice find the same
voltages.
"""

import copy
import shutil
import warnings

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import scale

from eqprop_fast import ResistiveClassifier

from .build import build

pytest.importorskip("eqprop_fast.circuits.netlist", reason="the circuits package is not here yet")

OPTIONS = [
    dict(),
    dict(circuit__diodes="none", circuit__output_pairs=True),
    dict(circuit__diodes="clipped", circuit__amplifier_gain=4.0, circuit__output_pairs=True),
    dict(hidden_layer_sizes=(8, 6), circuit__g_min=1e-4),
]


@pytest.fixture(params=OPTIONS, ids=str)
def fitted(request):
    X, y = load_iris(return_X_y=True)
    options = dict(hidden_layer_sizes=(8,), max_iter=5, random_state=0, dtype="float64")
    model = build(
        ResistiveClassifier,
        **{**options, **request.param},
        relaxation__tol=1e-14,
        relaxation__n_steps=5000,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(scale(X), y), scale(X)[[0, 60, 140]]


def test_general_solver_agrees(fitted):
    from eqprop_fast.circuits.operating_point import operating_point

    model, X = fitted
    rest = model.equilibrium(X)
    for m, x in enumerate(X):
        point = operating_point(model.to_netlist(x))
        for k, states in enumerate(rest.states, start=1):
            last = k == len(rest.states)
            for i, v in enumerate(states[m]):
                node = f"o{i}" if last else f"h{k}_{i}"
                np.testing.assert_allclose(point.voltage(node), v, rtol=0, atol=1e-9)


def test_a_node_that_little_is_joined_to_keeps_its_diode(fitted):
    """One device into it, none out of it: no part of the outputs, and a voltage all the same."""
    from eqprop_fast.circuits.operating_point import operating_point

    model, X = copy.deepcopy(fitted)
    model.coefs_[1][0] = 0
    model.coefs_[0][1:, 0] = 0
    model.coefs_[0][0, 0] = 0.1
    rest = model.equilibrium(X)
    for m, x in enumerate(X):
        found = operating_point(model.to_netlist(x)).voltage("h1_0")
        np.testing.assert_allclose(found, rest.states[0][m, 0], rtol=0, atol=1e-9)


@pytest.mark.needs_ngspice
@pytest.mark.skipif(shutil.which("ngspice") is None, reason="ngspice is not installed")
def test_ngspice_runs_the_file(fitted, tmp_path):
    """ngspice has no ideal diode: the steep exponential one that stands for it drops about a
    millivolt.
    """
    from eqprop_fast.circuits.ngspice import run_ngspice_text

    model, X = fitted
    rest = model.equilibrium(X)
    for m, x in enumerate(X):
        model.to_spice(tmp_path / "net.cir", x)
        volts = run_ngspice_text((tmp_path / "net.cir").read_text())
        found = [volts[f"o{i}"] for i in range(rest.states[-1].shape[1])]
        np.testing.assert_allclose(
            found,
            rest.states[-1][m],
            rtol=0,
            atol=5e-3 * model.get_params()["circuit__amplifier_gain"],
        )


def test_netlist_refuses_bad_input(fitted):
    model, _ = fitted
    with pytest.raises(ValueError, match="x must be 4 finite numbers"):
        model.to_netlist([1.0, 2.0])
