/* crossbar.c - layered resistive networks with ideal diodes: exact block coordinate descent, and learning by
 * equilibrium propagation (arXiv 2402.11674). The readable twin is kernels/reference/crossbar.py; the equations and the
 * conventions are there. The layout is in crossbar_plan.h, the loops over conductances in crossbar_pass.h.
 */
#include "crossbar/plan.h"
#include "core/simd.h"

#include "core/barrier.h"
#include "crossbar/pass.h"
#include "crossbar/steps.h"

#include "crossbar/live.h"

/* --- crossbar_relax ------------------------------------------------------------------------------------------- */

/* Packs (g+ - g-) of this thread's blocks, and the column sums of both. */
static void pack_differences(ctx *c) {
    const eqp_xplan *p = &c->p;
    const real *g = c->job->weight[0];
    const int D = p->D, N = p->n[1], block = p->block;
    for (int b = c->thread; b < p->n_blocks; b += c->n_threads) {
        real *out = at(c, p->g0) + (int64_t)b * D * block, *sum = at(c, p->sum0) + b * block;
        const int width = N - b * block < block ? N - b * block : block;
        for (int i = 0; i < block; i++) sum[i] = 0;
        for (int j = 0; j < D; j++, out += block) {
            const real *gp = g + (int64_t)j * N + b * block, *gm = gp + (int64_t)D * N;
            for (int i = 0; i < width; i++) out[i] = gp[i] - gm[i], sum[i] += gp[i] + gm[i];
            for (int i = width; i < block; i++) out[i] = 0;
        }
    }
}

/* drive[m] = sum_j value (g+ - g-)[j] for the gathered samples of a tile. */
static void tile_drive(ctx *c, int row0, int n) {
    const eqp_xplan *p = &c->p;
    for (int b = 0; b < p->n_blocks; b++) {
        const real *g = at(c, p->g0) + (int64_t)b * p->D * p->block;
        for (int m = 0; m < n; m++) {
            real *out = at(c, p->drive) + (int64_t)(row0 + m) * p->pad[1] + b * p->block;
            for (int h = 0; h < p->block; h += 4 * VL) {
                vec a[4] = {vset(0), vset(0), vset(0), vset(0)};
                for (int e = c->list[0].start[m]; e < c->list[0].start[m + 1]; e++) {
                    const vec x = vset(c->list[0].value[e]);
                    const real *d = g + (int64_t)c->list[0].entry[e] * p->block + h;
                    for (int i = 0; i < 4; i++) a[i] = vfma(x, vload(d + i * VL), a[i]);
                }
                for (int i = 0; i < 4; i++) vstore(out + h + i * VL, a[i]);
            }
        }
    }
}

static int relax_tile(ctx *c, int64_t first, int n) {
    const eqp_xplan *p = &c->p;
    eqp_crossbar_job *job = c->job;
    const int row0 = c->thread * EQP_X_TILE;
    gather_rows(c, first, n);
    tile_drive(c, row0, n);
    int started = 0;
    for (int l = 1; l <= p->L; l++)
        for (int m = 0; m < n; m++) {
            const real *from = (const real *)job->state[l - 1] + (first + m) * p->n[l];
            real *to = row(c, l, row0 + m);
            for (int i = 0; i < p->n[l]; i++) to[i] = from[i], started |= from[i] != 0;
        }
    c->n_signs = 1;
    c->row0 = row0;
    for (int m = 0; m < n; m++) {
        c->sign[row0 + m] = job->beta > 0 ? 1 : job->beta < 0 ? -1 : 0;
        if (job->beta != 0) pack_target(c, row_of(job, first + m), row0 + m);
    }
    c->parity = 0;
    start_currents(c, row0, n, !started);
    run_phase(c, row0, n, job->n_free_steps, job->tol_free, 0, 0, job->steps + first, (real *)job->residual + first);
    int finite = 1;
    for (int l = 1; l <= p->L; l++)
        for (int m = 0; m < n; m++) {
            real *to = (real *)job->state[l - 1] + (first + m) * p->n[l];
            const real *from = row(c, l, row0 + m);
            for (int i = 0; i < p->n[l]; i++) to[i] = from[i], finite &= isfinite(from[i]) != 0;
        }
    return finite ? EQP_OK : EQP_E_DIVERGED;
}

