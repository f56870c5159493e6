/* continual_narrow.c - the nudged phase of the continual rules for narrow nets in the plain map
 * (narrow.h, continual.c; docs/equations.md 5, 6.2). Letters: layered.h, rules.h.
 *
 * With few outputs, W_1(t) itself is cheap to keep up to date: for each vector of hidden units a
 * product of its states with the outputs' over the batch. The input layer telescopes: its change
 * acts through the products of the inputs,
 *     drive(t)[m] = drive(0)[m] + sum_s g[m][s] (h(t)[s] - h(0)[s])
 *     g[m][s]     = w_s (c_0 x[m].x[s] + c_bias)                          (gram_x of continual.c)
 *
 * Everything but the outputs' field is local to a hidden unit, so the hidden layer is cut in two
 * halves, each of one thread for the whole phase; the threads only exchange the outputs' partial
 * sums, at one barrier a step. Two halves, however many threads there are: the sums must not depend
 * on their number.
 *
 *     lo, hi     a half: its hidden units, in vectors
 *     h          states of hidden units       factor   what an output's change gives each of them
 */
#include "layered/narrow.h"
#include "layered/rules.h"

/* Parts of the hidden layer that are relaxed apart. */
#define HALVES 2

/* Whether this code serves the job. With a tolerance samples stop one by one, which it cannot. */
int continual_is_narrow(const network *net) {
    const eqp_layered_job *job = net->job;
    return is_continual(job->rule) && net->narrow && net->plain &&
           job->schedule == VISIT_SYNCHRONOUS && job->tol_nudged < 0;
}

/* Lays out what the phase needs beside the batch (the sizes are in batch_buffers). */
void continual_narrow_plan(const network *net, batch_buffers *batch, int thread, arena *arena) {
    const int64_t B = batch->B, np = net->np[1];
    batch->fields = TAKE_REALS(arena, 2 * HALVES * B * PAD);
    batch->moved = TAKE_REALS(arena, B * np);
    batch->before = TAKE_REALS(arena, B * np);
    batch->drive_now = TAKE_REALS(arena, B * np);
    batch->base = TAKE_REALS(arena, np * NARROW_MAX);
    batch->outputs = take_own(arena, B, sizeof(slot), thread, net->n_threads);
    batch->factors = take_own(arena, 2 * B * PAD, sizeof(real), thread, net->n_threads);
}

/* First hidden unit of a half, a multiple of PAD; half HALVES: the end. */
static int64_t half_start(const network *net, int half) {
    return half < HALVES ? (net->np[1] / PAD * half / HALVES) * PAD : net->np[1];
}

/* drive_now = drive + g (h(t) - h(0)), of the half's units and all samples. */
static void move_drive(const network *net, const batch_buffers *batch, int rows, int64_t lo,
                       int64_t hi) {
    const int64_t np = net->np[1];
    /* h(t) - h(0) */
    for (int s = 0; s < rows; s++)
        for (int64_t c = lo; c < hi; c += VL)
            vstore(batch->moved + s * np + c,
                   vsub(vload(batch->end_now + s * np + c), vload(batch->free[1] + s * np + c)));
    /* g times what has moved, by register tiles, on top of the drive */
    for (int64_t c = lo; c < hi; c += PW) {
        const int width = (int)(hi - c < PW ? hi - c : PW);
        for (int i = 0; i < row_blocks(rows); i++) {
            const int m0 = row_start(rows, i), mr = row_start(rows, i + 1) - m0;
            const operand terms = {
                batch->gram_x + m0 * batch->B, batch->moved + c, batch->B, 1, np, rows};
            gemm_tile(mr, width, batch->drive + m0 * np + c, np, batch->drive_now + m0 * np + c, np,
                      &terms, 1);
        }
    }
}

/* to[c][k] = from[c][k] + sum_s factor[s][k] state[s][c], for the half's vectors of units and
 * NARROW_MAX outputs: a step of W_1, in the order in which narrow_pack lays it out. */
