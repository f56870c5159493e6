/* input.c - the input layer of a training batch: the batch's data, and the passes over weight[0],
 * by far the largest array. Letters: layered.h, rules.h.
 *
 * Update and drive are made in one pass: some rows of weight[0] are stepped with the batch that
 * has just been relaxed and, while they are in the cache, add their part to the drive of the next
 * batch. Else every batch would read the matrix twice.
 *
 * Rows of inputs that are zero in both batches are not even read. Each thread owns whole chunks of
 * columns; sums run over samples and over inputs in their order, so the bits do not depend on the
 * split, nor on whether a drive was made in such a pass or alone (drive_sparse).
 *
 * A bias of rho(0) in the input activation is kept apart: value is rho(x) - rho(0), and what all
 * inputs have in common acts through the column sums of weight[0].
 *
 *     i        an input: a row of weight[0]      col     a column of a chunk
 *     g        a group of 32 samples             cap     room for one sample's list
 */
#include "layered/rules.h"

/* Share of nonzero inputs above which the dense path is faster. Measured: where a list of nonzeros,
 * which loads an index for each, and register tiles break even. */
#define DENSE_SHARE 0.4
/* Larger batches: their drive would not stay in the cache during the pass. */
#define FUSED_ROWS 64
/* Rows stepped and then read again: with the other operands they stay in the first-level cache. */
#define PASS_ROWS 32
/* Vectors of columns that a pass keeps in registers. */
#define PASS_VECS (N_VREGS >= 32 ? 16 : 8)

/* Dense or sparse input path: judged on the first rows, the same for every thread; both give the
 * same bits. Not so the input products of continual.c, which are therefore always made the sparse
 * way: a job may be any part of an epoch.
 */
static int inputs_are_dense(const eqp_layered_job *job) {
    if (job->indptr || !job->x || is_continual(job->rule)) return 0;
    /* the first rows stand for all: every thread must come to the same answer */
    const int64_t rows = job->n_rows < 64 ? job->n_rows : 64, n0 = job->size[0];
    int64_t nonzero = 0;
    for (int64_t m = 0; m < rows; m++) {
        const real *x = (const real *)job->x + (job->order ? job->order[m] : m) * n0;
        for (int64_t i = 0; i < n0; i++) nonzero += x[i] != 0;
    }
    return (double)nonzero > DENSE_SHARE * (double)(rows * n0);
}

/* Whether the update can read the data's rows where they are. */
static int rows_as_given(const eqp_layered_job *job) {
    return !job->indptr && job->input_activation == ACT_IDENTITY;
}

/* Lays out a batch's inputs, in two sets, and the pass's buffers of one chunk. */
void input_plan(const network *net, batch_buffers *batch, int thread, arena *arena) {
    const int64_t B = batch->B, n0 = net->n[0], np0 = net->np[0], np1 = net->np[1];
    const int64_t real_size = sizeof(real);
    const int nt = net->n_threads;
    batch->groups = (batch->B + 31) / 32;
    batch->drive = TAKE_REALS(arena, B * np1);
    batch->xt_ld = (int)pad_up(B);
    for (int q = 0; q < 2; q++) {
        batch->xd[q] = TAKE_REALS(arena, B * np0);
        batch->y[q] = take_own(arena, B * net->np[net->L], real_size, thread, nt);
        batch->weight[q] = take_own(arena, B, real_size, thread, nt);
        batch->index[q] = take_own(arena, B * (n0 + LANES), sizeof(int32_t), thread, nt);
        batch->value[q] = take_own(arena, B * (n0 + LANES), real_size, thread, nt);
        batch->nnz[q] = take_own(arena, B, sizeof(int64_t), thread, nt);
        batch->mask[q] = take_own(arena, batch->groups * n0, sizeof(uint32_t), thread, nt);
        batch->row[q] = take_own(arena, B, sizeof(real *), thread, nt);
        batch->copies[q] =
            rows_as_given(net->job) ? NULL : take_own(arena, B * np0, real_size, thread, nt);
        if (is_continual(net->job->rule))
            batch->xt[q] = take_own(arena, n0 * batch->xt_ld, real_size, thread, nt);
    }
    batch->chunk_delta = take_own(arena, B * net->chunk, real_size, thread, nt);
    batch->chunk_drive = take_own(arena, FUSED_ROWS * net->chunk, real_size, thread, nt);
    batch->dense = arena->base ? inputs_are_dense(net->job) : 0;
}

