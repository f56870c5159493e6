"""What a layered kernel is told: the network's dynamics and one training plan, as plain frozen records.

The integer codes are those of csrc/jobs.h; this file is the only other place that knows them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

ACTIVATIONS = {
    "identity": 0,
    "shifted_sigmoid": 1,  # 1 / (1 + exp(-4 (x - 1/2))): "sigm" of 1905.13633, "mysig" of 2006.03824
    "hard_sigmoid": 2,  # clip(x, 0, 1)
    "tanh": 3,
    "sigmoid": 4,
    "relu": 5,
    "half_hard_sigmoid": 6,  # clip(x / 2, 0, 1): "my_hard_sig" of 2006.03824
    "centered_hard_sigmoid": 7,  # clip(x, -1/2, 1/2)
}
DYNAMICS = {"discrete": 0, "continuous": 1}
SCHEDULES = {"synchronous": 0, "asynchronous": 1}
COSTS = {"squared_error": 0, "cross_entropy": 1}
OPTIMIZERS = {"sgd": 0, "momentum": 1, "nesterov": 2, "adam": 3}
RULES = {"ep": 0, "continual": 1, "vector_field": 2, "continual_vector_field": 3, "clamped_sweep": 4}
MAX_WEIGHTS = 16  # EQP_MAX_WEIGHTS


@dataclass(frozen=True)
class LayeredSpec:
    """Dynamics of a layered network (papers.md 1, 5 and the convention traps of 11).

    Attributes
    ----------
    sizes : tuple of int
        Units of each layer, input first.
    dynamics : {"discrete", "continuous"}
        The map ``s <- rho(field)`` (1905.13633, prototypical) or Euler steps of ``ds/dt = -dE/ds`` (1602.05179).
    schedule : {"synchronous", "asynchronous"}
        All layers at once from the old state; or odd layers, then even ones.
    activation, out_activation, input_activation : str
        A key of `ACTIVATIONS`. The input acts on the first layer as ``input_activation(x)``.
    prime_hidden, prime_output : bool
        Continuous: whether the field is multiplied by ``rho'(s)``.
    linear_output : bool
        Continuous: the output acts on other layers, and learns, as ``s`` (consistent energy) instead of ``rho(s)``.
    clamp : bool
        Continuous: clip states to [0, 1] after each step.
    nudge_inside : bool
        Discrete: ``rho(field + nudge)`` (2006.03824) instead of ``rho(field) + nudge`` (1905.13633).
    cost : {"squared_error", "cross_entropy"}
    cost_factor : float
        1 for ``C = |s - y|^2 / 2``, 2 for ``C = |s - y|^2`` (1602.05179).
    dt : float
        Euler step; for the discrete map a damping, 1 being the plain map.
    """

    sizes: tuple
    dynamics: str = "discrete"
    schedule: str = "synchronous"
    activation: str = "shifted_sigmoid"
    out_activation: str = "shifted_sigmoid"
    input_activation: str = "identity"
    prime_hidden: bool = True
    prime_output: bool = False
    linear_output: bool = False
    clamp: bool = False
    nudge_inside: bool = False
    cost: str = "squared_error"
    cost_factor: float = 1.0
    dt: float = 1.0

    @property
    def n_weights(self):
        return len(self.sizes) - 1


@dataclass(frozen=True)
class TrainPlan:
    """One learning rule with its numbers, for `layered_train`.

    `sign` holds one +-1 per mini-batch of the call (random-sign nudging) or is None. `rate` and `bias_rate` have one
    entry per weight matrix, input first. Tolerances below 0 mean fixed step counts.
    """

    batch_size: int
    beta: float
    n_free_steps: int
    n_nudged_steps: int
    rate: tuple
    bias_rate: tuple
    rule: str = "ep"
    tol_free: float = -1.0
    tol_nudged: float = -1.0
    centered: bool = False
    sign: np.ndarray | None = None
    optimizer: str = "sgd"
    momentum: float = 0.9
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    adam_step: int = 0


@dataclass
class TrainStats:
    """What a training call saw; sums, to be added over calls."""

    loss: float = 0.0  # weighted cost of the free phase, summed over samples
    n_correct: int = 0  # right argmax of the free phase
    free_steps: int = 0  # sample-steps
    nudged_steps: int = 0
    n_samples: int = 0
    n_batches: int = 0

    def add(self, other):
        for name in self.__dataclass_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        return self


@dataclass
class OptimizerState:
    """Momentum (or first moment) and second moment, 2L arrays each: weights then biases; empty when unused."""

    velocity: list = field(default_factory=list)
    second: list = field(default_factory=list)


class DivergenceError(ArithmeticError):
    """A state became non-finite.

    Attributes
    ----------
    layer : int or None
        Layer (1 = first hidden) where it was first seen.
    step : int or None
        Relaxation step, counted from 1.
    phase : str
        "free" or "nudged".
    """

    def __init__(self, message, layer=None, step=None, phase="free"):
        super().__init__(message)
        self.layer, self.step, self.phase = layer, step, phase

    def __reduce__(self):
        return type(self), (self.args[0], self.layer, self.step, self.phase)
