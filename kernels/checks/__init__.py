"""What every kernel demands of its arguments: one table a kernel, checked before any backend sees
them.

A table maps each argument to a row of `rows.py`, which refuses it with a ValueError that names it,
or returns it as the kernels take it: C-contiguous, of the dtype of the call. A refused call has
changed nothing.
"""

from __future__ import annotations

import functools
import inspect
from dataclasses import fields, replace

from . import boltzmann, crossbar, graph, layered, nodal
from .rows import Call

TABLES = {
    "layered_relax": layered.RELAX,
    "layered_train": layered.TRAIN,
    "graph_relax": graph.RELAX,
    "graph_train": graph.TRAIN,
    "crossbar_relax": crossbar.RELAX,
    "crossbar_train": crossbar.TRAIN,
    "nodal_newton": nodal.NEWTON,
    "nodal_head_factor": nodal.HEAD_FACTOR,
    "nodal_head_forward": nodal.HEAD_SOLVE,
    "nodal_head_backward": nodal.HEAD_SOLVE,
    "nodal_update": nodal.UPDATE,
    "boltzmann_sweep": boltzmann.SWEEP,
    "boltzmann_train": boltzmann.TRAIN,
}


def checked(kernels):
    """The `KernelSet` `kernels` behind the tables."""
    names = [f.name for f in fields(kernels) if f.name in TABLES]
    return replace(
        kernels, **{name: _checked(getattr(kernels, name), TABLES[name]) for name in names}
    )


def _checked(kernel, table):
    signature = inspect.signature(kernel)
    names = tuple(signature.parameters)
    positional = sum(p.kind is p.POSITIONAL_OR_KEYWORD for p in signature.parameters.values())
    if set(names) != set(table):
        raise TypeError(f"{kernel.__name__}{signature} does not fit its table {sorted(table)}")
    defaults = {k: p.default for k, p in signature.parameters.items() if p.default is not p.empty}
    rows = tuple(table.items())

    @functools.wraps(kernel)
    def call(*args, **keywords):
        given = {**defaults, **dict(zip(names, args)), **keywords}
        if (
            len(args) > positional
            or given.keys() != table.keys()
            or keywords.keys() & names[: len(args)]
        ):
            signature.bind(*args, **keywords)  # says what is wrong
        at = Call(given)
        for name, row in rows:
            given[name] = row(at, name, given[name])
        at.refuse_overlaps()
        if not at.copies:
            return kernel(**given)
        try:
            return kernel(**given)
        finally:
            for array, copy in at.copies:
                array[...] = copy

    return call
