"""C kernel of nodal analysis (csrc/nodal.c): checks shapes, fills the job, runs it on Python threads."""

import threading

import numpy as np

from eqprop_fast._native import ffi, lib

from ..reference.nodal import CONVERGED, NOT_CONVERGED, SINGULAR, NewtonReport

__all__ = ["CONVERGED", "NOT_CONVERGED", "SINGULAR", "nodal_newton"]

_LU_FIELDS = ("row_of", "col_of", "a_ptr", "a_row", "a_src", "l_ptr", "l_row", "u_ptr", "u_row")


def _aligned(size):
    """An uninitialised 64-byte aligned buffer and the address to use in it."""
    raw = np.empty(size + 64, dtype=np.uint8)
    return raw, raw.ctypes.data + (-raw.ctypes.data) % 64


def nodal_newton(
    system, rhs, offset, x, junction, *, max_iter=100, vtol=1e-10, rtol=1e-9, single_after=40, n_threads=1
):
    """As kernels.reference.nodal.nodal_newton; float64 or float32 by the type of `x`, VL samples at a time.

    The pivots are fixed (system.lu, or the diagonal when dense): a sample that they do not suit comes back as
    SINGULAR or NOT_CONVERGED, never wrong, because Newton's own step is the test.
    """
    dtype = x.dtype
    if dtype not in (np.float64, np.float32):
        raise ValueError(f"x must be float64 or float32, got {dtype}")
    m, n, n_d = len(x), system.n, len(system.anode)
    shapes = {"x": (x, (m, n)), "rhs": (rhs, (m, n)), "offset": (offset, (m, n_d)), "junction": (junction, (m, n_d))}
    for name, (array, shape) in shapes.items():
        if array.shape != shape or array.dtype != dtype or not array.flags.c_contiguous:
            raise ValueError(f"{name} must be a C-contiguous {dtype} array of shape {shape}, got {array.shape}")
    report = NewtonReport(np.zeros(m, np.int32), np.full(m, NOT_CONVERGED, np.int32), np.full(m, np.inf),
                          np.zeros(m, np.int32))  # fmt: skip
    if m == 0:
        return report
    keep = []
    void, ints = "void *", "int32_t *"

    def real_array(array):
        array = np.ascontiguousarray(array, dtype=dtype)
        keep.append(array)
        return ffi.cast(void, array.ctypes.data)

    def int_array(array):
        array = np.ascontiguousarray(array, dtype=np.int32)
        keep.append(array)
        return ffi.cast(ints, array.ctypes.data)

    job = ffi.new("eqp_nodal_job *")
    job.n, job.n_diodes, job.n_samples = n, n_d, m
    job.base = real_array(system.base)
    if system.indptr is not None:
        job.indptr, job.indices = int_array(system.indptr), int_array(system.indices)
        for name in _LU_FIELDS:
            setattr(job, name, int_array(getattr(system.lu, name)))
    for name in ("anode", "cathode", "branch", "stamp"):
        setattr(job, name, int_array(getattr(system, name)))
    job.parameters = real_array(system.parameters)
    job.rhs, job.offset = real_array(rhs), real_array(offset)
    job.x, job.junction = ffi.cast(void, x.ctypes.data), ffi.cast(void, junction.ctypes.data)
    job.vtol, job.rtol, job.max_iter, job.single_after = vtol, rtol, max_iter, single_after
    job.iterations = ffi.cast(ints, report.iterations.ctypes.data)
    job.sample_status = ffi.cast(ints, report.status.ctypes.data)
    job.step = ffi.cast("double *", report.step.ctypes.data)
    job.worst = ffi.cast(ints, report.worst.ctypes.data)

    suffix = "f64" if dtype == np.float64 else "f32"
    n_threads = max(1, min(int(n_threads), m))
    _check(getattr(lib, f"eqp_nodal_size_{suffix}")(job, 0, n_threads))
    raw, address = _aligned(job.scratch_size)
    job.scratch = ffi.cast(void, address)
    run = getattr(lib, f"eqp_nodal_newton_{suffix}")
    if n_threads == 1:
        _check(run(job, 0, 1))
        return report
    codes = [0] * n_threads

    def work(k):
        codes[k] = run(job, k, n_threads)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(1, n_threads)]
    for thread in threads:
        thread.start()
    work(0)
    for thread in threads:
        thread.join()
    del raw
    for code in codes:
        _check(code)
    return report


def _check(code):
    if code:
        raise ValueError(f"nodal kernel: {ffi.string(lib.eqp_status_text(code)).decode()}")
