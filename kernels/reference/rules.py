"""Learning rules, as `layered_train` and `graph_train` run them: the NumPy twin.

Each rule is a function ``rule(net, batch, drive, free, plan, stats)`` that runs its own second
phase from the free equilibrium and returns an `Ascent`, or None when it has changed the weights
itself (the continual rules). Notation and shapes are those of layered.py; docs/equations.md gives
the equations.
"""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from ..spec import CONTINUAL_RULES, DivergenceError, TrainStats, check_plan, free_spec
from . import gradients
from .activations import rho
from .ascent import Ascent
from .layered import (
    acting,
    back_or_transpose,
    begin_batches,
    end_free_phase,
    layered_contrast,
    layered_drive,
    layered_step,
    move_layers,
    passes,
    relax_from_drive,
)
from .update import apply_back_update, apply_update


@dataclass
class Net:
    """The arrays of a layered network; `back` is None when symmetric.

    Its methods are all that a learning rule asks of a network; `graph.GraphNet` has the same.
    """

    spec: object
    weights: list
    back: list | None
    biases: list

    @property
    def backs(self):
        return back_or_transpose(self.weights, self.back)

    @property
    def learned_back(self):
        """Which of `back` learn: nothing leads back to the clamped input."""
        return range(1, len(self.weights))

    def _of(self, spec):
        return Net(spec, self.weights, self.back, self.biases)

    def free(self, plan):
        """The net that moves as free phases do."""
        return self._of(free_spec(self.spec, plan.over_relaxation, plan.rule))

    def synchronous(self):
        """The net whose layers all move at once."""
        return self._of(replace(self.spec, schedule="synchronous"))

    def drive(self, x):
        """What the input adds to the first layer's field, (M, N[1])."""
        return layered_drive(self.spec, self.weights, self.biases, x)

    def relax(
        self, drive, states, y=None, beta=0.0, n_steps=1, tol=-1.0, phase="free", step=layered_step
    ):
        return relax_from_drive(
            self.spec,
            self.weights,
            self.backs,
            self.biases,
            drive,
            states,
            y,
            beta,
            n_steps,
            tol,
            phase,
            step,
        )

    def step(self, drive, states, y=None, beta=0.0):
        return layered_step(
            self.spec, self.weights, self.backs, self.biases, drive, states, y, beta
        )

    @property
    def held_output_step(self):
        return held_output_step

    def contrast(self, batch, drive, a, b, betas=None):
        return Ascent(*layered_contrast(self.spec, batch.x, a, b, batch.row_weight))

    def continual_increment(self, batch, drive, old, new):
        return continual_increment(self.spec, batch.x, old, new, batch.row_weight)

    def vector_field_increment(self, batch, drive, old, new):
        return vector_field_increment(self.spec, batch.x, old, new, batch.row_weight)

    def cost_gradient(self, drive, states, y, row_weight=None, total=None):
        """dC/ds of every layer, and the cost's own gradient by the parameters: there is none."""
        return gradients.cost_gradient(self.spec, states[-1], y, row_weight, total), None

    def vjp(self, x, drive):
        """The reverse of one step, ``vjp(states, bar, with_parameters=True)``."""
        shown = None if x is None else shown_input(self.spec, x)
        return partial(
            gradients.step_vjp, self.spec, self.weights, self.back, self.biases, drive, shown
        )


def shown_input(spec, x):
    """What the input shows to the first layer, input_activation(x), dense."""
    return rho(spec.input_activation, np.asarray(x.toarray() if hasattr(x, "toarray") else x))


# --- steps that are not `layered_step`, with its signature, for relax_from_drive ---


def held_output_step(spec, weights, back, biases, drive, states, y=None, beta=0.0):
    """A step of every layer but the output, which stays where it is."""
    hidden = [[k for k in layers if k < spec.n_weights] for layers in passes(spec)]
    return move_layers(spec, weights, back, biases, drive, states, hidden)


def backward_sweep(spec, weights, back, biases, drive, states, y=None, beta=0.0):
    """Layers L-1..1 in turn; the output stays clamped."""
    downward = [[k] for k in range(spec.n_weights - 1, 0, -1)]
    return move_layers(spec, weights, back, biases, drive, states, downward)


