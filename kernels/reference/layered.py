"""Layered networks: drive, relaxation, phases, contrast; the twin every backend is tested against.

Shapes: M samples, N[k] units of layer k; weights[k] is (N[k], N[k+1]), back[k] is (N[k+1], N[k])
(its transpose in a symmetric network), states[k-1] is (M, N[k]) for layers k = 1..L.
"""

from dataclasses import dataclass

import numpy as np

from ..spec import DivergenceError
from .activations import rho, rho_prime, softmax
from .products import InOrder, in_order


def layered_drive(spec, weights, biases, x):
    """Static input to the first layer, input_activation(x) W_0 + b_0, shape (M, N[1])."""
    if spec.input_activation == "identity":
        return in_order(x, weights[0]) + biases[0]
    dense = x.toarray() if hasattr(x, "toarray") else x
    return in_order(rho(spec.input_activation, dense), weights[0]) + biases[0]


def acting(spec, k, s):
    """What layer k's state `s` shows to its neighbours and to the learning rule."""
    if spec.dynamics == "discrete" or (k == spec.output_layer and spec.linear_output):
        return s
    return rho(spec.activation_of(k), s)


def _field(spec, weights, back, biases, drive, shown, k):
    """Total input of layer k: bottom-up + bias + top-down."""
    field = drive if k == 1 else shown[k - 2] @ weights[k - 1] + biases[k - 1]
    if k < spec.n_weights:
        field = field + shown[k] @ back[k]
    return field


def nudge(spec, s_out, y, beta):
    """Force of the target on the output, -beta dC/ds."""
    prediction = softmax(s_out) if spec.cost == "cross_entropy" else s_out
    return s_out.dtype.type(spec.cost_factor * beta) * (y - prediction)


def new_state(spec, k, s, field, force):
    """One step of layer k from its state `s`; `force` is the nudge, or None."""
    name = spec.activation_of(k)
    dt = s.dtype.type(spec.dt)
    if spec.gain:
        field = s.dtype.type(spec.gain[k - 1]) * field
    if spec.dynamics == "discrete":
        if force is not None and spec.nudge_inside:
            field = field + force
        target = rho(name, field)
        if force is not None and not spec.nudge_inside:
            target = target + force
        return target if spec.dt == 1 else s + dt * (target - s)
    if spec.prime_output if k == spec.output_layer else spec.prime_hidden:
        field = rho_prime(name, s, rho(name, s)) * field
    if force is not None:
        field = field + force
    new = s + dt * (field - s)
    return np.clip(new, 0, 1) if spec.clamp else new


def passes(spec):
    """Layers (1..L) that move together, pass after pass, in one step."""
    layers = range(1, spec.n_weights + 1)
    if spec.schedule == "forward":
        return [[k] for k in layers]
    return [layers] if spec.schedule == "synchronous" else [layers[::2], layers[1::2]]


def move_layers(spec, weights, back, biases, drive, states, order, y=None, beta=0.0):
    """Move the layers of each group of `order` together, group after group.

    Returns new states (list) and the largest change / dt of each sample (M,).
    """
    n = spec.n_weights
    new = list(states)
    for layers in order:
        seen = list(new)
        shown = [acting(spec, k, seen[k - 1]) for k in range(1, n + 1)]
        for k in layers:
            force = nudge(spec, seen[k - 1], y, beta) if k == n and beta != 0 else None
            field = _field(spec, weights, back, biases, drive, shown, k)
            new[k - 1] = new_state(spec, k, seen[k - 1], field, force)
    change = np.max([np.abs(a - b).max(axis=1, initial=0) for a, b in zip(new, states)], axis=0)
    return new, change / spec.dt


def layered_step(spec, weights, back, biases, drive, states, y=None, beta=0.0):
    """One step of all layers; see `move_layers`."""
    return move_layers(spec, weights, back, biases, drive, states, passes(spec), y, beta)


def relax_from_drive(
    spec,
    weights,
    back,
    biases,
    drive,
    states,
    y=None,
    beta=0.0,
    n_steps=1,
    tol=-1.0,
    phase="free",
    step_fn=layered_step,
):
    """Relax `states` in place; a sample stops after the step in which its residual is <= tol.

    `step_fn` is what one step does (some learning rules sweep or clamp). Returns steps (M,) int32
    and residual (M,). Raises DivergenceError naming layer and step.
    """

    def step(rows, current):
        target = None if y is None else y[rows]
        return step_fn(spec, weights, back, biases, drive[rows], current, target, beta)

    return relax_rows(step, states, n_steps, tol, phase)


