"""Formats of integer networks: how many bits behind the point each layer has; nothing overflows.

A number with b fractional bits stands for ``number / 2^b``. States and inputs are int16; fields
(sums) are int32; weights int16, or int8 where only the forward weight is that narrow: one that
learns is int16, for the update of one sample is smaller than one unit of int8, and its rounded
upper byte acts. Biases are int32 with 24 fractional bits, at most 16 in size. Products are shifted
down, one by one, to the bits of the field, which are chosen so that the largest weights, states and
biases still fit 32.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..kernels import get_backend
from .csource import Parts, map_numbers
from .curves import CURVES, is_wide
from .model import check_learn

LARGEST = 32767
BIAS_BITS = 24
MAX_BIAS = 1 << 28  # 16 with 24 fractional bits
STATE_BITS = 14  # of activations within [-1, 2] and of inputs within [-2, 2)
WIDE_STATE_BITS = 11  # of identity, relu and relu6, where no data say better: within [-16, 16)
FINE_BITS = 12  # of the nudge's strength, of a damped step and of the argument of a curve
UPDATE_BITS = 5  # cut off a correlation, so that 31 bits hold it times a mantissa

# 2^14 / (1 + exp(-t)) for t = 0, 1/16, ..., 12
SIGMOID = np.rint(2**14 / (1 + np.exp(-np.arange(12 * 16 + 1) / 16.0))).astype(np.int64)


@dataclass
class IntegerModel:
    """A `NetModel` in integers; one entry per layer, the input not counted, where there are lists.

    Attributes
    ----------
    weights, biases : lists of int32 ndarray
        Values of the type that a device stores (int8, or int16 where it learns).
    input_bits : int
    weight_bits, field_bits, state_bits : lists of int
        Fractional bits; those of the weight that acts.
    up, down : lists of int
        Shift of the products with the layer below and above.
    rate_bits, cuts : lists of int
        Of an update: shift beyond that of the rate, bits cut off a product.
    rates : list of (mantissa, shift)
    force : int
        Strength of the nudge.
    steps : (int, int)
        Step of the free and of the nudged phase; 4096 is 1.
    tolerances : (int, int)
        14 fractional bits; -1: none.
    centres : int32 ndarray, shape (inputs,) or (0,)
        What the device takes off its inputs.
    """

    weights: list
    biases: list
    input_bits: int
    weight_bits: list
    field_bits: list
    state_bits: list
    up: list
    down: list
    rate_bits: list
    cuts: list
    rates: list
    force: int
    steps: tuple
    tolerances: tuple
    centres: np.ndarray


def quantize(model, dtype, learn=False, X=None, weight_range=None):
    """The formats and parameters of a network in integers.

    Parameters
    ----------
    model : NetModel
    dtype : {"int16", "int8"}
    learn : bool
    X : array-like of shape (n_samples, n_features) or None
        Inputs as the device will see them: they set the bits of the input and of unbounded
        activations. None: inputs are within [-2, 2), such states within [-16, 16); what is larger
        saturates.
    weight_range : float, sequence of float or None
        Largest weight of each layer that learns, a power of two. None: 1 for a first layer of at
        least 256 inputs, else 4, and at least twice the largest weight there is.

    Raises
    ------
    ValueError
        Something has no place in these formats.
    """
    spec, n = model.spec, len(model.weights)
    _check(model, dtype, learn)
    cuts = _cuts(model, learn)
    names = model.activations
    input_bits, state_bits = _state_bits(model, names, X)
    weights, weight_bits, master_bits = _weights(model, dtype, learn, weight_range)
    biases = [np.rint(b.astype(np.float64) * 2.0**BIAS_BITS).astype(np.int64) for b in model.biases]
    if any(np.abs(b).max(initial=0) > MAX_BIAS for b in biases):
        raise ValueError("intercepts_: integers have no place for biases larger than 16")
    below = [input_bits, *state_bits[:-1]]
    force = _force(model, learn)
    field_bits = _field_bits(
        model, dtype, names, learn, weights, weight_bits, biases, input_bits, state_bits, force
    )
    heard = _heard(model, learn)
    rate_bits = [below[k] + state_bits[k] - master_bits[k] - cuts[k] for k in range(n)]
    steps = (spec.dt, model.learn.step if learn else spec.dt)
    fine = tuple(int(round(step * 2**FINE_BITS)) for step in steps)
    if not all(0 < step < 2 ** (FINE_BITS + 1) for step in fine):
        raise ValueError(f"dt, over_relaxation: a step of {max(steps):g} has no place in integers")
    tols = (model.tol_free, model.learn.tol if learn else -1.0)
    return IntegerModel(
        [w.astype(np.int32) for w in weights],
        [b.astype(np.int32) for b in biases],
        input_bits,
        weight_bits,
        field_bits,
        state_bits,
        [weight_bits[k] + below[k] - field_bits[k] for k in range(n)],
        [
            weight_bits[k + 1] + state_bits[k + 1] - field_bits[k] if k + 1 < heard else 0
            for k in range(n)
        ],
        rate_bits,
        cuts,
        _rates(model, rate_bits, state_bits) if learn else [],
        force,
        fine,
        tuple(integer_tolerance(tol, step) for tol, step in zip(tols, steps)),
        _centres(model, input_bits),
    )


def integer_curve(name, field_bits, state_bits):
    """Slope (a shift), low, high, offset, curved of an activation: `curves.Curve` in integers."""
    curve = CURVES[name]
    bits = FINE_BITS if curve.curved else state_bits
    ends = [int(np.clip(v * 2.0**state_bits, -LARGEST, LARGEST)) for v in (curve.low, curve.high)]
    slope = field_bits - bits - int(np.log2(curve.slope))
    return [slope, *ends, int(curve.offset * 2**FINE_BITS), int(curve.curved)]


def integer_tolerance(tol, step):
    return -1 if tol < 0 else min(int(tol * step * 2**14), LARGEST)


def _heard(model, learn):
    """Layers that those below them hear: a read-out, while it is nudged."""
    return len(model.weights) - (model.reads_out and not learn)


def _cuts(model, learn):
    """Bits cut off a product, so that those of all units of a map have room in one sum."""
    cuts = []
    for k, link in enumerate(model.links):
        cells = map_numbers(model, k)[0]
        if learn and cells > LARGEST:
            raise ValueError(f"layers: maps of {cells} units are too large to learn in integers")
        cuts.append(UPDATE_BITS + (0 if link is None else int(np.ceil(np.log2(cells)))))
    return cuts


def _centres(model, bits):
    centres = np.rint(model.input_center * 2.0**bits)
    if np.abs(centres).max(initial=0) > LARGEST:
        raise ValueError("input_center_: too large for int16; X=, rows as the device will see them")
    return centres.astype(np.int32)


def _check(model, dtype, learn):
    if model.is_resistive:
        raise ValueError(
            f"dtype={dtype!r}: resistive networks are exported in float32 only. A node's voltage is a "
            "quotient of two sums, and sources of input_gain volt are averaged down to it: no fixed "
            "number of bits holds both"
        )
    spec = model.spec
    if spec.input_activation != "identity":
        raise ValueError("input_activation: apply it to the inputs of integer networks beforehand")
    if learn:
        check_learn(model)
        if spec.cost == "cross_entropy":
            raise ValueError("cost='cross_entropy' learns on a device in float32 only")


def _state_bits(model, names, X):
    """Bits of the input and of each layer's state."""
    bits = [WIDE_STATE_BITS if is_wide(name) else STATE_BITS for name in names]
    if X is None:
        return STATE_BITS, bits
    x = np.ascontiguousarray(X, np.float32)
    if x.ndim != 2 or x.shape[1] != model.spec.sizes[0] or not len(x) or not np.isfinite(x).all():
        raise ValueError(f"X must be finite, of shape (n, {model.spec.sizes[0]}), n > 0")
    shown = x - model.input_center.astype(np.float32) if model.is_scaled else x
    states = [np.zeros((len(x), n), np.float32) for n in model.spec.sizes[1:]]
    kernels = get_backend("numpy")
    relax = kernels.graph_relax if model.is_graph else kernels.layered_relax
    arguments = model.spec, model.weights, None, model.biases, shown, states
    relax(*arguments, n_steps=model.n_free_steps)
    for k, name in enumerate(names):
        if is_wide(name):  # room for twice of what was seen
            bits[k] = _bits_for(2 * np.abs(states[k]).max())
    return _bits_for(max(np.abs(x).max(), np.abs(shown).max())), bits


