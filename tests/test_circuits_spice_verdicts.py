"""What the SPICE reader acts on gives ngspice's operating point; the rest it refuses by name."""

import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eqprop_fast.circuits import (
    CircuitError,
    DiodeModel,
    ElementError,
    Netlist,
    SpiceError,
    operating_point,
    parse_spice,
    read_spice,
    to_spice,
    write_spice,
)
from eqprop_fast.circuits.ngspice import (
    NgspiceError,
    ngspice_available,
    run_ngspice,
    run_ngspice_text,
)

from .fuzz.fuzz_spice import circuit

needs_ngspice = pytest.mark.skipif(
    not ngspice_available(), reason="the program ngspice is not installed"
)
DIODE = "v9 9 0 1\nr9 9 1 1k\nd1 1 0 m\n.model m d(is=1e-14)\n"
BASE = "v1 a 0 6\nr1 a b 1k\nr2 b 0 1k\n"


# --- independent sources ---

LEADS = ["", "4", "{2+2}"]
PARTS = {
    "dc": ["dc 5", "DC = 5", "dc {5}"],
    "dc2": ["dc 7"],
    "ac": ["ac 1", "ac 1 45", "ac=1", "ac {1}"],
    "ac2": ["ac 2"],
    "time": [
        "sin(2.5 1 1k)",
        "sin (2.5, 1, 1k, 1n, 0, 90)",
        "SIN 2.5 1 1k",
        "pulse(3 5 1n 1n 1n 1u 2u)",
        "exp(1.5 5 1n 1n 2n 1n)",
        "pwl(0 3.5 1 3)",
        "pwl(1 4.5 2 3)",
        "sffm(1.25 5 1k 1 1)",
    ],
}
AT_ZERO = [2.5, 3.5, 2.5, 3, 1.5, 3.5, 4.5, 1.25]


def source_cards():
    """(what follows the nodes, value at the operating point) in every order of dc, ac and
    functions.
    """
    turn = itertools.count()
    for size in range(4):
        for order in itertools.permutations(PARTS, size):
            k = next(turn)
            chosen = [PARTS[name][k % len(PARTS[name])] for name in order]
            value = 0.0
            if "time" in order:
                value = AT_ZERO[k % len(AT_ZERO)]
            dc = [name for name in order if name.startswith("dc")]
            if dc:
                value = {"dc": 5.0, "dc2": 7.0}[dc[-1]]
            lead = LEADS[k % 3]
            yield " ".join([lead, *chosen]), 4.0 if lead else value


SOURCES = [*source_cards(), ("ac", 0.0), ("ac dc 3", 3.0)]


def source_deck():
    return "t\n" + "\n".join(
        f"v{k} v{k} 0 {text}\nr{k} v{k} 0 1\ni{k} 0 i{k} {text}\nrr{k} i{k} 0 1"
        for k, (text, _) in enumerate(SOURCES)
    )


def test_sources_in_every_order():
    net = parse_spice(source_deck())
    for kind in (2, 3):
        for (text, value), got in zip(SOURCES, net.values[kind], strict=True):
            assert got == pytest.approx(value, rel=1e-15), text


@needs_ngspice
@pytest.mark.needs_ngspice
def test_sources_against_ngspice():
    found = run_ngspice_text(source_deck() + "\n")
    for k, (text, value) in enumerate(SOURCES):
        assert found[f"v{k}"] == pytest.approx(value, rel=1e-12), text
        assert found[f"i{k}"] == pytest.approx(value, rel=1e-12), text


@pytest.mark.parametrize(
    "text",
    [
        "dc",
        "dc ac 3",
        "5 6",
        "dc 7 5",
        "5 foo",
        "ac 1 2 3",
        "ac foo",
        "5 m=2",
        "dc 5 m=2",
        "dc 5 r=1",
        "sin(2.5",
        "sin 2.5)",
        "sin()",
        "sin(2.5 1)",
        "sin(1 2 3) 6",
        "sin(1 2 3) pulse(3 4 0 1 1 1 1)",
        "sin(1 2 3 -1)",
        "pulse(2 5)",
        "pulse(2 5 0 1 1 1 1 8)",
        "pwl(0 2 1)",
        "pwl(-1 0 1 3)",
        "pwl(1 0 1 3)",
        "pwl(0 1 2 3) r=0",
        "pwl file=a",
        "am(1 2 3 4 5)",
        "trnoise(1 2 3)",
        "dc 3 distof1 1",
        "dc 3 portnum 1 z0 50",
        "external",
        "5)",
        "(dc 5",
        "sin(2.5 {1 1k)",
        "dc 1{2}",
        "dc {1}k",
        "dc 1,000",
    ],
)
def test_refused_sources(text):
    for letter in "vi":
        with pytest.raises(SpiceError, match="bad.cir:2: "):
            parse_spice(f"t\n{letter}1 1 0 {text}\nr1 1 0 1\n", "bad.cir")


