/* train.c - learning of layered networks: free phase, nudged phase(s), contrast, update; many batches in one call.
 *
 * Work of a batch, split over threads (see docs/architecture.md):
 *   columns of weight[0]     drive and update: a thread's share of the largest matrix never leaves its cache
 *   samples, or columns      relaxation: by samples when the inner weights are small enough to sit in every core's
 *                            cache, else by columns with a barrier a step
 *   panels of weight[k > 0]  update
 * Sums run in sample order whatever the split: results are bit-equal for any number of threads.
 */
#include "rules.h"

#define DENSE_SHARE 0.4                 /* share of nonzero inputs above which the dense path is faster */

/* Dense or sparse input path: judged on the first rows, the same for every thread; both give the same bits. Not so the
 * input products of continual.c, which are therefore always made the sparse way: a job may be any part of an epoch.
 */
static int inputs_are_dense(const eqp_layered_job *j) {
    if (j->indptr || !j->x || j->rule == RULE_CONTINUAL || j->rule == RULE_CONTINUAL_VECTOR_FIELD) return 0;
    const int64_t rows = j->n_rows < 64 ? j->n_rows : 64, n0 = j->size[0];
    int64_t nonzero = 0;
    for (int64_t m = 0; m < rows; m++) {
        const real *x = (const real *)j->x + (j->order ? j->order[m] : m) * n0;
        for (int64_t i = 0; i < n0; i++) nonzero += x[i] != 0;
    }
    return (double)nonzero > DENSE_SHARE * (double)(rows * n0);
}

