"""Equilibrium propagation in any netlist: the local rule, its gradient, and a small trainer.

The energy of a reciprocal circuit is its co-content E (2006.01981): E is stationary where
Kirchhoff's current law holds, and dE/dg = dv^2 / 2. Nudging by currents beta (y - yhat) into the
outputs adds beta times the loss to it, so

    dL/dg = (dv_nudged^2 - dv_free^2) / (2 beta)      or, centered,     (dv_+^2 - dv_-^2) / (4 beta).

The nudge is either that current, found at the free phase's outputs and held, or exact: a
conductance beta from every output (pair) to a source at its target, whose energy is beta times the
squared loss itself. Both have the same limit for beta -> 0.

A bidirectional amplifier of gain A and feedback f keeps an energy in which everything behind it
counts f / A times (1 / A^2 for f = 1 / A). `energy_scales` finds these factors; the rule is then
exact for every layer: the energy of a conductance counts s_g, a current into an output of scale
s_out nudges with beta s_out.
"""

import copy
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from ..kernels import Conductances, get_backend
from ..kernels.blas import one_blas_thread
from . import checks, nudging
from .elements import AMPLIFIER, CCCS, CCVS, DIODE, ISOURCE, RESISTOR, VCCS, VCVS, VSOURCE
from .errors import CircuitError, ElementError, ReciprocityError
from .netlist import MAX_SIEMENS, check_netlist
from .operating_point import operating_point, solver_of

LOSSES = ("squared", "cross_entropy")
NUDGES = ("current", "conductance")
MOST_TRIES = 40  # of beta="auto", each at most half the one before
# siemens; where g_min is zero a step stops here, for zero is an open circuit
CONDUCTANCE_FLOOR = 1e-12


def energy_scales(netlist, *, check=True):
    """Factor of every node's energy (n_nodes,), 1 where no amplifier lies before it; 0 at nodes of
    known voltage.

    Raises
    ------
    ReciprocityError
        If there is a controlled source other than a bidirectional amplifier, or amplifiers in a
        loop whose factors do not agree: such a circuit has no energy. With `check` False those are
        passed over (factor 1).
    """
    check_netlist(netlist)
    net, asm = netlist, solver_of(netlist).assembly
    if checks.flag("check", check):
        for kind in (VCVS, VCCS, CCCS, CCVS):
            if net.names[kind]:
                raise ReciprocityError(
                    f"{net.names[kind][0]!r} is a controlled source: the circuit has no energy"
                )
    unknown = ~asm.known
    edges = np.concatenate(
        [asm.pairs[kind][:, :2] for kind in (RESISTOR, DIODE, VSOURCE, ISOURCE, VCVS, CCVS)]
    )
    edges = edges[unknown[edges].all(axis=1)]
    graph = sparse.coo_matrix((np.ones(len(edges)), edges.T), shape=(net.n_nodes,) * 2)
    count, label = csgraph.connected_components(graph, directed=False)
    links = {}
    for k, (a, b) in enumerate(net.nodes[AMPLIFIER]):
        if not unknown[b]:
            continue
        ratio = net.feedback[k] / net.values[AMPLIFIER][k]
        if not unknown[a]:
            continue  # driven by a source: nothing before it to be in proportion with
        links.setdefault(label[a], []).append((label[b], ratio))
        if ratio == 0 and check:
            raise ReciprocityError(
                f"amplifier {net.names[AMPLIFIER][k]!r} feeds nothing back: the circuit has no energy"
            )
        links.setdefault(label[b], []).append((label[a], 1.0 / ratio if ratio else 1.0))
    scale = np.full(count, np.nan)
    targets = {label[b] for a, b in net.nodes[AMPLIFIER] if unknown[a]}
    # Begin where no amplifier ends, so that what the sources drive directly has factor 1.
    for root in sorted(range(count), key=lambda c: c in targets):
        if not np.isnan(scale[root]):
            continue
        scale[root], queue = 1.0, [root]
        for here in queue:
            for other, ratio in links.get(here, ()):
                wanted = scale[here] * ratio
                if np.isnan(scale[other]):
                    scale[other] = wanted
                    queue.append(other)
                elif check and abs(scale[other] - wanted) > 1e-9 * abs(wanted):
                    raise ReciprocityError(
                        "amplifiers form a loop with unequal factors: the circuit has no energy"
                    )
    return np.where(unknown, scale[label], 0.0)


