/* steps.h - one thread's view of a crossbar job: packing, totals, and the sweeps of a phase.
 * Letters: crossbar.c.
 *
 * A step of a layer settles its units exactly, given the others (equations 11):
 *     v <- clip((sum_j g_j v_j + b [+ beta y]) / (sum_j g_j [+ beta]), lower, upper)
 * The sums over j are currents: into the column layer of a matrix they are kept up to date (acc),
 * into its row layer they are dot products made on the way (dots). */
#ifndef EQP_CROSSBAR_STEPS_H
#define EQP_CROSSBAR_STEPS_H

/* How far a live network's dropped units are from leaving 0 V, and how far they may have come, for
 * two state rows. */
typedef struct {
    double margin[EQP_MAX_WEIGHTS + 1], drift[2][EQP_MAX_WEIGHTS + 1];
} limits;

typedef struct {
    eqp_crossbar_job *job;
    eqp_xplan plan;
    int thread, n_threads;
    int parity; /* which copy of the currents is current; only the synchronous schedule uses both */
    int n_signs, row0;     /* state row r belongs to sample (r - row0) / n_signs */
    int8_t *sign, *active; /* of each state row: nudge +1, -1 or 0; still moving */
    double plus, minus;    /* nudge of rows with sign +1, and minus that of rows with sign -1 */
    int keep, last; /* keep: settle stores what nodes would rest at without diodes; slot of the last
                       step's changes */
    limits *limits; /* of a live network, or NULL */
    double lo_share[EQP_MAX_WEIGHTS + 1],
        hi_share[EQP_MAX_WEIGHTS + 1]; /* largest share of a unit's total conductance
                                          that leads to the layer below, above */
    sparse_batch list[2];              /* this batch and the next, in turn */
} context;

/* Byte `offset` of the scratch. */
static inline real *at(const context *ctx, int64_t offset) {
    return (real *)((char *)ctx->job->scratch + offset);
}
/* Byte `offset` of this thread's own part. */
static inline real *own(const context *ctx, int64_t offset) {
    return at(ctx, ctx->plan.own + ctx->thread * ctx->plan.own_bytes + offset);
}
/* State row r of layer l. */
static inline real *row(const context *ctx, int l, int64_t r) {
    return at(ctx, ctx->plan.state[l]) + r * ctx->plan.pad[l];
}
/* The row of the data that job row m reads. */
static inline int64_t row_of(const eqp_crossbar_job *job, int64_t m) {
    return job->order ? job->order[m] : m;
}
/* Partial currents of chunk `ch` of matrix k into the column layer, for state row r. */
static inline real *current(const context *ctx, int k, int parity, int ch, int64_t r) {
    const eqp_xplan *plan = &ctx->plan;
    return at(ctx, plan->acc[k] + ((int64_t)parity * plan->n_chunks[k] + ch) * plan->acc_chunk[k]) +
           r * plan->pad[plan->col_layer[k]];
}
/* A barrier where all threads relax all samples together; else nobody shares a state. */
static inline void team_wait(const context *ctx) {
    if (ctx->plan.team) eqp_wait(ctx->job->barrier, ctx->n_threads);
}

/* Plans the job, checks its arrays and options, and sets up this thread's view. Nothing is written
 * to the scratch before all is checked. */
