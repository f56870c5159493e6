"""The model file .eqp: a `NetModel` in a few little-endian arrays, for programs that are not Python
too.

The format is told in csrc/embedded/eqp_file.h, whose C reader gives the same verdict on any bytes.
"""

from __future__ import annotations

import os
import struct
import zlib

import numpy as np

from ..kernels import LayeredSpec, ResistiveSpec
from ..kernels.graph_spec import POOLS, ConnectionSpec, GraphSpec, LayerSpec, flat_size
from ..kernels.reference.crossbar import SCHEDULES as CIRCUIT_SCHEDULES
from ..kernels.resistive_spec import DIODES
from ..kernels.spec import ACTIVATIONS, MAX_WEIGHTS, SCHEDULES
from .model import MAX_UNITS, MAX_WINDOW, PROBAS, LearnPlan, NetModel, as_model

MAGIC, LAYERED, RESISTIVE, CHAIN = b"EQP\x1a", 1, 2, 3  # the version says which kind of network
HEADER = struct.Struct("<4sHHII8B3fI3fIII")
CIRCUIT = struct.Struct("<BBH6d")  # follows the header of a resistive network
MAPS, SHAPE, LINK = struct.Struct("<BBH"), struct.Struct("<3I"), struct.Struct("<6BH")  # of a chain
BOOLEANS, FLOATS = 16, 32  # flags: what classes are
KINDS = ("exclusive", "multilabel", "regressor")
NUDGINGS = ("positive", "random_sign", "centered")
_LAST = max(ACTIVATIONS.values())
_LARGEST = {
    LAYERED: (2, _LAST, _LAST, _LAST, 63, 2, 5, 2),
    RESISTIVE: (3, 0, 0, 0, 63, 2, 7, 2),
    CHAIN: (1, 0, 0, _LAST, 63, 2, 5, 2),
}
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
    model : fitted layered, convolutional, graph or resistive estimator, or NetModel
    path : path
    """
    from ..training.files import write_atomically  # here: readers do without scikit-learn

    model = as_model(model)
    data = to_bytes(model if model.is_graph else model.folded())
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
        version, parameters, kind = RESISTIVE, (1.0, 1.0), _circuit_bytes(model)
        kind += _bytes(model.spec.sizes, "<u4")
    else:
        parameters = model.spec.cost_factor, model.spec.dt
        version, kind = LAYERED, _bytes(model.spec.sizes, "<u4")
        if model.is_graph:
            version, kind = CHAIN, _chain_bytes(model)
    plan, n = model.learn, len(model.weights)
    learns = plan is not None
    labels, names, told = _encode_classes(model.classes)
    nudged = (plan.beta, plan.step, plan.tol, plan.n_steps) if learns else (0.0, 0.0, 0.0, 0)
    rates = plan.rates if learns and plan.rates else (0.0,) * n
    parts = [kind, _bytes(rates, "<f4")]
    for w, b in zip(model.weights, model.biases):
        # conductances: + 0 makes +0 of -0, which a reader would take for a negative one
        parts += [_bytes(w + np.float32(0) if model.is_resistive else w, "<f4"), _bytes(b, "<f4")]
    if version != LAYERED and model.is_scaled:
        parts += [_bytes(model.input_center, "<f8"), _bytes(model.input_scale, "<f8")]
    if model.kind == "regressor":
        parts += [_bytes(model.mean, "<f8"), _bytes(model.scale, "<f8")]
    body = b"".join([*parts, labels])
    head = HEADER.pack(
        MAGIC,
        version,
        n,
        HEADER.size + len(body),
        0,
        *_codes(model, told),
        *parameters,
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


def _bytes(values, dtype):
    return np.asarray(values, dtype).tobytes()


def _codes(model, flags):
    """The eight bytes of names and flags."""
    spec, plan = model.spec, model.learn
    if model.is_resistive:
        names = CIRCUIT_SCHEDULES.index(spec.schedule), 0, 0, 0
    else:
        flags |= spec.nudge_inside | (spec.cost == "cross_entropy") << 1
        own = (0, 0)  # a chain has them layer by layer
        if not model.is_graph:
            own = ACTIVATIONS[spec.activation], ACTIVATIONS[spec.out_activation]
        names = SCHEDULES[spec.schedule], *own, ACTIVATIONS[spec.input_activation]
    if plan is not None:
        flags |= 4 | (not plan.rates) << 3
    answers = KINDS.index(model.kind), PROBAS.index(model.proba)
    return *names, flags, *answers, 0 if plan is None else NUDGINGS.index(plan.nudging)


def _circuit_bytes(model):
    spec = model.spec
    numbers = spec.input_gain, spec.amplifier_gain, spec.g_min, spec.g_max
    flags = bool(spec.pairs) | model.is_scaled << 1
    diodes = DIODES.index(spec.diodes)
    return CIRCUIT.pack(diodes, flags, 0, *numbers, model.source_limit, model.sharpness)


def _chain_bytes(model):
    """What only a chain of maps has: layers' shapes, connections."""
    spec = model.spec
    parts = [MAPS.pack(bool(spec.readout) | model.is_scaled << 1, 0, 0)]
    parts += [SHAPE.pack(*layer.sides) for layer in spec.layers]
    for link, layer in zip(spec.connections, spec.layers[1:]):
        geometry = link.kernel, link.stride, link.padding, link.window, POOLS[link.pool]
        parts.append(LINK.pack(*geometry, ACTIVATIONS[layer.activation], 0))
    return b"".join(parts)


