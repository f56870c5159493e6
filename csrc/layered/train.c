/* train.c - learning of layered networks: free phase, nudged phase(s), contrast, update; many batches in one call.
 *
 * Work of a batch, split over threads (see docs/architecture.md):
 *   columns of weight[0]     drive and update: a thread's share of the largest matrix never leaves its cache
 *   samples, or columns      relaxation: by samples when the inner weights are small enough to sit in every core's
 *                            cache, else by columns with a barrier a step
 *   tiles of weight[k > 0]   update
 * Sums run in sample order whatever the split: results are bit-equal for any number of threads.
 */
#include "layered/rules.h"

static void train_plan(network *net, batch_buffers *b, const eqp_layered_job *j, int thread, int n_threads, arena *a) {
    const int B = j->batch_size, L = j->n_weights;
    b->B = B;
    b->by_sample = n_threads == 1 || inner_bytes(j) <= SAMPLE_SPLIT_BYTES;
    b->n_batches = (j->n_rows + B - 1) / B;
    EQP_NAME(network_plan)(net, j, thread, n_threads, b->by_sample ? n_threads : 1,
                           b->by_sample ? (B + n_threads - 1) / n_threads : B, a);
    EQP_NAME(input_plan)(net, b, thread, a);
    for (int e = 0; e < 3; e++) b->steps[e] = take(a, B, sizeof(int32_t));
    for (int q = 0; q < 2; q++) b->queue[q] = take(a, n_threads * LANES, sizeof(int32_t));
    b->mine = take_own(a, B, sizeof(int32_t), thread, n_threads);
    for (int k = 1; k <= L; k++) {
        real **arrays[] = {&b->free[k], &b->end[0][k], &b->end[1][k], &b->acting[0][k], &b->acting[1][k], &b->up[k], &b->down[k], &b->delta[k]};
        for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) *arrays[i] = TAKE_REALS(a, B * net->np[k]);
    }
    if (is_stepwise(j->rule)) {
        EQP_NAME(team_plan)(net, &b->shared, B, 1, a);
        b->gram_x = TAKE_REALS(a, (int64_t)B * B);
        b->input_sum = take_own(a, B, sizeof(real), thread, n_threads);
        if (EQP_NAME(continual_is_narrow)(net)) EQP_NAME(continual_narrow_plan)(net, b, thread, a);
        b->n_recorded = j->rule == RULE_VECTOR_FIELD ? j->n_nudged_steps * (j->centered ? 2 : 1) : 1;
        for (int k = 1; k <= L; k++) {
            real **arrays[] = {&b->old[k], &b->old_shown[k], &b->start_shown[k]};
            for (int i = 0; i < 3; i++) *arrays[i] = TAKE_REALS(a, B * net->np[k]);
            for (int i = 0; i < 4; i++) b->gram[k][i] = TAKE_REALS(a, (int64_t)B * B);
            b->pre[k] = TAKE_REALS(a, (int64_t)b->n_recorded * B * net->np[k]);
            b->change[k] = TAKE_REALS(a, (int64_t)b->n_recorded * B * net->np[k]);
        }
    }
    if (is_gradient(j->rule)) EQP_NAME(gradient_plan)(net, b, n_threads, a);
    b->cost = take(a, B, sizeof(double));
    b->right = take(a, B, sizeof(int32_t));
    b->diverged = take(a, n_threads, sizeof(int32_t));
}

