"""Networks of any shape as the other layers call them; signatures of reference/graph.py.

The learning rules are those of reference/rules.py: they ask a network for relaxations, steps and
contrasts, and this one answers with compiled kernels (graph_relax.py).
"""

from dataclasses import dataclass, replace

import numpy as np

from ..graph_gradients import train_exactly
from ..graph_spec import check_graph_plan
from ..reference.activations import rho
from ..reference.ascent import Ascent
from ..reference.connections import bias_sum
from ..reference.graph import GraphNet
from ..reference.layered import acting, nudge
from ..reference.rules import train_net
from ..spec import GRADIENT_RULES
from .graph_layout import Layout
from .graph_relax import correlate_thread, drive_thread, places_thread, relax_thread
from .preparation import raise_divergence
from .threads import run_threads, usable
from .views import Record, aligned, argument, records

CHUNK = 64  # samples a thread that are relaxed in one go: what they show and feel is kept


@dataclass
class Drive:
    """What the clamped input gives: what it shows, pixel by pixel, and what comes from it."""

    x: np.ndarray  # (M, N[0])
    base: np.ndarray  # (M, units)
    where: np.ndarray  # (M, places)


@dataclass
class CompiledNet(GraphNet):
    """A `GraphNet` whose relaxations and contrasts are compiled."""

    layout: Layout = None
    n_threads: int = 1

    def _of(self, spec):
        return replace(self, spec=spec)

    def _threads(self, m):
        return usable(self.n_threads, m)

    def drive(self, x):
        """Also packs the weights: a drive is made whenever they have changed."""
        self.layout.pack(self)
        x = np.asarray(x.toarray() if hasattr(x, "toarray") else x)
        shown = np.ascontiguousarray(rho(self.spec.input_activation, x)[:, self.layout.pixels[0]])
        m, dtype = len(x), self.weights[0].dtype
        drive = Drive(
            shown.astype(dtype, copy=False),
            aligned((m, self.layout.units), dtype),
            np.zeros((m, self.layout.n_places), np.int32),
        )
        self._run(drive_thread, self._record(drive, aligned((m, self.layout.units), dtype)))
        return drive

    def _record(self, drive, rows, y=None, steps=None, residual=None):
        shown = rows
        if self.spec.dynamics == "continuous":
            spans = enumerate(self.layout.layers[1:], start=1)
            parts = [
                acting(self.spec, k, rows[:, o["offset"] :][:, : o["size"]]) for k, o in spans
            ]
            shown = np.concatenate(parts, axis=1)
        elif self.spec.readout:
            shown = rows.copy()
        y = np.zeros((0, 1), rows.dtype) if y is None else self._targets(y, rows.dtype)
        return self.layout.record(
            self.spec, drive, rows, shown, y, self._threads(len(rows)), steps, residual
        )

    def _targets(self, y, dtype):
        return np.ascontiguousarray(y[:, self.layout.pixels[-1]], dtype)

    def _run(self, function, net, *more):
        if net.kept["rows"]:
            run_threads(function, len(net.kept["own"]), argument(net), *map(argument, more))

    def _relax(self, drive, states, y, beta, n_steps, tol, phase, held, reads=True):
        """Steps and residual; `states` change in place."""
        rows = self.layout.rows_of(states)
        steps, residual = np.zeros(len(rows), np.int32), np.zeros(len(rows), rows.dtype)
        net = self._record(drive, rows, y if beta else None, steps, residual)
        ask = Record(
            beta=float(beta), dt=float(self.spec.dt), tol=float(tol), n_steps=n_steps, held=held,
            phase=phase == "nudged", reads=reads,
        )
        self._run(relax_thread, net, ask)
        failures = [int(own.kept["failure"][0]) for own in net.kept["threads"]]
        if any(failures):
            raise_divergence(min(f for f in failures if f))
        self.layout.give_back(rows, states)
        return steps, residual

    def relax(self, drive, states, y=None, beta=0.0, n_steps=1, tol=-1.0, phase="free", step=None):
        return self._relax(drive, states, y, beta, n_steps, tol, phase, step is not None)

    def step(self, drive, states, y=None, beta=0.0):
        new = [s.copy() for s in states]
        return new, self._relax(drive, new, y, beta, 1, -1.0, "nudged", False, reads=False)[1]

    # ---- learning ----

    def _end(self, drive, states, batch, beta):
        """What the layers show, pixel by pixel, and the places of the maxima."""
        shown = [acting(self.spec, k, s) for k, s in enumerate(states, start=1)]
        if self.spec.readout:
            force = nudge(self.spec, states[-1], batch.y, beta) if beta else 0
            shown[-1] = np.zeros_like(states[-1]) + force
        rows = self.layout.rows_of(shown)
        ends = Drive(drive.x, drive.base, drive.where.copy())
        net = self.layout.record(
            self.spec, ends, rows, rows, np.zeros((0, 1), rows.dtype), self._threads(len(rows))
        )
        self._run(places_thread, net)
        return rows, net, batch.row_weight

    def _part(self, rows, k):
        layer = self.layout.layers[k]
        return np.ascontiguousarray(rows[:, layer["offset"] : layer["offset"] + layer["size"]])

    def _correlations(self, net, asked):
        """For each (c, low, high): adjoint of connection c in its weights, in the caller's order."""
        if not asked:
            return []
        made = [self.layout.links[c] for c, _, _ in asked]
        deltas = [
            aligned((int(link["O"]), int(link["runs"] * link["run"])), low.dtype)
            for link, (_, low, _) in zip(made, asked)
        ]
        alike = [
            Record(
                link=c, low=low.reshape(-1), high=high.reshape(-1), delta=delta.reshape(-1),
                n_low=low.shape[1], n_high=high.shape[1],
            )
            for (c, low, high), delta in zip(asked, deltas)
        ]
        self._run(correlate_thread, net, Record(every=records(alike), n=len(alike)))
        links, layers = self.spec.connections, self.spec.layers
        return [
            self.layout.as_weight(links[c], delta, links[c].weight_shape(layers))
            for (c, _, _), delta in zip(asked, deltas)
        ]

    @staticmethod
    def _weighted(rows, row_weight):
        return rows if row_weight is None else rows * row_weight[:, None]

    def contrast(self, batch, drive, a, b, betas=(0.0, 0.0)):
        rows_a, net_a, weight = self._end(drive, a, batch, betas[0])
        rows_b, net_b, _ = self._end(drive, b, batch, betas[1])
        heavy_a, heavy_b = (self._weighted(rows, weight) for rows in (rows_a, rows_b))
        links = self.spec.connections
        inner = [c for c, link in enumerate(links) if link.below > 0]

        def ends(rows, heavy):
            return [
                (c, self._part(rows, links[c].below), self._part(heavy, links[c].above)) for c in inner
            ]

        # the input is the same at both ends: one product instead of two
        static = [
            (c, drive.x, self._part(heavy_b - heavy_a, link.above))
            for c, link in enumerate(links)
            if link.below == 0
        ]
        found = self._correlations(net_b, static + ends(rows_b, heavy_b))
        weights = dict(zip([c for c, _, _ in static] + inner, found))
        for c, part in zip(inner, self._correlations(net_a, ends(rows_a, heavy_a))):
            weights[c] -= part
        weights = [weights[c] for c in range(len(links))]
        return Ascent(weights, self._bias_sums(heavy_b - heavy_a))

    def _bias_sums(self, rows):
        """Sums over samples and pixels."""
        sums = []
        for k, layer in enumerate(self.spec.layers[1:], start=1):
            part = self._part(rows, k)
            shape = layer.shape
            if len(shape) == 3:  # pixel by pixel
                part = part.reshape(-1, shape[0])
            sums.append(bias_sum(part, (part.shape[1],)))
        return sums

    def vector_field_increment(self, batch, drive, old, new):
        rows, net, weight = self._end(drive, old, batch, 0.0)
        change = self._weighted(self.layout.rows_of([b - a for a, b in zip(old, new)]), weight)
        links = self.spec.connections
        up = [
            (c, drive.x if k.below == 0 else self._part(rows, k.below), self._part(change, k.above))
            for c, k in enumerate(links)
        ]
        own = [c for c, link in enumerate(links) if link.own_back]
        down = [(c, self._part(change, links[c].below), self._part(rows, links[c].above)) for c in own]
        found, back = self._correlations(net, up + down), [None] * len(links)
        weights = found[: len(links)]
        for c, part in zip(own, found[len(links) :]):
            back[c] = part if links[c].kernel else np.ascontiguousarray(part.T)
        return Ascent(weights, self._bias_sums(change), back)


