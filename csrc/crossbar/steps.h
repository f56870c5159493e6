/* crossbar_steps.h - one thread's view of a crossbar job: packing, totals, and the sweeps of a phase. */
#ifndef EQP_CROSSBAR_STEPS_H
#define EQP_CROSSBAR_STEPS_H

/* How far a live network's dropped units are from leaving 0 V, and how far they may have come, for two state rows. */
typedef struct {
    double margin[EQP_MAX_WEIGHTS + 1], drift[2][EQP_MAX_WEIGHTS + 1];
} limits;

typedef struct {
    eqp_crossbar_job *job;
    eqp_xplan p;
    int thread, n_threads;
    int parity;           /* which copy of the currents is current; only the synchronous schedule uses both */
    int n_signs, row0;    /* state row r belongs to sample (r - row0) / n_signs */
    int8_t *sign, *active; /* of each state row: nudge +1, -1 or 0; still moving */
    double plus, minus;   /* nudge of rows with sign +1, and minus that of rows with sign -1 */
    int keep, last;       /* keep: settle stores what nodes would rest at without diodes; slot of the last step's changes */
    limits *limits;       /* of a live network, or NULL */
    double lo_share[EQP_MAX_WEIGHTS + 1], hi_share[EQP_MAX_WEIGHTS + 1]; /* largest share of a unit's total conductance
                                                                            that leads to the layer below, above */
    sparse_batch list[2]; /* this batch and the next, in turn */
} ctx;

static inline real *at(const ctx *c, int64_t offset) { return (real *)((char *)c->job->scratch + offset); }
static inline real *own(const ctx *c, int64_t offset) {
    return at(c, c->p.own + c->thread * c->p.own_bytes + offset);
}
static inline real *row(const ctx *c, int l, int64_t r) { return at(c, c->p.state[l]) + r * c->p.pad[l]; }
static inline int64_t row_of(const eqp_crossbar_job *job, int64_t m) { return job->order ? job->order[m] : m; }
/* Partial currents of chunk `ch` of matrix k into the column layer, for state row r. */
static inline real *current(const ctx *c, int k, int parity, int ch, int64_t r) {
    const eqp_xplan *p = &c->p;
    return at(c, p->acc[k] + ((int64_t)parity * p->n_chunks[k] + ch) * p->acc_chunk[k]) + r * p->pad[p->col_layer[k]];
}
static inline void team_wait(const ctx *c) {
    if (c->p.team) eqp_wait(c->job->barrier, c->n_threads);
}

static int open_context(ctx *c, eqp_crossbar_job *job, int train, int thread, int n_threads) {
    const int status = eqp_xplan_make(&c->p, job, train, n_threads, (int)sizeof(real));
    if (status != EQP_OK) return status;
    if (!job->weight || !job->bias || !job->lower || !job->upper || !job->state || !job->scratch) return EQP_E_NULL;
    if (!job->x && !(job->indptr && job->indices && job->data)) return EQP_E_NULL;
    if ((n_threads > 1 && !job->barrier) || ((train || job->beta != 0) && !job->y)) return EQP_E_NULL;
    if (train && (!job->rate || !job->bias_rate || !job->loss)) return EQP_E_NULL;
    if (train && (job->optimizer < 0 || job->optimizer > 2)) return EQP_E_OPTION;
    if (train && job->optimizer && !job->velocity) return EQP_E_NULL;
    if (!train && (!job->steps || !job->residual)) return EQP_E_NULL;
    if (job->scratch_size < c->p.bytes) return EQP_E_SCRATCH;
    if (thread < 0 || thread >= n_threads || job->n_free_steps < 0 || job->n_nudged_steps < 0) return EQP_E_SIZE;
    if (job->schedule < 0 || job->schedule > 3 || job->nudging < 0 || job->nudging > 2) return EQP_E_OPTION;
    if (train && !(job->beta > 0)) return EQP_E_OPTION;
    c->job = job;
    c->thread = thread;
    c->n_threads = n_threads;
    c->parity = 0;
    c->keep = c->last = 0;
    c->limits = NULL;
    c->sign = (int8_t *)own(c, c->p.flags);
    c->active = c->sign + c->p.rows_total;
    const int64_t cells = (int64_t)c->p.D * c->p.B, starts = (train ? c->p.D : c->p.B) + 1;
    for (int i = 0; i < (train ? 2 : 1); i++) {
        c->list[i].start = (int32_t *)own(c, c->p.starts) + i * starts;
        c->list[i].entry = (int32_t *)own(c, c->p.entries) + i * cells;
        c->list[i].value = own(c, c->p.values) + i * cells;
    }
    return EQP_OK;
}

