"""NumPy twin of the layered-crossbar kernels: exact block coordinate descent, and learning, for
resistive networks.

A *deep resistive network* (arXiv 2402.11674) is a chain of node layers. Neighbouring layers are
fully connected by conductances ``g[k]`` of shape (rows, cols), layer ``k`` to layer ``k + 1``;
every node has a current source (bias) and ideal diodes that keep its voltage within ``[lower,
upper]``. The input nodes are voltage sources ``(+A x, -A x)``, so ``g[0]`` has twice as many rows
as ``x`` has columns. The steady state minimises the co-content

    E(v) = sum_k 1/2 g[k]_ij (v_i - v_j)^2 - sum b v     subject to lower <= v <= upper,

a convex QP. All nodes of one layer are independent given the other layers, so setting

    v <- clip((sum_j g_j v_j + b [+ beta y]) / (sum_j g_j [+ beta]), lower, upper)

for a whole layer is an *exact* block minimisation; the terms in brackets are the nudge of the
output layer, which is a resistor of conductance ``beta`` to a source at the target ``y``. A node
whose conductances are all zero floats; by convention it stays at 0 V.

With ``pairs`` the output layer holds 2 C nodes, the prediction of class c is ``v[c] - v[C + c]``
(arXiv 2006.01981), and the nudge is the current ``beta (y - prediction)`` into one and out of the
other node, again solved exactly.

Amplifiers between the layers need no term of their own: referred to the output, a network whose
layers are joined by bidirectional amplifiers (voltage gain a forward, current gain 1/a back) obeys
the same equations with the input gain multiplied by every a.
"""

from contextlib import contextmanager
from dataclasses import replace

import numpy as np
from scipy import sparse

from ..spec import DivergenceError, NudgeError
from .products import InOrder, in_order

SCHEDULES = ("synchronous", "asynchronous", "forward", "backward")
NUDGINGS = ("centered", "positive", "negative")
OPTIMIZERS = ("sgd", "momentum", "nesterov")


def diverged():
    """The error of every backend; none of them knows the layer."""
    return DivergenceError("crossbar: the state or the conductances became non-finite")


def stages(schedule, n_layers):
    """Layers (1-based) that move together, in order, for one step of `schedule`."""
    forward = [[k] for k in range(1, n_layers + 1)]
    if schedule == "forward":
        return forward
    if schedule == "backward":
        return forward[::-1]
    if schedule == "asynchronous":
        return [
            layers
            for layers in (list(range(1, n_layers + 1, 2)), list(range(2, n_layers + 1, 2)))
            if layers
        ]
    if schedule == "synchronous":
        return [list(range(1, n_layers + 1))]
    raise ValueError(f"schedule must be one of {SCHEDULES}, got {schedule!r}")


def input_drive(weight, x, input_gain):
    """Current from the input sources (+A x, -A x) through `weight` (2 D, N) into grounded nodes,
    (M, N).
    """
    n = weight.shape[0] // 2
    return in_order(x, weight[:n] - weight[n:]) * weight.dtype.type(input_gain)


def total_conductance(weights):
    """Sum of the conductances that meet at each node of layers 1..L: a list of (N,) arrays."""
    below = [w.sum(axis=0) for w in weights]
    return [
        below[k] + (weights[k + 1].sum(axis=1) if k + 1 < len(weights) else 0)
        for k in range(len(weights))
    ]


def _finite_totals(weights):
    totals = total_conductance(weights)
    if not all(np.isfinite(t).all() for t in totals):
        raise diverged()
    return totals


def _divide(num, den):
    return np.where(den > 0, num / np.where(den > 0, den, 1), np.zeros((), num.dtype))