static int open_context(context *ctx, eqp_crossbar_job *job, int train, int thread, int n_threads) {
    const int status = eqp_xplan_make(&ctx->plan, job, train, n_threads, (int)sizeof(real));
    if (status != EQP_OK) return status;
    if (!job->weight || !job->bias || !job->lower || !job->upper || !job->state || !job->scratch)
        return EQP_E_NULL;
    if (!job->x && !(job->indptr && job->indices && job->data)) return EQP_E_NULL;
    if ((n_threads > 1 && !job->barrier) || ((train || job->beta != 0) && !job->y))
        return EQP_E_NULL;
    if (train && (!job->rate || !job->bias_rate || !job->loss)) return EQP_E_NULL;
    if (train && (job->optimizer < 0 || job->optimizer > 2)) return EQP_E_OPTION;
    if (train && job->optimizer && !job->velocity) return EQP_E_NULL;
    if (!train && (!job->steps || !job->residual)) return EQP_E_NULL;
    if (job->scratch_size < ctx->plan.bytes) return EQP_E_SCRATCH;
    if (thread < 0 || thread >= n_threads || job->n_free_steps < 0 || job->n_nudged_steps < 0)
        return EQP_E_SIZE;
    if (job->schedule < 0 || job->schedule > 3 || job->nudging < 0 || job->nudging > 2)
        return EQP_E_OPTION;
    if (train && !(job->beta > 0)) return EQP_E_OPTION;
    ctx->job = job;
    ctx->thread = thread;
    ctx->n_threads = n_threads;
    ctx->parity = 0;
    ctx->keep = ctx->last = 0;
    ctx->limits = NULL;
    ctx->sign = (int8_t *)own(ctx, ctx->plan.flags);
    ctx->active = ctx->sign + ctx->plan.rows_total;
    /* inputs of this batch and of the next: lists of nonzeros by node (train) or by sample (relax)
     */
    const int64_t cells = (int64_t)ctx->plan.D * ctx->plan.B,
                  starts = (train ? ctx->plan.D : ctx->plan.B) + 1;
    for (int i = 0; i < (train ? 2 : 1); i++) {
        ctx->list[i].start = (int32_t *)own(ctx, ctx->plan.starts) + i * starts;
        ctx->list[i].entry = (int32_t *)own(ctx, ctx->plan.entries) + i * cells;
        ctx->list[i].value = own(ctx, ctx->plan.values) + i * cells;
    }
    return EQP_OK;
}

/* --- packing --- */

/* Rows of inner matrix k as plan.h orients them, and the sums along both sides; this thread's
 * chunks. */
static void pack_inner(context *ctx) {
    const eqp_xplan *plan = &ctx->plan;
    for (int k = 1; k < plan->L; k++) {
        const real *g = ctx->job->weight[k];
        const int last = k == plan->L - 1, R = plan->n_rows[k], Q = plan->n_cols[k],
                  wide = plan->pad[plan->col_layer[k]];
        for (int ch = ctx->thread; ch < plan->n_chunks[k]; ch += ctx->n_threads) {
            real *col = at(ctx, plan->col_part[k]) + (int64_t)ch * wide;
            for (int i = 0; i < wide; i++) col[i] = 0;
            const int j1 =
                (ch + 1) * plan->chunk[k] < R ? (ch + 1) * plan->chunk[k] : eqp_xup(R, 4);
            for (int j = ch * plan->chunk[k]; j < j1; j++) {
                real *to = at(ctx, plan->w[k]) + (int64_t)j * plan->ld[k];
                for (int i = 0; i < plan->ld[k]; i++)
                    /* the last matrix is turned round: its columns, the outputs, become rows */
                    to[i] = j >= R || i >= Q ? 0
                            : last           ? g[(int64_t)i * R + j]
                                             : g[(int64_t)j * Q + i];
                vec sum = vset(0); /* in the order of learn_row: a call's first batch must not
                                      differ from its others */
                for (int i = 0; i < wide; i += VL) {
                    sum = vadd(sum, vload(to + i));
                    vstore(col + i, vadd(vload(col + i), vload(to + i)));
                }
                if (j < R) at(ctx, plan->row_sum[k])[j] = vhsum(sum);
            }
        }
    }
}

