"""Coupled and contrastive learning (2312.15103; docs/equations.md 7).

The output is held at ``o* + beta (y - o*)``, o* its free state, and all other layers relax; then as
EP. Contrastive learning is beta = 1: the output held at the target.
"""

from __future__ import annotations

from ..auto import AUTO
from ..docstrings import documented
from .base import PHASE, LearningRule, NudgedRule, held_output


@documented
class Coupled(NudgedRule):
    """Coupled learning: the output held on its way to the target (2312.15103; docs/equations.md 7).

    The cost's factor is no part of its updates.
    """

    word = "coupled"

    def __init__(self, *, beta=0.5, nudging="centered", n_steps=AUTO, tol=AUTO):
        self.beta = beta
        self.nudging = nudging
        self.n_steps = n_steps
        self.tol = tol

    def _conflicts(self, beside):
        yield from held_output(self, beside)


@documented
class Contrastive(LearningRule):
    """Contrastive learning: the output held at the target (2312.15103; docs/equations.md 7).

    The cost's factor is no part of its updates.
    """

    word = "contrastive"
    _parameter_constraints: dict = dict(PHASE)

    def __init__(self, *, n_steps=AUTO, tol=AUTO):
        self.n_steps = n_steps
        self.tol = tol

    def _conflicts(self, beside):
        yield from held_output(self, beside)
