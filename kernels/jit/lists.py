"""Sums over listed rows, with the columns they are added to in registers: the products of sparse inputs.

Written in the compiler's vectors, like tiles.py. Each entry's sum runs over the list in order, one fused
multiply-add each, so that lists may be cut anywhere.
"""

from .compile import JIT_DISABLED, array_data, intrinsic, ir, kernel, types
from .products import add_row
from .tiles import N_REGISTERS, VECTOR_BYTES

WIDEST = N_REGISTERS // 2  # vectors of columns


def _build_sum(builder, real, vectors, out, coefficients, places, count, matrix, row_stride):
    """IR of out[:] += sum over e < count of coefficients[e] * matrix[places[e] * row_stride :]."""
    size = 4 if isinstance(real, ir.FloatType) else 8
    lanes = VECTOR_BYTES // size
    vector, integer = ir.VectorType(real, lanes), count.type
    name = f"llvm.fmuladd.v{lanes}f{8 * size}"
    fma = builder.module.globals.get(name) or ir.Function(
        builder.module, ir.FunctionType(vector, [vector] * 3), name
    )

    def place(pointer, v):
        pointer = builder.gep(pointer, [ir.Constant(integer, v * lanes)])
        return builder.bitcast(pointer, vector.as_pointer())

    start = [builder.load(place(out, v), align=size) for v in range(vectors)]
    before = builder.block
    loop, after = builder.append_basic_block("listed"), builder.append_basic_block("added")
    builder.branch(loop)
    builder.position_at_end(loop)
    e = builder.phi(integer)
    e.add_incoming(ir.Constant(integer, 0), before)
    sums = [builder.phi(vector) for _ in start]
    j = builder.sext(builder.load(builder.gep(places, [e])), integer)
    row = builder.gep(matrix, [builder.mul(j, row_stride)])
    x = builder.load(builder.gep(coefficients, [e]))
    nothing = ir.Constant(vector, ir.Undefined)
    x = builder.insert_element(nothing, x, ir.Constant(ir.IntType(32), 0))
    x = builder.shuffle_vector(x, nothing, ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes))
    new = [builder.call(fma, [x, builder.load(place(row, v), align=size), sums[v]]) for v in range(vectors)]
    e_next = builder.add(e, ir.Constant(integer, 1))
    e.add_incoming(e_next, loop)
    for phi, first, value in zip(sums, start, new, strict=True):
        phi.add_incoming(first, before)
        phi.add_incoming(value, loop)
    builder.cbranch(builder.icmp_signed("<", e_next, count), loop, after)
    builder.position_at_end(after)
    for v, value in enumerate(new):
        builder.store(value, place(out, v), align=size)


def _make_sum(vectors):
    if JIT_DISABLED:

        def listed(out, at, coefficients, places, matrix, column):
            n = vectors * VECTOR_BYTES // matrix.itemsize
            for a, j in zip(coefficients, places, strict=True):
                out[at : at + n] += a * matrix[j, column : column + n]

        return listed

    @intrinsic
    def listed(typingctx, out, at, coefficients, places, matrix, column):
        """out[at:][:n] += sum of coefficients[e] * matrix[places[e], column:][:n], at least one e.

        n: the entries of the vectors. Contiguous arrays, `places` of 32 bits.
        """
        index = types.intp
        signature = types.none(out, index, coefficients, places, matrix, index)

        def codegen(context, builder, signature, args):
            kinds = signature.args
            none = args[1].type(0)
            lists = context.make_array(kinds[2])(context, builder, args[2])
            shape = context.make_array(kinds[4])(context, builder, args[4])
            _build_sum(
                builder, context.get_data_type(kinds[4].dtype), vectors,
                array_data(context, builder, kinds[0], args[0], args[1]),
                array_data(context, builder, kinds[2], args[2], none),
                array_data(context, builder, kinds[3], args[3], none),
                builder.extract_value(lists.shape, 0),
                array_data(context, builder, kinds[4], args[4], none, args[5]),
                builder.extract_value(shape.shape, 1),
            )  # fmt: skip
            return context.get_dummy_value()

        return signature, codegen

    return listed


_widest, _half, _quarter, _one = (_make_sum(n) for n in (WIDEST, WIDEST // 2, WIDEST // 4, 1))


@kernel(ordered=True)
def add_listed(out, low, coefficients, places, matrix):
    """out += sum_e coefficients[e] * matrix[places[e], low : low + len(out)]."""
    n, lanes = out.size, VECTOR_BYTES // matrix.itemsize
    if coefficients.size == 0:
        return
    at = 0
    while at + WIDEST * lanes <= n:
        _widest(out, at, coefficients, places, matrix, low + at)
        at += WIDEST * lanes
    if at + WIDEST // 2 * lanes <= n:
        _half(out, at, coefficients, places, matrix, low + at)
        at += WIDEST // 2 * lanes
    if at + WIDEST // 4 * lanes <= n:
        _quarter(out, at, coefficients, places, matrix, low + at)
        at += WIDEST // 4 * lanes
    while at + lanes <= n:
        _one(out, at, coefficients, places, matrix, low + at)
        at += lanes
    if at < n:
        rest = out[at:n]
        for e in range(coefficients.size):
            add_row(rest, coefficients[e], matrix[places[e]][low + at : low + n])
