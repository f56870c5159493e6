/* narrow.c - relaxation of one hidden layer under at most NARROW_MAX outputs: a synchronous step in one pass.
 *
 * The hidden vector in registers serves both ways at once: with each row of the (few) outgoing weights it takes the
 * outputs' feedback and gives its share of the outputs' field. Against two matrix products this halves the loads, needs no
 * intermediate store, and lets the state stay in place. The outputs' sums run over lanes first, so they round
 * differently from step_layer's, and a network is always on the one path or the other.
 *
 * Samples do not meet, so each runs through all its steps in one of a few slots, whose data and the weights together fit
 * the first-level cache; a slot whose sample has arrived takes the next one.
 */
#include "finish.h"

#define ROWS (N_VREGS >= 32 ? 2 : 1) /* samples of one pass: as many as have their accumulators in registers */
#define SLOTS (2 * ROWS)             /* two passes in turn: the outputs of one finish while the other runs */

typedef struct {
    real shown[PAD] __attribute__((aligned(64))); /* what the outputs show */
    real before[PAD], prediction[PAD]; /* the outputs' state a step ago; softmax of the state */
    const real *drive, *y;
    real *hidden, *hidden_shown;       /* np[1]; the same array unless the dynamics are Euler's */
    real *out;                         /* PAD: in place in the caller's result */
    real change;                       /* largest of the last step, where tracked */
    int sample, phase, done, repeats;  /* sample -1: idle; steps made; steps that gave the outputs of two before */
} slot;

/* Lane k of the result is the sum of the lanes of acc[k]. */
EQP_INLINE void lane_sums(const int NK, const vec *acc, real *out) {
#if defined(EQP_ISA_AVX512) && !defined(EQP_REAL_F64)
    vec quad[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        vec a[4];
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++) a[k] = 4 * i + k < NK ? acc[4 * i + k] : vset(0);
        const vec ab = vadd(_mm512_unpacklo_ps(a[0], a[1]), _mm512_unpackhi_ps(a[0], a[1]));
        const vec cd = vadd(_mm512_unpacklo_ps(a[2], a[3]), _mm512_unpackhi_ps(a[2], a[3]));
        const __m512d p = _mm512_castps_pd(ab), r = _mm512_castps_pd(cd);
        quad[i] = vadd(_mm512_castpd_ps(_mm512_unpacklo_pd(p, r)), _mm512_castpd_ps(_mm512_unpackhi_pd(p, r)));
    }
    const vec x = vadd(_mm512_shuffle_f32x4(quad[0], quad[1], 0x88), _mm512_shuffle_f32x4(quad[0], quad[1], 0xDD));
    const vec y = vadd(_mm512_shuffle_f32x4(quad[2], quad[3], 0x88), _mm512_shuffle_f32x4(quad[2], quad[3], 0xDD));
    vstore(out, vadd(_mm512_shuffle_f32x4(x, y, 0x88), _mm512_shuffle_f32x4(x, y, 0xDD)));
#else
    for (int k = 0; k < NK; k++) out[k] = vhsum(acc[k]);
    for (int k = NK; k < PAD; k++) out[k] = 0;
#endif
}

/* What is known of the dynamics when the loop is compiled: nothing, the plain map, or Euler steps with rho' and clamp. */
enum { ANY, PLAIN, CLAMPED_EULER };

/* All hidden units of NS samples, in place; field: what reaches the outputs from the hidden states before the step.
 * NK >= outputs, the weights' missing rows being zero. */
