"""Training with exact gradients: what one thread does, and the function that the driver calls; twin of
`train_with_rule` in reference/rules.py for "bptt", "recurrent_backprop" and "implicit".

A batch goes as in layered.py: (A) drive on own columns of W_0; (B) own samples, down to their flows; then the
update of own columns and rows. Sums over samples run in sample order, so that results are the same bits for
any number of threads.
"""

import numpy as np

from ..spec import GRADIENT_RULES, DivergenceError, TrainStats, check_plan
from .activations import ZERO
from .compile import kernel, matrix_at, vector_at
from .gradients import (
    fill,
    iterate,
    leans,
    learn_inner,
    pack_adjoint,
    record_step,
    reverse_step,
    start_bar,
)  # fmt: skip
from .implicit import implicit_sample
from .inputs import column_slice, column_sums, drive_slice, list_inputs, list_size, own_columns
from .layered import (
    BATCHES,
    CORRECT,
    FAILURE,
    LOSS,
    first_failure,
    first_largest,
    keep_particles,
    pack_network,
    row_cost,
    tally,
)  # fmt: skip
from .layout import (
    ADAM_STEP,
    BATCH,
    BIAS_SECOND,
    BIAS_VELOCITY,
    BIASES,
    DYNAMICS,
    FIELD_ROOM,
    HAS_BACK,
    HAS_PARTICLES,
    HAS_WEIGHT,
    LANES,
    N_FREE,
    N_NUDGED,
    N_WEIGHTS,
    OFFSET,
    OPTIMIZER,
    SCHEDULE,
    SECOND,
    SIZE,
    STATES,
    TILE,
    TOL_FREE,
    VELOCITY,
    WEIGHTS,
    aligned,
    pad,
    progress,
)  # fmt: skip
from .preparation import Training, raise_divergence
from .products import add_to
from .relax import all_finite, copy_row, relax_block, show_all
from .threads import barrier, run_threads
from .tiles import TILE_SAMPLES
from .update import update_input

BPTT, RECURRENT, IMPLICIT = range(3)  # as in GRADIENT_RULES
BAD_GRADIENT, SINGULAR = range(FAILURE + 1, FAILURE + 3)  # places in the totals, after those of layered.py
SYSTEM_ROWS = 20  # rows of a linear system that are made at once


@kernel
def start_states(ints, layout, table, state, shown, rows, first, last, n_data):
    """Zero, or the persistent states of the samples first..last."""
    for b in range(first, last):
        for k in range(1, ints[N_WEIGHTS] + 1):
            o, n = layout[k, OFFSET], layout[k, SIZE]
            if ints[HAS_PARTICLES]:
                copy_row(state[b, o : o + n], matrix_at(table, STATES, k - 1, n_data, n, state)[rows[b]])
            else:
                fill(state[b, o : o + n], ZERO)
        if ints[DYNAMICS] == 1:
            show_all(ints, layout, state[b], shown[b])


@kernel
def record(
    ints, floats, layout, packed, bias, drive, state, shown, gain, keep, lean, field, spare, y, rows, now,
    count, n_steps, together, steps_before, failure,
):  # fmt: skip
    """The recorded steps of the samples `now` from moment 0 on."""
    continuous = ints[DYNAMICS] == 1
    for t in range(n_steps):
        at, to, after = t * count, (t + 1) * count, (t + 2) * count
        record_step(
            ints, floats, layout, packed, bias, drive, state[at:to], shown[at:to], state[to:after],
            shown[to:after], gain[at:to], keep[at:to] if continuous else keep, field, spare, y, rows,
            together, now, steps_before + t + 1, failure,
        )  # fmt: skip
    if continuous:
        for t in range(n_steps + 1):
            for a in range(now.size):
                b = t * count + now[a]
                for k in range(1, ints[N_WEIGHTS] + 1):
                    o = layout[k, OFFSET]
                    end = o + layout[k, SIZE]
                    leans(ints, k, state[b, o:end], shown[b, o:end], lean[b, o:end])


