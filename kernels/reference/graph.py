"""Networks of any shape: drive, relaxation, contrast, reverse step; the twin of the graph kernels.

Shapes: M samples; N[k] units of layer k, a map's channel by channel; weights[c] of connection c as
`ConnectionSpec.weight_shape` says; biases[k-1] and states[k-1], (M, N[k]), of layers k = 1..L.
A layer's field is the sum over its connections: forward from below, transposed from above. Of a
chain every sum is that of layered.py, in the same order.
"""

from dataclasses import dataclass
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np

from ..graph_spec import free_graph_spec
from .activations import rho
from .ascent import Ascent
from .connections import bias_map, bias_sum, connection
from .gradients import layer_vjp, shown_prime
from .layered import acting, new_state, nudge, relax_rows
from .products import in_order


class Drive(NamedTuple):
    """What the clamped input gives, once for all steps."""

    shown: np.ndarray  # (M, N[0]) what the input shows
    fields: dict  # layer -> (M, N[k]): its connections from the input, and its bias
    where: dict  # connection from the input -> places of the maxima
    x: object = None  # what was clamped; of some rows of a drive it is not kept

    def __getitem__(self, rows):
        fields = {k: f[rows] for k, f in self.fields.items()}
        where = {c: None if w is None else w[rows] for c, w in self.where.items()}
        return Drive(self.shown[rows], fields, where)