# --- temperature ---

TEMPERATURES = [
    (".temp 80\n.options temp=60", 80),
    (".options temp=60\n.temp 80", 80),
    (".temp 80\n.temp 60", 60),
    (".options temp=80\n.options temp=60", 60),
    (".options temp=60\n.options gmin=1e-12", 60),
    (".option TEMP = {40*2}", 80),
    (".temp 80\n.temp 60\n.options temp=70", 60),
    (".param t=50\n.temp {t}", 50),
    (".options temp=0.08k", 80),
    (".options temp=80c", 80),
    (".temp '80'", 80),
    (".temp +8.e1", 80),
    ("", 27),
]


@pytest.mark.parametrize("cards, value", TEMPERATURES)
def test_temperature(cards, value):
    assert parse_spice(f"t\n{DIODE}{cards}\n").temperature == value


@needs_ngspice
@pytest.mark.needs_ngspice
@pytest.mark.parametrize(
    "cards", [cards for cards, _ in TEMPERATURES] + [".options tnom=50\n.options tnom=60 temp=40"]
)
def test_temperature_against_ngspice(cards):
    text = f"t\n{DIODE}{cards}\n"
    assert operating_point(parse_spice(text)).voltage("1") == pytest.approx(
        run_ngspice_text(text)["1"], rel=1e-6
    )


# --- everything else the reader does not act on ---


