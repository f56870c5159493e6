"""What sums in the compiler's own vectors are built of, because a loop in Python offers no way to
keep accumulators in registers over an outer loop. Used by tiles.py, lists.py and narrow.py.
"""

from .compile import ir, isa

# bytes of a vector, and of how many a register tile is wide: its accumulators, the vectors of one
# row and one broadcast value must fit the registers
REGISTERS = {"avx512": (64, 4), "avx2": (32, 2), "neon": (16, 4), "sse2": (16, 2)}
VECTOR_BYTES, TILE_VECTORS = REGISTERS.get(isa(), (64, 4))
N_REGISTERS = 32 if isa() in {"avx512", "neon"} else 16


class Vectors:
    """IR of vectors of `real` numbers, as wide as the machine's."""

    def __init__(self, builder, real):
        self.builder, self.size = builder, 4 if isinstance(real, ir.FloatType) else 8
        self.lanes = VECTOR_BYTES // self.size
        self.kind = ir.VectorType(real, self.lanes)
        self.zero = ir.Constant(self.kind, [0.0] * self.lanes)
        name, kinds = f"llvm.fmuladd.v{self.lanes}f{8 * self.size}", [self.kind] * 3
        self._fma = builder.module.globals.get(name) or ir.Function(
            builder.module, ir.FunctionType(self.kind, kinds), name
        )

    def _place(self, pointer, v):
        if v:
            pointer = self.builder.gep(pointer, [ir.Constant(ir.IntType(64), v * self.lanes)])
        return self.builder.bitcast(pointer, self.kind.as_pointer())

    def load(self, pointer, v=0):
        """The vector v vectors behind `pointer`, which may point anywhere."""
        return self.builder.load(self._place(pointer, v), align=self.size)

    def store(self, value, pointer, v=0):
        self.builder.store(value, self._place(pointer, v), align=self.size)

    def splat(self, pointer):
        """The number at `pointer` in all lanes."""
        nothing, first = ir.Constant(self.kind, ir.Undefined), ir.Constant(ir.IntType(32), 0)
        value = self.builder.insert_element(nothing, self.builder.load(pointer), first)
        return self.shuffle(value, nothing, [0] * self.lanes)

    def shuffle(self, a, b, places):
        mask = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), places)
        return self.builder.shuffle_vector(a, b, mask)

    def fma(self, a, b, c):
        """a b + c, rounded once where the machine can."""
        return self.builder.call(self._fma, [a, b, c])


def sum_loop(builder, count, step, starts, body):
    """IR of `for j in range(0, count, step): sums = body(j, sums)`, run at least once."""
    before = builder.block
    loop, after = builder.append_basic_block("sum"), builder.append_basic_block("summed")
    builder.branch(loop)
    builder.position_at_end(loop)
    j, sums = builder.phi(count.type), [builder.phi(start.type) for start in starts]
    new = body(j, sums)
    following = builder.add(j, count.type(step))
    for phi, first, value in zip([j, *sums], [count.type(0), *starts], [following, *new], strict=True):
        phi.add_incoming(first, before)
        phi.add_incoming(value, loop)
    builder.cbranch(builder.icmp_signed("<", following, count), loop, after)
    builder.position_at_end(after)
    return new
