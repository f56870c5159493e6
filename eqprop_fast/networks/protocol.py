"""What the training driver asks of a network; layered and resistive networks both answer it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

REST = 1e-4  # `Equilibrium.success` without a tolerance: largest change, relative to the largest state or 1


@dataclass
class Equilibrium:
    """Where a network came to rest.

    Attributes
    ----------
    states : list of ndarray, each (n_samples, n_units)
        One array per layer, first hidden layer first, output last.
    steps : ndarray of int32, shape (n_samples,)
        Relaxation steps each sample used.
    residual : ndarray, shape (n_samples,)
        Largest change per unit time of any unit in the last step; near 0 at a fixed point.
    energy : ndarray of float64, shape (n_samples,)
        Energy of each sample at the end (see `eqprop_fast.networks.energy`); NaN where no energy
        exists.
    tol : float
        Tolerance of the relaxation; negative: none, every sample took all its steps.

    Notes
    -----
    The papers relax for a fixed, small number of steps, so a sample that still moves after the last
    one is no error: `success` tells which have come to rest.
    """

    states: list
    steps: np.ndarray
    residual: np.ndarray
    energy: np.ndarray
    tol: float = -1.0

    @property
    def success(self):
        """Which samples came to rest, bool (n_samples,).

        Their residual is at most `tol`, or without a tolerance 1e-4 times their largest state (1,
        if that is smaller).
        """
        if self.tol >= 0:
            return self.residual <= self.tol
        largest = np.max([np.abs(s).max(axis=1, initial=1.0) for s in self.states], axis=0)
        return self.residual <= REST * largest


class Network(Protocol):
    """Parameters plus the three things a physical network does: relax, be compared, learn.

    The driver (`eqprop_fast.training.fit_epochs`) needs all but `outputs` and `relax`, which are
    the estimators'; with ``FitSettings(normal_start=True)`` also `LayeredNetwork.normal_particles`.
    """

    carry_over: bool  # whether particles are the states of one batch, carried to the next

    @property
    def parameters(self) -> list:
        """All trained arrays, changed in place by `train`; weights of every layer, then biases."""

    def layer_of(self, index: int) -> int:
        """Layer (1: the first hidden one) that ``parameters[index]`` feeds."""

    def feedback_angles(self) -> list | None:
        """Degrees between forward and feedback weights, by layer pair; None: they are the same."""

    def snapshot(self) -> list:
        """Copies of `parameters`."""

    def restore(self, snapshot: list) -> None:
        """Writes a snapshot back, in place."""

    def new_optimizer_state(self, optimizer: str):
        """Zeroed `OptimizerState` for "sgd", "momentum", "nesterov" or "adam"."""

    def new_particles(self, n_rows: int) -> list:
        """Zeroed persistent states, one array (n_rows, n_units) per free layer."""

    def train(
        self, x, y, order, plan, row_weight=None, particles=None, optimizer_state=None, n_threads=1
    ):
        """Trains on the rows `order`, batch after batch; returns `TrainStats`."""

    def relax(
        self, x, n_steps, tol=-1.0, y=None, beta=0.0, states=None, n_threads=1
    ) -> Equilibrium:
        """Relaxes from `states` (zero if None) with x clamped."""

    def outputs(self, x, n_steps, tol=-1.0, n_threads=1, residual=None) -> np.ndarray:
        """Free-phase output states (n_samples, n_outputs); each row independent of the others."""
