/* update.h - optimiser steps on vectors (equations 13): SGD, momentum, Nesterov, Adam, with weight
 * decay.
 *
 *     w          parameters
 *     contrast   what the rule has summed over the batch; scale * contrast is minus the gradient
 *     velocity   momentum, or Adam's first moment; second: Adam's second moment
 *
 * As in scikit-learn's MLP, weight decay is part of the gradient, never of a bias's. */
#ifndef EQP_UPDATE_H
#define EQP_UPDATE_H

#include "core/simd.h"

/* The codes of the jobs; kernels/spec.py has the same. */
enum { OPT_SGD, OPT_MOMENTUM, OPT_NESTEROV, OPT_ADAM, N_OPTIMIZERS };

/* Numbers of one parameter's step; `scale` turns a summed contrast into minus the gradient. */
typedef struct {
    int kind;
    real scale, rate, decay, momentum, beta1, beta2, epsilon;
} stepper;

/* The stepper of a job of any family. Adam counts the steps since training began, over all jobs. */
#define EQP_STEPPER(job, rate_, decay_, scale_, batches_done)                                    \
    stepper_of((job)->optimizer, (double)((job)->adam_step + (batches_done) + 1), rate_, decay_, \
               scale_, (job)->momentum, (job)->beta1, (job)->beta2, (job)->epsilon)
EQP_INLINE stepper stepper_of(int optimizer, double t, double rate, double decay, double scale,
                              double momentum, double beta1, double beta2, double epsilon) {
    const int adam = optimizer == OPT_ADAM;
    const double c1 = adam ? 1 - pow(beta1, t) : 1, c2 = adam ? sqrt(1 - pow(beta2, t)) : 1;
    return (stepper){
        optimizer,   (real)scale, (real)(adam ? rate * c2 / c1 : rate), (real)decay, (real)momentum,
        (real)beta1, (real)beta2, (real)(adam ? epsilon * c2 : 0)};
}

/* New parameters (VL) from their old values and the summed contrast; velocity and second are
 * in/out and not touched by SGD. Adam's bias correction is in rate and epsilon already
 * (make_stepper). */
EQP_INLINE vec vsteps(const stepper *weight_step, vec w, vec contrast, real *velocity,
                      real *second) {
    const vec rate = vset(weight_step->rate);
    if (weight_step->kind == OPT_SGD) {
        const vec moved = vfma(vset(weight_step->rate * weight_step->scale), contrast, w);
        return weight_step->decay == 0
                   ? moved
                   : vfma(vset(-weight_step->rate * weight_step->decay), w, moved);
    }
    const vec gradient =
        vfma(vset(weight_step->decay), w, vmul(vset(-weight_step->scale), contrast));
    if (weight_step->kind != OPT_ADAM) {
        const vec momentum = vset(weight_step->momentum),
                  v = vfma(momentum, vload(velocity), gradient);
        vstore(velocity, v);
        return vfnma(rate, weight_step->kind == OPT_NESTEROV ? vfma(momentum, v, gradient) : v, w);
    }
    const vec b1 = vset(weight_step->beta1), b2 = vset(weight_step->beta2);
    const vec m = vfma(b1, vload(velocity), vmul(vset(1 - weight_step->beta1), gradient));
    const vec v =
        vfma(b2, vload(second), vmul(vmul(vset(1 - weight_step->beta2), gradient), gradient));
    vstore(velocity, m);
    vstore(second, v);
    /* lane by lane: the vector vocabulary has no square root, and this is far from being the
     * bottleneck */
    real root[VL];
    vstore(root, v);
    for (int i = 0; i < VL; i++) root[i] = (real)sqrt((double)root[i]);
    return vfnma(rate, vdiv(m, vadd(vload(root), vset(weight_step->epsilon))), w);
}

#endif
