"""Exact gradients as baselines: BPTT, recurrent back-propagation, implicit (docs/equations.md 9).

They have no nudge. On symmetric networks all three tend to what EP estimates.
"""

from __future__ import annotations

from .. import auto
from ..auto import AUTO
from ..docstrings import documented
from .base import PHASE, LearningRule


class ExactGradient(LearningRule):
    """Base of the exact gradients; not for direct use."""

    tol = None
    over_relaxes = False

    def _conflicts(self, beside):
        if beside.relaxation.over_relaxation not in (1, AUTO):
            yield (
                f"relaxation__over_relaxation={beside.relaxation.over_relaxation}: {self._name} goes back "
                "along plain steps"
            )


@documented
class BPTT(ExactGradient):
    """Back-propagation through the last steps of the free phase (1905.13633; docs/equations.md
    9.1).

    Parameters
    ----------
    n_steps : int or "auto"
        How many of the last steps of the free phase are reversed, at most all; "auto": 5, and 5
        more for each hidden layer.
    """

    word = "bptt"
    starts = ("zero",)
    other_starts = (
        "unrolls the free phase from zero; another start, itself the end of an earlier phase or a draw, "
        "has a gradient that would be dropped silently"
    )
    _parameter_constraints: dict = {"n_steps": PHASE["n_steps"]}

    def __init__(self, *, n_steps=AUTO):
        self.n_steps = n_steps

    def in_numbers(self, n_hidden, relaxation, amplitude=1.0):
        steps = min(auto.nudged_steps(n_hidden), relaxation.n_steps)
        return self.settled(n_steps=steps)

    def _conflicts(self, beside):
        yield from super()._conflicts(beside)
        if AUTO not in (self.n_steps, beside.relaxation.n_steps) and (
            self.n_steps > beside.relaxation.n_steps
        ):
            yield (
                f"learning_rule__n_steps={self.n_steps}: {self._name} cannot reverse more than the "
                f"relaxation__n_steps={beside.relaxation.n_steps} steps there are"
            )


@documented
class RecurrentBackprop(ExactGradient):
    """Almeida-Pineda recurrent back-propagation (1711.08416; docs/equations.md 9.2).

    Parameters
    ----------
    n_steps : int or "auto"
        Steps of the adjoint process at most; "auto": 5, and 5 more for each hidden layer.
    tol : float, None or "auto"
        It stops once its last increment is at most this share of the first, over the batch; None:
        always all steps; "auto": 1e-3.
    """

    word = "recurrent_backprop"
    _parameter_constraints: dict = dict(PHASE)

    def __init__(self, *, n_steps=AUTO, tol=AUTO):
        self.n_steps = n_steps
        self.tol = tol

    def in_numbers(self, n_hidden, relaxation, amplitude=1.0):
        return super().in_numbers(n_hidden, relaxation)  # its tolerance is a share


@documented
class Implicit(ExactGradient):
    """Implicit differentiation of the free equilibrium: one linear solve a sample
    (docs/equations.md 9.3).
    """

    word = "implicit"
    n_steps = 1  # there is no second phase

    def __init__(self):
        pass
