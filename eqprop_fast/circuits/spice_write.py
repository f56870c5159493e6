"""Writes a Netlist as SPICE text that ngspice runs and `read_spice` reads back."""

import math
import os
import re

import numpy as np

from .elements import AMPLIFIER, CCCS, CCVS, DIODE, IDEAL, ISOURCE, RESISTOR, VCCS, VCVS, VSOURCE
from .errors import ElementError, UnknownModelError
from .netlist import clean_title
from .spice_read import AMPLIFIER_CARDS, AMPLIFIER_SUBCKT, BEHAVIOURAL, IDEAL_CARD

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

# Names that mean something else to ngspice, or to a reader, where a node or a model may stand.
_TAKEN = {*BEHAVIOURAL, "all", "off", "area", "params"}


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
        Bounds, trainable flags, inputs and outputs travel in comments (`; @`, `*@`), which ngspice
        skips. An ideal diode becomes a steep exponential one named "ideal" (about a millivolt of
        drop in ngspice, ideal when read back).
    """
    net = netlist
    if not any(net.names):
        raise ElementError("a netlist without elements has no SPICE text")
    touched = {0}.union(*(at for kind in net.nodes for at in kind))
    if len(touched) < net.n_nodes:
        k = next(k for k in range(net.n_nodes) if k not in touched)
        raise ElementError(
            f"no element touches node {net.node_names[k]!r}, so it has no SPICE text"
        )
    nodes, aliases = spice_nodes(net)
    names = spice_names(net)
    models = _model_names(net)
    values = _with_inputs(net, inputs)
    out = [f"* {clean_title(net.title)}"]
    out += [f"*@ alias {nodes[k]} {net.node_names[k]}" for k in aliases]
    for kind in range(9):
        for k, (name, at) in enumerate(zip(names[kind], net.nodes[kind], strict=True)):
            start = " ".join([name, *(nodes[n] for n in at)])
            out.append(f"{start} {_card(net, kind, k, float(values[kind][k]), names, models)}")
    if net.names[AMPLIFIER]:
        out += AMPLIFIER_CARDS
    out += _models(net, models)
    for k in range(0, len(net.inputs), 20):
        found = [net.find(name) for name in net.inputs[k : k + 20]]
        out.append("*@ input " + " ".join(names[kind][index] for kind, index in found))
    out += [f"*@ output {nodes[a]}" + (f" {nodes[b]}" if b else "") for a, b in net.outputs]
    out.append(
        ".options"
        + "".join(
            f" {key}={float(value)!r}"
            for key, value in (("temp", net.temperature), ("tnom", net.tnom), ("gmin", net.gmin))
        )
    )
    return "\n".join(out + ([".op", ".end"] if end else [])) + "\n"


def _with_inputs(net, inputs):
    """Values of all elements, by kind, with those given to the marked inputs in place."""
    values = {kind: list(of_kind) for kind, of_kind in enumerate(net.values)}
    if inputs is None:
        return values
    inputs = np.asarray(inputs, dtype=np.float64)
    if inputs.shape != (len(net.inputs),) or not np.isfinite(inputs).all():
        raise ElementError(
            f"inputs must be {len(net.inputs)} finite numbers, got shape {inputs.shape}"
        )
    for name, value in zip(net.inputs, inputs.tolist(), strict=True):
        kind, k = net.find(name)
        values[kind][k] = value
    return values


def _card(net, kind, k, value, names, models):
    """What follows name and nodes on the line of element k of a kind."""
    if kind == RESISTOR:
        return f"{_ohms(net, k)!r}{_bounds(net, k)}"
    if kind == DIODE:
        area = "" if value == 1.0 else f" area={value!r}"
        return f"{models[net.diode_models[k]]}{area}"
    if kind in (VSOURCE, ISOURCE):
        return f"dc {value!r}"
    if kind in (CCCS, CCVS):
        source, at_source = net.find(net.controls[kind][k])
        if source != VSOURCE:
            raise ElementError(
                f"{net.names[kind][k]!r} is controlled by {net.controls[kind][k]!r}, "
                "which is no voltage source"
            )
        return f"{names[source][at_source]} {value!r}"
    if kind == AMPLIFIER:
        return f"{AMPLIFIER_SUBCKT} gain={value!r} feedback={float(net.feedback[k])!r}"
    return f"{value!r}"


def write_spice(netlist, path, inputs=None):
    """Write `to_spice` text to a file."""
    text = to_spice(netlist, inputs)
    with open(os.fspath(path), "w", encoding="utf-8", newline="\n") as file:
        file.write(text)


def spice_nodes(net):
    """Node names as SPICE knows them (lower case), and numbers of those that had to be renamed."""
    out, aliases = [], []
    taken = {
        f"{name}.mid" for name in spice_names(net)[AMPLIFIER]
    }  # inside the amplifiers, to ngspice
    for k, name in enumerate(net.node_names):
        plain = name.lower()
        if not _PLAIN.fullmatch(plain) or plain in taken or plain in _TAKEN or name != plain:
            plain = f"n_{k}"
            while plain in taken or plain in net._node:
                plain += "_"
            aliases.append(k)
        taken.add(plain)
        out.append(plain)
    return out, aliases


def spice_names(net):
    """Element names as SPICE knows them, per kind: lower case, beginning with the kind's letter,
    all different.
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


def _ohms(net, k):
    """The resistance of conductance `k`: of the nearest floats the one whose inverse is the
    conductance.
    """
    g = float(net.values[RESISTOR][k])
    ohms = 1.0 / g if g > 0 else math.inf
    if not math.isfinite(ohms):
        raise ElementError(f"conductance {net.names[RESISTOR][k]!r} is too small for SPICE: {g} S")
    if 1.0 / ohms != g:
        near = (math.nextafter(ohms, 0.0), math.nextafter(ohms, math.inf))
        ohms = next((r for r in near if 1.0 / r == g), ohms)
    return ohms


def _bounds(net, k):
    low, high, plain = float(net.g_min[k]), float(net.g_max[k]), 1e-30 < _ohms(net, k) < 1e30
    if low == 0 and high == np.inf and not net.trainable[k] and plain:
        return ""
    return f" ; @ {'trainable' if net.trainable[k] else 'fixed'} g_min={low!r} g_max={high!r}"


def _model_names(net):
    """SPICE's name of each model that a diode has."""
    out, taken = {IDEAL: IDEAL}, {IDEAL}
    for name in dict.fromkeys(net.diode_models):
        if name == IDEAL:
            continue
        if name not in net.models:
            raise UnknownModelError(f"no model is called {name!r}")
        plain = re.sub(r"[^a-z0-9_.]", "_", name)
        if not plain[0].isalpha() or plain in _TAKEN:
            plain = f"m_{plain}"
        while plain in taken:
            plain += "_"
        taken.add(plain)
        out[name] = plain
    return out


def _models(net, names):
    out = []
    for name in dict.fromkeys(net.diode_models):
        if name == IDEAL:
            out.append(IDEAL_CARD)
            continue
        model, keys = net.models[name], ("IS", "N", "RS", "EG", "XTI", "TNOM", "BV", "IBV")
        given = {k: getattr(model, k) for k in keys if getattr(model, k) is not None}
        values = " ".join(f"{k.lower()}={float(v)!r}" for k, v in given.items())
        out.append(f".model {names[name]} d ({values})")
    return out