/* --- a batch's data --- */

/* A dense row of inputs as it acts, less rho(0): np[0] reals. */
static void dense_row(const network *net, const real *from, real *x) {
    copy_row(x, from, net->n[0], net->np[0]);
    if (net->job->input_activation == ACT_IDENTITY) return;
    const vec offset = vset(net->input_offset);
    EQP_WITH_ACT(net->job->input_activation, act_rho_less(ACT, offset, net->np[0], x));
}

/* Asks for a row of the data before it is needed: rows come in random order, no hardware foresees
 * the next. */
static void prefetch_row(const network *net, int64_t row) {
    const char *ahead = (const char *)((const real *)net->job->x + row * net->n[0]);
    for (int64_t i = 0; i < net->n[0] * (int64_t)sizeof(real); i += 64)
        __builtin_prefetch(ahead + i);
}

/* Sample s of the batch, row `row` of the data, as three things: a list of nonzeros (for the
 * drive), bits by input (which samples a row of weight[0] meets), and a row to read values from
 * (for the update). The continual rules have it transposed as well. */
static void sparse_sample(const network *net, batch_buffers *batch, int q, int s, int64_t row) {
    const eqp_layered_job *job = net->job;
    const int64_t n0 = net->n[0], cap = n0 + LANES;
    int32_t *index = batch->index[q] + s * cap;
    real *value = batch->value[q] + s * cap;
    const int64_t nnz = input_row(net, row, index, value);
    batch->nnz[q][s] = nnz;
    index[nnz] = INT32_MAX; /* drive_rows stops there */
    /* input i of sample s: bit s % 32 of word i */
    uint32_t *mask = batch->mask[q] + s / 32 * n0;
    const uint32_t bit = 1u << s % 32;
    for (int64_t e = 0; e < nnz; e++) mask[index[e]] |= bit;
    if (is_continual(job->rule))
        for (int64_t e = 0; e < nnz; e++) batch->xt[q][index[e] * batch->xt_ld + s] = value[e];
    if (rows_as_given(job)) {
        batch->row[q][s] = (const real *)job->x + row * n0;
        return;
    }
    real *copy = batch->copies[q] + s * net->np[0]; /* what the mask does not name stays stale */
    for (int64_t e = 0; e < nnz; e++) copy[index[e]] = value[e];
    batch->row[q][s] = copy;
}

/* Inputs, targets and weights of batch `number`. Each thread makes its own copy: to make it costs
 * less than to fetch what another core has just written. Dense inputs, which nobody transposes, are
 * shared, and each thread makes its part. */
void build_batch(const network *net, batch_buffers *batch, int64_t number, int thread) {
    const eqp_layered_job *job = net->job;
    const int q = (int)(number & 1), L = net->L, rows = batch_rows(batch, job, number);
    const int64_t n0 = net->n[0], *order = job->order + number * batch->B;
    const int lo = (int)share(rows, thread, net->n_threads);
    const int hi = (int)share(rows, thread + 1, net->n_threads);
    if (!batch->dense)
        memset(batch->mask[q], 0, (size_t)(batch->groups * n0) * sizeof *batch->mask[q]);
    if (is_continual(job->rule))
        memset(batch->xt[q], 0, (size_t)(n0 * batch->xt_ld) * sizeof(real));
    for (int s = 0; s < rows; s++) {
        copy_row(batch->y[q] + s * net->np[L], (const real *)job->y + order[s] * net->n[L],
                 net->n[L], net->np[L]);
        batch->weight[q][s] = job->row_weight ? ((const real *)job->row_weight)[order[s]] : 1;
        if (batch->dense) {
            if (s >= lo && s < hi)
                dense_row(net, (const real *)job->x + order[s] * n0, batch->xd[q] + s * net->np[0]);
            continue;
        }
        if (s + 1 < rows && !job->indptr) prefetch_row(net, order[s + 1]);
        sparse_sample(net, batch, q, s, order[s]);
    }
}

