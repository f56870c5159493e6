"""What a layered kernel is told: the network's dynamics and one training plan, as plain frozen
records.

The integer codes are those of csrc/core/jobs.h; this file is the only other place that knows them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

ACTIVATIONS = {
    "identity": 0,
    # 1 / (1 + exp(-4 (x - 1/2))): "sigm" of 1905.13633, "mysig" of 2006.03824
    "shifted_sigmoid": 1,
    "hard_sigmoid": 2,  # clip(x, 0, 1)
    "tanh": 3,
    "sigmoid": 4,
    "relu": 5,
    "half_hard_sigmoid": 6,  # clip(x / 2, 0, 1): "my_hard_sig" of 2006.03824
    "centered_hard_sigmoid": 7,  # clip(x, -1/2, 1/2)
    "wide_hard_sigmoid": 8,  # clip(x, -1, 2): outputs of 2205.15021
    "relu6": 9,  # clip(x, 0, 6): 2509.26003
}
# their values lie in [0, 1]: probabilities, where they are outputs
UNIT_RANGE = {"shifted_sigmoid", "hard_sigmoid", "sigmoid", "half_hard_sigmoid"}
DYNAMICS = {"discrete": 0, "continuous": 1}
SCHEDULES = {"synchronous": 0, "asynchronous": 1, "forward": 2}
COSTS = {"squared_error": 0, "cross_entropy": 1}
OPTIMIZERS = {"sgd": 0, "momentum": 1, "nesterov": 2, "adam": 3}
RULES = {
    "ep": 0,
    "continual": 1,  # C-EP, 2005.04168
    "vector_field": 2,  # 1808.04873
    "continual_vector_field": 3,  # C-VF, 2005.04168
    "clamped_sweep": 4,  # 1602.05179 v1
    "contrastive": 5,  # CL, 2312.15103
    "coupled": 6,  # coupled learning CpL, 2312.15103
    "bptt": 7,
    "recurrent_backprop": 8,  # Almeida-Pineda
    "implicit": 9,
}
MAX_WEIGHTS = 16  # EQP_MAX_WEIGHTS


@dataclass(frozen=True)
class LayeredSpec:
    """Dynamics of a layered network (docs/equations.md 1, 2).

    Attributes
    ----------
    sizes : tuple of int
        Units of each layer, input first.
    dynamics : {"discrete", "continuous"}
        The map ``s <- rho(field)`` (1905.13633, prototypical) or Euler steps of ``ds/dt = -dE/ds``
        (1602.05179).
    schedule : {"synchronous", "asynchronous", "forward"}
        All layers at once from the old state; odd layers, then even ones; or one after another,
        input first. "forward" is for `layered_relax` only: it is how "clamped_sweep" trains, whose
        schedule is not asked.
    activation, out_activation, input_activation : str
        A key of `ACTIVATIONS`. The input acts on the first layer as ``input_activation(x)``.
    prime_hidden, prime_output : bool
        Continuous: whether the field is multiplied by ``rho'(s)``.
    linear_output : bool
        Continuous: the output acts on other layers, and learns, as ``s`` (consistent energy)
        instead of ``rho(s)``.
    clamp : bool
        Continuous: clip states to [0, 1] after each step.
    nudge_inside : bool
        Discrete: ``rho(field + nudge)`` (2006.03824) instead of ``rho(field) + nudge``
        (1905.13633).
    cost : {"squared_error", "cross_entropy"}
    cost_factor : float
        1 for ``C = |s - y|^2 / 2``, 2 for ``C = |s - y|^2`` (1602.05179); multiplies cross-entropy too.
    dt : float
        Euler step; for the discrete map a damping, 1 being the plain map.
    gain : tuple of float
        One a layer above the input, how many times its field counts: ``rho(gain field)``; empty:
        once. For relaxing only.
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
    gain: tuple = ()

    @property
    def n_weights(self):
        return len(self.sizes) - 1

    @property
    def output_layer(self):
        return len(self.sizes) - 1

    def activation_of(self, k):
        return self.out_activation if k == self.n_weights else self.activation