def _solve_layer(k, network, totals, drive, states, beta, y):
    """Exact minimiser of layer `k` (0 = first hidden) given its neighbours; (M, N)."""
    weights, lower, upper = network.weights, network.lower[k], network.upper[k]
    num = network.biases[k] + (drive if k == 0 else states[k - 1] @ weights[k])
    if k + 1 < len(weights):
        num = num + states[k + 1] @ weights[k + 1].T
        return np.clip(_divide(num, totals[k]), lower, upper)
    if beta is None:
        return np.clip(_divide(num, totals[k]), lower, upper)
    beta = beta[:, None]
    if not network.pairs:
        return np.clip((num + beta * y) / (totals[k] + beta), lower, upper)
    half = num.shape[1] // 2
    free, inverse = _divide(num, totals[k]), _divide(np.ones_like(num), totals[k])
    stiffness = 1 + beta * (inverse[:, :half] + inverse[:, half:])
    current = beta * (y - (free[:, :half] - free[:, half:])) / stiffness
    v = free + np.concatenate([current, -current], axis=1) * inverse
    return np.clip(v, lower, upper)


def _check_nudge(total, beta, pairs):
    """NudgeError unless every output node of total conductance `total` keeps some under all nudges
    `beta`.
    """
    if pairs:
        inverse, half = _divide(np.ones_like(total), total), total.size // 2
        left = 1 + beta[:, None] * (inverse[:half] + inverse[half:])
    else:
        left = total + beta[:, None]
    if (beta < 0).any() and (left <= 0).any():
        raise NudgeError


def _relax(network, totals, drive, states, n_steps, tol, beta, y):
    """Sweeps in place on `states`; a sample stops after the step whose largest change is <= tol."""
    n_samples = len(drive)
    steps, residual = np.zeros(n_samples, np.int32), np.zeros(n_samples, drive.dtype)
    active = np.ones(n_samples, dtype=bool)
    beta = None if beta == 0 else np.full(n_samples, beta, drive.dtype)
    if beta is not None:
        _check_nudge(totals[-1], beta, network.pairs)
    for _ in range(n_steps):
        change = np.zeros(n_samples, drive.dtype)
        for layers in stages(network.schedule, len(network.weights)):
            new = {
                k - 1: _solve_layer(k - 1, network, totals, drive, states, beta, y) for k in layers
            }
            for k, v in new.items():
                change = np.maximum(change, np.abs(v - states[k]).max(axis=1))
                states[k][active] = v[active]
        steps[active] += 1
        residual[active] = change[active]
        active &= ~(residual <= tol) if tol >= 0 else True
        if not active.any():
            break
    return steps, residual


def relax(network, x, states, y=None, beta=0.0, n_steps=4, tol=-1.0, n_threads=1):
    """Sweep `states` (list of (M, N[k]) arrays, in place) towards the steady state.

    Parameters
    ----------
    network : Crossbar
    x : (M, D) array or CSR matrix
    y, beta : (M, n_outputs) array or None, float
        Targets and nudge; 0 is the free phase.
    n_steps, tol : int, float
        Steps at most; a sample stops after a step that moved none of its nodes by more than `tol`
        (< 0: never).

    Returns
    -------
    steps, residual : (M,) int32 and float arrays
        Steps used, and the largest voltage change in the last of them.
    """
    weights = network.weights
    drive, totals = input_drive(weights[0], x, network.input_gain), _finite_totals(weights)
    # a sample does not depend on those beside it
    network = replace(network, weights=[InOrder(w) for w in weights])
    result = _relax(network, totals, drive, states, n_steps, tol, 0.0 if y is None else beta, y)
    if not all(np.isfinite(s).all() for s in states):
        raise diverged()
    return result


def gradients(weights, x, input_gain, states_a, states_b, scale):
    """sum over samples of scale * (dE/dg(a) - dE/dg(b)), and the same for the biases.

    `scale` is (M,): 1 / ((beta_a - beta_b) * batch size), times a sample's weight.
    """
    x = x.toarray() if sparse.issparse(x) else np.asarray(x)
    v_in = weights[0].dtype.type(input_gain) * np.concatenate([x, -x], axis=1)
    a, b = [v_in, *states_a], [v_in, *states_b]
    weight_gradients, bias_gradients = [], []
    for k in range(len(weights)):
        drop_a = a[k][:, :, None] - a[k + 1][:, None, :]
        drop_b = b[k][:, :, None] - b[k + 1][:, None, :]
        weight_gradients.append(
            np.einsum("m,mij->ij", scale, 0.5 * (drop_a + drop_b) * (drop_a - drop_b))
        )
        bias_gradients.append(-(scale @ (a[k + 1] - b[k + 1])))
    return weight_gradients, bias_gradients


