"""Equilibrium propagation (1602.05179; centered: 2006.03824; docs/equations.md 4).

dW_k = rate / (beta B) sum_batch [ a_k a_k+1' (nudged) - a_k a_k+1' (free) ]
"""

from __future__ import annotations

from numbers import Real

from sklearn.utils._param_validation import Interval

from ..auto import AUTO
from ..docstrings import documented
from .base import NudgedRule


@documented
class EP(NudgedRule):
    """Equilibrium propagation: the difference of two equilibria (docs/equations.md 4).

    Parameters
    ----------
    reconstruction_rate : float
        Rate of a local auto-encoder term beside EP: each hidden layer reconstructs the one below it
        through W^T (1606.01651's condition for a pass upwards; docs/equations.md 4). Of chains of
        two or more hidden layers under the undamped discrete map, batch by batch. 0: none.
    """

    word = "ep"
    _factors = ("beta", "reconstruction_rate")
    _parameter_constraints: dict = {
        **NudgedRule._parameter_constraints,
        "reconstruction_rate": [Interval(Real, 0, None, closed="left")],
    }
    starts = (*NudgedRule.starts, "carry_over")

    def __init__(
        self, *, beta=0.1, nudging="centered", n_steps=AUTO, tol=AUTO, reconstruction_rate=0.0
    ):
        self.beta = beta
        self.nudging = nudging
        self.n_steps = n_steps
        self.tol = tol
        self.reconstruction_rate = reconstruction_rate

    def _conflicts(self, beside):
        yield from super()._conflicts(beside)
        if self.reconstruction_rate == 0:
            return
        what = f"learning_rule__reconstruction_rate={self.reconstruction_rate!r}"
        if beside.relaxation.start_word not in ("zero", "feedforward", "recognition"):
            yield (
                f"{what}: free phases start at 'zero' or after a pass, not at "
                f"relaxation__start={beside.relaxation.start_word!r}"
            )
        if not (beside.dynamics.word == "discrete" and beside.dynamics.dt == 1):
            yield f"{what}: only for dynamics=Discrete(dt=1), not {beside.dynamics!r}"
