/* gradients.c - exact gradients of the free phase: back-propagation through its last steps,
 * recurrent back-propagation, implicit differentiation (1905.13633, 1711.08416; docs/equations.md
 * 9). Twin: kernels/reference/gradients.py. Letters: layered.h, rules.h.
 *
 * One free step is recorded (bptt: each of the last ones; the others: one, at the equilibrium) as
 * three slopes of every unit:
 *     gain = d new / d field
 *     keep = d new / d old
 *     lean = d shown / d old
 * A reverse step takes bar, the derivative by the states after the step, to the one before it:
 *     flow  = gain bar
 *     bar   = keep bar + lean (flow of the layer above . weight' + flow of the layer below . back')
 * In a symmetric network these products are those of the forward step. All derivatives are of minus
 * the cost. Everything is done by samples, each thread on its own; the flows then meet the
 * activities in the update (train.c).
 *
 * After the free phase, reverse_phase takes the place of a second phase:
 *     BPTT         record the last K free steps; reverse them, last first
 *     recurrent    record one step at the equilibrium; reverse it again and again, summing bar
 *     implicit     record one step at the equilibrium; solve (I - J') z = bar (implicit.h)
 * and leaves the flows of every recorded step, whose products with what was shown are the gradient.
 *
 *     t          a recorded step, or a moment: the states before, between and after the steps
 *     order      VISIT_*: in which a step moved the layers
 */
#include "layered/rules.h"

/* The order that is recorded: a fixed point is one of any order, and the synchronous step's
 * Jacobian is the simplest. */
EQP_INLINE int order_of(const eqp_layered_job *job) {
    return job->rule == RULE_IMPLICIT ? VISIT_SYNCHRONOUS : job->schedule;
}

/* Moment t of layer k of a recorded array. */
EQP_INLINE real *moment(const network *net, real *const *kept, int k, int rows, int t) {
    return kept[k] ? kept[k] + (int64_t)t * rows * net->np[k] : NULL;
}

/* At which moment of step t layer k is seen by the layers that move in pass `pass`: it may have
 * moved before them. */
EQP_INLINE int seen_at(int order, int t, int k, int pass) {
    return t + (order == VISIT_ODD_EVEN && pass == 1 && k % 2 == 1);
}

/* Whether layer k is one of those that a pass moves. */
EQP_INLINE int moves_in(const visit *v, int k) {
    return k >= v->first && k <= v->last && (k - v->first) % v->stride == 0;
}

/* Lays out the recorded steps and the reverse pass, for K = n_nudged_steps of bptt, else for one
 * step. */
void gradient_plan(const network *net, batch_buffers *batch, int n_threads, arena *arena) {
    const eqp_layered_job *job = net->job;
    gradient_buffers *grad = &batch->gradient;
    const int implicit = job->rule == RULE_IMPLICIT;
    const int64_t rows = batch->B,
                  n = grad->n_steps = job->rule == RULE_BPTT ? job->n_nudged_steps : 1;
    int64_t total = 0, widest = 0; /* units of all layers, of the largest */
    for (int k = 1; k <= net->L; k++) {
        const int64_t each = rows * net->np[k];
        grad->state[k] = TAKE_REALS(arena, (n + 1) * each);
        grad->shown[k] = net->euler ? TAKE_REALS(arena, (n + 1) * each) : grad->state[k];
        grad->gain[k] = TAKE_REALS(arena, n * each);
        grad->keep[k] = net->euler ? TAKE_REALS(arena, n * each) : NULL;
        grad->lean[k] = net->euler ? TAKE_REALS(arena, (n + 1) * each) : NULL;
        grad->flow[k] = TAKE_REALS(arena, n * each);
        grad->bar[k] = TAKE_REALS(arena, each);
        grad->sum[k] = TAKE_REALS(arena, each);
        total += net->np[k];
        if (net->np[k] > widest) widest = net->np[k];
    }
    /* symmetric: the forward step's own panels serve the way back */
    for (int k = 1; k < net->L; k++) {
        grad->up[k] = job->back ? TAKE_REALS(arena, net->n[k] * net->np[k + 1]) : net->w[k];
        grad->down[k] = job->back ? TAKE_REALS(arena, net->n[k + 1] * net->np[k]) : net->back[k];
    }
    grad->peak = take(arena, 2 * n_threads, sizeof(double));
    grad->system_size = implicit ? total * (total + PAD) : 0;
    grad->system = TAKE_REALS(arena, n_threads * grad->system_size);
    grad->scaled = TAKE_REALS(arena, implicit ? (int64_t)n_threads * 2 * MR_MAX * widest : 0);
    grad->solution = TAKE_REALS(arena, implicit ? n_threads * (total + PAD) : 0);
}

