"""P-conv of 1905.13633 trained by equilibrium propagation, in JAX: the baseline of bench_graph.

One `jit` a batch, `lax.fori_loop` over the steps, the convolution of the input once a batch; the way
down is the vector-Jacobian product of the pooled convolution.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax


def _conv(s, w):
    return lax.conv_general_dilated(s, w, (1, 1), "VALID")


def _pooled(s, w):
    z = _conv(s, w)
    return lax.reduce_window(z, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")


@partial(jax.jit, static_argnums=(5, 6))
def _train(weights, biases, x, y, beta, plan, n):
    drive = _pooled(x, weights[0]) + biases[0][:, None, None]

    def step(states, nudge):
        one, two, out = states
        high, down = jax.vjp(lambda s: _pooled(s, weights[1]), one)
        back = (out @ weights[2].T).reshape(two.shape)
        new = jnp.clip(two.reshape(n, -1) @ weights[2] + biases[2], 0, 1)
        return (
            jnp.clip(drive + down(two)[0], 0, 1),
            jnp.clip(high + biases[1][:, None, None] + back, 0, 1),
            new + nudge * (y - out),
        )

    n_free, n_nudged, rate, bias_rate = plan
    states = jnp.zeros((n, 32, 12, 12)), jnp.zeros((n, 64, 4, 4)), jnp.zeros((n, 10))
    free = lax.fori_loop(0, n_free, lambda _, s: step(s, 0.0), states)
    nudged = lax.fori_loop(0, n_nudged, lambda _, s: step(s, beta), free)

    def primitive(weights, states):
        one, two, out = states
        return (
            jnp.sum(_pooled(x, weights[0]) * one)
            + jnp.sum(_pooled(one, weights[1]) * two)
            + jnp.sum((two.reshape(n, -1) @ weights[2]) * out)
        )

    grad = jax.grad(primitive)
    steps = [b - a for a, b in zip(grad(weights, free), grad(weights, nudged))]
    change = [b - a for a, b in zip(free, nudged)]
    sums = change[0].sum((0, 2, 3)), change[1].sum((0, 2, 3)), change[2].sum(0)
    scale = 1 / (beta * n)
    return (
        [w + r * scale * g for w, r, g in zip(weights, rate, steps)],
        [b + r * scale * g for b, r, g in zip(biases, bias_rate, sums)],
    )


class JaxConv:
    """Arguments as `conv_torch.TorchConv`."""

    def __init__(self, weights, biases, plan):
        self.weights, self.biases = [list(map(jnp.asarray, a)) for a in (weights, biases)]
        self.plan = plan.n_free_steps, plan.n_nudged_steps, plan.rate, plan.bias_rate
        self.beta = plan.beta

    def train_batch(self, x, y, sign=1.0):
        self.weights, self.biases = _train(
            self.weights, self.biases, x, y, self.beta * sign, self.plan, len(x)
        )
        self.weights[0].block_until_ready()