@dataclass
class GraphNet:
    """The arrays of a graph.

    `back[c]`: weights of its own that connection c has for the way back, else None; `back` None: no
    connection has. `product` multiplies matrices, see conv.py.
    """

    spec: object
    weights: list
    back: list | None
    biases: list
    product: object = np.matmul

    @cached_property
    def links(self):
        return [connection(self.spec.layers, link) for link in self.spec.connections]

    @property
    def learned_back(self):
        return self.spec.own_back

    def _backward(self, c):
        """Weights of the way back, as those of the way up are used."""
        if self.back is None or self.back[c] is None:
            return self.weights[c]
        return self.links[c].as_forward(self.back[c])

    def _of(self, spec):
        return GraphNet(spec, self.weights, self.back, self.biases, self.product)

    def free(self, plan):
        """The net that moves as free phases do."""
        return self._of(free_graph_spec(self.spec, plan.over_relaxation))

    def drive(self, x):
        """The static part of all fields."""
        spec, fields, where = self.spec, {}, {}
        x = x.toarray() if hasattr(x, "toarray") else x
        shown = rho(spec.input_activation, np.asarray(x))
        for c, link in enumerate(spec.connections):
            if link.below == 0:
                part, where[c] = self.links[c].up(shown, self.weights[c], in_order)
                k = link.above
                fields[k] = fields[k] + part if k in fields else part
        fields = {k: f + self._bias(k) for k, f in fields.items()}
        return Drive(shown, fields, where, x)

    def _bias(self, k):
        return bias_map(self.biases[k - 1], self.spec.layers[k].shape)

    def from_below(self, drive, shown, k):
        """What layer k gets from below, and its bias."""
        field = drive.fields.get(k)
        for c, link in enumerate(self.spec.connections):
            if link.above == k and link.below > 0:
                part, _ = self.links[c].up(shown[link.below - 1], self.weights[c], self.product)
                field = part + self._bias(k) if field is None else field + part
        return field

    def _down(self, shown, where, k):
        """What layer k gets from above: a list of fields."""
        parts = []
        for c, link in enumerate(self.spec.connections):
            if link.below == k and shown[link.above - 1] is not None:
                parts.append(
                    self.links[c].drop(
                        shown[link.above - 1], self._backward(c), where[c], self.product
                    )
                )
        return parts

    def shown(self, drive, states, y=None, beta=0.0):
        """What each layer shows to its neighbours: a read-out the force of the target, if any."""
        shown = [acting(self.spec, k, s) for k, s in enumerate(states, start=1)]
        if self.spec.readout:
            k = self.spec.output_layer
            shown[-1] = None
            if beta != 0:
                shown[-1] = nudge(self.spec, self.from_below(drive, shown, k), y, beta)
        return shown

    def read_out(self, drive, states):
        """Make the last of `states` what a read-out reads, in place; else nothing."""
        if self.spec.readout:
            shown = self.shown(drive, states)
            states[-1][...] = self.from_below(drive, shown, self.spec.output_layer)

    def where(self, drive, shown):
        """The places of the maxima of every connection."""
        found = dict(drive.where)
        for c, link in enumerate(self.spec.connections):
            if link.below > 0:
                found[c] = self.links[c].find(shown[link.below - 1], self.weights[c], self.product)
        return found

    def _fields(self, drive, shown, layers):
        """Fields of `layers`, and the places of the maxima."""
        where = self.where(drive, shown)
        fields = {}
        for k in layers:
            fields[k] = self.from_below(drive, shown, k)
            for part in self._down(shown, where, k):
                fields[k] = fields[k] + part
        return fields, where

    def inputs(self, drive, states, k):
        """What layer k gets from below, its bias among it, and from above: None if nothing is there."""
        shown = self.shown(drive, states)
        parts = self._down(shown, self.where(drive, shown), k)
        return self.from_below(drive, shown, k), sum(parts) if parts else None

    def move(self, drive, states, order, y=None, beta=0.0):
        """As layered.move_layers."""
        spec, new = self.spec, list(states)
        for layers in order:
            seen = list(new)
            fields, _ = self._fields(drive, self.shown(drive, seen, y, beta), layers)
            for k in layers:
                nudged = k == spec.output_layer and beta != 0
                force = nudge(spec, seen[k - 1], y, beta) if nudged else None
                new[k - 1] = new_state(spec, k, seen[k - 1], fields[k], force)
        change = np.max([np.abs(a - b).max(axis=1, initial=0) for a, b in zip(new, states)], axis=0)
        return new, change / spec.dt

    def step(self, drive, states, y=None, beta=0.0):
        """One step of all layers: new states, and the largest change / dt of each sample."""
        return self.move(drive, states, self.spec.passes(), y, beta)

    def held_output_step(self, drive, states, y=None, beta=0.0):
        """A step of every layer but the output, which stays where it is."""
        top = self.spec.output_layer
        hidden = [[k for k in layers if k != top] for layers in self.spec.passes()]
        return self.move(drive, states, hidden)

    def relax(self, drive, states, y=None, beta=0.0, n_steps=1, tol=-1.0, phase="free", step=None):
        """Relax `states` in place; steps and residual of each sample."""
        step = self.step if step is None else step

        def rows_step(rows, current):
            return step(drive[rows], current, None if y is None else y[rows], beta)

        report = relax_rows(rows_step, states, n_steps, tol, phase)
        self.read_out(drive, states)
        return report

    # ---- learning ----

    def _end(self, drive, states, batch, beta):
        """What the layers show, the same times the sample weights, and the places of the maxima."""
        shown = self.shown(drive, states, batch.y, beta)
        shown = [np.zeros_like(states[-1]) if h is None else h for h in shown]
        weighty = shown
        if batch.row_weight is not None:
            weighty = [h * batch.row_weight[:, None] for h in shown]
        return shown, weighty, self.where(drive, shown)

    def contrast(self, batch, drive, a, b, betas=(0.0, 0.0)):
        """Correlation difference b - a of every weight and bias, summed over the samples.

        `betas` are those of the two states: a read-out shows the force on it.
        """
        low_a, high_a, where_a = self._end(drive, a, batch, betas[0])
        low_b, high_b, where_b = self._end(drive, b, batch, betas[1])
        weights = []
        for c, link in enumerate(self.spec.connections):
            correlation, i, j = self.links[c].correlation, link.below - 1, link.above - 1
            if link.below == 0:  # the input is the same at both ends: one product instead of two
                weights.append(correlation(drive.shown, high_b[j] - high_a[j], drive.where[c]))
            elif where_a[c] is None:  # products of what has moved: layered_contrast
                weights.append(
                    correlation(low_b[i], high_b[j] - high_a[j])
                    + correlation(low_b[i] - low_a[i], high_a[j])
                )
            else:
                weights.append(
                    correlation(low_b[i], high_b[j], where_b[c])
                    - correlation(low_a[i], high_a[j], where_a[c])
                )
        layers = self.spec.layers[1:]
        return Ascent(
            weights, [bias_sum(v - u, o.shape) for u, v, o in zip(high_a, high_b, layers)]
        )

    def continual_increment(self, batch, drive, old, new):
        return self.contrast(batch, drive, old, new)

    def vector_field_increment(self, batch, drive, old, new):
        """See rules.vector_field_increment; the maxima lie where they did before the step."""
        shown = self.shown(drive, old)
        where = self.where(drive, shown)
        change = [b - a for a, b in zip(old, new)]
        if batch.row_weight is not None:
            change = [c * batch.row_weight[:, None] for c in change]
        weights, back = [], [None] * len(self.weights)
        for c, link in enumerate(self.spec.connections):
            low = drive.shown if link.below == 0 else shown[link.below - 1]
            weights.append(self.links[c].correlation(low, change[link.above - 1], where[c]))
            if link.own_back:
                back[c] = self.links[c].back_correlation(
                    change[link.below - 1], shown[link.above - 1], where[c]
                )
        biases = [bias_sum(d, layer.shape) for d, layer in zip(change, self.spec.layers[1:])]
        return Ascent(weights, biases, back)

    # ---- exact gradients ----

    def cost_gradient(self, drive, states, y, row_weight=None, total=None):
        """dC/ds of the mean cost, and its derivative by the parameters (of a read-out, or None)."""
        spec, n = self.spec, self.spec.output_layer
        force = -nudge(spec, states[-1], y, 1.0) * states[-1].dtype.type(1 / (total or len(y)))
        if row_weight is not None:
            force = force * row_weight[:, None]
        bar = [np.zeros_like(s) for s in states]
        if not spec.readout:
            bar[-1] = force
            return bar, None
        own, shown = self._zero_gradient(), self.shown(drive, states)
        where = self.where(drive, shown)
        for c, link in enumerate(spec.connections):
            if link.above == n:
                low = drive.shown if link.below == 0 else shown[link.below - 1]
                own[0][c] += self.links[c].correlation(low, force, where[c])
                if link.below > 0:
                    slope = shown_prime(spec, link.below, states[link.below - 1])
                    bar[link.below - 1] += slope * self.links[c].drop(
                        force, self.weights[c], where[c]
                    )
        own[1][n - 1] += bias_sum(force, spec.layers[n].shape)
        return bar, own

    def _zero_gradient(self):
        back = None
        if self.back is not None:
            back = [None if b is None else np.zeros_like(b) for b in self.back]
        return (
            [np.zeros_like(w) for w in self.weights],
            [np.zeros_like(b) for b in self.biases],
            back,
        )

    def step_vjp(self, drive, states, bar, with_parameters=True):
        """Reverse of one free step, as gradients.step_vjp: (bar before, gradient or None).

        Places of maxima are taken as they are: their moves have no derivative.
        """
        seen = [states]  # before each pass
        for layers in self.spec.passes()[:-1]:
            seen.append(self.move(drive, seen[-1], [layers])[0])
        gradient = self._zero_gradient() if with_parameters else None
        for layers, before in zip(reversed(self.spec.passes()), reversed(seen)):
            bar = self._pass_vjp(drive, before, bar, layers, gradient)
        return bar, gradient

    def _pass_vjp(self, drive, states, bar, layers, gradient):
        """Reverse of moving `layers` at once; adds to `gradient` in place."""
        spec = self.spec
        shown = self.shown(drive, states)
        fields, where = self._fields(drive, shown, layers)
        bar_state = [
            np.zeros_like(b) if k in layers else b.copy() for k, b in enumerate(bar, start=1)
        ]
        bar_shown = [np.zeros_like(b) for b in bar]
        bar_field = {}
        for k in layers:
            own, bar_field[k] = layer_vjp(spec, k, states[k - 1], fields[k], bar[k - 1])
            bar_state[k - 1] += own
            if gradient is not None:
                gradient[1][k - 1] += bias_sum(bar_field[k], spec.layers[k].shape)
        for c, link in enumerate(spec.connections):
            op, i, j = self.links[c], link.below, link.above
            if j in bar_field and i > 0:
                bar_shown[i - 1] += op.drop(bar_field[j], self.weights[c], where[c])
            if i in bar_field and shown[j - 1] is not None:
                bar_shown[j - 1] += op.lift(bar_field[i], self._backward(c), where[c])
            if gradient is None:
                continue
            if j in bar_field:
                low = drive.shown if i == 0 else shown[i - 1]
                gradient[0][c] += op.correlation(low, bar_field[j], where[c])
            if i in bar_field and shown[j - 1] is not None:
                if link.own_back:
                    gradient[2][c] += op.back_correlation(bar_field[i], shown[j - 1], where[c])
                else:
                    gradient[0][c] += op.correlation(bar_field[i], shown[j - 1], where[c])
        for k in spec.moving:
            bar_state[k - 1] += shown_prime(spec, k, states[k - 1]) * bar_shown[k - 1]
        if spec.readout:  # no state: nothing flows back from what it was
            bar_state[-1][...] = 0
        return bar_state

    def vjp(self, x, drive):
        """`step_vjp` with this drive; the input itself is not needed again."""
        return partial(self.step_vjp, drive)

    def synchronous(self):
        return self._of(self.spec._replace(schedule="synchronous"))


def graph_relax(
    spec, weights, back, biases, x, states, y=None, beta=0.0, n_steps=1, tol=-1.0, n_threads=1
):
    """Relax `states` (in place) with the input x clamped; a sample does not depend on those beside
    it.

    Parameters
    ----------
    spec : GraphSpec
    weights, biases : lists of ndarray
    back : list of ndarray or None
    x : ndarray (M, N[0])
    states : list of ndarray (M, N[k])
        The last becomes what a read-out reads.
    y : ndarray (M, N[L]) or None
    n_threads : int
        Not used.

    Returns
    -------
    steps : ndarray of int32, shape (M,)
    residual : ndarray, shape (M,)
        Largest |change| / dt over all units in each sample's last step.
    """
    net = GraphNet(spec, weights, back, biases, in_order)
    return net.relax(net.drive(x), states, y, beta, n_steps, tol, "nudged" if beta else "free")