/* Packed inner matrices to the caller's: this thread's chunks. The last matrix lies transposed. */
static void unpack_rows(context *ctx, void **plain, const int64_t *packed) {
    const eqp_xplan *plan = &ctx->plan;
    for (int k = 1; k < plan->L; k++) {
        real *g = plain[k];
        const int last = k == plan->L - 1, R = plan->n_rows[k], Q = plan->n_cols[k];
        for (int ch = ctx->thread; ch < plan->n_chunks[k]; ch += ctx->n_threads)
            for (int j = ch * plan->chunk[k]; j < (ch + 1) * plan->chunk[k] && j < R; j++) {
                const real *from = at(ctx, packed[k]) + (int64_t)j * plan->ld[k];
                for (int i = 0; i < Q; i++)
                    g[last ? (int64_t)i * R + j : (int64_t)j * Q + i] = from[i];
            }
    }
}

/* Conductances, and velocities where there are any. */
static void unpack_inner(context *ctx) {
    unpack_rows(ctx, ctx->job->weight, ctx->plan.w);
    if (ctx->job->optimizer) unpack_rows(ctx, ctx->job->velocity, ctx->plan.v);
}

/* Velocities of the inner matrices, as pack_inner does the conductances. */
static void pack_velocities(context *ctx) {
    const eqp_xplan *plan = &ctx->plan;
    for (int k = 1; k < plan->L; k++) {
        const real *v = ctx->job->velocity[k];
        const int last = k == plan->L - 1, R = plan->n_rows[k], Q = plan->n_cols[k];
        for (int ch = ctx->thread; ch < plan->n_chunks[k]; ch += ctx->n_threads)
            for (int j = ch * plan->chunk[k]; j < (ch + 1) * plan->chunk[k] && j < R; j++) {
                real *to = at(ctx, plan->v[k]) + (int64_t)j * plan->ld[k];
                for (int i = 0; i < plan->ld[k]; i++)
                    to[i] = i >= Q ? 0 : last ? v[(int64_t)i * R + j] : v[(int64_t)j * Q + i];
            }
    }
}

/* Biases and bounds, zero in the padding: a padded unit stays at 0. One thread. */
static void pack_vectors(context *c) {
    const eqp_xplan *plan = &c->plan;
    for (int l = 1; l <= plan->L; l++) {
        const real *from[3] = {c->job->bias[l - 1], c->job->lower[l - 1], c->job->upper[l - 1]};
        real *to[3] = {at(c, plan->bias[l]), at(c, plan->lower[l]), at(c, plan->upper[l])};
        for (int v = 0; v < 3; v++)
            for (int i = 0; i < plan->pad[l]; i++) to[v][i] = i < plan->n[l] ? from[v][i] : 0;
        memset(at(c, plan->state[l]), 0, sizeof(real) * (size_t)plan->rows_total * plan->pad[l]);
    }
}

/* The target of a row of the data, padded, for batch sample or tile row `slot`. */
static void pack_target(context *ctx, int64_t data_row, int slot) {
    const eqp_xplan *plan = &ctx->plan;
    const real *y = (const real *)ctx->job->y + data_row * plan->outputs;
    real *to = at(ctx, plan->target) + (int64_t)slot * plan->pad[plan->L];
    for (int i = 0; i < plan->pad[plan->L]; i++) to[i] = i < plan->outputs ? y[i] : 0;
}