int EQP_NAME(train_check)(const eqp_layered_job *j) {
    const int status = EQP_NAME(layered_check)(j);
    if (status) return status;
    if (!j->y || !j->rate || !j->bias_rate || !j->loss || !j->counts || !j->order) return EQP_E_NULL;
    if (j->batch_size < 1) return EQP_E_SIZE;
    if (j->schedule > VISIT_ODD_EVEN || !(j->over_relaxation > 0) || (j->beta == 0 && !is_gradient(j->rule))) return EQP_E_OPTION;
    if (j->rule < 0 || j->rule >= N_RULES || j->optimizer < 0 || j->optimizer >= N_OPTIMIZERS) return EQP_E_OPTION;
    if (is_vector_field(j->rule) && !j->back) return EQP_E_NULL;
    if (is_continual(j->rule) && (j->optimizer != OPT_SGD || j->weight_decay != 0 || j->centered)) return EQP_E_OPTION;
    if (is_gradient(j->rule) && (j->centered || (j->state && j->rule == RULE_BPTT))) return EQP_E_OPTION;
    if ((j->rule == RULE_BPTT || j->rule == RULE_RECURRENT_BACKPROP) && j->n_nudged_steps < 1) return EQP_E_SIZE;
    if (j->rule == RULE_BPTT && j->n_nudged_steps > j->n_free_steps) return EQP_E_SIZE;
    if (j->optimizer != OPT_SGD && !j->velocity) return EQP_E_NULL;
    if (j->optimizer == OPT_ADAM && !j->second) return EQP_E_NULL;
    return EQP_OK;
}

/* Writes the scratch bytes that layered_train needs to job->scratch_size. */
int EQP_NAME(layered_train_scratch)(eqp_layered_job *j, int thread, int n_threads) {
    (void)thread;
    const int status = EQP_NAME(train_check)(j);
    if (status) return status;
    network net;
    batch_buffers b;
    arena a = {NULL, 0};
    train_plan(&net, &b, j, 0, n_threads, &a);
    j->scratch_size = a.used;
    return EQP_OK;
}

/* ---------------------------------------------------------------- contrast */

/* Whether the state itself is what layer k shows to the learning rule. */
static int shows_state(const network *net, int k) {
    return !net->euler || is_vector_field(net->job->rule) || (k == net->L && net->job->linear_output);
}

static void acting_row(const network *net, int k, const real *s, real *out) {
    const int act = k == net->L ? net->job->out_activation : net->job->activation;
    const int64_t np = net->np[k];
#define BODY(ACT) for (int64_t v = 0; v < np; v += VL) vstore(out + v, act_rho(ACT, vload(s + v)))
    EQP_SWITCH_ACT(act, BODY)
#undef BODY
    for (int64_t i = net->n[k]; i < np; i++) out[i] = 0;
}

/* Contrast rows of the thread's samples, from `from` to `to`; returns 1 if anything is non-finite. */
static int contrast_rows(const network *net, batch_buffers *b, int q, real *const *from, real *const *to) {
    vec check = vset(0);
    for (int k = 1; k <= net->L; k++) {
        const int64_t np = net->np[k];
        const int raw = shows_state(net, k);
        b->qa[k] = raw ? from[k] : b->acting[0][k];
        b->qb[k] = raw ? to[k] : b->acting[1][k];
        for (int i = 0; i < b->n_mine; i++) {
            const int s = b->mine[i];
            const int64_t at = s * np;
            if (!raw) {
                acting_row(net, k, from[k] + at, b->qa[k] + at);
                acting_row(net, k, to[k] + at, b->qb[k] + at);
            }
            const vec w = vset(b->weight[q][s]);
            for (int64_t v = 0; v < np; v += VL) {
                const vec up = vmul(w, vload(b->qb[k] + at + v)), down = vmul(vsub(vset(0), w), vload(b->qa[k] + at + v));
                const vec delta = vadd(up, down);
                if (k > 1) { /* only postsynaptic to an inner matrix */
                    vstore(b->up[k] + at + v, up);
                    vstore(b->down[k] + at + v, down);
                }
                vstore(b->delta[k] + at + v, delta);
                check = vfma(vset(0), delta, check); /* 0 * inf and 0 * nan are nan */
            }
        }
    }
    return !vequal(check, vset(0));
}

/* ---------------------------------------------------------------- update */

