"""Continual EP (2005.04168; docs/equations.md 5): the weights move after every nudged step.

dW_k(t) = rate / (beta B) sum_batch [ a_k a_k+1' (t + 1) - a_k a_k+1' (t) ]
"""

from __future__ import annotations

from sklearn.utils._param_validation import StrOptions

from ..auto import AUTO
from ..docstrings import documented
from .base import NudgedRule


class ContinualRule(NudgedRule):
    """Base of the rules whose weights move at every nudged step; not for direct use.

    Parameters
    ----------
    nudging : {"positive", "random_sign"}
        One nudged phase at +beta, or at +-beta, one random sign per mini-batch. These rules learn
        along one nudged phase; centered nudging has two.
    n_steps : int or "auto"
        Steps of the nudged phase: all of them, for the weights move at each. "auto": 5, and 5 more
        for each hidden layer.
    """

    continual = True
    tol = None
    _parameter_constraints: dict = {
        **{name: of for name, of in NudgedRule._parameter_constraints.items() if name != "tol"},
        "nudging": [StrOptions({"positive", "random_sign"})],
    }

    def _conflicts(self, beside):
        if beside.solver != "sgd" or beside.weight_decay:
            yield (
                f"solver={beside.solver!r}, weight_decay={beside.weight_decay}: {self._name} changes the "
                "weights at every nudged step by plain SGD, without weight decay"
            )


@documented
class ContinualEP(ContinualRule):
    """Continual EP (2005.04168; docs/equations.md 5). Needs ``solver="sgd"``."""

    word = "continual"

    def __init__(self, *, beta=0.5, nudging="positive", n_steps=AUTO):
        self.beta = beta
        self.nudging = nudging
        self.n_steps = n_steps