def _bits_for(largest):
    bits = (
        STATE_BITS if largest == 0 else min(STATE_BITS, int(np.floor(np.log2(LARGEST / largest))))
    )
    if bits < 0:
        raise ValueError(f"X: inputs or states of {largest:g} are too large for int16")
    return bits


def _weights(model, dtype, learn, weight_range):
    """Integers as stored; bits of the weights that act; bits of those that learn."""
    n = len(model.weights)
    if not learn:
        if weight_range is not None:
            raise ValueError("weight_range: only for learn=True")
        pairs = [_inference_weights(w, 127 if dtype == "int8" else LARGEST) for w in model.weights]
        bits = [b for _, b in pairs]
        return [w for w, _ in pairs], bits, bits
    if weight_range is None:
        weight_range = [_range_of(model, k) for k in range(n)]
    ranges = np.asarray(weight_range, dtype=np.float64)
    if ranges.shape not in ((), (n,)) or not np.isfinite(ranges).all() or (ranges <= 0).any():
        raise ValueError(f"weight_range: one power of two or {n}, got {weight_range!r}")
    powers = np.log2(np.broadcast_to(ranges, n))
    if (powers != np.rint(powers)).any() or np.abs(powers).max() > 7:
        raise ValueError(f"weight_range: powers of two from 1/128 to 128, got {weight_range!r}")
    for w, r in zip(model.weights, np.broadcast_to(ranges, n)):
        if np.abs(w).max(initial=0) > r:
            raise ValueError(f"weight_range={weight_range!r}: there are weights larger than that")
    master = [15 - int(p) for p in powers]
    weights = [
        np.clip(np.rint(w.astype(np.float64) * 2.0**b), -LARGEST, LARGEST).astype(np.int64)
        for w, b in zip(model.weights, master)
    ]
    return weights, [b - 8 for b in master] if dtype == "int8" else master, master


