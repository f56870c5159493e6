"""Tables of the layered kernels (kernels/reference/layered.py)."""

from dataclasses import replace

import numpy as np

from ..spec import (
    ACTIVATIONS,
    COSTS,
    DYNAMICS,
    GRADIENT_RULES,
    MAX_WEIGHTS,
    OPTIMIZERS,
    RULES,
    SCHEDULES,
    VECTOR_FIELD_RULES,
    LayeredSpec,
    OptimizerState,
    TrainPlan,
)
from .rows import (
    Array,
    Arrays,
    Inputs,
    Integer,
    Numbers,
    Order,
    Real,
    check_array,
    check_dtype,
    check_flag,
    check_integer,
    check_list,
    check_option,
    check_real,
    describe,
)

SPEC_OPTIONS = {
    "dynamics": DYNAMICS,
    "schedule": SCHEDULES,
    "activation": ACTIVATIONS,
    "out_activation": ACTIVATIONS,
    "input_activation": ACTIVATIONS,
    "cost": COSTS,
}
SPEC_FLAGS = ("prime_hidden", "prime_output", "linear_output", "clamp", "nudge_inside")
MOMENTS = {
    "sgd": (),
    "momentum": ("velocity",),
    "nesterov": ("velocity",),
    "adam": ("velocity", "second"),
}


def network(at, name, spec):
    """A `LayeredSpec`; leaves the sizes N and the number L of weight matrices."""
    if not isinstance(spec, LayeredSpec):
        raise ValueError(f"{name} must be a LayeredSpec, got {describe(spec)}")
    sizes = spec.sizes
    if "checked" in vars(spec):  # it is frozen
        at.N, at.L, at.spec = sizes, len(sizes) - 1, spec
        return spec
    if type(sizes) is not tuple or not 2 <= len(sizes) <= MAX_WEIGHTS + 1:
        raise ValueError(
            f"{name}.sizes must be a tuple of 2 to {MAX_WEIGHTS + 1} sizes, got {sizes!r:.60}"
        )
    for k, n in enumerate(sizes):
        check_integer(f"{name}.sizes[{k}]", n, 1)
    for option, words in SPEC_OPTIONS.items():
        check_option(f"{name}.{option}", getattr(spec, option), words)
    for flag in SPEC_FLAGS:
        check_flag(f"{name}.{flag}", getattr(spec, flag))
    vars(spec)["checked"] = True
    at.N, at.L, at.spec = sizes, len(sizes) - 1, spec
    return spec


def weights(at, name, value):
    """Also gives the call its dtype, in which the numbers of the spec must be finite."""
    check_dtype(at, f"{name}[0]", check_list(name, value, at.L)[0])
    check_real("spec.cost_factor", at.spec.cost_factor, dtype=at.dtype)
    if not check_real("spec.dt", at.spec.dt, dtype=at.dtype) > 0:
        raise ValueError(f"spec.dt must be above 0, got {at.spec.dt}")
    gains(at)
    return WEIGHTS[at.trains](at, name, value)


def gains(at):
    """Those of a spec: one a layer above the input, or none."""
    gain = at.spec.gain
    if type(gain) is not tuple or len(gain) not in (0, at.L):
        raise ValueError(f"spec.gain must be a tuple of {at.L} numbers, or empty, got {gain!r:.60}")
    for k, g in enumerate(gain):
        check_real(f"spec.gain[{k}]", g, dtype=at.dtype)


WEIGHTS = [Arrays(lambda n, k: (n[k], n[k + 1]), written=written) for written in (False, True)]


def relaxed(at, name, spec):
    at.trains = False
    return network(at, name, spec)


def trained(at, name, spec):
    at.trains = True
    return network(at, name, spec)


def targets(at, name, value):
    """Needed by a nudge."""
    if value is None and at.beta != 0:
        raise ValueError(f"{name} is needed when beta is not 0")
    return TARGETS(at, name, value)


TARGETS = Array(lambda at: (at.R, at.N[-1]), optional=True)


