"""The Numba backend: the same kernels, compiled on first use and cached."""

from ..registry import KernelSet
from .compile import isa
from .driver import layered_relax, layered_train

KERNELS = KernelSet(name="numba", isa=isa(), layered_relax=layered_relax, layered_train=layered_train)
