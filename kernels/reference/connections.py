"""What a connection of a graph computes; the NumPy twin.

For given places of the maxima (`where`, pooling.py) a connection is linear: `lift` takes what lies
below to what lies above, `drop` is its adjoint, `correlation` the adjoint of `lift` in the weights.
States are rows of units, (M, N). Weights of the way back are used as those of the way up are:
`as_forward`.
"""

from typing import NamedTuple

import numpy as np

from . import pooling
from .conv import conv, conv_transpose, kernel_gradient


class Dense(NamedTuple):
    """All units below to all units above."""

    def find(self, below, weight, product=np.matmul):
        return None

    def lift(self, v, weight, where=None, product=np.matmul):
        return product(v, weight)

    def up(self, below, weight, product=np.matmul):
        return self.lift(below, weight, None, product), None

    def drop(self, v, weight, where=None, product=np.matmul):
        return product(v, weight.T)

    def correlation(self, low, high, where=None):
        return low.T @ high

    def back_correlation(self, low, high, where=None):
        return high.T @ low

    def as_forward(self, back):
        return back.T


class Convolution(NamedTuple):
    """A convolution, pooled."""

    below: tuple  # (C, H, W)
    above: tuple  # (O, H', W'), after pooling
    kernel: int
    stride: int
    padding: int
    pool: str
    window: int

    def _map(self, v, weight, product):
        maps = v.reshape(len(v), *self.below)
        return conv(maps, weight, self.stride, self.padding, product)

    def _pooled(self, z, where):
        return pooling.pool(self.pool, z, self.window, where).reshape(len(z), -1)

    def _spread(self, v, where):
        return pooling.unpool(self.pool, v.reshape(len(v), *self.above), self.window, where)

    def find(self, below, weight, product=np.matmul):
        if self.pool != "max":
            return None
        return pooling.find(self.pool, self._map(below, weight, product), self.window)

    def lift(self, v, weight, where=None, product=np.matmul):
        return self._pooled(self._map(v, weight, product), where)

    def up(self, below, weight, product=np.matmul):
        z = self._map(below, weight, product)
        where = pooling.find(self.pool, z, self.window)
        return self._pooled(z, where), where

    def drop(self, v, weight, where=None, product=np.matmul):
        maps = conv_transpose(
            self._spread(v, where), weight, self.below[1:], self.stride, self.padding, product
        )
        return maps.reshape(len(v), -1)

    def correlation(self, low, high, where=None):
        maps = low.reshape(len(low), *self.below)
        return kernel_gradient(
            maps, self._spread(high, where), self.kernel, self.stride, self.padding
        )

    back_correlation = correlation

    def as_forward(self, back):
        return back


def connection(layers, link):
    """The `Dense` or `Convolution` of a `ConnectionSpec`."""
    if not link.kernel:
        return Dense()
    shapes = layers[link.below].shape, layers[link.above].shape
    return Convolution(*shapes, link.kernel, link.stride, link.padding, link.pool, link.window)


def bias_map(bias, shape):
    """A bias, one a unit or one a channel, as it meets a row of units."""
    return bias if len(shape) == 1 else np.repeat(bias, shape[1] * shape[2])


def bias_sum(values, shape):
    """Adjoint of `bias_map`, summed over the samples."""
    if len(shape) == 1:
        return values.sum(axis=0)
    return values.reshape(len(values), shape[0], -1).sum(axis=(0, 2))