# --- the rules ---


def nudged_trajectory(net, batch, states, beta, plan, stats, redrive=False):
    """Yield drive, old and new states of every nudged step; a sample come to rest (tol) stays.

    `redrive`: compute the input drive anew at each step, because the weights change between them.
    """
    active = np.ones(len(batch.rows), bool)
    drive = None
    for step in range(plan.n_nudged_steps):
        if not active.any():
            return
        if drive is None or redrive:
            drive = net.drive(batch.x)
        new, change = net.step(drive, states, batch.y, beta)
        new = [np.where(active[:, None], b, a) for a, b in zip(states, new)]
        for k, s in enumerate(new, start=1):
            if not np.isfinite(s).all():
                raise DivergenceError(
                    f"the state of layer {k} became non-finite at step {step + 1} of the nudged phase",
                    k,
                    step + 1,
                    "nudged",
                )
        stats.nudged_steps += int(active.sum())
        yield drive, states, new
        states = new
        active &= change > plan.tol_nudged


def vector_field_increment(spec, x, old, new, row_weight=None):
    """Change of each post-synaptic state times pre-synaptic activity, summed over the samples.

    Pre-synaptic activity is taken before the step, as in the papers' code (docs/equations.md 6.1).
    Returns an `Ascent` not yet divided by beta and the batch size.
    """
    n = spec.n_weights
    pre = [shown_input(spec, x)] + [acting(spec, k, old[k - 1]) for k in range(1, n + 1)]
    change = [b - a for a, b in zip(old, new)]
    if row_weight is not None:
        change = [c * row_weight[:, None] for c in change]
    # the input is clamped: nothing goes back to it
    back = [np.zeros((spec.sizes[1], spec.sizes[0]), change[0].dtype)]
    back += [pre[k + 1].T @ change[k - 1] for k in range(1, n)]
    return Ascent([pre[k].T @ change[k] for k in range(n)], [c.sum(axis=0) for c in change], back)


def continual_increment(spec, x, old, new, row_weight=None):
    """Change of the correlations of each weight over one step (C-EP, docs/equations.md 5)."""
    return Ascent(*layered_contrast(spec, x, old, new, row_weight))


def continual(net, batch, drive, free, plan, stats):
    """C-EP and C-VF: the weights change after every nudged step, and the next step feels it."""
    fields = plan.rule == "continual_vector_field"
    increment = net.vector_field_increment if fields else net.continual_increment
    scale = 1 / (batch.beta * batch.total)
    for now, old, new in nudged_trajectory(net, batch, free, batch.beta, plan, stats, redrive=True):
        _move(net, increment(batch, now, old, new).scaled(scale), plan)


def _move(net, ascent, plan):
    """Plain SGD step, in place."""
    parts = [(net.weights, ascent.weights, plan.rate), (net.biases, ascent.biases, plan.bias_rate)]
    if ascent.back is not None:
        parts.append(
            [[group[c] for c in net.learned_back] for group in (net.back, ascent.back, plan.rate)]
        )
    for parameters, ascents, rates in parts:
        for p, a, rate in zip(parameters, ascents, rates):
            p += p.dtype.type(rate) * a


def vector_field(net, batch, drive, free, plan, stats):
    """1808.04873: post-synaptic rate of change times pre-synaptic activity, nudged phase."""
    total, span = None, 0.0
    for beta in (batch.beta, -batch.beta) if plan.centered else (batch.beta,):
        span += abs(beta)
        for now, old, new in nudged_trajectory(net, batch, free, beta, plan, stats):
            part = net.vector_field_increment(batch, now, old, new).scaled(np.sign(beta))
            total = part if total is None else total.plus(part)
    return None if total is None else total.scaled(1 / (span * batch.total))


