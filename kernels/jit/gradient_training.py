"""Training with exact gradients: what one thread does, and the function that the driver calls; twin
of `train_with_rule` in reference/rules.py for "bptt", "recurrent_backprop" and "implicit".

A batch goes as in layered.py: (A) drive on own columns of W_0; (B) own samples, down to their
flows; then the update of own columns and rows. Sums over samples run in sample order, so that
results are the same bits for any number of threads.
"""

import numpy as np

from ..spec import DivergenceError
from .compile import kernel
from .gradients import (
    iterate,
    leans,
    learn_inner,
    pack_adjoint,
    record_step,
    reverse_step,
    start_bar,
)
from .implicit import PLACE, implicit_sample
from .layered import (
    drive_batch,
    first_failure,
    keep_states,
    list_own,
    score,
    start_states,
    tally,
    weigh_samples,
)
from .layout import LANES, make_network, own_rows, pad, targets
from .packing import pack_network
from .preparation import raise_divergence, scratch
from .products import add_to
from .relax import CONTINUOUS, all_finite, copy_row, phase_of, relax_block
from .rules import BPTT, RECURRENT
from .threads import barrier, run_threads
from .tiles import TILE_SAMPLES
from .update import update_input
from .views import Record, aligned, argument, array, records, vector

SYSTEM_ROWS = 20  # rows of a linear system that are made at once


@kernel
def relax_free(job, work, thread, rows, low, high):
    """The free steps before the recorded ones, low..high, tile by tile; they end in moment 0."""
    state, shown = array(work.state)[: rows.size], array(work.shown)[: rows.size]
    steps, free_steps = array(work.net.steps)[thread], array(work.free_steps)
    singular, nudged_steps = array(work.singular), array(work.nudged_steps)
    recorded = work.n_recorded if job.rule == BPTT else 0
    n_before = job.n_free_steps - recorded
    phase = phase_of(0, job.schedule, job.n_weights, 0.0, n_before, job.tol_free, job.dt)
    start_states(job, work, state, shown, rows, low, high)
    for at in range(low, high, work.net.tile):
        end = min(at + work.net.tile, high)
        relax_block(job, work.net, thread, state, shown, rows, at, end, phase)
    for b in range(low, high):
        free_steps[b] = steps[b] + recorded
        singular[b] = nudged_steps[b] = 0


@kernel
def record(job, work, thread, rows, now):
    """The recorded steps of the samples `now` from moment 0 on."""
    n, layers = rows.size, array(work.net.layers)
    before = job.n_free_steps - (work.n_recorded if job.rule == BPTT else 0)
    for t in range(work.n_recorded):
        record_step(job, work, thread, rows, now, t, before + t)
    if job.dynamics == CONTINUOUS:
        state, shown, lean = array(work.state), array(work.shown), array(work.lean)
        for t in range(work.n_recorded + 1):
            for a in range(now.size):
                b = t * n + now[a]
                for k in range(1, layers.size):
                    o, end = layers[k].offset, layers[k].offset + layers[k].size
                    leans(job, k, state[b, o:end], shown[b, o:end], lean[b, o:end])


@kernel
def solve_samples(job, work, thread, now):
    """`implicit_sample` of the samples `now`; notes the singular ones."""
    singular = array(work.singular)
    for a in range(now.size):
        if not implicit_sample(job, work, thread, now[a]):
            singular[now[a]] = 1


@kernel
def reverse(thread, control, job, work, n, now):
    """From work.bar after the recorded steps to the flows of all of them and, in work.total, their
    sum.

    Returns False if a thread has failed.
    """
    total, flow, nudged_steps = array(work.total), array(work.flow), array(work.nudged_steps)
    n_steps, steps = work.n_recorded, np.int64(0)
    if job.rule == BPTT:
        steps = n_steps
        for t in range(n_steps - 1, -1, -1):
            reverse_step(job, work, t, n, t == 0, now)
    elif job.rule == RECURRENT:
        steps = iterate(thread, control, job, work, n, now)
        if steps == 0:
            return False
    else:
        solve_samples(job, work, thread, now)
    for a in range(now.size):
        b = now[a]
        nudged_steps[b] = steps
        copy_row(total[b], flow[(n_steps - 1) * n + b])
        for t in range(n_steps - 2, -1, -1):
            add_to(total[b], flow[t * n + b])
    return True