@pytest.mark.parametrize(
    "cards, named",
    [
        (".control\nset temp=80\nop\n.endc", "temp"),
        (".control\nset numdgt=9 temp = 80\nop\n.endc", "temp"),
        (".control\nset gmin=1e-3\n.endc", "gmin"),
        (".control\nset rshunt=1\n.endc", "rshunt"),
        (".control\nunset temp\n.endc", "temp"),
        (".control\noption temp=80\n.endc", "option"),
        (".control\nalter r1=1\n.endc", "alter"),
        (".control\nsource x.cir\n.endc", "source"),
        (".control\n*@ output b\n.endc", r"\*@"),
        (".control\n.endc 5", "endc"),
        (".control\n.endc\n+ 5", "endc"),
        (".control now\n.endc", ".control"),
        (".temp 60 80", ".temp"),
        (".temp=80", ".temp"),
        (".temp (80)", r"'\('"),
        (".options temp=(80)", r"'\('"),
        (".temp 80c", "80c"),
        (".temp 80 ,", ".temp value"),
        (".param x=80\n.temp x", "x"),
        (".param x=80\n.options temp=x", "expected a number"),
        (".param x=1m\n.options gmin=x", "expected a number"),
        (".model {m} d", "model name"),
        (".subckt s a {b}\nr1 a {b} 1\n.ends\nx1 b 0 s", "node name"),
        (".options temp 80", "temp"),
        (".options temp=80 temp=60", "temp"),
        (".options reltol=abc", "number"),
        (".options rshunt=1", "rshunt"),
        (".options scale=2", "scale"),
        (".opt temp=80", ".opt"),
        (".include other.cir", ".include"),
        (".inc other.cir", ".inc"),
        (".lib 'other.lib' tt", ".lib"),
        (".global x", ".global"),
        (".ic v(b)=1", ".ic"),
        (".nodeset v(b)=1", ".nodeset"),
        (".if (1)\n.endif", ".if"),
        (".func f(x) {x}", ".func"),
        (".csparam a=1", ".csparam"),
        (".dc v1 0 5 1", ".dc"),
        (".param f(x)={x*2}", r"'\('"),
        (".param", ".param"),
        (".param x", ".param"),
        (".param temper=5", "temper"),
        (".param x=1 y", "y"),
        (".param x=1mil", "mil"),
        ("r3 b 0 {1mil*1e6}", "mil"),
        ("r3 b 0 {-1mils}", "mil"),
        (".subckt s a b r=1mil\nr1 a b {r}\n.ends\nx1 b 0 s", "mil"),
        ("r3 b 0 1k m=2", "Rname"),
        ("r3 b 0 1k tc1=1", "Rname"),
        ("r3 b 0 1k ac=2", "Rname"),
        ("r3 b 0 1k temp=80", "Rname"),
        ("r3 b 0 1k 2k", "Rname"),
        ("r3 b 0 1k)", "unmatched"),
        ("r3 b 0 (1k", "unmatched"),
        ("r3 b 0 1k ()", r"\(\)"),
        ("d1 b 0 m m=2", "Dname"),
        ("d1 b 0 m ic=2", "Dname"),
        ("d1 b 0 m temp=80", "Dname"),
        ("d1 b 0 m pj=1", "Dname"),
        ("d1 b 0 m 2 area=3", "Dname"),
        ("d1 b 0 m{2}", r"\{"),
        (".model n d(is=1e-14", "unmatched"),
        (".model n d is=1e-14)", "unmatched"),
        (".model n d(is=1e-14 js=1e-12)", "js"),
        (".model n d(is=1e-14 is=1e-12)", "is"),
        (".model n d(tnom=27 tref=30)", "tref"),
        (".model n d(ikf=1)", "ikf"),
        (".model n d(isr=1)", "isr"),
        (".model n d(trs1=1)", "trs1"),
        (".model n d(jsw=1)", "jsw"),
        (".model n d(level=3)", "level"),
        (".model n d(cjo=abc)", "number"),
        (".model n d(2)", "type"),
        (".model ideal d(is=1e-12)", "ideal"),
        ("e1 e 0 poly(1) b 0 1 2", "control-node"),
        ("e1 e 0 poly(1) 2", "poly"),
        ("e1 e 0 poly (1) 2", "poly"),
        ("e1 e 0 b 0 2 m=2", "Ename"),
        ("e1 e 0 value={v(b)}", "Ename"),
        ("g1 e 0 b 0 2 m=2", "Gname"),
        ("f1 e 0 poly(1) v1", "poly"),
        ("f1 e 0 v1 2 m=2", "Fname"),
        ("b1 e 0 v=1", "expected an element"),
        (".subckt s a b\nr1 a b 1\n.ends\nx1 b 0 s m=2", "'m'"),
        (".subckt s a b m=1\nr1 a b 1\n.ends\nx1 b 0 s m=2", "'m'"),
        (".subckt s a 0\nr1 a 0 1\n.ends\nx1 b a s", "ground"),
        (".subckt s\nr1 a 0 1\n.ends", "expected .subckt name node"),
        (".subckt s a b\nr1 a b 1\n.ends other\nx1 b 0 s", "ends"),
        (".subckt s a b\nr1 a b 1\n*@ output a\n.ends\nx1 b 0 s", r"\*@"),
        (".subckt s a b params r=1\nr1 a b 1\n.ends\nx1 b 0 s", "expected 3 nodes"),
        (
            ".subckt eqp_amplifier in out params: gain=1 feedback=1\nr1 in out 1\n.ends",
            "eqp_amplifier",
        ),
        ("v2 c 0 1 ; @ trainable", "resistors only"),
        ("r3 b 0 1k ; @ trainable fixed", "expected ; @"),
        ("r3 b 0 ; @ trainable\n+ 1k ; @ fixed", "two '; @'"),
        ("*@ alias b X\n*@ alias b Y", "two aliases"),
        (".end\nr3 b 0 1k", "r3"),
        (".end\n.temp 80", ".temp"),
        (".end 5", ".end"),
        ("r3 b\x0b0 1k", r"\\x0b"),
        ("r3 b\u20280 1k", r"\\u2028"),
        ("r3 b\xa00 1k", r"\\xa0"),
        ("r3 b 0\r1k", r"\\r"),
        ("r3 b\x00 0 1k", r"\\x00"),
        ("r3 b 0 1\u212a", "number"),
    ],
)
def test_what_is_not_acted_on_is_refused_by_name(cards, named):
    with pytest.raises(SpiceError, match=named):
        parse_spice(f"t\n{BASE}.model m d\n{cards}\n")


