/* boltzmann.h - what sampling and learning of Boltzmann machines share: the packed machine, a block
 * of rows, and the sweeps over it (equations 14; twin: kernels/reference/boltzmann.py).
 *
 * Letters:
 *     L            weight matrices; layer 0 is the visible one, layer L the last
 *     k            a layer; W_k joins layers k and k + 1
 *     n[k], np[k]  units of layer k; the same, padded (core/gemm.h)
 *     a            what a unit gets from its neighbours; the field is beta a + bias
 *     beta         inverse temperature: 1 but in annealing (and in the pass upwards)
 *     p            a panel of columns; where units are drawn, their probabilities
 *     q            a panel of the transpose
 *     c, i, j      columns; rows and columns of a weight matrix
 *     m            a row of the block
 *     t            a sweep; where memory is laid out, a thread
 *
 * A thread takes BM_BLOCK rows at a time through all sweeps. Rows never meet, a row's sums do not
 * depend on the rows beside it (core/gemm.h), and its draws are made from its number: so results do
 * not depend on the number of threads, nor on where in a block a row lies.
 *
 * Rows of states are padded with zeros, and so are biases and panels: a, and fields too, are 0
 * behind the last unit. */
#ifndef EQP_BOLTZMANN_H
#define EQP_BOLTZMANN_H

#include "boltzmann/threefry.h"
#include "core/activation.h"
#include "core/barrier.h"
#include "core/eqprop.h"
#include "core/gemm.h"

/* Layers of the largest machine. */
#define BM_LAYERS (EQP_MAX_WEIGHTS + 1)
/* Rows of a block: whole register tiles, of 12 rows or of 6, and few enough for the second-level
 * cache. */
#define BM_BLOCK 48
/* Vectors whose factors 1 + exp(-|x|) <= 2 are multiplied before a logarithm is taken: 2^64 at the
 * most, which single precision holds. */
#define BM_FACTORS 64

/* Hands out 64-byte aligned pieces; with base NULL it only counts. */
typedef struct {
    char *base;
    int64_t used;
} bm_arena;

/* The next `count` reals, from a cache line on: pieces of two threads share none. */
static inline real *bm_take(bm_arena *arena, int64_t count) {
    void *piece = arena->base ? arena->base + arena->used : NULL;
    arena->used += (count * (int64_t)sizeof(real) + 63) / 64 * 64;
    return piece;
}

/* The machine as the kernels read it. */
typedef struct {
    int L, categorical; /* categorical: exactly one unit of layer L is on */
    int n[BM_LAYERS];
    int64_t np[BM_LAYERS], widest; /* widest: the largest np */
    real *up[EQP_MAX_WEIGHTS];     /* panels of W_k: rows of layer k, columns of layer k + 1 */
    real *down[EQP_MAX_WEIGHTS];   /* panels of its transpose */
    real *bias[BM_LAYERS];         /* np[k] */
} bm_net;

/* A thread's own memory. Nothing in it outlives a block but `zeros` and `base`. */
typedef struct {
    real *state[BM_LAYERS], *mean[BM_LAYERS];                    /* BM_BLOCK x np[k] */
    real *field;                                                 /* BM_BLOCK x widest */
    real *bias[BM_LAYERS], *before[BM_LAYERS], *base[BM_LAYERS]; /* np[k], see bm_cool */
    real *zeros, *draws;                                         /* widest; and a group more */
    real *change; /* BM_BLOCK: the largest of a unit in this sweep */
} bm_work;

/* What is done with rows that lie in arrays with ld[k] reals from row to row: n[k] for those of a
 * caller, np[k] for those of learn.c. No two arrays may overlap. The rest as in eqp_boltzmann_job;
 * NULL: not asked for. */
