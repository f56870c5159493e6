"""SPICE text in and out: round trips, the subset, and text that is wrong."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eqprop_fast.circuits import (
    D1N4148,
    IDEAL,
    CircuitError,
    Netlist,
    SpiceError,
    UnknownModelError,
    operating_point,
    parse_spice,
    read_spice,
    to_spice,
    write_spice,
)
from eqprop_fast.circuits.builders import layered_netlist
from eqprop_fast.circuits.elements import DIODE
from eqprop_fast.circuits.ngspice import ngspice_available, run_ngspice_text
from eqprop_fast.circuits.spice_text import evaluate, number, value_of

from .random_circuits import random_circuit


@pytest.mark.parametrize(
    "text,value",
    [
        ("1", 1),
        ("4.7k", 4.7e3),
        ("10meg", 1e7),
        ("1mil", 25.4e-6),
        ("2m", 2e-3),
        ("3u", 3e-6),
        ("5n", 5e-9),
        ("1.5p", 1.5e-12),
        ("2f", 2e-15),
        ("1t", 1e12),
        ("1g", 1e9),
        ("22pf", 22e-12),
        ("10kohm", 1e4),
        ("1e-3", 1e-3),
        ("-.5", -0.5),
        ("1e3k", 1e6),
        ("3v", 3),
        ("1a", 1),
        ("5amps", 5),
        ("2ma", 2e-3),
        ("1e-3as", 1e-3),
    ],
)
def test_numbers(text, value):
    assert number(text) == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize("text", ["", "k", "1..2", "--1", "0x10", "nan", "inf", "1e999", "1 2"])
def test_not_numbers(text):
    with pytest.raises(ValueError):
        number(text)


@pytest.mark.parametrize(
    "text,value",
    [
        ("1+2*3", 7),
        ("(1+2)*3", 9),
        ("2**3**2", 64),  # these as ngspice 39: from the left, of the base's magnitude
        ("2^3^2", 64),
        ("2^(3^2)", 512),
        ("(-2)**3", 8),
        ("(0-8)^(1/3)", 2),
        ("pow(-2,3)", -8),
        ("-2^2", -4),
        ("-(-2)**3", -8),
        ("1+-2^2", 5),  # the minus is the number's
        ("10*-2^2", 40),
        ("2**2**-1", 0.25),
        ("1--2", 3),
        ("--3", 3),
        ("+-3", -3),
        ("abs(-2^2)", 4),
        ("2^a^2", 64),
        ("a*2k", 6000),
        ("sqrt(16)+max(1,2)", 6),
        ("1/4", 0.25),
        ("2*-3", -6),
    ],
)
def test_expressions(text, value):
    assert evaluate(text, {"a": 3.0}) == pytest.approx(value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1+",
        "(1",
        "b",
        "1/0",
        "sqrt(-1)",
        "sqrt(1,2)",
        "__import__('os')",
        "a.b",
        "9**9**9**9",
        "(" * 500 + "1" + ")" * 500,
        "1 2",
        "exp(1e6)",
        "a b",
        "-" * 5 + "x",
        "2*-a",  # what ngspice misplaces or refuses
        "2*-(3)",
        "1---2",
        "-+3",
        "2**+2",
    ],
)
def test_bad_expressions(text):
    with pytest.raises(ValueError):
        evaluate(text, {"a": 3.0})


DECK = """A deck with everything
.param rload=2k half={rload/2}
V1 in 0 DC 2 AC 1   ; a source
R1 in mid {half}
+ $ continued by nothing
R2 mid
+ 0 'rload'
* a comment
D1 mid 0 dx area=2
.model dx D(IS=1e-14 N=1.1 RS=2 CJO=1p TT=5n)
E1 e 0 mid 0 2
Re e 0 1k
Vs e s 0
Rs s 0 1k
F1 0 f Vs 2
Rf f 0 1k
H1 h 0 Vs 100
Rh h 0 1k
G1 0 g mid 0 1m
Rg g gnd 1k
I1 0 q 1mA
Rq q 0 100
.subckt half a b params: r=1k
Rx a m {r}
.subckt_like_name_is_not_used_here
.ends half
X1 in out half r=3k
Rout out 0 1k
.options reltol=1e-6 gmin=1e-13 temp=30
.control
op
print all
.endc
.op
.end
this is never read
"""


def deck():
    return DECK.replace(".subckt_like_name_is_not_used_here\n", "Ry m b {r*2}\n")


def test_deck():
    net = parse_spice(deck(), "deck.cir")
    assert net.gmin == 1e-13 and net.temperature == 30
    point = operating_point(net)
    assert point.success
    assert point.voltage("q") == pytest.approx(0.1)
    assert point.voltage("out") == pytest.approx(2.0 / 10)
    assert point.voltage("x1.m") == pytest.approx(2.0 - 0.2e-3 * 3e3)
    assert net.find("r.x1.rx")[0] == 0


@pytest.mark.parametrize(
    "line,card,expected",
    [
        (3, "R1 in 0 -5", "positive"),
        (3, "R1 in 0 0", "positive"),
        (3, "R1 in 0", "Rname node node ohms"),
        (3, "R1 in 0 5x5 7", "Rname"),
        (3, "R1 in 0 abc", "expected a number"),
        (3, "C1 in 0 1u", "expected an element"),
        (3, "Q1 a b c m", "expected an element"),
        (3, "V1 in 0 5", "exists already"),
        (3, "V2 in 0 PULSE(0 1 2)", "node node [dc] value"),
        (3, "E1 a 0 poly(1) b 0 1 2", "control-node"),
        (3, "F1 a 0", "voltage-source gain"),
        (3, "F1 in 0 vx 2", "'f1' is controlled by 'vx', which is no voltage source"),
        (3, "H1 h 0 h1 2", "no voltage source"),
        (3, "X1 a b nothing", "unknown subcircuit"),
        (3, ".model m NPN(BF=1)", "type"),
        (3, ".model m D(IS=1e-14 QQ=1)", "outside the subset"),
        (3, ".model m D(IS=-1)", "IS must be"),
        (3, ".include other.cir", "outside the subset"),
        (3, ".tran 1n 1u", "outside the subset"),
        (3, ".param 3=4", "parameter name"),
        (3, ".param a={b+1}", "unknown parameter"),
        (3, ".options rshunt=1e9", "not supported"),
        (3, ".ends", ".subckt before"),
        (3, ".subckt s a", ".ends before the end"),
        (3, ".control", ".endc before the end"),
        (3, "R1 in 0 {1+", "matching"),
        (3, "R1 in 0 1k ; @ nonsense", "g_min=value"),
        (3, "*@ frobnicate", "*@ input"),
    ],
)
def test_malformed_text_says_where_and_what(line, card, expected):
    with pytest.raises(SpiceError) as caught:
        parse_spice(f"title\nV1 in 0 1\n{card}\n", "bad.cir")
    assert caught.value.line == line and str(caught.value).startswith(f"bad.cir:{line}: ")
    assert expected in str(caught.value)


def test_other_malformed_text():
    with pytest.raises(UnknownModelError, match="bad.cir:3: .*nothere"):
        parse_spice("t\nV1 a 0 1\nD1 a 0 nothere\n", "bad.cir")
    with pytest.raises(SpiceError, match="empty"):
        parse_spice("")
    with pytest.raises(SpiceError, match="at least one element"):
        parse_spice("only a title\n")
    with pytest.raises(SpiceError, match="continuation"):
        parse_spice("t\n+ R1 a 0 1\n")
    loop = "t\n.subckt s a\nx1 a s\nr1 a 0 1\n.ends\nx0 b s\n"
    with pytest.raises(SpiceError, match="nested deeper"):
        parse_spice(loop)
    with pytest.raises(SpiceError, match="change the circuit"):
        parse_spice("t\nr1 a 0 1\n.control\nalter r1 5\n.endc\n")


@pytest.mark.needs_ngspice
@pytest.mark.skipif(not ngspice_available(), reason="the program ngspice is not installed")
def test_expressions_against_ngspice():
    """One deck of current sources, so that a value is a voltage."""
    texts = (
        "2**3**2 2^3^2 (-2)**3 (0-8)^(1/3) pow(-2,3) -2^2 -(-2)**3 1+-2^2 10*-2^2 2**2**-1 1--2 --3"
    )
    texts = [
        *texts.split(),
        "2^a^2",
        "10-2-3",
        "8/4/2",
        "-a^2",
        "log(a)",
        "int(-2.7)",
        "abs(-2^2)",
        "max(-2^2,-10)",
        "2*3**2",
    ]
    cards = [f"i{k} 0 n{k} {{{text}}}\nr{k} n{k} 0 1" for k, text in enumerate(texts)]
    found = run_ngspice_text("t\n.param a=3\n" + "\n".join(cards) + "\n")
    for k, text in enumerate(texts):
        assert evaluate(text, {"a": 3.0}) == pytest.approx(found[f"n{k}"], rel=1e-12), text


@pytest.mark.parametrize(
    "call,top,ohms",
    [
        ("", "", 2e3),
        ("r=5k", "", 10e3),  # a default follows the caller's value
        ("q=3", "", 3),
        ("r={r*3}", ".param r=7", 42),  # its own name: the one outside
        ("q={r} r=5", ".param r=7", 5),  # another name: the one inside
        ("q={g}", ".param g={h+1}\n.param h=4", 5),
    ],
)
def test_subcircuit_parameters_follow_the_call(call, top, ohms):
    """The values are those of ngspice 39."""
    net = parse_spice(
        f"t\n{top}\n.subckt div i o params: q={{r*2}} r=1k\nr1 i o {{q}}\n.ends\nx1 a 0 div {call}"
    )
    assert 1 / net.conductances[0] == pytest.approx(ohms, rel=1e-14)


def test_parameters_inside_a_subcircuit():
    text = "t\n.subckt s i o params: r=1k\n.param s={t*2}\n.param t={r} r=9\nr1 i o {s}\n.ends\n"
    assert 1 / parse_spice(text + "x1 a 0 s").conductances[0] == pytest.approx(18)
    assert 1 / parse_spice(text + "x1 a 0 s r=5k").conductances[0] == pytest.approx(10e3)
    with pytest.raises(SpiceError, match="bad.cir:3: .*need one another: s -> t -> s"):
        parse_spice(
            "t\n.subckt s i o params: r=1k\n.param s={t}\n.param t={s}\nr1 i o {s}\n.ends\nx1 a 0 s",
            "bad.cir",
        )


@pytest.mark.parametrize(
    "cards,ohms",
    [
        (".param y={x*2}\n.param x=1k", 2e3),
        (".param y={x*2} x=1k", 2e3),
        (".param x=1k\n.param y={x*2}\n.param x=5k", 10e3),
        (".param y={x*z}\n.param z={x}\n.param x=3", 9),
    ],
)
def test_the_order_of_parameters_does_not_matter(cards, ohms):
    """The values are those of ngspice 39."""
    net = parse_spice(
        f"t\n.model d d(is={{x*1e-15}})\n.options gmin={{x*1e-13}}\n{cards}\nr1 a 0 {{y}}"
    )
    assert 1 / net.conductances[0] == pytest.approx(ohms, rel=1e-14)


@pytest.mark.parametrize(
    "cards,line,expected",
    [
        (".param x={y}\n.param z=1 y={x}", 2, "need one another: x -> y -> x"),
        (".param x={x*2}", 2, "unknown parameter 'x'"),
        (".param x=1k\n.param x={x*2}", 3, "unknown parameter 'x'"),
        (".param y={x}\n.param x={q}", 3, "unknown parameter 'q'"),
    ],
)
def test_parameters_without_a_value(cards, line, expected):
    with pytest.raises(SpiceError, match=expected) as caught:
        parse_spice(f"t\n{cards}\nr1 a 0 1\n", "bad.cir")
    assert caught.value.line == line


@pytest.mark.parametrize("seed", range(5))
def test_round_trip(seed, tmp_path):
    net = random_circuit(seed, 40)
    net.mark_inputs(["vs0", "vs1"] if len(net.names[2]) > 3 else ["vs0"])
    net.mark_outputs(["n3", ("n4", "n5")])
    path = tmp_path / "net.cir"
    write_spice(net, path)
    again = read_spice(path)
    assert [len(n) for n in again.names] == [len(n) for n in net.names]
    a, b = operating_point(net), operating_point(again)
    for k, name in enumerate(net.node_names):
        assert b.voltage(name) == pytest.approx(a.voltages[k], rel=1e-9, abs=1e-11)
    np.testing.assert_allclose(b.outputs, a.outputs, rtol=1e-9, atol=1e-11)
    text = to_spice(again)
    assert to_spice(parse_spice(text)) == text


def test_bounds_marks_and_strange_names_survive():
    net = layered_netlist([2, 3, 1], bias=1.0, output_pairs=True, random_state=0, g_max=1.0)
    net.resistor("Load-1", "Y Node".replace(" ", "-"), "y0p", 1e3)
    net.resistor("Load-2", "Y-Node", "0", 1e3)
    again = parse_spice(to_spice(net, np.arange(4) / 10))
    assert "Y-Node" in again.node_names
    np.testing.assert_allclose(again.conductances, net.conductances, rtol=1e-15)
    np.testing.assert_array_equal(again.trainable_indices, net.trainable_indices)
    np.testing.assert_array_equal(again.bounds[1], net.bounds[1])
    assert again.inputs == net.inputs and len(again.outputs) == 1
    want = operating_point(net, np.arange(4) / 10)
    assert operating_point(again).outputs[0] == pytest.approx(want.outputs[0], rel=1e-9)
    for wrong in ([1.0], [0.1, np.nan, 0.3, 0.4], [0.1, 0.2, 0.3, np.inf], np.zeros((1, 4))):
        with pytest.raises(CircuitError, match="inputs must be 4 finite numbers"):
            to_spice(net, wrong)


_SEEDS = [
    deck(),
    to_spice(random_circuit(3, 12)),
    to_spice(layered_netlist([1, 2, 1], diode="ideal", random_state=0)),
]


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 2),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255), st.integers(0, 2)), max_size=6),
)
def test_mutated_netlists_never_crash(which, edits):
    """A byte changed, inserted or removed: a clear error, or an operating point that says whether
    it is one.
    """
    data = bytearray(_SEEDS[which].encode())
    for at, byte, action in edits:
        at %= len(data)
        if action == 0:
            data[at] = byte
        elif action == 1:
            data.insert(at, byte)
        else:
            del data[at]
    try:
        net = parse_spice(data.decode("utf-8", errors="replace"), "mutated.cir")
        point = operating_point(net, max_iter=30)
    except CircuitError as error:
        assert str(error)
        return
    if point.success:
        assert np.isfinite(point.voltages).all()
        assert point.kcl_residual <= 1e-10 * point.largest_current
    else:
        assert point.worst[0]


def test_models_keep_their_names_unless_a_subcircuit_has_its_own():
    text = """* models
