/* crossbar.c - layered resistive networks with ideal diodes: exact block coordinate descent, and
 * learning by equilibrium propagation (arXiv 2402.11674; docs/equations.md 11). The readable twin
 * is kernels/reference/crossbar.py. The layout of the scratch is in plan.h, the steps of a phase
 * in steps.h, the loops over conductances in pass.h, phases without the nodes at 0 V in live.h.
 *
 * Letters, in all files of the family:
 *     L          weight matrices; layer 0 are the D inputs, each twice: sources at +A x and -A x
 *     l          a layer 1..L;   n[l], pad[l]: its units, and padded
 *     k          the inner matrix between layers k and k + 1
 *     g, v, y    conductances, voltages, targets;   u: a unit
 *     b          a sample of the batch, or a block of columns of weight[0]
 *     r          a row of the state arrays: one sample in one phase
 *     m          a sample of a tile, of a call
 *     ch         a chunk of rows of an inner matrix, with partial currents of its own
 *     signs      nudged phases of a sample: 2 (centered) or 1
 *     d, mean    v_a - v_b and v_a + v_b of the two ends of a contrast
 *     t, T       this thread, of how many
 *
 * A batch of crossbar_train goes through
 *     invert_totals    1 / (sum of g) at every node, with and without the nudge
 *     run_batch        the free phase, then the nudged ones from where it ended:
 *                          run_dense   all nodes of all samples, or
 *                          run_live    of one sample, the nodes that are not held at 0 V
 *                      and `score`, the cost of the free state
 *     learn            contrast, then the step of every conductance and bias:
 *                          learn_inner   matrices between layers, a row at a time
 *                          sweep_input   the input's, by far the largest, in the same pass that
 *                                        makes the drive of the batch to come
 * with a barrier after run_batch and one after learn.
 */
#include "crossbar/plan.h"
#include "core/simd.h"

#include "core/barrier.h"
#include "crossbar/pass.h"
#include "crossbar/steps.h"

#include "crossbar/live.h"

/* --- crossbar_relax --- */

/* Packs (g+ - g-) of this thread's blocks, and the column sums of both. */
static void pack_differences(context *ctx) {
    const eqp_xplan *plan = &ctx->plan;
    const real *g = ctx->job->weight[0];
    const int D = plan->D, N = plan->n[1], block = plan->block;
    for (int b = ctx->thread; b < plan->n_blocks; b += ctx->n_threads) {
        real *out = at(ctx, plan->g0) + (int64_t)b * D * block;
        real *sum = at(ctx, plan->sum0) + b * block;
        const int width = N - b * block < block ? N - b * block : block;
        for (int i = 0; i < block; i++) sum[i] = 0;
        for (int j = 0; j < D; j++, out += block) {
            const real *gp = g + (int64_t)j * N + b * block, *gm = gp + (int64_t)D * N;
            /* the difference drives; the sum is part of a node's total conductance */
            for (int i = 0; i < width; i++) out[i] = gp[i] - gm[i], sum[i] += gp[i] + gm[i];
            for (int i = width; i < block; i++) out[i] = 0;
        }
    }
}

/* drive[m] (pad[1]) = sum_j value_j (g+ - g-)[j], the currents from the sources into layer 1, for
 * the gathered samples m of a tile. */
static void tile_drive(context *ctx, int row0, int n) {
    const eqp_xplan *plan = &ctx->plan;
    for (int b = 0; b < plan->n_blocks; b++) {
        const real *g = at(ctx, plan->g0) + (int64_t)b * plan->D * plan->block;
        for (int m = 0; m < n; m++) {
            real *out = at(ctx, plan->drive) + (int64_t)(row0 + m) * plan->pad[1] + b * plan->block;
            /* four vectors at a time: as many accumulators as hide the latency of a multiply-add */
            for (int h = 0; h < plan->block; h += 4 * VL) {
                vec a[4] = {vset(0), vset(0), vset(0), vset(0)};
                for (int e = ctx->list[0].start[m]; e < ctx->list[0].start[m + 1]; e++) {
                    const vec x = vset(ctx->list[0].value[e]);
                    const real *d = g + (int64_t)ctx->list[0].entry[e] * plan->block + h;
                    for (int i = 0; i < 4; i++) a[i] = vfma(x, vload(d + i * VL), a[i]);
                }
                for (int i = 0; i < 4; i++) vstore(out + h + i * VL, a[i]);
            }
        }
    }
}