typedef struct {
    real *state[BM_LAYERS], *mean[BM_LAYERS]; /* mean: NULL if not wanted */
    int64_t ld[BM_LAYERS];
    const int8_t *clamped, *mask; /* mask: (rows, n[0]) or NULL */
    int n_sweeps, draw, even_first, upward;
    double tol;
    int64_t seed, first_sweep;
    const double *betas;
    void **base;
    double *log_weight;
    int32_t *steps;
    real *residual;
} bm_task;

/* Fills in the sizes of a machine of L matrices, plain and padded; EQP_OK if they are in range. */
static inline int bm_sizes(bm_net *net, int L, const int32_t *size, int categorical) {
    if (!size) return EQP_E_NULL;
    if (L < 1 || L > EQP_MAX_WEIGHTS) return EQP_E_SIZE;
    *net = (bm_net){.L = L, .categorical = categorical};
    for (int k = 0; k <= L; k++) {
        if (size[k] < 1) return EQP_E_SIZE;
        net->n[k] = size[k], net->np[k] = pad_up(size[k]);
        if (net->np[k] > net->widest) net->widest = net->np[k];
    }
    return EQP_OK;
}

/* Lays the packed machine out: each W_k twice, both ways in panels, and the padded biases. */
static inline void bm_plan_net(bm_net *net, bm_arena *arena) {
    for (int k = 0; k < net->L; k++) {
        net->up[k] = bm_take(arena, net->n[k] * net->np[k + 1]);
        net->down[k] = bm_take(arena, net->n[k + 1] * net->np[k]);
    }
    for (int k = 0; k <= net->L; k++) net->bias[k] = bm_take(arena, net->np[k]);
}

/* Lays every thread's own memory out, and returns that of `thread`: all threads count through the
 * same plan. */
static inline bm_work bm_plan_work(const bm_net *net, bm_arena *arena, int thread, int n_threads) {
    bm_work mine = {.field = NULL};
    for (int t = 0; t < n_threads; t++) {
        bm_work work = {.field = NULL};
        for (int k = 0; k <= net->L; k++) {
            work.state[k] = bm_take(arena, BM_BLOCK * net->np[k]);
            work.mean[k] = bm_take(arena, BM_BLOCK * net->np[k]);
            work.bias[k] = bm_take(arena, net->np[k]);
            work.before[k] = bm_take(arena, net->np[k]);
            work.base[k] = bm_take(arena, net->np[k]);
        }
        work.field = bm_take(arena, BM_BLOCK * net->widest);
        work.zeros = bm_take(arena, net->widest);
        /* draw_group writes whole groups */
        work.draws = bm_take(arena, net->widest + EQP_DRAW_GROUP);
        work.change = bm_take(arena, BM_BLOCK);
        if (t == thread) mine = work;
    }
    return mine;
}

/* to[0 .. padded) = n reals and zeros behind; the two must not overlap. */
EQP_INLINE void bm_copy_row(real *to, const real *from, int64_t n, int64_t padded) {
    copy_reals(to, from, n);
    for (int64_t i = n; i < padded; i++) to[i] = 0;
}

/* Where the thread's part of 0 .. n begins: it ends where that of thread + 1 begins. */
EQP_INLINE int64_t bm_share(int64_t n, int thread, int n_threads) { return n * thread / n_threads; }

/* Rows lo .. hi of a plain matrix (rows x cols) to panels, and to the panels of its transpose
 * (core/gemm.h). Whoever has the last row also zeroes the padding of the transpose. */
