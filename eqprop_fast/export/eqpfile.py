"""The model file .eqp: a `NetModel` in a few little-endian arrays, for programs that are not Python
too.

The format is told in csrc/embedded/eqp_file.h, whose C reader gives the same verdict on any bytes.
"""

from __future__ import annotations

import os
import struct
import zlib

import numpy as np

from ..kernels import LayeredSpec
from ..kernels.spec import ACTIVATIONS, MAX_WEIGHTS, SCHEDULES
from ..training.files import write_atomically
from .model import MAX_UNITS, PROBAS, LearnPlan, NetModel, as_model

MAGIC, VERSION = b"EQP\x1a", 1
HEADER = struct.Struct("<4sHHII8B3fI3fIII")
KINDS = ("exclusive", "multilabel", "regressor")
NUDGINGS = ("positive", "random_sign", "centered")
_LARGEST = (2, 8, 8, 8, 15, 2, 5, 2)
_TEXTS = {
    "SHORT": "shorter than its header, or than it says",
    "MAGIC": "not a model file",
    "VERSION": "a version that this program does not know",
    "SIZE": "longer than it says, or its sizes do not add up",
    "CRC": "damaged: the checksum is wrong",
    "VALUE": "a number or name in it is out of range",
}


class EqpFileError(ValueError):
    """A model file was refused.

    Attributes
    ----------
    status : {"SHORT", "MAGIC", "VERSION", "SIZE", "CRC", "VALUE"}
        The verdict, the same as the C reader's.
    """

    def __init__(self, status, name=""):
        super().__init__(f"{name}{': ' if name else ''}{_TEXTS[status]}")
        self.status, self._name = status, name

    def __reduce__(self):
        return type(self), (self.status, self._name)


def save_eqp(model, path):
    """Write a model file, whole or not at all.

    Parameters
    ----------
    model : fitted layered estimator or NetModel
    path : path
    """
    data = to_bytes(as_model(model).folded())
    write_atomically(path, lambda file: file.write(data))


def load_eqp(path):
    """The `NetModel` of a model file.

    Raises
    ------
    EqpFileError
        Damaged, or no model file.
    OSError
    """
    with open(path, "rb") as file:
        return from_bytes(file.read(), os.fspath(path))


def to_bytes(model):
    """A model file's bytes."""
    if model.is_resistive:
        raise ValueError("model: a model file holds layered networks; for resistive ones use to_c")
    spec, plan = model.spec, model.learn
    n, learns = len(model.weights), plan is not None
    labels, names = _encode_classes(model.classes)
    flags = spec.nudge_inside | (spec.cost == "cross_entropy") << 1 | learns << 2
    flags |= (learns and not plan.rates) << 3
    kinds = (
        SCHEDULES[spec.schedule],
        ACTIVATIONS[spec.activation],
        ACTIVATIONS[spec.out_activation],
        ACTIVATIONS[spec.input_activation],
        flags,
        KINDS.index(model.kind),
        PROBAS.index(model.proba),
        NUDGINGS.index(plan.nudging) if learns else 0,
    )
    nudged = (plan.beta, plan.step, plan.tol, plan.n_steps) if learns else (0.0, 0.0, 0.0, 0)
    rates = plan.rates if learns and plan.rates else (0.0,) * n
    parts = [np.asarray(spec.sizes, "<u4"), np.asarray(rates, "<f4")]
    for w, b in zip(model.weights, model.biases):
        parts += [w.astype("<f4"), b.astype("<f4")]
    if model.kind == "regressor":
        parts += [np.asarray(model.mean, "<f8"), np.asarray(model.scale, "<f8")]
    body = b"".join(part.tobytes() for part in parts) + labels
    head = HEADER.pack(
        MAGIC,
        VERSION,
        n,
        HEADER.size + len(body),
        0,
        *kinds,
        spec.cost_factor,
        spec.dt,
        model.tol_free,
        model.n_free_steps,
        *nudged,
        len(model.classes),
        names,
    )
    data = head[:12] + struct.pack(
        "<I", zlib.crc32(body, zlib.crc32(head[16:], zlib.crc32(head[:12])))
    )
    data += head[16:] + body
    from_bytes(data)  # what could not be read is not written
    return data


def _encode_classes(classes):
    """Their bytes, and how many of these are names."""
    if all(isinstance(c, int) and -(2**63) <= c < 2**63 for c in classes):
        return np.asarray(classes, "<i8").tobytes(), 0
    if not all(isinstance(c, str) and c and min(c) >= " " for c in classes):
        raise ValueError(
            "classes_: a model file holds integers, or names without control characters"
        )
    names = b"".join(c.encode() + b"\0" for c in classes)
    return names, len(names)


