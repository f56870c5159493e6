"""Against the ngspice program as a peer (opt-in: needs `ngspice` on the path)."""

import numpy as np
import pytest

from eqprop_fast.circuits import DiodeModel, Netlist, operating_point, parse_spice, to_spice
from eqprop_fast.circuits.ngspice import NgspiceError, ngspice_available, run_ngspice

from .random_circuits import paper_net, random_circuit

pytestmark = [
    pytest.mark.needs_ngspice,
    pytest.mark.skipif(not ngspice_available(), reason="the program ngspice is not installed"),
]


def compare(net, inputs=None):
    """Worst error in units of the tolerance (1e-6 relative, 1e-9 V), or None where ngspice finds no
    point.
    """
    point = operating_point(net, inputs)
    try:
        peer = run_ngspice(net, inputs)
    except NgspiceError:
        return None
    assert point.success, point.worst
    assert point.kcl_residual < 1e-10 * point.largest_current
    return (np.abs(point.voltages - peer) / (1e-6 * np.abs(peer) + 1e-9)).max()


@pytest.mark.parametrize("temperature", [-20.0, 27.0, 85.0])
@pytest.mark.parametrize(
    "model",
    [
        DiodeModel("a"),
        DiodeModel("b", IS=1e-9, N=1.9, RS=0.6),
        DiodeModel("c", TNOM=50.0, EG=1.05, XTI=2.5, RS=3.0),
        DiodeModel("z", BV=3.3, IBV=1e-3, RS=1.0),
        DiodeModel("y", BV=5.0, IBV=1e-12, N=1.3),
    ],
)
def test_diode_equation(model, temperature):
    net = Netlist(temperature=temperature, gmin=1e-11)
    for k, volts in enumerate((-20.0, -4.0, -0.3, -0.02, 0.4, 1.0, 30.0)):
        net.voltage_source(f"v{k}", f"a{k}", "0", volts)
        net.resistor(f"r{k}", f"a{k}", f"b{k}", 1e3)
        net.diode(f"d{k}", f"b{k}", "0", model, area=1.0 + (k % 2))
    assert compare(net) <= 1


@pytest.mark.parametrize("text", ["1e-40", "1e-28", "2e-28"])
def test_tiny_saturation_currents(text):
    """ngspice raises IS to 1e-28 A, before it multiplies by the area."""
    net = parse_spice(f"t\ni1 0 a 1m\nd1 a 0 dm area=1e-5\n.model dm d(is={text})\n")
    assert compare(net) <= 1
    assert DiodeModel("m", IS=float(text)).parameters(1.0, 27.0, 27.0, 0.0)[0] == max(
        float(text), 1e-28
    )


@pytest.mark.parametrize("seed,n", [(0, 5), (1, 20), (2, 60), (3, 150), (4, 300)])
def test_random_circuits(seed, n):
    assert compare(random_circuit(seed, n)) <= 1


def test_what_ngspice_runs_we_read_back():
    net = random_circuit(8, 30)
    again = parse_spice(to_spice(net))
    peer = run_ngspice(net)
    point = operating_point(again)
    for k, name in enumerate(net.node_names):
        assert point.voltage(name) == pytest.approx(peer[k], rel=1e-6, abs=1e-9)


def test_small_paper_net():
    net = paper_net(n_in=10, hidden=8, n_out=3)
    x = np.random.default_rng(0).normal(size=10)
    assert compare(net, np.concatenate([x, -x]) * 3) <= 1


@pytest.mark.slow
def test_two_hundred_random_netlists():
    sizes = np.geomspace(5, 2000, 200).astype(int)
    errors = [compare(random_circuit(seed, int(n))) for seed, n in enumerate(sizes)]
    found = [e for e in errors if e is not None]
    print(f"{len(found)} of 200 compared, worst {max(found):.2e} of the tolerance")
    assert len(found) >= 190 and max(found) <= 1
