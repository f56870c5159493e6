"""Compiled and reference kernels: arrays and integers in, caller-owned buffers out; no estimator is
known.
"""

from .boltzmann_spec import Boltzmann, BoltzmannPlan, Sweeps
from .graph_spec import ConnectionSpec, GraphSpec, LayerSpec
from .registry import BackendUnavailableError, KernelSet, available_backends, get_backend
from .resistive_spec import ResistiveSpec
from .spec import (
    ACTIVATIONS,
    Conductances,
    Crossbar,
    CrossbarPlan,
    DivergenceError,
    LayeredSpec,
    NudgeError,
    OptimizerState,
    TrainPlan,
    TrainStats,
    free_spec,
)

__all__ = [
    "ACTIVATIONS",
    "BackendUnavailableError",
    "Boltzmann",
    "BoltzmannPlan",
    "Conductances",
    "ConnectionSpec",
    "Crossbar",
    "CrossbarPlan",
    "DivergenceError",
    "GraphSpec",
    "KernelSet",
    "LayerSpec",
    "LayeredSpec",
    "NudgeError",
    "OptimizerState",
    "ResistiveSpec",
    "Sweeps",
    "TrainPlan",
    "TrainStats",
    "available_backends",
    "free_spec",
    "get_backend",
]
