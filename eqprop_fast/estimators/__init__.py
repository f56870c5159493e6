"""scikit-learn estimators: validation and fitted state, nothing else."""

from .layered_classifier import EqPropClassifier
from .layered_regressor import EqPropRegressor
from .resistive import ResistiveClassifier, ResistiveRegressor

__all__ = ["EqPropClassifier", "EqPropRegressor", "ResistiveClassifier", "ResistiveRegressor"]
