"""Shared by the C callers: pointers that keep their arrays alive, threads, scratch, errors."""

import numpy as np
from eqprop_fast._native import ffi, lib

from ..jobs import address
from ..threads import run_together, usable

SUFFIX = {np.dtype("float32"): "f32", np.dtype("float64"): "f64"}
DIVERGED = 5  # EQP_E_DIVERGED
SINGULAR = 6  # EQP_E_SINGULAR


class Holder:
    """Builds pointers for one job and keeps every buffer alive as long as itself."""

    def __init__(self, dtype):
        self.dtype = np.dtype(dtype)
        if self.dtype not in SUFFIX:
            raise ValueError(f"dtype must be float32 or float64, got {self.dtype}")
        self.kept = []

    def array(self, a, dtype=None, writable=False):
        """Pointer to a C-contiguous array of `dtype` (default: the job's); NULL for None."""
        if a is None:
            return ffi.NULL
        dtype = self.dtype if dtype is None else np.dtype(dtype)
        if a.dtype != dtype or not a.flags.c_contiguous:
            if writable:
                raise ValueError(f"an in/out array must be C-contiguous {dtype}, got {a.dtype}")
            a = np.ascontiguousarray(a, dtype)
        if writable and not a.flags.writeable:
            raise ValueError("an in/out array is read-only")
        self.kept.append(a)
        return ffi.cast("void *", a.__array_interface__["data"][0])

    def cast(self, ctype, a, dtype, writable=False):
        p = self.array(a, dtype, writable)
        return ffi.NULL if p == ffi.NULL else ffi.cast(ctype, p)

    def table(self, arrays, writable=False):
        """Array of pointers, one per array; NULL for None or an empty list."""
        if not arrays:
            return ffi.NULL
        t = ffi.new("void *[]", [self.array(a, writable=writable) for a in arrays])
        self.kept.append(t)
        return t


def kernel(name, dtype):
    return getattr(lib, f"eqp_{name}_{SUFFIX[np.dtype(dtype)]}")


def status_text(status):
    return ffi.string(lib.eqp_status_text(status)).decode()


def run(name, job, holder, n_threads, n_parts=None):
    """Size the scratch, run kernel `name` on at most `n_threads` threads, return the first non-zero status.

    `n_parts`: how many threads can find work.
    """
    n_threads = usable(n_threads, n_parts)
    status = kernel(f"{name}_scratch", holder.dtype)(job, 0, n_threads)
    if status:
        raise ValueError(f"{name}: {status_text(status)}")
    scratch = np.empty(job.scratch_size + 64, np.uint8)
    start = -scratch.__array_interface__["data"][0] % 64
    job.scratch = ffi.cast("void *", scratch.__array_interface__["data"][0] + start)
    barrier = ffi.new("eqp_barrier *")
    job.barrier = barrier
    function = kernel(name, holder.dtype)
    if n_threads == 1:
        return function(job, 0, 1)
    results = [0] * n_threads

    def work(thread, _memory=(holder, scratch, barrier)):  # alive as long as a thread uses it
        results[thread] = function(job, thread, n_threads)

    run_together(work, n_threads)
    return next((r for r in results if r), 0)


def pointer(job):
    """The record of a `kernels.jobs.Job` as C takes it."""
    return ffi.cast(f"{job.name} *", address(job.memory))


def run_job(name, job, n_threads, n_parts=None):
    """`run` of a `kernels.jobs.Job`."""
    with job:
        return run(name, pointer(job), job, n_threads, n_parts)
