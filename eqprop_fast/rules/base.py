"""What learning rules share: the plan they make for the kernels, and how they refuse company."""

from __future__ import annotations

import warnings
from numbers import Real
from types import SimpleNamespace

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import Interval, StrOptions

from .. import auto
from ..kernels.spec import TrainPlan, free_spec
from ..parts import Part
from ..relaxation import OR_AUTO, STEPS, TOLERANCE, kernel_tol

PHASE = {"n_steps": [OR_AUTO, *STEPS], "tol": [OR_AUTO, *TOLERANCE]}
NOT_ZERO = [Interval(Real, 0, None, closed="neither"), Interval(Real, None, 0, closed="neither")]


class LearningRule(Part):
    """Base of the rules; not for direct use.

    A rule owns its free phase: `starts`, `free_spec`; and its second phase: `_second_phase`. What
    it cannot be combined with is in `_conflicts`, and nowhere else.

    Parameters
    ----------
    n_steps : int or "auto"
        Steps of the second phase at most (K of the papers); "auto": half of those that "auto" gives
        the free phase, 5 and 5 more for each hidden layer.
    tol : float, None or "auto"
        In the second phase too a sample stops after the step in which no unit changed by more than
        this; None: always all steps; "auto": 1e-3, or a hundredth of beta if that is less.
    """

    word = ""  # the rule's name, in a constructor and in `kernels.spec.RULES`
    independent_feedback = False  # has weights of its own for the way back
    continual = False  # moves the weights at every nudged step
    starts = ("zero", "feedforward", "recognition", "persistent", "normal")  # of the free phase
    # why no others
    other_starts = "does not carry states from batch to batch: only 'ep' does carry_over"

    over_relaxes = True  # whether "auto" may over-relax its free phase

    @property
    def random_sign(self):
        """Whether each mini-batch draws the sign of beta."""
        return False

    def auto_tol(self, amplitude=1.0):
        """What tol="auto" is, in both phases, for targets of this amplitude."""
        return auto.tolerance(amplitude=amplitude)

    def in_numbers(self, n_hidden, relaxation, amplitude=1.0):
        """The same for a network of `n_hidden` hidden layers and a free phase, without "auto"."""
        return self.settled(n_steps=auto.nudged_steps(n_hidden), tol=self.auto_tol(amplitude))

    def check(self, *, dynamics, relaxation, cost="squared_error", solver="sgd", weight_decay=0.0):
        """Refuse what the rule cannot be combined with.

        Parameters
        ----------
        dynamics : Dynamics
        relaxation : Relaxation
        cost, solver : str
        weight_decay : float

        Raises
        ------
        ValueError
            Says what, and why.
        """
        beside = SimpleNamespace(
            dynamics=dynamics,
            relaxation=relaxation,
            cost=cost,
            solver=solver,
            weight_decay=weight_decay,
        )
        relaxation.check(dynamics)
        if relaxation.start_word not in self.starts:
            raise ValueError(
                f"relaxation__start={relaxation.start_word!r}: {self._name} {self.other_starts}"
            )
        for conflict in self._conflicts(beside):
            raise ValueError(conflict)

    @property
    def _name(self):
        return f"learning_rule={self.word!r}"

    def _conflicts(self, beside):
        """Yield what is wrong, in the user's words."""
        return ()

    def say_weak_nudge(self, relaxation, dtype, stacklevel):
        """Warn of a nudge that is no more than what its phases leave unsettled, or rounding."""

    def free_spec(self, spec, relaxation):
        """The dynamics of the rule's free phase: over-relaxed, in the rule's own order of layers."""
        factor = relaxation.in_numbers(spec.n_weights - 1).over_relaxation
        return free_spec(spec, float(factor), self.word)

    def plan(self, relaxation, **numbers):
        """The kernels' plan.

        Parameters
        ----------
        relaxation : Relaxation
        **numbers
            The other fields of `TrainPlan`: batch, rates, optimiser.

        Returns
        -------
        TrainPlan
        """
        n_hidden = len(numbers["rate"]) - 1
        relaxation = relaxation.in_numbers(n_hidden, tol=self.auto_tol())
        return TrainPlan(
            rule=self.word,
            n_free_steps=relaxation.n_steps,
            tol_free=kernel_tol(relaxation.tol),
            over_relaxation=float(relaxation.over_relaxation),
            **self.in_numbers(n_hidden, relaxation)._second_phase(),
            **numbers,
        )

    def _second_phase(self):
        """Fields of `TrainPlan`: of a rule without a nudge beta plays no part."""
        return dict(beta=1.0, n_nudged_steps=self.n_steps, tol_nudged=kernel_tol(self.tol))


class NudgedRule(LearningRule):
    """Base of the rules that nudge the output by beta; not for direct use.

    Parameters
    ----------
    beta : float
        Nudging strength, not 0; negative with "positive" nudging means nudging away from the
        target.
    nudging : {"positive", "random_sign", "centered"}
        One nudged phase at +beta; at +-beta, one random sign per mini-batch; or two at +beta and
        -beta (2006.03824).
    """

    _factors = ("beta",)
    _parameter_constraints: dict = {
        "beta": NOT_ZERO,
        "nudging": [StrOptions({"positive", "random_sign", "centered"})],
        **PHASE,
    }

    @property
    def random_sign(self):
        return self.nudging == "random_sign"

    def auto_tol(self, amplitude=1.0):
        return auto.tolerance(self.beta, amplitude)

    def say_weak_nudge(self, relaxation, dtype, stacklevel):
        tolerances = {"relaxation__tol": relaxation.tol, "learning_rule__tol": self.tol}
        say_weak_nudge(self.beta, abs(self.beta), tolerances, dtype, stacklevel + 1)

    def _second_phase(self):
        return dict(
            super()._second_phase(), beta=float(self.beta), centered=self.nudging == "centered"
        )


WEAK, ROUNDED = 30, 100  # times a tolerance, times the rounding: weaker nudges are warned of


def say_weak_nudge(beta, strength, tolerances, dtype, stacklevel):
    """Warn of a `beta` that nudges by `strength`, in the units of the states and so of tolerances."""
    numbers = {name: tol for name, tol in tolerances.items() if tol not in (None, auto.AUTO)}
    least = {f"{name}={tol:g}": WEAK * tol for name, tol in numbers.items()}
    least[f"the rounding of {np.dtype(dtype)}"] = ROUNDED * np.finfo(dtype).eps
    what = max(least, key=least.get)
    if strength < least[what]:
        warnings.warn(
            f"learning_rule__beta={beta:g} nudges the output by about {strength:.1g} of its error, of "
            f"which {what} leaves too little: the gradient may be far off; use a larger beta"
            + (" or a smaller tolerance" if "tol=" in what else ""),
            ConvergenceWarning,
            stacklevel=stacklevel,
        )


def as_rule(rule, name="rule"):
    """A valid rule: an object, or the word for one at its defaults.

    Raises
    ------
    ValueError
    """
    from . import RULES  # which imports this module

    if isinstance(rule, str) and rule in RULES:
        return RULES[rule]()
    if not isinstance(rule, LearningRule):
        raise ValueError(f"{name} must be a LearningRule or one of {list(RULES)}, got {rule!r}")
    rule.validate()
    return rule


def held_output(rule, beside):
    """The conflict of a rule that holds the output: a softmax has no state to hold."""
    if beside.cost != "squared_error":
        yield f"cost={beside.cost!r}: {rule._name} holds the output at the target: squared_error"
