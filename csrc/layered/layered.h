/* layered.h - what the files of layered networks share: the packed network, its scratch, and what
 * a step and a relaxation are told.
 *
 * Letters, in all files of the family (docs/equations.md has the same):
 *     L          weight matrices; layer 0 is the input, layer L the output
 *     k          a layer, or the matrix weight[k] between layers k and k + 1
 *     n[k]       units of layer k;  np[k]: the same, rounded up to a multiple of PAD
 *     m, s       a row of a buffer; a sample of a batch (or a step, where a loop says so)
 *     p          a panel of columns (core/gemm.h), or a pass of a step (layers_of)
 *     c, c0      a column, the first one of a tile
 *     v          a column within a tile, a vector at a time
 *     B          samples of a mini-batch
 *     q          parity of a batch's number: two sets of buffers in turn
 *
 * In scratch every row is padded to PAD reals with zeros. Weights are packed once per call:
 *     weight[0]      in column chunks of `chunk` columns; each thread owns whole chunks: drive and
 *                    update stay in its cache from batch to batch
 *     weight[k>0]    in gemm panels, forward (rows = units below) and backward (rows = units above)
 *
 * Where columns of weight[0] that belong to two threads lie in one row, the prefetcher of one core
 * reads ahead what the other is writing, and drive and update gain nothing from a second thread.
 * What two threads write must lie apart, and farther than one cache line: hence the chunks, and
 * LANES between counters. */
#ifndef EQP_LAYERED_H
#define EQP_LAYERED_H

#include "core/activation.h"
#include "core/barrier.h"
#include "core/eqprop.h"
#include "core/gemm.h"

/* Samples of one relaxation tile in layered_relax. */
#define TILE_ROWS 24
/* Most lanes of any vector; counters of different threads lie as far apart. */
#define LANES 16
/* Inner weights up to this size fit in every core's cache: relaxation is split by samples, above it
 * by columns. */
#define SAMPLE_SPLIT_BYTES (384 * 1024)
/* Outputs that narrow.c serves. */
#define NARROW_MAX 10
/* Arrays by layer: [0] is the input. */
#define LAYERS (EQP_MAX_WEIGHTS + 1)

/* The codes of the jobs; kernels/spec.py has the same. */
enum { DYNAMICS_DISCRETE, DYNAMICS_EULER, N_DYNAMICS };
enum { COST_SQUARED_ERROR, COST_CROSS_ENTROPY, N_COSTS };

/* Bytes of the weights between neurons, with their transposes: what relaxing reads at every step.
 */
EQP_INLINE int64_t inner_bytes(const eqp_layered_job *job) {
    int64_t total = 0;
    for (int k = 1; k < job->n_weights; k++)
        total += (int64_t)job->size[k] * job->size[k + 1] * 2 * (int64_t)sizeof(real);
    return total;
}

/* Buffers of the threads that relax one set of samples together. */
typedef struct {
    int32_t rows;           /* capacity */
    real *drive;            /* rows x np[1] */
    real *y, *prediction;   /* rows x np[L]; the softmax of the outputs, where the cost needs it */
    real *state[LAYERS][2]; /* rows x np[k], two: a synchronous step needs old and new */
    real *shown[LAYERS][2]; /* rho(state) in continuous dynamics, else the state itself */
    real *residual[2];      /* n_threads x rows x LANES, by parity of the step */
    real *feedback;         /* narrow.h: np[1] x NARROW_MAX */
    real *forward;          /* the same; the same array for tied weights */
    int32_t *origin;        /* n_threads x rows: which sample an active row is */
} team;