/* Sums over samples of delta, `n` columns from `delta` on. */
static void sum_rows(const real *delta, int64_t ld, int rows, int n, real *out) {
    for (int v = 0; v < n; v += VL) {
        vec sum = vset(0);
        for (int s = 0; s < rows; s++) sum = vadd(sum, vload(delta + s * ld + v));
        vstore(out + v, sum);
    }
}

/* The products whose sum is the contrast of weight[k], k > 0 (transposed: of back[k]); A is read down its columns. */
static int inner_products(const network *net, const batch_buffers *b, int k, int rows, int64_t i0, int64_t c0, int transposed, operand *op) {
    const int rule = net->job->rule;
    const int64_t below = net->np[k], above = net->np[k + 1];
    if (is_gradient(rule)) return EQP_NAME(gradient_products)(net, b, k, rows, i0, c0, transposed, op);
    if (is_vector_field(rule)) { /* presynaptic activity x change of the postsynaptic state, over the recorded steps */
        const int n = b->n_recorded * rows;
        op[0] = transposed ? (operand){b->pre[k + 1] + i0, b->change[k] + c0, 1, above, below, n}
                           : (operand){b->pre[k] + i0, b->change[k + 1] + c0, 1, below, above, n};
        return 1;
    }
    if (rule == RULE_CLAMPED_SWEEP) {
        op[0] = (operand){b->qa[k] + i0, b->delta[k + 1] + c0, 1, below, above, rows};
        return 1;
    }
    op[0] = (operand){b->qb[k] + i0, b->up[k + 1] + c0, 1, below, above, rows};
    op[1] = (operand){b->qa[k] + i0, b->down[k + 1] + c0, 1, below, above, rows};
    return 2;
}

/* Writes a tile of weight[k] (rows i0.., columns c0..) to its transpose as well. */
static void transpose_tile(const network *net, int k, int64_t i0, int mr, int64_t c0, int width, const real *tile) {
    const int64_t n_above = net->n[k + 1], valid = n_above - c0 < width ? n_above - c0 : width;
    for (int m = 0; m < mr; m++) {
        const int q = (int)((i0 + m) / PW), ld = panel_width(net->n[k], q);
        real *to = panel_at(net->back[k], n_above, q) + c0 * ld + (i0 + m - (int64_t)q * PW);
        for (int64_t i = 0; i < valid; i++) to[i * ld] = tile[m * width + i];
    }
}

/* Steps one packed matrix (n_rows x n_cols, panels) with its moments, and the transpose of a symmetric one: thread's tiles. */
static void update_panels(const network *net, const batch_buffers *b, int k, int rows, int transposed, real *w, real *velocity,
                          real *second, const stepper *o, int thread) {
    const int n_cols = net->n[transposed ? k : k + 1], n_rows = net->n[transposed ? k + 1 : k], blocks = row_blocks(n_rows);
    const int64_t tiles = (int64_t)n_panels(n_cols) * blocks;
    static const real zeros[PW];
    real gradient[MR_MAX * PW];
    for (int64_t t = share(tiles, thread, net->n_threads); t < share(tiles, thread + 1, net->n_threads); t++) {
        const int p = (int)(t / blocks), block = (int)(t % blocks), width = panel_width(n_cols, p);
        const int64_t c0 = (int64_t)p * PW, base = c0 * n_rows;
        const int i0 = row_start(n_rows, block), mr = row_start(n_rows, block + 1) - i0;
        operand op[2];
        const int n_op = inner_products(net, b, k, rows, i0, c0, transposed, op);
        gemm_tile(mr, width, zeros, 0, gradient, PW, op, n_op);
        for (int m = 0; m < mr; m++)
            for (int v = 0; v < width; v += VL) {
                const int64_t at = base + (int64_t)(i0 + m) * width + v;
                vstore(w + at, vsteps(o, vload(w + at), vload(gradient + m * PW + v), velocity + at, second + at));
            }
        if (!net->job->back) transpose_tile(net, k, i0, mr, c0, width, w + base + (int64_t)i0 * width);
    }
}

