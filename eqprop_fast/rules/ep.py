"""Equilibrium propagation (1602.05179; centered: 2006.03824; docs/equations.md 4).

dW_k = rate / (beta B) sum_batch [ a_k a_k+1' (nudged) - a_k a_k+1' (free) ]
"""

from __future__ import annotations

from ..auto import AUTO
from ..docstrings import documented
from .base import NudgedRule


@documented
class EP(NudgedRule):
    """Equilibrium propagation: the difference of two equilibria (docs/equations.md 4)."""

    word = "ep"
    starts = (*NudgedRule.starts, "carry_over")

    def __init__(self, *, beta=0.1, nudging="centered", n_steps=AUTO, tol=AUTO):
        self.beta = beta
        self.nudging = nudging
        self.n_steps = n_steps
        self.tol = tol
