"""Fields of one hidden layer under at most NARROW_MAX outputs, in one pass over the hidden units.

A vector of feedback weights serves both ways while it is in a register: times an output it adds to the field
of the hidden units, times what these show it adds to the field of the output. Against two products
(products.py) this halves the loads. The outputs' sums run over lanes first: they round differently from
`add_dots`.
"""

from .activations import ONE, ZERO
from .compile import JIT_DISABLED, array_data, intrinsic, ir, kernel, types
from .layout import (
    COPY,
    DOWN,
    DOWN_ROW,
    HAS_BACK,
    LANES,
    N_WEIGHTS,
    NARROW_GROUP,
    NARROW_MAX,
    OFFSET,
    SIZE,
    TRANSPOSE,
    TRANSPOSE_ROW,
)  # fmt: skip
from .tiles import N_REGISTERS, VECTOR_BYTES

PASS_SAMPLES = 2 if N_REGISTERS >= 32 else 1  # as many as have their sums in registers


def _lane_sums(builder, vectors, lanes):
    """One vector whose lane k is the sum of the lanes of vectors[k]; len(vectors) <= lanes."""
    kind, mask_kind = vectors[0].type, ir.VectorType(ir.IntType(32), lanes)
    width = 1
    while width < lanes:
        masks = [
            [
                i - i % (2 * width) + half * width + i % width + (lanes if i % (2 * width) >= width else 0)
                for i in range(lanes)
            ]
            for half in range(2)
        ]
        paired = []
        for k in range(0, len(vectors), 2):
            a = vectors[k]
            b = vectors[k + 1] if k + 1 < len(vectors) else ir.Constant(kind, [0.0] * lanes)
            halves = [builder.shuffle_vector(a, b, ir.Constant(mask_kind, mask)) for mask in masks]
            paired.append(builder.fadd(*halves))
        vectors, width = paired, 2 * width
    return vectors[0]


def _build_pass(builder, real, tied, n_out, drives, fields, showns, outs, targets, bias, down, down_row, up,
                up_row, n):  # fmt: skip
    """IR of the pass; lists of pointers, one per sample, `targets` to the outputs' fields."""
    size = 4 if isinstance(real, ir.FloatType) else 8
    lanes = VECTOR_BYTES // size
    vector, integer = ir.VectorType(real, lanes), n.type
    name = f"llvm.fmuladd.v{lanes}f{8 * size}"
    fma = builder.module.globals.get(name) or ir.Function(
        builder.module, ir.FunctionType(vector, [vector] * 3), name
    )

    def load(pointer):
        return builder.load(builder.bitcast(pointer, vector.as_pointer()), align=size)

    def store(value, pointer):
        builder.store(value, builder.bitcast(pointer, vector.as_pointer()), align=size)

    def at(pointer, i):
        return builder.gep(pointer, [i])

    lane_zero = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
    nothing, zero = ir.Constant(vector, ir.Undefined), ir.Constant(vector, [0.0] * lanes)

    def splat(pointer):
        x = builder.insert_element(nothing, builder.load(pointer), ir.Constant(ir.IntType(32), 0))
        return builder.shuffle_vector(x, nothing, lane_zero)

    rows = [[at(block, builder.mul(stride, ir.Constant(integer, k))) for k in range(n_out)]
            for block, stride in ((down, down_row), (up, up_row))]  # fmt: skip
    before = builder.block
    loop, after = builder.append_basic_block("units"), builder.append_basic_block("summed")
    builder.branch(loop)
    builder.position_at_end(loop)
    c = builder.phi(integer)
    c.add_incoming(ir.Constant(integer, 0), before)
    sums = [[builder.phi(vector) for _ in range(n_out)] for _ in drives]
    field = [load(at(d, c)) for d in drives]
    shown = [load(at(s, c)) for s in showns]
    new = [[None] * n_out for _ in drives]
    for k in range(n_out):
        w = load(at(rows[0][k], c))
        v = w if tied else load(at(rows[1][k], c))
        for s, out in enumerate(outs):
            field[s] = builder.call(fma, [splat(at(out, ir.Constant(integer, k))), w, field[s]])
            new[s][k] = builder.call(fma, [v, shown[s], sums[s][k]])
    for s, f in enumerate(fields):
        store(field[s], at(f, c))
    c_next = builder.add(c, ir.Constant(integer, lanes))
    c.add_incoming(c_next, loop)
    for s in range(len(drives)):
        for k in range(n_out):
            sums[s][k].add_incoming(zero, before)
            sums[s][k].add_incoming(new[s][k], loop)
    builder.cbranch(builder.icmp_signed("<", c_next, n), loop, after)
    builder.position_at_end(after)
    for s, target in enumerate(targets):
        for k in range(0, n_out, lanes):
            place = ir.Constant(integer, k)
            total = _lane_sums(builder, new[s][k : k + lanes], lanes)
            store(builder.fadd(total, load(at(bias, place))), at(target, place))


