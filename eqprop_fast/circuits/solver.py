"""Drives the nodal kernels: picks dense or sparse, and helps samples that plain Newton does not
solve.

What it reuses: the topology's index arrays and pivots for the life of the netlist, the reduced
linear part until a value changes. Only diodes differ between the samples of a batch.
"""

from dataclasses import replace
from functools import partial

import numpy as np
from scipy import sparse

from ..kernels.blas import one_blas_thread
from ..kernels.reference import nodal as reference
from ..kernels.reference import nodal_head as reference_head
from .assembly import Assembly, Drive
from .complementarity import complementary_newton
from .elements import AMPLIFIER, CCCS, CCVS, DIODE, RESISTOR, VCCS, VCVS, VSOURCE
from .errors import SingularCircuitError
from .factor import Factor, LaplaceFactor, SymmetricFactor, TiedLaplaceFactor, split

SYMMETRIC_FROM = 1000  # unknowns; below, one call of SuperLU is over before a plan would pay
DENSE_LIMIT = 2000  # unknowns up to which a singular matrix is tried again without subtractions
# retained unknowns up to which the linear rest is eliminated and Newton runs dense
DENSE_DIODE_LIMIT = 256
METHODS = ("newton", "pivoted newton", "gmin stepping", "source stepping", "complementarity")
IDEAL_BUDGET = 120  # complementarity problems of all attempts at a sample with ideal diodes
FORWARD = 1e-13  # of the largest voltage: what rounding leaves across a conducting ideal diode
STEP_ITERATIONS = 50  # of Newton on the way to a circuit, in steps that shrink where it fails
BUDGET = 200  # times max_iter: Newton iterations of all attempts at one sample together