/* Non-zero inputs times the gain of job rows [first, first + n), by input node. */
static void gather_nodes(context *ctx, int which, int64_t first, int n) {
    const eqp_crossbar_job *job = ctx->job;
    const int D = ctx->plan.D;
    const real gain = (real)job->input_gain;
    sparse_batch *to = &ctx->list[which];
    int32_t used = 0;
    if (!job->indptr) {
        const real *x = job->x;
        for (int j = 0; j < D; j++) {
            to->start[j] = used;
            for (int m = 0; m < n; m++) {
                const real v = x[row_of(job, first + m) * D + j];
                to->entry[used] = m; /* written always, kept if non-zero: no branch to mispredict */
                to->value[used] = gain * v;
                used += v != 0;
            }
        }
        to->start[D] = used;
        return;
    }
    const real *data = job->data;
    /* CSR by samples to lists by nodes: count, add up, place; the placing moves every start on by
     * one */
    for (int j = 0; j <= D; j++) to->start[j] = 0;
    for (int m = 0; m < n; m++) {
        const int64_t r = row_of(job, first + m);
        for (int64_t e = job->indptr[r]; e < job->indptr[r + 1]; e++)
            to->start[job->indices[e] + 1]++;
    }
    for (int j = 0; j < D; j++) to->start[j + 1] += to->start[j];
    for (int m = 0; m < n; m++) {
        const int64_t r = row_of(job, first + m);
        for (int64_t e = job->indptr[r]; e < job->indptr[r + 1]; e++) {
            const int32_t o = to->start[job->indices[e]]++;
            to->entry[o] = m;
            to->value[o] = gain * data[e];
        }
    }
    for (int j = D; j > 0; j--) to->start[j] = to->start[j - 1];
    to->start[0] = 0;
}

/* The same, by job row. */
static void gather_rows(context *ctx, int64_t first, int n) {
    const eqp_crossbar_job *job = ctx->job;
    const int D = ctx->plan.D;
    const real gain = (real)job->input_gain;
    sparse_batch *to = &ctx->list[0];
    int32_t used = 0;
    for (int m = 0; m < n; m++) {
        const int64_t r = row_of(job, first + m);
        to->start[m] = used;
        if (job->indptr)
            for (int64_t e = job->indptr[r]; e < job->indptr[r + 1]; e++, used++) {
                to->entry[used] = job->indices[e];
                to->value[used] = gain * ((const real *)job->data)[e];
            }
        else
            for (int j = 0; j < D; j++) {
                const real v = ((const real *)job->x)[r * D + j];
                to->entry[used] = j;
                to->value[used] = gain * v;
                used += v != 0;
            }
    }
    to->start[n] = used;
}

/* --- totals --- */

/* Largest share that matrix k has in the total conductance of a unit of layer l, after the totals
 * are inverted: how far a neighbour's move can move a unit (live.h). */
static double share(context *ctx, int k, int l) {
    const eqp_xplan *plan = &ctx->plan;
    const real *inv = own(ctx, plan->inv[l]), *sum = at(ctx, plan->row_sum[k]);
    real most = 0;
    if (plan->col_layer[k] == l) {
        /* columns: add the chunks' partial sums up */
        real *all = own(ctx, plan->part);
        for (int i = 0; i < plan->pad[l]; i++) all[i] = 0;
        for (int ch = 0; ch < plan->n_chunks[k]; ch++) {
            const real *col = at(ctx, plan->col_part[k]) + (int64_t)ch * plan->pad[l];
            for (int i = 0; i < plan->pad[l]; i++) all[i] += col[i];
        }
        sum = all;
    }
    for (int i = 0; i < plan->n[l]; i++) {
        const real part = sum[i] * inv[i];
        most = part > most ? part : most;
    }
    return most;
}

/* Reciprocals of the total conductance at each node, private to the thread; for the outputs also
 * with the nudge's, +plus and -minus. EQP_E_SINGULAR where a negative nudge leaves no minimum. */