int EQP_NAME(crossbar_relax)(eqp_crossbar_job *job, int thread, int n_threads) {
    ctx c;
    int status = open_context(&c, job, 0, thread, n_threads);
    if (status != EQP_OK) return status;
    pack_differences(&c);
    pack_inner(&c);
    if (thread == 0) pack_vectors(&c);
    eqp_wait(job->barrier, n_threads);
    status = invert_totals(&c, job->beta > 0 ? job->beta : 0, job->beta < 0 ? -job->beta : 0);
    if (status == EQP_OK) {
        const int64_t tiles = (job->n_rows + EQP_X_TILE - 1) / EQP_X_TILE;
        for (int64_t i = thread; i < tiles; i += n_threads) {
            const int64_t first = i * EQP_X_TILE, left = job->n_rows - first;
            const int tile = relax_tile(&c, first, (int)(left < EQP_X_TILE ? left : EQP_X_TILE));
            if (status == EQP_OK) status = tile;
        }
    }
    return status;
}

/* --- crossbar_train ------------------------------------------------------------------------------------------- */

static void pack_input(ctx *c, real *g, int64_t g0, int unpack) {
    const eqp_xplan *p = &c->p;
    const int D = p->D, N = p->n[1], block = p->block;
    for (int b = c->thread; b < p->n_blocks; b += c->n_threads) {
        real *packed = at(c, g0) + (int64_t)b * D * 2 * block;
        const int width = N - b * block < block ? N - b * block : block;
        for (int j = 0; j < D; j++)
            for (int s = 0; s < 2; s++, packed += block) {
                real *plain = g + ((int64_t)s * D + j) * N + b * block;
                if (unpack) memcpy(plain, packed, sizeof(real) * width);
                else {
                    memcpy(packed, plain, sizeof(real) * width);
                    memset(packed + width, 0, sizeof(real) * (block - width));
                }
            }
    }
}

/* The fused sweep over this thread's blocks; `next` are the inputs of the coming batch. It is bound by memory traffic:
 * the order of the blocks alternates, so that those the last sweep left in the cache come first. */
static void sweep_input(ctx *c, int learn, int reverse, const sparse_batch *now, const sparse_batch *next, int n_next,
                        real kappa, const mover *mv) {
    const eqp_xplan *p = &c->p;
    const real lo = (real)c->job->g_min, hi = (real)c->job->g_max;
    const int wide = 4 * VL;
    const int mine = (p->n_blocks - c->thread + c->n_threads - 1) / c->n_threads;
    for (int a = 0; a < mine; a++) {
        const int b = c->thread + (reverse ? mine - 1 - a : a) * c->n_threads;
        for (int h = 0; h < p->block; h += wide) {
            const int64_t q = b * p->block + h;
            const int64_t first = (int64_t)b * p->D * 2 * p->block + h;
            real *g = at(c, p->g0) + first;
            if (learn && mv)
                input_sweep(g, p->D, p->block, 1, now, own(c, p->square) + q, own(c, p->diff[1]) + q, 2 * kappa, lo, hi,
                            next, at(c, p->sum0) + q, at(c, p->drive) + q, p->pad[1], n_next, 4, mv,
                            at(c, p->v0) + first);
            else if (learn)
                input_sweep(g, p->D, p->block, 1, now, own(c, p->square) + q, own(c, p->diff[1]) + q,
                            2 * kappa, lo, hi, next, at(c, p->sum0) + q, at(c, p->drive) + q, p->pad[1], n_next, 4,
                            NULL, NULL);
            else
                input_sweep(g, p->D, p->block, 0, now, NULL, NULL, 0, lo, hi, next, at(c, p->sum0) + q,
                            at(c, p->drive) + q, p->pad[1], n_next, 4, NULL, NULL);
        }
    }
}

