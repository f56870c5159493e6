"""The papers' theorems as callable checks: each returns a record with a verdict, its target and a
plot.
"""

from .asymmetry import AsymmetryBound, asymmetry_bound
from .continual import ContinualDeviation, continual_deviation, debug_identity
from .conv import ConvNetwork
from .descent import EnergyDescent, energy_descent
from .feedforward import (
    FeedforwardConsistency,
    FeedforwardTraining,
    feedforward_consistency,
    feedforward_training,
)
from .match import GradientMatch, gradient_match, preset_model
from .models import GraphModel, LayeredModel, fitted_subject
from .nudge import NudgePlace, nudge_place
from .order import GradientOrder, gradient_order
from .presets import PRESETS
from .rbp import RbpMatch, rbp_match
from .results import TheoryResult
from .toy import ToyNetwork

__all__ = [
    "PRESETS",
    "AsymmetryBound",
    "ContinualDeviation",
    "ConvNetwork",
    "GraphModel",
    "EnergyDescent",
    "FeedforwardConsistency",
    "FeedforwardTraining",
    "GradientMatch",
    "GradientOrder",
    "LayeredModel",
    "NudgePlace",
    "RbpMatch",
    "TheoryResult",
    "ToyNetwork",
    "asymmetry_bound",
    "continual_deviation",
    "debug_identity",
    "energy_descent",
    "feedforward_consistency",
    "feedforward_training",
    "fitted_subject",
    "gradient_match",
    "gradient_order",
    "nudge_place",
    "preset_model",
    "rbp_match",
]