static int invert_totals(context *ctx, double plus, double minus) {
    const eqp_xplan *plan = &ctx->plan;
    const int L = plan->L;
    ctx->plus = plus, ctx->minus = minus;
    for (int l = 1; l <= L; l++) {
        real *inv = own(ctx, plan->inv[l]);
        /* layer 1 has its conductances to the inputs */
        for (int i = 0; i < plan->pad[l]; i++) inv[i] = l == 1 ? at(ctx, plan->sum0)[i] : 0;
        for (int k = 1; k < L; k++) {
            if (plan->row_layer[k] == l)
                for (int i = 0; i < plan->n[l]; i++) inv[i] += at(ctx, plan->row_sum[k])[i];
            if (plan->col_layer[k] == l)
                for (int ch = 0; ch < plan->n_chunks[k]; ch++) {
                    const real *col = at(ctx, plan->col_part[k]) + (int64_t)ch * plan->pad[l];
                    for (int i = 0; i < plan->pad[l]; i++) inv[i] += col[i];
                }
        }
        /* conductances that are no numbers have diverged; they are not a nudge too strong */
        for (int i = 0; i < plan->n[l]; i++)
            if (!isfinite(inv[i])) return EQP_E_DIVERGED;
        if (l == L && !ctx->job->pairs) {
            real *ip = own(ctx, plan->inv_plus), *im = own(ctx, plan->inv_minus);
            for (int i = 0; i < plan->pad[l]; i++) {
                const real a = inv[i] + (real)plus, b = inv[i] - (real)minus;
                if (i < plan->n[l] && minus > 0 && !(b > 0)) return EQP_E_SINGULAR;
                ip[i] = i < plan->n[l] && a > 0 ? 1 / a : 0;
                im[i] = i < plan->n[l] && b > 0 ? 1 / b : 0;
            }
        }
        for (int i = 0; i < plan->pad[l]; i++)
            inv[i] = i < plan->n[l] && inv[i] > 0 ? 1 / inv[i] : 0;
        if (l == L && ctx->job->pairs)
            for (int i = 0; i < plan->outputs; i++)
                if (!(1 - (real)minus * (inv[i] + inv[plan->outputs + i]) > 0))
                    return EQP_E_SINGULAR;
    }
    for (int l = 1; plan->live && l < L; l++)
        ctx->lo_share[l] = l > 1 ? share(ctx, l - 1, l) : 0, ctx->hi_share[l] = share(ctx, l, l);
    return EQP_OK;
}

/* --- sweeps --- */

/* Output pairs: the nudge is a current beta (y - (v+ - v-)) into one node and out of the other,
 * solved exactly. */
static void nudge_pairs(context *ctx, real *v, const real *y, real beta) {
    const real *inv = own(ctx, ctx->plan.inv[ctx->plan.L]);
    const int half = ctx->plan.outputs;
    for (int i = 0; i < half; i++) {
        /* two nodes and the current between them: the nudge meets its own effect */
        const real stiffness = 1 + beta * (inv[i] + inv[half + i]);
        const real amps = beta * (y[i] - (v[i] - v[half + i])) / stiffness;
        v[i] += amps * inv[i];
        v[half + i] -= amps * inv[half + i];
    }
}

/* The exact minimiser for units [u0, u0 + nu) of layer l in state row r, given the currents into
 * them; `dots` are the currents from the layer whose conductances these units are the rows of.
 * Returns the largest change. */