def _encode_classes(classes):
    """Their bytes, how many of these are names, and the flag that tells what else they are."""
    if classes and all(isinstance(c, bool) for c in classes):
        return np.asarray(classes, "<i8").tobytes(), 0, BOOLEANS
    if classes and all(isinstance(c, float) and np.isfinite(c) for c in classes):
        return np.asarray(classes, "<f8").tobytes(), 0, FLOATS
    if all(isinstance(c, int) and -(2**63) <= c < 2**63 for c in classes):
        return np.asarray(classes, "<i8").tobytes(), 0, 0
    if not all(isinstance(c, str) and c and min(c) >= " " for c in classes):
        raise ValueError(
            "classes_: a model file holds integers, booleans, finite floats, or names without control "
            "characters"
        )
    names = b"".join(c.encode() + b"\0" for c in classes)
    return names, len(names), 0


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
    version = int.from_bytes(data[4:6], "little")
    need(version in (LAYERED, RESISTIVE, CHAIN), "VERSION")
    head = HEADER.unpack_from(data)
    n, size, crc = head[2:5]
    need(len(data) >= size, "SHORT")
    need(len(data) <= size, "SIZE")
    need(zlib.crc32(data[16:], zlib.crc32(data[:12])) == crc, "CRC")
    need(1 <= n <= MAX_WEIGHTS, "SIZE")
    at = HEADER.size + {LAYERED: 0, RESISTIVE: CIRCUIT.size, CHAIN: MAPS.size}[version]
    end = at + (SHAPE.size * (n + 1) + LINK.size * n if version == CHAIN else 4 * (n + 1))
    need(end <= size, "SIZE")
    file = _File(version, head, data)
    need(file.has_right_sizes(), "SIZE")
    need(file.end(end) == size, "SIZE")
    arrays = _Arrays(data, end)
    file.rates = arrays.take("<f4", n)
    for shape, n_biases in zip(file.shapes, file.n_biases):
        file.weights.append(arrays.take("<f4", flat_size(shape)).reshape(shape))
        file.biases.append(arrays.take("<f4", n_biases))
    file.center, file.input_scale = (arrays.take("<f8", file.n_scaled) for _ in range(2))
    file.mean, file.scale = (arrays.take("<f8", file.n_targets) for _ in range(2))
    need(file.has_right_values(), "VALUE")
    classes = _decode_classes(data[arrays.at :], file.codes[4], *head[21:23])
    need(classes is not None, "VALUE")
    return file.model(classes)


class _Arrays:
    """Arrays one after another."""

    def __init__(self, data, at):
        self.data, self.at = data, at

    def take(self, dtype, n):
        values = np.frombuffer(self.data, dtype, n, self.at)
        self.at += values.nbytes
        return values.astype(values.dtype.newbyteorder("="))