def _make_pass(samples, n_out, tied):
    if JIT_DISABLED:

        def both(drive, field, shown, active, a, offset, bias, packed, down, down_row, up, up_row, n):
            for b in active[a : a + samples]:
                field[b, :n] = drive[b, :n]
                for k in range(n_out):
                    field[b, :n] += shown[b, offset + k] * packed[down + k * down_row :][:n]
                    w = packed[up + k * up_row :][:n]
                    field[b, offset + k] = bias[offset + k] + w @ shown[b, :n]

        return both

    @intrinsic
    def both(typingctx, drive, field, shown, active, a, offset, bias, packed, down, down_row, up, up_row, n):
        """Fields of the samples active[a], ...: hidden units in columns 0..n, outputs from `offset` on."""
        index = types.intp
        signature = types.none(
            drive, field, shown, active, index, index, bias, packed, index, index, index, index, index
        )

        def codegen(context, builder, signature, args):
            kinds = signature.args
            a, offset, down, down_row, up, up_row, n = (args[i] for i in (4, 5, 8, 9, 10, 11, 12))
            none = a.type(0)
            drives, fields, showns, outs, targets = [], [], [], [], []
            for g in range(samples):
                b = builder.load(array_data(context, builder, kinds[3], args[3], builder.add(a, a.type(g))))
                drives.append(array_data(context, builder, kinds[0], args[0], b, none))
                fields.append(array_data(context, builder, kinds[1], args[1], b, none))
                showns.append(array_data(context, builder, kinds[2], args[2], b, none))
                outs.append(array_data(context, builder, kinds[2], args[2], b, offset))
                targets.append(array_data(context, builder, kinds[1], args[1], b, offset))
            bias = array_data(context, builder, kinds[6], args[6], offset)
            down = array_data(context, builder, kinds[7], args[7], down)
            up = array_data(context, builder, kinds[7], args[7], up)
            real = context.get_data_type(kinds[7].dtype)
            _build_pass(
                builder, real, tied, n_out, drives, fields, showns, outs, targets, bias, down, down_row, up,
                up_row, n,
            )  # fmt: skip
            return context.get_dummy_value()

        return signature, codegen

    return both


_few, _many = NARROW_GROUP, NARROW_MAX
_few_1, _few_2 = _make_pass(1, _few, True), _make_pass(PASS_SAMPLES, _few, True)
_tied_1, _tied_2 = _make_pass(1, _many, True), _make_pass(PASS_SAMPLES, _many, True)
_free_1, _free_2 = _make_pass(1, _many, False), _make_pass(PASS_SAMPLES, _many, False)


@kernel(inline=True)
def is_narrow(ints, layout):
    return ints[N_WEIGHTS] == 2 and layout[2, COPY] < 0 and layout[2, SIZE] <= NARROW_MAX


@kernel
def narrow_fields(ints, layout, packed, bias, drive, shown, field, active):
    """`fields` of both layers at once, for the samples `active` of a network that `is_narrow`."""
    offset, n = layout[2, OFFSET], layout[2, OFFSET]  # the hidden units come first, padded
    up, up_row = layout[2, TRANSPOSE], layout[2, TRANSPOSE_ROW]
    down, down_row = layout[1, DOWN], layout[1, DOWN_ROW]
    few = layout[2, SIZE] <= NARROW_GROUP
    a = 0
    while a < active.size:
        pair = active.size - a >= PASS_SAMPLES
        if ints[HAS_BACK]:
            if pair:
                _free_2(drive, field, shown, active, a, offset, bias, packed, down, down_row, up, up_row, n)
            else:
                _free_1(drive, field, shown, active, a, offset, bias, packed, down, down_row, up, up_row, n)
        elif few:
            if pair:
                _few_2(drive, field, shown, active, a, offset, bias, packed, down, down_row, up, up_row, n)
            else:
                _few_1(drive, field, shown, active, a, offset, bias, packed, down, down_row, up, up_row, n)
        elif pair:
            _tied_2(drive, field, shown, active, a, offset, bias, packed, down, down_row, up, up_row, n)
        else:
            _tied_1(drive, field, shown, active, a, offset, bias, packed, down, down_row, up, up_row, n)
        a += PASS_SAMPLES if pair else 1


@kernel
def keep_outputs(layout, state, field, active, step):
    """Notes the outputs before step `step` behind the fields, in two places in turn."""
    o, n = layout[2, OFFSET], layout[2, SIZE]
    at = o + LANES * (1 + step % 2)
    for a in range(active.size):
        b = active[a]
        for i in range(n):
            field[b, at + i] = state[b, o + i]


@kernel
def leave_alternating(layout, state, field, active, step, n_steps, change):
    """After step `step` of a plain synchronous map: negates the change of samples whose end is known.

    If the outputs of two steps in a row repeat those of two steps before, bit for bit, then the hidden states
    repeat as well, and all from here on alternate: an even number of steps may be left out.
    """
    o, n = layout[2, OFFSET], layout[2, SIZE]
    before, count = o + LANES * (1 + (step + 1) % 2), o + 3 * LANES
    for a in range(active.size):
        b = active[a]
        differ = step == 0
        for i in range(n):
            differ |= state[b, o + i] != field[b, before + i]
        field[b, count] = ZERO if differ else field[b, count] + ONE
        if field[b, count] > ONE and (n_steps - step - 1) % 2 == 0:
            change[b] = -change[b]
