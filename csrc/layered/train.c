/* train.c - learning of layered networks: free phase, second phase(s), contrast, update; many
 * batches in one call. Equations 3 and 4, and those of each rule (rules.h). Letters: layered.h,
 * rules.h.
 *
 * Work of a batch, split over threads (docs/architecture.md says why):
 *     update and drive of weight[0]   by its columns: a thread's share of the largest matrix never
 *                                     leaves its cache
 *     relaxation                      by samples, where the inner weights are small enough to sit
 *                                     in every core's cache; else by columns, with a barrier a step
 *     contrast                        by samples
 *     update of weight[k > 0]         by register tiles
 *
 * In time, batch n, with two sets of buffers in turn:
 *     relax_phases    free phase and second phases of n        every thread its samples, or columns
 *     judge           cost and contrast of n                   its samples
 *     build_batch     inputs of n + 1                          every thread a copy of its own
 *     -- barrier: all states of n are there --
 *     update_all      weights with n, drive of n + 1           its columns, its tiles
 *     -- barrier: all weights are stepped --
 * A batch that is not finite ends the job between the two: no weight has moved.
 *
 * Sums run in sample order whatever the split: results are bit-equal for any number of threads.
 *
 * The kernel is one file for all rules because they share all but the second phase: one call keeps
 * packed weights and batches in the cache, and contrast and update are fused with the learning
 * rate. */
#include "layered/rules.h"

/* Lays out what rules need whose samples meet: one team of all, states before a step, and products
 * between samples. */
static void stepwise_plan(const network *net, batch_buffers *batch, int thread, int n_threads,
                          arena *arena) {
    const eqp_layered_job *job = net->job;
    const int B = batch->B;
    team_plan(net, &batch->shared, B, 1, arena);
    batch->gram_x = TAKE_REALS(arena, (int64_t)B * B);
    batch->input_sum = take_own(arena, B, sizeof(real), thread, n_threads);
    if (continual_is_narrow(net)) continual_narrow_plan(net, batch, thread, arena);
    /* the vector field's sum runs over all steps of both phases; C-VF uses a step up at once */
    batch->n_recorded =
        job->rule == RULE_VECTOR_FIELD ? job->n_nudged_steps * (job->centered ? 2 : 1) : 1;
    for (int k = 1; k <= net->L; k++) {
        real **arrays[] = {&batch->old[k], &batch->old_shown[k], &batch->start_shown[k]};
        for (int i = 0; i < 3; i++) *arrays[i] = TAKE_REALS(arena, B * net->np[k]);
        for (int i = 0; i < 4; i++) batch->gram[k][i] = TAKE_REALS(arena, (int64_t)B * B);
        batch->pre[k] = TAKE_REALS(arena, (int64_t)batch->n_recorded * B * net->np[k]);
        batch->change[k] = TAKE_REALS(arena, (int64_t)batch->n_recorded * B * net->np[k]);
    }
}

/* Lays everything a job needs out in the arena: network, batches in two sets, and what the rule
 * asks for. With an empty arena it only counts. */
static void train_plan(network *net, batch_buffers *batch, const eqp_layered_job *job, int thread,
                       int n_threads, arena *arena) {
    const int B = job->batch_size, L = job->n_weights;
    batch->B = B;
    /* by samples no thread waits for another, but each reads all inner weights at every step */
    batch->by_sample = n_threads == 1 || inner_bytes(job) <= SAMPLE_SPLIT_BYTES;
    batch->n_batches = (job->n_rows + B - 1) / B;
    network_plan(net, job, thread, n_threads, batch->by_sample ? n_threads : 1,
                 batch->by_sample ? (B + n_threads - 1) / n_threads : B, arena);
    input_plan(net, batch, thread, arena);
    for (int e = 0; e < 3; e++) batch->steps[e] = take(arena, B, sizeof(int32_t));
    for (int q = 0; q < 2; q++) batch->queue[q] = take(arena, n_threads * LANES, sizeof(int32_t));
    batch->mine = take_own(arena, B, sizeof(int32_t), thread, n_threads);
    for (int k = 1; k <= L; k++) {
        real **arrays[] = {&batch->free[k],      &batch->end[0][k],    &batch->end[1][k],
                           &batch->acting[0][k], &batch->acting[1][k], &batch->gone[k],
                           &batch->seen[k],      &batch->delta[k]};
        for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++)
            *arrays[i] = TAKE_REALS(arena, B * net->np[k]);
    }
    if (is_stepwise(job->rule)) stepwise_plan(net, batch, thread, n_threads, arena);
    if (is_gradient(job->rule)) gradient_plan(net, batch, n_threads, arena);
    batch->cost = take(arena, B, sizeof(double));
    batch->right = take(arena, B, sizeof(int32_t));
    batch->diverged = take(arena, n_threads, sizeof(int32_t));
}

