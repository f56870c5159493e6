"""Answers where float64 is barely enough, and circuits of ideal diodes that plain pivoting does not
solve.
"""

import math
import re

import numpy as np
import pytest

from eqprop_fast.circuits import (
    D1N4148,
    Netlist,
    SingularCircuitError,
    operating_point,
    parse_spice,
)
from eqprop_fast.circuits.complementarity import lcp
from eqprop_fast.circuits.elements import AMPLIFIER, DIODE, RESISTOR
from eqprop_fast.circuits.factor import TiedLaplaceFactor
from eqprop_fast.circuits.polish import two_product, two_sum

from .random_circuits import hard_netlist, random_circuit
from .test_circuits_operating_point import backends


def complementary(point):
    """Ideal diodes: no reverse current, no forward voltage, never both."""
    i, v = point.branch_currents(DIODE), point._drops(DIODE)[0]
    size = point.largest_current
    return (
        (i >= -1e-12 * size).all() and (v <= 1e-11).all() and (np.abs(i * v) <= 1e-12 * size).all()
    )


def imbalance(net, point, sample=None):
    """Largest sum of the branch currents that leave a node, ground too, and the largest current:
    from the reported currents alone, summed without rounding.
    """
    leaving, largest = [[] for _ in net.node_names], 0.0
    currents = point.branch_currents()
    for kind, names in enumerate(net.names):
        for k, name in enumerate(names):
            i = float(currents[name] if sample is None else currents[name][sample])
            largest, (a, b) = max(largest, abs(i)), net.nodes[kind][k][:2]
            if kind == AMPLIFIER:  # its supply is ground
                leaving[b].append(i)
                leaving[a].append(-net.feedback[k] * i)
                leaving[0] += [-i, net.feedback[k] * i]
            else:
                leaving[a].append(i)
                leaving[b].append(-i)
    return max(abs(math.fsum(terms)) for terms in leaving), largest


REDUNDANT = {
    "parallel": ("v1 a 0 1\nr1 a b 1k\nd1 b 0 ideal\nd2 b 0 ideal", {"b": 0.0}),
    "loop": (
        "v1 a 0 5\nr1 a b 1k\nd1 b c ideal\nd2 b d ideal\nd3 d c ideal\nr2 c 0 1k",
        {"c": 2.5, "d": 2.5},
    ),
    "antiparallel": (
        "v1 a 0 4\nr1 a b 1k\nd1 b c ideal\nd2 c b ideal\nr2 c 0 3k",
        {"b": 3.0, "c": 3.0},
    ),
    "around a source": (
        "v1 a 0 1\nr1 s a 1k\ni1 0 s 2m\nd1 s a ideal\nd2 s m ideal\nd3 m a ideal",
        {"m": 1.0},
    ),
    "with junctions": (
        "v1 a 0 5\nr1 a b 1k\nd1 b c ideal\nd2 b c ideal\nd3 c 0 dm\nr2 c 0 1k\n.model dm d(is=1e-14 rs=1)",
        {},
    ),
}


@backends
@pytest.mark.parametrize("which", REDUNDANT)
def test_redundant_ideal_diodes(backend, which):
    cards, want = REDUNDANT[which]
    point = operating_point(parse_spice(f"t\n{cards}\n"), backend=backend)
    assert point.success, point.worst
    for node, volts in want.items():
        assert point.voltage(node) == pytest.approx(volts, abs=1e-14)
    assert point.kcl_residual < 1e-10 * point.largest_current
    if which != "with junctions":
        assert complementary(point)
    else:
        same = parse_spice(
            "t\nv1 a 0 5\nr1 a c 1k\nd3 c 0 dm\nr2 c 0 1k\n.model dm d(is=1e-14 rs=1)\n"
        )
        want = operating_point(same, backend=backend).voltage("c")
        assert point.voltage("c") == pytest.approx(want, abs=1e-12)
        assert point.voltage("b", "c") == pytest.approx(0.0, abs=1e-14)


