"""The last steps of Newton in three times float64's precision.

Where two large conductances meet a small current, or a badly scaled circuit was factored without
pivoting, plain Newton stops at currents that do not balance to 1e-10, or wanders about the answer.
Residuals summed exactly and unknowns kept in three parts, each what the one before lost, lead to
the answer itself. Rounded to float64 it may miss Kirchhoff's current law again, by half a unit in
the last place of every voltage times the conductance it meets (`bound`); so the low parts are
handed back too, and branch currents are made from all.
"""

import math
from functools import cached_property

import numpy as np
from scipy import sparse
from scipy.sparse import linalg

from ..kernels.reference.nodal import P_RS, P_VTE, diode_current
from .elements import VSOURCE

UNIT = 2.0**-53
SLACK = 4.0  # times the bound: the criterion, with room for the sums' own rounding
ABSOLUTE = 1e-20  # ampere (or volt): where all is zero
STEPS = 16
FINE = 2.0**-120  # of an unknown: of that even the current of 1e-12 ohms has all its digits
SPLIT = 134217729.0


def blur(current, slope, junction):
    """Rounding units of diode currents, ampere: what half a unit of the junction voltage makes, and
    exp.
    """
    return 4 * np.abs(current) + 2 * slope * np.abs(junction)


def harmless(asm, parameters):
    """Parameter rows with such for ideal diodes that the exponential equation has a value."""
    return np.where(asm.ideal[:, None], np.array([1e-14, 1.0, 0, 1.0, 0, np.inf, 1.0]), parameters)


