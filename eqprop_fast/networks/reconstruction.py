"""A local auto-encoder term: a hidden layer reconstructs the one below it through W^T.

It trains the condition of 1606.01651 under which a pass upwards lands at the fixed point: what a
hidden layer gets from above is what it gets from below. Then twice what comes from above gives the
layer back, as twice what comes from below does:

    r_k = rho(2 s_{k+1} W_k' + b_k),   loss = 1/2 mean over samples of |s_k - r_k|^2

for layers k = 1..L-2, at the fixed points s, which count as given: the term of W_k knows the two
layers that W_k joins and nothing else.
"""

from __future__ import annotations

import numpy as np

from ..kernels.blas import one_blas_thread
from ..kernels.reference.activations import rho, rho_prime


def _pairs(spec, weights, biases, states):
    """k - 1, slope and error of each reconstructed layer; and what reconstructs it."""
    for k in range(1, spec.n_weights - 1):
        below, above = states[k - 1], states[k]
        field = 2 * (above @ weights[k].T) + biases[k - 1]
        shown = rho(spec.activation, field)
        yield k, rho_prime(spec.activation, field, shown), below - shown, above


def sample_shares(states, row_weight):
    """Share of each sample in the mean, (B, 1); zeros if none has a weight."""
    m, dtype = len(states[0]), states[0].dtype
    weight = np.ones(m, dtype) if row_weight is None else row_weight
    total = weight.sum(dtype=np.float64)
    return (weight / dtype.type(total if total > 0 else 1))[:, None]


def reconstruction_loss(spec, weights, biases, states, row_weight=None):
    """The loss of each reconstructed layer."""
    share = sample_shares(states, row_weight)
    return [
        0.5 * float((share * error**2).sum(dtype=np.float64))
        for _, _, error, _ in _pairs(spec, weights, biases, states)
    ]


def reconstruction_gradient(spec, weights, biases, states, row_weight=None):
    """{k: dloss/dW_k}, shaped as ``weights[k]``."""
    share = sample_shares(states, row_weight)
    with one_blas_thread():  # the same bits for any number of threads
        return {
            k: -2 * (share * error * slope).T @ above
            for k, slope, error, above in _pairs(spec, weights, biases, states)
        }


def reconstruction_step(spec, weights, biases, states, rate, row_weight=None):
    """A step of all reconstructing weights down their own losses, in place."""
    gradient = reconstruction_gradient(spec, weights, biases, states, row_weight)
    for k, g in gradient.items():
        weights[k] -= weights[k].dtype.type(rate) * g
