"""The integer arithmetic of an exported network in Python, bit for bit, to be studied at speed.

With Numba a sample of a 784-128-10 network learns in about 0.2 ms; without it slowly.
"""

from __future__ import annotations

import numpy as np
from sklearn.utils.validation import check_array

from .csource import DTYPES, dtype_name, map_numbers
from .integers import LARGEST, integer_curve, quantize
from .model import as_model


def simulate(model, dtype="int16", learn=False, learning_rate=None, **integers):
    """The network as its integer export computes it.

    Parameters
    ----------
    model : fitted layered, convolutional or graph estimator, or NetModel
    dtype : {"int16", "int8"}
    learn : bool
    learning_rate : float, sequence of float (one per layer) or None
        See `as_model`.
    **integers
        ``X`` and ``weight_range`` of `eqprop_fast.export.integers.quantize`.

    Returns
    -------
    Simulation
    """
    dtype, learn = dtype_name(dtype, DTYPES[1:]), bool(learn)
    model = as_model(model, learning_rate).folded(learn)
    return Simulation(model, dtype, learn, **integers)


class Simulation:
    """State of one simulated device.

    Attributes
    ----------
    model : NetModel
    formats : IntegerModel
        As exported: `reset` brings its weights back.
    weights, biases : int32 ndarray
        All layers' in one array, as on the device (values of int8 or int16, and int32).
    rates : list of (mantissa, shift)
        May be assigned; one pair per layer.
    random : int
        State of the generator of the dither.
    """

    def __init__(self, model, dtype, learn, X=None, weight_range=None):
        from . import integer_kernels  # here, because it loads Numba

        self._kernels = integer_kernels
        self.model, self.dtype, self.learn_on = model, dtype, learn
        self.formats = quantize(model, dtype, learn, X, weight_range)
        n = len(model.weights)
        self.passes = {"synchronous": 1, "asynchronous": 2, "forward": n}[model.spec.schedule]
        self.moving = n - model.reads_out
        self._layers = self._layer_table()
        self.reset()

    def _layer_table(self):
        """Layers as the kernels take them; their rates are set by `learn`."""
        q, rows, w, u, b = self.formats, [], 0, 0, 0
        sizes = self.model.layer_sizes
        for k, (weights, name) in enumerate(zip(q.weights, self.model.activations)):
            bits = q.field_bits[k], q.state_bits[k]
            shifts = q.up[k], q.down[k], q.rate_bits[k]
            row = (sizes[k], sizes[k + 1], w, u, *bits, *shifts, *integer_curve(name, *bits), 0, 0)
            rows.append((*row, b, *map_numbers(self.model, k), q.cuts[k]))
            w, u, b = w + weights.size, u + sizes[k + 1], b + q.biases[k].size
        return np.array(rows, self._kernels.LAYER).view(np.recarray)

    def reset(self):
        """Exported weights and rates."""
        q = self.formats
        self.weights = np.concatenate([w.ravel() for w in q.weights]).astype(np.int32)
        self.biases = np.concatenate(q.biases).astype(np.int32)
        self.rates, self.random = list(q.rates), 0x2545F491
        return self

    def inputs(self, X):
        """`X` as int16 with the bits of the device's input; int16 is taken as it is."""
        X = np.asarray(X)
        if X.dtype != np.int16:
            X = check_array(X, dtype=np.float64)
            X = np.clip(np.rint(X * 2.0**self.formats.input_bits), -LARGEST - 1, LARGEST)
        if X.ndim != 2 or X.shape[1] != self.model.spec.sizes[0]:
            raise ValueError(
                f"X must have the shape (n, {self.model.spec.sizes[0]}), got {X.shape}"
            )
        return np.ascontiguousarray(X, np.int16)

    def _shown(self, X):
        """What the input units take of X."""
        x, centres = self.inputs(X).astype(np.int32), self.formats.centres
        return np.clip(x - centres, -LARGEST, LARGEST) if centres.size else x

    def _forward(self):
        """Weights of int8 as they act: the rounded upper bytes of those that learn."""
        return np.minimum((self.weights + 128) >> 8, 127).astype(np.int32)

    def _net(self):
        """The kernels' record, and the generator's state in it."""
        narrow = self.learn_on and self.dtype == "int8"
        arrays = self.weights, self._forward() if narrow else self.weights, self.biases
        random = np.array([self.random], np.uint64)
        return self._kernels.Net(self._layers, *arrays, random, self.passes, self.moving, narrow)

    def relax(self, X):
        """Free phase of each row: states (n, units), output fields, steps, residuals."""
        x, n_outputs = self._shown(X), self.model.n_outputs
        states = np.zeros((len(x), self.model.n_units), np.int32)
        scores = np.zeros((len(x), n_outputs), np.int32)
        steps, residual = np.zeros(len(x), np.int32), np.zeros(len(x), np.int32)
        q, net, kernels = self.formats, self._net(), self._kernels
        phase = kernels.Phase(q.steps[0], self.model.n_free_steps, q.tolerances[0], 0, False)
        work = kernels.work(net, n_outputs)
        kernels.relax_rows(x, net, phase, work, states, scores, steps, residual)
        return states, scores, steps, residual

    def labels(self, X):
        """What `name_predict` gives: label numbers, label sets, or a regressor's states."""
        states, scores, _, _ = self.relax(X)
        out = states[:, -scores.shape[1] :]
        half = 1 << (self.formats.state_bits[-1] - 1)
        if self.model.kind == "regressor":
            return out
        if self.model.kind == "multilabel":
            return (out > half).astype(int)
        if len(self.model.classes) == 1:
            return np.zeros(len(out), int)
        return (out[:, 0] > half).astype(int) if out.shape[1] == 1 else scores.argmax(axis=1)

    def predict(self, X):
        """Classes, label sets, or values in the units of the training targets."""
        found = self.labels(X)
        if self.model.kind == "exclusive":
            return np.asarray(self.model.classes)[found]
        if self.model.kind == "multilabel":
            return found
        values = found / 2.0 ** self.formats.state_bits[-1] * self.model.scale + self.model.mean
        return values[:, 0] if values.shape[1] == 1 else values

    def score(self, X, y):
        """Accuracy (R^2 of a regressor)."""
        from sklearn.metrics import accuracy_score, r2_score

        return (r2_score if self.model.kind == "regressor" else accuracy_score)(y, self.predict(X))

    def predict_proba(self, X):
        """Probabilities as the device gives them: integers, 32768 being 1."""
        states, scores, _, _ = self.relax(X)
        out = states[:, -scores.shape[1] :].astype(np.int64)
        bits, how = self.formats.state_bits[-1], self.model.proba
        if how == "one":
            return np.full((len(out), 1), 32768)
        if how in ("binary", "clip"):
            p = (np.clip(out, 0, 1 << bits) << 14) // (1 << (bits - 1))
            return np.hstack([32768 - p, p]) if how == "binary" else p
        if how == "share":
            out = np.maximum(out, 0)
            total = out.sum(axis=1, keepdims=True)
            return np.where(total == 0, 32768 // out.shape[1], (out << 15) // np.maximum(total, 1))
        e = _exponential(out.max(axis=1, keepdims=True) - out, bits)
        return (e << 15) // e.sum(axis=1, keepdims=True)

    def targets(self, y):
        """Output targets as int16: of label numbers, label sets or a regressor's values."""
        one, n = 1 << self.formats.state_bits[-1], self.model.spec.sizes[-1]
        y = np.asarray(y)
        if self.model.kind == "regressor":
            values = (y.reshape(len(y), -1) - self.model.mean) / self.model.scale * one
            return np.clip(np.rint(values), -LARGEST, LARGEST).astype(np.int16)
        if self.model.kind == "multilabel":
            return np.clip(y * one, 0, LARGEST).astype(np.int16)
        if y.min(initial=0) < 0 or y.max(initial=0) >= len(self.model.classes):
            raise ValueError("labels are numbers of classes, from 0")
        if n == 1:
            return (y[:, None] * one).astype(np.int16)
        return np.clip(np.eye(n, dtype=int)[y] * one, 0, LARGEST).astype(np.int16)

    def learn(self, X, y):
        """One streamed sample after another; `y` as `targets` takes it (numbers of classes)."""
        if not self.learn_on:
            raise ValueError("learn: simulate(..., learn=True)")
        plan, q, x = self.model.learn, self.formats, self._shown(X)
        target = self.targets(y)
        if len(target) != len(x):
            raise ValueError(f"y has {len(target)} rows, X {len(x)}")
        kernels, net = self._kernels, self._net()
        self._layers.mantissa, self._layers.shift = np.transpose(self.rates)
        free = kernels.Phase(q.steps[0], self.model.n_free_steps, q.tolerances[0], 0, False)
        inside = bool(self.model.spec.nudge_inside)
        nudged = kernels.Phase(q.steps[1], plan.n_steps, q.tolerances[1], q.force, inside)
        signs = plan.nudging == "centered", plan.nudging == "random_sign"
        contrast = kernels.Contrast(*signs, 1 if plan.beta > 0 else -1)
        work = kernels.work(net, self.model.n_outputs)
        kernels.learn_rows(x, target, net, free, nudged, contrast, work)
        self.random = int(net.random[0])
        return self


def _exponential(below, bits):
    """2^15 exp(-below)."""
    if bits > 12:
        t = (below >> (bits - 12)) + ((below >> (bits - 13)) & 1)
    else:
        t = below << (12 - bits)
    e = np.clip(t, 0, 1 << 17) * 5909 >> 12
    f, n = e & 4095, e >> 12
    p = ((-656 * f) >> 12) + 3797
    p = ((p * f) >> 12) - 11334
    p = ((p * f) >> 12) + 16384
    return np.where(n > 15, 0, (2 * p) >> np.minimum(n, 15))
