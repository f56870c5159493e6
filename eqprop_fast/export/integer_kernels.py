"""Loops of `Simulation`: csrc/embedded/runtime.c in integers, compiled by Numba where it is there.

Sums have 64 bits here. That they never leave 32 is what `integers.quantize` sees to, and what the
tests hold both to; then order and width of additions change no bit.
"""

from __future__ import annotations

import numpy as np

from ..kernels.spec import ACTIVATIONS as CODES
from .integers import LARGEST, MAX_BIAS, SIGMOID

try:
    from ..kernels.jit.compile import kernel
except ImportError:  # without Numba slow, but the same
    kernel = None


def jit(function):
    return function if kernel is None else kernel(function, strict=True)


SHIFTED_SIGMOID, HARD, TANH = CODES["shifted_sigmoid"], CODES["hard_sigmoid"], CODES["tanh"]
SIGMOID_CODE, RELU, HALF_HARD = CODES["sigmoid"], CODES["relu"], CODES["half_hard_sigmoid"]
CENTERED, WIDE = CODES["centered_hard_sigmoid"], CODES["wide_hard_sigmoid"]
# columns of the layers' table
N_IN, N_OUT, WEIGHTS, UNITS, ACTIVATION, FIELD_BITS, STATE_BITS, UP, DOWN, RATE_BITS = range(10)


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
def _slope(field, shift):
    return _clip(_round(field, shift), -(1 << 20), 1 << 20)


@jit
def _rho(code, bits, state_bits, field):
    shift, one = bits - state_bits, 1 << state_bits
    if code == HARD:
        return _clip(_round(field, shift), 0, one)
    if code == SHIFTED_SIGMOID:
        return _logistic(_slope(field, bits - 14) - 8192)
    if code == TANH:
        return 2 * _logistic(_slope(field, bits - 13)) - 16384
    if code == SIGMOID_CODE:
        return _logistic(_slope(field, bits - 12))
    if code == RELU:
        return _clip(_round(field, shift), 0, LARGEST)
    if code == HALF_HARD:
        return _clip(_round(field, shift + 1), 0, one)
    if code == CENTERED:
        return _clip(_round(field, shift), -(one >> 1), one >> 1)
    if code == WIDE:
        return _clip(_round(field, shift), -one, LARGEST)
    return _clip(_round(field, shift), -LARGEST, LARGEST)


@jit
def _begin(x, layers, forward, biases, drive, states):
    n_out, up = layers[0, N_OUT], layers[0, UP]
    for j in range(n_out):
        drive[j] = biases[j] >> (24 - layers[0, FIELD_BITS])
    for i in range(layers[0, N_IN]):
        s = np.int64(x[i])
        if s != 0:
            row = forward[i * n_out : (i + 1) * n_out]
            for j in range(n_out):
                drive[j] += (row[j] * s) >> up
    states[:] = 0


@jit
def _fields(k, layers, forward, biases, drive, states, field):
    """Fields of all units of layer k."""
    n_out, units = layers[k, N_OUT], layers[k, UNITS]
    if k == 0:
        for j in range(n_out):
            field[j] = drive[j]
    else:
        start, below = layers[k, WEIGHTS], layers[k - 1, UNITS]
        for j in range(n_out):
            field[j] = biases[units + j] >> (24 - layers[k, FIELD_BITS])
        for i in range(layers[k, N_IN]):
            s = np.int64(states[below + i])
            row = forward[start + i * n_out : start + (i + 1) * n_out]
            for j in range(n_out):
                field[j] += (row[j] * s) >> layers[k, UP]
    if k + 1 < len(layers):
        start, above, n = layers[k + 1, WEIGHTS], layers[k + 1, UNITS], layers[k + 1, N_OUT]
        for j in range(n_out):
            row = forward[start + j * n : start + (j + 1) * n]
            total = np.int64(0)
            for i in range(n):
                total += (row[i] * np.int64(states[above + i])) >> layers[k, DOWN]
            field[j] += total


@jit
def _sweeps(
    layers,
    forward,
    biases,
    passes,
    step,
    n_steps,
    tol,
    target,
    force,
    inside,
    nudge,
    drive,
    states,
    scores,
    field,
    new,
):
    """Relax; returns steps and residual."""
    n = len(layers)
    change = np.int64(0)
    for done in range(n_steps):
        change = np.int64(0)
        for first in range(passes):
            for k in range(first, n, passes):
                _fields(k, layers, forward, biases, drive, states, field)
                units, bits, state_bits = (
                    layers[k, UNITS],
                    layers[k, FIELD_BITS],
                    layers[k, STATE_BITS],
                )
                last = k == n - 1
                for j in range(layers[k, N_OUT]):
                    s, push = np.int64(states[units + j]), np.int64(0)
                    if nudge != 0 and last:
                        push = nudge * _round(force * (np.int64(target[j]) - s), 12)
                    if inside:
                        field[j] += push << (bits - state_bits)
                    if last:
                        scores[j] = field[j]
                    value = _rho(layers[k, ACTIVATION], bits, state_bits, field[j])
                    if not inside:
                        value += push
                    value = _clip(value, -LARGEST, LARGEST)
                    if step != 4096:
                        value = _clip(s + _round(step * (value - s), 12), -LARGEST, LARGEST)
                    change = max(change, abs(value - s) << (14 - state_bits))
                    new[units + j] = value
                if passes > 1:  # layers of one pass do not meet
                    for j in range(units, units + layers[k, N_OUT]):
                        states[j] = new[j]
            if passes == 1:
                states[:] = new
        if change <= tol:
            return done + 1, min(change, LARGEST)
    return n_steps, min(change, LARGEST)


