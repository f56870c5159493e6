"""A pass upwards through weights of its own, which learn to land where free phases end.

Initialised equilibrium propagation (O'Connor, Gavves, Welling, ICLR 2019; docs/equations.md 3): a
feedforward network beside the one that relaxes. Each of its layers compares what it predicted with
where its own layer came to rest, and moves along the product of that and of what lies below it:
nothing is propagated back, and nothing of it enters the learning rule.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.linalg.blas import get_blas_funcs
from scipy.sparse import issparse

from ..kernels.blas import one_blas_thread
from ..kernels.reference.activations import rho
from .reconstruction import sample_shares


class LearnedPass:
    """Base of `RecognitionPass` and `GraphRecognitionPass`.

    A subclass has `states(x, n_threads)`, `batch_states(x)` and
    `_learn(x, predicted, settled, share)`.
    """

    def __init__(self, weights, biases, learning_rate):
        self.weights, self.biases, self.learning_rate = weights, biases, learning_rate

    @property
    def parameters(self):
        return [*self.weights, *self.biases]

    def learn(self, x, predicted, settled, row_weight=None):
        """One step of the normalised delta rule, each layer by itself (docs/equations.md 3).

        Parameters
        ----------
        x : ndarray or, of a chain, CSR, (B, N[0])
        predicted, settled : lists of ndarray (B, N[k])
            p_k of `batch_states`, before the weights moved, and s_k where the free phase has ended.
        row_weight : ndarray (B,) or None
        """
        share = sample_shares(settled, row_weight)
        if share.any():
            with one_blas_thread():  # the same bits for any number of threads
                self._learn(x, predicted, settled, share)


class RecognitionPass(LearnedPass):
    """Weights and biases of a pass upwards through a chain, trained in place.

    Parameters
    ----------
    spec : LayeredSpec
        Of the network that it predicts; undamped discrete map.
    kernels : KernelSet
    weights, biases : lists of C-contiguous ndarray
        Of the shapes of the network's own.
    learning_rate : float
        Share of its error that a layer makes up for in a batch whose samples are all alike; stable
        below 2.
    """

    def __init__(self, spec, kernels, weights, biases, learning_rate=1.0):
        self.spec = replace(spec, schedule="forward", dt=1.0)  # from zero a sweep is the pass
        self.kernels = kernels
        super().__init__(weights, biases, learning_rate)

    def states(self, x, n_threads=1):
        """Predicted states of all layers, each row independent of the others."""
        dtype = self.weights[0].dtype
        states = [np.zeros((x.shape[0], n), dtype) for n in self.spec.sizes[1:]]
        self.kernels.layered_relax(
            self.spec, self.weights, None, self.biases, x, states, n_threads=n_threads
        )
        return states

    def batch_states(self, x):
        """The same for a batch that is learnt from: by BLAS, whose rounding depends on the batch."""
        x = self._shown(x)
        states = []
        with one_blas_thread():
            for k, (v, c) in enumerate(zip(self.weights, self.biases), start=1):
                x = rho(self.spec.activation_of(k), np.asarray(x @ v) + c)
                states.append(x)
        return states

    def _shown(self, x):
        """What the input shows."""
        if self.spec.input_activation == "identity":
            return x
        return rho(self.spec.input_activation, x.toarray() if issparse(x) else x)

    def _learn(self, x, predicted, settled, share):
        """See `learn`.

        With e = s_k - p_k, m the batch's mean of p_{k-1} and q that of ``|p_{k-1} - m|^2``:
        ``dV = rate / (B (1 + q)) sum_batch (p_{k-1} - m)' e``, and ``c += rate / 2 mean(e) - m dV``,
        by which the bias answers to what is the same in all samples, and the weights to what is
        not: inputs that are seldom 0 would else hide it.
        """
        x = self._shown(x)
        for below, p, s, v, c in zip(
            [x, *predicted], predicted, settled, self.weights, self.biases
        ):
            below = below.toarray() if issparse(below) else below
            middle = (share * below).sum(axis=0)
            below = below - middle
            error, q = share * (s - p), float((share * np.square(below)).sum())
            rate = self.learning_rate / (1 + q)
            _add_product(v, rate, below, error)
            bent = (below @ middle) @ error  # m dV, but for the rate
            half = v.dtype.type(self.learning_rate / 2)
            c += half * error.sum(axis=0) - v.dtype.type(rate) * bent


def _add_product(v, rate, below, error):
    """v += rate below' error, in place."""
    gemm = get_blas_funcs("gemm", dtype=v.dtype)
    found = gemm(rate, error.T, below.T, 1.0, v.T, trans_b=1, overwrite_c=1)
    if not np.shares_memory(found, v):  # BLAS wanted another layout
        v[...] = found.T