/* Cost and argmax of this thread's samples in the free phase; 0 if one is not finite. */
static int score(ctx *c, int64_t first, int b0, int b1) {
    const eqp_xplan *p = &c->p;
    const real *weight = c->job->row_weight;
    double *loss = (double *)((char *)c->job->scratch + p->loss);
    int finite = 1;
    for (int b = b0; b < b1; b++) {
        const real *v = row(c, p->L, b), *y = at(c, p->target) + (int64_t)b * p->pad[p->L];
        double sum = 0;
        int best = 0, wanted = 0;
        real top = 0;
        for (int i = 0; i < p->outputs; i++) {
            const real u = c->job->pairs ? v[i] - v[p->outputs + i] : v[i];
            const double e = (double)(u - y[i]);
            sum += 0.5 * e * e;
            if (i == 0 || u > top) best = i, top = u;
            if (y[i] > y[wanted]) wanted = i;
        }
        loss[2 * b] = weight ? sum * weight[row_of(c->job, first + b)] : sum;
        loss[2 * b + 1] = best == wanted;
        finite &= isfinite(sum) != 0;
    }
    return finite;
}

/* diff = weight (v_a - v_b), mean = v_a + v_b of every layer; their products summed over the batch give the squares. */
static void contrast(ctx *c, int64_t first, int n) {
    const eqp_xplan *p = &c->p;
    const real *weight = c->job->row_weight;
    const int signs = c->job->nudging == 0 ? 2 : 1;
    for (int l = 1; l <= p->L; l++)
        for (int b = 0; b < n; b++) {
            const real *va = row(c, l, p->B + signs * b), *vb = signs == 2 ? va + p->pad[l] : row(c, l, b);
            real *d = own(c, p->diff[l]) + (int64_t)b * p->pad[l], *m = own(c, p->mean[l]) + (int64_t)b * p->pad[l];
            const vec w = vset(weight ? weight[row_of(c->job, first + b)] : 1);
            for (int i = 0; i < p->pad[l]; i += VL) {
                const vec a = vload(va + i), z = vload(vb + i);
                vstore(d + i, vmul(w, vsub(a, z)));
                vstore(m + i, vadd(a, z));
            }
        }
}

/* out = scale sum_b diff mean: sum of v_a^2 - v_b^2 of a layer. */
static void squares(ctx *c, int l, int n, real scale, real *out) {
    const eqp_xplan *p = &c->p;
    for (int i = 0; i < p->pad[l]; i += VL) {
        vec s = vset(0);
        for (int b = 0; b < n; b++) {
            const int64_t o = (int64_t)b * p->pad[l] + i;
            s = vfma(vload(own(c, p->diff[l]) + o), vload(own(c, p->mean[l]) + o), s);
        }
        vstore(out + i, vmul(vset(scale), s));
    }
}

/* The last group of nb samples of a row: `learn_row` for each size, so that its loops are unrolled. */
EQP_INLINE real learn_last(real *g, const real *from, real pj, const real *d, const real *m, int64_t ldr, const real *dc,
                           const real *mc, int64_t ldc, int n_cols, real kappa, real lo, real hi, real *col, int nb,
                           const mover *mv, real *velocity) {
    switch (nb) {
    case 4: return learn_row(g, NULL, from, pj, d, m, ldr, dc, mc, ldc, n_cols, kappa, lo, hi, col, 4, mv, velocity);
    case 3: return learn_row(g, NULL, from, pj, d, m, ldr, dc, mc, ldc, n_cols, kappa, lo, hi, col, 3, mv, velocity);
    case 2: return learn_row(g, NULL, from, pj, d, m, ldr, dc, mc, ldc, n_cols, kappa, lo, hi, col, 2, mv, velocity);
    default: return learn_row(g, NULL, from, pj, d, m, ldr, dc, mc, ldc, n_cols, kappa, lo, hi, col, 1, mv, velocity);
    }
}

/* g <- clip(g - kappa sum_b weight [(drop_a)^2 - (drop_b)^2]) for this thread's chunks of inner matrix k, with the new
 * row and column sums. With d = v_a - v_b and m = v_a + v_b the bracket is (d_j - d_k)(m_j - m_k). */