def clamped_sweep(net, batch, drive, free, plan, stats):
    """Output clamped to the target, sweeps down, pre x change of post (docs/equations.md 8)."""
    spec = net.spec
    states = [s.copy() for s in free]
    states[-1] = batch.y.astype(states[-1].dtype)
    steps, _ = net.relax(
        drive, states, None, 0.0, plan.n_nudged_steps, plan.tol_nudged, "nudged", backward_sweep
    )
    stats.nudged_steps += int(steps.sum())
    pre = [shown_input(spec, batch.x)] + free[:-1]
    change = [b - a for a, b in zip(free, states)]
    if batch.row_weight is not None:
        change = [c * batch.row_weight[:, None] for c in change]
    ascent = Ascent([p.T @ c for p, c in zip(pre, change)], [c.sum(axis=0) for c in change])
    return ascent.scaled(1 / batch.total)


def coupled(net, batch, drive, free, plan, stats):
    """CpL and CL (2312.15103, docs/equations.md 7): output held at o* + b (y - o*), the others
    relax.

    CL is b = 1: the output held at the target itself.
    """
    b = 1.0 if plan.rule == "contrastive" else batch.beta
    ends = []
    for value in (b, -b) if plan.centered else (b,):
        states = [s.copy() for s in free]
        states[-1] += states[-1].dtype.type(value) * (batch.y - states[-1])
        steps, _ = net.relax(
            drive,
            states,
            None,
            0.0,
            plan.n_nudged_steps,
            plan.tol_nudged,
            "nudged",
            net.held_output_step,
        )
        stats.nudged_steps += int(steps.sum())
        ends.append(states)
    start = ends[1] if plan.centered else free
    span = 2 * b if plan.centered else b
    return net.contrast(batch, drive, start, ends[0]).scaled(1 / (span * batch.total))


def _ascent_of(gradient, rule):
    """Minus an exact gradient.

    Raises DivergenceError if it is not finite (a reverse pass grows where the free steps did not
    contract).
    """
    for group in gradient:
        for k, g in enumerate(group or [], start=1):
            if g is not None and not np.isfinite(g).all():
                raise DivergenceError(
                    f"the gradient by the parameters into layer {k} became non-finite in the reverse pass of "
                    f"learning_rule={rule!r}",
                    k,
                    None,
                    "nudged",
                )
    return Ascent(*gradient).scaled(-1)


def _reversed(net, batch, drive, states, gradient_of, rule):
    """Minus the gradient that ``gradient_of(vjp, bar)`` finds from the cost at `states`."""
    bar, own = net.cost_gradient(drive, states, batch.y, batch.row_weight, batch.total)
    gradient = gradient_of(net.vjp(batch.x, drive), bar)
    return _ascent_of(gradient if own is None else gradients.add_gradients(own, gradient), rule)


def recurrent_backprop(net, batch, drive, free, plan, stats):
    """Almeida-Pineda: K steps of the adjoint at the free state."""

    def gradient(vjp, bar):
        found, steps, _ = gradients.adjoint_process(
            vjp, free, bar, plan.n_nudged_steps, plan.tol_nudged
        )
        stats.nudged_steps += steps * len(batch.rows)
        return found

    return _reversed(net, batch, drive, free, gradient, plan.rule)


def implicit(net, batch, drive, free, plan, stats):
    """Implicit differentiation of the fixed point: one linear solve per sample."""
    together = net.synchronous()
    n_units = sum(s.shape[1] for s in free)

    def jacobian_of(m):
        repeated = drive[np.full(n_units, m)]
        return gradients.jacobian(together.vjp(None, repeated), [s[m : m + 1] for s in free])

    def gradient(vjp, bar):
        return vjp(free, gradients.solve_adjoint(jacobian_of, bar))[1]

    return _reversed(together, batch, drive, free, gradient, plan.rule)


def bptt(net, batch, drive, trajectory, plan, stats):
    """Back-propagation through the last K steps of the free phase."""
    stats.nudged_steps += (len(trajectory) - 1) * len(batch.rows)
    return _reversed(
        net,
        batch,
        drive,
        trajectory[-1],
        lambda vjp, bar: gradients.through_time(vjp, trajectory, bar),
        plan.rule,
    )


