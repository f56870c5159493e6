"""The direct-current operating point of a netlist, for one input vector or a batch of them."""

from dataclasses import dataclass
from functools import cached_property
from numbers import Integral

import numpy as np
from scipy.sparse import linalg

from ..kernels import get_backend
from ..kernels.blas import one_blas_thread
from ..kernels.reference.nodal import EXP_MAX, P_RS, beyond_exp, diode_current
from . import checks
from .elements import AMPLIFIER, CCCS, CCVS, DIODE, ISOURCE, RESISTOR, VCCS, VCVS, VSOURCE
from .errors import CircuitError, ElementError, UnknownNodeError
from .netlist import check_netlist
from .polish import UNIT, Polish, blur, harmless, two_sum
from .solver import METHODS, Solver

RESIDUAL_LIMIT = 1e-10  # of the largest branch current: more means that the answer is not one
NOTHING = 1e-30  # ampere: residual of a circuit in which no current flows
POLISH_FROM = 0.5 * RESIDUAL_LIMIT  # half, so that no order of summation decides
SUM_FROM = 0.1 * RESIDUAL_LIMIT  # where cheap sums and their rounding leave less, they will do
PIECE = 4096  # resistors whose currents are held at a time: a batch times a large crossbar would not fit


def solver_of(netlist):
    """The netlist's Solver, made at first use and after a change of topology, refreshed after a
    change of values.
    """
    kept = netlist.__dict__.get("_solver")
    stamp = (
        netlist.version,
        netlist.value_version,
        netlist.temperature,
        netlist.tnom,
        netlist.gmin,
    )
    if kept is None or kept[0][0] != stamp[0]:
        kept = (stamp, Solver(netlist))
    elif kept[0] != stamp:
        kept[1].refresh()
        kept = (stamp, kept[1])
    netlist.__dict__["_solver"] = kept
    return kept[1]


@one_blas_thread()
@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # what is no number is no success
def _nudge_currents(netlist, nudge):
    """Currents into all nodes (M, nodes) of a nudge (M, outputs)."""
    if nudge.shape[1] != len(netlist.outputs):
        raise ElementError(f"nudge must have {len(netlist.outputs)} columns, got {nudge.shape[1]}")
    extra = np.zeros((len(nudge), netlist.n_nodes))
    for k, (plus, minus) in enumerate(netlist.outputs):
        extra[:, plus] += nudge[:, k]
        extra[:, minus] -= nudge[:, k]
    return extra


def _junctions_of(start, shape):
    """The diode voltages at which another operating point ended."""
    if not isinstance(start, OperatingPoint) or start._junction.shape != shape:
        raise ElementError(
            "start must be an operating point of the same netlist and number of samples"
        )
    return start._junction


def _obeys_the_law(worst_residual, voltages, largest_current, gross):
    """Samples whose residual is surely small enough, by what cheap sums, what rounding can make of
    them, and a few currents say: only the others pay for all their branch currents, and for the
    polish.
    """
    largest = np.maximum(voltages.max(axis=1), -voltages.min(axis=1))
    return worst_residual + 8 * UNIT * gross * largest <= SUM_FROM * largest_current


