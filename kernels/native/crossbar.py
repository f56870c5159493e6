"""Layered-crossbar kernels in C; same signatures and meaning as `kernels.reference.crossbar`."""

import threading

import numpy as np
from scipy import sparse

from eqprop_fast._native import ffi, lib

from ..reference.crossbar import NUDGINGS, SCHEDULES
from ..spec import DivergenceError

_CTYPES = {np.dtype("float32"): ("float", "f32"), np.dtype("float64"): ("double", "f64")}


def relax(weights, biases, lower, upper, x, states, *, input_gain=1.0, schedule="asynchronous", n_steps=4, tol=-1.0,
          beta=0.0, y=None, pairs=False, n_threads=1):
    """See `kernels.reference.crossbar.relax`."""
    dtype, n = weights[0].dtype, x.shape[0]
    steps, residual = np.zeros(n, dtype=np.int32), np.zeros(n, dtype=dtype)
    if n == 0:
        return steps, residual
    if y is None:
        beta = 0.0
    job, keep = _job(weights, biases, lower, upper, x, y, states, input_gain, schedule, pairs)
    _check_states(states, n, weights)
    job.n_rows, job.beta = n, beta
    job.n_free_steps, job.tol_free = n_steps, tol
    job.steps, job.residual = ffi.from_buffer("int32_t[]", steps), _pointer(residual)
    _run("relax", job, keep, dtype, n_threads)
    return steps, residual


def train(weights, biases, lower, upper, x, y, states, *, order=None, sample_weight=None, batch_size=4,
          input_gain=1.0, schedule="asynchronous", n_free_steps=4, n_nudged_steps=4, tol_free=-1.0, tol_nudged=-1.0,
          beta=1.0, nudging="centered", rates, bias_rates, g_min=0.0, g_max=np.inf, pairs=False, n_threads=1):
    """See `kernels.reference.crossbar.train`."""
    dtype = weights[0].dtype
    job, keep = _job(weights, biases, lower, upper, x, y, states, input_gain, schedule, pairs)
    _check_states(states, batch_size, weights)
    job.n_rows = x.shape[0]
    if order is not None:
        order = np.ascontiguousarray(order, dtype=np.int64)
        if len(order) and (order.min() < 0 or order.max() >= x.shape[0]):
            raise IndexError("order names a row that x does not have")
        job.order, job.n_rows = ffi.from_buffer("int64_t[]", order), len(order)
    if sample_weight is not None:
        sample_weight = np.ascontiguousarray(sample_weight, dtype=dtype)
        _require("sample_weight", sample_weight, (x.shape[0],), dtype)
        job.row_weight = _pointer(sample_weight)
    loss = np.zeros(2)
    rates, bias_rates = (np.ascontiguousarray(r, dtype=np.float64) for r in (rates, bias_rates))
    for name, value in (("rates", rates), ("bias_rates", bias_rates)):
        _require(name, value, (len(weights),), np.float64)
    job.batch_size, job.nudging, job.beta = batch_size, NUDGINGS.index(nudging), beta
    job.n_free_steps, job.n_nudged_steps = n_free_steps, n_nudged_steps
    job.tol_free, job.tol_nudged, job.g_min, job.g_max = tol_free, tol_nudged, g_min, g_max
    job.rate, job.bias_rate = ffi.from_buffer("double[]", rates), ffi.from_buffer("double[]", bias_rates)
    job.loss = ffi.from_buffer("double[]", loss)
    keep += [order, sample_weight, rates, bias_rates]
    _run("train", job, keep, dtype, n_threads)
    return float(loss[0]), int(loss[1])


def _pointer(array):
    return ffi.cast("void *", ffi.from_buffer(array))


def _require(name, array, shape, dtype):
    if not (isinstance(array, np.ndarray) and array.shape == shape and array.dtype == dtype
            and array.flags.c_contiguous):
        raise ValueError(f"{name} must be a C-contiguous {np.dtype(dtype)} array of shape {shape}")


def _check_states(states, n, weights):
    for k, (state, w) in enumerate(zip(states, weights, strict=True)):
        _require(f"states[{k}]", state, (n, w.shape[1]), weights[0].dtype)


