"""Shared by the C callers: jobs as C takes them, threads, scratch, errors."""

import numpy as np
from eqprop_fast._native import ffi, lib

from ..jobs import address
from ..threads import run_together, usable

SUFFIX = {np.dtype("float32"): "f32", np.dtype("float64"): "f64"}
DIVERGED = 5  # EQP_E_DIVERGED
SINGULAR = 6  # EQP_E_SINGULAR


def kernel(name, dtype):
    return getattr(lib, f"eqp_{name}_{SUFFIX[np.dtype(dtype)]}")


def status_text(status):
    return ffi.string(lib.eqp_status_text(status)).decode()


def pointer(job):
    """The record of a `kernels.jobs.Job` as C takes it."""
    return ffi.cast(f"{job.name} *", address(job.memory))


class Prepared:
    """A job of one thread that runs again and again over the same arrays, its scratch kept."""

    def __init__(self, name, job):
        record, self.function = pointer(job), kernel(name, job.dtype)
        status = kernel(f"{name}_scratch", job.dtype)(record, 0, 1)
        if status:
            raise ValueError(f"{name}: {status_text(status)}")
        scratch, barrier = np.empty(record.scratch_size + 64, np.uint8), ffi.new("eqp_barrier *")
        record.scratch = ffi.cast("void *", address(scratch) + -address(scratch) % 64)
        record.barrier, self.record = barrier, record
        self._memory = job, scratch, barrier  # which the record points to

    def run(self):
        return self.function(self.record, 0, 1)


def run(name, job, n_threads, n_parts=None):
    """Size the scratch, run kernel `name` on at most `n_threads` threads, return the first non-zero
    status.

    `n_parts`: how many threads can find work.
    """
    n_threads, record = usable(n_threads, n_parts), pointer(job)
    status = kernel(f"{name}_scratch", job.dtype)(record, 0, n_threads)
    if status:
        raise ValueError(f"{name}: {status_text(status)}")
    scratch = np.empty(record.scratch_size + 64, np.uint8)
    record.scratch = ffi.cast("void *", address(scratch) + -address(scratch) % 64)
    barrier = ffi.new("eqp_barrier *")
    record.barrier = barrier
    function, results = kernel(name, job.dtype), [0] * n_threads

    def work(thread, _memory=(job, scratch, barrier)):  # alive as long as a thread uses it
        results[thread] = function(record, thread, n_threads)

    with job:
        if n_threads == 1:
            return function(record, 0, 1)
        run_together(work, n_threads)
    return next((r for r in results if r), 0)
