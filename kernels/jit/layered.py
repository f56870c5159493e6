"""Layered networks, many batches per call: what one thread does; twin of reference/layered.py.

A training batch has two halves with a barrier after each: (A) finish the last update on own columns
and rows, drive on own columns of W_0; (B) relax own samples. Nothing is summed across threads
except by thread 0, in sample order, so that results are the same bits for any number of threads.

`job` is an eqp_layered_job of csrc/core/jobs.h; `net` and `work` are the scratch of layout.py and
driver.py. Place 0 of work.state (ends, B, units) holds the free states, 1 and 2 those of the second
phases.
"""

import numpy as np

from .activations import ONE, ZERO
from .compile import kernel
from .continual import (
    continual_phase,
    input_products,
    step_inner,
    unpack_inner,
    vector_field_phase,
    weigh_change,
)
from .inputs import column_sums, drive_slice, list_inputs
from .layout import (
    BACKWARDS,
    FORWARDS,
    biases_of,
    n_units,
    own_rows,
    states_of,
    targets,
    weights_of,
)
from .packing import pack_network
from .relax import (
    CONTINUOUS,
    DOWNWARDS,
    PHASE_SHIFT,
    SQUARED_ERROR,
    UPWARDS,
    all_finite,
    copy_row,
    failure_at,
    phase_of,
    relax_block,
    show,
    show_all,
)
from .rules import CLAMPED_SWEEP, CONTINUAL_VECTOR_FIELD, CONTRASTIVE, COUPLED, VECTOR_FIELD
from .threads import barrier
from .update import Move, difference_slice, update_bias, update_hidden, update_input, update_narrow
from .views import array, vector


@kernel
def row_cost(job, s, y):
    """Cost of one output row, in double precision."""
    total = 0.0
    n = s.size
    if job.cost == SQUARED_ERROR:
        for i in range(n):
            total += (s[i] - y[i]) * (s[i] - y[i])
        return 0.5 * job.cost_factor * total
    top = s[0]
    for i in range(1, n):
        top = max(top, s[i])
    for i in range(n):
        total += np.exp(s[i] - top)
    log_total = np.log(total)
    cost = 0.0
    for i in range(n):
        cost -= y[i] * (s[i] - top - log_total)
    return job.cost_factor * cost


@kernel
def first_largest(s):
    """Place of the largest entry, the first of equal ones."""
    best = 0
    for i in range(1, s.size):
        if s[i] > s[best]:
            best = i
    return best


@kernel
def first_failure(failure, count):
    """Where the first of the batch's failures was, 0 if there is none."""
    worst = failure[0]
    for b in range(count):
        if failure[b] != 0 and (worst == 0 or failure[b] < worst):
            worst = failure[b]
    return worst


@kernel
def keep_states(job, net, states, rows, low, high):
    """Rows low..high of `states` become the job's states of their samples."""
    layers = array(net.layers)
    for k in range(1, layers.size):
        o, n, kept = layers[k].offset, layers[k].size, states_of(job, k, net.n_data)
        for b in range(low, high):
            copy_row(kept[rows[b]], states[b, o : o + n])


@kernel
def tally(job, work, n_samples):
    """Adds a batch to job.loss (cost, hits) and job.counts (steps, samples, batches)."""
    totals, counts = vector(np.float64, job.loss, 2), vector(np.int64, job.counts, 4)
    loss, correct = array(work.loss), array(work.correct)
    free_steps, nudged_steps = array(work.free_steps), array(work.nudged_steps)
    for b in range(n_samples):
        totals[0] += loss[b]
        totals[1] += correct[b]
        counts[0] += free_steps[b]
        counts[1] += nudged_steps[b]
    counts[2] += n_samples
    counts[3] += 1


@kernel
def load_states(job, net, row, state):
    """state (units) = row `row` of the job's states."""
    layers = array(net.layers)
    for k in range(1, layers.size):
        o, n = layers[k].offset, layers[k].size
        copy_row(state[o : o + n], states_of(job, k, net.n_data)[row])


