"""Netlists: what may be built, and what is refused by name."""

import numpy as np
import pytest

from eqprop_fast.circuits import (
    DiodeModel,
    ElementError,
    FloatingNodeError,
    Netlist,
    SingularCircuitError,
    UnknownModelError,
    UnknownNodeError,
    VoltageLoopError,
    operating_point,
)


def divider():
    net = Netlist()
    net.voltage_source("v1", "in", "0", 2.0)
    net.resistor("r1", "in", "out", 1e3)
    net.resistor("r2", "out", "0", 1e3)
    return net


@pytest.mark.parametrize("ohms", [0, -1, np.nan, np.inf, "1k", None, True, 1e31])
def test_resistance_must_be_positive(ohms):
    with pytest.raises(ElementError, match="r9"):
        divider().resistor("r9", "in", "0", ohms)


@pytest.mark.parametrize(
    "g,low,high", [(0, 0, 1), (-1, -2, 1), (1, 2, 3), (4, 2, 3), (np.nan, 0, 1), (1, np.nan, 2)]
)
def test_conductance_must_be_within_bounds(g, low, high):
    with pytest.raises(ElementError):
        divider().conductance("g9", "in", "0", g, g_min=low, g_max=high)


def test_resistance_out_of_range_says_the_range():
    with pytest.raises(ElementError, match="between 1e-30 and 1e30 ohm, got 1e[+]31"):
        Netlist().resistor("r1", "a", "0", 1e31)


@pytest.mark.parametrize("add", ["voltage_source", "current_source", "resistor"])
def test_numbers_too_large_for_float64(add):
    with pytest.raises(ElementError, match="too large"):
        getattr(Netlist(), add)("x1", "a", "0", 10**400)


@pytest.mark.parametrize("indices", [[7], [-1], [0.5], [True]])
def test_conductances_at_wrong_indices(indices):
    with pytest.raises(ElementError, match="indices must be whole numbers from 0 to 1"):
        divider().set_conductances([1e-3], indices)


@pytest.mark.parametrize("what", ["n_threads", "max_iter"])
@pytest.mark.parametrize("value", [None, 100.5, "3", 0, True])
def test_counts_are_whole_numbers(what, value):
    with pytest.raises(ElementError, match=what):
        operating_point(divider(), **{what: value})


def test_names_are_unique_and_clean():
    net = divider()
    with pytest.raises(ElementError, match="exists already"):
        net.resistor("R1", "a", "b", 1.0)
    for name in ("", "a b", "a=b", "x;y", "it's"):
        with pytest.raises(ElementError):
            net.resistor(name, "a", "b", 1.0)
        with pytest.raises(ElementError):
            net.resistor("r7", name, "b", 1.0)


def test_diode_models_are_checked():
    for bad in (
        {"IS": 0},
        {"IS": -1e-14},
        {"N": 0},
        {"RS": -1},
        {"BV": 0},
        {"IS": np.nan},
        {"EG": 0.01},
    ):
        with pytest.raises(ElementError):
            DiodeModel("m", **bad)
    for key, fine, wrong in [  # on either side of every bound
        ("IS", (2e-300, 999.0), (1e-300, 1e3)),
        ("N", (1e-3, 1e3), (0.9e-3, 1001.0)),
        ("RS", (0, 5.0), (-1e-9,)),
        ("EG", (0.1,), (0.099,)),
        ("XTI", (-999.0, 999.0), (-1e3, 1e3)),
        ("IBV", (1e-30,), (0.0,)),
        ("TNOM", (-272.0, 27.0, None), (-272.15, -300.0)),
        ("BV", (1e-3, None), (0.0, -5.0)),
    ]:
        for value in fine:
            assert getattr(DiodeModel("m", **{key: value}), key) == value
        for value in (*wrong, np.inf, True, "1"):
            with pytest.raises(ElementError, match=key):
                DiodeModel("m", **{key: value})
    with pytest.raises(ElementError, match="reserved"):
        DiodeModel("Ideal")
    net = divider()
    net.diode("d1", "out", "0", "nowhere")
    with pytest.raises(UnknownModelError, match="nowhere"):
        operating_point(net)
    net.model(DiodeModel("m"))
    with pytest.raises(ElementError, match="other parameters"):
        net.model(DiodeModel("m", N=2.0))


def test_floating_nodes_are_named():
    net = divider()
    net.resistor("r3", "lost", "gone", 1.0)
    with pytest.raises(FloatingNodeError, match="lost"):
        operating_point(net)
    net = divider()
    net.current_source("i1", "island", "0", 1.0)
    with pytest.raises(FloatingNodeError, match="island"):
        operating_point(net)
    with pytest.raises(FloatingNodeError):
        operating_point(Netlist())


