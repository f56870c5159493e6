/* continual.c - nudged phases that are walked step by step because the samples of a batch meet in
 * them: continual EP and the vector field rules (2005.04168, 1808.04873; docs/equations.md 5, 6).
 * Letters: layered.h, rules.h.
 *
 * Continual EP needs no pass over the weights at a step. Its updates telescope: after t steps
 *     W_k(t) - W_k(0) = c sum_s w_s ( q_k^t[s] q_{k+1}^t[s]' - q_k^0[s] q_{k+1}^0[s]' )
 *     c = rate / (beta sum w)
 * is of rank two batches, so W_k(t) acts on a state through the B x B products of that state with
 * q^t and q^0. The input layer's products x[m].x[s] are even the same at every step. The weights
 * move once, at the end, as in EP.
 *
 * In the continual vector field only the input layer telescopes; the inner matrices are stepped in
 * place (step_inner), after every step, by all threads together. The plain vector field moves
 * nothing during the phase: its steps are recorded.
 *
 *     q          what a layer shows, or its state (rules.h);   w: weights of samples
 *     gram       the B x B products through which changed weights act
 *     old        states before the step at hand;   start: at the free equilibrium
 */
#include <stdlib.h>

#include "layered/rules.h"

/* out[i] = a . (row i of q), i < n <= 4: four chains at a time, or the additions would wait for
 * each other. */
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

/* a . b over np reals. */
static real dot(const real *a, const real *b, int64_t np) {
    real out[1];
    dots(1, a, b, np, out);
    return out[0];
}

/* gram_x[m][s] = w_s (c x[m].x[s] + c_bias) of the thread's samples m and all s: what the first
 * layer's weights and bias gain from a change of sample s is felt by sample m through it. Made
 * once a batch. */
static void input_products(const network *net, batch_buffers *batch, const phase *phase) {
    const eqp_layered_job *job = net->job;
    const int64_t n0 = net->n[0], cap = n0 + LANES;
    const real offset = net->input_offset;
    const real c = (real)(job->rate[0] * phase->scale),
               c_bias = (real)(job->bias_rate[0] * phase->scale);
    for (int s = 0; offset != 0 && s < phase->rows; s++) {
        const real *value = batch->value[phase->q] + s * cap;
        batch->input_sum[s] = 0;
        for (int64_t e = 0; e < batch->nnz[phase->q][s]; e++) batch->input_sum[s] += value[e];
    }
    for (int m = phase->lo; m < phase->hi; m++) {
        const int32_t *index = batch->index[phase->q] + m * cap;
        const real *value = batch->value[phase->q] + m * cap;
        /* 2 VL others at a time: two chains over the inputs of sample m */
        for (int v = 0; v < phase->rows; v += 2 * VL) {
            /* the last vector may have no second one beside it */
            const int two = v + VL < batch->xt_ld;
            vec sum = vset(0), more = vset(0);
            for (int64_t e = 0; e < batch->nnz[phase->q][m]; e++) {
                const real *column = batch->xt[phase->q] + index[e] * batch->xt_ld + v;
                sum = vfma(vset(value[e]), vload(column), sum);
                if (two) more = vfma(vset(value[e]), vload(column + VL), more);
            }
            /* rho(0) adds what all inputs have in common: (x + o).(y + o) */
            real lanes[2 * VL];
            vstore(lanes, sum);
            vstore(lanes + VL, more);
            for (int s = v; s < v + 2 * VL && s < phase->rows; s++) {
                real product = lanes[s - v];
                if (offset != 0)
                    product += offset * (batch->input_sum[m] + batch->input_sum[s]) +
                               (real)n0 * offset * offset;
                batch->gram_x[m * batch->B + s] =
                    batch->weight[phase->q][s] * (c * product + c_bias);
            }
        }
    }
}

/* out[m][s] = sign w_s (c a[m].q[s] + c_bias), for the thread's m and all s: the B x B matrices
 * through which the weights' change acts on a state; sign -1 for the part that is taken away. a, q:
 * rows of np reals. */
static void products(const batch_buffers *batch, const phase *phase, const real *a, const real *q,
                     int64_t np, real c, real c_bias, real sign, real *out) {
    for (int m = phase->lo; m < phase->hi; m++) {
        real *row = out + m * batch->B;
        int s = 0;
        for (; s + 4 <= phase->rows; s += 4) dots(4, a + m * np, q + s * np, np, row + s);
        for (; s < phase->rows; s++) row[s] = dot(a + m * np, q + s * np, np);
        for (s = 0; s < phase->rows; s++)
            row[s] = sign * batch->weight[phase->q][s] * (c * row[s] + c_bias);
    }
}

/* The two matrices of what `acts` (a layer beside k, as it shows now) receives through a matrix
 * that has gained c (now now' - start start'): into now_products and start_products. */
