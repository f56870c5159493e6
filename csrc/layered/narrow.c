/* narrow.c - synchronous relaxation of one hidden layer under at most NARROW_MAX outputs
 * (narrow.h). A network is always on this path or always on that of layered.c: they round
 * differently.
 *
 * Samples do not meet, so each runs through all its steps in one of a few slots, whose data and the
 * weights together fit the first-level cache; a slot whose sample has arrived takes the next one.
 */
#include "layered/narrow.h"

#define SLOTS (2 * ROWS) /* two passes in turn: the outputs of one finish while the other runs */

/* hidden_rows for up to NARROW_MAX outputs, with `track` made a constant. */
EQP_INLINE void hidden_tracked(const int act, const int kind, int track, int n, int64_t units,
                               int64_t padded, const finish *finish, slot *const *slot,
                               const real *feedback, const real *forward, real (*field)[PAD]) {
    if (track)
        hidden_rows(act, kind, 1, n, NARROW_MAX, units, padded, finish, slot, feedback, forward,
                    field);
    else
        hidden_rows(act, kind, 0, n, NARROW_MAX, units, padded, finish, slot, feedback, forward,
                    field);
}

/* Outputs that a pass computes: few ones have loops of their own in the plain map; else
 * NARROW_MAX. */
EQP_INLINE int outputs_of_pass(const network *net) {
    return !net->plain || net->job->back ? NARROW_MAX
           : net->n[2] <= 2              ? 2
           : net->n[2] <= 4              ? 4
                                         : NARROW_MAX;
}

/* The hidden layer of n slots (1 or ROWS) where the activation is known: picks what else can be
 * known. Few outputs are always tracked: with so little to do, a second copy of the loop gains
 * nothing. */
EQP_INLINE void hidden_of_kind(const int act, const network *net, const team *team,
                               const finish *finish, slot *const *slot, int n, int track,
                               real (*field)[PAD]) {
    const int nk = outputs_of_pass(net), tied = !net->job->back;
    const int64_t units = net->n[1], padded = net->np[1];
    const real *back = team->feedback, *up = team->forward;
    if (net->plain && nk == 2)
        hidden_rows(act, PLAIN, 1, n, 2, units, padded, finish, slot, back, up, field);
    else if (net->plain && nk == 4)
        hidden_rows(act, PLAIN, 1, n, 4, units, padded, finish, slot, back, up, field);
    else if (net->plain && tied)
        hidden_tracked(act, PLAIN, track, n, units, padded, finish, slot, back, up, field);
    else if (net->plain)
        hidden_tracked(act, PLAIN_UNTIED, track, n, units, padded, finish, slot, back, up, field);
    else if (finish->euler && finish->prime && finish->clamp && tied)
        hidden_tracked(act, CLAMPED_EULER, track, n, units, padded, finish, slot, back, up, field);
    else
        hidden_tracked(act, ANY, track, n, units, padded, finish, slot, back, up, field);
}

/* The hidden layer of n slots (1 or ROWS). */
static void step_hidden(const network *net, const team *team, const finish *finish,
                        slot *const *slot, int n, int track, real (*field)[PAD]) {
    EQP_WITH_ACT(net->job->activation,
                 hidden_of_kind(ACT, net, team, finish, slot, n, track, field));
}

/* Weights in the order hidden_body reads them: for each vector of hidden units, nk outputs.
 * A step then reads both weights in one stream, in order. */
void narrow_pack(const network *net, const team *team, int nk) {
    const int n1 = net->n[1], n2 = net->n[2], w2 = panel_width(n2, 0);
    real *back = team->feedback, *to = team->forward;
    for (int64_t c = 0; c < net->np[1]; c += VL)
        for (int k = 0; k < nk; k++, back += VL, to += VL) {
            const int p = (int)(c / PW), width = panel_width(n1, p);
            vstore(back, k < n2 ? vload(panel_at(net->back[1], n2, p) + (int64_t)k * width +
                                        (c - (int64_t)p * PW))
                                : vset(0));
            if (to == back) continue; /* tied */
            for (int i = 0; i < VL; i++)
                to[i] = k < n2 && c + i < n1 ? net->w[1][(c + i) * w2 + k] : 0;
        }
}

/* Puts sample m into the slot, at the start of phase r. */
static void enter(const network *net, const team *team, const relaxation *asked, slot *slot,
                  int number, int m) {
    const int64_t np[] = {net->np[1], net->np[2]};
    for (int k = 0; k < 2; k++) {
        real *to = asked->out[k + 1] + m * np[k];
        if (!asked->init)
            memset(to, 0, (size_t)np[k] * sizeof(real));
        else if (asked->init[k + 1] != asked->out[k + 1])
            copy_reals(to, asked->init[k + 1] + m * np[k], np[k]);
    }
    slot->sample = m;
    slot->done = slot->repeats = 0;
    slot->change = 0;
    slot->drive = asked->drive + m * np[0];
    slot->y = asked->y ? asked->y + m * np[1] : NULL;
    slot->hidden = asked->out[1] + m * np[0];
    slot->hidden_shown = net->euler ? team->shown[1][0] + number * np[0] : slot->hidden;
    slot->out = asked->out[2] + m * np[1];
    memcpy(slot->shown, slot->out, sizeof slot->shown);
    show(net, 1, slot->hidden, slot->hidden_shown, 1);
    show(net, 2, slot->out, slot->shown, 1);
    for (int v = 0; v < PAD; v++)
        slot->before[v] = (real)NAN; /* equal to nothing: there are no two steps before */
}

