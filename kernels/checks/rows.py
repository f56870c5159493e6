"""The rows that the tables of the kernels are made of.

A row is called as ``row(at, name, value)``: `at` is the `Call`, on which rows leave what later ones
need (sizes, dtype, values); it returns what the kernel gets.
"""

from __future__ import annotations

import math
import numbers
from dataclasses import replace

import numpy as np
from scipy import sparse

MAX_INT = 2**31 - 1  # counts are int32 in csrc/jobs.h
FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
LARGEST = {dtype: float(np.finfo(dtype).max) for dtype in FLOATS}


class Call:
    """One kernel call: its arguments, dtype, the sizes found so far, its arrays, copies to be
    written back.
    """

    def __init__(self, given):
        self.given = given
        self.dtype = None
        self.seen = []  # (name, array, written)
        self.copies = []  # (the caller's array, C-contiguous copy that the kernel writes)

    def keep(self, name, value):
        """Leaves a value for later rows, under the last part of its name."""
        setattr(self, name.rpartition(".")[2], value)

    def refuse_overlaps(self):
        """ValueError if an array that the kernel writes shares memory with another one."""
        owners, loose = {}, []
        for entry in self.seen:
            owner = entry[1] if entry[1].base is None else entry[1].base
            if type(owner) is np.ndarray and owner.base is None and owner.flags.owndata:
                owners.setdefault(id(owner), []).append(entry)
            else:  # memory that no array owns: it may be any
                loose.append(entry)
        groups = [group for group in owners.values() if len(group) > 1]
        if loose and len(self.seen) > 1:
            groups = [self.seen]
        for group in groups:
            for i, (name, array, written) in enumerate(group):
                for other, second, also in group[:i]:
                    if (written or also) and _overlap(array, second):
                        raise ValueError(
                            f"{name} shares memory with {other}, and the kernel writes there"
                        )


def _overlap(a, b):
    if not np.may_share_memory(a, b):
        return False
    try:
        return np.shares_memory(a, b, max_work=10_000)
    except np.exceptions.TooHardError:
        return True


