"""Random circuits for the tests and the comparison with ngspice: always solvable, never two
solutions by design.
"""

import numpy as np

from eqprop_fast.circuits import D1N4148, DiodeModel, Netlist

MODELS = (
    D1N4148,
    DiodeModel("plain"),
    DiodeModel("lossy", IS=1e-12, N=1.5, RS=10.0),
    DiodeModel("hot", IS=3e-15, N=1.1, RS=1.0, TNOM=50.0, EG=1.05, XTI=2.5),
    DiodeModel("zener", IS=1e-14, N=1.0, RS=5.0, BV=3.3, IBV=1e-3),
)


def random_circuit(seed, n_nodes, *, diodes=0.3, controlled=0.05, ideal=False):
    """A connected random circuit of about `n_nodes` nodes.

    Resistors span the nodes and add half as many edges again; `diodes` and `controlled` are
    fractions of the nodes. Controlled sources have gains below one towards nodes of their own, so
    that the circuit stays well posed.
    """
    rng = np.random.default_rng(seed)
    net = Netlist(f"random {seed}", temperature=float(rng.choice([27.0, 27.0, 60.0])))
    ohms = lambda: float(10 ** rng.uniform(1, 5))  # noqa: E731
    nodes = ["0"] + [f"n{k}" for k in range(1, n_nodes)]
    pick = lambda: nodes[rng.integers(len(nodes))]  # noqa: E731

    def pair():
        a = pick()
        b = pick()
        while b == a:
            b = pick()
        return a, b

    for k in range(1, n_nodes):
        net.resistor(f"rt{k}", nodes[k], nodes[rng.integers(max(0, k - 30), k)], ohms())
    for k in range(n_nodes // 2):
        net.resistor(f"rx{k}", *pair(), ohms())
    for k in range(max(1, n_nodes // 20)):
        net.voltage_source(f"vs{k}", f"s{k}", "0", float(rng.uniform(-5, 5)))
        net.resistor(f"rs{k}", f"s{k}", nodes[1 + rng.integers(n_nodes - 1)], ohms())
    net.voltage_source("vchain", "chain", "s0", float(rng.uniform(-1, 1)))
    net.resistor("rchain", "chain", nodes[-1], ohms())
    for k in range(n_nodes // 20):
        net.current_source(f"is{k}", *pair(), float(rng.uniform(-1e-3, 1e-3)))
    for k in range(int(diodes * n_nodes)):
        a, b = pair()
        model = "ideal" if ideal else MODELS[rng.integers(len(MODELS))]
        net.diode(f"d{k}", a, b, model, area=1.0 if ideal else float(rng.choice([1.0, 1.0, 2.5])))
    for k in range(int(controlled * n_nodes)):
        kind = k % 5
        out = f"c{k}"
        net.resistor(f"rc{k}", out, pick(), ohms())
        if kind == 0:
            net.vcvs(f"e{k}", out, "0", *pair(), float(rng.uniform(-0.8, 0.8)))
        elif kind == 1:
            net.resistor(f"rg{k}", out, "0", 1e3)
            net.vccs(f"g{k}", out, "0", *pair(), float(rng.uniform(-5e-4, 5e-4)))
        elif kind == 2:
            net.resistor(f"rf{k}", out, "0", 1e3)
            net.voltage_source(f"vf{k}", f"f{k}", pick(), 0.1)
            net.resistor(f"rff{k}", f"f{k}", pick(), ohms())
            net.cccs(f"f{k}", out, "0", f"vf{k}", float(rng.uniform(-0.8, 0.8)))
        elif kind == 3:
            net.voltage_source(f"vh{k}", f"h{k}", pick(), 0.0)
            net.resistor(f"rh{k}", f"h{k}", pick(), ohms())
            net.ccvs(f"h{k}", out, "0", f"vh{k}", float(rng.uniform(-50, 50)))
        else:
            net.amplifier(f"a{k}", pick(), out, float(rng.choice([2.0, 4.0])))
    return net


def paper_net(seed=0, n_in=784, hidden=100, n_out=10, *, ideal=False, pairs=False, gain=4.0):
    """The network of 2006.01981 with complementary inputs: two diodes and an amplifier at every
    hidden node.
    """
    rng = np.random.default_rng(seed)
    net = Netlist("2006.01981")
    rows = [f"in{k}" for k in range(2 * n_in)]
    for k, row in enumerate(rows):
        net.voltage_source(f"vin{k}", row, "0", 0.0)
    net.voltage_source("vlow", "low", "0", 0.7)
    net.voltage_source("vhigh", "high", "0", 0.3)
    hid = [f"h{k}" for k in range(hidden)]
    top = 2.8 / np.sqrt(2 * n_in + hidden)
    net.crossbar("w1", rows, hid, rng.uniform(1e-7, top, (2 * n_in, hidden)), g_min=1e-7)
    for k in range(hidden):
        model = "ideal" if ideal else D1N4148
        net.diode(f"dh{k}", hid[k], "high", model)
        net.diode(f"dl{k}", "low", hid[k], model)
        net.amplifier(f"a{k}", hid[k], f"b{k}", gain)
    count = n_out * (2 if pairs else 1)
    outs = [f"o{k}" for k in range(count)]
    top = 2.8 / np.sqrt(hidden + count)
    net.crossbar(
        "w2",
        [f"b{k}" for k in range(hidden)],
        outs,
        rng.uniform(1e-7, top, (hidden, count)),
        g_min=1e-7,
    )
    net.mark_inputs([f"vin{k}" for k in range(2 * n_in)])
    net.mark_outputs([(outs[2 * k], outs[2 * k + 1]) for k in range(n_out)] if pairs else outs)
    return net


HARD_MODELS = """.model m0 d(is=1e-14)
.model m1 d(is=4.352e-9 n=1.906 rs=0.6458 bv=110 ibv=1e-4)
.model m2 d(is=1e-15 rs=10 n=1.1)
.model m3 d(is=1e-13 bv=4.7 ibv=1m rs=1)
.model m4 d(is=1e-6 n=1.05 rs=0.05)
"""


def hard_netlist(seed):
    """SPICE text of a small circuit with up to ten decades of resistances, diodes of all kinds, and
    gain.
    """
    r = np.random.default_rng(seed)
    n = int(r.integers(3, 14))
    nodes = ["0"] + [f"n{i}" for i in range(1, n)]
    lo, hi = (-2, 8) if r.random() < 0.6 else (1, 5)
    cards = ["t"]

    def pick():
        return nodes[r.integers(n)]

    def pair():
        a, b = pick(), pick()
        while a == b:
            b = pick()
        return a, b

    def ohms():
        return f"{10 ** r.uniform(lo, hi):.4g}"

    for i in range(1, n):
        cards.append(f"rt{i} {nodes[i]} {nodes[r.integers(i)]} {ohms()}")
    cards += [f"vm src 0 {r.uniform(-10, 10):.4g}", f"rm src n1 {ohms()}"]
    if r.random() < 0.5:
        cards += [f"vm2 src2 {pick()} {r.uniform(-10, 10):.4g}", f"rm2 src2 {pick()} {ohms()}"]
    for i in range(r.integers(2, 2 * n)):
        a, b = pair()
        card = f"d{i} {a} {b} m{r.integers(5)}"
        cards.append(card + (f" area={r.uniform(0.1, 10):.3g}" if r.random() < 0.2 else ""))
    if r.random() < 0.4:
        a, b = pair()
        cards.append(f"i1 {a} {b} {r.choice([1e-6, 1e-3, 0.1]) * r.normal():.4g}")
    k = r.random()
    if k < 0.25:
        a, b = pair()
        cards.append(f"e1 eo 0 {a} {b} {r.choice([-1, 1]) * 10 ** r.uniform(0, 5):.4g}")
        cards.append(f"re eo {pick()} {ohms()}")
    elif k < 0.4:
        a, b = pair()
        c, d = pair()
        cards += [f"g1 {a} {b} {c} {d} {10 ** r.uniform(-6, -2):.4g}"]
    elif k < 0.55:
        cards += [f"vs {pick()} vv 0", f"dvs vv {pick()} m{r.integers(5)}", "rvs vv 0 1meg"]
        cards += [
            f"f1 0 fo vs {10 ** r.uniform(-1, 2):.4g}",
            f"rf fo {pick()} {ohms()}",
            "rf2 fo 0 10k",
        ]
    elif k < 0.7:
        cards += [f"vs {pick()} vv 0", f"rvs vv {pick()} {ohms()}"]
        cards += [
            f"h1 ho 0 vs {10 ** r.uniform(0, 5) * r.choice([-1, 1]):.4g}",
            f"rh ho {pick()} {ohms()}",
        ]
    return "\n".join(cards) + "\n" + HARD_MODELS
