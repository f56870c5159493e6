"""Vector-field EP (1808.04873) and its continual form (2005.04168); docs/equations.md 6.

Forward weights W and feedback weights V are independent; no energy is needed. Change after the
synapse times activity before it, over the steps of the nudged phase:

    dW_k = rate / (beta B) sum_steps sum_batch a_k(t) (s_k+1(t + 1) - s_k+1(t))'
    dV_k = rate / (beta B) sum_steps sum_batch a_k+1(t) (s_k(t + 1) - s_k(t))'
"""

from __future__ import annotations

from numbers import Real

from sklearn.utils._param_validation import Interval

from ..auto import AUTO
from ..docstrings import documented
from .base import NudgedRule
from .continual import ContinualRule

ANGLE = [Interval(Real, 0, 180, closed="both")]


class IndependentFeedback:
    """Mixin of the rules whose feedback weights are their own; not for direct use.

    Parameters
    ----------
    feedback_angle : float
        Initial angle in degrees between feedback and forward weights, 0 to 180 (docs/equations.md
        6.3).
    """

    independent_feedback = True
    over_relaxes = False  # the theory is that of symmetric weights

    def _conflicts(self, beside):
        yield from super()._conflicts(beside)
        field = beside.dynamics
        if field.word == "continuous" and (field.prime_hidden or field.prime_output):
            yield (
                f"dynamics: {self._name} is the leaky field without rho' (1808.04873): "
                "Continuous(prime_hidden=False, prime_output=False)"
            )


@documented
class VectorField(IndependentFeedback, NudgedRule):
    """Vector-field EP (1808.04873; docs/equations.md 6.1)."""

    word = "vector_field"
    _parameter_constraints: dict = {**NudgedRule._parameter_constraints, "feedback_angle": ANGLE}

    def __init__(self, *, beta=0.5, nudging="centered", n_steps=AUTO, tol=AUTO, feedback_angle=0.0):
        self.beta = beta
        self.nudging = nudging
        self.n_steps = n_steps
        self.tol = tol
        self.feedback_angle = feedback_angle


@documented
class ContinualVectorField(IndependentFeedback, ContinualRule):
    """Continual vector field, C-VF (2005.04168; docs/equations.md 6.2). Needs ``solver="sgd"``."""

    word = "continual_vector_field"
    _parameter_constraints: dict = {**ContinualRule._parameter_constraints, "feedback_angle": ANGLE}

    def __init__(self, *, beta=0.5, nudging="random_sign", n_steps=AUTO, feedback_angle=0.0):
        self.beta = beta
        self.nudging = nudging
        self.n_steps = n_steps
        self.feedback_angle = feedback_angle