static void learn_inner(ctx *c, int k, int n, real kappa, const mover *mv) {
    const eqp_xplan *p = &c->p;
    const int lr = p->row_layer[k], lc = p->col_layer[k], N = p->n_cols[k], wide = p->pad[lc];
    const real lo = (real)c->job->g_min, hi = (real)c->job->g_max;
    const real *dc = own(c, p->diff[lc]), *mc = own(c, p->mean[lc]), *dr = own(c, p->diff[lr]),
               *mr = own(c, p->mean[lr]);
    real *sq = own(c, p->square), *part = own(c, p->part);
    squares(c, lc, n, 1, sq);
    for (int ch = c->thread; ch < p->n_chunks[k]; ch += c->n_threads) {
        real *col = at(c, p->col_part[k]) + (int64_t)ch * wide;
        const int j1 = (ch + 1) * p->chunk[k] < p->n_rows[k] ? (ch + 1) * p->chunk[k] : p->n_rows[k];
        for (int i = 0; i < wide; i++) col[i] = 0;
        for (int j = ch * p->chunk[k]; j < j1; j++) {
            real *g = at(c, p->w[k]) + (int64_t)j * p->ld[k], pj = 0;
            for (int b = 0; b < n; b++) pj += dr[(int64_t)b * p->pad[lr] + j] * mr[(int64_t)b * p->pad[lr] + j];
            /* brackets of four samples at a time; only the last group touches g */
            int b = 0;
            for (; n - b > 4; b += 4)
                learn_row(NULL, part, b ? part : sq, pj, dr + (int64_t)b * p->pad[lr] + j,
                          mr + (int64_t)b * p->pad[lr] + j, p->pad[lr], dc + (int64_t)b * wide,
                          mc + (int64_t)b * wide, wide, N, kappa, lo, hi, NULL, 4, NULL, NULL),
                    pj = 0;
            const real *d = dr + (int64_t)b * p->pad[lr] + j, *m = mr + (int64_t)b * p->pad[lr] + j;
            const real *from = b ? part : sq, *dcb = dc + (int64_t)b * wide, *mcb = mc + (int64_t)b * wide;
            at(c, p->row_sum[k])[j] =
                mv ? learn_last(g, from, pj, d, m, p->pad[lr], dcb, mcb, wide, N, kappa, lo, hi, col, n - b, mv,
                                at(c, p->v[k]) + (int64_t)j * p->ld[k])
                   : learn_last(g, from, pj, d, m, p->pad[lr], dcb, mcb, wide, N, kappa, lo, hi, col, n - b, NULL, NULL);
        }
    }
}

/* With momentum; the caller's own velocity is not padded. */
static void learn_bias(ctx *c, int l, int n, real per, real rate) {
    const eqp_xplan *p = &c->p;
    const real mu = (real)c->job->momentum;
    real *bias = at(c, p->bias[l]), *v = c->job->velocity[p->L + l - 1];
    for (int i = 0; i < p->n[l]; i++) {
        real s = 0;
        for (int b = 0; b < n; b++) s += own(c, p->diff[l])[(int64_t)b * p->pad[l] + i];
        const real gradient = -per * s;
        v[i] = mu * v[i] + gradient;
        bias[i] -= rate * (c->job->optimizer == 2 ? gradient + mu * v[i] : v[i]);
    }
}

static void learn(ctx *c, int64_t batch, int64_t first, int n, int n_next) {
    const eqp_xplan *p = &c->p;
    const eqp_crossbar_job *job = c->job;
    /* dE/dg = 1/2 drop^2; the two nudges lie 2 beta (centered) or +-beta apart. */
    const double apart = job->nudging == 0 ? 2 * job->beta : job->nudging == 1 ? job->beta : -job->beta;
    const real *weight = job->row_weight;
    double total = weight ? 0 : n;
    for (int b = 0; weight && b < n; b++) total += weight[row_of(job, first + b)];
    const double per = total > 0 ? 1.0 / (apart * total) : 0;
    contrast(c, first, n);
    /* a step of plain SGD is rate * gradient; with momentum the sweeps form the gradient and `mover` the step */
    const int sgd = job->optimizer == 0;
    mover mv = {.momentum = (real)job->momentum, .nesterov = job->optimizer == 2};
    for (int k = 1; k < p->L; k++) {
        mv.rate = (real)job->rate[k];
        learn_inner(c, k, n, (real)(0.5 * (sgd ? job->rate[k] : 1) * per), sgd ? NULL : &mv);
    }
    const real kappa = (real)(0.5 * (sgd ? job->rate[0] : 1) * per);
    mv.rate = (real)job->rate[0];
    squares(c, 1, n, kappa, own(c, p->square));
    sweep_input(c, 1, (int)(batch + 1) & 1, &c->list[batch & 1], &c->list[(batch + 1) & 1], n_next, kappa,
                sgd ? NULL : &mv);
    if (c->thread == 0)
        for (int l = 1; l <= p->L; l++) {
            real *bias = at(c, p->bias[l]);
            if (!sgd) {
                learn_bias(c, l, n, (real)per, (real)job->bias_rate[l - 1]);
                continue;
            }
            const vec r = vset((real)(job->bias_rate[l - 1] * per));
            for (int i = 0; i < p->pad[l]; i += VL) {
                vec s = vset(0);
                for (int b = 0; b < n; b++) s = vadd(s, vload(own(c, p->diff[l]) + (int64_t)b * p->pad[l] + i));
                vstore(bias + i, vfma(r, s, vload(bias + i)));
            }
        }
}