def _range_of(model, k):
    w, link = model.weights[k], model.links[k]
    fan_in = len(w) if link is None else w[0].size
    least = max(2 * np.abs(w).max(initial=0), 1.0 if k == 0 and fan_in >= 256 else 4.0)
    return 2.0 ** min(np.ceil(np.log2(least)), 7)


def _inference_weights(w, largest):
    """Weights and bits with the smallest squared error; the largest may be cut off a little."""
    w = w.astype(np.float64)
    top = np.abs(w).max(initial=0)
    most = 15 if top == 0 else min(15, int(np.floor(np.log2(largest / top))))
    if most < 0:
        raise ValueError("coefs_: weights are too large for integers")
    choices = []
    for bits in {most, min(most + 1, 15)}:
        q = np.clip(np.rint(w * 2.0**bits), -largest, largest)
        choices.append((((q / 2.0**bits - w) ** 2).sum(), -bits, q))
    _, bits, q = min(choices, key=lambda choice: choice[:2])
    return q.astype(np.int64), -bits


def _force(model, learn):
    if not learn:
        return 0
    force = int(round(model.spec.cost_factor * abs(model.learn.beta) * 2**FINE_BITS))
    if not 0 < force < 1 << 14:
        raise ValueError("beta, cost_factor: their product must be below 4 in integers, and not 0")
    return force


def _field_bits(
    model, dtype, names, learn, weights, weight_bits, biases, input_bits, state_bits, force
):
    """The most bits with which the largest possible field fits 31, in each layer."""
    n, spec = len(names), model.spec
    limit = None if not learn else 128 if dtype == "int8" else LARGEST
    tops = [min(CURVES[a].high * 2.0**b, LARGEST) for a, b in zip(names, state_bits)]
    if learn:
        tops[-1] = LARGEST  # the nudge may push an output beyond its range
    tops, all_bits = [LARGEST, *tops], [input_bits, *state_bits]
    found = []
    for k in range(n):
        parts = [(*_reach(model, k, weights[k], limit, False), weight_bits[k], k)]
        if k + 1 < _heard(model, learn):
            above = _reach(model, k + 1, weights[k + 1], limit, True)
            parts.append((*above, weight_bits[k + 1], k + 2))
        bound = float(MAX_BIAS if learn else np.abs(biases[k]).max(initial=0)) / 2.0**BIAS_BITS
        cap, terms = BIAS_BITS, 2
        for sums, n_terms, bits, layer in parts:
            cap = min(cap, bits + all_bits[layer])
            bound += float(sums) * tops[layer] / 2.0 ** (bits + all_bits[layer])
            terms += n_terms
        if learn and spec.nudge_inside and k == n - 1:
            bound += force / 2.0**FINE_BITS * 2 * LARGEST / 2.0 ** state_bits[k]
        bits = cap
        while bits >= 0 and bound * 2.0**bits + terms >= 2.0**31:
            bits -= 1
        least = max(
            state_bits[k] + (names[k] == "half_hard_sigmoid"), 14 if CURVES[names[k]].curved else 0
        )
        if bits < least:
            layers = "layers" if model.is_graph else "hidden_layer_sizes"
            raise ValueError(
                f"{layers}, coefs_: the sums of layer {k + 1} do not fit 32 bits with {least} behind "
                "the point"
            )
        found.append(bits)
    return found


