"""The NumPy backend: naive, readable, kept for ever as the reference."""

from ..registry import KernelSet
from . import crossbar
from .layered import layered_relax, layered_train

KERNELS = KernelSet(
    name="numpy", isa="", layered_relax=layered_relax, layered_train=layered_train,
    crossbar_relax=crossbar.relax, crossbar_train=crossbar.train,
)
