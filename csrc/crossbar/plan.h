/* plan.h - sizes, orientation and scratch layout of a crossbar job; the same for every instruction
 * set. Letters: crossbar.c.
 *
 * Inner matrices (k = 1..L-1) are packed so that one pass over their rows serves both neighbours:
 * the new voltage of a row node needs the dot product of its row with the column layer, and then
 * adds its row to the currents into the column layer. Rows are the lower layer, except for the
 * last matrix, whose few outputs are the rows.
 *
 *     L = 3       matrix 1 (layers 1, 2): rows are layer 1, columns layer 2
 *                 matrix 2 (layers 2, 3): rows are layer 3, the outputs, columns layer 2
 * So layer 1 gets its currents as dot products, layer 2 from both sides as sums of rows, and the
 * outputs as dot products again.
 *
 * Rows are cut into at most EQP_X_CHUNKS chunks with their own partial currents, whatever the
 * number of threads: that fixes the order of every sum.
 *
 * The scratch is what all threads share, then a part for each thread; offsets count bytes, so that
 * one layout serves both precisions. */
#ifndef EQP_CROSSBAR_PLAN_H
#define EQP_CROSSBAR_PLAN_H

#include "core/eqprop.h"

/* Most chunks of the rows of a matrix, and so most threads that can share one. */
#define EQP_X_CHUNKS 8
/* Samples a thread relaxes together in crossbar_relax. */
#define EQP_X_TILE 16
/* Rows handled between two uses of their cache lines. */
#define EQP_X_SUB 16
/* Steps of a free phase with all nodes, before live.h drops those at 0 V. */
#define EQP_X_DENSE 2
/* Inner matrices above this: dropping them is worth it. */
#define EQP_X_LIVE_BYTES (256 << 10)
/* Inner matrices above this: threads share the rows, not the samples. */
#define EQP_X_TEAM_BYTES (768 << 10)
/* Arrays by layer: [0] is the input. */
#define EQP_X_LAYERS (EQP_MAX_WEIGHTS + 1)

/* The codes of the jobs; kernels/reference/crossbar.py has the same order of names. */
enum { SWEEP_SYNCHRONOUS, SWEEP_ASYNCHRONOUS, SWEEP_FORWARD, SWEEP_BACKWARD, N_SWEEPS };
enum { NUDGE_CENTERED, NUDGE_POSITIVE, NUDGE_NEGATIVE, N_NUDGES };
enum { STEP_SGD, STEP_MOMENTUM, STEP_NESTEROV, N_STEPS };

/* Nudged phases of a sample. */
static inline int eqp_xsigns(const eqp_crossbar_job *job) {
    return job->nudging == NUDGE_CENTERED ? 2 : 1;
}