def from_bytes(data, name=""):
    """The `NetModel` in a model file's bytes.

    Raises
    ------
    EqpFileError
    """

    def need(condition, status):
        if not condition:
            raise EqpFileError(status, name)

    need(len(data) >= HEADER.size, "SHORT")
    need(data[:4] == MAGIC, "MAGIC")
    need(data[4:6] == struct.pack("<H", VERSION), "VERSION")
    head = HEADER.unpack_from(data)
    n, size, crc = head[2:5]
    need(len(data) >= size, "SHORT")
    need(len(data) <= size, "SIZE")
    need(zlib.crc32(data[16:], zlib.crc32(data[:12])) == crc, "CRC")
    need(1 <= n <= MAX_WEIGHTS, "SIZE")
    kinds = head[5:13]
    n_classes, n_names = head[21:23]
    at = HEADER.size + 4 * (n + 1)
    need(at <= size, "SIZE")
    sizes = struct.unpack_from(f"<{n + 1}I", data, HEADER.size)
    need(all(1 <= s <= MAX_UNITS for s in sizes), "SIZE")
    n_weights = sum(a * b + b for a, b in zip(sizes[:-1], sizes[1:]))
    scales = 16 * sizes[-1] if kinds[5] == 2 else 0
    need(at + 4 * n + 4 * n_weights + scales + (n_names or 8 * n_classes) == size, "SIZE")
    arrays = _Arrays(data, at)
    rates = arrays.take("<f4", n)
    weights, biases = [], []
    for a, b in zip(sizes[:-1], sizes[1:]):
        weights.append(arrays.take("<f4", a * b).reshape(a, b))
        biases.append(arrays.take("<f4", b))
    mean, scale = (arrays.take("<f8", sizes[-1] if scales else 0) for _ in range(2))
    need(_right_values(head, sizes, [rates, *weights, *biases, mean, scale], rates, scale), "VALUE")
    classes = _decode_classes(data[arrays.at :], n_classes, n_names)
    need(classes is not None, "VALUE")
    return _model(head, sizes, rates, weights, biases, mean, scale, classes)


class _Arrays:
    """Arrays one after another."""

    def __init__(self, data, at):
        self.data, self.at = data, at

    def take(self, dtype, n):
        values = np.frombuffer(self.data, dtype, n, self.at)
        self.at += values.nbytes
        return values.astype(values.dtype.newbyteorder("="))


def _right_values(head, sizes, arrays, rates, scale):
    kinds, n_classes, n_names = head[5:13], *head[21:23]
    cost_factor, dt, tol, n_free, beta, step, tol_nudged, n_nudged = head[13:21]
    flags, kind, proba, outputs = kinds[4], kinds[5], kinds[6], sizes[-1]
    if any(value > top for value, top in zip(kinds, _LARGEST)):
        return False
    if not np.isfinite([cost_factor, dt, tol, beta, step, tol_nudged]).all():
        return False
    if not (cost_factor > 0 and dt > 0 and 1 <= n_free < 2**31 and n_nudged < 2**31):
        return False
    if flags & 4 and not (beta != 0 and step > 0 and n_nudged >= 1):
        return False
    if not all(np.isfinite(a).all() for a in arrays) or np.signbit(rates).any():
        return False
    if kind == 2:
        return n_classes == n_names == 0 and proba == 5 and bool((scale > 0).all())
    binary = kind == 0 and outputs == 1 and n_classes == 2
    if proba == 5 or n_classes < 1 or (n_classes != outputs and not binary):
        return False
    return (proba == 3) == binary and (proba == 1) == (kind == 1) and (proba != 2 or n_classes == 1)


def _decode_classes(data, n_classes, n_names):
    if not n_names:
        return np.frombuffer(data, "<i8", n_classes).tolist()
    try:
        names = data.decode("utf-8").split("\0")
    except UnicodeDecodeError:
        return None
    last, names = names[-1], names[:-1]
    right = last == "" and len(names) == n_classes and all(c and min(c) >= " " for c in names)
    return names if right else None


def _model(head, sizes, rates, weights, biases, mean, scale, classes):
    kinds = head[5:13]
    cost_factor, dt, tol, n_free, beta, step, tol_nudged, n_nudged = head[13:21]
    names = {code: name for name, code in ACTIVATIONS.items()}
    flags = kinds[4]
    spec = LayeredSpec(
        tuple(sizes),
        schedule={v: k for k, v in SCHEDULES.items()}[kinds[0]],
        activation=names[kinds[1]],
        out_activation=names[kinds[2]],
        input_activation=names[kinds[3]],
        nudge_inside=bool(flags & 1),
        cost="cross_entropy" if flags & 2 else "squared_error",
        cost_factor=cost_factor,
        dt=dt,
    )
    learn = None
    if flags & 4:
        known = () if flags & 8 else tuple(float(rate) for rate in rates)
        learn = LearnPlan(beta, NUDGINGS[kinds[7]], n_nudged, tol_nudged, step, known)
    return NetModel(
        spec,
        weights,
        biases,
        n_free,
        tol,
        KINDS[kinds[5]],
        classes,
        PROBAS[kinds[6]],
        mean,
        scale,
        learn,
        "the file's network was trained by a rule that does not learn on a device",
    )