@dataclass(frozen=True)
class TrainPlan:
    """One learning rule with its numbers, for `layered_train`.

    ``n_nudged_steps`` counts the steps of the rule's second phase: nudged steps, clamped steps
    ("contrastive", "coupled"), backward sweeps ("clamped_sweep"), reverse steps ("bptt",
    "recurrent_backprop"); "implicit" has none. `sign` holds one +-1 per mini-batch of the call
    (random-sign nudging) or is None. `over_relaxation` lengthens the steps of the free phase (see
    `free_spec`). `rate` and `bias_rate` have one entry per weight matrix, input first. Tolerances
    below 0 mean fixed step counts. A call adds its samples' costs to `loss_so_far`: however an
    epoch is cut into calls, its loss is the same to the last bit.
    """

    batch_size: int
    beta: float
    n_free_steps: int
    n_nudged_steps: int
    rate: tuple
    bias_rate: tuple
    rule: str = "ep"
    tol_free: float = -1.0
    over_relaxation: float = 1.0
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
    loss_so_far: float = 0.0


def free_spec(spec, over_relaxation, rule="ep"):
    """The dynamics of a rule's free phase: ``s <- s + over_relaxation (rho(field) - s)``.

    That of "clamped_sweep" visits layer after layer (1602.05179 v1), whatever the schedule.

    Layers of equal parity do not meet, so an asynchronous sweep is a red-black Gauss-Seidel sweep,
    and Young's theory of successive over-relaxation holds near a fixed point: the fixed points are
    the same, and with ``over_relaxation = 2 / (1 + sqrt(1 - r))`` a convergence rate r per sweep
    becomes ``over_relaxation - 1``.
    """
    if rule == "clamped_sweep":
        spec = replace(spec, schedule="forward")
    return spec if over_relaxation == 1 else replace(spec, dt=spec.dt * over_relaxation)


CONTINUAL_RULES = ("continual", "continual_vector_field")
VECTOR_FIELD_RULES = ("vector_field", "continual_vector_field")
GRADIENT_RULES = ("bptt", "recurrent_backprop", "implicit")


def check_plan(spec, plan, has_back, has_particles):
    """Refuse a plan that no kernel runs. What goes with a rule, and why, is in
    `eqprop_fast/rules/`.

    Raises
    ------
    ValueError
        Names what the kernels cannot do.
    """
    if plan.rule not in RULES:
        raise ValueError(f"learning_rule must be one of {sorted(RULES)}, got {plan.rule!r}")
    unfit = [name for name, fits in _limits(spec, plan, has_back, has_particles) if not fits]
    if unfit:
        raise ValueError(f"no kernel runs learning_rule={plan.rule!r} with this {', '.join(unfit)}")


def _limits(spec, plan, has_back, has_particles):
    """(field of spec or plan, whether the kernels of the plan's rule can run it)."""
    rule, discrete = plan.rule, spec.dynamics == "discrete"
    yield "schedule='forward'", spec.schedule != "forward"
    yield "gain", not spec.gain
    if plan.over_relaxation != 1:
        yield (
            "over_relaxation",
            (
                discrete
                and spec.schedule == "asynchronous"
                and spec.dt == 1
                and rule not in GRADIENT_RULES
            ),
        )
    if rule in CONTINUAL_RULES:
        yield "optimizer", plan.optimizer == "sgd"
        yield "weight_decay", plan.weight_decay == 0
        yield "tol_nudged", plan.tol_nudged < 0
    if rule in CONTINUAL_RULES + GRADIENT_RULES + ("contrastive", "clamped_sweep"):
        yield "nudging (centered)", not plan.centered
    if rule in VECTOR_FIELD_RULES:
        yield "back weights (none)", has_back
        yield "prime_hidden, prime_output", discrete or not (spec.prime_hidden or spec.prime_output)
    elif rule not in GRADIENT_RULES + ("ep",):
        yield "back weights", not has_back
    if rule in ("contrastive", "coupled", "clamped_sweep"):
        yield "cost", spec.cost == "squared_error"
    if rule == "clamped_sweep":
        yield "dynamics", discrete
        yield "dt", spec.dt == 1
    if rule in ("bptt", "recurrent_backprop"):
        yield "n_nudged_steps", plan.n_nudged_steps >= 1
    if rule == "bptt":
        yield "persistent particles", not has_particles
        yield "n_nudged_steps", plan.n_nudged_steps <= plan.n_free_steps


