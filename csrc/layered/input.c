/* input.c - the input layer of a training batch: the batch's data, and the passes over weight[0], by far the largest array.
 *
 * Update and drive are made in one pass: some rows of weight[0] are stepped with the batch that has just been relaxed
 * and, while they are in the cache, add their part to the drive of the next batch. Rows of inputs that are zero in
 * both batches are not even read. Each thread owns whole chunks of columns; sums run over samples and over inputs in their order, so
 * the bits do not depend on the split, nor on whether a drive was made in such a pass or alone (drive_sparse).
 */
#include "layered/rules.h"

#define DENSE_SHARE 0.4  /* share of nonzero inputs above which the dense path is faster */
#define FUSED_ROWS 64    /* larger batches: their drive would not stay in the cache during the pass */
#define PASS_ROWS 32     /* rows stepped and then read again: with the other operands they stay in the first-level cache */
#define PASS_VECS (N_VREGS >= 32 ? 16 : 8)

/* Dense or sparse input path: judged on the first rows, the same for every thread; both give the same bits. Not so the
 * input products of continual.c, which are therefore always made the sparse way: a job may be any part of an epoch.
 */
static int inputs_are_dense(const eqp_layered_job *j) {
    if (j->indptr || !j->x || is_continual(j->rule)) return 0;
    const int64_t rows = j->n_rows < 64 ? j->n_rows : 64, n0 = j->size[0];
    int64_t nonzero = 0;
    for (int64_t m = 0; m < rows; m++) {
        const real *x = (const real *)j->x + (j->order ? j->order[m] : m) * n0;
        for (int64_t i = 0; i < n0; i++) nonzero += x[i] != 0;
    }
    return (double)nonzero > DENSE_SHARE * (double)(rows * n0);
}

/* Whether the update can read the data's rows where they are. */
static int rows_as_given(const eqp_layered_job *j) { return !j->indptr && j->input_activation == ACT_IDENTITY; }

void EQP_NAME(input_plan)(const network *net, batch_buffers *b, int thread, arena *a) {
    const int64_t B = b->B, n0 = net->n[0], np0 = net->np[0], np1 = net->np[1], real_size = sizeof(real);
    const int nt = net->n_threads;
    b->groups = (b->B + 31) / 32;
    b->drive = TAKE_REALS(a, B * np1);
    b->xt_ld = (int)pad_up(B);
    for (int q = 0; q < 2; q++) {
        b->xd[q] = TAKE_REALS(a, B * np0);
        b->y[q] = take_own(a, B * net->np[net->L], real_size, thread, nt);
        b->weight[q] = take_own(a, B, real_size, thread, nt);
        b->index[q] = take_own(a, B * (n0 + LANES), sizeof(int32_t), thread, nt);
        b->value[q] = take_own(a, B * (n0 + LANES), real_size, thread, nt);
        b->nnz[q] = take_own(a, B, sizeof(int64_t), thread, nt);
        b->mask[q] = take_own(a, b->groups * n0, sizeof(uint32_t), thread, nt);
        b->row[q] = take_own(a, B, sizeof(real *), thread, nt);
        b->copies[q] = rows_as_given(net->job) ? NULL : take_own(a, B * np0, real_size, thread, nt);
        if (is_continual(net->job->rule)) b->xt[q] = take_own(a, n0 * b->xt_ld, real_size, thread, nt);
    }
    b->chunk_delta = take_own(a, B * net->chunk, real_size, thread, nt);
    b->chunk_drive = take_own(a, FUSED_ROWS * net->chunk, real_size, thread, nt);
    b->dense = a->base ? inputs_are_dense(net->job) : 0;
}

/* ---------------------------------------------------------------- a batch's data */

/* A dense row of inputs as it acts, less rho(0). */
static void dense_row(const network *net, const real *from, real *x) {
    EQP_NAME(copy_row)(x, from, net->n[0], net->np[0]);
    if (net->job->input_activation == ACT_IDENTITY) return;
    const vec offset = vset(net->input_offset);
#define BODY(ACT) for (int64_t i = 0; i < net->np[0]; i += VL) vstore(x + i, vsub(act_rho(ACT, vload(x + i)), offset))
    EQP_SWITCH_ACT(net->job->input_activation, BODY)
#undef BODY
}

/* Inputs, targets and weights of batch `number`. Each thread makes its own copy: to make it costs less than to fetch what
 * another core has just written. Dense inputs, which nobody transposes, are shared, and each thread makes its part. */
