"""The driver: epochs, batches, schedules, early stopping, checkpoints; it knows networks, not
estimators.
"""

from .driver import FitSettings, TrainingData, fit_epochs, has_stopped
from .schedules import (
    RATE_WORDS,
    SCHEDULES,
    Cosine,
    Exponential,
    InverseScaling,
    learning_rate_factor,
)
from .state import RandomStreams, TrainingState

__all__ = [
    "RATE_WORDS",
    "SCHEDULES",
    "Cosine",
    "Exponential",
    "FitSettings",
    "InverseScaling",
    "RandomStreams",
    "TrainingData",
    "TrainingState",
    "fit_epochs",
    "has_stopped",
    "learning_rate_factor",
]
