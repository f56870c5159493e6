/* continual_narrow.c - the nudged phase of the continual rules for narrow nets in the plain map (narrow.h, continual.c).
 *
 * With few outputs, W_1(t) itself is cheap to keep up to date: for each vector of hidden units a product of its states
 * with the outputs' over the batch. The input layer telescopes: its change acts through the products of the inputs,
 *     drive(t)[m] = drive(0)[m] + sum_s g[m][s] (h(t)[s] - h(0)[s]),   g[m][s] = w_s (c_0 x[m].x[s] + c_bias)
 * Everything but the outputs' field is local to a hidden unit, so the hidden layer is cut in two halves, each of one
 * thread for the whole phase; the threads only exchange the outputs' partial sums, at one barrier a step. Two halves, however
 * many threads there are: the sums must not depend on their number.
 */
#include "layered/narrow.h"
#include "layered/rules.h"

#define HALVES 2

/* Whether this code serves the job. */
int EQP_NAME(continual_is_narrow)(const network *net) {
    const eqp_layered_job *j = net->job;
    return is_continual(j->rule) && net->narrow && net->plain && j->schedule == VISIT_SYNCHRONOUS && j->tol_nudged < 0;
}

void EQP_NAME(continual_narrow_plan)(const network *net, batch_buffers *b, int thread, arena *a) {
    const int64_t B = b->B, np = net->np[1];
    b->fields = TAKE_REALS(a, 2 * HALVES * B * PAD);
    b->moved = TAKE_REALS(a, B * np);
    b->before = TAKE_REALS(a, B * np);
    b->drive_now = TAKE_REALS(a, B * np);
    b->base = TAKE_REALS(a, np * NARROW_MAX);
    b->outputs = take_own(a, B, sizeof(slot), thread, net->n_threads);
    b->factors = take_own(a, 2 * B * PAD, sizeof(real), thread, net->n_threads);
}

/* First hidden unit of a half. */
static int64_t half_start(const network *net, int half) {
    return half < HALVES ? (net->np[1] / PAD * half / HALVES) * PAD : net->np[1];
}

/* drive_now = drive + g moved, of the half's units and all samples. */
static void move_drive(const network *net, const batch_buffers *b, int rows, int64_t lo, int64_t hi) {
    const int64_t np = net->np[1];
    for (int s = 0; s < rows; s++)
        for (int64_t c = lo; c < hi; c += VL)
            vstore(b->moved + s * np + c, vsub(vload(b->end_now + s * np + c), vload(b->free[1] + s * np + c)));
    for (int64_t c = lo; c < hi; c += PW) {
        const int width = (int)(hi - c < PW ? hi - c : PW);
        for (int i = 0; i < row_blocks(rows); i++) {
            const int m0 = row_start(rows, i), mr = row_start(rows, i + 1) - m0;
            const operand op = {b->gram_x + m0 * b->B, b->moved + c, b->B, 1, np, rows};
            gemm_tile(mr, width, b->drive + m0 * np + c, np, b->drive_now + m0 * np + c, np, &op, 1);
        }
    }
}

/* to[c][k] = from[c][k] + sum_s factor[s][k] state[s][c], for the half's vectors of units and NARROW_MAX outputs. */
static void add_products(const network *net, const real *from, real *to, const real *factor, const real *state, int rows,
                         int64_t lo, int64_t hi) {
    const int64_t np = net->np[1];
    for (int64_t c = lo; c < hi; c += VL) {
        vec acc[NARROW_MAX];
#pragma GCC unroll 10
        for (int k = 0; k < NARROW_MAX; k++) acc[k] = vload(from + c * NARROW_MAX + k * VL);
        for (int s = 0; s < rows; s++) {
            const vec h = vload(state + s * np + c);
#pragma GCC unroll 10
            for (int k = 0; k < NARROW_MAX; k++) acc[k] = vfma(vset(factor[s * PAD + k]), h, acc[k]);
        }
#pragma GCC unroll 10
        for (int k = 0; k < NARROW_MAX; k++) vstore(to + c * NARROW_MAX + k * VL, acc[k]);
    }
}