def loss_and_drive(outputs, targets, loss):
    """Loss of each sample (M,) and minus its gradient with respect to the outputs (M, n_outputs).

    "squared": sum of (yhat - y)^2 / 2; "cross_entropy": of the softmax of the output voltages,
    targets one-hot.
    """
    if loss == "squared":
        return 0.5 * ((outputs - targets) ** 2).sum(axis=1), targets - outputs
    if loss == "cross_entropy":
        shifted = outputs - outputs.max(axis=1, keepdims=True)
        log_sum = np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        return -(targets * (shifted - log_sum)).sum(axis=1), targets - np.exp(shifted - log_sum)
    raise ValueError(f"loss must be one of {LOSSES}, got {loss!r}")


@dataclass
class CircuitGradient:
    """Mean loss over the samples, its gradient for every trainable conductance, the free phase, and
    the beta that was used, siemens.
    """

    loss: float
    gradient: np.ndarray
    outputs: np.ndarray
    free: object
    beta: float


def circuit_gradient(
    netlist,
    inputs,
    targets,
    *,
    beta="auto",
    centered=True,
    loss="squared",
    nudge="current",
    backend="auto",
    n_threads=1,
    check=True,
):
    """EP estimate of the gradient of the mean loss with respect to the trainable conductances.

    Parameters
    ----------
    netlist : Netlist
        With marked inputs and outputs, and trainable conductances.
    inputs : array-like (M, n_inputs)
    targets : array-like (M, n_outputs)
    beta : "auto" or float
        Nudging strength, siemens. "auto": such that outputs move by about 1e-4 of their error, from
        the resistance between their nodes at the free phase's operating point, and less where a
        junction would move by more than 1/64 of its thermal voltage. A number is measured: see
        Warns.
    centered : bool
        +beta against -beta (error O(beta^2)) instead of beta against the free phase (O(beta)).
    loss : {"squared", "cross_entropy"}
    nudge : {"current", "conductance"}
        "current": output currents beta (y - yhat), yhat from the free phase. "conductance": a
        conductance beta from the output (pair) to a source at y, so that the current follows the
        output while it moves (the nudge of 2402.11674); for the squared loss only. Two more
        matrices to factor for each batch.
    backend : {"auto", "c", "numba", "numpy"}
    n_threads : int
    check : bool
        Refuse circuits without an energy (ReciprocityError).

    Returns
    -------
    CircuitGradient

    Raises
    ------
    CircuitError
        If a phase does not converge, or if the negative one of conductance `beta` exceeds what the
        circuit itself has at an output, so that there is no equilibrium.

    Warns
    -----
    NudgeWarning
        If a given `beta` moves an output by more than 0.1 of its error or a conducting junction by
        more than half its thermal voltage (the gradient may be far off), or outputs by less than
        1e-10 of their error (rounding may drown it), or if the gradient of a few samples is more
        than 1 % off the exact one.
    """
    phases = _phases(
        netlist,
        inputs,
        targets,
        beta=beta,
        centered=centered,
        loss=loss,
        nudge=nudge,
        backend=backend,
        n_threads=n_threads,
        check=check,
    )
    return phases.found(
        _square_difference(phases.difference, phases.total, phases.pairs) * phases.scale
    )


@dataclass
class _Phases:
    """What the rule needs of two phases: voltages (M, n_nodes), first minus and plus second, and
    the factor from a sum over samples to the gradient for each conductance.
    """

    loss: float
    free: object
    difference: np.ndarray
    total: np.ndarray
    pairs: np.ndarray
    scale: np.ndarray
    beta: float

    def found(self, gradient):
        return CircuitGradient(self.loss, gradient, self.free.outputs, self.free, self.beta)


