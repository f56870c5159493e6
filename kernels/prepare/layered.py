"""Jobs of layered networks (csrc/core/jobs.h: eqp_layered_job)."""

from scipy import sparse

from ..jobs import Job
from ..spec import (
    ACTIVATIONS,
    COSTS,
    DYNAMICS,
    GRADIENT_RULES,
    OPTIMIZERS,
    RULES,
    SCHEDULES,
    VECTOR_FIELD_RULES,
    check_plan,
)

# of a spec and of a plan, which all Hopfield-like networks have and the jobs by the same names
DYNAMICS_FIELDS = (
    "prime_hidden",
    "prime_output",
    "linear_output",
    "clamp",
    "nudge_inside",
    "cost_factor",
    "dt",
)
PLAN_FIELDS = (
    "beta",
    "n_free_steps",
    "n_nudged_steps",
    "tol_free",
    "tol_nudged",
    "over_relaxation",
    "centered",
    "batch_size",
    "momentum",
    "weight_decay",
    "beta1",
    "beta2",
    "epsilon",
    "adam_step",
)
MOMENTS = {"momentum": ("velocity",), "nesterov": ("velocity",), "adam": ("velocity", "second")}


def _network_job(spec, weights, x, y):
    """A job with dynamics, inputs and targets, checked by `kernels.checks`: kernels trust what they
    are handed. The callers point to the network, which is in or in/out.
    """
    job = Job("eqp_layered_job", weights[0].dtype)
    job.numbers(
        n_weights=spec.n_weights,
        dynamics=DYNAMICS[spec.dynamics],
        schedule=SCHEDULES[spec.schedule],
        activation=ACTIVATIONS[spec.activation],
        out_activation=ACTIVATIONS[spec.out_activation],
        input_activation=ACTIVATIONS[spec.input_activation],
        cost=COSTS[spec.cost],
    )
    job.takes(spec, *DYNAMICS_FIELDS)
    job.reads(size=spec.sizes, gain=spec.gain or None)
    if sparse.issparse(x):
        job.reads(indptr=x.indptr, indices=x.indices, data=x.data)
    else:
        job.reads(x=x)
    job.reads(y=y)
    return job


def relax_job(spec, weights, back, biases, x, states, y, beta, n_steps, tol, steps, residual):
    """The job of `kernels.reference.layered.layered_relax`; `steps` and `residual` are what it
    returns.
    """
    job = _network_job(spec, weights, x, y)
    job.reads(weight=weights, back=back and [None, *back[1:]], bias=biases)
    job.writes(state=states, steps=steps, residual=residual)
    job.numbers(n_rows=x.shape[0], beta=beta, n_free_steps=n_steps, tol_free=tol)
    return job


def plan_fields(job, plan, order, row_weight):
    """What the jobs of all kernels that follow a `TrainPlan` take from it."""
    job.reads(
        order=order, row_weight=row_weight, sign=plan.sign, rate=plan.rate, bias_rate=plan.bias_rate
    )
    job.numbers(n_rows=len(order), rule=RULES[plan.rule], optimizer=OPTIMIZERS[plan.optimizer])
    job.takes(plan, *PLAN_FIELDS)


def train_job(
    spec,
    weights,
    back,
    biases,
    x,
    y,
    order,
    plan,
    row_weight,
    particles,
    optimizer_state,
    loss,
    counts,
):
    """The job of `kernels.reference.layered.layered_train`.

    `loss` (2) takes the loss and the number of hits, `counts` (4) free and nudged steps, samples,
    batches.
    """
    check_plan(spec, plan, back is not None, particles is not None)
    job, n = _network_job(spec, weights, x, y), spec.n_weights
    job.writes(weight=weights, bias=biases, state=particles, loss=loss, counts=counts)
    learns_back = plan.rule in VECTOR_FIELD_RULES + GRADIENT_RULES
    (job.writes if learns_back else job.reads)(back=back and [None, *back[1:]])
    plan_fields(job, plan, order, row_weight)
    for name in MOMENTS.get(plan.optimizer, ()):
        arrays = getattr(optimizer_state, name)
        # those of the weights, of the biases and, behind an empty place, of the feedback weights
        # that learn
        backs = (
            [None, *arrays[2 * n + 1 : 3 * n]] if back is not None and learns_back else [None] * n
        )
        job.writes(**{name: [*arrays[: 2 * n], *backs]})
    return job
