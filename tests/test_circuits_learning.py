"""The local rule is the gradient of the loss; XOR trains end to end, in ngspice too."""

import numpy as np
import pytest

from eqprop_fast.circuits import (
    CircuitError,
    DiodeModel,
    ElementError,
    Netlist,
    ReciprocityError,
    operating_point,
)
from eqprop_fast.circuits.builders import complementary, layered_netlist
from eqprop_fast.circuits.elements import RESISTOR
from eqprop_fast.circuits.learning import (
    LOSSES,
    NUDGES,
    CircuitTrainer,
    circuit_gradient,
    energy_scales,
    finite_difference_gradient,
)
from eqprop_fast.circuits.ngspice import ngspice_available, run_ngspice

from .backend_list import BACKENDS


def small_net(gain=4.0, **options):
    options = {
        "bias": 1.0,
        "output_pairs": True,
        "random_state": 0,
        "low": 0.2,
        "high": -0.2,
        "g_init": (1e-4, 1e-3),
        "gain": gain,
    } | options
    return layered_netlist([2, 4, 3, 2], **options)


def data(loss, n_out=2, m=5):
    rng = np.random.default_rng(1)
    x = complementary(rng.normal(size=(m, 2)), 1.5)
    y = (
        rng.normal(size=(m, n_out))
        if loss == "squared"
        else np.eye(n_out)[rng.integers(0, n_out, m)]
    )
    return x, y


@pytest.mark.filterwarnings("ignore::eqprop_fast.circuits.NudgeWarning")
@pytest.mark.parametrize(
    "loss, nudge", [(loss, "current") for loss in LOSSES] + [("squared", "conductance")]
)
@pytest.mark.parametrize("gain", [4.0, 1.5, -2.0])
def test_gradient_is_that_of_the_loss_to_the_right_order(loss, nudge, gain):
    """Every layer, so the factor A^(-2 l) too: error O(beta) one-sided, O(beta^2) centered."""
    net = small_net(gain)
    x, y = data(loss)
    truth = finite_difference_gradient(net, x, y, loss=loss)

    def error(beta, centered):
        options = dict(beta=beta, centered=centered, loss=loss, nudge=nudge, backend="numpy")
        found = circuit_gradient(net, x, y, **options).gradient
        return np.linalg.norm(found - truth) / np.linalg.norm(truth)

    # minus a conductance must stay well below what the circuit has at an output, about 1 mS
    largest = 1.6e-3 if nudge == "current" else 2e-4
    one = [error(largest / k, False) for k in (4, 8, 16)]
    two = [error(largest / k, True) for k in (1, 2, 4)]
    # its O(beta^2) is (beta R)^2, R about 1 kOhm, where a current's comes from the diodes alone
    assert error(1e-6 if nudge == "current" else 1e-7, True) < 1e-7
    assert 0.8 < np.log2(one[1] / one[2]) < 1.2
    assert 1.7 < np.log2(two[1] / two[2]) < 2.3


def odd_circuit():
    """Not layered: a bridge with a loop, a current input, an output between two inner nodes."""
    net = Netlist()
    net.current_source("i1", "0", "a", 1e-3)
    net.voltage_source("v1", "s", "0", 1.0)
    rng = np.random.default_rng(0)
    for k, (a, b) in enumerate(("ab", "bc", "ca", "cd", "da", "s" + "b", "d0", "a0")):
        net.conductance(f"g{k}", a, b, float(rng.uniform(1e-4, 2e-3)))
    net.diode("d1", "a", "c", DiodeModel("lossy", RS=5.0))
    net.diode("d2", "d", "b", DiodeModel("m"))
    net.mark_inputs(["i1", "v1"])
    net.mark_outputs([("b", "d"), "c"])
    return net, [[1e-3, 1.0], [2e-3, -0.5], [-1e-3, 0.3]], [[0.1, 0.2], [0.0, -0.1], [0.2, 0.0]]