@kernel
def reverse(
    thread, n_threads, control, kind, ints, floats, layout, table, packed, adjoint, zero_bias, zero_drive,
    gain, keep, lean, bar, flow, total, field, peaks, now, count, n_steps, together, nudged_steps, singular,
    system_places, system, z, system_rows, products, places,
):  # fmt: skip
    """From bar after the recorded steps to the flows of all of them and, in `total`, their sum.

    Returns False if a thread has failed.
    """
    continuous = ints[DYNAMICS] == 1
    steps = n_steps if kind == BPTT else 0
    if kind == BPTT:
        for t in range(n_steps - 1, -1, -1):
            at, to, after = t * count, (t + 1) * count, (t + 2) * count
            reverse_step(
                ints, floats, layout, adjoint, zero_bias, zero_drive, gain[at:to],
                keep[at:to] if continuous else keep, lean[at:to] if continuous else lean,
                lean[to:after] if continuous else lean, bar, flow[at:to], field, together, t == 0, now,
            )  # fmt: skip
    elif kind == RECURRENT:
        steps = iterate(
            thread, n_threads, control, ints, floats, layout, adjoint, zero_bias, zero_drive, gain, keep,
            lean,
            lean[count:] if continuous else lean, bar, total, flow, field, peaks, together, now,
        )  # fmt: skip
        if steps == 0:
            return False
    else:
        one = system_places[0][:1]  # the input layer has no place in the system: room for a number
        for a in range(now.size):
            if not implicit_sample(
                ints, floats, layout, table, packed, adjoint, zero_bias, zero_drive, now[a], gain, keep, lean,
                bar, flow, total, field, system_places, system, z, system_rows, products, places, one,
            ):  # fmt: skip
                singular[now[a]] = 1
    for a in range(now.size):
        b = now[a]
        nudged_steps[b] = steps
        copy_row(total[b], flow[(n_steps - 1) * count + b])
        for t in range(n_steps - 2, -1, -1):
            add_to(total[b], flow[t * count + b])
    return True


@kernel
def score(ints, floats, layout, free, y, rows, first, last, weight, loss, correct):
    o, n = layout[ints[N_WEIGHTS], OFFSET], layout[ints[N_WEIGHTS], SIZE]
    for b in range(first, last):
        s, target = free[b, o : o + n], y[rows[b]]
        loss[b] = weight[b] * row_cost(ints, floats, s, target)
        correct[b] = 1 if first_largest(s) == first_largest(target) else 0


@kernel
def learn(
    thread, n_threads, ints, floats, layout, table, rates, packed, bias, shown, flow, total, nothing, counts,
    index, value, count, n_steps, together, scale, t, low, high, starts, sample, coefficient, ascent,
    products, ones, places,
):  # fmt: skip
    """The optimiser's step on own columns of W_0 and own rows of the other weights."""
    n_in, n_1, like = layout[0, SIZE], layout[1, SIZE], packed
    moments, second = ints[OPTIMIZER] != 0, ints[OPTIMIZER] == 3
    w, moved_by = own_columns(ints, table, WEIGHTS, n_in, low, thread, like)
    none = matrix_at(table, VELOCITY, 0, 1, 1, like)
    update_input(
        ints, floats, w, moved_by, vector_at(table, BIASES, 0, n_1, like),
        own_columns(ints, table, VELOCITY, n_in, low, thread, like)[0] if moments else none,
        own_columns(ints, table, SECOND, n_in, low, thread, like)[0] if second else none,
        vector_at(table, BIAS_VELOCITY, 0, n_1 if moments else 1, like),
        vector_at(table, BIAS_SECOND, 0, n_1 if second else 1, like),
        counts, index, value, total, count, scale, rates[0, 0], rates[1, 0], t, low, high, starts, sample,
        coefficient, ascent, ones,
    )  # fmt: skip
    learn_inner(
        thread, n_threads, ints, floats, layout, table, rates, packed, bias, shown, flow, total, nothing,
        count, n_steps, together, scale, t, ascent, products, ones, places,
    )  # fmt: skip