class Solver:
    """Solves one netlist again and again; `refresh` after its values changed."""

    def __init__(self, netlist):
        self.net = netlist
        self.assembly = Assembly(netlist)
        self.lu = self.head = None
        self.refresh()

    def refresh(self):
        """Take the netlist's present conductances and gains."""
        asm = self.assembly
        self.parameters, _ = self.net.diode_parameters()
        self.values = asm.values()
        siemens = self.values[asm.offset_of[RESISTOR] :][: len(asm.pairs[RESISTOR])]
        if not siemens.all():
            asm.check_floating(siemens != 0)
        self.a, k = asm.numeric(self.values)
        self.drive = Drive(k)
        self.node_rows = self.a[: asm.n_unknown_nodes].T.tocsr()
        self.factor = self.system = self.exact = self._gross = None
        if not len(asm.anode):
            self.factor = None  # made when first needed, see `_linear`
            return
        touched = np.concatenate([asm.anode, asm.cathode, asm.diode_branch])
        self.retained = np.unique(touched[touched >= 0])
        self.inner = None
        if self.retained.size <= DENSE_DIODE_LIMIT:
            try:
                schur, self.inner, self.inner_factor, self.a_ri, self.response = split(
                    self.a, self.retained
                )
            except SingularCircuitError:
                self.inner = None  # a branch between retained nodes: keep every unknown
        if self.inner is not None:
            number = np.full(asm.n + 1, -1, dtype=np.int32)  # one more, so that -1 picks something
            number[self.retained] = np.arange(self.retained.size)
            pick = lambda u: np.where(u >= 0, number[u], -1).astype(np.int32)  # noqa: E731
            anode, cathode, branch = pick(asm.anode), pick(asm.cathode), pick(asm.diode_branch)
            self.system = reference.NodalSystem(
                n=self.retained.size,
                base=schur,
                indptr=None,
                indices=None,
                anode=anode,
                cathode=cathode,
                branch=branch,
                stamp=reference.stamps(self.retained.size, anode, cathode, branch),
                parameters=self.parameters,
            )
            return
        self.retained = np.arange(asm.n)
        self.system = self._whole(self.a)
        if self.lu is None:
            self.lu = self._pivots(self.system.stamp)
        self.system = replace(self.system, lu=self.lu, cache={})

    @property
    def gross(self):
        """Bound on the conductance that meets at any node, each one counted with both its ends,
        siemens.
        """
        if self._gross is None:
            asm = self.assembly
            own = self.a.diagonal()[: asm.n_unknown_nodes].max(initial=0.0)
            gm = self.values[asm.offset_of[VCCS] :][: len(asm.pairs[VCCS])]
            self._gross = 2 * own + 4 * np.abs(gm).sum()
        return self._gross

    def _whole(self, a):
        """The system of all unknowns with linear part `a`, sparse."""
        asm = self.assembly
        return reference.NodalSystem(
            n=asm.n,
            base=a.data.copy(),
            indptr=a.indptr,
            indices=a.indices,
            anode=asm.anode,
            cathode=asm.cathode,
            branch=asm.diode_branch,
            stamp=reference.stamps(
                asm.n, asm.anode, asm.cathode, asm.diode_branch, a.indptr, a.indices
            ),
            parameters=self.parameters,
        )

    def _dense(self, a):
        """The system of all unknowns with linear part `a`, dense."""
        asm = self.assembly
        return reference.NodalSystem(
            n=asm.n,
            base=a.toarray(),
            indptr=None,
            indices=None,
            anode=asm.anode,
            cathode=asm.cathode,
            branch=asm.diode_branch,
            parameters=self.parameters,
            stamp=reference.stamps(asm.n, asm.anode, asm.cathode, asm.diode_branch),
        )

    def _linear(self, kernels):
        """Factors of a circuit without diodes: symmetric head and tail if large and reciprocal,
        else SuperLU.
        """
        asm = self.assembly
        if self.factor is None and asm.n >= SYMMETRIC_FROM and asm.n == asm.n_unknown_nodes:
            if abs(self.a - self.a.T).max() == 0:
                self.head = reference_head.plan_head(self.a) if self.head is None else self.head
                try:
                    self.factor = SymmetricFactor(self.head, self.a.data, kernels)
                except SingularCircuitError:
                    # not positive definite (negative transconductances), or singular
                    self.factor = None
        if self.factor is None:
            try:
                self.factor = Factor(self.a, self.unknown_name)
            except SingularCircuitError:
                self.factor = self.without_subtraction()
                if self.factor is None:
                    raise
        return self.factor

    def without_subtraction(self):
        """Factor of a circuit of resistors and independent sources, None of another or a large one."""
        asm, net = self.assembly, self.net
        other = any(net.names[kind] for kind in (VCVS, VCCS, CCCS, CCVS, AMPLIFIER))
        if other or asm.ideal.any() or not 0 < asm.n_unknown_nodes <= DENSE_LIMIT:
            return None
        a, b = asm.unknown_of_node[asm.pairs[RESISTOR]].T
        g = np.asarray(net.values[RESISTOR], dtype=np.float64)
        inside = (a >= 0) & (b >= 0)
        n = asm.n_unknown_nodes
        between, ground = np.zeros((n, n)), np.zeros(n)
        np.add.at(between, (a[inside], b[inside]), g[inside])
        for this, other in ((a, b), (b, a)):
            end = (this >= 0) & (other < 0)
            np.add.at(ground, this[end], g[end])
        between = between + between.T
        if not asm.kept:
            return LaplaceFactor(between, ground, self.unknown_name)
        ties = asm.unknown_of_node[asm.pairs[VSOURCE][[k for _, k in asm.kept]]]
        return TiedLaplaceFactor(between, ground, ties, self.unknown_name)

    def _pivots(self, stamp):
        """Pivots and fill for a plausible operating point: diodes half open."""
        data = self.a.data.copy()
        typical = np.median(np.abs(data[data != 0])) if data.any() else 1.0
        for k, sign in enumerate((1, -1, -1, 1, 0, 0, 1, -1, 1)):
            hit = stamp[:, k] >= 0
            np.add.at(data, stamp[hit, k], sign * (typical if k < 4 else 1.0))
        full = sparse.csr_matrix((data, self.a.indices, self.a.indptr), shape=self.a.shape)
        ideal = self.assembly.diode_branch[self.assembly.ideal]
        for last in (ideal, ()):
            # the second serves circuits that only an ideal diode ties together
            try:
                return reference.lu_pattern(full, last)
            except RuntimeError as error:
                fault = error
        raise SingularCircuitError(f"the circuit matrix is singular ({fault})")

    def unknown_name(self, k):
        """What unknown k is, for messages."""
        asm, net = self.assembly, self.net
        if k < asm.n_unknown_nodes:
            return f"the voltage of node {net.node_names[asm.unknown_nodes[k]]!r}"
        k -= asm.n_unknown_nodes
        if k < len(asm.kept):
            kind, index = asm.kept[k]
            return f"the current of {net.names[kind][index]!r}"
        return f"the current of {net.names[DIODE][np.flatnonzero(asm.ideal)[k - len(asm.kept)]]!r}"

    def solve(self, rhs, offset, *, kernels, polish, junction=None, max_iter=100, n_threads=1):
        """Unknowns (M, n) and what became of every sample; `polish` (a Polish) ends what Newton
        cannot.

        Returns
        -------
        x, junction, iterations, method, ok, worst : arrays over samples (`worst`: number of an
        unknown)
        """
        m = len(rhs)
        if self.system is None:
            factor = self._linear(kernels)
            x = factor.solve(rhs)
            if not isinstance(factor, LaplaceFactor):  # whose sums `a` has lost
                x = x + factor.solve(rhs - x @ self.a.T)
            zero = np.zeros(m, dtype=np.int64)
            ok = np.isfinite(x).all(axis=1)
            return x, np.zeros((m, 0)), zero + 1, zero, ok, zero
        reduced_rhs, inner_x = rhs, None
        if self.inner is not None:
            inner_rhs, reduced_rhs = rhs[:, self.inner], np.ascontiguousarray(rhs[:, self.retained])
            if inner_rhs.any():
                inner_x = self.inner_factor.solve(inner_rhs)
                reduced_rhs -= inner_x @ self.a_ri.T
        system = self.system
        y = np.zeros((m, system.n))
        warm = junction is not None
        junction = np.array(junction) if warm else reference.start_junctions(system, m)
        report = kernels.nodal_newton(
            system, reduced_rhs, offset, y, junction, max_iter=max_iter, n_threads=n_threads
        )
        iterations, method = report.iterations.astype(np.int64), np.zeros(m, dtype=np.int64)
        status, worst = report.status.copy(), report.worst.astype(np.int64)
        self._doubt_forward_voltages(y, offset, junction, status)
        x = self._all_unknowns(y, inner_x)
        for s in np.flatnonzero(status != reference.CONVERGED):
            own_inner = None if inner_x is None else inner_x[s : s + 1]

            def end(found, s=s, own_inner=own_inner):
                """The answer that a sample's reduced unknowns and junctions wander about, or None."""
                return polish(s, self._all_unknowns(found[0], own_inner)[0], found[1][0])

            polished = end((y[s : s + 1], junction[s : s + 1]))
            if polished is None:
                one = slice(s, s + 1)
                found, method[s], spent = self._rescue(
                    kernels, system, reduced_rhs[one], rhs[one], offset[one], max_iter, end
                )
                iterations[s] += spent
                if found is None:
                    continue
                y[s], junction[s] = found[0][0], found[1][0]
                x[s] = self._all_unknowns(y[s : s + 1], own_inner)[0]
            else:
                x[s], junction[s] = polished[0], polished[2]
            status[s] = reference.CONVERGED
        ok = (status == reference.CONVERGED) & np.isfinite(x).all(axis=1)
        worst = self.retained[worst] if self.retained.size else worst
        return x, junction, iterations, method, ok, worst

    def _doubt_forward_voltages(self, y, offset, junction, status):
        """Not converged: samples whose ideal diodes show voltages that rounding does not explain,
        as a system factored without pivoting can.
        """
        ideal = self.system.branch >= 0
        if not ideal.any() or not self.system.n:
            return
        v = offset[:, ideal].copy()
        for terminal, sign in ((self.system.anode[ideal], 1.0), (self.system.cathode[ideal], -1.0)):
            v += np.where(terminal >= 0, sign * y[:, terminal], 0.0)
        over = np.where(junction[:, ideal] > 0, np.abs(v), v).max(axis=1)
        largest = np.abs(y[:, self.retained < self.assembly.n_unknown_nodes]).max(
            axis=1, initial=0.0
        )
        largest = np.maximum(largest, np.abs(offset).max(axis=1, initial=0.0))
        status[(status == reference.CONVERGED) & (over > FORWARD * largest)] = (
            reference.NOT_CONVERGED
        )

    def _all_unknowns(self, y, inner_x):
        """The solved unknowns (M, n_r) with those that follow from them."""
        if self.inner is None:
            return y
        x = np.zeros((len(y), self.assembly.n))
        x[:, self.retained] = y
        x[:, self.inner] = (
            -(y @ self.response.T) if inner_x is None else inner_x - y @ self.response.T
        )
        return x

    def _rescue(self, kernels, system, rhs, whole_rhs, offset, max_iter, end):
        """One sample by full pivoting (with ideal diodes: by complementarity), then gmin stepping
        (across diodes, then at all nodes), then source stepping: ((x, junction) or None, method,
        iterations). `end` polishes what does not settle.
        """
        spent, budget, final = 0, BUDGET * max_iter, False
        ideal = bool(self.assembly.ideal.any())
        active = any(self.net.names[kind] for kind in (VCVS, VCCS, CCCS, CCVS, AMPLIFIER))
        n_nodes = self.assembly.n_unknown_nodes

        def fast_newton(changed, rhs, offset, x, junction, max_iter):
            """Compiled, with pivoting where that fails."""
            start, vj = x.copy(), junction.copy()
            if changed.indptr is None or changed.lu is not None:
                report = kernels.nodal_newton(changed, rhs, offset, start, vj, max_iter=max_iter)
                if report.status[0] != reference.SINGULAR:
                    x[:], junction[:] = start, vj
                    return report
            return reference.nodal_newton(changed, rhs, offset, x, junction, max_iter=max_iter)

        if ideal:
            budget = IDEAL_BUDGET
            retained_nodes = int((self.retained < n_nodes).sum())
            newton = partial(complementary_newton, n_nodes=retained_nodes, max_iter=max_iter)
            step, whole_step = (
                newton,
                partial(complementary_newton, n_nodes=n_nodes, max_iter=max_iter),
            )
        else:
            newton = partial(reference.nodal_newton, max_iter=max_iter)
            step = whole_step = partial(fast_newton, max_iter=min(max_iter, STEP_ITERATIONS))

        def run(parameters, scale, x, junction):
            nonlocal spent, final
            if spent >= budget or final:
                return None
            changed = replace(system, parameters=parameters, cache={})
            x, junction = x.copy(), junction.copy()
            if parameters is system.parameters and scale == 1.0:
                report = newton(changed, rhs, offset, x, junction)
            else:
                report = step(changed, rhs * scale, offset * scale, x, junction)
            spent += int(report.iterations[0])
            settled = report.status[0] == reference.CONVERGED
            singular = report.status[0] == reference.SINGULAR
            final = final or (ideal and singular and not active and parameters is system.parameters)
            if singular or not np.isfinite(x).all():
                return None
            if parameters is system.parameters and scale == 1.0 and (ideal or not settled):
                polished = end((x, junction))
                if polished is not None:
                    return polished[0][None, self.retained], polished[2][None]
            return (x, junction) if settled else None

        with np.errstate(all="ignore"), one_blas_thread():
            zero, start = np.zeros((1, system.n)), reference.start_junctions(system, 1)
            found = run(system.parameters, 1.0, zero, start)
            if found:
                return found, 4 if ideal else 1, spent
            found, _, _ = self._gmin_steps(system, run, zero, start)
            if found or final:
                return found, 2, spent
            tried, more = self._shunt_steps(whole_step, whole_rhs, offset, start, budget - spent)
            spent += more
            found = run(system.parameters, 1.0, *tried) if tried else None
            if found:
                return found, 2, spent
            found = self._source_steps(system, run, zero, np.zeros_like(start))
            if found:
                return found, 3, spent
        return None, 0, spent

    def _gmin_steps(self, system, run, zero, start):
        """From diodes shunted by 10 mS down to the circuit's own gmin, in steps that shrink when
        one fails.
        """
        target, level, factor = self.net.gmin, 1e-2, 10.0
        floor = max(target, 1e-14)

        def at(level):
            parameters = system.parameters.copy()
            parameters[:, reference.P_GMIN] = np.maximum(level, parameters[:, reference.P_GMIN])
            return parameters

        state = run(at(level), 1.0, zero, start)
        while state and level > floor and factor > 1.0005:
            lower = max(level / factor, floor)
            tried = run(at(lower), 1.0, *state)
            if tried:
                state, level, factor = tried, lower, min(factor * factor, 10.0)
            else:
                factor = factor**0.25
        if not state or level > floor:
            return None, level, factor
        return run(system.parameters, 1.0, *state), level, factor

    def _shunt_steps(self, newton, rhs, offset, start, budget):
        """From all nodes shunted to ground by 1 S down to nothing, as ngspice does, for gain that
        shunts of diodes do not tame: ((x, junction) or None, iterations).
        """
        a, n, spent = self.a, self.assembly.n_unknown_nodes, 0
        small = self.assembly.n <= DENSE_DIODE_LIMIT and not self.assembly.ideal.any()
        whole = self._dense if small else self._whole
        rows = np.r_[np.repeat(np.arange(a.shape[0]), np.diff(a.indptr)), np.arange(n)]
        cols = np.r_[a.indices, np.arange(n)]

        def run(level, x, junction):
            nonlocal spent
            if spent >= budget:
                return None
            x, junction = x.copy(), junction.copy()
            # a sum of matrices would drop the diodes' empty places
            data = np.r_[a.data, np.full(n, level)]
            shunted = sparse.csr_matrix((data, (rows, cols)), shape=a.shape)
            report = newton(whole(shunted), rhs, offset, x, junction)
            spent += int(report.iterations[0])
            good = report.status[0] == reference.CONVERGED and np.isfinite(x).all()
            return (x, junction) if good else None

        level, factor = 1.0, 10.0
        state = run(level, np.zeros((1, self.assembly.n)), start)
        while state and level > 1e-18 and factor > 1.0005:
            tried = run(level / factor, *state)
            if tried:
                state, level, factor = tried, level / factor, min(factor * factor, 10.0)
            else:
                factor = factor**0.25
        if not state or level > 1e-18:
            return None, spent
        return (state[0][:, self.retained], state[1]), spent

    @staticmethod
    def _source_steps(system, run, zero, start):
        """All sources raised together from nothing, in steps that shrink when one fails."""
        state, done, step = run(system.parameters, 0.0, zero, start), 0.0, 0.05
        while state and done < 1.0 and step > 1e-6:
            goal = min(1.0, done + step)
            tried = run(system.parameters, goal, *state)
            if tried:
                state, done, step = tried, goal, step * 1.5
            else:
                step *= 0.25
        return state if state and done >= 1.0 else None