/* Relaxes samples [first, first + n) of the job in this thread's tile of state rows, from the
 * states given: one phase with the job's beta. EQP_E_DIVERGED if a voltage is not finite. */
static int relax_tile(context *ctx, int64_t first, int n) {
    const eqp_xplan *plan = &ctx->plan;
    eqp_crossbar_job *job = ctx->job;
    const int row0 = ctx->thread * EQP_X_TILE;
    /* the tile's inputs, drive and states, into this thread's rows */
    gather_rows(ctx, first, n);
    tile_drive(ctx, row0, n);
    int started = 0; /* some voltage is not zero */
    for (int l = 1; l <= plan->L; l++)
        for (int m = 0; m < n; m++) {
            const real *from = (const real *)job->state[l - 1] + (first + m) * plan->n[l];
            real *to = row(ctx, l, row0 + m);
            for (int i = 0; i < plan->n[l]; i++) to[i] = from[i], started |= from[i] != 0;
        }
    /* one phase: a state row is a sample */
    ctx->n_signs = 1;
    ctx->row0 = row0;
    for (int m = 0; m < n; m++) {
        ctx->sign[row0 + m] = job->beta > 0 ? 1 : job->beta < 0 ? -1 : 0;
        if (job->beta != 0) pack_target(ctx, row_of(job, first + m), row0 + m);
    }
    ctx->parity = 0;
    start_currents(ctx, row0, n, !started);
    run_phase(ctx, row0, n, job->n_free_steps, job->tol_free, 0, 0, job->steps + first,
              (real *)job->residual + first);
    /* back to the caller's rows */
    int finite = 1;
    for (int l = 1; l <= plan->L; l++)
        for (int m = 0; m < n; m++) {
            real *to = (real *)job->state[l - 1] + (first + m) * plan->n[l];
            const real *from = row(ctx, l, row0 + m);
            for (int i = 0; i < plan->n[l]; i++) to[i] = from[i], finite &= isfinite(from[i]) != 0;
        }
    return finite ? EQP_OK : EQP_E_DIVERGED;
}

/* Relaxes all rows of the job, tiles of samples in turn over the threads (equations 11). A sample's
 * result depends neither on its tile nor on the thread. */
int EQP_NAME(crossbar_relax)(eqp_crossbar_job *job, int thread, int n_threads) {
    context ctx;
    int status = open_context(&ctx, job, 0, thread, n_threads);
    if (status != EQP_OK) return status;
    /* prediction only ever needs g+ - g-, of half the size */
    pack_differences(&ctx);
    pack_inner(&ctx);
    /* small: not worth sharing */
    if (thread == 0) pack_vectors(&ctx);
    eqp_wait(job->barrier, n_threads);
    status = invert_totals(&ctx, job->beta > 0 ? job->beta : 0, job->beta < 0 ? -job->beta : 0);
    if (status == EQP_OK) {
        const int64_t tiles = (job->n_rows + EQP_X_TILE - 1) / EQP_X_TILE;
        for (int64_t i = thread; i < tiles; i += n_threads) {
            const int64_t first = i * EQP_X_TILE, left = job->n_rows - first;
            const int tile = relax_tile(&ctx, first, (int)(left < EQP_X_TILE ? left : EQP_X_TILE));
            if (status == EQP_OK) status = tile;
        }
    }
    return status;
}

/* --- crossbar_train --- */

/* weight[0] (or its velocity) between the caller's (2 D, N) and the sweep's blocks
 * [block][node][sign][column]: this thread's blocks. Columns behind the last are zero. */