@pytest.mark.parametrize("nudge", NUDGES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_every_conductance_of_an_odd_circuit(nudge, backend):
    net, x, y = odd_circuit()
    truth = finite_difference_gradient(net, x, y)
    found = circuit_gradient(net, x, y, beta=1e-7, nudge=nudge, backend=backend).gradient
    np.testing.assert_allclose(found, truth, rtol=1e-6, atol=1e-8 * np.abs(truth).max())


@pytest.mark.parametrize("make", [odd_circuit, lambda: (small_net(), *data("squared"))])
def test_both_nudges_have_the_same_limit(make):
    """Their one-sided difference falls as beta: only the conductance's current follows the output."""
    net, x, y = make()

    def gap(beta):
        a, b = (
            circuit_gradient(net, x, y, beta=beta, centered=False, nudge=nudge).gradient
            for nudge in NUDGES
        )
        return np.linalg.norm(a - b) / np.linalg.norm(a)

    gaps = [gap(b) for b in (4e-5, 2e-5, 1e-5)]
    assert gaps[0] > 1e-4 and gap(1e-8) < 1e-4
    assert 0.8 < np.log2(gaps[1] / gaps[2]) < 1.2


@pytest.mark.filterwarnings("ignore::eqprop_fast.circuits.NudgeWarning")
def test_the_conductance_nudge_is_a_conductance_to_a_source_at_the_target():
    """Against the same circuit written out with that conductance and source, at a large beta."""
    (net, x, y), beta = odd_circuit(), 3e-4
    drops = []
    for b in (None, beta):
        squares = 0.0
        for row, (first, second) in zip(x, y, strict=True):
            whole, _, _ = odd_circuit()
            if b:
                whole.voltage_source("t0", "t0", "d", first)
                whole.conductance("b0", "b", "t0", b, trainable=False)
                whole.voltage_source("t1", "t1", "0", second)
                whole.conductance("b1", "c", "t1", b, trainable=False)
            ends = np.array(net.nodes[RESISTOR])
            v = operating_point(whole, row).raise_for_failure().voltages
            squares = squares + (v[ends[:, 0]] - v[ends[:, 1]]) ** 2
        drops.append(squares)
    expected = (drops[1] - drops[0]) / (2 * beta * len(x))
    options = dict(beta=beta, centered=False, nudge="conductance")
    found = circuit_gradient(net, x, y, **options).gradient
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9 * np.abs(expected).max())
    net.set_conductances(2 * net.conductances)  # the kept copy follows the netlist's values
    assert np.abs(circuit_gradient(net, x, y, **options).gradient / found - 1).max() > 0.1


@pytest.mark.filterwarnings("ignore::eqprop_fast.circuits.NudgeWarning")
def test_a_negative_conductance_beyond_the_circuits_own_is_an_error():
    net = Netlist()
    net.voltage_source("v", "s", "0", 1.0)
    net.conductance("g1", "s", "a", 1e-3)
    net.conductance("g2", "a", "0", 1e-3)
    net.mark_inputs(["v"])
    net.mark_outputs(["a"])
    circuit_gradient(net, [[1.0]], [[0.2]], beta=1.9e-3, nudge="conductance")
    for beta in (2.1e-3, 3e-3, 9e-3):
        with pytest.raises(CircuitError, match="smaller beta"):
            circuit_gradient(net, [[1.0]], [[0.2]], beta=beta, nudge="conductance")


@pytest.mark.parametrize("nudge", NUDGES)
def test_ideal_diodes_learn_too(nudge):
    net = small_net(diode="ideal", low=-0.3, high=0.3)
    x, y = data("squared")
    truth = finite_difference_gradient(net, x, y, step=1e-6)
    found = circuit_gradient(net, x, y, beta=1e-9, nudge=nudge).gradient
    assert np.linalg.norm(found - truth) < 1e-5 * np.linalg.norm(truth)


def test_energy_scales():
    net = small_net(gain=4.0)
    scales = energy_scales(net)
    for name, want in (
        ("h1_0", 1.0),
        ("s1_0", 1 / 16),
        ("h2_0", 1 / 16),
        ("s2_1", 1 / 256),
        ("y0p", 1 / 256),
        ("x0p", 0.0),
    ):
        assert scales[net.find_node(name)] == pytest.approx(want)


