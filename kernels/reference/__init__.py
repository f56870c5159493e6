"""The NumPy backend: naive, readable, kept for ever as the reference."""

from ..registry import KernelSet
from .layered import layered_relax, layered_train

KERNELS = KernelSet(name="numpy", isa="", layered_relax=layered_relax, layered_train=layered_train)
