"""Newton's method for circuits with ideal diodes whose every step is a linear complementarity problem.

The kernels' active set of ideal diodes is fast, and fails where diodes conduct in parallel or in loops
(their currents are then not determined one by one) or leave nodes floating on the way. Here a conducting
diode has a small resistance and every diode a small leak, both of which act on what *changes* only
(proximal point method, Rockafellar 1976): the steps are always solvable, and what they converge to has
neither. Where redundant diodes share a current, any split with no negative part is an answer, and one of
them is found. The complementarity problem is solved by block principal pivoting with Murty's rule to fall
back on (Judice and Pires 1994), finite for reciprocal circuits.
"""

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import splu

from ..kernels.reference.nodal import (
    CONVERGED,
    JUNCTION_TOL,
    NOT_CONVERGED,
    P_RS,
    P_VTE,
    SINGULAR,
    NewtonReport,
    diode_current,
    limit_junction,
)

LEAK = 1e-7  # of the largest conductance at any node: across every ideal diode
RESISTANCE = 1e-7  # of what the circuit shows between a diode's ends: in series with it
ROUNDS = 60  # steps once the junctions are at rest


def lcp(m, q, on):
    """z >= 0 with w = m z + q >= 0 and z w = 0, beginning with z[on] > 0; None if pivoting does not end.

    Parameters
    ----------
    m : float64 (n, n), positive definite for reciprocal circuits
    q : float64 (n,)
    on : bool (n,)

    Returns
    -------
    (z, on) or None
    """
    n, least, patience = len(q), len(q) + 1, 5
    on = on.copy()
    for _ in range(100 + 20 * n):
        z = np.zeros(n)
        if on.any():
            try:
                z[on] = np.linalg.solve(m[np.ix_(on, on)], -q[on])
            except np.linalg.LinAlgError:
                return None
        w = m @ z + q
        noise = 1e-14 * (np.abs(m) @ np.abs(z) + np.abs(q))
        wrong = np.where(on, z < -1e-14 * np.abs(z).max(initial=0.0), w < -noise)
        count = int(wrong.sum())
        if count == 0:
            return np.maximum(z, 0.0), on
        if count < least:
            least, patience = count, 5
        elif patience:
            patience -= 1
        else:
            wrong[: np.flatnonzero(wrong)[-1]] = False
        on ^= wrong
    return None


def complementary_newton(system, rhs, offset, x, junction, *, max_iter=100, vtol=1e-10, rtol=1e-9):
    """As kernels.reference.nodal.nodal_newton, for one sample with ideal diodes."""
    report = NewtonReport(
        np.ones(1, np.int32), np.full(1, NOT_CONVERGED, np.int32), np.full(1, np.inf), np.zeros(1, np.int32)
    )
    x, junction, rhs, offset = x[0], junction[0], rhs[0], offset[0]
    ideal = system.branch >= 0
    branch = system.branch[ideal]
    rest = np.setdiff1d(np.arange(system.n), branch)
    number = np.full(system.n + 1, -1)
    number[rest] = np.arange(rest.size)
    if system.indptr is None:
        base = csr_matrix(system.base)
    else:
        base = csr_matrix((system.base, system.indices, system.indptr), shape=(system.n, system.n))
    linear, into = base[rest][:, rest].tocsr(), base[rest][:, branch].toarray()
    anode, cathode = number[system.anode], number[system.cathode]
    par = system.parameters[~ideal]
    across = np.zeros((len(ideal), rest.size))
    at = np.arange(len(ideal))
    across[at[anode >= 0], anode[anode >= 0]] += 1.0
    across[at[cathode >= 0], cathode[cathode >= 0]] -= 1.0
    to_ideal, to_plain = across[ideal], across[~ideal]
    y, i, vj = x[rest], np.maximum(x[branch], 0.0), junction[~ideal]
    on = i > 0
    factored, quiet = None, 0
    for iteration in range(1, max_iter + ROUNDS + 1):
        report.iterations[0] = iteration
        current, g = diode_current(par, vj) if len(par) else (np.zeros(0), np.zeros(0))
        seen = g / (1 + par[:, P_RS] * g)
        through = current + seen * (to_plain @ y + offset[~ideal] - vj - par[:, P_RS] * current)
        f = rhs[rest] - linear @ y - into @ i - to_plain.T @ through
        if factored is None or len(par):
            factored = _factor(linear, to_plain, seen, to_ideal, into)
            if factored is None:
                report.status[0] = SINGULAR
                return report
        solve, response, resistance = factored
        free = solve(f)
        v = to_ideal @ y + offset[ideal]
        # v + to_ideal dy = resistance (i_new - i) where conducting; dy = free - response (i_new - i)
        m = to_ideal @ response + np.diag(resistance)
        found = lcp(m, -(v + to_ideal @ free) - m @ i, on)
        if found is None:
            return report
        fresh, on = found
        step = free - response @ (fresh - i)
        i = fresh
        y = y + step
        settled = True
        if len(par):
            old_v = to_plain @ y + offset[~ideal]
            proposed = vj + (old_v - vj - par[:, P_RS] * current) / (1 + par[:, P_RS] * g)
            limited, cut = limit_junction(proposed, vj, par)
            settled = not (cut | (np.abs(limited - vj) > JUNCTION_TOL * par[:, P_VTE])).any()
            vj = limited
        size = np.abs(step) / (vtol + rtol * np.abs(y))
        report.step[0] = np.abs(step).max(initial=0.0)
        report.worst[0] = rest[np.argmax(size)] if rest.size else 0
        if not np.isfinite(step).all() or (iteration > max_iter and not settled):
            break
        v = to_ideal @ y + offset[ideal]
        scale = 1e-12 * np.abs(to_ideal) @ np.abs(y)
        held = (np.abs(v[on]) <= 1e-12 + scale[on]).all() and (v <= 1e-12 + scale).all()
        quiet = quiet + 1 if settled and held and size.max(initial=0.0) <= 1 else 0
        if quiet == 2:
            some = (abs(linear) @ np.abs(y) + np.abs(rhs[rest])).max(initial=0.0)
            if _unique(linear, to_plain, seen, to_ideal, v, i > 1e-12 * some):
                report.status[0] = CONVERGED
            else:
                report.status[0] = SINGULAR
            break
    x[rest], x[branch] = y, i
    junction[~ideal], junction[ideal] = vj, on
    return report


