"""Deep Boltzmann machines: Gibbs sampling, mean field, and learning from the difference of two
phases (docs/equations.md 14).

Letters: k a layer, 0 the visible one; s[k] (rows, N[k]) its states; p[k] the probabilities under
which they were drawn; a[k] what it gets from its neighbours, W_{k-1}' s_{k-1} + W_k s_{k+1}.

Layers of equal parity do not meet: given those of one parity, the units of the other are
independent.
"""

import numpy as np
from scipy import sparse
from scipy.special import expit, softmax

from ..boltzmann_spec import Sweeps
from ..spec import DivergenceError
from .threefry import uniform


def diverged():
    return DivergenceError(
        "the weights of the machine became non-finite; a lower learning_rate helps"
    )


def check_states(states):
    """Raise a DivergenceError if a state is no number: fields have overflowed."""
    if not all(np.isfinite(s).all() for s in states):
        raise DivergenceError("a state of the machine became non-finite: its weights are too large")


def _times(a, w):
    """`a @ w`; every row is the same, bit for bit, whatever rows stand beside it (products.py)."""
    return sparse.csr_array(a) @ w  # zeros drop out: half of the units, where states are drawn


def inputs_of(machine, states, k, times=_times):
    """a[k]."""
    a = 0
    if k > 0:
        a = times(states[k - 1], machine.weights[k - 1])
    if k < len(machine.weights):
        a = a + times(states[k + 1], machine.weights[k].T)
    return a


def probabilities(machine, k, field):
    """p[k] of a layer whose units have these fields."""
    if machine.categorical_top and k == len(machine.weights):
        return softmax(field, axis=1)
    return expit(field)


def log_sums(machine, k, field):
    """Logarithm of the sum over all states of layer k, of each row."""
    if machine.categorical_top and k == len(machine.weights):
        top = field.max(axis=1)
        return top + np.log(np.exp(field - top[:, None]).sum(axis=1))
    return np.logaddexp(0, field).sum(axis=1)


def _drawn(machine, k, p, u):
    if not (machine.categorical_top and k == len(machine.weights)):
        return (u <= p) + 0 * p  # NaN where p is
    cumulated = np.cumsum(p, axis=1)
    place = (cumulated < u[:, :1] * cumulated[:, -1:]).sum(axis=1)
    return (place[:, None] == np.arange(p.shape[1])) + 0 * p


def gain(machine, clamped, k):
    """How often the input from below counts in the upward pass: twice where a layer above is going
    to answer with as much. Labels are too few to.
    """
    top = len(machine.weights)
    answers = k < top and not clamped[k + 1] and not (machine.categorical_top and k + 1 == top)
    return 2 if answers else 1


def _pass_upwards(machine, states, clamped, times):
    for k in range(1, len(states)):
        if clamped[k]:
            continue
        a = gain(machine, clamped, k) * times(states[k - 1], machine.weights[k - 1])
        if k + 1 < len(states) and clamped[k + 1]:
            a = a + times(states[k + 1], machine.weights[k].T)
        states[k][...] = probabilities(machine, k, a + machine.biases[k])


def order_of(n_layers, even_first):
    """The layers of the first half of a sweep, and of the second."""
    even, odd = range(0, n_layers, 2), range(1, n_layers, 2)
    return (even, odd) if even_first else (odd, even)


def boltzmann_sweep(
    machine,
    states,
    sweeps,
    clamped,
    mask=None,
    means=None,
    base=None,
    betas=None,
    log_weight=None,
    n_threads=1,
):
    """Sweeps of Gibbs sampling or of mean field.

    Parameters
    ----------
    machine : Boltzmann
        Its parameters have the dtype of the call.
    states : list of (M, N[k])
        In/out.
    sweeps : Sweeps
    clamped : sequence of bool
        For each layer whether its states stay.
    mask : int8 (M, N[0]), optional
        Visible units that stay, where it is not 0.
    means : list of (M, N[k]), optional
        Out: the probabilities under which the states were drawn last.
    base : list of (N[k],), optional
        Biases of the machine without weights that annealing begins at.
    betas : sequence of n + 1 float, optional
        Inverse temperatures: of the states, then of each sweep. At b weights count b times, and
        biases are b `biases` + (1 - b) `base`.
    log_weight : float64 (M,), optional
        In/out: annealed importance sampling's weights (Neal 2001). To them the difference of log p*
        between the two temperatures is added before each sweep, the layers that it begins with
        summed over.
    n_threads : int
        Changes no result.

    Returns
    -------
    steps : int32 (M,)
        Sweeps that each row took.
    residual : (M,)
        Largest change of a unit in its last sweep.

    Raises
    ------
    DivergenceError
        A state is no number; the states are left as they are.
    """
    found = sweep_with(
        _times, machine, states, sweeps, clamped, mask, means, base, betas, log_weight
    )
    check_states(states)
    return found