def equilibrium_propagation(net, batch, drive, free, plan, stats):
    """EP: the nudged phase from `free`, or both of centered EP, and what the ends differ in."""
    ends = []
    for beta in (batch.beta, -batch.beta) if plan.centered else (batch.beta,):
        states = [s.copy() for s in free]
        steps, _ = net.relax(
            drive, states, batch.y, beta, plan.n_nudged_steps, plan.tol_nudged, "nudged"
        )
        stats.nudged_steps += int(steps.sum())
        ends.append((beta, states))
    ends.append((0.0, free))
    (beta, nudged), (other, start) = ends[:2]
    ascent = net.contrast(batch, drive, start, nudged, (other, beta))
    return ascent.scaled(1 / ((beta - other) * batch.total))


TABLE = {
    "ep": equilibrium_propagation,
    "continual": continual,
    "continual_vector_field": continual,
    "vector_field": vector_field,
    "clamped_sweep": clamped_sweep,
    "contrastive": coupled,
    "coupled": coupled,
    "bptt": bptt,
    "recurrent_backprop": recurrent_backprop,
    "implicit": implicit,
}


def _free_phase(net, batch, drive, plan):
    """Relax batch.states in place; returns the steps, and for BPTT the states of the last K + 1
    moments.
    """
    free = net.free(plan)
    n_recorded = plan.n_nudged_steps if plan.rule == "bptt" else 0
    steps, _ = free.relax(
        drive, batch.states, None, 0.0, plan.n_free_steps - n_recorded, plan.tol_free
    )
    trajectory = [[s.copy() for s in batch.states]]
    for _ in range(n_recorded):
        more, _ = free.relax(drive, batch.states, None, 0.0, 1)
        steps += more
        trajectory.append([s.copy() for s in batch.states])
    return steps, trajectory


def train_net(net, x, y, order, plan, row_weight, particles, optimizer_state):
    """`layered_train` of any net; see there for arguments, returns and errors."""
    stats = TrainStats(plan.loss_so_far)
    dtype = net.weights[0].dtype
    for batch in begin_batches(net.spec, x, y, order, plan, row_weight, particles, dtype):
        drive = net.drive(batch.x)
        steps, trajectory = _free_phase(net, batch, drive, plan)
        end_free_phase(net.spec, batch, batch.states, steps, particles, stats)
        if batch.total <= 0:  # nothing to learn from
            continue
        before = _copies(net) if plan.rule in CONTINUAL_RULES else None
        try:
            start = trajectory if plan.rule == "bptt" else batch.states
            ascent = TABLE[plan.rule](net, batch, drive, start, plan, stats)
        except DivergenceError:
            if before is not None:  # half-way through the batch: back to the last finite weights
                for p, old in before:
                    p[...] = old
            raise
        if ascent is not None:
            steps = (plan, optimizer_state, batch.number)
            apply_update(net.weights, net.biases, ascent.weights, ascent.biases, *steps)
            if net.back is not None and ascent.back is not None:
                apply_back_update(net.back, ascent.back, net.learned_back, *steps)
    return stats


def estimate(spec, weights, back, biases, x, y, plan, row_weight=None):
    """What a rule would move the weights along on the one batch (x, y), nothing applied.

    Returns
    -------
    ascent : Ascent
    free : list of ndarray
        States at the end of the free phase.

    Raises
    ------
    ValueError
        For the continual rules, which have no estimate apart from the change they make.
    """
    if plan.rule in CONTINUAL_RULES:
        raise ValueError(
            f"learning_rule={plan.rule!r} moves the weights as it goes: nothing to estimate"
        )
    check_plan(spec, plan, back is not None, False)
    return estimate_of(Net(spec, weights, back, biases), x, y, plan, row_weight)


def estimate_of(net, x, y, plan, row_weight=None):
    """`estimate` of any net."""
    everything = replace(plan, batch_size=len(y))
    dtype = net.weights[0].dtype
    (batch,) = begin_batches(net.spec, x, y, np.arange(len(y)), everything, row_weight, None, dtype)
    drive = net.drive(x)
    _, trajectory = _free_phase(net, batch, drive, plan)
    start = trajectory if plan.rule == "bptt" else batch.states
    return TABLE[plan.rule](net, batch, drive, start, plan, TrainStats()), batch.states


def _copies(net):
    backs = [] if net.back is None else [net.back[c] for c in net.learned_back]
    return [(p, p.copy()) for p in [*net.weights, *net.biases, *backs]]