@kernel
def relax_and_reverse(thread, control, job, work, rows, low, high, summed):
    """Half (B) of a batch: own samples low..high. Returns False if a thread has failed."""
    n, now = rows.size, array(work.net.active)[thread][low:high]
    relax_free(job, work, thread, rows, low, high)
    for b in range(low, high):
        now[b - low] = b
    if job.rule == BPTT or summed > 0.0:
        record(job, work, thread, rows, now)
    free = array(work.state)[work.n_recorded * n if job.rule == BPTT else 0 :]
    score(job, work, free, rows, low, high)
    if summed <= 0.0:
        return True
    weight, bar, y = array(work.weight), array(work.bar), targets(job, work.net.n_data)
    for b in range(low, high):
        start_bar(job, work.net, free[b], y[rows[b]], weight[b], bar[b])
    return reverse(thread, control, job, work, n, now)


@kernel
def conclude(job, work, thread, rows, summed):
    """True if the batch may be learnt: every thread comes to the same conclusion, thread 0 notes
    it, keeps the persistent states and adds the batch to the sums.
    """
    worst, degenerate, finite = first_failure(array(work.net.failure), rows.size), False, True
    singular, total = array(work.singular), array(work.total)
    for b in range(rows.size):
        degenerate = degenerate or singular[b] != 0
        if summed > 0.0:
            finite = finite and all_finite(total[b])
    if thread == 0:
        if job.state != 0 and worst == 0:
            free = array(work.state)[work.n_recorded * rows.size if job.rule == BPTT else 0 :]
            keep_states(job, work.net, free, rows, np.int64(0), rows.size)
        tally(job, work, rows.size)
        work.failed = worst
        work.bad_gradient = 0 if finite else 1
        work.degenerate = 1 if degenerate else 0
    return worst == 0 and not degenerate and finite