EQP_INLINE void hidden_body(const int act, const int kind, const int track, const int NS, const int NK, const network *net,
                            const finish *of_layer, slot *const *p, const real *weights, real (*field)[PAD]) {
    const int plain = kind == PLAIN;
    const int64_t np = net->np[1];
    finish f = *of_layer;
    if (kind == CLAMPED_EULER) f = (finish){.euler = 1, .damped = 1, .prime = 1, .clamp = 1, .dt = f.dt};
    vec acc[ROWS][NARROW_MAX], worst[ROWS];
    const real *drive[ROWS], *out[ROWS];
    real *hidden[ROWS], *hidden_shown[ROWS];
#pragma GCC unroll 2
    for (int s = 0; s < NS; s++) {
        drive[s] = p[s]->drive, out[s] = p[s]->shown, hidden[s] = p[s]->hidden, hidden_shown[s] = p[s]->hidden_shown;
        worst[s] = vset(0);
#pragma GCC unroll 10
        for (int k = 0; k < NK; k++) acc[s][k] = vset(0);
    }
    for (int64_t c = 0; c < np; c += VL, weights += NK * VL) {
        vec a[ROWS], shown[ROWS];
#pragma GCC unroll 2
        for (int s = 0; s < NS; s++) {
            a[s] = vload(drive[s] + c);
            shown[s] = vload(hidden_shown[s] + c);
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
        const int valid = (int)(net->n[1] - c);
#pragma GCC unroll 2
        for (int s = 0; s < NS; s++) {
            const vec old = plain ? shown[s] : vload(hidden[s] + c);
            vec x = finish_vec(act, plain, &f, a[s], old, shown[s], vset(0));
            if (valid < VL) x = vkeep(x, valid > 0 ? valid : 0); /* padding stays zero */
            vstore(hidden[s] + c, x);
            if (!plain && f.euler) {
                vec r = act_rho(act, x);
                if (valid < VL) r = vkeep(r, valid > 0 ? valid : 0);
                vstore(hidden_shown[s] + c, r);
            }
            if (track) worst[s] = vmaxr(worst[s], vabs(vsub(x, old)));
        }
    }
#pragma GCC unroll 2
    for (int s = 0; s < NS; s++) {
        lane_sums(NK, acc[s], field[s]);
        if (track) p[s]->change = vhmax(worst[s]);
    }
}

#define HIDDEN(ACT, KIND, TRACK, NK)                                                                   \
    if (n == ROWS) hidden_body(ACT, KIND, TRACK, ROWS, NK, net, f, p, weights, field);                 \
    else hidden_body(ACT, KIND, TRACK, 1, NK, net, f, p, weights, field)
#define HIDDEN_TRACKED(ACT, KIND)                                                                      \
    if (track) { HIDDEN(ACT, KIND, 1, NARROW_MAX); }                                                   \
    else { HIDDEN(ACT, KIND, 0, NARROW_MAX); }

EQP_INLINE int outputs_of_pass(const network *net) {
    return !net->plain ? NARROW_MAX : net->n[2] <= 2 ? 2 : net->n[2] <= 4 ? 4 : NARROW_MAX;
}

/* The hidden layer of n slots (1 or ROWS). */
static void step_hidden(const network *net, const finish *f, slot *const *p, int n, int track, const real *weights,
                        real (*field)[PAD]) {
    const int act = net->job->activation, nk = outputs_of_pass(net);
#define BODY(ACT)                                                                 \
    if (net->plain && nk == 2) { HIDDEN(ACT, PLAIN, 1, 2); }                      \
    else if (net->plain && nk == 4) { HIDDEN(ACT, PLAIN, 1, 4); }                 \
    else if (net->plain) { HIDDEN_TRACKED(ACT, PLAIN); }                          \
    else if (f->euler && f->prime && f->clamp) { HIDDEN_TRACKED(ACT, CLAMPED_EULER); } \
    else { HIDDEN_TRACKED(ACT, ANY); }
    EQP_SWITCH_ACT(act, BODY)
#undef BODY
}

/* The outputs of one slot, from their field; notes the change and whether they repeat those of two steps before. */
EQP_INLINE void output_body(const int act, const network *net, const finish *f, slot *p, const real *field, real force, int track) {
    const int n = net->n[2];
    vec worst = vset(p->change);
    int repeats = 1;
    for (int v = 0; v < PAD; v += VL) {
        const vec old = vload(p->out + v);
        vec push = vset(0);
        if (f->nudged) push = vmul(vset(force), vsub(vload(p->y + v), net->job->cost == 1 ? vload(p->prediction + v) : old));
        vec x = finish_vec(act, 0, f, vadd(vload(net->bias[1] + v), vload(field + v)), old, vload(p->shown + v), push);
        const int valid = n > v ? n - v : 0;
        if (valid < VL) x = vkeep(x, valid);
        repeats &= vequal(x, vload(p->before + v));
        vstore(p->before + v, old);
        vstore(p->out + v, x);
        if (f->euler && !f->linear) {
            x = act_rho(act, x);
            if (valid < VL) x = vkeep(x, valid);
        }
        vstore(p->shown + v, x);
        if (track) worst = vmaxr(worst, vabs(vsub(vload(p->out + v), old)));
    }
    if (track) p->change = vhmax(worst);
    p->repeats = repeats ? p->repeats + 1 : 0;
}

static void step_output(const network *net, const finish *f, slot *p, const real *field, real force, int track) {
    if (force != 0 && net->job->cost == 1) EQP_NAME(softmax_rows)(net, p->out, p->prediction, 1);
#define BODY(ACT) output_body(ACT, net, f, p, field, force, track)
    EQP_SWITCH_ACT(net->job->out_activation, BODY)
#undef BODY
}

/* Rows of weights in the order hidden_body reads them: for each vector of hidden units, as many outputs as it takes. */
static void pack_weights(const network *net, real *to) {
    const int n1 = net->n[1], n2 = net->n[2], nk = outputs_of_pass(net);
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

/* Puts sample m into the slot, at the start of phase r. */
static void enter(const network *net, const team *t, const relaxation *r, slot *p, int number, int m) {
    const int64_t np[] = {net->np[1], net->np[2]};
    for (int k = 0; k < 2; k++) {
        real *to = r->out[k + 1] + m * np[k];
        if (!r->init) memset(to, 0, (size_t)np[k] * sizeof(real));
        else if (r->init[k + 1] != r->out[k + 1]) memcpy(to, r->init[k + 1] + m * np[k], (size_t)np[k] * sizeof(real));
    }
    p->sample = m;
    p->done = p->repeats = 0;
    p->change = 0;
    p->drive = r->drive + m * np[0];
    p->y = r->y ? r->y + m * np[1] : NULL;
    p->hidden = r->out[1] + m * np[0];
    p->hidden_shown = net->euler ? t->shown[1][0] + number * np[0] : p->hidden;
    p->out = r->out[2] + m * np[1];
    memcpy(p->shown, p->out, sizeof p->shown);
    EQP_NAME(show)(net, 1, p->hidden, p->hidden_shown, 1);
    EQP_NAME(show)(net, 2, p->out, p->shown, 1);
    for (int v = 0; v < PAD; v++) p->before[v] = (real)NAN; /* equal to nothing: there are no two steps before */
}

/* Whether the sample of the slot has arrived, after a step.
 *
 * With a fixed number of steps the rest may be known already. In the plain map the outputs of the last two steps say
 * all: if both repeat those of two steps before, hidden and output states alternate from here on (a fixed point does so
 * too), and an even number of steps may be left out. Otherwise a step without any change stands for all to come.
 */
static int arrived(const network *net, const relaxation *r, slot *p, int tracked) {
    p->done++;
    if (r->tol >= 0) return p->done == r->n_steps || p->change <= (real)(r->tol * net->job->dt);
    if (net->plain) {
        const int left = r->n_steps - p->done - (r->residual ? 1 : 0); /* the residual needs the last step made */
        if (p->repeats >= 2 && left > 0) p->done += left & ~1;
        return p->done == r->n_steps;
    }
    return p->done == r->n_steps || (tracked && p->change == 0);
}

/* Whether the next step's change must be known. */
static int tracks(const network *net, const relaxation *r, const slot *p) {
    if (r->tol >= 0) return 1;
    if (r->residual && p->done + 1 == r->n_steps) return 1;
    return !net->plain && r->n_steps > 16 && p->done % 4 == 3; /* a look at every fourth step is enough */
}

/* Notes the end of the slot's phase; starts the next one that has steps to make, else the slot is idle. */
static void leave(const network *net, const team *t, const relaxation *phases, int n_phases, slot *p, int number) {
    const int m = p->sample;
    for (;;) {
        const relaxation *r = phases + p->phase;
        if (r->steps) r->steps[m] = r->tol < 0 ? r->n_steps : p->done;
        if (r->residual) r->residual[m] = (real)(p->change / net->job->dt);
        if (++p->phase == n_phases) break;
        enter(net, t, phases + p->phase, p, number, m);
        if (phases[p->phase].n_steps) return;
    }
    p->sample = -1;
}

/* The next sample of the queue, or -1. */
static int take_sample(const sample_queue *q) {
    for (int i = 0; i < q->n_threads; i++) {
        const int t = (q->thread + i) % q->n_threads, first = (int)share(q->rows, t, q->n_threads);
        const int left = (int)share(q->rows, t + 1, q->n_threads) - first;
        int32_t *count = q->counters + t * LANES;
        if (__atomic_load_n(count, __ATOMIC_RELAXED) >= left) continue;
        const int m = __atomic_fetch_add(count, 1, __ATOMIC_RELAXED);
        if (m < left) return first + m;
    }
    return -1;
}

/* Relaxes samples synchronously, each through all phases in turn (phase k > 0 must start where phase k - 1 ended). The
 * threads that share the queue share the samples: each takes the next one when it has a free slot. taken: the samples
 * this thread had. Returns their number. */
int EQP_NAME(relax_narrow)(const network *net, team *t, const relaxation *phases, int n_phases, const sample_queue *queue, int32_t *taken) {
    const eqp_layered_job *j = net->job;
    const finish hidden = finish_of(net, 1, 0);
    slot slots[SLOTS];
    real field[ROWS][PAD] __attribute__((aligned(64)));
    int n_taken = 0, more = 1;
    pack_weights(net, t->narrow_weights);
    for (int i = 0; i < SLOTS; i++) slots[i].sample = -1;
    for (;;) {
        slot *live[SLOTS];
        int n_live = 0;
        for (int i = 0; i < SLOTS; i++) {
            while (slots[i].sample < 0 && more) {
                const int m = take_sample(queue);
                more = m >= 0;
                if (!more) break;
                taken[n_taken++] = m;
                slots[i].phase = 0;
                enter(net, t, phases, &slots[i], i, m);
                if (!phases->n_steps) leave(net, t, phases, n_phases, &slots[i], i);
            }
            if (slots[i].sample >= 0) live[n_live++] = &slots[i];
        }
        if (!n_live) return n_taken;
        for (int g = 0; g < n_live; g += ROWS) {
            slot **p = live + g;
            const int n = n_live - g < ROWS ? n_live - g : ROWS;
            int track = 0;
            for (int i = 0; i < n; i++) {
                track |= tracks(net, phases + p[i]->phase, p[i]);
                p[i]->change = 0;
            }
            step_hidden(net, &hidden, p, n, track, t->narrow_weights, field);
            for (int i = 0; i < n; i++) {
                const relaxation *r = phases + p[i]->phase;
                const real force = r->beta != 0 ? (real)(j->cost_factor * r->beta) : 0;
                const finish output = finish_of(net, 2, force);
                step_output(net, &output, p[i], field[i], force, track);
                if (arrived(net, r, p[i], track)) leave(net, t, phases, n_phases, p[i], (int)(p[i] - slots));
            }
        }
    }
}
