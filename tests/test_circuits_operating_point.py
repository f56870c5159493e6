"""Operating points: circuits with known answers, and physics that must hold in every one."""

import numpy as np
import pytest
from eqprop_fast.kernels.reference.nodal import diode_current
from scipy.integrate import simpson
from scipy.optimize import brentq

from eqprop_fast.circuits import (
    D1N4148,
    CircuitError,
    DiodeModel,
    ElementError,
    Netlist,
    operating_point,
)
from eqprop_fast.circuits.elements import DIODE, ISOURCE, RESISTOR, VSOURCE
from eqprop_fast.circuits.operating_point import solver_of

from .backend_list import BACKENDS
from .random_circuits import random_circuit

backends = pytest.mark.parametrize("backend", BACKENDS)


@backends
def test_linear_sources(backend):
    """Every linear element, against the answer by hand."""
    net = Netlist()
    net.voltage_source("v1", "a", "0", 1.0)
    net.resistor("r1", "a", "b", 1e3)
    net.resistor("r2", "b", "0", 1e3)
    net.vcvs("e1", "e", "0", "b", "0", 3.0)
    net.resistor("r3", "e", "0", 1e3)
    net.vccs("g1", "0", "g", "b", "0", 1e-3)
    net.resistor("r4", "g", "0", 2e3)
    net.voltage_source("vs", "e", "f", 0.0)
    net.resistor("r5", "f", "0", 1.5e3)
    net.cccs("f1", "0", "h", "vs", 2.0)
    net.resistor("r6", "h", "0", 1e3)
    net.ccvs("h1", "k", "0", "vs", 500.0)
    net.resistor("r7", "k", "0", 1e3)
    net.current_source("i1", "0", "m", 1e-3)
    net.resistor("r8", "m", "0", 100.0)
    net.voltage_source("v2", "n", "a", 0.5)
    net.resistor("r9", "n", "0", 1e3)
    point = operating_point(net, backend=backend)
    want = {"a": 1, "b": 0.5, "e": 1.5, "g": 1.0, "f": 1.5, "h": 2.0, "k": 0.5, "m": 0.1, "n": 1.5}
    for node, volts in want.items():
        assert point.voltage(node) == pytest.approx(volts, abs=1e-13)
    current = point.branch_currents()
    assert current["vs"] == pytest.approx(1e-3)
    assert current["v2"] == pytest.approx(-1.5e-3)
    assert current["v1"] == pytest.approx(-0.5e-3 - 1.5e-3)
    assert current["e1"] == pytest.approx(-1.5e-3 - 1e-3)
    assert point.success and point.kcl_residual < 1e-15


@backends
def test_amplifier_draws_what_it_delivers(backend):
    net = Netlist()
    net.voltage_source("v1", "s", "0", 1.0)
    net.resistor("r1", "s", "in", 1e3)
    net.amplifier("a1", "in", "out", 4.0)
    net.resistor("r2", "out", "0", 1e3)
    point = operating_point(net, backend=backend)
    # out delivers 4 v / R, a quarter of it leaves `in`: v / R, so the input sees R to ground.
    assert point.voltage("in") == pytest.approx(0.5)
    assert point.voltage("out") == pytest.approx(2.0)


@backends
def test_source_feeds_an_amplifier_and_more(backend):
    """What an amplifier feeds back comes on top of what else leaves the source's node."""
    net = Netlist()
    net.voltage_source("v1", "s", "0", 1.0)
    net.resistor("r1", "s", "0", 1e3)
    net.amplifier("a1", "s", "out", 4.0)
    net.resistor("r2", "out", "0", 1e3)
    net.amplifier("a2", "s", "out2", 2.0, feedback=1.0)
    net.resistor("r3", "out2", "0", 1e3)
    current = operating_point(net, backend=backend).branch_currents()
    assert current["v1"] == pytest.approx(-(1e-3 + 1e-3 + 2e-3))