def ideal_network(seed, n):
    """Resistors over five decades, sources behind resistors, and up to as many ideal diodes as
    nodes.
    """
    r = np.random.default_rng(seed)
    net, nodes = Netlist("ideal"), ["0"] + [f"n{k}" for k in range(1, n)]
    for k in range(1, n):
        net.resistor(
            f"r{k}", nodes[k], nodes[r.integers(max(0, k - 20), k)], float(10 ** r.uniform(1, 5))
        )
    for k in range(n // 2):
        a, b = r.choice(n, 2, replace=False)
        net.resistor(f"x{k}", nodes[a], nodes[b], float(10 ** r.uniform(1, 5)))
    for k in range(max(1, n // 10)):
        net.voltage_source(f"v{k}", f"s{k}", "0", float(r.uniform(-5, 5)))
        net.resistor(f"rs{k}", f"s{k}", nodes[r.integers(1, n)], float(10 ** r.uniform(1, 4)))
    for k in range(int(n * r.choice([0.3, 0.6, 1.0]))):
        a, b = r.choice(n, 2, replace=False)
        net.diode(f"d{k}", nodes[a], nodes[b], "ideal")
    return net


@backends
def test_random_networks_of_ideal_diodes(backend):
    """Kirchhoff's law and complementarity hold: for such networks that is the one answer."""
    methods = set()
    for seed, n in enumerate(np.geomspace(4, 150, 40).astype(int)):
        point = operating_point(ideal_network(seed, int(n)), backend=backend)
        assert point.success, (seed, point.worst)
        assert point.kcl_residual <= 1e-10 * point.largest_current and complementary(point), seed
        methods.add(point.methods[0])
    assert "complementarity" in methods  # some need it


@backends
def test_nodes_that_float_fail(backend):
    """A node behind a diode that blocks, and one that a diode holds from one side only."""
    for volts in (-1.0, 1.0):
        net = parse_spice(f"t\nv1 a 0 {volts}\nr1 a b 1k\nr2 b 0 1k\nd1 b c ideal\n")
        assert not operating_point(net, backend=backend).success


def test_a_node_held_from_both_sides_does_not_float():
    net = parse_spice(
        "t\nv1 ac 0 0\nr0 ac a 10\nd1 a p ideal\nd2 0 p ideal\nd3 n a ideal\nd4 n 0 ideal\nr1 p n 1k\n"
    )
    point = operating_point(net)
    assert point.success and not point.voltages.any()


def test_lcp_against_its_conditions():
    rng = np.random.default_rng(0)
    for n in (1, 2, 5, 20, 60):
        b = rng.normal(size=(n, max(1, n // 2)))
        m, q = b @ b.T + 1e-6 * np.eye(n), rng.normal(size=n)
        z, _ = lcp(m, q, np.zeros(n, dtype=bool))
        w = m @ z + q
        assert (z >= 0).all() and (w >= -1e-9 * np.abs(z).max()).all()
        assert np.abs(z * w).max() <= 1e-9 * max(1.0, np.abs(z).max()) ** 2


# Newton settles, but conductances of 100 S and more drown the currents (the first six); Newton
# wanders within rounding (the next five); zero voltages and huge ones in one circuit (the last).
@backends
@pytest.mark.parametrize("seed", [111, 173, 254, 262, 396, 563, 337, 385, 525, 10887, 11204, 11043])
def test_points_at_the_edge_of_float64(backend, seed):
    net = parse_spice(hard_netlist(seed))
    point = operating_point(net, backend=backend)
    assert point.success, point.worst
    assert point.kcl_residual <= 1e-10 * point.largest_current
    twin = operating_point(net, backend="numpy")
    np.testing.assert_allclose(point.voltages, twin.voltages, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("seed", [206, 252, 10380])
def test_gain_is_tamed_by_shunts_at_all_nodes(seed):
    """High or positive gain: shunts across diodes and source stepping do not get there."""
    point = operating_point(parse_spice(hard_netlist(seed)), backend="numpy")
    assert point.success and point.methods == ["gmin stepping"]
    assert point.kcl_residual <= 1e-10 * point.largest_current


@backends
@pytest.mark.parametrize("seed", [71, 75, 10048])
def test_polish_brings_the_residual_below_the_limit(backend, seed):
    """Plain Newton stops at 1e-10 to 3e-10 of the largest current here, where rounding allows less."""
    point = operating_point(parse_spice(hard_netlist(seed)), backend=backend)
    assert point.success and point.kcl_residual <= 1e-10 * point.largest_current


@backends
def test_currents_balance_where_voltages_in_float64_cannot_show_it(backend):
    """Currents worked out from the rounded voltages miss the limit; the reported ones keep it."""
    texts = (
        "v1 a 0 5\nr1 a b 1k\nd1 b c dm\nd2 d c dm\nr2 d 0 1k\n.model dm d(is=1e-14 rs=1)",
        "v1 a 0 -5\nr1 a b 1k\nd1 b 0 dm\n.options gmin=0\n.model dm d(is=1e-14)",
        *("\n".join(hard_netlist(seed).split("\n")[1:]) for seed in (4, 313, 10628, 11306)),
    )
    for text in texts:
        net = parse_spice(f"t\n{text}\n")
        point = operating_point(net, backend=backend)
        assert point.success, point.worst
        off, largest = imbalance(net, point)
        assert off <= 1e-12 * largest and largest == point.largest_current
        assert point.kcl_residual <= 1e-12 * largest < 1e-10 * largest < point.kcl_rounding
        rounded = 0.0
        for g, (a, b), i in zip(
            net.values[RESISTOR], net.nodes[RESISTOR], point.branch_currents(RESISTOR), strict=True
        ):
            rounded = max(rounded, abs(g * (point.voltages[a] - point.voltages[b]) - i))
        assert 1e-10 * largest < rounded <= 2 * point.kcl_rounding
    easy = operating_point(parse_spice("t\nv1 a 0 5\nr1 a b 1k\nr2 b 0 1k\n"), backend=backend)
    assert easy.kcl_rounding < 1e-15 * easy.largest_current * 10


@backends
def test_difference_of_points_keeps_what_rounding_takes(backend):
    cards = "v1 a 0 5\nr1 a b 1k\nd1 b c dm\nd2 d c dm\nr2 d 0 1k\n.model dm d(is=1e-14 rs=1)"
    net = parse_spice(f"t\n{cards}\n")
    net.mark_inputs(["v1"])
    step = 5 * 2.0**-48
    first, second = (operating_point(net, [volts], backend=backend) for volts in (5 + step, 5.0))
    found = first.difference(second)[net.find_node("b")]
    assert found == pytest.approx(step, rel=1e-6)  # a picoampere per volt flows through the kilohm
    both, twice = (
        operating_point(net, x, backend=backend) for x in ([[5 + step], [5.0]], [[5.0], [5.0]])
    )
    # a BLAS may round a row otherwise beside another one
    np.testing.assert_allclose(
        both.difference(twice)[0], first.difference(second), rtol=0, atol=1e-6 * step
    )
    assert not both.difference(twice)[1].any()


# Of 2,100 hard netlists those whose currents, worked out from float64 voltages, miss the limit.
ROUNDED = (
    4,
    176,
    236,
    313,
    423,
    476,
    590,
    10042,
    10046,
    10238,
    10247,
    10277,
    10282,
    10320,
    10353,
    10493,
    10541,
    10553,
    10608,
    10628,
    10687,
    10722,
    10753,
    10772,
    10818,
    10861,
    10898,
    11072,
    11084,
    11169,
    11181,
    11306,
    11313,
    11321,
    11354,
    11356,
    11456,
    11476,
)


@backends
def test_reported_currents_balance(backend):
    for seed in ROUNDED:
        net = parse_spice(hard_netlist(seed))
        point = operating_point(net, backend=backend)
        assert point.success, (seed, point.worst)
        off, largest = imbalance(net, point)
        assert off <= 1e-10 * largest, seed
        assert abs(off - point.kcl_residual) <= 1e-11 * largest, seed


@backends
@pytest.mark.parametrize("wire", [1e-3, 0.1])
@pytest.mark.parametrize("device", [1e-11, 1e-9, 1e-6])
def test_crossbars_with_wires_balance(backend, wire, device):
    """Devices of many megaohms on milliohms: all of a wire's drop is below its voltage's last
    place.
    """
    rng, n, net = np.random.default_rng(0), 5, Netlist("wired")
    for i in range(n):
        net.voltage_source(f"v{i}", f"r{i}_0", "0", float(rng.uniform(-2, 2)))
        for j in range(n):
            net.resistor(f"wr{i}_{j}", f"r{i}_{j}", f"r{i}_{j + 1}", wire)
            net.conductance(
                f"g{i}_{j}", f"r{i}_{j + 1}", f"c{i}_{j}", device * float(10 ** rng.uniform(0, 2))
            )
            net.resistor(f"wc{i}_{j}", f"c{i}_{j}", f"c{i + 1}_{j}", wire)
    for j in range(n):
        net.diode(f"d{j}", f"c{n}_{j}", "0", D1N4148)
        net.diode(f"e{j}", "0", f"c{n}_{j}", D1N4148)
    net.mark_inputs([f"v{i}" for i in range(n)])
    x = rng.uniform(-2, 2, (3, n)) * np.array([[1.0], [0.0], [1e-6]])
    points = operating_point(net, x, backend=backend)
    assert points.success.all(), points.worst
    for s in range(3):
        off, largest = imbalance(net, points, s)
        assert off <= max(1e-10 * largest, 1e-30)
        one = operating_point(net, x[s], backend=backend)
        np.testing.assert_allclose(one.voltages, points.voltages[s], rtol=1e-9, atol=1e-12)
    again = operating_point(net, x, start=points, backend=backend)
    assert (
        again.success.all()
        and (again.kcl_residual <= np.maximum(1e-10 * again.largest_current, 1e-30)).all()
    )


@backends
def test_currents_balance_when_almost_nothing_flows(backend):
    """All sources at a billionth of their values, and at nothing: exp - 1 must not cost its digits."""
    for seed in range(12):
        for factor in ("1e-9", "0"):
            text = re.sub(r"(?m)^((?:vm|i1).*) (\S+)$", rf"\1 {{\2*{factor}}}", hard_netlist(seed))
            net = parse_spice(text)
            point = operating_point(net, backend=backend)
            off, largest = imbalance(net, point)
            assert point.success and off <= max(1e-10 * largest, 1e-30), (seed, factor)


@backends
def test_all_elements_balance_to_the_last_digits(backend):
    for seed in (1, 4):
        net = random_circuit(seed, 80)
        point = operating_point(net, backend=backend)
        off, largest = imbalance(net, point)
        assert point.success and off <= 1e-10 * largest


def decades(seed):
    """Resistors of six to twenty-four decades, a current source and a second voltage source now and
    then.
    """
    r = np.random.default_rng(seed)
    n, reach, net = int(r.integers(3, 30)), r.choice([3, 6, 9, 12]), Netlist("decades")
    nodes = ["0"] + [f"n{k}" for k in range(1, n)]
    for k in range(1, n):
        net.resistor(f"r{k}", nodes[k], nodes[r.integers(k)], float(10 ** r.uniform(-reach, reach)))
    for k in range(n // 2):
        a, b = r.choice(n, 2, replace=False)
        net.resistor(f"x{k}", nodes[a], nodes[b], float(10 ** r.uniform(-reach, reach)))
    net.voltage_source("v1", "s", "0", 1.0)
    net.resistor("rs", "s", nodes[r.integers(1, n)], float(10 ** r.uniform(-reach, reach)))
    if seed % 3 == 0:
        net.current_source("i1", nodes[1], "0", float(10 ** r.uniform(-15, 0)))
    return net


@pytest.mark.parametrize("first", [0, 41])
def test_resistors_of_many_decades_balance(first):
    for seed in range(first, first + 25):
        try:
            point = operating_point(net := decades(seed))
        except SingularCircuitError:
            continue
        off, largest = imbalance(net, point)
        assert point.success and off <= max(1e-10 * largest, 1e-30), seed


def test_two_parts_hold_what_one_loses():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=100), rng.normal(size=100) * 1e-9
    s, e = two_sum(a, b)
    p, f = two_product(a, b)
    from fractions import Fraction

    for k in range(100):
        assert Fraction(s[k]) + Fraction(e[k]) == Fraction(a[k]) + Fraction(b[k])
        assert Fraction(p[k]) + Fraction(f[k]) == Fraction(a[k]) * Fraction(b[k])


def test_a_wrong_point_is_not_polished_into_success():
    """Far from an answer the polish gives up, and a point that misses an equation is refused."""
    from eqprop_fast.circuits.operating_point import solver_of
    from eqprop_fast.circuits.polish import Polish

    net = parse_spice(hard_netlist(173))
    point, solver = operating_point(net), solver_of(net)
    v, i = solver.assembly.sources(None, 1)
    _, known, offset, into = solver.assembly.right_hand_side(solver.drive, v, i)
    polish = Polish(solver, known, offset, v, into)
    assert polish.check(0, point._x[0], point._junction[0])
    x = point._x[0].copy()
    x[0] += 1e-9
    assert not polish.check(0, x, point._junction[0])
    junction = point._junction[0] - 1e-9
    assert not polish.check(0, point._x[0], junction)
    assert polish(0, point._x[0], point._junction[0] - 1.0) is None


@backends
def test_resistors_of_eighteen_decades(backend):
    """The sum of a node's conductances loses the small ones; elimination without subtractions does
    not.
    """
    net = parse_spice("t\nv1 a 0 1\nr1 a b 1e-9\nr2 b c 1e9\nr3 c d 1e-9\nr4 d 0 1e9\n")
    point = operating_point(net, backend=backend)
    assert point.success and point.voltage("c") == 0.5 and point.voltage("b") == 1.0
    rng = np.random.default_rng(0)
    chain = Netlist()
    chain.voltage_source("v1", "n0", "0", 1.0)
    chain.current_source("i1", "0", "n20", 1e-12)
    ohms = 10 ** rng.uniform(-12, 12, 41)
    for k in range(40):
        chain.resistor(f"r{k}", f"n{k}", f"n{k + 1}", ohms[k])
    chain.resistor("r40", "n40", "0", ohms[40])
    point = operating_point(chain, backend=backend)
    below, above = ohms[20:].sum(), ohms[:20].sum()
    assert point.voltage("n20") == pytest.approx(
        (1 / above + 1e-12) / (1 / above + 1 / below), rel=1e-12
    )
    assert point.success
    net.vccs("g1", "d", "0", "c", "0", -1e-9)
    with pytest.raises(SingularCircuitError):
        operating_point(net, backend=backend)


def tied_decades(seed, n, span, n_sources):
    """Resistors of 2 `span` decades between n nodes, some of which voltage sources tie together."""
    rng = np.random.default_rng(seed)
    net, nodes = Netlist(f"decades {seed}"), ["0", *(f"n{k}" for k in range(1, n))]

    def ohms():
        return float(10 ** rng.uniform(-span, span))

    for k in range(1, n):
        net.resistor(f"r{k}", nodes[k], nodes[rng.integers(k)], ohms())
    for k in range(n):
        a, b = rng.choice(n, 2, replace=False)
        net.resistor(f"x{k}", nodes[a], nodes[b], ohms())
    order = rng.permutation(np.arange(1, n))
    for k in range(n_sources):  # chains and single ones: no loop
        net.voltage_source(
            f"v{k}", nodes[order[k]], nodes[order[k + 1 + k % 2]], float(rng.uniform(-5, 5))
        )
    net.current_source("i1", nodes[1], "0", float(10 ** rng.uniform(-12, 0)))
    return net


@pytest.mark.parametrize("span", [3, 12])
def test_sources_that_tie_nodes_together_over_many_decades(span):
    for seed in range(25):
        net = tied_decades(
            seed, 4 + seed % 20, span, n_sources=1 + seed % 3 if seed % 20 > 1 else 1
        )
        point = operating_point(net)
        missed, largest = imbalance(net, point)
        assert point.success and missed <= 1e-10 * largest, (seed, point.worst)


def test_a_network_tied_by_sources_is_solved_as_its_equations_say():
    rng = np.random.default_rng(0)
    n, ties = 7, np.array([(1, 2), (4, 2), (5, 6)])
    between = rng.random((n, n)) * (rng.random((n, n)) < 0.6)
    between, ground = between + between.T, rng.random(n)
    np.fill_diagonal(between, 0)
    a = np.zeros((n + 3, n + 3))
    a[:n, :n] = np.diag(between.sum(axis=1) + ground) - between
    for k, (plus, minus) in enumerate(ties):
        a[plus, n + k] = a[n + k, plus] = 1
        a[minus, n + k] = a[n + k, minus] = -1
    rows = rng.standard_normal((4, n + 3))
    found = TiedLaplaceFactor(between, ground, ties, str).solve(rows)
    np.testing.assert_allclose(found, np.linalg.solve(a, rows.T).T, rtol=1e-10, atol=1e-12)
