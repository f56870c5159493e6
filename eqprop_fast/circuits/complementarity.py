"""Newton's method for circuits with ideal diodes whose every step is a linear complementarity
problem.

The kernels' active set of ideal diodes is fast, and fails where diodes conduct in parallel or in
loops (their currents are then not determined one by one) or leave nodes floating on the way. Here
all of them are solved at once, on their own ports: the linear rest is eliminated, and what remains
is z >= 0, w = H z + q >= 0, z w = 0. An open diode's z is its current; but parts of the circuit
that float while all diodes are open need some that conduct, a spanning forest of such parts, and of
those z is minus the voltage: the hybrid matrix of the network, positive semidefinite whenever the
circuit is passive. Lemke's method (1965) with lexicographic ratios then ends: at an answer, or at a
ray, which says that there is none. Exponential diodes are linearised and limited as in SPICE, one
such problem a step; without them the first is the last.
"""

import numpy as np
from scipy import linalg as dense
from scipy.optimize import linprog
from scipy.sparse import csgraph, csr_matrix
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

# a part tied to the rest by less than this share of its conductances counts as floating
FLOATS = 1e-9
PIVOT = 1e-11  # least pivot, of a column whose ports are scaled to 1
TIE = 1e-12  # ratios that differ by less are equal, and later columns decide
ROUNDING = 2.0**-48
HUGE = 1e10  # of a scaled answer: a singular basis, not an answer
GUESSES = 8  # active sets tried before Lemke's method


def lcp(m, q, on=None, noise=0.0):
    """z >= 0 with w = m z + q >= 0 and z w = 0.

    Parameters
    ----------
    m : float64 (n, n), positive semidefinite for passive circuits
    q : float64 (n,)
    on : bool (n,) or None
        A guess of where z > 0.
    noise : float64 (n,)
        What rounding has made of q.

    Returns
    -------
    (z, z > 0), or None if there is no answer (m positive semidefinite) or none is found
    """
    n = len(q)
    on = np.zeros(n, dtype=bool) if on is None else np.array(on)
    diagonal = np.abs(np.diagonal(m))
    size = np.where(diagonal > 0, diagonal, np.abs(m).max(axis=0, initial=0.0))
    scale = 1 / np.sqrt(np.where(size > 0, size, 1.0))
    m, q, noise = scale[:, None] * m * scale, scale * q, scale * noise
    q = np.where(np.abs(q) <= noise, 0.0, q)
    largest = np.abs(q).max(initial=0.0)
    if largest == 0:
        return np.zeros(n), np.zeros(n, dtype=bool)
    q, noise = q / largest, noise / largest
    for _ in range(GUESSES):
        z, wrong = _of_basis(m, q, on, noise)
        if z.max() > HUGE:
            break
        if not wrong.any():
            return z * scale * largest, on
        on = on ^ wrong
    on = _lemke(m, q)
    if on is None:
        return None
    z, wrong = _of_basis(m, q, on, noise, 1e-7)
    return None if wrong.any() or z.max() > HUGE else (z * scale * largest, on)


def _of_basis(m, q, on, noise, slack=1e-12):
    """z with z[on] free and the rest 0, and where it or its w is negative beyond rounding."""
    z = np.zeros(len(q))
    if on.any():
        part = m[np.ix_(on, on)]
        z[on] = _solved(part, -q[on])
    w = m @ z + q
    noise = 8 * noise + slack * (np.abs(m) @ np.abs(z) + np.abs(q))
    wrong = np.where(on, z < -slack * np.abs(z).max(initial=0.0), ~(w >= -noise))
    return np.maximum(z, 0.0), wrong | (on & (np.abs(w) > 1e3 * noise + 1e-13))


def _solved(a, b):
    """Solution of a x = b; the least one where parallel diodes share a current."""
    try:
        x = np.linalg.solve(a, b)
        if (
            np.isfinite(x).all()
            and np.abs(a @ x - b).max() <= 1e-10 * (np.abs(a) @ np.abs(x)).max()
        ):
            return x
    except np.linalg.LinAlgError:
        pass
    return np.linalg.lstsq(a, b, rcond=1e-13)[0]


def _lemke(m, q):
    """Where z > 0 at the end of Lemke's complementary pivoting, None at a ray."""
    n = len(q)
    if (q >= 0).all():
        return np.zeros(n, dtype=bool)
    # columns: w, z, the artificial one, right-hand side; w columns are the inverse of the basis
    table = np.hstack([np.eye(n), -m, -np.ones((n, 1)), q[:, None]])
    basis = np.arange(n)
    entering, row = 2 * n, int(np.argmin(q))
    at_start = np.flatnonzero(q <= q.min() + TIE)
    if at_start.size > 1:  # the lexicographically least: of equal ones the last column decides
        row = int(at_start[-1])
    for _ in range(100 + 20 * n):
        leaving = basis[row]
        table[row] /= table[row, entering]
        other = np.flatnonzero(table[:, entering])
        other = other[other != row]
        table[other] -= np.outer(table[other, entering], table[row])
        table[other, entering] = 0.0
        basis[row] = entering
        if leaving == 2 * n:
            on = np.zeros(n, dtype=bool)
            on[basis[basis >= n] - n] = True
            return on
        entering = leaving + n if leaving < n else leaving - n
        row = _leaving_row(table, basis, entering)
        if row is None:
            return None
    return None


