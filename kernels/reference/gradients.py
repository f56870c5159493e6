"""Exact gradients of the layered networks, without automatic differentiation: the NumPy twin.

One hand-written piece, `step_vjp`, reverses one free relaxation step; back-propagation through
time, Almeida-Pineda recurrent back-propagation and implicit differentiation are three ways of
repeating it. Finite differences need no reverse step and check the rest. Shapes are those of
layered.py; `x_shown` is input_activation(x), dense, (M, N[0]).

A gradient is a tuple (weights, biases, back) of lists; `back` is None in a symmetric network, whose
tied weights collect both directions, and its entry 0, which would lead to the clamped input, is 0.
"""

from dataclasses import replace
from functools import partial

import numpy as np

from .activations import rho, rho_prime, rho_second
from .layered import (
    _field,
    acting,
    back_or_transpose,
    layered_cost,
    layered_drive,
    layered_step,
    nudge,
    passes,
    relax_from_drive,
)


def cost_gradient(spec, s_out, y, row_weight=None, total=None):
    """dC/ds of the mean cost over the batch, for every layer: zero but on the output."""
    total = len(s_out) if total is None else total
    bar = -nudge(spec, s_out, y, 1.0) * s_out.dtype.type(1 / total)
    if row_weight is not None:
        bar = bar * row_weight[:, None]
    return [np.zeros((len(s_out), n), s_out.dtype) for n in spec.sizes[1:-1]] + [bar]


def step_vjp(spec, weights, back, biases, drive, x_shown, states, bar, with_parameters=True):
    """Vector-Jacobian product of one free step from `states`.

    Parameters
    ----------
    bar : list of ndarray (M, N[k])
        Derivative of a scalar with respect to the states after the step.

    Returns
    -------
    bar_before : list of ndarray
        Its derivative with respect to `states`.
    gradient : (weights, biases, back) or None
        Its derivative with respect to the parameters, through this step alone, summed over the
        samples.
    """
    backs = back_or_transpose(weights, back)
    seen = [states]  # before each pass
    for layers in passes(spec)[:-1]:
        moved, _ = layered_step(
            replace(spec, schedule="synchronous"), weights, backs, biases, drive, seen[-1]
        )
        seen.append(
            [m if k in layers else s for k, (m, s) in enumerate(zip(moved, seen[-1]), start=1)]
        )
    gradient = _zeros(weights, biases, backs) if with_parameters else None
    for layers, before in zip(reversed(passes(spec)), reversed(seen)):
        bar = _pass_vjp(spec, weights, backs, biases, drive, x_shown, before, bar, layers, gradient)
    if with_parameters and back is None:
        gradient = tie(gradient)
    return bar, gradient


def _pass_vjp(spec, weights, backs, biases, drive, x_shown, states, bar, layers, gradient):
    """Reverse of moving `layers` at once; adds to `gradient` in place."""
    n = spec.n_weights
    shown = [acting(spec, k, states[k - 1]) for k in range(1, n + 1)]
    bar_state = [np.zeros_like(b) if k in layers else b.copy() for k, b in enumerate(bar, start=1)]
    bar_shown = [np.zeros_like(b) for b in bar]
    for k in layers:
        field = _field(spec, weights, backs, biases, drive, shown, k)
        own, bar_field = layer_vjp(spec, k, states[k - 1], field, bar[k - 1])
        bar_state[k - 1] += own
        if k > 1:
            bar_shown[k - 2] += bar_field @ weights[k - 1].T
        if k < n:
            bar_shown[k] += bar_field @ backs[k].T
        if gradient is not None:
            gradient[0][k - 1] += (x_shown if k == 1 else shown[k - 2]).T @ bar_field
            gradient[1][k - 1] += bar_field.sum(axis=0)
            if k < n:
                gradient[2][k] += shown[k].T @ bar_field
    for k in range(1, n + 1):
        bar_state[k - 1] += shown_prime(spec, k, states[k - 1]) * bar_shown[k - 1]
    return bar_state


def layer_vjp(spec, k, s, field, bar):
    """Reverse of layered.new_state without nudge: derivative by the own state and by the field."""
    name = spec.activation_of(k)
    dt = s.dtype.type(spec.dt)
    if spec.dynamics == "discrete":
        return (1 - dt) * bar, dt * rho_prime(name, field, rho(name, field)) * bar
    prime = spec.prime_output if k == spec.output_layer else spec.prime_hidden
    r = rho(name, s)
    slope = rho_prime(name, s, r) if prime else np.ones_like(s)
    if spec.clamp:
        new = s + dt * (slope * field - s)
        bar = bar * ((new >= 0) & (new <= 1))
    own = (1 - dt) * bar
    if prime:
        own = own + dt * rho_second(name, s, r) * field * bar
    return own, dt * slope * bar


def shown_prime(spec, k, s):
    """Derivative of layered.acting by the state."""
    if spec.dynamics == "discrete" or (k == spec.output_layer and spec.linear_output):
        return np.ones_like(s)
    name = spec.activation_of(k)
    return rho_prime(name, s, rho(name, s))


def _zeros(weights, biases, backs):
    backs = [weights[0].T, *backs[1:]]  # nothing leads back to the input: that entry may be None
    return tuple([np.zeros_like(p) for p in group] for group in (weights, biases, backs))


def tie(gradient):
    """Gradient of symmetric weights from that of the two directions."""
    weights, biases, back = gradient
    return [w + b.T for w, b in zip(weights, back)], biases, None


