"""scikit-learn estimators: validation and fitted state, nothing else."""

from .layered_classifier import EqPropClassifier
from .layered_regressor import EqPropRegressor
from .presets import list_presets, preset
from .resistive import ResistiveClassifier, ResistiveRegressor
from .resistive_presets import list_resistive_presets, resistive_preset

__all__ = [
    "EqPropClassifier",
    "EqPropRegressor",
    "ResistiveClassifier",
    "ResistiveRegressor",
    "list_presets",
    "list_resistive_presets",
    "preset",
    "resistive_preset",
]