def nudge_pair(nudging, beta):
    """The two nudges compared: dE/dg at the first minus at the second, over their difference."""
    return {"centered": (beta, -beta), "positive": (beta, 0.0), "negative": (-beta, 0.0)}[nudging]


def train(network, x, y, order, plan, states, row_weight=None, velocity=None, n_threads=1):
    """Stochastic gradient descent by equilibrium propagation, in place on the network's weights and
    biases.

    Each batch: free phase, then the nudged phases from the free state, then ``g <- clip(g - rate
    dE, g_min, g_max)`` and ``b <- b + rate v``. The free phase starts where the previous batch
    ended (the state of the first nudge of `nudge_pair`, as in the published code of arXiv
    2402.11674) or, without `plan.carry`, at zero; a batch of another size starts from zero, and so
    does the one after it. `states` carries this over from call to call; after a batch that fails
    they are zero, as the weights are what the batches before it have made.

    Parameters
    ----------
    network : Crossbar
    x, y : (R, D) array or CSR matrix, (R, n_outputs) array
    order : (M,) int64 array or None
        Rows of the data, in the order they are shown.
    plan : CrossbarPlan
    states : list of (batch_size, N[k]) arrays, in/out
    row_weight : (R,) array or None
        The gradient of a batch is the weighted mean over its samples.
    velocity : list of arrays, in/out, or None
        v of the weights, then of the biases; needed unless the optimizer is "sgd".

    Returns
    -------
    loss, n_correct : float, int
        `plan.loss_so_far` plus the weighted sum over the samples of ``1/2 |prediction - y|^2`` in
        the free phase, and how many argmax were right.
    """
    dtype = network.weights[0].dtype
    order = np.arange(x.shape[0]) if order is None else order
    weight = np.ones(x.shape[0], dtype) if row_weight is None else np.asarray(row_weight, dtype)
    y = np.asarray(y, dtype=dtype)
    loss, n_correct = plan.loss_so_far, 0
    with zero_after_an_error(states):
        for start in range(0, len(order), plan.batch_size):
            rows = order[start : start + plan.batch_size]
            carried = plan.carry and len(rows) == plan.batch_size
            batch = _Batch(network, plan, x[rows], y[rows], weight[rows])
            free = batch.free_phase(
                [s.copy() if carried else np.zeros_like(s[: len(rows)]) for s in states]
            )
            batch_loss, hits = batch.score(free)
            loss, n_correct = loss + batch_loss, n_correct + hits
            a, b = batch.nudged_phases(free)
            _step(network, plan, batch.gradient(a, b), velocity)
            for s, ended in zip(states, a):
                s[...] = ended if len(rows) == plan.batch_size else 0
    return loss, n_correct


@contextmanager
def zero_after_an_error(states):
    """Carried states of a call that fails: nothing goes on from what it left."""
    try:
        yield
    except Exception:
        for s in states:
            s[...] = 0
        raise