def _reach(model, k, w, limit, down):
    """Largest sum of absolute weights into a unit of connection k, from below or `down` from above,
    and how many products it has; weights that learn may all reach the limit. A mean is a sum first.
    """
    link = model.links[k]
    if link is None:
        size = np.abs(w.T if down else w)
        sums, terms = size.sum(axis=0), len(size)
    else:
        axes = (0, 2, 3) if down else (1, 2, 3)
        places = 1 if down or link.pool != "average" else link.window**2
        sums = np.abs(w).sum(axis=axes) * places
        terms = w.size // w.shape[1 if down else 0] * places
    return (sums.max(initial=0) if limit is None else terms * limit), terms


def _rates(model, rate_bits, state_bits):
    """(mantissa, shift) with rate / span = mantissa / 2^shift, a mantissa from 8 to 15."""
    plan = model.learn
    span = abs(plan.beta) * (2 if plan.nudging == "centered" else 1)
    pairs = []
    for rate, bits, state in zip(plan.rates, rate_bits, state_bits):
        pair = rate_pair(rate / span, bits)
        if not (
            1 <= pair[1] + bits <= 30 and -10 <= pair[1] + state - BIAS_BITS <= 30 and pair[1] >= 0
        ):
            raise ValueError(
                f"learning_rate={rate!r}: too {'small' if rate < 0.01 else 'large'} for these formats"
            )
        pairs.append(pair)
    return pairs


def rate_pair(value, rate_bits):
    """(mantissa, shift) of rate / span; 0 has the mantissa 0."""
    if value == 0:
        return 0, max(14, 1 - rate_bits)
    shift = int(np.floor(np.log2(15.499 / value)))
    return int(round(value * 2.0**shift)), shift


class IntegerParts(Parts):
    """NAME.h and NAME.c in integers."""

    is_integer = True

    def __init__(self, model, learn, dtype, X=None, weight_range=None):
        super().__init__(model, learn)
        self.dtype, self.q = dtype, quantize(model, dtype, learn, X, weight_range)
        self.damped = self.q.steps != (1 << FINE_BITS, 1 << FINE_BITS)

    def flags(self):
        return {**super().flags(), "NET_INT8": self.dtype == "int8"}

    def constants(self):
        rows = super().constants()
        rows["INPUT_BITS"] = (
            self.q.input_bits,
            "fractional bits of an input: 1.0 is 1 << NET_INPUT_BITS",
        )
        rows["OUTPUT_BITS"] = (self.q.state_bits[-1], "and of an output")
        return rows

    def what(self):
        return f"with {self.dtype} weights, without floats"

    def words(self):
        return {
            "RESIDUAL": ", 14 fractional bits",
            "PROBABILITY": ", 32768 being 1",
            "SCALED": ": NET_OUTPUT_BITS fractional bits, of standardised targets",
        }

    def tolerance(self, tol, step):
        return str(integer_tolerance(tol, step))

    def one(self):
        return "32768"

    def half(self):
        return str(1 << (self.q.state_bits[-1] - 1))

    def chance(self):
        return "(net_clip(out, 0, 2 * NET_HALF) * 16384 / NET_HALF)"

    def step(self, dt):
        return str(int(round(dt * 2**FINE_BITS)))

    def learning(self):
        return {"FORCE": self.q.force, "MAX_BIAS": f"INT32_C({MAX_BIAS})"}

    def layer_numbers(self, k):
        q = self.q
        numbers = [q.field_bits[k], q.state_bits[k], q.up[k], q.down[k]]
        numbers += [q.rate_bits[k]] if self.learn else []
        numbers += [q.cuts[k]] if self.learn and self.flags()["NET_MAPS"] else []
        return [*numbers, *integer_curve(self.names[k], q.field_bits[k], q.state_bits[k])]

    def arrays(self):
        q = self.q
        arrays = [
            ("net_biases", "net_sum", [str(v) for b in q.biases for v in b]),
            ("net_weights", "net_weight", [str(v) for w in q.weights for v in w.ravel()]),
        ]
        if self.model.is_scaled:
            centres = q.centres[:: self.alike]
            arrays.append(("net_input_center", "int16_t", [str(v) for v in centres]))
        if self.learn:
            arrays.insert(0, ("net_rates", "net_rate", [f"{{{m}, {s}}}" for m, s in q.rates]))
        if self.flags()["NET_HAS_CURVE"]:
            arrays.insert(0, ("net_sigmoid", "int16_t", [str(v) for v in SIGMOID]))
        return arrays
