/* narrow.h - a synchronous step of one hidden layer under at most NARROW_MAX outputs, in one pass over the hidden units.
 *
 * Part of layered.c. The hidden vector in registers serves both ways at once: with each row of the (few) outgoing weights
 * it takes the outputs' feedback and gives its share of the outputs' field. Against two matrix products this halves the
 * loads and needs no intermediate store; the outputs' sums run over lanes first, so they round differently from
 * step_layer's, and a network is always on the one path or the other.
 */
#ifndef EQP_NARROW_H
#define EQP_NARROW_H

#define NARROW_ROWS (N_VREGS >= 32 ? 2 : 1) /* samples whose accumulators fit the registers */

/* Samples m.. (NS of them); NK >= outputs, the weights' missing rows being zero. field: NS x PW, the outputs' field. */
EQP_INLINE void narrow_body(const int act, const int plain, const int NS, const int NK, const network *net, team *t,
                            const step *st, const finish *f, int m, const real *weights, real *field) {
    const int64_t np = net->np[1], np2 = net->np[2];
    vec acc[NARROW_ROWS][NARROW_MAX], worst[NARROW_ROWS];
    const real *out[NARROW_ROWS];
#pragma GCC unroll 2
    for (int s = 0; s < NS; s++) {
        out[s] = t->shown[2][st->cur] + (m + s) * np2;
        worst[s] = vset(0);
#pragma GCC unroll 10
        for (int k = 0; k < NK; k++) acc[s][k] = vset(0);
    }
    for (int64_t c = 0; c < np; c += VL, weights += NK * VL) {
        vec a[NARROW_ROWS], shown[NARROW_ROWS];
#pragma GCC unroll 2
        for (int s = 0; s < NS; s++) {
            a[s] = vload(t->drive + (m + s) * np + c);
            shown[s] = vload(t->shown[1][st->cur] + (m + s) * np + c);
        }
#pragma GCC unroll 10
        for (int k = 0; k < NK; k++) {
            const vec w = vload(weights + k * VL);
#pragma GCC unroll 2
            for (int s = 0; s < NS; s++) {
                a[s] = vfma(vset(out[s][k]), w, a[s]);
                acc[s][k] = vfma(w, shown[s], acc[s][k]);
            }
        }
#pragma GCC unroll 2
        for (int s = 0; s < NS; s++) {
            const int64_t at = (m + s) * np + c;
            const vec old = plain ? shown[s] : vload(t->state[1][st->cur] + at);
            vec x = finish_vec(act, plain, f, a[s], old, shown[s], vset(0));
            const int valid = (int)(net->n[1] - c);
            if (valid < VL) x = vkeep(x, valid > 0 ? valid : 0);
            vstore(t->state[1][st->next] + at, x);
            if (!plain && net->euler) {
                vec r = act_rho(act, x);
                if (valid < VL) r = vkeep(r, valid > 0 ? valid : 0);
                vstore(t->shown[1][st->next] + at, r);
            }
            worst[s] = vmaxr(worst[s], vabs(vsub(x, old)));
        }
    }
#pragma GCC unroll 2
    for (int s = 0; s < NS; s++) {
        if (st->track) vstore(st->residual + (m + s) * LANES, worst[s]);
        for (int k = 0; k < NK; k++) field[s * PW + k] = net->bias[1][k] + vhsum(acc[s][k]);
    }
}

#define NARROW_ROWS_OF(ACT, PLAIN, NK)                                                                                  \
    for (; m + NARROW_ROWS <= rows; m += NARROW_ROWS)                                                                   \
        narrow_body(ACT, PLAIN, NARROW_ROWS, NK, net, t, st, &f, m, t->narrow_weights, field + m * PW);                 \
    for (; m < rows; m++) narrow_body(ACT, PLAIN, 1, NK, net, t, st, &f, m, t->narrow_weights, field + m * PW)

/* Rows of weights in the order narrow_body reads them: for each vector of hidden units, NK outputs. */
EQP_INLINE int narrow_outputs(const network *net) {
    return !net->plain ? NARROW_MAX : net->n[2] <= 2 ? 2 : net->n[2] <= 4 ? 4 : NARROW_MAX;
}

static void narrow_pack(const network *net, team *t) {
    const int n1 = net->n[1], n2 = net->n[2], nk = narrow_outputs(net);
    real *to = t->narrow_weights;
    for (int64_t c = 0; c < net->np[1]; c += VL)
        for (int k = 0; k < nk; k++, to += VL) {
            if (k >= n2) {
                vstore(to, vset(0));
                continue;
            }
            const int p = (int)(c / PW), width = panel_width(n1, p);
            vstore(to, vload(panel_at(net->back[1], n2, p) + (int64_t)k * width + (c - (int64_t)p * PW)));
        }
}

/* Both layers, all rows; the team is one thread. */
static void step_narrow(const network *net, team *t, step *st, int rows) {
    const int act = net->job->activation, nk = narrow_outputs(net);
    const finish f = finish_of(net, 1, 0);
    real *field = t->narrow_field;
    int m = 0;
#define BODY(ACT)                                                                                                       \
    if (net->plain) {                                                                                                   \
        if (nk == 2) { NARROW_ROWS_OF(ACT, 1, 2); }                                                                     \
        else if (nk == 4) { NARROW_ROWS_OF(ACT, 1, 4); }                                                                \
        else { NARROW_ROWS_OF(ACT, 1, NARROW_MAX); }                                                                    \
    } else {                                                                                                            \
        NARROW_ROWS_OF(ACT, 0, NARROW_MAX);                                                                             \
    }
    EQP_SWITCH_ACT(act, BODY)
#undef BODY
    st->k = 2;
#define BODY(ACT) finish_tile(ACT, 0, net, t, st, 0, rows, 0, (int)net->np[2], field)
    EQP_SWITCH_ACT(net->job->out_activation, BODY)
#undef BODY
}

#endif
