/* update.h - optimiser steps on vectors: SGD, momentum, Nesterov, Adam, with weight decay. */
#ifndef EQP_UPDATE_H
#define EQP_UPDATE_H

#include "core/simd.h"

enum { OPT_SGD, OPT_MOMENTUM, OPT_NESTEROV, OPT_ADAM, N_OPTIMIZERS };

/* Numbers of one parameter's step; `scale` turns a summed contrast into minus the gradient. */
typedef struct {
    int kind;
    real scale, rate, decay, momentum, beta1, beta2, epsilon;
} stepper;

/* New parameter from its old value and the summed contrast; velocity and second are in/out (may be NULL for SGD). */
EQP_INLINE vec vsteps(const stepper *o, vec w, vec contrast, real *velocity, real *second) {
    const vec rate = vset(o->rate);
    if (o->kind == OPT_SGD) {
        const vec moved = vfma(vset(o->rate * o->scale), contrast, w);
        return o->decay == 0 ? moved : vfma(vset(-o->rate * o->decay), w, moved);
    }
    const vec gradient = vfma(vset(o->decay), w, vmul(vset(-o->scale), contrast));
    if (o->kind != OPT_ADAM) {
        const vec momentum = vset(o->momentum), v = vfma(momentum, vload(velocity), gradient);
        vstore(velocity, v);
        return vfnma(rate, o->kind == OPT_NESTEROV ? vfma(momentum, v, gradient) : v, w);
    }
    const vec b1 = vset(o->beta1), b2 = vset(o->beta2);
    const vec m = vfma(b1, vload(velocity), vmul(vset(1 - o->beta1), gradient));
    const vec v = vfma(b2, vload(second), vmul(vmul(vset(1 - o->beta2), gradient), gradient));
    vstore(velocity, m);
    vstore(second, v);
    real root[VL];
    vstore(root, v);
    for (int i = 0; i < VL; i++) root[i] = (real)sqrt((double)root[i]);
    return vfnma(rate, vdiv(m, vadd(vload(root), vset(o->epsilon))), w);
}

#endif
