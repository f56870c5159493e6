"""Networks that relax, are nudged and learn: thin objects over a backend's kernels."""

from .layered import LayeredNetwork
from .protocol import Equilibrium, Network

__all__ = ["Equilibrium", "LayeredNetwork", "Network"]