static void pack_input(context *ctx, real *g, int64_t g0, int unpack) {
    const eqp_xplan *plan = &ctx->plan;
    const int D = plan->D, N = plan->n[1], block = plan->block;
    for (int b = ctx->thread; b < plan->n_blocks; b += ctx->n_threads) {
        real *packed = at(ctx, g0) + (int64_t)b * D * 2 * block;
        const int width = N - b * block < block ? N - b * block : block;
        for (int j = 0; j < D; j++)
            for (int s = 0; s < 2; s++, packed += block) {
                real *plain = g + ((int64_t)s * D + j) * N + b * block;
                if (unpack)
                    memcpy(plain, packed, sizeof(real) * width);
                else {
                    memcpy(packed, plain, sizeof(real) * width);
                    memset(packed + width, 0, sizeof(real) * (block - width));
                }
            }
    }
}

/* The fused sweep over this thread's blocks of weight[0] (pass.h: input_sweep; equations 11): learn
 * from `now`, sum, and make the drive of `next`, the coming batch. It is bound by memory traffic:
 * the order of the blocks alternates, so that those the last sweep left in the cache come first. */
static void sweep_input(context *ctx, int learn, int reverse, const sparse_batch *now,
                        const sparse_batch *next, int n_next, real kappa, const mover *mover) {
    const eqp_xplan *plan = &ctx->plan;
    const real lo = (real)ctx->job->g_min, hi = (real)ctx->job->g_max;
    const int wide = 4 * VL; /* columns of one sweep: four vectors of accumulators */
    /* blocks thread, thread + n_threads, ... */
    const int mine = (plan->n_blocks - ctx->thread + ctx->n_threads - 1) / ctx->n_threads;
    for (int a = 0; a < mine; a++) {
        const int b = ctx->thread + (reverse ? mine - 1 - a : a) * ctx->n_threads;
        for (int h = 0; h < plan->block; h += wide) {
            const int64_t q = b * plan->block + h;
            const int64_t first = (int64_t)b * plan->D * 2 * plan->block + h;
            real *g = at(ctx, plan->g0) + first;
            /* three copies of the loop: what is not asked for is not in it */
            if (learn && mover)
                input_sweep(g, plan->D, plan->block, 1, now, own(ctx, plan->square) + q,
                            own(ctx, plan->diff[1]) + q, 2 * kappa, lo, hi, next,
                            at(ctx, plan->sum0) + q, at(ctx, plan->drive) + q, plan->pad[1], n_next,
                            4, mover, at(ctx, plan->v0) + first);
            else if (learn)
                input_sweep(g, plan->D, plan->block, 1, now, own(ctx, plan->square) + q,
                            own(ctx, plan->diff[1]) + q, 2 * kappa, lo, hi, next,
                            at(ctx, plan->sum0) + q, at(ctx, plan->drive) + q, plan->pad[1], n_next,
                            4, NULL, NULL);
            else
                input_sweep(g, plan->D, plan->block, 0, now, NULL, NULL, 0, lo, hi, next,
                            at(ctx, plan->sum0) + q, at(ctx, plan->drive) + q, plan->pad[1], n_next,
                            4, NULL, NULL);
        }
    }
}

/* Cost |u - y|^2 / 2 and argmax of this thread's samples in the free phase, u: outputs or
 * differences of pairs (equations 11); 0 if one is not finite. */
static int score(context *ctx, int64_t first, int b0, int b1) {
    const eqp_xplan *plan = &ctx->plan;
    const real *weight = ctx->job->row_weight;
    double *loss = (double *)((char *)ctx->job->scratch + plan->loss);
    int finite = 1;
    for (int b = b0; b < b1; b++) {
        const real *v = row(ctx, plan->L, b);
        const real *y = at(ctx, plan->target) + (int64_t)b * plan->pad[plan->L];
        /* in double: thousands of these are added up */
        double sum = 0;
        int best = 0, wanted = 0;
        real top = 0;
        for (int i = 0; i < plan->outputs; i++) {
            const real u = ctx->job->pairs ? v[i] - v[plan->outputs + i] : v[i];
            const double e = (double)(u - y[i]);
            sum += 0.5 * e * e;
            /* the first of equals, as argmax does */
            if (i == 0 || u > top) best = i, top = u;
            if (y[i] > y[wanted]) wanted = i;
        }
        loss[2 * b] = weight ? sum * weight[row_of(ctx->job, first + b)] : sum;
        loss[2 * b + 1] = best == wanted;
        finite &= isfinite(sum) != 0;
    }
    return finite;
}

