"""Layered resistive network (crossbars of conductances, ideal diodes, amplifiers) over one backend."""

from __future__ import annotations

from functools import partial
from numbers import Real

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from ..circuits.errors import FloatingNodeError
from ..docstrings import documented
from ..kernels import Crossbar, CrossbarPlan, ResistiveSpec, TrainStats
from ..kernels.reference.crossbar import co_content, kcl_residual, predictions
from ..kernels.resistive_spec import DIODES
from ..parts import Part
from .base import BaseNetwork
from .protocol import Equilibrium


@documented
class ResistiveCircuit(Part):
    """What a resistive network is made of: conductances, diodes, amplifiers (docs/equations.md 11).

    Parameters
    ----------
    diodes : {"signed", "clipped", "none"}
        Hidden nodes: first half >= 0 V and second half <= 0 V (2402.11674), all within [0, 1] V
        (2006.01981), or linear.
    amplifier_gain : float
        Voltage gain of a bidirectional amplifier behind each hidden node (2006.01981). In a layered
        network of ideal elements it is equivalent to a larger input gain.
    output_pairs : bool
        Each output is the voltage difference of two nodes (2006.01981) instead of one node's
        voltage.
    conductance_gain : float
        Initial conductances are max(U(-c, c), g_min) siemens with c = conductance_gain /
        sqrt(rows).
    g_min, g_max : float, float or None
        Bounds of the conductances; None: no upper bound.
    """

    _parameter_constraints: dict = {
        "diodes": [StrOptions(set(DIODES))],
        "amplifier_gain": [Interval(Real, 0, None, closed="neither")],
        "output_pairs": ["boolean"],
        "conductance_gain": [Interval(Real, 0, None, closed="neither")],
        "g_min": [Interval(Real, 0, None, closed="left")],
        "g_max": [None, Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self,
        diodes="signed",
        *,
        amplifier_gain=1.0,
        output_pairs=False,
        conductance_gain=1.0,
        g_min=0.0,
        g_max=None,
    ):
        self.diodes = diodes
        self.amplifier_gain = amplifier_gain
        self.output_pairs = output_pairs
        self.conductance_gain = conductance_gain
        self.g_min = g_min
        self.g_max = g_max

    @property
    def bounds(self):
        """Smallest and largest conductance, as numbers."""
        return float(self.g_min), np.inf if self.g_max is None else float(self.g_max)

    def spec(self, sizes, dtype, **network):
        """The `ResistiveSpec` of a network of such a circuit.

        Parameters
        ----------
        sizes : sequence of int
            Features, nodes of each hidden layer, outputs.
        dtype : str
            The bounds are kept within it.
        **network
            The other fields of `ResistiveSpec`: input gain, schedule, carry-over.

        Raises
        ------
        ValueError
            Bounds that leave no conductance between them.
        """
        g_min, g_max = self.bounds
        if not g_min < g_max:
            raise ValueError(
                f"circuit: g_max must be larger than g_min, got g_min={self.g_min!r} and g_max={self.g_max!r}"
            )
        low, high = _within(g_min, dtype, np.inf), _within(g_max, dtype, 0.0)
        if not low < high or low == np.inf:
            raise ValueError(
                f"circuit: g_min={self.g_min!r} and g_max={self.g_max!r} leave no range of {dtype} between "
                "them"
            )
        most = np.log(float(np.finfo(dtype).max))
        if abs(np.log(float(self.amplifier_gain))) * max(len(sizes) - 2, 1) > most:
            raise ValueError(
                f"circuit: amplifier_gain={self.amplifier_gain!r} over {len(sizes) - 2} hidden layers is "
                f"beyond {dtype}"
            )
        return ResistiveSpec(
            sizes=tuple(int(n) for n in sizes),
            amplifier_gain=float(self.amplifier_gain),
            diodes=self.diodes,
            pairs=self.output_pairs,
            g_min=low,
            g_max=high,
            **network,
        )


CIRCUITS = {word: partial(ResistiveCircuit, word) for word in DIODES}


def _within(bound, dtype, towards):
    """The number of `dtype` next to `bound` that does not pass it on the way out of the range."""
    with np.errstate(over="ignore", under="ignore"):
        number = np.dtype(dtype).type(bound)
    passed = float(number) > bound if towards == 0 else float(number) < bound
    return float(np.nextafter(number, np.dtype(dtype).type(towards)) if passed else number)


def init_conductances(spec, gain, rng, dtype):
    """max(U(-c, c), g_min) with c = gain / sqrt(rows), at most g_max: half of them start at the
    lower bound (2402.11674).

    A node that would float, because none of its draws is positive and g_min is 0, takes their
    absolute values; with the papers' hundreds of rows that does not happen. Biases start at zero.
    """
    weights = []
    for shape in spec.crossbar_shapes:
        c = gain / np.sqrt(shape[0])
        draws = rng.uniform(-c, c, shape)
        floating = (draws <= 0).all(axis=0)
        draws[:, floating] *= -1
        weights.append(np.clip(draws, spec.g_min, spec.g_max).astype(dtype))
    return weights, [np.zeros(n, dtype) for n in spec.node_sizes]


class ResistiveNetwork(BaseNetwork):
    """See `eqprop_fast.networks.protocol.Network`.

    Parameters
    ----------
    spec : ResistiveSpec
    kernels : KernelSet
    weights, biases : lists of C-contiguous ndarray
        Conductances of `spec.crossbar_shapes` and bias currents of `spec.node_sizes`; trained in
        place.
    """

    def __init__(self, spec, kernels, weights, biases):
        self.spec, self.kernels = spec, kernels
        self.weights, self.biases = weights, biases
        self._lower, self._upper = spec.bounds(weights[0].dtype)
        self._epoch_rows, self._write, self._seen = 0, None, 0

    @property
    def carry_over(self):
        return self.spec.carry_over

    def new_particles(self, n_rows):
        return [np.zeros((n_rows, n), self.dtype) for n in self.spec.node_sizes]

    def write_after(self, n_rows, write, seen=0):
        """Call `write` each time `train` has seen `n_rows` rows: an epoch, however it is cut into
        calls.

        `seen`: rows of the first epoch that earlier calls have trained on.
        """
        self._epoch_rows, self._write, self._seen = n_rows, write, seen

    @property
    def _crossbar(self):
        """The network as the kernels take it."""
        return Crossbar(
            self.weights,
            self.biases,
            self._lower,
            self._upper,
            self.spec.source_gain,
            self.spec.schedule,
            self.spec.pairs,
        )

    def train(
        self, x, y, order, plan, row_weight=None, particles=None, optimizer_state=None, n_threads=1
    ):
        spec = self.spec
        carried = particles if particles is not None else self.new_particles(plan.batch_size)
        nudging = "centered" if plan.centered else "positive" if plan.beta > 0 else "negative"
        crossbar_plan = CrossbarPlan(
            plan.rate,
            plan.bias_rate,
            batch_size=plan.batch_size,
            beta=abs(plan.beta),
            nudging=nudging,
            n_free_steps=plan.n_free_steps,
            n_nudged_steps=plan.n_nudged_steps,
            tol_free=plan.tol_free,
            tol_nudged=plan.tol_nudged,
            g_min=spec.g_min,
            g_max=spec.g_max,
            carry=spec.carry_over,
            optimizer=plan.optimizer,
            momentum=plan.momentum,
            loss_so_far=plan.loss_so_far,
        )
        velocity = optimizer_state.velocity if plan.optimizer != "sgd" else None
        loss, n_correct = self.kernels.crossbar_train(
            self._crossbar,
            x,
            y,
            order,
            crossbar_plan,
            carried,
            row_weight,
            velocity,
            n_threads=n_threads,
        )
        n = len(order)
        self._seen += n
        if self._write is not None and self._seen >= self._epoch_rows:
            self._seen = 0
            # else the caller finds the divergence
            if all(np.isfinite(w).all() for w in self.weights):
                self._write()
        return TrainStats(
            loss=loss, n_correct=n_correct, n_samples=n, n_batches=-(-n // plan.batch_size)
        )

    def _relax_rows(self, x, states, n_steps, tol, y=None, beta=0.0, n_threads=1):
        return self.kernels.crossbar_relax(
            self._crossbar, x, states, y, beta, n_steps, tol, n_threads
        )

    def check_floating(self):
        """Raise `FloatingNodeError` for an output node that nothing holds at a voltage.

        Diodes hold the hidden nodes, so an output floats only without conductances of its own.
        Without diodes it also needs a path of conductances to a source. No sample is looked at.
        """
        last = self.spec.n_weights
        lost = np.flatnonzero(~_any_positive(self.weights[-1]))
        if len(lost):
            raise FloatingNodeError(
                f"output node {lost[0]} floats: all conductances that lead to it are 0 (layer {last})"
            )
        if self.spec.diodes != "none":
            return
        joined = _joined_to_sources(self.weights)
        lost = np.flatnonzero(~joined[-1])
        if len(lost):
            k = next(k for k, nodes in enumerate(joined, start=1) if not nodes.all())
            node = np.flatnonzero(~joined[k - 1])[0]
            raise FloatingNodeError(
                f"output node {lost[0]} floats: no conductances join it to the input sources (first loose "
                f"node: {node} of layer {k})"
            )

    def outputs(self, x, n_steps, tol=-1.0, n_threads=1, residual=None):
        """Predictions of the free phase, (M, outputs), each row independent of the others.

        Raises
        ------
        FloatingNodeError
            An output node has no voltage of its own; see `check_floating`.
        """
        self.check_floating()
        return super().outputs(x, n_steps, tol, n_threads, residual)

    def relax(self, x, n_steps, tol=-1.0, y=None, beta=0.0, states=None, n_threads=1):
        """Relax with the input sources at +-gain x; `states` and the result are node voltages in
        volt.

        Returns
        -------
        Equilibrium
            ``energy`` is the co-content in watt, referred to the output (with amplifiers: times
            gain squared).

        Raises
        ------
        FloatingNodeError
            Free phase, and an output node has no voltage of its own; see `check_floating`.
        """
        if not beta:
            self.check_floating()
        m, spec = x.shape[0], self.spec
        factors = [spec.referred(k) for k in range(1, spec.n_weights + 1)]
        final = self.new_particles(m)
        if states is not None:
            for f, s, factor in zip(final, states, factors, strict=True):
                f[...] = s * factor
        steps, residual, energy = np.zeros(m, np.int32), np.zeros(m, self.dtype), np.zeros(m)
        conductances, currents = self._double()[:2]
        for rows, used, left in self._relax_tiles(x, final, n_steps, tol, y, beta, n_threads):
            steps[rows], residual[rows] = used, left
            energy[rows] = co_content(
                conductances,
                currents,
                x[rows].astype(np.float64),
                [s[rows] for s in final],
                input_gain=self.spec.source_gain,
                beta=beta,
                y=None if y is None else y[rows],
                pairs=spec.pairs,
            )
        volts = [s / s.dtype.type(f) for s, f in zip(final, factors)]
        return Equilibrium(volts, steps, residual, energy, tol)

    def _double(self):
        groups = self.weights, self.biases, self._lower, self._upper
        return [[a.astype(np.float64) for a in arrays] for arrays in groups]

    def kcl(self, x, states):
        """Net current that Kirchhoff's law leaves over at each node, in ampere referred to the
        output.
        """
        factors = [self.spec.referred(k) for k in range(1, self.spec.n_weights + 1)]
        referred = [s.astype(np.float64) * f for s, f in zip(states, factors)]
        return kcl_residual(
            *self._double(), x.astype(np.float64), referred, input_gain=self.spec.source_gain
        )

    def _read_out(self, output):
        return predictions(output, self.spec.pairs)


def _any_positive(g):
    """Which columns hold a conductance; reads no more rows than it must."""
    found = np.zeros(g.shape[1], dtype=bool)
    for start in range(0, len(g), 64):
        found |= (g[start : start + 64] > 0).any(axis=0)
        if found.all():
            break
    return found


def _joined_to_sources(weights):
    """Which nodes of each layer conductances join to the input sources, by whatever way."""
    joined = [_any_positive(weights[0])] + [np.zeros(w.shape[1], dtype=bool) for w in weights[1:]]
    while True:
        before = sum(int(nodes.sum()) for nodes in joined)
        for k, w in enumerate(weights[1:]):
            joined[k + 1] |= (w[joined[k]] > 0).any(axis=0)
        for k, w in reversed(list(enumerate(weights[1:]))):
            joined[k] |= (w[:, joined[k + 1]] > 0).any(axis=1)
        if sum(int(nodes.sum()) for nodes in joined) == before:
            return joined