/* A job's network as the kernels see it: sizes, what is known of its dynamics, packed weights. */
typedef struct {
    const eqp_layered_job *job;
    int L, n_threads;
    int n[LAYERS];      /* units of each layer */
    int64_t np[LAYERS]; /* the same, padded */
    int euler;          /* continuous dynamics */
    int plain;          /* the undamped discrete map, s <- rho(field) */
    int narrow;         /* one hidden layer under a few outputs: both step in one pass (narrow.c) */
    int64_t chunk;      /* columns of a chunk of weight[0] */
    int n_chunks;
    real input_offset;        /* rho(0) of the input activation: added to every input, so that zeros
                                 stay cheap */
    real *input_colsum;       /* np[1]: sum of the rows of weight[0]; kept when input_offset != 0 */
    real *w[EQP_MAX_WEIGHTS]; /* packed forward */
    real *back[EQP_MAX_WEIGHTS]; /* packed backward: the transpose, or weights of its own */
    real *bias[EQP_MAX_WEIGHTS]; /* np[k + 1] */
    /* moments of an optimiser, packed as what they belong to: [k] of weight[k], [L + k] of bias[k],
     * [2 L + k] of back[k] */
    real *velocity[3 * EQP_MAX_WEIGHTS], *second[3 * EQP_MAX_WEIGHTS];
    team mine; /* this thread's buffers: its own in sample-split work, the shared ones in
                  column-split work */
} network;

/* Hands out 64-byte aligned pieces; with base NULL it only counts. Every thread lays the same plan
 * out, so all see the same addresses. */
typedef struct {
    char *base;
    int64_t used;
} arena;

/* The next `count` pieces of `size` bytes, on a cache line of their own; NULL while counting. */
static inline void *take(arena *arena, int64_t count, int64_t size) {
    void *p = arena->base ? arena->base + arena->used : NULL;
    arena->used += (count * size + 63) / 64 * 64;
    return p;
}

/* Space of the pieces only one thread uses: laid out for all, kept for `thread`. */
static inline void *take_own(arena *arena, int64_t count, int64_t size, int thread, int n_threads) {
    void *mine = NULL;
    for (int t = 0; t < n_threads; t++) {
        void *p = take(arena, count, size);
        if (t == thread) mine = p;
    }
    return mine;
}

/* `count` reals of the arena. */
#define TAKE_REALS(a, count) ((real *)take(a, count, sizeof(real)))

/* One step of one layer. */
typedef struct {
    int k;                  /* the layer */
    int cur, next;          /* which of a team's two states is read, which is written */
    int track;              /* the largest change of each row is wanted */
    real force;             /* cost_factor * beta, 0: no nudge on this layer */
    const real *y;          /* rows x np[L] */
    const real *prediction; /* rows x np[L] */
    real *residual;         /* rows x LANES */
    real *field;            /* rows x np[k]: where to keep the total field, or NULL */
    const operand *extra; /* more products for the field (continual rules), from row and column 0 */
    int n_extra;
} step;

/* Order in which a step visits the layers (equations 1.5). Odd-even halves the work: layers of
 * equal parity do not meet, and each sees its neighbours' new states. Downwards is the clamped
 * sweep's (8). */
enum { VISIT_SYNCHRONOUS, VISIT_ODD_EVEN, VISIT_UPWARDS, VISIT_DOWNWARDS };

/* Layers of pass `p` of a step: first, first + stride, ... <= last. */
typedef struct {
    int first, last, stride;
} visit;

/* Passes of one step: how often all threads must have met before the next layers move. */
EQP_INLINE int n_passes(int order, int L) {
    return order == VISIT_SYNCHRONOUS ? 1 : order == VISIT_ODD_EVEN ? 2 : L;
}

/* The layers that pass p of a step moves; they do not meet. */
EQP_INLINE visit layers_of(int order, int L, int p) {
    switch (order) {
    case VISIT_SYNCHRONOUS: return (visit){1, L, 1};
    case VISIT_ODD_EVEN: return (visit){1 + p, L, 2};
    case VISIT_UPWARDS: return (visit){p + 1, p + 1, 1};
    default: return (visit){L - p, L - p, 1};
    }
}

/* What one relaxation is asked. Rows of init/out are np[k] apart. */
typedef struct {
    int rows;
    const real *drive; /* rows x np[1] */
    const real *y;     /* rows x np[L], or NULL when beta == 0 */
    real *const *init; /* by layer 1..L; NULL: from zero */
    real *const *out;
    double beta, tol;
    int n_steps;
    int order;       /* VISIT_* */
    int hold_output; /* layer L stays as it starts */
    int32_t *steps;  /* (rows) or NULL */
    real *residual;  /* (rows) or NULL */
} relaxation;

