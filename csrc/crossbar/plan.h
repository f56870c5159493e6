/* crossbar_plan.h - sizes, orientation and scratch layout of a crossbar job; the same for every instruction set.
 *
 * Inner matrices (k = 1..L-1) are packed so that one pass over their rows serves both neighbours: the new voltage of a
 * row node needs the dot product of its row with the column layer, and then adds its row to the currents into the
 * column layer. Rows are the lower layer, except for the last matrix, whose few outputs are the rows.
 * Rows are cut into at most EQP_X_CHUNKS chunks with their own partial currents, whatever the number of threads: that
 * fixes the order of every sum.
 */
#ifndef EQP_CROSSBAR_PLAN_H
#define EQP_CROSSBAR_PLAN_H

#include "core/eqprop.h"

#define EQP_X_CHUNKS 8
#define EQP_X_TILE 16    /* samples a thread relaxes together in crossbar_relax */
#define EQP_X_SUB 16     /* rows handled between two uses of their cache lines */
#define EQP_X_DENSE 2    /* steps of a free phase with all nodes, before crossbar_live.h drops those at 0 V */
#define EQP_X_LIVE_BYTES (256 << 10) /* inner matrices above this: worth it */
#define EQP_X_TEAM_BYTES (768 << 10) /* inner matrices above this: threads share the rows, not the samples */

typedef struct {
    int32_t L, D, B, train, outputs; /* outputs: columns of y */
    int32_t lanes, block, n_blocks;  /* lanes: reals per 64 bytes; block: columns of one packed block of weight[0] */
    int32_t rows_total;              /* rows of the state arrays */
    int32_t team;                    /* 1: all threads relax all samples together */
    int32_t live;                    /* 1: nodes held at 0 V drop out of a sample's phases (crossbar_live.h) */
    int32_t n[EQP_MAX_WEIGHTS + 1], pad[EQP_MAX_WEIGHTS + 1]; /* units of layer l, padded */
    int32_t n_rows[EQP_MAX_WEIGHTS], n_cols[EQP_MAX_WEIGHTS], ld[EQP_MAX_WEIGHTS];
    int32_t row_layer[EQP_MAX_WEIGHTS], col_layer[EQP_MAX_WEIGHTS];
    int32_t n_chunks[EQP_MAX_WEIGHTS], chunk[EQP_MAX_WEIGHTS]; /* chunks of matrix k, rows in each */
    int32_t row_matrix[EQP_MAX_WEIGHTS + 1];                   /* matrix whose rows are layer l, or 0 */
    /* byte offsets into the scratch */
    int64_t g0, v0, w[EQP_MAX_WEIGHTS], v[EQP_MAX_WEIGHTS], col_part[EQP_MAX_WEIGHTS], row_sum[EQP_MAX_WEIGHTS], sum0;
    int64_t acc[EQP_MAX_WEIGHTS], acc_chunk[EQP_MAX_WEIGHTS]; /* acc_chunk: bytes of one chunk's partial currents */
    int64_t state[EQP_MAX_WEIGHTS + 1], bias[EQP_MAX_WEIGHTS + 1], lower[EQP_MAX_WEIGHTS + 1],
        upper[EQP_MAX_WEIGHTS + 1];
    int64_t drive, target, loss, change, error, done;
    int64_t pre[EQP_MAX_WEIGHTS + 1]; /* voltages without diodes of the samples of a batch, from the last kept step */
    /* each thread's own part */
    int64_t own, own_bytes; /* first byte of thread 0, bytes per thread */
    int64_t inv[EQP_MAX_WEIGHTS + 1], inv_plus, inv_minus, diff[EQP_MAX_WEIGHTS + 1],
        mean[EQP_MAX_WEIGHTS + 1], square, part, sums, dots, entries, starts, values, flags;
    int64_t live_net, live_mask, live_index[EQP_MAX_WEIGHTS + 1];
    int64_t bytes;
} eqp_xplan;

static inline int64_t eqp_xtake(int64_t *at, int64_t bytes) {
    const int64_t here = *at;
    *at += (bytes + 63) / 64 * 64;
    return here;
}

static inline int32_t eqp_xup(int32_t n, int32_t m) { return (n + m - 1) / m * m; }

/* The live network of one sample, count[l] units of each layer, laid out from byte `at` of the scratch on: three state
 * rows (free and two nudged), one chunk, one thread. `p` comes as the plan of the whole. Returns the first byte behind. */