def two_sum(a, b):
    """Rounded a + b and its error."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def two_product(a, b):
    """Rounded a * b and its error (Dekker)."""
    p = a * b
    t = SPLIT * a
    ah = t - (t - a)
    t = SPLIT * b
    bh = t - (t - b)
    al, bl = a - ah, b - bh
    return p, ((ah * bh - p) + ah * bl + al * bh) + al * bl


class Polish:
    """Polishes samples of one batch.

    Parameters
    ----------
    solver : Solver
    known : float64 (M, n_nodes)
        Voltages of known nodes, zero elsewhere.
    offset : float64 (M, n_d)
        Known part of each diode's voltage.
    volts : float64 (M, n_v)
        Values of all voltage sources.
    into : float64 (M, n_nodes) or None
        Currents pushed into the nodes.
    """

    def __init__(self, solver, known, offset, volts, into):
        self.solver, self.known, self.offset, self.volts, self.into = (
            solver,
            known,
            offset,
            volts,
            into,
        )

    @property
    def equations(self):
        """Made when first needed, and kept until a value of the circuit changes."""
        if self.solver.exact is None:
            self.solver.exact = _Equations(self.solver)
        return self.solver.exact

    def check(self, s, x, junction, low=None):
        """Whether sample s, a row each of `x` (and its two low parts) and `junction`, meets all
        equations to what rounding `x` makes of them.
        """
        eq = self.equations
        parts, constant = self._full(s, x), self._constant(s)
        if low is not None:
            parts[1:, eq.unknown_places] = low
        hi = parts[0]
        i, g, v, slip = eq.diodes(parts, self.offset[s], junction)
        own = blur(i, g, np.where(eq.ideal, 0.0, junction))
        f, bound = eq.residual(parts, i, constant), eq.bound(hi, own, constant)
        ends = np.abs(hi[eq.diode_nodes]).sum(axis=1)
        inside = eq.par[:, P_RS] * own + 4 * eq.par[:, P_VTE] + np.abs(junction)
        tolerance = SLACK * UNIT * (ends + inside)
        on = junction > 0
        fits = np.where(
            eq.ideal,
            np.where(on, np.abs(v) <= 1e-12 + 8 * UNIT * ends, v <= 1e-12 + 8 * UNIT * ends),
            np.abs(slip) <= tolerance,
        )
        currents = hi[eq.ideal_full]
        least = -1e-18 - 1e-12 * np.abs(currents).max(initial=0.0)
        return bool(
            np.isfinite(f).all()
            and (np.abs(f) <= SLACK * bound)[eq.plain_rows].all()
            and fits.all()
            and (currents >= least).all()
        )

    def __call__(self, s, x, junction):
        """x (n,), its low parts (2, n) and the junctions of sample s after Newton from there, None
        if it does not settle.
        """
        eq, asm = self.equations, self.equations.asm
        offset, constant = self.offset[s], self._constant(s)
        parts, vj = self._full(s, x), np.array(junction)
        places = eq.unknown_places
        last, moved, lu = (np.inf, np.inf), np.inf, None
        with np.errstate(all="ignore"):
            for _ in range(STEPS):
                i, g, v, slip = eq.diodes(parts, offset, vj)
                seen = np.where(eq.ideal, 0.0, g / (1 + eq.par[:, P_RS] * g))
                f = eq.residual(parts, i + seen * slip, constant)
                on = vj > 0
                rows = asm.diode_branch[eq.ideal]
                f[rows] = np.where(on, v, parts[0, eq.diode_full] + parts[1, eq.diode_full])[
                    eq.ideal
                ]
                if moved > 1e-4:  # else the last factors serve as well
                    lu = linearised(self.solver, seen, on)
                step = np.nan if lu is None else lu(-f)
                if not np.isfinite(step).all():
                    return None
                high, low, least = parts[:, places]
                low, least = two_sum(low, least + step)
                parts[:, places] = *two_sum(high, low), least
                full_step = np.zeros_like(parts[0])
                full_step[places] = step
                change = full_step[eq.diode_nodes[:, 0]] - full_step[eq.diode_nodes[:, 1]]
                move = np.where(eq.ideal, 0.0, (slip + change) / (1 + eq.par[:, P_RS] * g))
                vj += move
                size = np.max(np.abs(step) / (np.abs(parts[0, places]) + 1e-30), initial=0.0)
                moved = np.max(
                    np.abs(move) / np.where(eq.ideal, 1.0, eq.par[:, P_VTE]), initial=0.0
                )
                if moved > 1.0:  # far from the answer: not our task
                    return None
                if not len(vj) and size > 0.1 * last[0]:  # these factors do not lead there
                    lu = eq.careful or lu
                # Junctions have no low part and stop moving first; go on while the unknowns still
                # gain.
                stuck = max(last) < 1e-12 and size > 0.5 * last[0] and moved > 0.5 * last[1]
                if size <= FINE and moved <= 4 * UNIT or stuck:
                    break
                last = (size, moved)
            x, low = parts[0, places], parts[1:, places]
            return (x, low, vj) if self.check(s, x, vj, low) else None

    def _full(self, s, x):
        """All node voltages and other unknowns in three parts, the second and third empty."""
        n = self.equations.asm.n_unknown_nodes
        parts = np.zeros((3, self.known.shape[1] + len(x) - n))
        parts[0, : self.known.shape[1]], parts[0, self.equations.unknown_places] = self.known[s], x
        return parts

    def _constant(self, s):
        """Right-hand side without the known voltages' share."""
        asm = self.equations.asm
        out = np.zeros(asm.n)
        if self.into is not None:
            out[: asm.n_unknown_nodes] = self.into[s, asm.unknown_nodes]
        for (kind, index), unknown in asm.branch_unknown.items():
            if kind == VSOURCE:
                out[unknown] = self.volts[s, index]
        return out


