"""Records of the kernels for Boltzmann machines: the machine, what a call of sweeps does, how a
machine learns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Boltzmann:
    """A chain of layers of binary units, layer 0 the visible one, and its parameters.

    p(s) is proportional to exp(sum_k b_k . s_k + sum_k s_k W_k s_{k+1}).

    Attributes
    ----------
    weights : list of (N[k], N[k + 1])
    biases : list of (N[k],)
        One more than there are weights.
    categorical_top : bool
        Exactly one unit of the last layer is on, as a class among the labels is.
    """

    weights: list[np.ndarray]
    biases: list[np.ndarray]
    categorical_top: bool = False


@dataclass(frozen=True)
class Sweeps:
    """What a call of `boltzmann_sweep` does. A sweep renews the layers of one parity, then those of
    the other.

    Attributes
    ----------
    n : int
    draw : bool
        States are drawn; else they are the probabilities themselves (mean field).
    even_first : bool
        The visible layer belongs to the parity that a sweep begins with.
    upward : bool
        Begin with a pass upwards, mean field only: each layer from the one below, whose input counts
        twice where a layer above will answer with as much (1606.01651).
    tol : float
        Mean field: a row stops after a sweep that changed no unit by more; < 0: never.
    seed : int
        From 0 to 2^63 - 1. With row, layer, unit and number of the sweep it makes the draw.
    first_sweep : int
        Number of the first sweep: a run goes on where another has stopped.
    """

    n: int
    draw: bool = True
    even_first: bool = False
    upward: bool = False
    tol: float = -1.0
    seed: int = 0
    first_sweep: int = 0


@dataclass(frozen=True)
class BoltzmannPlan:
    """How a machine learns (docs/equations.md 14): a step for each mini-batch.

    Attributes
    ----------
    batch_size : int
    n_mean_field : int
        Mean-field sweeps after the upward pass, data clamped, at most; `tol` as in `Sweeps`.
    n_sweeps : int
        Sweeps of the second phase.
    draw : bool
        Second phase: Gibbs sweeps of persistent chains. Else mean-field sweeps from what the data
        alone infer, as in the first phase but without labels; then the data are released too.
    rate, momentum, weight_decay : float
    offset_rate : float
        How fast the offsets follow the mean states of the first phase.
    seed, first_sweep : int
        As in `Sweeps`.
    """

    batch_size: int
    n_mean_field: int
    n_sweeps: int
    rate: float
    tol: float = -1.0
    draw: bool = True
    momentum: float = 0.0
    weight_decay: float = 0.0
    offset_rate: float = 0.0
    seed: int = 0
    first_sweep: int = 0
