"""What the outputs are compared with, and by how much (docs/equations.md 2)."""

from __future__ import annotations

from numbers import Real

from sklearn.utils._param_validation import Interval

from .docstrings import documented
from .parts import Part


class Cost(Part):
    """Base of the costs; not for direct use.

    Parameters
    ----------
    factor : float
        Factor of the cost, and so of the nudge.
    """

    word = ""
    _factors = ("factor",)
    _parameter_constraints: dict = {"factor": [Interval(Real, 0, None, closed="neither")]}

    def __init__(self, factor=1.0):
        self.factor = factor


@documented
class SquaredError(Cost):
    """``factor / 2 |s - y|^2``; a factor of 2 is the ``|s - y|^2`` of 1602.05179."""

    word = "squared_error"


@documented
class CrossEntropy(Cost):
    """`factor` times the cross-entropy of the softmax of the output states, for exclusive classes."""

    word = "cross_entropy"


COSTS = {cls.word: cls for cls in (SquaredError, CrossEntropy)}