static real settle(context *ctx, int l, int r, int u0, int nu, real *dots) {
    const eqp_xplan *plan = &ctx->plan;
    const int output = l == plan->L, sign = output ? ctx->sign[r] : 0;
    /* which sample a state row is: rows of the nudged phases lie `signs` to a sample */
    const int sample = (r - ctx->row0) / ctx->n_signs + (plan->train ? 0 : ctx->row0);
    const real *bias = at(ctx, plan->bias[l]),
               *drive = at(ctx, plan->drive) + (int64_t)sample * plan->pad[1];
    const real *lo = at(ctx, plan->lower[l]), *hi = at(ctx, plan->upper[l]);
    const real *y = at(ctx, plan->target) + (int64_t)sample * plan->pad[plan->L];
    const real beta = (real)(sign > 0 ? ctx->plus : -ctx->minus);
    const int pairs = sign && ctx->job->pairs, plain = sign && !ctx->job->pairs;
    /* the total conductance of a nudged output is larger by beta */
    const real *inv = own(ctx, !plain ? plan->inv[l] : sign > 0 ? plan->inv_plus : plan->inv_minus);
    real *v = row(ctx, l, r), *pre = ctx->keep && !output
                                         ? at(ctx, plan->pre[l]) + (int64_t)sample * plan->pad[l]
                                         : NULL;
    vec change = vset(0);
    for (int i = 0; i < nu; i += VL) {
        const int u = u0 + i;
        /* current into the node if it were at 0 V */
        vec num = vload(bias + u);
        if (l == 1) num = vadd(num, vload(drive + u));
        for (int k = l > 1 ? l - 1 : 1; k < plan->L && k <= l; k++) {
            if (plan->col_layer[k] != l) continue;
            for (int ch = 0; ch < plan->n_chunks[k]; ch++)
                num = vadd(num, vload(current(ctx, k, ctx->parity, ch, r) + u));
        }
        if (dots) num = vadd(num, vload(dots + i));
        if (plain) num = vfma(vset(beta), vload(y + u), num);
        num = vmul(num, vload(inv + u));
        /* pairs are solved together, then clipped */
        if (pairs) {
            vstore(dots + i, num);
            continue;
        }
        /* what the node would rest at without its diodes: live.h judges by it */
        if (pre) vstore(pre + u, num);
        num = vminr(vload(hi + u), vmaxr(vload(lo + u), num));
        change = vmaxr(change, vabs(vsub(num, vload(v + u))));
        /* a sample at rest stays as it is, whatever its tile does */
        if (ctx->active[r]) vstore(v + u, num);
    }
    if (pairs) {
        nudge_pairs(ctx, dots, y, beta);
        for (int i = 0; i < nu; i += VL) {
            const vec x = vminr(vload(hi + u0 + i), vmaxr(vload(lo + u0 + i), vload(dots + i)));
            change = vmaxr(change, vabs(vsub(x, vload(v + u0 + i))));
            if (ctx->active[r]) vstore(v + u0 + i, x);
        }
    }
    return vhmax(change);
}

/* One pass over the rows of inner matrix k for state rows [r0, r0 + n): new voltages of the row
 * layer (unless only_add), then its currents into the column layer, written to copy `parity`. */
static void row_pass(context *ctx, int k, int r0, int n, int only_add, int reverse, int parity,
                     real *change) {
    const eqp_xplan *plan = &ctx->plan;
    const int lr = plan->row_layer[k], lc = plan->col_layer[k],
              ldd = plan->pad[plan->L] > EQP_X_SUB ? plan->pad[plan->L] : EQP_X_SUB;
    /* rows of a strip; pairs of outputs in one piece */
    const int step = lr == plan->L && ctx->job->pairs ? plan->chunk[k] : EQP_X_SUB;
    const int t = plan->team ? ctx->thread : 0, T = plan->team ? ctx->n_threads : 1;
    /* chunks of this thread: all of them, unless a team shares the rows */
    const int mine = (plan->n_chunks[k] - t + T - 1) / T;
    real *dots = own(ctx, plan->dots), *sums = own(ctx, plan->sums);
    for (int a = 0; a < mine; a++) {
        const int ch = t + (reverse ? mine - 1 - a : a) * T;
        const int j0 = ch * plan->chunk[k], j1 = j0 + plan->chunk[k] < plan->n_rows[k]
                                                     ? j0 + plan->chunk[k]
                                                     : plan->n_rows[k];
        const int strips = (j1 - j0 + step - 1) / step;
        for (int s = 0; s < strips; s++) {
            const int j = j0 + (reverse ? strips - 1 - s : s) * step;
            const int nr = eqp_xup(j + step < j1 ? step : j1 - j, 4);
            const real *g = at(ctx, plan->w[k]) + (int64_t)j * plan->ld[k];
            /* currents into the rows, new voltages; then, while the rows are in the cache, what
             * they give back */
            if (!only_add) {
                const int nu = eqp_xup(nr, plan->lanes);
                if (nr < nu)
                    for (int m = 0; m < n; m++)
                        for (int i = nr; i < nu; i++) dots[m * ldd + i] = 0;
                strip_dots(g, plan->ld[k], nr, row(ctx, lc, r0), plan->pad[lc], plan->pad[lc], sums,
                           dots, ldd, n);
                for (int m = 0; m < n; m++) {
                    const real moved = settle(ctx, lr, r0 + m, j, nu, dots + m * ldd);
                    if (!(moved <= change[r0 + m])) change[r0 + m] = moved;
                }
            }
            strip_add_rows(g, plan->ld[k], nr, row(ctx, lr, r0) + j, plan->pad[lr], plan->pad[lc],
                           current(ctx, k, parity, ch, r0), plan->pad[lc], s == 0, n);
        }
    }
}