def _leaving_row(table, basis, entering):
    """Row of the lexicographically least ratio, the artificial one if it can be; None at a ray."""
    n = len(basis)
    column = table[:, entering]
    rows = np.flatnonzero(column > PIVOT * max(1.0, np.abs(column).max()))
    if not rows.size:
        return None
    for k in (2 * n + 1, *range(n)):
        ratio = table[rows, k] / column[rows]
        if k > 2 * n and np.isin(2 * n, basis[rows]):
            artificial = rows[basis[rows] == 2 * n][0]
            own = table[artificial, k] / column[artificial]
            if own <= ratio.min() + TIE * max(1.0, np.abs(ratio).max()):
                return int(artificial)
        rows = rows[ratio <= ratio.min() + TIE * max(1.0, abs(ratio.min()))]
        if rows.size == 1:
            break
    return int(rows[np.argmax(column[rows])])


def complementary_newton(
    system, rhs, offset, x, junction, *, n_nodes, max_iter=100, vtol=1e-10, rtol=1e-9
):
    """As kernels.reference.nodal.nodal_newton, for one sample with ideal diodes.

    The first `n_nodes` unknowns are voltages of nodes. SINGULAR: no answer, or more than one set of
    voltages; final for a passive circuit, whose answers are those of a convex problem.
    """
    report = NewtonReport(
        np.ones(1, np.int32),
        np.full(1, NOT_CONVERGED, np.int32),
        np.full(1, np.inf),
        np.zeros(1, np.int32),
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
    forest = _forest(linear, int((rest < n_nodes).sum()), anode[ideal], cathode[ideal])
    y, vj, on = x[rest].copy(), junction[~ideal], None
    ports = None
    for iteration in range(1, max_iter + 1):
        report.iterations[0] = iteration
        current, g = diode_current(par, vj) if len(par) else (np.zeros(0), np.zeros(0))
        seen = g / (1 + par[:, P_RS] * g)
        fixed = current + seen * (offset[~ideal] - vj - par[:, P_RS] * current)
        if ports is None or len(par):
            ports = _Ports.of(_with_slopes(linear, to_plain, seen), into, to_ideal, forest)
            if ports is None:
                report.status[0] = SINGULAR
                return report
        found = ports.solve(rhs[rest] - to_plain.T @ fixed, offset[ideal], on)
        if found is None:
            report.status[0] = SINGULAR
            return report
        fresh, i, on = found
        step, y = fresh - y, fresh
        size = np.abs(step) / (vtol + rtol * np.abs(y))
        report.step[0] = np.abs(step).max(initial=0.0)
        report.worst[0] = rest[np.argmax(size)] if rest.size else 0
        if not np.isfinite(y).all():
            return report
        settled = True
        if len(par):
            old = to_plain @ y + offset[~ideal]
            proposed = vj + (old - vj - par[:, P_RS] * current) / (1 + par[:, P_RS] * g)
            limited, cut = limit_junction(proposed, vj, par)
            moved = cut | ~(np.abs(limited - vj) <= JUNCTION_TOL * par[:, P_VTE])
            settled = not moved.any() and (iteration > 1 and size.max(initial=0.0) <= 1)
            vj = limited
        if settled:
            some = (abs(linear) @ np.abs(y) + np.abs(rhs[rest])).max(initial=0.0)
            v = to_ideal @ y + offset[ideal]
            alone = _unique(linear, to_plain, seen, to_ideal, v, i > 1e-12 * some)
            report.status[0] = CONVERGED if alone else SINGULAR
            break
    x[rest], x[branch] = y, i
    junction[~ideal], junction[ideal] = vj, on
    return report


def _forest(linear, n_nodes, anode, cathode):
    """Ideal diodes that tie the parts of the circuit that float without them to the others and to
    ground.
    """
    size = linear.shape[0]
    count, part = csgraph.connected_components(abs(linear), directed=False)
    shifted = np.zeros((size, count))
    nodes = np.arange(min(n_nodes, size))
    shifted[nodes, part[nodes]] = 1.0
    with np.errstate(invalid="ignore"):
        left = np.abs(linear @ shifted).max(axis=0, initial=0.0)
    largest = np.zeros(count)
    np.maximum.at(largest, part, abs(linear).max(axis=1).toarray().ravel() if size else np.zeros(0))
    # count: ground
    root = np.append(np.where(left <= FLOATS * largest, np.arange(count), count), count)

    def find(k):
        while root[k] != k:
            k = root[k]
        return k

    chosen = []
    for d, ends in enumerate(zip(anode, cathode, strict=True)):
        a, c = (find(count if k < 0 else part[k]) for k in ends)
        if a != c:
            root[min(a, c)] = max(a, c)  # ground is the largest, and stays a root
            chosen.append(d)
    return np.array(chosen, dtype=np.int64)


class _Ports:
    """A circuit as its ideal diodes see it: y, and what is not given of their currents and
    voltages.
    """

    def __init__(self, y, currents, to_ideal, forest):
        self.y, self.currents, self.to_ideal, self.forest = y, currents, to_ideal, forest

    @classmethod
    def of(cls, a, into, to_ideal, forest):
        """Responses to the right-hand side, the currents of diodes off the forest, the voltages of
        those on it; None if even that is singular.
        """
        n, f, n_i = a.shape[0], len(forest), len(to_ideal)
        self = cls(None, None, to_ideal, forest)
        self.others = np.setdiff1d(np.arange(n_i), forest)
        whole = np.zeros((n + f, n + f))
        whole[:n, :n] = a.toarray()
        whole[:n, n:], whole[n:, :n] = into[:, forest], to_ideal[forest]
        rows = np.abs(whole).max(axis=1, initial=0.0)
        diagonal = np.abs(np.diagonal(whole))
        # symmetric scaling keeps a forest's ones beside conductances of any size
        size = np.where(diagonal[:n] > 0, diagonal[:n], np.where(rows[:n] > 0, rows[:n], 1.0))
        self.scale = 1 / np.sqrt(size)
        scaled = whole[:n] * self.scale[:, None]
        scaled[:, :n] *= self.scale
        lower = whole[n:, :n] * self.scale
        self.size = abs(a)
        self.tie = 1 / np.maximum(np.abs(lower).max(axis=1, initial=0.0), 1e-300)
        scaled[:, n:] *= self.tie
        bottom = np.hstack([lower * self.tie[:, None], np.zeros((f, f))])
        try:
            with np.errstate(all="ignore"):
                self.lu = dense.lu_factor(np.vstack([scaled, bottom]), check_finite=False)
        except (ValueError, np.linalg.LinAlgError):
            return None
        pivots = np.abs(np.diagonal(self.lu[0]))
        if (n + f) and not pivots.min() > 1e-15 * pivots.max():
            return None
        given = np.zeros((n + f, n_i))
        given[:n, : n_i - f] = -into[:, self.others]
        given[n:, n_i - f :] = -np.eye(f)
        answer = self._solve(given)
        self.y, i_forest = answer[:n], answer[n:]
        self.h = np.vstack([-to_ideal[self.others] @ self.y, i_forest])
        return self if np.isfinite(self.h).all() else None

    def _solve(self, b):
        if not len(b):
            return b
        n = len(self.scale)
        scaled = np.concatenate([(b[:n].T * self.scale).T, (b[n:].T * self.tie).T])
        out = dense.lu_solve(self.lu, scaled, check_finite=False)
        return np.concatenate([(out[:n].T * self.scale).T, (out[n:].T * self.tie).T])

    def solve(self, rhs, offset, on):
        """(y, currents of the ideal diodes, which of them conduct), or None."""
        n, others, forest = len(rhs), self.others, self.forest
        free = self._solve(np.concatenate([rhs, -offset[forest]]))
        q = np.concatenate([-(self.to_ideal[others] @ free[:n] + offset[others]), free[n:]])
        volts = np.abs(self.to_ideal[others]) @ np.abs(free[:n]) + np.abs(offset[others])
        amperes = np.abs(self.to_ideal[forest]) @ (self.size @ np.abs(free[:n]) + np.abs(rhs))
        noise = ROUNDING * np.concatenate([volts, amperes + np.abs(free[n:])])
        guess = None if on is None else np.concatenate([on[others], ~on[forest]])
        found = lcp(self.h, q, guess, noise)
        if found is None:
            return None
        z, positive = found
        k = len(others)
        i, state = np.zeros(len(offset)), np.zeros(len(offset), dtype=bool)
        i[others], state[others] = z[:k], positive[:k]
        i[forest], state[forest] = np.maximum((self.h @ z + q)[k:], 0.0), ~positive[k:]
        i[~state] = 0.0
        return free[:n] + self.y @ z, i, state


def _with_slopes(linear, to_plain, seen):
    into = csr_matrix(to_plain)
    return linear + into.T @ into.multiply(seen[:, None]) if seen.size else linear


def _unique(linear, to_plain, seen, to_ideal, v, strict):
    """Whether the voltages are the only ones: no direction in which nodes float.

    Diodes with current (`strict`) hold their nodes. One without, at 0 V, holds them from one side:
    the directions that the others leave open must all be blocked by some.
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