class _File:
    """What stands in a file, before it is known to make sense."""

    def __init__(self, version, head, data):
        self.version, self.head, self.weights, self.biases = version, head, [], []
        self.codes, self.numbers = head[5:13], head[13:21]
        self.n_classes, self.n_names = head[21:23]
        n, at = head[2], HEADER.size
        if version == CHAIN:
            self.maps, at = MAPS.unpack_from(data, at), at + MAPS.size
            self.sides = [SHAPE.unpack_from(data, at + SHAPE.size * k) for k in range(n + 1)]
            at += SHAPE.size * (n + 1)
            self.links = [LINK.unpack_from(data, at + LINK.size * k) for k in range(n)]
            self.sizes = tuple(flat_size(sides) for sides in self.sides)
            return
        if version == RESISTIVE:
            self.circuit, at = CIRCUIT.unpack_from(data, at), at + CIRCUIT.size
        self.sizes = struct.unpack_from(f"<{n + 1}I", data, at)

    @property
    def is_resistive(self):
        return self.version == RESISTIVE

    @property
    def most(self):
        """Units of a layer; pairs of sources or output nodes count twice on a device."""
        return MAX_UNITS // 2 if self.is_resistive else MAX_UNITS

    def has_right_sizes(self):
        if self.version == CHAIN and not self._is_right_chain():
            return False
        return all(1 <= size <= self.most for size in self.sizes)

    def _is_right_chain(self):
        """Shapes, and connections that make them."""
        flags, *zeros = self.maps
        if flags > 3 or any(zeros) or not all(1 <= n <= MAX_UNITS for s in self.sides for n in s):
            return False
        return all(map(_is_right_link, self.links, self.sides[:-1], self.sides[1:]))

    @property
    def n_biases(self):
        if self.version == CHAIN:
            return [sides[0] for sides in self.sides[1:]]
        return [shape[-1] for shape in self.shapes]

    @property
    def shapes(self):
        """Of each layer's weights: (rows, columns), or of kernels."""
        if self.version == CHAIN:
            spec = self._chain_spec()
            return [link.weight_shape(spec.layers) for link in spec.connections]
        units = list(self.sizes)
        if self.is_resistive:
            units[0] *= 2
            units[-1] *= 1 + (self.circuit[1] & 1)
        return list(zip(units[:-1], units[1:]))

    @property
    def n_scaled(self):
        flags = 0
        if self.version != LAYERED:
            flags = self.circuit[1] if self.is_resistive else self.maps[0]
        return self.sizes[0] if flags & 2 else 0

    @property
    def n_targets(self):
        return self.sizes[-1] if self.codes[5] == 2 else 0

    def end(self, at):
        """Where the file ends whose rates begin at `at`."""
        numbers = len(self.sizes) - 1 + sum(map(flat_size, self.shapes)) + sum(self.n_biases)
        classes = self.n_names or 8 * self.n_classes
        return at + 4 * numbers + 16 * (self.n_scaled + self.n_targets) + classes

    def has_right_values(self):
        cost_factor, dt, tol, n_free, beta, step, tol_nudged, n_nudged = self.numbers
        if any(value > top for value, top in zip(self.codes, _LARGEST[self.version])):
            return False
        if not np.isfinite([cost_factor, dt, tol, beta, step, tol_nudged]).all():
            return False
        if not (cost_factor > 0 and dt > 0 and 1 <= n_free < 2**31 and n_nudged < 2**31):
            return False
        if self.codes[4] & 4 and not (beta != 0 and step > 0 and n_nudged >= 1):
            return False
        arrays = [self.rates, *self.weights, *self.biases, self.mean, self.scale]
        if not all(np.isfinite(a).all() for a in arrays) or np.signbit(self.rates).any():
            return False
        if self.is_resistive and not self._is_right_circuit():
            return False
        if self.version == CHAIN and not self._are_right_acts():
            return False
        if self.codes[5] == 2:
            told = self.n_classes == self.n_names == 0 and self.codes[6] == 5
            told = told and self.codes[4] < BOOLEANS
            return told and bool((self.scale > 0).all())
        return self._are_right_classes()

    def _is_right_circuit(self):
        diodes, flags, zero, gain, amplifier, g_min, g_max, limit, sharpness = self.circuit
        if diodes > 2 or flags > 3 or zero != 0 or self.codes[4] & 3 or self.numbers[:2] != (1, 1):
            return False
        if not all(np.isfinite(v) and v > 0 for v in (gain, amplifier, sharpness)):
            return False
        if np.signbit(g_min) or not g_min < g_max or not limit > 0:
            return False
        if any(np.signbit(g).any() for g in self.weights):
            return False
        return self._is_right_scaling()

    def _is_right_scaling(self):
        scaling = np.isfinite(self.center).all() and np.isfinite(self.input_scale).all()
        return bool(scaling and (self.input_scale > 0).all())

    def _are_right_acts(self):
        """Activations of a chain; a read-out has none, and reads a layer that has a state."""
        last = self.links[-1]
        reads = self.maps[0] & 1
        if any(link[5] > _LAST for link in self.links):
            return False
        if reads and (len(self.links) < 2 or last[0] != 0 or last[5] != 0):
            return False
        return self._is_right_scaling()

    def _are_right_classes(self):
        """As many as outputs, or two at one output; read as probabilities in a way that fits."""
        kind, proba, outputs, n_classes = *self.codes[5:7], self.sizes[-1], self.n_classes
        binary = kind == 0 and outputs == 1 and n_classes == 2
        if proba == 5 or n_classes < 1 or (n_classes != outputs and not binary):
            return False
        if proba == 2 and n_classes != 1:
            return False
        if self.is_resistive:
            known = proba in (0, 2, 6, 7)
            return known and (proba == 7) == binary and (proba == 6) == (kind == 1)
        return (proba == 3) == binary and (proba == 1) == (kind == 1)

    def model(self, classes):
        cost_factor, dt, tol, n_free, beta, step, tol_nudged, n_nudged = self.numbers
        flags, kind, proba, nudging = self.codes[4:]
        learn = None
        if flags & 4:
            known = () if flags & 8 else tuple(float(rate) for rate in self.rates)
            learn = LearnPlan(beta, NUDGINGS[nudging], n_nudged, tol_nudged, step, known)
        specs = {RESISTIVE: "_circuit_spec", LAYERED: "_layered_spec", CHAIN: "_chain_spec"}
        model = NetModel(
            getattr(self, specs[self.version])(),
            self.weights,
            self.biases,
            n_free,
            tol,
            KINDS[kind],
            classes,
            PROBAS[proba],
            self.mean,
            self.scale,
            learn,
            "the file's network was trained by a rule that does not learn on a device",
            input_center=self.center,
            input_scale=self.input_scale,
        )
        if self.is_resistive:
            model.source_limit, model.sharpness = self.circuit[7:]
        return model

    def _layered_spec(self):
        schedules = {code: name for name, code in SCHEDULES.items()}
        names = {code: name for name, code in ACTIVATIONS.items()}
        schedule, activation, out_activation, input_activation, flags = self.codes[:5]
        return LayeredSpec(
            tuple(self.sizes),
            schedule=schedules[schedule],
            activation=names[activation],
            out_activation=names[out_activation],
            input_activation=names[input_activation],
            nudge_inside=bool(flags & 1),
            cost="cross_entropy" if flags & 2 else "squared_error",
            cost_factor=self.numbers[0],
            dt=self.numbers[1],
        )

    def _chain_spec(self):
        pools = {code: name for name, code in POOLS.items()}
        names = {code: name for name, code in ACTIVATIONS.items()}
        acts = [self.codes[3], *(link[5] for link in self.links)]
        joined = [bool(link[0]) for link in self.links]  # by a convolution, from below or above
        layers = tuple(
            LayerSpec(
                sides if any(joined[max(k - 1, 0) : k + 1]) or sides[1:] != (1, 1) else sides[:1],
                names.get(act, ""),
            )
            for k, (sides, act) in enumerate(zip(self.sides, acts))
        )
        connections = tuple(
            ConnectionSpec(k, k + 1, kernel, stride, padding, pools[pool], window)
            for k, (kernel, stride, padding, window, pool, *_) in enumerate(self.links)
        )
        return GraphSpec(
            layers,
            connections,
            schedule="asynchronous" if self.codes[0] else "synchronous",
            nudge_inside=bool(self.codes[4] & 1),
            cost="cross_entropy" if self.codes[4] & 2 else "squared_error",
            cost_factor=self.numbers[0],
            dt=self.numbers[1],
            readout=bool(self.maps[0] & 1),
        )

    def _circuit_spec(self):
        diodes, flags, _, gain, amplifier, g_min, g_max = self.circuit[:7]
        return ResistiveSpec(
            tuple(self.sizes),
            gain,
            amplifier,
            DIODES[diodes],
            bool(flags & 1),
            CIRCUIT_SCHEDULES[self.codes[0]],
            g_min=g_min,
            g_max=g_max,
        )