/* --- one chunk of columns --- */

/* What is done to a chunk. */
typedef struct {
    const network *net;
    const batch_buffers *batch;
    const stepper *step;
    int q, rows;         /* parity and samples of the batch that is learnt */
    int next_rows;       /* samples of the next; 0: no drive is made along with the update */
    int64_t width, base; /* columns of the chunk; where it begins in weight[0] */
    const real *delta;   /* rows x width: what inputs are correlated with */
    const real *shared;  /* width: the offset's part of every row's gradient */
    real *drive;         /* next_rows x width, added to */
    real *colsum;        /* width */
} pass;

/* Steps rows lo..hi of weight[0], NV vectors of columns from `col` on:
 *     gradient[i] = shared + sum over samples with x[i] != 0 of x[i] delta        (equations 4)
 * Rows that no sample touches are skipped, unless the optimiser moves them all the same. */
EQP_INLINE void update_rows(const int NV, const pass *pass, int64_t col, int64_t lo, int64_t hi,
                            real *colsum) {
    const network *net = pass->net;
    const batch_buffers *batch = pass->batch;
    const stepper *weight_step = pass->step;
    const int64_t n0 = net->n[0], width = pass->width;
    const int offset = net->input_offset != 0;
    /* momentum, decay and an offset move rows without inputs too */
    const uint32_t every = weight_step->kind != OPT_SGD || weight_step->decay != 0 || offset;
    const real *delta = pass->delta + col;
    for (int64_t i = lo; i < hi; i++) {
        uint32_t any = every;
        /* does any sample have this input? */
        for (int g = 0; g < batch->groups; g++) any |= batch->mask[pass->q][g * n0 + i];
        if (!any) continue;
        /* row i of the chunk: the gradient's sums start from the offset's part */
        const int64_t at = pass->base + i * width + col;
        real *w = net->w[0] + at;
        vec acc[PASS_VECS];
#pragma GCC unroll 16
        for (int v = 0; v < NV; v++) acc[v] = vload(pass->shared + col + v * VL);
        for (int g = 0; g < batch->groups; g++)
            /* the samples that have input i, lowest bit first: in their order */
            for (uint32_t m = batch->mask[pass->q][g * n0 + i]; m; m &= m - 1) {
                const int s = g * 32 + __builtin_ctz(m);
                const real *d = delta + s * width;
                const vec x = vset(batch->row[pass->q][s][i]);
#pragma GCC unroll 16
                for (int v = 0; v < NV; v++) acc[v] = vfma(x, vload(d + v * VL), acc[v]);
            }
#pragma GCC unroll 16
        for (int v = 0; v < NV; v++) {
            acc[v] = vsteps(weight_step, vload(w + v * VL), acc[v], net->velocity[0] + at + v * VL,
                            net->second[0] + at + v * VL);
            vstore(w + v * VL, acc[v]);
        }
        if (!offset) continue;
            /* the column sums follow the stepped rows */
#pragma GCC unroll 16
        for (int v = 0; v < NV; v++) vstore(colsum + v * VL, vadd(vload(colsum + v * VL), acc[v]));
    }
}

/* Adds what inputs up to `hi` give to the drive of the next batch's samples; at: how far each
 * sample's list has been read. */
