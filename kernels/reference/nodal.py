"""Nodal analysis of circuits with diodes: damped Newton on a shared linear part (the readable
twin).

The equations of one sample are

    base x + sum_d P_d i_d(v_d) = rhs,      v_d = x[anode_d] - x[cathode_d] + offset_d,

with `base` the same for all samples, `rhs` and `offset` a sample's own, P_d = e_anode - e_cathode
(a terminal of known voltage, number -1, adds nothing to P_d; its voltage is in the offset). An
exponential diode has a junction voltage of its own, v_d = v_j + R_S i(v_j), eliminated from each
linear step. An ideal diode has an unknown of its own (`branch`, its current), and the row v_d = 0
while it conducts and i_d = gmin v_d while it does not (gmin is 0 but for a first guess of the
states). Source: modified nodal analysis and junction limiting as in SPICE 2 (Nagel 1975); ideal
diodes by active set.
"""

from dataclasses import dataclass, field

import numpy as np
from scipy import sparse
from scipy.sparse import linalg

from .nodal_head import head_backward, head_factor, head_forward

__all__ = [
    "CONVERGED",
    "NOT_CONVERGED",
    "SINGULAR",
    "LuPattern",
    "NewtonReport",
    "NodalSystem",
    "diode_current",
    "head_backward",
    "head_factor",
    "head_forward",
    "lu_pattern",
    "nodal_newton",
    "stamps",
    "start_junctions",
]

CONVERGED, NOT_CONVERGED, SINGULAR = 0, 1, 2
P_IS, P_VTE, P_RS, P_VCRIT, P_GMIN, P_BV, P_VTB = range(7)
EXP_MAX = 600.0  # exp's argument is cut here: larger voltages never survive the limiting anyway
JUNCTION_TOL = 1e-6  # of vte: the current of a linearised diode is then right to 1e-12
IDEAL_V_TOL = 1e-12  # an open ideal diode closes above this voltage
IDEAL_I_TOL = 1e-18  # a closed one opens below minus this current


@dataclass(frozen=True)
class LuPattern:
    """Pattern of the factors of one sparse system: made once for a topology, by SuperLU (see
    `lu_pattern`).

    Columns are in pivot order; rows are numbered by pivot position. `col_of[j]` is the unknown and
    `row_of[j]` the equation at pivot j. `a_row`, `a_src`: row and place in the CSR data of each
    entry of column j.
    """

    row_of: np.ndarray
    col_of: np.ndarray
    a_ptr: np.ndarray
    a_row: np.ndarray
    a_src: np.ndarray
    l_ptr: np.ndarray
    l_row: np.ndarray
    u_ptr: np.ndarray
    u_row: np.ndarray


@dataclass(frozen=True)
class NodalSystem:
    """What all samples of a batch share. `n` unknowns, `n_d` diodes.

    Attributes
    ----------
    base : ndarray (n, n), or (nnz,) data of a CSR matrix with `indptr`, `indices`
    anode, cathode : int32 (n_d,)
        Unknowns at the terminals, -1 where the voltage is known.
    branch : int32 (n_d,)
        Unknown that is the current of an ideal diode; -1: an exponential one.
    stamp : int32 (n_d, 9)
        Places in `base` that a diode adds to: (a,a), (a,c), (c,a), (c,c), then (a,branch),
        (c,branch), (branch,a), (branch,c), (branch,branch); -1 where there is none. Ideal diodes:
        the entries (a,branch), (c,branch) are constant and already in `base`.
    parameters : float64 (n_d, 7)
        Columns IS, vte, RS, vcrit, gmin, BV, breakdown vte.
    lu : LuPattern or None
        None: the dense path.
    """

    n: int
    base: np.ndarray
    indptr: np.ndarray | None
    indices: np.ndarray | None
    anode: np.ndarray
    cathode: np.ndarray
    branch: np.ndarray
    stamp: np.ndarray
    parameters: np.ndarray
    lu: LuPattern | None = None
    cache: dict = field(default_factory=dict, compare=False)


@dataclass
class NewtonReport:
    """Per sample: iterations used, status (0 converged, 1 not, 2 singular), last step, unknown that
    moved most.
    """

    iterations: np.ndarray
    status: np.ndarray
    step: np.ndarray
    worst: np.ndarray