def _with_slopes(linear, to_plain, seen):
    into = csr_matrix(to_plain)
    return linear + into.T @ into.multiply(seen[:, None]) if seen.size else linear


def _factor(linear, to_plain, seen, to_ideal, into):
    """Solver of the circuit with leaks, its response to the ideal diodes' currents, their resistances."""
    a = _with_slopes(linear, to_plain, seen)
    tie = csr_matrix(to_ideal)
    leak = LEAK * np.abs(a.diagonal()).max(initial=0.0) or 1.0
    try:
        lu = splu((a + leak * (tie.T @ tie)).tocsc())
        response = lu.solve(into) if into.shape[1] else into
    except RuntimeError:
        return None
    if not np.isfinite(response).all():
        return None
    shown = np.abs(np.einsum("dk,kd->d", to_ideal, response))
    return lu.solve, response, RESISTANCE * np.maximum(shown, shown.max(initial=0.0) * 1e-9)


def _unique(linear, to_plain, seen, to_ideal, v, strict):
    """Whether the voltages are the only ones: no direction in which nodes float.

    Diodes with current (`strict`) hold their nodes. One without, at 0 V, holds them from one side: the
    directions that the others leave open must all be blocked by some.
    """
    a = _with_slopes(linear, to_plain, seen)
    if not a.shape[0]:
        return True
    size = np.abs(a.data).max(initial=0.0) or 1.0
    tie = csr_matrix(to_ideal[strict])
    whole = (a + size * (tie.T @ tie)).tocsc()
    largest = abs(whole).max(axis=0).toarray().ravel()
    try:  # the quick way: no pivot is anywhere near zero
        lu = splu(whole)
        if (np.abs(lu.U.diagonal()) > 1e-12 * largest[np.argsort(lu.perm_c)]).all():
            return True
    except RuntimeError:
        pass
    a = a.toarray()
    rows = np.maximum(np.abs(a).max(axis=1, initial=0.0), 1e-12 * size)
    held = np.vstack([a / rows[:, None], to_ideal[strict]])
    _, values, rows = np.linalg.svd(held)
    null = rows[values.size :].T if values.size < len(a) else rows[values <= 1e-14 * values.max()].T
    if not null.size:
        return True
    sides = to_ideal[~strict & (np.abs(v) <= 1e-9)] @ null
    # fewer rows first: matrix_rank refuses an empty matrix before NumPy 2.3
    if len(sides) < null.shape[1] or np.linalg.matrix_rank(sides) < null.shape[1]:
        return False
    # {z: sides z <= 0} is {0} only if some combination with positive weights of the rows is zero
    n = len(sides)
    answer = linprog(
        -np.append(np.zeros(n), 1.0),
        A_ub=np.hstack([-np.eye(n), np.ones((n, 1))]),
        b_ub=np.zeros(n),
        A_eq=np.hstack([sides.T, np.zeros((null.shape[1], 1))]),
        b_eq=np.zeros(null.shape[1]),
        bounds=[(0, 1)] * n + [(0, 1)],
    )
    return bool(answer.status == 0 and -answer.fun > 1e-9)