/* weight[k], k > 0, its transpose if it is symmetric, and its bias: thread's share. */
void EQP_NAME(update_inner)(const network *net, batch_buffers *b, int k, int rows, const stepper *o, const stepper *ob, int thread) {
    update_panels(net, b, k, rows, 0, net->w[k], net->velocity[k], net->second[k], o, thread);
    const int panels = n_panels(net->n[k + 1]);
    const int continual = net->job->rule == RULE_CONTINUAL_VECTOR_FIELD; /* called at every step: this step's changes */
    real sum[PW];
    for (int p = (int)share(panels, thread, net->n_threads); p < share(panels, thread + 1, net->n_threads); p++) {
        const int width = panel_width(net->n[k + 1], p);
        sum_rows((continual ? b->change[k + 1] : b->delta[k + 1]) + (int64_t)p * PW, net->np[k + 1], rows, width, sum);
        update_bias(net, k, (int64_t)p * PW, width, sum, ob);
    }
}

/* back[k] where it learns: thread's panels. */
void EQP_NAME(update_back)(const network *net, batch_buffers *b, int k, int rows, const stepper *o, int thread) {
    const int slot = 2 * net->L + k;
    update_panels(net, b, k, rows, 1, net->back[k], net->velocity[slot], net->second[slot], o, thread);
}

stepper EQP_NAME(make_stepper)(const eqp_layered_job *j, double rate, double decay, double scale, int64_t batches_done) {
    const double t = (double)(j->adam_step + batches_done + 1);
    const int adam = j->optimizer == OPT_ADAM;
    const double c1 = adam ? 1 - pow(j->beta1, t) : 1, c2 = adam ? sqrt(1 - pow(j->beta2, t)) : 1;
    return (stepper){j->optimizer, (real)scale, (real)(adam ? rate * c2 / c1 : rate), (real)decay, (real)j->momentum,
                     (real)j->beta1, (real)j->beta2, (real)(adam ? j->epsilon * c2 : 0)};
}

/* ---------------------------------------------------------------- the training kernel */

static void score_row(const network *net, batch_buffers *b, int q, int s) {
    const int n = net->n[net->L];
    const real *out = b->free[net->L] + s * net->np[net->L], *y = b->y[q] + s * net->np[net->L];
    int best = 0, target = 0;
    double cost = 0, sum = 0;
    for (int i = 1; i < n; i++) {
        if (out[i] > out[best]) best = i;
        if (y[i] > y[target]) target = i;
    }
    if (net->job->cost == 1) {
        for (int i = 0; i < n; i++) sum += exp((double)(out[i] - out[best]));
        for (int i = 0; i < n; i++) cost -= (double)y[i] * ((double)(out[i] - out[best]) - log(sum));
        cost *= net->job->cost_factor;
    } else {
        for (int i = 0; i < n; i++) cost += 0.5 * net->job->cost_factor * (double)(out[i] - y[i]) * (double)(out[i] - y[i]);
    }
    b->cost[s] = cost * (double)b->weight[q][s];
    b->right[s] = best == target;
}

/* The thread's samples start where their rows' particles are. */
static void load_particles(const network *net, const batch_buffers *b, int64_t number, int lo, int hi) {
    const eqp_layered_job *j = net->job;
    for (int k = 1; k <= net->L; k++)
        for (int s = lo; s < hi; s++)
            EQP_NAME(copy_row)(b->free[k] + s * net->np[k], (const real *)j->state[k - 1] + j->order[number * b->B + s] * net->n[k],
                               net->n[k], net->np[k]);
}

/* The free states become the particles of the batch's rows. A row may be there more than once, and the last one counts: so
 * the threads share the units, not the samples. */