static void changed_weight(const network *net, const batch_buffers *batch, const phase *phase,
                           int beside, int cur, double rate, double bias_rate, real *now_products,
                           real *start_products) {
    const real *acts = batch->shared.shown[beside][cur];
    const real c = (real)(rate * phase->scale), c_bias = (real)(bias_rate * phase->scale);
    const int64_t np = net->np[beside];
    products(batch, phase, acts, batch->old_shown[beside], np, c, c_bias, 1, now_products);
    products(batch, phase, acts, batch->start_shown[beside], np, c, c_bias, -1, start_products);
}

/* What the change of the weights since the phase began adds to the field of layer k (equations 5,
 * 6.2), as products of (B x B) matrices with states; returns the number of terms. From below: now
 * and start, each times its own products of what the layer below shows, bias included; from above
 * likewise. */
static int continual_field(const network *net, batch_buffers *batch, const phase *phase, int k,
                           int cur, operand *terms) {
    const eqp_layered_job *job = net->job;
    const int B = batch->B, L = net->L, vf = job->rule == RULE_CONTINUAL_VECTOR_FIELD;
    /* C-EP correlates what layers show, C-VF the raw changes of their states */
    const real *now = vf ? batch->old[k] : batch->old_shown[k];
    const real *start = vf ? batch->free[k] : batch->start_shown[k];
    real **gram = batch->gram[k];
    int n = 0;
    if (k == 1) { /* the input is the same at every step, and so are its products */
        for (int m = phase->lo; m < phase->hi; m++)
            for (int s = 0; s < phase->rows; s++) {
                gram[0][m * B + s] = batch->gram_x[m * B + s];
                gram[1][m * B + s] = -batch->gram_x[m * B + s];
            }
        n = 2;
    } else if (!vf) {
        changed_weight(net, batch, phase, k - 1, cur, job->rate[k - 1], job->bias_rate[k - 1],
                       gram[0], gram[1]);
        n = 2;
    }
    if (k < L && !vf) {
        changed_weight(net, batch, phase, k + 1, cur, job->rate[k], 0, gram[2], gram[3]);
        n = 4;
    }
    /* matrices 0 and 2 meet the states now, 1 and 3 those at the start */
    for (int i = 0; i < n; i++)
        terms[i] = (operand){.a = gram[i],
                             .rs = B,
                             .ks = 1,
                             .b = i % 2 ? start : now,
                             .ldb = net->np[k],
                             .k = phase->rows};
    return n;
}

/* The thread's samples of layer k, from one buffer to another. */
static void copy_rows(const network *net, int k, real *dst, const real *src, const phase *phase) {
    copy_reals(dst + phase->lo * net->np[k], src + phase->lo * net->np[k],
               (phase->hi - phase->lo) * net->np[k]);
}

/* Keeps (presynaptic activity before the step, weighted change of the state) of the step that has
 * just been made, thread's samples: the vector field's rule (equations 6.1), summed in the update.
 */
static void record(const network *net, batch_buffers *batch, const phase *phase, int slot,
                   int cur) {
    for (int k = 1; k <= net->L; k++) {
        const int64_t np = net->np[k];
        const real *shown = batch->old_shown[k];
        for (int s = phase->lo; s < phase->hi; s++) {
            const int64_t at = s * np, to = ((int64_t)slot * phase->rows + s) * np;
            /* the phase at -beta counts negatively (equations 6.1, centered) */
            const vec w = vset(phase->e ? -batch->weight[phase->q][s] : batch->weight[phase->q][s]);
            for (int64_t v = 0; v < np; v += VL) {
                vstore(batch->pre[k] + to + v, vload(shown + at + v));
                vstore(batch->change[k] + to + v,
                       vmul(w, vsub(vload(batch->shared.state[k][cur] + at + v),
                                    vload(batch->old[k] + at + v))));
            }
        }
    }
}

/* Counts the step for the thread's samples. Samples that came to rest (tol >= 0) stay: their old
 * state is put back. While the phase runs, the step count of a sample at rest is kept negative.
 * Only with a tolerance does a sample come to rest: without one all make all steps. */
static void settle(const network *net, batch_buffers *batch, const phase *phase, int cur) {
    const eqp_layered_job *job = net->job;
    int32_t *steps = batch->steps[1 + phase->e];
    for (int s = phase->lo; s < phase->hi; s++) {
        real worst = 0;
        steps[s] += steps[s] >= 0;
        for (int k = 1; k <= net->L && job->tol_nudged >= 0; k++) {
            const int64_t at = s * net->np[k];
            const size_t bytes = (size_t)net->np[k] * sizeof(real);
            real *now = batch->shared.state[k][cur] + at;
            /* at rest already: what the step has made of it is undone */
            if (steps[s] < 0) {
                memcpy(now, batch->old[k] + at, bytes);
                if (net->euler)
                    memcpy(batch->shared.shown[k][cur] + at, batch->old_shown[k] + at, bytes);
                continue;
            }
            for (int i = 0; i < net->n[k]; i++) {
                const real d = (real)fabs((double)(now[i] - batch->old[k][at + i]));
                /* so that a NaN counts as movement */
                if (!(d <= worst)) worst = d;
            }
        }
        if (job->tol_nudged >= 0 && steps[s] > 0 && worst <= (real)(job->tol_nudged * job->dt))
            steps[s] = -steps[s];
    }
}