/* The rest of both phases of samples [b0, b1) with all nodes, after `done` steps of the free phase; of a team's samples
 * this thread copies those in [s0, s1). */
static void run_dense(ctx *c, int b0, int b1, int done, int signs, int s0, int s1) {
    const eqp_xplan *p = &c->p;
    const eqp_crossbar_job *job = c->job;
    c->n_signs = 1, c->row0 = 0;
    if (done < job->n_free_steps)
        run_phase(c, b0, b1 - b0, job->n_free_steps - done, job->tol_free, done & 1, done > 0, NULL, NULL);
    copy_free(c, b0 > s0 ? b0 : s0, b1 < s1 ? b1 : s1, signs);
    team_wait(c);
    c->n_signs = signs, c->row0 = p->B;
    for (int i = signs * b0; i < signs * b1; i++) c->sign[p->B + i] = nudge_sign(job, i % signs);
    run_phase(c, p->B + signs * b0, signs * (b1 - b0), job->n_nudged_steps, job->tol_nudged, job->n_free_steps & 1, 0, NULL,
              NULL);
}

static int run_batch(ctx *c, int64_t first, int n, int from_zero) {
    const eqp_xplan *p = &c->p;
    const eqp_crossbar_job *job = c->job;
    const int signs = job->nudging == 0 ? 2 : 1;
    const int t = c->thread, T = c->n_threads;
    const int s0 = (int)((int64_t)n * t / T), s1 = (int)((int64_t)n * (t + 1) / T); /* this thread's samples */
    const int b0 = p->team ? 0 : s0, b1 = p->team ? n : s1;                         /* the samples it relaxes */
    for (int b = s0; b < s1; b++)
        for (int l = 1; l <= p->L; l++)
            if (from_zero) memset(row(c, l, b), 0, sizeof(real) * p->pad[l]);
            else memcpy(row(c, l, b), row(c, l, p->B + signs * b), sizeof(real) * p->pad[l]);
    team_wait(c);
    c->parity = 0;
    c->n_signs = 1, c->row0 = 0;
    for (int b = b0; b < b1; b++) c->sign[b] = 0;
    start_currents(c, b0, b1 - b0, from_zero);
    if (!p->live) run_dense(c, b0, b1, 0, signs, s0, s1);
    else {
        int8_t *done = (int8_t *)at(c, p->done);
        c->keep = 1;
        run_phase(c, b0, b1 - b0, EQP_X_DENSE, job->tol_free, 0, 0, NULL, NULL);
        c->keep = 0;
        const int parity = c->parity;
        for (int b = s0; b < s1; b++) done[b] = (int8_t)run_live(c, b, signs);
        team_wait(c);
        for (int b = b0, e; b < b1; b = e) { /* the others: runs of neighbours together */
            for (e = b + 1; e < b1 && done[e] == done[b]; e++) {}
            c->parity = parity;
            if (!done[b]) run_dense(c, b, e, EQP_X_DENSE, signs, s0, s1);
        }
    }
    const int ok = score(c, first, s0, s1);
    return ok ? EQP_OK : EQP_E_DIVERGED;
}

