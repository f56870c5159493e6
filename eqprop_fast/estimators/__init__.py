"""scikit-learn estimators: validation and fitted state, nothing else."""

from .layered import EqPropClassifier, EqPropRegressor
from .presets import list_presets, preset

__all__ = ["EqPropClassifier", "EqPropRegressor", "list_presets", "preset"]
