/* nodal_update.h - equilibrium propagation's step of every conductance (twin: kernels/reference/nodal_update.py).
 *
 * Samples of a node lie side by side, so that a conductance reads four runs of memory and writes one number: no array of
 * samples times conductances. Each conductance belongs to one thread, so its sum does not depend on their number.
 */
#ifndef EQP_NODAL_UPDATE_H
#define EQP_NODAL_UPDATE_H

#include "barrier.h"
#include "simd.h"

/* Sum over samples of (d_a - d_b)(t_a - t_b): whole vectors, their lanes, then the samples left over. */
EQP_INLINE real contrast_of(const real *da, const real *db, const real *ta, const real *tb, int64_t m) {
    vec sum = vset(0);
    int64_t s = 0;
    for (; s + VL <= m; s += VL)
        sum = vfma(vsub(vload(da + s), vload(db + s)), vsub(vload(ta + s), vload(tb + s)), sum);
    real out = vhsum(sum);
    for (; s < m; s++) out += (da[s] - db[s]) * (ta[s] - tb[s]);
    return out;
}

static int update_conductances(eqp_nodal_update_job *j, int thread, int n_threads) {
    const int64_t m = j->n_samples, first = j->n_pairs * thread / n_threads, end = j->n_pairs * (thread + 1) / n_threads;
    const real *d = j->difference, *t = j->total, *scale = j->scale, *low = j->low, *high = j->high;
    real *gradient = j->gradient, *velocity = j->velocity, *g = j->conductance;
    for (int64_t k = first; k < end; k++) {
        const int64_t a = j->pairs[2 * k] * m, b = j->pairs[2 * k + 1] * m;
        gradient[k] = scale[k] * contrast_of(d + a, d + b, t + a, t + b, m);
        if (!isfinite(gradient[k])) __atomic_store_n(&j->not_finite, 1, __ATOMIC_RELAXED);
    }
    eqp_wait(j->barrier, n_threads); /* nothing is changed before all sums are known to be numbers */
    if (__atomic_load_n(&j->not_finite, __ATOMIC_RELAXED)) return EQP_E_DIVERGED;
    for (int64_t k = first; k < end; k++) {
        velocity[k] = (real)j->momentum * velocity[k] - (real)j->learning_rate * gradient[k];
        const real wanted = g[k] + velocity[k], above = wanted > low[k] ? wanted : low[k];
        g[k] = above < high[k] ? above : high[k];
    }
    return EQP_OK;
}

#endif
