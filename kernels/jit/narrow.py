"""Fields of one hidden layer under at most NARROW_MAX outputs, in one pass over the hidden units.

A vector of feedback weights serves both ways while it is in a register: times an output it adds to
the field of the hidden units, times what these show it adds to the field of the output. Against two
products (products.py) this halves the loads. The outputs' sums run over lanes first: they round
differently from `add_dots`.
"""

from typing import Any, NamedTuple

from .compile import JIT_DISABLED, array_data, intrinsic, kernel, types
from .layout import LANES, NARROW_GROUP, NARROW_MAX
from .vectors import N_REGISTERS, Vectors, sum_loop
from .views import array

PASS_SAMPLES = 2 if N_REGISTERS >= 32 else 1  # as many as have their sums in registers


def _lane_sums(vec, vectors):
    """One vector whose lane k is the sum of the lanes of vectors[k]; no more vectors than lanes."""
    width = 1
    while width < vec.lanes:  # lanes hold sums of `width`, of one vector after the other
        halves = [
            [i - i // width % 2 * width + half * width + i // width % 2 * vec.lanes for i in range(vec.lanes)]
            for half in range(2)
        ]
        paired = []
        for k in range(0, len(vectors), 2):
            a, b = vectors[k], vectors[k + 1] if k + 1 < len(vectors) else vec.zero
            paired.append(vec.builder.fadd(*(vec.shuffle(a, b, half) for half in halves)))
        vectors, width = paired, 2 * width
    return vectors[0]


class Sample(NamedTuple):
    """Pointers to what the pass reads and writes of a sample."""

    drive: Any
    hidden_field: Any
    hidden: Any
    out: Any
    out_field: Any


class Weights(NamedTuple):
    """Pointers to the outputs' bias and to the weights, and strides of their rows."""

    bias: Any
    down: Any
    down_row: Any
    up: Any
    up_row: Any


def _build_pass(builder, real, tied, n_out, samples, weights, n):
    """IR of the pass over the n hidden units, padded, of `samples`."""
    vec = Vectors(builder, real)

    def place(pointer, i):
        return builder.gep(pointer, [i])

    down_rows, up_rows = (
        [place(block, builder.mul(stride, n.type(k))) for k in range(n_out)]
        for block, stride in ((weights.down, weights.down_row), (weights.up, weights.up_row))
    )

    def add_units(c, sums):
        field = [vec.load(place(sample.drive, c)) for sample in samples]
        shown = [vec.load(place(sample.hidden, c)) for sample in samples]
        new = list(sums)
        for k in range(n_out):
            w = vec.load(place(down_rows[k], c))
            v = w if tied else vec.load(place(up_rows[k], c))
            for s, sample in enumerate(samples):
                field[s] = vec.fma(vec.splat(place(sample.out, n.type(k))), w, field[s])
                new[s * n_out + k] = vec.fma(v, shown[s], sums[s * n_out + k])
        for value, sample in zip(field, samples, strict=True):
            vec.store(value, place(sample.hidden_field, c))
        return new

    sums = sum_loop(builder, n, vec.lanes, [vec.zero] * (n_out * len(samples)), add_units)
    for s, sample in enumerate(samples):
        own = sums[s * n_out : (s + 1) * n_out]
        for k in range(0, n_out, vec.lanes):
            total, at = _lane_sums(vec, own[k : k + vec.lanes]), n.type(k)
            vec.store(builder.fadd(total, vec.load(place(weights.bias, at))), place(sample.out_field, at))


def _make_pass(samples, n_out, tied):
    if JIT_DISABLED:

        def both(drive, field, shown, active, a, n, bias, packed, places):
            down, down_row, up, up_row = places
            for b in active[a : a + samples]:
                field[b, :n] = drive[b, :n]
                for k in range(n_out):
                    field[b, :n] += shown[b, n + k] * packed[down + k * down_row :][:n]
                    w = packed[up + k * up_row :][:n]
                    field[b, n + k] = bias[n + k] + w @ shown[b, :n]

        return both

    @intrinsic
    def both(typingctx, drive, field, shown, active, a, n, bias, packed, places):
        """Fields of the samples active[a], ...: hidden units in columns 0..n, padded, outputs from
        n on.

        `places`: start and row stride of the weights downwards, then upwards, in `packed`.
        """
        index = types.intp
        signature = types.none(drive, field, shown, active, index, index, bias, packed, places)

        def codegen(context, builder, signature, args):
            kinds, a, n = signature.args, args[4], args[5]
            down, down_row, up, up_row = (builder.extract_value(args[8], i) for i in range(4))
            none = n.type(0)
            found = []
            for g in range(samples):
                b = builder.load(array_data(context, builder, kinds[3], args[3], builder.add(a, a.type(g))))
                places = ((0, none), (1, none), (2, none), (2, n), (1, n))
                found.append(
                    Sample(*(array_data(context, builder, kinds[i], args[i], b, c) for i, c in places))
                )
            bias = array_data(context, builder, kinds[6], args[6], n)
            down, up = (array_data(context, builder, kinds[7], args[7], at) for at in (down, up))
            real, weights = context.get_data_type(kinds[7].dtype), Weights(bias, down, down_row, up, up_row)
            _build_pass(builder, real, tied, n_out, found, weights, n)
            return context.get_dummy_value()

        return signature, codegen

    return both


def _pass_of_any(n_out, tied):
    one, several = _make_pass(1, n_out, tied), _make_pass(PASS_SAMPLES, n_out, tied)

    @kernel(inline=True)
    def both(drive, field, shown, active, n, bias, packed, places):
        """The pass over the samples `active`, as many at a time as can be."""
        a = 0
        while a < active.size:
            if active.size - a >= PASS_SAMPLES:
                several(drive, field, shown, active, a, n, bias, packed, places)
                a += PASS_SAMPLES
            else:
                one(drive, field, shown, active, a, n, bias, packed, places)
                a += 1

    return both


_few, _tied = _pass_of_any(NARROW_GROUP, True), _pass_of_any(NARROW_MAX, True)
_free = _pass_of_any(NARROW_MAX, False)


@kernel(inline=True)
def is_narrow(net):
    """Whether the passes of this file serve: one hidden layer under few outputs."""
    layers = array(net.layers)
    return layers.size == 3 and layers[2].copy.start < 0 and layers[2].size <= NARROW_MAX


@kernel
def narrow_fields(job, net, shown, active):
    """`fields` of both layers at once, for the samples `active` of a network that `is_narrow`."""
    layers, drive, field = array(net.layers), array(net.drive), array(net.field)
    bias, packed = array(net.bias), array(net.packed)
    n = layers[2].offset  # the hidden units come first, padded
    down, up = layers[1].down, layers[2].transpose
    places = down.start, down.row, up.start, up.row
    if job.back != 0:
        _free(drive, field, shown, active, n, bias, packed, places)
    elif layers[2].size <= NARROW_GROUP:
        _few(drive, field, shown, active, n, bias, packed, places)
    else:
        _tied(drive, field, shown, active, n, bias, packed, places)


@kernel
def keep_outputs(net, state, active, step):
    """Notes the outputs before step `step` behind the fields, in three places in turn."""
    field, output = array(net.field), array(net.layers)[2]
    o, n = output.offset, output.size
    at = o + LANES * (1 + step % 3)
    for a in range(active.size):
        b = active[a]
        for i in range(n):
            field[b, at + i] = state[b, o + i]


@kernel
def leave_alternating(net, state, active, step, n_steps, steps):
    """After step `step` of a plain synchronous map: moves the samples whose end is not known yet to
    the front of `active`; returns their number.

    If the outputs of two steps in a row repeat those of two steps before, bit for bit, then the
    hidden states repeat as well, and all from here on alternate: an even number of steps may be
    left out.
    """
    if step < 2 or (n_steps - step - 1) % 2 != 0:
        return active.size
    field, output = array(net.field), array(net.layers)[2]
    o, n = output.offset, output.size
    before, two_before = o + LANES * (1 + step % 3), o + LANES * (1 + (step - 1) % 3)
    three_before = o + LANES * (1 + (step - 2) % 3)
    left = 0
    for a in range(active.size):
        b = active[a]
        differ = False
        for i in range(n):
            differ |= state[b, o + i] != field[b, two_before + i]
            differ |= field[b, before + i] != field[b, three_before + i]
        if differ:
            active[left] = b
            left += 1
        else:
            steps[b] = n_steps
    return left