def stamps(n, anode, cathode, branch, indptr=None, indices=None):
    """The `stamp` table of a NodalSystem: places in the dense matrix, or in the CSR data that must
    hold them.
    """
    pairs = [
        (anode, anode),
        (anode, cathode),
        (cathode, anode),
        (cathode, cathode),
        (anode, branch),
        (cathode, branch),
        (branch, anode),
        (branch, cathode),
        (branch, branch),
    ]
    out = np.full((len(anode), 9), -1, dtype=np.int32)
    rows = None if indptr is None else np.repeat(np.arange(n, dtype=np.int64), np.diff(indptr))
    keys = None if rows is None else rows * n + indices
    for k, (r, c) in enumerate(pairs):
        wanted = (r >= 0) & (c >= 0) & ((branch < 0) if k < 4 else (branch >= 0))
        place = r.astype(np.int64)[wanted] * n + c[wanted]
        out[wanted, k] = place if keys is None else np.searchsorted(keys, place)
    return out


def lu_pattern(matrix, last=()):
    """LuPattern for CSR `matrix`, with the pivots SuperLU finds for its present values.

    Unknowns `last` (currents of ideal diodes) become pivots after all others, on the diagonal: only
    there is the pivot never zero whether the diode conducts or not.

    Ordering (minimum degree: a third of COLAMD's fill on our circuits), pivoting and symbolic
    factorisation are SuperLU's; a second factorisation of random values with the pivots on the
    diagonal shows the full pattern.
    """
    n = matrix.shape[0]
    matrix = matrix.tocsr()
    last = np.asarray(last, dtype=np.int64)
    early = np.setdiff1d(np.arange(n), last)
    if early.size:
        first = linalg.splu(
            matrix[early][:, early].tocsc(), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.1
        )
        row_of, col_of = early[np.argsort(first.perm_r)], early[np.argsort(first.perm_c)]
    else:
        row_of = col_of = early
    row_of, col_of = np.concatenate([row_of, last]), np.concatenate([col_of, last])
    source = sparse.csr_matrix(
        (np.arange(1, matrix.nnz + 1), matrix.indices, matrix.indptr), shape=matrix.shape
    )
    rng = np.random.default_rng(0)
    random = source[row_of][:, col_of].tocsc()
    random.data = rng.uniform(0.5, 1.0, random.nnz)
    random = (random + sparse.diags(np.full(n, 2.0 * n))).tocsc()
    second = linalg.splu(random, permc_spec="NATURAL", diag_pivot_thresh=0.0)
    if np.array_equal(second.perm_r, second.perm_c):  # the same pivots, at most in another sequence
        order = np.argsort(second.perm_c)
        row_of, col_of = row_of[order], col_of[order]
        lower, upper = second.L, second.U
    else:
        lower, upper = _pattern_by_sets(random)
    permuted = source[row_of][:, col_of].tocsc()
    permuted.sort_indices()
    lower, upper = sparse.tril(lower, -1).tocsc(), sparse.triu(upper, 1).tocsc()
    lower.sort_indices()
    upper.sort_indices()
    i32 = np.int32
    return LuPattern(
        row_of=row_of.astype(i32),
        col_of=col_of.astype(i32),
        a_ptr=permuted.indptr.astype(i32),
        a_row=permuted.indices.astype(i32),
        a_src=(permuted.data - 1).astype(i32),
        l_ptr=lower.indptr.astype(i32),
        l_row=lower.indices.astype(i32),
        u_ptr=upper.indptr.astype(i32),
        u_row=upper.indices.astype(i32),
    )


def _pattern_by_sets(matrix):
    """Factors' pattern by right-looking elimination over sets of rows: slow, for the rare matrix
    whose pivots SuperLU changes.
    """
    n = matrix.shape[0]
    csr, csc = matrix.tocsr(), matrix.tocsc()
    rows = [set(csr.indices[csr.indptr[i] : csr.indptr[i + 1]].tolist()) for i in range(n)]
    cols = [set(csc.indices[csc.indptr[i] : csc.indptr[i + 1]].tolist()) for i in range(n)]
    for k in range(n):
        right = [j for j in rows[k] if j > k]
        for i in [i for i in cols[k] if i > k]:
            rows[i].update(right)
            for j in right:
                cols[j].add(i)
    r = np.concatenate([np.full(len(s), i) for i, s in enumerate(rows)])
    c = np.concatenate([np.fromiter(s, dtype=np.int64) for s in rows])
    full = sparse.coo_matrix((np.ones(r.size), (r, c)), shape=(n, n))
    return full, full