/* --- packing -------------------------------------------------------------------------------------------------- */

/* Rows of inner matrix k as plan.h orients them, and the sums along both sides; this thread's chunks. */
static void pack_inner(ctx *c) {
    const eqp_xplan *p = &c->p;
    for (int k = 1; k < p->L; k++) {
        const real *g = c->job->weight[k];
        const int last = k == p->L - 1, R = p->n_rows[k], Q = p->n_cols[k], wide = p->pad[p->col_layer[k]];
        for (int ch = c->thread; ch < p->n_chunks[k]; ch += c->n_threads) {
            real *col = at(c, p->col_part[k]) + (int64_t)ch * wide;
            for (int i = 0; i < wide; i++) col[i] = 0;
            const int j1 = (ch + 1) * p->chunk[k] < R ? (ch + 1) * p->chunk[k] : eqp_xup(R, 4);
            for (int j = ch * p->chunk[k]; j < j1; j++) {
                real *to = at(c, p->w[k]) + (int64_t)j * p->ld[k];
                for (int i = 0; i < p->ld[k]; i++)
                    to[i] = j >= R || i >= Q ? 0 : last ? g[(int64_t)i * R + j] : g[(int64_t)j * Q + i];
                vec sum = vset(0); /* in the order of learn_row: a call's first batch must not differ from its others */
                for (int i = 0; i < wide; i += VL) {
                    sum = vadd(sum, vload(to + i));
                    vstore(col + i, vadd(vload(col + i), vload(to + i)));
                }
                if (j < R) at(c, p->row_sum[k])[j] = vhsum(sum);
            }
        }
    }
}

static void unpack_rows(ctx *c, void **plain, const int64_t *packed) {
    const eqp_xplan *p = &c->p;
    for (int k = 1; k < p->L; k++) {
        real *g = plain[k];
        const int last = k == p->L - 1, R = p->n_rows[k], Q = p->n_cols[k];
        for (int ch = c->thread; ch < p->n_chunks[k]; ch += c->n_threads)
            for (int j = ch * p->chunk[k]; j < (ch + 1) * p->chunk[k] && j < R; j++) {
                const real *from = at(c, packed[k]) + (int64_t)j * p->ld[k];
                for (int i = 0; i < Q; i++) g[last ? (int64_t)i * R + j : (int64_t)j * Q + i] = from[i];
            }
    }
}

static void unpack_inner(ctx *c) {
    unpack_rows(c, c->job->weight, c->p.w);
    if (c->job->optimizer) unpack_rows(c, c->job->velocity, c->p.v);
}

static void pack_velocities(ctx *c) {
    const eqp_xplan *p = &c->p;
    for (int k = 1; k < p->L; k++) {
        const real *v = c->job->velocity[k];
        const int last = k == p->L - 1, R = p->n_rows[k], Q = p->n_cols[k];
        for (int ch = c->thread; ch < p->n_chunks[k]; ch += c->n_threads)
            for (int j = ch * p->chunk[k]; j < (ch + 1) * p->chunk[k] && j < R; j++) {
                real *to = at(c, p->v[k]) + (int64_t)j * p->ld[k];
                for (int i = 0; i < p->ld[k]; i++) to[i] = i >= Q ? 0 : last ? v[(int64_t)i * R + j] : v[(int64_t)j * Q + i];
            }
    }
}

/* Biases and bounds, zero in the padding: a padded unit stays at 0. One thread. */
static void pack_vectors(ctx *c) {
    const eqp_xplan *p = &c->p;
    for (int l = 1; l <= p->L; l++) {
        const real *from[3] = {c->job->bias[l - 1], c->job->lower[l - 1], c->job->upper[l - 1]};
        real *to[3] = {at(c, p->bias[l]), at(c, p->lower[l]), at(c, p->upper[l])};
        for (int v = 0; v < 3; v++)
            for (int i = 0; i < p->pad[l]; i++) to[v][i] = i < p->n[l] ? from[v][i] : 0;
        memset(at(c, p->state[l]), 0, sizeof(real) * (size_t)p->rows_total * p->pad[l]);
    }
}