def sweep_with(
    times,
    machine,
    states,
    sweeps,
    clamped,
    mask=None,
    means=None,
    base=None,
    betas=None,
    log_weight=None,
):
    """`boltzmann_sweep`, by the product `times`."""
    n_rows, dtype = len(states[0]), states[0].dtype
    steps, residual = np.zeros(n_rows, np.int32), np.zeros(n_rows, dtype)
    active = np.arange(n_rows)
    hold = None if mask is None else np.asarray(mask) != 0
    if sweeps.upward:
        _pass_upwards(machine, states, clamped, times)
    first, second = order_of(len(states), sweeps.even_first)
    for t in range(sweeps.n):
        if not active.size:
            break
        now = [s[active] for s in states]
        change = np.zeros(active.size, dtype)
        beta, biases = 1.0, machine.biases
        if betas is not None:
            old, beta = betas[t], betas[t + 1]
            biases = [_mixed(beta, b, c) for b, c in zip(machine.biases, base)]
            before = [_mixed(old, b, c) for b, c in zip(machine.biases, base)]
        if log_weight is not None:
            for k in second:
                log_weight[active] += now[k] @ (biases[k] - before[k])
        for k in [*first, *second]:
            if clamped[k]:
                continue
            a = inputs_of(machine, now, k, times)
            field = (dtype.type(beta) * a + biases[k]).astype(dtype)
            if log_weight is not None and k in first:
                old_field = dtype.type(old) * a + before[k]
                gained = log_sums(machine, k, field) - log_sums(machine, k, old_field)
                log_weight[active] += gained
            p = probabilities(machine, k, field)
            if means is not None:
                means[k][active] = p
            new = p
            if sweeps.draw:
                u = uniform(n_rows, p.shape[1], k, sweeps.first_sweep + t, sweeps.seed)
                new = _drawn(machine, k, p, u[active]).astype(dtype)
            if k == 0 and hold is not None:
                new = np.where(hold[active], now[0], new)
            change = np.maximum(change, np.abs(new - now[k]).max(axis=1))
            now[k] = new
        for s, new in zip(states, now):
            s[active] = new
        steps[active] = t + 1
        residual[active] = change
        if not sweeps.draw and sweeps.tol >= 0:
            active = active[~(change <= sweeps.tol)]
    return steps, residual


def _mixed(beta, bias, base):
    beta = bias.dtype.type(beta)
    return beta * bias + (1 - beta) * base


def boltzmann_train(
    machine, x, y, order, plan, particles, offsets=None, velocity=None, n_threads=1
):
    """A step of the parameters, in place, for each mini-batch.

    Parameters
    ----------
    machine : Boltzmann
        In/out.
    x : (R, N[0])
        In [0, 1]; values between are probabilities.
    y : (R, N[L]) or None
        Labels of a machine with a categorical top; None: the top layer is free.
    order : int64 (M,)
        Rows in the order in which they are taken.
    plan : BoltzmannPlan
    particles : list of (C, N[k])
        In/out: the persistent chains.
    offsets : list of (N[k],), optional
        In/out: states count from here in the gradient of the weights (Melchior et al. 2016).
    velocity : list, optional
        In/out: of the weights, then of the biases; None without momentum.

    Returns
    -------
    n_batches : int
    n_sweeps : int
        Mean-field sweeps of all rows.

    Raises
    ------
    DivergenceError
        Parameters and particles are then as they were before the call.
    """
    L, dtype = len(machine.weights), machine.weights[0].dtype
    parameters = [*machine.weights, *machine.biases]
    changed = [*parameters, *particles, *(offsets or ()), *(velocity or ())]
    kept = [a.copy() for a in changed]
    clamped = [True, *[False] * (L - 1), y is not None]
    free, taken, n_batches = [False] * (L + 1), 0, 0
    for start in range(0, len(order), plan.batch_size):
        rows = order[start : start + plan.batch_size]
        first = [np.empty((len(rows), len(b)), dtype) for b in machine.biases]
        first[0][...] = x[rows]
        if y is not None:
            first[L][...] = y[rows]
        up = Sweeps(plan.n_mean_field, draw=False, upward=True, tol=plan.tol)
        taken += int(sweep_with(np.matmul, machine, first, up, clamped)[0].sum())
        number = plan.first_sweep + n_batches * plan.n_sweeps
        down = Sweeps(plan.n_sweeps, plan.draw, True, seed=plan.seed, first_sweep=number)
        if plan.draw:
            means = [np.empty_like(p) for p in particles]
            sweep_with(np.matmul, machine, particles, down, free, means=means)
            second = [(means if k % 2 else particles)[k] for k in range(L + 1)]
        else:
            second = [s.copy() for s in first]
            if y is not None:  # the answer without the labels, before the data go as well
                sweep_with(np.matmul, machine, second, up, [True, *free[1:]])
            sweep_with(np.matmul, machine, second, down, free)
        _step(machine, first, second, plan, offsets, velocity)
        n_batches += 1
        if not all(np.isfinite(a).all() for a in parameters):
            for a, old in zip(changed, kept):
                a[...] = old
            raise diverged()
    return n_batches, taken


def _step(machine, first, second, plan, offsets, velocity):
    L, dtype = len(machine.weights), machine.weights[0].dtype
    low, high = (
        [s.mean(axis=0, dtype=dtype) for s in second],
        [s.mean(axis=0, dtype=dtype) for s in first],
    )
    gap = [h - c for h, c in zip(high, low)]
    gradient = [
        first[k].T @ first[k + 1] / len(first[0]) - second[k].T @ second[k + 1] / len(second[0])
        for k in range(L)
    ]
    slopes = [g.copy() for g in gap]
    if offsets is not None:
        rate = dtype.type(plan.offset_rate)
        for o, h in zip(offsets, high):
            o += rate * (h - o)
        for k in range(L):
            gradient[k] -= np.outer(gap[k], offsets[k + 1]) + np.outer(offsets[k], gap[k + 1])
            slopes[k] -= gradient[k] @ offsets[k + 1]
            slopes[k + 1] -= offsets[k] @ gradient[k]
    decay = dtype.type(plan.weight_decay)
    steps = [g - decay * w for g, w in zip(gradient, machine.weights)] + slopes
    rate, momentum = dtype.type(plan.rate), dtype.type(plan.momentum)
    for i, (a, step) in enumerate(zip([*machine.weights, *machine.biases], steps)):
        if velocity is not None:
            velocity[i][...] = step = momentum * velocity[i] + step
        a += rate * step
