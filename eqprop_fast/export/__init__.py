"""Trained networks for small devices: plain C that infers and learns (docs/embedded.md)."""

from .csource import c_texts, to_c
from .eqpfile import EqpFileError, load_eqp, save_eqp
from .model import LearnPlan, NetModel, as_model, untrained
from .simulate import simulate

__all__ = [
    "EqpFileError",
    "LearnPlan",
    "NetModel",
    "as_model",
    "c_texts",
    "load_eqp",
    "save_eqp",
    "simulate",
    "to_c",
    "untrained",
]