static void add_products(const network *net, const real *from, real *to, const real *factor,
                         const real *state, int rows, int64_t lo, int64_t hi) {
    const int64_t np = net->np[1];
    for (int64_t c = lo; c < hi; c += VL) {
        vec acc[NARROW_MAX]; /* an output each: the sums over samples stay in registers */
#pragma GCC unroll 10
        for (int k = 0; k < NARROW_MAX; k++) acc[k] = vload(from + c * NARROW_MAX + k * VL);
        for (int s = 0; s < rows; s++) {
            const vec h = vload(state + s * np + c);
#pragma GCC unroll 10
            for (int k = 0; k < NARROW_MAX; k++)
                acc[k] = vfma(vset(factor[s * PAD + k]), h, acc[k]);
        }
#pragma GCC unroll 10
        for (int k = 0; k < NARROW_MAX; k++) vstore(to + c * NARROW_MAX + k * VL, acc[k]);
    }
}

/* out[s][k] = c w_s (a[s][k] - less[s][k]), rows PAD apart; less NULL: zeros. w_s: weight of
 * sample s. */
static void output_factors(const batch_buffers *batch, int q, int rows, real c, const real *a,
                           int64_t ld, const real *less, int64_t ld_less, real *out) {
    for (int s = 0; s < rows; s++)
        for (int v = 0; v < PAD; v += VL) {
            const vec x = vload(a + s * ld + v);
            vstore(out + s * PAD + v, vmul(vset(c * batch->weight[q][s]),
                                           less ? vsub(x, vload(less + s * ld_less + v)) : x));
        }
}

/* One synchronous step of the half's hidden units, all samples; their share of the outputs' field
 * goes to fields. */
static void step_half(const network *net, const batch_buffers *batch, const finish *finish,
                      slot *outputs, int rows, int64_t lo, int64_t hi, real *fields) {
    const team *team = &batch->shared;
    const int act = net->job->activation, tied = !net->job->back;
    const int64_t np = net->np[1], units = net->n[1] - lo;
    const real *feedback = team->feedback + lo * NARROW_MAX,
               *forward = team->forward + lo * NARROW_MAX;
    slot *slot[ROWS];
    for (int s = 0; s < rows; s += ROWS) {
        const int n = rows - s < ROWS ? rows - s : ROWS; /* samples of this pass */
        for (int i = 0; i < n; i++) {
            slot[i] = &outputs[s + i];
            slot[i]->drive = batch->drive_now + (s + i) * np + lo;
            slot[i]->hidden = slot[i]->hidden_shown = batch->end_now + (s + i) * np + lo;
        }
        real(*field)[PAD] = (real(*)[PAD])(fields + s * PAD);
        if (tied) {
            EQP_WITH_ACT(act, hidden_rows(ACT, PLAIN, 0, n, NARROW_MAX, units, hi - lo, finish,
                                          slot, feedback, forward, field));
        } else {
            EQP_WITH_ACT(act, hidden_rows(ACT, PLAIN_UNTIED, 0, n, NARROW_MAX, units, hi - lo,
                                          finish, slot, feedback, forward, field));
        }
    }
}

/* The weights of the half as they are at the end, to where they are kept (the vector field; C-EP's
 * move with the update). */
static void keep_weights(const network *net, const team *team, int64_t lo, int64_t hi) {
    const int n1 = net->n[1], n2 = net->n[2], w2 = panel_width(n2, 0);
    for (int64_t c = lo; c < hi; c += VL)
        for (int k = 0; k < n2; k++) {
            const int p = (int)(c / PW), width = panel_width(n1, p);
            vstore(panel_at(net->back[1], n2, p) + (int64_t)k * width + (c - (int64_t)p * PW),
                   vload(team->feedback + c * NARROW_MAX + k * VL));
            const real *forward = team->forward + c * NARROW_MAX + k * VL;
            /* W_1 is in one panel, rows of outputs: its column k */
            for (int i = 0; i < VL && c + i < n1; i++) net->w[1][(c + i) * w2 + k] = forward[i];
        }
}

