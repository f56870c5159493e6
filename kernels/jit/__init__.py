"""The Numba backend: the same kernels, compiled on first use and cached."""

from ..registry import KernelSet
from . import boltzmann, boltzmann_learning, crossbar_driver, nodal, nodal_update
from .compile import isa
from .driver import layered_relax, layered_train
from .graph import graph_relax, graph_train

KERNELS = KernelSet(
    name="numba", isa=isa(), layered_relax=layered_relax, layered_train=layered_train,
    graph_relax=graph_relax, graph_train=graph_train,
    crossbar_relax=crossbar_driver.relax, crossbar_train=crossbar_driver.train,
    nodal_newton=nodal.nodal_newton, nodal_head_factor=nodal.head_factor,
    nodal_head_forward=nodal.head_forward, nodal_head_backward=nodal.head_backward,
    nodal_update=nodal_update.nodal_update,
    boltzmann_sweep=boltzmann.boltzmann_sweep, boltzmann_train=boltzmann_learning.boltzmann_train,
)
