/* live.h - training phases of one sample without the nodes that their diodes hold at 0 V.
 *
 * Such a node adds nothing to any current, and what flows into it is only needed to know whether
 * it stays there. After EQP_X_DENSE steps of the free phase about half the nodes of each hidden
 * layer are held, by a margin that the few steps to come will not use up: they drop out, and with
 * them three quarters of the conductances between two hidden layers. The rest, the live network,
 * is packed and relaxed by the same code.
 *
 * That the others stay at 0 V is checked, not assumed. The voltage at which unit i of layer l
 * would rest without its diode moves by at most lo_share |dv| below + hi_share |dv| above, the
 * shares being those of its total conductance; the sum of these moves over all steps since it was
 * last computed must stay below the smallest margin among the dropped units of its layer. A sample
 * for which it does not is relaxed again with all nodes.
 *
 *     live       a node that is not held by more than it can move
 *     pre        the voltage at which a node would rest without its diodes, of the last kept step
 *     margin     the smallest |pre| of the dropped nodes of a layer
 *     drift      how far their rest voltages may have come since
 *     lo_share   largest share of a node's conductance that leads down, hi_share: up
 *
 * Same equilibrium, sums in another order. Networks of one hidden layer have nothing to gain. */
#ifndef EQP_CROSSBAR_LIVE_H
#define EQP_CROSSBAR_LIVE_H

/* Share of the inner conductances that may be live: above it, packing them does not pay. */
#define EQP_X_WORTH 0.6

/* to[i] = from[index[i]] for n columns, and zeros behind; up to VL reals more are written. */
static void pack_columns(real *to, const real *from, const int32_t *index, int n,
                         const uint16_t *mask, int wide) {
#ifdef HAVE_SQUEEZE
    /* a vector's live lanes are pushed together, then the next vector's behind them */
    (void)index;
    real *at = to;
    for (int q = 0; q < wide; q += VL) {
        vstore(at, vsqueeze(vload(from + q), mask[q / VL]));
        at += __builtin_popcount(mask[q / VL]);
    }
#else
    (void)mask, (void)wide;
    for (int i = 0; i < n; i++) to[i] = from[index[i]];
#endif
    for (int i = 0; i < eqp_xup(1, 64 / (int)sizeof(real)); i += VL) vstore(to + n + i, vset(0));
}

/* Largest change of layer l in the last step of state row r, over the threads that have a part in
 * it. */
static double last_change(const context *ctx, int l, int r) {
    const int64_t rows = ctx->plan.rows_total;
    const real *of_layer = at(ctx, ctx->plan.change) +
                           ((int64_t)ctx->last * ctx->plan.L + l - 1) * ctx->n_threads * rows;
    real most = 0;
    for (int t = ctx->plan.team ? 0 : ctx->thread;
         t < (ctx->plan.team ? ctx->n_threads : ctx->thread + 1); t++)
        most = larger(most, of_layer[t * rows + r]);
    return most;
}

/* About the most that the nudge will move an output of sample b by: beta / total conductance times
 * what lies between output and target. */
static double nudge_swing(const context *ctx, int b) {
    const eqp_xplan *plan = &ctx->plan;
    const int L = plan->L, pairs = ctx->job->pairs;
    const real *inv = own(ctx, pairs            ? plan->inv[L]
                               : ctx->minus > 0 ? plan->inv_minus
                                                : plan->inv_plus);
    const real *y = at(ctx, plan->target) + (int64_t)b * plan->pad[L], *v = row(ctx, L, b);
    double swing = 0;
    for (int i = 0; i < plan->n[L]; i++) {
        const double pull = ctx->job->beta * inv[i] *
                            (fabs((double)v[i]) + fabs((double)y[pairs ? i % plan->outputs : i]));
        if (pull > swing) swing = pull;
    }
    return swing;
}

/* since[l]: how far the rest voltages of layer l of sample b may have moved since they were
 * computed, for its neighbours have moved after it. Entries 0 and L are zero. */