/* Whether a job can be trained: the network, the options, and what the rule cannot be combined
 * with. Everything is checked before anything is written. */
static int train_check(const eqp_layered_job *job) {
    const int status = layered_check(job);
    if (status) return status;
    if (!job->y || !job->rate || !job->bias_rate || !job->loss || !job->counts || !job->order)
        return EQP_E_NULL;
    if (job->batch_size < 1) return EQP_E_SIZE;
    if (job->gain || job->schedule > VISIT_ODD_EVEN || !(job->over_relaxation > 0) ||
        (job->beta == 0 && !is_gradient(job->rule)))
        return EQP_E_OPTION;
    if (job->rule < 0 || job->rule >= N_RULES || job->optimizer < 0 ||
        job->optimizer >= N_OPTIMIZERS)
        return EQP_E_OPTION;
    if (is_vector_field(job->rule) && !job->back) return EQP_E_NULL;
    /* weights that move at every step have no optimiser's memory, no decay, and no second phase to
     * be held against */
    if (is_continual(job->rule) &&
        (job->optimizer != OPT_SGD || job->weight_decay != 0 || job->centered))
        return EQP_E_OPTION;
    /* no second phase to centre; bptt's record would have to begin at the particles */
    if (is_gradient(job->rule) && (job->centered || (job->state && job->rule == RULE_BPTT)))
        return EQP_E_OPTION;
    if ((job->rule == RULE_BPTT || job->rule == RULE_RECURRENT_BACKPROP) && job->n_nudged_steps < 1)
        return EQP_E_SIZE;
    if (job->rule == RULE_BPTT && job->n_nudged_steps > job->n_free_steps) return EQP_E_SIZE;
    if (job->optimizer != OPT_SGD && !job->velocity) return EQP_E_NULL;
    if (job->optimizer == OPT_ADAM && !job->second) return EQP_E_NULL;
    return EQP_OK;
}

/* Writes the scratch bytes that layered_train needs to job->scratch_size. */
int EQP_NAME(layered_train_scratch)(eqp_layered_job *job, int thread, int n_threads) {
    (void)thread;
    const int status = train_check(job);
    if (status) return status;
    network net;
    batch_buffers batch;
    arena a = {NULL, 0};
    train_plan(&net, &batch, job, 0, n_threads, &a);
    job->scratch_size = a.used;
    return EQP_OK;
}

/* --- contrast --- */

/* Whether the state itself, not rho of it, is what layer k shows to the learning rule (equations
 * 4; vector fields: 6). */
static int shows_state(const network *net, int k) {
    return !net->euler || is_vector_field(net->job->rule) ||
           (k == net->L && net->job->linear_output);
}

/* out = rho(s), one row of layer k; padding 0, where rho(0) may not be. */
static void acting_row(const network *net, int k, const real *s, real *out) {
    const int64_t np = net->np[k];
    EQP_WITH_ACT(activation_of(net, k), act_rho_row(ACT, s, np, out));
    for (int64_t i = net->n[k]; i < np; i++) out[i] = 0;
}

/* The contrast of the thread's samples, from `from` (free, or at -beta) to `to` (at beta):
 *     delta_k = w (qb_k - qa_k),   qa, qb: what layer k shows at either end, w: the sample's weight
 * (equations 4), with qb_k - qa_k and w qa_k for the inner matrices. Returns 1 if anything is not
 * finite. */
