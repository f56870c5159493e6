"""Exact gradients: back-propagation through time, recurrent back-propagation, implicit, finite
differences.

Baselines for the learning rules and the truth of the theorem checks. All are hand-written reverse
passes (`kernels.reference.gradients`); no automatic differentiation is involved.
"""

from __future__ import annotations

import numpy as np

from ..kernels.reference import gradients as kernel
from ..kernels.reference.layered import (
    back_or_transpose,
    layered_cost,
    layered_drive,
    relax_from_drive,
)
from ..kernels.reference.rules import shown_input
from .record import LayeredGradient, check_count, check_network, check_number


def _relax(spec, weights, biases, back, x, n_steps, tol):
    drive = layered_drive(spec, weights, biases, x)
    states = [np.zeros((len(x), n), drive.dtype) for n in spec.sizes[1:]]
    backs = back_or_transpose(weights, back)
    relax_from_drive(spec, weights, backs, biases, drive, states, None, 0.0, n_steps, tol)
    return drive, states


def _record(spec, gradient, y, states, n_steps):
    cost = layered_cost(spec, states[-1], y)[0] / len(y)
    return LayeredGradient(*gradient, cost=cost, states=states, n_steps=n_steps)


def bptt(spec, weights, biases, x, y, *, back=None, n_free_steps, truncate=None, tol=-1.0):
    """Back-propagation through the free phase, in full or truncated to its last steps.

    Parameters
    ----------
    spec : LayeredSpec
        Dynamics.
    weights, biases, back : lists of ndarray
        Parameters; `back` None means symmetric.
    x : array, shape (M, N[0])
    y : array, shape (M, N[L])
        Targets.
    n_free_steps : int
        Steps of the free phase, from zero.
    truncate : int, optional
        How many of the last steps are reversed; all of them by default.
    tol : float
        In the steps before those, a sample stops once no unit moves faster than this.

    Returns
    -------
    LayeredGradient

    Raises
    ------
    ValueError
        A count out of range, or shapes that do not fit.

    References
    ----------
    1905.13633 (docs/equations.md 9.1).
    """
    x, y = check_network(spec, weights, biases, x, y, back)
    check_count(n_free_steps, "n_free_steps")
    tol = check_number(tol, "tol")
    k = n_free_steps if truncate is None else check_count(truncate, "truncate")
    if k > n_free_steps:
        raise ValueError(f"truncate={k} exceeds n_free_steps={n_free_steps}")
    drive, states = _relax(spec, weights, biases, back, x, n_free_steps - k, tol)
    trajectory = [[s.copy() for s in states]]
    for _ in range(k):
        relax_from_drive(spec, weights, back_or_transpose(weights, back), biases, drive, states)
        trajectory.append([s.copy() for s in states])
    bar = kernel.cost_gradient(spec, states[-1], y)
    gradient = kernel.bptt_gradient(
        spec, weights, back, biases, drive, shown_input(spec, x), trajectory, bar
    )
    return _record(spec, gradient, y, states, k)


def recurrent_backprop(
    spec,
    weights,
    biases,
    x,
    y,
    *,
    back=None,
    n_free_steps,
    tol=1e-12,
    n_steps=1000,
    adjoint_tol=0.0,
):
    """Almeida-Pineda recurrent back-propagation: the adjoint process iterated at the free
    equilibrium.

    Parameters
    ----------
    n_free_steps, tol
        Free phase: at most so many steps, stopping below this residual.
    n_steps : int
        At most so many steps of the adjoint process.
    adjoint_tol : float
        It stops once an increment is below this share of the first one.

    Other parameters, returns and errors as in `bptt`.

    References
    ----------
    1711.08416 (docs/equations.md 9.2).
    """
    x, y = check_network(spec, weights, biases, x, y, back)
    check_count(n_free_steps, "n_free_steps")
    tol = check_number(tol, "tol")
    check_count(n_steps, "n_steps")
    adjoint_tol = check_number(adjoint_tol, "adjoint_tol")
    drive, states = _relax(spec, weights, biases, back, x, n_free_steps, tol)
    bar = kernel.cost_gradient(spec, states[-1], y)
    gradient, steps, _ = kernel.recurrent_backprop_gradient(
        spec, weights, back, biases, drive, shown_input(spec, x), states, bar, n_steps, adjoint_tol
    )
    return _record(spec, gradient, y, states, steps)


def implicit(spec, weights, biases, x, y, *, back=None, n_free_steps, tol=1e-12):
    """Implicit differentiation of the free equilibrium: one dense linear solve per sample.

    Parameters, returns and errors as in `recurrent_backprop`; costs O(units^3) per sample.

    Raises
    ------
    numpy.linalg.LinAlgError
        The equilibrium is degenerate.
    """
    x, y = check_network(spec, weights, biases, x, y, back)
    check_count(n_free_steps, "n_free_steps")
    tol = check_number(tol, "tol")
    drive, states = _relax(spec, weights, biases, back, x, n_free_steps, tol)
    bar = kernel.cost_gradient(spec, states[-1], y)
    gradient = kernel.implicit_gradient(
        spec, weights, back, biases, drive, shown_input(spec, x), states, bar
    )
    return _record(spec, gradient, y, states, 0)


def finite_difference(
    spec, weights, biases, x, y, *, back=None, n_free_steps, tol=1e-12, step=1e-5
):
    """Central differences of the cost at the free equilibrium: two relaxations per parameter, for
    tiny nets.

    Parameters
    ----------
    step : float
        Half of the interval, > 0.

    Other parameters, returns and errors as in `recurrent_backprop`.
    """
    x, y = check_network(spec, weights, biases, x, y, back)
    check_count(n_free_steps, "n_free_steps")
    tol = check_number(tol, "tol")
    if not check_number(step, "step") > 0:
        raise ValueError(f"step must be > 0, got {step!r}")
    copies = [
        None if group is None else [p.copy() for p in group] for group in (weights, back, biases)
    ]
    gradient = kernel.finite_difference_gradient(spec, *copies, x, y, n_free_steps, tol, step)
    _, states = _relax(spec, weights, biases, back, x, n_free_steps, tol)
    return _record(spec, gradient, y, states, 0)
