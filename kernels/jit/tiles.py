"""The register tile of dense products: a few samples times a few vectors of columns, summed over
all rows.

Each entry's sum runs over the rows in order, so that it does not depend on the tile it falls in.
"""

from .compile import JIT_DISABLED, array_data, intrinsic, kernel, types
from .vectors import TILE_VECTORS, VECTOR_BYTES, Vectors, sum_loop

TILE_SAMPLES = 5


def _build_tile(builder, real, samples, vectors, fields, inputs, matrix, m, row_stride):
    """IR of fields[g] += sum over j < m of inputs[g][j] * matrix[j * row_stride :], for all samples
    g.
    """
    vec = Vectors(builder, real)

    def add_row(j, sums):
        row = builder.gep(matrix, [builder.mul(j, row_stride)])
        rows = [vec.load(row, v) for v in range(vectors)]
        new = []
        for g in range(samples):
            x = vec.splat(builder.gep(inputs[g], [j]))
            new += [vec.fma(x, rows[v], sums[g * vectors + v]) for v in range(vectors)]
        return new

    start = [vec.load(f, v) for f in fields for v in range(vectors)]
    for i, value in enumerate(sum_loop(builder, m, 1, start, add_row)):
        vec.store(value, fields[i // vectors], i % vectors)


def _make_tile(samples, vectors):
    if JIT_DISABLED:

        def tile(field, at, active, shown, below, m, matrix, start, row_stride):
            n = vectors * VECTOR_BYTES // matrix.itemsize
            for b in active[:samples]:
                for j in range(m):
                    field[b, at : at + n] += shown[b, below + j] * matrix[start + j * row_stride :][:n]

        return tile

    @intrinsic
    def tile(typingctx, field, at, active, shown, below, m, matrix, start, row_stride):
        """field[b, at:][:n] += shown[b, below:][:m] @ rows, for the samples b = active[0],
        active[1]...; m >= 1.

        Row j is matrix[start + j * row_stride :][:n], n the entries of the tile's vectors.
        """
        index = types.intp
        signature = types.none(field, index, active, shown, index, index, matrix, index, index)

        def codegen(context, builder, signature, args):
            kinds = signature.args
            at, below, m, start, row_stride = (args[i] for i in (1, 4, 5, 7, 8))
            fields, inputs = [], []
            for g in range(samples):
                b = array_data(context, builder, kinds[2], args[2], at.type(g))
                b = builder.load(b)
                fields.append(array_data(context, builder, kinds[0], args[0], b, at))
                inputs.append(array_data(context, builder, kinds[3], args[3], b, below))
            matrix = array_data(context, builder, kinds[6], args[6], start)
            real = context.get_data_type(kinds[6].dtype)
            _build_tile(builder, real, samples, vectors, fields, inputs, matrix, m, row_stride)
            return context.get_dummy_value()

        return signature, codegen

    return tile


_wide1, _wide2, _wide3, _wide4, _wide5 = (_make_tile(g, TILE_VECTORS) for g in range(1, 6))
_thin1, _thin2, _thin3, _thin4, _thin5 = (_make_tile(g, 1) for g in range(1, 6))


@kernel(inline=True)
def tile_columns(itemsize):
    return TILE_VECTORS * VECTOR_BYTES // itemsize


@kernel(inline=True)
def wide_tile(field, at, now, shown, below, m, matrix, start, row_stride):
    """One tile of full width for the first TILE_SAMPLES of the samples `now`, or as many as there
    are.
    """
    if now.size >= 5:
        _wide5(field, at, now, shown, below, m, matrix, start, row_stride)
    elif now.size == 4:
        _wide4(field, at, now, shown, below, m, matrix, start, row_stride)
    elif now.size == 3:
        _wide3(field, at, now, shown, below, m, matrix, start, row_stride)
    elif now.size == 2:
        _wide2(field, at, now, shown, below, m, matrix, start, row_stride)
    else:
        _wide1(field, at, now, shown, below, m, matrix, start, row_stride)


@kernel(inline=True)
def thin_tile(field, at, now, shown, below, m, matrix, start, row_stride):
    """The same, one vector wide."""
    if now.size >= 5:
        _thin5(field, at, now, shown, below, m, matrix, start, row_stride)
    elif now.size == 4:
        _thin4(field, at, now, shown, below, m, matrix, start, row_stride)
    elif now.size == 3:
        _thin3(field, at, now, shown, below, m, matrix, start, row_stride)
    elif now.size == 2:
        _thin2(field, at, now, shown, below, m, matrix, start, row_stride)
    else:
        _thin1(field, at, now, shown, below, m, matrix, start, row_stride)