/* THE CONTRAST (equations 11), in two factors: diff = weight (v_a - v_b), mean = v_a + v_b of every
 * layer, whose product is the difference of the squares that the rule asks for. a: at +beta or the
 * nudge; b: at -beta, or free. */
static void contrast(context *ctx, int64_t first, int n) {
    const eqp_xplan *plan = &ctx->plan;
    const real *weight = ctx->job->row_weight;
    const int signs = eqp_xsigns(ctx->job);
    for (int l = 1; l <= plan->L; l++)
        for (int b = 0; b < n; b++) {
            /* the nudged states lie behind the B free ones, `signs` to a sample */
            const real *va = row(ctx, l, plan->B + signs * b);
            const real *vb = signs == 2 ? va + plan->pad[l] : row(ctx, l, b);
            real *d = own(ctx, plan->diff[l]) + (int64_t)b * plan->pad[l];
            real *m = own(ctx, plan->mean[l]) + (int64_t)b * plan->pad[l];
            const vec w = vset(weight ? weight[row_of(ctx->job, first + b)] : 1);
            for (int i = 0; i < plan->pad[l]; i += VL) {
                const vec a = vload(va + i), z = vload(vb + i);
                vstore(d + i, vmul(w, vsub(a, z)));
                vstore(m + i, vadd(a, z));
            }
        }
}

/* out (pad[l]) = scale sum_b diff mean: the sum of v_a^2 - v_b^2 of layer l over the batch. */
static void squares(context *ctx, int l, int n, real scale, real *out) {
    const eqp_xplan *plan = &ctx->plan;
    for (int i = 0; i < plan->pad[l]; i += VL) {
        vec s = vset(0);
        for (int b = 0; b < n; b++) {
            const int64_t o = (int64_t)b * plan->pad[l] + i;
            s = vfma(vload(own(ctx, plan->diff[l]) + o), vload(own(ctx, plan->mean[l]) + o), s);
        }
        vstore(out + i, vmul(vset(scale), s));
    }
}

/* The last group of nb samples of a row (1 to 4): `learn_row` for each size, so that its loops are
 * unrolled and its accumulators stay in registers. Arguments and result as there. */
EQP_INLINE real learn_last(real *g, const real *from, real pj, const real *d, const real *m,
                           int64_t ldr, const real *dc, const real *mc, int64_t ldc, int n_cols,
                           real kappa, real lo, real hi, real *col, int nb, const mover *mover,
                           real *velocity) {
    switch (nb) {
    case 4:
        return learn_row(g, NULL, from, pj, d, m, ldr, dc, mc, ldc, n_cols, kappa, lo, hi, col, 4,
                         mover, velocity);
    case 3:
        return learn_row(g, NULL, from, pj, d, m, ldr, dc, mc, ldc, n_cols, kappa, lo, hi, col, 3,
                         mover, velocity);
    case 2:
        return learn_row(g, NULL, from, pj, d, m, ldr, dc, mc, ldc, n_cols, kappa, lo, hi, col, 2,
                         mover, velocity);
    default:
        return learn_row(g, NULL, from, pj, d, m, ldr, dc, mc, ldc, n_cols, kappa, lo, hi, col, 1,
                         mover, velocity);
    }
}

/* Row j of inner matrix k: brackets of four samples at a time, summed in `part`; only the last
 * group touches g. sq: sum_b d_k m_k of the columns; pj, below: of the row, the parts of the
 * bracket that are one factor's alone. Returns the row's new sum; its columns are added to col. */
