"""What the networks share: parameters as one list, and relaxation in tiles of rows."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np

from .. import auto
from ..kernels import OptimizerState, TrainStats
from .protocol import Equilibrium

# Rows relaxed at once outside training: it bounds the memory. Every backend treats a row alike
# whatever its company; NumPy's arrays of temporary values should stay in the cache.
NUMPY_TILE = 128
COMPILED_TILE = 4096


def batches(order, plan):
    """(rows, plan) of each mini-batch, as a call of its own takes them."""
    for b, start in enumerate(range(0, len(order), plan.batch_size)):
        sign = None if plan.sign is None else plan.sign[b : b + 1]
        part = replace(plan, sign=sign, adam_step=plan.adam_step + b)
        yield order[start : start + plan.batch_size], part


class BaseNetwork:
    """Base of the networks; see `eqprop_fast.networks.protocol.Network`.

    A subclass has `spec`, `kernels`, `weights`, `biases`, `new_particles`, and `_relax_rows`, which
    relaxes one tile in place and returns steps and residuals.
    """

    passes = False  # whether free phases start after a pass upwards
    carry_over = False  # whether `particles` are the states of one batch, carried to the next

    @property
    def parameters(self):
        return [*self.weights, *self.biases]

    @property
    def dtype(self):
        return self.weights[0].dtype

    @property
    def learned(self):
        """The parameters, and behind them what learns beside them."""
        return self.parameters

    def snapshot(self):
        return [p.copy() for p in self.learned]

    def restore(self, snapshot):
        for p, saved in zip(self.learned, snapshot):
            p[...] = saved

    def layer_of(self, index):
        """Layer (1 = first hidden) that `learned[index]` feeds."""
        return index % self.spec.n_weights + 1

    def feedback_angles(self):
        """Angle between forward and feedback weights of each layer pair, degrees; None: they are
        the same.
        """

    def new_optimizer_state(self, optimizer):
        arrays = self.parameters
        velocity = [] if optimizer == "sgd" else [np.zeros_like(a) for a in arrays]
        second = [np.zeros_like(a) for a in arrays] if optimizer == "adam" else []
        return OptimizerState(velocity, second)

    def starting_states(self, x, n_threads=1):
        """Where free phases outside training start: at zero."""
        return self.new_particles(x.shape[0])

    def _tiles(self, n_rows):
        """Slices of rows."""
        size = NUMPY_TILE if self.kernels.name == "numpy" else COMPILED_TILE
        return [slice(start, min(start + size, n_rows)) for start in range(0, n_rows, size)]

    def _relax_tiles(self, x, final, n_steps, tol, y, beta, n_threads):
        """Relax `final` (list of (M, N) arrays) in place; (rows, steps, residual) of each tile in
        turn.
        """
        for rows in self._tiles(x.shape[0]):
            tile = [np.ascontiguousarray(s[rows]) for s in final]
            target = None if y is None else y[rows]
            used, left = self._relax_rows(x[rows], tile, n_steps, tol, target, beta, n_threads)
            for s, values in zip(final, tile):
                s[rows] = values
            yield rows, used, left

    def _energy(self, x, states):
        """Energy of each row at rest; NaN where there is none, as with feedback weights."""
        return np.nan

    def relax(self, x, n_steps, tol=-1.0, y=None, beta=0.0, states=None, n_threads=1):
        """Relax with the input clamped and, if `beta` is not 0, the output nudged towards `y`.

        Parameters
        ----------
        x : ndarray or CSR, shape (M, N[0]), dtype of the weights
        n_steps : int
        tol : float
            A sample stops after the step whose residual is <= tol; below 0: never.
        y : ndarray (M, N[L]) or None
        beta : float
        states : list of ndarray or None
            Starting states, not changed; None: those of `starting_states`.
        n_threads : int

        Returns
        -------
        Equilibrium
            Its last states are what a read-out reads, if the network has one; without an energy
            that entry is NaN.

        Raises
        ------
        DivergenceError
        """
        m = x.shape[0]
        if states is None:
            final = self.starting_states(x, n_threads)
        else:
            final = [np.array(s, self.dtype, order="C") for s in states]
        steps, residual = np.zeros(m, np.int32), np.zeros(m, self.dtype)
        energy = np.empty(m)
        for rows, used, left in self._relax_tiles(x, final, n_steps, tol, y, beta, n_threads):
            steps[rows], residual[rows] = used, left
            energy[rows] = self._energy(x[rows], [s[rows] for s in final])
        return Equilibrium(final, steps, residual, energy, tol)

    def one_row(self, n_steps, tol):
        """See `LayeredNetwork.one_row`."""

    def _read_out(self, output):
        """Predictions, from the states of the last layer."""
        return output

    def outputs(self, x, n_steps, tol=-1.0, n_threads=1, residual=None):
        """Predictions of the free phase, (M, outputs), each row independent of the others. Holds
        one tile. The last residual of each row goes to the array `residual`, if there is one.
        """
        m = x.shape[0]
        out = np.empty((m, self.spec.sizes[-1]), self.dtype)
        for rows in self._tiles(m):
            tile = self.starting_states(x[rows], n_threads)
            _, left = self._relax_rows(x[rows], tile, n_steps, tol, n_threads=n_threads)
            if residual is not None:
                residual[rows] = left
            out[rows] = self._read_out(tile[-1])
        return out


class HopfieldNetwork(BaseNetwork):
    """Base of `LayeredNetwork` and `GraphNetwork`: free phases that start anywhere.

    A subclass has `free_spec` and `back`, the names of its kernels, `under_hidden(k)`: whether a
    hidden layer lies above layer k and answers it, `_upward_spec(gain)`: the dynamics of a pass
    upwards, layer after layer, and `recognition_of(weights, biases, learning_rate)`: a pass that
    learns.
    """

    feedforward = False  # whether free phases start after `pass_upwards` (1606.01651)
    recognition = None  # or what `recognition_of` makes, after which they start
    reconstruction_rate = 0.0  # of the local auto-encoder term

    def _relax_rows(self, x, states, n_steps, tol, y=None, beta=0.0, n_threads=1):
        spec = self.spec if beta else self.free_spec
        parameters = self.weights, self.back, self.biases
        relax = getattr(self.kernels, self._relax_kernel)
        return relax(spec, *parameters, x, states, y, beta, n_steps, tol, n_threads)

    def _train_rows(self, x, y, order, plan, row_weight, particles, optimizer_state, n_threads):
        parameters = self.weights, self.back, self.biases
        train = getattr(self.kernels, self._train_kernel)
        more = plan, row_weight, particles, optimizer_state, n_threads
        return train(self.spec, *parameters, x, y, order, *more)

    def pass_upwards(self, x, n_threads=1, gain=2.0):
        """States after one pass from the input to the output.

        Where a hidden layer lies above, the input from below counts `gain` times: twice if as much
        is going to come from there (1606.01651).
        """
        states, layers = self.new_particles(x.shape[0]), range(1, len(self.biases) + 1)
        gains = tuple(float(gain) if self.under_hidden(k) else 1.0 for k in layers)
        # gains are those of whole fields, biases among them
        biases = [b / b.dtype.type(g) for b, g in zip(self.biases, gains)]
        relax, spec = getattr(self.kernels, self._relax_kernel), self._upward_spec(gains)
        # from zero a sweep is the pass
        relax(spec, self.weights, self.back, biases, x, states, n_threads=n_threads)
        return states

    def starting_states(self, x, n_threads=1):
        if self.recognition is not None:
            return self.recognition.states(x, n_threads)
        if self.feedforward:
            return self.pass_upwards(x, n_threads)
        return super().starting_states(x, n_threads)

    def new_recognition(self, learning_rate):
        """A pass that learns, and begins as `pass_upwards`."""
        weights = [
            w * w.dtype.type(2 if self.under_hidden(self.layer_of(c)) else 1)
            for c, w in enumerate(self.weights)
        ]
        return self.recognition_of(weights, [b.copy() for b in self.biases], learning_rate)

    @property
    def passes(self):
        return self.feedforward or self.recognition is not None

    def pass_outputs(self, x, n_threads=1):
        """Predictions of the pass alone, (M, outputs), each row independent of the others."""
        out = np.empty((x.shape[0], self.spec.sizes[-1]), self.dtype)
        for rows in self._tiles(x.shape[0]):
            out[rows] = self._read_out(self.starting_states(x[rows], n_threads)[-1])
        return out

    @property
    def learned(self):
        return [*self.parameters, *(self.recognition.parameters if self.recognition else ())]

    def new_particles(self, n_rows):
        return [np.zeros((n_rows, n), self.dtype) for n in self.spec.sizes[1:]]

    def normal_particles(self, n_rows, rng):
        """Standard normal states, drawn row after row: however rows are grouped, each gets the
        same.
        """
        drawn = rng.standard_normal((n_rows, sum(self.spec.sizes[1:])), dtype=self.dtype)
        parts = np.split(drawn, np.cumsum(self.spec.sizes[1:-1]), axis=1)
        return [np.ascontiguousarray(part) for part in parts]

    def train(
        self, x, y, order, plan, row_weight=None, particles=None, optimizer_state=None, n_threads=1
    ):
        """Train on the rows `order`, batch after batch; see `networks.protocol.Network`."""
        if not (self.passes or self.carry_over or self.reconstruction_rate):
            return self._train_rows(
                x, y, order, plan, row_weight, particles, optimizer_state, n_threads
            )
        # one by one: where a batch starts depends on what those before it have left
        optimizer_state = optimizer_state or OptimizerState()
        stats = TrainStats(plan.loss_so_far)
        train = self._train_carrying if self.carry_over else self._train_batch
        for rows, part in batches(order, plan):
            part = replace(part, loss_so_far=stats.loss)
            weight = None if row_weight is None else row_weight[rows]
            batch = x[rows], y[rows], np.arange(len(rows)), part, weight
            stats = stats.followed_by(train(batch, particles, optimizer_state, n_threads))
        return stats

    def _train_batch(self, batch, particles, optimizer_state, n_threads):
        """From where `starting_states` are; the kernel leaves where the free phase has ended."""
        x, weight, predicted = batch[0], batch[-1], None
        if self.recognition is None:
            states = self.starting_states(x, n_threads)
        else:
            predicted = self.recognition.batch_states(x)
            states = [p.copy() for p in predicted]
        stats = self._train_rows(*batch, states, optimizer_state, n_threads)
        if predicted is not None:
            self.recognition.learn(x, predicted, states, weight)
        if self.reconstruction_rate:
            self._reconstruct(states, weight)
        return stats

    def _train_carrying(self, batch, carried, optimizer_state, n_threads):
        """The kernel keeps free states: the second phase is run again for its end."""
        x, y, _, plan, _ = batch
        beta = plan.beta if plan.sign is None else plan.beta * float(plan.sign[0])
        states = carried if len(carried[0]) == len(y) else self.new_particles(len(y))
        before = self._with_copies()
        stats = self._train_rows(*batch, states, optimizer_state, n_threads)
        before._relax_rows(x, states, plan.n_nudged_steps, plan.tol_nudged, y, beta, n_threads)
        carried[:] = states
        return stats

    def _with_copies(self):
        """The same network with copies of its parameters."""
        twin = copy.copy(self)
        twin.weights = [w.copy() for w in self.weights]
        twin.biases = [b.copy() for b in self.biases]
        if self.back is not None:
            twin.back = [None if b is None else b.copy() for b in self.back]
        return twin

    def contraction(self, x, weight):
        """By how much the residual shrinks in each sweep from zero, the median of these rows."""
        before = self.relax(x, auto.PROBE_STEPS - 1, states=self.new_particles(x.shape[0]))
        after = self.relax(x, 1, states=before.states)
        shrunk = after.residual / np.maximum(before.residual, np.finfo(self.dtype).tiny)
        return auto.median(shrunk, weight)
