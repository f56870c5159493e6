"""The papers' theorems as callable checks."""

from .match import GradientMatch, gradient_match

__all__ = ["GradientMatch", "gradient_match"]