def add_gradients(total, part):
    """`part` added to `total`, in place."""
    for group, more in zip(total, part):
        for a, b in zip(group or [], more or []):
            if a is not None:
                a += b
    return total


def bptt_gradient(spec, weights, back, biases, drive, x_shown, trajectory, bar):
    """Back-propagation through the steps between the states of `trajectory` (K + 1 of them, oldest
    first).
    """
    return through_time(
        partial(step_vjp, spec, weights, back, biases, drive, x_shown), trajectory, bar
    )


def through_time(vjp, trajectory, bar):
    """`bptt_gradient` of any network: ``vjp(states, bar)`` reverses one step."""
    total = None
    for states in reversed(trajectory[:-1]):
        bar, part = vjp(states, bar)
        total = part if total is None else add_gradients(total, part)
    return total


def recurrent_backprop_gradient(
    spec, weights, back, biases, drive, x_shown, states, bar, n_steps, tol=-1.0
):
    """Almeida-Pineda process at the fixed point `states`: z <- J^T z + dC/ds, at most `n_steps`
    times.

    Stops once no entry of the last increment exceeds ``tol`` times the largest of the first.
    Returns the gradient, the number of steps and the relative size of the last increment.
    """
    vjp = partial(step_vjp, spec, weights, back, biases, drive, x_shown)
    return adjoint_process(vjp, states, bar, n_steps, tol)


def adjoint_process(vjp, states, bar, n_steps, tol=-1.0):
    """`recurrent_backprop_gradient` of any network: ``vjp(states, bar)`` reverses one step."""
    total, first = [b.copy() for b in bar], max(np.abs(b).max() for b in bar)
    relative, steps = 1.0, 1
    while steps < n_steps and relative > tol and first > 0:
        bar, _ = vjp(states, bar, with_parameters=False)
        for t, b in zip(total, bar):
            t += b
        relative = max(np.abs(b).max() for b in bar) / first
        steps += 1
    _, gradient = vjp(states, total)
    return gradient, steps, float(relative)


def step_jacobian(spec, weights, back, biases, drive, states):
    """Jacobian of one synchronous free step of one sample, (n, n): rows new states, columns old
    ones.

    `drive` is (1, N[1]) and `states` are (1, N[k]).
    """
    together = replace(spec, schedule="synchronous")
    repeated = np.repeat(drive, sum(spec.sizes[1:]), axis=0)
    return jacobian(partial(step_vjp, together, weights, back, biases, repeated, None), states)


def jacobian(vjp, states):
    """`step_jacobian` of any network: ``vjp(states, bar)`` reverses one step, a row a unit."""
    sizes = [s.shape[1] for s in states]
    n, edges = sum(sizes), np.cumsum(sizes)[:-1]
    bar = np.split(np.eye(n, dtype=states[0].dtype), edges, axis=1)
    rows, _ = vjp([np.repeat(s, n, axis=0) for s in states], bar, with_parameters=False)
    return np.concatenate(rows, axis=1)


def implicit_gradient(spec, weights, back, biases, drive, x_shown, states, bar):
    """Implicit differentiation: z = (I - J^T)^-1 dC/ds a sample, then one parameter product."""
    together = replace(spec, schedule="synchronous")

    def jacobian_of(m):
        one = slice(m, m + 1)
        return step_jacobian(spec, weights, back, biases, drive[one], [s[one] for s in states])

    z = solve_adjoint(jacobian_of, bar)
    _, gradient = step_vjp(together, weights, back, biases, drive, x_shown, states, z)
    return gradient


def solve_adjoint(jacobian_of, bar):
    """z = (I - J^T)^-1 bar for each sample m; ``jacobian_of(m)`` is its J."""
    z = np.concatenate(bar, axis=1)
    for m in range(len(z)):
        j = jacobian_of(m)
        z[m] = np.linalg.solve(np.eye(len(j), dtype=z.dtype) - j.T, z[m])
    return np.split(z, np.cumsum([b.shape[1] for b in bar])[:-1], axis=1)


def equilibrium_cost(spec, weights, back, biases, x, y, n_steps, tol):
    """Mean cost at the free equilibrium reached from zero."""
    drive = layered_drive(spec, weights, biases, x)
    states = [np.zeros((len(y), n), drive.dtype) for n in spec.sizes[1:]]
    relax_from_drive(
        spec,
        weights,
        back_or_transpose(weights, back),
        biases,
        drive,
        states,
        None,
        0.0,
        n_steps,
        tol,
    )
    return layered_cost(spec, states[-1], y)[0] / len(y)


def finite_difference_gradient(spec, weights, back, biases, x, y, n_steps, tol=-1.0, step=1e-5):
    """Central differences of `equilibrium_cost` by every parameter: two relaxations each; small
    nets only.
    """
    # views when tied: moving a weight moves both directions
    backs = back_or_transpose(weights, back)
    result = []
    for group in (weights, biases, back or []):
        gradients = []
        for index, p in enumerate(group):
            g = np.zeros_like(p)
            for i in np.ndindex(p.shape):
                if group is back and index == 0:
                    continue
                old = p[i]
                ends = []
                for sign in (1, -1):
                    p[i] = old + sign * step
                    ends.append(equilibrium_cost(spec, weights, backs, biases, x, y, n_steps, tol))
                p[i] = old
                g[i] = (ends[0] - ends[1]) / (2 * step)
            gradients.append(g)
        result.append(gradients)
    return result[0], result[1], result[2] if back is not None else None
