"""Fully connected layered network: a `LayeredSpec`, its parameters and the kernels that move them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .asymmetry import measured_angles
from .base import HopfieldNetwork
from .energy import layered_energy
from .recognition import RecognitionPass
from .reconstruction import reconstruction_step


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

    def recognition_of(self, weights, biases, learning_rate):
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
