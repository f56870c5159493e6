"""Figures: they draw what they say, and matplotlib is loaded only then."""

import subprocess
import sys

import numpy as np
import pytest

from eqprop_fast.circuits import ElementError, operating_point
from eqprop_fast.circuits.builders import complementary, layered_netlist

plt = pytest.importorskip("matplotlib.pyplot", reason="matplotlib is not installed")


@pytest.fixture
def point():
    net = layered_netlist([3, 4, 2], random_state=0, g_init=(1e-4, 1e-3))
    return operating_point(net, complementary([[0.5, -1.0, 2.0], [1.0, 1.0, 1.0]]))


def test_circuit_picture(point):
    from eqprop_fast.circuits.plots import plot_circuit

    ax = plot_circuit(point, 1)
    dots = next(
        c
        for c in ax.collections
        if hasattr(c, "get_offsets") and len(c.get_offsets()) == point.netlist.n_nodes
    )
    np.testing.assert_allclose(dots.get_array(), point.voltages[1])
    assert "weaker branches" in plot_circuit(point, max_edges=5).get_title()
    plt.close("all")


def test_crossbar_picture(point):
    from eqprop_fast.circuits.plots import crossbar_currents, plot_crossbar

    net = point.netlist
    rows = [f"x{k}{s}" for k in range(3) for s in "pn"]
    columns = [f"h1_{k}" for k in range(4)]
    ax = plot_crossbar(point, rows, columns)
    current = np.asarray(ax.images[0].get_array())
    v = point.voltages[0]
    g = net.conductances[: current.size].reshape(current.shape)
    at = [[v[net.find_node(n)] for n in names] for names in (rows, columns)]
    np.testing.assert_allclose(current, g * np.subtract.outer(*at), rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(crossbar_currents(point, columns, rows), -current.T)
    with pytest.raises(ElementError, match="no resistor"):
        plot_crossbar(point, ["x0p"], ["x1p"])
    plt.close("all")


def test_matplotlib_and_numba_stay_out_until_needed():
    code = (
        "import sys, eqprop_fast.circuits, eqprop_fast.circuits.plots; "
        "print([m for m in ('matplotlib', 'numba') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