static inline void bm_pack_rows(const real *plain, int64_t rows, int64_t cols, real *up, real *down,
                                int64_t lo, int64_t hi) {
    for (int p = 0; p < n_panels(cols); p++) {
        const int64_t c0 = (int64_t)p * PW, width = panel_width(cols, p);
        const int64_t valid = cols - c0 < width ? cols - c0 : width;
        for (int64_t i = lo; i < hi; i++)
            bm_copy_row(panel_at(up, rows, p) + i * width, plain + i * cols + c0, valid, width);
    }
    /* a few rows at a time fill whole cache lines of the transpose */
    for (int64_t i0 = lo; i0 < hi;) {
        const int q = (int)(i0 / PW);
        const int64_t end = (int64_t)(q + 1) * PW < hi ? (int64_t)(q + 1) * PW : hi;
        const int64_t width = panel_width(rows, q);
        real *to = panel_at(down, cols, q) + (i0 - (int64_t)q * PW);
        for (int64_t j = 0; j < cols; j++)
            for (int64_t i = i0; i < end; i++) to[j * width + i - i0] = plain[i * cols + j];
        /* columns behind the last row: they are read as units of the layer */
        if (end == rows)
            for (int64_t j = 0; j < cols; j++)
                for (int64_t i = end; i < (int64_t)q * PW + width; i++) to[j * width + i - i0] = 0;
        i0 = end;
    }
}

/* Packs the thread's part of the machine: its rows of every W_k, and on thread 0 the biases. What
 * others pack is there only behind a barrier. */
static inline void bm_pack(const bm_net *net, void **weight, void **bias, int thread,
                           int n_threads) {
    for (int k = 0; k < net->L; k++)
        bm_pack_rows(weight[k], net->n[k], net->n[k + 1], net->up[k], net->down[k],
                     bm_share(net->n[k], thread, n_threads),
                     bm_share(net->n[k], thread + 1, n_threads));
    for (int k = 0; thread == 0 && k <= net->L; k++)
        bm_copy_row(net->bias[k], bias[k], net->n[k], net->np[k]);
}

/* --- one layer --- */

/* field (rows x np[k]) = a of layer k, from the layers that are named (equations 14):
 *     W_{k-1}' s_{k-1}  if `below`    +    W_k s_{k+1}  if `above`
 * without biases, for in annealing they do not scale as a does. */
static inline void bm_inputs(const bm_net *net, const bm_work *work, int k, int rows, int below,
                             int above) {
    operand terms[2];
    for (int p = 0; p < n_panels(net->n[k]); p++) {
        const int width = panel_width(net->n[k], p);
        int n_terms = 0;
        if (below)
            terms[n_terms++] = (operand){.b = panel_at(net->up[k - 1], net->n[k - 1], p),
                                         .rs = net->np[k - 1],
                                         .ks = 1,
                                         .ldb = width,
                                         .k = net->n[k - 1]};
        if (above)
            terms[n_terms++] = (operand){.b = panel_at(net->down[k], net->n[k + 1], p),
                                         .rs = net->np[k + 1],
                                         .ks = 1,
                                         .ldb = width,
                                         .k = net->n[k + 1]};
        for (int block = 0; block < row_blocks(rows); block++) {
            const int m = row_start(rows, block), mr = row_start(rows, block + 1) - m;
            /* both terms in one tile: their sum never goes through memory */
            if (below) terms[0].a = work->state[k - 1] + m * net->np[k - 1];
            if (above) terms[n_terms - 1].a = work->state[k + 1] + m * net->np[k + 1];
            gemm_tile(mr, width, work->zeros, 0, work->field + m * net->np[k] + (int64_t)p * PW,
                      net->np[k], terms, n_terms);
        }
    }
}

/* new (n) = sigmoid(beta a + bias) of a row: p(s_k = 1 | neighbours) of equations 14. Zeros up to
 * the next whole vector. */
EQP_INLINE void bm_sigmoids(const real *a, real beta, const real *bias, int n, real *new) {
    const vec scale = vset(beta);
    for (int c = 0; c < n; c += VL) {
        const vec p = act_rho(ACT_SIGMOID, vfma(scale, vload(a + c), vload(bias + c)));
        vstore(new + c, c + VL <= n ? p : vkeep(p, n - c));
    }
}

/* new (n) = softmax(beta a + bias) of a row: the probabilities of labels, one of which is on
 * (equations 14). The largest field is taken off first, so that nothing overflows. */
