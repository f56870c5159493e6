/* boltzmann.h - what sampling and learning of Boltzmann machines share: the packed machine, a block
 * of rows, and the sweeps over it (equations 14; twin: kernels/reference/boltzmann.py).
 *
 * Letters:
 *     L            weight matrices; layer 0 is the visible one, layer L the last
 *     n[k], np[k]  units of layer k; the same, padded (core/gemm.h)
 *     a            what a unit gets from its neighbours; the field is beta a + bias
 *     p            a panel of columns
 *     t            a sweep
 *
 * A thread takes BLOCK rows at a time through all sweeps. Rows never meet, a row's sums do not
 * depend on the rows beside it (core/gemm.h), and its draws are made from its number: so results do
 * not depend on the number of threads. */
#ifndef EQP_BOLTZMANN_H
#define EQP_BOLTZMANN_H

#include "boltzmann/threefry.h"
#include "core/activation.h"
#include "core/barrier.h"
#include "core/eqprop.h"
#include "core/gemm.h"

#define BM_LAYERS (EQP_MAX_WEIGHTS + 1)
/* Rows of a block: whole register tiles, and few enough for the second-level cache. */
#define BM_BLOCK 48
/* Vectors whose factors 1 + exp(-|x|) <= 2 are multiplied before a logarithm is taken. */
#define BM_FACTORS 64

/* Hands out 64-byte aligned pieces; with base NULL it only counts. */
typedef struct {
    char *base;
    int64_t used;
} bm_arena;

/* The next `count` reals, on a cache line of their own. */
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

/* A thread's own memory. */
typedef struct {
    real *state[BM_LAYERS], *mean[BM_LAYERS]; /* BM_BLOCK x np[k] */
    real *field;                              /* BM_BLOCK x widest */
    real *bias[BM_LAYERS], *before[BM_LAYERS], *base[BM_LAYERS]; /* np[k], of two temperatures */
    real *zeros, *draws;                                         /* widest + EQP_DRAW_GROUP */
    real *change;                                                /* BM_BLOCK */
} bm_work;

/* What is done with rows that lie in arrays with ld[k] reals from row to row. */
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

/* Sizes of a machine; EQP_OK if they are in range. */
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

/* Lays the packed machine out. */
static inline void bm_plan_net(bm_net *net, bm_arena *arena) {
    for (int k = 0; k < net->L; k++) {
        net->up[k] = bm_take(arena, net->n[k] * net->np[k + 1]);
        net->down[k] = bm_take(arena, net->n[k + 1] * net->np[k]);
    }
    for (int k = 0; k <= net->L; k++) net->bias[k] = bm_take(arena, net->np[k]);
}

/* Lays every thread's own memory out, and returns that of `thread`. */
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
        work.draws = bm_take(arena, net->widest + EQP_DRAW_GROUP);
        work.change = bm_take(arena, BM_BLOCK);
        if (t == thread) mine = work;
    }
    return mine;
}

/* n reals to a padded row; zeros behind. */
EQP_INLINE void bm_copy_row(real *to, const real *from, int64_t n, int64_t padded) {
    copy_reals(to, from, n);
    for (int64_t i = n; i < padded; i++) to[i] = 0;
}

/* The thread's part of 0 .. n. */
EQP_INLINE int64_t bm_share(int64_t n, int thread, int n_threads) {
    return n * thread / n_threads;
}

/* Rows lo .. hi of a plain matrix (rows x cols) to panels, and to the panels of its transpose. */
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
        /* columns behind the last row */
        if (end == rows)
            for (int64_t j = 0; j < cols; j++)
                for (int64_t i = end; i < (int64_t)q * PW + width; i++)
                    to[j * width + i - i0] = 0;
        i0 = end;
    }
}

/* The thread's part of the machine. */
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