static int contrast_rows(const network *net, batch_buffers *batch, int q, real *const *from,
                         real *const *to) {
    vec check = vset(0);
    for (int k = 1; k <= net->L; k++) {
        const int64_t np = net->np[k];
        const int raw = shows_state(net, k);
        /* the state in place, or rho of it in a buffer of the thread's rows */
        batch->qa[k] = raw ? from[k] : batch->acting[0][k];
        batch->qb[k] = raw ? to[k] : batch->acting[1][k];
        for (int i = 0; i < batch->n_mine; i++) {
            const int s = batch->mine[i];
            const int64_t at = s * np;
            if (!raw) {
                acting_row(net, k, from[k] + at, batch->qa[k] + at);
                acting_row(net, k, to[k] + at, batch->qb[k] + at);
            }
            const vec w = vset(batch->weight[q][s]);
            for (int64_t v = 0; v < np; v += VL) {
                /* THE CONTRAST (equations 4): weight * (nudged - free). That of an inner matrix,
                 * qb qb' - qa qa', is taken as qb (qb' - qa') + (qb - qa) qa': products of what
                 * has moved, so that units that have not give exactly 0, and not rounding, which
                 * Adam would step along */
                const vec a = vload(batch->qa[k] + at + v), seen = vmul(w, a),
                          moved = vsub(vload(batch->qb[k] + at + v), a), delta = vmul(w, moved);
                vstore(batch->gone[k] + at + v, moved);
                vstore(batch->seen[k] + at + v, seen);
                vstore(batch->delta[k] + at + v, delta);
                /* 0 * inf and 0 * nan are nan */
                check = vfma(vset(0), delta, vfma(vset(0), seen, check));
            }
        }
    }
    return !vequal(check, vset(0));
}

/* --- update --- */

/* out = sums over the samples of n columns of delta, in their order: what steps a bias. */
static void sum_rows(const real *delta, int64_t ld, int rows, int n, real *out) {
    for (int v = 0; v < n; v += VL) {
        vec sum = vset(0);
        for (int s = 0; s < rows; s++) sum = vadd(sum, vload(delta + s * ld + v));
        vstore(out + v, sum);
    }
}

/* The products whose sum is the contrast of weight[k], k > 0, rows i0.., columns c0.. (transposed:
 * of back[k]); A is read down its columns, so that samples are what is summed over. Returns their
 * number.
 *     EP, centered, held outputs   qb_k' delta_{k+1} + gone_k' seen_{k+1}   equations 4, 7
 *     vector field                 pre_k' change_{k+1}, all steps        6.1
 *     clamped sweep                qa_k' delta_{k+1}                     8
 *     exact gradients              gradient_products                     9
 */
static int inner_products(const network *net, const batch_buffers *batch, int k, int rows,
                          int64_t i0, int64_t c0, int transposed, operand *terms) {
    const int rule = net->job->rule;
    const int64_t below = net->np[k], above = net->np[k + 1];
    if (is_gradient(rule)) return gradient_products(net, batch, k, rows, i0, c0, transposed, terms);
    if (is_vector_field(rule)) {
        /* presynaptic activity x change of the postsynaptic state, over the recorded steps */
        const int n = batch->n_recorded * rows;
        terms[0] =
            transposed
                ? (operand){batch->pre[k + 1] + i0, batch->change[k] + c0, 1, above, below, n}
                : (operand){batch->pre[k] + i0, batch->change[k + 1] + c0, 1, below, above, n};
        return 1;
    }
    if (rule == RULE_CLAMPED_SWEEP) {
        terms[0] = (operand){batch->qa[k] + i0, batch->delta[k + 1] + c0, 1, below, above, rows};
        return 1;
    }
    terms[0] = (operand){batch->qb[k] + i0, batch->delta[k + 1] + c0, 1, below, above, rows};
    terms[1] = (operand){batch->gone[k] + i0, batch->seen[k + 1] + c0, 1, below, above, rows};
    return 2;
}

/* Writes a tile of weight[k] (rows i0.., columns c0..) to its transpose as well: it is in the
 * first-level cache now, and a transposition of the whole would read it again. */
static void transpose_tile(const network *net, int k, int64_t i0, int mr, int64_t c0, int width,
                           const real *tile) {
    const int64_t n_above = net->n[k + 1], valid = n_above - c0 < width ? n_above - c0 : width;
    for (int m = 0; m < mr; m++) {
        const int q = (int)((i0 + m) / PW), ld = panel_width(net->n[k], q);
        real *to = panel_at(net->back[k], n_above, q) + c0 * ld + (i0 + m - (int64_t)q * PW);
        for (int64_t i = 0; i < valid; i++) to[i * ld] = tile[m * width + i];
    }
}

