"""Nodal analysis in Numba (twin: kernels/reference/nodal.py): one sample at a time, samples shared
among threads.

`job` is an eqp_nodal_job of csrc/core/jobs.h (N unknowns, D diodes), `own` a thread's scratch.
"""

import math

import numpy as np

from ..prepare.nodal import newton_job
from ..reference.nodal import (
    CONVERGED,
    EXP_MAX,
    IDEAL_I_TOL,
    IDEAL_V_TOL,
    JUNCTION_TOL,
    NOT_CONVERGED,
    SINGULAR,
    NewtonReport,
)
from .compile import is_finite, kernel
from .nodal_head import head_backward, head_factor, head_forward
from .nodal_lu import dense_lu_solve, sparse_lu_solve
from .threads import run_threads, usable
from .views import Record, argument, array, matrix, row_records, vector

__all__ = [
    "CONVERGED",
    "NOT_CONVERGED",
    "SINGULAR",
    "head_backward",
    "head_factor",
    "head_forward",
    "nodal_newton",
]


@kernel(inline=True)
def junction_current(par, v):
    """Current and slope at junction voltage v for one parameter row (7)."""
    i_sat, vte = par[0], par[1]
    if v < -par[5]:
        rise = math.exp(min(-(par[5] + v) / par[6], EXP_MAX))
        i, g = -i_sat * rise, i_sat * rise / par[6]
    elif v >= -3 * vte:
        e = math.exp(min(v / vte, EXP_MAX))
        i, g = i_sat * (e - 1), i_sat * e / vte
    else:
        third = 3 * vte / (v * math.e)
        cube = third * third * third
        i, g = -i_sat * (1 + cube), i_sat * 3 * cube / v
    return i + par[4] * v, g + par[4]


@kernel(inline=True)
def limit(fresh, old, vte, vcrit):
    """Allowed junction voltage and whether it was cut."""
    if not (fresh > vcrit and abs(fresh - old) > 2 * vte):
        return fresh, False
    if old > 0:
        arg = 1 + (fresh - old) / vte
        return (old + vte * math.log(arg) if arg > 0 else vcrit), True
    return vte * math.log(fresh / vte), True


@kernel(inline=True)
def limit_junction(fresh, old, par):
    """`limit`, from the other side in or near breakdown."""
    if fresh < min(0.0, -par[5] + 10 * par[6]):
        mirrored, cut = limit(-(fresh + par[5]), -(old + par[5]), par[6], par[3])
        return -(mirrored + par[5]), cut
    return limit(fresh, old, par[1], par[3])


@kernel(inline=True)
def across(d, anode, cathode, offset, x):
    """Voltage of diode d."""
    v = offset[d]
    if anode[d] >= 0:
        v += x[anode[d]]
    if cathode[d] >= 0:
        v -= x[cathode[d]]
    return v


@kernel(inline=True)
def linear_residual(job, rhs, x, values, f):
    """f (N) = base x - rhs; the Jacobian `values`, shaped as base, starts from it."""
    n = x.size
    base = vector(job.real, job.base, values.size)
    for p in range(base.size):
        values[p] = base[p]
    if job.indptr:
        indptr = vector(np.int32, job.indptr, n + 1)
        indices = vector(np.int32, job.indices, base.size)
    for r in range(n):
        total = -rhs[r]
        if job.indptr:
            for p in range(indptr[r], indptr[r + 1]):
                total += base[p] * x[indices[p]]
        else:
            for c in range(n):
                total += base[r * n + c] * x[c]
        f[r] = total


@kernel(inline=True)
def add_ideal(d, on, v, branch, gmin, at, x, values, f):
    """The row of an ideal diode: v = 0 while it conducts, i = gmin v while it does not."""
    f[branch] = v if on else x[branch] - gmin * v
    if not on:
        values[at[8]] += 1.0
    slope_on = 1.0 if on else -gmin
    if at[6] >= 0:
        values[at[6]] += slope_on
    if at[7] >= 0:
        values[at[7]] -= slope_on


@kernel(inline=True)
def linearise(job, own, rhs, offset, x, junction):
    """Fill own.values (the Jacobian) and own.f (the residual) for one sample."""
    n_d, values, f = junction.size, array(own.values), array(own.f)
    current, slope = array(own.current), array(own.slope)
    anode, cathode = vector(np.int32, job.anode, n_d), vector(np.int32, job.cathode, n_d)
    branch, stamp = vector(np.int32, job.branch, n_d), matrix(np.int32, job.stamp, n_d, 9)
    par = matrix(job.real, job.parameters, n_d, 7)
    linear_residual(job, rhs, x, values, f)
    for d in range(n_d):
        v, at = across(d, anode, cathode, offset, x), stamp[d]
        if branch[d] >= 0:
            add_ideal(d, junction[d] > 0, v, branch[d], par[d, 4], at, x, values, f)
            continue
        i, g = junction_current(par[d], junction[d])
        current[d], slope[d] = i, g
        seen = g / (1 + par[d, 2] * g)
        through = i + seen * (v - junction[d] - par[d, 2] * i)
        if anode[d] >= 0:
            f[anode[d]] += through
        if cathode[d] >= 0:
            f[cathode[d]] -= through
        for k in range(4):
            if at[k] >= 0:
                values[at[k]] += seen if k == 0 or k == 3 else -seen


