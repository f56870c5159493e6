/* narrow.c - synchronous relaxation of one hidden layer under at most NARROW_MAX outputs
 * (narrow.h). A network is always on this path or always on that of layered.c: they round
 * differently.
 *
 * Samples do not meet, so each runs through all its steps in one of a few slots, whose data and the
 * weights together fit the first-level cache; a slot whose sample has arrived takes the next one.
 *
 *     nk         outputs a pass computes (narrow.h)
 *     live       slots that have a sample
 *     tracked    the step's largest change is known
 */
#include "layered/narrow.h"

/* Two passes in turn: the outputs of one finish while the other runs. */
#define SLOTS (2 * ROWS)

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

/* Weights in the order hidden_body reads them: for each vector of hidden units, nk outputs. A step
 * then reads both weights in one stream, in order. */
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

/* Puts sample m into the slot (the team's `number`-th), at the start of the phase asked for. */
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
    /* equal to nothing: there are no two steps before */
    for (int v = 0; v < PAD; v++) slot->before[v] = (real)NAN;
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
        /* the residual needs the last step made */
        const int left = asked->n_steps - slot->done - (asked->residual ? 1 : 0);
        if (slot->repeats >= 2 && left > 0) slot->done += left & ~1;
        return slot->done == asked->n_steps;
    }
    return slot->done == asked->n_steps || (tracked && slot->change == 0);
}

/* Whether the next step's change must be known. */
static int tracks(const network *net, const relaxation *asked, const slot *slot) {
    if (asked->tol >= 0) return 1;
    if (asked->residual && slot->done + 1 == asked->n_steps) return 1;
    /* a look at every fourth step is enough */
    return !net->plain && asked->n_steps > 16 && slot->done % 4 == 3;
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

/* The next sample of the queue, or -1: of the thread's own share, then of the others'. A look
 * before the addition: counters beyond their share need not grow, nor their line travel. */
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

/* A sample for the idle slot, as long as the queue has any: a slot whose sample needs no steps is
 * free again at once. Notes samples in taken and returns how many there are now. */
static int fill_slot(const network *net, team *team, const relaxation *phases, int n_phases,
                     const sample_queue *queue, slot *slot, int number, int32_t *taken,
                     int n_taken) {
    while (slot->sample < 0) {
        const int m = take_sample(queue);
        if (m < 0) break;
        taken[n_taken++] = m;
        slot->phase = 0;
        enter(net, team, phases, slot, number, m);
        if (!phases->n_steps) leave(net, team, phases, n_phases, slot, number);
    }
    return n_taken;
}

/* One step of n slots (1 or ROWS), hidden units and outputs, each in its own phase. All are tracked
 * if one of them has to be. Sets has_arrived[i] where a sample's phase has ended. */
static void step_slots(const network *net, const team *team, const finish *hidden,
                       const relaxation *phases, slot *const *slot, int n, int *has_arrived) {
    real field[ROWS][PAD] __attribute__((aligned(64)));
    int track = 0;
    for (int i = 0; i < n; i++) {
        track |= tracks(net, phases + slot[i]->phase, slot[i]);
        slot[i]->change = 0;
    }
    step_hidden(net, team, hidden, slot, n, track, field);
    for (int i = 0; i < n; i++) {
        const relaxation *asked = phases + slot[i]->phase;
        const real force = asked->beta != 0 ? (real)(net->job->cost_factor * asked->beta) : 0;
        const finish output = finish_of(net, 2, force);
        step_output(net, &output, slot[i], net->bias[1], field[i], force, track);
        has_arrived[i] = arrived(net, asked, slot[i], track);
    }
}

/* Relaxes samples synchronously, each through all phases in turn (phase k > 0 must start where
 * phase k - 1 ended). The threads that share the queue share the samples: each takes the next one
 * when it has a free slot. taken: the samples this thread had. Returns their number. */
int relax_narrow(const network *net, team *team, const relaxation *phases, int n_phases,
                 const sample_queue *queue, int32_t *taken) {
    const finish hidden = finish_of(net, 1, 0);
    slot slots[SLOTS];
    int n_taken = 0, more = 1; /* more: the queue is not known to be empty */
    narrow_pack(net, team, outputs_of_pass(net));
    for (int i = 0; i < SLOTS; i++) slots[i].sample = -1;
    for (;;) {
        slot *live[SLOTS];
        int n_live = 0;
        for (int i = 0; i < SLOTS; i++) {
            if (more && slots[i].sample < 0) {
                n_taken =
                    fill_slot(net, team, phases, n_phases, queue, &slots[i], i, taken, n_taken);
                more = slots[i].sample >= 0;
            }
            if (slots[i].sample >= 0) live[n_live++] = &slots[i];
        }
        if (!n_live) return n_taken;
        for (int g = 0; g < n_live; g += ROWS) {
            slot **pass = live + g;
            const int n = n_live - g < ROWS ? n_live - g : ROWS;
            int has_arrived[ROWS];
            step_slots(net, team, &hidden, phases, pass, n, has_arrived);
            for (int i = 0; i < n; i++)
                if (has_arrived[i])
                    leave(net, team, phases, n_phases, pass[i], (int)(pass[i] - slots));
        }
    }
}