@kernel
def train_thread(thread, n_threads, control, job, work):
    """Own share of the training on the job's rows, batch after batch."""
    own, order = array(work.own)[thread], vector(np.int64, job.order, job.n_rows)
    size = job.batch_size
    lists, none = array(work.lists)[0], np.int64(0)
    pack_network(job, work.net, thread, n_threads)
    for number in range((order.size + size - 1) // size):
        rows = order[number * size : (number + 1) * size]
        low, high = own_rows(rows.size, thread, n_threads)
        list_own(job, work, none, rows, thread)
        if not barrier(control, n_threads):
            return
        # --- (A) own columns of the drive
        drive_batch(job, work, own, none, rows.size)
        if job.back != 0:
            pack_adjoint(job, work, thread)
        if not barrier(control, n_threads):
            return
        # --- (B) own samples
        summed = weigh_samples(job, work, rows, low, high)
        if not relax_and_reverse(thread, control, job, work, rows, low, high, summed):
            return
        if not barrier(control, n_threads):
            return
        if not conclude(job, work, thread, rows, summed):
            return
        if summed <= 0.0:
            continue
        scale, t = 1.0 / summed, float(job.adam_step + number + 1)
        update_input(job, work, own, lists, array(work.total), rows.size, scale, t)
        learn_inner(job, work, thread, rows.size, scale, t)
        if not barrier(control, n_threads):  # the lists of inputs are about to be made anew
            return


def _adjoint(spec, net, dtype, back, n_threads, nothing, **instead):
    """A network for flows back: no bias, no drive; independent feedback has weights of its own."""
    shared = {name: net.kept[name] for name in ("field", "failure", "steps", "residual", "active", "change")}
    packed = {} if back else {"packed": net.kept["packed"]}
    rows = net.kept["field"].shape[0]
    return make_network(
        spec.sizes, back, dtype, rows, 0, n_threads, **{**shared, **packed, "drive": nothing, **instead}
    )


def _systems(spec, net, dtype, back, n_threads, solved, nothing):
    """For each thread the linear system (implicit.py) of a sample, at most `solved` equations."""
    units = net.kept["units"]

    def rows():
        return aligned((SYSTEM_ROWS, units), dtype)

    return [
        Record(
            places=np.zeros(spec.n_weights + 1, PLACE), z=aligned(solved + 1, dtype),
            matrix=aligned((max(solved, 1), solved + 2 * LANES), dtype), rows=rows(),
            one=np.zeros(1, np.int64),
            net=_adjoint(
                spec, net, dtype, back, n_threads, nothing, packed=net.kept["packed"], field=rows()
            ),
        )
        for _ in range(n_threads)
    ]


def gradient_train(spec, plan, job, x, back, n_threads):
    """Runs the job of "bptt", "recurrent_backprop" or "implicit"."""
    size, dtype = int(min(job["batch_size"], job["n_rows"])), job.dtype
    n_recorded = plan.n_nudged_steps if plan.rule == "bptt" else 1
    n_rows, n_states = n_recorded * size, (n_recorded + 1) * size
    continuous, one = spec.dynamics == "continuous", dtype.type(1)
    common, n_threads = scratch(
        spec, plan, job, x, back, n_threads, states=(n_states,), n_sums=0, n_rows=n_rows
    )
    net = common["net"]
    units, n_1 = net.kept["units"], pad(spec.sizes[1])
    solved = units if plan.rule == "implicit" else 0
    nothing = aligned((max(size, SYSTEM_ROWS), units), dtype)
    systems = _systems(spec, net, dtype, back is not None, n_threads, solved, nothing)

    def kept(rows, of_the_map):
        """A row for each moment of each sample; of the map, where all are alike, one."""
        made = aligned((rows if continuous else 1, units), dtype)
        made[...] = of_the_map
        return made

    work = Record(
        together=plan.rule == "implicit" or spec.schedule == "synchronous", n_recorded=n_recorded, **common,
        row_weight=common["ones"],
        adjoint=_adjoint(spec, net, dtype, back is not None, n_threads, nothing), nothing=nothing,
        keep=kept(n_rows, one - dtype.type(spec.dt)), lean=kept(n_states, one),
        gain=aligned((n_rows, units), dtype),
        flow=aligned((n_rows, units), dtype), bar=aligned((size, units), dtype),
        total=aligned((size, units), dtype), spare=aligned((n_threads, units), dtype),
        ascent=aligned((n_threads, TILE_SAMPLES, max(n_1, units)), dtype),
        products=aligned((n_threads, TILE_SAMPLES, n_rows), dtype),
        places=np.arange(max(TILE_SAMPLES, SYSTEM_ROWS, solved)), peaks=np.zeros((2, n_threads), dtype),
        singular=np.zeros(size, np.int64), systems=records(systems), degenerate=0, bad_gradient=0,
    )
    with job:
        run_threads(train_thread, n_threads, argument(job), argument(work))
    number = int(job.arrays("counts")[3]) - 1
    if work.memory["failed"][0]:
        raise_divergence(int(work.memory["failed"][0]))
    if work.memory["degenerate"][0]:
        raise np.linalg.LinAlgError(f"Singular matrix: the equilibrium is degenerate in batch {number}")
    if work.memory["bad_gradient"][0]:
        raise DivergenceError(
            f"the gradient became non-finite in the reverse pass of batch {number}, "
            f"learning_rule={plan.rule!r}",
            phase="nudged",
        )
