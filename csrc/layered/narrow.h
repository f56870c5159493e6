/* narrow.h - a step of one hidden layer under at most NARROW_MAX outputs, in one pass over the
 * hidden units, where the inner weights fit in a core's cache (network_plan; equations 1.2, 1.3).
 *
 * The hidden vector in registers serves both ways at once: with each row of the (few) feedback
 * weights it takes the outputs' feedback, with each row of the forward weights it gives its share
 * of the outputs' field. Against two matrix products this halves the loads, needs no intermediate
 * store, and lets the state stay in place. The outputs' sums run over lanes first, so they round
 * differently from step_layer's.
 *
 *     NK       outputs a pass computes, at least those there are: 2, 4 or NARROW_MAX
 *     NS       samples a pass takes: ROWS, or 1 for the last
 *     acc      per sample and output: running vector of hidden * weight, over the hidden units
 *     slot     one sample on its way through its steps
 *     kind     what is known of dynamics and weights when the loop is compiled
 */
#ifndef EQP_NARROW_H
#define EQP_NARROW_H

#include "layered/finish.h"

/* Samples of one pass: as many as have their accumulators in registers. */
#define ROWS (N_VREGS >= 32 ? 2 : 1)

/* One sample on its way through its steps. */
typedef struct {
    real shown[PAD] __attribute__((aligned(64))); /* what the outputs show */
    real own[PAD];        /* room for `out` where the caller's result does not serve */
    real before[PAD];     /* the outputs' state a step ago */
    real prediction[PAD]; /* its softmax */
    const real *drive, *y;
    real *hidden, *hidden_shown; /* np[1]; the same array unless the dynamics are Euler's */
    real *out;                   /* PAD: in place in the caller's result */
    real change;                 /* largest of the last step, where tracked */
    int sample;                  /* -1: idle */
    int phase, done;             /* which phase, steps made in it */
    int repeats;                 /* steps in a row that gave the outputs of two before */
} slot;

/* Lane k of the result is the sum of the lanes of acc[k]. */
EQP_INLINE void lane_sums(const int NK, const vec *acc, real *out) {
#if defined(EQP_ISA_AVX512) && defined(EQP_REAL_F32)
    /* 16 vectors are transposed and added in four steps, not reduced one after another */
    vec quad[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        vec a[4];
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++) a[k] = 4 * i + k < NK ? acc[4 * i + k] : vset(0);
        quad[i] = vquarters(a[0], a[1], a[2], a[3]);
    }
    const vec x = vadd(_mm512_shuffle_f32x4(quad[0], quad[1], 0x88),
                       _mm512_shuffle_f32x4(quad[0], quad[1], 0xDD));
    const vec y = vadd(_mm512_shuffle_f32x4(quad[2], quad[3], 0x88),
                       _mm512_shuffle_f32x4(quad[2], quad[3], 0xDD));
    vstore(out, vadd(_mm512_shuffle_f32x4(x, y, 0x88), _mm512_shuffle_f32x4(x, y, 0xDD)));
#else
    for (int k = 0; k < NK; k++) out[k] = vhsum(acc[k]);
    for (int k = NK; k < PAD; k++) out[k] = 0;
#endif
}

/* What is known when the loop is compiled: nothing, the plain map with tied or untied weights, or
 * Euler steps with rho' and clamp (tied). */
enum { ANY, PLAIN, PLAIN_UNTIED, CLAMPED_EULER };

/* Hidden units of NS samples, in place; field: what reaches the outputs from the hidden states
 * before the step. The slots point at the first of `padded` units, of which `units` are real. Both
 * weights hold NK outputs (zeros where there are fewer) for each vector of units; they are the same
 * array when tied. Both layers move at once (synchronous): hence the states before the step. */