def training_plan(at, name, plan, n_rates=None):
    """A `TrainPlan`, rates as tuples and signs as int8; `n_rates`: how many of each, else one a
    layer pair.
    """
    if not isinstance(plan, TrainPlan):
        raise ValueError(f"{name} must be a TrainPlan, got {describe(plan)}")
    check_option("learning_rule", plan.rule, RULES)
    check_option("optimizer", plan.optimizer, OPTIMIZERS)
    check_flag("centered", plan.centered)
    real = at.dtype
    for count, low in (("batch_size", 1), ("n_free_steps", 0), ("n_nudged_steps", 0)):
        check_integer(count, getattr(plan, count), low)
    check_integer("adam_step", plan.adam_step, high=2**62)
    for number in ("beta", "over_relaxation", "tol_free", "tol_nudged", "momentum", "weight_decay"):
        check_real(number, getattr(plan, number), dtype=real)
    check_real("loss_so_far", plan.loss_so_far)
    if plan.beta == 0 and plan.rule not in GRADIENT_RULES:
        raise ValueError("beta must not be 0: updates are divided by it")
    for share in ("beta1", "beta2"):
        if not 0 <= check_real(share, getattr(plan, share), dtype=real) < 1:
            raise ValueError(f"{share} must lie in [0, 1), got {getattr(plan, share)}")
    check_real("epsilon", plan.epsilon, 0, dtype=real)
    if not plan.over_relaxation > 0:
        raise ValueError(f"over_relaxation must be above 0, got {plan.over_relaxation}")
    counts = n_rates or (at.L, at.L)
    rates = [
        NUMBERS(at, rate, getattr(plan, rate), n) for rate, n in zip(("rate", "bias_rate"), counts)
    ]
    at.plan = replace(plan, rate=rates[0], bias_rate=rates[1], sign=_sign(at, plan))
    return at.plan


NUMBERS = Numbers()


def _sign(at, plan):
    if plan.sign is None:
        return None
    sign = plan.sign if isinstance(plan.sign, np.ndarray) else np.asarray(plan.sign)
    n_batches = -(-at.M // plan.batch_size)
    if sign.ndim != 1 or sign.dtype.kind not in "iuf" or len(sign) < n_batches:
        raise ValueError(
            f"plan.sign needs one entry per batch, {n_batches} of them, got {describe(sign)}"
        )
    if not (np.abs(sign) == 1).all():
        raise ValueError("plan.sign must hold 1 and -1 only")
    return np.ascontiguousarray(sign, np.int8)


def optimizer_memory(at, name, state):
    """What the optimiser moves, and nothing else; None under plain SGD."""
    if state is not None and not isinstance(state, OptimizerState):
        raise ValueError(f"{name} must be an OptimizerState, got {describe(state)}")
    slots = MOMENTS[at.plan.optimizer]
    if not slots:
        return None
    if state is None:
        raise ValueError(f"{name} is needed for optimizer={at.plan.optimizer!r}")
    n, L, learns_back = (
        at.N,
        at.L,
        at.plan.rule in VECTOR_FIELD_RULES + GRADIENT_RULES and at.has_back,
    )
    found = OptimizerState()
    for slot in slots:
        where, arrays = f"{name}.{slot}", check_list(f"{name}.{slot}", getattr(state, slot), None)
        needed = 3 * L if learns_back else 2 * L
        # the memory of back[0], which is not used, may be left out with all that a rule does not
        # move
        if len(arrays) < (needed if learns_back and L > 1 else 2 * L):
            raise ValueError(f"{where} must have {needed} entries, got {len(arrays)}")
        kept = list(arrays[:needed])
        for i, a in enumerate(kept):
            k = i % L
            shape = ((n[k], n[k + 1]), (n[k + 1],), (n[k + 1], n[k]))[i // L]
            if i != 2 * L:
                kept[i] = check_array(at, f"{where}[{i}]", a, shape, at.dtype, written=True)
        setattr(found, slot, kept)
    return found


def back(at, name, value):
    at.has_back = value is not None
    learns = at.trains
    return BACK[learns](at, name, value)


BACK = [
    Arrays(lambda n, k: (n[k + 1], n[k]), written=written, optional=True, unused=1)
    for written in (False, True)
]


RELAX = {
    "spec": relaxed,
    "weights": weights,
    "back": back,
    "biases": Arrays(lambda n, k: (n[k + 1],)),
    "x": Inputs(),
    "beta": Real(),
    "y": targets,
    "n_steps": Integer(),
    "tol": Real(),
    "n_threads": Integer(1),
}


class States:
    """Lists of states, one array a layer, of as many rows as x."""

    def __init__(self, optional=False):
        self.optional = optional

    def __call__(self, at, name, value):
        if value is None and self.optional:
            return None
        check_list(name, value, at.L)
        n, rows, dtype = at.N, at.R, at.dtype
        return [
            check_array(at, f"{name}[{k}]", a, (rows, n[k + 1]), dtype, written=True)
            for k, a in enumerate(value)
        ]


RELAX["states"] = States()

TRAIN = {
    "spec": trained,
    "weights": weights,
    "back": back,
    "biases": Arrays(lambda n, k: (n[k + 1],), written=True),
    "x": Inputs(),
    "y": Array(lambda at: (at.R, at.N[-1])),
    "order": Order(),
    "plan": training_plan,
    "row_weight": Array(lambda at: (at.R,), optional=True, low=0),
    "particles": States(optional=True),
    "optimizer_state": optimizer_memory,
    "n_threads": Integer(1),
}