/* Steps one packed matrix (n_rows x n_cols, panels) with its moments, and the transpose of a
 * symmetric one: thread's tiles. */
static void update_panels(const network *net, const batch_buffers *batch, int k, int rows,
                          int transposed, real *w, real *velocity, real *second,
                          const stepper *weight_step, int thread) {
    const int n_cols = net->n[transposed ? k : k + 1], n_rows = net->n[transposed ? k + 1 : k];
    const int blocks = row_blocks(n_rows);
    /* register tiles of the matrix, numbered panel by panel: the thread has a run of them */
    const int64_t tiles = (int64_t)n_panels(n_cols) * blocks;
    static const real zeros[PW]; /* where the products' sums start */
    real gradient[MR_MAX * PW];  /* the contrast of a tile, summed over the samples */
    for (int64_t t = share(tiles, thread, net->n_threads);
         t < share(tiles, thread + 1, net->n_threads); t++) {
        const int p = (int)(t / blocks), block = (int)(t % blocks), width = panel_width(n_cols, p);
        const int64_t c0 = (int64_t)p * PW, base = c0 * n_rows;
        const int i0 = row_start(n_rows, block), mr = row_start(n_rows, block + 1) - i0;
        operand terms[2];
        const int n_terms = inner_products(net, batch, k, rows, i0, c0, transposed, terms);
        gemm_tile(mr, width, zeros, 0, gradient, PW, terms, n_terms);
        for (int m = 0; m < mr; m++)
            for (int v = 0; v < width; v += VL) {
                const int64_t at = base + (int64_t)(i0 + m) * width + v;
                vstore(w + at, vsteps(weight_step, vload(w + at), vload(gradient + m * PW + v),
                                      velocity + at, second + at));
            }
        if (!net->job->back)
            transpose_tile(net, k, i0, mr, c0, width, w + base + (int64_t)i0 * width);
    }
}

/* Steps weight[k], k > 0, its transpose if it is symmetric, and its bias, with the batch's
 * contrast: the thread's share. */
void update_inner(const network *net, batch_buffers *batch, int k, int rows,
                  const stepper *weight_step, const stepper *bias_step, int thread) {
    update_panels(net, batch, k, rows, 0, net->w[k], net->velocity[k], net->second[k], weight_step,
                  thread);
    const int panels = n_panels(net->n[k + 1]);
    /* C-VF calls this at every step: with that step's changes */
    const int stepwise = net->job->rule == RULE_CONTINUAL_VECTOR_FIELD;
    const real *delta = stepwise ? batch->change[k + 1] : batch->delta[k + 1];
    real sum[PW];
    for (int p = (int)share(panels, thread, net->n_threads);
         p < share(panels, thread + 1, net->n_threads); p++) {
        const int width = panel_width(net->n[k + 1], p);
        sum_rows(delta + (int64_t)p * PW, net->np[k + 1], rows, width, sum);
        update_bias(net, k, (int64_t)p * PW, width, sum, bias_step);
    }
}

/* Steps back[k] where feedback is independent and learns (equations 6): the thread's panels. */
void update_back(const network *net, batch_buffers *batch, int k, int rows,
                 const stepper *weight_step, int thread) {
    const int slot = 2 * net->L + k;
    update_panels(net, batch, k, rows, 1, net->back[k], net->velocity[slot], net->second[slot],
                  weight_step, thread);
}

/* The numbers of one matrix's step (equations 13). scale: of the contrast. Adam's bias corrections
 * of step t = adam_step + batches_done + 1 go into the rate and epsilon. */
stepper make_stepper(const eqp_layered_job *job, double rate, double decay, double scale,
                     int64_t batches_done) {
    return EQP_STEPPER(job, rate, decay, scale, batches_done);
}

/* --- the training kernel --- */

/* Cost (equations 2) and argmax of sample s at its free state, against its target: right if the
 * largest output is the largest target. */