static inline int64_t eqp_xlive_layout(eqp_xplan *p, const int32_t *count, int64_t at, int rb) {
    const int32_t L = p->L, pairs = p->outputs < p->n[L];
    const int64_t rows = 3;
    for (int l = 1; l <= L; l++) p->n[l] = count[l], p->pad[l] = eqp_xup(count[l], p->lanes);
    p->team = 0, p->live = 0, p->B = 1, p->rows_total = (int32_t)rows, p->own = 0, p->own_bytes = 0;
    for (int k = 1; k < L; k++) {
        p->n_rows[k] = p->n[p->row_layer[k]], p->n_cols[k] = p->n[p->col_layer[k]];
        p->ld[k] = p->pad[p->col_layer[k]];
        if ((int64_t)p->ld[k] * rb % 1024 == 0) p->ld[k] += p->lanes;
        p->n_chunks[k] = 1;
        p->chunk[k] = eqp_xup(p->n_rows[k], k == L - 1 && pairs ? 4 : EQP_X_SUB);
        p->w[k] = eqp_xtake(&at, (int64_t)eqp_xup(p->n_rows[k], 4) * p->ld[k] * rb + 64); /* pack_columns overshoots */
        p->acc_chunk[k] = rows * p->pad[p->col_layer[k]] * rb;
        p->acc[k] = eqp_xtake(&at, 2 * p->acc_chunk[k]);
    }
    for (int l = 1; l <= L; l++) {
        p->state[l] = eqp_xtake(&at, rows * p->pad[l] * rb);
        p->bias[l] = eqp_xtake(&at, (int64_t)p->pad[l] * rb);
        p->lower[l] = eqp_xtake(&at, (int64_t)p->pad[l] * rb);
        p->upper[l] = eqp_xtake(&at, (int64_t)p->pad[l] * rb);
        p->inv[l] = eqp_xtake(&at, (int64_t)p->pad[l] * rb);
    }
    p->inv_plus = eqp_xtake(&at, (int64_t)p->pad[L] * rb);
    p->inv_minus = eqp_xtake(&at, (int64_t)p->pad[L] * rb);
    p->drive = eqp_xtake(&at, (int64_t)p->pad[1] * rb);
    p->target = eqp_xtake(&at, (int64_t)p->pad[L] * rb);
    p->change = eqp_xtake(&at, 2 * L * rows * rb);
    const int64_t strip = p->pad[L] > EQP_X_SUB ? p->pad[L] : EQP_X_SUB;
    p->dots = eqp_xtake(&at, rows * strip * rb);
    p->sums = eqp_xtake(&at, rows * strip * 64);
    p->flags = eqp_xtake(&at, rows * 8);
    return at;
}

