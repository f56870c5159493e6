"""Deep generative networks: Boltzmann machines and Hopfield networks of layers (docs/generative.md)."""

from .deep_boltzmann import DeepBoltzmannMachine
from .deep_hopfield import DeepHopfieldNetwork
from .likelihood import LogPartition

__all__ = ["DeepBoltzmannMachine", "DeepHopfieldNetwork", "LogPartition"]
