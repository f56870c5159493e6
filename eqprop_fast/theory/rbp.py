"""The second phase of EP performs recurrent back-propagation (1711.08416, docs/equations.md 9.2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..gradients.record import check_count
from .checks import by_dtype, dtype_of, halvings, settle, subject
from .results import TheoryResult, draw_power, log_slope, new_figure


@dataclass(frozen=True, eq=False)
class RbpMatch(TheoryResult):
    """Result of `rbp_match`; the verdict is the larger distance of `slope` and `synapse_slope` from
    1.

    Attributes
    ----------
    betas : ndarray (H + 1,)
    deviation : ndarray (H + 1,)
        ``max_t |(1/beta) (s_t+1 - s_t) - S_t| / |S_0|`` over the whole network, Euclidean norm.
    deviation_in_time : ndarray (H + 1, K)
    synapse_deviation : ndarray (H + 1,)
        The same for the local updates of the weights, relative to the largest of the process.
    slope, synapse_slope : float
        Of log deviation against log beta.
    curves : tuple of ndarray (K, 6)
        EP and RBP side by side for a few units, at the largest beta.
    residual : float
        Largest speed of any unit at the end of the free phase.
    """

    betas: np.ndarray
    deviation: np.ndarray
    deviation_in_time: np.ndarray
    synapse_deviation: np.ndarray
    slope: float
    synapse_slope: float
    curves: tuple
    residual: float

    def plot(self):
        figure, (left, middle, right) = new_figure(1, 3)
        for j in range(self.curves[0].shape[1]):
            left.plot(self.curves[1][:, j], color=f"C{j}", lw=2.4, alpha=0.45)
            left.plot(self.curves[0][:, j], color=f"C{j}", ls="--", lw=1.1)
        left.set(xlabel="step t", title=f"RBP (solid), EP at beta {self.betas[0]:g} (dashed)")
        for beta, row in zip(self.betas, self.deviation_in_time):
            middle.semilogy(row, label=f"beta {beta:.3g}")
        middle.set(xlabel="step t", title="relative deviation")
        draw_power(right, self.betas, self.deviation, "neurons", "C0")
        draw_power(right, self.betas, self.synapse_deviation, "synapses", "C1")
        right.set(xlabel="beta", title="largest deviation")
        for axis in (middle, right):
            axis.legend(fontsize=7)
        return figure


def _norm(arrays):
    return float(np.sqrt(sum((a * a).sum() for a in arrays)))


def _distance(a, b):
    return _norm([u - v for u, v in zip(a, b)])


def _few_units(process):
    """Three units of the first and the last layer of one sample, step by step: (K, 6)."""
    return np.array([np.concatenate([s[0, :3] for s in (p[0], p[-1])]) for p in process])


def _adjoint_process(model, drive, free, y, k):
    """S_0 = the force of the cost, S_t+1 = J^T S_t; and what each step gives the weights, without
    the Euler factor that S_t has already.
    """
    states = [[-model.dt * len(y) * b for b in model.cost_gradient(free[-1], y)]]
    synapses = []
    for _ in range(k):
        bar, parameters = model.vjp(drive, free, states[-1])
        states.append(bar)
        synapses.append([p / model.dt for p in parameters])
    return states, synapses


def _nudged_process(model, drive, free, y, beta, k):
    """(s_t+1 - s_t) / beta of the second phase, and its local updates of the weights / beta."""
    states, speeds, updates = free, [], []
    for _ in range(k):
        new = model.step(drive, states, y, beta)
        speeds.append([(u - v) / beta for u, v in zip(new, states)])
        update, _ = model.increment(drive, states, new)
        updates.append([u / beta for u in update])
        states = new
    return speeds, updates


def rbp_match(
    *,
    model=None,
    x=None,
    y=None,
    sizes=(8, 16, 12, 5),
    n_samples=4,
    beta=None,
    n_halvings=None,
    n_nudged_steps=80,
    random_state=0,
    dtype=np.float64,
):
    """Compare the speed of the second phase with recurrent back-propagation, step by step.

    EP steps the dynamics forward, through J; RBP iterates its adjoint, through J^T, from the free
    state. They agree as beta goes to 0 because an energy makes J symmetric.

    Parameters
    ----------
    model, x, y : optional
        A `LayeredModel` or `ToyNetwork` and its data; a random smooth network of `sizes` without.
    sizes, n_samples : tuple of int, int
        Of the random network and its data.
    beta, n_halvings : float and int, optional
        Largest nudging strength, and how often it is halved; 0.02 and 4, or 0.15 and 3 in float32.
    n_nudged_steps : int
        K, at least 2.
    random_state : int or None
        Seed; None draws one, which the settings name.
    dtype : float32 or float64

    Returns
    -------
    RbpMatch
        Verdict: the larger of |slope - 1| and |synapse_slope - 1|, target 0.1.

    Raises
    ------
    ValueError
        Names the parameter.
    ArithmeticError
        The free phase did not settle.
    """
    dtype = dtype_of(model, dtype)
    beta, n_halvings = by_dtype(beta, dtype, 0.02, 0.15), by_dtype(n_halvings, dtype, 4, 3)
    betas = halvings(beta, n_halvings, "beta")
    k = check_count(n_nudged_steps, "n_nudged_steps", at_least=2)  # the first is the force itself
    model, x, y, of_subject = subject(model, x, y, sizes, n_samples, random_state, dtype)
    drive, free, residual = settle(model, x)
    adjoint, synapse_adjoint = _adjoint_process(model, drive, free, y, k)
    force, largest = _norm(adjoint[0]), max(_norm(p) for p in synapse_adjoint)
    rows, synapse_rows, curves = [], [], None
    for b in betas:
        speeds, updates = _nudged_process(model, drive, free, y, b, k)
        rows.append([_distance(u, v) / force for u, v in zip(speeds, adjoint)])
        synapse_rows.append(
            max(_distance(u, v) / largest for u, v in zip(updates, synapse_adjoint))
        )
        if curves is None:
            curves = _few_units(speeds), _few_units(adjoint[:k])
    rows = np.array(rows)
    deviation = rows.max(axis=1)
    slope, synapse_slope = log_slope(betas, deviation), log_slope(betas, synapse_rows)
    return RbpMatch(
        verdict=float(np.max(np.abs([slope - 1, synapse_slope - 1]))),
        target=0.1,
        settings=dict(of_subject, beta=beta, n_halvings=n_halvings, n_nudged_steps=k),
        residual=residual,
        betas=betas,
        deviation=deviation,
        deviation_in_time=rows,
        synapse_deviation=np.array(synapse_rows),
        slope=slope,
        synapse_slope=synapse_slope,
        curves=curves,
    )
