"""The toy network of 1905.13633 Fig. 2: input, hidden and output layer, with an output-input skip
connection.

Energy (docs/equations.md 10.3):
``E = |h|^2/2 + |o|^2/2 - rho(x) W_xh rho(h) - rho(h) W_ho rho(o) - rho(x) W_xo
rho(o) - biases``; Euler steps of its gradient, rho' on the output too, tanh. Layers here run
hidden, output.
"""

from __future__ import annotations

import numpy as np

from ..kernels.reference.activations import rho, rho_prime, rho_second


class ToyNetwork:
    """Fully connected energy-based network with a skip connection; same interface as
    `LayeredModel`.

    Parameters
    ----------
    sizes : (int, int, int)
        Input, hidden, output; the paper's 5, 50, 10.
    dt : float
        Euler step.
    random_state : None, int or numpy.random.Generator
        Parameters are U(-1/sqrt(fan_in), 1/sqrt(fan_in)); the output has the biases of both its
        linear maps.
    """

    layers = ["hidden", "output"]
    synapses = ["W hidden-input", "W output-hidden", "W output-input"]
    depth = [1, 0]

    def __init__(
        self, sizes=(5, 50, 10), dt=0.08, random_state=None, *, dtype=np.float64, activation="tanh"
    ):
        rng = np.random.default_rng(random_state)
        n_in, n_hidden, n_out = sizes

        def uniform(fan_in, *shape):
            return rng.uniform(-1, 1, shape).astype(dtype) / dtype(np.sqrt(fan_in))

        dtype = np.dtype(dtype).type
        self.sizes, self.dt, self.dtype, self.activation = (
            tuple(sizes),
            dt,
            np.dtype(dtype),
            activation,
        )
        self.weights = [
            uniform(n_in, n_in, n_hidden),
            uniform(n_hidden, n_hidden, n_out),
            uniform(n_in, n_in, n_out),
        ]
        self.biases = [uniform(n_in, n_hidden), uniform(n_hidden, n_out) + uniform(n_in, n_out)]

    def copy(self):
        twin = object.__new__(ToyNetwork)
        twin.__dict__.update(self.__dict__)
        twin.weights, twin.biases = (
            [w.copy() for w in self.weights],
            [b.copy() for b in self.biases],
        )
        return twin

    def drive(self, x):
        shown = rho(self.activation, x)
        return (
            shown @ self.weights[0] + self.biases[0],
            shown @ self.weights[2] + self.biases[1],
            shown,
        )

    def zeros(self, n_samples):
        return [np.zeros((n_samples, n), self.dtype) for n in self.sizes[1:]]

    def _fields(self, drive, r):
        return [drive[0] + r[1] @ self.weights[1].T, drive[1] + r[0] @ self.weights[1]]

    def step(self, drive, states, y=None, beta=0.0):
        r = [rho(self.activation, s) for s in states]
        velocity = [
            rho_prime(self.activation, s, u) * f - s
            for s, u, f in zip(states, r, self._fields(drive, r))
        ]
        if beta != 0:
            velocity[1] = velocity[1] + self.dtype.type(beta) * (y - states[1])
        return [s + self.dtype.type(self.dt) * v for s, v in zip(states, velocity)]

    def relax(self, drive, states, n_steps, tol=-1.0, y=None, beta=0.0):
        """As `LayeredModel.relax`, but the batch stops together."""
        n = len(states[0])
        change = np.full(n, np.inf)
        steps = 0
        while steps < n_steps:
            new = self.step(drive, states, y, beta)
            change = (
                np.max([np.abs(a - b).max(axis=1) for a, b in zip(new, states)], axis=0) / self.dt
            )
            for s, value in zip(states, new):
                s[...] = value
            steps += 1
            if change.max() <= tol:
                break
        return np.full(n, steps), change

    def vjp(self, drive, states, bar, with_parameters=True):
        dt = self.dtype.type(self.dt)
        r = [rho(self.activation, s) for s in states]
        slope = [rho_prime(self.activation, s, u) for s, u in zip(states, r)]
        bend = [rho_second(self.activation, s, u) for s, u in zip(states, r)]
        bar_field = [dt * p * b for p, b in zip(slope, bar)]
        own = [(1 - dt) * b + dt * q * f * b for b, q, f in zip(bar, bend, self._fields(drive, r))]
        through = [bar_field[1] @ self.weights[1].T, bar_field[0] @ self.weights[1]]
        before = [o + p * t for o, p, t in zip(own, slope, through)]
        if not with_parameters:
            return before, None
        shown = drive[2]
        return before, [
            shown.T @ bar_field[0],
            r[0].T @ bar_field[1] + bar_field[0].T @ r[1],
            shown.T @ bar_field[1],
        ]

    def cost_gradient(self, s_out, y):
        return [
            np.zeros((len(y), self.sizes[1]), self.dtype),
            (s_out - y) / self.dtype.type(len(y)),
        ]

    def increment(self, drive, old, new, vector_field=False):
        if vector_field:
            raise ValueError(
                "rule: the toy network is symmetric; vector-field rules need backward weights"
            )
        a, b = [rho(self.activation, s) for s in old], [rho(self.activation, s) for s in new]
        shown = drive[2]
        change = [v - u for u, v in zip(a, b)]
        return (
            [shown.T @ change[0], b[0].T @ b[1] - a[0].T @ a[1], shown.T @ change[1]],
            [c.sum(axis=0) for c in change],
        )

    def learn(self, synapses, biases, rate):
        for p, d in zip(self.weights + self.biases, synapses + biases):
            p += self.dtype.type(rate) * d

    def energy(self, x, states):
        shown, r = rho(self.activation, x), [rho(self.activation, s) for s in states]
        energy = sum((s * s).sum(axis=1) / 2 for s in states)
        energy -= ((shown @ self.weights[0] + self.biases[0]) * r[0]).sum(axis=1)
        energy -= ((shown @ self.weights[2] + self.biases[1] + r[0] @ self.weights[1]) * r[1]).sum(
            axis=1
        )
        return energy