/* Independent feedback: the transposes that reverse a step, thread's share; the caller puts a
 * barrier after. */
void gradient_pack(const network *net, batch_buffers *batch, int thread) {
    for (int k = 1; k < net->L; k++) {
        transpose_panels(net->w[k], batch->gradient.down[k], net->n[k + 1], net->n[k], thread,
                         net->n_threads);
        transpose_panels(net->back[k], batch->gradient.up[k], net->n[k], net->n[k + 1], thread,
                         net->n_threads);
    }
}

/* --- recording --- */

/* One row of gain (in place of the field) and, in continuous dynamics, of keep; next: the new
 * state.
 *     discrete      gain = dt rho'(field)                         keep = 1 - dt, not stored
 *     continuous    gain = dt rho'(s), or dt                      keep = 1 - dt + dt rho''(s) field
 */
EQP_INLINE void slopes_row(const int act, const network *net, int k, const real *s,
                           const real *shown, const real *next, real *gain, real *keep) {
    const eqp_layered_job *job = net->job;
    const int is_out = k == net->L, prime = is_out ? job->prime_output : job->prime_hidden,
              linear = is_out && job->linear_output;
    const vec dt = vset((real)job->dt), rest = vsub(vset(1), dt);
    for (int64_t v = 0; v < net->np[k]; v += VL) {
        /* step_layer has left the field where the slope goes */
        const vec field = vload(gain + v);
        if (!net->euler) {
            vstore(gain + v,
                   act_prime_times(act, field, net->plain ? vload(next + v) : act_rho(act, field),
                                   dt));
            continue;
        }
        const vec old = vload(s + v), r = prime && linear ? act_rho(act, old) : vload(shown + v);
        /* slopes of the Euler step (finish.h) by its field and by the old state */
        vec push = prime ? act_prime_times(act, old, r, dt) : dt, stay = rest;
        if (prime) stay = vfma(vmul(dt, act_second(act, r)), field, rest);
        if (job->clamp) { /* a unit held at an edge passes nothing on */
            const vec moved = vfma(push, field, vmul(rest, old));
            push = vwithin(moved, vset(0), vset(1), push);
            stay = vwithin(moved, vset(0), vset(1), stay);
        }
        vstore(gain + v, push);
        vstore(keep + v, stay);
    }
}

/* lean = rho'(s) of one row, or 1 of a linear output: how far what a layer shows follows its
 * state. */
EQP_INLINE void lean_row(const int act, int linear, int64_t np, const real *s, const real *shown,
                         real *lean) {
    for (int64_t v = 0; v < np; v += VL)
        vstore(lean + v,
               linear ? vset(1) : act_prime_times(act, vload(s + v), vload(shown + v), vset(1)));
}

/* Samples lo..hi of moment 0: where the recorded steps start. */
static void record_start(const network *net, batch_buffers *batch, int lo, int hi) {
    gradient_buffers *grad = &batch->gradient;
    for (int k = 1; k <= net->L; k++) {
        const int64_t at = lo * net->np[k], count = (hi - lo) * net->np[k];
        memcpy(grad->state[k] + at, batch->free[k] + at, (size_t)count * sizeof(real));
        show(net, k, grad->state[k] + at, grad->shown[k] + at, hi - lo);
    }
}

/* Makes recorded step t of samples lo..hi: from moment t to t + 1, leaving each layer's field where
 * its gain goes. Made by step_layer, as in the free phase: the same bits. */