def test_circuits_without_an_energy_are_refused():
    net = small_net()
    net.vccs("g1", "h1_0", "0", "h1_1", "0", 1e-4)
    x, y = data("squared")
    with pytest.raises(ReciprocityError, match="g1"):
        circuit_gradient(net, x, y)
    circuit_gradient(net, x, y, check=False)
    loop = Netlist()
    loop.voltage_source("v", "s", "0", 1.0)
    loop.conductance("g", "s", "a", 1e-3)
    loop.amplifier("a1", "a", "b", 0.5)
    loop.resistor("r1", "b", "a", 1e3)
    loop.mark_inputs(["v"])
    loop.mark_outputs(["b"])
    with pytest.raises(ReciprocityError, match="loop"):
        circuit_gradient(loop, [[1.0]], [[0.0]])


def test_bad_arguments():
    net = small_net()
    x, y = data("squared")
    for beta in (0.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="beta"):
            circuit_gradient(net, x, y, beta=beta)
    with pytest.raises(ElementError, match="targets"):
        circuit_gradient(net, x, y[:, :1])
    with pytest.raises(ValueError, match="loss"):
        circuit_gradient(net, x, y, loss="hinge")
    # a flat y would do with batches of one sample, and with no others
    for wrong in ((x, y[:-1]), (x[0], y), (x, y[:, 0]), (x[0], y[0])):
        for size in (1, None):
            with pytest.raises(ElementError, match="a row for each sample"):
                CircuitTrainer(net, learning_rate=1e-6).fit(*wrong, epochs=1, batch_size=size)
    for bad in ({"nudge": "voltage"}, {"nudge": "conductance", "loss": "cross_entropy"}):
        with pytest.raises(ValueError, match="nudge"):
            circuit_gradient(net, x, y, **bad)
        with pytest.raises(ValueError, match="nudge"):
            CircuitTrainer(net, learning_rate=1.0, **bad)
    for bad in (
        {"learning_rate": 0.0},
        {"learning_rate": 1.0, "momentum": 1.0},
        {"learning_rate": 1.0, "loss": "x"},
    ):
        with pytest.raises(ValueError):
            CircuitTrainer(net, **bad)


XOR_X = np.array([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])
XOR_Y = np.array([[-0.3], [0.3], [0.3], [-0.3]])


def trained_xor(**options):
    net = layered_netlist(
        [2, 4, 1],
        bias=1.0,
        output_pairs=True,
        random_state=0,
        low=0.3,
        high=-0.3,
        g_init=(1e-4, 1e-3),
        g_min=1e-6,
        g_max=1e-2,
    )
    trainer = CircuitTrainer(net, learning_rate=1e-5, beta=1e-5, momentum=0.9, **options)
    trainer.fit(complementary(XOR_X), XOR_Y, epochs=120, random_state=0)
    return net, trainer


@pytest.mark.parametrize("nudge", NUDGES)
def test_xor_trains_end_to_end(nudge):
    net, trainer = trained_xor(nudge=nudge)
    outputs = operating_point(net, complementary(XOR_X)).outputs
    assert trainer.losses[-1] < 1e-3 * trainer.losses[0]
    np.testing.assert_allclose(outputs, XOR_Y, atol=0.03)
    g = net.conductances
    assert (g >= net.bounds[0]).all() and (g <= net.bounds[1]).all()
    again, _ = trained_xor(nudge=nudge)
    np.testing.assert_array_equal(again.conductances, g)


@pytest.mark.needs_ngspice
@pytest.mark.skipif(not ngspice_available(), reason="the program ngspice is not installed")
def test_ngspice_confirms_xor():
    net, _ = trained_xor()
    ((plus, minus),) = net.outputs
    for x, y in zip(complementary(XOR_X), XOR_Y, strict=True):
        peer = run_ngspice(net, x)
        point = operating_point(net, x)
        assert (np.abs(point.voltages - peer) <= 1e-6 * np.abs(peer) + 1e-9).all()
        assert abs(peer[plus] - peer[minus] - y[0]) < 0.03