static void pack_target(ctx *c, int64_t data_row, int slot) {
    const eqp_xplan *p = &c->p;
    const real *y = (const real *)c->job->y + data_row * p->outputs;
    real *to = at(c, p->target) + (int64_t)slot * p->pad[p->L];
    for (int i = 0; i < p->pad[p->L]; i++) to[i] = i < p->outputs ? y[i] : 0;
}

/* Non-zero inputs times the gain of job rows [first, first + n), by input node. */
static void gather_nodes(ctx *c, int which, int64_t first, int n) {
    const eqp_crossbar_job *job = c->job;
    const int D = c->p.D;
    const real gain = (real)job->input_gain;
    sparse_batch *to = &c->list[which];
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
    for (int j = 0; j <= D; j++) to->start[j] = 0;
    for (int m = 0; m < n; m++) {
        const int64_t r = row_of(job, first + m);
        for (int64_t e = job->indptr[r]; e < job->indptr[r + 1]; e++) to->start[job->indices[e] + 1]++;
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
static void gather_rows(ctx *c, int64_t first, int n) {
    const eqp_crossbar_job *job = c->job;
    const int D = c->p.D;
    const real gain = (real)job->input_gain;
    sparse_batch *to = &c->list[0];
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

/* --- totals --------------------------------------------------------------------------------------------------- */

/* Largest share that matrix k has in the total conductance of a unit of layer l; after the totals are inverted. */
static double share(ctx *c, int k, int l) {
    const eqp_xplan *p = &c->p;
    const real *inv = own(c, p->inv[l]), *sum = at(c, p->row_sum[k]);
    real most = 0;
    if (p->col_layer[k] == l) {
        real *all = own(c, p->part);
        for (int i = 0; i < p->pad[l]; i++) all[i] = 0;
        for (int ch = 0; ch < p->n_chunks[k]; ch++) {
            const real *col = at(c, p->col_part[k]) + (int64_t)ch * p->pad[l];
            for (int i = 0; i < p->pad[l]; i++) all[i] += col[i];
        }
        sum = all;
    }
    for (int i = 0; i < p->n[l]; i++) {
        const real part = sum[i] * inv[i];
        most = part > most ? part : most;
    }
    return most;
}

/* Reciprocals of the total conductance at each node, private to the thread; with a nudge for the outputs. */
static int invert_totals(ctx *c, double plus, double minus) {
    const eqp_xplan *p = &c->p;
    const int L = p->L;
    c->plus = plus, c->minus = minus;
    for (int l = 1; l <= L; l++) {
        real *inv = own(c, p->inv[l]);
        for (int i = 0; i < p->pad[l]; i++) inv[i] = l == 1 ? at(c, p->sum0)[i] : 0;
        for (int k = 1; k < L; k++) {
            if (p->row_layer[k] == l)
                for (int i = 0; i < p->n[l]; i++) inv[i] += at(c, p->row_sum[k])[i];
            if (p->col_layer[k] == l)
                for (int ch = 0; ch < p->n_chunks[k]; ch++) {
                    const real *col = at(c, p->col_part[k]) + (int64_t)ch * p->pad[l];
                    for (int i = 0; i < p->pad[l]; i++) inv[i] += col[i];
                }
        }
        for (int i = 0; i < p->n[l]; i++)
            if (!isfinite(inv[i])) return EQP_E_DIVERGED;
        if (l == L && !c->job->pairs) {
            real *ip = own(c, p->inv_plus), *im = own(c, p->inv_minus);
            for (int i = 0; i < p->pad[l]; i++) {
                const real a = inv[i] + (real)plus, b = inv[i] - (real)minus;
                if (i < p->n[l] && minus > 0 && !(b > 0)) return EQP_E_SINGULAR;
                ip[i] = i < p->n[l] && a > 0 ? 1 / a : 0;
                im[i] = i < p->n[l] && b > 0 ? 1 / b : 0;
            }
        }
        for (int i = 0; i < p->pad[l]; i++) inv[i] = i < p->n[l] && inv[i] > 0 ? 1 / inv[i] : 0;
        if (l == L && c->job->pairs)
            for (int i = 0; i < p->outputs; i++)
                if (!(1 - (real)minus * (inv[i] + inv[p->outputs + i]) > 0)) return EQP_E_SINGULAR;
    }
    for (int l = 1; p->live && l < L; l++) c->lo_share[l] = l > 1 ? share(c, l - 1, l) : 0, c->hi_share[l] = share(c, l, l);
    return EQP_OK;
}

/* --- sweeps --------------------------------------------------------------------------------------------------- */

/* Output pairs: the nudge is a current beta (y - (v+ - v-)) into one node and out of the other, solved exactly. */
static void nudge_pairs(ctx *c, real *v, const real *y, real beta) {
    const real *inv = own(c, c->p.inv[c->p.L]);
    const int half = c->p.outputs;
    for (int i = 0; i < half; i++) {
        const real stiffness = 1 + beta * (inv[i] + inv[half + i]);
        const real amps = beta * (y[i] - (v[i] - v[half + i])) / stiffness;
        v[i] += amps * inv[i];
        v[half + i] -= amps * inv[half + i];
    }
}

/* The exact minimiser for units [u0, u0 + nu) of layer l in state row r, given the currents into them; `dots` are the
 * currents from the layer whose conductances these units are the rows of. Returns the largest change. */
static real settle(ctx *c, int l, int r, int u0, int nu, real *dots) {
    const eqp_xplan *p = &c->p;
    const int output = l == p->L, sign = output ? c->sign[r] : 0;
    const int sample = (r - c->row0) / c->n_signs + (p->train ? 0 : c->row0);
    const real *bias = at(c, p->bias[l]), *drive = at(c, p->drive) + (int64_t)sample * p->pad[1];
    const real *lo = at(c, p->lower[l]), *hi = at(c, p->upper[l]);
    const real *y = at(c, p->target) + (int64_t)sample * p->pad[p->L];
    const real beta = (real)(sign > 0 ? c->plus : -c->minus);
    const int pairs = sign && c->job->pairs, plain = sign && !c->job->pairs;
    const real *inv = own(c, !plain ? p->inv[l] : sign > 0 ? p->inv_plus : p->inv_minus);
    real *v = row(c, l, r), *pre = c->keep && !output ? at(c, p->pre[l]) + (int64_t)sample * p->pad[l] : NULL;
    vec change = vset(0);
    for (int i = 0; i < nu; i += VL) {
        const int u = u0 + i;
        vec num = vload(bias + u);
        if (l == 1) num = vadd(num, vload(drive + u));
        for (int k = l > 1 ? l - 1 : 1; k < p->L && k <= l; k++) {
            if (p->col_layer[k] != l) continue;
            for (int ch = 0; ch < p->n_chunks[k]; ch++) num = vadd(num, vload(current(c, k, c->parity, ch, r) + u));
        }
        if (dots) num = vadd(num, vload(dots + i));
        if (plain) num = vfma(vset(beta), vload(y + u), num);
        num = vmul(num, vload(inv + u));
        if (pairs) {
            vstore(dots + i, num);
            continue;
        }
        if (pre) vstore(pre + u, num);
        num = vminr(vload(hi + u), vmaxr(vload(lo + u), num));
        change = vmaxr(change, vabs(vsub(num, vload(v + u))));
        if (c->active[r]) vstore(v + u, num);
    }
    if (pairs) {
        nudge_pairs(c, dots, y, beta);
        for (int i = 0; i < nu; i += VL) {
            const vec x = vminr(vload(hi + u0 + i), vmaxr(vload(lo + u0 + i), vload(dots + i)));
            change = vmaxr(change, vabs(vsub(x, vload(v + u0 + i))));
            if (c->active[r]) vstore(v + u0 + i, x);
        }
    }
    return vhmax(change);
}

/* One pass over the rows of inner matrix k for state rows [r0, r0 + n): new voltages of the row layer (unless
 * only_add), then its currents into the column layer, written to copy `parity`. */
static void row_pass(ctx *c, int k, int r0, int n, int only_add, int reverse, int parity, real *change) {
    const eqp_xplan *p = &c->p;
    const int lr = p->row_layer[k], lc = p->col_layer[k], ldd = p->pad[p->L] > EQP_X_SUB ? p->pad[p->L] : EQP_X_SUB;
    const int step = lr == p->L && c->job->pairs ? p->chunk[k] : EQP_X_SUB;
    const int t = p->team ? c->thread : 0, T = p->team ? c->n_threads : 1;
    const int mine = (p->n_chunks[k] - t + T - 1) / T;
    real *dots = own(c, p->dots), *sums = own(c, p->sums);
    for (int a = 0; a < mine; a++) {
        const int ch = t + (reverse ? mine - 1 - a : a) * T;
        const int j0 = ch * p->chunk[k], j1 = j0 + p->chunk[k] < p->n_rows[k] ? j0 + p->chunk[k] : p->n_rows[k];
        const int strips = (j1 - j0 + step - 1) / step;
        for (int s = 0; s < strips; s++) {
            const int j = j0 + (reverse ? strips - 1 - s : s) * step;
            const int nr = eqp_xup(j + step < j1 ? step : j1 - j, 4);
            const real *g = at(c, p->w[k]) + (int64_t)j * p->ld[k];
            if (!only_add) {
                const int nu = eqp_xup(nr, p->lanes);
                if (nr < nu)
                    for (int m = 0; m < n; m++)
                        for (int i = nr; i < nu; i++) dots[m * ldd + i] = 0;
                strip_dots(g, p->ld[k], nr, row(c, lc, r0), p->pad[lc], p->pad[lc], sums, dots, ldd, n);
                for (int m = 0; m < n; m++) {
                    const real moved = settle(c, lr, r0 + m, j, nu, dots + m * ldd);
                    if (!(moved <= change[r0 + m])) change[r0 + m] = moved;
                }
            }
            strip_add_rows(g, p->ld[k], nr, row(c, lr, r0) + j, p->pad[lr], p->pad[lc], current(c, k, parity, ch, r0),
                           p->pad[lc], s == 0, n);
        }
    }
}

/* A layer that is the row side of no matrix: its currents are all there already. */
static void settle_layer(ctx *c, int l, int r0, int n, real *change) {
    const eqp_xplan *p = &c->p;
    const int whole = l == p->L && c->job->pairs, split = p->team && !whole;
    const int units = p->pad[l] / p->lanes, t = c->thread, T = c->n_threads;
    const int u0 = split ? units * t / T * p->lanes : 0, u1 = split ? units * (t + 1) / T * p->lanes : p->pad[l];
    real *dots = own(c, p->dots);
    if (p->team && whole && t != 0) return;
    for (int m = 0; m < n; m++) {
        real *zero = NULL;
        if (whole) {
            zero = dots;
            for (int i = 0; i < p->pad[l]; i++) zero[i] = 0;
        }
        const real moved = settle(c, l, r0 + m, u0, u1 - u0, zero);
        if (!(moved <= change[r0 + m])) change[r0 + m] = moved;
    }
}

/* Place of layer l in a step; layers of one place do not touch. */
static int place(const ctx *c, int l) {
    switch (c->job->schedule) {
    case 1: return (l + 1) % 2;
    case 2: return l;
    case 3: return c->p.L - l;
    default: return l == c->p.L ? 0 : l; /* synchronous: reads old currents and old voltages in this order */
    }
}

/* Currents that are read in a step before they are first written. */
static void start_currents(ctx *c, int r0, int n, int zero) {
    const eqp_xplan *p = &c->p;
    for (int k = 1; k < p->L; k++) {
        if (c->job->schedule != 0 && place(c, p->row_layer[k]) < place(c, p->col_layer[k])) continue;
        if (!zero) {
            row_pass(c, k, r0, n, 1, 1, c->parity, NULL);
            continue;
        }
        for (int ch = p->team ? c->thread : 0; ch < p->n_chunks[k]; ch += p->team ? c->n_threads : 1)
            memset(current(c, k, c->parity, ch, r0), 0, sizeof(real) * (size_t)n * p->pad[p->col_layer[k]]);
    }
    team_wait(c);
}

/* Whether the dropped units of a live network surely still rest at 0 V, after a step of state row m. */
static int still_held(const ctx *c, int m, const double *moved) {
    const int L = c->p.L;
    for (int l = 1; l < L; l++) {
        double *drift = &c->limits->drift[m][l];
        *drift += (l > 1 ? c->lo_share[l] * moved[l - 1] : 0) + c->hi_share[l] * moved[l + 1];
        if (!(*drift <= c->limits->margin[l])) return 0;
    }
    return 1;
}

/* Up to n_steps steps of state rows [r0, r0 + n); `go_on`: samples that have come to rest stay so. 0 if a live network
 * broke its limits. */
static int run_phase(ctx *c, int r0, int n, int n_steps, double tol, int reverse, int go_on, int32_t *steps,
                     real *residual) {
    const eqp_xplan *p = &c->p;
    const int sync = c->job->schedule == 0;
    const int64_t rows = p->rows_total;
    real *changes = at(c, p->change);
    for (int m = 0; m < n; m++) {
        if (!go_on) c->active[r0 + m] = 1;
        if (steps) steps[m] = 0, residual[m] = 0;
    }
    for (int it = 0; it < n_steps; it++) {
        real *slot = changes + (it & 1) * p->L * c->n_threads * rows; /* [layer][thread][row] */
        c->last = it & 1;
        for (int l = 1; l <= p->L; l++)
            for (int m = 0; m < n; m++) slot[((l - 1) * c->n_threads + c->thread) * rows + r0 + m] = 0;
        for (int at_place = 0; at_place <= p->L; at_place++) {
            int any = 0;
            for (int l = 1; l <= p->L; l++) {
                if (place(c, l) != at_place) continue;
                any = 1;
                const int k = p->row_matrix[l], into = sync ? !c->parity : c->parity;
                real *change = slot + ((l - 1) * c->n_threads + c->thread) * rows;
                if (k) row_pass(c, k, r0, n, 0, (it + reverse) & 1, into, change);
                else settle_layer(c, l, r0, n, change);
            }
            if (any) team_wait(c);
        }
        if (sync) c->parity = !c->parity;
        if (tol < 0 && !steps && !c->limits) continue;
        int moving = 0;
        for (int m = 0; m < n; m++) {
            if (!c->active[r0 + m]) continue;
            real most = 0;
            double moved[EQP_MAX_WEIGHTS + 1];
            for (int l = 1; l <= p->L; l++) {
                const real *of_layer = slot + (l - 1) * c->n_threads * rows + r0 + m;
                real here = of_layer[c->thread * rows];
                for (int t = 0; p->team && t < c->n_threads; t++)
                    if (!(of_layer[t * rows] <= here)) here = of_layer[t * rows];
                if (!(here <= most)) most = here;
                moved[l] = (double)here;
            }
            if (c->limits && !still_held(c, m, moved)) return 0;
            if (steps) steps[m] = it + 1, residual[m] = most;
            if (tol >= 0 && most <= (real)tol) c->active[r0 + m] = 0;
            else moving = 1;
        }
        if (!moving) break;
    }
    return 1;
}

/* Sign of the nudge of the i-th nudged state of a sample. */
static int8_t nudge_sign(const eqp_crossbar_job *job, int i) { return (job->nudging == 2) != (i != 0) ? -1 : 1; }

/* The nudged copies of samples [b0, b1) start from their free state and its currents. */
static void copy_free(ctx *c, int b0, int b1, int signs) {
    const eqp_xplan *p = &c->p;
    for (int b = b0; b < b1; b++)
        for (int s = 0; s < signs; s++) {
            const int to = p->B + signs * b + s;
            for (int l = 1; l <= p->L; l++) memcpy(row(c, l, to), row(c, l, b), sizeof(real) * p->pad[l]);
            for (int k = 1; k < p->L; k++)
                for (int ch = 0; ch < p->n_chunks[k]; ch++) {
                    real *acc = current(c, k, c->parity, ch, 0);
                    const int64_t w = p->pad[p->col_layer[k]];
                    memcpy(acc + to * w, acc + b * w, sizeof(real) * w);
                }
        }
}
#endif
