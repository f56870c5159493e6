"""Gradients of layered networks: exact ones by four methods, and what each learning rule estimates."""

from .estimates import estimated_gradient
from .exact import bptt, finite_difference, implicit, recurrent_backprop
from .record import LayeredGradient

__all__ = [
    "LayeredGradient",
    "bptt",
    "estimated_gradient",
    "finite_difference",
    "implicit",
    "recurrent_backprop",
]
