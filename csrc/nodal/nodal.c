/* nodal.c - damped Newton for circuits with diodes, VL samples at a time (twin: kernels/reference/nodal.py).
 *
 * The lanes of a vector are samples: every value of a matrix is a vector, the linear part is broadcast from one shared
 * copy. A lane that has converged is frozen, so a sample's answer does not depend on its neighbours or on threads.
 */
#include "core/eqprop.h"
#include "nodal/dense.h"
#include "nodal/head.h"
#include "nodal/diode.h"
#include "nodal/sparse.h"
#include "nodal/update.h"

enum { CONVERGED, NOT_CONVERGED, SINGULAR };
#define JUNCTION_TOL 1e-6
#define IDEAL_V_TOL ((real)1e-12)
#define IDEAL_I_TOL ((real)1e-18)

typedef struct {
    real *matrix; /* dense: tiles; sparse: (NNZ) values */
    real *l, *u, *work;
    real *rdiag, *x, *f;                             /* (N rounded up to tiles) vectors */
    real *rhs, *junction, *offset, *current, *slope; /* (N), then (D) vectors */
} arrays;

static size_t carve(arrays *a, const eqp_nodal_job *j, real *at) {
    const real *start = at;
    const size_t n = (size_t)tiles_of(j->n) * TILE, d = (size_t)j->n_diodes;
#define TAKE(name, count) (a->name = at, at += (size_t)(count) * VL)
    if (j->indptr) {
        TAKE(matrix, j->indptr[j->n]);
        TAKE(l, j->l_ptr[j->n]);
        TAKE(u, j->u_ptr[j->n]);
        TAKE(work, n);
    } else
        TAKE(matrix, n * n);
    TAKE(rdiag, n);
    TAKE(x, n);
    TAKE(f, n);
    TAKE(rhs, n);
    TAKE(junction, d);
    TAKE(offset, d);
    TAKE(current, d);
    TAKE(slope, d);
#undef TAKE
    return ((size_t)(at - start) * sizeof(real) + 63) / 64 * 64;
}

int EQP_NAME(nodal_newton_scratch)(eqp_nodal_job *j, int thread, int n_threads) {
    (void)thread;
    if (j->n < 0 || j->n_diodes < 0 || n_threads < 1) return EQP_E_SIZE;
    arrays a = {0};
    static real nothing; /* only distances are used */
    j->scratch_size = (int64_t)carve(&a, j, &nothing) * n_threads;
    return EQP_OK;
}

EQP_INLINE vec across(const eqp_nodal_job *j, const arrays *a, int d) {
    vec v = vload(a->offset + (size_t)d * VL);
    if (j->anode[d] >= 0) v = vadd(v, vload(a->x + (size_t)j->anode[d] * VL));
    if (j->cathode[d] >= 0) v = vsub(v, vload(a->x + (size_t)j->cathode[d] * VL));
    return v;
}

EQP_INLINE void add_to(real *p, vec v) { vstore(p, vadd(vload(p), v)); }

static real *place(const eqp_nodal_job *j, const arrays *a, int32_t at) {
    if (j->indptr) return a->matrix + (size_t)at * VL;
    return dense_at(a->matrix, tiles_of(j->n), at / j->n, at % j->n);
}

/* f = base x - rhs */
static void linear_residual(const eqp_nodal_job *j, const arrays *a) {
    const real *base = j->base;
    for (int r = 0; r < j->n; r++) {
        vec s0 = vsub(vset(0), vload(a->rhs + (size_t)r * VL)), s1 = vset(0);
        if (j->indptr)
            for (int32_t p = j->indptr[r]; p < j->indptr[r + 1]; p++)
                s0 = vfma(vset(base[p]), vload(a->x + (size_t)j->indices[p] * VL), s0);
        else {
            const real *row = base + (size_t)r * j->n;
            int c = 0;
            for (; c + 1 < j->n; c += 2) {
                s0 = vfma(vset(row[c]), vload(a->x + (size_t)c * VL), s0);
                s1 = vfma(vset(row[c + 1]), vload(a->x + (size_t)(c + 1) * VL), s1);
            }
            if (c < j->n) s0 = vfma(vset(row[c]), vload(a->x + (size_t)c * VL), s0);
        }
        vstore(a->f + (size_t)r * VL, vadd(s0, s1));
    }
}

static void stamp_exponential(const eqp_nodal_job *j, const arrays *a, int d) {
    const real *par = (const real *)j->parameters + (size_t)d * N_PARAMS;
    const vec vj = vload(a->junction + (size_t)d * VL), rs = vset(par[P_RS]);
    vec i, g;
    diode_lanes(par, vj, &i, &g);
    const vec seen = vdiv(g, vfma(rs, g, vset(1))); /* slope seen through the series resistance */
    const vec drop = vsub(vsub(across(j, a, d), vj), vmul(rs, i)), through = vfma(seen, drop, i);
    vstore(a->current + (size_t)d * VL, i);
    vstore(a->slope + (size_t)d * VL, g);
    if (j->anode[d] >= 0) add_to(a->f + (size_t)j->anode[d] * VL, through);
    if (j->cathode[d] >= 0) add_to(a->f + (size_t)j->cathode[d] * VL, vsub(vset(0), through));
    const int32_t *at = j->stamp + (size_t)d * 9;
    const vec minus = vsub(vset(0), seen);
    if (at[0] >= 0) add_to(place(j, a, at[0]), seen);
    if (at[1] >= 0) add_to(place(j, a, at[1]), minus);
    if (at[2] >= 0) add_to(place(j, a, at[2]), minus);
    if (at[3] >= 0) add_to(place(j, a, at[3]), seen);
}

