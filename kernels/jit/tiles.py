"""The register tile of dense products: a few samples times a few vectors of columns, summed over
all rows.

Each entry's sum runs over the rows in order, so that it does not depend on the tile it falls in.
"""

from .compile import JIT_DISABLED, array_data, intrinsic, kernel, types
from .vectors import TILE_VECTORS, VECTOR_BYTES, Vectors, sum_loop

TILE_SAMPLES = 5


def build_tile(builder, real, samples, vectors, fields, inputs, matrix, m, row_stride):
    """IR of fields[g] += sum over j < m of inputs[g][j] * matrix[j * row_stride :], all g."""
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

        def tile(field, at, active, a, shown, below, m, matrix, rows):
            n, (start, row_stride) = vectors * VECTOR_BYTES // matrix.itemsize, rows
            for b in active[a : a + samples]:
                for j in range(m):
                    field[b, at : at + n] += shown[b, below + j] * matrix[start + j * row_stride :][:n]

        return tile

    @intrinsic
    def tile(typingctx, field, at, active, a, shown, below, m, matrix, rows):
        """field[b, at:][:n] += shown[b, below:][:m] @ rows, for the samples b = active[a],
        active[a + 1]...; m >= 1.

        Row j is matrix[rows[0] + j * rows[1] :][:n], n the entries of the tile's vectors.
        """
        index = types.intp
        signature = types.none(field, index, active, index, shown, index, index, matrix, rows)

        def codegen(context, builder, signature, args):
            kinds = signature.args
            at, a, below, m = (args[i] for i in (1, 3, 5, 6))
            start, row_stride = (builder.extract_value(args[8], i) for i in range(2))
            fields, inputs = [], []
            for g in range(samples):
                b = array_data(context, builder, kinds[2], args[2], builder.add(a, a.type(g)))
                b = builder.load(b)
                fields.append(array_data(context, builder, kinds[0], args[0], b, at))
                inputs.append(array_data(context, builder, kinds[4], args[4], b, below))
            matrix = array_data(context, builder, kinds[7], args[7], start)
            real = context.get_data_type(kinds[7].dtype)
            build_tile(builder, real, samples, vectors, fields, inputs, matrix, m, row_stride)
            return context.get_dummy_value()

        return signature, codegen

    return tile


@kernel(inline=True)
def tile_columns(itemsize):
    return TILE_VECTORS * VECTOR_BYTES // itemsize


def _tile_of_any(vectors):
    one, two, three, four, five = (_make_tile(samples, vectors) for samples in range(1, TILE_SAMPLES + 1))

    @kernel(inline=True)
    def tile(field, at, active, a, shown, below, m, matrix, rows):
        """One tile for TILE_SAMPLES of the samples active[a:], or all there are."""
        left = active.size - a
        if left >= 5:
            five(field, at, active, a, shown, below, m, matrix, rows)
        elif left == 4:
            four(field, at, active, a, shown, below, m, matrix, rows)
        elif left == 3:
            three(field, at, active, a, shown, below, m, matrix, rows)
        elif left == 2:
            two(field, at, active, a, shown, below, m, matrix, rows)
        else:
            one(field, at, active, a, shown, below, m, matrix, rows)

    return tile


wide_tile, thin_tile = _tile_of_any(TILE_VECTORS), _tile_of_any(1)
