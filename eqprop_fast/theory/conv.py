"""The prototypical convolutional network of 1905.13633, for its gradient-match figures.

Layer n (docs/equations.md 10.4): ``s_n <- rho(pool(conv(s_n-1) + b) + conv^T(unpool(s_n+1)))``;
the top one is dense. Max pooling 2x2; the positions of the maxima of the current step serve its
unpooling and its correlations. Small and readable, not a training kernel.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ..kernels.reference.activations import rho, rho_prime


def conv(x, kernel):
    """Valid cross-correlation: (M, C, H, W), (O, C, k, k) -> (M, O, H-k+1, W-k+1)."""
    windows = sliding_window_view(x, kernel.shape[2:], axis=(2, 3))
    return np.moveaxis(np.tensordot(windows, kernel, ([1, 4, 5], [1, 2, 3])), 3, 1)


def conv_transpose(g, kernel):
    """Adjoint of `conv` in x."""
    k = kernel.shape[2] - 1
    padded = np.pad(g, ((0, 0), (0, 0), (k, k), (k, k)))
    return conv(padded, kernel[:, :, ::-1, ::-1].swapaxes(0, 1))


def kernel_gradient(x, g):
    """Adjoint of `conv` in the kernel, summed over the batch."""
    k = x.shape[2] - g.shape[2] + 1
    windows = sliding_window_view(x, (k, k), axis=(2, 3))
    return np.tensordot(g, windows, ([0, 2, 3], [0, 2, 3]))


def _blocks(z):
    """(M, O, 2h, 2w) -> (M, O, h, w, 4)."""
    m, o, h, w = z.shape
    return z.reshape(m, o, h // 2, 2, w // 2, 2).swapaxes(3, 4).reshape(m, o, h // 2, w // 2, 4)


def pool_positions(z):
    return _blocks(z).argmax(axis=4)[..., None]


def pool(z, positions):
    """The entry of each 2x2 block at `positions`."""
    return np.take_along_axis(_blocks(z), positions, axis=4)[..., 0]


def unpool(s, positions):
    """Adjoint of `pool`."""
    m, o, h, w = s.shape
    blocks = np.zeros((m, o, h, w, 4), s.dtype)
    np.put_along_axis(blocks, positions, s[..., None], axis=4)
    return blocks.reshape(m, o, h, w, 2, 2).swapaxes(3, 4).reshape(m, o, 2 * h, 2 * w)


class ConvNetwork:
    """Convolutional layers with 2x2 max pooling and a dense output; same interface as
    `LayeredModel`.

    Parameters
    ----------
    channels : tuple of int
        Of the image and of every convolutional layer; the paper's 1, 32, 64.
    n_outputs, image_size, kernel_size : int
    random_state : None, int or numpy.random.Generator
        Parameters are U(-1/sqrt(fan_in), 1/sqrt(fan_in)).
    activation : str

    Raises
    ------
    ValueError
        A layer's map has an odd size, or none is left.
    """

    dt = 1.0

    def __init__(
        self,
        channels=(1, 32, 64),
        n_outputs=10,
        random_state=None,
        *,
        image_size=28,
        kernel_size=5,
        activation="hard_sigmoid",
        dtype=np.float64,
    ):
        rng = np.random.default_rng(random_state)
        self.dtype, self.activation = np.dtype(dtype), activation
        self.shapes, size = [], image_size
        self.image_shape = (channels[0], image_size, image_size)
        self.weights, self.biases = [], []
        for c_in, c_out in zip(channels, channels[1:]):
            size = size - kernel_size + 1
            if size < 2 or size % 2:
                raise ValueError(
                    f"image_size={image_size}: a map of size {size} cannot be pooled by 2x2"
                )
            size //= 2
            self.shapes.append((c_out, size, size))
            self._add(rng, c_in * kernel_size**2, (c_out, c_in, kernel_size, kernel_size), c_out)
        flat = int(np.prod(self.shapes[-1]))
        self.shapes.append((n_outputs,))
        self._add(rng, flat, (flat, n_outputs), n_outputs)

    def _add(self, rng, fan_in, shape, n_bias):
        bound = 1 / np.sqrt(fan_in)
        self.weights.append(rng.uniform(-bound, bound, shape).astype(self.dtype))
        self.biases.append(rng.uniform(-bound, bound, n_bias).astype(self.dtype))

    @property
    def n_conv(self):
        return len(self.shapes) - 1

    @property
    def layers(self):
        return [f"conv {k}" for k in range(1, self.n_conv + 1)] + ["output"]

    @property
    def synapses(self):
        return [f"K{k}{k + 1}" for k in range(self.n_conv)] + ["W dense"]

    @property
    def depth(self):
        return list(range(self.n_conv, -1, -1))

    def copy(self):
        twin = object.__new__(ConvNetwork)
        twin.__dict__.update(self.__dict__)
        twin.weights, twin.biases = (
            [w.copy() for w in self.weights],
            [b.copy() for b in self.biases],
        )
        return twin

    def drive(self, x):
        """Pooled map of the clamped image, the positions of its maxima, and the image itself."""
        z = conv(x, self.weights[0]) + self.biases[0][:, None, None]
        positions = pool_positions(z)
        return pool(z, positions), positions, x

    def zeros(self, n_samples):
        return [np.zeros((n_samples, *shape), self.dtype) for shape in self.shapes]

    def _fields(self, drive, states):
        """Total input of every layer, and the pooling positions of the convolutional ones."""
        n, flat = self.n_conv, states[-2].reshape(len(states[-2]), -1)
        fields, positions = [drive[0]], [drive[1]]
        for k in range(1, n):
            z = conv(states[k - 1], self.weights[k]) + self.biases[k][:, None, None]
            positions.append(pool_positions(z))
            fields.append(pool(z, positions[k]))
        for k in range(n - 1):
            fields[k] = fields[k] + conv_transpose(
                unpool(states[k + 1], positions[k + 1]), self.weights[k + 1]
            )
        fields[n - 1] = fields[n - 1] + (states[n] @ self.weights[n].T).reshape(states[n - 1].shape)
        return [*fields, flat @ self.weights[n] + self.biases[n]], positions

    def step(self, drive, states, y=None, beta=0.0):
        fields, _ = self._fields(drive, states)
        new = [rho(self.activation, f) for f in fields]
        if beta != 0:
            new[-1] = new[-1] + self.dtype.type(beta) * (y - states[-1])
        return new

    def relax(self, drive, states, n_steps, tol=-1.0, y=None, beta=0.0):
        """As `LayeredModel.relax`, but the batch stops together."""
        m, steps = len(states[0]), 0
        change = np.full(m, np.inf)
        while steps < n_steps:
            new = self.step(drive, states, y, beta)
            change = np.max(
                [np.abs(a - b).reshape(m, -1).max(axis=1) for a, b in zip(new, states)], axis=0
            )
            for s, value in zip(states, new):
                s[...] = value
            steps += 1
            if change.max() <= tol:
                break
        return np.full(m, steps), change

    def vjp(self, drive, states, bar, with_parameters=True):
        n, m = self.n_conv, len(bar[-1])
        fields, positions = self._fields(drive, states)
        bar_field = [
            rho_prime(self.activation, f, rho(self.activation, f)) * b for f, b in zip(fields, bar)
        ]
        before = [np.zeros_like(s) for s in states]
        for k in range(1, n):
            spread = unpool(bar_field[k], positions[k])
            before[k - 1] += conv_transpose(spread, self.weights[k])
            before[k] += pool(conv(bar_field[k - 1], self.weights[k]), positions[k])
        before[n - 1] += (bar_field[n] @ self.weights[n].T).reshape(states[n - 1].shape)
        before[n] += bar_field[n - 1].reshape(m, -1) @ self.weights[n]
        if not with_parameters:
            return before, None
        gradient = [kernel_gradient(drive[2], unpool(bar_field[0], positions[0]))]
        for k in range(1, n):
            gradient.append(
                kernel_gradient(states[k - 1], unpool(bar_field[k], positions[k]))
                + kernel_gradient(bar_field[k - 1], unpool(states[k], positions[k]))
            )
        flat, bar_flat = states[n - 1].reshape(m, -1), bar_field[n - 1].reshape(m, -1)
        gradient.append(flat.T @ bar_field[n] + bar_flat.T @ states[n])
        return before, gradient

    def cost_gradient(self, s_out, y):
        zeros = self.zeros(len(y))[:-1]
        return [*zeros, (s_out - y) / self.dtype.type(len(y))]

    def _correlations(self, drive, states):
        n, m = self.n_conv, len(states[-1])
        _, positions = self._fields(drive, states)
        below = [drive[2], *states[: n - 1]]
        spread = [unpool(s, p) for s, p in zip(states[:n], positions)]
        weights = [kernel_gradient(b, u) for b, u in zip(below, spread)]
        weights.append(states[n - 1].reshape(m, -1).T @ states[n])
        return weights, [u.sum(axis=(0, 2, 3)) for u in spread] + [states[n].sum(axis=0)]

    def increment(self, drive, old, new, vector_field=False):
        if vector_field:
            raise ValueError("rule: the convolutional network is symmetric; no backward weights")
        pairs = zip(self._correlations(drive, new), self._correlations(drive, old))
        return tuple([a - b for a, b in zip(after, before)] for after, before in pairs)

    def learn(self, synapses, biases, rate):
        for p, d in zip(self.weights + self.biases, [*synapses, *biases]):
            p += self.dtype.type(rate) * d
