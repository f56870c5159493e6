"""Estimator parameters as JSON and back.

What a parameter may be is said by the `_parameter_constraints` of the class that has it; a
parameter can be an object with parameters of its own, of a class that the estimator lists in
`_parameter_objects`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator

# of the process and the machine that run, not of the model: neither written nor read
PLACE = ("callbacks", "checkpoint", "backend", "n_threads")
LARGEST = 2**63 - 1
MAX_DEPTH = 16


def encode(value):
    """`value` in what JSON has; tuples and dicts with any keys survive."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if value is None or isinstance(value, (bool, np.bool_, str)):
        return bool(value) if isinstance(value, np.bool_) else value
    if isinstance(value, Integral) and abs(value) <= LARGEST:
        return int(value)
    if isinstance(value, Real) and not isinstance(value, Integral) and not np.isnan(float(value)):
        return float(value)
    if isinstance(value, tuple):
        return {"tuple": [encode(v) for v in value]}
    if isinstance(value, (list, range)):
        return [encode(v) for v in value]
    if isinstance(value, Mapping):
        return {"dict": [[encode(k), encode(v)] for k, v in value.items()]}
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, BaseEstimator):
        return {"object": type(value).__name__, "params": encode_parameters(value)}
    raise TypeError(f"cannot be stored in a checkpoint: {value!r}")


def encode_parameters(estimator):
    """Name to encoded value of what `estimator` was made with; TypeError names what cannot be
    stored.
    """
    encoded = {}
    for name, value in estimator.get_params(deep=False).items():
        if name in PLACE:
            continue
        if isinstance(value, np.random.RandomState):
            value = None  # the run's own streams are stored
        try:
            encoded[name] = encode(value)
        except TypeError as error:
            raise TypeError(f"{name} {error}") from None
    return encoded


def decode(value, objects=(), depth=0):
    """What `encode` was given; ValueError for anything that it does not write."""
    if depth > MAX_DEPTH:
        raise ValueError("parameters are nested too deeply")
    if isinstance(value, list):
        return [decode(v, objects, depth + 1) for v in value]
    if isinstance(value, dict):
        return _decode_tagged(value, objects, depth + 1)
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int) and abs(value) <= LARGEST:
        return value
    if isinstance(value, float) and value == value:
        return value
    raise ValueError("a parameter is no number that could be one")


def _decode_tagged(value, objects, depth):
    content = list(value.values())
    if set(value) == {"tuple"} and isinstance(content[0], list):
        return tuple(decode(v, objects, depth) for v in content[0])
    if set(value) == {"dict"} and isinstance(content[0], list):
        pairs = [decode(pair, objects, depth) for pair in content[0]]
        if all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
            if all(isinstance(key, (str, int, float)) or key is None for key, _ in pairs):
                return dict(pairs)
    if set(value) == {"object", "params"}:
        for kind in objects:
            if kind.__name__ == value["object"]:
                return decode_parameters(kind, value["params"], objects, depth)
    raise ValueError("a parameter is not stored as a checkpoint stores it")


def decode_parameters(kind, encoded, objects=(), depth=0):
    """A `kind` with the parameters of a file, each checked; those of `PLACE` are at their defaults."""
    names = [name for name in kind._get_param_names() if name not in PLACE]
    if not isinstance(encoded, dict) or set(encoded) != set(names):
        raise ValueError(f"the parameters are not those of {kind.__name__}")
    made = kind(**{name: decode(encoded[name], objects, depth) for name in names})
    if hasattr(made, "_parameter_constraints"):
        made._validate_params()
    return made