class _Equations:
    """All terms of all equations of a solver's present circuit, element by element, sorted by
    equation.

    A term is coefficient times entry of (node voltages and other unknowns, diode currents,
    constants): the conductances of a node are not added up first, which would round them.
    """

    def __init__(self, solver):
        self.solver, asm = solver, solver.assembly
        self.asm, self.ideal, self.diode_nodes = asm, asm.ideal, asm.diode_nodes
        rows, cols, source, sign = asm._entries
        r = asm._unknown[rows]
        keep = r >= 0
        n_full, n_d = len(asm._unknown), len(asm.anode)
        into = asm.diode_into.tocoo()  # (diode, row): exponential ones only
        every = np.arange(asm.n)
        row = np.concatenate([r[keep], into.col, every])
        place = np.concatenate([cols[keep], n_full + into.row, n_full + n_d + every])
        factor = np.concatenate(
            [sign[keep] * solver.values[source[keep]], into.data, np.full(asm.n, -1.0)]
        )
        order = np.argsort(row, kind="stable")
        self.place, self.factor, self.row = place[order], factor[order], row[order]
        self.start = np.searchsorted(row[order], np.arange(asm.n + 1))
        self.unknown_places = np.concatenate([asm.unknown_nodes, np.arange(asm.n_nodes, n_full)])
        self.plain_rows = np.ones(asm.n, dtype=bool)
        self.plain_rows[asm.diode_branch[asm.ideal]] = False
        self.diode_full = np.where(
            asm.ideal, asm.diode_branch - asm.n_unknown_nodes + asm.n_nodes, 0
        )
        self.ideal_full = self.diode_full[asm.ideal]
        self.par = harmless(asm, solver.parameters)

    def slopes(self, junction):
        """Currents and slopes of the exponential diodes."""
        if not len(self.par):
            return np.zeros(0), np.zeros(0)
        return diode_current(self.par, np.where(self.ideal, 0.0, junction), precise=True)

    def diodes(self, parts, offset, junction):
        """Currents, slopes, voltages, and what Kirchhoff's voltage law is missed by inside each
        diode.
        """
        i, g = self.slopes(junction)
        hi, lo = parts[:2]
        a, c = self.diode_nodes[:, 0], self.diode_nodes[:, 1]
        v, error = two_sum(hi[a], -hi[c])
        small = error + (lo[a] - lo[c])
        slip = ((v - np.where(self.ideal, 0.0, junction)) + small) - self.par[:, P_RS] * i
        plain = ~self.ideal
        return i * plain, g * plain, v + small, slip * plain

    def residual(self, parts, current, constant):
        """Equations' residuals, exactly summed, at full vectors in three parts."""
        every = np.zeros((3, parts.shape[1] + current.size + constant.size))
        every[:, : parts.shape[1]] = parts
        every[0, parts.shape[1] :] = np.concatenate([current, constant])
        high, low, least = every[:, self.place]
        terms = [
            *two_product(self.factor, high),
            *two_product(self.factor, low),
            self.factor * least,
        ]
        n = len(self.start) - 1
        if not np.isfinite(terms[0]).all():
            return np.full(n, np.nan)
        starts = (len(terms) * self.start).tolist()
        terms = np.stack(terms, axis=1).ravel().tolist()
        return np.array([math.fsum(terms[starts[k] : starts[k + 1]]) for k in range(n)])

    def bound(self, hi, own, constant):
        """What rounding makes of the residuals; `own`: the rounding units of the diode currents."""
        units = np.abs(self.factor) * np.abs(np.concatenate([hi, own, constant]))[self.place]
        return ABSOLUTE + UNIT * np.bincount(self.row, weights=units, minlength=self.asm.n)

    @cached_property
    def careful(self):
        """As `linearised`, for resistors whose sums at a node lost too much; None in another
        circuit.
        """
        return solver_from(self.solver.without_subtraction())


def solver_from(factor):
    """A function of right-hand sides (n,) or (n, k), None without a factor."""
    return None if factor is None else lambda b: factor.solve(np.atleast_2d(b.T)).T.reshape(b.shape)


def linearised(solver, seen, on):
    """Function that solves Newton's linear equations, None if they are singular.

    `seen`: slopes of the diodes, `on`: states of the ideal ones.
    """
    asm, a = solver.assembly, solver.a
    if not len(seen):
        return solver_from(solver.factor)
    rows, cols, data = [], [], []

    def put(r, c, value):
        at = (r >= 0) & (c >= 0)
        rows.append(r[at])
        cols.append(c[at])
        data.append(value[at])

    an, ca, br = (u.astype(np.int64) for u in (asm.anode, asm.cathode, asm.diode_branch))
    for r, c, sign in ((an, an, 1), (an, ca, -1), (ca, an, -1), (ca, ca, 1)):
        put(r, c, sign * seen)
    closed = np.where(on, 1.0, 0.0)
    put(br, np.where(asm.ideal, an, -1), closed)
    put(br, np.where(asm.ideal, ca, -1), -closed)
    # A little resistance in a closed one, which acts on the change of its current only: loops of
    # closed diodes stay solvable.
    diagonal = np.append(np.abs(a.diagonal()), 0.0)
    share = 1e-9 / np.maximum(diagonal[an] + diagonal[ca], 1e-12)
    put(br, br, np.where(on, -share, 1.0))
    extra = sparse.csr_matrix(
        (np.concatenate(data), (np.concatenate(rows), np.concatenate(cols))), shape=a.shape
    )
    try:
        return linalg.splu((a + extra).tocsc()).solve
    except RuntimeError:
        return None