void EQP_NAME(build_batch)(const network *net, batch_buffers *b, int64_t number, int thread) {
    const eqp_layered_job *j = net->job;
    const int q = (int)(number & 1), L = net->L, rows = batch_rows(b, j, number);
    const int64_t n0 = net->n[0], cap = n0 + LANES, *order = j->order + number * b->B;
    const int lo = (int)share(rows, thread, net->n_threads), hi = (int)share(rows, thread + 1, net->n_threads);
    if (!b->dense) memset(b->mask[q], 0, (size_t)(b->groups * n0) * sizeof *b->mask[q]);
    if (is_continual(j->rule)) memset(b->xt[q], 0, (size_t)(n0 * b->xt_ld) * sizeof(real));
    for (int s = 0; s < rows; s++) {
        EQP_NAME(copy_row)(b->y[q] + s * net->np[L], (const real *)j->y + order[s] * net->n[L], net->n[L], net->np[L]);
        b->weight[q][s] = j->row_weight ? ((const real *)j->row_weight)[order[s]] : 1;
        if (b->dense) {
            if (s >= lo && s < hi) dense_row(net, (const real *)j->x + order[s] * n0, b->xd[q] + s * net->np[0]);
            continue;
        }
        if (s + 1 < rows && !j->indptr) { /* rows come in random order: no hardware foresees the next */
            const char *ahead = (const char *)((const real *)j->x + order[s + 1] * n0);
            for (int64_t i = 0; i < n0 * (int64_t)sizeof(real); i += 64) __builtin_prefetch(ahead + i);
        }
        int32_t *index = b->index[q] + s * cap;
        real *value = b->value[q] + s * cap;
        const int64_t nnz = EQP_NAME(input_row)(net, order[s], index, value);
        b->nnz[q][s] = nnz;
        index[nnz] = INT32_MAX; /* drive_rows stops there */
        uint32_t *mask = b->mask[q] + s / 32 * n0;
        const uint32_t bit = 1u << s % 32;
        for (int64_t e = 0; e < nnz; e++) mask[index[e]] |= bit;
        if (is_continual(j->rule))
            for (int64_t e = 0; e < nnz; e++) b->xt[q][index[e] * b->xt_ld + s] = value[e];
        if (rows_as_given(j)) {
            b->row[q][s] = (const real *)j->x + order[s] * n0;
            continue;
        }
        real *copy = b->copies[q] + s * net->np[0];
        for (int64_t e = 0; e < nnz; e++) copy[index[e]] = value[e];
        b->row[q][s] = copy;
    }
}

/* ---------------------------------------------------------------- one chunk of columns */

/* What is done to a chunk. o NULL: weights stay. next_rows 0: no drive is made along with the update. */
typedef struct {
    const network *net;
    const batch_buffers *b;
    const stepper *o;
    int q, rows, next_rows;             /* parity and samples of the batch; samples of the next */
    int64_t width, base;                /* columns of the chunk; where it begins in weight[0] */
    const real *delta, *shared;         /* rows x width: what inputs are correlated with; the offset's part */
    real *drive, *colsum;               /* next_rows x width, added to; width */
} pass;

/* Inputs lo..hi of NV vectors of columns from `col` on: gradient of the batch's samples, then the optimiser's step. */
EQP_INLINE void update_rows(const int NV, const pass *p, int64_t col, int64_t lo, int64_t hi, real *colsum) {
    const network *net = p->net;
    const batch_buffers *b = p->b;
    const stepper *o = p->o;
    const int64_t n0 = net->n[0], width = p->width;
    const int offset = net->input_offset != 0;
    const uint32_t every = o->kind != OPT_SGD || o->decay != 0 || offset;
    const real *delta = p->delta + col;
    for (int64_t i = lo; i < hi; i++) {
        uint32_t any = every;
        for (int g = 0; g < b->groups; g++) any |= b->mask[p->q][g * n0 + i];
        if (!any) continue;
        const int64_t at = p->base + i * width + col;
        real *w = net->w[0] + at;
        vec acc[PASS_VECS];
#pragma GCC unroll 16
        for (int v = 0; v < NV; v++) acc[v] = vload(p->shared + col + v * VL);
        for (int g = 0; g < b->groups; g++)
            for (uint32_t m = b->mask[p->q][g * n0 + i]; m; m &= m - 1) {
                const int s = g * 32 + __builtin_ctz(m);
                const real *d = delta + s * width;
                const vec x = vset(b->row[p->q][s][i]);
#pragma GCC unroll 16
                for (int v = 0; v < NV; v++) acc[v] = vfma(x, vload(d + v * VL), acc[v]);
            }
#pragma GCC unroll 16
        for (int v = 0; v < NV; v++) {
            acc[v] = vsteps(o, vload(w + v * VL), acc[v], net->velocity[0] + at + v * VL, net->second[0] + at + v * VL);
            vstore(w + v * VL, acc[v]);
        }
        if (!offset) continue;
#pragma GCC unroll 16
        for (int v = 0; v < NV; v++) vstore(colsum + v * VL, vadd(vload(colsum + v * VL), acc[v]));
    }
}

