/* graph.h - networks of any shape (equations 1.7; docs/network.md, "Layers and connections"): the
 * packed network, a tile of samples, and what the files of the family share.
 *
 * Letters, in all files of the family:
 *     k           a layer, 0 the input, L the output
 *     c           a connection (link, edge); in a map also a channel
 *     n[k]        units of layer k;  np[k]: reals from one sample's row to the next (PAD)
 *     C[k], P[k]  channels and pixels of layer k; a flat layer is n channels of one pixel
 *     C, H, W     channels, height and width of the map below a connection
 *     O, OW       of the map that a convolution makes
 *     h, w        of the layer above, which is that map pooled in squares of window x window
 *     s, m        a sample of a tile; of a batch
 *     o           a channel above;  i, j: a unit below, a unit above
 *     q           a place in a pooled square, row by row
 *     run         the numbers that one row of a kernel meets, k C;  runs: of them in a kernel, k
 *     line        from one row of the (padded) map below to the next
 *     e           an end of the contrast, 0 or 1 (batch.h)
 *     T           threads;  B: samples of a batch
 *
 * A map lies pixel by pixel, the channels of a pixel together. So what a row of a kernel meets is
 * one run of k C numbers, and an output pixel is a sum of k products of such a run with rows of
 * packed weights: the convolution is the matrix kernel of core/gemm.h, without copies of windows. A
 * dense connection is one run of n[below] numbers, and its rows are samples instead of pixels.
 *
 * On the way down, a pooled unit reaches k x k pixels from the place of its maximum alone: its row
 * of weights is added k times to runs of k C numbers. That is a (window x window)th of the work of
 * the transposed convolution of the unpooled map, which is zero elsewhere; units that are zero cost
 * nothing.
 *
 * What lies in a row past its n[k] units may be anything, NaN too: kernels read whole vectors but
 * keep only lanes of units. A sample's sums run in the same order wherever it lies in a tile, so
 * that results are bit-equal for any number of threads. */
#ifndef EQP_GRAPH_H
#define EQP_GRAPH_H

#include "core/update.h"
#include "layered/finish.h"

/* The codes of the field POOL; kernels/graph_spec.py has the same. */
enum { POOL_NONE, POOL_MAX, POOL_AVERAGE, N_POOLS };
/* Fields of a row of eqp_graph_job.connection (core/jobs.h). */
enum { BELOW, ABOVE, KERNEL, STRIDE, PADDING, POOL, WINDOW, OWN_BACK, N_FIELDS };

#define GRAPH_TILE_BYTES (384 * 1024) /* states of a tile: with some weights, a core's cache */
#define GRAPH_TILE_MOST  24           /* samples; whole register tiles (MR_MAX) */

/* A connection with its packed weights. Those for the way down are a copy of their own: down is the
 * transpose of up, unless the way back has weights of its own. */
typedef struct {
    int below, above, dense, k, stride, padding, pool, window, own_back; /* as in jobs.h */
    /* PH_, PW_: the map below with its padding (PW is a word of gemm.h); dense: O is n above */
    int C, H, W, PW_, PH_, O, OW, h, w;
    int64_t run, runs; /* length of a run of weights, and how many make a unit */
    int64_t ld;        /* run, rounded up to whole vectors */
    real *up;          /* panels, (runs x run, O): from below */
    real *down;        /* dense: panels (n above, n below); else O x runs x ld: to below */
    real *delta;       /* train: dense (n below, np above), else O x runs x ld: the contrast */
    real *delta_back;  /* where `back` learns: dense (n above, np below), else as delta */
} edge;

/* The network of a job; all threads see the same packed arrays. */
typedef struct {
    const eqp_graph_job *job;
    int L, n_links, n_threads, euler;
    int n[EQP_MAX_LAYERS], np[EQP_MAX_LAYERS];
    int C[EQP_MAX_LAYERS], P[EQP_MAX_LAYERS]; /* channels and pixels */
    edge links[EQP_MAX_CONNECTIONS];
    real *bias[EQP_MAX_LAYERS]; /* np[k]: one for each unit */
} graph;

/* A tile: up to `rows` samples that one thread relaxes together. Samples at rest are swapped behind
 * the active ones, so that those are always the first rows. */
typedef struct {
    int rows;
    real *state[EQP_MAX_LAYERS]; /* rows x np[k]; of layer 0: what the input shows */
    /* what layers show: the same arrays in discrete dynamics; of a read-out: beta force */
    real *shown[EQP_MAX_LAYERS];
    real *base[EQP_MAX_LAYERS];  /* rows x np[k]: what comes from the input, and the bias */
    real *field[EQP_MAX_LAYERS]; /* rows x np[k]: all that acts on a unit (equations 1.7) */
    real *y, *push;              /* rows x np[L]: targets; np[L]: beta force of one sample */
    int32_t *where[EQP_MAX_CONNECTIONS]; /* rows x np[above]: q of the maxima */
    int valid[EQP_MAX_CONNECTIONS];      /* whether they are those of the present states */
    real *padded;                        /* the largest padded map */
    real *z;                             /* a row of squares: window x OW x PW */
    int32_t *origin;                     /* rows: which sample this is */
    real *change;                        /* rows: its largest change in this step */
} tile;