static void score_row(const network *net, batch_buffers *batch, int q, int s) {
    const int n = net->n[net->L];
    const real *out = batch->free[net->L] + s * net->np[net->L],
               *y = batch->y[q] + s * net->np[net->L];
    int best = 0, target = 0;
    /* in double: thousands of these are added up */
    double cost = 0, sum = 0;
    for (int i = 1; i < n; i++) {
        if (out[i] > out[best]) best = i;
        if (y[i] > y[target]) target = i;
    }
    if (net->job->cost ==
        COST_CROSS_ENTROPY) { /* less the largest output, so that nothing overflows */
        for (int i = 0; i < n; i++) sum += exp((double)(out[i] - out[best]));
        for (int i = 0; i < n; i++)
            cost -= (double)y[i] * ((double)(out[i] - out[best]) - log(sum));
        cost *= net->job->cost_factor;
    } else {
        for (int i = 0; i < n; i++)
            cost += 0.5 * net->job->cost_factor * (double)(out[i] - y[i]) * (double)(out[i] - y[i]);
    }
    batch->cost[s] = cost * (double)batch->weight[q][s];
    batch->right[s] = best == target;
}

/* The thread's samples start where their rows' persistent particles are (equations 3). */
static void load_particles(const network *net, const batch_buffers *batch, int64_t number, int lo,
                           int hi) {
    const eqp_layered_job *job = net->job;
    for (int k = 1; k <= net->L; k++)
        for (int s = lo; s < hi; s++)
            copy_row(batch->free[k] + s * net->np[k],
                     (const real *)job->state[k - 1] +
                         job->order[number * batch->B + s] * net->n[k],
                     net->n[k], net->np[k]);
}

/* The free states become the particles of the batch's rows. A row may be there more than once, and
 * the last one counts: so the threads share the units, not the samples. */
static void save_particles(const network *net, const batch_buffers *batch, int64_t number, int rows,
                           int thread) {
    const eqp_layered_job *job = net->job;
    for (int k = 1; k <= net->L; k++) {
        const int64_t n = net->n[k], lo = share(n, thread, net->n_threads),
                      hi = share(n, thread + 1, net->n_threads);
        for (int s = 0; s < rows; s++)
            copy_reals((real *)job->state[k - 1] + job->order[number * batch->B + s] * n + lo,
                       batch->free[k] + s * net->np[k] + lo, hi - lo);
    }
}

/* One phase of the batch, from init (NULL: zero) to out, nudged by beta: the thread's samples, or
 * all of them by columns, all threads together. */
static void relax_batch(network *net, batch_buffers *batch, int q, int rows, int lo, int hi,
                        int thread, real **init, real **out, double beta, int n_steps, double tol,
                        int order, int hold_output, int32_t *steps) {
    /* by samples each thread is a team of one; by columns all relax all samples */
    const int first = batch->by_sample ? lo : 0, count = batch->by_sample ? hi - lo : rows;
    real *from[EQP_MAX_WEIGHTS + 1], *to[EQP_MAX_WEIGHTS + 1];
    for (int k = 1; k <= net->L; k++) {
        from[k] = init ? init[k] + first * net->np[k] : NULL;
        to[k] = out[k] + first * net->np[k];
    }
    const relaxation asked = {.rows = count,
                              .drive = batch->drive + first * net->np[1],
                              .y = beta != 0 ? batch->y[q] + first * net->np[net->L] : NULL,
                              .init = init ? from : NULL,
                              .out = to,
                              .beta = beta,
                              .tol = tol,
                              .n_steps = n_steps,
                              .order = order,
                              .hold_output = hold_output,
                              .steps = steps + first};
    relax(net, &net->mine, batch->by_sample ? 0 : thread, batch->by_sample ? 1 : net->n_threads,
          &asked);
}

/* The thread's samples at their free states, with the output put at, or towards, the target, where
 * it stays: what the held second phases start from. Coupled learning pulls by beta, contrastive
 * learning and the clamped sweep all the way (equations 7, 8). */
static void hold_at_target(const network *net, batch_buffers *batch, const phase *phase) {
    const eqp_layered_job *job = net->job;
    const int L = net->L;
    const real pull = (real)(job->rule == RULE_COUPLED ? phase->beta : 1);
    real **start = batch->end[phase->e];
    for (int s = phase->lo; s < phase->hi; s++) {
        for (int k = 1; k <= L; k++)
            copy_reals(start[k] + s * net->np[k], batch->free[k] + s * net->np[k], net->np[k]);
        real *out = start[L] + s * net->np[L];
        const real *y = batch->y[phase->q] + s * net->np[L];
        for (int i = 0; i < net->n[L]; i++)
            out[i] = job->rule == RULE_CLAMPED_SWEEP ? y[i] : out[i] + pull * (y[i] - out[i]);
    }
    /* other threads read these rows where the layers are split by columns */
    if (!batch->by_sample) eqp_wait(job->barrier, net->n_threads);
}