@kernel
def relax_thread(thread, n_threads, control, job, work):
    """Relax own rows of the job's states, tile by tile; the buffers hold one tile per thread."""
    net, m, n_1, tile = work.net, job.n_rows, n_units(job, 1), work.net.tile
    steps, residual = array(net.steps)[thread], array(net.residual)[thread]
    state, shown, failure = array(work.state), array(work.shown), array(net.failure)
    all_steps, all_residual = vector(np.int32, job.steps, m), vector(job.real, job.residual, m)
    rows, worst = array(work.rows), array(work.worst)
    base_sum = array(work.base_sum)[thread]
    w, b0, lists = weights_of(job, job.weight, 0), biases_of(job, job.bias, 0), array(work.lists)[0]
    drive, none = array(net.drive), np.int64(0)
    pack_network(job, net, thread, n_threads)
    column_sums(job, w, none, none, n_1, base_sum)
    if not barrier(control, n_threads):
        return
    number, n_steps, tol = 1 if job.beta != 0.0 else 0, job.n_free_steps, job.tol_free
    phase = phase_of(number, job.schedule, job.n_weights, job.beta, n_steps, tol, job.dt)
    first, last = own_rows(m, thread, n_threads)
    base = thread * tile
    for start in range(first, last, tile):
        count = min(tile, last - start)
        for i in range(count):
            b, row = base + i, start + i
            list_inputs(job, lists, row, b)
            drive_slice(w, none, b0, base_sum, lists, drive, b, none, n_1)
            rows[b] = row
        start_states(job, work, state, shown, rows, base, base + count)
        relax_block(job, net, thread, state, shown, rows, base, base + count, phase)
        keep_states(job, net, state, rows, base, base + count)
        for i in range(count):
            b, row = base + i, start + i
            all_steps[row] = steps[b]
            all_residual[row] = residual[b]
            if failure[b] != 0 and (worst[thread] == 0 or failure[b] < worst[thread]):
                worst[thread] = failure[b]


# --- training: own samples


@kernel
def place_output(s, y, pull, exact):
    """The output put at the target, or towards it; False if that is not finite."""
    for i in range(s.size):
        s[i] = y[i] if exact else s[i] + pull * (y[i] - s[i])
    return all_finite(s)


@kernel
def start_states(job, work, state, shown, rows, low, high):
    """States of the samples low..high before the first step: zero, or the persistent ones."""
    net, failure, layers = work.net, array(work.net.failure), array(work.net.layers)
    for b in range(low, high):
        failure[b] = 0
        if job.state != 0:
            load_states(job, net, rows[b], state[b])
        else:
            for k in range(1, layers.size):
                for i in range(layers[k].offset, layers[k].offset + layers[k].size):
                    state[b, i] = ZERO
        if job.dynamics == CONTINUOUS:
            show_all(job, net, state[b], shown[b])


@kernel
def score(job, work, free, rows, low, high):
    """Cost of the free states (B, units) of the samples low..high, and whether argmax is right."""
    output, weight = array(work.net.layers)[job.n_weights], array(work.weight)
    loss, correct, y = array(work.loss), array(work.correct), targets(job, work.net.n_data)
    for b in range(low, high):
        s = free[b, output.offset : output.offset + output.size]
        loss[b] = weight[b] * row_cost(job, s, y[rows[b]])
        correct[b] = 1 if first_largest(s) == first_largest(y[rows[b]]) else 0


@kernel
def free_phase(job, work, thread, rows, low, high):
    """Free phase and cost of the samples low..high; True if all of them stayed finite."""
    net, state, shown = work.net, array(work.state)[0], array(work.shown)[0]
    steps, failure, finite = array(net.steps)[thread], array(net.failure), True
    free_steps, nudged_steps = array(work.free_steps), array(work.nudged_steps)
    start_states(job, work, state, shown, rows, low, high)
    visit = np.int64(UPWARDS if job.rule == CLAMPED_SWEEP else job.schedule)
    dt = job.dt * job.over_relaxation
    phase = phase_of(0, visit, job.n_weights, 0.0, job.n_free_steps, job.tol_free, dt)
    relax_block(job, net, thread, state, shown, rows, low, high, phase)
    score(job, work, state, rows, low, high)
    for b in range(low, high):
        free_steps[b] = steps[b]
        nudged_steps[b] = 0
        finite = finite and failure[b] == 0
    return finite


@kernel
def start_second_phase(job, work, rows, low, high, turn, force):
    """States `turn` of low..high: the free ones, the output where the rule holds it."""
    net, rule, held = work.net, job.rule, work.held == 1
    now, seen, free = array(work.state)[turn], array(work.shown)[turn], array(work.state)[0]
    first, y = array(work.shown)[0], targets(job, net.n_data)
    output, failure = array(net.layers)[job.n_weights], array(net.failure)
    o, end, continuous = output.offset, output.offset + output.size, job.dynamics == CONTINUOUS
    pull = now.dtype.type(force if rule == COUPLED else 1.0)
    for b in range(low, high):
        copy_row(now[b], free[b])
        if held and not place_output(now[b, o:end], y[rows[b]], pull, rule == CLAMPED_SWEEP):
            failure[b] = failure_at(turn, np.int64(0)) | job.n_weights
        if continuous:
            copy_row(seen[b], first[b])
        if continuous and held:
            show(job, job.n_weights, now[b, o:end], seen[b, o:end])


