"""The two sides of every gradient-match check, moment by moment: the reverse pass and the nudged
phase.
"""

from __future__ import annotations


def free_trajectory(model, drive, n_samples, n_steps, n_last, tol):
    """States of the last `n_last` + 1 moments of a free phase of `n_steps` steps from zero, oldest
    first.

    Before those, a sample stops once its residual is <= `tol`. Returns the states, the steps done
    and the largest residual of the last step.
    """
    states = model.zeros(n_samples)
    steps, _ = model.relax(drive, states, n_steps - n_last, tol)
    trajectory = [[s.copy() for s in states]]
    residual = 0.0
    for _ in range(n_last):
        _, change = model.relax(drive, states, 1)
        residual = float(change.max())
        trajectory.append([s.copy() for s in states])
    return trajectory, int(steps.max()) + n_last, residual


def bptt_moments(model, drive, trajectory, y):
    """Yield, for t = 0, 1, ...: dL/ds at time T - t for each layer, and the gradient of the last t
    + 1 steps.

    The first has an entry per sample, (M, N[k]); the second is summed over the batch. L is the
    batch-mean cost.
    """
    bar = model.cost_gradient(trajectory[-1][-1], y)
    total = None
    for states in reversed(trajectory[:-1]):
        neurons = bar
        bar, gradient = model.vjp(drive, states, bar)
        total = gradient if total is None else [a + b for a, b in zip(total, gradient)]
        yield neurons, total


def nudged_moments(model, x, y, free, rule, rate=0.0):
    """Yield, for t = 0, 1, ...: minus the neuron update at step t, and minus the synaptic one up to
    t + 1.

    `rule` nudges by its beta for all its `n_steps`. Scaled as the gradient of the batch-mean cost:
    neurons (s_t+1 - s_t) / (dt beta M), per sample; synapses summed over the batch and divided by
    beta M. The continual rules move a copy of the model at `rate` after every step.
    """
    n, beta = len(y), rule.beta
    if rule.continual:
        model = model.copy()
    drive = model.drive(x)
    states, total = free, None
    for _ in range(rule.n_steps):
        new = model.step(drive, states, y, beta)
        neurons = [(a - b) / (model.dt * beta * n) for a, b in zip(states, new)]
        synapses, biases = model.increment(drive, states, new, rule.independent_feedback)
        if rule.continual:
            model.learn(synapses, biases, rate / (beta * n))
            drive = model.drive(x)
        states = new
        part = [-d / (beta * n) for d in synapses]
        total = part if total is None else [a + b for a, b in zip(total, part)]
        yield neurons, total