def test_voltage_loops_are_named():
    net = divider()
    net.voltage_source("v2", "in", "0", 2.0)
    with pytest.raises(VoltageLoopError, match="v2"):
        operating_point(net)
    net = divider()
    net.vcvs("e1", "in", "0", "out", "0", 2.0)
    with pytest.raises(VoltageLoopError, match="e1"):
        operating_point(net)
    net = divider()
    net.voltage_source("v3", "out", "out", 0.0)
    with pytest.raises(VoltageLoopError, match="v3"):
        operating_point(net)


def test_singular_circuit_is_an_error():
    net = divider()
    net.vccs("g1", "out", "0", "out", "0", -2e-3)  # cancels both conductances at `out`
    with pytest.raises(SingularCircuitError, match="out"):
        operating_point(net)


def test_controls_must_exist():
    net = divider()
    net.cccs("f1", "out", "0", "vnone", 1.0)
    with pytest.raises(UnknownNodeError, match="vnone"):
        operating_point(net)


def test_marks_and_conductances():
    net = divider()
    with pytest.raises(ElementError):
        net.mark_inputs(["r1"])
    with pytest.raises(UnknownNodeError):
        net.mark_inputs(["v9"])
    with pytest.raises(ElementError, match="twice"):
        net.mark_inputs(["v1", "V1"])
    with pytest.raises(UnknownNodeError):
        net.mark_outputs(["nowhere"])
    net.conductance("g1", "in", "out", 1e-3, g_min=1e-4, g_max=1e-2)
    np.testing.assert_array_equal(net.trainable_indices, [2])
    with pytest.raises(ElementError, match="g1"):
        net.set_conductances([1.0], net.trainable_indices)
    with pytest.raises(ElementError):
        net.set_conductances([1.0, 2.0], net.trainable_indices)
    net.set_conductances([2e-3], net.trainable_indices)
    assert operating_point(net).voltage("out") == pytest.approx(2.0 * 3 / 4)


def test_crossbar():
    net = divider()
    g = np.arange(1, 7).reshape(2, 3) * 1e-3
    net.crossbar("w", ["in", "out"], ["a", "b", "c"], g, g_min=1e-4)
    assert net.names[0][2] == "w_0_0" and net.conductances[-1] == 6e-3
    with pytest.raises(ElementError):
        net.crossbar("w", ["in", "out"], ["a", "b", "c"], g)
    with pytest.raises(ElementError):
        net.crossbar("u", ["in"], ["a", "b", "c"], g)
    with pytest.raises(ElementError):
        net.crossbar("u", ["in", "out"], ["a", "b", "c"], -g)


@pytest.mark.parametrize(
    "inputs", [[1.0, 2.0], [[np.nan]], [["x"]], np.zeros((1, 1, 1)), [[1.0, 2.0]], [[np.inf]]]
)
def test_bad_inputs(inputs):
    net = divider()
    net.mark_inputs(["v1"])
    with pytest.raises(ElementError):
        operating_point(net, inputs)


def test_bad_backend_and_rows():
    net = divider()
    net.mark_inputs(["v1"])
    net.mark_outputs(["out"])
    with pytest.raises(ValueError, match="backend"):
        operating_point(net, backend="gpu")
    with pytest.raises(ElementError, match="rows"):
        operating_point(net, np.zeros((3, 1)), nudge=np.zeros((2, 1)))
    with pytest.raises(ElementError, match="columns"):
        operating_point(net, np.zeros((3, 1)), nudge=np.zeros((3, 2)))


def test_conductances_travel_as_csv(tmp_path):
    net = divider()
    net.crossbar("w", ["in", "out"], ["a", "b"], np.full((2, 2), 1e-3) / 3, g_min=1e-6, g_max=1.0)
    path = tmp_path / "g.csv"
    net.save_conductances(path)
    want = net.conductances
    net.set_conductances(want * 2)
    net.load_conductances(path)
    np.testing.assert_array_equal(net.conductances, want)
    for text, message in (
        ("a,b\n", "columns"),
        ("name,siemens\nr1,x\n", ":2: expected a number"),
        ("name,siemens\nr77,1\n", ":2: no conductance"),
        ("name,siemens\nw_0_0,5\n", "bounds"),
        ("name,siemens\nw_0_0,1e-3\nW_0_0,2e-3\n", ":3: 'W_0_0' is given twice"),
        (b"\x89PNG\r\n\xff\xfe", "not UTF-8"),
        (b"\0\0\0", "columns"),
    ):
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(ElementError, match=message):
            net.load_conductances(path)


def test_gains_of_amplifiers_have_a_bound():
    net = divider()
    for gain in (0.0, 1.1e12, -1.1e12, np.nan, np.inf, "x"):
        with pytest.raises(ElementError, match="amplifier 'a': gain"):
            net.amplifier("a", "in", "b", gain)
    net.amplifier("a", "in", "b", 1e12)
    net.amplifier("c", "in", "d", -1e12)