static void record_step(const network *net, batch_buffers *batch, int order, int rows, int t,
                        int lo, int hi) {
    gradient_buffers *grad = &batch->gradient;
    const int sync = order == VISIT_SYNCHRONOUS;
    /* a team whose two states are two moments of the record */
    team now = {.drive = batch->drive};
    for (int k = 1; k <= net->L; k++) {
        const int64_t first = lo * net->np[k];
        const size_t bytes = (size_t)((hi - lo) * net->np[k]) * sizeof(real);
        for (int i = 0; i < 2; i++) {
            now.state[k][i] = moment(net, grad->state, k, rows, t + i);
            now.shown[k][i] = moment(net, grad->shown, k, rows, t + i);
        }
        if (sync) continue;
        /* else layers are moved in place, one colour after the other */
        memcpy(now.state[k][1] + first, now.state[k][0] + first, bytes);
        if (net->euler) memcpy(now.shown[k][1] + first, now.shown[k][0] + first, bytes);
    }
    /* not synchronous: the copies in slot 1 move in place, and see each other's new states */
    step step = {.cur = !sync, .next = 1};
    for (int pass = 0; pass < n_passes(order, net->L); pass++) {
        const visit v = layers_of(order, net->L, pass);
        for (int k = v.first; k <= v.last; k += v.stride) {
            step.k = k;
            step.field = moment(net, grad->gain, k, rows, t);
            step_layer(net, &now, &step, lo, hi, 0, 1);
        }
    }
}

/* Walks the steps to be recorded from batch->free, samples lo..hi, with the slopes of each. */
static void record(const network *net, batch_buffers *batch, int order, int rows, int lo, int hi) {
    gradient_buffers *grad = &batch->gradient;
    record_start(net, batch, lo, hi);
    for (int t = 0; t < grad->n_steps; t++) {
        record_step(net, batch, order, rows, t, lo, hi);
        for (int k = 1; k <= net->L; k++)
            for (int s = lo; s < hi; s++) {
                const int64_t at = s * net->np[k];
                real *gain = moment(net, grad->gain, k, rows, t) + at;
                real *keep = net->euler ? moment(net, grad->keep, k, rows, t) + at : NULL;
                EQP_WITH_ACT(activation_of(net, k),
                             slopes_row(ACT, net, k, moment(net, grad->state, k, rows, t) + at,
                                        moment(net, grad->shown, k, rows, t) + at,
                                        moment(net, grad->state, k, rows, t + 1) + at, gain, keep));
            }
    }
    /* lean belongs to a moment, not to a step: one more of them */
    for (int t = 0; net->euler && t <= grad->n_steps; t++)
        for (int k = 1; k <= net->L; k++)
            for (int s = lo; s < hi; s++) {
                const int64_t at = ((int64_t)t * rows + s) * net->np[k];
                const int linear = k == net->L && net->job->linear_output;
                EQP_WITH_ACT(activation_of(net, k),
                             lean_row(ACT, linear, net->np[k], grad->state[k] + at,
                                      grad->shown[k] + at, grad->lean[k] + at));
            }
}

/* The last steps of bptt's free phase, recorded: batch->free goes from before them to after them.
 */
static void record_free(const network *net, batch_buffers *batch, int rows, int lo, int hi) {
    const gradient_buffers *grad = &batch->gradient;
    record(net, batch, order_of(net->job), rows, lo, hi);
    for (int s = lo; s < hi; s++) batch->steps[0][s] += grad->n_steps;
    for (int k = 1; k <= net->L; k++) {
        const int64_t np = net->np[k];
        copy_reals(batch->free[k] + lo * np,
                   moment(net, grad->state, k, rows, grad->n_steps) + lo * np, (hi - lo) * np);
    }
}

/* --- reverse steps --- */

/* bar[k] += lean * (the flows of the layers beside k, sent back), samples lo..hi. This is a
 * forward step with other numbers: flow for shown, weight' for back and back' for weight. flow: by
 * layer; lean NULL: 1. */
