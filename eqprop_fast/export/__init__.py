"""Trained networks for small devices: plain C that infers and learns (docs/embedded.md)."""

from .csource import c_texts, to_c
from .model import LearnPlan, NetModel, as_model, untrained
from .simulate import simulate

__all__ = ["LearnPlan", "NetModel", "as_model", "c_texts", "simulate", "to_c", "untrained"]
