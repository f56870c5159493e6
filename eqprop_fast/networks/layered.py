"""Fully connected layered network: a `LayeredSpec`, its parameters and the kernels that move them."""

from __future__ import annotations

from dataclasses import replace
from numbers import Real

import numpy as np
from sklearn.utils._param_validation import Interval

from ..docstrings import documented
from ..parts import Part
from .asymmetry import measured_angles
from .base import HopfieldNetwork
from .energy import layered_energy
from .recognition import RecognitionPass
from .reconstruction import reconstruction_step


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
        for n_in, n_out, gain in zip(sizes[:-1], sizes[1:], gains):
            bound, bias_bound = self.bounds(gain, n_in, n_out)
            weights.append(rng.uniform(-bound, bound, (n_in, n_out)).astype(dtype))
            biases.append(rng.uniform(-bias_bound, bias_bound, n_out).astype(dtype))
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


WEIGHT_INITS = {cls.word: cls for cls in (GlorotUniform, FanInUniform)}


class LayeredNetwork(HopfieldNetwork):
    """Layered network over one backend.

    Parameters
    ----------
    spec : LayeredSpec
    kernels : KernelSet
    weights, biases : lists of C-contiguous ndarray of one float dtype
        ``weights[k]`` (N[k], N[k+1]) and ``biases[k]`` (N[k+1],); trained in place.
    back : list of ndarray or None
        Independent feedback weights ``back[k]`` (N[k+1], N[k]); None means the transpose of
        ``weights[k]``.
    free_spec : LayeredSpec or None
        Dynamics of free phases outside training, which are the learning rule's own; None: `spec`.
    carry_over : bool
        In training a free phase starts where the nudged phase of the batch before ended:
        `particles` are then the states of one batch, zero at first and after a batch of another
        size (2402.11674's code).
    feedforward : bool
        Free phases, in training and outside, start after a pass upwards (1606.01651).
    recognition : RecognitionPass or None
        They start after this pass, which learns to predict where they end.
    reconstruction_rate : float
        Of the local auto-encoder term, after each batch (reconstruction.py).
    """

    _relax_kernel, _train_kernel = "layered_relax", "layered_train"

    def __init__(
        self,
        spec,
        kernels,
        weights,
        biases,
        back=None,
        free_spec=None,
        carry_over=False,
        feedforward=False,
        recognition=None,
        reconstruction_rate=0.0,
    ):
        self.reconstruction_rate = reconstruction_rate
        self.carry_over, self.feedforward, self.recognition = carry_over, feedforward, recognition
        self.spec, self.kernels = spec, kernels
        self.free_spec = spec if free_spec is None else free_spec
        self.weights, self.biases, self.back = weights, biases, back

    @property
    def parameters(self):
        return [*self.weights, *self.biases, *(self.back or [])]

    def feedback_angles(self):
        return None if self.back is None else measured_angles(self.weights, self.back)

    def under_hidden(self, k):
        return k < self.spec.n_weights - 1

    def _reconstruct(self, states, row_weight):
        rate = self.reconstruction_rate
        reconstruction_step(self.spec, self.weights, self.biases, states, rate, row_weight)

    def new_recognition(self, learning_rate):
        """A `RecognitionPass` that begins as `pass_upwards`."""
        weights = [
            w * w.dtype.type(2 if self.under_hidden(k) else 1)
            for k, w in enumerate(self.weights, start=1)
        ]
        biases = [b.copy() for b in self.biases]
        return RecognitionPass(self.spec, self.kernels, weights, biases, learning_rate)

    def _upward_spec(self, gain):
        return replace(self.spec, schedule="forward", dt=1.0, gain=gain)

    def one_row(self, n_steps, tol):
        """``(x) -> outputs, residual`` of one dense row, or None where the backend has none."""
        make = self.kernels.layered_one_row
        if make is None or self.back is not None or self.passes:
            return None
        return make(self.free_spec, self.weights, None, self.biases, n_steps, tol)

    def _energy(self, x, states):
        if self.back is not None:
            return np.nan
        return layered_energy(self.spec, self.weights, self.biases, x, states)
