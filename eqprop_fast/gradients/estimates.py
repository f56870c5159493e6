"""What a learning rule takes for the gradient: the estimate alone, nothing applied."""

from __future__ import annotations

from ..kernels.reference.layered import layered_cost
from ..kernels.reference.rules import estimate
from ..kernels.spec import TrainPlan
from .record import LayeredGradient, check_count, check_network

NUDGINGS = {"positive": (1, False), "negative": (-1, False), "centered": (1, True)}


def estimated_gradient(
    spec,
    weights,
    biases,
    x,
    y,
    *,
    back=None,
    rule="ep",
    nudging="positive",
    beta,
    n_free_steps,
    n_nudged_steps,
    tol_free=-1.0,
    tol_nudged=-1.0,
):
    """Gradient estimate of a learning rule on one batch.

    Parameters
    ----------
    rule : str
        A key of `kernels.spec.RULES`, continual ones excepted.
    nudging : {"positive", "negative", "centered"}
    beta : float
        Nudging strength, > 0.

    Other parameters and returns as in `bptt`. The sign is that of the gradient, not of the weight change.

    Raises
    ------
    ValueError
        The rule cannot serve this network, or a parameter is out of range.
    """
    x, y = check_network(spec, weights, biases, x, y, back)
    check_count(n_free_steps, "n_free_steps")
    check_count(n_nudged_steps, "n_nudged_steps")
    if nudging not in NUDGINGS:
        raise ValueError(f"nudging must be one of {sorted(NUDGINGS)}, got {nudging!r}")
    if not beta > 0:
        raise ValueError(f"beta must be > 0, got {beta!r}")
    sign, centered = NUDGINGS[nudging]
    plan = TrainPlan(
        batch_size=len(y), beta=sign * beta, n_free_steps=n_free_steps, n_nudged_steps=n_nudged_steps,
        rate=(1.0,) * spec.n_weights, bias_rate=(1.0,) * spec.n_weights, rule=rule, centered=centered,
        tol_free=tol_free, tol_nudged=tol_nudged,
    )
    ascent, states = estimate(spec, weights, back, biases, x, y, plan)
    minus = ascent.scaled(-1)
    cost = layered_cost(spec, states[-1], y)[0] / len(y)
    return LayeredGradient(minus.weights, minus.biases, minus.back, cost, states, n_nudged_steps)
