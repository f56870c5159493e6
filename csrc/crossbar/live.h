/* crossbar_live.h - training phases of one sample without the nodes that their diodes hold at 0 V.
 *
 * Such a node adds nothing to any current, and what flows into it is only needed to know whether it stays there. After
 * EQP_X_DENSE steps of the free phase about half the nodes of each hidden layer are held, by a margin that the few steps
 * to come will not use up: they drop out, and with them three quarters of the conductances between two hidden layers. The
 * rest, the live network, is packed and relaxed by the same code.
 *
 * That the others stay at 0 V is checked, not assumed. The voltage at which unit i of layer l would rest without its diode
 * moves by at most lo_share |dv| below + hi_share |dv| above, the shares being those of its total conductance; the sum of
 * these moves over all steps since it was last computed must stay below the smallest margin among the dropped units of its
 * layer. A sample for which it does not is relaxed again with all nodes.
 */
#ifndef EQP_CROSSBAR_LIVE_H
#define EQP_CROSSBAR_LIVE_H

#define EQP_X_WORTH 0.6 /* of the inner conductances may be live: above, packing them does not pay */

/* to[i] = from[index[i]] for n columns, and zeros behind; up to VL reals more are written. */
static void pack_columns(real *to, const real *from, const int32_t *index, int n, const uint16_t *mask, int wide) {
#ifdef HAVE_SQUEEZE
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

/* Largest change of layer l in the last step of state row r. */
static double last_change(const ctx *c, int l, int r) {
    const int64_t rows = c->p.rows_total;
    const real *of_layer = at(c, c->p.change) + ((int64_t)c->last * c->p.L + l - 1) * c->n_threads * rows;
    double most = 0;
    for (int t = c->p.team ? 0 : c->thread; t < (c->p.team ? c->n_threads : c->thread + 1); t++)
        if (!(of_layer[t * rows + r] <= most)) most = of_layer[t * rows + r];
    return most;
}

/* Live units of the hidden layers of sample b, and the margins of the others; 0 if it is not worth while. */
static int find_live(ctx *c, int b, limits *lim, int32_t **index, int32_t *count) {
    const eqp_xplan *p = &c->p;
    const int L = p->L, sync = c->job->schedule == 0;
    double since[EQP_MAX_WEIGHTS + 2] = {0}, step[EQP_MAX_WEIGHTS + 2] = {0}, swing = 0;
    for (int l = 1; l <= L; l++) step[l] = last_change(c, l, b);
    for (int l = 1; l < L; l++) { /* neighbours that moved after layer l was computed */
        if (l > 1 && (sync || place(c, l - 1) > place(c, l))) since[l] += c->lo_share[l] * step[l - 1];
        if (sync || place(c, l + 1) > place(c, l)) since[l] += c->hi_share[l] * step[l + 1];
    }
    const real *inv = own(c, c->job->pairs ? p->inv[L] : c->minus > 0 ? p->inv_minus : p->inv_plus);
    const real *y = at(c, p->target) + (int64_t)b * p->pad[L], *v = row(c, L, b);
    for (int i = 0; i < p->n[L]; i++) { /* about what the nudge will move the outputs by */
        const double pull = c->job->beta * inv[i] * (fabs((double)v[i]) + fabs((double)y[c->job->pairs ? i % p->outputs : i]));
        if (pull > swing) swing = pull;
    }
    double live = 0, all = 0;
    for (int l = 1; l < L; l++) {
        const double ahead = c->lo_share[l] * since[l - 1] + c->hi_share[l] * (l + 1 < L ? since[l + 1] : swing);
        const real reach = (real)(1.5 * since[l] + 2 * ahead);
        const real *pre = at(c, p->pre[l]) + (int64_t)b * p->pad[l], *now = row(c, l, b);
        const real *lo = at(c, p->lower[l]), *hi = at(c, p->upper[l]);
        double margin = INFINITY;
        count[l] = 0;
        for (int i = 0; i < p->n[l]; i++) {
            const int held = now[i] == 0 && ((lo[i] == 0 && pre[i] < -reach) || (hi[i] == 0 && pre[i] > reach));
            index[l][count[l]] = i;
            count[l] += !held;
            if (held && fabs((double)pre[i]) < margin) margin = fabs((double)pre[i]);
        }
        lim->margin[l] = margin;
        for (int s = 0; s < 2; s++) lim->drift[s][l] = since[l];
        if (count[l] == 0) return 0;
    }
    count[L] = p->n[L];
    for (int i = 0; i < p->n[L]; i++) index[L][i] = i;
    for (int k = 1; k < L; k++) {
        all += (double)p->n_rows[k] * p->n_cols[k];
        live += (double)count[p->row_layer[k]] * count[p->col_layer[k]];
    }
    return live <= EQP_X_WORTH * all;
}

static void pick(real *to, const real *from, const int32_t *index, int n, int wide) {
    for (int i = 0; i < n; i++) to[i] = from[index[i]];
    for (int i = n; i < wide; i++) to[i] = 0;
}

/* The live network of sample b as a context of its own, in this thread's scratch. */
static void pack_live(const ctx *c, ctx *s, int b, int32_t **index, const int32_t *count) {
    const eqp_xplan *p = &c->p;
    eqp_xplan *q = &s->p;
    const int L = p->L;
    eqp_xlive_layout(q, count, p->own + c->thread * p->own_bytes + p->live_net, (int)sizeof(real));
    s->sign = (int8_t *)at(s, q->flags);
    s->active = s->sign + q->rows_total;
    for (int l = 1; l <= L; l++) {
        const int n = count[l], wide = q->pad[l];
        pick(at(s, q->bias[l]), at(c, p->bias[l]), index[l], n, wide);
        pick(at(s, q->lower[l]), at(c, p->lower[l]), index[l], n, wide);
        pick(at(s, q->upper[l]), at(c, p->upper[l]), index[l], n, wide);
        pick(at(s, q->inv[l]), own(c, p->inv[l]), index[l], n, wide);
        pick(row(s, l, 0), row(c, l, b), index[l], n, wide);
        for (int r = 1; r < 3; r++) memset(row(s, l, r), 0, sizeof(real) * (size_t)wide);
    }
    pick(at(s, q->inv_plus), own(c, p->inv_plus), index[L], count[L], q->pad[L]);
    pick(at(s, q->inv_minus), own(c, p->inv_minus), index[L], count[L], q->pad[L]);
    pick(at(s, q->drive), at(c, p->drive) + (int64_t)b * p->pad[1], index[1], count[1], q->pad[1]);
    memcpy(at(s, q->target), at(c, p->target) + (int64_t)b * p->pad[L], sizeof(real) * (size_t)q->pad[L]);
    uint16_t *mask = (uint16_t *)own(c, p->live_mask);
    for (int k = 1; k < L; k++) {
        const int lr = p->row_layer[k], lc = p->col_layer[k], wide = p->pad[lc];
        memset(mask, 0, sizeof *mask * (size_t)(wide / VL));
        for (int i = 0; i < count[lc]; i++) mask[index[lc][i] / VL] |= (uint16_t)(1u << (index[lc][i] % VL));
        real *to = at(s, q->w[k]);
        for (int j = 0; j < count[lr]; j++, to += q->ld[k])
            pack_columns(to, at(c, p->w[k]) + (int64_t)index[lr][j] * p->ld[k], index[lc], count[lc], mask, wide);
        for (int j = count[lr]; j < eqp_xup(count[lr], 4); j++, to += q->ld[k])
            memset(to, 0, sizeof(real) * (size_t)q->ld[k]);
    }
}

/* The rest of the free phase of sample b, after EQP_X_DENSE steps, and its nudged phases; 0: not done, nothing changed. */
static int run_live(ctx *c, int b, int signs) {
    const eqp_xplan *p = &c->p;
    const eqp_crossbar_job *job = c->job;
    const int L = p->L, done = EQP_X_DENSE;
    limits lim;
    int32_t *index[EQP_MAX_WEIGHTS + 1], count[EQP_MAX_WEIGHTS + 1];
    for (int l = 1; l <= L; l++) index[l] = (int32_t *)own(c, p->live_index[l]);
    if (!find_live(c, b, &lim, index, count)) return 0;
    ctx s = *c;
    s.keep = 0, s.thread = 0, s.n_threads = 1, s.parity = 0, s.limits = &lim;
    pack_live(c, &s, b, index, count);
    s.n_signs = 1, s.row0 = 0, s.sign[0] = 0;
    start_currents(&s, 0, 1, 0);
    if (c->active[b] && !run_phase(&s, 0, 1, job->n_free_steps - done, job->tol_free, done & 1, 0, NULL, NULL)) return 0;
    copy_free(&s, 0, 1, signs);
    for (int i = 0; i < signs; i++) s.sign[1 + i] = nudge_sign(job, i);
    memcpy(lim.drift[1], lim.drift[0], sizeof lim.drift[0]);
    s.n_signs = signs, s.row0 = 1;
    if (!run_phase(&s, 1, signs, job->n_nudged_steps, job->tol_nudged, job->n_free_steps & 1, 0, NULL, NULL)) return 0;
    for (int r = 0; r <= signs; r++)
        for (int l = 1; l <= L; l++) {
            real *to = row(c, l, r ? p->B + signs * b + r - 1 : b);
            const real *from = row(&s, l, r);
            memset(to, 0, sizeof(real) * (size_t)p->pad[l]);
            for (int i = 0; i < count[l]; i++) to[index[l][i]] = from[i];
        }
    return 1;
}
#endif