@backends
@pytest.mark.parametrize("model", [DiodeModel("m"), D1N4148, DiodeModel("z", RS=10, BV=2.0)])
@pytest.mark.parametrize("volts", [-5.0, -0.5, -0.05, 0.0, 0.3, 1.0, 50.0])
def test_diode_and_resistor(backend, model, volts):
    net = Netlist(temperature=40.0)
    net.voltage_source("v1", "a", "0", volts)
    net.resistor("r1", "a", "k", 1e3)
    net.diode("d1", "k", "0", model)
    point = operating_point(net, backend=backend)
    par = np.array(model.parameters(1.0, 40.0, 27.0, 1e-12))

    def excess(v_j):
        i = diode_current(par, np.array(v_j))[0]
        return v_j + i * (model.RS + 1e3) - volts

    v_j = brentq(excess, -60, 1.2, xtol=1e-15, rtol=1e-14)
    i = float(diode_current(par, np.array(v_j))[0])
    assert point.success
    assert point.branch_currents(DIODE)[0] == pytest.approx(i, rel=1e-9, abs=1e-18)
    assert point.voltage("k") == pytest.approx(v_j + model.RS * i, rel=1e-9, abs=1e-12)


@backends
def test_ideal_diodes_satisfy_complementarity(backend):
    for seed in range(8):
        net = random_circuit(seed, 40, ideal=True, controlled=0.0)
        point = operating_point(net, backend=backend)
        assert point.success, point.worst
        i, v = point.branch_currents(DIODE), point._drops(DIODE)[0]
        assert (i >= -1e-12).all() and (v <= 1e-11).all()
        np.testing.assert_allclose(i * v, 0, atol=1e-14)


def test_ideal_diodes_minimise_the_co_content():
    """The answer is the minimum of the convex QP: no feasible move lowers its objective."""
    net = random_circuit(4, 25, ideal=True, controlled=0.0)
    point = operating_point(net, backend="numpy")
    asm = point._assembly
    g, pairs = net.conductances, asm.pairs[RESISTOR]
    free = asm.unknown_nodes
    sources, ends = np.array(net.values[ISOURCE]), asm.pairs[ISOURCE]

    def objective(v):
        drop = v[pairs[:, 0]] - v[pairs[:, 1]]
        return 0.5 * (g * drop**2).sum() + (sources * (v[ends[:, 0]] - v[ends[:, 1]])).sum()

    rng, base = np.random.default_rng(0), objective(point.voltages)
    tried = 0
    for _ in range(3000):
        v = point.voltages.copy()
        v[rng.choice(free)] += rng.normal() * 10 ** rng.uniform(-6, 0)
        if (v[asm.diode_nodes[:, 0]] - v[asm.diode_nodes[:, 1]] <= 0).all():
            tried += 1
            assert objective(v) >= base - 1e-15
    assert tried > 100


@backends
@pytest.mark.parametrize("seed,n", [(0, 5), (1, 9), (2, 17), (3, 40), (4, 120), (5, 330)])
def test_random_circuits(backend, seed, n):
    net = random_circuit(seed, n)
    net.mark_inputs(["vs0"])
    point = operating_point(net, [[2.0], [-1.0], [0.0]], backend=backend)
    assert point.success.all(), point.worst
    assert (point.kcl_residual < 1e-10 * point.largest_current).all()
    assert (point.power > 0).all()
    twin = operating_point(net, [[2.0], [-1.0], [0.0]], backend="numpy")
    np.testing.assert_allclose(point.voltages, twin.voltages, rtol=1e-7, atol=1e-9)
    one = operating_point(net, [-1.0], backend=backend)
    np.testing.assert_allclose(one.voltages, point.voltages[1], rtol=1e-7, atol=1e-10)