static void save_particles(const network *net, const batch_buffers *b, int64_t number, int rows, int thread) {
    const eqp_layered_job *j = net->job;
    for (int k = 1; k <= net->L; k++) {
        const int64_t n = net->n[k], lo = share(n, thread, net->n_threads), hi = share(n, thread + 1, net->n_threads);
        for (int s = 0; s < rows; s++)
            memcpy((real *)j->state[k - 1] + j->order[number * b->B + s] * n + lo, b->free[k] + s * net->np[k] + lo, (size_t)(hi - lo) * sizeof(real));
    }
}

/* Relaxes the batch (thread's samples, or all of them by columns). */
static void relax_batch(network *net, batch_buffers *b, int q, int rows, int lo, int hi, int thread, real **init, real **out,
                        double beta, int n_steps, double tol, int order, int hold_output, int32_t *steps) {
    const int first = b->by_sample ? lo : 0, count = b->by_sample ? hi - lo : rows;
    real *from[EQP_MAX_WEIGHTS + 1], *to[EQP_MAX_WEIGHTS + 1];
    for (int k = 1; k <= net->L; k++) {
        from[k] = init ? init[k] + first * net->np[k] : NULL;
        to[k] = out[k] + first * net->np[k];
    }
    const relaxation r = {count, b->drive + first * net->np[1], beta != 0 ? b->y[q] + first * net->np[net->L] : NULL,
                          init ? from : NULL, to, beta, tol, n_steps, order, hold_output, steps + first, NULL};
    EQP_NAME(relax)(net, &net->mine, b->by_sample ? 0 : thread, b->by_sample ? 1 : net->n_threads, &r);
}

/* Nudged, clamped or swept: the second phase of the rules whose samples do not meet. */
static void second_phase(network *net, batch_buffers *b, const phase *p, int thread) {
    const eqp_layered_job *j = net->job;
    const int L = net->L, held = j->rule == RULE_CLAMPED_SWEEP || j->rule == RULE_CONTRASTIVE || j->rule == RULE_COUPLED;
    real **start = b->free;
    if (held) { /* the output is put at, or towards, the target and stays there */
        const real pull = (real)(j->rule == RULE_COUPLED ? p->beta : 1);
        start = b->end[p->e];
        for (int s = p->lo; s < p->hi; s++) {
            for (int k = 1; k <= L; k++)
                memcpy(start[k] + s * net->np[k], b->free[k] + s * net->np[k], (size_t)net->np[k] * sizeof(real));
            real *out = start[L] + s * net->np[L];
            const real *y = b->y[p->q] + s * net->np[L];
            for (int i = 0; i < net->n[L]; i++) out[i] = j->rule == RULE_CLAMPED_SWEEP ? y[i] : out[i] + pull * (y[i] - out[i]);
        }
        if (!b->by_sample) eqp_wait(j->barrier, net->n_threads);
    }
    relax_batch(net, b, p->q, p->rows, p->lo, p->hi, thread, start, b->end[p->e], held ? 0 : p->beta, j->n_nudged_steps,
                j->tol_nudged, j->rule == RULE_CLAMPED_SWEEP ? VISIT_DOWNWARDS : j->schedule, held, b->steps[1 + p->e]);
}

/* A batch without weight has no second phase: samples lo..hi end it where they began, after no steps. */
static void stay_free(const network *net, batch_buffers *b, int lo, int hi) {
    for (int e = 0; e < 2; e++) {
        for (int k = 1; k <= net->L; k++)
            memcpy(b->end[e][k] + lo * net->np[k], b->free[k] + lo * net->np[k], (size_t)((hi - lo) * net->np[k]) * sizeof(real));
        for (int s = lo; s < hi; s++) b->steps[1 + e][s] = 0;
    }
}