EQP_INLINE void hidden_body(const int act, const int kind, const int track, const int NS,
                            const int NK, int64_t units, int64_t padded, const finish *of_layer,
                            slot *const *slot, const real *feedback, const real *forward,
                            real (*field)[PAD]) {
    const int plain = kind == PLAIN || kind == PLAIN_UNTIED;
    const int tied = kind == PLAIN || kind == CLAMPED_EULER;
    /* what is known of the layer becomes constant here */
    finish f = *of_layer;
    if (kind == CLAMPED_EULER)
        f = (finish){.euler = 1, .damped = 1, .prime = 1, .clamp = 1, .dt = f.dt};
    vec acc[ROWS][NARROW_MAX], worst[ROWS]; /* worst: the largest change, by lanes */
    const real *drive[ROWS], *out[ROWS];
    real *hidden[ROWS], *hidden_shown[ROWS];
#pragma GCC unroll 2
    for (int s = 0; s < NS; s++) {
        drive[s] = slot[s]->drive, out[s] = slot[s]->shown, hidden[s] = slot[s]->hidden,
        hidden_shown[s] = slot[s]->hidden_shown;
        worst[s] = vset(0);
#pragma GCC unroll 10
        for (int k = 0; k < NK; k++) acc[s][k] = vset(0);
    }
    /* one vector of hidden units at a time */
    for (int64_t c = 0; c < padded; c += VL, feedback += NK * VL, forward += NK * VL) {
        /* a: their fields, from the drive on; shown: what they show the outputs before the step */
        vec a[ROWS], shown[ROWS];
#pragma GCC unroll 2
        for (int s = 0; s < NS; s++) {
            a[s] = vload(drive[s] + c);
            shown[s] = vload(hidden_shown[s] + c);
        }
#pragma GCC unroll 10
        for (int k = 0; k < NK; k++) {
            /* one load of a weight serves all samples of the pass, and where tied both ways */
            const vec w = vload(feedback + k * VL), up = tied ? w : vload(forward + k * VL);
#pragma GCC unroll 2
            for (int s = 0; s < NS; s++) {
                a[s] = vfma(vset(out[s][k]), w, a[s]);
                acc[s][k] = vfma(up, shown[s], acc[s][k]);
            }
        }
        const int valid = (int)(units - c);
#pragma GCC unroll 2
        for (int s = 0; s < NS; s++) {
            /* the new states, in place: nobody reads the old ones any more */
            const vec old = plain ? shown[s] : vload(hidden[s] + c);
            vec x = finish_vec(act, plain, &f, a[s], old, shown[s], vset(0));
            if (valid < VL) x = vkeep(x, valid > 0 ? valid : 0); /* padding stays zero */
            vstore(hidden[s] + c, x);
            if (!plain && f.euler) {
                vec r = kind == CLAMPED_EULER ? act_rho_unit(act, x) : act_rho(act, x);
                if (valid < VL) r = vkeep(r, valid > 0 ? valid : 0);
                vstore(hidden_shown[s] + c, r);
            }
            if (track) worst[s] = vmaxr(worst[s], vabs(vsub(x, old)));
        }
    }
#pragma GCC unroll 2
    for (int s = 0; s < NS; s++) {
        /* the outputs' fields are sums over the units: over the vectors above, over the lanes here
         */
        lane_sums(NK, acc[s], field[s]);
        if (track) slot[s]->change = vhmax(worst[s]);
    }
}

/* hidden_body for n slots, as many as one pass takes or one. */
EQP_INLINE void hidden_rows(const int act, const int kind, const int track, int n, const int NK,
                            int64_t units, int64_t padded, const finish *finish, slot *const *slot,
                            const real *feedback, const real *forward, real (*field)[PAD]) {
    if (ROWS > 1 && n == ROWS)
        hidden_body(act, kind, track, ROWS, NK, units, padded, finish, slot, feedback, forward,
                    field);
    else
        hidden_body(act, kind, track, 1, NK, units, padded, finish, slot, feedback, forward, field);
}

/* The outputs of one slot, from their field; notes the change and whether they repeat those of two
 * steps before. */
EQP_INLINE void output_body(const int act, const network *net, const finish *finish, slot *slot,
                            const real *bias, const real *field, real force, int track) {
    const int n = net->n[2];
    /* the hidden layer's change is there already */
    vec worst = vset(slot->change);
    int repeats = 1;
    for (int v = 0; v < PAD; v += VL) {
        const vec old = vload(slot->out + v);
        vec push = vset(0); /* beta * force (equations 2) */
        if (finish->nudged)
            push = vmul(vset(force), vsub(vload(slot->y + v), net->job->cost == COST_CROSS_ENTROPY
                                                                  ? vload(slot->prediction + v)
                                                                  : old));
        vec x = finish_vec(act, 0, finish, vadd(vload(bias + v), vload(field + v)), old,
                           vload(slot->shown + v), push);
        const int valid = n > v ? n - v : 0;
        if (valid < VL) x = vkeep(x, valid);
        repeats &= vequal(x, vload(slot->before + v));
        vstore(slot->before + v, old);
        vstore(slot->out + v, x);
        if (finish->euler && !finish->linear) {
            x = act_rho(act, x);
            if (valid < VL) x = vkeep(x, valid);
        }
        vstore(slot->shown + v, x);
        if (track) worst = vmaxr(worst, vabs(vsub(vload(slot->out + v), old)));
    }
    if (track) slot->change = vhmax(worst);
    slot->repeats = repeats ? slot->repeats + 1 : 0;
}

/* output_body for the network's output activation, after the softmax where the cost needs it
 * (equations 2). */
EQP_INLINE void step_output(const network *net, const finish *finish, slot *slot, const real *bias,
                            const real *field, real force, int track) {
    if (force != 0 && net->job->cost == COST_CROSS_ENTROPY)
        softmax_rows(net, slot->out, slot->prediction, 1);
    EQP_WITH_ACT(net->job->out_activation,
                 output_body(ACT, net, finish, slot, bias, field, force, track));
}

#endif