def operating_point(
    netlist, inputs=None, *, backend="auto", nudge=None, start=None, max_iter=100, n_threads=1
):
    """Node voltages at which Kirchhoff's current law holds.

    Parameters
    ----------
    netlist : Netlist
    inputs : array-like of shape (n_inputs,) or (n_samples, n_inputs), optional
        Values of the marked input sources, volt or ampere; None: the netlist's own values.
    backend : {"auto", "c", "numba", "numpy"}
    nudge : array-like of shape (n_outputs,) or (n_samples, n_outputs), optional
        Current pushed into the plus node of every output and pulled out of its minus node, ampere.
    start : OperatingPoint, optional
        Begin at the diode voltages of this result (of as many samples), as the nudged phase does.
    max_iter : int
        Newton iterations of one attempt.
    n_threads : int

    Returns
    -------
    OperatingPoint
        `success` is False for samples that did not converge; `worst` names the node that moved most.

    Raises
    ------
    CircuitError
        Subclasses name the fault: floating node, loop of voltage sources, unknown model, singular
        circuit.
    """
    check_netlist(netlist)
    kernels = get_backend(backend)
    max_iter, n_threads = checks.count("max_iter", max_iter), checks.count("n_threads", n_threads)
    single = (inputs is None or np.ndim(inputs) == 1) and (nudge is None or np.ndim(nudge) == 1)
    inputs, nudge = _rows("inputs", inputs), _rows("nudge", nudge)
    counts = [len(x) for x in (inputs, nudge) if x is not None]
    m = min(counts, default=1) if 0 in counts else max(counts, default=1)
    inputs, nudge = _spread(inputs, m), _spread(nudge, m)
    solver = solver_of(netlist)
    asm = solver.assembly
    v, i = asm.sources(inputs, m)
    checks.bounded("voltages of sources", v)
    checks.bounded("currents of sources", i)
    checks.bounded("nudge", nudge)
    extra = None if nudge is None else _nudge_currents(netlist, nudge)
    rhs, known, offset, into = asm.right_hand_side(solver.drive, v, i, extra)
    junction = None if start is None else _junctions_of(start, offset.shape)
    polish = Polish(solver, known, offset, v, into)
    x, junction, iterations, method, ok, worst = solver.solve(
        rhs,
        offset,
        kernels=kernels,
        polish=polish,
        junction=junction,
        max_iter=max_iter,
        n_threads=n_threads,
    )
    voltages = known.copy()
    voltages[:, asm.unknown_nodes] = x[:, : asm.n_unknown_nodes]
    beyond = beyond_exp(harmless(asm, solver.parameters), junction) & ~asm.ideal
    ok = ok & ~beyond.any(axis=1)
    currents = diode_currents(asm, solver.parameters, x, junction)
    worst_residual = _worst(_residual(solver, x, currents, rhs))
    found = OperatingPoint(
        voltages=voltages,
        kcl_residual=worst_residual.copy(),
        iterations=iterations,
        success=ok,
        methods=[METHODS[k] for k in method],
        worst=[
            None if good else _blamed(solver, int(k), off)
            for good, k, off in zip(ok, worst, beyond, strict=True)
        ],
        netlist=netlist,
        single=single,
        _assembly=asm,
        _x=x,
        _junction=junction,
        _sources=(v, i),
        _into=into,
        _values=solver.values,
        _parameters=solver.parameters,
        _marked=netlist.outputs,
    )
    some = np.abs(
        np.hstack([currents, x[:, asm.n_unknown_nodes :], found._currents(RESISTOR, at_most=500)])
    )
    largest_current = some.max(axis=1, initial=0.0)
    sure = _obeys_the_law(worst_residual, voltages, largest_current, solver.gross)
    doubtful = np.flatnonzero(ok & ~sure)
    if doubtful.size:
        _settle(found, solver, polish, doubtful)
    return found


def _blamed(solver, k, beyond):
    """Name of the first diode that is `beyond` its exponential, else of unknown k, that moved most."""
    if beyond.any() or not solver.assembly.n:  # without unknowns only diodes can fail
        return f"the current of {solver.net.names[DIODE][int(np.argmax(beyond))]!r}"
    return solver.unknown_name(k)


def _settle(found, solver, polish, doubtful):
    """Sum the branch currents of some samples at every node, polish those that do not balance, and
    leave success only to those that do then.
    """
    nodes = solver.assembly.unknown_nodes
    ok, worst = np.atleast_1d(found.success), np.atleast_1d(found.kcl_residual)
    residual, largest = found._leaving(doubtful)[:, nodes], found._largest(doubtful)
    again = np.flatnonzero(~(_worst(residual) <= POLISH_FROM * largest))
    done = []
    for k in again:
        s = doubtful[k]
        polished = polish(s, found._x[s], found._junction[s])
        if polished is None:
            continue
        if found._low is None:
            found._low = np.zeros((2, *found._rows.shape))
        found._x[s], low, found._junction[s] = polished
        found._rows[s, nodes], found._low[:, s, nodes] = (
            found._x[s, : nodes.size],
            low[:, : nodes.size],
        )
        done.append(k)
    if done:
        residual[done] = found._leaving(doubtful[done])[:, nodes]
        largest[done] = found._largest(doubtful[done])
    worst[doubtful] = _worst(residual)
    for k in np.flatnonzero(~(worst[doubtful] <= np.maximum(RESIDUAL_LIMIT * largest, NOTHING))):
        s = doubtful[k]
        found.worst[s], ok[s] = solver.unknown_name(int(np.argmax(np.abs(residual[k])))), False
    found.success = bool(ok[0]) if found.single else ok
    found.kcl_residual = float(worst[0]) if found.single else worst


def _rows(what, values):
    if values is None:
        return None
    values = checks.array(what, values)
    if values.ndim not in (1, 2):
        raise ElementError(
            f"{what} must be of shape (n,) or (n_samples, n), got shape {values.shape}"
        )
    return np.atleast_2d(values)


