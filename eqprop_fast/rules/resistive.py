"""EP in a network of conductances (2402.11674, 2006.01981; docs/equations.md 11).

dg = rate / (2 beta B) sum_batch [ (dv)^2 at -beta - (dv)^2 at +beta ] / 2, then clamped to the
bounds
"""

from __future__ import annotations

from numbers import Real

from sklearn.utils._param_validation import Interval, StrOptions

from ..docstrings import documented
from ..kernels.spec import TrainPlan
from ..parts import Part
from ..relaxation import STEPS, TOLERANCE, kernel_tol
from .base import say_weak_nudge


@documented
class ResistiveEP(Part):
    """EP by the voltage drops over each conductance (docs/equations.md 11).

    Parameters
    ----------
    beta : float or "auto"
        Nudging conductance to the target, in siemens. Centered and negative nudging subtract it
        from the conductance at the output nodes and need it smaller than that. "auto": 0.1, or half
        of the smallest conductance at an output node of the network before training, if that is
        less.
    nudging : {"centered", "positive", "negative"}
        Two nudged phases at +beta and -beta, or one.
    n_steps : int
        Steps of a nudged phase at most.
    tol : float or None
        A sample stops after a step that moved no node by more than this many volt; None: always all
        steps.
    """

    word = "ep"
    random_sign = False
    _parameter_constraints: dict = {
        "beta": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "nudging": [StrOptions({"centered", "positive", "negative"})],
        "n_steps": STEPS,
        "tol": TOLERANCE,
    }

    def __init__(self, *, beta="auto", nudging="centered", n_steps=20, tol=1e-4):
        self.beta = beta
        self.nudging = nudging
        self.n_steps = n_steps
        self.tol = tol

    def say_weak_nudge(self, relaxation, auto_beta, siemens, dtype, stacklevel):
        """Warn of a beta that `siemens` at the outputs leave no more than tolerance or rounding."""
        beta = float(auto_beta if self.beta == "auto" else self.beta)
        tolerances = {"relaxation__tol": relaxation.tol, "learning_rule__tol": self.tol}
        say_weak_nudge(beta, beta / (beta + siemens), tolerances, dtype, stacklevel + 1)

    def plan(self, relaxation, auto_beta, **numbers):
        """The kernels' plan; `auto_beta` is what "auto" means for the network."""
        beta = float(auto_beta if self.beta == "auto" else self.beta)
        return TrainPlan(
            beta=-beta if self.nudging == "negative" else beta,
            n_free_steps=relaxation.n_steps,
            tol_free=kernel_tol(relaxation.tol),
            n_nudged_steps=self.n_steps,
            tol_nudged=kernel_tol(self.tol),
            centered=self.nudging == "centered",
            **numbers,
        )


RESISTIVE_RULES = {"ep": ResistiveEP}