def _phases(
    netlist,
    inputs,
    targets,
    *,
    beta,
    centered,
    loss,
    nudge,
    backend,
    n_threads,
    check,
    compare=True,
):
    """Run the phases of `circuit_gradient`; `compare` what a given beta makes with the exact one."""
    _check_rule(beta, centered, loss, nudge, check)
    inputs, targets = _checked_data(netlist, inputs, targets)
    scales, s_out = _cached_scales(netlist, check)

    free = operating_point(
        netlist, inputs, backend=backend, n_threads=n_threads
    ).raise_for_failure()
    losses, drive = loss_and_drive(free.outputs, targets, loss)

    def nudged(b):
        net, amperes = (
            (netlist, b * drive) if nudge == "current" else (_loaded(netlist, b), b * targets)
        )
        point = operating_point(
            net, inputs, nudge=amperes, start=free, backend=backend, n_threads=n_threads
        )
        point.raise_for_failure()
        if nudge == "conductance" and b < 0 and check:
            _check_side(free.outputs - targets, point.outputs - targets)
        return point

    given = beta != "auto"
    if given:
        beta = float(beta)
        first = nudged(beta)
    else:
        beta, first = _gentle(netlist, free, drive, nudged)
    second, width = (nudged(-beta), 4 * beta) if centered else (free, 2 * beta)
    which = netlist.trainable_indices
    pairs = solver_of(netlist).assembly.pairs[RESISTOR][which]
    # one end may be a source
    s_g = np.maximum(np.abs(scales[pairs[:, 0]]), np.abs(scales[pairs[:, 1]]))
    phases = _Phases(
        loss=float(losses.mean()),
        free=free,
        difference=first.difference(second),
        total=first.voltages + second.voltages,
        pairs=pairs,
        scale=s_g / (width * s_out * len(inputs)),
        beta=beta,
    )
    if given:
        measured = nudging.measure(netlist, free, first, drive, beta)
        wrong = nudging.error(netlist, free, drive, phases, width) if compare else 0.0
        nudging.warn_of(beta, *measured, wrong)
    return phases


def _gentle(netlist, free, drive, nudged):
    """beta="auto" and the phase that it nudges: smaller until no junction moves too far."""
    beta = nudging.auto_beta(netlist, free, drive)
    for _ in range(MOST_TRIES):
        point = nudged(beta)
        too_much = nudging.excess(*nudging.measure(netlist, free, point, drive, beta))
        if too_much == 1:
            break
        beta /= too_much
    else:
        point = nudged(beta)
    return beta, point


def _check_rule(beta, centered, loss, nudge, check):
    if not (isinstance(beta, str) and beta == "auto") and checks.number("beta", beta) == 0:
        raise ElementError('beta must be "auto" or not zero')
    checks.flag("centered", centered)
    checks.flag("check", check)
    checks.choice("loss", loss, LOSSES)
    checks.choice("nudge", nudge, NUDGES)
    if nudge == "conductance" and loss != "squared":
        raise ValueError(
            f"nudge='conductance' is the squared loss; it cannot stand for loss={loss!r}"
        )


def _checked_data(netlist, inputs, targets):
    """`inputs` (M, n_inputs) and `targets` (M, n_outputs) as float64; the netlist can be trained."""
    inputs = np.atleast_2d(checks.array("inputs", inputs))
    targets = checks.bounded("targets", np.atleast_2d(checks.array("targets", targets)))
    check_netlist(netlist)
    if not len(inputs):
        raise ElementError("inputs must have at least one sample")
    if not netlist.outputs:
        raise ElementError("the netlist has no marked outputs")
    if targets.shape != (len(inputs), len(netlist.outputs)):
        raise ElementError(
            f"targets must have shape {(len(inputs), len(netlist.outputs))}, got {targets.shape}"
        )
    return inputs, targets


def _loaded(netlist, siemens):
    """The netlist with `siemens` (of any sign) across every output: with a current siemens * y into
    the output, the Norton form of a conductance to a source at y.

    The copy is kept with the netlist, so that its topology is analysed once.
    """
    kept = netlist.__dict__.get("_with_loads")
    if kept is None or kept[0] != netlist.version:
        twin = copy.copy(netlist)  # without its caches, see Netlist.__getstate__
        ends = list(netlist.outputs)
        twin.names, twin.nodes = list(netlist.names), list(netlist.nodes)
        twin.names[RESISTOR] = netlist.names[RESISTOR] + [
            f"load of output {k}" for k in range(len(ends))
        ]
        twin.nodes[RESISTOR] = netlist.nodes[RESISTOR] + ends
        kept = netlist.__dict__["_with_loads"] = (netlist.version, twin)
    twin = kept[1]
    twin.values, twin.feedback = list(netlist.values), netlist.feedback
    twin.values[RESISTOR] = netlist.values[RESISTOR] + [float(siemens)] * len(netlist.outputs)
    twin.temperature, twin.tnom, twin.gmin = netlist.temperature, netlist.tnom, netlist.gmin
    twin.value_version += 1
    return twin