ACCEPTED = [
    "r3 b 0 1k // a comment",
    "r3 b 0 1k $ a comment ; @ trainable",
    "r3 b (0) 1k",
    "r3 (b 0) 1mil",
    "r3 b,0,1k",
    "r3 b 0 resistance={1k*2}",
    "d1 b 0 m off",
    "d1 b 0 m area=2",
    "e1 c 0 (b,0) 2\nr4 c 0 1",
    "g1 c 0 b 0 2m\nr4 c 0 1",
    "f1 c 0 v1 2\nr4 c 0 1",
    "h1 c 0 v1 2\nr4 c 0 1",
    "r3 b\n*comment\n\n+ 0 1k",
    ".subckt s a b r=1k\nr1 a b {r}\n.ends s\nx1 b 0 s params: r=3k",
    "r3 b gnd 1k\n.print op v(b)\n.save all\n.width out=80",
]


@pytest.mark.parametrize("cards", ACCEPTED)
def test_accepted_cards(cards):
    assert operating_point(parse_spice(f"t\n{BASE}.model m d\n{cards}\n")).success


@needs_ngspice
@pytest.mark.needs_ngspice
@pytest.mark.parametrize("cards", ACCEPTED)
def test_accepted_cards_against_ngspice(cards):
    text = f"t\n{BASE}.model m d\n{cards}\n"
    point, peer = operating_point(parse_spice(text)), run_ngspice_text(text)
    for name in ("a", "b"):
        assert point.voltage(name) == pytest.approx(peer[name], rel=1e-6)


@needs_ngspice
@pytest.mark.needs_ngspice
def test_suffixes_against_ngspice():
    """Every suffix, plain, in braces, in quotes and through a parameter."""
    letters = "t g k m u n p f a meg mils megohm mohm ma e d v x z as kohm ee e3 e+3 pf me mx db e-3k".split()
    cards, texts = [], []
    for k, suffix in enumerate(letters):
        cards.append(f".param p{k}=3{suffix}")
        texts += [f"3{suffix}", f"-3{suffix}", f"{{3{suffix}*1}}", f"'3{suffix}'", f"{{p{k}}}"]
    cards += [f"i{k} 0 n{k} {text}\nr{k} n{k} 0 1" for k, text in enumerate(texts)]
    kept, refused = [], 0
    for card in cards:
        try:
            parse_spice(
                "t\nrq q 0 1\n"
                + "\n".join(c for c in cards if c[0] == "." and "mil" not in c)
                + "\n"
                + card
            )
            kept.append(card)
        except SpiceError as error:
            refused += "mil" in str(error) or "p10" in card
    assert refused == len(cards) - len(kept) == 4  # .param p10, {3mils*1}, '3mils', {p10}
    text = "t\n" + "\n".join(kept) + "\n"
    net, found = parse_spice(text), run_ngspice_text(text)
    for name, value in zip(net.names[3], net.values[3], strict=True):
        assert found["n" + name[1:]] == pytest.approx(value, rel=1e-12), name