@jit
def relax_rows(
    x, layers, forward, biases, passes, step, n_steps, tol, states, scores, steps, residual
):
    drive = np.zeros(layers[0, N_OUT], np.int64)
    field = np.zeros(layers[:, N_OUT].max(), np.int64)
    new = np.zeros(states.shape[1], np.int32)
    no_target = np.zeros(scores.shape[1], np.int16)
    for r in range(len(x)):
        _begin(x[r], layers, forward, biases, drive, states[r])
        steps[r], residual[r] = _sweeps(
            layers,
            forward,
            biases,
            passes,
            step,
            n_steps,
            tol,
            no_target,
            np.int64(0),
            False,
            np.int64(0),
            drive,
            states[r],
            scores[r],
            field,
            new,
        )


@jit
def _random(state):
    r = np.int64(state[0])
    r = (r ^ (r << 13)) & 0xFFFFFFFF
    r = r ^ (r >> 17)
    r = (r ^ (r << 5)) & 0xFFFFFFFF
    state[0] = r
    return r


@jit
def _update(x, layers, weights, forward, narrow, biases, rates, plus, minus, random):
    for k in range(len(layers)):
        n_in, n_out, units = layers[k, N_IN], layers[k, N_OUT], layers[k, UNITS]
        mantissa, shift = rates[k, 0], rates[k, 1] + layers[k, RATE_BITS]
        for i in range(n_in):
            if k == 0:
                p = m = np.int64(x[i])
            else:
                below = layers[k - 1, UNITS] + i
                p, m = np.int64(plus[below]), np.int64(minus[below])
            if p == 0 and m == 0:
                continue
            dither = _random(random)
            start = layers[k, WEIGHTS] + i * n_out
            for j in range(n_out):
                step = (p * plus[units + j] - m * minus[units + j] + 16) >> 5
                step = (step * mantissa + (dither >> (32 - shift))) >> shift
                value = _clip(weights[start + j] + step, -LARGEST, LARGEST)
                weights[start + j] = value
                if narrow:
                    forward[start + j] = min((value + 128) >> 8, 127)
                dither = (dither + 0x9E3779B9) & 0xFFFFFFFF
        dither, shift = _random(random), rates[k, 1] + layers[k, STATE_BITS] - 24
        for j in range(n_out):
            step = (np.int64(plus[units + j]) - minus[units + j]) * mantissa
            if shift > 0:
                step = (step + (dither >> (32 - shift))) >> shift
            else:
                step = step << -shift
            biases[units + j] = _clip(biases[units + j] + step, -MAX_BIAS, MAX_BIAS)
            dither = (dither + 0x9E3779B9) & 0xFFFFFFFF


@jit
def learn_rows(
    x,
    target,
    layers,
    weights,
    forward,
    narrow,
    biases,
    passes,
    step,
    n_steps,
    tol,
    force,
    inside,
    centered,
    random_sign,
    first_sign,
    rates,
    random,
):
    n_units = len(biases)
    drive = np.zeros(layers[0, N_OUT], np.int64)
    field = np.zeros(layers[:, N_OUT].max(), np.int64)
    new, states = np.zeros(n_units, np.int32), np.zeros(n_units, np.int32)
    scores = np.zeros(target.shape[1], np.int32)
    for r in range(len(x)):
        _begin(x[r], layers, forward, biases, drive, states)
        _sweeps(
            layers,
            forward,
            biases,
            passes,
            step[0],
            n_steps[0],
            tol[0],
            target[r],
            np.int64(0),
            False,
            np.int64(0),
            drive,
            states,
            scores,
            field,
            new,
        )
        sign = first_sign
        if random_sign and _random(random) >> 31:
            sign = -sign
        free = states.copy()
        _sweeps(
            layers,
            forward,
            biases,
            passes,
            step[1],
            n_steps[1],
            tol[1],
            target[r],
            force,
            inside,
            sign,
            drive,
            states,
            scores,
            field,
            new,
        )
        plus, minus = states, free
        if centered:
            minus = free.copy()
            _sweeps(
                layers,
                forward,
                biases,
                passes,
                step[1],
                n_steps[1],
                tol[1],
                target[r],
                force,
                inside,
                -sign,
                drive,
                minus,
                scores,
                field,
                new,
            )
        if sign < 0:
            plus, minus = minus, plus
        _update(x[r], layers, weights, forward, narrow, biases, rates, plus, minus, random)
