"""SPICE bytes and cards: `parse_spice` reads them or raises a CircuitError, soon; what it reads
comes back from `to_spice`.
"""

import time

from eqprop_fast.circuits import CircuitError, parse_spice, to_spice
from eqprop_fast.circuits.elements import DIODE
from eqprop_fast.circuits.spice_write import spice_names

from .common import corpus, mutate, run_inputs

SECONDS = 5.0  # of processor time, for an input of a few kilobytes

DECK = b"""A deck with everything
.param rload=2k half={rload/2} three=3
V1 in 0 DC 2 AC 1   ; a source
v2 i2 0 ac 1 0 sin(2.5 1 1k) dc 4
R1 in mid {half}
+ $ continued by nothing
R2 mid
+ 0 'rload' ; @ trainable g_min=1e-6 g_max=0.01
* a comment
D1 mid 0 dx area=2
D2 mid i2 ideal
.model dx D(IS=1e-14 N=1.1 RS=2 CJO=1p TT=5n, bv=20 ibv=1e-3 eg=1.1 xti=3 tnom=27)
E1 e 0 mid 0 2
Re e 0 1k
Vs e s 0
Rs s 0 1k
F1 0 f Vs 2
Rf f 0 1k
H1 h 0 Vs 100
G1 0 g (mid 0) 1m
I1 0 q 1mA
.subckt half a b params: r=1k
.param q={r*2}
.model di d(is={q*1e-15})
Rx a m {r}
Dx m b di
x9 m b quarter
.ends half
.subckt quarter a b
Ry a b {three*2}
.ends
X1 in out half r=3k
.subckt eqp_amplifier in out params: gain=1 feedback=1
e1 mid 0 in 0 {gain}
v1 mid out 0
f1 in 0 v1 {feedback}
.ends
x2 mid amp eqp_amplifier gain=2.0 feedback=0.5
*@ input v1
*@ output mid f
*@ alias q Some-Node
.options reltol=1e-6 gmin=1e-13 temp=30
.temp 40
.control
set noaskquit
op
print all
.endc
.op
.end
"""

TOKENS = [
    token.encode()
    for token in (
        " dc 5|dc| ac 1 |sin(1 2 3)|pulse(0 1 0 1 1 1 1)|pwl(0 1 1 2)|poly(1)|off|area=|"
        "m=2|(|)|{|}|'|=|,|;|; @ |$|//|*@ |\n+ |\n*@ alias in A\n|\n.temp 80\n|"
        "\n.options temp=60\n|\n.param a={a}\n|{half*|{1mil}|1mil|1meg|1e400|1e-320|-0|0|"
        "nan|inf|1_0|\r|\r\n|\x00|\x85|\u2028|\xa0|\u212a|\u0130|\xb5|gnd|x1 a b half\n|"
        "\nxx a b half half=3\n|.ends\n|.subckt half a b\n|\n.end\n|.include a\n|"
        "\n.control\nset temp=80\n.endc\n|r|d|v1|i|e|h1|.model |ideal|n_3|(((((|**|^|"
        "max(1,2)|9**9|--|trainable|g_min=1|1e-30|1e30|1e29|params:|level=1|js=1e-12"
    ).split("|")
] + [b"\xff", b"\xb5"]


def circuit(net):
    """What a netlist says, in an order and with names that do not depend on how it was made."""
    elements = []
    for kind, names in enumerate(spice_names(net)):
        for k, name in enumerate(names):
            entry = [
                kind,
                name,
                [net.node_names[n] for n in net.nodes[kind][k]],
                net.values[kind][k],
            ]
            if kind == 0:
                entry += [net.g_min[k], net.g_max[k], net.trainable[k]]
            elif kind == DIODE:
                model = net.models.get(net.diode_models[k])
                entry.append(model and [v for f, v in vars(model).items() if f != "name"])
            elif kind in net.controls:
                entry.append(net.controls[kind][k])
            elements.append(entry)
    outputs = [[net.node_names[n] for n in pair] for pair in net.outputs]
    settings = [
        net.temperature,
        net.tnom,
        net.gmin,
        net.title,
        list(map(str.lower, net.inputs)),
        outputs,
    ]
    return elements, net.feedback, settings


def check(data):
    """True if the text was read."""
    text = data.decode("utf-8", errors="surrogateescape")
    start = time.process_time()
    try:
        net = parse_spice(text, "fuzz.cir", max_expanded=20_000)
    except CircuitError as error:
        assert str(error)
        return False
    finally:
        spent = time.process_time() - start
        assert spent < SECONDS, f"{spent:.1f} s for {len(data)} bytes"
    written = to_spice(net)
    again = parse_spice(written)
    assert circuit(again) == circuit(net), "what was written reads as another circuit"
    assert to_spice(again) == to_spice(parse_spice(to_spice(again)))
    return True


def cards(rng):
    """A text of cards with fields drawn from the tokens and the deck's own words."""
    words = DECK.split() + TOKENS
    lines = DECK.splitlines()
    if rng.random() < 0.5:  # the deck with a field or two changed
        out, edits = lines, int(rng.integers(1, 3))
    else:
        out, edits = [lines[k] for k in rng.integers(0, len(lines), int(rng.integers(2, 12)))], 3
    for _ in range(edits):
        at = int(rng.integers(0, len(out)))
        line = out[at].split(b" ")
        line[int(rng.integers(0, len(line)))] = words[int(rng.integers(0, len(words)))]
        out[at] = b" ".join(line)
    return b"\n".join(out)


def run(seconds, seed):
    seeds = [DECK, *corpus("spice").values()]

    def make(rng):
        if rng.random() < 0.6:
            return cards(rng)
        return mutate(rng, seeds[int(rng.integers(0, len(seeds)))], TOKENS)

    return run_inputs("spice", seconds, seed, make, check)