def _is_right_link(link, below, above):
    """Whether a connection makes a layer of this shape of the one below."""
    kernel, stride, padding, window, pool, _, zero = link
    if zero:
        return False
    if kernel == 0:  # all units to all units
        return (stride, padding, window, pool) == (1, 0, 1, 0)
    if stride < 1 or padding >= kernel or not 1 <= window <= MAX_WINDOW or pool > 2:
        return False
    if (pool == 0) != (window == 1):
        return False
    sides = [(n + 2 * padding, out * window) for n, out in zip(below[1:], above[1:])]
    return all(kernel <= n and (n - kernel) // stride + 1 == made for n, made in sides)


def _decode_classes(data, flags, n_classes, n_names):
    """None: they are not what the flags say."""
    told = flags & (BOOLEANS | FLOATS)
    if not n_names:
        values = np.frombuffer(data, "<f8" if told & FLOATS else "<i8", n_classes)
        if told == 0:
            return values.tolist()
        if told == FLOATS:
            return values.tolist() if np.isfinite(values).all() else None
        right = told == BOOLEANS and ((values == 0) | (values == 1)).all()
        return values.astype(bool).tolist() if right else None
    if told:
        return None
    try:
        names = data.decode("utf-8").split("\0")
    except UnicodeDecodeError:
        return None
    last, names = names[-1], names[:-1]
    right = last == "" and len(names) == n_classes and all(c and min(c) >= " " for c in names)
    return names if right else None