/* Sizes, and byte offsets into the scratch. l: a layer, k: a matrix. */
typedef struct {
    /* --- sizes --- */
    int32_t L, D, B;
    int32_t train;                              /* 1: crossbar_train, 0: crossbar_relax */
    int32_t outputs;                            /* columns of y */
    int32_t lanes;                              /* reals per 64 bytes */
    int32_t block, n_blocks;                    /* columns of a packed block of weight[0] */
    int32_t rows_total;                         /* rows of the state arrays */
    int32_t team;                               /* 1: all threads relax all samples together */
    int32_t live;                               /* 1: nodes held at 0 V drop out (live.h) */
    int32_t n[EQP_X_LAYERS], pad[EQP_X_LAYERS]; /* units of layer l; padded */
    int32_t n_rows[EQP_MAX_WEIGHTS], n_cols[EQP_MAX_WEIGHTS]; /* of matrix k as it is packed */
    int32_t ld[EQP_MAX_WEIGHTS];                              /* reals from row to row */
    int32_t row_layer[EQP_MAX_WEIGHTS], col_layer[EQP_MAX_WEIGHTS];
    int32_t n_chunks[EQP_MAX_WEIGHTS],
        chunk[EQP_MAX_WEIGHTS];       /* chunks of matrix k; rows in each */
    int32_t row_matrix[EQP_X_LAYERS]; /* matrix whose rows are layer l, or 0 */

    /* --- shared by all threads: bytes from the scratch's first --- */
    int64_t g0, v0;                                 /* weight[0] and its velocity, in blocks */
    int64_t sum0;                                   /* pad[1]: its column sums */
    int64_t w[EQP_MAX_WEIGHTS], v[EQP_MAX_WEIGHTS]; /* matrix k and its velocity, packed */
    int64_t col_part[EQP_MAX_WEIGHTS];              /* n_chunks x pad: its column sums, in parts */
    int64_t row_sum[EQP_MAX_WEIGHTS];               /* its row sums */
    int64_t acc[EQP_MAX_WEIGHTS];                   /* currents into its columns: 2 x n_chunks x
                                                       rows_total x pad */
    int64_t acc_chunk[EQP_MAX_WEIGHTS];             /* bytes of one chunk's part of them */
    int64_t state[EQP_X_LAYERS];                    /* rows_total x pad: voltages */
    int64_t bias[EQP_X_LAYERS], lower[EQP_X_LAYERS], upper[EQP_X_LAYERS]; /* pad */
    int64_t drive, target;     /* samples x pad[1], pad[L] */
    int64_t loss;              /* B x 2 doubles: cost, right argmax */
    int64_t change;            /* 2 x L x n_threads x rows_total */
    int64_t error;             /* n_threads: status of each */
    int64_t done;              /* B bytes: relaxed by live.h */
    int64_t pre[EQP_X_LAYERS]; /* B x pad: voltages without diodes, from the
                                  last kept step */

    /* --- each thread's own part: bytes from its first --- */
    int64_t own, own_bytes;                         /* first byte of thread 0; bytes per thread */
    int64_t inv[EQP_X_LAYERS];                      /* pad: 1 / total conductance */
    int64_t inv_plus, inv_minus;                    /* pad[L]: the same with the nudge's */
    int64_t diff[EQP_X_LAYERS], mean[EQP_X_LAYERS]; /* B x pad: the contrast's two factors */
    int64_t square, part;                           /* widest pad */
    int64_t sums, dots;                             /* rows_total x a strip: running, done */
    int64_t starts, entries, values;                /* nonzero inputs, as sparse_batch says */
    int64_t flags;                                  /* rows_total x 2 bytes: sign, active */
    int64_t live_net, live_mask, live_index[EQP_X_LAYERS]; /* live.h */
    int64_t bytes;                                         /* of all */
} eqp_xplan;

/* The next `bytes` bytes of the scratch, on a cache line of their own. */
static inline int64_t eqp_xtake(int64_t *at, int64_t bytes) {
    const int64_t here = *at;
    *at += (bytes + 63) / 64 * 64;
    return here;
}

/* n rounded up to a multiple of m. */
static inline int32_t eqp_xup(int32_t n, int32_t m) { return (n + m - 1) / m * m; }

/* The live network of one sample, count[l] units of each layer, laid out from byte `at` of the
 * scratch on: three state rows (free and two nudged), one chunk, one thread. `plan` comes as that
 * of the whole. Returns the first byte behind. */
