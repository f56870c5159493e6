"""beta="auto" gives the gradient of the loss at any conductances; a beta out of proportion warns."""

import warnings

import numpy as np
import pytest

from eqprop_fast.circuits import D1N4148, CircuitError, DiodeModel, Netlist, NudgeWarning, learning
from eqprop_fast.circuits.builders import complementary, layered_netlist
from eqprop_fast.circuits.learning import (
    CircuitTrainer,
    circuit_gradient,
    finite_difference_gradient,
)

from .backend_list import BACKENDS

SIEMENS = 10.0 ** np.arange(-8, -1)  # six decades
X = [[1.0, 1.5], [-0.8, 0.4], [2.0, -1.0]]
Y = [[0.3, -0.2], [0.1, 0.5], [-0.4, 0.2]]


def circuit(siemens, diode):
    """Two sources, a mesh of six nodes, two outputs of which one is a pair; diodes between them or
    none.
    """
    net, rng = Netlist(), np.random.default_rng(0)
    net.voltage_source("v1", "s", "0", 1.0)
    net.voltage_source("v2", "t", "0", 1.0)
    ends = (
        "sa",
        "tb",
        "ab",
        "bc",
        "ca",
        "cd",
        "da",
        "sd",
        "tc",
        "d0",
        "ae",
        "e0",
        "be",
        "fd",
        "fa",
    )
    for k, (a, b) in enumerate(ends):
        net.conductance(f"g{k}", a, b, siemens * float(rng.uniform(0.3, 3)))
    if diode is not None:
        for k, (a, b) in enumerate(("ac", "db", "e0", "0f")):
            net.diode(f"d{k}", a, b, diode)
    net.mark_inputs(["v1", "v2"])
    net.mark_outputs(["e", ("c", "d")])
    return net


def error(net, x, y, **options):
    truth = finite_difference_gradient(net, x, y, loss=options.get("loss", "squared"), step=1e-5)
    found = circuit_gradient(net, x, y, **options)
    return np.linalg.norm(found.gradient - truth) / np.linalg.norm(truth), found.beta


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("diode", [None, "ideal", D1N4148, DiodeModel("steep", IS=1e-14, RS=1.0)])
def test_auto_is_right_over_six_decades_of_conductance(backend, diode):
    """Whatever the scale: 1e-4 S beside 1e-8 S was the default, and 100 % wrong."""
    for siemens in SIEMENS if backend != "numpy" else SIEMENS[::3]:
        net = circuit(siemens, diode)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            wrong, beta = error(net, X, Y, backend=backend)
        assert wrong < 1e-4, (siemens, wrong)
        assert 1e-6 * siemens < beta < 1e-2 * siemens
    with pytest.warns(NudgeWarning, match="smaller"):
        circuit_gradient(circuit(1e-7, diode), X, Y, beta=1e-4, backend=backend)
    with pytest.warns(NudgeWarning, match="larger"):
        circuit_gradient(circuit(1e-2, diode), X, Y, beta=1e-14, backend=backend)


@pytest.mark.parametrize(
    "options", [{"centered": False}, {"nudge": "conductance"}, {"loss": "cross_entropy"}], ids=str
)
@pytest.mark.parametrize("diode", [None, D1N4148])
def test_auto_in_every_kind_of_nudge(options, diode):
    for siemens in SIEMENS[::2]:
        targets = np.eye(2)[[0, 1, 0]] if "loss" in options else Y
        assert error(circuit(siemens, diode), X, targets, **options)[0] < 2e-3


