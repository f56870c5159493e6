"""Writes a Netlist as SPICE text that ngspice runs and `read_spice` reads back."""

import os
import re

import numpy as np

from .elements import AMPLIFIER, CCCS, CCVS, DIODE, IDEAL, ISOURCE, RESISTOR, VCCS, VCVS, VSOURCE
from .errors import ElementError, UnknownModelError
from .spice_read import AMPLIFIER_SUBCKT

_LETTER = {
    RESISTOR: "r",
    DIODE: "d",
    VSOURCE: "v",
    ISOURCE: "i",
    VCVS: "e",
    CCCS: "f",
    VCCS: "g",
    CCVS: "h",
    AMPLIFIER: "x",
}
_PLAIN = re.compile(r"[a-z0-9_][a-z0-9_.]*", re.ASCII)

#: What stands for an ideal diode in ngspice: about 1 mV forward drop at 1 mA.
IDEAL_CARD = f".model {IDEAL} d (is=1e-15 n=0.001)"
_AMPLIFIER_CARDS = [
    f".subckt {AMPLIFIER_SUBCKT} in out params: gain=1 feedback=1",
    "e1 mid 0 in 0 {gain}",
    "v1 mid out 0",
    "f1 in 0 v1 {feedback}",
    ".ends",
]


def to_spice(netlist, inputs=None, *, end=True):
    """SPICE text of a netlist.

    Parameters
    ----------
    netlist : Netlist
    inputs : array-like of shape (n_inputs,), optional
        Values for the marked input sources.
    end : bool
        Close with .op and .end.

    Returns
    -------
    str
        Bounds, trainable flags, inputs and outputs travel in comments (`; @`, `*@`), which ngspice skips. An
        ideal diode becomes a steep exponential one named "ideal" (about a millivolt of drop in ngspice, ideal
        when read back).
    """
    net = netlist
    nodes, aliases = spice_nodes(net)
    names = spice_names(net)
    sources = {kind: list(net.values[kind]) for kind in (VSOURCE, ISOURCE)}
    if inputs is not None:
        inputs = np.asarray(inputs, dtype=np.float64)
        if inputs.shape != (len(net.inputs),) or not np.isfinite(inputs).all():
            raise ElementError(f"inputs must be {len(net.inputs)} finite numbers, got shape {inputs.shape}")
        for name, value in zip(net.inputs, inputs.tolist(), strict=True):
            kind, k = net.find(name)
            sources[kind][k] = value
    out = [f"* {net.title}"]
    out += [f"*@ alias {nodes[k]} {net.node_names[k]}" for k in aliases]
    for kind in range(9):
        for k, (name, at) in enumerate(zip(names[kind], net.nodes[kind], strict=True)):
            start = " ".join([name, *(nodes[n] for n in at)])
            value = net.values[kind][k]
            if kind == RESISTOR:
                out.append(f"{start} {1.0 / value!r}{_bounds(net, k)}")
            elif kind == DIODE:
                area = "" if value == 1.0 else f" area={value!r}"
                out.append(f"{start} {_model_name(net.diode_models[k])}{area}")
            elif kind in sources:
                out.append(f"{start} dc {sources[kind][k]!r}")
            elif kind in (CCCS, CCVS):
                source, at_source = net.find(net.controls[kind][k])
                out.append(f"{start} {names[source][at_source]} {value!r}")
            elif kind == AMPLIFIER:
                out.append(f"{start} {AMPLIFIER_SUBCKT} gain={value!r} feedback={net.feedback[k]!r}")
            else:
                out.append(f"{start} {value!r}")
    if net.names[AMPLIFIER]:
        out += _AMPLIFIER_CARDS
    out += _models(net)
    for k in range(0, len(net.inputs), 20):
        found = [net.find(name) for name in net.inputs[k : k + 20]]
        out.append("*@ input " + " ".join(names[kind][index] for kind, index in found))
    out += [f"*@ output {nodes[a]}" + (f" {nodes[b]}" if b else "") for a, b in net.outputs]
    out.append(f".options temp={net.temperature!r} tnom={net.tnom!r} gmin={net.gmin!r}")
    return "\n".join(out + ([".op", ".end"] if end else [])) + "\n"


def write_spice(netlist, path, inputs=None):
    """Write `to_spice` text to a file."""
    text = to_spice(netlist, inputs)
    with open(os.fspath(path), "w", encoding="utf-8", newline="\n") as file:
        file.write(text)


def spice_nodes(net):
    """Node names as SPICE knows them (lower case), and numbers of those that had to be renamed."""
    out, aliases, taken = [], [], set()
    for k, name in enumerate(net.node_names):
        plain = name.lower()
        if not _PLAIN.fullmatch(plain) or plain in taken or name != plain:
            plain = f"n_{k}"
            while plain in taken or plain in net._node:
                plain += "_"
            aliases.append(k)
        taken.add(plain)
        out.append(plain)
    return out, aliases


def spice_names(net):
    """Element names as SPICE knows them, per kind: lower case, beginning with the kind's letter, all
    different.
    """
    out, taken = [], set()
    for kind, names in enumerate(net.names):
        letter, made = _LETTER[kind], []
        for k, name in enumerate(names):
            plain = name.lower()
            if not _PLAIN.fullmatch(plain):
                plain = f"{letter}_{k}"
            if plain[0] != letter:
                plain = f"{letter}_{plain}"
            while plain in taken:
                plain += "_"
            taken.add(plain)
            made.append(plain)
        out.append(made)
    return out


def _bounds(net, k):
    low, high = net.g_min[k], net.g_max[k]
    if low == 0 and high == np.inf and not net.trainable[k]:
        return ""
    return f" ; @ {'trainable' if net.trainable[k] else 'fixed'} g_min={low!r} g_max={high!r}"


def _model_name(name):
    return name if _PLAIN.fullmatch(name) else re.sub(r"[^a-z0-9_]", "_", name)


def _models(net):
    out, written = [], {}
    for name in dict.fromkeys(net.diode_models):
        if name == IDEAL:
            out.append(IDEAL_CARD)
            continue
        if name not in net.models:
            raise UnknownModelError(f"no model is called {name!r}")
        model, plain = net.models[name], _model_name(name)
        if written.setdefault(plain, name) != name:
            raise ElementError(f"diode models {written[plain]!r} and {name!r} have the same SPICE name")
        keys = ("IS", "N", "RS", "EG", "XTI", "TNOM", "BV", "IBV")
        given = {k: getattr(model, k) for k in keys if getattr(model, k) is not None}
        if model.BV is None:
            given.pop("IBV")
        out.append(
            f".model {plain} d (" + " ".join(f"{k.lower()}={float(v)!r}" for k, v in given.items()) + ")"
        )
    return out
