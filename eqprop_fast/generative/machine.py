"""A chain of layers of binary units over a backend's kernels: its energy, what it infers, its samples.

Letters as in docs/equations.md 14.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import entr, expit, logsumexp, softmax

from ..kernels import Boltzmann, Sweeps

STARTS = ("feedforward", "zero")


@dataclass
class Machine:
    """Parameters, and the backend that computes with them.

    Attributes
    ----------
    parameters : Boltzmann
    kernels : KernelSet
    n_threads : int
    """

    parameters: Boltzmann
    kernels: object
    n_threads: int = 1

    @property
    def weights(self):
        return self.parameters.weights

    @property
    def biases(self):
        return self.parameters.biases

    @property
    def labelled(self):
        return self.parameters.categorical_top

    @property
    def dtype(self):
        return self.biases[0].dtype

    @property
    def n_hidden(self):
        """Hidden layers; labels are not one."""
        return len(self.weights) - self.labelled

    def is_categorical(self, k):
        """Whether one unit of layer k is on at a time: that of the labels."""
        return self.labelled and k == len(self.weights)

    def sweep(self, states, sweeps, clamped, **extra):
        """`boltzmann_sweep` of the backend, states in place."""
        return self.kernels.boltzmann_sweep(
            self.parameters, states, sweeps, clamped, n_threads=self.n_threads, **extra
        )

    # --- inference ---

    def mean_field(self, x, y=None, *, n_sweeps, tol, start="feedforward"):
        """Means of all layers, data clamped and, if given, labels.

        Parameters
        ----------
        x : (M, n_visible)
        y : (M, n_classes), optional
        n_sweeps : int
        tol : float
        start : {"feedforward", "zero"}
            A pass upwards that counts inputs twice where a layer above answers (1606.01651), or no
            unit on.

        Returns
        -------
        means : list of (M, N[k])
        steps : (M,)
        """
        means = [np.zeros((len(x), len(b)), self.dtype) for b in self.biases]
        means[0][...] = x
        clamped = [True, *[False] * (len(means) - 1)]
        if y is not None:
            means[-1][...] = y
            clamped[-1] = True
        sweeps = Sweeps(n_sweeps, draw=False, upward=start == "feedforward", tol=tol)
        steps, _ = self.sweep(means, sweeps, clamped)
        return means, steps

    def inputs(self, states, k):
        """What layer k gets from below, and from above; None where there is no layer."""
        below = states[k - 1] @ self.weights[k - 1] if k > 0 else None
        above = states[k + 1] @ self.weights[k].T if k < len(self.weights) else None
        return below, above

    def means_of(self, states, k):
        """Probabilities of layer k given its neighbours."""
        field = sum(a for a in self.inputs(states, k) if a is not None) + self.biases[k]
        return softmax(field, axis=1) if self.is_categorical(k) else expit(field)

    # --- energies ---

    def energy(self, states):
        """-sum_k b_k . s_k - sum_k s_k W_k s_{k+1}, for each row."""
        e = -sum(s @ b for s, b in zip(states, self.biases))
        for low, w, high in zip(states, self.weights, states[1:]):
            e = e - np.einsum("mi,mi->m", low @ w, high)
        return e

    def bound(self, means):
        """Lower bound of log sum_h exp(-E(x, h)) from a mean-field posterior: -<E> + entropy."""
        entropy = 0
        for k, q in enumerate(means[1:], 1):
            each = entr(q)
            if not self.is_categorical(k):
                each = each + entr(1 - q)
            entropy = entropy + each.sum(axis=1)
        return entropy - self.energy(means)

    @property
    def exact(self):
        """Whether hidden units can be summed over: one layer of them, labels above or not."""
        return self.n_hidden == 1

    def log_joint(self, x):
        """log p*(x, y) of an exact machine with labels, (M, n_classes)."""
        field = x @ self.weights[0] + self.biases[1]
        joint = [np.logaddexp(0, field + u).sum(axis=1) for u in self.weights[1].T]
        return np.stack(joint, axis=1) + self.biases[2] + (x @ self.biases[0])[:, None]

    def log_evidence(self, x, y=None, **inference):
        """log p*(x), or log p*(x, y): exact with one hidden layer, else the bound.

        p* is the probability without its normalisation Z.
        """
        if not self.exact:
            return self.bound(self.mean_field(x, y, **inference)[0])
        if not self.labelled:
            field = x @ self.weights[0] + self.biases[1]
            return x @ self.biases[0] + np.logaddexp(0, field).sum(axis=1)
        joint = self.log_joint(x)
        return logsumexp(joint, axis=1) if y is None else (joint * y).sum(axis=1)

    def log_posterior(self, x, **inference):
        """log p(y | x): exact, or from the bounds of all classes."""
        if self.exact:
            joint = self.log_joint(x)
        else:
            one = np.eye(len(self.biases[-1]), dtype=self.dtype)
            each = [np.broadcast_to(row, (len(x), len(row))) for row in one]
            joint = np.stack([self.log_evidence(x, y, **inference) for y in each], axis=1)
        return joint - logsumexp(joint, axis=1, keepdims=True)

    def pseudo_log_likelihood(self, x):
        """sum_i log p(x_i | the others), exact for one hidden layer without labels.

        To flip a unit changes the fields of all hidden units by its weights w: log(1 + e^(f + w)) -
        log(1 + e^f) = log(1 + p (e^w - 1)) with p their probabilities.
        """
        p = expit(x @ self.weights[0] + self.biases[1])
        total = np.empty(len(x))
        for m, (row, q) in enumerate(zip(x, p)):
            turn = 1 - 2 * row  # to the other value; of a probability, to its complement
            with np.errstate(over="ignore"):
                gain = np.log1p(q * np.expm1(turn[:, None] * self.weights[0])).sum(axis=1)
            gain += turn * self.biases[0]
            total[m] = -np.logaddexp(0, gain).sum()
        return total
