/* steps.h - one thread's view of a crossbar job: packing, totals, and the sweeps of a phase.
 * Letters: crossbar.c.
 *
 * A step of a layer settles its units exactly, given the others (equations 11):
 *     v <- clip((sum_j g_j v_j + b [+ beta y]) / (sum_j g_j [+ beta]), lower, upper)
 * The sums over j are currents: into the column layer of a matrix they are kept up to date (acc),
 * into its row layer they are dot products made on the way (dots).
 *
 * A pass over the rows of a matrix does both: a strip of rows is read once for the dot products
 * that settle its nodes, and again, from the cache, for what their new voltages add to the columns.
 * So an asynchronous step reads each conductance once, as long as a strip's rows fit the first
 * cache.
 *
 *     R, Q       rows and columns of a matrix as it is packed (plan.h)
 *     inv        1 / total conductance of a unit
 *     change     the largest move of a layer in a step, for each state row
 *     place      when a layer moves within a step
 *     slot       one of the two steps whose changes are kept */
#ifndef EQP_CROSSBAR_STEPS_H
#define EQP_CROSSBAR_STEPS_H

/* How far a live network's dropped units are from leaving 0 V, and how far they may have come, for
 * two state rows. */
typedef struct {
    double margin[EQP_X_LAYERS];
    double drift[2][EQP_X_LAYERS];
} limits;

