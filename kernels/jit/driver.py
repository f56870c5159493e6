"""The layered kernels as the other layers call them; signatures of reference/layered.py."""

import numpy as np

from ..prepare.layered import relax_job, train_job
from ..spec import CONTINUAL_RULES, GRADIENT_RULES, VECTOR_FIELD_RULES, TrainStats
from . import layered
from .gradient_training import gradient_train
from .inputs import list_size
from .layout import NARROW, input_lists, make_network, pad, tile_of
from .preparation import raise_divergence, scratch
from .threads import run_threads, usable
from .tiles import TILE_SAMPLES
from .views import Record, aligned, argument


def layered_relax(spec, weights, back, biases, x, states, y=None, beta=0.0, n_steps=1, tol=-1.0, n_threads=1):
    """Twin of `kernels.reference.layered.layered_relax`."""
    m, dtype = x.shape[0], weights[0].dtype
    steps, residual = np.zeros(m, np.int32), np.zeros(m, dtype)
    job = relax_job(spec, weights, back, biases, x, states, y, beta, n_steps, tol, steps, residual)
    if m == 0:
        return steps, residual
    n_threads = usable(n_threads, m)
    tile = min(tile_of(spec.sizes), -(-m // n_threads))
    rows = n_threads * tile
    net = make_network(spec.sizes, back is not None, dtype, rows, m, n_threads)
    net.memory["tile"] = tile
    state = aligned((rows, net.kept["units"]), dtype)
    lists, kept = input_lists(1, rows, list_size(x, spec.sizes[0]), dtype)
    work = Record(
        net=net, rows=np.zeros(rows, np.int64), state=state,
        shown=aligned(state.shape, dtype) if spec.dynamics == "continuous" else state, lists=lists,
        base_sum=aligned((n_threads, pad(spec.sizes[1])), dtype), worst=np.zeros(n_threads, np.int64),
    )
    job.kept.append(kept)
    with job:
        run_threads(layered.relax_thread, n_threads, argument(job), argument(work))
    worst = work.kept["worst"]
    if worst.any():
        raise_divergence(int(worst[worst > 0].min()))
    return steps, residual


def _walk(plan, size, n_recorded, n_threads, net, n_in):
    """What the rules keep that look at each step, or at a change of states; None for the others.

    `pre` and `moved`: recorded rows of (activity, change) of each sample. The others are for the
    rules whose samples meet: what they show, and its products.
    """
    meeting, raw = plan.rule in CONTINUAL_RULES, plan.rule in VECTOR_FIELD_RULES
    if not (meeting or raw or n_recorded):
        return None
    dtype, units, n_layers = net.kept["bias"].dtype, net.kept["units"], len(net.kept["layers"])
    width = pad(size)

    def kept_if(condition, *shape):
        return aligned(shape if condition else (1,) * len(shape), dtype)

    return Record(
        meeting=meeting, raw=raw,
        pre=kept_if(n_recorded, 1, n_recorded * size, units),
        moved=kept_if(n_recorded, 1, n_recorded * size, units),
        shown=kept_if(meeting, 1 if raw else 2, size, units),
        grams=kept_if(meeting, n_layers, 2, size, width), parts=kept_if(meeting, 2, size, width),
        dense=kept_if(meeting, n_threads, n_in),
    )


def _train(spec, plan, job, x, back, n_threads):
    """Runs the job of a rule that learns from the difference of two phases."""
    size, dtype, rule = int(min(job["batch_size"], job["n_rows"])), job.dtype, plan.rule
    n_recorded = {"clamped_sweep": 1, "continual_vector_field": 1}.get(rule, 0)
    if rule == "vector_field":
        n_recorded = plan.n_nudged_steps * (2 if plan.centered else 1)
    n_records, ends, start = n_recorded * size, 3 if plan.centered else 2, 2 if plan.centered else 0
    common, n_threads = scratch(
        spec, plan, job, x, back, n_threads,
        states=(ends + 1, size), n_sums=n_records, n_rows=max(size, n_records),
    )
    net, state, shown = common["net"], common["state"], common["shown"]
    units, n_1 = net.kept["units"], pad(spec.sizes[1])
    walk = _walk(plan, size, n_recorded, n_threads, net, spec.sizes[0])
    if n_recorded:
        before, after, row_weight, products = walk.kept["pre"], walk.kept["moved"], common["ones"], [[0, 0]]
    else:
        before, after, row_weight = shown, shown, common["weight"]
        products = [[1, ends], [ends, start]]  # the last of `shown`: by how much its units have moved
    work = Record(
        held=rule in ("clamped_sweep", "contrastive", "coupled"), n_recorded=max(n_recorded, 1), **common,
        before=before, after=after, row_weight=row_weight, contrast=np.array(products),
        ends=state if rule in VECTOR_FIELD_RULES else shown, start=start, end=1, moved=ends,
        delta=aligned((size, n_1), dtype), ascent=aligned((n_threads, NARROW, max(n_1, units)), dtype),
        products=aligned((n_threads, TILE_SAMPLES, max(size, n_records)), dtype),
        places=np.arange(TILE_SAMPLES),
    )
    with job:
        run_threads(
            layered.train_thread, n_threads, argument(job), argument(work), walk and argument(walk)
        )
    if work.memory["failed"][0]:
        raise_divergence(int(work.memory["failed"][0]))


def layered_train(
    spec, weights, back, biases, x, y, order, plan, row_weight=None, particles=None, optimizer_state=None,
    n_threads=1,
):
    """Twin of `kernels.reference.train.layered_train`."""
    loss, counts = np.array([plan.loss_so_far, 0.0]), np.zeros(4, np.int64)
    job = train_job(
        spec, weights, back, biases, x, y, order, plan, row_weight, particles, optimizer_state, loss, counts
    )
    if job["n_rows"] == 0:
        return TrainStats(plan.loss_so_far)
    run = gradient_train if plan.rule in GRADIENT_RULES else _train
    run(spec, plan, job, x, back, n_threads)
    return TrainStats(float(loss[0]), int(loss[1]), *(int(count) for count in counts))