/* Both phases of a narrow net (narrow.c), each sample through all of them, whichever thread is free for it. */
static void relax_queued(network *net, batch_buffers *b, int64_t number, double beta, int learns, int thread) {
    const eqp_layered_job *j = net->job;
    const int q = (int)(number & 1), rows = batch_rows(b, j, number);
    const real *y = b->y[q];
    const relaxation phases[] = {
        {rows, b->drive, NULL, NULL, b->free, 0, j->tol_free, j->n_free_steps, VISIT_SYNCHRONOUS, 0, b->steps[0], NULL},
        {rows, b->drive, y, b->free, b->end[0], beta, j->tol_nudged, j->n_nudged_steps, VISIT_SYNCHRONOUS, 0, b->steps[1], NULL},
        {rows, b->drive, y, b->free, b->end[1], -beta, j->tol_nudged, j->n_nudged_steps, VISIT_SYNCHRONOUS, 0, b->steps[2], NULL}};
    const sample_queue queue = {b->queue[q], rows, thread, net->n_threads};
    const int n_phases = learns ? j->centered ? 3 : 2 : 1;
    b->n_mine = EQP_NAME(relax_narrow)(net, &net->mine, phases, n_phases, &queue, b->mine);
    if (!learns)
        for (int i = 0; i < b->n_mine; i++) stay_free(net, b, b->mine[i], b->mine[i] + 1);
}

/* Free and second phases of any other net or rule, with the thread's share of the samples. */
static void relax_shares(network *net, batch_buffers *b, const phase *first, int thread) {
    const eqp_layered_job *j = net->job;
    const int lo = first->lo, hi = first->hi;
    const int recorded = j->rule == RULE_BPTT ? j->n_nudged_steps : 0; /* the last free steps are left to reverse_phase */
    eqp_layered_job longer = *j;
    network hasty = *net;
    longer.dt *= j->over_relaxation;
    hasty.job = &longer;
    hasty.plain = net->plain && j->over_relaxation == 1;
    relax_batch(&hasty, b, first->q, first->rows, lo, hi, thread, j->state ? b->free : NULL, b->free, 0,
                j->n_free_steps - recorded, j->tol_free, j->rule == RULE_CLAMPED_SWEEP ? VISIT_UPWARDS : j->schedule, 0, b->steps[0]);
    if (is_gradient(j->rule)) EQP_NAME(reverse_phase)(net, b, first, thread);
    else if (!(first->total > 0)) stay_free(net, b, lo, hi);
    for (int e = 0; !is_gradient(j->rule) && first->total > 0 && e < (j->centered ? 2 : 1); e++) {
        phase p = *first;
        p.e = e;
        if (e) p.beta = -p.beta;
        if (is_stepwise(j->rule)) EQP_NAME(nudged_stepwise)(net, b, &p, thread);
        else second_phase(net, b, &p, thread);
    }
    b->n_mine = 0;
    for (int s = lo; s < hi; s++) b->mine[b->n_mine++] = s;
}