def _spread(rows, m):
    """The same rows for m samples: one row serves all of them."""
    if rows is None or len(rows) == m:
        return rows
    if len(rows) != 1:
        raise ElementError(
            f"inputs and nudge must have the same number of rows, got {m} and {len(rows)}"
        )
    return np.broadcast_to(rows, (m, rows.shape[1]))


def _residual(solver, x, current, rhs):
    """KCL violation at every unknown node (M, n_unknown_nodes), ampere."""
    n = solver.assembly.n_unknown_nodes
    residual = x @ solver.node_rows - rhs[:, :n]
    if solver.assembly.diode_into.nnz:
        residual = residual + current @ solver.assembly.diode_into
    return residual


def _worst(residual):
    """Largest violation at any node (M,), that of ground being the sum of all others."""
    return np.maximum(np.abs(residual).max(axis=1, initial=0.0), np.abs(residual.sum(axis=1)))


def diode_currents(asm, parameters, x, junction):
    """Currents of all diodes from anode to cathode (M, n_d)."""
    if not len(asm.anode):
        return np.zeros((len(x), 0))
    plain = np.where(asm.ideal, 0.0, junction)
    current, _ = diode_current(harmless(asm, parameters), plain, precise=True)
    if not asm.ideal.any():
        return current
    return np.where(asm.ideal, x[:, asm.diode_branch], current)