/* Samples for threads to take, each from its own share first, then from the others': how many of a
 * share are taken is counted at counters[thread * LANES] (LANES apart: a cache line each). */
typedef struct {
    int32_t *counters;
    int rows;              /* of the batch */
    int thread, n_threads; /* who takes, of how many */
} sample_queue;

/* Functions that the files share: each variant has its own, under a name of its own. */
#define layered_check(...)    EQP_NAME(layered_check)(__VA_ARGS__)
#define network_plan(...)     EQP_NAME(network_plan)(__VA_ARGS__)
#define network_pack(...)     EQP_NAME(network_pack)(__VA_ARGS__)
#define network_unpack(...)   EQP_NAME(network_unpack)(__VA_ARGS__)
#define transpose_panels(...) EQP_NAME(transpose_panels)(__VA_ARGS__)
#define pack_back(...)        EQP_NAME(pack_back)(__VA_ARGS__)
#define relax(...)            EQP_NAME(relax)(__VA_ARGS__)
#define narrow_pack(...)      EQP_NAME(narrow_pack)(__VA_ARGS__)
#define relax_narrow(...)     EQP_NAME(relax_narrow)(__VA_ARGS__)
#define copy_row(...)         EQP_NAME(copy_row)(__VA_ARGS__)
#define step_layer(...)       EQP_NAME(step_layer)(__VA_ARGS__)
#define softmax_rows(...)     EQP_NAME(softmax_rows)(__VA_ARGS__)
#define show(...)             EQP_NAME(show)(__VA_ARGS__)
#define team_plan(...)        EQP_NAME(team_plan)(__VA_ARGS__)
#define input_row(...)        EQP_NAME(input_row)(__VA_ARGS__)
#define drive_sparse(...)     EQP_NAME(drive_sparse)(__VA_ARGS__)

/* layered.c */
int layered_check(const eqp_layered_job *job);
void team_plan(const network *net, team *team, int rows, int n_threads, arena *arena);
void network_plan(network *net, const eqp_layered_job *job, int thread, int n_threads, int n_teams,
                  int team_rows, arena *arena);
int64_t input_row(const network *net, int64_t row, int32_t *index, real *value);
void drive_sparse(const network *net, int chunk, const int32_t *index, const real *value,
                  int64_t nnz, real *drive);
void step_layer(const network *net, team *team, const step *step, int row_lo, int row_hi,
                int thread, int n_threads);
void softmax_rows(const network *net, const real *s, real *p, int rows);
void show(const network *net, int k, const real *s, real *shown, int64_t rows);
void relax(const network *net, team *team, int thread, int n_threads, const relaxation *asked);
/* packing.c */
void copy_row(real *dst, const real *src, int64_t n, int64_t padded);
void network_pack(network *net, int thread);
void network_unpack(const network *net, int thread);
void transpose_panels(real *from, real *to, int64_t rows, int64_t cols, int thread, int n_threads);
void pack_back(network *net, int k, int thread);
/* narrow.c */
void narrow_pack(const network *net, const team *team, int nk);
int relax_narrow(const network *net, team *team, const relaxation *phases, int n_phases,
                 const sample_queue *queue, int32_t *taken);

/* The activation of layer k = 1..L. */
EQP_INLINE int activation_of(const network *net, int k) {
    return k == net->L ? net->job->out_activation : net->job->activation;
}

/* Integer share of `count` things for thread t of n. */
EQP_INLINE int64_t share(int64_t count, int t, int n) { return count * t / n; }

/* Columns of chunk c of weight[0]. */
EQP_INLINE int64_t chunk_width(const network *net, int c) {
    const int64_t left = net->np[1] - c * net->chunk;
    return left < net->chunk ? left : net->chunk;
}

/* Where chunk c of the packed weight[0] begins: (N[0], width of the chunk), rows contiguous. */
EQP_INLINE real *chunk_at(const network *net, real *packed, int c) {
    return packed + c * net->chunk * net->n[0];
}

#endif