class _Batch:
    """The samples x, y of a mini-batch, weighted by `weight`, before its step."""

    def __init__(self, network, plan, x, y, weight):
        self.network, self.plan = network, plan
        self.x, self.y, self.weight = x, y, weight
        self.totals = _finite_totals(network.weights)
        self.drive = input_drive(network.weights[0], x, network.input_gain)
        self.nudges = nudge_pair(plan.nudging, plan.beta)

    def _relaxed(self, states, beta, n_steps, tol):
        _relax(self.network, self.totals, self.drive, states, n_steps, tol, beta, self.y)
        return states

    def free_phase(self, states):
        return self._relaxed(states, 0.0, self.plan.n_free_steps, self.plan.tol_free)

    def nudged_phases(self, free):
        """The states under both nudges, of which the second may be none."""
        a, b = (
            self._relaxed(
                [s.copy() for s in free], beta, self.plan.n_nudged_steps, self.plan.tol_nudged
            )
            if beta
            else free
            for beta in self.nudges
        )
        return a, b

    def score(self, free):
        """Weighted cost of the free states, and the number of right argmax."""
        prediction = predictions(free[-1], self.network.pairs)
        cost = 0.5 * ((prediction - self.y) ** 2).sum(axis=1)
        if not np.isfinite(cost).all():
            raise diverged()
        hits = int((prediction.argmax(axis=1) == self.y.argmax(axis=1)).sum())
        return float((self.weight * cost).sum()), hits

    def gradient(self, a, b):
        """Of the weights, then of the biases: the weighted mean of the contrast."""
        first, second = self.nudges
        total = float(self.weight.sum(dtype=np.float64))
        share = 1.0 / ((first - second) * total) if total > 0 else 0
        scale = self.weight * self.weight.dtype.type(share)
        of_weights, of_biases = gradients(
            self.network.weights, self.x, self.network.input_gain, a, b, scale
        )
        return of_weights + of_biases


def _step(network, plan, gradient, velocity):
    """The optimiser's step of conductances, which are clamped, and biases; in place."""
    dtype, n = network.weights[0].dtype, len(network.weights)
    if plan.optimizer != "sgd":
        mu = dtype.type(plan.momentum)
        for v, g in zip(velocity, gradient):
            v[...] = mu * v + g
        nesterov = plan.optimizer == "nesterov"
        gradient = [g + mu * v if nesterov else v for v, g in zip(velocity, gradient)]
    for k, w in enumerate(network.weights):
        np.clip(w - dtype.type(plan.rate[k]) * gradient[k], plan.g_min, plan.g_max, out=w)
        network.biases[k] -= dtype.type(plan.bias_rate[k]) * gradient[n + k]


def predictions(output, pairs):
    """What the output nodes say: their voltages, or the voltage differences of the pairs."""
    half = output.shape[1] // 2
    return output[:, :half] - output[:, half:] if pairs else output


def co_content(weights, biases, x, states, *, input_gain=1.0, beta=0.0, y=None, pairs=False):
    """The minimised quantity for each sample, in watt: half the dissipated power less the power of
    the biases.

    With `beta`, the nudge's ``beta / 2 |prediction - y|^2`` is included. (M,) array.
    """
    totals = total_conductance(weights)
    drive = input_drive(weights[0], x, input_gain)
    squares = x.multiply(x) if sparse.issparse(x) else np.square(x)
    n = weights[0].shape[0] // 2
    sources = in_order(squares, (weights[0][:n] + weights[0][n:]).sum(axis=1)[:, None])[:, 0]
    energy = 0.5 * input_gain**2 * sources
    for k, v in enumerate(states):
        below = drive if k == 0 else in_order(states[k - 1], weights[k])
        energy = energy + (0.5 * totals[k] * v**2 - (below + biases[k]) * v).sum(axis=1)
    if beta:
        energy = energy + 0.5 * beta * ((predictions(states[-1], pairs) - y) ** 2).sum(axis=1)
    return energy


def kcl_residual(weights, biases, lower, upper, x, states, *, input_gain=1.0):
    """Net current into each node that no diode may carry, in ampere: a list of (M, N[k]) arrays, 0
    at the solution.

    A diode can only push a node at its lower bound up, or one at its upper bound down; current of
    the other sign, and any net current at a node between its bounds, is a violation of Kirchhoff's
    law.
    """
    totals = total_conductance(weights)
    drive = input_drive(weights[0], x, input_gain)
    residual = []
    for k, v in enumerate(states):
        below = drive if k == 0 else in_order(states[k - 1], weights[k])
        current = below + biases[k] - totals[k] * v
        if k + 1 < len(weights):
            current = current + in_order(states[k + 1], weights[k + 1].T)
        current = np.where((v <= lower[k]) & (current < 0), 0, current)
        current = np.where((v >= upper[k]) & (current > 0), 0, current)
        residual.append(np.where(totals[k] > 0, current, 0))
    return residual