def _check_side(free, nudged):
    """A negative conductance pushes outputs away from their targets; beyond the circuit's own
    conductance the stationary point jumps to the other side, and is no equilibrium.
    """
    before, after, along = (
        (a * b).sum(axis=1) for a, b in ((free, free), (nudged, nudged), (free, nudged))
    )
    wrong = (along < 0) | (after < before * (1 - 1e-6) - 1e-24)
    if wrong.any():
        raise CircuitError(
            f"sample {int(np.argmax(wrong))}: a conductance of -beta exceeds the circuit's own at an output, "
            "so that the nudged circuit has no equilibrium; use a smaller beta"
        )


def _cached_scales(netlist, check):
    """`energy_scales` and the outputs' factor, found again only when topology or gains change."""
    key = (netlist.version, check, tuple(netlist.values[AMPLIFIER]), tuple(netlist.feedback))
    kept = netlist.__dict__.get("_scales")
    if kept is None or kept[0] != key:
        scales = energy_scales(netlist, check=check)
        kept = netlist.__dict__["_scales"] = (key, (scales, _output_scale(netlist, scales)))
    return kept[1]


def _output_scale(netlist, scales):
    ends = np.array(netlist.outputs, dtype=np.int64)
    found = np.unique(np.round(np.abs(scales[ends][scales[ends] != 0]), 15))
    if found.size == 0:
        raise ElementError("every output is held by a voltage source")
    if found.size > 1 and np.ptp(found) > 1e-9 * found.max():
        raise ReciprocityError(
            "the outputs lie behind different amplifier gains; nudge them one group at a time"
        )
    return float(found[0])


@one_blas_thread()
def _square_difference(d, s, pairs):
    """Sum over samples of (v_a - v_b)^2 in one phase minus the same in another, for node pairs (n,
    2).

    As (d_a - d_b)(s_a - s_b) with d the difference and s the sum of the two phases: no cancellation
    of squares.
    """
    a, b = pairs.T
    moving = np.flatnonzero(np.abs(d).max(axis=0) > 0)
    if len(pairs) > 4 * len(moving) and moving.size * d.shape[1] < 30_000_000:
        # rank-M product, then gather
        row = np.full(d.shape[1], moving.size)
        row[moving] = np.arange(moving.size)
        product = np.zeros((moving.size + 1, d.shape[1]))
        product[:-1] = d[:, moving].T @ s
        return product[row[a], a] - product[row[a], b] - product[row[b], a] + product[row[b], b]
    out = np.empty(len(pairs))
    for k in range(0, len(pairs), 4096):
        a, b = pairs[k : k + 4096].T
        out[k : k + 4096] = ((d[:, a] - d[:, b]) * (s[:, a] - s[:, b])).sum(axis=0)
    return out


def finite_difference_gradient(
    netlist, inputs, targets, *, loss="squared", step=1e-4, backend="numpy"
):
    """Central differences of the mean loss for every trainable conductance (relative `step`): the
    slow truth.
    """
    check_netlist(netlist)
    checks.choice("loss", loss, LOSSES)
    step = checks.number("step", step, positive=True)
    targets = checks.bounded("targets", np.atleast_2d(checks.array("targets", targets)))
    which, start = netlist.trainable_indices, netlist.conductances
    out = np.empty(which.size)

    def mean_loss():
        point = operating_point(netlist, inputs, backend=backend).raise_for_failure()
        return loss_and_drive(np.atleast_2d(point.outputs), targets, loss)[0].mean()

    try:
        for j, k in enumerate(which):
            values = []
            for sign in (1, -1):
                netlist.values[RESISTOR][k] = start[k] * (1 + sign * step)
                netlist.value_version += 1
                values.append(mean_loss())
            netlist.values[RESISTOR][k] = float(start[k])
            out[j] = (values[0] - values[1]) / (2 * step * start[k])
    finally:
        netlist.values[RESISTOR] = start.tolist()
        netlist.value_version += 1
    return out


