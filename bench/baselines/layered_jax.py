"""JAX (XLA, CPU) baseline of our own: whole training steps of EP, continual EP, C-VF and BPTT,
compiled.

The input drive is hoisted, both phases are `fori_loop`s, and a run of mini-batches is one compiled
loop with the parameters donated, so that nothing is dispatched from Python between batches. XLA's
thread pool is made once per process: there is one rate, at the threads it takes by itself.

Weights are (n_in, n_out), input -> output.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import lax


def rho(activation, s):
    return jax.nn.sigmoid(4 * s - 2) if activation == "shifted_sigmoid" else jnp.clip(s, 0, 1)


class JaxLayered:
    """Training step of a `LayeredSetting` or a `ContinualSetting`, over a range of mini-batches.

    Parameters
    ----------
    setting : bench.settings.LayeredSetting or ContinualSetting
    weights, biases, back : lists of ndarray
        Copied; the trained ones are read from `parameters`.
    x, y : ndarray (n_batches, batch, units)
    signs : ndarray (n_batches,)
    """

    def __init__(self, setting, weights, biases, back, x, y, signs):
        self.setting = setting
        self.parameters = jax.tree.map(jnp.array, (weights, biases, back or []))
        self.x, self.y, self.signs = jnp.asarray(x), jnp.asarray(y), jnp.asarray(signs, x.dtype)
        self.particles = [jnp.zeros((*x.shape[:2], n), x.dtype) for n in setting.layers[1:]]
        if not setting.persistent:
            self.particles = []
        self._run = jax.jit(functools.partial(_run, setting), donate_argnums=(0, 1))

    def train(self, start, stop):
        carry = self._run(self.parameters, self.particles, self.x, self.y, self.signs, start, stop)
        self.parameters, self.particles = jax.block_until_ready(carry)


def _run(setting, parameters, particles, x, y, signs, start, stop):
    """Mini-batches start..stop-1 of x (n, B, N0) and y (n, B, NL)."""
    learn = _continual if setting.kind == "continual" else _bptt if setting.rule == "bptt" else _ep

    def body(i, carry):
        parameters, particles = carry
        free = [p[i] for p in particles] or [
            jnp.zeros((x.shape[1], n), x.dtype) for n in setting.layers[1:]
        ]
        parameters, free = learn(setting, parameters, x[i], y[i], signs[i] * setting.beta, free)
        return parameters, [p.at[i].set(s) for p, s in zip(particles, free)]

    return lax.fori_loop(start, stop, body, (parameters, particles))


def _step(setting, weights, biases, back, drive, states, force=0.0):
    """All layers at once, from the old states; `force` is the nudge of the output."""
    continuous = setting.kind == "energy"
    activation = getattr(setting, "activation", "shifted_sigmoid")
    shown = [rho(activation, s) for s in states] if continuous else states
    new, last = [], len(weights) - 1
    for k, s in enumerate(states):
        field = drive if k == 0 else shown[k - 1] @ weights[k] + biases[k]
        if k < last:
            field = field + shown[k + 1] @ (back[k + 1] if back else weights[k + 1].T)
        if not continuous:
            new.append(rho(activation, field) + (force if k == last else 0.0))
            continue
        if k < last and activation == "shifted_sigmoid":
            field = 4 * shown[k] * (1 - shown[k]) * field
        field = field + (force if k == last else 0.0)
        new.append(jnp.clip(s + setting.dt * (field - s), 0, 1))
    return new


def _relax(setting, parameters, drive, states, n_steps, y=None, nudge=0.0):
    weights, biases, back = parameters

    def body(_, states):
        force = 0.0 if y is None else nudge * (y - states[-1])
        return _step(setting, weights, biases, back, drive, states, force)

    return lax.fori_loop(0, n_steps, body, states)


def _ep(setting, parameters, x, y, beta, states):
    weights, biases, back = parameters
    x = rho(setting.activation, x) if setting.input_through_rho else x
    drive = x @ weights[0] + biases[0]
    free = _relax(setting, parameters, drive, states, setting.n_free_steps)
    nudge = 2 * setting.cost_scale * beta
    nudged = _relax(setting, parameters, drive, free, setting.n_nudged_steps, y, nudge)
    a, b = free, nudged
    if setting.kind == "energy":
        a, b = ([rho(setting.activation, s) for s in states] for states in (free, nudged))
    new_weights, new_biases = [], []
    for k, (w, bias) in enumerate(zip(weights, biases)):
        rate = setting.learning_rates[k] / (beta * len(x))
        contrast = x.T @ (b[0] - a[0]) if k == 0 else b[k - 1].T @ b[k] - a[k - 1].T @ a[k]
        new_weights.append(w + rate * contrast)
        new_biases.append(bias + rate * (b[k] - a[k]).sum(0))
    return (new_weights, new_biases, back), free


def _bptt(setting, parameters, x, y, beta, states):
    weights, biases, back = parameters
    early, late = setting.n_free_steps - setting.n_nudged_steps, setting.n_nudged_steps
    drive = x @ weights[0] + biases[0]
    start = lax.stop_gradient(_relax(setting, parameters, drive, states, early))

    def loss(weights, biases):
        drive = x @ weights[0] + biases[0]

        def body(states, _):
            return _step(setting, weights, biases, [], drive, states), None

        end, _ = lax.scan(body, start, None, length=late)
        return setting.cost_scale * jnp.square(end[-1] - y).sum() / len(x)

    by_weights, by_biases = jax.grad(loss, argnums=(0, 1))(weights, biases)
    rates = setting.learning_rates
    new_weights = [w - rate * g for w, g, rate in zip(weights, by_weights, rates)]
    new_biases = [b - rate * g for b, g, rate in zip(biases, by_biases, rates)]
    return (new_weights, new_biases, back), states


def _continual(setting, parameters, x, y, beta, states):
    """C-EP, or C-VF where there are backward weights: parameters move after every nudged step."""
    drive = x @ parameters[0][0] + parameters[1][0]
    free = _relax(setting, parameters, drive, states, setting.n_free_steps)
    rates = [rate / (beta * len(x)) for rate in setting.learning_rates]
    gram = x @ x.T + (0.0 if setting.vector_field else 1.0)  # the 1 is the bias' part

    def body(_, carry):
        (weights, biases, back), drive, old = carry
        new = _step(setting, weights, biases, back, drive, old, beta * (y - old[-1]))
        moved = [b - a for a, b in zip(old, new)]
        weights, biases, back = list(weights), list(biases), list(back)
        weights[0] = weights[0] + rates[0] * x.T @ moved[0]
        drive = drive + rates[0] * gram @ moved[0]
        if not setting.vector_field:
            biases[0] = biases[0] + rates[0] * moved[0].sum(0)
        for k in range(1, len(weights)):
            biases[k] = biases[k] + rates[k] * moved[k].sum(0)
            if setting.vector_field:
                weights[k] = weights[k] + rates[k] * old[k - 1].T @ moved[k]
                back[k] = back[k] + rates[k] * old[k].T @ moved[k - 1]
            else:
                weights[k] = weights[k] + rates[k] * (new[k - 1].T @ new[k] - old[k - 1].T @ old[k])
        return (weights, biases, back), drive, new

    parameters, _, _ = lax.fori_loop(0, setting.n_nudged_steps, body, (parameters, drive, free))
    return parameters, free