/* out[s][k] = c w_s (a[s][k] - less[s][k]); less NULL: zeros. */
static void output_factors(const batch_buffers *b, int q, int rows, real c, const real *a, int64_t ld, const real *less, int64_t ld_less, real *out) {
    for (int s = 0; s < rows; s++)
        for (int v = 0; v < PAD; v += VL) {
            const vec x = vload(a + s * ld + v);
            vstore(out + s * PAD + v, vmul(vset(c * b->weight[q][s]), less ? vsub(x, vload(less + s * ld_less + v)) : x));
        }
}

/* One synchronous step of the half's hidden units, all samples; their share of the outputs' field goes to fields. */
static void step_half(const network *net, const batch_buffers *b, const finish *f, slot *outputs, int rows, int64_t lo, int64_t hi, real *fields) {
    const team *t = &b->shared;
    const int act = net->job->activation, tied = !net->job->back;
    const int64_t np = net->np[1], units = net->n[1] - lo;
    const real *feedback = t->feedback + lo * NARROW_MAX, *forward = t->forward + lo * NARROW_MAX;
    slot *p[ROWS];
    for (int s = 0; s < rows; s += ROWS) {
        const int n = rows - s < ROWS ? rows - s : ROWS;
        for (int i = 0; i < n; i++) {
            p[i] = &outputs[s + i];
            p[i]->drive = b->drive_now + (s + i) * np + lo;
            p[i]->hidden = p[i]->hidden_shown = b->end_now + (s + i) * np + lo;
        }
        real(*field)[PAD] = (real(*)[PAD])(fields + s * PAD);
#define RUN(ACT, KIND, NS) hidden_body(ACT, KIND, 0, NS, NARROW_MAX, units, hi - lo, f, p, feedback, forward, field)
#define BODY(ACT)                                                                       \
    if (tied) { if (ROWS > 1 && n == ROWS) RUN(ACT, PLAIN, ROWS); else RUN(ACT, PLAIN, 1); }        \
    else { if (ROWS > 1 && n == ROWS) RUN(ACT, PLAIN_UNTIED, ROWS); else RUN(ACT, PLAIN_UNTIED, 1); }
        EQP_SWITCH_ACT(act, BODY)
#undef BODY
#undef RUN
    }
}

/* The weights of the half as they are at the end, to where they are kept (the vector field; C-EP's move with the update). */
static void keep_weights(const network *net, const team *t, int64_t lo, int64_t hi) {
    const int n1 = net->n[1], n2 = net->n[2], w2 = panel_width(n2, 0);
    for (int64_t c = lo; c < hi; c += VL)
        for (int k = 0; k < n2; k++) {
            const int p = (int)(c / PW), width = panel_width(n1, p);
            vstore(panel_at(net->back[1], n2, p) + (int64_t)k * width + (c - (int64_t)p * PW), vload(t->feedback + c * NARROW_MAX + k * VL));
            const real *forward = t->forward + c * NARROW_MAX + k * VL;
            for (int i = 0; i < VL && c + i < n1; i++) net->w[1][(c + i) * w2 + k] = forward[i];
        }
}

