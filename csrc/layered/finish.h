/* finish.h - from the total field of a unit to its new state: the last lines of every step of layered networks. */
#ifndef EQP_FINISH_H
#define EQP_FINISH_H

#include "layered/layered.h"

/* What finish_vec needs to know of a layer; the same for all its units. */
typedef struct {
    int euler, damped, inside, nudged, prime, clamp, linear;
    vec dt;
} finish;

EQP_INLINE finish finish_of(const network *net, int k, real force) {
    const eqp_layered_job *j = net->job;
    const int is_out = k == net->L;
    return (finish){net->euler, !net->plain, j->nudge_inside, force != 0, is_out ? j->prime_output : j->prime_hidden, j->clamp,
                    is_out && j->linear_output, vset((real)j->dt)};
}

/* New state from the total field a, the old state, what it showed, and the push of the target. */
EQP_INLINE vec finish_vec(const int act, const int plain, const finish *f, vec a, vec old, vec shown, vec push) {
    if (plain) return act_rho(act, a);
    vec x;
    if (!f->euler) {
        if (f->inside) x = act_rho(act, vadd(a, push));
        else x = f->nudged ? vadd(act_rho(act, a), push) : act_rho(act, a);
        return f->damped ? vfma(f->dt, vsub(x, old), old) : x;
    }
    const vec r = f->prime && f->linear ? act_rho(act, old) : shown;
    if (f->prime && !f->nudged) { /* the same step with its constants put together */
        const vec dt = vmul(f->dt, vset((real)act_prime_scale(act)));
        x = vfma(dt, act_prime_shape(act, old, r, a), vmul(vsub(vset(1), f->dt), old));
    } else {
        if (f->prime) a = act_prime_times(act, old, r, a);
        if (f->nudged) a = vadd(a, push);
        x = vfma(f->dt, vsub(a, old), old);
    }
    return f->clamp ? vclip(x, 0, 1) : x;
}

#endif