/* Nudged, clamped or swept (equations 3, 7, 8): the second phase of the rules whose samples do not
 * meet. Leaves end[e]. */
static void second_phase(network *net, batch_buffers *batch, const phase *phase, int thread) {
    const eqp_layered_job *job = net->job;
    const int held = job->rule == RULE_CLAMPED_SWEEP || job->rule == RULE_CONTRASTIVE ||
                     job->rule == RULE_COUPLED;
    if (held) hold_at_target(net, batch, phase);
    relax_batch(net, batch, phase->q, phase->rows, phase->lo, phase->hi, thread,
                held ? batch->end[phase->e] : batch->free, batch->end[phase->e],
                held ? 0 : phase->beta, job->n_nudged_steps, job->tol_nudged,
                job->rule == RULE_CLAMPED_SWEEP ? VISIT_DOWNWARDS : job->schedule, held,
                batch->steps[1 + phase->e]);
}

/* A batch without weight has no second phase: samples lo..hi end it where they began, after no
 * steps. */
static void stay_free(const network *net, batch_buffers *batch, int lo, int hi) {
    for (int e = 0; e < 2; e++) {
        for (int k = 1; k <= net->L; k++)
            copy_reals(batch->end[e][k] + lo * net->np[k], batch->free[k] + lo * net->np[k],
                       (hi - lo) * net->np[k]);
        for (int s = lo; s < hi; s++) batch->steps[1 + e][s] = 0;
    }
}

/* Both phases of a narrow net (narrow.c), each sample through all of them, whichever thread is
 * free for it: samples need different numbers of steps, and a fixed share would leave threads
 * waiting. */
static void relax_queued(network *net, batch_buffers *batch, int64_t number, double beta,
                         int learns, int thread) {
    const eqp_layered_job *job = net->job;
    const int q = (int)(number & 1), rows = batch_rows(batch, job, number);
    const real *y = batch->y[q];
    /* free, at beta, at -beta; each starts where the free one ended */
    const relaxation phases[] = {{rows, batch->drive, NULL, NULL, batch->free, 0, job->tol_free,
                                  job->n_free_steps, VISIT_SYNCHRONOUS, 0, batch->steps[0], NULL},
                                 {rows, batch->drive, y, batch->free, batch->end[0], beta,
                                  job->tol_nudged, job->n_nudged_steps, VISIT_SYNCHRONOUS, 0,
                                  batch->steps[1], NULL},
                                 {rows, batch->drive, y, batch->free, batch->end[1], -beta,
                                  job->tol_nudged, job->n_nudged_steps, VISIT_SYNCHRONOUS, 0,
                                  batch->steps[2], NULL}};
    const sample_queue queue = {batch->queue[q], rows, thread, net->n_threads};
    const int n_phases = learns ? job->centered ? 3 : 2 : 1;
    batch->n_mine = relax_narrow(net, &net->mine, phases, n_phases, &queue, batch->mine);
    if (!learns)
        for (int i = 0; i < batch->n_mine; i++)
            stay_free(net, batch, batch->mine[i], batch->mine[i] + 1);
}

/* Free and second phases of any other net or rule, with the thread's share of the samples. Over-
 * relaxation (equations 1.6) lengthens the free phase's steps alone, by a job that says so. */