/* Adds what inputs up to `hi` give to the drive of the next batch's samples; at: how far each sample's list is read. */
EQP_INLINE void drive_rows(const int NV, const pass *p, int64_t col, int64_t hi, int32_t *at) {
    const network *net = p->net;
    const batch_buffers *b = p->b;
    const int64_t width = p->width, cap = net->n[0] + LANES;
    const real *w = net->w[0] + p->base + col;
    for (int s = 0; s < p->next_rows; s++) {
        const int32_t *index = b->index[!p->q] + s * cap;
        const real *value = b->value[!p->q] + s * cap;
        real *out = p->drive + s * width + col;
        int e = at[s];
        vec acc[PASS_VECS];
#pragma GCC unroll 16
        for (int v = 0; v < NV; v++) acc[v] = vload(out + v * VL);
        for (; index[e] < hi; e++) { /* the list ends with an index beyond all inputs */
            const real *row = w + index[e] * width;
            const vec x = vset(value[e]);
#pragma GCC unroll 16
            for (int v = 0; v < NV; v++) acc[v] = vfma(x, vload(row + v * VL), acc[v]);
        }
#pragma GCC unroll 16
        for (int v = 0; v < NV; v++) vstore(out + v * VL, acc[v]);
        at[s] = e;
    }
}

/* NV vectors of columns from `col` on, all inputs: a few rows are stepped, then read again while the cache has them. */
EQP_INLINE void pass_body(const int NV, const pass *p, int64_t col) {
    const int64_t n0 = p->net->n[0];
    int32_t at[FUSED_ROWS] = {0};
    real *colsum = p->colsum + col;
    if (p->net->input_offset != 0)
        for (int v = 0; v < NV; v++) vstore(colsum + v * VL, vset(0));
    for (int64_t i = 0; i < n0; i += PASS_ROWS) {
        const int64_t hi = i + PASS_ROWS < n0 ? i + PASS_ROWS : n0;
        update_rows(NV, p, col, i, hi, colsum);
        if (p->next_rows) drive_rows(NV, p, col, hi, at);
    }
}

/* Dense inputs: the update by register tiles, a panel of columns from `col` on. */
static void update_dense(const pass *p, int64_t col) {
    const network *net = p->net;
    const int n0 = net->n[0], w = (int)(p->width - col < PW ? p->width - col : PW);
    real gradient[MR_MAX * PW], sum[PW] = {0};
    for (int t = 0; t < row_blocks(n0); t++) {
        const int i0 = row_start(n0, t), mr = row_start(n0, t + 1) - i0;
        const operand op = {p->b->xd[p->q] + i0, p->delta + col, 1, net->np[0], p->width, p->rows};
        gemm_tile(mr, w, p->shared + col, 0, gradient, PW, &op, 1);
        for (int m = 0; m < mr; m++)
            for (int v = 0; v < w; v += VL) {
                const int64_t at = p->base + (i0 + m) * p->width + col + v;
                const vec moved = vsteps(p->o, vload(net->w[0] + at), vload(gradient + m * PW + v), net->velocity[0] + at, net->second[0] + at);
                vstore(net->w[0] + at, moved);
                vstore(sum + v, vadd(vload(sum + v), moved));
            }
    }
    if (net->input_offset != 0) memcpy(p->colsum + col, sum, (size_t)w * sizeof(real));
}

/* What every sample's drive starts from: the bias, and the inputs' offset. */
static void drive_start(const network *net, int64_t first, int64_t width, real *start) {
    const vec offset = vset(net->input_offset);
    for (int64_t v = 0; v < width; v += VL) {
        const vec bias = vload(net->bias[0] + first + v);
        vstore(start + v, net->input_offset == 0 ? bias : vfma(offset, vload(net->input_colsum + first + v), bias));
    }
}

