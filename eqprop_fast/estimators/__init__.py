"""scikit-learn estimators: validation and fitted state, nothing else."""

from .conv import ConvEqPropClassifier, ConvEqPropRegressor
from .graph import GraphEqPropClassifier, GraphEqPropRegressor
from .layered_classifier import EqPropClassifier
from .layered_regressor import EqPropRegressor
from .resistive import ResistiveClassifier, ResistiveRegressor

__all__ = [
    "ConvEqPropClassifier",
    "ConvEqPropRegressor",
    "EqPropClassifier",
    "EqPropRegressor",
    "GraphEqPropClassifier",
    "GraphEqPropRegressor",
    "ResistiveClassifier",
    "ResistiveRegressor",
]