static void stamp_ideal(const eqp_nodal_job *j, const arrays *a, int d) {
    const int32_t *at = j->stamp + (size_t)d * 9;
    real *f = a->f + (size_t)j->branch[d] * VL, *own = place(j, a, at[8]), v[VL];
    const real *i = a->x + (size_t)j->branch[d] * VL, *on = a->junction + (size_t)d * VL;
    const real leak = ((const real *)j->parameters)[(size_t)d * N_PARAMS + P_GMIN];
    vstore(v, across(j, a, d));
    for (int l = 0; l < VL; l++) {
        const int closed = on[l] > 0;
        const real slope = closed ? 1 : -leak;
        f[l] = closed ? v[l] : i[l] - leak * v[l];
        own[l] += (real)!closed;
        if (at[6] >= 0) place(j, a, at[6])[l] += slope;
        if (at[7] >= 0) place(j, a, at[7])[l] -= slope;
    }
}

/* After a step: new junction voltages; returns by lane whether some junction still moves. */
static void update_diodes(const eqp_nodal_job *j, const arrays *a, const char *active, int iteration, char *moving) {
    char flipped[VL];
    memset(flipped, 0, sizeof flipped);
    for (int d = 0; d < j->n_diodes; d++) {
        const real *par = (const real *)j->parameters + (size_t)d * N_PARAMS;
        real *vj = a->junction + (size_t)d * VL, v[VL];
        vstore(v, across(j, a, d));
        if (j->branch[d] >= 0) {
            const real *i = a->x + (size_t)j->branch[d] * VL;
            for (int l = 0; l < VL; l++) {
                const int on = vj[l] > 0, state = on ? i[l] >= -IDEAL_I_TOL : v[l] > IDEAL_V_TOL;
                if (!active[l] || state == on) continue;
                moving[l] = 1;
                if (iteration >= j->single_after && flipped[l]) continue;
                flipped[l] = 1;
                vj[l] = (real)state;
            }
            continue;
        }
        const vec old = vload(vj), i = vload(a->current + (size_t)d * VL), g = vload(a->slope + (size_t)d * VL);
        const vec rs = vset(par[P_RS]), drop = vsub(vsub(vload(v), old), vmul(rs, i));
        real fresh[VL];
        vstore(fresh, vadd(old, vdiv(drop, vfma(rs, g, vset(1)))));
        for (int l = 0; l < VL; l++) {
            if (!active[l]) continue;
            int cut = 0;
            const real allowed = limit_junction(fresh[l], vj[l], par, &cut);
            moving[l] |= cut || !(fabs((double)(allowed - vj[l])) <= JUNCTION_TOL * par[P_VTE]);
            vj[l] = allowed;
        }
    }
}

static void load_lanes(real *to, const real *from, int count, int64_t first, int64_t m) {
    for (int l = 0; l < VL; l++) {
        const int64_t s = first + l < m ? first + l : m - 1; /* spare lanes repeat the last sample */
        for (int k = 0; k < count; k++) to[(size_t)k * VL + l] = from[(size_t)s * count + k];
    }
}

static void store_lanes(real *to, const real *from, int count, int64_t first, int64_t m) {
    for (int l = 0; l < VL && first + l < m; l++)
        for (int k = 0; k < count; k++) to[(size_t)(first + l) * count + k] = from[(size_t)k * VL + l];
}

