"""The fast variant of the first paper's first version (1602.05179 v1; docs/equations.md 8).

The free phase sets layer after layer, from the input up, to its minimiser; the output is then set
to the target, and sweeps go down:

    dW_k = rate / B sum_batch s_k(free) (s_k+1(clamped) - s_k+1(free))'
"""

from __future__ import annotations

from ..auto import AUTO
from ..docstrings import documented
from .base import PHASE, LearningRule, held_output


@documented
class ClampedSweep(LearningRule):
    """Clamped sweeps (1602.05179 v1; docs/equations.md 8).

    Layers are visited one after another, in prediction too. The cost's factor is no part of its
    updates.
    """

    word = "clamped_sweep"
    over_relaxes = False
    _parameter_constraints: dict = dict(PHASE)

    def __init__(self, *, n_steps=AUTO, tol=AUTO):
        self.n_steps = n_steps
        self.tol = tol

    def _conflicts(self, beside):
        if beside.relaxation.schedule != "asynchronous":
            yield (
                f"relaxation__schedule={beside.relaxation.schedule!r}: {self._name} sweeps layer by layer: "
                "'asynchronous'"
            )
        if beside.dynamics.word != "discrete" or beside.dynamics.dt != 1:
            yield (
                f"dynamics={beside.dynamics!r}: {self._name} sets layers to exact minimisers: "
                "Discrete(dt=1)"
            )
        yield from held_output(self, beside)