def describe(value):
    """What a value is, for messages, and never long."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of shape {value.shape}"
    if sparse.issparse(value):
        return f"a sparse matrix in format {value.format!r}"
    return f"{value!r:.60}"


def plain_array(name, value):
    """`value` as an ndarray over the same memory; ValueError if it is none, or masked."""
    if not isinstance(value, np.ndarray) or isinstance(value, np.ma.MaskedArray):
        raise ValueError(f"{name} must be an array, got {describe(value)}")
    return np.asarray(value)


def convert(name, a, dtype):
    """`a` as `dtype`. Only real numbers that `dtype` holds."""
    if a.dtype.kind not in "fiub":
        raise ValueError(f"{name} must hold real numbers, got {describe(a)}")
    try:
        with np.errstate(over="raise"):
            return a.astype(dtype, order="C")
    except FloatingPointError:
        raise ValueError(f"{name} holds numbers beyond {dtype}") from None


def _spread(a):
    """Whether no two elements of `a` lie at one place, as in every slice of an ordinary array."""
    reach = a.itemsize
    for stride, size in sorted((abs(s), n) for s, n in zip(a.strides, a.shape) if n > 1):
        if stride < reach:
            return False
        reach += stride * (size - 1)
    return True


def check_array(at, name, a, shape, dtype, written=False, strict=False):
    """`a` as a C-contiguous array of `dtype` and `shape`.

    written: the kernel writes it; one with strides is copied, and the copy written back after the
    call. strict: neither another dtype nor strides are taken.
    """
    if type(a) is not np.ndarray:
        a = plain_array(name, a)
    if a.shape != shape:
        kind = f"be a C-contiguous {dtype} array of" if strict else "have"
        raise ValueError(f"{name} must {kind} shape {shape}, got {a.shape}")
    flags = a.flags
    if written and not flags.writeable:
        raise ValueError(f"{name} is read-only, and the kernel writes to it")
    if a.dtype != dtype:
        if written or strict:
            raise ValueError(f"{name} must be a {dtype} array of shape {shape}, got {a.dtype}")
        a = convert(name, a, dtype)
    elif not (flags.c_contiguous and flags.aligned):
        if strict:
            raise ValueError(
                f"{name} must be a C-contiguous {dtype} array of shape {shape}, got strides"
            )
        if written and not _spread(a):
            raise ValueError(f"{name} has elements that share memory, and the kernel writes to it")
        copy = np.array(a, order="C")
        if written:
            at.copies.append((a, copy))
            at.seen.append((name, a, True))
            return copy
        a = copy
    at.seen.append((name, a, written))
    return a


def check_finite_from(name, a, low):
    """ValueError unless every element of `a` is finite and at least `low`."""
    if a.size and not (low <= a.min() and a.max() < math.inf):
        raise ValueError(
            f"{name} must be finite and at least {low}, got values from {a.min()} to {a.max()}"
        )


def check_dtype(at, name, a):
    """The dtype of the call, from array `a`: float32 or float64, as the processor stores them."""
    if type(a) is not np.ndarray:
        a = plain_array(name, a)
    if a.dtype not in FLOATS:
        raise ValueError(f"{name} must be float64 or float32, got {a.dtype}")
    at.dtype = a.dtype
    return a


def check_list(name, value, n):
    if type(value) not in (list, tuple):
        raise ValueError(f"{name} must be a list of arrays, got {describe(value)}")
    if n is not None and len(value) != n:
        raise ValueError(f"{name} must have {n} entries, got {len(value)}")
    return value


def check_integer(name, value, low=0, high=MAX_INT):
    if type(value) is not int:
        if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Integral):
            raise ValueError(f"{name} must be an integer, got {describe(value)}")
        value = int(value)
    if not low <= value <= high:
        raise ValueError(f"{name} must be an integer from {low} to {high}, got {describe(value)}")
    return value


def check_real(name, value, low=-math.inf, high=math.inf, dtype=FLOATS[1], infinite=False):
    """`value` as a float within [low, high], finite in `dtype` or, if so allowed, infinite."""
    if type(value) is not float:
        if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
            raise ValueError(f"{name} must be a real number, got {describe(value)}")
        try:
            value = float(value)
        except OverflowError:
            value = math.inf
    largest = LARGEST[dtype]
    if not (-largest <= value <= largest or (infinite and abs(value) == math.inf)):
        raise ValueError(f"{name} must be a finite number in {dtype}, got {value}")
    if not low <= value <= high:
        raise ValueError(f"{name} must lie in [{low:g}, {high:g}], got {value}")
    return value


def check_flag(name, value):
    if type(value) is not bool:
        if not isinstance(value, np.bool_):
            raise ValueError(f"{name} must be True or False, got {describe(value)}")
        value = bool(value)
    return value


def check_option(name, value, options):
    if type(value) is not str or value not in options:
        raise ValueError(f"{name} must be one of {sorted(options)}, got {describe(value)}")
    return value


def check_csr(name, x, dtype):
    """`x` as a CSR matrix of `dtype` that keeps to its shape, without duplicates."""
    if x.format != "csr":
        raise ValueError(f"{name} must be an array or a CSR matrix, got {describe(x)}")
    indptr, indices, data = x.indptr, x.indices, x.data
    for part in (indptr, indices, data):
        if type(part) is not np.ndarray or part.ndim != 1:
            raise ValueError(f"{name} must be a CSR matrix with 1-d arrays indptr, indices, data")
    if indptr.dtype.kind != "i" or indices.dtype.kind != "i" or len(indptr) != x.shape[0] + 1:
        raise ValueError(
            f"{name} must have an integer indptr with one entry for each row and one more"
        )
    ends = indptr.tolist() if len(indptr) == 2 else (indptr[0], indptr[-1])
    if len(indices) != len(data):
        raise ValueError(
            f"{name} must have as many column indices as data, got {len(indices)}, {len(data)}"
        )
    if ends[0] != 0 or ends[-1] < 0 or ends[-1] > len(indices):
        raise ValueError(
            f"{name} must have an indptr that begins at 0 and ends within indices and data"
        )
    if len(indptr) > 2:
        most = np.diff(indptr)
        least, most = int(most.min()), int(most.max())
        if least < 0:
            raise ValueError(f"{name} must have an indptr that never falls")
    else:
        most = ends[-1]
    used = indices[: ends[-1]]
    if used.size and (used.min() < 0 or used.max() >= x.shape[1]):
        raise ValueError(f"{name} must have column indices from 0 to {x.shape[1] - 1}")
    if data.dtype.kind not in "fiub":
        raise ValueError(f"{name} must hold real numbers, got {data.dtype}")
    if most > x.shape[1] or not x.has_canonical_format:
        x = type(x)((data[: ends[-1]].copy(), used.copy(), indptr.copy()), shape=x.shape)
        x.has_canonical_format = False  # whatever was said of it before
        x.sum_duplicates()
    parts = x.data, x.indices, x.indptr
    if not all(part.flags.c_contiguous and part.flags.aligned for part in parts):
        x = type(x)(tuple(part.copy() for part in parts), shape=x.shape)
        x.has_canonical_format = True
    if x.data.dtype != dtype:
        x = type(x)((convert(name, x.data, dtype), x.indices, x.indptr), shape=x.shape)
        x.has_canonical_format = True
    return x


# --- rows ---


class Array:
    """An array of shape ``shape(at)`` and the dtype of the call; `low`: finite, and nowhere below
    it.
    """

    def __init__(self, shape, *, written=False, strict=False, optional=False, low=None):
        self.shape, self.low = shape, low
        self.written, self.strict, self.optional = written, strict, optional

    def __call__(self, at, name, value):
        if value is None and self.optional:
            return None
        value = check_array(at, name, value, self.shape(at), at.dtype, self.written, self.strict)
        if self.low is not None:
            check_finite_from(name, value, self.low)
        return value


class Arrays:
    """A list of `at.L` arrays, that of layer pair k of shape ``shape(at.N, k)``.

    Nobody reads the first `unused` ones.
    """

    def __init__(self, shape, *, written=False, optional=False, unused=0):
        self.shape, self.written, self.optional, self.unused = shape, written, optional, unused

    def __call__(self, at, name, value):
        if value is None and self.optional:
            return None
        check_list(name, value, at.L)
        n, dtype, written = at.N, at.dtype, self.written
        return [
            a
            if k < self.unused
            else check_array(at, f"{name}[{k}]", a, self.shape(n, k), dtype, written)
            for k, a in enumerate(value)
        ]


class Inputs:
    """`x`, an array or CSR matrix with `at.N[0]` columns, or any number of them; leaves `at.R`, its
    rows.
    """

    def __call__(self, at, name, value):
        if sparse.issparse(value):
            shape = value.shape
            if len(shape) != 2 or (at.N and shape[1] != at.N[0]):
                raise ValueError(f"{name} must have shape (n_samples, {at.N[0]}), got {shape}")
            at.R = shape[0]
            value = check_csr(name, value, at.dtype)
            for part in (value.data, value.indices, value.indptr):
                at.seen.append((name, part, False))
            return value
        if type(value) is not np.ndarray:
            value = plain_array(name, value)
        if value.ndim != 2 or (at.N and value.shape[1] != at.N[0]):
            raise ValueError(f"{name} must have shape (n_samples, {at.N[0]}), got {value.shape}")
        at.R = value.shape[0]
        return check_array(at, name, value, value.shape, at.dtype)


class Integer:
    def __init__(self, low=0, high=MAX_INT):
        self.low, self.high = low, high

    def __call__(self, at, name, value):
        return check_integer(name, value, self.low, self.high)


class Real:
    """A number that is finite in the dtype of the call, or infinite if that is allowed."""

    def __init__(self, low=-math.inf, infinite=False):
        self.low, self.infinite = low, infinite

    def __call__(self, at, name, value):
        value = check_real(name, value, self.low, dtype=at.dtype, infinite=self.infinite)
        at.keep(name, value)
        return value


class Flag:
    def __call__(self, at, name, value):
        value = check_flag(name, value)
        at.keep(name, value)
        return value


class Option:
    def __init__(self, options):
        self.options = options

    def __call__(self, at, name, value):
        check_option(name, value, self.options)
        at.keep(name, value)
        return value


class Order:
    """Row numbers of the data, as int64; None, if optional, is all of them."""

    def __init__(self, optional=False):
        self.optional = optional

    def __call__(self, at, name, value):
        if value is None and self.optional:
            at.M = at.R
            return None
        if type(value) is not np.ndarray:
            value = plain_array(name, value)
        if value.ndim != 1 or value.dtype.kind not in "iu":
            raise ValueError(f"{name} must be a 1-d array of integers, got {describe(value)}")
        if len(value) and not (0 <= value.min() and value.max() < at.R):
            raise ValueError(f"{name} must hold row numbers of x, 0 to {at.R - 1}")
        at.M = len(value)
        return check_array(at, name, value, value.shape, np.dtype(np.int64))


class Numbers:
    """A sequence of `at.L` finite numbers, or of `n`, such as learning rates; a tuple of floats."""

    def __call__(self, at, name, value, n=None):
        n = at.L if n is None else n
        if not isinstance(value, (list, tuple, np.ndarray)) or getattr(value, "ndim", 1) != 1:
            raise ValueError(f"{name} must be a sequence of {n} numbers, got {describe(value)}")
        if len(value) != n:
            raise ValueError(f"{name} must have {n} entries, got {len(value)}")
        return tuple([check_real(f"{name}[{k}]", v, dtype=at.dtype) for k, v in enumerate(value)])


class Fields:
    """A record of class `kind`, whose fields have a table of their own."""

    def __init__(self, kind, table):
        self.kind, self.table = kind, table

    def __call__(self, at, name, value):
        if not isinstance(value, self.kind):
            raise ValueError(f"{name} must be a {self.kind.__name__}, got {describe(value)}")
        fields = {
            field: row(at, f"{name}.{field}", getattr(value, field))
            for field, row in self.table.items()
        }
        return replace(value, **fields)