def test_kirchhoff_from_the_branch_currents():
    """Sum of all branch currents at every node, tree sources included, from the reported currents
    alone.
    """
    net = random_circuit(7, 60)
    point = operating_point(net)
    total = np.zeros(net.n_nodes)
    for kind in range(8):
        current = point.branch_currents(kind)
        for i, nodes in zip(current, net.nodes[kind], strict=True):
            total[nodes[0]] += i
            total[nodes[1]] -= i
    for i, (node_in, node_out), feedback in zip(
        point.branch_currents(8), net.nodes[8], net.feedback, strict=True
    ):
        total[node_out] += i
        total[node_in] -= feedback * i
    np.testing.assert_allclose(total[1:], 0, atol=1e-10 * point.largest_current)


def test_power_balance_and_co_content():
    net = random_circuit(9, 30, controlled=0.0)
    point = operating_point(net)
    v = point.voltages
    given = 0.0
    for kind in (VSOURCE, ISOURCE):
        for i, (a, b) in zip(point.branch_currents(kind), net.nodes[kind], strict=True):
            given -= i * (v[a] - v[b])
    assert point.power == pytest.approx(given, rel=1e-9)
    # d(co-content)/dv at a node is the current leaving it through resistors and diodes: check one
    # diode by quadrature.
    net = Netlist()
    net.voltage_source("v1", "a", "0", 0.8)
    net.diode("d1", "a", "0", DiodeModel("m", RS=20.0, BV=3.0))
    for volts in (0.8, -0.5, -3.5):
        grid = np.linspace(0, volts, 4001)
        net.mark_inputs(["v1"])
        points = operating_point(net, grid[:, None])
        current = points.branch_currents(DIODE)[:, 0]
        want = simpson(current, x=grid)
        assert points.co_content[-1] == pytest.approx(want, rel=1e-4, abs=1e-15)


def test_scaling_all_conductances_leaves_voltages():
    net = random_circuit(3, 30, diodes=0.0, controlled=0.0)
    for k in range(len(net.values[ISOURCE])):
        net.values[ISOURCE][k] = 0.0
    before = operating_point(net).voltages
    net.set_conductances(net.conductances * 7)
    np.testing.assert_allclose(operating_point(net).voltages, before, rtol=1e-10, atol=1e-12)


@backends
def test_failure_names_the_worst_unknown(backend):
    point = operating_point(random_circuit(3, 40), backend=backend, max_iter=1)
    assert not point.success and point.worst[0].startswith("the voltage of node 'n")
    with pytest.raises(CircuitError, match="did not settle"):
        point.raise_for_failure()


def test_hard_start_is_rescued():
    """A diode stack behind gain that plain Newton may or may not like: the answer is right either
    way.
    """
    net = Netlist()
    net.voltage_source("v1", "a", "0", 100.0)
    net.resistor("r1", "a", "n0", 10.0)
    for k in range(12):
        net.diode(f"d{k}", f"n{k}", f"n{k + 1}", DiodeModel("m", N=1.0))
        net.diode(f"u{k}", f"n{k + 1}", f"n{k}", DiodeModel("m"))
    net.resistor("r2", "n12", "0", 1.0)
    point = operating_point(net)
    assert point.success and point.kcl_residual < 1e-10 * point.largest_current