static inline int64_t eqp_xlive_layout(eqp_xplan *plan, const int32_t *count, int64_t at, int rb) {
    const int32_t L = plan->L, pairs = plan->outputs < plan->n[L];
    const int64_t rows = 3;
    for (int l = 1; l <= L; l++)
        plan->n[l] = count[l], plan->pad[l] = eqp_xup(count[l], plan->lanes);
    plan->team = 0, plan->live = 0, plan->B = 1, plan->rows_total = (int32_t)rows, plan->own = 0,
    plan->own_bytes = 0;
    for (int k = 1; k < L; k++) {
        plan->n_rows[k] = plan->n[plan->row_layer[k]],
        plan->n_cols[k] = plan->n[plan->col_layer[k]];
        plan->ld[k] = plan->pad[plan->col_layer[k]];
        if ((int64_t)plan->ld[k] * rb % 1024 == 0) plan->ld[k] += plan->lanes;
        plan->n_chunks[k] = 1;
        plan->chunk[k] = eqp_xup(plan->n_rows[k], k == L - 1 && pairs ? 4 : EQP_X_SUB);
        /* pack_columns overshoots by less than 64 bytes */
        plan->w[k] = eqp_xtake(&at, (int64_t)eqp_xup(plan->n_rows[k], 4) * plan->ld[k] * rb + 64);
        plan->acc_chunk[k] = rows * plan->pad[plan->col_layer[k]] * rb;
        plan->acc[k] = eqp_xtake(&at, 2 * plan->acc_chunk[k]);
    }
    for (int l = 1; l <= L; l++) {
        plan->state[l] = eqp_xtake(&at, rows * plan->pad[l] * rb);
        plan->bias[l] = eqp_xtake(&at, (int64_t)plan->pad[l] * rb);
        plan->lower[l] = eqp_xtake(&at, (int64_t)plan->pad[l] * rb);
        plan->upper[l] = eqp_xtake(&at, (int64_t)plan->pad[l] * rb);
        plan->inv[l] = eqp_xtake(&at, (int64_t)plan->pad[l] * rb);
    }
    plan->inv_plus = eqp_xtake(&at, (int64_t)plan->pad[L] * rb);
    plan->inv_minus = eqp_xtake(&at, (int64_t)plan->pad[L] * rb);
    plan->drive = eqp_xtake(&at, (int64_t)plan->pad[1] * rb);
    plan->target = eqp_xtake(&at, (int64_t)plan->pad[L] * rb);
    plan->change = eqp_xtake(&at, 2 * L * rows * rb);
    const int64_t strip = plan->pad[L] > EQP_X_SUB ? plan->pad[L] : EQP_X_SUB;
    plan->dots = eqp_xtake(&at, rows * strip * rb);
    plan->sums = eqp_xtake(&at, rows * strip * 64);
    plan->flags = eqp_xtake(&at, rows * 8);
    return at;
}

/* Whether the sizes of the job make sense; arrays are checked by open_context. */
static inline int eqp_xplan_check(const eqp_crossbar_job *job, int train, int n_threads) {
    if (!job || !job->size) return EQP_E_NULL;
    const int32_t L = job->n_weights;
    if (L < 1 || L > EQP_MAX_WEIGHTS || n_threads < 1 || job->n_rows < 0) return EQP_E_SIZE;
    if (train && job->batch_size < 1) return EQP_E_SIZE;
    for (int l = 0; l <= L; l++)
        if (job->size[l] < 1 || job->size[l] > (1 << 24)) return EQP_E_SIZE;
    return job->pairs && job->size[L] % 2 ? EQP_E_SIZE : EQP_OK;
}

/* Units, samples and orientation: which layer is the rows of each inner matrix, and how its rows
 * are cut into chunks. */
static inline void eqp_xplan_sizes(eqp_xplan *plan, const eqp_crossbar_job *job, int train,
                                   int n_threads, int rb) {
    const int32_t L = job->n_weights;
    const int32_t lanes = 64 / rb;
    plan->L = L;
    plan->D = job->size[0];
    plan->train = train;
    plan->lanes = lanes;
    plan->block = 4 * lanes;
    plan->n_blocks = (job->size[1] + plan->block - 1) / plan->block;
    plan->B = train ? job->batch_size : EQP_X_TILE;
    plan->outputs = job->pairs ? job->size[L] / 2 : job->size[L];
    plan->rows_total = train ? 3 * plan->B : EQP_X_TILE * n_threads;
    for (int l = 0; l <= L; l++) {
        plan->n[l] = job->size[l];
        plan->pad[l] = l == 1 ? plan->n_blocks * plan->block : eqp_xup(job->size[l], lanes);
        plan->row_matrix[l] = 0;
    }
    for (int k = 1; k < L; k++) {
        const int last = k == L - 1;
        plan->row_layer[k] = last ? L : k;
        plan->col_layer[k] = last ? L - 1 : k + 1;
        plan->row_matrix[plan->row_layer[k]] = k;
        plan->n_rows[k] = plan->n[plan->row_layer[k]];
        plan->n_cols[k] = plan->n[plan->col_layer[k]];
        plan->ld[k] = plan->pad[plan->col_layer[k]];
        /* else a column of lines shares few cache sets */
        if ((int64_t)plan->ld[k] * rb % 1024 == 0) plan->ld[k] += lanes;
        int32_t chunk = eqp_xup((plan->n_rows[k] + EQP_X_CHUNKS - 1) / EQP_X_CHUNKS, EQP_X_SUB);
        /* a pair is solved in one piece */
        if (last && job->pairs) chunk = eqp_xup(plan->n_rows[k], 4);
        plan->chunk[k] = chunk;
        plan->n_chunks[k] = (plan->n_rows[k] + chunk - 1) / chunk;
    }
}

