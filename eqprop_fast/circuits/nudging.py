"""How strongly to nudge a circuit: beta from the resistance that its outputs show, and a check of
any beta.

A nudge of beta siemens moves an output by about beta R of its error, R being the resistance between
its nodes (driving point, at the free phase's operating point). The gradient's error grows with beta
R, and with what a junction moves beside its thermal voltage; below, what float64 rounds away
remains. A given beta is measured: its gradient beside the exact one, which the derivative at the
free phase's operating point gives.
"""

import warnings

import numpy as np

from ..kernels.reference.nodal import P_RS, P_VTE, diode_current
from .errors import CircuitError, NudgeWarning
from .operating_point import solver_of
from .polish import harmless, linearised

# beta="auto": of its error an output moves about that, and not more than eight times it
SHARE = 2.0**-13
MOVE = 2.0**-6  # and a junction that matters by at most this many thermal voltages
STRONG_SHARE, STRONG_MOVE, WEAK_SHARE = 0.1, 0.5, 1e-10  # a given beta beyond these is warned of
WEAK_MOVE = 1e-4  # below, what is wrong is rounding
WRONG = 0.01  # share of the gradient's size that a given beta may be off by without a word
NEAR = 1e-6  # of the outputs: samples whose errors are smaller have no gradient to speak of
SAMPLES = 4  # that are looked at


def output_resistance(netlist, point):
    """Largest resistance that the outputs show at the operating points of a few samples, ohm.

    Of each output the sum over all outputs of |its move per ampere into that one|, as all are nudged at once.
    """
    into = _into_outputs(netlist)
    if not into.any():
        return 0.0
    largest = 0.0
    for s in _some(len(point._junction)):
        solve = _derivative(netlist, point, s)
        moves = np.full((1, 1), np.nan) if solve is None else into.T @ solve(into)
        largest = np.maximum(largest, np.abs(moves).sum(axis=1).max())
    if not np.isfinite(largest):
        raise CircuitError(
            "beta='auto': the circuit has no derivative at its operating point; give a number for beta"
        )
    return float(largest)


def _into_outputs(netlist):
    """Where an ampere into each output goes, (unknowns, outputs)."""
    asm = solver_of(netlist).assembly
    into = np.zeros((asm.n, len(netlist.outputs)))
    for k, ends in enumerate(netlist.outputs):
        for node, sign in zip(asm.unknown_of_node[list(ends)], (1.0, -1.0), strict=True):
            if node >= 0:
                into[node, k] += sign
    return into


def _some(n_samples):
    return np.unique(np.linspace(0, n_samples - 1, SAMPLES).astype(int))


def _derivative(netlist, point, s):
    """Function from currents into the unknowns of sample s to their moves; None if it has none."""
    solver, junction = solver_of(netlist), point._junction[s]
    return linearised(solver, _slopes(solver, junction), junction > 0)


def _slopes(solver, junction):
    """Slopes of exponential diodes seen through their series resistance, siemens; 0 of ideal ones."""
    asm = solver.assembly
    if not len(asm.anode):
        return np.zeros(0)
    par = harmless(asm, solver.parameters)
    with np.errstate(all="ignore"):
        _, slope = diode_current(par, np.where(asm.ideal, 0.0, junction))
    return np.where(asm.ideal, 0.0, slope / (1 + par[:, P_RS] * slope))


def auto_beta(netlist, free, drive):
    """A power of two of siemens, so that the last digits of R do not matter."""
    # no more than that: an output that a diode holds shows nothing
    gross = solver_of(netlist).gross
    resistance = max(output_resistance(netlist, free), 1.0 / gross if gross else 0.0)
    resistance *= max(1.0, float(np.abs(drive).max(initial=0.0)))
    return float(2.0 ** np.floor(np.log2(SHARE / resistance))) if resistance else SHARE


def measure(netlist, free, nudged, drive, beta):
    """What a nudge did: (largest share of its error that an output moved, largest move of a
    junction, vte).

    Junctions count that conduct, before or after, at least 1/1000 of what the outputs show.
    """
    asked = np.abs(drive).max(axis=1)
    moved = np.abs(nudged.outputs - free.outputs).max(axis=1)
    asking = asked > 1e-9 * asked.max(initial=0.0)
    share = float((moved[asking] / asked[asking]).max(initial=0.0))
    solver = solver_of(netlist)
    before, after = free._junction, nudged._junction
    seen = np.maximum(_slopes(solver, before), _slopes(solver, after))
    exponential = ~solver.assembly.ideal
    matters = exponential & (seen * share >= 1e-3 * abs(beta))
    vte = (
        np.where(exponential, solver.parameters[:, P_VTE], 1.0) if len(exponential) else np.zeros(0)
    )
    move = float((np.abs(after - before) / vte)[matters].max(initial=0.0))
    return share, move


def excess(share, move):
    """By what power of two beta="auto" is too large; 1 if it is not."""
    over = max(share / (8 * SHARE), move / MOVE)
    return float(2.0 ** np.ceil(np.log2(over))) if over > 1 and np.isfinite(over) else 1.0


@np.errstate(over="ignore", invalid="ignore")
def error(netlist, free, drive, phases, width):
    """How far the gradient of `phases` is from that of a vanishing nudge, as a share of its size.

    Of a few samples: the exact move of all nodes per siemens of nudge, beside the one between the
    phases, which `width` makes comparable.
    """
    asm, into = solver_of(netlist).assembly, _into_outputs(netlist)
    a, b = phases.pairs.T
    off = size = 0.0
    asking = np.flatnonzero(np.abs(drive).max(axis=1) > NEAR * np.abs(free.outputs).max())
    for s in asking[_some(len(asking))] if len(asking) else ():
        solve = _derivative(netlist, free, s)
        if solve is None:
            continue
        move = np.zeros(netlist.n_nodes)
        move[asm.unknown_nodes] = solve(into @ drive[s])[: asm.n_unknown_nodes]
        v, d, t = free.voltages[s], phases.difference[s], phases.total[s]
        exact = (move[a] - move[b]) * (v[a] - v[b])
        found = (d[a] - d[b]) * (t[a] - t[b]) / width
        off += ((phases.scale * (found - exact)) ** 2).sum()
        size += ((phases.scale * exact) ** 2).sum()
    return float(np.sqrt(off / size)) if size else 0.0


def warn_of(beta, share, move, wrong):
    """NudgeWarning if a given beta is out of proportion to the circuit."""
    if share > STRONG_SHARE or move > STRONG_MOVE:
        what = f"moves an output by {share:.2g} of its error" + (
            f" and a junction by {move:.2g} thermal voltages" if move > STRONG_MOVE else ""
        )
        advice = "the gradient may be far off; use a smaller one"
    elif share < WEAK_SHARE:
        what = f"moves the outputs by {share:.2g} of their error only"
        advice = "rounding may drown the gradient; use a larger one"
    elif not wrong <= WRONG:
        what = f"makes the gradient wrong by about {wrong:.1%}"
        advice = "use a smaller one" if max(share, move) > WEAK_MOVE else "use a larger one"
    else:
        return
    warnings.warn(f"beta={beta:g} S {what}: {advice}, or beta='auto'", NudgeWarning, stacklevel=4)