@dataclass
class OperatingPoint:
    """What `operating_point` returns; every array has one row per sample, none if `inputs` was one
    vector.

    It stays what it was found to be: later changes of the netlist do not reach it.

    Attributes
    ----------
    voltages : float64 (M, n_nodes)
        Node voltages in the order of `netlist.node_names`, volt.
    kcl_residual : float64 (M,)
        Largest violation of Kirchhoff's current law at any node by the branch currents that this
        object reports, ampere. Success demands at most 1e-10 of the largest branch current (1e-30 A
        where nothing flows). Currents worked out again from `voltages` can be worse by
        `kcl_rounding`: where that matters, this object's own come from voltages of more digits than
        float64 has.
    iterations : int (M,)
        Newton iterations, those of failed attempts included.
    success : bool (M,)
    methods : list of str
        "newton", "pivoted newton", "complementarity", "gmin stepping" or "source stepping", per
        sample.
    worst : list
        None, or for a failed sample the unknown (node voltage or branch current) that moved most at
        the end, the node where currents do not balance, or a diode at a voltage whose exponential
        is no number.
    """

    voltages: np.ndarray
    kcl_residual: np.ndarray
    iterations: np.ndarray
    success: np.ndarray
    methods: list
    worst: list
    netlist: object
    single: bool
    _assembly: object
    _x: np.ndarray
    _junction: np.ndarray
    _sources: tuple
    _into: np.ndarray | None
    _values: np.ndarray
    _parameters: np.ndarray
    _marked: list
    # what rounding took from `voltages` (2, M, n_nodes), if any was polished
    _low: np.ndarray | None = None

    def __post_init__(self):
        if self.single:
            self.voltages, self.kcl_residual = self.voltages[0], float(self.kcl_residual[0])
            self.iterations, self.success = int(self.iterations[0]), bool(self.success[0])

    def _one(self, rows):
        return rows[0] if self.single else rows

    @property
    def _rows(self):
        return np.atleast_2d(self.voltages)

    def raise_for_failure(self):
        """CircuitError if any sample failed, naming the first one's worst node."""
        if not np.all(self.success):
            k = int(np.argmin(np.atleast_1d(self.success)))
            raise CircuitError(
                f"sample {k}: no operating point found; {self.worst[k]} did not settle"
            )
        return self

    def voltage(self, node, minus="0"):
        """Voltage of a node against another (ground), volt."""
        rows, places = self._rows, [self.netlist.find_node(node), self.netlist.find_node(minus)]
        if max(places) >= rows.shape[1]:
            late = (node, minus)[int(np.argmax(places))]
            raise UnknownNodeError(f"node {late!r} came later than this operating point")
        return self._one(rows[:, places[0]] - rows[:, places[1]])

    @property
    def outputs(self):
        """Voltages of the marked outputs (M, n_outputs), volt."""
        rows = self._rows
        pairs = np.array(self._marked, dtype=np.int64).reshape(-1, 2)
        return self._one(rows[:, pairs[:, 0]] - rows[:, pairs[:, 1]])

    def difference(self, other):
        """Node voltages minus those of another operating point of the netlist and as many samples,
        volt.

        More digits than `voltages - other.voltages`, where either has been polished.
        """
        if other.voltages.shape != self.voltages.shape:
            raise ElementError(
                f"an operating point of {self.voltages.shape} voltages has no difference from one of "
                f"{other.voltages.shape}"
            )
        out = self.voltages - other.voltages
        for point, sign in ((self, 1.0), (other, -1.0)):
            if point._low is not None:
                out = out + sign * self._one(point._low[0])
        return out

    def branch_currents(self, kind=None):
        """Currents from the first terminal through the element to the second, ampere.

        Parameters
        ----------
        kind : int, optional
            An element kind (elements.RESISTOR ...); None: dictionary of name -> current over all
            elements.
        """
        if kind is not None:
            if not isinstance(kind, Integral) or not 0 <= kind < len(self._assembly.pairs):
                raise ElementError(
                    f"kind must be one of the numbers in circuits.elements, got {kind!r}"
                )
            return self._one(self._currents(int(kind)))
        out = {}
        for k, names in enumerate(self.netlist.names):
            table = self._currents(k)  # elements that came later have no column
            out.update(
                {name: self._one(table[:, j]) for j, name in enumerate(names[: table.shape[1]])}
            )
        return out

    def _across(self, a, b, samples=slice(None)):
        """Voltages of nodes `a` against nodes `b`, with the digits that `voltages` lost."""
        rows = self._rows[samples]
        if self._low is None:
            return rows[:, a] - rows[:, b]
        low, least = self._low[:, samples]
        drop, small = two_sum(rows[:, a], -rows[:, b])
        more, tiny = two_sum(low[:, a], -low[:, b])
        return (drop + more) + ((small + tiny) + (least[:, a] - least[:, b]))

    def _currents(self, kind, samples=slice(None), at_most=None):
        """Currents of all elements of a kind (M, count), or of `at_most` of the resistors, evenly
        spread.
        """
        asm, x = self._assembly, self._x[samples]
        pairs, count = asm.pairs[kind], len(asm.pairs[kind])
        if not count:
            return np.zeros((len(x), 0))
        own = self._values[asm.offset_of[kind] :][:count] if kind in asm.offset_of else None
        if kind == RESISTOR:
            every = slice(None, None, 1 if at_most is None else max(1, count // at_most))
            return own[every] * self._across(pairs[every, 0], pairs[every, 1], samples)
        if kind == DIODE:
            return diode_currents(asm, self._parameters, x, self._junction[samples])
        if kind == ISOURCE:
            return self._sources[1][samples]
        if kind == VCCS:
            return own * self._across(pairs[:, 2], pairs[:, 3], samples)
        if kind == CCCS:
            return own * self._branch(VSOURCE, samples)[:, asm.control[CCCS]]
        if kind == VSOURCE:
            whole = isinstance(samples, slice)
            return self._vsource_currents if whole else self._source_currents(samples)
        return self._branch(kind, samples)

    def _resistor_currents(self, samples):
        """Currents of all resistors, in pieces: (which, currents (M, at most PIECE)) each."""
        asm, values = self._assembly, self._values[1:]
        for k in range(0, len(asm.pairs[RESISTOR]), PIECE):
            a, b = asm.pairs[RESISTOR][k : k + PIECE].T
            yield slice(k, k + len(a)), values[k : k + len(a)] * self._across(a, b, samples)

    def _branch(self, kind, samples=slice(None)):
        asm, x = self._assembly, self._x[samples]
        out = np.zeros((len(x), len(asm.pairs[kind])))
        for (found, index), unknown in asm.branch_unknown.items():
            if found == kind:
                out[:, index] = x[:, unknown]
        return out

    def _leaving(self, samples=slice(None)):
        """Sum of the branch currents that leave every node (M, n_nodes), but for those of voltage
        sources of the tree to ground.

        Currents are summed, not conductances times voltages: what cancels there is far larger.
        """
        asm = self._assembly
        out = np.zeros(self._rows[samples].shape)
        if self._into is not None:  # current sources, and the nudge
            out -= self._into[samples]
        for which, current in self._resistor_currents(samples):
            out += current @ asm.incidence(RESISTOR)[which]
        for kind in (DIODE, VSOURCE, VCVS, VCCS, CCCS, CCVS):
            if len(asm.pairs[kind]):
                kept = self._branch if kind == VSOURCE else self._currents
                out += kept(kind, samples) @ asm.incidence(kind)
        for k, (node_in, node_out) in enumerate(asm.pairs[AMPLIFIER]):
            current = self._x[samples, asm.branch_unknown[AMPLIFIER, k]]
            out[:, node_out] += current
            out[:, node_in] -= self._values[asm.feedback_at + k] * current
        return out

    @cached_property
    def _vsource_currents(self):
        return self._source_currents(slice(None))

    def _source_currents(self, samples):
        """Currents of the voltage sources: kept branches are unknowns; those of the tree to ground
        follow from Kirchhoff's law at their nodes.
        """
        asm = self._assembly
        out = self._branch(VSOURCE, samples)
        tree, nodes = np.flatnonzero(asm.in_tree), np.flatnonzero(asm.known)[1:]
        if tree.size:
            ends = asm.incidence(VSOURCE)[tree][:, nodes].T.tocsc()
            leaving = self._leaving(samples)[:, nodes]
            out[:, tree] = linalg.splu(ends).solve(np.ascontiguousarray(-leaving.T)).T
        return out

    @cached_property
    def _node_rows(self):
        asm = self._assembly
        return asm.node_rows(self._values)

    @cached_property
    def largest_current(self):
        """Largest magnitude of any branch current (M,), ampere."""
        return self._one(self._largest(slice(None)))

    def _largest(self, samples):
        largest = np.zeros(len(self._x[samples]))
        for kind in range(1, len(self._assembly.pairs)):
            largest = np.maximum(
                largest, np.abs(self._currents(kind, samples)).max(axis=1, initial=0.0)
            )
        for _, current in self._resistor_currents(samples):
            largest = np.maximum(largest, np.abs(current).max(axis=1))
        return largest

    @cached_property
    def kcl_rounding(self):
        """What Kirchhoff's law can be missed by when currents are worked out from `voltages` alone
        (M,), A.

        Rounding to float64 does that, not a wrong answer; the branch currents of this object do not
        suffer it. At the node where it is largest: half a unit in the last place of every voltage
        times the conductance that it meets there, a unit of every junction voltage times its slope,
        two of every diode's current.
        """
        asm = self._assembly
        full = np.hstack([self._rows, self._x[:, asm.n_unknown_nodes :]])
        bound = np.abs(full) @ abs(self._node_rows).T
        if self._into is not None:
            bound = bound + np.abs(self._into)
        bound = bound[:, asm.unknown_nodes]
        if asm.diode_into.nnz:
            plain = np.where(asm.ideal, 0.0, self._junction)
            _, slope = diode_current(harmless(asm, self._parameters), plain)
            bound = bound + blur(self._currents(DIODE), slope, plain) @ abs(asm.diode_into)
        return self._one(UNIT * bound.max(axis=1, initial=0.0))

    @cached_property
    def power(self):
        """Power dissipated in resistors and diodes (M,), watt."""
        return self._one(
            (self._currents(RESISTOR) * self._drops(RESISTOR)).sum(axis=1)
            + (self._currents(DIODE) * self._drops(DIODE)).sum(axis=1)
        )

    def _drops(self, kind):
        a, b = self._assembly.pairs[kind][:, :2].T
        return self._across(a, b)

    @cached_property
    def co_content(self):
        """Sum over resistors and diodes of the integral of i dv (M,), watt: the energy of EP for
        reciprocal circuits.

        g dv^2 / 2 for a resistor; for a diode the integral of its characteristic from 0 V, series
        resistance included (papers: 2006.01981, section 7.1 of our dossier). Current sources are
        not counted.
        """
        total = 0.5 * (self._currents(RESISTOR) * self._drops(RESISTOR)).sum(axis=1)
        asm = self._assembly
        plain = ~asm.ideal
        if plain.any():
            par, v = self._parameters[plain], self._junction[:, plain]
            current, _ = diode_current(par, v)
            total += (_junction_co_content(par, v) + 0.5 * par[:, P_RS] * current**2).sum(axis=1)
        return self._one(total)


def _junction_co_content(par, v):
    """Integral from 0 to v of the junction current."""
    i_sat, vte, gmin, bv, vtb = par[:, 0], par[:, 1], par[:, 4], par[:, 5], par[:, 6]
    edge = -3 * vte
    forward = np.maximum(v, edge)
    total = i_sat * (vte * np.expm1(np.minimum(forward / vte, EXP_MAX)) - forward)
    below = np.minimum(np.maximum(v, -bv), edge)
    total += -i_sat * ((below - edge) - 0.5 * (3 * vte / np.e) ** 3 * (1 / below**2 - 1 / edge**2))
    broken = np.minimum(v + np.where(np.isfinite(bv), bv, 0.0), 0.0)
    total += np.where(v < -bv, i_sat * vtb * np.expm1(np.minimum(-broken / vtb, EXP_MAX)), 0.0)
    return total + 0.5 * gmin * v**2