/* Rows of the buffers that hold a batch's hidden units: units lo..hi of every sample. */
static void copy_half(const network *net, real *to, const real *from, int rows, int64_t lo,
                      int64_t hi) {
    const int64_t np = net->np[1];
    for (int s = 0; s < rows; s++) copy_reals(to + s * np + lo, from + s * np + lo, hi - lo);
}

/* The outputs of every sample in the thread's own slots, at the free states. */
static void enter_outputs(const network *net, const batch_buffers *batch, int q, int rows) {
    const int64_t ld2 = net->np[2];
    slot *outputs = batch->outputs;
    for (int s = 0; s < rows; s++) {
        slot *slot = &outputs[s];
        memcpy(slot->shown, batch->free[2] + s * ld2, sizeof slot->shown);
        memcpy(slot->before, slot->shown, sizeof slot->before);
        slot->y = batch->y[q] + s * ld2;
        slot->out = slot->own;
        memcpy(slot->own, slot->shown, sizeof slot->own);
        /* nobody is judged: all make all steps */
        slot->change = 0;
        slot->repeats = 0;
    }
}

/* b_1(t) in `bias`, PAD outputs, from the outputs the last step gave. C-EP: since the phase began,
 * from the net's own bias. C-VF: by the change of that step. */
static void move_bias(const network *net, const batch_buffers *batch, int q, int rows, real rate,
                      real *bias) {
    const int vf = net->job->rule == RULE_CONTINUAL_VECTOR_FIELD;
    const slot *outputs = batch->outputs;
    for (int v = 0; v < PAD; v += VL) {
        vec sum = vset(0);
        for (int s = 0; s < rows; s++) {
            const vec from =
                vf ? vload(outputs[s].before + v) : vload(batch->free[2] + s * net->np[2] + v);
            sum =
                vfma(vset(rate * batch->weight[q][s]), vsub(vload(outputs[s].own + v), from), sum);
        }
        vstore(bias + v, vadd(vf ? vload(bias + v) : vload(net->bias[1] + v), sum));
    }
}

/* W_1(t) (and its feedback) of the half's units, from what the last step changed: its new outputs
 * for C-EP; for C-VF the outputs' change (forward) and their old values (feedback). */
static void move_weights(const network *net, const batch_buffers *batch, int rows, int64_t lo,
                         int64_t hi, const real *factor, const real *last) {
    const team *team = &batch->shared;
    const int64_t np = net->np[1];
    if (net->job->rule != RULE_CONTINUAL_VECTOR_FIELD) {
        add_products(net, batch->base, team->feedback, factor, batch->end_now, rows, lo, hi);
        return;
    }
    add_products(net, team->forward, team->forward, factor, batch->before, rows, lo, hi);
    for (int s = 0; s < rows; s++)
        for (int64_t c = lo; c < hi; c += VL)
            vstore(batch->moved + s * np + c,
                   vsub(vload(batch->end_now + s * np + c), vload(batch->before + s * np + c)));
    add_products(net, team->feedback, team->feedback, last, batch->moved, rows, lo, hi);
}

/* The outputs of every sample, from both halves' partial fields: each thread makes all of them. */
static void step_outputs(const network *net, const batch_buffers *batch, const finish *finish,
                         const real *fields, int rows, const real *bias, real force) {
    slot *outputs = batch->outputs;
    for (int s = 0; s < rows; s++) {
        real field[PAD];
        for (int v = 0; v < PAD; v += VL)
            vstore(field + v,
                   vadd(vload(fields + s * PAD + v), vload(fields + (batch->B + s) * PAD + v)));
        step_output(net, finish, &outputs[s], bias, field, force, 0);
    }
}

