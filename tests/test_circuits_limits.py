"""Circuits at the limits of what a junction's exponential, a solver's patience or a cache can hold."""

import copy
import pickle
import time
import warnings

import numpy as np
import pytest

from eqprop_fast.circuits import (
    D1N4148,
    CircuitError,
    ElementError,
    Netlist,
    operating_point,
    parse_spice,
    solver,
)
from eqprop_fast.circuits.plots import plot_circuit

from .backend_list import BACKENDS
from .random_circuits import hard_netlist
from .test_circuits_operating_point import backends

COMPILED = [name for name in BACKENDS if name != "numpy"]


@backends
@pytest.mark.parametrize("volts", [0.5, 1.0, 5.0])
def test_a_diode_across_a_source(backend, volts):
    net = Netlist()
    net.voltage_source("v", "a", "0", volts)
    net.resistor("r", "a", "0", 1e3)
    net.diode("d", "a", "0", D1N4148)
    point = operating_point(net, backend=backend)
    assert point.success and point.branch_currents()["v"] == pytest.approx(
        -point.branch_currents()["d"] - volts / 1e3, rel=1e-12
    )


@backends
@pytest.mark.parametrize("volts", [15.6, 16, 30, 1e3, -1e3])
def test_a_junction_beyond_its_exponential_is_no_success(backend, volts):
    for more in ("", "r1 a b 1k\nd2 b 0 m\n"):
        net = parse_spice(f"* t\nv1 a 0 {volts}\nd1 a 0 m\n{more}.model m d(bv=900)\n")
        point = operating_point(net, backend=backend)
        assert not point.success and point.worst == ["the current of 'd1'"]
        with pytest.raises(CircuitError, match="the current of 'd1'"):
            point.raise_for_failure()


@backends
def test_attempts_end(backend):
    text = "* s\nv1 a 0 30k\nd1 a b dl\nd2 b 0 dl\nr1 b 0 1k\n.model dl d(is=1e-13 n=1.5)\n"
    start = time.process_time()
    point = operating_point(parse_spice(text), backend=backend, max_iter=20)
    assert not point.success and point.iterations <= 202 * 20 and time.process_time() - start < 60


@pytest.mark.parametrize("backend", COMPILED)
@pytest.mark.parametrize("seed", [5, 26, 113, 193])
def test_attempts_at_a_sample_are_compiled(backend, seed, monkeypatch):
    """What does not converge takes thousands of steps: 0.1 s of C, a second of NumPy."""
    spent, newton = [0], solver.reference.nodal_newton

    def counted(*args, **options):
        report = newton(*args, **options)
        spent[0] += int(report.iterations.sum())
        return report

    monkeypatch.setattr(solver.reference, "nodal_newton", counted)
    point = operating_point(parse_spice(hard_netlist(seed)), backend=backend)
    assert not point.success and spent[0] <= min(500, point.iterations / 3)


@pytest.mark.parametrize(
    "text", ["r2 b 0 1k", "d1 b 0 m\n.model m d", "e1 b 0 a 0 2", "d1 b 0 ideal"]
)
def test_netlists_and_points_can_be_pickled_and_copied(text):
    net = parse_spice(f"* t\nv1 a 0 2\nr1 a b 1k\n{text}\nr3 b 0 2k\n")
    net.mark_inputs(["v1"])
    point = operating_point(net, [[1.0], [2.0]])
    for made in (pickle.loads(pickle.dumps(net)), copy.deepcopy(net), copy.copy(net)):
        np.testing.assert_array_equal(
            operating_point(made, [[1.0], [2.0]]).voltages, point.voltages
        )
    for made in (pickle.loads(pickle.dumps(point)), copy.deepcopy(point), copy.copy(point)):
        np.testing.assert_array_equal(made.voltages, point.voltages)
        for name, current in point.branch_currents().items():
            np.testing.assert_array_equal(made.branch_currents()[name], current)
        np.testing.assert_array_equal(made.power, point.power)
        np.testing.assert_array_equal(made.kcl_rounding, point.kcl_rounding)
        assert operating_point(net, [[1.0], [2.0]], start=made).success.all()


def test_pictures_of_a_point_whose_netlist_has_grown():
    import matplotlib

    matplotlib.use("Agg")
    net = parse_spice("* t\nv1 a 0 2\nr1 a b 1k\nr2 b 0 1k\n")
    point = operating_point(net)
    net.resistor("r3", "b", "c", 1e3)
    net.resistor("r4", "c", "0", 1e3)
    net.voltage_source("v2", "z", "0", 1.0)
    net.mark_inputs(["v2"])
    plot_circuit(point)


def test_wrong_arguments_are_named():
    net = parse_spice("* t\nv1 a 0 2\nr1 a b 1k\nr2 b 0 1k\n")
    net.mark_inputs(["v1"])
    single, batch = operating_point(net), operating_point(net, [[1.0], [2.0]])
    for call in (
        lambda: single.difference(batch),
        lambda: operating_point(net, start=3),
        lambda: single.branch_currents(99),
        lambda: single.branch_currents("r"),
    ):
        with pytest.raises(ElementError):
            call()


@backends
@pytest.mark.parametrize(
    "cards", ["r2 b 0 1k", "d1 b 0 m\n.model m d", "d1 b 0 ideal", "r2 b 0 1e-29"]
)
def test_huge_sources_are_answered_or_refused_without_warnings(backend, cards):
    net = parse_spice(f"* t\nv1 a 0 1\nr1 a b 1k\n{cards}\n")
    net.mark_inputs(["v1"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for volts in (1e308, -1.7e308, 1e200, 1e101):
            with pytest.raises(ElementError, match="voltages of sources"):
                operating_point(net, [volts], backend=backend)
        for volts in (1e100, -1e100, 1e50):
            point = operating_point(net, [volts], backend=backend)
            if "m d" in cards:
                assert not point.success or volts < 0
            else:
                assert point.success
                assert np.isfinite([point.power, point.co_content, point.kcl_residual]).all()
