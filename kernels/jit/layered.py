"""Layered networks, many batches per call: what one thread does; twin of reference/layered.py.

A training batch has two halves with a barrier after each: (A) finish the last update on own columns and rows,
drive on own columns of W_0; (B) relax own samples. Nothing is summed across threads except by thread 0, in
sample order, so that results are the same bits for any number of threads.
"""

import numpy as np

from .activations import ONE, ZERO
from .compile import kernel, matrix_at, vector_at
from .continual import (
    continual_phase,
    input_products,
    step_inner,
    unpack_inner,
    vector_field_phase,
    weigh_change,
)
from .inputs import column_slice, column_sums, drive_slice, list_inputs, own_columns
from .layout import (
    ADAM_STEP,
    BACK,
    BACK_SECOND,
    BACK_VELOCITY,
    BATCH,
    BETA,
    BIAS_SECOND,
    BIAS_VELOCITY,
    BIASES,
    CENTERED,
    CLAMPED_SWEEP,
    CONTINUAL,
    CONTINUAL_VECTOR_FIELD,
    CONTRASTIVE,
    COPY,
    COST,
    COST_FACTOR,
    COUPLED,
    DOWN,
    DOWN_PANEL,
    DOWN_ROW,
    DYNAMICS,
    HAS_BACK,
    HAS_PARTICLES,
    HAS_SIGN,
    HAS_WEIGHT,
    N_FREE,
    N_NUDGED,
    N_WEIGHTS,
    OFFSET,
    OPTIMIZER,
    RULE,
    SCHEDULE,
    SECOND,
    SIZE,
    STATES,
    TILE,
    TOL_FREE,
    TOL_NUDGED,
    VECTOR_FIELD,
    VELOCITY,
    WEIGHTS,
)  # fmt: skip
from .relax import DOWNWARDS, UPWARDS, all_finite, copy_row, failure_at, relax_block, show, show_all
from .threads import barrier
from .update import (
    difference_slice,
    pack_row,
    pack_rows,
    update_bias,
    update_hidden,
    update_input,
    update_narrow,
)  # fmt: skip

LOSS, CORRECT, FREE_STEPS, NUDGED_STEPS, SAMPLES, BATCHES, FAILURE = range(7)


@kernel
def row_cost(ints, floats, s, y):
    """Cost of one output row, in double precision."""
    total = 0.0
    n = s.size
    if ints[COST] == 0:
        for i in range(n):
            total += (s[i] - y[i]) * (s[i] - y[i])
        return 0.5 * floats[COST_FACTOR] * total
    top = s[0]
    for i in range(1, n):
        top = max(top, s[i])
    for i in range(n):
        total += np.exp(s[i] - top)
    log_total = np.log(total)
    cost = 0.0
    for i in range(n):
        cost -= y[i] * (s[i] - top - log_total)
    return floats[COST_FACTOR] * cost


@kernel
def first_largest(s):
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
def keep_particles(ints, layout, table, free, rows, count, n_data):
    """The free states become the persistent ones of the batch's samples."""
    for k in range(1, ints[N_WEIGHTS] + 1):
        o, n = layout[k, OFFSET], layout[k, SIZE]
        particles = matrix_at(table, STATES, k - 1, n_data, n, free)
        for b in range(count):
            copy_row(particles[rows[b]], free[b, o : o + n])


@kernel
def tally(totals, count, loss, correct, free_steps, nudged_steps):
    for b in range(count):
        totals[LOSS] += loss[b]
        totals[CORRECT] += correct[b]
        totals[FREE_STEPS] += free_steps[b]
        totals[NUDGED_STEPS] += nudged_steps[b]
    totals[SAMPLES] += count
    totals[BATCHES] += 1


