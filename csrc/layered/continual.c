/* continual.c - nudged phases that are walked step by step because the samples of a batch meet in them: continual EP
 * and the vector field rules (2005.04168, 1808.04873; docs/equations.md 5, 6).
 *
 * Continual EP needs no pass over the weights at a step. Its updates telescope: after t steps
 *     W_k(t) - W_k(0) = c sum_s w_s ( q_k^t[s] q_{k+1}^t[s]' - q_k^0[s] q_{k+1}^0[s]' ),   c = rate / (beta sum w)
 * is of rank two batches, so W_k(t) acts on a state through the B x B products of that state with q^t and q^0. The
 * input layer's products x[m].x[s] are even the same at every step. The weights move once, at the end, as in EP.
 * In the continual vector field only the input layer telescopes; the inner matrices are stepped in place.
 */
#include <stdlib.h>

#include "layered/rules.h"

/* out[i] = a . (row i of q), i < n <= 4: four chains at a time, or the additions would wait for each other. */
EQP_INLINE void dots(const int n, const real *a, const real *q, int64_t np, real *out) {
    vec sum[4];
#pragma GCC unroll 4
    for (int i = 0; i < n; i++) sum[i] = vset(0);
    for (int64_t v = 0; v < np; v += VL) {
        const vec x = vload(a + v);
#pragma GCC unroll 4
        for (int i = 0; i < n; i++) sum[i] = vfma(x, vload(q + i * np + v), sum[i]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < n; i++) out[i] = vhsum(sum[i]);
}

static real dot(const real *a, const real *b, int64_t np) {
    real out[1];
    dots(1, a, b, np, out);
    return out[0];
}

/* g[m][s] = w_s (c x[m].x[s] + c_bias) of the thread's samples m and all s: what the first layer's weights and bias gain
 * from a change of sample s is felt by sample m through it. */
static void input_products(const network *net, batch_buffers *b, const phase *p) {
    const eqp_layered_job *j = net->job;
    const int64_t n0 = net->n[0], cap = n0 + LANES;
    const real offset = net->input_offset, c = (real)(j->rate[0] * p->scale), cb = (real)(j->bias_rate[0] * p->scale);
    for (int s = 0; offset != 0 && s < p->rows; s++) {
        const real *value = b->value[p->q] + s * cap;
        b->input_sum[s] = 0;
        for (int64_t e = 0; e < b->nnz[p->q][s]; e++) b->input_sum[s] += value[e];
    }
    for (int m = p->lo; m < p->hi; m++) {
        const int32_t *index = b->index[p->q] + m * cap;
        const real *value = b->value[p->q] + m * cap;
        for (int v = 0; v < p->rows; v += 2 * VL) { /* two chains, over the inputs of sample m */
            const int two = v + VL < b->xt_ld;
            vec sum = vset(0), more = vset(0);
            for (int64_t e = 0; e < b->nnz[p->q][m]; e++) {
                const real *column = b->xt[p->q] + index[e] * b->xt_ld + v;
                sum = vfma(vset(value[e]), vload(column), sum);
                if (two) more = vfma(vset(value[e]), vload(column + VL), more);
            }
            real lanes[2 * VL];
            vstore(lanes, sum);
            vstore(lanes + VL, more);
            for (int s = v; s < v + 2 * VL && s < p->rows; s++) {
                real product = lanes[s - v];
                if (offset != 0) product += offset * (b->input_sum[m] + b->input_sum[s]) + (real)n0 * offset * offset;
                b->gram_x[m * b->B + s] = b->weight[p->q][s] * (c * product + cb);
            }
        }
    }
}

/* out[m][s] = w_s (c a[m].q[s] + c_bias), for the thread's m and all s; `sign` for the part that is taken away. */
static void products(const batch_buffers *b, const phase *p, const real *a, const real *q, int64_t np, real c, real c_bias,
                     real sign, real *out) {
    for (int m = p->lo; m < p->hi; m++) {
        real *row = out + m * b->B;
        int s = 0;
        for (; s + 4 <= p->rows; s += 4) dots(4, a + m * np, q + s * np, np, row + s);
        for (; s < p->rows; s++) row[s] = dot(a + m * np, q + s * np, np);
        for (s = 0; s < p->rows; s++) row[s] = sign * b->weight[p->q][s] * (c * row[s] + c_bias);
    }
}

/* What the change of the weights since the phase began adds to the field of layer k; returns the number of operands. */
static int continual_field(const network *net, batch_buffers *b, const phase *p, int k, int cur, operand *op) {
    const eqp_layered_job *j = net->job;
    const team *t = &b->shared;
    const int B = b->B, L = net->L, vf = j->rule == RULE_CONTINUAL_VECTOR_FIELD;
    /* C-EP correlates what layers show, C-VF the raw changes of their states */
    const real *now = vf ? b->old[k] : b->old_shown[k], *start = vf ? b->free[k] : b->start_shown[k];
    const int64_t np = net->np[k];
    int n = 0;
    if (k == 1) {
        for (int m = p->lo; m < p->hi; m++)
            for (int s = 0; s < p->rows; s++) {
                b->gram[1][0][m * B + s] = b->gram_x[m * B + s];
                b->gram[1][1][m * B + s] = -b->gram_x[m * B + s];
            }
        n = 2;
    } else if (!vf) {
        const real c = (real)(j->rate[k - 1] * p->scale), cb = (real)(j->bias_rate[k - 1] * p->scale);
        const real *below = t->shown[k - 1][cur];
        products(b, p, below, b->old_shown[k - 1], net->np[k - 1], c, cb, 1, b->gram[k][0]);
        products(b, p, below, b->start_shown[k - 1], net->np[k - 1], c, cb, -1, b->gram[k][1]);
        n = 2;
    }
    if (n) {
        op[0] = (operand){b->gram[k][0], now, B, 1, np, p->rows};
        op[1] = (operand){b->gram[k][1], start, B, 1, np, p->rows};
    }
    if (k < L && !vf) {
        const real c = (real)(j->rate[k] * p->scale);
        const real *above = t->shown[k + 1][cur];
        products(b, p, above, b->old_shown[k + 1], net->np[k + 1], c, 0, 1, b->gram[k][2]);
        products(b, p, above, b->start_shown[k + 1], net->np[k + 1], c, 0, -1, b->gram[k][3]);
        op[n++] = (operand){b->gram[k][2], now, B, 1, np, p->rows};
        op[n++] = (operand){b->gram[k][3], start, B, 1, np, p->rows};
    }
    return n;
}

static void copy_rows(const network *net, int k, real *dst, const real *src, const phase *p) {
    memcpy(dst + p->lo * net->np[k], src + p->lo * net->np[k], (size_t)((p->hi - p->lo) * net->np[k]) * sizeof(real));
}

/* Keeps (presynaptic activity before, weighted change) of the step that has just been made, thread's samples. */
static void record(const network *net, batch_buffers *b, const phase *p, int slot, int cur) {
    for (int k = 1; k <= net->L; k++) {
        const int64_t np = net->np[k];
        const real *shown = b->old_shown[k];
        for (int s = p->lo; s < p->hi; s++) {
            const int64_t at = s * np, to = ((int64_t)slot * p->rows + s) * np;
            const vec w = vset(p->e ? -b->weight[p->q][s] : b->weight[p->q][s]);
            for (int64_t v = 0; v < np; v += VL) {
                vstore(b->pre[k] + to + v, vload(shown + at + v));
                vstore(b->change[k] + to + v, vmul(w, vsub(vload(b->shared.state[k][cur] + at + v), vload(b->old[k] + at + v))));
            }
        }
    }
}

/* Counts the step for the thread's samples. Samples that came to rest (tol >= 0) stay: their old state is put back. While
 * the phase runs, the step count of a sample at rest is kept negative. */
static void settle(const network *net, batch_buffers *b, const phase *p, int cur) {
    const eqp_layered_job *j = net->job;
    int32_t *steps = b->steps[1 + p->e];
    for (int s = p->lo; s < p->hi; s++) {
        real worst = 0;
        steps[s] += steps[s] >= 0;
        for (int k = 1; k <= net->L && j->tol_nudged >= 0; k++) {
            const int64_t at = s * net->np[k];
            const size_t bytes = (size_t)net->np[k] * sizeof(real);
            real *now = b->shared.state[k][cur] + at;
            if (steps[s] < 0) {
                memcpy(now, b->old[k] + at, bytes);
                if (net->euler) memcpy(b->shared.shown[k][cur] + at, b->old_shown[k] + at, bytes);
                continue;
            }
            for (int i = 0; i < net->n[k]; i++) {
                const real d = (real)fabs((double)(now[i] - b->old[k][at + i]));
                if (!(d <= worst)) worst = d;
            }
        }
        if (j->tol_nudged >= 0 && steps[s] > 0 && worst <= (real)(j->tol_nudged * j->dt)) steps[s] = -steps[s];
    }
}

/* The nudged phase of the step-by-step rules, all threads together; leaves end[e]. */
void EQP_NAME(nudged_stepwise)(network *net, batch_buffers *b, const phase *p, int thread) {
    const eqp_layered_job *j = net->job;
    const int L = net->L, order = j->schedule, sync = order == VISIT_SYNCHRONOUS;
    const int continual = is_continual(j->rule);
    if (continual) input_products(net, b, p);
    if (EQP_NAME(continual_is_narrow)(net)) {
        eqp_wait(j->barrier, net->n_threads); /* every sample's free state and products */
        EQP_NAME(nudged_narrow)(net, b, p, thread);
        return;
    }
    team *t = &b->shared;
    t->drive = b->drive;
    t->y = b->y[p->q];
    int cur = 0;
    for (int k = 1; k <= L; k++) {
        const int64_t at = p->lo * net->np[k];
        copy_rows(net, k, t->state[k][0], b->free[k], p);
        EQP_NAME(show)(net, k, t->state[k][0] + at, t->shown[k][0] + at, p->hi - p->lo);
        copy_rows(net, k, b->start_shown[k], t->shown[k][0], p);
    }
    for (int s = p->lo; s < p->hi; s++) b->steps[1 + p->e][s] = 0;

    for (int n = 0; n < j->n_nudged_steps; n++) {
        for (int k = 1; k <= L; k++) {
            copy_rows(net, k, b->old[k], t->state[k][cur], p);
            copy_rows(net, k, b->old_shown[k], t->shown[k][cur], p);
        }
        if (continual) eqp_wait(j->barrier, net->n_threads); /* the products read every sample's state */
        step st = {.cur = cur, .next = sync ? !cur : cur, .y = t->y};
        for (int pass = 0; pass < n_passes(order, L); pass++) {
            const visit v = layers_of(order, L, pass);
            for (int k = v.first; k <= v.last; k += v.stride) {
                operand extra[4];
                st.k = k;
                st.extra = extra;
                st.n_extra = continual && n > 0 ? continual_field(net, b, p, k, cur, extra) : 0;
                st.force = k == L ? (real)(j->cost_factor * p->beta) : 0;
                st.prediction = t->state[L][cur];
                if (k == L && j->cost == 1) {
                    const int64_t at = p->lo * net->np[L];
                    EQP_NAME(softmax_rows)(net, t->state[L][cur] + at, t->prediction + at, p->hi - p->lo);
                    st.prediction = t->prediction;
                }
                EQP_NAME(step_layer)(net, t, &st, p->lo, p->hi, 0, 1);
            }
        }
        cur = st.next;
        settle(net, b, p, cur);
        if (is_vector_field(j->rule)) record(net, b, p, j->rule == RULE_VECTOR_FIELD ? p->e * j->n_nudged_steps + n : 0, cur);
        if (continual) eqp_wait(j->barrier, net->n_threads); /* old states, and the recorded step, are read by all */
        if (j->rule != RULE_CONTINUAL_VECTOR_FIELD) continue;
        for (int k = 1; k < L; k++) {
            const stepper o = EQP_NAME(make_stepper)(j, j->rate[k], 0, p->scale, 0);
            const stepper ob = EQP_NAME(make_stepper)(j, j->bias_rate[k], 0, p->scale, 0);
            EQP_NAME(update_inner)(net, b, k, p->rows, &o, &ob, thread);
            EQP_NAME(update_back)(net, b, k, p->rows, &o, thread);
        }
        eqp_wait(j->barrier, net->n_threads);
    }
    for (int k = 1; k <= L; k++) copy_rows(net, k, b->end[p->e][k], t->state[k][cur], p);
    for (int s = p->lo; s < p->hi; s++) b->steps[1 + p->e][s] = abs(b->steps[1 + p->e][s]);
}
