"""Records and the arrays behind them.

Kernels take two records with named fields: the job, which mirrors a struct of csrc/core/jobs.h and
holds bare addresses, and the work, made here, whose arrays are described by address and shape. A
record costs nothing to pass on, where an array is seven words. Views are made where they are used:

    y = matrix(job.real, job.y, n_data, n_out)      from a bare address, of the type of `job.real`
    drive = array(work.drive)                       from a description
"""

import ctypes
import functools

import numpy as np

from ..jobs import address
from .compile import JIT_DISABLED, arrayobj, cgutils, intrinsic, ir, types

LINE = 128  # bytes that a processor fetches together: a pair of cache lines


def aligned(shape, dtype):
    """Zeroed array that begins a LINE."""
    dtype = np.dtype(dtype)
    size = int(np.prod(shape)) * dtype.itemsize
    raw = np.zeros(size + LINE, np.uint8)
    start = -raw.ctypes.data % LINE
    return raw[start : start + size].view(dtype).reshape(shape)


def read(array, dtype):
    """`array` for a kernel that only reads it. A read-only one is shown as writable: Numba would
    take it for another type and compile everything anew.
    """
    array = np.require(array, dtype, "CA")
    if array.flags.writeable or array.size == 0:
        return array if array.flags.writeable else array.copy()
    memory = (ctypes.c_byte * array.nbytes).from_address(address(array))
    memory.owner = array  # keeps the memory alive as long as the view
    return np.frombuffer(memory, array.dtype).reshape(array.shape)


# --- records, made in Python


@functools.cache
def _description(dtype, n_axes):
    """What stands for an array in a record; `of`, of no size, carries its dtype."""
    return np.dtype([("address", np.int64), ("shape", np.int64, (n_axes,)), ("of", dtype, (0,))])


@functools.cache
def _record_dtype(fields):
    return np.dtype(list(fields), align=True)


def _field_dtype(value):
    if isinstance(value, Record):
        return value.memory.dtype
    if isinstance(value, np.ndarray):
        if not value.flags.c_contiguous:
            raise ValueError("records describe C-contiguous arrays only")
        return _description(value.dtype, value.ndim)
    return np.dtype(np.int64 if isinstance(value, (bool, int, np.integer)) else float)


class Record:
    """A record of numbers, arrays (described; kept alive by this object) and other records.

    No record should begin with all the fields of another that the same functions take: Numba would
    see a subtype in it.
    """

    def __init__(self, **values):
        # a kind of number is a type to Numba: NumPy's scalars would have everything compiled again
        values = {k: v.item() if isinstance(v, np.generic) else v for k, v in values.items()}
        self.kept = values
        dtype = _record_dtype(tuple((name, _field_dtype(value)) for name, value in values.items()))
        self.memory = np.zeros(1, dtype)
        for name, value in values.items():
            field = self.memory[name]
            if isinstance(value, np.ndarray):
                field["address"], field["shape"] = address(value), value.shape
            else:
                field[...] = value.memory if isinstance(value, Record) else value


def records(alike):
    """An array of records with the same fields; the caller keeps `alike`."""
    return np.concatenate([one.memory for one in alike])


def row_records(n, **arrays):
    """n records, of which number i has row i of every array; number i as `thread`."""
    rows = [Record(thread=i, **{name: a[i] for name, a in arrays.items()}) for i in range(n)]
    return records(rows), rows


# --- views, made in kernels

if JIT_DISABLED:

    class _Fields:
        """A record whose fields are attributes."""

        def __init__(self, memory):
            object.__setattr__(self, "_memory", memory)

        def __getattr__(self, name):
            value = self._memory[name]
            return _Fields(value) if value.dtype.names and not value.ndim else value

        def __setattr__(self, name, value):
            self._memory[name] = value

    class _Rows:
        def __init__(self, rows):
            self.rows, self.size = rows, len(rows)

        def __getitem__(self, i):
            return _Fields(self.rows[i])

    def argument(record):
        """A Record or Job as kernels take it."""
        return _Fields(record.memory[0])

    def _dtype_of(like):
        return np.dtype(like if isinstance(like, type) else like.dtype)

    def _at(place, shape, dtype):
        size = int(np.prod(shape)) * dtype.itemsize
        if not place or not size:
            return np.zeros(shape, dtype)
        memory = (ctypes.c_byte * size).from_address(int(place))
        return np.frombuffer(memory, dtype).reshape(shape)

    def array(described):
        view = _at(described.address, described.shape, described.of.dtype)
        return _Rows(view) if view.dtype.names else view

    def vector(like, place, n):
        return _at(place, (n,), _dtype_of(like))

    def matrix(like, place, rows, columns):
        return _at(place, (rows, columns), _dtype_of(like))

else:

    def argument(record):
        """A Record or Job as kernels take it."""
        return record.memory.view(np.recarray)[0]  # which Numba knows faster than np.void

    def _view(context, builder, kind, place, sizes):
        """The C-contiguous array of type `kind` at an address; place and sizes are of 64 bits."""
        itemsize = context.get_abi_sizeof(context.get_data_type(kind.dtype))
        strides = [context.get_constant(types.intp, itemsize)]
        for size in reversed(sizes[1:]):
            strides.insert(0, builder.mul(size, strides[0]))
        view = context.make_array(kind)(context, builder)
        arrayobj.populate_array(
            view, data=builder.inttoptr(place, view.data.type), shape=sizes, strides=strides,
            itemsize=itemsize, meminfo=None,
        )
        return view._getvalue()

    @intrinsic
    def array(typingctx, described):
        """The array that a field of a record describes."""
        fields = described.fields
        n_axes, dtype = fields["shape"].type.shape[0], fields["of"].type.dtype

        def codegen(context, builder, signature, args):
            def load(offset):
                word = cgutils.get_record_member(builder, args[0], offset, ir.IntType(64))
                return builder.load(word, align=8)

            first = fields["shape"].offset
            sizes = [load(first + 8 * axis) for axis in range(n_axes)]
            return _view(context, builder, signature.return_type, load(fields["address"].offset), sizes)

        return types.Array(dtype, n_axes, "C")(described), codegen

    def _dtype_of(like):
        return like if isinstance(like, types.Number) else like.dtype

    def _from_address(like, place, *sizes):
        def codegen(context, builder, signature, args):
            words = [
                context.cast(builder, value, kind, types.intp)
                for value, kind in zip(args[1:], signature.args[1:], strict=True)
            ]
            return _view(context, builder, signature.return_type, words[0], words[1:])

        return types.Array(_dtype_of(like), len(sizes), "C")(like, place, *sizes), codegen

    @intrinsic
    def vector(typingctx, like, place, n):
        """n numbers, of the type (of) `like`, at an address."""
        return _from_address(like, place, n)

    @intrinsic
    def matrix(typingctx, like, place, rows, columns):
        """The C-contiguous matrix of numbers, of the type (of) `like`, at an address."""
        return _from_address(like, place, rows, columns)