static void relax_shares(network *net, batch_buffers *batch, const phase *first, int thread) {
    const eqp_layered_job *job = net->job;
    const int lo = first->lo, hi = first->hi;
    /* bptt's last free steps are made by reverse_phase, which records them */
    const int recorded = job->rule == RULE_BPTT ? job->n_nudged_steps : 0;
    /* a job of its own for the free phase, with longer steps */
    eqp_layered_job longer = *job;
    network hasty = *net;
    longer.dt *= job->over_relaxation;
    hasty.job = &longer;
    hasty.plain = net->plain && job->over_relaxation == 1;
    relax_batch(&hasty, batch, first->q, first->rows, lo, hi, thread,
                job->state ? batch->free : NULL, batch->free, 0, job->n_free_steps - recorded,
                job->tol_free, job->rule == RULE_CLAMPED_SWEEP ? VISIT_UPWARDS : job->schedule, 0,
                batch->steps[0]);
    if (is_gradient(job->rule))
        reverse_phase(net, batch, first, thread);
    else if (!(first->total > 0))
        stay_free(net, batch, lo, hi);
    for (int e = 0; !is_gradient(job->rule) && first->total > 0 && e < (job->centered ? 2 : 1);
         e++) {
        phase phase = *first;
        phase.e = e;
        if (e) phase.beta = -phase.beta;
        if (is_stepwise(job->rule))
            nudged_stepwise(net, batch, &phase, thread);
        else
            second_phase(net, batch, &phase, thread);
    }
    /* the samples whose contrast this thread forms: those it has relaxed, their states are in its
     * cache */
    batch->n_mine = 0;
    for (int s = lo; s < hi; s++) batch->mine[batch->n_mine++] = s;
}

/* Batch `number` as its second phase sees it: beta with the batch's sign, the sum of the samples'
 * weights, and what turns a summed contrast into minus the gradient (equations 4: 1 / (span B)). */
static phase phase_of(const network *net, const batch_buffers *batch, int64_t number, int thread) {
    const eqp_layered_job *job = net->job;
    const int q = (int)(number & 1), rows = batch_rows(batch, job, number);
    const int lo = (int)share(rows, thread, net->n_threads),
              hi = (int)share(rows, thread + 1, net->n_threads);
    const double beta = job->beta * (job->sign ? job->sign[number] : 1);
    /* each thread adds up all weights, in their order: no barrier, the same bits */
    double total = 0;
    for (int s = 0; s < rows; s++) total += (double)batch->weight[q][s];
    /* rules whose contrast is a whole step of the output, or a gradient already */
    const int whole =
        job->rule == RULE_CLAMPED_SWEEP || job->rule == RULE_CONTRASTIVE || is_gradient(job->rule);
    const double span = whole ? 1 : (job->centered ? 2 : 1) * beta;
    return (phase){q, 0, rows, lo, hi, beta, total, total > 0 ? 1 / (span * total) : 0};
}

/* All phases of the batch, this thread's samples: equilibria are left in free and end, the samples
 * it had in mine. */
static void relax_phases(network *net, batch_buffers *batch, int64_t number, const phase *phase,
                         int thread) {
    const eqp_layered_job *job = net->job;
    if (is_gradient(job->rule) && job->back) {
        gradient_pack(net, batch, thread);
        eqp_wait(job->barrier, net->n_threads);
    }
    if (net->narrow && job->rule == RULE_EP && job->schedule == VISIT_SYNCHRONOUS && !job->state) {
        relax_queued(net, batch, number, phase->beta, phase->total > 0, thread);
        return;
    }
    if (job->state) load_particles(net, batch, number, phase->lo, phase->hi);
    if (job->state && !batch->by_sample)
        eqp_wait(job->barrier, net->n_threads); /* columns are relaxed for all samples */
    relax_shares(net, batch, phase, thread);
}

/* Scores the thread's samples and forms their contrast; counts their steps in the job. */
static void judge(eqp_layered_job *job, const network *net, batch_buffers *batch, int q,
                  int thread) {
    int64_t steps[2] = {0, 0};
    for (int i = 0; i < batch->n_mine; i++) {
        const int s = batch->mine[i];
        score_row(net, batch, q, s);
        steps[0] += batch->steps[0][s];
        steps[1] += batch->steps[1][s] + (job->centered ? batch->steps[2][s] : 0);
    }
    if (!is_gradient(job->rule))
        batch->diverged[thread] |=
            contrast_rows(net, batch, q, job->centered ? batch->end[1] : batch->free,
                          batch->end[0]);
    for (int e = 0; e < 2; e++) __atomic_fetch_add(&job->counts[e], steps[e], __ATOMIC_RELAXED);
}

/* Status of the batch from every thread's flag; a state that is not finite goes before a singular
 * system. */