static inline void bm_softmax(const real *a, real beta, const real *bias, int n, real *new) {
    real top = -INFINITY, sum = 0;
    for (int c = 0; c < n; c++) {
        new[c] = beta *a[c] + bias[c];
        if (!(new[c] <= top)) top = new[c];
    }
    /* a NaN among the fields goes into the sum, and from there into all */
    for (int c = 0; c < n; c++) sum += new[c] = (real)exp((double)(new[c] - top));
    for (int c = 0; c < n; c++) new[c] /= sum;
}

/* state (n) = 1 at one unit, 0 elsewhere: the first whose cumulated probability reaches draw times
 * the total, which need not be 1 to the last bit. The draw is above 0, so that no unit of
 * probability 0 is it, and below 1, so that there is one. */
static inline void bm_choose(const real *p, int n, real draw, real *state) {
    real total = 0, sum = 0;
    for (int c = 0; c < n; c++) total += p[c];
    int place = 0; /* units before it: without a branch that cannot be predicted */
    for (int c = 0; c < n; c++) {
        sum += p[c];
        place += sum < draw * total;
    }
    /* 0 p is 0, or NaN: what is no number stays none */
    for (int c = 0; c < n; c++) state[c] = (real)(c == place) + 0 * total;
}

/* state (n) = 1 where the unit's draw is at most p, else 0 (equations 14); zeros up to the next
 * whole vector. A p that is NaN gives NaN. `draws`: room for n reals and one group. */
EQP_INLINE void bm_draw_row(const draw_stream *stream, int64_t row, const real *p, int n,
                            real *draws, real *state) {
    for (int c = 0; c < n; c += EQP_DRAW_GROUP) {
        draw_group(stream, c / EQP_DRAW_GROUP, row, draws + c);
        const int end = n < c + EQP_DRAW_GROUP ? n : c + EQP_DRAW_GROUP;
        for (int v = c; v < end; v += VL) {
            const vec chance = vload(p + v), zero = vset(0);
            const vec on = vfma(zero, chance, vwithin(vload(draws + v), zero, chance, vset(1)));
            vstore(state + v, v + VL <= n ? on : vkeep(on, n - v));
        }
    }
}

/* What log p* of a row gains where the n units of a layer are summed over (equations 14, annealed
 * importance sampling): the sum of log(1 + e^x) at the fields of the new temperature less that of
 * log(1 + e^y) at those of the old one. As max(x, 0) + log(1 + e^-|x|), which cannot overflow; the
 * logarithm is taken of products. */
static inline double bm_softplus_gain(const real *a, real beta, const real *bias, real old,
                                      const real *before, int n) {
    const vec one = vset(1), zero = vset(0), minus = vset((real)-EQP_LOG2E);
    double total = 0;
    vec ramps = zero;
    for (int c0 = 0; c0 < n; c0 += BM_FACTORS * VL) {
        vec up = one, down = one;
        for (int c = c0; c < n && c < c0 + BM_FACTORS * VL; c += VL) {
            const vec x = vfma(vset(beta), vload(a + c), vload(bias + c));
            const vec y = vfma(vset(old), vload(a + c), vload(before + c));
            const vec ramp = vsub(vmaxr(zero, x), vmaxr(zero, y));
            const vec fx = vadd(one, vexp2(0, vmul(minus, vabs(x))));
            const vec fy = vadd(one, vexp2(0, vmul(minus, vabs(y))));
            /* behind the last unit a and both biases are 0: the factors are equal */
            ramps = vadd(ramps, ramp), up = vmul(up, fx), down = vmul(down, fy);
        }
        /* one logarithm, libm's, for each lane of BM_FACTORS vectors */
        real u[VL], d[VL];
        vstore(u, up), vstore(d, down);
        for (int i = 0; i < VL; i++) total += log((double)u[i] / (double)d[i]);
    }
    return total + (double)vhsum(ramps);
}