/* The nudged phase of C-EP (equations 5) or C-VF (6.2), all threads together; gram_x holds g, the
 * barrier after it is passed. Leaves end[e].
 *
 * Step n first applies what step n - 1 changed; the vector field, whose weights stay changed, makes
 * one turn more for the last one's. */
void nudged_narrow(network *net, batch_buffers *batch, const phase *phase, int thread) {
    const eqp_layered_job *job = net->job;
    const int vf = job->rule == RULE_CONTINUAL_VECTOR_FIELD;
    const int rows = phase->rows, n_steps = job->n_nudged_steps, q = phase->q;
    const int64_t ld2 = net->np[2], ld_slot = sizeof(slot) / sizeof(real);
    const real force = (real)(job->cost_factor * phase->beta);
    const real rate = (real)(job->rate[1] * phase->scale);
    const real bias_rate = (real)(job->bias_rate[1] * phase->scale);
    const finish hidden = finish_of(net, 1, 0), output = finish_of(net, 2, force);
    const team *team = &batch->shared;
    slot *outputs = batch->outputs;
    real *factor = batch->factors, *last = batch->factors + batch->B * PAD, bias[PAD];
    /* halves of this thread: both, one, or none */
    const int first = thread < HALVES ? thread : HALVES,
              stride = net->n_threads < HALVES ? net->n_threads : HALVES;
    batch->end_now = batch->end[phase->e][1];

    if (thread == 0) narrow_pack(net, team, NARROW_MAX);
    memcpy(bias, net->bias[1], sizeof bias);
    enter_outputs(net, batch, q, rows);
    eqp_wait(job->barrier, net->n_threads);
    for (int half = first; half < HALVES; half += stride) {
        const int64_t lo = half_start(net, half), hi = half_start(net, half + 1);
        copy_half(net, batch->end_now, batch->free[1], rows, lo, hi);
        copy_half(net, batch->drive_now, batch->drive, rows, lo, hi);
        if (!vf) { /* W_1 less what the free states contribute, once */
            output_factors(batch, q, rows, -rate, batch->free[2], ld2, NULL, 0, factor);
            add_products(net, team->feedback, batch->base, factor, batch->free[1], rows, lo, hi);
        }
    }
    for (int n = 0; n < n_steps + vf; n++) {
        if (n > 0) { /* each thread for itself: cheaper than to meet once more */
            const real *now = outputs->own, *old = outputs->before;
            output_factors(batch, q, rows, rate, now, ld_slot, vf ? old : NULL, ld_slot, factor);
            if (vf) output_factors(batch, q, rows, rate, old, ld_slot, NULL, 0, last);
            move_bias(net, batch, q, rows, bias_rate, bias);
        }
        for (int half = first; half < HALVES; half += stride) {
            const int64_t lo = half_start(net, half), hi = half_start(net, half + 1);
            if (n > 0) move_weights(net, batch, rows, lo, hi, factor, last);
            if (n == n_steps) {
                keep_weights(net, team, lo, hi);
                continue;
            }
            if (n > 0) move_drive(net, batch, rows, lo, hi);
            if (vf) copy_half(net, batch->before, batch->end_now, rows, lo, hi);
            step_half(net, batch, &hidden, outputs, rows, lo, hi,
                      batch->fields + ((n & 1) * HALVES + half) * batch->B * PAD);
        }
        if (n == n_steps) break;
        eqp_wait(job->barrier, net->n_threads);
        /* by parity of the step: the others may be a step ahead */
        const real *fields = batch->fields + (n & 1) * HALVES * batch->B * PAD;
        step_outputs(net, batch, &output, fields, rows, bias, force);
    }
    for (int s = phase->lo; s < phase->hi; s++) {
        copy_reals(batch->end[phase->e][2] + s * ld2, outputs[s].own, ld2);
        batch->steps[1 + phase->e][s] = n_steps;
    }
    if (vf && thread == 0) memcpy(net->bias[1], bias, sizeof bias);
    /* a thread's samples have hidden units of both halves */
    eqp_wait(job->barrier, net->n_threads);
}