/* What a relaxation of a tile is asked: equations 3, with tol < 0 for a fixed number of steps. */
typedef struct {
    int rows, held;       /* held: the output stays where it is */
    double beta, tol, dt; /* tol: of the change per unit time */
    int n_steps;
    int32_t *steps; /* by sample of the tile */
    real *residual; /* likewise, or NULL */
} asked;

#define graph_check(...)   EQP_NAME(graph_check)(__VA_ARGS__)
#define graph_plan(...)    EQP_NAME(graph_plan)(__VA_ARGS__)
#define tile_plan(...)     EQP_NAME(tile_plan)(__VA_ARGS__)
#define graph_pack(...)    EQP_NAME(graph_pack)(__VA_ARGS__)
#define pack_unit(...)     EQP_NAME(pack_unit)(__VA_ARGS__)
#define pack_way_back(...) EQP_NAME(graph_pack_way_back)(__VA_ARGS__)
#define pack_bias(...)     EQP_NAME(pack_bias)(__VA_ARGS__)
#define tile_load(...)     EQP_NAME(tile_load)(__VA_ARGS__)
#define tile_drive(...)    EQP_NAME(tile_drive)(__VA_ARGS__)
#define tile_show(...)     EQP_NAME(tile_show)(__VA_ARGS__)
#define tile_begin(...)    EQP_NAME(tile_begin)(__VA_ARGS__)
#define tile_fields(...)   EQP_NAME(tile_fields)(__VA_ARGS__)
#define tile_finish(...)   EQP_NAME(tile_finish)(__VA_ARGS__)
#define tile_retire(...)   EQP_NAME(tile_retire)(__VA_ARGS__)
#define tile_return(...)   EQP_NAME(tile_return)(__VA_ARGS__)
#define tile_relax(...)    EQP_NAME(tile_relax)(__VA_ARGS__)
#define tile_force(...)    EQP_NAME(tile_force)(__VA_ARGS__)
#define tile_where(...)    EQP_NAME(tile_where)(__VA_ARGS__)
#define lift(...)          EQP_NAME(graph_lift)(__VA_ARGS__)
#define drop(...)          EQP_NAME(graph_drop)(__VA_ARGS__)
#define pad_map(...)       EQP_NAME(graph_pad_map)(__VA_ARGS__)
#define to_pixels(...)     EQP_NAME(to_pixels)(__VA_ARGS__)
#define to_channels(...)   EQP_NAME(to_channels)(__VA_ARGS__)

/* pack.c */
int graph_check(const eqp_graph_job *job);
void graph_plan(graph *net, const eqp_graph_job *job, int n_threads, int trains, arena *arena);
void graph_pack(graph *net, int thread);
void pack_unit(graph *net, int c, int64_t o);
void pack_way_back(graph *net, int c, int64_t j);
void pack_bias(graph *net, int k);
void to_pixels(const graph *net, int k, const real *from, real *to);
void to_channels(const graph *net, int k, const real *from, real *to);
/* conv.c */
const real *pad_map(const edge *link, const real *map, real *padded);
void lift(const edge *link, const real *below, int64_t ld_below, real *above, int64_t ld_above,
          int32_t *where, int rows, real *padded, real *z);
void drop(const edge *link, const real *above, int64_t ld_above, const int32_t *where, real *below,
          int64_t ld_below, int rows, real *padded);
/* graph.c */
void tile_plan(const graph *net, tile *tile, int rows, int thread, arena *arena);
void tile_load(const graph *net, tile *tile, int s, int64_t row);
void tile_drive(const graph *net, tile *tile, int rows);
void tile_show(const graph *net, tile *tile, int rows);
void tile_begin(const graph *net, tile *tile, const asked *asked);
void tile_fields(const graph *net, tile *tile, int rows, int pass, const asked *asked);
int tile_finish(const graph *net, tile *tile, int rows, int pass, const asked *asked);
int tile_retire(const graph *net, tile *tile, int active, int step, const asked *asked);
void tile_return(const graph *net, tile *tile, int rows);
int tile_relax(const graph *net, tile *tile, const asked *asked);
void tile_force(const graph *net, tile *tile, int rows, double beta);
void tile_where(const graph *net, tile *tile, int rows, int c);

/* Unit of layer k, in the caller's order (channel by channel), that lies at place i (pixel by
 * pixel). */
EQP_INLINE int64_t unit_at(const graph *net, int k, int64_t i) {
    return i % net->C[k] * net->P[k] + i / net->C[k];
}
/* Samples of a tile: as many as have states, base and field in GRAPH_TILE_BYTES. */
EQP_INLINE int tile_rows_of(const graph *net) {
    int64_t bytes = 0;
    for (int k = 0; k <= net->L; k++) bytes += (int64_t)net->np[k] * 3 * (int64_t)sizeof(real);
    const int64_t rows = GRAPH_TILE_BYTES / bytes;
    return rows < 1 ? 1 : rows > GRAPH_TILE_MOST ? GRAPH_TILE_MOST : (int)rows;
}

#endif
