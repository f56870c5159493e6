"""The register tile of convolutions: a few pixels times a few vectors of channels, summed over one run
of numbers below each; twin of what csrc/graph/conv.c does with core/gemm.h.

Each entry's sum runs over the rows of weights in order, so that it does not depend on the tile it
falls in.
"""

import numpy as np

from .compile import JIT_DISABLED, array_data, intrinsic, kernel, types
from .tiles import build_tile
from .vectors import VECTOR_BYTES, sum_loop


def _make_tile(pixels, vectors):
    if JIT_DISABLED:

        def tile(z, to, a, at, apart, m, w, start, columns):
            for g in range(pixels):
                for j in range(m):
                    row = w[start + j * columns :][:columns]
                    z[to + g * columns :][:columns] += a[at + g * apart + j] * row

        return tile

    @intrinsic
    def tile(typingctx, z, to, a, at, apart, m, w, start, columns):
        """z[to + g columns :][:columns] += a[at + g apart :][:m] @ rows, for the pixels g; m >= 1.

        Row j is w[start + j columns :][:columns].
        """
        index = types.intp
        signature = types.none(z, index, a, index, index, index, w, index, index)

        def codegen(context, builder, signature, args):
            kinds = signature.args
            to, at, apart, m, start, columns = (args[i] for i in (1, 3, 4, 5, 7, 8))
            fields, inputs = [], []
            for g in range(pixels):
                pixel = to.type(g)
                place = builder.add(to, builder.mul(pixel, columns))
                fields.append(array_data(context, builder, kinds[0], args[0], place))
                place = builder.add(at, builder.mul(pixel, apart))
                inputs.append(array_data(context, builder, kinds[2], args[2], place))
            matrix = array_data(context, builder, kinds[6], args[6], start)
            real = context.get_data_type(kinds[6].dtype)
            build_tile(builder, real, pixels, vectors, fields, inputs, matrix, m, columns)
            return context.get_dummy_value()

        return signature, codegen

    return tile


PIXELS = np.int64(4)  # of a tile: maps are often multiples of it wide; what is left is taken one by one
_wide, _wide_one, _thin, _thin_one = (_make_tile(g, v) for v in (2, 1) for g in (4, 1))


if JIT_DISABLED:

    def add_run(target, to, source, at, n, factor):
        target[to : to + n] += factor * source[at : at + n]

else:

    @intrinsic
    def add_run(typingctx, target, to, source, at, n, factor):
        """target[to:][:n] += factor * source[at:][:n]; n >= 1. Indices in Python may be negative,
        and the loop would not be vectorised.
        """
        index = types.intp
        signature = types.none(target, index, source, index, index, factor)

        def codegen(context, builder, signature, args):
            goal = array_data(context, builder, signature.args[0], args[0], args[1])
            start = array_data(context, builder, signature.args[2], args[2], args[3])

            def add(i, _):
                place = builder.gep(goal, [i])
                product = builder.fmul(args[5], builder.load(builder.gep(start, [i])), ("contract",))
                builder.store(builder.fadd(builder.load(place), product, ("contract",)), place)
                return []

            sum_loop(builder, args[4], 1, [], add)
            return context.get_dummy_value()

        return signature, codegen


def panel_columns(n, itemsize):
    """Columns of a panel for n channels: two vectors, or one."""
    lanes = VECTOR_BYTES // itemsize
    return lanes if n <= lanes else 2 * lanes


@kernel(ordered=True, inline=True)
def add_products(pixels, z, to, a, at, apart, m, w, start, columns):
    """The tile for PIXELS pixels or for one, of `panel_columns` columns."""
    if columns * z.itemsize == VECTOR_BYTES:
        if pixels == PIXELS:
            _thin(z, to, a, at, apart, m, w, start, columns)
        else:
            _thin_one(z, to, a, at, apart, m, w, start, columns)
    elif pixels == PIXELS:
        _wide(z, to, a, at, apart, m, w, start, columns)
    else:
        _wide_one(z, to, a, at, apart, m, w, start, columns)