@kernel
def train_thread(
    thread, n_threads, control, kind, ints, floats, layout, table, rates, x, indptr, indices, data, y, order,
    row_weight, packed, adjoint, bias, drive, state, shown, gain, keep, lean, flow, bar, total, nothing,
    field, spare, base_sum, counts, index, value, starts, sample, coefficient, ascent, products, places, ones,
    weight, loss, correct, free_steps, nudged_steps, singular, peaks, system_places, system, z, system_rows,
    system_products, every_steps, every_residual, failure, every_active, every_change, totals,
):  # fmt: skip
    """Own share of the training on rows `order`, batch after batch; `totals` holds sums and failures."""
    steps, residual = every_steps[thread], every_residual[thread]
    active, change = every_active[thread], every_change[thread]
    size, tile, n_data, m = ints[BATCH], ints[TILE], y.shape[0], order.size
    n_steps = ints[N_NUDGED] if kind == BPTT else 1
    n_before = ints[N_FREE] - (n_steps if kind == BPTT else 0)
    together, continuous = kind == IMPLICIT or ints[SCHEDULE] == 0, ints[DYNAMICS] == 1
    low, high = column_slice(layout[1, SIZE], thread, n_threads)
    w, moved_by = own_columns(ints, table, WEIGHTS, layout[0, SIZE], low, thread, packed)
    b0 = vector_at(table, BIASES, 0, layout[1, SIZE], packed)
    acts = shown if continuous else state
    zero_bias, zero_drive = nothing[0], nothing
    pack_network(ints, layout, table, packed, bias, thread, n_threads)
    for number in range((m + size - 1) // size):
        begin = number * size
        count = min(size, m - begin)
        rows = order[begin : begin + count]
        first, last = count * thread // n_threads, count * (thread + 1) // n_threads
        for b in range(first, last):
            list_inputs(ints, x, indptr, indices, data, rows[b], b, counts, index, value)
        if not barrier(control, n_threads):
            return
        # --- (A) own columns of the drive
        column_sums(ints, w, moved_by, low, high, base_sum[0])
        for b in range(count):
            drive_slice(w, moved_by, b0, base_sum[0], counts, index, value, drive, b, low, high)
        if ints[HAS_BACK]:
            pack_adjoint(ints, layout, table, adjoint, thread, n_threads)
        if not barrier(control, n_threads):
            return
        # --- (B) own samples
        summed = 0.0
        for b in range(count):
            summed += row_weight[rows[b]] if ints[HAS_WEIGHT] else 1.0
        for b in range(first, last):
            weight[b] = row_weight[rows[b]] if ints[HAS_WEIGHT] else weight.dtype.type(1)
            failure[b] = singular[b] = nudged_steps[b] = 0
        start_states(ints, layout, table, state, shown, rows, first, last, n_data)
        for at in range(first, last, tile):
            relax_block(
                ints, floats, layout, packed, bias, drive, state[:count], acts[:count], field, y, rows, at,
                min(at + tile, last), ints[SCHEDULE], ints[N_WEIGHTS], 0.0, n_before, floats[TOL_FREE], 0,
                steps, residual, failure, active, change,
            )  # fmt: skip
        now = active[first:last]
        for b in range(first, last):
            now[b - first] = b
            free_steps[b] = steps[b] + (n_steps if kind == BPTT else 0)
        if kind == BPTT or summed > 0.0:
            record(
                ints, floats, layout, packed, bias, drive, state, acts, gain, keep, lean, field,
                spare[thread], y, rows, now, count, n_steps, together, n_before, failure,
            )  # fmt: skip
        at = n_steps * count if kind == BPTT else 0
        free = state[at : at + count]
        score(ints, floats, layout, free, y, rows, first, last, weight, loss, correct)
        if summed > 0.0:
            for b in range(first, last):
                start_bar(ints, floats, layout, free[b], y[rows[b]], weight[b], bar[b])
            if not reverse(
                thread, n_threads, control, kind, ints, floats, layout, table, packed, adjoint, zero_bias,
                zero_drive, gain, keep, lean, bar, flow, total, field, peaks, now, count, n_steps, together,
                nudged_steps, singular, system_places[thread], system[thread], z[thread], system_rows[thread],
                system_products[thread], places,
            ):  # fmt: skip
                return
        if not barrier(control, n_threads):
            return
        # --- every thread comes to the same conclusions
        worst, degenerate, finite = first_failure(failure, count), False, True
        for b in range(count):
            degenerate = degenerate or singular[b] != 0
            if summed > 0.0:
                finite = finite and all_finite(total[b])
        if thread == 0:
            if ints[HAS_PARTICLES] and worst == 0:
                keep_particles(ints, layout, table, free, rows, count, n_data)
            tally(totals, count, loss, correct, free_steps, nudged_steps)
            totals[FAILURE], totals[BAD_GRADIENT], totals[SINGULAR] = worst, not finite, degenerate
        if worst != 0 or degenerate or not finite:
            return
        if summed <= 0.0:
            continue
        learn(
            thread, n_threads, ints, floats, layout, table, rates, packed, bias, acts, flow, total, nothing,
            counts, index, value, count, n_steps, together, 1.0 / summed, float(ints[ADAM_STEP] + number + 1),
            low, high, starts[thread], sample[thread], coefficient[thread], ascent[thread], products[thread],
            ones, places,
        )  # fmt: skip
        if not barrier(control, n_threads):  # the lists of inputs are about to be made anew
            return


def gradient_train(
    spec, weights, back, biases, x, y, order, plan, row_weight=None, particles=None, optimizer_state=None,
    n_threads=1,
):  # fmt: skip
    """`layered_train` of the rules "bptt", "recurrent_backprop" and "implicit"."""
    check_plan(spec, plan, back is not None, particles is not None)
    n, stats = spec.n_weights, TrainStats(plan.loss_so_far)
    job = Training(
        spec, weights, back, biases, x, y, order, plan, row_weight, particles, optimizer_state, n_threads,
        learns_back=back is not None,
    )  # fmt: skip
    if job.order.size == 0:
        return stats
    size, n_threads, dtype, units = job.size, job.n_threads, job.dtype, job.units
    kind, continuous = GRADIENT_RULES.index(plan.rule), spec.dynamics == "continuous"
    n_1, cap = pad(spec.sizes[1]), list_size(x, spec.sizes[0])
    n_steps = plan.n_nudged_steps if kind == BPTT else 1
    n_rows, all_rows = n_steps * size, (n_steps + 1) * size
    many, solved = max(size * cap, size, units), units if kind == IMPLICIT else 0
    packed, totals = aligned(job.n_packed, dtype), np.zeros(9)
    totals[LOSS] = plan.loss_so_far

    def if_continuous(rows):
        return aligned((rows, units) if continuous else (1, 1), dtype)

    with job.in_place:
        run_threads(
            train_thread, n_threads, kind, job.ints, job.floats, job.layout, job.table, job.rates, *job.data,
            job.y, job.order, job.row_weight,
            packed, packed if back is None else aligned(job.n_packed, dtype), aligned(units, dtype),
            aligned((size, n_1), dtype), aligned((all_rows, units), dtype), if_continuous(all_rows),
            aligned((n_rows, units), dtype), if_continuous(n_rows), if_continuous(all_rows),
            aligned((n_rows, units), dtype), aligned((size, units), dtype), aligned((size, units), dtype),
            aligned((max(size, SYSTEM_ROWS), units), dtype), aligned((size, units + FIELD_ROOM), dtype),
            aligned((n_threads, units), dtype), aligned((1, n_1), dtype),
            np.zeros(size, np.int64), np.zeros((size, cap), np.int32), aligned((size, cap), dtype),
            np.zeros((n_threads, spec.sizes[0] + 1), np.int64), np.zeros((n_threads, many), np.int32),
            aligned((n_threads, many), dtype), aligned((n_threads, TILE_SAMPLES, max(n_1, units)), dtype),
            aligned((n_threads, TILE_SAMPLES, n_rows), dtype),
            np.arange(max(TILE_SAMPLES, SYSTEM_ROWS, solved)),
            np.ones(n_rows, dtype), np.zeros(size, dtype), np.zeros(size), *np.zeros((4, size), np.int64),
            np.zeros((2, n_threads), dtype), np.zeros((n_threads, n + 1, 2), np.int64),
            aligned((n_threads, max(solved, 1), solved + 2 * LANES), dtype), aligned((n_threads, solved + 1),
            dtype),
            aligned((n_threads, SYSTEM_ROWS, units), dtype), aligned((n_threads, SYSTEM_ROWS, units), dtype),
            *progress(n_threads, size, dtype), totals,
        )  # fmt: skip
    if totals[FAILURE]:
        raise_divergence(int(totals[FAILURE]))
    number = int(totals[BATCHES]) - 1
    if totals[SINGULAR]:
        raise np.linalg.LinAlgError(f"Singular matrix: the equilibrium is degenerate in batch {number}")
    if totals[BAD_GRADIENT]:
        raise DivergenceError(
            f"the gradient became non-finite in the reverse pass of batch {number}, "
            f"learning_rule={plan.rule!r}",
            phase="nudged",
        )
    stats.loss = float(totals[LOSS])
    stats.n_correct, stats.free_steps, stats.nudged_steps, stats.n_samples, stats.n_batches = (
        int(v) for v in totals[CORRECT:FAILURE]
    )
    return stats
