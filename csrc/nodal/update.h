/* update.h - equilibrium propagation's step of every conductance (equations 12; twin:
 * kernels/reference/nodal_update.py).
 *
 *     d, t     difference and sum of the two phases' voltages, (nodes, M): (dv_a)^2 - (dv_b)^2 of
 *              a conductance between nodes a and b is (d_a - d_b)(t_a - t_b)
 *     m        samples;  k: a conductance
 *
 * Samples of a node lie side by side, so that a conductance reads four runs of memory and writes
 * one number: no array of samples times conductances. Each conductance belongs to one thread, so
 * its sum does not depend on their number. */
#ifndef EQP_NODAL_UPDATE_H
#define EQP_NODAL_UPDATE_H

#include "core/barrier.h"
#include "core/simd.h"

/* Conductances from one node that are summed side by side. */
#define TOGETHER 4

/* For `count` conductances that leave one node, sums over samples of (d_a - d_b)(t_a - t_b): whole
 * vectors, their lanes, then the samples left over. A sum does not depend on the count, which only
 * saves loads. */
EQP_INLINE void contrasts(const real *d, const real *t, const int32_t *pairs, int64_t m, int count,
                          real *out) {
    const real *da = d + pairs[0] * m, *ta = t + pairs[0] * m, *db[TOGETHER], *tb[TOGETHER];
    vec sum[TOGETHER];
    for (int i = 0; i < count; i++) {
        db[i] = d + pairs[2 * i + 1] * m, tb[i] = t + pairs[2 * i + 1] * m;
        sum[i] = vset(0);
    }
    /* whole vectors of samples, then the rest one by one */
    int64_t s = 0;
    for (; s + VL <= m; s += VL) {
        const vec dv = vload(da + s), tv = vload(ta + s);
        for (int i = 0; i < count; i++)
            sum[i] = vfma(vsub(dv, vload(db[i] + s)), vsub(tv, vload(tb[i] + s)), sum[i]);
    }
    for (int i = 0; i < count; i++) {
        out[i] = vhsum(sum[i]);
        for (int64_t r = s; r < m; r++) out[i] += (da[r] - db[i][r]) * (ta[r] - tb[i][r]);
    }
}

/* Whether the conductances at `pairs` all leave the first one's node, as the columns of a
 * crossbar's row do. */
EQP_INLINE int leave_one_node(const int32_t *pairs) {
    int same = 1;
    for (int i = 1; i < TOGETHER; i++) same &= pairs[2 * i] == pairs[0];
    return same;
}

/* The velocity after a step of momentum. */
EQP_INLINE real stepped(const eqp_nodal_update_job *job, real velocity, real gradient) {
    return (real)job->momentum * velocity - (real)job->learning_rate * gradient;
}

/* Gradients of the thread's conductances; once all threads know theirs to be finite, the steps,
 * clipped to [low, high]. */
static int update_conductances(eqp_nodal_update_job *job, int thread, int n_threads) {
    const int64_t m = job->n_samples;
    const int64_t first = job->n_pairs * thread / n_threads;
    const int64_t end = job->n_pairs * (thread + 1) / n_threads;
    const real *d = job->difference, *t = job->total;
    const real *scale = job->scale, *low = job->low, *high = job->high;
    real *gradient = job->gradient, *velocity = job->velocity, *g = job->conductance;
    /* gradients: four conductances of one node share the loads of its voltages */
    for (int64_t k = first; k < end;) {
        const int32_t *pairs = job->pairs + 2 * k;
        if (m >= VL && k + TOGETHER <= end && leave_one_node(pairs)) {
            contrasts(d, t, pairs, m, TOGETHER, gradient + k);
            k += TOGETHER;
        } else {
            contrasts(d, t, pairs, m, 1, gradient + k);
            k++;
        }
    }
    for (int64_t k = first; k < end; k++) {
        gradient[k] *= scale[k];
        if (!isfinite(g[k] + stepped(job, velocity[k], gradient[k])))
            __atomic_store_n(&job->not_finite, 1, __ATOMIC_RELAXED);
    }
    /* nothing is changed before all steps are known to be numbers */
    eqp_wait(job->barrier, n_threads);
    if (__atomic_load_n(&job->not_finite, __ATOMIC_RELAXED)) return EQP_E_DIVERGED;
    for (int64_t k = first; k < end; k++) {
        velocity[k] = stepped(job, velocity[k], gradient[k]);
        const real wanted = g[k] + velocity[k], above = wanted > low[k] ? wanted : low[k];
        g[k] = above < high[k] ? above : high[k];
    }
    return EQP_OK;
}

#endif