EQP_INLINE void drive_rows(const int NV, const pass *pass, int64_t col, int64_t hi, int32_t *at) {
    const network *net = pass->net;
    const batch_buffers *batch = pass->batch;
    const int64_t width = pass->width, cap = net->n[0] + LANES;
    const real *w = net->w[0] + pass->base + col;
    for (int s = 0; s < pass->next_rows; s++) {
        const int32_t *index = batch->index[!pass->q] + s * cap;
        const real *value = batch->value[!pass->q] + s * cap;
        real *out = pass->drive + s * width + col;
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

/* NV vectors of columns from `col` on, all inputs: PASS_ROWS rows of weight[0] are read, stepped
 * and written, then read again from the first-level cache for the next batch's drive: half the
 * traffic of two passes. */
EQP_INLINE void pass_body(const int NV, const pass *pass, int64_t col) {
    const int64_t n0 = pass->net->n[0];
    /* how far each sample of the next batch has read its list */
    int32_t at[FUSED_ROWS] = {0};
    real *colsum = pass->colsum + col;
    if (pass->net->input_offset != 0)
        for (int v = 0; v < NV; v++) vstore(colsum + v * VL, vset(0));
    for (int64_t i = 0; i < n0; i += PASS_ROWS) {
        const int64_t hi = i + PASS_ROWS < n0 ? i + PASS_ROWS : n0;
        update_rows(NV, pass, col, i, hi, colsum);
        if (pass->next_rows) drive_rows(NV, pass, col, hi, at);
    }
}

/* Dense inputs: the same step by register tiles, a panel of columns from `col` on. */
static void update_dense(const pass *pass, int64_t col) {
    const network *net = pass->net;
    const int n0 = net->n[0], w = (int)(pass->width - col < PW ? pass->width - col : PW);
    real gradient[MR_MAX * PW], sum[PW] = {0}; /* a tile's; of the stepped rows */
    for (int t = 0; t < row_blocks(n0); t++) {
        const int i0 = row_start(n0, t), mr = row_start(n0, t + 1) - i0;
        const operand terms = {pass->batch->xd[pass->q] + i0,
                               pass->delta + col,
                               1,
                               net->np[0],
                               pass->width,
                               pass->rows};
        gemm_tile(mr, w, pass->shared + col, 0, gradient, PW, &terms, 1);
        for (int m = 0; m < mr; m++)
            for (int v = 0; v < w; v += VL) {
                const int64_t at = pass->base + (i0 + m) * pass->width + col + v;
                const vec moved =
                    vsteps(pass->step, vload(net->w[0] + at), vload(gradient + m * PW + v),
                           net->velocity[0] + at, net->second[0] + at);
                vstore(net->w[0] + at, moved);
                vstore(sum + v, vadd(vload(sum + v), moved));
            }
    }
    if (net->input_offset != 0) copy_reals(pass->colsum + col, sum, w);
}

/* What every sample's drive starts from: the bias, and rho(0) times the column sums. */
static void drive_start(const network *net, int64_t first, int64_t width, real *start) {
    const vec offset = vset(net->input_offset);
    for (int64_t v = 0; v < width; v += VL) {
        const vec bias = vload(net->bias[0] + first + v);
        vstore(start + v, net->input_offset == 0
                              ? bias
                              : vfma(offset, vload(net->input_colsum + first + v), bias));
    }
}

/* Dense inputs: the drive of batch q, chunk c, by register tiles. `start` is added last, as
 * drive_body does. */
static void drive_dense(const network *net, const batch_buffers *batch, int q, int rows, int c) {
    static const real zeros[PW];
    const int64_t width = chunk_width(net, c), first = c * net->chunk;
    real start[256], field[MR_MAX * PW];
    drive_start(net, first, width, start);
    for (int64_t col = 0; col < width; col += PW) {
        const int w = (int)(width - col < PW ? width - col : PW);
        for (int i = 0; i < row_blocks(rows); i++) {
            const int m0 = row_start(rows, i), mr = row_start(rows, i + 1) - m0;
            const operand terms = {batch->xd[q] + m0 * net->np[0],
                                   chunk_at(net, net->w[0], c) + col,
                                   net->np[0],
                                   1,
                                   width,
                                   net->n[0]};
            gemm_tile(mr, w, zeros, 0, field, PW, &terms, 1);
            for (int m = 0; m < mr; m++)
                for (int v = 0; v < w; v += VL)
                    vstore(batch->drive + (m0 + m) * net->np[1] + first + col + v,
                           vadd(vload(field + m * PW + v), vload(start + col + v)));
        }
    }
}

/* Copies the chunk's columns of delta to where they lie together, for the pass reads them once for
 * each input, and returns their sums over the samples. */
static void gather_delta(const network *net, const batch_buffers *batch, int rows, int64_t first,
                         int64_t width, real *sum) {
    for (int64_t v = 0; v < width; v += VL) vstore(sum + v, vset(0));
    for (int s = 0; s < rows; s++)
        for (int64_t v = 0; v < width; v += VL) {
            const vec d = vload(batch->delta[1] + s * net->np[1] + first + v);
            vstore(batch->chunk_delta + s * width + v, d);
            vstore(sum + v, vadd(vload(sum + v), d));
        }
}

/* --- all chunks of a thread --- */

/* Steps the pass's chunk of weight[0], and its columns of bias[0], `first` on: the contrast's
 * columns are gathered, then every panel of columns passes. `shared`: room for the chunk's columns.
 */
static void step_chunk(const pass *pass, int64_t first, real *shared, const stepper *bias_step) {
    const network *net = pass->net;
    real sum[256]; /* a chunk has at most 256 columns */
    gather_delta(net, pass->batch, pass->rows, first, pass->width, sum);
    for (int64_t v = 0; v < pass->width; v += VL)
        vstore(shared + v, vmul(vset(net->input_offset), vload(sum + v)));
    int64_t col = 0;
    if (pass->batch->dense)
        for (; col < pass->width; col += PW) update_dense(pass, col);
    EQP_FOR_BLOCKS(col, pass->width, PASS_VECS, pass_body(NV, pass, col));
    update_bias(net, 0, first, (int)pass->width, sum, bias_step);
}

/* The drive of the next batch's samples in the pass's columns: what the pass has summed, and what
 * every drive starts from, which comes last (drive_body). */
static void finish_drive(const pass *pass, int64_t first) {
    const network *net = pass->net;
    real start[256];
    drive_start(net, first, pass->width, start);
    for (int s = 0; s < pass->next_rows; s++)
        for (int64_t v = 0; v < pass->width; v += VL)
            vstore(pass->batch->drive + s * net->np[1] + first + v,
                   vadd(vload(pass->drive + s * pass->width + v), vload(start + v)));
}

/* Steps weight[0] and bias[0] with batch `number`, and makes the drive of batch `next` (its
 * number, or -1: there is none), the thread's chunks. With weight_step NULL only the latter.
 *
 * Fused where the next batch's part of the drive fits the cache beside the rows; dense inputs and
 * larger batches make the drive after the update. */
void input_pass(const network *net, batch_buffers *batch, int64_t number, int64_t next,
                const stepper *weight_step, const stepper *bias_step, int thread) {
    const eqp_layered_job *job = net->job;
    const int rows = weight_step ? batch_rows(batch, job, number) : 0;
    const int next_rows = next >= 0 ? batch_rows(batch, job, next) : 0, next_q = (int)(next & 1);
    const int fused = weight_step && !batch->dense && next_rows && next_rows <= FUSED_ROWS;
    const int64_t cap = net->n[0] + LANES;
    for (int c = (int)share(net->n_chunks, thread, net->n_threads);
         c < share(net->n_chunks, thread + 1, net->n_threads); c++) {
        const int64_t width = chunk_width(net, c), first = c * net->chunk;
        real shared[256];
        const pass pass = {.net = net,
                           .batch = batch,
                           .step = weight_step,
                           .q = (int)(number & 1),
                           .rows = rows,
                           .next_rows = fused ? next_rows : 0,
                           .width = width,
                           .base = first * net->n[0],
                           .delta = batch->chunk_delta,
                           .shared = shared,
                           .drive = batch->chunk_drive,
                           .colsum = net->input_colsum + first};
        /* the next batch's drive begins at zero; the bias is added at the end */
        if (fused) memset(batch->chunk_drive, 0, (size_t)(next_rows * width) * sizeof(real));
        if (weight_step) step_chunk(&pass, first, shared, bias_step);
        if (fused)
            finish_drive(&pass, first);
        else if (batch->dense && next_rows)
            drive_dense(net, batch, next_q, next_rows, c);
        else
            for (int s = 0; s < next_rows; s++)
                drive_sparse(net, c, batch->index[next_q] + s * cap, batch->value[next_q] + s * cap,
                             batch->nnz[next_q][s], batch->drive + s * net->np[1]);
    }
}