@needs_ngspice
@pytest.mark.needs_ngspice
def test_models_against_ngspice():
    """Diodes of random models, temperatures and tnom, forward and reverse, in decks of ten."""
    rng = np.random.default_rng(0)
    draw = {
        "is": lambda: 10 ** rng.uniform(-16, -9),
        "js": lambda: 10 ** rng.uniform(-16, -9),
        "n": lambda: rng.uniform(0.8, 2.5),
        "rs": lambda: 10 ** rng.uniform(-2, 2),
        "eg": lambda: rng.uniform(0.6, 1.3),
        "xti": lambda: rng.uniform(0, 5),
        "tnom": lambda: rng.uniform(0, 80),
        "tref": lambda: rng.uniform(0, 80),
        "bv": lambda: rng.uniform(2, 50),
        "ibv": lambda: 10 ** rng.uniform(-6, -2),
        **{
            key: (lambda: 10 ** rng.uniform(-2, -0.5))
            for key in "cjo cj0 cj cjsw cjp vj pb m mj fc fcs tt".split()
        },
        "level": lambda: 1,
    }
    for _ in range(12):
        cards = [
            "t",
            f".temp {rng.uniform(-20, 90):.3f}",
            f".options tnom={rng.uniform(0, 60):.3f} gmin=1e-11",
        ]
        for k in range(10):
            keys = [key for key in draw if rng.random() < 0.35]
            keys = [
                key
                for key in keys
                if (key, True) not in {("js", "is" in keys), ("tref", "tnom" in keys)}
            ]
            values = " ".join(f"{key}={draw[key]():.6g}" for key in keys)
            area = f" area={rng.uniform(0.2, 4):.3f}" if rng.random() < 0.3 else ""
            cards += [f".model m{k} d({values})", f"v{k} a{k} 0 {rng.choice([1, 5, -3, -60])}"]
            cards += [f"r{k} a{k} b{k} 1k", f"d{k} b{k} 0 m{k}{area}"]
        text = "\n".join(cards) + "\n"
        point, peer = operating_point(parse_spice(text)), run_ngspice_text(text)
        assert point.success
        for k in range(10):
            assert point.voltage(f"b{k}") == pytest.approx(peer[f"b{k}"], rel=1e-5, abs=1e-9), text


# --- sizes ---


def bomb(levels, fan=2):
    cards = ["t", ".subckt s0 a b", "r1 a b 1", ".ends"]
    for k in range(1, levels):
        cards += [f".subckt s{k} a b", *(f"x{j} a b s{k - 1}" for j in range(fan)), ".ends"]
    return "\n".join([*cards, f"x1 q 0 s{levels - 1}", ""])


@pytest.mark.parametrize(
    "text, expected",
    [
        (bomb(19), "more than 100000 cards"),
        (bomb(19, 8), "more than 100000 cards"),
        (bomb(40), "nested deeper than 20"),
        ("t\n.subckt s a\nx1 a s\nx2 a s\n.ends\nx0 b s\n", "'s' contains itself, s -> s"),
        (
            "t\n.subckt s a\nx1 a q\n.ends\n.subckt q a\nx1 a s\nx2 a s\n.ends\nx0 b s\n",
            "'s' contains itself, s -> q -> s",
        ),
        ("t\n.subckt s a b\nx1 a b s\nx=1\n.ends\n(x1 a b s)\n", "expected"),
        ("t\nr1 a 0 {" + "(" * 100_000 + "1" + ")" * 100_000 + "}\n", "nested too deeply"),
        ("t\nr1 a 0 " + "{" * 200_000, "matching"),
        ("t\nr1 a 0 " + "(" * 200_000, "unmatched"),
        ("t\nr1 a 0 1\n" + "*@ x\n" * 50_000 + "+ 2\n" * 50_000, "Rname"),
        (
            "t\n.param " + " ".join(f"p{k}={{p{k + 1}}}" for k in range(5000)) + "\nr1 a 0 1\n",
            "deep",
        ),
    ],
)
def test_bombs_are_refused_soon(text, expected):
    start = time.process_time()
    with pytest.raises(SpiceError, match=expected):
        parse_spice(text)
    assert time.process_time() - start < 5


def test_the_limit_of_expansion_is_an_argument():
    with pytest.raises(SpiceError, match="more than 100 cards"):
        parse_spice(bomb(8), max_expanded=100)
    assert len(parse_spice(bomb(8), max_expanded=400).names[0]) == 2**7


# --- round trips ---