static real learn_one_row(context *ctx, int k, int j, int n, real kappa, const mover *mover,
                          const real *sq, real *col) {
    const eqp_xplan *plan = &ctx->plan;
    const int lr = plan->row_layer[k], lc = plan->col_layer[k], N = plan->n_cols[k];
    const int tall = plan->pad[lr], wide = plan->pad[lc];
    const real lo = (real)ctx->job->g_min, hi = (real)ctx->job->g_max;
    const real *d_row = own(ctx, plan->diff[lr]) + j, *m_row = own(ctx, plan->mean[lr]) + j;
    const real *d_col = own(ctx, plan->diff[lc]), *m_col = own(ctx, plan->mean[lc]);
    real *part = own(ctx, plan->part), pj = 0;
    for (int b = 0; b < n; b++) pj += d_row[(int64_t)b * tall] * m_row[(int64_t)b * tall];
    int b = 0; /* samples whose brackets have been added */
    for (; n - b > 4; b += 4, pj = 0, d_row += 4 * (int64_t)tall, m_row += 4 * (int64_t)tall,
                              d_col += 4 * (int64_t)wide, m_col += 4 * (int64_t)wide)
        learn_row(NULL, part, b ? part : sq, pj, d_row, m_row, tall, d_col, m_col, wide, N, kappa,
                  lo, hi, NULL, 4, NULL, NULL);
    real *g = at(ctx, plan->w[k]) + (int64_t)j * plan->ld[k];
    const real *from = b ? part : sq;
    if (mover)
        return learn_last(g, from, pj, d_row, m_row, tall, d_col, m_col, wide, N, kappa, lo, hi,
                          col, n - b, mover, at(ctx, plan->v[k]) + (int64_t)j * plan->ld[k]);
    return learn_last(g, from, pj, d_row, m_row, tall, d_col, m_col, wide, N, kappa, lo, hi, col,
                      n - b, NULL, NULL);
}

/* g <- clip(g - kappa sum_b weight [(drop_a)^2 - (drop_b)^2]) for this thread's chunks of inner
 * matrix k (equations 11), with the new row and column sums. With d = v_a - v_b and m = v_a + v_b
 * the bracket is (d_j - d_k)(m_j - m_k): no array of samples times conductances. */
static void learn_inner(context *ctx, int k, int n, real kappa, const mover *mover) {
    const eqp_xplan *plan = &ctx->plan;
    const int lc = plan->col_layer[k], wide = plan->pad[lc];
    real *sq = own(ctx, plan->square);
    squares(ctx, lc, n, 1, sq);
    for (int ch = ctx->thread; ch < plan->n_chunks[k]; ch += ctx->n_threads) {
        real *col = at(ctx, plan->col_part[k]) + (int64_t)ch * wide;
        const int end = (ch + 1) * plan->chunk[k];
        const int j1 = end < plan->n_rows[k] ? end : plan->n_rows[k];
        for (int i = 0; i < wide; i++) col[i] = 0;
        for (int j = ch * plan->chunk[k]; j < j1; j++)
            at(ctx, plan->row_sum[k])[j] = learn_one_row(ctx, k, j, n, kappa, mover, sq, col);
    }
}

/* Bias currents of layer l with momentum: gradient -per sum_b (v_a - v_b), which the velocity takes
 * up; Nesterov looks a step ahead (equations 13). The caller's own velocity is not padded. */
static void learn_bias(context *ctx, int l, int n, real per, real rate) {
    const eqp_xplan *plan = &ctx->plan;
    const real mu = (real)ctx->job->momentum;
    real *bias = at(ctx, plan->bias[l]), *v = ctx->job->velocity[plan->L + l - 1];
    for (int i = 0; i < plan->n[l]; i++) {
        real s = 0;
        for (int b = 0; b < n; b++) s += own(ctx, plan->diff[l])[(int64_t)b * plan->pad[l] + i];
        const real gradient = -per * s; /* dE/db is minus the voltage */
        v[i] = mu * v[i] + gradient;
        bias[i] -= rate * (ctx->job->optimizer == STEP_NESTEROV ? gradient + mu * v[i] : v[i]);
    }
}

/* Bias currents by plain SGD: dE/db is minus the voltage, so b += step * sum_b (v_a - v_b). */
static void learn_bias_plain(context *ctx, int l, int n, real step) {
    const eqp_xplan *plan = &ctx->plan;
    real *bias = at(ctx, plan->bias[l]);
    for (int i = 0; i < plan->pad[l]; i += VL) {
        vec s = vset(0);
        for (int b = 0; b < n; b++)
            s = vadd(s, vload(own(ctx, plan->diff[l]) + (int64_t)b * plan->pad[l] + i));
        vstore(bias + i, vfma(vset(step), s, vload(bias + i)));
    }
}