static void newton_group(eqp_nodal_job *j, const arrays *a, int64_t first) {
    const int n = j->n;
    load_lanes(a->rhs, j->rhs, n, first, j->n_samples);
    load_lanes(a->x, j->x, n, first, j->n_samples);
    load_lanes(a->junction, j->junction, j->n_diodes, first, j->n_samples);
    load_lanes(a->offset, j->offset, j->n_diodes, first, j->n_samples);
    char active[VL];
    int left = VL;
    memset(active, 1, sizeof active);
    for (int iteration = 1; iteration <= j->max_iter && left; iteration++) {
        if (j->indptr)
            for (int32_t p = 0; p < j->indptr[n]; p++)
                vstore(a->matrix + (size_t)p * VL, vset(((const real *)j->base)[p]));
        else
            dense_fill(a->matrix, j->base, n);
        linear_residual(j, a);
        for (int d = 0; d < j->n_diodes; d++) {
            if (j->branch[d] >= 0) stamp_ideal(j, a, d);
            else stamp_exponential(j, a, d);
        }
        for (int k = 0; k < n; k++) vstore(a->f + (size_t)k * VL, vsub(vset(0), vload(a->f + (size_t)k * VL)));
        if (j->indptr) {
            sparse_lu(j, a->matrix, a->l, a->u, a->rdiag, a->work);
            sparse_solve(j, a->l, a->u, a->rdiag, a->f, a->work);
        } else {
            for (int k = n; k < tiles_of(n) * TILE; k++) vstore(a->f + (size_t)k * VL, vset(0));
            dense_lu(a->matrix, a->rdiag, n);
            dense_solve(a->matrix, a->rdiag, a->f, n);
        }
        vec probe = vset(0);
        for (int k = 0; k < n; k++) probe = vfma(vload(a->f + (size_t)k * VL), vset(0), probe);
        real bad[VL];
        char moving[VL];
        vstore(bad, probe);
        memset(moving, 0, sizeof moving);
        for (int l = 0; l < VL; l++)
            if (active[l] && !(bad[l] == 0)) { /* not a number: a pivot was zero */
                active[l] = 0;
                left--;
                if (first + l < j->n_samples) {
                    j->sample_status[first + l] = SINGULAR;
                    j->iterations[first + l] = iteration;
                }
            }
        for (int k = 0; k < n; k++) {
            real *x = a->x + (size_t)k * VL;
            const real *step = a->f + (size_t)k * VL;
            for (int l = 0; l < VL; l++) x[l] = active[l] ? x[l] + step[l] : x[l];
        }
        update_diodes(j, a, active, iteration, moving);
        vec size = vset(0);
        for (int k = 0; k < n; k++)
            size = vmaxr(size, vdiv(vabs(vload(a->f + (size_t)k * VL)),
                                    vfma(vset((real)j->rtol), vabs(vload(a->x + (size_t)k * VL)), vset((real)j->vtol))));
        real sizes[VL];
        vstore(sizes, size);
        for (int l = 0; l < VL; l++) {
            const int64_t s = first + l;
            const int done = !moving[l] && sizes[l] <= 1;
            if (!active[l] || !(done || iteration == j->max_iter)) continue;
            active[l] = 0;
            left--;
            if (s >= j->n_samples) continue;
            j->sample_status[s] = done ? CONVERGED : NOT_CONVERGED;
            j->iterations[s] = iteration;
            double largest = -1;
            j->step[s] = 0;
            for (int k = 0; k < n; k++) {
                const double step = fabs((double)a->f[(size_t)k * VL + l]);
                const double relative = step / (j->vtol + j->rtol * fabs((double)a->x[(size_t)k * VL + l]));
                if (step > j->step[s]) j->step[s] = step;
                if (relative > largest) {
                    largest = relative;
                    j->worst[s] = k;
                }
            }
        }
    }
    store_lanes(j->x, a->x, n, first, j->n_samples);
    store_lanes(j->junction, a->junction, j->n_diodes, first, j->n_samples);
}

int EQP_NAME(nodal_newton)(eqp_nodal_job *j, int thread, int n_threads) {
    if (j->n < 0 || j->n_diodes < 0 || j->n_samples < 0 || n_threads < 1 || thread < 0 || thread >= n_threads ||
        (!j->indptr && j->n > 46000))
        return EQP_E_SIZE;
    if (!j->scratch || !j->rhs || !j->x || !j->sample_status) return EQP_E_NULL;
    arrays a = {0};
    const size_t bytes = carve(&a, j, j->scratch);
    if ((int64_t)bytes * n_threads > j->scratch_size) return EQP_E_SCRATCH;
    carve(&a, j, (real *)((char *)j->scratch + bytes * (size_t)thread));
    const int64_t groups = (j->n_samples + VL - 1) / VL;
    for (int64_t g = groups * thread / n_threads; g < groups * (thread + 1) / n_threads; g++)
        newton_group(j, &a, g * VL);
    return EQP_OK;
}

int EQP_NAME(nodal_head)(eqp_nodal_head_job *j, int thread, int n_threads) {
    (void)n_threads;
    if (thread != 0) return EQP_OK;
    if (j->n_head < 0 || j->n < j->n_head || j->n_rows < 0) return EQP_E_SIZE;
    if (!j->ptr || !j->value || !j->pivot) return EQP_E_NULL;
    switch (j->task) {
        case 0: return head_factor(j);
        case 1: head_forward(j); return EQP_OK;
        case 2: head_backward(j); return EQP_OK;
        default: return EQP_E_OPTION;
    }
}

int EQP_NAME(nodal_update_scratch)(eqp_nodal_update_job *j, int thread, int n_threads) {
    (void)thread;
    (void)n_threads;
    j->scratch_size = 0;
    return EQP_OK;
}

int EQP_NAME(nodal_update)(eqp_nodal_update_job *j, int thread, int n_threads) {
    if (j->n_pairs < 0 || j->n_samples < 0 || n_threads < 1 || thread < 0 || thread >= n_threads) return EQP_E_SIZE;
    if (!j->n_pairs) return EQP_OK;
    if (!j->difference || !j->total || !j->pairs || !j->scale || !j->low || !j->high || !j->gradient || !j->velocity ||
        !j->conductance || !j->barrier)
        return EQP_E_NULL;
    return update_conductances(j, thread, n_threads);
}
