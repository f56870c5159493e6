"""Loops of `Simulation`: csrc/embedded/runtime.c in integers, compiled by Numba where it is there.

Sums have 64 bits here. That they never leave 32 is what `integers.quantize` sees to, and what the
tests hold both to; then order and width of additions change no bit.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .integers import LARGEST, MAX_BIAS, SIGMOID

try:
    from ..kernels.jit.compile import kernel
except ImportError:  # without Numba slow, but the same
    kernel = None


def jit(function):
    return function if kernel is None else kernel(function, strict=True)


LAYER = np.dtype(
    [
        (name, np.int64)
        for name in (
            "n_in n_out weights units field_bits state_bits up down rate_bits "
            "slope low high offset curved mantissa shift"
        ).split()
    ]
)  # net_layer of runtime.c, with the rate of its layer


class Net(NamedTuple):
    """A device.

    `forward` are the weights as they act; where they are not those that learn, they follow those
    (`narrow`). `passes` as NET_PASSES.
    """

    layers: np.ndarray  # of LAYER
    weights: np.ndarray
    forward: np.ndarray
    biases: np.ndarray
    random: np.ndarray  # one number
    passes: int
    narrow: bool


class Phase(NamedTuple):
    """A free or nudged relaxation; `force` is 0 in the free one."""

    step: int
    n_steps: int
    tol: int
    force: int
    inside: bool


class Contrast(NamedTuple):
    """Which equilibria a learning step compares."""

    centered: bool
    random_sign: bool
    first_sign: int


class Work(NamedTuple):
    """What one sample needs while it relaxes."""

    drive: np.ndarray
    field: np.ndarray
    new: np.ndarray
    target: np.ndarray


def work(net, n_outputs):
    wide = int(net.layers.n_out.max())
    return Work(
        np.zeros(int(net.layers.n_out[0]), np.int64),
        np.zeros(wide, np.int64),
        np.zeros(len(net.biases), np.int32),
        np.zeros(n_outputs, np.int64),
    )


@jit
def _clip(x, low, high):
    return min(max(x, low), high)


@jit
def _round(x, shift):
    return x if shift == 0 else (x >> shift) + ((x >> (shift - 1)) & 1)


@jit
def _logistic(t):
    size = min(abs(t), 12 * 4096 - 1)
    i, part = size >> 8, size & 255
    y = SIGMOID[i] + (((SIGMOID[i + 1] - SIGMOID[i]) * part + 128) >> 8)
    return 16384 - y if t < 0 else y


@jit
def _rho(layer, field):
    a = _round(field, layer.slope)
    if layer.curved:
        y = _logistic(_clip(a, -(1 << 20), 1 << 20) - layer.offset)
        return layer.low + ((y * (layer.high - layer.low)) >> 14)
    return _clip(a, layer.low, layer.high)


@jit
def _begin(x, net, drive, states):
    layer = net.layers[0]
    for j in range(layer.n_out):
        drive[j] = net.biases[j] >> (24 - layer.field_bits)
    for i in range(layer.n_in):
        s = np.int64(x[i])
        if s != 0:
            row = net.forward[i * layer.n_out : (i + 1) * layer.n_out]
            for j in range(layer.n_out):
                drive[j] += (row[j] * s) >> layer.up
    states[:] = 0


@jit
def _fields(k, net, drive, states, field):
    """Fields of all units of layer k."""
    layer = net.layers[k]
    if k == 0:
        for j in range(layer.n_out):
            field[j] = drive[j]
    else:
        below = net.layers[k - 1].units
        for j in range(layer.n_out):
            field[j] = net.biases[layer.units + j] >> (24 - layer.field_bits)
        for i in range(layer.n_in):
            s, start = np.int64(states[below + i]), layer.weights + i * layer.n_out
            row = net.forward[start : start + layer.n_out]
            for j in range(layer.n_out):
                field[j] += (row[j] * s) >> layer.up
    if k + 1 < len(net.layers):
        above = net.layers[k + 1]
        for j in range(layer.n_out):
            start = above.weights + j * above.n_out
            row = net.forward[start : start + above.n_out]
            total = np.int64(0)
            for i in range(above.n_out):
                total += (row[i] * np.int64(states[above.units + i])) >> layer.down
            field[j] += total


@jit
def _move(k, net, phase, nudge, work, states, scores):
    """New states of layer k, in `work.new`; the largest change."""
    layer, change = net.layers[k], np.int64(0)
    last = k == len(net.layers) - 1
    _fields(k, net, work.drive, states, work.field)
    for j in range(layer.n_out):
        s, push, field = np.int64(states[layer.units + j]), np.int64(0), work.field[j]
        if nudge != 0 and last:
            push = nudge * _round(phase.force * (work.target[j] - s), 12)
        if phase.inside:
            field += push << (layer.field_bits - layer.state_bits)
        if last:
            scores[j] = field
        value = _rho(layer, field)
        if not phase.inside:
            value += push
        value = _clip(value, -LARGEST, LARGEST)
        if phase.step != 4096:
            value = _clip(s + _round(phase.step * (value - s), 12), -LARGEST, LARGEST)
        change = max(change, abs(value - s) << (14 - layer.state_bits))
        work.new[layer.units + j] = value
    return change


@jit
def _sweeps(net, phase, nudge, work, states, scores):
    """Relax; returns steps and residual."""
    change = np.int64(0)
    for done in range(phase.n_steps):
        change = np.int64(0)
        for first in range(net.passes):
            for k in range(first, len(net.layers), net.passes):
                change = max(change, _move(k, net, phase, nudge, work, states, scores))
                if net.passes > 1:  # layers of one pass do not meet
                    start, stop = net.layers[k].units, net.layers[k].units + net.layers[k].n_out
                    states[start:stop] = work.new[start:stop]
            if net.passes == 1:
                states[:] = work.new
        if change <= phase.tol:
            return done + 1, min(change, LARGEST)
    return phase.n_steps, min(change, LARGEST)


@jit
def relax_rows(x, net, phase, work, states, scores, steps, residual):
    for r in range(len(x)):
        _begin(x[r], net, work.drive, states[r])
        steps[r], residual[r] = _sweeps(net, phase, np.int64(0), work, states[r], scores[r])


@jit
def _random(state):
    r = np.int64(state[0])
    r = (r ^ (r << 13)) & 0xFFFFFFFF
    r = r ^ (r >> 17)
    r = (r ^ (r << 5)) & 0xFFFFFFFF
    state[0] = r
    return r


@jit
def _update_weights(k, x, net, plus, minus):
    layer = net.layers[k]
    units, n_out, shift = layer.units, layer.n_out, layer.shift + layer.rate_bits
    for i in range(layer.n_in):
        if k == 0:
            p = m = np.int64(x[i])
        else:
            below = net.layers[k - 1].units + i
            p, m = np.int64(plus[below]), np.int64(minus[below])
        if p == 0 and m == 0:
            continue
        dither, start = _random(net.random), layer.weights + i * n_out
        for j in range(n_out):
            step = (p * plus[units + j] - m * minus[units + j] + 16) >> 5
            step = (step * layer.mantissa + (dither >> (32 - shift))) >> shift
            value = _clip(net.weights[start + j] + step, -LARGEST, LARGEST)
            net.weights[start + j] = value
            if net.narrow:
                net.forward[start + j] = min((value + 128) >> 8, 127)
            dither = (dither + 0x9E3779B9) & 0xFFFFFFFF


@jit
def _update(x, net, plus, minus):
    for k in range(len(net.layers)):
        _update_weights(k, x, net, plus, minus)
        layer = net.layers[k]
        dither, shift = _random(net.random), layer.shift + layer.state_bits - 24
        for j in range(layer.units, layer.units + layer.n_out):
            step = (np.int64(plus[j]) - minus[j]) * layer.mantissa
            if shift > 0:
                step = (step + (dither >> (32 - shift))) >> shift
            else:
                step = step << -shift
            net.biases[j] = _clip(net.biases[j] + step, -MAX_BIAS, MAX_BIAS)
            dither = (dither + 0x9E3779B9) & 0xFFFFFFFF


@jit
def learn_rows(x, targets, net, free, nudged, contrast, work):
    states = np.zeros(len(net.biases), np.int32)
    scores = np.zeros(targets.shape[1], np.int32)
    for r in range(len(x)):
        work.target[:] = targets[r]
        _begin(x[r], net, work.drive, states)
        _sweeps(net, free, np.int64(0), work, states, scores)
        sign = contrast.first_sign
        if contrast.random_sign and _random(net.random) >> 31:
            sign = -sign
        plus, minus = states, states.copy()
        _sweeps(net, nudged, sign, work, plus, scores)
        if contrast.centered:
            _sweeps(net, nudged, -sign, work, minus, scores)
        if sign < 0:
            plus, minus = minus, plus
        _update(x[r], net, plus, minus)
