"""How a generative estimator learns: epochs, batches, pre-training."""

from __future__ import annotations

import time
import warnings

import numpy as np
from scipy.sparse import issparse
from scipy.special import expit
from sklearn.base import _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state

from .._backends import effective_n_threads
from ..kernels import Boltzmann, BoltzmannPlan, get_backend

CALL_SECONDS = 0.3  # a kernel call lasts about as long: short enough for Ctrl-C
MOST_SEED = 2**31 - 1
FIRST_WEIGHTS = 0.01  # their deviation, as in BernoulliRBM
OFFSET_RATE = 0.01  # how fast offsets follow the states (Melchior et al. 2016)
SILENT = 1e-2  # a layer whose means all deviate by less over the rows carries nothing


class FittingMixin:
    """For `GenerativeEstimator`."""

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Learn from X and, with labels, from y.

        Parameters
        ----------
        X : {array-like, CSR matrix} of shape (n_samples, n_features)
            In [0, 1]: binary, or probabilities.
        y : array-like of shape (n_samples,), optional
            Classes, see `use_labels`.

        Returns
        -------
        self
        """
        X, labels, rng = self._begin(X, y, None, True)
        if self.pretrain and self._deep:
            self._pretrain(X, rng)
        schedule = self._auto("schedule")
        for epoch in range(self.n_iter):
            begin = time.perf_counter()
            rate = self.learning_rate
            if schedule == "linear":
                rate *= 1 - epoch / self.n_iter
            self._epoch(self._state, X, labels, rng, rate)
            self.n_iter_ += 1
            if self.verbose:
                seconds = time.perf_counter() - begin
                score = self.score_samples(X[:1000]).mean()
                print(
                    f"[{type(self).__name__}] Iteration {epoch + 1}, pseudo-likelihood = "
                    f"{score:.2f}, time = {seconds:.2f}s"
                )
        if self.n_iter and self._deep:
            self._say_if_silent(X[:1000])
        return self

    def _say_if_silent(self, x):
        """Warn of hidden layers that answer all rows alike, though the rows differ."""
        x = self._dense(x)
        means = self._machine().mean_field(x, **self._inference())[0]
        silent = [
            k
            for k, layer in enumerate(self._hidden(means), start=1)
            if layer.std(axis=0).max() < SILENT
        ]
        if silent and x.std(axis=0).max() > SILENT:
            warnings.warn(
                f"hidden layers {silent} answer all rows alike, and so carry nothing: let "
                "pretrain > 0, or a smaller learning_rate or a larger n_steps keep them from it",
                ConvergenceWarning,
                stacklevel=2,
            )

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None, classes=None):
        """One epoch over X, in its order.

        Parameters
        ----------
        X, y
            As in `fit`.
        classes : array-like of shape (n_classes,), optional
            All classes, in the first call; else those of its y.

        Returns
        -------
        self
        """
        X, labels, rng = self._begin(X, y, classes, not hasattr(self, "weights_"))
        self._epoch(self._state, X, labels, None, self.learning_rate)
        self.n_iter_ += 1
        return self

    def _begin(self, X, y, classes, first):
        sizes = self._sizes()
        X = self._checked(X, reset=first)
        labels = self._labels(y, classes, X.shape[0], first)
        if self.input_scaling == "minmax":
            if first:
                self._find_scale(X)
                X = self._scaled(X)
        if not first:
            return X, labels, None
        rng = check_random_state(self.random_state)
        top = [len(self.classes_)] if labels is not None else []
        self._initialise(X, (X.shape[1], *sizes, *top), rng)
        return X, labels, rng

    def _initialise(self, X, sizes, rng):
        dtype = X.dtype
        self.weights_ = [
            np.ascontiguousarray(rng.normal(0, FIRST_WEIGHTS, (b, a)).T.astype(dtype))
            for a, b in zip(sizes, sizes[1:])
        ]
        self.biases_ = [np.zeros(n, dtype) for n in sizes]
        self.visible_mean_ = np.asarray(X.mean(axis=0), dtype).ravel()
        self.n_iter_ = 0
        self._state = self._new_state(self.weights_, self.biases_, self.visible_mean_, rng)
        if self._draw:
            self.particles_ = self._state["particles"]

    def _new_state(self, weights, biases, mean, rng):
        """What learning keeps beside the parameters."""
        dtype, n = biases[0].dtype, self._auto("n_chains") if self._draw else 1
        state = {
            "parameters": (weights, biases),
            "particles": [np.zeros((n, len(b)), dtype) for b in biases],
            "seed": int(rng.randint(MOST_SEED)),
            "n_sweeps": 0,
            "offsets": None,
            "velocity": None,
        }
        if self._auto("centering"):
            state["offsets"] = [mean.copy(), *(np.full(len(b), 0.5, dtype) for b in biases[1:])]
            if hasattr(self, "classes_") and len(biases[-1]) == len(self.classes_):
                state["offsets"][-1][:] = 1 / len(self.classes_)
        if self.momentum:
            state["velocity"] = [np.zeros_like(a) for a in (*weights, *biases)]
        return state

    def _epoch(self, state, X, labels, rng, rate):
        """Mini-batches over all rows, some for each kernel call."""
        kernels = get_backend(self.backend)
        n_threads = effective_n_threads(self.n_threads)
        weights, biases = state["parameters"]
        machine = Boltzmann(weights, biases, labels is not None)
        n_steps = self._auto("n_steps")
        n, n_hidden = X.shape[0], len(weights) - (labels is not None)
        order = rng.permutation(n) if rng is not None and self.shuffle else np.arange(n)
        start, batches = 0, 4
        while start < n:
            rows = order[start : start + batches * self.batch_size]
            begin = time.perf_counter()
            x = X[rows]
            x = np.ascontiguousarray(x.toarray() if issparse(x) else x, weights[0].dtype)
            y = None if labels is None else self._one_hot(labels[rows], x.dtype)
            plan = BoltzmannPlan(
                self.batch_size,
                0 if n_hidden == 1 else self.n_mean_field,  # the pass upwards is exact then
                n_steps,
                float(rate),
                tol=float(self.tol),
                draw=self._draw,
                momentum=float(self.momentum),
                weight_decay=float(self.weight_decay),
                offset_rate=OFFSET_RATE,
                seed=state["seed"],
                first_sweep=state["n_sweeps"],
            )
            done, _ = kernels.boltzmann_train(
                machine,
                x,
                y,
                np.arange(len(rows)),
                plan,
                state["particles"],
                state["offsets"],
                state["velocity"],
                n_threads=n_threads,
            )
            state["n_sweeps"] += done * n_steps
            start += len(rows)
            if time.perf_counter() - begin < CALL_SECONDS / 2:
                batches *= 2

    def _pretrain(self, X, rng):
        """Each pair of layers as a machine of its own, on what the layers below make of X.

        What a layer gets from one side is doubled where, in the whole machine, it gets as much from
        the other: the layer on that side stands there twice, with one set of weights.
        """
        last = len(self._sizes()) - 1
        x = X
        for k in range(last + 1):
            below, above = 1 + (k == 0), 1 + (k == last)  # copies of the two layers
            w, low, high = self.weights_[k], self.biases_[k], self.biases_[k + 1]
            weights = [np.ascontiguousarray(np.tile(w, (below, above)))]
            biases = [np.tile(low, below), np.tile(high, above)]
            x = x.toarray() if issparse(x) else np.asarray(x)
            doubled = np.tile(x, (1, below))
            state = self._new_state(weights, biases, doubled.mean(axis=0), rng)
            for _ in range(self.pretrain):
                self._epoch(state, doubled, None, rng, self.learning_rate)
                for a, axis, copies in (
                    (weights[0], 0, below),
                    (weights[0], 1, above),
                    (biases[0], 0, below),
                    (biases[1], 0, above),
                ):
                    _tie(a, axis, copies)
            w[...] = weights[0][: len(w), : w.shape[1]]
            if 0 < k < last:
                w /= 2  # both sides were doubled: learnt as twice the weights
            low[...], high[...] = biases[0][: len(low)], biases[1][: len(high)]
            gain = 2 if k < last else 1
            x = expit(gain * (x @ w) + high).astype(w.dtype)


def _tie(a, axis, copies):
    """The copies of an array along an axis become their mean."""
    if copies > 1:
        parts = np.split(a, copies, axis=axis)
        mean = sum(parts) / copies
        for part in parts:
            part[...] = mean