static int batch_status(const batch_buffers *batch, int n_threads) {
    int result = EQP_OK;
    for (int t = 0; t < n_threads; t++)
        if (batch->diverged[t])
            result = result == EQP_E_DIVERGED || batch->diverged[t] & 1 ? EQP_E_DIVERGED
                                                                        : EQP_E_SINGULAR;
    return result;
}

/* Steps all weights and biases with batch `number`, and makes the drive of batch `next` (-1: none);
 * thread's shares. Continual rules have stepped their inner weights already. */
static void update_all(const network *net, batch_buffers *batch, const phase *phase, int64_t number,
                       int64_t next, int thread) {
    const eqp_layered_job *job = net->job;
    const int rule = job->rule, rows = phase->rows;
    /* the vector field's sum over no steps is no estimate: nothing moves, by decay or momentum
     * either */
    const int learns = phase->total > 0 && !(rule == RULE_VECTOR_FIELD && job->n_nudged_steps == 0);
    for (int k = 0; k < net->L; k++) {
        const stepper weight_step =
            make_stepper(job, job->rate[k], job->weight_decay, phase->scale, number);
        const stepper bias_step = make_stepper(job, job->bias_rate[k], 0, phase->scale, number);
        if (k == 0) {
            const stepper *input_step = learns ? &weight_step : NULL;
            input_pass(net, batch, number, next, input_step, &bias_step, thread);
        } else if (learns) {
            if (rule != RULE_CONTINUAL_VECTOR_FIELD)
                update_inner(net, batch, k, rows, &weight_step, &bias_step, thread);
            if (rule == RULE_VECTOR_FIELD || (is_gradient(rule) && job->back))
                update_back(net, batch, k, rows, &weight_step, thread);
        }
    }
}

/* Trains on the job's rows in mini-batches, all threads together. Two barriers a batch: when all
 * samples are relaxed, and when all weights are stepped. A batch that is not finite ends the job
 * before its update. */
int EQP_NAME(layered_train)(eqp_layered_job *job, int thread, int n_threads) {
    const int status = train_check(job);
    if (status) return status;
    if (!job->scratch || !job->barrier) return EQP_E_NULL;
    network net;
    batch_buffers batch;
    arena count = {NULL, 0}, laid = {job->scratch, 0};
    train_plan(&net, &batch, job, thread, n_threads, &count);
    if (count.used > job->scratch_size) return EQP_E_SCRATCH;
    train_plan(&net, &batch, job, thread, n_threads, &laid);
    int result = EQP_OK;
    int64_t done = 0;

    network_pack(&net, thread);
    batch.diverged[thread] = 0;
    batch.queue[0][thread * LANES] = 0;
    build_batch(&net, &batch, 0, thread);
    eqp_wait(job->barrier, n_threads);
    input_pass(&net, &batch, -1, 0, NULL, NULL, thread);
    eqp_wait(job->barrier, n_threads);
    for (int64_t number = 0; number < batch.n_batches; number++) {
        const phase phase = phase_of(&net, &batch, number, thread);
        const int64_t next = number + 1 < batch.n_batches ? number + 1 : -1;
        /* the samples, each by one thread or all by all; then their contrast */
        relax_phases(&net, &batch, number, &phase, thread);
        judge(job, &net, &batch, phase.q, thread);
        if (next >= 0) build_batch(&net, &batch, next, thread);
        batch.queue[!phase.q][thread * LANES] = 0; /* nobody takes from it before the barrier */
        eqp_wait(job->barrier, n_threads);

        result = batch_status(&batch, n_threads);
        if (job->state && result != EQP_E_DIVERGED)
            save_particles(&net, &batch, number, phase.rows, thread);
        if (result) break;
        /* in the order of the samples, by one thread: the sums have the same bits for any number */
        if (thread == 0)
            for (int s = 0; s < phase.rows; s++) {
                job->loss[0] += batch.cost[s];
                job->loss[1] += batch.right[s];
            }
        done++;
        update_all(&net, &batch, &phase, number, next, thread);
        eqp_wait(job->barrier, n_threads);
    }
    /* also after an error: the batches before it have been learnt */
    network_unpack(&net, thread);
    if (thread == 0) {
        job->counts[2] += job->n_rows < done * batch.B ? job->n_rows : done * batch.B;
        job->counts[3] += done;
    }
    return result;
}