/* The logarithm of the sum of e^x over a row's fields x = beta a + bias: what a categorical layer
 * of n units, of which one is on, comes to when it is summed over (equations 14). */
static inline double bm_log_sum(const real *a, real beta, const real *bias, int n) {
    double top = -INFINITY, sum = 0;
    for (int c = 0; c < n; c++) {
        const double x = (double)beta * (double)a[c] + (double)bias[c];
        top = x > top ? x : top;
    }
    for (int c = 0; c < n; c++) sum += exp((double)beta * (double)a[c] + (double)bias[c] - top);
    return top + log(sum);
}

/* --- a block of rows --- */

/* A block of at most BM_BLOCK rows on its way through the sweeps. */
typedef struct {
    const bm_net *net;
    const bm_task *task;
    bm_work *work;
    int active;            /* rows of the block that still move: the first ones */
    int64_t row[BM_BLOCK]; /* which row of the task each is */
    real beta, old;        /* temperatures of this sweep and of the one before */
    real *bias[BM_LAYERS]; /* at this temperature */
} bm_block;

/* The block's rows, all layers, from the task's arrays, or (store) back to where they came from,
 * with the probabilities of the last sweep. Of a layer without any (clamped, or no sweep) `mean`
 * stays. */
static inline void bm_move_rows(bm_block *block, int store, int rows) {
    const bm_net *net = block->net;
    const bm_task *task = block->task;
    for (int k = 0; k <= net->L; k++)
        for (int m = 0; m < rows; m++) {
            real *mine = block->work->state[k] + m * net->np[k];
            real *theirs = task->state[k] + block->row[m] * task->ld[k];
            if (!store)
                bm_copy_row(mine, theirs, net->n[k], net->np[k]);
            else
                copy_reals(theirs, mine, net->n[k]);
            if (store && task->mean[k] && task->n_sweeps && !task->clamped[k])
                copy_reals(task->mean[k] + block->row[m] * task->ld[k],
                           block->work->mean[k] + m * net->np[k], net->n[k]);
        }
}

/* Swaps two rows of the block: states, probabilities, numbers and changes, so that results go to
 * where the row came from. */
static inline void bm_swap_rows(bm_block *block, int m, int other) {
    if (m == other) return;
    const bm_net *net = block->net;
    bm_work *work = block->work;
    for (int k = 0; k <= net->L; k++)
        for (int64_t c = 0; c < net->np[k]; c++) {
            real *s = work->state[k] + c, *p = work->mean[k] + c;
            const int64_t i = m * net->np[k], j = other * net->np[k];
            const real t = s[i], u = p[i];
            s[i] = s[j], s[j] = t, p[i] = p[j], p[j] = u;
        }
    const int64_t row = block->row[m];
    block->row[m] = block->row[other], block->row[other] = row;
    const real change = work->change[m];
    work->change[m] = work->change[other], work->change[other] = change;
}

/* Renews layer k of row m from its a (equations 14): probabilities to `mean`, then the states,
 * drawn or those probabilities, and the largest change of a unit in this sweep so far. Units of the
 * mask keep their state. Without draws `stream` may be NULL. */