static void send_back(const network *net, const gradient_buffers *grad, int k, real *const *flow,
                      const real *lean, int lo, int hi) {
    static const real zeros[PW];
    const int64_t np = net->np[k];
    const int panels = n_panels(net->n[k]), rows = hi - lo;
    real field[MR_MAX * PW];
    for (int p = 0; p < panels; p++) {
        const int width = panel_width(net->n[k], p);
        for (int i = 0; i < row_blocks(rows); i++) {
            /* the product of a forward step, with flows and the transposes */
            const int m0 = lo + row_start(rows, i), mr = lo + row_start(rows, i + 1) - m0;
            operand terms[2];
            int n_terms = 0;
            if (k < net->L)
                terms[n_terms++] = (operand){flow[k + 1] + m0 * net->np[k + 1],
                                             panel_at(grad->down[k], net->n[k + 1], p),
                                             net->np[k + 1],
                                             1,
                                             width,
                                             net->n[k + 1]};
            if (k > 1)
                terms[n_terms++] = (operand){flow[k - 1] + m0 * net->np[k - 1],
                                             panel_at(grad->up[k - 1], net->n[k - 1], p),
                                             net->np[k - 1],
                                             1,
                                             width,
                                             net->n[k - 1]};
            gemm_tile(mr, width, zeros, 0, field, PW, terms, n_terms);
            for (int m = 0; m < mr; m++)
                for (int v = 0; v < width; v += VL) {
                    const int64_t at = (m0 + m) * np + (int64_t)p * PW + v;
                    const vec back = vload(field + m * PW + v), bar = vload(grad->bar[k] + at);
                    vstore(grad->bar[k] + at,
                           lean ? vfma(vload(lean + at), back, bar) : vadd(bar, back));
                }
        }
    }
}

/* Reverses recorded step t, samples lo..hi: bar goes from after it to before it, flow is left for
 * the update. With `last` the flows are all that is wanted, and bar is not.
 * The transposed Jacobian of a step, its passes in reverse (equations 9.1). */
static void reverse_step(const network *net, batch_buffers *batch, int order, int rows, int t,
                         int last, int lo, int hi) {
    const gradient_buffers *grad = &batch->gradient;
    const int L = net->L;
    const vec rest = vset(1 - (real)net->job->dt);
    real *flow[EQP_MAX_WEIGHTS + 1];
    for (int k = 1; k <= L; k++) flow[k] = moment(net, grad->flow, k, rows, t);
    /* the passes of the step in reverse */
    for (int pass = n_passes(order, L) - 1; pass >= 0; pass--) {
        const visit v = layers_of(order, L, pass);
        for (int k = v.first; k <= v.last; k += v.stride) {
            const real *gain = moment(net, grad->gain, k, rows, t),
                       *keep = moment(net, grad->keep, k, rows, t);
            /* the layers of the pass: what flows into their fields, what stays with their old
             * states */
            for (int64_t at = lo * net->np[k]; at < hi * net->np[k]; at += VL) {
                const vec bar = vload(grad->bar[k] + at);
                vstore(flow[k] + at, vmul(vload(gain + at), bar));
                vstore(grad->bar[k] + at, vmul(keep ? vload(keep + at) : rest, bar));
            }
        }
        if (last && pass == 0) return;
        for (int k = 1; k <= L; k++) /* both layers beside k have moved, or neither has */
            if (order == VISIT_SYNCHRONOUS || !moves_in(&v, k))
                send_back(net, grad, k, flow,
                          moment(net, grad->lean, k, rows, seen_at(order, t, k, pass)), lo, hi);
    }
}

/* bar = - dC/ds at the free state (equations 2), times the weight of each sample; the mean over
 * the batch is taken by the update. */