@kernel(inline=True)
def update_diodes(job, own, offset, x, junction, one_at_a_time):
    """New junction voltages and states; whether some still move."""
    n_d, current, slope = junction.size, array(own.current), array(own.slope)
    anode, cathode = vector(np.int32, job.anode, n_d), vector(np.int32, job.cathode, n_d)
    branch, par = vector(np.int32, job.branch, n_d), matrix(job.real, job.parameters, n_d, 7)
    moving = flipped = False
    for d in range(n_d):
        v = across(d, anode, cathode, offset, x)
        if branch[d] >= 0:
            on = junction[d] > 0
            state = x[branch[d]] >= -IDEAL_I_TOL if on else v > IDEAL_V_TOL
            if state != on:
                moving = True
                if not (one_at_a_time and flipped):
                    junction[d] = 1.0 if state else 0.0
                flipped = True
            continue
        rs = par[d, 2]
        fresh = junction[d] + (v - junction[d] - rs * current[d]) / (1 + rs * slope[d])
        allowed, cut = limit_junction(fresh, junction[d], par[d])
        if cut or not abs(allowed - junction[d]) <= JUNCTION_TOL * par[d, 1]:
            moving = True
        junction[d] = allowed
    return moving


@kernel(inline=True)
def newton_step(job, own, rhs, offset, x, junction):
    """The step of one sample, in own.f; False if it is not finite."""
    f = array(own.f)
    linearise(job, own, rhs, offset, x, junction)
    if job.indptr:
        sparse_lu_solve(job, own, f)
    else:
        dense_lu_solve(array(own.values), array(own.rdiag), f)
    good = True
    for k in range(f.size):
        good = good and is_finite(f[k])
    return good


@kernel
def newton_rows(thread, n_threads, control, job, work):
    """Samples thread, thread + n_threads, ..., each from start to end."""
    own, m, n, n_d = array(work.own)[thread], job.n_samples, job.n, job.n_diodes
    f, all_x = array(own.f), matrix(job.real, job.x, m, n)
    all_junctions = matrix(job.real, job.junction, m, n_d)
    all_rhs, all_offsets = matrix(job.real, job.rhs, m, n), matrix(job.real, job.offset, m, n_d)
    iterations, status = vector(np.int32, job.iterations, m), vector(np.int32, job.sample_status, m)
    steps, worst = vector(np.float64, job.step, m), vector(np.int32, job.worst, m)
    vtol, rtol = job.vtol, job.rtol
    for s in range(thread, m, n_threads):
        x, junction, rhs, offset = all_x[s], all_junctions[s], all_rhs[s], all_offsets[s]
        for iteration in range(1, job.max_iter + 1):
            iterations[s] = iteration
            if not newton_step(job, own, rhs, offset, x, junction):
                status[s] = SINGULAR
                break
            for k in range(n):
                x[k] -= f[k]
            moving = update_diodes(job, own, offset, x, junction, iteration >= job.single_after)
            largest, step = 0.0, 0.0
            for k in range(n):
                size = abs(f[k]) / (vtol + rtol * abs(x[k]))
                step = max(step, abs(f[k]))
                if size > largest:
                    largest = size
                    worst[s] = k
            steps[s] = step
            if not moving and largest <= 1:
                status[s] = CONVERGED
                break


def nodal_newton(
    system, rhs, offset, x, junction, *, max_iter=100, vtol=1e-10, rtol=1e-9, single_after=40, n_threads=1
):
    """As kernels.reference.nodal.nodal_newton, with the fixed pivots of the C kernel."""
    if x.dtype != np.float64:  # float32 is for C's wider vectors: here it is solved in float64
        double = [a.astype(np.float64) for a in (rhs, offset, x, junction)]
        report = nodal_newton(
            system, *double, max_iter=max_iter, vtol=vtol, rtol=rtol, single_after=single_after,
            n_threads=n_threads,
        )
        x[...], junction[...] = double[2:]
        return report
    m, n, n_d = len(x), system.n, len(system.anode)
    report = NewtonReport(
        np.zeros(m, np.int32), np.full(m, NOT_CONVERGED, np.int32), np.full(m, np.inf), np.zeros(m, np.int32)
    )
    if m == 0:
        return report
    n_threads = usable(n_threads, m)
    job = newton_job(
        system, rhs, offset, x, junction, report, max_iter=max_iter, vtol=vtol, rtol=rtol,
        single_after=single_after,
    )
    lower, upper = (0, 0) if system.lu is None else (system.lu.l_row.size, system.lu.u_row.size)
    sizes = {
        "values": system.base.size, "f": n, "work": n, "rdiag": n, "current": n_d, "slope": n_d,
        "lower": lower, "upper": upper,
    }
    own, kept = row_records(n_threads, **{name: np.zeros((n_threads, size)) for name, size in sizes.items()})
    work = Record(own=own)
    with job:
        run_threads(newton_rows, n_threads, argument(job), argument(work))
    return report