@kernel
def second_phases(job, work, walk, thread, rows, low, high, beta):
    """The phases of the samples low..high from the free states, for rules whose samples do not
    meet: nudged to `beta` and, if centered, -beta, states 1 and 2; or with the output held at, or
    towards, the target.
    """
    net, rule, held = work.net, job.rule, work.held == 1
    steps, nudged_steps = array(net.steps)[thread], array(work.nudged_steps)
    last, visit = job.n_weights - 1 if held else job.n_weights, job.schedule
    if rule == CLAMPED_SWEEP:
        visit = DOWNWARDS
    for turn in range(1, 3 if job.centered else 2):
        state, shown = array(work.state)[turn], array(work.shown)[turn]
        force = beta if turn == 1 else -beta
        start_second_phase(job, work, rows, low, high, turn, force)
        nudge = 0.0 if held else force
        phase = phase_of(turn, visit, last, nudge, job.n_nudged_steps, job.tol_nudged, job.dt)
        if walk is None:
            relax_block(job, net, thread, state, shown, rows, low, high, phase)
        elif rule == VECTOR_FIELD:
            vector_field_phase(job, work, walk, thread, state, shown, rows, low, high, phase)
        else:
            relax_block(job, net, thread, state, shown, rows, low, high, phase)
        for b in range(low, high):
            nudged_steps[b] += steps[b]
    if walk is not None:
        if rule == CLAMPED_SWEEP:
            learn_from_change(work, walk, array(net.active)[thread][low:high], low)


@kernel
def learn_from_change(work, walk, live, low):
    """A clamped sweep learns from free states and the weighted change to the clamped ones."""
    state, pre, moved = array(work.state), array(walk.pre)[0], array(walk.moved)[0]
    for i in range(live.size):
        b = live[i] = low + i
        copy_row(pre[b], state[0, b])
        copy_row(moved[b], state[0, b])
    weigh_change(state[1], live, array(work.weight), ONE, moved, np.int64(0))


@kernel
def weigh_samples(job, work, rows, low, high):
    """work.weight of the samples low..high; returns the sum over the whole batch."""
    weight, row_weight = array(work.weight), vector(job.real, job.row_weight, work.net.n_data)
    total = 0.0
    for b in range(rows.size):
        total += row_weight[rows[b]] if job.row_weight != 0 else 1.0
    for b in range(low, high):
        weight[b] = row_weight[rows[b]] if job.row_weight != 0 else weight.dtype.type(1)
    return total


@kernel
def note_moves(work, low, high):
    """By how much what the units of the samples low..high show has moved between the phases."""
    if len(array(work.contrast)) == 2:
        shown = array(work.after)
        first, second, moved = shown[work.start], shown[work.end], shown[work.moved]
        for b in range(low, high):
            for i in range(shown.shape[2]):
                moved[b, i] = second[b, i] - first[b, i]


@kernel
def list_own(job, work, turn, rows, thread):
    """Own part of the lists of a batch's inputs."""
    lists = array(work.lists)[turn]
    low, high = own_rows(rows.size, thread, work.n_threads)
    for b in range(low, high):
        list_inputs(job, lists, rows[b], b)


@kernel
def drive_batch(job, work, own, turn, n_samples):
    """Own columns of the drive of a batch."""
    w, lists = array(work.first.weights)[own.share], array(work.lists)[turn]
    base_sum, b0, drive = array(work.base_sum), biases_of(job, job.bias, 0), array(work.net.drive)
    column_sums(job, w, own.moved, own.low, own.high, base_sum)
    for b in range(n_samples):
        drive_slice(w, own.moved, b0, base_sum, lists, drive, b, own.low, own.high)


@kernel
def relax_batch(job, work, walk, thread, rows, low, high, beta, total):
    """Own samples low..high, tile by tile: free phase, and the second phases of rules whose samples
    do not meet.
    """
    tile, meeting = work.net.tile, False
    if walk is not None:
        meeting = walk.meeting == 1
    for at in range(low, high, tile):
        end = min(at + tile, high)
        finite = free_phase(job, work, thread, rows, at, end)
        if finite and total > 0.0 and not meeting:
            second_phases(job, work, walk, thread, rows, at, end, beta)


@kernel
def meet(thread, control, job, work, walk, turn, rows, beta, scale):
    """The nudged phase of rules whose samples meet; False if a thread has failed."""
    state, shown = array(work.state), array(work.shown)
    low, high = own_rows(rows.size, thread, work.n_threads)
    for b in range(low, high):
        copy_row(state[1, b], state[0, b])
        copy_row(shown[1, b], shown[0, b])
    dense, gram = array(walk.dense)[thread], array(walk.grams)[0, 0]
    input_products(job, array(work.lists)[turn], low, high, rows.size, dense, gram)
    return continual_phase(thread, control, job, work, walk, rows, low, high, beta, scale)