def _job(weights, biases, lower, upper, x, y, states, input_gain, schedule, pairs):
    """A job over the given arrays, and the objects that must outlive it."""
    dtype = weights[0].dtype
    if dtype not in _CTYPES:
        raise ValueError(f"weights must be float32 or float64, got {dtype}")
    sizes = [x.shape[1], *(w.shape[1] for w in weights)]
    if any(n < 1 for n in sizes):
        raise ValueError(f"every layer needs a unit, got sizes {sizes}")
    n_rows = [2 * sizes[0], *sizes[1:-1]]
    for k, w in enumerate(weights):
        _require(f"weights[{k}]", w, (n_rows[k], sizes[k + 1]), dtype)
        for name, vectors in (("biases", biases), ("lower", lower), ("upper", upper)):
            _require(f"{name}[{k}]", vectors[k], (sizes[k + 1],), dtype)
    job = ffi.new("eqp_crossbar_job *")
    size = np.array(sizes, dtype=np.int32)
    keep = [size, weights, biases, lower, upper, states]
    job.n_weights, job.size = len(weights), ffi.from_buffer("int32_t[]", size)
    for name, arrays in (("weight", weights), ("bias", biases), ("lower", lower), ("upper", upper),
                         ("state", states)):
        pointers = ffi.new("void *[]", [_pointer(a) for a in arrays])
        keep.append(pointers)
        setattr(job, name, pointers)
    job.pairs, job.schedule, job.input_gain = pairs, SCHEDULES.index(schedule), input_gain
    if sparse.issparse(x):
        parts = [np.ascontiguousarray(a, dtype=t) for a, t in
                 ((x.indptr, np.int64), (x.indices, np.int32), (x.data, dtype))]
        keep.append(parts)
        job.indptr, job.indices = ffi.from_buffer("int64_t[]", parts[0]), ffi.from_buffer("int32_t[]", parts[1])
        job.data = _pointer(parts[2])
    else:
        x = np.ascontiguousarray(x, dtype=dtype)
        keep.append(x)
        job.x = _pointer(x)
    if y is not None:
        y = np.ascontiguousarray(y, dtype=dtype)
        _require("y", y, (x.shape[0], sizes[-1] // 2 if pairs else sizes[-1]), dtype)
        keep.append(y)
        job.y = _pointer(y)
    return job, keep


def _run(name, job, keep, dtype, n_threads):
    """Allocates the scratch and runs the kernel on `n_threads` Python threads (cffi releases the GIL)."""
    suffix = _CTYPES[dtype][1]
    size = getattr(lib, f"eqp_crossbar_scratch_{suffix}")(job, name == "train", n_threads)
    if size < 0:
        raise ValueError("sizes or thread count out of range")
    scratch = np.empty(size + 64, dtype=np.uint8)
    barrier = ffi.new("eqp_barrier *")
    base = ffi.cast("char *", ffi.from_buffer(scratch))
    job.scratch = base + (-int(ffi.cast("uintptr_t", base)) % 64)
    job.scratch_size, job.barrier = size, barrier
    kernel, status = getattr(lib, f"eqp_crossbar_{name}_{suffix}"), [0] * n_threads

    def work(thread):
        status[thread] = kernel(job, thread, n_threads)

    threads = [threading.Thread(target=work, args=(t,)) for t in range(1, n_threads)]
    for thread in threads:
        thread.start()
    work(0)
    for thread in threads:
        thread.join()
    del keep
    bad = next((s for s in status if s), 0)
    if bad:
        raise error_of(bad)


def error_of(status):
    """The exception of a status code."""
    text = ffi.string(lib.eqp_status_text(status)).decode()
    if status == lib_status("diverged"):
        return DivergenceError("crossbar: " + text)
    if status == lib_status("singular"):
        return FloatingPointError("a negative nudge exceeds the conductance at an output node")
    return ValueError("crossbar: " + text)


def lib_status(name):
    """Number of a status by its short name; the order is EQP_STATUS_TABLE's."""
    return {"diverged": 5, "singular": 6}[name]