static void moves_since(const context *ctx, int b, double *since) {
    const int L = ctx->plan.L, sync = ctx->job->schedule == SWEEP_SYNCHRONOUS;
    double step[EQP_MAX_WEIGHTS + 2] = {0}; /* the largest move of a layer in the last step */
    for (int l = 1; l <= L; l++) step[l] = last_change(ctx, l, b);
    for (int l = 0; l <= L; l++) since[l] = 0;
    for (int l = 1; l < L; l++) {
        if (l > 1 && (sync || place(ctx, l - 1) > place(ctx, l)))
            since[l] += ctx->lo_share[l] * step[l - 1];
        if (sync || place(ctx, l + 1) > place(ctx, l)) since[l] += ctx->hi_share[l] * step[l + 1];
    }
}

/* The units of hidden layer l of sample b that are not held at 0 V by more than `reach`, into
 * index; returns their number. *margin: the smallest distance of the others from leaving. */
static int live_units(const context *ctx, int b, int l, real reach, int32_t *index,
                      double *margin) {
    const eqp_xplan *plan = &ctx->plan;
    const real *pre = at(ctx, plan->pre[l]) + (int64_t)b * plan->pad[l], *now = row(ctx, l, b);
    const real *lo = at(ctx, plan->lower[l]), *hi = at(ctx, plan->upper[l]);
    int count = 0;
    *margin = INFINITY;
    for (int i = 0; i < plan->n[l]; i++) {
        const int held =
            now[i] == 0 && ((lo[i] == 0 && pre[i] < -reach) || (hi[i] == 0 && pre[i] > reach));
        index[count] = i;
        count += !held;
        if (held && fabs((double)pre[i]) < *margin) *margin = fabs((double)pre[i]);
    }
    return count;
}

/* Live units of the hidden layers of sample b (index, count), and the margins of the others; 0 if
 * it is not worth while.
 *
 * A unit drops out if it is held by more than `reach`: what its neighbours have moved since it was
 * computed, half as much again, and twice what their own neighbours have still to pass on to them.
 */
static int find_live(context *ctx, int b, limits *limits, int32_t **index, int32_t *count) {
    const eqp_xplan *plan = &ctx->plan;
    const int L = plan->L;
    double since[EQP_MAX_WEIGHTS + 2];
    const double swing = nudge_swing(ctx, b);
    moves_since(ctx, b, since);
    for (int l = 1; l < L; l++) {
        const double ahead =
            ctx->lo_share[l] * since[l - 1] + ctx->hi_share[l] * (l + 1 < L ? since[l + 1] : swing);
        const real reach = (real)(1.5 * since[l] + 2 * ahead);
        count[l] = live_units(ctx, b, l, reach, index[l], &limits->margin[l]);
        for (int s = 0; s < 2; s++) limits->drift[s][l] = since[l];
        if (count[l] == 0) return 0;
    }
    count[L] = plan->n[L]; /* outputs are few, and are what is read: all stay */
    for (int i = 0; i < plan->n[L]; i++) index[L][i] = i;
    double live = 0, all = 0; /* conductances that would be left, of how many */
    for (int k = 1; k < L; k++) {
        all += (double)plan->n_rows[k] * plan->n_cols[k];
        live += (double)count[plan->row_layer[k]] * count[plan->col_layer[k]];
    }
    return live <= EQP_X_WORTH * all;
}

/* to[i] = from[index[i]] for n units; zeros up to `wide`. */
static void pick(real *to, const real *from, const int32_t *index, int n, int wide) {
    for (int i = 0; i < n; i++) to[i] = from[index[i]];
    for (int i = n; i < wide; i++) to[i] = 0;
}

/* The inner matrices between live units: rows and columns of the whole ones that stay. Rows are
 * packed to a multiple of four, as strips want them. */
static void pack_live_matrices(const context *whole, context *live, int32_t **index,
                               const int32_t *count) {
    const eqp_xplan *plan = &whole->plan, *small = &live->plan;
    const int L = plan->L;
    uint16_t *mask = (uint16_t *)own(whole, plan->live_mask); /* live columns, a word a vector */
    for (int k = 1; k < L; k++) {
        const int lr = plan->row_layer[k], lc = plan->col_layer[k], wide = plan->pad[lc];
        memset(mask, 0, sizeof *mask * (size_t)(wide / VL));
        for (int i = 0; i < count[lc]; i++)
            mask[index[lc][i] / VL] |= (uint16_t)(1u << (index[lc][i] % VL));
        real *to = at(live, small->w[k]);
        for (int j = 0; j < count[lr]; j++, to += small->ld[k])
            pack_columns(to, at(whole, plan->w[k]) + (int64_t)index[lr][j] * plan->ld[k], index[lc],
                         count[lc], mask, wide);
        for (int j = count[lr]; j < eqp_xup(count[lr], 4); j++, to += small->ld[k])
            memset(to, 0, sizeof(real) * (size_t)small->ld[k]);
    }
}