@pytest.mark.parametrize("nudge", ["current", "conductance"])
@pytest.mark.parametrize("diode", [None, "ideal", D1N4148, DiodeModel("steep", IS=1e-14, RS=1.0)])
def test_no_given_beta_is_wrong_without_a_word(diode, nudge):
    """From far too weak to far too strong, +-beta and one side, small targets and large ones."""
    silent = 0
    for siemens, size in ((1e-6, 1.0), (1e-4, 30.0), (1e-2, 1.0)):
        net, y = circuit(siemens, diode), size * np.array(Y)
        truth = finite_difference_gradient(net, X, y, step=1e-5, backend=BACKENDS[0])
        for share in 10.0 ** -np.arange(0.5, 14, 0.75):
            for centered in (True, False):
                options = dict(beta=share * siemens, centered=centered, nudge=nudge)
                with warnings.catch_warnings(record=True) as said:
                    warnings.simplefilter("always")
                    try:
                        found = circuit_gradient(net, X, y, backend=BACKENDS[0], **options)
                    except CircuitError:
                        continue  # beyond the circuit's own conductance
                wrong = np.linalg.norm(found.gradient - truth) / np.linalg.norm(truth)
                words = [str(w.message) for w in said]
                assert wrong < 0.015 or words, (siemens, size, options, wrong)
                silent += not words
                if words and "wrong by" in words[0]:
                    assert wrong > 0.003, (siemens, size, options, wrong, words)
                    told = float(words[0].split("about ")[1].split("%")[0]) / 100
                    assert 0.3 < told / wrong < 3, (options, wrong, words)
    assert silent > 60


def test_large_errors_do_not_push_junctions():
    """Targets of 100 V: a share of the error that is small beside it is not beside kT/q."""
    wrong, beta = error(circuit(1e-4, D1N4148), X, 100 * np.array(Y))
    assert wrong < 1e-3 and beta < 1e-8


@pytest.mark.parametrize("gain", [4.0, -1.5])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e2])
def test_auto_behind_amplifiers(gain, scale):
    net = layered_netlist(
        [2, 4, 3, 2],
        gain=gain,
        bias=1.0,
        low=0.2,
        high=-0.2,
        random_state=0,
        g_init=(1e-4 * scale, 1e-3 * scale),
        g_min=0.0,
    )
    x = complementary(np.random.default_rng(1).normal(size=(5, 2)), 1.5)
    y = np.random.default_rng(2).normal(size=(5, 2))
    assert error(net, x, y)[0] < 1e-3


def test_the_trainer_publishes_its_beta_and_follows_the_circuit():
    net = circuit(1e-6, None)
    trainer = CircuitTrainer(net, learning_rate=1e-14)
    assert not hasattr(trainer, "beta_")
    trainer.fit(X, Y, epochs=1)
    first = trainer.beta_
    assert np.log2(first) == int(np.log2(first)) and 1e-12 < first < 1e-8
    net.set_conductances(1e3 * net.conductances)
    assert trainer.step(X, Y).beta == trainer.beta_ == pytest.approx(1e3 * first, rel=0.6)
    assert CircuitTrainer(net, learning_rate=1e-9, beta=3e-7).step(X, Y).beta == 3e-7


def test_a_trainer_with_a_given_beta_measures_it_again_and_again():
    net = circuit(1e-4, None)
    trainer = CircuitTrainer(net, learning_rate=1e-14, beta=1e-5, centered=False)
    asked = []
    for _ in range(9):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            trainer.step(X, Y)
        asked.append(len(said))
    assert asked == [1, 1, 0, 1, 0, 0, 0, 1, 0]


def test_outputs_that_are_held_and_targets_that_are_met():
    net = circuit(1e-4, None)
    y = circuit_gradient(net, X, Y).outputs
    assert np.abs(circuit_gradient(net, X, y).gradient).max() < 1e-12  # no error: no nudge
    net.diode("hold", "e", "s")  # ideal, from the output into a source
    net.mark_outputs(["e"])
    held = circuit_gradient(net, [[-2.0, 1.0]], [[1.0]])
    assert np.abs(held.gradient).max() < 1e-6


def test_auto_tells_the_beta_that_nudged_however_the_search_ends(monkeypatch):
    net = circuit(1e-3, D1N4148)
    monkeypatch.setattr(learning, "MOST_TRIES", 2)
    monkeypatch.setattr(learning.nudging, "excess", lambda *_: 4.0)  # never gentle enough
    found = circuit_gradient(net, X, Y)
    again = circuit_gradient(net, X, Y, beta=found.beta)
    np.testing.assert_array_equal(found.gradient, again.gradient)