/* field (rows x np[k]) = a of layer k, from the layers that are named. */
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
            if (below) terms[0].a = work->state[k - 1] + m * net->np[k - 1];
            if (above) terms[n_terms - 1].a = work->state[k + 1] + m * net->np[k + 1];
            gemm_tile(mr, width, work->zeros, 0,
                      work->field + m * net->np[k] + (int64_t)p * PW, net->np[k], terms, n_terms);
        }
    }
}

/* new <- the sigmoids of a row's fields beta a + bias, padded with zeros. */
EQP_INLINE void bm_sigmoids(const real *a, real beta, const real *bias, int n, real *new) {
    const vec scale = vset(beta);
    for (int c = 0; c < n; c += VL) {
        const vec p = act_rho(ACT_SIGMOID, vfma(scale, vload(a + c), vload(bias + c)));
        vstore(new + c, c + VL <= n ? p : vkeep(p, n - c));
    }
}

/* new <- the softmax of a row's fields. */
static inline void bm_softmax(const real *a, real beta, const real *bias, int n, real *new) {
    real top = -INFINITY, sum = 0;
    for (int c = 0; c < n; c++) {
        new[c] = beta * a[c] + bias[c];
        if (!(new[c] <= top)) top = new[c]; /* a NaN becomes the largest: it must be seen */
    }
    for (int c = 0; c < n; c++) sum += new[c] = (real)exp((double)(new[c] - top));
    for (int c = 0; c < n; c++) new[c] /= sum;
}

/* state <- one of n units, with these probabilities, by one draw. */
static inline void bm_choose(const real *p, int n, real draw, real *state) {
    real total = 0, sum = 0;
    for (int c = 0; c < n; c++) total += p[c];
    int place = 0;
    for (int c = 0; c < n; c++) {
        sum += p[c];
        place += sum < draw * total;
    }
    for (int c = 0; c < n; c++) state[c] = c == place;
}

/* state <- 1 where the draw is at most p, else 0. */
EQP_INLINE void bm_draw_row(const draw_stream *stream, int64_t row, const real *p, int n,
                            real *draws, real *state) {
    for (int c = 0; c < n; c += EQP_DRAW_GROUP) {
        draw_group(stream, c / EQP_DRAW_GROUP, row, draws + c);
        const int end = n < c + EQP_DRAW_GROUP ? n : c + EQP_DRAW_GROUP;
        for (int v = c; v < end; v += VL) {
            const vec on = vwithin(vload(draws + v), vset(0), vload(p + v), vset(1));
            vstore(state + v, v + VL <= n ? on : vkeep(on, n - v));
        }
    }
}

/* log(1 + e^x) summed over a row's fields at the new temperature less the same at the old one. Sums
 * of the larger of x and 0, and logarithms of products of 1 + e^-|x|. */
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
        real u[VL], d[VL];
        vstore(u, up), vstore(d, down);
        for (int i = 0; i < VL; i++) total += log((double)u[i] / (double)d[i]);
    }
    return total + (double)vhsum(ramps);
}

/* The same of a categorical layer: the logarithm of the sum of e^x. */
static inline double bm_log_sum(const real *a, real beta, const real *bias, int n) {
    double top = -INFINITY, sum = 0;
    for (int c = 0; c < n; c++) {
        const double x = (double)beta * (double)a[c] + (double)bias[c];
        top = x > top ? x : top;
    }
    for (int c = 0; c < n; c++)
        sum += exp((double)beta * (double)a[c] + (double)bias[c] - top);
    return top + log(sum);
}

/* --- a block of rows --- */

/* The sweeps of one block. */
typedef struct {
    const bm_net *net;
    const bm_task *task;
    bm_work *work;
    int active;             /* rows of the block that still move: the first ones */
    int64_t row[BM_BLOCK];  /* which row of the task each is */
    real beta, old;         /* temperatures of this sweep and of the one before */
    real *bias[BM_LAYERS];  /* at this temperature */
} bm_block;

/* The block's rows from the task's arrays, or (store) back to where they came from, and the
 * probabilities of what was drawn. */
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

/* Swaps two rows of the block. */
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