/* The thread's samples enter the shared team at their free states. */
static void enter_phase(const network *net, batch_buffers *batch, const phase *phase) {
    team *team = &batch->shared;
    team->drive = batch->drive;
    team->y = batch->y[phase->q];
    for (int k = 1; k <= net->L; k++) {
        const int64_t at = phase->lo * net->np[k];
        copy_rows(net, k, team->state[k][0], batch->free[k], phase);
        show(net, k, team->state[k][0] + at, team->shown[k][0] + at, phase->hi - phase->lo);
        copy_rows(net, k, batch->start_shown[k], team->shown[k][0], phase);
    }
    for (int s = phase->lo; s < phase->hi; s++) batch->steps[1 + phase->e][s] = 0;
}

/* One nudged step of the thread's samples, with what the weights have gained since the phase began
 * (`moved`: something, from the second step on). */
static void step_samples(const network *net, batch_buffers *batch, const phase *phase, step *step,
                         int moved) {
    const eqp_layered_job *job = net->job;
    const int L = net->L;
    team *team = &batch->shared;
    for (int pass = 0; pass < n_passes(job->schedule, L); pass++) {
        const visit v = layers_of(job->schedule, L, pass);
        for (int k = v.first; k <= v.last; k += v.stride) {
            operand extra[4];
            step->k = k;
            step->extra = extra;
            step->n_extra = moved ? continual_field(net, batch, phase, k, step->cur, extra) : 0;
            step->force = k == L ? (real)(job->cost_factor * phase->beta) : 0;
            step->prediction = team->state[L][step->cur];
            if (k == L && job->cost == COST_CROSS_ENTROPY) {
                const int64_t at = phase->lo * net->np[L];
                softmax_rows(net, team->state[L][step->cur] + at, team->prediction + at,
                             phase->hi - phase->lo);
                step->prediction = team->prediction;
            }
            step_layer(net, team, step, phase->lo, phase->hi, 0, 1);
        }
    }
}

/* C-VF steps its inner matrices, both ways, with what the last step has recorded (equations 6.2):
 * the thread's tiles. */
static void step_inner(const network *net, batch_buffers *batch, const phase *phase, int thread) {
    const eqp_layered_job *job = net->job;
    for (int k = 1; k < net->L; k++) {
        const stepper weight_step = make_stepper(job, job->rate[k], 0, phase->scale, 0);
        const stepper bias_step = make_stepper(job, job->bias_rate[k], 0, phase->scale, 0);
        update_inner(net, batch, k, phase->rows, &weight_step, &bias_step, thread);
        update_back(net, batch, k, phase->rows, &weight_step, thread);
    }
    eqp_wait(job->barrier, net->n_threads);
}

/* The nudged phase of the step-by-step rules (equations 5, 6), all threads together; leaves
 * end[e]. C-VF steps its inner matrices after every step, C-EP only in effect. */
void nudged_stepwise(network *net, batch_buffers *batch, const phase *phase, int thread) {
    const eqp_layered_job *job = net->job;
    const int sync = job->schedule == VISIT_SYNCHRONOUS, continual = is_continual(job->rule);
    if (continual) input_products(net, batch, phase);
    if (continual_is_narrow(net)) {
        eqp_wait(job->barrier, net->n_threads); /* every sample's free state and products */
        nudged_narrow(net, batch, phase, thread);
        return;
    }
    team *team = &batch->shared;
    int cur = 0;
    enter_phase(net, batch, phase);
    for (int n = 0; n < job->n_nudged_steps; n++) {
        for (int k = 1; k <= net->L; k++) {
            /* what the step starts from: for its products, for what is recorded, for samples at
             * rest */
            copy_rows(net, k, batch->old[k], team->state[k][cur], phase);
            copy_rows(net, k, batch->old_shown[k], team->shown[k][cur], phase);
        }
        /* the products read every sample's state */
        if (continual) eqp_wait(job->barrier, net->n_threads);
        step step = {.cur = cur, .next = sync ? !cur : cur, .y = team->y};
        step_samples(net, batch, phase, &step, continual && n > 0);
        cur = step.next;
        settle(net, batch, phase, cur);
        if (is_vector_field(job->rule))
            record(net, batch, phase,
                   job->rule == RULE_VECTOR_FIELD ? phase->e * job->n_nudged_steps + n : 0, cur);
        /* old states, and the recorded step, are read by all */
        if (continual) eqp_wait(job->barrier, net->n_threads);
        if (job->rule == RULE_CONTINUAL_VECTOR_FIELD) step_inner(net, batch, phase, thread);
    }
    for (int k = 1; k <= net->L; k++)
        copy_rows(net, k, batch->end[phase->e][k], team->state[k][cur], phase);
    for (int s = phase->lo; s < phase->hi; s++)
        batch->steps[1 + phase->e][s] = abs(batch->steps[1 + phase->e][s]);
}