static void train_plan(network *net, batch_buffers *b, const eqp_layered_job *j, int thread, int n_threads, arena *a) {
    const int B = j->batch_size, L = j->n_weights;
    b->B = B;
    const int mine = (B + n_threads - 1) / n_threads; /* most samples of a thread */
    b->groups = (mine + 31) / 32;
    b->by_sample = n_threads == 1 || inner_bytes(j) <= SAMPLE_SPLIT_BYTES;
    b->n_batches = (j->n_rows + B - 1) / B;
    b->xt_ld = mine;
    b->xt_share = pad_up(j->size[0] * (int64_t)mine);
    EQP_NAME(network_plan)(net, j, thread, n_threads, b->by_sample ? n_threads : 1,
                           b->by_sample ? (B + n_threads - 1) / n_threads : B, a);
    const int64_t n0 = net->n[0];
    b->drive = TAKE_REALS(a, B * net->np[1]);
    for (int q = 0; q < 2; q++) {
        b->y[q] = TAKE_REALS(a, B * net->np[L]);
        b->weight[q] = TAKE_REALS(a, B);
        b->index[q] = take(a, B * (n0 + LANES), sizeof(int32_t));
        b->value[q] = TAKE_REALS(a, B * (n0 + LANES));
        b->nnz[q] = take(a, B, sizeof(int64_t));
        b->mask[q] = take(a, (int64_t)n_threads * b->groups * n0, sizeof(uint32_t));
        b->xt[q] = TAKE_REALS(a, n_threads * b->xt_share);
        b->xd[q] = TAKE_REALS(a, B * net->np[0]);
        b->steps[q] = take(a, B, sizeof(int32_t));
    }
    for (int k = 1; k <= L; k++) {
        real **arrays[] = {&b->free[k], &b->end[0][k], &b->end[1][k], &b->qa[k], &b->qb[k], &b->up[k], &b->down[k], &b->delta[k]};
        for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) *arrays[i] = TAKE_REALS(a, B * net->np[k]);
    }
    if (is_stepwise(j->rule)) {
        EQP_NAME(team_plan)(net, &b->shared, B, 1, a);
        b->dense_row = TAKE_REALS(a, n_threads * net->np[0]);
        b->gram_x = TAKE_REALS(a, (int64_t)B * B);
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
    if (j->rule < 0 || j->rule >= N_RULES || (j->beta == 0 && !is_gradient(j->rule)) || j->optimizer < 0 || j->optimizer >= N_OPTIMIZERS) return EQP_E_OPTION;
    if (is_vector_field(j->rule) && !j->back) return EQP_E_NULL;
    if ((j->rule == RULE_CONTINUAL || j->rule == RULE_CONTINUAL_VECTOR_FIELD) &&
        (j->optimizer != OPT_SGD || j->weight_decay != 0 || j->centered)) return EQP_E_OPTION;
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

static int batch_rows(const batch_buffers *b, const eqp_layered_job *j, int64_t number) {
    const int64_t left = j->n_rows - number * b->B;
    return (int)(left < b->B ? left : b->B);
}

/* ---------------------------------------------------------------- a batch's data */

/* Inputs, targets and weights of the thread's samples of batch `number`. */
static void build_batch(const network *net, batch_buffers *b, int64_t number, int thread, int n_threads) {
    const eqp_layered_job *j = net->job;
    const int q = (int)(number & 1), L = net->L, rows = batch_rows(b, j, number);
    const int64_t n0 = net->n[0], cap = n0 + LANES;
    uint32_t *mask = b->mask[q] + (int64_t)thread * b->groups * n0;
    if (!b->dense) memset(mask, 0, (size_t)(b->groups * n0) * sizeof *mask);
    const int lo = (int)share(rows, thread, n_threads), hi = (int)share(rows, thread + 1, n_threads);
    real *xt = b->xt[q] + thread * b->xt_share;
    for (int s = lo; s < hi; s++) {
        const int64_t row = j->order[number * b->B + s];
        EQP_NAME(copy_row)(b->y[q] + s * net->np[L], (const real *)j->y + row * net->n[L], net->n[L], net->np[L]);
        b->weight[q][s] = j->row_weight ? ((const real *)j->row_weight)[row] : 1;
        int32_t *index = b->index[q] + s * cap;
        real *value = b->value[q] + s * cap;
        if (b->dense) {
            real *x = b->xd[q] + s * net->np[0];
            EQP_NAME(copy_row)(x, (const real *)j->x + row * n0, n0, net->np[0]);
            if (j->input_activation != ACT_IDENTITY) {
                const vec offset = vset(net->input_offset);
#define BODY(ACT) for (int64_t i = 0; i < net->np[0]; i += VL) vstore(x + i, vsub(act_rho(ACT, vload(x + i)), offset))
                EQP_SWITCH_ACT(j->input_activation, BODY)
#undef BODY
            }
            continue;
        }
        const int64_t nnz = EQP_NAME(input_row)(net, row, index, value);
        b->nnz[q][s] = nnz;
        uint32_t *group = mask + ((s - lo) / 32) * n0;
        const uint32_t bit = 1u << ((s - lo) % 32);
        for (int64_t e = 0; e < nnz; e++) {
            group[index[e]] |= bit;
            xt[index[e] * b->xt_ld + s - lo] = value[e];
        }
    }
}

/* Drive of all samples of the batch, thread's chunks of columns. */
static void drive_batch(const network *net, const batch_buffers *b, int q, int rows, int thread, int n_threads) {
    const int64_t cap = net->n[0] + LANES;
    for (int c = (int)share(net->n_chunks, thread, n_threads); c < share(net->n_chunks, thread + 1, n_threads); c++) {
        if (!b->dense) {
            for (int s = 0; s < rows; s++)
                EQP_NAME(drive_sparse)(net, c, b->index[q] + s * cap, b->value[q] + s * cap, b->nnz[q][s], b->drive + s * net->np[1]);
            continue;
        }
        const int64_t width = chunk_width(net, c), first = c * net->chunk;
        real start[PW];
        const vec offset = vset(net->input_offset);
        for (int64_t col = 0; col < width; col += PW) {
            const int w = (int)(width - col < PW ? width - col : PW);
            for (int v = 0; v < w; v += VL) {
                const vec bias = vload(net->bias[0] + first + col + v);
                vstore(start + v, net->input_offset == 0 ? bias : vfma(offset, vload(net->input_colsum + first + col + v), bias));
            }
            for (int i = 0; i < row_blocks(rows); i++) {
                const int m0 = row_start(rows, i);
                const operand op = {b->xd[q] + m0 * net->np[0], chunk_at(net, net->w[0], c) + col, net->np[0], 1, width, net->n[0]};
                gemm_tile(row_start(rows, i + 1) - m0, w, start, 0, b->drive + m0 * net->np[1] + first + col, net->np[1], &op, 1);
            }
        }
    }
}

/* ---------------------------------------------------------------- contrast */

/* What layer k shows to the learning rule. */
void EQP_NAME(acting_row)(const network *net, int k, const real *s, real *out) {
    const int is_out = k == net->L, act = is_out ? net->job->out_activation : net->job->activation;
    const int64_t np = net->np[k];
    if (!net->euler || (is_out && net->job->linear_output)) {
        memcpy(out, s, (size_t)np * sizeof(real));
        return;
    }
#define BODY(ACT) for (int64_t v = 0; v < np; v += VL) vstore(out + v, act_rho(ACT, vload(s + v)))
    EQP_SWITCH_ACT(act, BODY)
#undef BODY
    for (int64_t i = net->n[k]; i < np; i++) out[i] = 0;
}

/* Contrast rows of the thread's samples, from `from` to `to`; returns 1 if anything is non-finite. */
static int contrast_rows(const network *net, batch_buffers *b, int q, real *const *from, real *const *to, int lo, int hi) {
    vec check = vset(0);
    for (int k = 1; k <= net->L; k++) {
        const int64_t np = net->np[k];
        for (int s = lo; s < hi; s++) {
            const int64_t at = s * np;
            const vec w = vset(b->weight[q][s]);
            if (is_vector_field(net->job->rule)) {
                memcpy(b->qa[k] + at, from[k] + at, (size_t)np * sizeof(real));
                memcpy(b->qb[k] + at, to[k] + at, (size_t)np * sizeof(real));
            } else {
                EQP_NAME(acting_row)(net, k, from[k] + at, b->qa[k] + at);
                EQP_NAME(acting_row)(net, k, to[k] + at, b->qb[k] + at);
            }
            for (int64_t v = 0; v < np; v += VL) {
                const vec up = vmul(w, vload(b->qb[k] + at + v)), down = vmul(vsub(vset(0), w), vload(b->qa[k] + at + v));
                const vec delta = vadd(up, down);
                vstore(b->up[k] + at + v, up);
                vstore(b->down[k] + at + v, down);
                vstore(b->delta[k] + at + v, delta);
                check = vfma(vset(0), delta, check); /* 0 * inf and 0 * nan are nan */
            }
        }
    }
    real lanes[VL];
    vstore(lanes, check);
    for (int i = 0; i < VL; i++)
        if (!(lanes[i] == 0)) return 1;
    return 0;
}

/* ---------------------------------------------------------------- update */

#define UPDATE_VECS (N_VREGS >= 32 ? 16 : 8)

/* Rows i of weight[0], NV vectors of columns: gradient of the batch's samples, then the optimiser's step. */
EQP_INLINE void update_input_body(const int NV, const network *net, const batch_buffers *b, int q, int rows, const stepper *o,
                                  const real *delta, const real *shared, int64_t base, int64_t width, real *colsum) {
    const int64_t n0 = net->n[0], np1 = net->np[1];
    const int nt = net->n_threads, every = o->kind != OPT_SGD || o->decay != 0 || net->input_offset != 0;
    const uint32_t *mask = b->mask[q];
    vec sum[UPDATE_VECS];
#pragma GCC unroll 16
    for (int v = 0; v < NV; v++) sum[v] = vset(0);
    for (int64_t i = 0; i < n0; i++) {
        vec acc[UPDATE_VECS];
#pragma GCC unroll 16
        for (int v = 0; v < NV; v++) acc[v] = vload(shared + v * VL);
        uint32_t any = 0;
        for (int t = 0; t < nt; t++) { /* threads' samples in turn: the order of the samples */
            const real *xt = b->xt[q] + t * b->xt_share + i * b->xt_ld;
            const real *first = delta + share(rows, t, nt) * np1;
            for (int g = 0; g < b->groups; g++) {
                uint32_t m = mask[((int64_t)t * b->groups + g) * n0 + i];
                any |= m;
                for (; m; m &= m - 1) {
                    const int s = g * 32 + __builtin_ctz(m);
                    const vec x = vset(xt[s]);
                    const real *d = first + s * np1;
#pragma GCC unroll 16
                    for (int v = 0; v < NV; v++) acc[v] = vfma(x, vload(d + v * VL), acc[v]);
                }
            }
        }
        if (!any && !every) continue;
        const int64_t at = base + i * width;
#pragma GCC unroll 16
        for (int v = 0; v < NV; v++) {
            real *w = net->w[0] + at + v * VL;
            const vec moved = vsteps(o, vload(w), acc[v], net->velocity[0] + at + v * VL, net->second[0] + at + v * VL);
            vstore(w, moved);
            if (net->input_offset != 0) sum[v] = vadd(sum[v], moved);
        }
    }
    if (net->input_offset != 0)
#pragma GCC unroll 16
        for (int v = 0; v < NV; v++) vstore(colsum + v * VL, sum[v]);
}

/* The same for dense inputs, by register tiles; `col` is the first column within the chunk. */
static void update_input_dense(const network *net, const batch_buffers *b, int q, const stepper *o, int rows,
                               const real *delta, const real *shared, int64_t base, int64_t width, int w, real *colsum) {
    const int n0 = net->n[0];
    real gradient[MR_MAX * PW], sum[PW] = {0};
    for (int t = 0; t < row_blocks(n0); t++) {
        const int i0 = row_start(n0, t), mr = row_start(n0, t + 1) - i0;
        const operand op = {b->xd[q] + i0, delta, 1, net->np[0], net->np[1], rows};
        gemm_tile(mr, w, shared, 0, gradient, PW, &op, 1);
        for (int m = 0; m < mr; m++)
            for (int v = 0; v < w; v += VL) {
                const int64_t at = base + (i0 + m) * width + v;
                const vec moved = vsteps(o, vload(net->w[0] + at), vload(gradient + m * PW + v), net->velocity[0] + at, net->second[0] + at);
                vstore(net->w[0] + at, moved);
                vstore(sum + v, vadd(vload(sum + v), moved));
            }
    }
    if (net->input_offset != 0) memcpy(colsum, sum, (size_t)w * sizeof(real));
}

/* Sums over samples of delta, `n` columns from `delta` on. */
static void sum_rows(const real *delta, int64_t ld, int rows, int n, real *out) {
    for (int v = 0; v < n; v += VL) {
        vec sum = vset(0);
        for (int s = 0; s < rows; s++) sum = vadd(sum, vload(delta + s * ld + v));
        vstore(out + v, sum);
    }
}

static void update_bias(const network *net, int k, int64_t first, int n, const real *sum, const stepper *o) {
    for (int v = 0; v < n; v += VL) {
        real *bias = net->bias[k] + first + v;
        vstore(bias, vsteps(o, vload(bias), vload(sum + v), net->velocity[net->L + k] + first + v, net->second[net->L + k] + first + v));
    }
}

static void update_input(const network *net, batch_buffers *b, int q, int rows, const stepper *o, const stepper *ob, int thread) {
    for (int c = (int)share(net->n_chunks, thread, net->n_threads); c < share(net->n_chunks, thread + 1, net->n_threads); c++) {
        const int64_t width = chunk_width(net, c), first = c * net->chunk;
        real sum[256], shared[256];
        sum_rows(b->delta[1] + first, net->np[1], rows, (int)width, sum);
        for (int64_t v = 0; v < width; v += VL) vstore(shared + v, vmul(vset(net->input_offset), vload(sum + v)));
        const int64_t base = c * net->chunk * net->n[0];
        int64_t col = 0;
        if (b->dense)
            for (; col < width; col += PW)
                update_input_dense(net, b, q, o, rows, b->delta[1] + first + col, shared + col, base + col, width,
                                   (int)(width - col < PW ? width - col : PW), net->input_colsum + first + col);
#define BLOCK(NV)                                                                                                    \
    for (; (NV) <= UPDATE_VECS && col + (NV) * VL <= width; col += (NV) * VL)                                        \
        update_input_body((NV) <= UPDATE_VECS ? (NV) : 1, net, b, q, rows, o, b->delta[1] + first + col, shared + col,     \
                          base + col, width, net->input_colsum + first + col);
        BLOCK(16) BLOCK(8) BLOCK(4) BLOCK(2) BLOCK(1)
#undef BLOCK
        update_bias(net, 0, first, (int)width, sum, ob);
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

/* Steps one packed matrix (n_rows x n_cols, panels) with its moments: thread's panels. */
static void update_panels(const network *net, const batch_buffers *b, int k, int rows, int transposed, real *w, real *velocity,
                          real *second, const stepper *o, int thread) {
    const int n_cols = net->n[transposed ? k : k + 1], n_rows = net->n[transposed ? k + 1 : k], panels = n_panels(n_cols);
    static const real zeros[PW];
    real gradient[MR_MAX * PW];
    for (int p = (int)share(panels, thread, net->n_threads); p < share(panels, thread + 1, net->n_threads); p++) {
        const int width = panel_width(n_cols, p);
        const int64_t c0 = (int64_t)p * PW, base = c0 * n_rows;
        for (int t = 0; t < row_blocks(n_rows); t++) {
            const int i0 = row_start(n_rows, t), mr = row_start(n_rows, t + 1) - i0;
            operand op[2];
            const int n_op = inner_products(net, b, k, rows, i0, c0, transposed, op);
            gemm_tile(mr, width, zeros, 0, gradient, PW, op, n_op);
            for (int m = 0; m < mr; m++)
                for (int v = 0; v < width; v += VL) {
                    const int64_t at = base + (int64_t)(i0 + m) * width + v;
                    vstore(w + at, vsteps(o, vload(w + at), vload(gradient + m * PW + v), velocity + at, second + at));
                }
        }
    }
}

/* weight[k], k > 0, and its bias: thread's forward panels. */
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
    const double c1 = 1 - pow(j->beta1, t), c2 = sqrt(1 - pow(j->beta2, t));
    const int adam = j->optimizer == OPT_ADAM;
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
    } else {
        for (int i = 0; i < n; i++) cost += 0.5 * net->job->cost_factor * (double)(out[i] - y[i]) * (double)(out[i] - y[i]);
    }
    b->cost[s] = cost * (double)b->weight[q][s];
    b->right[s] = best == target;
}

static void particles(const network *net, batch_buffers *b, int64_t number, int lo, int hi, int save) {
    const eqp_layered_job *j = net->job;
    for (int k = 1; k <= net->L; k++)
        for (int s = lo; s < hi; s++) {
            real *kept = (real *)j->state[k - 1] + j->order[number * b->B + s] * net->n[k], *mine = b->free[k] + s * net->np[k];
            if (save) memcpy(kept, mine, (size_t)net->n[k] * sizeof(real));
            else EQP_NAME(copy_row)(mine, kept, net->n[k], net->np[k]);
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

/* Nudged, clamped or swept: the second phase of the rules whose samples do not meet. Returns sample-steps. */
static int64_t second_phase(network *net, batch_buffers *b, const phase *p, int thread) {
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
                j->tol_nudged, j->rule == RULE_CLAMPED_SWEEP ? VISIT_DOWNWARDS : j->schedule, held, b->steps[1]);
    int64_t steps = 0;
    for (int s = p->lo; s < p->hi; s++) steps += b->steps[1][s];
    return steps;
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
    b.dense = inputs_are_dense(j);
    const int L = net.L;
    int result = EQP_OK;
    int64_t done = 0;

    EQP_NAME(network_pack)(&net, thread);
    b.diverged[thread] = 0;
    build_batch(&net, &b, 0, thread, n_threads);
    eqp_wait(j->barrier, n_threads);
    for (int64_t number = 0; number < b.n_batches; number++) {
        const int q = (int)(number & 1), rows = batch_rows(&b, j, number);
        const int lo = (int)share(rows, thread, n_threads), hi = (int)share(rows, thread + 1, n_threads);
        const double beta = j->beta * (j->sign ? j->sign[number] : 1);
        if (j->state) particles(&net, &b, number, lo, hi, 0);
        if (is_gradient(j->rule) && j->back) EQP_NAME(gradient_pack)(&net, &b, thread);
        drive_batch(&net, &b, q, rows, thread, n_threads);
        eqp_wait(j->barrier, n_threads);

        const int sweep = j->rule == RULE_CLAMPED_SWEEP;
        const int recorded = j->rule == RULE_BPTT ? j->n_nudged_steps : 0; /* the last steps of the free phase */
        relax_batch(&net, &b, q, rows, lo, hi, thread, j->state ? b.free : NULL, b.free, 0, j->n_free_steps - recorded,
                    j->tol_free, sweep ? VISIT_UPWARDS : j->schedule, 0, b.steps[0]);
        if (recorded) EQP_NAME(record_steps)(&net, &b, rows, lo, hi);
        for (int s = lo; s < hi; s++) score_row(&net, &b, q, s);
        if (j->state) particles(&net, &b, number, lo, hi, 1);
        double total = 0;
        for (int s = 0; s < rows; s++) total += (double)b.weight[q][s];
        const double span = sweep || j->rule == RULE_CONTRASTIVE || is_gradient(j->rule) ? 1 : (j->centered ? 2 : 1) * beta;
        const double scale = total > 0 ? 1 / (span * total) : 0;
        int64_t freed = (int64_t)(hi - lo) * recorded, nudged = 0;
        for (int s = lo; s < hi; s++) freed += b.steps[0][s];
        for (int e = 0; e < (j->centered ? 2 : 1); e++) {
            const phase p = {q, e, rows, lo, hi, e ? -beta : beta, total, scale};
            if (is_gradient(j->rule)) nudged += EQP_NAME(reverse_phase)(&net, &b, &p, thread);
            else if (is_stepwise(j->rule)) nudged += EQP_NAME(nudged_stepwise)(&net, &b, &p, thread);
            else nudged += second_phase(&net, &b, &p, thread);
        }
        if (!is_gradient(j->rule))
            b.diverged[thread] |= contrast_rows(&net, &b, q, j->centered ? b.end[1] : b.free, b.end[0], lo, hi);
        if (number + 1 < b.n_batches) build_batch(&net, &b, number + 1, thread, n_threads);
        __atomic_fetch_add(&j->counts[0], freed, __ATOMIC_RELAXED);
        __atomic_fetch_add(&j->counts[1], nudged, __ATOMIC_RELAXED);
        eqp_wait(j->barrier, n_threads);

        for (int t = 0; t < n_threads; t++)
            if (b.diverged[t]) result = result == EQP_E_DIVERGED || b.diverged[t] & 1 ? EQP_E_DIVERGED : EQP_E_SINGULAR;
        if (result) break;
        if (thread == 0)
            for (int s = 0; s < rows; s++) {
                j->loss[0] += b.cost[s];
                j->loss[1] += b.right[s];
            }
        done++;
        if (total > 0) {
            for (int k = 0; k < L; k++) {
                const stepper o = EQP_NAME(make_stepper)(j, j->rate[k], j->weight_decay, scale, number);
                const stepper ob = EQP_NAME(make_stepper)(j, j->bias_rate[k], 0, scale, number);
                if (k == 0) update_input(&net, &b, q, rows, &o, &ob, thread);
                else if (j->rule != RULE_CONTINUAL_VECTOR_FIELD) EQP_NAME(update_inner)(&net, &b, k, rows, &o, &ob, thread);
                if (k > 0 && (j->rule == RULE_VECTOR_FIELD || (is_gradient(j->rule) && j->back)))
                    EQP_NAME(update_back)(&net, &b, k, rows, &o, thread);
            }
        }
        if (L > 1) {
            eqp_wait(j->barrier, n_threads);
            for (int k = 1; k < L; k++) EQP_NAME(pack_back)(&net, k, thread);
        }
    }
    eqp_wait(j->barrier, n_threads);
    EQP_NAME(network_unpack)(&net, thread);
    if (thread == 0) {
        j->counts[2] += j->n_rows < done * b.B ? j->n_rows : done * b.B;
        j->counts[3] += done;
    }
    return result;
}