ANY_TEXT = st.text(st.characters(codec=None), min_size=1, max_size=8)
NASTY = st.sampled_from(
    [
        "x\ry z",
        "* a",
        "",
        "\n",
        "a=b",
        "poly",
        "off",
        "Gnd",
        "all",
        "n_2",
        "N_2",
        "é",
        "\u2028",
        "r//x",
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(ANY_TEXT | NASTY, min_size=6, max_size=6))
def test_any_accepted_name_comes_back(words):
    title, a, b, name, model, diode = words
    net = Netlist(title)
    try:
        net.voltage_source("v", "in", "0", 1.0)
        net.resistor(name, "in", a, 1e3)
        net.resistor("r2", a, b, 2e3)
        net.conductance("r3", b, "0", 1.3e-3, g_max=1.0)
        net.diode(diode, a, "0", DiodeModel(model, IBV=2e-3))
        net.diode("d2", a, "0", DiodeModel(model + "_", IS=1e-12, BV=5.0))
        net.amplifier("amp", b, "out", 2.0)
        net.resistor("r4", "out", "0", 1e3)
        net.mark_inputs(["v"])
        net.mark_outputs([a, (b, "out")])
    except ElementError:
        return
    text = to_spice(net)
    again = parse_spice(text)
    assert circuit(again) == circuit(net)
    assert set(again.node_names) == set(net.node_names)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a b",
        "a\rb",
        "a\x00b",
        "a\x1bb",
        "a\u2028b",
        "a\u200bb",
        "a\ud800",
        "a=b",
        "(",
        "*",
        ";",
        "$",
    ],
)
def test_names_that_cannot_be_written_are_refused(name):
    net = Netlist()
    with pytest.raises(ElementError, match="name"):
        net.node(name)
    with pytest.raises(ElementError, match="name"):
        net.resistor(name, "a", "b", 1.0)
    with pytest.raises(ElementError, match="name"):
        net.crossbar(name, ["a"], ["b"], [[1.0]])


@pytest.mark.parametrize(
    "title, kept",
    [
        ("x\ry z", "x y z"),
        ("x\u2028y", "x y"),
        ("", "circuit"),
        ("* t", "* t"),
        (" a  b\x00", "a b"),
    ],
)
def test_titles_are_one_line(title, kept):
    net = Netlist(title)
    net.resistor("r", "a", "0", 1.0)
    assert net.title == parse_spice(to_spice(net)).title == kept
    net.title = title
    assert parse_spice(to_spice(net)).title == kept


@pytest.mark.parametrize("siemens", [1e30, 1e-29, 1e-300, 1 / 3, 0.1, 4.9e-7])
def test_any_conductance_comes_back(siemens):
    for trainable in (True, False):
        net = Netlist()
        net.conductance("g", "a", "0", siemens, trainable=trainable)
        again = parse_spice(to_spice(net))
        assert again.conductances[0] == pytest.approx(siemens, rel=3e-16)
        assert to_spice(again) == to_spice(net)


def test_what_has_no_text_is_refused_when_written(tmp_path):
    net = Netlist()
    with pytest.raises(ElementError, match="without elements"):
        write_spice(net, tmp_path / "a.cir")
    net.conductance("g", "a", "0", 1e-310)
    with pytest.raises(ElementError, match="too small"):
        to_spice(net)
    net.set_conductances([1.0])
    net.node("b")
    with pytest.raises(ElementError, match="touches node 'b'"):
        to_spice(net)
    net.current_source("i", "a", "b", 1.0)
    net.cccs("f", "a", "b", "i", 2.0)
    with pytest.raises(ElementError, match="no voltage source"):
        to_spice(net)


def test_bytes_that_are_no_utf8(tmp_path):
    path = tmp_path / "latin.cir"
    path.write_bytes(b"caf\xe9\n* 10 \xb5F\nr1 a 0 1 ; \xb5\r\n")
    assert read_spice(path).title == "caf"
    path.write_bytes(b"t\nr1 \xe4 0 1\nr2 \xf6 0 1\n")  # two nodes, not one
    with pytest.raises(CircuitError, match="UTF-8"):
        read_spice(path)


@needs_ngspice
@pytest.mark.needs_ngspice
def test_ngspice_runs_on_odd_names_and_one_node():
    net = Netlist()
    net.current_source("i", "0", "all", 1e-3)
    net.resistor("poly", "all", "0", 1e3)
    np.testing.assert_allclose(run_ngspice(net), [0, 1], rtol=1e-9)
    net.resistor("r", "all", "poly", 1e3)
    net.resistor("r2", "poly", "Value", 1e3)
    net.vcvs("e", "Value", "0", "poly", "0", -2.0)
    net.diode("off", "Value", "poly", DiodeModel("off", IBV=2e-3))
    net.amplifier("a", "poly", "x_a.mid", 2.0)
    net.resistor("r3", "x_a.mid", "0", 1e3)
    point = operating_point(net)
    np.testing.assert_allclose(run_ngspice(net), point.voltages, rtol=1e-6)
    with pytest.raises(NgspiceError):
        run_ngspice_text("t\nq1 a b c d\n")