/* A layer that is the row side of no matrix: its currents are all there already. */
static void settle_layer(context *ctx, int l, int r0, int n, real *change) {
    const eqp_xplan *plan = &ctx->plan;
    const int whole = l == plan->L && ctx->job->pairs, split = plan->team && !whole;
    const int units = plan->pad[l] / plan->lanes, t = ctx->thread, T = ctx->n_threads;
    const int u0 = split ? units * t / T * plan->lanes : 0,
              u1 = split ? units * (t + 1) / T * plan->lanes : plan->pad[l];
    real *dots = own(ctx, plan->dots);
    if (plan->team && whole && t != 0) return;
    for (int m = 0; m < n; m++) {
        real *zero = NULL;
        if (whole) {
            zero = dots;
            for (int i = 0; i < plan->pad[l]; i++) zero[i] = 0;
        }
        const real moved = settle(ctx, l, r0 + m, u0, u1 - u0, zero);
        if (!(moved <= change[r0 + m])) change[r0 + m] = moved;
    }
}

/* When layer l moves within a step: layers of one place move together. 1: even layers after odd
 * ones; 2: upwards; 3: downwards; 0: the order does not matter, for all read the old currents. */
static int place(const context *ctx, int l) {
    switch (ctx->job->schedule) {
    case 1: return (l + 1) % 2;
    case 2: return l;
    case 3: return ctx->plan.L - l;
    default:
        return l == ctx->plan.L
                   ? 0
                   : l; /* synchronous: reads old currents and old voltages in this order */
    }
}

/* Currents that are read in a step before they are first written.
 * A layer that moves before its neighbour finds its currents; those that come later in the first
 * step are made by the step itself. */
static void start_currents(context *ctx, int r0, int n, int zero) {
    const eqp_xplan *plan = &ctx->plan;
    for (int k = 1; k < plan->L; k++) {
        if (ctx->job->schedule != 0 &&
            place(ctx, plan->row_layer[k]) < place(ctx, plan->col_layer[k]))
            continue;
        if (!zero) {
            row_pass(ctx, k, r0, n, 1, 1, ctx->parity, NULL);
            continue;
        }
        for (int ch = plan->team ? ctx->thread : 0; ch < plan->n_chunks[k];
             ch += plan->team ? ctx->n_threads : 1)
            memset(current(ctx, k, ctx->parity, ch, r0), 0,
                   sizeof(real) * (size_t)n * plan->pad[plan->col_layer[k]]);
    }
    team_wait(ctx);
}

/* Whether the dropped units of a live network surely still rest at 0 V, after a step of state row
 * m. */
static int still_held(const context *ctx, int m, const double *moved) {
    const int L = ctx->plan.L;
    for (int l = 1; l < L; l++) {
        double *drift = &ctx->limits->drift[m][l];
        *drift += (l > 1 ? ctx->lo_share[l] * moved[l - 1] : 0) + ctx->hi_share[l] * moved[l + 1];
        if (!(*drift <= ctx->limits->margin[l])) return 0;
    }
    return 1;
}

/* Up to n_steps steps of state rows [r0, r0 + n); `go_on`: samples that have come to rest stay so.
 * 0 if a live network broke its limits. */
