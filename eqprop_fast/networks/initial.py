"""Initial weights and biases (docs/equations.md 13)."""

from __future__ import annotations

from numbers import Real

import numpy as np
from sklearn.utils._param_validation import Interval

from ..docstrings import documented
from ..kernels.blas import one_blas_thread
from ..parts import Part


class WeightInit(Part):
    """Base of the initial weights; not for direct use (docs/equations.md 13).

    Parameters
    ----------
    gain : float or sequence of float
        One number, or one per matrix of weights from input to output; of a graph, per connection.
    """

    word = ""
    _parameter_constraints: dict = {
        "gain": [Interval(Real, 0, None, closed="neither"), "array-like"]
    }

    def __init__(self, gain=1.0):
        self.gain = gain

    def bounds(self, gain, n_in, n_out):
        """Largest weight and largest bias between two layers."""
        raise NotImplementedError

    def weights(self, gain, shape, n_in, n_out, rng, from_input):
        """Fresh weights of one connection.

        Parameters
        ----------
        gain : float
        shape : tuple of int
            Of the array; the way up of a unit has n_in weights, the way down n_out.
        n_in, n_out : int
        rng : numpy.random.Generator
        from_input : bool
            Whether what is below is clamped, and hears nothing of what is above.
        """
        bound = self.bounds(gain, n_in, n_out)[0]
        return rng.uniform(-bound, bound, shape)

    def biases(self, n, n_in, n_out, rng):
        """Fresh biases of a layer of n, of which one connection leads up to it."""
        bound = self.bounds(1.0, n_in, n_out)[1]
        return rng.uniform(-bound, bound, n)

    def draw(self, sizes, rng, dtype):
        """Fresh weights and biases of layers of these sizes, input first.

        Parameters
        ----------
        sizes : sequence of int
        rng : numpy.random.Generator
        dtype : numpy dtype

        Returns
        -------
        weights, biases : lists of ndarray
        """
        weights, biases = [], []
        gains = np.broadcast_to(np.asarray(self.gain, dtype=np.float64), len(sizes) - 1)
        for k, (n_in, n_out, gain) in enumerate(zip(sizes[:-1], sizes[1:], gains)):
            drawn = self.weights(gain, (n_in, n_out), n_in, n_out, rng, k == 0)
            weights.append(drawn.astype(dtype))
            biases.append(self.biases(n_out, n_in, n_out, rng).astype(dtype))
        return weights, biases


@documented
class GlorotUniform(WeightInit):
    """``U(+-gain sqrt(6 / (n_in + n_out)))``, biases zero (1602.05179)."""

    word = "glorot_uniform"

    def bounds(self, gain, n_in, n_out):
        return gain * np.sqrt(6.0 / (n_in + n_out)), 0.0


@documented
class FanInUniform(WeightInit):
    """``U(+-gain / sqrt(n_in))``, biases ``U(+-bias_gain / sqrt(n_in))``.

    PyTorch's linear layer: 1905.13633, 2005.04168, 2006.03824; biases of half that: 2312.15103.

    Parameters
    ----------
    bias_gain : float
    """

    word = "fan_in_uniform"
    _parameter_constraints: dict = {
        **WeightInit._parameter_constraints,
        "bias_gain": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(self, gain=1.0, bias_gain=1.0):
        super().__init__(gain)
        self.bias_gain = bias_gain

    def bounds(self, gain, n_in, n_out):
        return gain / np.sqrt(n_in), self.bias_gain / np.sqrt(n_in)


@documented
class Orthogonal(FanInUniform):
    """Singular values of ``gain / 2``: neighbours of a layer then move it by less than it moves
    them, and a chain of any depth has one equilibrium. Of a kernel: those of its matrix (n_out, n_in).

    Weights that the input feeds close no loop, and are those of `FanInUniform`, as are biases.
    Orthogonal weights: 1312.6120.
    """

    word = "orthogonal"

    def weights(self, gain, shape, n_in, n_out, rng, from_input):
        if from_input:
            return super().weights(gain, shape, n_in, n_out, rng, from_input)
        drawn = rng.standard_normal(shape).reshape(shape[0], -1)
        wide = drawn.shape[1] > drawn.shape[0]
        with one_blas_thread():  # the same weights for any number of threads
            q, r = np.linalg.qr(drawn.T if wide else drawn)
        q *= np.copysign(gain / 2, np.diag(r))
        return (q.T if wide else q).reshape(shape)


WEIGHT_INITS = {cls.word: cls for cls in (GlorotUniform, FanInUniform, Orthogonal)}