v1 a 0 1
x1 a b cell
d2 b 0 m
.subckt cell p q
d1 p q m
d2 p q own
.model own d(is=2e-12)
.ends
.model m d(is=1e-12)
"""
    net = parse_spice(text)
    names = dict(zip(net.names[DIODE], net.diode_models))
    assert names["d2"] == "m" and sorted(names.values()) == ["m", "m", "x1.own"]
    assert (parse_spice(to_spice(net)).diode_models) == net.diode_models


@pytest.mark.parametrize("text", ["'", "{", "}", '"', "{}x"])
def test_a_field_that_is_no_number_is_said_to_be_none(text):
    with pytest.raises(ValueError, match="expected a number, got"):
        value_of(text, {})


def test_every_kind_of_element_is_written_and_read_back():
    net = Netlist()
    net.voltage_source("v1", "a", "0", 1.5)
    net.current_source("i1", "0", "b", 1e-3)
    net.resistor("r1", "a", "b", 1e3)
    net.resistor("r2", "b", "0", 2e3)
    net.diode("d1", "b", "0", D1N4148)
    net.diode("d2", "c", "0", IDEAL)
    net.vcvs("e1", "c", "0", "b", "0", 2.0)
    net.vccs("g1", "0", "b", "a", "0", 1e-4)
    net.cccs("f1", "0", "b", "v1", 0.25)
    net.ccvs("h1", "e", "0", "v1", 50.0)
    again = parse_spice(to_spice(net))
    for name in ("names", "values", "controls", "diode_models"):
        assert getattr(again, name) == getattr(net, name), name
    net.cccs("f2", "0", "b", "i1", 0.25)
    with pytest.raises(CircuitError, match="'f2' is controlled by 'i1'.*no voltage source"):
        to_spice(net)


@pytest.mark.parametrize(
    "text, line, message",
    [
        ("t\n\n+ 1k\nr1 a 0 1\n", 3, "expected a card before this continuation line"),
        ("t\nr1 a 0 1\n; @ input v1\n", 3, "expected a card before '; @'"),
        ("t\nr1 a 0\x07 1\n", 2, "unexpected character"),
        ("t\nr1 a 0 ; @ x\n+ 1 ; @ y\n", 3, "one card has two"),
    ],
)
def test_text_that_is_no_cards_has_its_file_and_line(text, line, message):
    with pytest.raises(SpiceError, match=message) as caught:
        parse_spice(text, "bad.cir")
    assert (caught.value.file, caught.value.line) == ("bad.cir", line)
    assert str(caught.value).startswith(f"bad.cir:{line}: ")
