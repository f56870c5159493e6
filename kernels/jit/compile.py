"""The one place where Numba compiles: flags, caching, and the few instructions Python cannot spell.

Every jitted function of this package is made by `kernel`; a test reads the sources and checks it.
An integer literal as an argument makes Numba compile a version for it: np.int64(0) does not.
"""

import hashlib
import platform
import sys
import threading
import time
from pathlib import Path

import llvmlite.binding as llvm
import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic
from numba.np import arrayobj  # noqa: F401 - for views.py: Numba is imported here alone

# Reassociation lets sums be vectorised; "nnan" and "ninf" stay out, they would let the compiler
# drop the non-finite checks. ORDERED keeps the order of every sum: results then do not depend on
# how rows are grouped.
FASTMATH = {"contract", "reassoc", "nsz", "arcp"}
ORDERED = {"contract", "nsz", "arcp"}

JIT_DISABLED = bool(numba.config.DISABLE_JIT)


def _source_stamp():
    """Digest of all sources here: Numba itself looks only at the file of the outermost function."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


try:
    _STAMP = _source_stamp()
except OSError:  # sources not readable as files (zipped): Numba finds no place to cache either
    _STAMP = None


def kernel(function=None, *, ordered=False, inline=False, strict=False):
    """Compile `function` on first call: no GIL, cached where a cache folder can be written.

    Parameters
    ----------
    ordered : bool
        Forbid reassociation.
    inline : bool
        Scalar helpers: never called from Python, so never cached by themselves.
    strict : bool
        Arithmetic exactly as written, and arrays may be allocated (they are counted).
    """
    if function is None:
        return lambda f: kernel(f, ordered=ordered, inline=inline, strict=strict)
    # No reference counting inside (nothing is allocated): its atomics cost more than the arithmetic
    # of a small layer.
    flags = ORDERED if ordered else FASTMATH
    options = {"_nrt": False, "nogil": True, "fastmath": flags, "error_model": "numpy"}
    if strict:
        options = {"nogil": True, "fastmath": False}
    if JIT_DISABLED:
        return function
    if inline:
        return numba.njit(**options)(function)
    try:
        compiled = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no writable place for a cache (read-only, no home): compile in each process
        return numba.njit(**options)(function)
    file = getattr(getattr(compiled, "_cache", None), "_cache_file", None)
    if _STAMP is not None and hasattr(file, "_source_stamp"):
        file._source_stamp = (_STAMP, file._source_stamp)
    return compiled


def accessor(function):
    """Compile a function that returns a view. It becomes part of its callers: without reference
    counts compiled code can return no array.
    """
    return function if JIT_DISABLED else numba.njit(inline="always")(function)


@kernel(inline=True)
def is_finite(x):
    """math.isfinite is x - x == x - x, which reassociation may make 0 == 0."""
    return abs(x) < np.inf


@kernel(inline=True)
def larger(most, x):
    """NaN if either is, so that a maximum keeps what is no number."""
    return most if x <= most or most != most else x


def isa():
    """Name of the widest vector set Numba's compiler may use here, in the words of the C backend.
    """
    if JIT_DISABLED:
        return "python"
    machine = platform.machine().lower()
    if machine in {"aarch64", "arm64"}:
        return "neon"
    if machine not in {"x86_64", "amd64"}:
        return "scalar"
    features = llvm.get_host_cpu_features()
    for name, feature in (("avx512", "avx512f"), ("avx2", "avx2")):
        if features.get(feature):
            return name
    return "sse2"


if JIT_DISABLED:  # pure Python stand-ins
    _atomic = threading.Lock()

    def float_bits(x):
        return x.view(np.int32 if x.itemsize == 4 else np.int64)

    def bits_float(bits):
        return bits.view(np.float32 if bits.itemsize == 4 else np.float64)

    array_data = None

    def widest_vectors():
        pass

    def atomic_add(array, index, value):
        with _atomic:
            old = array[index]
            array[index] += value
        return old

    def atomic_load(array, index):
        return array[index]

    def sleep_thread(microseconds):
        time.sleep(1e-6 * microseconds)

    def yield_thread():
        sleep_thread(0)  # the interpreter's lock goes to another

    relax_cpu = yield_thread

else:

    @intrinsic
    def float_bits(typingctx, x):
        """The bits of a float as a signed integer: for x >= 0 in order, non-finite on top."""
        to = types.int32 if x == types.float32 else types.int64

        def codegen(context, builder, signature, args):
            return builder.bitcast(args[0], context.get_value_type(to))

        return to(x), codegen

    @intrinsic
    def bits_float(typingctx, bits):
        """Inverse of `float_bits`."""
        to = types.float32 if bits == types.int32 else types.float64

        def codegen(context, builder, signature, args):
            return builder.bitcast(args[0], context.get_value_type(to))

        return to(bits), codegen

    def array_data(context, builder, kind, value, *indices):
        """Pointer to array[indices] (IR values), for intrinsics."""
        array = context.make_array(kind)(context, builder, value)
        return cgutils.get_item_pointer(context, builder, kind, array, list(indices))

    @intrinsic
    def widest_vectors(typingctx):
        """Let loops of the calling function use 512-bit vectors where there are any.

        LLVM prefers 256 bits on many AVX-512 processors, for the sake of code that uses vectors now
        and then.
        """

        def codegen(context, builder, signature, args):
            attributes = builder.function.attributes
            if isa() == "avx512" and isinstance(attributes, set):
                set.add(attributes, '"prefer-vector-width"="512"')  # past llvmlite's own list of attributes
            return context.get_dummy_value()

        return types.none(), codegen

    @intrinsic
    def atomic_add(typingctx, array, index, value):
        """array[index] += value for int64 arrays; returns the old value."""

        def codegen(context, builder, signature, args):
            value = context.cast(builder, args[2], signature.args[2], types.int64)
            pointer = array_data(context, builder, signature.args[0], *args[:2])
            return builder.atomic_rmw("add", pointer, value, "seq_cst")

        return types.int64(array, types.intp, value), codegen

    @intrinsic
    def atomic_load(typingctx, array, index):
        """array[index] of an int64 array, seen by all threads in order."""

        def codegen(context, builder, signature, args):
            pointer = array_data(context, builder, signature.args[0], *args[:2])
            return builder.load_atomic(pointer, "seq_cst", 8)

        return types.int64(array, types.intp), codegen

    @intrinsic
    def relax_cpu(typingctx):
        """The spin-loop hint, where the processor has one."""

        def codegen(context, builder, signature, args):
            if platform.machine().lower() in {"x86_64", "amd64"}:
                kind = ir.FunctionType(ir.VoidType(), [])
                builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])
            return context.get_dummy_value()

        return types.none(), codegen

    # usleep, or in Windows milliseconds: a nap there is a long one
    sleep_thread = types.ExternalFunction(
        "Sleep" if sys.platform == "win32" else "usleep", types.int32(types.uint32)
    )
    yield_thread = types.ExternalFunction(
        "SwitchToThread" if sys.platform == "win32" else "sched_yield", types.int32()
    )