/* Whether nodes at 0 V drop out (live), and whether threads relax all samples together (team). */
static inline void eqp_xplan_paths(eqp_xplan *plan, const eqp_crossbar_job *job, int n_threads,
                                   int rb) {
    int64_t inner = 0; /* bytes of the inner matrices */
    for (int k = 1; k < plan->L; k++) inner += (int64_t)plan->n_rows[k] * plan->ld[k] * rb;
    /* phases so short that the packing would not be earned back stay whole */
    const int long_enough = plan->train && job->n_free_steps >= EQP_X_DENSE &&
                            job->n_free_steps + job->n_nudged_steps >= EQP_X_DENSE + 3;
    plan->live = long_enough && plan->L > 2 && inner > EQP_X_LIVE_BYTES;
    plan->team = plan->train && n_threads > 1 && inner > EQP_X_TEAM_BYTES;
}

/* What all threads share: packed conductances, currents, states. Returns the first byte behind. */
static inline int64_t eqp_xplan_shared(eqp_xplan *plan, const eqp_crossbar_job *job, int train,
                                       int n_threads, int rb) {
    const int32_t L = plan->L;
    const int64_t rows = plan->rows_total;
    int64_t at = 0;
    /* relaxing needs g+ - g- alone */
    plan->g0 =
        eqp_xtake(&at, (int64_t)plan->n_blocks * plan->D * (train ? 2 : 1) * plan->block * rb);
    /* velocities are packed as the conductances are */
    const int moving = train && job->optimizer != STEP_SGD;
    plan->v0 =
        eqp_xtake(&at, moving ? (int64_t)plan->n_blocks * plan->D * 2 * plan->block * rb : 0);
    plan->sum0 = eqp_xtake(&at, (int64_t)plan->pad[1] * rb);
    for (int k = 1; k < L; k++) {
        plan->w[k] = eqp_xtake(&at, (int64_t)eqp_xup(plan->n_rows[k], 4) * plan->ld[k] * rb);
        plan->v[k] =
            eqp_xtake(&at, moving ? (int64_t)eqp_xup(plan->n_rows[k], 4) * plan->ld[k] * rb : 0);
        plan->col_part[k] =
            eqp_xtake(&at, (int64_t)plan->n_chunks[k] * plan->pad[plan->col_layer[k]] * rb);
        plan->row_sum[k] = eqp_xtake(&at, (int64_t)plan->pad[plan->row_layer[k]] * rb);
        plan->acc_chunk[k] = rows * plan->pad[plan->col_layer[k]] * rb;
        plan->acc[k] = eqp_xtake(&at, 2 * plan->n_chunks[k] * plan->acc_chunk[k]);
    }
    for (int l = 1; l <= L; l++) {
        plan->state[l] = eqp_xtake(&at, rows * plan->pad[l] * rb);
        plan->bias[l] = eqp_xtake(&at, (int64_t)plan->pad[l] * rb);
        plan->lower[l] = eqp_xtake(&at, (int64_t)plan->pad[l] * rb);
        plan->upper[l] = eqp_xtake(&at, (int64_t)plan->pad[l] * rb);
    }
    plan->drive = eqp_xtake(&at, (int64_t)(train ? plan->B : rows) * plan->pad[1] * rb);
    plan->target = eqp_xtake(&at, (int64_t)(train ? plan->B : rows) * plan->pad[L] * rb);
    plan->loss = eqp_xtake(&at, (int64_t)plan->B * 2 * 8);
    plan->change = eqp_xtake(&at, 2 * L * n_threads * rows * rb);
    plan->done = eqp_xtake(&at, plan->B);
    for (int l = 1; l < L; l++)
        plan->pre[l] = eqp_xtake(&at, plan->live ? (int64_t)plan->B * plan->pad[l] * rb : 0);
    plan->error = eqp_xtake(&at, (int64_t)n_threads * 4);
    return at;
}

