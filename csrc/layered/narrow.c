/* narrow.c - synchronous relaxation of one hidden layer under at most NARROW_MAX outputs (narrow.h). A network is always on
 * this path or always on that of layered.c: they round differently.
 *
 * Samples do not meet, so each runs through all its steps in one of a few slots, whose data and the weights together fit
 * the first-level cache; a slot whose sample has arrived takes the next one.
 */
#include "layered/narrow.h"

#define SLOTS (2 * ROWS)             /* two passes in turn: the outputs of one finish while the other runs */

#define HIDDEN(ACT, KIND, TRACK, NK)                                                                                     \
    if (ROWS > 1 && n == ROWS) hidden_body(ACT, KIND, TRACK, ROWS, NK, net->n[1], net->np[1], f, p, t->feedback, t->forward, field); \
    else hidden_body(ACT, KIND, TRACK, 1, NK, net->n[1], net->np[1], f, p, t->feedback, t->forward, field)
#define HIDDEN_TRACKED(ACT, KIND)                          \
    if (track) { HIDDEN(ACT, KIND, 1, NARROW_MAX); }       \
    else { HIDDEN(ACT, KIND, 0, NARROW_MAX); }

EQP_INLINE int outputs_of_pass(const network *net) {
    return !net->plain || net->job->back ? NARROW_MAX : net->n[2] <= 2 ? 2 : net->n[2] <= 4 ? 4 : NARROW_MAX;
}

/* The hidden layer of n slots (1 or ROWS). */
static void step_hidden(const network *net, const team *t, const finish *f, slot *const *p, int n, int track, real (*field)[PAD]) {
    const int act = net->job->activation, nk = outputs_of_pass(net), tied = !net->job->back;
#define BODY(ACT)                                                                               \
    if (net->plain && nk == 2) { HIDDEN(ACT, PLAIN, 1, 2); }                                    \
    else if (net->plain && nk == 4) { HIDDEN(ACT, PLAIN, 1, 4); }                               \
    else if (net->plain && tied) { HIDDEN_TRACKED(ACT, PLAIN); }                                \
    else if (net->plain) { HIDDEN_TRACKED(ACT, PLAIN_UNTIED); }                                 \
    else if (f->euler && f->prime && f->clamp && tied) { HIDDEN_TRACKED(ACT, CLAMPED_EULER); }  \
    else { HIDDEN_TRACKED(ACT, ANY); }
    EQP_SWITCH_ACT(act, BODY)
#undef BODY
}

/* Weights in the order hidden_body reads them: for each vector of hidden units, nk outputs. */
void EQP_NAME(narrow_pack)(const network *net, const team *t, int nk) {
    const int n1 = net->n[1], n2 = net->n[2], w2 = panel_width(n2, 0);
    real *back = t->feedback, *to = t->forward;
    for (int64_t c = 0; c < net->np[1]; c += VL)
        for (int k = 0; k < nk; k++, back += VL, to += VL) {
            const int p = (int)(c / PW), width = panel_width(n1, p);
            vstore(back, k < n2 ? vload(panel_at(net->back[1], n2, p) + (int64_t)k * width + (c - (int64_t)p * PW)) : vset(0));
            if (to == back) continue; /* tied */
            for (int i = 0; i < VL; i++) to[i] = k < n2 && c + i < n1 ? net->w[1][(c + i) * w2 + k] : 0;
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
    EQP_NAME(narrow_pack)(net, t, outputs_of_pass(net));
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
            step_hidden(net, t, &hidden, p, n, track, field);
            for (int i = 0; i < n; i++) {
                const relaxation *r = phases + p[i]->phase;
                const real force = r->beta != 0 ? (real)(j->cost_factor * r->beta) : 0;
                const finish output = finish_of(net, 2, force);
                step_output(net, &output, p[i], net->bias[1], field[i], force, track);
                if (arrived(net, r, p[i], track)) leave(net, t, phases, n_phases, p[i], (int)(p[i] - slots));
            }
        }
    }
}