def diode_current(parameters, v, *, precise=False):
    """Junction current and its slope at junction voltage v, for parameter rows (n_d, 7) (equations
    of ngspice).

    `precise`: all digits near 0 V too, where exp - 1 loses some; Newton does not need them, sums of
    currents do.
    """
    i_sat, vte, gmin = parameters[..., P_IS], parameters[..., P_VTE], parameters[..., P_GMIN]
    at = np.minimum(v / vte, EXP_MAX)
    e = np.exp(at)
    vr = np.minimum(v, -3 * vte)
    cube = (3 * vte / (vr * np.e)) ** 3
    forward = v >= -3 * vte
    i = np.where(forward, i_sat * (np.expm1(at) if precise else e - 1), -i_sat * (1 + cube))
    g = np.where(forward, i_sat * e / vte, i_sat * 3 * cube / vr)
    broken = v < -parameters[..., P_BV]
    if broken.any():
        slope = parameters[..., P_VTB]
        rise = np.exp(np.minimum(_past_breakdown(parameters, v, broken), EXP_MAX))
        i = np.where(broken, -i_sat * rise, i)
        g = np.where(broken, i_sat * rise / slope, g)
    return i + gmin * v, g + gmin


def _past_breakdown(parameters, v, broken):
    """By how many thermal voltages of its breakdown a junction is past it, where `broken`."""
    return -(np.where(broken, parameters[..., P_BV], 0.0) + v) / parameters[..., P_VTB]


def beyond_exp(parameters, v):
    """Where a junction's voltage is beyond what `diode_current` computes: its current there is not
    the diode's.
    """
    broken = v < -parameters[..., P_BV]
    below = _past_breakdown(parameters, v, broken)
    return (v / parameters[..., P_VTE] >= EXP_MAX) | (broken & (below >= EXP_MAX))


def limit(new, old, vte, vcrit):
    """Junction voltage allowed after a Newton step, and where it was cut (SPICE's logarithmic
    damping).
    """
    cut = (new > vcrit) & (np.abs(new - old) > 2 * vte)
    with np.errstate(invalid="ignore", divide="ignore"):
        arg = 1 + (new - old) / vte
        up = np.where(arg > 0, old + vte * np.log(arg), vcrit)
        low = vte * np.log(new / vte)
    return np.where(cut, np.where(old > 0, up, low), new), cut


def limit_junction(new, old, parameters):
    """`limit`, applied from the other side when the junction is in or near breakdown."""
    vte, vcrit, bv = parameters[..., P_VTE], parameters[..., P_VCRIT], parameters[..., P_BV]
    forward, cut = limit(new, old, vte, vcrit)
    near = new < np.minimum(0.0, -bv + 10 * parameters[..., P_VTB])
    if not near.any():
        return forward, cut
    safe = np.where(np.isfinite(bv), bv, 0.0)
    mirrored, cut_b = limit(-(new + safe), -(old + safe), parameters[..., P_VTB], vcrit)
    return np.where(near, -(mirrored + safe), forward), np.where(near, cut_b, cut)


def start_junctions(system, n_samples):
    """Starting junction voltages: the critical voltage (diodes about to conduct); ideal diodes
    open.
    """
    start = np.where(system.branch >= 0, 0.0, system.parameters[:, P_VCRIT])
    return np.tile(start, (n_samples, 1))


def nodal_newton(
    system,
    rhs,
    offset,
    x,
    junction,
    *,
    max_iter=100,
    vtol=1e-10,
    rtol=1e-9,
    single_after=40,
    n_threads=1,
):
    """Solve the equations of every sample, in place.

    Parameters
    ----------
    system : NodalSystem
    rhs : float64 (M, n)
    offset : float64 (M, n_d)
    x : float64 (M, n), in/out
        Unknowns; the start matters little, the junction voltages say where the diodes are.
    junction : float64 (M, n_d), in/out
        Junction voltages of exponential diodes; 1 (conducting) or 0 of ideal ones.
    max_iter : int
    vtol, rtol : float
        Converged when every unknown moved by at most vtol + rtol |x|, no junction was limited, and every
        junction moved by less than 1e-6 vte.
    single_after : int
        From this iteration on only one ideal diode changes its state at a time (least index: cannot
        cycle for resistive networks).
    n_threads : int
        Ignored here.

    Returns
    -------
    NewtonReport
    """
    m = len(x)
    report = NewtonReport(
        np.zeros(m, np.int32),
        np.full(m, NOT_CONVERGED, np.int32),
        np.full(m, np.inf),
        np.zeros(m, np.int32),
    )
    for s in range(m):
        _newton_one(
            system,
            rhs[s],
            offset[s],
            x[s],
            junction[s],
            max_iter,
            vtol,
            rtol,
            single_after,
            report,
            s,
        )
    return report