# --- training: own columns and rows


@kernel
def update_inner(job, work, walk, thread, n_samples, scale, t):
    """The optimiser's step of own rows of the inner weights, and of the biases of layers 2..L."""
    ends, rates = array(work.ends), vector(np.float64, job.rate, job.n_weights)
    for k in range(1, job.n_weights):
        move = Move(n_samples * work.n_recorded, scale, rates[k], t)
        if array(work.net.layers)[k + 1].copy.start < 0:
            update_narrow(job, work, thread, k, move)
        else:
            update_hidden(job, work, thread, FORWARDS, k, move)
        if walk is not None:
            if job.rule == VECTOR_FIELD:
                update_hidden(job, work, thread, BACKWARDS, k, move)
        if thread == 0:
            move, weight = Move(n_samples, scale, rates[k], t), array(work.weight)
            first, second = ends[work.start], ends[work.end]
            update_bias(job, work.net, k, weight, first, second, move, array(work.ascent)[0])


@kernel
def update_batch(job, work, walk, own, turn, n_samples, scale, t):
    """The step of everything that learns, along the contrast of a batch: own columns and rows."""
    ends, delta, lists = array(work.ends), array(work.delta), array(work.lists)[turn]
    first, second = ends[work.start], ends[work.end]
    difference_slice(array(work.weight), first, second, n_samples, own.low, own.high, delta)
    update_input(job, work, own, lists, delta, n_samples, scale, t)
    if walk is not None:
        if job.rule == CONTINUAL_VECTOR_FIELD:
            step_inner(job, work, walk, own.thread, n_samples, scale)
            unpack_inner(job, work, own.thread)
            return
    update_inner(job, work, walk, own.thread, n_samples, scale, t)


@kernel
def batch_scale(job, beta, total):
    """What the contrast summed over a batch is multiplied by: 1 / (distance in beta, total weight).
    """
    span = 1.0 if job.rule == CLAMPED_SWEEP or job.rule == CONTRASTIVE else beta
    return 1.0 / ((2.0 * span if job.centered else span) * total) if total > 0.0 else 0.0


@kernel
def conclude(job, work, thread, rows):
    """Where the batch first failed, 0 if nowhere: every thread comes to the same conclusion, thread
    0 notes it and adds the batch to the sums.
    """
    worst = first_failure(array(work.net.failure), rows.size)
    if thread == 0:
        free_phase_failed = worst != 0 and (worst >> PHASE_SHIFT) == 1
        if job.state != 0 and not free_phase_failed:
            keep_states(job, work.net, array(work.state)[0], rows, np.int64(0), rows.size)
        tally(job, work, rows.size)
        work.failed = worst
    return worst


@kernel
def train_thread(thread, n_threads, control, job, work, walk):
    """Own share of the training on the job's rows, batch after batch.

    `walk` is what the rules keep that look at each step (driver.py). It is None for the others, for
    which Numba does not compile what begins with `walk is not None`.
    """
    own, order = array(work.own)[thread], vector(np.int64, job.order, job.n_rows)
    size = job.batch_size
    sign, n_batches = vector(np.int8, job.sign, job.n_rows), (order.size + size - 1) // size
    pack_network(job, work.net, thread, n_threads)
    list_own(job, work, 0, order[: min(size, order.size)], thread)
    if not barrier(control, n_threads):
        return
    for number in range(n_batches):
        begin, turn = number * size, number % 2
        rows = order[begin : begin + size]
        low, high = own_rows(rows.size, thread, n_threads)
        # --- (A) own columns of the drive
        drive_batch(job, work, own, turn, rows.size)
        if not barrier(control, n_threads):
            return
        # --- (B) own samples
        beta = job.beta * (sign[number] if job.sign != 0 else 1)
        total = weigh_samples(job, work, rows, low, high)
        scale = batch_scale(job, beta, total)
        relax_batch(job, work, walk, thread, rows, low, high, beta, total)
        learns = total > 0.0
        if walk is not None:
            if walk.meeting == 1 and learns:
                if not meet(thread, control, job, work, walk, turn, rows, beta, scale):
                    return
            if walk.raw == 1 and job.n_nudged_steps == 0:
                learns = False
        if learns:
            note_moves(work, low, high)
        list_own(job, work, 1 - turn, order[begin + rows.size : begin + rows.size + size], thread)
        if not barrier(control, n_threads):
            return
        if conclude(job, work, thread, rows) != 0:
            return
        if learns:
            t = float(job.adam_step + number + 1)
            update_batch(job, work, walk, own, turn, rows.size, scale, t)
    barrier(control, n_threads)
