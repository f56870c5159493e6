"""Jobs of networks of any shape (csrc/core/jobs.h: eqp_graph_job)."""

import numpy as np

from ..graph_spec import POOLS
from ..jobs import Job
from ..spec import ACTIVATIONS, COSTS, DYNAMICS, VECTOR_FIELD_RULES
from .layered import DYNAMICS_FIELDS, MOMENTS, plan_fields


def _network_job(spec, weights, x, y):
    """A job with network, dynamics, inputs and targets, checked by `kernels.checks`."""
    job = Job("eqp_graph_job", weights[0].dtype)
    passes = spec.passes()
    moves = np.full(len(spec.layers), -1, np.int32)
    for i, layers in enumerate(passes):
        moves[layers] = i
    shapes = [layer.sides for layer in spec.layers]
    links = [
        (c.below, c.above, c.kernel, c.stride, c.padding, POOLS[c.pool], c.window, c.own_back)
        for c in spec.connections
    ]
    job.numbers(
        n_layers=len(spec.layers),
        n_connections=len(links),
        n_passes=len(passes),
        dynamics=DYNAMICS[spec.dynamics],
        cost=COSTS[spec.cost],
    )
    job.takes(spec, *DYNAMICS_FIELDS, "readout")
    job.reads(
        shape=np.array(shapes, np.int32),
        connection=np.array(links, np.int32),
        activation=np.array([ACTIVATIONS[layer.activation] for layer in spec.layers], np.int32),
        **{"pass": moves},
        gain=spec.gain or None,
        x=x.toarray() if hasattr(x, "toarray") else x,
        y=y,
    )
    return job


def relax_job(spec, weights, back, biases, x, states, y, beta, n_steps, tol, steps, residual):
    """The job of `kernels.reference.graph.graph_relax`; `steps` and `residual` are what it returns."""
    job = _network_job(spec, weights, x, y)
    job.reads(weight=weights, back=back, bias=biases)
    job.writes(state=states, steps=steps, residual=residual)
    job.numbers(n_rows=x.shape[0], beta=beta, n_free_steps=n_steps, tol_free=tol)
    return job


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
    """The job of `kernels.reference.train.graph_train`; `loss` and `counts` as for layered
    networks.
    """
    job = _network_job(spec, weights, x, y)
    job.writes(weight=weights, bias=biases, state=particles, loss=loss, counts=counts)
    learns_back = plan.rule in VECTOR_FIELD_RULES
    (job.writes if learns_back else job.reads)(back=back)
    plan_fields(job, plan, order, row_weight)
    n = len(weights) + len(biases) + (len(weights) if learns_back and back else 0)
    for name in MOMENTS.get(plan.optimizer, ()):
        job.writes(**{name: getattr(optimizer_state, name)[:n]})
    return job