/* Dense inputs: the drive of batch q. */
static void drive_dense(const network *net, const batch_buffers *b, int q, int rows, int c) {
    static const real zeros[PW];
    const int64_t width = chunk_width(net, c), first = c * net->chunk;
    real start[256], field[MR_MAX * PW];
    drive_start(net, first, width, start);
    for (int64_t col = 0; col < width; col += PW) {
        const int w = (int)(width - col < PW ? width - col : PW);
        for (int i = 0; i < row_blocks(rows); i++) {
            const int m0 = row_start(rows, i), mr = row_start(rows, i + 1) - m0;
            const operand op = {b->xd[q] + m0 * net->np[0], chunk_at(net, net->w[0], c) + col, net->np[0], 1, width, net->n[0]};
            gemm_tile(mr, w, zeros, 0, field, PW, &op, 1);
            for (int m = 0; m < mr; m++)
                for (int v = 0; v < w; v += VL)
                    vstore(b->drive + (m0 + m) * net->np[1] + first + col + v, vadd(vload(field + m * PW + v), vload(start + col + v)));
        }
    }
}

/* Copies the chunk's columns of delta to where they lie together, and returns their sums over the samples. */
static void gather_delta(const network *net, const batch_buffers *b, int rows, int64_t first, int64_t width, real *sum) {
    for (int64_t v = 0; v < width; v += VL) vstore(sum + v, vset(0));
    for (int s = 0; s < rows; s++)
        for (int64_t v = 0; v < width; v += VL) {
            const vec d = vload(b->delta[1] + s * net->np[1] + first + v);
            vstore(b->chunk_delta + s * width + v, d);
            vstore(sum + v, vadd(vload(sum + v), d));
        }
}

/* ---------------------------------------------------------------- all chunks of a thread */

/* Steps weight[0] and bias[0] with batch `number`, and makes the drive of batch `next` (its number, or -1: there is
 * none); with o NULL only the latter. */
void EQP_NAME(input_pass)(const network *net, batch_buffers *b, int64_t number, int64_t next, const stepper *o, const stepper *ob, int thread) {
    const eqp_layered_job *j = net->job;
    const int rows = o ? batch_rows(b, j, number) : 0, next_rows = next >= 0 ? batch_rows(b, j, next) : 0;
    const int next_q = (int)(next & 1), fused = o && !b->dense && next_rows && next_rows <= FUSED_ROWS;
    const int64_t cap = net->n[0] + LANES;
    for (int c = (int)share(net->n_chunks, thread, net->n_threads); c < share(net->n_chunks, thread + 1, net->n_threads); c++) {
        const int64_t width = chunk_width(net, c), first = c * net->chunk;
        real sum[256], shared[256], start[256];
        const pass p = {net, b, o, (int)(number & 1), rows, fused ? next_rows : 0, width, c * net->chunk * net->n[0],
                        b->chunk_delta, shared, b->chunk_drive, net->input_colsum + first};
        if (fused) memset(b->chunk_drive, 0, (size_t)(next_rows * width) * sizeof(real));
        if (o) {
            gather_delta(net, b, rows, first, width, sum);
            for (int64_t v = 0; v < width; v += VL) vstore(shared + v, vmul(vset(net->input_offset), vload(sum + v)));
            int64_t col = 0;
            if (b->dense)
                for (; col < width; col += PW) update_dense(&p, col);
#define BLOCK(NV) for (; (NV) <= PASS_VECS && col + (NV) * VL <= width; col += (NV) * VL) pass_body((NV) <= PASS_VECS ? (NV) : 1, &p, col);
            BLOCK(16) BLOCK(8) BLOCK(4) BLOCK(2) BLOCK(1)
#undef BLOCK
            update_bias(net, 0, first, (int)width, sum, ob);
        }
        if (fused) {
            drive_start(net, first, width, start);
            for (int s = 0; s < next_rows; s++)
                for (int64_t v = 0; v < width; v += VL)
                    vstore(b->drive + s * net->np[1] + first + v, vadd(vload(b->chunk_drive + s * width + v), vload(start + v)));
        } else if (b->dense && next_rows) {
            drive_dense(net, b, next_q, next_rows, c);
        } else {
            for (int s = 0; s < next_rows; s++)
                EQP_NAME(drive_sparse)(net, c, b->index[next_q] + s * cap, b->value[next_q] + s * cap, b->nnz[next_q][s], b->drive + s * net->np[1]);
        }
    }
}