/* What each thread has for itself, by offset into its own part. Returns the bytes of a part. */
static inline int64_t eqp_xplan_own(eqp_xplan *plan, int train, int rb) {
    const int32_t L = plan->L;
    const int64_t rows = plan->rows_total;
    int64_t at = 0;
    const int64_t reach = (int64_t)plan->D * plan->B;
    for (int l = 1; l <= L; l++) {
        plan->inv[l] = eqp_xtake(&at, (int64_t)plan->pad[l] * rb);
        plan->diff[l] = eqp_xtake(&at, train ? (int64_t)plan->B * plan->pad[l] * rb : 0);
        plan->mean[l] = eqp_xtake(&at, train ? (int64_t)plan->B * plan->pad[l] * rb : 0);
    }
    int32_t widest = 0;
    for (int l = 1; l <= L; l++) widest = plan->pad[l] > widest ? plan->pad[l] : widest;
    plan->inv_plus = eqp_xtake(&at, (int64_t)plan->pad[L] * rb);
    plan->inv_minus = eqp_xtake(&at, (int64_t)plan->pad[L] * rb);
    plan->square = eqp_xtake(&at, (int64_t)widest * rb);
    plan->part = eqp_xtake(&at, (int64_t)widest * rb);
    plan->dots =
        eqp_xtake(&at, rows * (int64_t)(plan->pad[L] > EQP_X_SUB ? plan->pad[L] : EQP_X_SUB) * rb);
    /* running vectors of a strip's dot products: one of at most 64 bytes for each row and sample */
    plan->sums =
        eqp_xtake(&at, rows * (int64_t)(plan->pad[L] > EQP_X_SUB ? plan->pad[L] : EQP_X_SUB) * 64);
    plan->starts = eqp_xtake(&at, 2 * ((int64_t)(train ? plan->D : plan->B) + 1) * 4);
    plan->entries = eqp_xtake(&at, (train ? 2 : 1) * reach * 4);
    plan->values = eqp_xtake(&at, (train ? 2 : 1) * reach * rb);
    plan->flags = eqp_xtake(&at, rows * 8);
    if (plan->live) {
        eqp_xplan all = *plan;
        plan->live_mask = eqp_xtake(&at, (int64_t)widest * 2);
        for (int l = 1; l <= L; l++)
            plan->live_index[l] = eqp_xtake(&at, (int64_t)(plan->n[l] + 1) * 4);
        plan->live_net = at;
        at = eqp_xlive_layout(&all, plan->n, at, rb);
    }
    return at;
}

/* The whole plan of a job: sizes, paths, and where everything lies in the scratch. Every thread
 * makes the same one. rb: bytes of a real. */
static inline int eqp_xplan_make(eqp_xplan *plan, const eqp_crossbar_job *job, int train,
                                 int n_threads, int rb) {
    const int status = eqp_xplan_check(job, train, n_threads);
    if (status != EQP_OK) return status;
    eqp_xplan_sizes(plan, job, train, n_threads, rb);
    eqp_xplan_paths(plan, job, n_threads, rb);
    plan->own = eqp_xplan_shared(plan, job, train, n_threads, rb);
    plan->own_bytes = eqp_xplan_own(plan, train, rb);
    plan->bytes = plan->own + plan->own_bytes * n_threads;
    return EQP_OK;
}
#endif
