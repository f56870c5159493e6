/* layered.h - what layered.c (relaxation) and train.c (learning) share: the packed network and its scratch.
 *
 * In scratch every row is padded to PAD reals with zeros. Weights are packed once per call:
 *   weight[0]    in column chunks of `chunk` columns (each thread owns whole chunks: drive and update stay in its cache)
 *   weight[k>0]  in gemm panels, forward (rows = units below) and backward (rows = units above)
 */
#ifndef EQP_LAYERED_H
#define EQP_LAYERED_H

#include "core/activation.h"
#include "core/barrier.h"
#include "core/eqprop.h"
#include "core/gemm.h"

#define TILE_ROWS 24 /* samples of one relaxation tile in layered_relax */
#define LANES 16     /* most lanes of any vector */
#define SAMPLE_SPLIT_BYTES (384 * 1024) /* inner weights up to this size: split relaxation by samples, not columns */
#define NARROW_MAX 10                   /* outputs that narrow.c serves */

/* Bytes of the weights between neurons, with their transposes. */
EQP_INLINE int64_t inner_bytes(const eqp_layered_job *j) {
    int64_t total = 0;
    for (int k = 1; k < j->n_weights; k++) total += (int64_t)j->size[k] * j->size[k + 1] * 2 * (int64_t)sizeof(real);
    return total;
}

/* Buffers of the threads that relax one set of samples together. */
typedef struct {
    int32_t rows;                                /* capacity */
    real *drive, *y, *prediction;                /* rows x np[1], np[L], np[L] */
    real *state[EQP_MAX_WEIGHTS + 1][2];         /* rows x np[k], two: a synchronous step needs old and new */
    real *shown[EQP_MAX_WEIGHTS + 1][2];         /* rho(state) in continuous dynamics, else the state itself */
    real *residual[2];                           /* n_threads x rows x LANES, by parity of the step */
    real *feedback, *forward;                    /* narrow.h: np[1] x NARROW_MAX; the same array for tied weights */
    int32_t *origin;                             /* n_threads x rows: which sample an active row is */
} team;

typedef struct {
    const eqp_layered_job *job;
    int L, n_threads;
    int n[EQP_MAX_WEIGHTS + 1];
    int64_t np[EQP_MAX_WEIGHTS + 1];
    int euler, plain; /* plain: the undamped discrete map */
    int narrow;       /* one hidden layer under a few outputs: both layers step in one pass (narrow.c) */
    int64_t chunk;    /* columns of a chunk of weight[0] */
    int n_chunks;
    real input_offset; /* rho(0) of the input activation: added to every input, so that zeros stay cheap */
    real *input_colsum; /* np[1]: sum of the rows of weight[0]; kept when input_offset != 0 */
    real *w[EQP_MAX_WEIGHTS], *back[EQP_MAX_WEIGHTS], *bias[EQP_MAX_WEIGHTS];
    real *velocity[3 * EQP_MAX_WEIGHTS], *second[3 * EQP_MAX_WEIGHTS]; /* packed as w, bias, back */
    team mine; /* this thread's buffers: its own in sample-split work, the shared ones in column-split work */
} network;

/* Hands out 64-byte aligned pieces; with base NULL it only counts. */
typedef struct {
    char *base;
    int64_t used;
} arena; /* every thread lays the same plan out, so all see the same addresses */

static inline void *take(arena *a, int64_t count, int64_t size) {
    void *p = a->base ? a->base + a->used : NULL;
    a->used += (count * size + 63) / 64 * 64;
    return p;
}
/* Space of the pieces only one thread uses: laid out for all, kept for `thread`. */
static inline void *take_own(arena *a, int64_t count, int64_t size, int thread, int n_threads) {
    void *mine = NULL;
    for (int t = 0; t < n_threads; t++) {
        void *p = take(a, count, size);
        if (t == thread) mine = p;
    }
    return mine;
}

#define TAKE_REALS(a, count) ((real *)take(a, count, sizeof(real)))