def relax_rows(step_rows, states, n_steps, tol=-1.0, phase="free"):
    """As `relax_from_drive`; ``step_rows(rows, states)`` steps the states of these rows."""
    m = len(states[0])
    steps, residual = np.zeros(m, np.int32), np.zeros(m, states[0].dtype)
    active = np.arange(m)
    for step in range(n_steps):
        if active.size == 0:
            break
        new, change = step_rows(active, [s[active] for s in states])
        for k, (s, values) in enumerate(zip(states, new), start=1):
            if not np.isfinite(values).all():
                raise DivergenceError(
                    f"the state of layer {k} became non-finite at step {step + 1} of the {phase} phase",
                    k,
                    step + 1,
                    phase,
                )
            s[active] = values
        steps[active] = step + 1
        residual[active] = change
        active = active[change > tol]
    return steps, residual


def back_or_transpose(weights, back):
    return [w.T for w in weights] if back is None else back


def layered_relax(
    spec, weights, back, biases, x, states, y=None, beta=0.0, n_steps=1, tol=-1.0, n_threads=1
):
    """Relax `states` (in place) with the input x clamped; a sample does not depend on those beside
    it.

    Returns
    -------
    steps : ndarray of int32, shape (M,)
    residual : ndarray, shape (M,)
        Largest |change| / dt over all units in each sample's last step.
    """
    phase = "nudged" if beta else "free"
    drive = layered_drive(spec, weights, biases, x)
    back = [None, *(InOrder(b) for b in back_or_transpose(weights, back)[1:])]
    weights = [InOrder(w) for w in weights]
    return relax_from_drive(
        spec, weights, back, biases, drive, states, y, beta, n_steps, tol, phase
    )


def layered_contrast(spec, x, states_a, states_b, row_weight=None):
    """Correlation difference b - a of every weight and bias, summed over samples (1602.05179 eq.
    for dW), as products of what has moved: b b' - a a' = b (b' - a') + (b - a) a'.
    """
    weight_diffs, bias_diffs = [], []
    below = rho(spec.input_activation, x.toarray() if hasattr(x, "toarray") else x)
    below_a, below_b = below, below
    for k in range(1, spec.n_weights + 1):
        a, b = acting(spec, k, states_a[k - 1]), acting(spec, k, states_b[k - 1])
        wa, wb = (
            (a, b) if row_weight is None else (a * row_weight[:, None], b * row_weight[:, None])
        )
        if k == 1:  # the input is the same in both phases: one product instead of two
            weight_diffs.append(below_a.T @ (wb - wa))
        else:
            weight_diffs.append(below_b.T @ (wb - wa) + (below_b - below_a).T @ wa)
        bias_diffs.append((wb - wa).sum(axis=0))
        below_a, below_b = a, b
    return weight_diffs, bias_diffs


def layered_cost(spec, s_out, y, row_weight=None):
    """Weighted cost summed over samples, and the number of right argmax."""
    if spec.cost == "cross_entropy":
        log_p = s_out - s_out.max(axis=1, keepdims=True)
        log_p = log_p - np.log(np.exp(log_p).sum(axis=1, keepdims=True))
        per_row = -spec.cost_factor * (y * log_p).sum(axis=1)
    else:
        per_row = 0.5 * spec.cost_factor * ((s_out - y) ** 2).sum(axis=1)
    if row_weight is not None:
        per_row = per_row * row_weight
    return float(per_row.sum()), int((s_out.argmax(axis=1) == y.argmax(axis=1)).sum())


@dataclass
class Batch:
    """One mini-batch of a training call."""

    number: int
    rows: np.ndarray
    x: np.ndarray  # (M, N[0])
    y: np.ndarray  # (M, N[L])
    row_weight: np.ndarray | None  # (M,)
    total: float  # sum of the row weights
    beta: float  # with its sign
    states: list  # where the free phase starts


def begin_batches(spec, x, y, order, plan, row_weight, particles, dtype):
    """Yield the `Batch`es of a call; states start at 0, or at the particles of these rows."""
    for number, start in enumerate(range(0, len(order), plan.batch_size)):
        rows = order[start : start + plan.batch_size]
        rw = None if row_weight is None else row_weight[rows].astype(dtype)
        yield Batch(
            number=number,
            rows=rows,
            x=x[rows],
            y=y[rows],
            row_weight=rw,
            total=float(len(rows) if rw is None else rw.sum()),
            beta=plan.beta * (1 if plan.sign is None else int(plan.sign[number])),
            states=[
                np.zeros((len(rows), n), dtype) if particles is None else particles[k][rows]
                for k, n in enumerate(spec.sizes[1:])
            ],
        )


def end_free_phase(spec, batch, free, steps, particles, stats):
    """Count what the free phase saw and store its states as the rows' particles."""
    stats.free_steps += int(steps.sum())
    loss, n_correct = layered_cost(spec, free[-1], batch.y, batch.row_weight)
    stats.loss, stats.n_correct = stats.loss + loss, stats.n_correct + n_correct
    stats.n_samples += len(batch.rows)
    stats.n_batches += 1
    if particles is not None:
        for p, s in zip(particles, free):
            p[batch.rows] = s