static int run_phase(context *ctx, int r0, int n, int n_steps, double tol, int reverse, int go_on,
                     int32_t *steps, real *residual) {
    const eqp_xplan *plan = &ctx->plan;
    const int sync = ctx->job->schedule == 0;
    const int64_t rows = plan->rows_total;
    real *changes = at(ctx, plan->change);
    for (int m = 0; m < n; m++) {
        if (!go_on) ctx->active[r0 + m] = 1;
        if (steps) steps[m] = 0, residual[m] = 0;
    }
    for (int it = 0; it < n_steps; it++) {
        /* changes of this step and of the last, in turn: a thread may still read one of them */
        real *slot =
            changes + (it & 1) * plan->L * ctx->n_threads * rows; /* [layer][thread][row] */
        ctx->last = it & 1;
        for (int l = 1; l <= plan->L; l++)
            for (int m = 0; m < n; m++)
                slot[((l - 1) * ctx->n_threads + ctx->thread) * rows + r0 + m] = 0;
        /* layers of one place move together; a team meets after each */
        for (int at_place = 0; at_place <= plan->L; at_place++) {
            int any = 0;
            for (int l = 1; l <= plan->L; l++) {
                if (place(ctx, l) != at_place) continue;
                any = 1;
                const int k = plan->row_matrix[l], into = sync ? !ctx->parity : ctx->parity;
                real *change = slot + ((l - 1) * ctx->n_threads + ctx->thread) * rows;
                if (k)
                    row_pass(ctx, k, r0, n, 0, (it + reverse) & 1, into, change);
                else
                    settle_layer(ctx, l, r0, n, change);
            }
            if (any) team_wait(ctx);
        }
        /* the currents just made are those of the next step */
        if (sync) ctx->parity = !ctx->parity;
        /* nobody asks how far the samples have moved */
        if (tol < 0 && !steps && !ctx->limits) continue;
        int moving = 0;
        for (int m = 0; m < n; m++) {
            if (!ctx->active[r0 + m]) continue;
            real most = 0;
            double moved[EQP_MAX_WEIGHTS + 1];
            for (int l = 1; l <= plan->L; l++) {
                const real *of_layer = slot + (l - 1) * ctx->n_threads * rows + r0 + m;
                /* the largest change over the threads that had a part in the layer */
                real here = of_layer[ctx->thread * rows];
                for (int t = 0; plan->team && t < ctx->n_threads; t++)
                    if (!(of_layer[t * rows] <= here)) here = of_layer[t * rows];
                if (!(here <= most)) most = here;
                moved[l] = (double)here;
            }
            if (ctx->limits && !still_held(ctx, m, moved)) return 0;
            if (steps) steps[m] = it + 1, residual[m] = most;
            if (tol >= 0 && most <= (real)tol)
                ctx->active[r0 + m] = 0;
            else
                moving = 1;
        }
        if (!moving) break;
    }
    return 1;
}

/* Sign of the nudge of phase i of a sample: +, - (centered), + (positive) or - (negative). */
static int8_t nudge_sign(const eqp_crossbar_job *job, int i) {
    return (job->nudging == 2) != (i != 0) ? -1 : 1;
}

/* Nudged phases of samples [b0, b1) start where the free one ended: voltages and currents. */
static void copy_free(context *ctx, int b0, int b1, int signs) {
    const eqp_xplan *plan = &ctx->plan;
    for (int b = b0; b < b1; b++)
        for (int s = 0; s < signs; s++) {
            const int to = plan->B + signs * b + s;
            for (int l = 1; l <= plan->L; l++)
                memcpy(row(ctx, l, to), row(ctx, l, b), sizeof(real) * plan->pad[l]);
            for (int k = 1; k < plan->L; k++)
                for (int ch = 0; ch < plan->n_chunks[k]; ch++) {
                    real *acc = current(ctx, k, ctx->parity, ch, 0);
                    const int64_t w = plan->pad[plan->col_layer[k]];
                    memcpy(acc + to * w, acc + b * w, sizeof(real) * w);
                }
        }
}
#endif