/* 1 / (how far the two ends of the contrast lie apart, times the samples' weights): 2 beta apart
 * (centered), or +-beta; 0 for a batch without weight. */
static double contrast_scale(const eqp_crossbar_job *job, int64_t first, int n) {
    const double apart = job->nudging == NUDGE_CENTERED   ? 2 * job->beta
                         : job->nudging == NUDGE_POSITIVE ? job->beta
                                                          : -job->beta;
    const real *weight = job->row_weight;
    double total = weight ? 0 : n;
    for (int b = 0; weight && b < n; b++) total += weight[row_of(job, first + b)];
    return total > 0 ? 1.0 / (apart * total) : 0;
}

/* Steps all conductances and biases with the batch that has been relaxed, and makes the drive of
 * the next one (n_next samples): this thread's blocks and chunks; thread 0 has the biases. dE/dg is
 * half the squared drop: hence the 0.5. */
static void learn(context *ctx, int64_t batch, int64_t first, int n, int n_next) {
    const eqp_xplan *plan = &ctx->plan;
    const eqp_crossbar_job *job = ctx->job;
    const double per = contrast_scale(job, first, n);
    contrast(ctx, first, n);
    /* a step of plain SGD is rate * gradient; with momentum the sweeps form the gradient and
     * `mover` the step */
    const int sgd = job->optimizer == STEP_SGD;
    mover mover = {.momentum = (real)job->momentum, .nesterov = job->optimizer == STEP_NESTEROV};
    for (int k = 1; k < plan->L; k++) {
        mover.rate = (real)job->rate[k];
        learn_inner(ctx, k, n, (real)(0.5 * (sgd ? job->rate[k] : 1) * per), sgd ? NULL : &mover);
    }
    const real kappa = (real)(0.5 * (sgd ? job->rate[0] : 1) * per);
    mover.rate = (real)job->rate[0];
    squares(ctx, 1, n, kappa, own(ctx, plan->square));
    sweep_input(ctx, 1, (int)(batch + 1) & 1, &ctx->list[batch & 1], &ctx->list[(batch + 1) & 1],
                n_next, kappa, sgd ? NULL : &mover);
    for (int l = 1; ctx->thread == 0 && l <= plan->L; l++)
        if (sgd)
            learn_bias_plain(ctx, l, n, (real)(job->bias_rate[l - 1] * per));
        else
            learn_bias(ctx, l, n, (real)per, (real)job->bias_rate[l - 1]);
}

/* The rest of both phases of samples [b0, b1) with all nodes, after `done` steps of the free
 * phase; of a team's samples this thread copies those in [s0, s1). Where the synchronous sweeps
 * alternate (reverse), a phase goes on where the one before ended. */
static void run_dense(context *ctx, int b0, int b1, int done, int signs, int s0, int s1) {
    const eqp_xplan *plan = &ctx->plan;
    const eqp_crossbar_job *job = ctx->job;
    /* what is left of the free phase: rows 0.. are samples */
    ctx->n_signs = 1, ctx->row0 = 0;
    if (done < job->n_free_steps)
        run_phase(ctx, b0, b1 - b0, job->n_free_steps - done, job->tol_free, done & 1, done > 0,
                  NULL, NULL);
    copy_free(ctx, b0 > s0 ? b0 : s0, b1 < s1 ? b1 : s1, signs);
    team_wait(ctx);
    /* the nudged phases: rows B.., `signs` to a sample */
    ctx->n_signs = signs, ctx->row0 = plan->B;
    for (int i = signs * b0; i < signs * b1; i++)
        ctx->sign[plan->B + i] = nudge_sign(job, i % signs);
    run_phase(ctx, plan->B + signs * b0, signs * (b1 - b0), job->n_nudged_steps, job->tol_nudged,
              job->n_free_steps & 1, 0, NULL, NULL);
}

/* First all samples [b0, b1) with all nodes; then each alone in its live network, where that pays,
 * and the others, runs of neighbours together, with all nodes to the end. s0, s1: this thread's
 * samples, also where a team relaxes all. */