static inline void bm_finish_row(bm_block *block, const draw_stream *stream, int k, int m) {
    const bm_net *net = block->net;
    const bm_task *task = block->task;
    bm_work *work = block->work;
    const int n = net->n[k], categorical = net->categorical && k == net->L;
    const int64_t np = net->np[k];
    /* the new states take the place of a, which is no longer needed once p is there */
    const real *a = work->field + m * np;
    real *state = work->state[k] + m * np, *p = work->mean[k] + m * np, *new = work->field + m *np;
    if (categorical)
        bm_softmax(a, block->beta, block->bias[k], n, p);
    else
        bm_sigmoids(a, block->beta, block->bias[k], n, p);
    /* one draw for all labels, that of their first unit; else one for each unit */
    if (task->draw && categorical) {
        draw_group(stream, 0, block->row[m], work->draws);
        bm_choose(p, n, work->draws[0], new);
    } else if (task->draw) {
        bm_draw_row(stream, block->row[m], p, n, work->draws, new);
    } else {
        copy_reals(new, p, n);
    }
    /* padding counts in the change below and in the sums of bm_cool */
    for (int64_t c = n; c < np; c++) new[c] = 0;
    if (k == 0 && task->mask)
        for (int c = 0; c < n; c++)
            if (task->mask[block->row[m] * n + c]) new[c] = state[c];
    vec change = vset(0), all = vset(0);
    for (int64_t c = 0; c < np; c += VL) {
        const vec value = vload(new + c);
        change = vmaxr(change, vabs(vsub(value, vload(state + c))));
        all = vfma(vset(0), value, all); /* NaN if one of them is: vmaxr forgets it again */
        vstore(state + c, value);
    }
    const real most = vequal(all, vset(0)) ? vhmax(change) : (real)NAN;
    work->change[m] = larger(work->change[m], most);
}

/* Renews layer k of all active rows in sweep t; `summed`: first adds what log p* gains between the
 * two temperatures where this layer is summed over (equations 14). */
static inline void bm_layer(bm_block *block, int k, int t, int summed) {
    const bm_net *net = block->net;
    const bm_task *task = block->task;
    bm_inputs(net, block->work, k, block->active, k > 0, k < net->L);
    const draw_stream stream = draws_of(task->seed, k, task->first_sweep + t);
    for (int m = 0; m < block->active; m++) {
        const real *a = block->work->field + m * net->np[k];
        if (summed && net->categorical && k == net->L)
            task->log_weight[block->row[m]] +=
                bm_log_sum(a, block->beta, block->bias[k], net->n[k]) -
                bm_log_sum(a, block->old, block->work->before[k], net->n[k]);
        else if (summed)
            task->log_weight[block->row[m]] +=
                bm_softplus_gain(a, block->beta, block->bias[k], block->old, block->work->before[k],
                                 net->n[k]);
        bm_finish_row(block, &stream, k, m);
    }
}

/* The pass upwards that mean field begins with, s_k = sigmoid(g W_{k-1}' s_{k-1} + b_k) (equations
 * 14): the input from below counts twice (g = 2) where a layer above is going to answer with as
 * much (1606.01651). Labels are too few to; of a clamped layer above the answer is known. */
static inline void bm_pass_upwards(bm_block *block) {
    const bm_net *net = block->net;
    for (int k = 1; k <= net->L; k++) {
        if (block->task->clamped[k]) continue;
        const int known = k < net->L && block->task->clamped[k + 1];
        const int labels = net->categorical && k + 1 == net->L;
        block->beta = k < net->L && !known && !labels ? 2 : 1;
        bm_inputs(net, block->work, k, block->active, 1, known);
        /* g stands in for beta; where the answer is in the fields it is 1. No draws: NULL */
        for (int m = 0; m < block->active; m++) bm_finish_row(block, NULL, k, m);
    }
    block->beta = 1;
}

/* out (n) = beta bias + (1 - beta) base: biases at an inverse temperature (equations 14). */
static inline void bm_mix(real beta, const real *bias, const real *base, int64_t n, real *out) {
    for (int64_t c = 0; c < n; c++) out[c] = beta * bias[c] + (1 - beta) * base[c];
}

/* Before sweep t: `bias` at its temperature, betas[t + 1], and `before` at that of the states,
 * betas[t], mixed with `base`. To
 * the log weights, of log p* at the new less log p* at the old one (equations 14), the biases' part
 * of the layers that the sweep ends with; those that it begins with are summed over (bm_layer), and
 * the weights' part is in their fields. */