def test_gmin_and_source_stepping_reach_the_same_point():
    from eqprop_fast.kernels.reference import nodal as reference

    from eqprop_fast.circuits.operating_point import solver_of

    net = random_circuit(11, 30)
    solver, want = solver_of(net), operating_point(net, backend="numpy")
    v, i = solver.assembly.sources(None, 1)
    rhs, _, offset, _ = solver.assembly.right_hand_side(solver.drive, v, i)
    if solver.inner is not None:
        inner = solver.inner_factor.solve(rhs[:, solver.inner])
        rhs = rhs[:, solver.retained] - inner @ solver.a_ri.T
    system = solver.system

    def run(parameters, scale, x, junction):
        changed = reference.NodalSystem(
            system.n,
            system.base,
            system.indptr,
            system.indices,
            system.anode,
            system.cathode,
            system.branch,
            system.stamp,
            parameters,
            system.lu,
        )
        x, junction = x.copy(), junction.copy()
        report = reference.nodal_newton(changed, rhs * scale, offset * scale, x, junction)
        return (x, junction) if report.status[0] == 0 else None

    zero, start = np.zeros((1, system.n)), reference.start_junctions(system, 1)
    for found in (
        solver._gmin_steps(system, run, zero, start)[0],
        solver._source_steps(system, run, zero, start * 0),
    ):
        assert found is not None
        np.testing.assert_allclose(found[0][0], want._x[0][solver.retained], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("hard", [0.0, 2e-5])
def test_gmin_steps_lead_from_ten_millisiemens_to_none(hard):
    """Each starts where the last one ended; one that fails is retried nearer by; then comes the
    circuit.
    """
    from eqprop_fast.kernels.reference import nodal as reference

    from eqprop_fast.circuits.operating_point import solver_of

    net = Netlist(gmin=1e-9)
    net.voltage_source("v1", "a", "0", 1.0)
    net.diode("d1", "a", "b")
    net.resistor("r1", "b", "0", 1e3)
    solver, levels, reached = solver_of(net), [], [None]

    def run(parameters, scale, *state):
        level = parameters[0, reference.P_GMIN]
        assert state == (reached[-1] or ("x", "junction")) and scale == 1.0
        levels.append(level)
        if reached[-1] and level < hard <= reached[-1][0] / 2:  # too far at once
            return None
        reached.append((level, len(levels)))
        return reached[-1]

    found, level, _ = solver._gmin_steps(solver.system, run, "x", "junction")
    assert found == reached[-1] and level == 1e-9
    assert levels[-1] == solver.system.parameters[0, reference.P_GMIN]
    steps = [state[0] for state in reached[1:]]
    assert steps[0] == 1e-2 and steps[-2] == 1e-9 and (np.diff(steps[:-1]) < 0).all()
    np.testing.assert_allclose(steps[1], 1e-3)
    assert (len(levels) > len(steps)) == bool(hard)


@backends
def test_large_linear_network(backend):
    """Above the size where the symmetric head and tail take over, for two sets of values of one
    topology.
    """
    net = random_circuit(5, 1300, diodes=0.0, controlled=0.0)
    for _ in range(2):
        point = operating_point(net, backend=backend)
        assert point.success and type(solver_of(net).factor).__name__ == "SymmetricFactor"
        assert point.kcl_residual < 1e-10 * point.largest_current
        net.set_conductances(net.conductances * np.linspace(0.5, 2.0, len(net.conductances)))
    net.vccs(
        "gneg", "n7", "0", "n7", "0", -1.0
    )  # symmetric, not positive definite: SuperLU takes over
    point = operating_point(net, backend=backend)
    assert point.success and type(solver_of(net).factor).__name__ == "Factor"


@backends
@pytest.mark.parametrize("diodes", [0.0, 0.5])
def test_empty_batch_and_one_row_for_all(backend, diodes):
    net = random_circuit(1, 12, diodes=diodes)
    net.mark_inputs(["vs0"])
    net.mark_outputs(["n3", "n4"])
    none = operating_point(net, np.zeros((0, 1)), backend=backend)
    assert (
        none.voltages.shape == (0, net.n_nodes)
        and none.outputs.shape == (0, 2)
        and none.power.shape == (0,)
    )
    many = operating_point(net, [1.0], nudge=np.zeros((3, 2)), backend=backend)
    assert many.voltages.shape == (3, net.n_nodes)
    np.testing.assert_allclose(
        many.voltages[0], many.voltages[2], rtol=0, atol=1e-12
    )  # one BLAS product
    start = operating_point(net, [[1.0], [1.0]], backend=backend)
    again = operating_point(net, [[1.0], [1.0]], start=start, backend=backend)
    np.testing.assert_allclose(again.voltages, start.voltages, rtol=1e-9, atol=1e-12)
    if diodes:
        with pytest.raises(ElementError, match="start"):
            operating_point(net, [1.0], start=start, backend=backend)


@backends
@pytest.mark.parametrize("volts", [5.0, -5.0, 1e-3])
def test_bridge_rectifier_of_ideal_diodes(backend, volts):
    """The load floats while all four diodes are open: found all the same."""
    net = Netlist()
    net.voltage_source("v1", "ac", "0", volts)
    net.resistor("r0", "ac", "a", 10.0)
    for k, (anode, cathode) in enumerate((("a", "p"), ("0", "p"), ("n", "a"), ("n", "0"))):
        net.diode(f"d{k}", anode, cathode)
    net.resistor("r1", "p", "n", 990.0)
    point = operating_point(net, backend=backend)
    assert point.success
    assert point.voltage("p", "n") == pytest.approx(0.99 * abs(volts), rel=1e-9)


@backends
def test_contradicting_ideal_diodes_fail(backend):
    """Both diodes must hold the node, at different voltages: no answer, and the result says so."""
    net = Netlist()
    net.voltage_source("v1", "low", "0", 1.0)
    net.resistor("r1", "a", "0", 1e3)
    net.diode("d1", "low", "a")
    net.diode("d2", "a", "0")
    point = operating_point(net, backend=backend)
    assert not point.success and point.worst[0]


def test_a_result_stays_what_it_was_when_the_netlist_changes():
    def make():
        net = random_circuit(3, 12, controlled=0.3)
        net.mark_inputs(["vs0"])
        net.mark_outputs(["n3"])
        return net, operating_point(net, [[1.0], [-2.0]])

    net, point = make()
    net.temperature, net.gmin = 80.0, 1e-6
    net.set_conductances(2 * net.conductances)
    operating_point(net, [[1.0], [-2.0]])
    net.resistor("late", "n3", "later", 10.0)
    net.resistor("latest", "later", "0", 10.0)
    net.mark_outputs(["n4", "n5"])
    operating_point(net, [[1.0], [-2.0]])
    _, same = make()
    np.testing.assert_array_equal(point.power, same.power)
    np.testing.assert_array_equal(point.co_content, same.co_content)
    np.testing.assert_array_equal(point.largest_current, same.largest_current)
    np.testing.assert_array_equal(point.outputs, same.outputs)
    current, want = point.branch_currents(), same.branch_currents()
    assert current.keys() == want.keys()
    for name in want:
        np.testing.assert_array_equal(current[name], want[name], err_msg=name)
    with pytest.raises(CircuitError, match="'later' came later"):
        point.voltage("later")


def test_co_content_does_not_overflow():
    net = Netlist()
    net.voltage_source("v1", "a", "0", -100.0)
    net.resistor("r1", "a", "b", 1e3)
    for k, volts in enumerate((5.0, 50.0)):
        net.diode(f"d{k}", "b", "0", DiodeModel(f"z{k}", BV=volts))
    with np.errstate(all="raise"):
        energy = operating_point(net).co_content
    assert energy == pytest.approx(0.5e-3 * 94.882**2 + 94.9e-3 * 0.02587, rel=1e-4)


@backends
def test_rounding_of_diodes_in_series(backend):
    """What one diode's rounding brings to the node between them the other's does not take away."""
    net = Netlist()
    net.voltage_source("v", "in", "0", 1.3)
    net.diode("d1", "in", "mid", D1N4148)
    net.diode("d2", "mid", "0", D1N4148)
    point = operating_point(net, backend=backend)
    assert point.largest_current > 1e-4
    # two diodes, each with at least two units in the last place of its current
    assert point.kcl_rounding >= 4 * np.finfo(float).eps * point.largest_current
