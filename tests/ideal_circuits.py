"""Random circuits of ideal diodes, easy and degenerate, and the answers of every set of conducting
ones.
"""

import itertools

import numpy as np
from scipy.optimize import linprog

from eqprop_fast.circuits import D1N4148, DiodeModel, Netlist
from eqprop_fast.circuits.elements import DIODE, ISOURCE, RESISTOR, VSOURCE

KINDS = ("string", "bridge", "mesh", "loops", "parallel", "mixed")


def ideal_circuit(seed, kind):
    """Strings of 2 to 10, bridges, meshes, loops and parallel ones; voltages to 1000 V, eight
    decades of conductance.
    """
    r = np.random.default_rng((seed, KINDS.index(kind)))
    net = Netlist(f"{kind} {seed}")
    wide = r.random() < 0.5
    ohms = lambda: float(10 ** (r.uniform(0, 8) if wide else r.uniform(2, 4)))  # noqa: E731
    volts = lambda: float(r.choice([-1, 1]) * 10 ** r.uniform(-2, 3))  # noqa: E731
    net.wide, count = wide, 0

    def diode(a, b, model="ideal"):
        nonlocal count
        net.diode(f"d{count}", a, b, model)
        count += 1

    def resistor(a, b):
        net.resistor(f"r{len(net.names[RESISTOR])}", a, b, ohms())

    net.voltage_source("v", "s", "0", volts())
    resistor("s", "a")
    if kind in ("string", "mixed"):
        n = int(r.integers(2, 11))
        nodes = ["a", *(f"n{k}" for k in range(n - 1)), str(r.choice(["0", "z"]))]
        models = ["ideal", D1N4148, DiodeModel("m", RS=1.0)] if kind == "mixed" else ["ideal"]
        for k in range(n):
            diode(nodes[k], nodes[k + 1], models[r.integers(len(models))])
            if r.random() < 0.2:
                resistor(nodes[k], "0")
        if nodes[-1] == "z":
            resistor("z", "0")
    elif kind == "bridge":
        for a, b in (("a", "p"), ("0", "p"), ("n", "a"), ("n", "0")):
            diode(a, b)
        resistor("p", "n")
        if r.random() < 0.5:
            diode("p", "q")
            resistor("q", "n")
    else:
        nodes = ["0", "a", *(f"n{k}" for k in range(r.integers(1, 6)))]
        for k in range(2, len(nodes)):
            if kind != "loops" or r.random() < 0.6:  # the others hang on diodes
                resistor(nodes[k], nodes[r.integers(k)])
            else:
                diode(*r.permutation([nodes[k], nodes[r.integers(k)]]).tolist())
        for _ in range(r.integers(1, 7)):
            a, b = r.choice(nodes, 2, replace=False).tolist()
            for _ in range(r.integers(1, 3) if kind == "parallel" else 1):
                diode(a, b)
            if kind == "loops" and r.random() < 0.4:
                diode(b, a)
        if r.random() < 0.4:
            net.current_source("i", "0", nodes[r.integers(1, len(nodes))], float(r.normal() * 1e-3))
        if r.random() < 0.4:
            net.voltage_source("v2", "s2", "0", volts())
            resistor("s2", nodes[r.integers(1, len(nodes))])
    return net


def _across(pairs, n):
    t = np.zeros((len(pairs), n))
    for k, (a, b) in enumerate(pairs):
        t[k, a] += 1.0
        t[k, b] -= 1.0
    return t


def _can_move(g, held, one_sided):
    """Whether some voltages can change while no current does: conducting diodes and sources hold,
    diodes at 0 V without current hold from one side.
    """
    n = len(g)
    equal = np.vstack([g / np.maximum(np.abs(g).max(axis=1, keepdims=True), 1e-300), held])
    for k in range(n):
        for sign in (1.0, -1.0):
            best = linprog(
                sign * np.eye(n)[k],
                A_ub=one_sided if len(one_sided) else None,
                b_ub=np.zeros(len(one_sided)) if len(one_sided) else None,
                A_eq=equal,
                b_eq=np.zeros(len(equal)),
                bounds=(-1, 1),
            )
            if best.status == 0 and best.fun < -1e-3:
                return True
    return False


def all_answers(net, tol=1e-9):
    """Node voltages of every consistent set of conducting diodes, and whether in one of them nodes
    are free.

    Each set's equations are solved by least squares; conductances, in units of the largest, must
    not differ by many decades.
    """
    n, diodes, sources = net.n_nodes, net.nodes[DIODE], net.nodes[VSOURCE]
    g, unit = np.zeros((n, n)), max(net.values[RESISTOR])
    for (a, b), siemens in zip(net.nodes[RESISTOR], net.values[RESISTOR], strict=True):
        g[[a, b], [a, b]] += siemens / unit
        g[[a, b], [b, a]] -= siemens / unit
    into = np.zeros(n)
    for (a, b), amperes in zip(net.nodes[ISOURCE], net.values[ISOURCE], strict=True):
        into[a] -= amperes / unit
        into[b] += amperes / unit
    size = np.abs(net.values[VSOURCE]).max() + np.abs(into).max()
    t, found, free = _across(sources + diodes, n)[:, 1:], [], False
    g, into = g[1:, 1:], into[1:]
    for on in itertools.product([False, True], repeat=len(diodes)):
        which = np.array([True] * len(sources) + list(on))
        ties = t[which]
        a = np.block([[g, ties.T], [ties, np.zeros((len(ties),) * 2)]])
        b = np.concatenate([into, net.values[VSOURCE], np.zeros(sum(on))])
        x = np.linalg.lstsq(a, b, rcond=1e-12)[0]
        v, i = x[: n - 1], np.zeros(len(diodes))
        i[list(on)] = x[n - 1 + len(sources) :]
        drop = t[len(sources) :] @ v
        if (
            np.abs(a @ x - b).max() > tol * size
            or (drop > tol * size).any()
            or (i < -tol * size).any()
        ):
            continue
        strict, edge = i > 1e-7 * size, (np.abs(drop) <= tol * size)
        held = np.vstack([t[: len(sources)], t[len(sources) :][strict]])
        free = free or _can_move(g, held, t[len(sources) :][edge & ~strict])
        found.append(np.append(0.0, v))
    return found, free