static inline void bm_cool(bm_block *block, int t) {
    const bm_net *net = block->net;
    const bm_task *task = block->task;
    bm_work *work = block->work;
    block->old = (real)task->betas[t], block->beta = (real)task->betas[t + 1];
    for (int k = 0; k <= net->L; k++) {
        block->bias[k] = work->bias[k];
        bm_mix(block->old, net->bias[k], work->base[k], net->np[k], work->before[k]);
        bm_mix(block->beta, net->bias[k], work->base[k], net->np[k], work->bias[k]);
    }
    for (int k = task->even_first; task->log_weight && k <= net->L; k += 2)
        for (int m = 0; m < block->active; m++) {
            const real *s = work->state[k] + m * net->np[k];
            /* a sum in a fixed order, whatever the block and the thread */
            vec sum = vset(0);
            for (int64_t c = 0; c < net->np[k]; c += VL)
                sum = vfma(vsub(vload(work->bias[k] + c), vload(work->before[k] + c)), vload(s + c),
                           sum);
            task->log_weight[block->row[m]] += (double)vhsum(sum);
        }
}

/* All sweeps of one block (equations 14): the layers of one parity, which do not meet, then those
 * of the other. Writes steps and residuals; mean-field rows that have settled drop out. Returns how
 * many sweeps all rows took together. */
static inline int64_t bm_run_block(bm_block *block) {
    const bm_net *net = block->net;
    const bm_task *task = block->task;
    bm_work *work = block->work;
    const int rows = block->active;
    int64_t taken = 0;
    block->beta = 1;
    for (int k = 0; k <= net->L; k++) block->bias[k] = net->bias[k];
    bm_move_rows(block, 0, rows);
    if (task->upward) bm_pass_upwards(block);
    /* the pass upwards is no sweep: its changes do not count */
    for (int m = 0; m < rows; m++) {
        work->change[m] = 0;
        if (task->steps) task->steps[block->row[m]] = 0;
    }
    for (int t = 0; t < task->n_sweeps && block->active; t++) {
        if (task->betas) bm_cool(block, t);
        for (int m = 0; m < block->active; m++) work->change[m] = 0;
        /* with even_first layers 0, 2, ..., then 1, 3, ...; log weights sum over the first half */
        for (int half = 0; half < 2; half++)
            for (int k = (half + !task->even_first) % 2; k <= net->L; k += 2)
                if (!task->clamped[k]) bm_layer(block, k, t, task->log_weight && half == 0);
        taken += block->active;
        /* from the last row down: what a swap brings to m has been looked at */
        for (int m = block->active - 1; m >= 0; m--) {
            if (task->steps) task->steps[block->row[m]] = t + 1;
            if (!task->draw && task->tol >= 0 && work->change[m] <= (real)task->tol)
                bm_swap_rows(block, m, --block->active);
        }
    }
    if (task->residual)
        for (int m = 0; m < rows; m++) task->residual[block->row[m]] = work->change[m];
    bm_move_rows(block, 1, rows);
    return taken;
}

/* The sweeps of rows first .. end of the task, block by block; row numbers are those of the task,
 * whatever the block, for draws are made from them. Zeroes `zeros` even if there are no rows, for
 * learn.c reads it. Returns how many sweeps all rows took together. */
static inline int64_t bm_run(const bm_net *net, const bm_task *task, bm_work *work, int64_t first,
                             int64_t end) {
    bm_block block = {.net = net, .task = task, .work = work};
    int64_t taken = 0;
    for (int64_t c = 0; c < net->widest; c++) work->zeros[c] = 0;
    for (int k = 0; task->base && k <= net->L; k++)
        bm_copy_row(work->base[k], task->base[k], net->n[k], net->np[k]);
    for (int64_t row = first; row < end; row += block.active) {
        const int64_t rows = end - row < BM_BLOCK ? end - row : BM_BLOCK;
        block.active = (int)rows;
        for (int m = 0; m < rows; m++) block.row[m] = row + m;
        taken += bm_run_block(&block);
        block.active = (int)rows; /* settled rows had left it */
    }
    return taken;
}

#endif
