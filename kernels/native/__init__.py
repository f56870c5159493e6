"""The C backend: thin cffi callers over csrc/ (pointers in, error codes out as exceptions)."""

import os

from eqprop_fast._native import ffi, lib

from ..registry import KernelSet
from . import boltzmann, crossbar, graph, nodal
from .layered import OneRow, layered_relax, layered_train


def isa_names():
    """Instruction sets that were built and that this processor runs, best last."""
    return [
        ffi.string(lib.eqp_isa_name(i)).decode()
        for i in range(lib.eqp_isa_count())
        if lib.eqp_isa_usable(i)
    ]


def select_isa(name=None):
    """Make `name` (None: the best) serve from now on; returns the name. ValueError if not usable
    here.
    """
    if lib.eqp_select_isa(ffi.NULL if name is None else name.encode()) != 0:
        raise ValueError(f"EQPROP_ISA must be one of {isa_names()} on this machine, got {name!r}")
    return ffi.string(lib.eqp_isa()).decode()


KERNELS = KernelSet(
    name="c",
    isa=select_isa(os.environ.get("EQPROP_ISA") or None),
    layered_relax=layered_relax,
    layered_train=layered_train,
    graph_relax=graph.graph_relax,
    graph_train=graph.graph_train,
    crossbar_relax=crossbar.relax,
    crossbar_train=crossbar.train,
    nodal_newton=nodal.nodal_newton,
    nodal_head_factor=nodal.head_factor,
    nodal_head_forward=nodal.head_forward,
    nodal_head_backward=nodal.head_backward,
    nodal_update=nodal.nodal_update,
    boltzmann_sweep=boltzmann.boltzmann_sweep,
    boltzmann_train=boltzmann.boltzmann_train,
    layered_one_row=OneRow,
)