static void start_bar(const network *net, batch_buffers *batch, const phase *phase) {
    const gradient_buffers *grad = &batch->gradient;
    const int L = net->L, count = phase->hi - phase->lo;
    const int64_t first = phase->lo * net->np[L];
    for (int k = 1; k < L; k++)
        memset(grad->bar[k] + phase->lo * net->np[k], 0,
               (size_t)(count * net->np[k]) * sizeof(real));
    /* the softmax, where the cost has one, lies in bar for a moment */
    const real *prediction = batch->free[L];
    if (net->job->cost == COST_CROSS_ENTROPY) {
        softmax_rows(net, batch->free[L] + first, grad->bar[L] + first, count);
        prediction = grad->bar[L];
    }
    for (int s = phase->lo; s < phase->hi; s++) {
        const vec w = vset(batch->weight[phase->q][s] * (real)net->job->cost_factor);
        for (int64_t at = s * net->np[L]; at < (s + 1) * net->np[L]; at += VL)
            vstore(grad->bar[L] + at,
                   vmul(w, vsub(vload(batch->y[phase->q] + at), vload(prediction + at))));
    }
}

/* Largest |bar| of the whole batch; all threads call this. `turn` counts the calls: two sets of
 * peaks, so that one barrier a call is enough. */
static real largest_bar(const network *net, batch_buffers *batch, const phase *phase, int turn,
                        int thread) {
    const gradient_buffers *grad = &batch->gradient;
    const int n_threads = net->n_threads;
    /* each thread's own, then the largest of all */
    double *peak = grad->peak + (turn & 1) * n_threads;
    vec worst = vset(0);
    for (int k = 1; k <= net->L; k++)
        for (int64_t at = phase->lo * net->np[k]; at < phase->hi * net->np[k]; at += VL)
            worst = vmaxr(worst, vabs(vload(grad->bar[k] + at)));
    peak[thread] = (double)vhmax(worst);
    eqp_wait(net->job->barrier, n_threads);
    double top = 0;
    for (int i = 0; i < n_threads; i++) top = peak[i] > top ? peak[i] : top;
    return (real)top;
}

/* Almeida-Pineda (equations 9.2): bar <- J' bar, summed in `sum`, at most n_nudged_steps times;
 * then the flows of the sum. With a tolerance all threads stop together, when the largest bar of
 * the batch has shrunk to tol_nudged of the first. Returns the steps. */
static int64_t iterate(const network *net, batch_buffers *batch, const phase *phase, int order,
                       int thread) {
    const eqp_layered_job *job = net->job;
    const gradient_buffers *grad = &batch->gradient;
    const real first = largest_bar(net, batch, phase, 0, thread);
    /* the sum begins with the cost's own derivative */
    real relative = 1;
    int64_t steps = 1;
    for (int k = 1; k <= net->L; k++) {
        const int64_t at = phase->lo * net->np[k];
        copy_reals(grad->sum[k] + at, grad->bar[k] + at, (phase->hi - phase->lo) * net->np[k]);
    }
    for (; steps < job->n_nudged_steps && relative > (real)job->tol_nudged && first > 0; steps++) {
        reverse_step(net, batch, order, phase->rows, 0, 0, phase->lo, phase->hi);
        for (int k = 1; k <= net->L; k++)
            for (int64_t at = phase->lo * net->np[k]; at < phase->hi * net->np[k]; at += VL)
                vstore(grad->sum[k] + at, vadd(vload(grad->sum[k] + at), vload(grad->bar[k] + at)));
        if (job->tol_nudged >= 0)
            relative = largest_bar(net, batch, phase, (int)steps, thread) / first;
    }
    for (int k = 1; k <= net->L; k++) {
        const int64_t at = phase->lo * net->np[k];
        copy_reals(grad->bar[k] + at, grad->sum[k] + at, (phase->hi - phase->lo) * net->np[k]);
    }
    reverse_step(net, batch, order, phase->rows, 0, 1, phase->lo, phase->hi);
    return steps;
}

#include "layered/implicit.h"

/* --- the second phase of these rules --- */

/* The flows of samples lo..hi by one linear system each (equations 9.3). A sample whose system is
 * singular has none, and marks the thread's `diverged`. */
