/* finish.h - from the total field of a unit to its new state: the last lines of every step of
 * layered networks, discrete (equations 1.2) and continuous (1.3), with the nudge (2).
 *
 *     a      total field: from below, bias, from above
 *     old    the state before, s;  shown: what it showed, rho(s) or s
 *     push   beta * force of the cost, already multiplied; zero but at a nudged output
 */
#ifndef EQP_FINISH_H
#define EQP_FINISH_H

#include "layered/layered.h"

/* What finish_vec needs to know of a layer; the same for all its units. */
typedef struct {
    int euler;  /* continuous dynamics */
    int damped; /* a step goes dt of the way */
    int inside; /* the nudge acts within rho */
    int nudged; /* there is one */
    int prime;  /* continuous: rho'(s) stands before the field */
    int clamp;  /* continuous: states are kept in [0, 1] */
    int linear; /* continuous: the layer shows s, not rho(s) */
    vec dt;
} finish;

/* The options of layer k; force: cost_factor * beta, 0 where there is no nudge. */
EQP_INLINE finish finish_of(const network *net, int k, real force) {
    const eqp_layered_job *job = net->job;
    const int is_out = k == net->L;
    return (finish){.euler = net->euler,
                    .damped = !net->plain,
                    .inside = job->nudge_inside,
                    .nudged = force != 0,
                    .prime = is_out ? job->prime_output : job->prime_hidden,
                    .clamp = job->clamp,
                    .linear = is_out && job->linear_output,
                    .dt = vset((real)job->dt)};
}

/* New state from the total field a, the old state, what it showed, and the push of the target.
 *
 *     plain                 rho(a)
 *     discrete              s + dt (rho(a) + push - s), or rho(a + push) with nudge_inside
 *     continuous            s + dt (rho'(s) a + push - s), clipped to [0, 1] with clamp
 *
 * `plain` (dt = 1, no nudge) is a constant: those units need neither old nor shown. */
EQP_INLINE vec finish_vec(const int act, const int plain, const finish *finish, vec a, vec old,
                          vec shown, vec push) {
    if (plain) return act_rho(act, a);
    vec x;
    if (!finish->euler) {
        if (finish->inside)
            x = act_rho(act, vadd(a, push));
        else
            x = finish->nudged ? vadd(act_rho(act, a), push) : act_rho(act, a);
        return finish->damped ? vfma(finish->dt, vsub(x, old), old) : x;
    }
    /* a linear output shows s, but rho' is made from rho(s) */
    const vec r = finish->prime && finish->linear ? act_rho(act, old) : shown;
    if (finish->prime && !finish->nudged) { /* the same step with its constants put together */
        const vec dt = vmul(finish->dt, vset((real)act_prime_scale(act)));
        x = vfma(dt, act_prime_shape(act, old, r, a), vmul(vsub(vset(1), finish->dt), old));
    } else {
        if (finish->prime) a = act_prime_times(act, old, r, a);
        if (finish->nudged) a = vadd(a, push);
        x = vfma(finish->dt, vsub(a, old), old);
    }
    return finish->clamp ? vclip(x, 0, 1) : x;
}

#endif