/* A row's layer k from its fields: probabilities, draws, the largest change so far. */
static inline void bm_finish_row(bm_block *block, const draw_stream *stream, int k, int m) {
    const bm_net *net = block->net;
    const bm_task *task = block->task;
    bm_work *work = block->work;
    const int n = net->n[k], categorical = net->categorical && k == net->L;
    const int64_t np = net->np[k];
    const real *a = work->field + m * np;
    real *state = work->state[k] + m * np, *p = work->mean[k] + m * np, *new = work->field + m * np;
    if (categorical)
        bm_softmax(a, block->beta, block->bias[k], n, p);
    else
        bm_sigmoids(a, block->beta, block->bias[k], n, p);
    if (task->draw && categorical) {
        draw_group(stream, 0, block->row[m], work->draws);
        bm_choose(p, n, work->draws[0], new);
    } else if (task->draw) {
        bm_draw_row(stream, block->row[m], p, n, work->draws, new);
    } else {
        copy_reals(new, p, n);
    }
    for (int64_t c = n; c < np; c++) new[c] = 0;
    if (k == 0 && task->mask)
        for (int c = 0; c < n; c++)
            if (task->mask[block->row[m] * n + c]) new[c] = state[c];
    vec change = vset(0);
    for (int64_t c = 0; c < np; c += VL) {
        const vec value = vload(new + c);
        change = vmaxr(change, vabs(vsub(value, vload(state + c))));
        vstore(state + c, value);
    }
    const real most = vhmax(change);
    /* a NaN stays: no later change is larger */
    if (!(most <= work->change[m])) work->change[m] = most;
}

/* One layer of all active rows; `summed`: its part of the log weights first. */
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
                bm_softplus_gain(a, block->beta, block->bias[k], block->old,
                                 block->work->before[k], net->n[k]);
        bm_finish_row(block, &stream, k, m);
    }
}

/* The pass upwards: the input from below counts twice where a layer above is going to answer with
 * as much (1606.01651); of a clamped layer above the answer is known. */
static inline void bm_pass_upwards(bm_block *block) {
    const bm_net *net = block->net;
    for (int k = 1; k <= net->L; k++) {
        if (block->task->clamped[k]) continue;
        const int known = k < net->L && block->task->clamped[k + 1];
        const int labels = net->categorical && k + 1 == net->L;
        block->beta = k < net->L && !known && !labels ? 2 : 1;
        bm_inputs(net, block->work, k, block->active, 1, known);
        for (int m = 0; m < block->active; m++) bm_finish_row(block, NULL, k, m);
    }
    block->beta = 1;
}

/* out <- beta bias + (1 - beta) base. */
static inline void bm_mix(real beta, const real *bias, const real *base, int64_t n, real *out) {
    for (int64_t c = 0; c < n; c++) out[c] = beta * bias[c] + (1 - beta) * base[c];
}

/* Biases at the temperatures of sweep t, and of the states before it; log weights of the layers that
 * are not summed over. */
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
            vec sum = vset(0);
            for (int64_t c = 0; c < net->np[k]; c += VL)
                sum = vfma(vsub(vload(work->bias[k] + c), vload(work->before[k] + c)),
                           vload(s + c), sum);
            task->log_weight[block->row[m]] += (double)vhsum(sum);
        }
}

/* The sweeps of one block. Returns how many all its rows took together. */
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
    for (int m = 0; m < rows; m++) {
        work->change[m] = 0;
        if (task->steps) task->steps[block->row[m]] = 0;
    }
    for (int t = 0; t < task->n_sweeps && block->active; t++) {
        if (task->betas) bm_cool(block, t);
        for (int m = 0; m < block->active; m++) work->change[m] = 0;
        for (int half = 0; half < 2; half++)
            for (int k = (half + !task->even_first) % 2; k <= net->L; k += 2)
                if (!task->clamped[k]) bm_layer(block, k, t, task->log_weight && half == 0);
        taken += block->active;
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

/* The sweeps of rows first .. end. Returns how many all rows took together. */
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
        block.active = (int)rows;
    }
    return taken;
}

#endif