/* One thread's view of a job. */
typedef struct {
    eqp_crossbar_job *job;
    eqp_xplan plan;
    int thread, n_threads;
    int parity;         /* which copy of the currents is current; only the synchronous schedule uses
                           both */
    int n_signs, row0;  /* state row r belongs to sample (r - row0) / n_signs */
    int8_t *sign;       /* of each state row: its nudge, +1, -1 or 0 */
    int8_t *active;     /* of each state row: still moving */
    double plus, minus; /* nudge of rows with sign +1, and minus that of rows with sign -1 */
    int keep;           /* settle stores what nodes would rest at without diodes */
    int last;           /* slot of the last step's changes */
    limits *limits;     /* of a live network, or NULL */
    /* largest share of a unit's total conductance that leads to the layer below, above */
    double lo_share[EQP_X_LAYERS], hi_share[EQP_X_LAYERS];
    sparse_batch list[2]; /* inputs of this batch and of the next, in turn */
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

/* What the arrays and options of a job must be, after its sizes: the first error. */
static int check_job(const eqp_crossbar_job *job, int train, int n_threads) {
    if (!job->weight || !job->bias || !job->lower || !job->upper || !job->state || !job->scratch)
        return EQP_E_NULL;
    if (!job->x && !(job->indptr && job->indices && job->data)) return EQP_E_NULL;
    if ((n_threads > 1 && !job->barrier) || ((train || job->beta != 0) && !job->y))
        return EQP_E_NULL;
    if (train && (!job->rate || !job->bias_rate || !job->loss)) return EQP_E_NULL;
    if (train && (job->optimizer < 0 || job->optimizer >= N_STEPS)) return EQP_E_OPTION;
    if (train && job->optimizer && !job->velocity) return EQP_E_NULL;
    if (!train && (!job->steps || !job->residual)) return EQP_E_NULL;
    return EQP_OK;
}

/* Plans the job, checks its arrays and options, and sets up this thread's view. Nothing is written
 * to the scratch before all is checked. */
static int open_context(context *ctx, eqp_crossbar_job *job, int train, int thread, int n_threads) {
    int status = eqp_xplan_make(&ctx->plan, job, train, n_threads, (int)sizeof(real));
    if (status == EQP_OK) status = check_job(job, train, n_threads);
    if (status != EQP_OK) return status;
    if (job->scratch_size < ctx->plan.bytes) return EQP_E_SCRATCH;
    if (thread < 0 || thread >= n_threads || job->n_free_steps < 0 || job->n_nudged_steps < 0)
        return EQP_E_SIZE;
    if (job->schedule < 0 || job->schedule >= N_SWEEPS || job->nudging < 0 ||
        job->nudging >= N_NUDGES)
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
    /* lists of nonzeros by node (train) or by sample (relax) */
    const int64_t cells = (int64_t)ctx->plan.D * ctx->plan.B;
    const int64_t starts = (train ? ctx->plan.D : ctx->plan.B) + 1;
    for (int i = 0; i < (train ? 2 : 1); i++) {
        ctx->list[i].start = (int32_t *)own(ctx, ctx->plan.starts) + i * starts;
        ctx->list[i].entry = (int32_t *)own(ctx, ctx->plan.entries) + i * cells;
        ctx->list[i].value = own(ctx, ctx->plan.values) + i * cells;
    }
    return EQP_OK;
}

/* --- packing --- */

/* Rows of inner matrix k (n_rows x ld) as plan.h orients them, and the sums along both sides; this
 * thread's chunks. The caller's matrix is (n[k], n[k + 1]). */
static void pack_inner(context *ctx) {
    const eqp_xplan *plan = &ctx->plan;
    for (int k = 1; k < plan->L; k++) {
        const real *g = ctx->job->weight[k];
        const int last = k == plan->L - 1, R = plan->n_rows[k], Q = plan->n_cols[k],
                  wide = plan->pad[plan->col_layer[k]];
        for (int ch = ctx->thread; ch < plan->n_chunks[k]; ch += ctx->n_threads) {
            real *col = at(ctx, plan->col_part[k]) + (int64_t)ch * wide;
            for (int i = 0; i < wide; i++) col[i] = 0;
            /* strips are read four rows at a time: the last chunk is filled up with zeros */
            const int j1 =
                (ch + 1) * plan->chunk[k] < R ? (ch + 1) * plan->chunk[k] : eqp_xup(R, 4);
            for (int j = ch * plan->chunk[k]; j < j1; j++) {
                real *to = at(ctx, plan->w[k]) + (int64_t)j * plan->ld[k];
                for (int i = 0; i < plan->ld[k]; i++)
                    /* the last matrix is turned round: its columns, the outputs, become rows */
                    to[i] = j >= R || i >= Q ? 0
                            : last           ? g[(int64_t)i * R + j]
                                             : g[(int64_t)j * Q + i];
                /* in the order of learn_row: a call's first batch must not differ from its others
                 */
                vec sum = vset(0);
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
        /* states begin at zero: a job that carries them writes them afterwards */
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

/* CSR by samples to lists by nodes: count, add up, place; the placing moves every start on by one.
 */
static void gather_csr_nodes(const eqp_crossbar_job *job, sparse_batch *to, int D, int64_t first,
                             int n) {
    const real gain = (real)job->input_gain, *data = job->data;
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

/* Non-zero inputs times the gain of job rows [first, first + n), by input node: for the sweep over
 * weight[0], which meets all samples of a node at once. */
static void gather_nodes(context *ctx, int which, int64_t first, int n) {
    const eqp_crossbar_job *job = ctx->job;
    const int D = ctx->plan.D;
    const real gain = (real)job->input_gain, *x = job->x;
    sparse_batch *to = &ctx->list[which];
    if (job->indptr) {
        gather_csr_nodes(job, to, D, first, n);
        return;
    }
    int32_t used = 0;
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
}

/* The same, by job row: for relaxing, where each sample makes its own drive. */
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

/* out (pad[l]) = the total conductance at each node of layer l: to its neighbours, and of layer 1
 * to the inputs. */
static void sum_totals(const context *ctx, int l, real *out) {
    const eqp_xplan *plan = &ctx->plan;
    for (int i = 0; i < plan->pad[l]; i++) out[i] = l == 1 ? at(ctx, plan->sum0)[i] : 0;
    for (int k = 1; k < plan->L; k++) {
        if (plan->row_layer[k] == l)
            for (int i = 0; i < plan->n[l]; i++) out[i] += at(ctx, plan->row_sum[k])[i];
        if (plan->col_layer[k] == l)
            for (int ch = 0; ch < plan->n_chunks[k]; ch++) {
                const real *col = at(ctx, plan->col_part[k]) + (int64_t)ch * plan->pad[l];
                for (int i = 0; i < plan->pad[l]; i++) out[i] += col[i];
            }
    }
}

/* Reciprocals of the outputs' totals with the nudge's conductance, +plus and -minus, which is tied
 * to a target. EQP_E_SINGULAR where a negative nudge leaves no minimum. */
static int invert_nudged(const context *ctx, const real *total) {
    const eqp_xplan *plan = &ctx->plan;
    const int L = plan->L;
    real *inv_plus = own(ctx, plan->inv_plus), *inv_minus = own(ctx, plan->inv_minus);
    for (int i = 0; i < plan->pad[L]; i++) {
        const real more = total[i] + (real)ctx->plus, less = total[i] - (real)ctx->minus;
        if (i < plan->n[L] && ctx->minus > 0 && !(less > 0)) return EQP_E_SINGULAR;
        inv_plus[i] = i < plan->n[L] && more > 0 ? 1 / more : 0;
        inv_minus[i] = i < plan->n[L] && less > 0 ? 1 / less : 0;
    }
    return EQP_OK;
}

/* Reciprocals of the total conductance at each node, private to the thread; for the outputs also
 * with the nudge's, +plus and -minus. EQP_E_SINGULAR where a negative nudge leaves no minimum. */
static int invert_totals(context *ctx, double plus, double minus) {
    const eqp_xplan *plan = &ctx->plan;
    const int L = plan->L, pairs = ctx->job->pairs;
    ctx->plus = plus, ctx->minus = minus;
    for (int l = 1; l <= L; l++) {
        real *inv = own(ctx, plan->inv[l]);
        sum_totals(ctx, l, inv); /* every thread for itself: no barrier, the same bits */
        /* conductances that are no numbers have diverged; they are not a nudge too strong */
        for (int i = 0; i < plan->n[l]; i++)
            if (!isfinite(inv[i])) return EQP_E_DIVERGED;
        if (l == L && !pairs && invert_nudged(ctx, inv) != EQP_OK) return EQP_E_SINGULAR;
        for (int i = 0; i < plan->pad[l]; i++)
            inv[i] = i < plan->n[l] && inv[i] > 0 ? 1 / inv[i] : 0;
        /* a current into one node and out of the other (nudge_pairs): its stiffness must stay */
        for (int i = 0; l == L && pairs && i < plan->outputs; i++)
            if (!(1 - (real)minus * (inv[i] + inv[plan->outputs + i]) > 0)) return EQP_E_SINGULAR;
    }
    for (int l = 1; plan->live && l < L; l++) {
        ctx->lo_share[l] = l > 1 ? share(ctx, l - 1, l) : 0;
        ctx->hi_share[l] = share(ctx, l, l);
    }
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

/* The exact minimiser (equations 11) for units [u0, u0 + nu) of layer l in state row r, given the
 * currents into them; `dots` (nu) are the currents from the layer whose conductances these units
 * are the rows of, NULL where there is none. Returns the largest change. */
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
    real *v = row(ctx, l, r);
    real *pre =
        ctx->keep && !output ? at(ctx, plan->pre[l]) + (int64_t)sample * plan->pad[l] : NULL;
    vec change = vset(0), all = vset(0); /* all: NaN if a voltage is (simd.h) */
    for (int i = 0; i < nu; i += VL) {
        const int u = u0 + i;
        /* current into the node if it were at 0 V */
        vec num = vload(bias + u);
        if (l == 1) num = vadd(num, vload(drive + u));
        /* from matrices whose columns these units are: what each chunk of their rows has added up,
         * in the order of the chunks */
        for (int k = l > 1 ? l - 1 : 1; k < plan->L && k <= l; k++) {
            if (plan->col_layer[k] != l) continue;
            for (int ch = 0; ch < plan->n_chunks[k]; ch++)
                num = vadd(num, vload(current(ctx, k, ctx->parity, ch, r) + u));
        }
        if (dots) num = vadd(num, vload(dots + i));
        /* the nudge: a resistor of conductance beta to a source at y */
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
        all = vfma(vset(0), num, all);
        /* a sample at rest stays as it is, whatever its tile does */
        if (ctx->active[r]) vstore(v + u, num);
    }
    if (pairs) {
        nudge_pairs(ctx, dots, y, beta);
        for (int i = 0; i < nu; i += VL) {
            const vec x = vminr(vload(hi + u0 + i), vmaxr(vload(lo + u0 + i), vload(dots + i)));
            change = vmaxr(change, vabs(vsub(x, vload(v + u0 + i))));
            all = vfma(vset(0), x, all);
            if (ctx->active[r]) vstore(v + u0 + i, x);
        }
    }
    return vequal(all, vset(0)) ? vhmax(change) : (real)NAN;
}

/* One pass over the rows of inner matrix k for state rows [r0, r0 + n): new voltages of the row
 * layer (unless only_add), then its currents into the column layer, written to copy `parity`.
 * `reverse` walks the rows from the last to the first: what the last pass left in the cache comes
 * first. change[r]: the largest move so far. */
static void row_pass(context *ctx, int k, int r0, int n, int only_add, int reverse, int parity,
                     real *change) {
    const eqp_xplan *plan = &ctx->plan;
    const int lr = plan->row_layer[k], lc = plan->col_layer[k];
    const int ldd = plan->pad[plan->L] > EQP_X_SUB ? plan->pad[plan->L] : EQP_X_SUB; /* of dots */
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
                /* the last vector of a strip may reach beyond its rows: no current there */
                if (nr < nu)
                    for (int m = 0; m < n; m++)
                        for (int i = nr; i < nu; i++) dots[m * ldd + i] = 0;
                strip_dots(g, plan->ld[k], nr, row(ctx, lc, r0), plan->pad[lc], plan->pad[lc], sums,
                           dots, ldd, n);
                for (int m = 0; m < n; m++) {
                    const real moved = settle(ctx, lr, r0 + m, j, nu, dots + m * ldd);
                    change[r0 + m] = larger(change[r0 + m], moved);
                }
            }
            /* currents into the columns: of this chunk alone, begun anew by its first strip */
            strip_add_rows(g, plan->ld[k], nr, row(ctx, lr, r0) + j, plan->pad[lr], plan->pad[lc],
                           current(ctx, k, parity, ch, r0), plan->pad[lc], s == 0, n);
        }
    }
}

/* A layer that is the row side of no matrix: its currents are all there already. A team shares its
 * units; pairs of outputs, which are solved in one piece, are thread 0's. */
static void settle_layer(context *ctx, int l, int r0, int n, real *change) {
    const eqp_xplan *plan = &ctx->plan;
    const int whole = l == plan->L && ctx->job->pairs, split = plan->team && !whole;
    const int units = plan->pad[l] / plan->lanes, t = ctx->thread, T = ctx->n_threads;
    const int u0 = split ? units * t / T * plan->lanes : 0;
    const int u1 = split ? units * (t + 1) / T * plan->lanes : plan->pad[l];
    real *dots = own(ctx, plan->dots);
    if (plan->team && whole && t != 0) return;
    for (int m = 0; m < n; m++) {
        real *zero = NULL; /* no dot products; pairs are solved in their place */
        if (whole) {
            zero = dots;
            for (int i = 0; i < plan->pad[l]; i++) zero[i] = 0;
        }
        const real moved = settle(ctx, l, r0 + m, u0, u1 - u0, zero);
        change[r0 + m] = larger(change[r0 + m], moved);
    }
}

/* When layer l moves within a step: layers of one place move together. The order of a synchronous
 * step does not matter, for all read the old currents. */
static int place(const context *ctx, int l) {
    switch (ctx->job->schedule) {
    case SWEEP_ASYNCHRONOUS: return (l + 1) % 2;
    case SWEEP_FORWARD: return l;
    case SWEEP_BACKWARD: return ctx->plan.L - l;
    default: /* synchronous: reads old currents and old voltages in this order */
        return l == ctx->plan.L ? 0 : l;
    }
}

/* Makes the currents that a step reads before it first writes them: those from layers that move
 * later in it, or at once. zero: all states are. */
static void start_currents(context *ctx, int r0, int n, int zero) {
    const eqp_xplan *plan = &ctx->plan;
    for (int k = 1; k < plan->L; k++) {
        if (ctx->job->schedule != SWEEP_SYNCHRONOUS &&
            place(ctx, plan->row_layer[k]) < place(ctx, plan->col_layer[k]))
            continue;
        if (!zero) {
            row_pass(ctx, k, r0, n, 1, 1, ctx->parity, NULL); /* no voltage moves */
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
        /* the voltage at which a unit would rest is a mean of its neighbours', weighted by
         * conductance: it moves by no more than these shares of their moves */
        double *drift = &ctx->limits->drift[m][l];
        *drift += (l > 1 ? ctx->lo_share[l] * moved[l - 1] : 0) + ctx->hi_share[l] * moved[l + 1];
        if (!(*drift <= ctx->limits->margin[l])) return 0;
    }
    return 1;
}

/* One step of state rows [r0, r0 + n): layers of one place move together, and a team meets after
 * each. slot: the step's changes, [layer][thread][row]. */
static void step_rows(context *ctx, int r0, int n, int reverse, real *slot) {
    const eqp_xplan *plan = &ctx->plan;
    const int sync = ctx->job->schedule == SWEEP_SYNCHRONOUS;
    for (int at_place = 0; at_place <= plan->L; at_place++) {
        int any = 0;
        for (int l = 1; l <= plan->L; l++) {
            if (place(ctx, l) != at_place) continue;
            any = 1;
            const int k = plan->row_matrix[l], into = sync ? !ctx->parity : ctx->parity;
            real *change = slot + ((l - 1) * ctx->n_threads + ctx->thread) * plan->rows_total;
            if (k)
                row_pass(ctx, k, r0, n, 0, reverse, into, change);
            else
                settle_layer(ctx, l, r0, n, change);
        }
        if (any) team_wait(ctx);
    }
    /* the currents just made are those of the next step */
    if (sync) ctx->parity = !ctx->parity;
}

/* moved[l] = the largest change of layer l in state row r, over the threads that had a part in it;
 * returns the largest of all. A change that is no number counts as one. */
static real moves_of(const context *ctx, const real *slot, int r, double *moved) {
    const eqp_xplan *plan = &ctx->plan;
    const int64_t rows = plan->rows_total;
    real most = 0;
    for (int l = 1; l <= plan->L; l++) {
        const real *of_layer = slot + (l - 1) * ctx->n_threads * rows + r;
        real here = of_layer[ctx->thread * rows];
        for (int t = 0; plan->team && t < ctx->n_threads; t++)
            here = larger(here, of_layer[t * rows]);
        most = larger(most, here);
        moved[l] = (double)here;
    }
    return most;
}

/* Up to n_steps steps of state rows [r0, r0 + n), fewer when all have moved by no more than tol;
 * `go_on`: samples that have come to rest stay so. 0 if a live network broke its limits. */
static int run_phase(context *ctx, int r0, int n, int n_steps, double tol, int reverse, int go_on,
                     int32_t *steps, real *residual) {
    const eqp_xplan *plan = &ctx->plan;
    const int64_t rows = plan->rows_total;
    for (int m = 0; m < n; m++) {
        /* a phase that goes on after live.h has looked keeps its samples at rest */
        if (!go_on) ctx->active[r0 + m] = 1;
        if (steps) steps[m] = 0, residual[m] = 0;
    }
    for (int it = 0; it < n_steps; it++) {
        /* changes of this step and of the last, in turn: a thread may still read one of them */
        real *slot = at(ctx, plan->change) + (it & 1) * plan->L * ctx->n_threads * rows;
        ctx->last = it & 1;
        for (int l = 1; l <= plan->L; l++)
            for (int m = 0; m < n; m++)
                slot[((l - 1) * ctx->n_threads + ctx->thread) * rows + r0 + m] = 0;
        step_rows(ctx, r0, n, (it + reverse) & 1, slot);
        /* nobody asks how far the samples have moved */
        if (tol < 0 && !steps && !ctx->limits) continue;
        int moving = 0;
        for (int m = 0; m < n; m++) {
            if (!ctx->active[r0 + m]) continue;
            double moved[EQP_X_LAYERS];
            const real most = moves_of(ctx, slot, r0 + m, moved);
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
    return (job->nudging == NUDGE_NEGATIVE) != (i != 0) ? -1 : 1;
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
                /* the currents, too: they are what the next step reads first */
                for (int ch = 0; ch < plan->n_chunks[k]; ch++) {
                    real *acc = current(ctx, k, ctx->parity, ch, 0);
                    const int64_t w = plan->pad[plan->col_layer[k]];
                    memcpy(acc + to * w, acc + b * w, sizeof(real) * w);
                }
        }
}
#endif