static void solve_samples(const network *net, batch_buffers *batch, const phase *phase,
                          int thread) {
    const gradient_buffers *grad = &batch->gradient;
    for (int s = phase->lo; s < phase->hi; s++) {
        if (implicit_sample(net, batch, s, thread)) continue;
        batch->diverged[thread] |= 2;
        for (int k = 1; k <= net->L; k++)
            memset(grad->flow[k] + s * net->np[k], 0, (size_t)net->np[k] * sizeof(real));
    }
}

/* From the free states of the thread's samples (bptt: from before its recorded steps) to their
 * flows, and delta, the flows summed over the steps. batch->diverged[thread] becomes 1 for
 * something non-finite, 2 for a singular system.
 *
 * This takes the place of a second phase (equations 9): what the update then multiplies are flows
 * and what the layers showed, in place of EP's contrast. */
void reverse_phase(const network *net, batch_buffers *batch, const phase *phase, int thread) {
    const eqp_layered_job *job = net->job;
    const gradient_buffers *grad = &batch->gradient;
    const int n = grad->n_steps, order = order_of(job);
    int64_t steps = 0;
    if (job->rule == RULE_BPTT) record_free(net, batch, phase->rows, phase->lo, phase->hi);
    vec check = vset(0); /* 0 * inf and 0 * nan are nan */
    for (int k = 1; k <= net->L; k++)
        for (int64_t at = phase->lo * net->np[k]; at < phase->hi * net->np[k]; at += VL)
            check = vfma(vset(0), vload(batch->free[k] + at), check);
    if (phase->total > 0) {
        if (job->rule != RULE_BPTT) record(net, batch, order, phase->rows, phase->lo, phase->hi);
        start_bar(net, batch, phase);
        if (job->rule == RULE_BPTT) {
            steps = n;
            for (int t = n - 1; t >= 0; t--)
                reverse_step(net, batch, order, phase->rows, t, t == 0, phase->lo, phase->hi);
        } else if (job->rule == RULE_RECURRENT_BACKPROP) {
            steps = iterate(net, batch, phase, order, thread);
        } else {
            solve_samples(net, batch, phase, thread);
        }
        for (int k = 1; k <= net->L; k++)
            for (int64_t at = phase->lo * net->np[k]; at < phase->hi * net->np[k]; at += VL) {
                vec sum = vset(0);
                for (int t = n - 1; t >= 0; t--)
                    sum = vadd(sum, vload(moment(net, grad->flow, k, phase->rows, t) + at));
                vstore(batch->delta[k] + at, sum);
                check = vfma(vset(0), sum, check);
            }
    }
    if (!vequal(check, vset(0))) batch->diverged[thread] |= 1;
    for (int s = phase->lo; s < phase->hi; s++) batch->steps[1][s] = (int32_t)steps;
}

/* Minus the gradient of weight[k], k > 0 (transposed: of back[k]), as products of what a layer
 * showed and the flow of the one it drove; a symmetric weight collects both directions.
 *     weight[k]   shown_k' flow_{k+1},   back[k]   shown_{k+1}' flow_k,   over all recorded steps
 */
int gradient_products(const network *net, const batch_buffers *batch, int k, int rows, int64_t i0,
                      int64_t c0, int transposed, operand *terms) {
    const gradient_buffers *grad = &batch->gradient;
    const int order = order_of(net->job), n = grad->n_steps * rows;
    const int64_t below = net->np[k], above = net->np[k + 1];
    /* layer k+1 moves in pass k % 2, layer k in the other */
    const real *shown = moment(net, grad->shown, k, rows, seen_at(order, 0, k, k % 2));
    const real *shown_above =
        moment(net, grad->shown, k + 1, rows, seen_at(order, 0, k + 1, (k + 1) % 2));
    if (transposed) {
        terms[0] = (operand){shown_above + i0, grad->flow[k] + c0, 1, above, below, n};
        return 1;
    }
    terms[0] = (operand){shown + i0, grad->flow[k + 1] + c0, 1, below, above, n};
    if (net->job->back) return 1;
    terms[1] = (operand){grad->flow[k] + i0, shown_above + c0, 1, below, above, n};
    return 2;
}
