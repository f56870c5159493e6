"""Sums over listed rows, with the columns they are added to in registers: the products of sparse
inputs.

Each entry's sum runs over the list in order, one fused multiply-add each, so that lists may be cut
anywhere.
"""

from .compile import JIT_DISABLED, array_data, intrinsic, kernel, types
from .products import add_row
from .vectors import N_REGISTERS, VECTOR_BYTES, Vectors, sum_loop

WIDEST = N_REGISTERS // 2  # vectors of columns


def _build_sum(builder, real, vectors, out, coefficients, places, count, matrix, row_stride):
    """IR of out[:] += sum over e < count of coefficients[e] * matrix[places[e] * row_stride :]."""
    vec = Vectors(builder, real)

    def add_entry(e, sums):
        j = builder.sext(builder.load(builder.gep(places, [e])), count.type)
        row = builder.gep(matrix, [builder.mul(j, row_stride)])
        x = vec.splat(builder.gep(coefficients, [e]))
        return [vec.fma(x, vec.load(row, v), sums[v]) for v in range(vectors)]

    start = [vec.load(out, v) for v in range(vectors)]
    for v, value in enumerate(sum_loop(builder, count, 1, start, add_entry)):
        vec.store(value, out, v)


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
            )
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
