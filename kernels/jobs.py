"""The records of csrc/core/jobs.h as NumPy dtypes: a job is filled once, for the C kernels and for
Numba's.

The declarations are read from jobs.h itself, so that the two cannot drift. In a record a pointer is
a field that holds an address; behind the last field of the struct lies `real`, a number of the
kernel's precision, which tells compiled code what `void *` points to.
"""

import functools
import re
from pathlib import Path

import numpy as np

NUMBERS = {"int8_t": np.int8, "int32_t": np.int32, "int64_t": np.int64, "double": np.float64}


def _declarations():
    """The text of jobs.h: beside this file once installed (setup.py), else in the sources."""
    here = Path(__file__).parent
    installed, source = here / "jobs.h", here.parent / "csrc" / "core" / "jobs.h"
    return (installed if installed.exists() else source).read_text()


@functools.cache
def structs():
    """{struct: {field: (name of its type, number of stars)}} of jobs.h, in the order of
    declaration.
    """
    text, found = re.sub(r"/\*.*?\*/", " ", _declarations(), flags=re.S), {}
    for body, name in re.findall(r"typedef struct \{(.*?)\} *(\w+);", text, re.S):
        found[name] = {}
        for declaration in body.split(";"):
            if declaration.strip():
                kind, declared = re.fullmatch(
                    r"\s*(?:const )?(\w+)(.*)", declaration, re.S
                ).groups()
                for one in declared.split(","):
                    found[name][one.strip(" *\n")] = kind, one.count("*")
    return found


@functools.cache
def record_dtype(name, real):
    """The struct `name` as an aligned dtype, and behind it the field `real`."""
    fields = [
        (field, np.intp if stars else NUMBERS[kind])
        for field, (kind, stars) in structs()[name].items()
    ]
    return np.dtype([*fields, ("real", real)], align=True)


def address(array):
    return array.ctypes.data  # an __array_interface__ would spell out every field of a record


def _is_ready(array, dtype):
    """Whether kernels read and write it as it is, as most are: asked sooner than `np.require`."""
    return type(array) is np.ndarray and array.dtype == dtype and array.flags.carray


def readable(array, dtype):
    """`array` as kernels read it: C-contiguous, aligned, of `dtype`."""
    return array if _is_ready(array, dtype) else np.require(array, dtype, "CA")


class Job:
    """One record of csrc/core/jobs.h and the arrays it points to.

    The kernels run inside `with job:`. Arrays that they write to and that are not as they need them
    are copied, and the copies are written back at the end of the block, be it an exception.

    Parameters
    ----------
    name : str
        Struct of jobs.h.
    dtype : dtype
        float32 or float64: what `void *` points to.
    """

    def __init__(self, name, dtype):
        self.dtype, self.name, self.kinds = np.dtype(dtype), name, structs()[name]
        if self.dtype not in (np.float32, np.float64):
            raise ValueError(f"dtype must be float32 or float64, got {self.dtype}")
        self.memory = np.zeros(1, record_dtype(name, self.dtype))
        self.kept, self.copies, self._arrays = [], [], {}

    def __getitem__(self, field):
        return self.memory[field][0]

    def arrays(self, field):
        """The array behind a pointer, or those behind a table of pointers, as the kernels have
        them.
        """
        return self._arrays[field]

    def numbers(self, **values):
        """Sets fields that are no pointers."""
        for field, value in values.items():
            self.memory[field] = value

    def takes(self, record, *names):
        """Sets fields to the attributes of `record` that have the same names."""
        self.numbers(**{name: getattr(record, name) for name in names})

    def reads(self, **arrays):
        """Arrays, or lists of arrays, that the kernel only reads; None is NULL."""
        self._point(readable, arrays)

    def writes(self, **arrays):
        """Arrays, or lists of arrays, that the kernel writes to."""
        self._point(self._writable, arrays)

    def _point(self, prepared, arrays):
        for field, value in arrays.items():
            kind, stars = self.kinds[field]
            dtype = NUMBERS.get(kind, self.dtype)
            if stars == 2:
                value = [None if a is None else prepared(a, dtype) for a in value or ()]
                self._arrays[field] = value
                value = (
                    np.array([0 if a is None else address(a) for a in value], np.intp)
                    if value
                    else None
                )
            elif value is not None:
                value = self._arrays[field] = prepared(value, dtype)
            self.kept.append(value)
            self.memory[field] = 0 if value is None else address(value)

    def _writable(self, array, dtype):
        if _is_ready(array, dtype):
            return array
        if not array.flags.writeable:
            raise ValueError("an in/out array is read-only")
        good = np.require(array, dtype, "CAW")
        if good is not array and not np.shares_memory(array, good):
            self.copies.append((array, good))
        return good

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for array, good in reversed(self.copies):  # a copy may be of a copy
            array[...] = good
