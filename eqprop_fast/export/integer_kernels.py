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
            "slope low high offset curved mantissa shift "
            "biases cells rows columns channels height width kernel stride padding window largest cut"
        ).split()
    ]
)  # net_layer of runtime.c, with the rate of its layer


class Net(NamedTuple):
    """A device.

    `forward` are the weights as they act; where they are not those that learn, they follow those
    (`narrow`). `passes` and `moving` as NET_PASSES and NET_MOVING: layers with a state of their own,
    all but a read-out.
    """

    layers: np.ndarray  # of LAYER
    weights: np.ndarray
    forward: np.ndarray
    biases: np.ndarray
    random: np.ndarray  # one number
    passes: int
    moving: int
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
    where: np.ndarray  # of maps whose maxima are pooled: which one of its square was the largest


def work(net, n_outputs):
    wide = int(net.layers.n_out.max())
    return Work(
        np.zeros(int(net.layers.n_out[0]), np.int64),
        np.zeros(wide, np.int64),
        np.zeros(n_units(net), np.int32),
        np.zeros(n_outputs, np.int64),
        np.zeros(n_units(net), np.uint8),
    )


def n_units(net):
    return int(net.layers.n_out.sum())


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


# ---- maps: csrc/embedded/maps.c ----


@jit
def _mean(x, n):
    """As C divides: towards 0."""
    return x // n if x >= 0 else -(-x // n)


