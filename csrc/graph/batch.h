/* batch.h - a mini-batch of a graph: what its samples leave to learn from, shared by all threads.
 *
 * Letters: graph.h, and
 *     m       a sample of the batch; rows of the arrays are np[k] apart
 *     e       an end of the contrast: 0 nudged (at beta), 1 free (or at -beta)
 *     low     what stands below in a product of the contrast, a_i;  high: above, times the weight
 *     turn    what a thread knows of the batch at hand
 *
 * A thread writes the rows of its own samples and, behind a barrier, reads those of all. */
#ifndef EQP_GRAPH_BATCH_H
#define EQP_GRAPH_BATCH_H

#include "graph/graph.h"
#include "layered/rules.h"

/* An end is a moment whose correlations count (equations 4): the nudged states, with a minus those
 * that they are compared with. The vector fields (6) have one: what a step has changed, beside what
 * was shown before it. */
typedef struct {
    int B, ends;
    real *low[2][EQP_MAX_LAYERS];  /* B x np[k]: what the layers show; of the input: [0] */
    real *high[2][EQP_MAX_LAYERS]; /* the same (vector fields: the change) times the samples'
                                      weights; [1] with a minus */
    real *both[EQP_MAX_LAYERS];    /* sum of the ends of `high`; vector fields: of its steps */
    int32_t *where[2][EQP_MAX_CONNECTIONS]; /* B x np[above]; from the input: [0] */
    real *start[EQP_MAX_LAYERS];            /* a tile's free states; the thread's own */
    real *free[EQP_MAX_LAYERS]; /* B x np[k]: free states, where they persist; else NULL */
    double *cost;                           /* B */
    int32_t *right, *steps;                 /* B; 3 x B: of the free phase, of the nudged ones */
    int32_t *bad, *active; /* n_threads: whether a state is no number; samples not yet at rest */
    real *row, *moved, *v1, *v2; /* rows of weights, with moments: the thread's own */
} batch;

/* One batch's turn, on one thread: its samples are [lo, hi) of `rows`. */
typedef struct {
    int rows, lo, hi, thread;
    const int64_t *order; /* of the whole batch */
    int64_t number;
    double beta;  /* with its sign */
    double scale; /* from a summed contrast to minus the gradient */
} turn;

#define keep_end(...)     EQP_NAME(graph_keep_end)(__VA_ARGS__)
#define add_ends(...)     EQP_NAME(graph_add_ends)(__VA_ARGS__)
#define copy_states(...)  EQP_NAME(graph_copy_states)(__VA_ARGS__)
#define correlate(...)    EQP_NAME(graph_correlate)(__VA_ARGS__)
#define learn(...)        EQP_NAME(graph_learn)(__VA_ARGS__)
#define step_by_step(...) EQP_NAME(graph_step_by_step)(__VA_ARGS__)

/* train.c */
void keep_end(const graph *net, tile *tile, batch *batch, int e, int rows, int m0,
              const int64_t *order);
void add_ends(const graph *net, batch *batch, int lo, int hi);
void copy_states(const graph *net, real *const *from, real *const *to, int rows);
/* learn.c */
void correlate(graph *net, tile *tile, const batch *batch, const turn *turn, int further);
void learn(graph *net, batch *batch, const turn *turn);
/* steps.c */
int step_by_step(graph *net, tile *tile, batch *batch, const turn *turn);

/* Weight of a row of the data in its batch. */
EQP_INLINE real weight_of(const eqp_graph_job *job, int64_t row) {
    return job->row_weight ? ((const real *)job->row_weight)[row] : 1;
}

/* Tells all threads whether all of this one's states are numbers; returns whether all threads' are.
 * `bad` may be written again only behind a further barrier, when all have read it. All that was
 * written before this one is then seen by all. */
EQP_INLINE int all_good(const graph *net, batch *batch, int thread, int good) {
    batch->bad[thread] = !good;
    eqp_wait(net->job->barrier, net->n_threads);
    int bad = 0;
    for (int t = 0; t < net->n_threads; t++) bad |= batch->bad[t];
    return !bad;
}

#endif