/* The live network of sample b as a context of its own, in this thread's scratch. */
static void pack_live(const context *whole, context *live, int b, int32_t **index,
                      const int32_t *count) {
    const eqp_xplan *plan = &whole->plan;
    eqp_xplan *small = &live->plan;
    const int L = plan->L;
    eqp_xlive_layout(small, count, plan->own + whole->thread * plan->own_bytes + plan->live_net,
                     (int)sizeof(real));
    live->sign = (int8_t *)at(live, small->flags);
    live->active = live->sign + small->rows_total;
    for (int l = 1; l <= L; l++) {
        const int n = count[l], wide = small->pad[l];
        pick(at(live, small->bias[l]), at(whole, plan->bias[l]), index[l], n, wide);
        pick(at(live, small->lower[l]), at(whole, plan->lower[l]), index[l], n, wide);
        pick(at(live, small->upper[l]), at(whole, plan->upper[l]), index[l], n, wide);
        pick(at(live, small->inv[l]), own(whole, plan->inv[l]), index[l], n, wide);
        pick(row(live, l, 0), row(whole, l, b), index[l], n, wide);
        for (int r = 1; r < 3; r++) memset(row(live, l, r), 0, sizeof(real) * (size_t)wide);
    }
    pick(at(live, small->inv_plus), own(whole, plan->inv_plus), index[L], count[L], small->pad[L]);
    pick(at(live, small->inv_minus), own(whole, plan->inv_minus), index[L], count[L],
         small->pad[L]);
    pick(at(live, small->drive), at(whole, plan->drive) + (int64_t)b * plan->pad[1], index[1],
         count[1], small->pad[1]);
    memcpy(at(live, small->target), at(whole, plan->target) + (int64_t)b * plan->pad[L],
           sizeof(real) * (size_t)small->pad[L]);
    pack_live_matrices(whole, live, index, count);
}

/* The rest of the free phase of sample b, after EQP_X_DENSE steps, and its nudged phases, in the
 * live network; 0: not done, nothing changed. */
static int run_live(context *whole, int b, int signs) {
    const eqp_xplan *plan = &whole->plan;
    const eqp_crossbar_job *job = whole->job;
    const int L = plan->L, done = EQP_X_DENSE;
    limits limits;
    int32_t *index[EQP_MAX_WEIGHTS + 1], count[EQP_MAX_WEIGHTS + 1];
    for (int l = 1; l <= L; l++) index[l] = (int32_t *)own(whole, plan->live_index[l]);
    if (!find_live(whole, b, &limits, index, count)) return 0;
    context live = *whole;
    live.keep = 0, live.thread = 0, live.n_threads = 1, live.parity = 0, live.limits = &limits;
    pack_live(whole, &live, b, index, count);
    /* row 0: the free phase goes on where it was, unless the sample has come to rest */
    live.n_signs = 1, live.row0 = 0, live.sign[0] = 0;
    start_currents(&live, 0, 1, 0);
    if (whole->active[b] &&
        !run_phase(&live, 0, 1, job->n_free_steps - done, job->tol_free, done & 1, 0, NULL, NULL))
        return 0;
    /* rows 1, 2: the nudged phases, from there */
    copy_free(&live, 0, 1, signs);
    for (int i = 0; i < signs; i++) live.sign[1 + i] = nudge_sign(job, i);
    memcpy(limits.drift[1], limits.drift[0], sizeof limits.drift[0]);
    live.n_signs = signs, live.row0 = 1;
    if (!run_phase(&live, 1, signs, job->n_nudged_steps, job->tol_nudged, job->n_free_steps & 1, 0,
                   NULL, NULL))
        return 0;
    /* back among all nodes; those that dropped out are at 0 V */
    for (int r = 0; r <= signs; r++)
        for (int l = 1; l <= L; l++) {
            real *to = row(whole, l, r ? plan->B + signs * b + r - 1 : b);
            const real *from = row(&live, l, r);
            memset(to, 0, sizeof(real) * (size_t)plan->pad[l]);
            for (int i = 0; i < count[l]; i++) to[index[l][i]] = from[i];
        }
    return 1;
}
#endif