def _matrix(system, values):
    if system.indptr is None:
        return values
    return sparse.csr_matrix((values, system.indices, system.indptr), shape=(system.n, system.n))


def _solve(system, values, residual):
    """Newton step of one sample, with full pivoting freedom; None when the matrix is singular."""
    try:
        if system.indptr is None:
            step = np.linalg.solve(values, -residual)
        else:
            step = linalg.splu(_matrix(system, values).tocsc()).solve(-residual)
    except (np.linalg.LinAlgError, RuntimeError):
        return None
    return step if np.isfinite(step).all() else None


def _with_diodes(base, stamp, slope, ideal, on, leak):
    """The matrix with the slopes of exponential diodes, and the equations of ideal ones: v = 0 of
    those that are `on`, i = leak v of the others; (n_d,) each.
    """
    values = base.copy()
    flat = values.reshape(-1)
    for k, sign in enumerate((1, -1, -1, 1)):
        hit = stamp[:, k] >= 0
        np.add.at(flat, stamp[hit, k], sign * slope[hit])
    for k, sign in ((6, 1.0), (7, -1.0)):
        hit = (stamp[:, k] >= 0) & ideal
        np.add.at(flat, stamp[hit, k], sign * np.where(on, 1.0, -leak)[hit])
    hit = ideal & ~on
    np.add.at(flat, stamp[hit, 8], 1.0)
    return values


def _newton_one(system, rhs, offset, x, junction, max_iter, vtol, rtol, single_after, report, s):
    """`nodal_newton` of sample `s`, whose row is given of each array."""
    a, c, par = system.anode, system.cathode, system.parameters
    ideal = system.branch >= 0
    at_a, at_c = np.flatnonzero(a >= 0), np.flatnonzero(c >= 0)
    base = np.asarray(system.base, dtype=np.float64)  # an integer one would truncate the slopes
    linear = _matrix(system, base)
    vte = np.where(ideal, 1.0, par[:, P_VTE])
    safe_par = np.where(ideal[:, None], np.array([1e-14, 1.0, 0, 1.0, 0, np.inf, 1.0]), par)

    def across():
        v = offset.copy()
        v[at_a] += x[a[at_a]]
        v[at_c] -= x[c[at_c]]
        return v

    for iteration in range(1, max_iter + 1):
        # Linearise: an exponential diode carries i + slope (v - v_j - RS i), its junction voltage
        # eliminated.
        i, g = diode_current(safe_par, junction)
        slope = np.where(ideal, 0.0, g / (1 + par[:, P_RS] * g))
        v = across()
        through = np.where(ideal, 0.0, i + slope * (v - junction - par[:, P_RS] * i))
        residual = linear @ x - rhs
        np.add.at(residual, a[at_a], through[at_a])
        np.subtract.at(residual, c[at_c], through[at_c])
        on = ideal & (junction > 0)
        b = system.branch
        leak = np.where(ideal & ~on, par[:, P_GMIN], 0.0)
        residual[b[ideal]] = np.where(on[ideal], v[ideal], x[b[ideal]] - leak[ideal] * v[ideal])

        step = _solve(system, _with_diodes(base, system.stamp, slope, ideal, on, leak), residual)
        report.iterations[s] = iteration
        if step is None:
            report.status[s] = SINGULAR
            return
        x += step

        v = across()
        proposed = junction + (v - junction - par[:, P_RS] * i) / (1 + par[:, P_RS] * g)
        limited, cut = limit_junction(proposed, junction, safe_par)
        state = v > IDEAL_V_TOL
        state[on] = x[b[on]] >= -IDEAL_I_TOL
        flipped = ideal & (state != on)
        if iteration >= single_after and flipped.any():
            state[np.flatnonzero(flipped)[1:]] = on[np.flatnonzero(flipped)[1:]]
        moved = np.abs(limited - junction) > JUNCTION_TOL * vte
        settled = not (flipped.any() or (~ideal & (cut | moved)).any())
        junction[:] = np.where(ideal, state, limited)

        size = np.abs(step) / (vtol + rtol * np.abs(x)) if system.n else np.zeros(1)
        report.worst[s] = int(np.argmax(size)) if system.n else 0
        report.step[s] = np.abs(step).max(initial=0.0)
        if settled and size.max() <= 1:
            report.status[s] = CONVERGED
            return