@jit
def _bias(net, layer, j):
    return net.biases[layer.biases + j // layer.cells] >> (24 - layer.field_bits)


@jit
def _window(layer, w, start, s, base, y, x):
    side, total = layer.kernel, np.int64(0)
    for c in range(layer.channels):
        for v in range(max(0, -y), min(side, layer.height - y)):
            row = base + (c * layer.height + y + v) * layer.width + x
            place = start + (c * side + v) * side
            for u in range(max(0, -x), min(side, layer.width - x)):
                total += (w[place + u] * np.int64(s[row + u])) >> layer.up
    return total


@jit
def _from_below(net, layer, s, base, j, where):
    n, cell = layer.window, j % layer.cells
    start = layer.weights + j // layer.cells * layer.channels * layer.kernel**2
    found = np.int64(0)
    for q in range(n * n):
        y = (cell // layer.columns * n + q // n) * layer.stride - layer.padding
        x = (cell % layer.columns * n + q % n) * layer.stride - layer.padding
        z = _window(layer, net.forward, start, s, base, y, x)
        if not layer.largest:
            found += z
        elif q == 0 or z > found:
            found = z
            where[layer.units + j] = q
    if not layer.largest:
        found = _mean(found, n * n)
    return found + _bias(net, layer, j)


@jit
def _from_above(net, layer, down, states, where, j):
    """`layer` is the one above; `down` the shift of the one that listens."""
    area, side, n = layer.height * layer.width, layer.kernel, layer.window
    c, y, x = j // area, j % area // layer.width + layer.padding, j % layer.width + layer.padding
    total = np.int64(0)
    for v in range(min(side, y + 1)):
        row = (y - v) // layer.stride
        if row * layer.stride != y - v or row >= layer.rows * n:
            continue
        for u in range(min(side, x + 1)):
            column = (x - u) // layer.stride
            if column * layer.stride != x - u or column >= layer.columns * n:
                continue
            unit = layer.units + row // n * layer.columns + column // n
            place = row % n * n + column % n
            for o in range(layer.n_out // layer.cells):
                if not layer.largest or where[unit] == place:
                    w = layer.weights + ((o * layer.channels + c) * side + v) * side + u
                    total += (net.forward[w] * np.int64(states[unit])) >> down
                unit += layer.cells
    return total if layer.largest else _mean(total, n * n)


@jit
def _find(net, states, where):
    for k in range(1, len(net.layers)):
        layer = net.layers[k]
        if layer.largest:
            for j in range(layer.n_out):
                _from_below(net, layer, states, net.layers[k - 1].units, j, where)


# ---- relaxation ----


@jit
def _begin(x, net, work, states):
    layer, drive = net.layers[0], work.drive
    work.where[:] = 0
    states[:] = 0
    if layer.kernel > 0:
        for j in range(layer.n_out):
            drive[j] = _from_below(net, layer, x, 0, j, work.where)
        return
    for j in range(layer.n_out):
        drive[j] = _bias(net, layer, j)
    for i in range(layer.n_in):
        s = np.int64(x[i])
        if s != 0:
            row = net.forward[i * layer.n_out : (i + 1) * layer.n_out]
            for j in range(layer.n_out):
                drive[j] += (row[j] * s) >> layer.up


@jit
def _fields(k, net, work, states, nudge):
    """Fields of all units of layer k."""
    layer, field = net.layers[k], work.field
    if k == 0:
        for j in range(layer.n_out):
            field[j] = work.drive[j]
    elif layer.kernel > 0:
        for j in range(layer.n_out):
            field[j] = _from_below(net, layer, states, net.layers[k - 1].units, j, work.where)
    else:
        below = net.layers[k - 1].units
        for j in range(layer.n_out):
            field[j] = _bias(net, layer, j)
        for i in range(layer.n_in):
            s, start = np.int64(states[below + i]), layer.weights + i * layer.n_out
            row = net.forward[start : start + layer.n_out]
            for j in range(layer.n_out):
                field[j] += (row[j] * s) >> layer.up
    if k + 1 == len(net.layers) or k + 1 == net.moving and nudge == 0:
        return
    above = net.layers[k + 1]
    for j in range(layer.n_out):
        if above.kernel > 0:
            field[j] += _from_above(net, above, layer.down, states, work.where, j)
            continue
        start = above.weights + j * above.n_out
        row = net.forward[start : start + above.n_out]
        total = np.int64(0)
        for i in range(above.n_out):
            total += (row[i] * np.int64(states[above.units + i])) >> layer.down
        field[j] += total


@jit
def _read(net, work, states, scores):
    """csrc/embedded/readout.c"""
    k = len(net.layers) - 1
    layer = net.layers[k]
    _fields(k, net, work, states, np.int64(0))
    for j in range(layer.n_out):
        scores[j] = work.field[j]
        states[layer.units + j] = _clip(_rho(layer, work.field[j]), -LARGEST, LARGEST)


@jit
def _pull(net, phase, nudge, work, states, scores):
    _read(net, work, states, scores)
    units = net.layers[len(net.layers) - 1].units
    for j in range(len(scores)):
        force = nudge * _round(phase.force * (work.target[j] - np.int64(states[units + j])), 12)
        states[units + j] = _clip(force, -LARGEST, LARGEST)


@jit
def _move(k, net, phase, nudge, work, states, scores):
    """New states of layer k, in `work.new`; the largest change."""
    layer, change = net.layers[k], np.int64(0)
    last = k == len(net.layers) - 1
    if nudge != 0 and not last and k + 1 == net.moving:
        _pull(net, phase, nudge, work, states, scores)
    _fields(k, net, work, states, nudge)
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
            for i in range(first, net.moving, net.passes):
                # all at once: places of maxima are written before those below read them
                k = net.moving - 1 - i if net.passes == 1 else i
                change = max(change, _move(k, net, phase, nudge, work, states, scores))
                if net.passes > 1:  # layers of one pass do not meet
                    start, stop = net.layers[k].units, net.layers[k].units + net.layers[k].n_out
                    states[start:stop] = work.new[start:stop]
            if net.passes == 1:
                top = net.layers[net.moving - 1]
                states[: top.units + top.n_out] = work.new[: top.units + top.n_out]
        if change <= phase.tol:
            return done + 1, min(change, LARGEST)
    return phase.n_steps, min(change, LARGEST)


@jit
def relax_rows(x, net, phase, work, states, scores, steps, residual):
    for r in range(len(x)):
        _begin(x[r], net, work, states[r])
        steps[r], residual[r] = _sweeps(net, phase, np.int64(0), work, states[r], scores[r])
        if net.moving < len(net.layers):
            _read(net, work, states[r], scores[r])


# ---- learning ----


@jit
def _random(state):
    r = np.int64(state[0])
    r = (r ^ (r << 13)) & 0xFFFFFFFF
    r = r ^ (r >> 17)
    r = (r ^ (r << 5)) & 0xFFFFFFFF
    state[0] = r
    return r


@jit
def _step_weight(net, i, step):
    value = _clip(net.weights[i] + step, -LARGEST, LARGEST)
    net.weights[i] = value
    if net.narrow:
        net.forward[i] = min((value + 128) >> 8, 127)


@jit
def _seen(layer, s, base, where, j, c, v, u):
    """net_seen of csrc/embedded/maps_learn.c"""
    n, cell, total = layer.window, j % layer.cells, np.int64(0)
    q, last = 0, n * n
    if layer.largest:
        q, last = where[layer.units + j], where[layer.units + j] + 1
    for place in range(q, last):
        row = (cell // layer.columns * n + place // n) * layer.stride + v - layer.padding
        column = (cell % layer.columns * n + place % n) * layer.stride + u - layer.padding
        if 0 <= row < layer.height and 0 <= column < layer.width:
            total += s[base + (c * layer.height + row) * layer.width + column]
    return total if layer.largest else _mean(total, n * n)


@jit
def _update_kernels(k, x, net, plus, minus, at_plus, at_minus):
    layer = net.layers[k]
    side, shift, base, i = layer.kernel, layer.shift + layer.rate_bits, 0, layer.weights
    low_plus, low_minus = x, x
    if k > 0:
        low_plus, low_minus, base = plus, minus, net.layers[k - 1].units
    for o in range(0, layer.n_out, layer.cells):
        for c in range(layer.channels):
            dither = _random(net.random)
            for place in range(side * side):
                moved, v, u = np.int64(0), place // side, place % side
                for j in range(o, o + layer.cells):
                    p, m = np.int64(plus[layer.units + j]), np.int64(minus[layer.units + j])
                    if p == 0 and m == 0:
                        continue
                    product = p * _seen(layer, low_plus, base, at_plus, j, c, v, u)
                    product -= m * _seen(layer, low_minus, base, at_minus, j, c, v, u)
                    moved += _round(product, layer.cut)
                moved = (moved * layer.mantissa + (dither >> (32 - shift))) >> shift
                _step_weight(net, i, moved)
                dither, i = (dither + 0x9E3779B9) & 0xFFFFFFFF, i + 1


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
            _step_weight(net, start + j, step)
            dither = (dither + 0x9E3779B9) & 0xFFFFFFFF


@jit
def _update(x, net, plus, minus, at_plus, at_minus):
    for k in range(len(net.layers)):
        layer = net.layers[k]
        if layer.kernel > 0:
            _update_kernels(k, x, net, plus, minus, at_plus, at_minus)
        else:
            _update_weights(k, x, net, plus, minus)
        dither, shift = _random(net.random), layer.shift + layer.state_bits - 24
        for first in range(0, layer.n_out, layer.cells):
            step, i = np.int64(0), layer.biases + first // layer.cells
            for j in range(layer.units + first, layer.units + first + layer.cells):
                step += np.int64(plus[j]) - minus[j]
            step = _clip(step, -65535, 65535) * layer.mantissa
            if shift > 0:
                step = (step + (dither >> (32 - shift))) >> shift
            else:
                step = step << -shift
            net.biases[i] = _clip(net.biases[i] + step, -MAX_BIAS, MAX_BIAS)
            dither = (dither + 0x9E3779B9) & 0xFFFFFFFF


@jit
def _phase(net, phase, nudge, work, states, scores):
    """Relax, and make ready what is learned by."""
    _sweeps(net, phase, nudge, work, states, scores)
    if nudge != 0 and net.moving < len(net.layers):
        _pull(net, phase, nudge, work, states, scores)
    _find(net, states, work.where)


@jit
def learn_rows(x, targets, net, free, nudged, contrast, work):
    states = np.zeros(len(work.new), np.int32)
    scores = np.zeros(targets.shape[1], np.int32)
    for r in range(len(x)):
        work.target[:] = targets[r]
        _begin(x[r], net, work, states)
        _phase(net, free, np.int64(0), work, states, scores)
        sign = contrast.first_sign
        if contrast.random_sign and _random(net.random) >> 31:
            sign = -sign
        plus, minus = states, states.copy()
        at_minus = work.where.copy()
        _phase(net, nudged, sign, work, plus, scores)
        at_plus = work.where.copy()
        if contrast.centered:
            work.where[:] = at_minus
            _phase(net, nudged, -sign, work, minus, scores)
            at_minus = work.where.copy()
        if sign < 0:
            plus, minus = minus, plus
            at_plus, at_minus = at_minus, at_plus
        _update(x[r], net, plus, minus, at_plus, at_minus)