def _net(spec, weights, back, biases, n_threads):
    return CompiledNet(
        spec, weights, back, biases, layout=Layout(spec, weights[0].dtype), n_threads=n_threads
    )


def graph_relax(spec, weights, back, biases, x, states, y=None, beta=0.0, n_steps=1, tol=-1.0, n_threads=1):
    """As kernels.reference.graph.graph_relax."""
    net = _net(spec, weights, back, biases, n_threads)
    steps, residual = np.zeros(x.shape[0], np.int32), np.zeros(x.shape[0], weights[0].dtype)
    for first in range(0, x.shape[0], CHUNK * n_threads):
        rows = slice(first, first + CHUNK * n_threads)
        some = [s[rows] for s in states]
        steps[rows], residual[rows] = net.relax(
            net.drive(x[rows]), some, None if y is None else y[rows], beta, n_steps, tol,
            "nudged" if beta else "free",
        )
    return steps, residual


def graph_train(
    spec, weights, back, biases, x, y, order, plan, row_weight=None, particles=None, optimizer_state=None,
    n_threads=1,
):
    """As kernels.reference.train.graph_train."""
    check_graph_plan(spec, plan, particles is not None)
    if plan.rule in GRADIENT_RULES:
        network, data = (spec, weights, back, biases), (x, y, order, plan, row_weight, particles)
        return train_exactly(graph_relax, n_threads, network, *data, optimizer_state)
    net = _net(spec, weights, back, biases, min(n_threads, max(1, plan.batch_size)))
    return train_net(net, x, y, order, plan, row_weight, particles, optimizer_state)
