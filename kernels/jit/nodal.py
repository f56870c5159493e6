"""Nodal analysis in Numba (twin: kernels/reference/nodal.py): one sample at a time, samples shared among
threads.
"""

import math

import numpy as np

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
from .compile import kernel
from .nodal_head import head_backward, head_factor, head_forward
from .nodal_lu import dense_lu_solve, sparse_lu_solve
from .threads import run_threads, usable

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
    """Current and slope at junction voltage v for one parameter row."""
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
def linearise(
    base,
    indptr,
    indices,
    anode,
    cathode,
    branch,
    stamp,
    par,
    rhs,
    offset,
    x,
    junction,
    values,
    f,
    current,
    slope,
):
    """Fill `values` (the Jacobian) and `f` (the residual) for one sample."""
    n = x.size
    for p in range(base.size):
        values[p] = base[p]
    for r in range(n):
        total = -rhs[r]
        if indptr.size:
            for p in range(indptr[r], indptr[r + 1]):
                total += base[p] * x[indices[p]]
        else:
            for c in range(n):
                total += base[r * n + c] * x[c]
        f[r] = total
    for d in range(anode.size):
        v, at = across(d, anode, cathode, offset, x), stamp[d]
        if branch[d] >= 0:
            on = junction[d] > 0
            f[branch[d]] = v if on else x[branch[d]] - par[d, 4] * v
            if not on:
                values[at[8]] += 1.0
            slope_on = 1.0 if on else -par[d, 4]
            if at[6] >= 0:
                values[at[6]] += slope_on
            if at[7] >= 0:
                values[at[7]] -= slope_on
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
def update_diodes(anode, cathode, branch, par, offset, x, junction, current, slope, one_at_a_time):
    """New junction voltages and states; whether some still move."""
    moving = flipped = False
    for d in range(anode.size):
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


@kernel
def newton_rows(
    thread,
    n_threads,
    control,
    base,
    indptr,
    indices,
    row_of,
    col_of,
    a_ptr,
    a_row,
    a_src,
    l_ptr,
    l_row,
    u_ptr,
    u_row,
    anode,
    cathode,
    branch,
    stamp,
    par,
    rhs,
    offset,
    x,
    junction,
    max_iter,
    vtol,
    rtol,
    single_after,
    iterations,
    status,
    steps,
    worst,
    all_values,
    all_f,
    all_diode,
    all_l,
    all_u,
):
    """Samples thread, thread + n_threads, ..., each from start to end."""
    m, n = x.shape
    values, f, work, rdiag = all_values[thread], all_f[thread, 0], all_f[thread, 1], all_f[thread, 2]
    current, slope, lower, upper = all_diode[thread, 0], all_diode[thread, 1], all_l[thread], all_u[thread]
    for s in range(thread, m, n_threads):
        xs, js = x[s], junction[s]
        for iteration in range(1, max_iter + 1):
            iterations[s] = iteration
            linearise(
                base,
                indptr,
                indices,
                anode,
                cathode,
                branch,
                stamp,
                par,
                rhs[s],
                offset[s],
                xs,
                js,
                values,
                f,
                current,
                slope,
            )
            if indptr.size:
                sparse_lu_solve(
                    row_of,
                    col_of,
                    a_ptr,
                    a_row,
                    a_src,
                    l_ptr,
                    l_row,
                    u_ptr,
                    u_row,
                    values,
                    lower,
                    upper,
                    rdiag,
                    work,
                    f,
                )
            else:
                dense_lu_solve(values, rdiag, f)
            good = True
            for k in range(n):
                good = good and math.isfinite(f[k])
            if not good:
                status[s] = SINGULAR
                break
            for k in range(n):
                xs[k] -= f[k]
            moving = update_diodes(
                anode, cathode, branch, par, offset[s], xs, js, current, slope, iteration >= single_after
            )
            largest, step = 0.0, 0.0
            for k in range(n):
                size = abs(f[k]) / (vtol + rtol * abs(xs[k]))
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
    m, n, n_d = len(x), system.n, len(system.anode)
    for name, array, shape in (
        ("x", x, (m, n)),
        ("rhs", rhs, (m, n)),
        ("offset", offset, (m, n_d)),
        ("junction", junction, (m, n_d)),
    ):
        if array.shape != shape or array.dtype != np.float64 or not array.flags.c_contiguous:
            raise ValueError(
                f"{name} must be a C-contiguous float64 array of shape {shape}, got {array.shape}"
            )
    report = NewtonReport(
        np.zeros(m, np.int32), np.full(m, NOT_CONVERGED, np.int32), np.full(m, np.inf), np.zeros(m, np.int32)
    )
    if m == 0:
        return report
    n_threads = usable(n_threads, m)
    none = np.zeros(0, np.int32)
    lu = system.lu
    pattern = (
        [none] * 9
        if lu is None
        else [lu.row_of, lu.col_of, lu.a_ptr, lu.a_row, lu.a_src, lu.l_ptr, lu.l_row, lu.u_ptr, lu.u_row]
    )
    base = np.ascontiguousarray(system.base, dtype=np.float64).reshape(-1)
    run_threads(
        newton_rows,
        n_threads,
        base,
        none if lu is None else system.indptr.astype(np.int32),
        none if lu is None else system.indices.astype(np.int32),
        *pattern,
        system.anode,
        system.cathode,
        system.branch,
        np.ascontiguousarray(system.stamp),
        np.ascontiguousarray(system.parameters),
        rhs,
        offset,
        x,
        junction,
        max_iter,
        vtol,
        rtol,
        single_after,
        report.iterations,
        report.status,
        report.step,
        report.worst,
        np.empty((n_threads, base.size)),
        np.empty((n_threads, 3, n)),
        np.empty((n_threads, 2, n_d)),
        np.empty((n_threads, pattern[6].size)),
        np.empty((n_threads, pattern[8].size)),
    )
    return report
