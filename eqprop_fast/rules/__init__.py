"""Learning rules, one file a family: equation, parameters, what they refuse, the plan for the
kernels.
"""

from .base import LearningRule, as_rule
from .clamped_sweep import ClampedSweep
from .continual import ContinualEP
from .coupled import Contrastive, Coupled
from .ep import EP
from .exact import BPTT, Implicit, RecurrentBackprop
from .resistive import RESISTIVE_RULES, ResistiveEP
from .vector_field import ContinualVectorField, VectorField

# the word for each rule; "A new learning rule" in CONTRIBUTING.md
RULES = {
    rule.word: rule
    for rule in (
        EP,
        ContinualEP,
        VectorField,
        ContinualVectorField,
        Coupled,
        Contrastive,
        ClampedSweep,
        BPTT,
        RecurrentBackprop,
        Implicit,
    )
}

__all__ = [
    "BPTT",
    "EP",
    "RESISTIVE_RULES",
    "RULES",
    "ClampedSweep",
    "ContinualEP",
    "ContinualVectorField",
    "Contrastive",
    "Coupled",
    "Implicit",
    "LearningRule",
    "RecurrentBackprop",
    "ResistiveEP",
    "VectorField",
    "as_rule",
]