int EQP_NAME(crossbar_train)(eqp_crossbar_job *job, int thread, int n_threads) {
    ctx c;
    int status = open_context(&c, job, 1, thread, n_threads);
    if (status != EQP_OK) return status;
    const eqp_xplan *p = &c.p;
    const int B = p->B, signs = job->nudging == 0 ? 2 : 1;
    const int64_t M = job->n_rows, n_batches = (M + B - 1) / B;
    const double plus = job->nudging == 2 ? 0 : job->beta, minus = job->nudging == 1 ? 0 : job->beta;
    int32_t *errors = (int32_t *)((char *)job->scratch + p->error);
    double *loss = (double *)((char *)job->scratch + p->loss);
    if (n_batches == 0) return EQP_OK;

    pack_input(&c, job->weight[0], p->g0, 0);
    pack_inner(&c);
    if (job->optimizer) {
        pack_input(&c, job->velocity[0], p->v0, 0);
        pack_velocities(&c);
    }
    int n = (int)(M < B ? M : B);
    gather_nodes(&c, 0, 0, n);
    sweep_input(&c, 0, 0, &c.list[0], &c.list[0], n, 0, NULL);
    if (thread == 0) {
        pack_vectors(&c);
        for (int l = 1; l <= p->L; l++) /* the carried state lies where the first nudged state of a batch will */
            for (int b = 0; b < B; b++)
                memcpy(row(&c, l, B + signs * b), (real *)job->state[l - 1] + (int64_t)b * p->n[l],
                       sizeof(real) * p->n[l]);
        for (int b = 0; b < n; b++) pack_target(&c, row_of(job, b), b);
    }
    eqp_wait(job->barrier, n_threads);

    int from_zero = 0;
    for (int64_t batch = 0; batch < n_batches; batch++) {
        const int64_t first = batch * B, left = M - first - B;
        const int n_next = (int)(left < 0 ? 0 : left < B ? left : B);
        n = (int)(M - first < B ? M - first : B);
        from_zero |= n < B || !job->carry;
        status = invert_totals(&c, plus, minus);
        if (status != EQP_OK) break; /* every thread sees the same totals */
        errors[thread] = run_batch(&c, first, n, from_zero);
        gather_nodes(&c, (int)(batch + 1) & 1, first + B, n_next);
        eqp_wait(job->barrier, n_threads);
        for (int t = 0; t < n_threads; t++)
            if (errors[t] != EQP_OK) status = errors[t];
        if (status != EQP_OK) break;
        if (thread == 0) {
            for (int b = 0; b < n; b++) job->loss[0] += loss[2 * b], job->loss[1] += loss[2 * b + 1];
            for (int b = 0; b < n_next; b++) pack_target(&c, row_of(job, first + B + b), b);
        }
        learn(&c, batch, first, n, n_next);
        from_zero = n < B;
        eqp_wait(job->barrier, n_threads);
    }
    pack_input(&c, job->weight[0], p->g0, 1);
    if (job->optimizer) pack_input(&c, job->velocity[0], p->v0, 1);
    unpack_inner(&c);
    if (thread == 0)
        for (int l = 1; l <= p->L; l++) {
            memcpy(job->bias[l - 1], at(&c, p->bias[l]), sizeof(real) * p->n[l]);
            for (int b = 0; b < B; b++) {
                real *to = (real *)job->state[l - 1] + (int64_t)b * p->n[l];
                if (from_zero || status != EQP_OK) memset(to, 0, sizeof(real) * p->n[l]);
                else memcpy(to, row(&c, l, B + signs * b), sizeof(real) * p->n[l]);
            }
        }
    return status;
}

/* --- scratch -------------------------------------------------------------------------------------------------- */

static int size_scratch(eqp_crossbar_job *job, int train, int n_threads) {
    eqp_xplan p;
    const int status = eqp_xplan_make(&p, job, train, n_threads, (int)sizeof(real));
    if (status == EQP_OK) job->scratch_size = p.bytes;
    return status;
}

int EQP_NAME(crossbar_relax_scratch)(eqp_crossbar_job *job, int thread, int n_threads) {
    (void)thread;
    return size_scratch(job, 0, n_threads);
}

int EQP_NAME(crossbar_train_scratch)(eqp_crossbar_job *job, int thread, int n_threads) {
    (void)thread;
    return size_scratch(job, 1, n_threads);
}
