"""What a learning rule takes for the gradient: the estimate alone, nothing applied."""

from __future__ import annotations

from ..dynamics import dynamics_of
from ..kernels.reference.layered import layered_cost
from ..kernels.reference.rules import estimate
from ..relaxation import Relaxation
from ..rules import as_rule
from .record import LayeredGradient, check_count, check_network, check_number


def estimated_gradient(
    spec, weights, biases, x, y, *, back=None, rule="ep", n_free_steps, tol=-1.0
):
    """Gradient estimate of a learning rule on one batch.

    Parameters
    ----------
    rule : LearningRule or str
        Continual ones and random signs excepted. A negative beta nudges away from the target.
    n_free_steps, tol
        Free phase: at most so many steps, stopping below this residual.

    Other parameters and returns as in `bptt`. The sign is that of the gradient, not of the weight
    change.

    Warns
    -----
    ConvergenceWarning
        Beta is so small that `tol`, the rule's or rounding drowns the nudge.

    Raises
    ------
    ValueError
        The rule cannot serve this network, or a parameter is out of range.
    """
    x, y = check_network(spec, weights, biases, x, y, back)
    check_count(n_free_steps, "n_free_steps")
    tol = check_number(tol, "tol")
    rule = as_rule(rule)
    if rule.random_sign:
        raise ValueError("rule__nudging='random_sign': one batch has one sign, that of beta")
    relaxation = Relaxation(spec.schedule, n_steps=n_free_steps, tol=None if tol < 0 else tol)
    relaxation.validate()
    rule.check(dynamics=dynamics_of(spec), relaxation=relaxation, cost=spec.cost)
    rule.say_weak_nudge(relaxation, weights[0].dtype, stacklevel=3)
    ones = (1.0,) * spec.n_weights
    plan = rule.plan(relaxation, batch_size=len(y), rate=ones, bias_rate=ones)
    ascent, states = estimate(spec, weights, back, biases, x, y, plan)
    minus = ascent.scaled(-1)
    cost = layered_cost(spec, states[-1], y)[0] / len(y)
    return LayeredGradient(
        minus.weights, minus.biases, minus.back, cost, states, plan.n_nudged_steps
    )
