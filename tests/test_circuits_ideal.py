"""Ideal diodes as one complementarity problem: strings, bridges, loops, parallel and mixed."""

import itertools

import numpy as np
import pytest

from eqprop_fast.circuits import D1N4148, IDEAL, Netlist, operating_point
from eqprop_fast.circuits.complementarity import _lemke, _solved, lcp
from eqprop_fast.circuits.elements import DIODE
from eqprop_fast.circuits.solver import IDEAL_BUDGET

from .backend_list import BACKENDS
from .ideal_circuits import KINDS, all_answers, ideal_circuit

SEEDS = 85  # times six kinds
BY_HAND = 20


def complementary(net, point):
    """No reverse current, no forward voltage, never both; rounding is that of the largest voltage."""
    ideal = np.array([m == IDEAL for m in net.diode_models])
    i, v = point.branch_currents(DIODE)[ideal], point._drops(DIODE)[0][ideal]
    amperes, volts = (
        1e-12 * point.largest_current + 1e-18,
        2e-13 * np.abs(point.voltages).max() + 1e-12,
    )
    return (
        (i >= -amperes).all()
        and (v <= volts).all()
        and ((i <= amperes) | (np.abs(v) <= volts)).all()
    )


def tied(net):
    """Whether no part can float: at most one diode of a string that blocks is ideal."""
    return net.values[2][0] > 0 or net.diode_models.count(IDEAL) <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_random_circuits(kind):
    """Kirchhoff's law and complementarity, and what trying every set of conducting diodes finds."""
    solved = 0
    for seed in range(SEEDS):
        net = ideal_circuit(seed, kind)
        point = operating_point(net, backend=BACKENDS[0])
        solved += point.success
        if point.success:
            assert point.kcl_residual <= 1e-10 * point.largest_current + 1e-30, seed
            assert complementary(net, point), seed
        else:
            assert point.iterations <= 100 + IDEAL_BUDGET, seed
        if kind == "mixed":
            assert point.success or not tied(net), seed
        elif seed < BY_HAND and not net.wide and len(net.names[DIODE]) <= 7:
            found, free = all_answers(net)
            spread = max((np.abs(v - found[0]).max() for v in found), default=0.0)
            assert point.success == (bool(found) and not free), seed
            if point.success:
                top = np.abs(found[0]).max() + 1e-30
                assert (
                    spread <= 1e-7 * top and np.abs(point.voltages - found[0]).max() <= 1e-7 * top
                ), seed
    assert solved >= SEEDS / 3


def string(models, volts):
    net = Netlist()
    net.voltage_source("v", "s", "0", volts)
    net.resistor("r", "s", "n0", 1e3)
    for k, model in enumerate(models):
        net.diode(f"d{k}", f"n{k}", f"n{k + 1}" if k + 1 < len(models) else "0", model)
    return net


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("volts", [1e-6, 5.0, 100.0, 1000.0])
def test_strings(backend, volts):
    for n in range(2, 11):
        point = operating_point(string([IDEAL] * n, volts), backend=backend)
        assert point.success and point.branch_currents()["d0"] == pytest.approx(
            volts / 1e3, rel=1e-12
        )
        assert np.abs(point.voltages[2:]).max() <= 1e-13 * volts


@pytest.mark.parametrize("backend", BACKENDS)
def test_mixed_strings(backend):
    """An ideal diode in series changes nothing: the string of the others is the answer."""
    for models in itertools.product((IDEAL, D1N4148), repeat=4):
        alone = [m for m in models if m is not IDEAL]
        for volts in (5.0, 100.0) if alone else ():
            point = operating_point(string(models, volts), backend=backend)
            want = operating_point(string(alone, volts), backend=backend).branch_currents()["d0"]
            assert point.success and point.branch_currents()["d0"] == pytest.approx(want, rel=1e-9)
            # without a detour over easier circuits, of which each would be a problem of its own
            assert point.methods[0] in ("newton", "complementarity")


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_answer_is_found_to_be_none_at_once(backend):
    """A contradiction, a current that only a blocking diode could carry, and nodes that float."""
    for size in (2, 25):
        for fault in ("contradiction", "blocked", "floats"):
            net = Netlist()
            net.voltage_source("v", "s", "0", 5.0)
            for k in range(size):
                net.resistor(f"r{k}", "s" if k == 0 else f"n{k - 1}", f"n{k}", 1e3)
                net.diode(f"d{k}", f"n{k}", "0" if k % 2 else "s", IDEAL)
            if fault == "contradiction":
                net.diode("x", "s", "0", IDEAL)
            elif fault == "blocked":
                net.diode("x", "0", "b", IDEAL)
                net.current_source("i", "0", "b", 1e-3)
            else:
                net.diode("x", "n0", "b", IDEAL)
                net.diode("y", "b", "s", IDEAL)
                net.diode("z", "c", "b", IDEAL)
            point = operating_point(net, backend=backend)
            assert not point.success and point.worst[0]
            assert point.iterations <= 105, (size, fault)


def test_lemke_on_degenerate_problems():
    """Semidefinite, skew and zero matrices with many equal ratios: it ends, at an answer if there
    is one.
    """
    rng, answers = np.random.default_rng(0), 0
    for trial in range(300):
        n = int(rng.integers(1, 12))
        rank = int(rng.integers(0, n + 1))
        b = rng.integers(-2, 3, (n, rank)).astype(float)
        skew = np.triu(rng.integers(-1, 2, (n, n)), 1)
        m = b @ b.T + (skew - skew.T if trial % 2 else 0.0)
        z = rng.integers(0, 2, n) * rng.integers(0, 3, n)  # half of the problems have this answer
        w = np.where(z > 0, 0, rng.integers(0, 2, n))
        q = w - m @ z if trial % 4 < 2 else rng.integers(-2, 2, n).astype(float)
        found = lcp(m, q)
        if trial % 4 < 2:
            assert found is not None, trial
        if found is not None:
            z = found[0]
            w = m @ z + q
            assert (z >= 0).all() and (w >= -1e-9).all() and np.abs(z * w).max() <= 1e-8, trial
            answers += 1
    assert answers > 150
    assert _lemke(np.zeros((1, 1)), np.array([-1.0])) is None  # a ray


def test_a_solution_that_overflows_in_part_is_none():
    least = _solved(np.array([[2e-320, 1.0], [1e-320, 1.0]]), np.array([1.0, 2.0]))
    np.testing.assert_allclose(least, [0, 1.5], atol=1e-12)