/* Whether the sample of the slot has arrived, after a step.
 *
 * With a fixed number of steps the rest may be known already. In the plain map the outputs of the
 * last two steps say all: if both repeat those of two steps before, hidden and output states
 * alternate from here on (a fixed point does so too), and an even number of steps may be left out.
 * Otherwise a step without any change stands for all to come.
 */
static int arrived(const network *net, const relaxation *asked, slot *slot, int tracked) {
    slot->done++;
    if (asked->tol >= 0)
        return slot->done == asked->n_steps || slot->change <= (real)(asked->tol * net->job->dt);
    if (net->plain) {
        const int left = asked->n_steps - slot->done -
                         (asked->residual ? 1 : 0); /* the residual needs the last step made */
        if (slot->repeats >= 2 && left > 0) slot->done += left & ~1;
        return slot->done == asked->n_steps;
    }
    return slot->done == asked->n_steps || (tracked && slot->change == 0);
}

/* Whether the next step's change must be known. */
static int tracks(const network *net, const relaxation *asked, const slot *slot) {
    if (asked->tol >= 0) return 1;
    if (asked->residual && slot->done + 1 == asked->n_steps) return 1;
    return !net->plain && asked->n_steps > 16 &&
           slot->done % 4 == 3; /* a look at every fourth step is enough */
}

/* Notes the end of the slot's phase; starts the next one that has steps to make, else the slot is
 * idle. */
static void leave(const network *net, const team *team, const relaxation *phases, int n_phases,
                  slot *slot, int number) {
    const int m = slot->sample;
    for (;;) {
        const relaxation *asked = phases + slot->phase;
        if (asked->steps) asked->steps[m] = asked->tol < 0 ? asked->n_steps : slot->done;
        if (asked->residual) asked->residual[m] = (real)(slot->change / net->job->dt);
        if (++slot->phase == n_phases) break;
        enter(net, team, phases + slot->phase, slot, number, m);
        if (phases[slot->phase].n_steps) return;
    }
    slot->sample = -1;
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

/* Relaxes samples synchronously, each through all phases in turn (phase k > 0 must start where
 * phase k - 1 ended). The threads that share the queue share the samples: each takes the next one
 * when it has a free slot. taken: the samples this thread had. Returns their number. */
int relax_narrow(const network *net, team *team, const relaxation *phases, int n_phases,
                 const sample_queue *queue, int32_t *taken) {
    const eqp_layered_job *job = net->job;
    const finish hidden = finish_of(net, 1, 0);
    slot slots[SLOTS];
    real field[ROWS][PAD] __attribute__((aligned(64)));
    int n_taken = 0, more = 1;
    narrow_pack(net, team, outputs_of_pass(net));
    for (int i = 0; i < SLOTS; i++) slots[i].sample = -1;
    for (;;) {
        slot *live[SLOTS];
        int n_live = 0;
        for (int i = 0; i < SLOTS; i++) {
            /* a slot whose sample needs no steps is free again at once */
            while (slots[i].sample < 0 && more) {
                const int m = take_sample(queue);
                more = m >= 0;
                if (!more) break;
                taken[n_taken++] = m;
                slots[i].phase = 0;
                enter(net, team, phases, &slots[i], i, m);
                if (!phases->n_steps) leave(net, team, phases, n_phases, &slots[i], i);
            }
            if (slots[i].sample >= 0) live[n_live++] = &slots[i];
        }
        if (!n_live) return n_taken;
        for (int g = 0; g < n_live; g += ROWS) {
            slot **p = live + g;
            const int n = n_live - g < ROWS ? n_live - g : ROWS;
            /* all slots of a pass are tracked if one of them has to be */
            int track = 0;
            for (int i = 0; i < n; i++) {
                track |= tracks(net, phases + p[i]->phase, p[i]);
                p[i]->change = 0;
            }
            step_hidden(net, team, &hidden, p, n, track, field);
            for (int i = 0; i < n; i++) {
                const relaxation *asked = phases + p[i]->phase;
                const real force = asked->beta != 0 ? (real)(job->cost_factor * asked->beta) : 0;
                const finish output = finish_of(net, 2, force);
                step_output(net, &output, p[i], net->bias[1], field[i], force, track);
                if (arrived(net, asked, p[i], track))
                    leave(net, team, phases, n_phases, p[i], (int)(p[i] - slots));
            }
        }
    }
}
