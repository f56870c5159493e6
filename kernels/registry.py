"""Which backends exist, and the one record of functions that each offers."""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

from .blas import one_blas_thread
from .interrupts import interrupt_afterwards

BACKENDS = {"c": "native", "numba": "jit", "numpy": "reference"}  # in order of preference


@dataclass(frozen=True)
class KernelSet:
    """The kernels of one backend; same signatures everywhere, documented in `kernels.reference`.

    Those of `get_backend` check their arguments first (`kernels.checks`): all backends refuse the
    same calls.
    """

    name: str
    isa: str
    layered_relax: Callable
    layered_train: Callable
    graph_relax: Callable
    graph_train: Callable
    crossbar_relax: Callable
    crossbar_train: Callable
    nodal_newton: Callable
    nodal_head_factor: Callable
    nodal_head_forward: Callable
    nodal_head_backward: Callable
    nodal_update: Callable
    boltzmann_sweep: Callable
    boltzmann_train: Callable
    layered_one_row: Callable | None = None  # optional: `layered_relax` of one row, prepared


class BackendUnavailableError(ImportError):
    """A backend that was asked for by name cannot be used here; the message says why."""


@functools.cache
def _load(name):
    from .checks import checked  # here: its tables are made of what the twins know

    package = __name__.rpartition(".")[0]
    try:
        kernels = checked(importlib.import_module(f"{package}.{BACKENDS[name]}").KERNELS)
    except ImportError as error:
        hint = {"c": "no C compiler served at install time", "numba": "pip install numba"}.get(
            name, ""
        )
        raise BackendUnavailableError(
            f"backend {name!r} is not available: {error} ({hint})"
        ) from error
    # Ctrl-C does not cut a compiled call: not while threads run, nor before copies are written back
    around = one_blas_thread() if name == "numpy" else interrupt_afterwards()
    functions = {f.name: getattr(kernels, f.name) for f in fields(kernels)}
    return replace(kernels, **{name: around(f) for name, f in functions.items() if callable(f)})


def get_backend(name="auto"):
    """The `KernelSet` of a backend.

    Parameters
    ----------
    name : {"auto", "c", "numba", "numpy"}
        "auto" takes the environment variable EQPROP_BACKEND if set, else C, then Numba, then NumPy.

    Raises
    ------
    ValueError
        Unknown name.
    BackendUnavailableError
        The named backend cannot be loaded; or, under "auto" with EQPROP_REQUIRE_C=1, C cannot.
    """
    if name == "auto":
        name = os.environ.get("EQPROP_BACKEND") or "auto"
    if name != "auto":
        if name not in BACKENDS:
            raise ValueError(f"backend must be 'auto' or one of {sorted(BACKENDS)}, got {name!r}")
        return _load(name)
    for candidate in BACKENDS:
        try:
            return _load(candidate)
        except BackendUnavailableError:
            if os.environ.get("EQPROP_REQUIRE_C", "0") not in ("", "0"):
                raise
    raise BackendUnavailableError("no backend is available")  # NumPy is a dependency: not reached


def available_backends():
    """Names of the backends that load here, best first. Loads them, Numba included."""
    names = []
    for name in BACKENDS:
        try:
            _load(name)
        except (BackendUnavailableError, ValueError):
            # ValueError: EQPROP_ISA names none of this machine
            continue
        names.append(name)
    return names