static void run_live_batch(context *ctx, int b0, int b1, int signs, int s0, int s1) {
    int8_t *done = (int8_t *)at(ctx, ctx->plan.done);
    ctx->keep = 1;
    run_phase(ctx, b0, b1 - b0, EQP_X_DENSE, ctx->job->tol_free, 0, 0, NULL, NULL);
    ctx->keep = 0;
    const int parity = ctx->parity; /* where the currents of those steps are */
    for (int b = s0; b < s1; b++) done[b] = (int8_t)run_live(ctx, b, signs);
    team_wait(ctx);
    for (int b = b0, e; b < b1; b = e) {
        for (e = b + 1; e < b1 && done[e] == done[b]; e++) {
        }
        ctx->parity = parity;
        if (!done[b]) run_dense(ctx, b, e, EQP_X_DENSE, signs, s0, s1);
    }
}

/* Free and nudged phases of a batch of n samples from job row `first` on: from zero, or from where
 * the last batch ended (equations 3: carry-over). The free states come to lie in rows 0..B, the
 * nudged ones behind. Returns this thread's status. */
static int run_batch(context *ctx, int64_t first, int n, int from_zero) {
    const eqp_xplan *plan = &ctx->plan;
    const int signs = eqp_xsigns(ctx->job), t = ctx->thread, T = ctx->n_threads;
    const int s0 = (int)((int64_t)n * t / T), s1 = (int)((int64_t)n * (t + 1) / T); /* its share */
    const int b0 = plan->team ? 0 : s0, b1 = plan->team ? n : s1; /* the samples it relaxes */
    for (int b = s0; b < s1; b++)
        for (int l = 1; l <= plan->L; l++)
            if (from_zero)
                memset(row(ctx, l, b), 0, sizeof(real) * plan->pad[l]);
            else
                memcpy(row(ctx, l, b), row(ctx, l, plan->B + signs * b),
                       sizeof(real) * plan->pad[l]);
    team_wait(ctx);
    ctx->parity = 0;
    ctx->n_signs = 1, ctx->row0 = 0;
    for (int b = b0; b < b1; b++) ctx->sign[b] = 0;
    start_currents(ctx, b0, b1 - b0, from_zero);
    if (plan->live)
        run_live_batch(ctx, b0, b1, signs, s0, s1);
    else
        run_dense(ctx, b0, b1, 0, signs, s0, s1);
    return score(ctx, first, s0, s1) ? EQP_OK : EQP_E_DIVERGED;
}

/* Packs what the threads share: conductances and velocities, each its part; thread 0 vectors, the
 * first batch's targets (n samples), and the carried state, which lies where the first nudged state
 * of a batch will. The first sweep only sums and drives. */
static void pack_job(context *ctx, int n) {
    const eqp_xplan *plan = &ctx->plan;
    const eqp_crossbar_job *job = ctx->job;
    const int signs = eqp_xsigns(job);
    pack_input(ctx, job->weight[0], plan->g0, 0);
    pack_inner(ctx);
    if (job->optimizer != STEP_SGD) {
        pack_input(ctx, job->velocity[0], plan->v0, 0);
        pack_velocities(ctx);
    }
    gather_nodes(ctx, 0, 0, n);
    sweep_input(ctx, 0, 0, &ctx->list[0], &ctx->list[0], n, 0, NULL);
    if (ctx->thread) return;
    pack_vectors(ctx);
    for (int l = 1; l <= plan->L; l++)
        for (int b = 0; b < plan->B; b++)
            memcpy(row(ctx, l, plan->B + signs * b),
                   (real *)job->state[l - 1] + (int64_t)b * plan->n[l], sizeof(real) * plan->n[l]);
    for (int b = 0; b < n; b++) pack_target(ctx, row_of(job, b), b);
}

/* Everything back to the caller's arrays: conductances and velocities each thread's part; thread 0
 * biases and the states at which the last batch ended, or zeros. */