/* One step of one layer. */
typedef struct {
    int k, cur, next, track;
    real force;                 /* cost_factor * beta, 0: no nudge on this layer */
    const real *y, *prediction; /* rows x np[L] */
    real *residual;             /* rows x LANES */
    real *field;                /* rows x np[k]: where to keep the total field, or NULL */
    const operand *extra;       /* more products for the field (continual rules), from row and column 0 */
    int n_extra;
} step;

/* Order in which a step visits the layers. */
enum { VISIT_SYNCHRONOUS, VISIT_ODD_EVEN, VISIT_UPWARDS, VISIT_DOWNWARDS };

/* Layers of pass `p` of a step: first, first + stride, ... <= last. */
typedef struct {
    int first, last, stride;
} visit;

EQP_INLINE int n_passes(int order, int L) { return order == VISIT_SYNCHRONOUS ? 1 : order == VISIT_ODD_EVEN ? 2 : L; }

EQP_INLINE visit layers_of(int order, int L, int p) {
    switch (order) {
    case VISIT_SYNCHRONOUS: return (visit){1, L, 1};
    case VISIT_ODD_EVEN: return (visit){1 + p, L, 2};
    case VISIT_UPWARDS: return (visit){p + 1, p + 1, 1};
    default: return (visit){L - p, L - p, 1};
    }
}

/* What one relaxation is asked. Rows of init/out are np[k] apart; init NULL starts from zero. */
typedef struct {
    int rows;
    const real *drive; /* rows x np[1] */
    const real *y;     /* rows x np[L], or NULL when beta == 0 */
    real *const *init; /* by layer 1..L */
    real *const *out;
    double beta, tol;
    int n_steps, order, hold_output; /* order: VISIT_*; hold_output: layer L stays as it starts */
    int32_t *steps;  /* (rows) or NULL */
    real *residual;  /* (rows) or NULL */
} relaxation;

/* Samples for threads to take, each from its own share first, then from the others': how many of a share are taken is
 * counted at counters[thread * LANES] (LANES apart: a cache line each). */
typedef struct {
    int32_t *counters;
    int rows, thread, n_threads;
} sample_queue;

int EQP_NAME(layered_check)(const eqp_layered_job *job);
void EQP_NAME(network_plan)(network *net, const eqp_layered_job *job, int thread, int n_threads, int n_teams,
                            int team_rows, arena *a);
void EQP_NAME(network_pack)(network *net, int thread);
void EQP_NAME(network_unpack)(const network *net, int thread);
void EQP_NAME(transpose_panels)(real *from, real *to, int64_t rows, int64_t cols, int thread, int n_threads);
void EQP_NAME(pack_back)(network *net, int k, int thread);
void EQP_NAME(relax)(const network *net, team *t, int thread, int n_threads, const relaxation *r);
void EQP_NAME(narrow_pack)(const network *net, const team *t, int nk);
int EQP_NAME(relax_narrow)(const network *net, team *t, const relaxation *phases, int n_phases, const sample_queue *queue, int32_t *taken);
void EQP_NAME(copy_row)(real *dst, const real *src, int64_t n, int64_t padded);
void EQP_NAME(step_layer)(const network *net, team *t, const step *st, int row_lo, int row_hi, int thread, int n_threads);
void EQP_NAME(softmax_rows)(const network *net, const real *s, real *p, int rows);
void EQP_NAME(show)(const network *net, int k, const real *s, real *shown, int64_t rows);
void EQP_NAME(team_plan)(const network *net, team *t, int rows, int n_threads, arena *a);
int64_t EQP_NAME(input_row)(const network *net, int64_t row, int32_t *index, real *value);
void EQP_NAME(drive_sparse)(const network *net, int chunk, const int32_t *index, const real *value, int64_t nnz, real *drive);

/* Integer share of `count` things for thread t of n. */
EQP_INLINE int64_t share(int64_t count, int t, int n) { return count * t / n; }

/* Columns of chunk c of weight[0]. */
EQP_INLINE int64_t chunk_width(const network *net, int c) {
    const int64_t left = net->np[1] - c * net->chunk;
    return left < net->chunk ? left : net->chunk;
}
EQP_INLINE real *chunk_at(const network *net, real *packed, int c) { return packed + c * net->chunk * net->n[0]; }

#endif