static inline int eqp_xplan_make(eqp_xplan *p, const eqp_crossbar_job *j, int train, int n_threads, int rb) {
    if (!j || !j->size) return EQP_E_NULL;
    const int32_t L = j->n_weights;
    if (L < 1 || L > EQP_MAX_WEIGHTS || n_threads < 1 || j->n_rows < 0) return EQP_E_SIZE;
    if (train && j->batch_size < 1) return EQP_E_SIZE;
    for (int l = 0; l <= L; l++)
        if (j->size[l] < 1 || j->size[l] > (1 << 24)) return EQP_E_SIZE;
    if (j->pairs && j->size[L] % 2) return EQP_E_SIZE;

    const int32_t lanes = 64 / rb;
    p->L = L;
    p->D = j->size[0];
    p->train = train;
    p->lanes = lanes;
    p->block = 4 * lanes;
    p->n_blocks = (j->size[1] + p->block - 1) / p->block;
    p->B = train ? j->batch_size : EQP_X_TILE;
    p->outputs = j->pairs ? j->size[L] / 2 : j->size[L];
    p->rows_total = train ? 3 * p->B : EQP_X_TILE * n_threads;
    int64_t at = 0, inner = 0;
    const int64_t rows = p->rows_total;

    for (int l = 0; l <= L; l++) {
        p->n[l] = j->size[l];
        p->pad[l] = l == 1 ? p->n_blocks * p->block : eqp_xup(j->size[l], lanes);
        p->row_matrix[l] = 0;
    }
    p->g0 = eqp_xtake(&at, (int64_t)p->n_blocks * p->D * (train ? 2 : 1) * p->block * rb);
    const int moving = train && j->optimizer != 0; /* velocities are packed as the conductances are */
    p->v0 = eqp_xtake(&at, moving ? (int64_t)p->n_blocks * p->D * 2 * p->block * rb : 0);
    p->sum0 = eqp_xtake(&at, (int64_t)p->pad[1] * rb);
    for (int k = 1; k < L; k++) {
        const int last = k == L - 1;
        p->row_layer[k] = last ? L : k;
        p->col_layer[k] = last ? L - 1 : k + 1;
        p->row_matrix[p->row_layer[k]] = k;
        p->n_rows[k] = p->n[p->row_layer[k]];
        p->n_cols[k] = p->n[p->col_layer[k]];
        p->ld[k] = p->pad[p->col_layer[k]];
        if ((int64_t)p->ld[k] * rb % 1024 == 0) p->ld[k] += lanes; /* else a column of lines shares few cache sets */
        int32_t chunk = eqp_xup((p->n_rows[k] + EQP_X_CHUNKS - 1) / EQP_X_CHUNKS, EQP_X_SUB);
        if (last && j->pairs) chunk = eqp_xup(p->n_rows[k], 4); /* a pair is solved in one piece */
        p->chunk[k] = chunk;
        p->n_chunks[k] = (p->n_rows[k] + chunk - 1) / chunk;
        p->w[k] = eqp_xtake(&at, (int64_t)eqp_xup(p->n_rows[k], 4) * p->ld[k] * rb);
        p->v[k] = eqp_xtake(&at, moving ? (int64_t)eqp_xup(p->n_rows[k], 4) * p->ld[k] * rb : 0);
        inner += (int64_t)p->n_rows[k] * p->ld[k] * rb;
        p->col_part[k] = eqp_xtake(&at, (int64_t)p->n_chunks[k] * p->pad[p->col_layer[k]] * rb);
        p->row_sum[k] = eqp_xtake(&at, (int64_t)p->pad[p->row_layer[k]] * rb);
        p->acc_chunk[k] = rows * p->pad[p->col_layer[k]] * rb;
        p->acc[k] = eqp_xtake(&at, 2 * p->n_chunks[k] * p->acc_chunk[k]);
    }
    const int long_enough = train && j->n_free_steps >= EQP_X_DENSE && j->n_free_steps + j->n_nudged_steps >= EQP_X_DENSE + 3;
    p->live = long_enough && L > 2 && inner > EQP_X_LIVE_BYTES;
    p->team = train && n_threads > 1 && inner > EQP_X_TEAM_BYTES;
    for (int l = 1; l <= L; l++) {
        p->state[l] = eqp_xtake(&at, rows * p->pad[l] * rb);
        p->bias[l] = eqp_xtake(&at, (int64_t)p->pad[l] * rb);
        p->lower[l] = eqp_xtake(&at, (int64_t)p->pad[l] * rb);
        p->upper[l] = eqp_xtake(&at, (int64_t)p->pad[l] * rb);
    }
    p->drive = eqp_xtake(&at, (int64_t)(train ? p->B : rows) * p->pad[1] * rb);
    p->target = eqp_xtake(&at, (int64_t)(train ? p->B : rows) * p->pad[L] * rb);
    p->loss = eqp_xtake(&at, (int64_t)p->B * 2 * 8);
    p->change = eqp_xtake(&at, 2 * L * n_threads * rows * rb);
    p->done = eqp_xtake(&at, p->B);
    for (int l = 1; l < L; l++) p->pre[l] = eqp_xtake(&at, p->live ? (int64_t)p->B * p->pad[l] * rb : 0);
    p->error = eqp_xtake(&at, (int64_t)n_threads * 4);

    p->own = at;
    at = 0;
    const int64_t reach = (int64_t)p->D * p->B;
    for (int l = 1; l <= L; l++) {
        p->inv[l] = eqp_xtake(&at, (int64_t)p->pad[l] * rb);
        p->diff[l] = eqp_xtake(&at, train ? (int64_t)p->B * p->pad[l] * rb : 0);
        p->mean[l] = eqp_xtake(&at, train ? (int64_t)p->B * p->pad[l] * rb : 0);
    }
    int32_t widest = 0;
    for (int l = 1; l <= L; l++) widest = p->pad[l] > widest ? p->pad[l] : widest;
    p->inv_plus = eqp_xtake(&at, (int64_t)p->pad[L] * rb);
    p->inv_minus = eqp_xtake(&at, (int64_t)p->pad[L] * rb);
    p->square = eqp_xtake(&at, (int64_t)widest * rb);
    p->part = eqp_xtake(&at, (int64_t)widest * rb);
    p->dots = eqp_xtake(&at, rows * (int64_t)(p->pad[L] > EQP_X_SUB ? p->pad[L] : EQP_X_SUB) * rb);
    /* running vectors of a strip's dot products: one of at most 64 bytes for each row and sample */
    p->sums = eqp_xtake(&at, rows * (int64_t)(p->pad[L] > EQP_X_SUB ? p->pad[L] : EQP_X_SUB) * 64);
    p->starts = eqp_xtake(&at, 2 * ((int64_t)(train ? p->D : p->B) + 1) * 4);
    p->entries = eqp_xtake(&at, (train ? 2 : 1) * reach * 4);
    p->values = eqp_xtake(&at, (train ? 2 : 1) * reach * rb);
    p->flags = eqp_xtake(&at, rows * 8);
    if (p->live) {
        eqp_xplan all = *p;
        p->live_mask = eqp_xtake(&at, (int64_t)widest * 2);
        for (int l = 1; l <= L; l++) p->live_index[l] = eqp_xtake(&at, (int64_t)(p->n[l] + 1) * 4);
        p->live_net = at;
        at = eqp_xlive_layout(&all, p->n, at, rb);
    }
    p->own_bytes = at;
    p->bytes = p->own + p->own_bytes * n_threads;
    return EQP_OK;
}
#endif