static void unpack_job(context *ctx, int zero_states) {
    const eqp_xplan *plan = &ctx->plan;
    const eqp_crossbar_job *job = ctx->job;
    const int signs = eqp_xsigns(job);
    pack_input(ctx, job->weight[0], plan->g0, 1);
    if (job->optimizer != STEP_SGD) pack_input(ctx, job->velocity[0], plan->v0, 1);
    unpack_inner(ctx);
    for (int l = 1; ctx->thread == 0 && l <= plan->L; l++) {
        memcpy(job->bias[l - 1], at(ctx, plan->bias[l]), sizeof(real) * plan->n[l]);
        for (int b = 0; b < plan->B; b++) {
            real *to = (real *)job->state[l - 1] + (int64_t)b * plan->n[l];
            if (zero_states)
                memset(to, 0, sizeof(real) * plan->n[l]);
            else
                memcpy(to, row(ctx, l, plan->B + signs * b), sizeof(real) * plan->n[l]);
        }
    }
}

/* Trains on the job's rows in mini-batches, all threads together; two barriers a batch, as in
 * layered_train. A batch that is not finite, or whose nudge has no equilibrium, ends the job
 * before its update; the carried states are then zero. */
int EQP_NAME(crossbar_train)(eqp_crossbar_job *job, int thread, int n_threads) {
    context ctx;
    int status = open_context(&ctx, job, 1, thread, n_threads);
    if (status != EQP_OK) return status;
    const eqp_xplan *plan = &ctx.plan;
    const int B = plan->B;
    const int64_t M = job->n_rows, n_batches = (M + B - 1) / B;
    /* nudges that the batches use: conductances to the targets, part of the outputs' totals */
    const double plus = job->nudging == NUDGE_NEGATIVE ? 0 : job->beta;
    const double minus = job->nudging == NUDGE_POSITIVE ? 0 : job->beta;
    int32_t *errors = (int32_t *)((char *)job->scratch + plan->error);
    double *loss = (double *)((char *)job->scratch + plan->loss);
    if (n_batches == 0) return EQP_OK; /* before any barrier: all threads leave here */
    pack_job(&ctx, (int)(M < B ? M : B));
    eqp_wait(job->barrier, n_threads);

    int from_zero = 0;
    for (int64_t batch = 0; batch < n_batches; batch++) {
        const int64_t first = batch * B, left = M - first - B;
        const int n_next = (int)(left < 0 ? 0 : left < B ? left : B);
        const int n = (int)(M - first < B ? M - first : B);
        /* a shorter last batch has no states of its own to start from */
        from_zero |= n < B || !job->carry;
        status = invert_totals(&ctx, plus, minus);
        if (status != EQP_OK) break; /* every thread sees the same totals */
        errors[thread] = run_batch(&ctx, first, n, from_zero);
        /* the next batch's inputs are read while others may still relax */
        gather_nodes(&ctx, (int)(batch + 1) & 1, first + B, n_next);
        eqp_wait(job->barrier, n_threads);
        for (int t = 0; t < n_threads; t++)
            if (errors[t] != EQP_OK) status = errors[t];
        if (status != EQP_OK) break; /* all know of every thread's error, and stop together */
        if (thread == 0) {
            for (int b = 0; b < n; b++)
                job->loss[0] += loss[2 * b], job->loss[1] += loss[2 * b + 1];
            for (int b = 0; b < n_next; b++) pack_target(&ctx, row_of(job, first + B + b), b);
        }
        learn(&ctx, batch, first, n, n_next);
        from_zero = n < B; /* what comes after a shorter batch starts from zero */
        eqp_wait(job->barrier, n_threads);
    }
    unpack_job(&ctx, from_zero || status != EQP_OK);
    return status;
}

/* --- scratch --- */

/* Writes the bytes that the job needs to job->scratch_size. */
static int size_scratch(eqp_crossbar_job *job, int train, int n_threads) {
    eqp_xplan plan;
    const int status = eqp_xplan_make(&plan, job, train, n_threads, (int)sizeof(real));
    if (status == EQP_OK) job->scratch_size = plan.bytes;
    return status;
}

/* Writes the scratch bytes of crossbar_relax to job->scratch_size. */
int EQP_NAME(crossbar_relax_scratch)(eqp_crossbar_job *job, int thread, int n_threads) {
    (void)thread;
    return size_scratch(job, 0, n_threads);
}

/* Writes the scratch bytes of crossbar_train to job->scratch_size. */
int EQP_NAME(crossbar_train_scratch)(eqp_crossbar_job *job, int thread, int n_threads) {
    (void)thread;
    return size_scratch(job, 1, n_threads);
}