/* The phase, all threads together; gram_x holds g, the barrier after it is passed. Leaves end[e]. */
void EQP_NAME(nudged_narrow)(network *net, batch_buffers *b, const phase *p, int thread) {
    const eqp_layered_job *j = net->job;
    const int vf = j->rule == RULE_CONTINUAL_VECTOR_FIELD, rows = p->rows, n_steps = j->n_nudged_steps, q = p->q;
    const int64_t np = net->np[1], ld2 = net->np[2];
    const real force = (real)(j->cost_factor * p->beta), c1 = (real)(j->rate[1] * p->scale), cb = (real)(j->bias_rate[1] * p->scale);
    const finish hidden = finish_of(net, 1, 0), output = finish_of(net, 2, force);
    const team *t = &b->shared;
    slot *outputs = b->outputs;
    real *factor = b->factors, *last = b->factors + b->B * PAD, *state = b->end[p->e][2], bias[PAD];
    const int first = thread < HALVES ? thread : HALVES, stride = net->n_threads < HALVES ? net->n_threads : HALVES;
    b->end_now = b->end[p->e][1];

    if (thread == 0) EQP_NAME(narrow_pack)(net, t, NARROW_MAX);
    memcpy(bias, net->bias[1], sizeof bias);
    for (int s = 0; s < rows; s++) {
        slot *o = &outputs[s];
        memcpy(o->shown, b->free[2] + s * ld2, sizeof o->shown);
        memcpy(o->before, o->shown, sizeof o->before);
        o->y = b->y[q] + s * ld2;
        o->out = o->own;
        memcpy(o->own, o->shown, sizeof o->own);
        o->change = 0;
        o->repeats = 0;
    }
    eqp_wait(j->barrier, net->n_threads);
    for (int half = first; half < HALVES; half += stride) {
        const int64_t lo = half_start(net, half), hi = half_start(net, half + 1);
        for (int s = 0; s < rows; s++) {
            memcpy(b->end_now + s * np + lo, b->free[1] + s * np + lo, (size_t)(hi - lo) * sizeof(real));
            memcpy(b->drive_now + s * np + lo, b->drive + s * np + lo, (size_t)(hi - lo) * sizeof(real));
        }
        if (!vf) { /* W_1 less what the free states contribute, once */
            output_factors(b, q, rows, -c1, b->free[2], ld2, NULL, 0, factor);
            add_products(net, t->feedback, b->base, factor, b->free[1], rows, lo, hi);
        }
    }
    for (int n = 0; n < n_steps + vf; n++) {
        /* what the step before has changed: factor of its new outputs, or of their change and of their old values */
        if (n > 0) {
            const real *now = outputs->own, *old = outputs->before;
            const int64_t ld = sizeof(slot) / sizeof(real);
            if (vf) {
                output_factors(b, q, rows, c1, now, ld, old, ld, factor);
                output_factors(b, q, rows, c1, old, ld, NULL, 0, last);
            } else {
                output_factors(b, q, rows, c1, now, ld, NULL, 0, factor);
            }
            for (int v = 0; v < PAD; v += VL) {
                vec sum = vset(0);
                for (int s = 0; s < rows; s++) {
                    const vec from = vf ? vload(outputs[s].before + v) : vload(b->free[2] + s * ld2 + v);
                    sum = vfma(vset(cb * b->weight[q][s]), vsub(vload(outputs[s].own + v), from), sum);
                }
                vstore(bias + v, vadd(vf ? vload(bias + v) : vload(net->bias[1] + v), sum));
            }
        }
        for (int half = first; half < HALVES; half += stride) {
            const int64_t lo = half_start(net, half), hi = half_start(net, half + 1);
            if (n > 0 && vf) {
                add_products(net, t->forward, t->forward, factor, b->before, rows, lo, hi);
                for (int s = 0; s < rows; s++)
                    for (int64_t c = lo; c < hi; c += VL)
                        vstore(b->moved + s * np + c, vsub(vload(b->end_now + s * np + c), vload(b->before + s * np + c)));
                add_products(net, t->feedback, t->feedback, last, b->moved, rows, lo, hi);
            } else if (n > 0) {
                add_products(net, b->base, t->feedback, factor, b->end_now, rows, lo, hi);
            }
            if (n == n_steps) {
                keep_weights(net, t, lo, hi);
                continue;
            }
            if (n > 0) move_drive(net, b, rows, lo, hi);
            if (vf)
                for (int s = 0; s < rows; s++) memcpy(b->before + s * np + lo, b->end_now + s * np + lo, (size_t)(hi - lo) * sizeof(real));
            step_half(net, b, &hidden, outputs, rows, lo, hi, b->fields + ((n & 1) * HALVES + half) * b->B * PAD);
        }
        if (n == n_steps) break;
        eqp_wait(j->barrier, net->n_threads);
        const real *fields = b->fields + (n & 1) * HALVES * b->B * PAD;
        for (int s = 0; s < rows; s++) {
            real field[PAD];
            for (int v = 0; v < PAD; v += VL) vstore(field + v, vadd(vload(fields + s * PAD + v), vload(fields + (b->B + s) * PAD + v)));
            step_output(net, &output, &outputs[s], bias, field, force, 0);
        }
    }
    for (int s = p->lo; s < p->hi; s++) {
        memcpy(state + s * ld2, outputs[s].own, (size_t)ld2 * sizeof(real));
        b->steps[1 + p->e][s] = n_steps;
    }
    if (vf && thread == 0) memcpy(net->bias[1], bias, sizeof bias);
    eqp_wait(j->barrier, net->n_threads); /* a thread's samples have hidden units of both halves */
}
