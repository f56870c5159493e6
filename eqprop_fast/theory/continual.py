"""Continual EP against BPTT as learning rate and nudging go to 0 (2005.04168, docs/equations.md
10.2).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.base import clone

from ..rules import EP, ContinualEP, ContinualVectorField, VectorField, as_rule
from .checks import by_dtype, dtype_of, halvings, settle, subject
from .match import angle_between
from .phases import bptt_moments, nudged_moments
from .presets import layered_spec
from .results import TheoryResult, draw_power, log_slope, new_figure, quiet_minor_ticks

CONTINUAL = {rule.word: rule for rule in (ContinualEP, ContinualVectorField)}
DEBUG_FACTORS = (1e-5, 1e-7, 1e-9)


@dataclass(frozen=True, eq=False)
class ContinualDeviation(TheoryResult):
    """Result of `continual_deviation`; the verdict is the largest distance of a slope from 1.

    Attributes
    ----------
    rates, betas : ndarray
        What was swept, each halving.
    by_rate : dict of str to ndarray
        "neurons", "synapses": distance of the updates at each rate from those at rate 0, same beta,
        relative to the BPTT gradients; root of the sum over all steps and entries.
    by_beta : dict of str to ndarray
        Distance from the BPTT gradients at rate 0.
    from_bptt : dict of str to ndarray
        Distance from the BPTT gradients at each rate.
    rate_slope, beta_slope : dict of str to float
    angle : ndarray
        Between the total update and the total gradient at each rate, degrees.
    angle_at_rate_0 : float
    debug_identity : dict of float to float
        By the factor on the rate: largest relative difference between EP's weight change and that
        of the debug procedure (docs/equations.md 5). It falls in proportion to the factor as long
        as the tiny changes of the weights are above their rounding.
    residual : float
        Largest speed of any unit at the end of the free phase.
    """

    rates: np.ndarray
    betas: np.ndarray
    by_rate: dict
    by_beta: dict
    from_bptt: dict
    rate_slope: dict
    beta_slope: dict
    angle: np.ndarray
    angle_at_rate_0: float
    debug_identity: dict
    residual: float

    def plot(self):
        figure, (left, middle, right) = new_figure(1, 3)
        for j, kind in enumerate(self.by_rate):
            draw_power(left, self.rates, self.by_rate[kind], f"{kind}, from rate 0", f"C{j}")
            left.loglog(
                self.rates, self.from_bptt[kind], ":", color=f"C{j}", label=f"{kind}, from BPTT"
            )
            draw_power(middle, self.betas, self.by_beta[kind], kind, f"C{j}")
        quiet_minor_ticks(left)
        right.plot(self.rates, self.angle, "o-")
        right.ticklabel_format(style="sci", axis="x", scilimits=(0, 0))
        right.axhline(self.angle_at_rate_0, ls=":", color="gray", label="rate 0")
        left.set(xlabel="learning rate", title=f"deviation at beta {self.settings['rule'].beta:g}")
        middle.set(xlabel="beta", title="deviation from BPTT at rate 0")
        right.set(
            xlabel="learning rate", ylabel="degrees", title="angle of the total update to BPTT"
        )
        for axis in (left, middle, right):
            axis.legend(fontsize=7)
        return figure


def continual_deviation(
    *,
    model=None,
    x=None,
    y=None,
    sizes=(8, 16, 12, 5),
    n_samples=4,
    rule="continual",
    rate=None,
    n_halvings=None,
    random_state=0,
    dtype=np.float64,
):
    """How far C-EP (or C-VF) strays from BPTT, as its learning rate and beta halve.

    Parameters
    ----------
    model, x, y : optional
        A `LayeredModel` (or `ToyNetwork`) and its data; without, a random network of `sizes`:
        smooth with symmetric weights, or for C-VF leaky with linear units and backward weights that
        start as the transposed forward ones, the only leaky ones whose Jacobian is symmetric.
    sizes, n_samples : tuple of int, int
        Of the random network and its data.
    rule : {"continual", "continual_vector_field"}, ContinualEP or ContinualVectorField
        With nudging "positive" and at least 2 steps. A word: 40 steps, and a beta of 0.01, or 0.15
        in float32.
    rate, n_halvings : float and int, optional
        Largest rate, and how often it and the rule's beta are halved; the rate is swept at this
        beta, beta at rate 0. 4e-5 and 4, or 2e-3 and 3 in float32.
    random_state : int or None
        Seed; None draws one, which the settings name.
    dtype : float32 or float64

    Returns
    -------
    ContinualDeviation
        Verdict: largest |slope - 1|, target 0.1.

    Raises
    ------
    ValueError
        Names the parameter.
    ArithmeticError
        The free phase did not settle.

    Notes
    -----
    The weights move by rate/beta times a change of order beta, so the states feel the rate as
    rate/beta: the limits are taken rate first.
    """
    dtype = dtype_of(model, dtype)
    rate = by_dtype(rate, dtype, 4e-5, 2e-3)
    rule = _followed(rule, by_dtype(None, dtype, 0.01, 0.15))
    n_halvings = by_dtype(n_halvings, dtype, 4, 3)
    rates, betas = halvings(rate, n_halvings, "rate"), halvings(rule.beta, n_halvings, "beta")
    model, x, y, of_subject = _fitting_subject(
        rule, model, x, y, sizes, n_samples, random_state, dtype
    )
    drive, free, residual = settle(model, x)
    exact = _stack(bptt_moments(model, drive, [free] * (rule.n_steps + 1), y))

    def updates(rate, beta):
        of_beta = clone(rule).set_params(beta=float(beta))
        return _stack(nudged_moments(model, x, y, free, of_beta, rate))

    still = updates(0.0, rule.beta)
    moving = [updates(r, rule.beta) for r in rates]
    distances = {
        "by_rate": _distances(moving, still, exact),
        "from_bptt": _distances(moving, exact, exact),
        "by_beta": _distances([updates(0.0, b) for b in betas], exact, exact),
    }
    rate_slope = {kind: log_slope(rates, v) for kind, v in distances["by_rate"].items()}
    beta_slope = {kind: log_slope(betas, v) for kind, v in distances["by_beta"].items()}
    return ContinualDeviation(
        verdict=float(np.max([abs(s - 1) for s in [*rate_slope.values(), *beta_slope.values()]])),
        target=0.1,
        settings=dict(of_subject, rule=rule, rate=rate, n_halvings=n_halvings),
        residual=residual,
        rates=rates,
        betas=betas,
        **distances,
        rate_slope=rate_slope,
        beta_slope=beta_slope,
        angle=np.array([angle_between(u[2], exact[2]) for u in moving]),
        angle_at_rate_0=angle_between(still[2], exact[2]),
        debug_identity={
            tiny: debug_identity(model, x, y, free, rule, rate, tiny) for tiny in DEBUG_FACTORS
        },
    )


def _fitting_subject(rule, model, *given):
    """The `subject` of a rule; a drawn network has backward weights where the rule asks for them."""
    of_random = {}
    if rule.independent_feedback:
        of_random = dict(make_spec=_linear_leaky_spec, angle=0.0, gain=0.5)
    found = subject(model, *given, **of_random)
    if rule.independent_feedback != (getattr(found[0], "back", None) is not None):
        has = "no " if rule.independent_feedback else ""
        raise ValueError(f"rule: {rule.word!r} cannot run on a model with {has}backward weights")
    return found


def _distances(updates, others, exact):
    """{"neurons", "synapses"}: |update - other| / |exact| for each of the updates."""
    return {
        kind: np.array(
            [np.linalg.norm(u[j] - others[j]) / np.linalg.norm(exact[j]) for u in updates]
        )
        for j, kind in enumerate(("neurons", "synapses"))
    }


def _linear_leaky_spec(sizes):
    return layered_spec("leaky", sizes, activation="identity", dt=0.2)


def _followed(rule, beta):
    """The rule, or the one of a word with 40 steps and this beta; refused if it is not continual."""
    if isinstance(rule, str) and rule in CONTINUAL:
        rule = CONTINUAL[rule](beta=beta, nudging="positive", n_steps=40)
    rule = as_rule(rule)
    if rule.word not in CONTINUAL:
        raise ValueError(
            f"rule must be continual, one of {list(CONTINUAL)} or their objects, got {rule!r}"
        )
    if rule.nudging != "positive":
        raise ValueError(
            f"rule__nudging={rule.nudging!r}: one nudged phase is followed; 'positive'"
        )
    if rule.n_steps < 2:
        raise ValueError(
            "rule__n_steps must be at least 2: moved weights act from the second step on"
        )
    return rule


def debug_identity(model, x, y, free, rule, rate=1e-3, tiny=1e-5):
    """The papers' debug procedure (2005.04168, App. F.2): C-EP with a tiny rate is EP.

    Run the nudged phase continually, on a copy, with the rate times `tiny`; apply the update that
    it accumulated, at the full rate, to the weights from before the phase (the paper undoes the
    tiny change instead); compare with the EP (or VF) update of the same phase.

    Returns
    -------
    float
        Largest difference of any weight afterwards, relative to the largest change of it. As `tiny`
        goes to 0 it falls in proportion, down to rounding.
    """
    frozen = VectorField if rule.independent_feedback else EP
    *_, (_, ep) = nudged_moments(model, x, y, free, frozen(beta=rule.beta, n_steps=rule.n_steps))
    *_, (_, accumulated) = nudged_moments(model, x, y, free, rule, rate * tiny)
    weights = model.weights + (getattr(model, "back", None) or [])[1:]
    ends = [
        [w - w.dtype.type(rate) * d for w, d in zip(weights, total)] for total in (ep, accumulated)
    ]
    change = max(np.abs(e - w).max() for e, w in zip(ends[0], weights))
    return float(max(np.abs(a - b).max() for a, b in zip(*ends)) / change)


def _stack(moments):
    """Neurons and synapses of all moments in one vector each, and the synapses of the last."""
    neurons, synapses = [], []
    for s, w in moments:
        neurons.append(np.concatenate([a.ravel() for a in s]))
        synapses.append(np.concatenate([a.ravel() for a in w]))
    return np.concatenate(neurons), np.concatenate(synapses), synapses[-1]
