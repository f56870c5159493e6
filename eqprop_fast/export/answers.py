"""What a `NetModel` answers, over the library's kernels: NumPy and SciPy suffice, without
scikit-learn.
"""

from __future__ import annotations

import numpy as np

from ..auto import scaled
from ..kernels import Crossbar, get_backend
from ..kernels.reference.crossbar import predictions

TILE = 256  # rows whose states are in memory at a time


def outputs(model, X, backend="auto"):
    """Outputs of the free phase: states, or volt; float32, shape (n, outputs)."""
    x = _inputs(model, X)
    out = np.empty((len(x), model.n_outputs), np.float32)
    kind = _crossbar if model.is_resistive else _graph if model.is_graph else _layered
    relax = kind(model, get_backend(backend))
    for start in range(0, len(x), TILE):
        rows = np.ascontiguousarray(x[start : start + TILE])
        states = [np.zeros((len(rows), n), np.float32) for n in model.layer_sizes[1:]]
        relax(rows, states)
        pairs = model.is_resistive and model.spec.pairs
        out[start : start + TILE] = predictions(states[-1], pairs)
    return out


def predict(model, X, backend="auto"):
    """Classes, label sets, or values in the units of the training targets."""
    out = outputs(model, X, backend)
    if model.kind == "regressor":
        values = out.astype(np.float64) * model.scale + model.mean
        return values[:, 0] if values.shape[1] == 1 else values
    if model.kind == "multilabel":
        return (out > 0.5).astype(int)
    if len(model.classes) == 1:
        labels = np.zeros(len(out), int)
    else:
        labels = (out[:, 0] > 0.5).astype(int) if out.shape[1] == 1 else out.argmax(axis=1)
    return np.asarray(model.classes)[labels]


def predict_proba(model, X, backend="auto"):
    """Probabilities as the estimator's `predict_proba` gives them; float64, (n, classes)."""
    from scipy.special import expit, softmax

    if model.kind == "regressor":
        raise ValueError("predict_proba: a regressor has no classes")
    out, how = outputs(model, X, backend).astype(np.float64), model.proba
    if how == "one":
        return np.ones((len(out), 1))
    if how == "softmax":
        return softmax(out * model.sharpness, axis=1)
    if how == "share":
        p = np.maximum(out, 0) + np.finfo(np.float32).tiny  # an all-zero row becomes uniform
        return p / p.sum(axis=1, keepdims=True)
    logistic = how in ("logistic", "binary_logistic")
    p = expit((out - 0.5) * model.sharpness) if logistic else np.clip(out, 0, 1)
    return np.hstack([1 - p, p]) if how.startswith("binary") else p


def _inputs(model, X):
    """`X` as the input units take it, float32."""
    x, n = np.asarray(X), model.layer_sizes[0]
    if x.ndim != 2 or x.shape[1] != n or x.dtype.kind not in "biuf":
        raise ValueError(f"X: a dense array of numbers of shape (n, {n}) is needed")
    if model.is_scaled:
        x = scaled(x.astype(np.float64), model.input_center, model.input_scale, model.source_limit)
    with np.errstate(over="ignore"):
        x = x.astype(np.float32)
    if not np.isfinite(x).all():
        raise ValueError("X: NaN, infinite, or beyond float32")
    return x


def _layered(model, kernels):
    def relax(x, states):
        steps = {"n_steps": model.n_free_steps, "tol": model.tol_free}
        args = model.spec, model.weights, None, model.biases, x, states
        kernels.layered_relax(*args, **steps)

    return relax


def _graph(model, kernels):
    def relax(x, states):
        args = model.spec, model.weights, None, model.biases, x, states
        kernels.graph_relax(*args, n_steps=model.n_free_steps, tol=model.tol_free)

    return relax


def _crossbar(model, kernels):
    spec = model.spec
    lower, upper = spec.bounds(np.float32)
    network = Crossbar(
        model.weights, model.biases, lower, upper, spec.source_gain, spec.schedule, spec.pairs
    )

    def relax(x, states):
        kernels.crossbar_relax(network, x, states, None, 0.0, model.n_free_steps, model.tol_free)

    return relax