@dataclass(frozen=True)
class Crossbar:
    """A layered crossbar: its parameters and its physics (docs/equations.md 11).

    Attributes
    ----------
    weights, biases, lower, upper : lists of arrays
        Conductances (2 D, N[1]), (N[1], N[2]), ... in siemens, bias currents (N[k],) in ampere, and
        the bounds (N[k],) in volt at which the diodes hold a node.
    input_gain : float
        The sources stand at ``input_gain * x`` and ``-input_gain * x``.
    schedule : {"synchronous", "asynchronous", "forward", "backward"}
    pairs : bool
        The prediction of class c is the voltage between output nodes c and C + c.
    """

    weights: list
    biases: list
    lower: list
    upper: list
    input_gain: float = 1.0
    schedule: str = "asynchronous"
    pairs: bool = False


@dataclass(frozen=True)
class CrossbarPlan:
    """How a crossbar learns, for `crossbar_train`; what `TrainPlan` has too means the same.

    Attributes
    ----------
    rate, bias_rate : tuples
        One entry for each matrix of conductances, input first.
    beta, nudging : float, {"centered", "positive", "negative"}
        The size of the nudge, and its sign: both, compared with each other, or one, with none.
    g_min, g_max : float
        The conductances are kept within them.
    carry : bool
        A free phase starts where the last batch ended, and not at zero.
    optimizer : {"sgd", "momentum", "nesterov"}
        "momentum": v <- momentum v + dE, then a step along v; "nesterov": along dE + momentum v.
        The clamp acts on the conductances, not on v.
    """

    rate: tuple
    bias_rate: tuple
    batch_size: int = 4
    beta: float = 1.0
    nudging: str = "centered"
    n_free_steps: int = 4
    n_nudged_steps: int = 4
    tol_free: float = -1.0
    tol_nudged: float = -1.0
    g_min: float = 0.0
    g_max: float = float("inf")
    carry: bool = True
    optimizer: str = "sgd"
    momentum: float = 0.0
    loss_so_far: float = 0.0


@dataclass(frozen=True)
class Conductances:
    """The P programmable conductances of a circuit, for `nodal_update`.

    Attributes
    ----------
    pairs : int32 (P, 2)
        Nodes of each conductance.
    scale : (P,)
        Gradient per unit of the sum over samples.
    conductance, velocity : (P,)
        In/out.
    low, high : (P,)
        Bounds.
    """

    pairs: np.ndarray
    scale: np.ndarray
    conductance: np.ndarray
    velocity: np.ndarray
    low: np.ndarray
    high: np.ndarray


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

    def followed_by(self, other):
        """These stats and those of a call whose plan had this loss as `loss_so_far`."""
        return replace(self, loss=0.0).add(other)


@dataclass
class OptimizerState:
    """Momentum (or first moment) and second moment: weights, then biases, then backward weights."""

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


class NudgeError(ArithmeticError):
    """A negative nudge exceeds the conductance at an output node: the nudged network has no
    equilibrium.
    """

    def __init__(
        self,
        message="a nudge of -beta exceeds the total conductance at an output node, so that the nudged "
        "network has no equilibrium; use a smaller beta, or larger conductances (g_min, conductance_gain)",
    ):
        super().__init__(message)