@kernel
def pack_network(ints, layout, table, packed, bias, thread, n_threads):
    """Copies of the hidden weights and biases, own rows."""
    like = packed
    for k in range(1, ints[N_WEIGHTS]):
        below, here = layout[k, SIZE], layout[k + 1, SIZE]
        w = matrix_at(table, WEIGHTS, k, below, here, like)
        pack_rows(layout, k, w, below * thread // n_threads, below * (thread + 1) // n_threads, packed)
        if thread == 0:
            o = layout[k + 1, OFFSET]
            copy_row(bias[o : o + here], vector_at(table, BIASES, k, here, like))
            if ints[HAS_BACK]:
                back = matrix_at(table, BACK, k, here, below, like)
                for j in range(here):
                    pack_row(packed, layout[k, DOWN], layout[k, DOWN_ROW], layout[k, DOWN_PANEL], j, back[j])


@kernel
def relax_thread(
    thread, n_threads, control, ints, floats, layout, table, x, indptr, indices, data, y, all_steps,
    all_residual, packed, bias, drive, state, shown, field, base_sum, counts, index, value, target,
    every_steps, every_residual, failure, every_active, every_change, worst,
):  # fmt: skip
    """Relax own rows of the states in the table, tile by tile; the buffers hold one tile per thread."""
    steps, residual = every_steps[thread], every_residual[thread]
    active, change = every_active[thread], every_change[thread]
    m, n_in, n_1 = all_steps.size, layout[0, SIZE], layout[1, SIZE]
    n_weights, tile, continuous = ints[N_WEIGHTS], ints[TILE], ints[DYNAMICS] == 1
    phase = 1 if floats[BETA] != 0.0 else 0
    w = matrix_at(table, WEIGHTS, 0, n_in, n_1, packed)
    b0 = vector_at(table, BIASES, 0, n_1, packed)
    pack_network(ints, layout, table, packed, bias, thread, n_threads)
    column_sums(ints, w, 0, 0, n_1, base_sum[thread])
    if not barrier(control, n_threads):
        return
    first, last = m * thread // n_threads, m * (thread + 1) // n_threads
    base = thread * tile
    for start in range(first, last, tile):
        count = min(tile, last - start)
        for i in range(count):
            b = base + i
            list_inputs(ints, x, indptr, indices, data, start + i, b, counts, index, value)
            drive_slice(w, 0, b0, base_sum[thread], counts, index, value, drive, b, 0, n_1)
            target[b] = min(start + i, y.shape[0] - 1)  # y has one idle row in a free phase
            failure[b] = 0
            for k in range(1, n_weights + 1):
                o, n = layout[k, OFFSET], layout[k, SIZE]
                copy_row(state[b, o : o + n], matrix_at(table, STATES, k - 1, m, n, packed)[start + i])
            if continuous:
                show_all(ints, layout, state[b], shown[b])
        relax_block(
            ints, floats, layout, packed, bias, drive, state, shown if continuous else state, field, y,
            target, base, base + count, ints[SCHEDULE], n_weights, floats[BETA], ints[N_FREE],
            floats[TOL_FREE], phase, steps, residual, failure, active, change,
        )  # fmt: skip
        for i in range(count):
            b = base + i
            all_steps[start + i] = steps[b]
            all_residual[start + i] = residual[b]
            if failure[b] != 0 and (worst[thread] == 0 or failure[b] < worst[thread]):
                worst[thread] = failure[b]
            for k in range(1, n_weights + 1):
                o, n = layout[k, OFFSET], layout[k, SIZE]
                copy_row(matrix_at(table, STATES, k - 1, m, n, packed)[start + i], state[b, o : o + n])


@kernel
def place_output(s, y, pull, exact):
    """The output put at the target, or towards it; False if that is not finite."""
    for i in range(s.size):
        s[i] = y[i] if exact else s[i] + pull * (y[i] - s[i])
    return all_finite(s)


@kernel
def free_phase(
    ints, floats, layout, table, packed, bias, drive, state, shown, field, y, rows, low, high, weight, loss,
    correct, free_steps, nudged_steps, steps, residual, failure, active, change, n_data,
):  # fmt: skip
    """Free phase and cost of the samples low..high; True if all of them stayed finite."""
    n_weights, continuous = ints[N_WEIGHTS], ints[DYNAMICS] == 1
    for b in range(low, high):
        failure[b] = 0
        for k in range(1, n_weights + 1):
            o, n = layout[k, OFFSET], layout[k, SIZE]
            s = state[b, o : o + n]
            if ints[HAS_PARTICLES]:
                copy_row(s, matrix_at(table, STATES, k - 1, n_data, n, packed)[rows[b]])
            else:
                for i in range(n):
                    s[i] = ZERO
        if continuous:
            show_all(ints, layout, state[b], shown[b])
    relax_block(
        ints, floats, layout, packed, bias, drive, state, shown, field, y, rows, low, high,
        UPWARDS if ints[RULE] == CLAMPED_SWEEP else ints[SCHEDULE], n_weights, 0.0, ints[N_FREE],
        floats[TOL_FREE], np.int64(0), steps, residual, failure, active, change,
    )  # fmt: skip
    o, n = layout[n_weights, OFFSET], layout[n_weights, SIZE]
    finite = True
    for b in range(low, high):
        s, target = state[b, o : o + n], y[rows[b]]
        loss[b] = weight[b] * row_cost(ints, floats, s, target)
        correct[b] = 1 if first_largest(s) == first_largest(target) else 0
        free_steps[b] = steps[b]
        nudged_steps[b] = 0
        finite = finite and failure[b] == 0
    return finite


@kernel
def second_phases(
    ints, floats, layout, packed, bias, drive, state, shown, field, y, rows, low, high, n_samples, beta,
    weight, pre, moved, nudged_steps, steps, residual, failure, active, change,
):  # fmt: skip
    """The phases of the samples low..high from the free states, for rules whose samples do not meet: nudged
    to `beta` and, if centered, -beta, states 1 and 2; or with the output held at, or towards, the target.
    """
    n_weights, continuous, rule = ints[N_WEIGHTS], ints[DYNAMICS] == 1, ints[RULE]
    held = rule == CLAMPED_SWEEP or rule == CONTRASTIVE or rule == COUPLED
    o, n = layout[n_weights, OFFSET], layout[n_weights, SIZE]
    for turn in range(1, 3 if ints[CENTERED] else 2):
        now, seen = state[turn], shown[turn] if continuous else state[turn]
        force = beta if turn == 1 else -beta
        pull = state.dtype.type(force if rule == COUPLED else 1.0)
        for b in range(low, high):
            copy_row(now[b], state[0, b])
            if held and not place_output(now[b, o : o + n], y[rows[b]], pull, rule == CLAMPED_SWEEP):
                failure[b] = failure_at(turn, np.int64(0)) | n_weights
            if continuous:
                copy_row(seen[b], shown[0, b])
            if continuous and held:
                show(ints, n_weights, now[b, o : o + n], seen[b, o : o + n])
        if rule == VECTOR_FIELD:
            vector_field_phase(
                ints, floats, layout, packed, bias, drive, now, seen, field, y, rows, low, high, n_samples,
                force, turn, weight, pre, moved, steps, residual, failure, active, change,
            )  # fmt: skip
        else:
            relax_block(
                ints, floats, layout, packed, bias, drive, now, seen, field, y, rows, low, high,
                DOWNWARDS if rule == CLAMPED_SWEEP else ints[SCHEDULE], n_weights - 1 if held else n_weights,
                0.0 if held else force, ints[N_NUDGED], floats[TOL_NUDGED], turn, steps, residual, failure,
                active, change,
            )  # fmt: skip
        for b in range(low, high):
            nudged_steps[b] += steps[b]
    if rule == CLAMPED_SWEEP:  # learns from the free state and the change
        live = active[low:high]
        for b in range(low, high):
            live[b - low] = b
            copy_row(pre[b], state[0, b])
            copy_row(moved[b], state[0, b])
        weigh_change(state[1], live, weight, ONE, moved, np.int64(0))


@kernel
def train_thread(
    thread, n_threads, control, ints, floats, free_floats, layout, table, rates, x, indptr, indices, data, y,
    order, sign, row_weight, packed, bias, drive, state, shown, field, delta, base_sum, counts, index,
    value, starts, sample, coefficient, ascent, products, places, ones, turns, pre, moved, walk, grams, parts,
    dense, weight, loss, correct, free_steps, nudged_steps, every_steps, every_residual, failure,
    every_active, every_change, totals,
):  # fmt: skip
    """Own share of the training on rows `order`, batch after batch; `totals` holds sums and the first
    failure.

    What every step writes has a row per thread (`every_...`): threads on one cache line slow each other down.
    """
    steps, residual = every_steps[thread], every_residual[thread]
    active, change = every_active[thread], every_change[thread]
    n_weights, size, tile = ints[N_WEIGHTS], ints[BATCH], ints[TILE]
    n_in, n_1 = layout[0, SIZE], layout[1, SIZE]
    n_data, m, like = y.shape[0], order.size, packed
    low, high = column_slice(n_1, thread, n_threads)
    moments, second = ints[OPTIMIZER] != 0, ints[OPTIMIZER] == 3
    w, moved_by = own_columns(ints, table, WEIGHTS, n_in, low, thread, like)
    b0 = vector_at(table, BIASES, 0, n_1, like)
    acts, nothing = shown if ints[DYNAMICS] == 1 else state, matrix_at(table, VELOCITY, 0, 1, 1, like)
    start_of, end_of = (2, 1) if ints[CENTERED] else (0, 1)
    rule = ints[RULE]
    raw = rule == VECTOR_FIELD or rule == CONTINUAL_VECTOR_FIELD  # learns from changes of states
    recorded = rule == VECTOR_FIELD or rule == CLAMPED_SWEEP
    n_recorded = ints[N_NUDGED] * (2 if ints[CENTERED] else 1) if rule == VECTOR_FIELD else 1
    meeting = rule == CONTINUAL or rule == CONTINUAL_VECTOR_FIELD

    pack_network(ints, layout, table, packed, bias, thread, n_threads)
    n_batches = (m + size - 1) // size
    for number in range(n_batches + 1):
        begin = number * size
        count = min(size, m - begin)
        rows = order[begin : begin + count] if number < n_batches else order[:0]
        now = number % 2
        first, last = count * thread // n_threads, count * (thread + 1) // n_threads
        if number == 0:
            for b in range(first, last):
                list_inputs(ints, x, indptr, indices, data, rows[b], b, counts[0], index[0], value[0])
            if not barrier(control, n_threads):
                return
        # --- (A) own columns of the drive
        if number < n_batches:
            column_sums(ints, w, moved_by, low, high, base_sum[0])
            for b in range(count):
                drive_slice(
                    w, moved_by, b0, base_sum[0], counts[now], index[now], value[now], drive, b, low, high
                )
        if not barrier(control, n_threads):
            return
        if number == n_batches:
            break
        # --- (B) own samples
        beta, total = floats[BETA] * (sign[number] if ints[HAS_SIGN] else 1), 0.0
        for b in range(count):
            total += row_weight[rows[b]] if ints[HAS_WEIGHT] else 1.0
        span = 1.0 if rule == CLAMPED_SWEEP or rule == CONTRASTIVE else beta
        scale = 1.0 / ((2.0 * span if ints[CENTERED] else span) * total) if total > 0.0 else 0.0
        for b in range(first, last):
            weight[b] = row_weight[rows[b]] if ints[HAS_WEIGHT] else weight.dtype.type(1)
        for at in range(first, last, tile):
            end = min(at + tile, last)
            if free_phase(
                ints, free_floats, layout, table, packed, bias, drive, state[0], acts[0], field, y, rows, at,
                end, weight, loss, correct, free_steps, nudged_steps, steps, residual, failure, active,
                change, n_data,
            ) and total > 0.0 and not meeting:  # fmt: skip
                second_phases(
                    ints, floats, layout, packed, bias, drive, state, shown, field, y, rows, at, end, count,
                    beta, weight, pre[0], moved[0], nudged_steps, steps, residual, failure, active, change,
                )  # fmt: skip
        if meeting and total > 0.0:
            for b in range(first, last):
                copy_row(state[1, b], state[0, b])
                copy_row(acts[1, b], acts[0, b])
            input_products(ints, counts[now], index[now], value[now], first, last, count, dense[thread],
                           grams[0, 0])  # fmt: skip
            if not continual_phase(
                thread, n_threads, control, ints, floats, layout, rates, scale, packed, bias, drive, state[1],
                acts[1], state[0], acts[0], field, y, rows, first, last, count, beta, weight, grams, parts,
                walk, pre[0], moved[0], ascent[thread], coefficient[thread], products[thread], ones, places,
                nudged_steps, failure, active, change,
            ):  # fmt: skip
                return
        ahead = order[begin + count : min(begin + count + size, m)]
        for b in range(ahead.size * thread // n_threads, ahead.size * (thread + 1) // n_threads):
            nxt = 1 - now
            list_inputs(ints, x, indptr, indices, data, ahead[b], b, counts[nxt], index[nxt], value[nxt])
        if not barrier(control, n_threads):
            return
        # --- every thread comes to the same conclusions
        worst = first_failure(failure, count)
        if thread == 0:
            free_phase_failed = worst != 0 and (worst >> 40) == 1
            if ints[HAS_PARTICLES] and not free_phase_failed:
                keep_particles(ints, layout, table, state[0], rows, count, n_data)
            tally(totals, count, loss, correct, free_steps, nudged_steps)
            totals[FAILURE] = worst
        if worst != 0:
            return
        if total <= 0.0 or (raw and ints[N_NUDGED] == 0):
            continue
        # --- update: own columns of W_0, own rows of the others
        t = float(ints[ADAM_STEP] + number + 1)
        ends = state if raw else acts
        a, e = ends[start_of], ends[end_of]
        difference_slice(weight, a, e, count, low, high, delta)
        update_input(
            ints, floats, w, moved_by, b0,
            own_columns(ints, table, VELOCITY, n_in, low, thread, like)[0] if moments else nothing,
            own_columns(ints, table, SECOND, n_in, low, thread, like)[0] if second else nothing,
            vector_at(table, BIAS_VELOCITY, 0, n_1 if moments else 1, like),
            vector_at(table, BIAS_SECOND, 0, n_1 if second else 1, like),
            counts[now], index[now], value[now], delta, count, scale, rates[0, 0], rates[1, 0], t, low, high,
            starts[thread], sample[thread], coefficient[thread], ascent[thread], ones,
        )  # fmt: skip
        if rule == CONTINUAL_VECTOR_FIELD:
            step_inner(
                thread, n_threads, ints, layout, rates, scale, packed, bias, pre[0], moved[0], count,
                ascent[thread], coefficient[thread], products[thread], ones, places,
            )  # fmt: skip
            unpack_inner(thread, n_threads, ints, layout, table, WEIGHTS, BIASES, BACK, packed, bias)
            continue
        n_rows = count * n_recorded if recorded else count
        before, after, row_weights = (pre, moved, ones) if recorded else (acts, acts, weight)
        for k in range(1, n_weights):
            below, here = layout[k, SIZE], layout[k + 1, SIZE]
            at_below, at_here = layout[k, OFFSET], layout[k + 1, OFFSET]
            row_low, row_high = below * thread // n_threads, below * (thread + 1) // n_threads
            wk = matrix_at(table, WEIGHTS, k, below, here, like)
            mk = matrix_at(table, VELOCITY, k, below if moments else 1, here if moments else 1, like)
            vk = matrix_at(table, SECOND, k, below if second else 1, here if second else 1, like)
            if layout[k + 1, COPY] < 0:
                update_narrow(
                    ints, floats, layout, k, wk, mk, vk, row_weights, before, after, turns, n_rows, scale,
                    rates[0, k], t, row_low, row_high, ascent[thread], coefficient[thread], packed,
                )  # fmt: skip
            else:
                update_hidden(
                    ints, floats, wk, mk, vk, row_weights, before, at_below, after, at_here, turns, n_rows,
                    scale, rates[0, k], t, row_low, row_high, ascent[thread], products[thread], places,
                )  # fmt: skip
                pack_rows(layout, k, wk, row_low, row_high, packed)
            if rule == VECTOR_FIELD:
                row_low, row_high = here * thread // n_threads, here * (thread + 1) // n_threads
                back = matrix_at(table, BACK, k, here, below, like)
                mk = matrix_at(table, BACK_VELOCITY, k, here if moments else 1, below if moments else 1, like)
                vk = matrix_at(table, BACK_SECOND, k, here if second else 1, below if second else 1, like)
                update_hidden(
                    ints, floats, back, mk, vk, row_weights, before, at_here, after, at_below, turns, n_rows,
                    scale, rates[0, k], t, row_low, row_high, ascent[thread], products[thread], places,
                )  # fmt: skip
                for j in range(row_low, row_high):
                    pack_row(packed, layout[k, DOWN], layout[k, DOWN_ROW], layout[k, DOWN_PANEL], j, back[j])
            if thread == 0:
                bk = vector_at(table, BIASES, k, here, like)
                update_bias(
                    ints, floats, bk, vector_at(table, BIAS_VELOCITY, k, here if moments else 1, like),
                    vector_at(table, BIAS_SECOND, k, here if second else 1, like), weight, a, e, count,
                    at_here, scale, rates[1, k], t, ascent[thread],
                )  # fmt: skip
                copy_row(bias[at_here : at_here + here], bk)