class CircuitTrainer:
    """Stochastic gradient descent on the trainable conductances of a netlist, clamped to their
    bounds.

    Parameters
    ----------
    netlist : Netlist
        Changed in place.
    learning_rate : float
        Siemens per unit of gradient, > 0.
    beta, centered, loss, nudge, backend, n_threads, check
        See `circuit_gradient`. A given beta is compared with the exact gradient at ever fewer of
        the steps: the first, second, fourth, eighth ...
    momentum : float
        In [0, 1).

    Attributes
    ----------
    losses : list of float
        Mean loss of every step's batch, before the step.
    beta_ : float
        Nudging strength of the last step, siemens: what "auto" meant for its batch.
    velocity : float64 (n_trainable,)
        What momentum carries from step to step, siemens.
    """

    def __init__(
        self,
        netlist,
        *,
        learning_rate,
        beta="auto",
        centered=True,
        loss="squared",
        nudge="current",
        momentum=0.0,
        backend="auto",
        n_threads=1,
        check=True,
    ):
        check_netlist(netlist)
        learning_rate = checks.number("learning_rate", learning_rate, positive=True)
        momentum = checks.number("momentum", momentum)
        if not 0 <= momentum < 1:
            raise ElementError(f"momentum must be in [0, 1), got {momentum}")
        _check_rule(beta, centered, loss, nudge, check)
        n_threads = checks.count("n_threads", n_threads)
        get_backend(backend)
        if not netlist.trainable_indices.size:
            raise ElementError("the netlist has no trainable conductance")
        self.netlist, self.learning_rate, self.momentum = netlist, learning_rate, momentum
        self.options = {
            "beta": beta,
            "centered": centered,
            "loss": loss,
            "nudge": nudge,
            "backend": backend,
            "n_threads": n_threads,
            "check": check,
        }
        self.velocity = np.zeros(netlist.trainable_indices.size)
        self.losses = []

    def step(self, inputs, targets):
        """One update on one batch; returns the CircuitGradient it used.

        Raises
        ------
        CircuitError
            If a phase does not converge, or gradient, momentum or step is not finite, or a
            conductance would exceed 1e30 S: conductances and momentum are then as before.
        """
        net, which = self.netlist, self.netlist.trainable_indices
        seldom = (len(self.losses) & (len(self.losses) + 1)) == 0  # after 0, 1, 3, 7 ... steps
        phases = _phases(net, inputs, targets, **self.options, compare=seldom)
        low, high = (bound[which] for bound in net.bounds)
        g, gradient, velocity = net.conductances[which], np.empty(which.size), self.velocity.copy()
        low = np.minimum(np.maximum(low, CONDUCTANCE_FLOOR), high)
        pairs = phases.pairs.astype(np.int32)
        finite = get_backend(self.options["backend"]).nodal_update(
            Conductances(pairs, phases.scale, g, velocity, low, high),
            np.ascontiguousarray(phases.difference.T),
            np.ascontiguousarray(phases.total.T),
            gradient,
            self.learning_rate,
            self.momentum,
            n_threads=self.options["n_threads"],
        )
        if not finite:
            raise CircuitError(self._not_finite(gradient))
        if g.max() > MAX_SIEMENS:
            raise CircuitError(
                f"a step leads to a conductance of {g.max():.3g} S, which is beyond {MAX_SIEMENS:g} S; lower "
                "learning_rate"
            )
        net.set_conductances(g, which)
        self.velocity, self.beta_ = velocity, phases.beta
        self.losses.append(phases.loss)
        return phases.found(gradient)

    def _not_finite(self, gradient):
        if not np.isfinite(gradient).all():
            return "the gradient is not finite; use another beta, or a lower learning_rate"
        if not np.isfinite(self.velocity).all():
            return "velocity, what momentum carries, is not finite"
        return (
            "a step is not finite: learning_rate times the gradient overflows; lower learning_rate"
        )

    def fit(self, inputs, targets, *, epochs, batch_size=None, random_state=None):
        """`epochs` passes over the samples in random order.

        Parameters
        ----------
        inputs : array-like (M, n_inputs)
        targets : array-like (M, n_outputs)
        epochs : int
            At least 1.
        batch_size : int or None
            At least 1; None: all samples in one batch.
        random_state : int, Generator or None

        Returns
        -------
        self
        """
        epochs = checks.count("epochs", epochs)
        size = None if batch_size is None else checks.count("batch_size", batch_size)
        rng = checks.generator(random_state)
        inputs, targets = checks.array("inputs", inputs), checks.array("targets", targets)
        if inputs.ndim != 2 or targets.ndim != 2 or len(inputs) != len(targets):
            raise ElementError(
                f"inputs and targets must have a row for each sample, got {inputs.shape} and {targets.shape}"
            )
        if not len(inputs):
            raise ElementError("inputs must have at least one sample")
        size = len(inputs) if size is None else size
        for _ in range(epochs):
            order = rng.permutation(len(inputs))
            for k in range(0, len(order), size):
                rows = order[k : k + size]
                self.step(inputs[rows], targets[rows])
        return self