int EQP_NAME(layered_train)(eqp_layered_job *j, int thread, int n_threads) {
    const int status = EQP_NAME(train_check)(j);
    if (status) return status;
    if (!j->scratch || !j->barrier) return EQP_E_NULL;
    network net;
    batch_buffers b;
    arena count = {NULL, 0}, a = {j->scratch, 0};
    train_plan(&net, &b, j, thread, n_threads, &count);
    if (count.used > j->scratch_size) return EQP_E_SCRATCH;
    train_plan(&net, &b, j, thread, n_threads, &a);
    const int L = net.L;
    int result = EQP_OK;
    int64_t done = 0;

    EQP_NAME(network_pack)(&net, thread);
    b.diverged[thread] = 0;
    b.queue[0][thread * LANES] = 0;
    EQP_NAME(build_batch)(&net, &b, 0, thread);
    eqp_wait(j->barrier, n_threads);
    EQP_NAME(input_pass)(&net, &b, -1, 0, NULL, NULL, thread);
    eqp_wait(j->barrier, n_threads);
    for (int64_t number = 0; number < b.n_batches; number++) {
        const int q = (int)(number & 1), rows = batch_rows(&b, j, number);
        const int lo = (int)share(rows, thread, n_threads), hi = (int)share(rows, thread + 1, n_threads);
        const double beta = j->beta * (j->sign ? j->sign[number] : 1);
        if (is_gradient(j->rule) && j->back) {
            EQP_NAME(gradient_pack)(&net, &b, thread);
            eqp_wait(j->barrier, n_threads);
        }
        double total = 0;
        for (int s = 0; s < rows; s++) total += (double)b.weight[q][s];
        const int whole = j->rule == RULE_CLAMPED_SWEEP || j->rule == RULE_CONTRASTIVE || is_gradient(j->rule);
        const double span = whole ? 1 : (j->centered ? 2 : 1) * beta, scale = total > 0 ? 1 / (span * total) : 0;
        if (net.narrow && j->rule == RULE_EP && j->schedule == VISIT_SYNCHRONOUS && !j->state) {
            relax_queued(&net, &b, number, beta, total > 0, thread);
        } else {
            const phase p = {q, 0, rows, lo, hi, beta, total, scale};
            if (j->state) load_particles(&net, &b, number, lo, hi);
            if (j->state && !b.by_sample) eqp_wait(j->barrier, n_threads); /* columns are relaxed for all samples */
            relax_shares(&net, &b, &p, thread);
        }
        int64_t steps[2] = {0, 0};
        for (int i = 0; i < b.n_mine; i++) {
            const int s = b.mine[i];
            score_row(&net, &b, q, s);
            steps[0] += b.steps[0][s];
            steps[1] += b.steps[1][s] + (j->centered ? b.steps[2][s] : 0);
        }
        if (!is_gradient(j->rule))
            b.diverged[thread] |= contrast_rows(&net, &b, q, j->centered ? b.end[1] : b.free, b.end[0]);
        if (number + 1 < b.n_batches) EQP_NAME(build_batch)(&net, &b, number + 1, thread);
        b.queue[!q][thread * LANES] = 0; /* nobody takes from it before the next barrier */
        for (int e = 0; e < 2; e++) __atomic_fetch_add(&j->counts[e], steps[e], __ATOMIC_RELAXED);
        eqp_wait(j->barrier, n_threads);

        for (int t = 0; t < n_threads; t++)
            if (b.diverged[t]) result = result == EQP_E_DIVERGED || b.diverged[t] & 1 ? EQP_E_DIVERGED : EQP_E_SINGULAR;
        if (j->state && result != EQP_E_DIVERGED) save_particles(&net, &b, number, rows, thread);
        if (result) break;
        if (thread == 0)
            for (int s = 0; s < rows; s++) {
                j->loss[0] += b.cost[s];
                j->loss[1] += b.right[s];
            }
        done++;
        const int64_t next = number + 1 < b.n_batches ? number + 1 : -1;
        /* the vector field's sum over no steps is no estimate: nothing moves, by decay or momentum either */
        const int learns = total > 0 && !(j->rule == RULE_VECTOR_FIELD && j->n_nudged_steps == 0);
        for (int k = 0; k < L; k++) {
            const stepper o = EQP_NAME(make_stepper)(j, j->rate[k], j->weight_decay, scale, number);
            const stepper ob = EQP_NAME(make_stepper)(j, j->bias_rate[k], 0, scale, number);
            if (k == 0) EQP_NAME(input_pass)(&net, &b, number, next, learns ? &o : NULL, &ob, thread);
            else if (learns) {
                if (j->rule != RULE_CONTINUAL_VECTOR_FIELD) EQP_NAME(update_inner)(&net, &b, k, rows, &o, &ob, thread);
                if (j->rule == RULE_VECTOR_FIELD || (is_gradient(j->rule) && j->back))
                    EQP_NAME(update_back)(&net, &b, k, rows, &o, thread);
            }
        }
        eqp_wait(j->barrier, n_threads);
    }
    EQP_NAME(network_unpack)(&net, thread);
    if (thread == 0) {
        j->counts[2] += j->n_rows < done * b.B ? j->n_rows : done * b.B;
        j->counts[3] += done;
    }
    return result;
}
