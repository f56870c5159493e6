"""The NumPy backend: naive, readable, kept for ever as the reference."""

from ..registry import KernelSet
from . import boltzmann, crossbar, nodal, nodal_update
from .graph import graph_relax
from .layered import layered_relax
from .train import graph_train, layered_train

KERNELS = KernelSet(
    name="numpy",
    isa="",
    layered_relax=layered_relax,
    layered_train=layered_train,
    graph_relax=graph_relax,
    graph_train=graph_train,
    crossbar_relax=crossbar.relax,
    crossbar_train=crossbar.train,
    nodal_newton=nodal.nodal_newton,
    nodal_head_factor=nodal.head_factor,
    nodal_head_forward=nodal.head_forward,
    nodal_head_backward=nodal.head_backward,
    nodal_update=nodal_update.nodal_update,
    boltzmann_sweep=boltzmann.boltzmann_sweep,
    boltzmann_train=boltzmann.boltzmann_train,
)
