/* nodal.c - damped Newton for circuits with diodes, VL samples at a time (equations 12; twin:
 * kernels/reference/nodal.py), and the entry points of the head (head.h) and of the step of
 * conductances (update.h).
 *
 * The lanes of a vector are samples: every value of a matrix is a vector, the linear part is
 * broadcast from one shared copy. A lane that has converged is frozen, so a sample's answer does
 * not depend on its neighbours or on threads.
 *
 * Solved is Kirchhoff's law at every node, with the currents of sources and ideal diodes as further
 * unknowns:
 *     f(x) = base x + sum over diodes of i_d(v_d) - rhs = 0
 * by Newton: matrix dx = -f, matrix = base + sum of the diodes' slopes at their junction voltages.
 * An iteration is assemble         matrix and f at x, linear part first, then each diode's stamp
 *     solve_step       f <- dx
 *     stop_singular    lanes whose dx is not a number end
 *     move_active      x <- x + dx
 *     update_diodes    junction voltages follow, limited as SPICE does: an exponential linearised
 *                      far out would never come back
 * until no unknown moves by more than vtol + rtol |x| and every junction has come to rest.
 *
 *     n, N       unknowns: node voltages, then currents of sources and ideal diodes
 *     d, D       a diode, diodes
 *     l          a lane;  first + l: its sample
 *     f          residual base x + diodes - rhs, then the Newton step
 *     matrix     Jacobian, dense tiles (dense.h) or the entries of its pattern (sparse.h)
 *     par        the parameters of a diode (diode.h: P_*)
 *     k, r, c    an unknown, a row, a column
 */
#include "core/eqprop.h"
#include "nodal/dense.h"
#include "nodal/head.h"
#include "nodal/diode.h"
#include "nodal/sparse.h"
#include "nodal/update.h"

/* eqp_nodal_job.sample_status. */
enum { CONVERGED, NOT_CONVERGED, SINGULAR };

/* A junction has come to rest within this share of n V_T; an ideal diode changes its state only
 * beyond these, or rounding would let it flutter. */
#define JUNCTION_TOL 1e-6
#define IDEAL_V_TOL  ((real)1e-12)
#define IDEAL_I_TOL  ((real)1e-18)
/* Unknowns of a dense matrix, so that the places of its entries fit 31 bits. */
#define DENSE_MOST 46000

/* The unknowns of a group of VL samples: every number of a sample is a lane of a vector. */
typedef struct {
    real *matrix;            /* dense: tiles; sparse: (NNZ) */
    real *l, *u;             /* sparse: the strict factors */
    real *work;              /* sparse: (N) a column being made */
    real *rdiag, *x, *f;     /* (N rounded up to tiles): pivots, unknowns, residual and step */
    real *rhs;               /* (N) */
    real *junction, *offset; /* (D): voltage of the junction, known part of the diode's */
    real *current, *slope;   /* (D): of the diodes, where they were linearised */
} arrays;

/* Points the arrays into scratch from `at` on; returns the bytes of one thread's part. */
static size_t carve(arrays *arrays, const eqp_nodal_job *job, real *at) {
    const real *start = at;
    const size_t n = (size_t)tiles_of(job->n) * TILE, d = (size_t)job->n_diodes;
#define TAKE(name, count) (arrays->name = at, at += (size_t)(count)*VL)
    if (job->indptr) {
        TAKE(matrix, job->indptr[job->n]);
        TAKE(l, job->l_ptr[job->n]);
        TAKE(u, job->u_ptr[job->n]);
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

/* Writes the bytes that nodal_newton needs to job->scratch_size. */
int EQP_NAME(nodal_newton_scratch)(eqp_nodal_job *job, int thread, int n_threads) {
    (void)thread;
    if (job->n < 0 || job->n_diodes < 0 || n_threads < 1) return EQP_E_SIZE;
    arrays arrays = {0};
    static real nothing; /* only distances are used */
    job->scratch_size = (int64_t)carve(&arrays, job, &nothing) * n_threads;
    return EQP_OK;
}

/* --- diodes --- */

/* Voltage over diode d, by lane; its known part is in offset. */
EQP_INLINE vec across(const eqp_nodal_job *job, const arrays *arrays, int d) {
    vec v = vload(arrays->offset + (size_t)d * VL);
    if (job->anode[d] >= 0) v = vadd(v, vload(arrays->x + (size_t)job->anode[d] * VL));
    if (job->cathode[d] >= 0) v = vsub(v, vload(arrays->x + (size_t)job->cathode[d] * VL));
    return v;
}

/* p += v, one vector. */
EQP_INLINE void add_to(real *p, vec v) { vstore(p, vadd(vload(p), v)); }

/* The vector of the Jacobian's entry `at`, a place in `base`. */
static real *place(const eqp_nodal_job *job, const arrays *arrays, int32_t at) {
    if (job->indptr) return arrays->matrix + (size_t)at * VL;
    return dense_at(arrays->matrix, tiles_of(job->n), at / job->n, at % job->n);
}

/* f = base x - rhs: the linear part of Kirchhoff's law. */
static void linear_residual(const eqp_nodal_job *job, const arrays *arrays) {
    const real *base = job->base;
    for (int r = 0; r < job->n; r++) {
        /* two chains, or each sum would wait for the last */
        vec s0 = vsub(vset(0), vload(arrays->rhs + (size_t)r * VL)), s1 = vset(0);
        /* sparse rows have a handful of entries: one chain will do */
        if (job->indptr)
            for (int32_t p = job->indptr[r]; p < job->indptr[r + 1]; p++)
                s0 = vfma(vset(base[p]), vload(arrays->x + (size_t)job->indices[p] * VL), s0);
        else {
            const real *row = base + (size_t)r * job->n;
            int c = 0;
            for (; c + 1 < job->n; c += 2) {
                s0 = vfma(vset(row[c]), vload(arrays->x + (size_t)c * VL), s0);
                s1 = vfma(vset(row[c + 1]), vload(arrays->x + (size_t)(c + 1) * VL), s1);
            }
            if (c < job->n) s0 = vfma(vset(row[c]), vload(arrays->x + (size_t)c * VL), s0);
        }
        vstore(arrays->f + (size_t)r * VL, vadd(s0, s1));
    }
}

/* Adds exponential diode d to residual and Jacobian, linearised at its junction voltage; the
 * series resistance is eliminated: the circuit sees slope / (1 + rs slope). */
static void stamp_exponential(const eqp_nodal_job *job, const arrays *arrays, int d) {
    const real *par = (const real *)job->parameters + (size_t)d * N_PARAMS;
    const vec vj = vload(arrays->junction + (size_t)d * VL), rs = vset(par[P_RS]);
    vec i, g;
    diode_lanes(par, vj, &i, &g);
    const vec seen = vdiv(g, vfma(rs, g, vset(1))); /* slope seen through the series resistance */
    /* what the junction and its resistor leave of the voltage, and the current that answers it */
    const vec drop = vsub(vsub(across(job, arrays, d), vj), vmul(rs, i));
    const vec through = vfma(seen, drop, i);
    vstore(arrays->current + (size_t)d * VL, i);
    vstore(arrays->slope + (size_t)d * VL, g);
    if (job->anode[d] >= 0) add_to(arrays->f + (size_t)job->anode[d] * VL, through);
    if (job->cathode[d] >= 0)
        add_to(arrays->f + (size_t)job->cathode[d] * VL, vsub(vset(0), through));
    /* stamp: anode, cathode, branch by the same; two-by-two here, the branch is an ideal diode's */
    const int32_t *at = job->stamp + (size_t)d * 9;
    const vec minus = vsub(vset(0), seen);
    if (at[0] >= 0) add_to(place(job, arrays, at[0]), seen);
    if (at[1] >= 0) add_to(place(job, arrays, at[1]), minus);
    if (at[2] >= 0) add_to(place(job, arrays, at[2]), minus);
    if (at[3] >= 0) add_to(place(job, arrays, at[3]), seen);
}

/* Adds ideal diode d, whose current is an unknown: its own equation is v = 0 while it conducts, i
 * = leak v while it does not. */
static void stamp_ideal(const eqp_nodal_job *job, const arrays *arrays, int d) {
    const int32_t *at = job->stamp + (size_t)d * 9;
    real *f = arrays->f + (size_t)job->branch[d] * VL, *own = place(job, arrays, at[8]), v[VL];
    const real *i = arrays->x + (size_t)job->branch[d] * VL,
               *on = arrays->junction + (size_t)d * VL;
    const real leak = ((const real *)job->parameters)[(size_t)d * N_PARAMS + P_GMIN];
    vstore(v, across(job, arrays, d));
    for (int l = 0; l < VL; l++) {
        /* which equation holds depends on the lane */
        const int closed = on[l] > 0;
        const real slope = closed ? 1 : -leak;
        f[l] = closed ? v[l] : i[l] - leak * v[l];
        own[l] += (real)!closed;
        if (at[6] >= 0) place(job, arrays, at[6])[l] += slope;
        if (at[7] >= 0) place(job, arrays, at[7])[l] -= slope;
    }
}

/* Ideal diode d after a step: a conducting one opens when its current turns, an open one closes
 * when its voltage does; v: the voltage over it. With `single`, one that has flipped in a lane
 * keeps the others there from flipping. */
static void flip_ideal(const eqp_nodal_job *job, const arrays *arrays, int d, const real *v,
                       const char *active, int single, char *flipped, char *moving) {
    real *on = arrays->junction + (size_t)d * VL;
    const real *i = arrays->x + (size_t)job->branch[d] * VL;
    for (int l = 0; l < VL; l++) {
        const int was = on[l] > 0, state = was ? i[l] >= -IDEAL_I_TOL : v[l] > IDEAL_V_TOL;
        if (!active[l] || state == was) continue;
        moving[l] = 1;
        if (single && flipped[l]) continue;
        flipped[l] = 1;
        on[l] = (real)state;
    }
}

/* Exponential diode d after a step: Newton for the junction behind its series resistance, limited
 * as SPICE does; v: the voltage over both. */
static void move_junction(const eqp_nodal_job *job, const arrays *arrays, int d, const real *v,
                          const char *active, char *moving) {
    const real *par = (const real *)job->parameters + (size_t)d * N_PARAMS;
    real *vj = arrays->junction + (size_t)d * VL, fresh[VL];
    const vec old = vload(vj), i = vload(arrays->current + (size_t)d * VL);
    const vec g = vload(arrays->slope + (size_t)d * VL), rs = vset(par[P_RS]);
    const vec drop = vsub(vsub(vload(v), old), vmul(rs, i));
    vstore(fresh, vadd(old, vdiv(drop, vfma(rs, g, vset(1)))));
    for (int l = 0; l < VL; l++) {
        if (!active[l]) continue;
        int cut = 0;
        const real allowed = limit_junction(fresh[l], vj[l], par, &cut);
        moving[l] |= cut || !(fabs((double)(allowed - vj[l])) <= JUNCTION_TOL * par[P_VTE]);
        vj[l] = allowed;
    }
}

/* After a step: every diode's new junction voltage or state. Sets moving[lane] where some junction
 * still moves. From iteration single_after on only one ideal diode a lane flips: all at once may go
 * round in circles. */
static void update_diodes(const eqp_nodal_job *job, const arrays *arrays, const char *active,
                          int iteration, char *moving) {
    char flipped[VL];
    memset(flipped, 0, sizeof flipped);
    for (int d = 0; d < job->n_diodes; d++) {
        real v[VL];
        vstore(v, across(job, arrays, d));
        if (job->branch[d] >= 0)
            flip_ideal(job, arrays, d, v, active, iteration >= job->single_after, flipped, moving);
        else
            move_junction(job, arrays, d, v, active, moving);
    }
}

/* --- samples and lanes --- */

/* Samples first.. of a (M, count) array to vectors, one lane each. */
static void load_lanes(real *to, const real *from, int count, int64_t first, int64_t m) {
    for (int l = 0; l < VL; l++) {
        /* spare lanes repeat the last sample */
        const int64_t s = first + l < m ? first + l : m - 1;
        for (int k = 0; k < count; k++) to[(size_t)k * VL + l] = from[(size_t)s * count + k];
    }
}

/* Vectors back to samples first.. of a (M, count) array, without the spare lanes. */
static void store_lanes(real *to, const real *from, int count, int64_t first, int64_t m) {
    for (int l = 0; l < VL && first + l < m; l++)
        for (int k = 0; k < count; k++)
            to[(size_t)(first + l) * count + k] = from[(size_t)k * VL + l];
}

/* --- one Newton step --- */

/* The Jacobian (matrix) and the residual f at x: the linear part, then every diode's stamp. */
static void assemble(const eqp_nodal_job *job, const arrays *arrays) {
    const int n = job->n;
    if (job->indptr)
        for (int32_t p = 0; p < job->indptr[n]; p++)
            vstore(arrays->matrix + (size_t)p * VL, vset(((const real *)job->base)[p]));
    else
        dense_fill(arrays->matrix, job->base, n);
    linear_residual(job, arrays);
    for (int d = 0; d < job->n_diodes; d++) {
        if (job->branch[d] >= 0)
            stamp_ideal(job, arrays, d);
        else
            stamp_exponential(job, arrays, d);
    }
}

/* f <- -matrix^-1 f, the Newton step; not a number in the lanes where a pivot is zero. The order of
 * the pivots is the topology's (prepared once): no lane chooses its own. */
static void solve_step(const eqp_nodal_job *job, const arrays *arrays) {
    const int n = job->n;
    for (int k = 0; k < n; k++)
        vstore(arrays->f + (size_t)k * VL, vsub(vset(0), vload(arrays->f + (size_t)k * VL)));
    if (job->indptr) {
        sparse_lu(job, arrays->matrix, arrays->l, arrays->u, arrays->rdiag, arrays->work);
        sparse_solve(job, arrays->l, arrays->u, arrays->rdiag, arrays->f, arrays->work);
    } else {
        for (int k = n; k < tiles_of(n) * TILE; k++) vstore(arrays->f + (size_t)k * VL, vset(0));
        dense_lu(arrays->matrix, arrays->rdiag, n);
        dense_solve(arrays->matrix, arrays->rdiag, arrays->f, n);
    }
}

/* Lanes whose step is not a number end here as singular; returns how many. */
static int stop_singular(eqp_nodal_job *job, const arrays *arrays, char *active, int64_t first,
                         int iteration) {
    int stopped = 0;
    vec probe = vset(0); /* 0 * nan and 0 * inf are nan */
    for (int k = 0; k < job->n; k++)
        probe = vfma(vload(arrays->f + (size_t)k * VL), vset(0), probe);
    real bad[VL];
    vstore(bad, probe);
    for (int l = 0; l < VL; l++) {
        if (!active[l] || bad[l] == 0) continue;
        active[l] = 0;
        stopped++;
        if (first + l >= job->n_samples) continue;
        job->sample_status[first + l] = SINGULAR;
        job->iterations[first + l] = iteration;
    }
    return stopped;
}

/* x <- x + f in the active lanes; the others are frozen. */
static void move_active(const eqp_nodal_job *job, const arrays *arrays, const char *active) {
    for (int k = 0; k < job->n; k++) {
        real *x = arrays->x + (size_t)k * VL;
        const real *step = arrays->f + (size_t)k * VL;
        for (int l = 0; l < VL; l++) x[l] = active[l] ? x[l] + step[l] : x[l];
    }
}

/* By lane: the largest step among the unknowns, in units of what is allowed, vtol + rtol |x|. */
static vec step_size(const eqp_nodal_job *job, const arrays *arrays) {
    const int n = job->n;
    vec size = vset(0);
    for (int k = 0; k < n; k++)
        size = vmaxr(size, vdiv(vabs(vload(arrays->f + (size_t)k * VL)),
                                vfma(vset((real)job->rtol), vabs(vload(arrays->x + (size_t)k * VL)),
                                     vset((real)job->vtol))));
    return size;
}

/* Notes sample s of lane l as done: its last step, and the unknown that moved most. */
static void report(eqp_nodal_job *job, const arrays *arrays, int64_t s, int l, int status,
                   int iteration) {
    const int n = job->n;
    job->sample_status[s] = status;
    job->iterations[s] = iteration;
    double largest = -1;
    job->step[s] = 0;
    for (int k = 0; k < n; k++) {
        /* `step` in volts or amperes, `worst` by how far it exceeds what is allowed */
        const double step = fabs((double)arrays->f[(size_t)k * VL + l]);
        const double relative =
            step / (job->vtol + job->rtol * fabs((double)arrays->x[(size_t)k * VL + l]));
        if (step > job->step[s]) job->step[s] = step;
        if (relative > largest) {
            largest = relative;
            job->worst[s] = k;
        }
    }
}

/* Damped Newton for VL samples from `first` on, one a lane (equations 12). A lane that is done is
 * frozen: the others go on, its answer does not change. */
static void newton_group(eqp_nodal_job *job, const arrays *arrays, int64_t first) {
    const int n = job->n;
    load_lanes(arrays->rhs, job->rhs, n, first, job->n_samples);
    load_lanes(arrays->x, job->x, n, first, job->n_samples);
    load_lanes(arrays->junction, job->junction, job->n_diodes, first, job->n_samples);
    load_lanes(arrays->offset, job->offset, job->n_diodes, first, job->n_samples);
    char active[VL];
    int left = VL; /* lanes that are still on their way */
    memset(active, 1, sizeof active);
    for (int iteration = 1; iteration <= job->max_iter && left; iteration++) {
        char moving[VL];
        memset(moving, 0, sizeof moving);
        assemble(job, arrays);
        solve_step(job, arrays);
        left -= stop_singular(job, arrays, active, first, iteration);
        move_active(job, arrays, active);
        /* a lane is done when its unknowns and all of its diodes have come to rest */
        update_diodes(job, arrays, active, iteration, moving);
        real sizes[VL];
        vstore(sizes, step_size(job, arrays));
        for (int l = 0; l < VL; l++) {
            const int done = !moving[l] && sizes[l] <= 1;
            if (!active[l] || !(done || iteration == job->max_iter)) continue;
            active[l] = 0;
            left--;
            if (first + l < job->n_samples) /* else a spare lane */
                report(job, arrays, first + l, l, done ? CONVERGED : NOT_CONVERGED, iteration);
        }
    }
    /* also of lanes that have not converged: their status says so */
    store_lanes(job->x, arrays->x, n, first, job->n_samples);
    store_lanes(job->junction, arrays->junction, job->n_diodes, first, job->n_samples);
}

/* --- the kernels --- */

/* Operating points of all samples from the x and junction voltages given: groups of VL samples,
 * shared out over the threads. Each sample has a status of its own. */
int EQP_NAME(nodal_newton)(eqp_nodal_job *job, int thread, int n_threads) {
    if (job->n < 0 || job->n_diodes < 0 || job->n_samples < 0 || n_threads < 1 || thread < 0 ||
        thread >= n_threads || (!job->indptr && job->n > DENSE_MOST))
        return EQP_E_SIZE;
    if (!job->scratch || !job->rhs || !job->x || !job->sample_status) return EQP_E_NULL;
    arrays arrays = {0};
    const size_t bytes = carve(&arrays, job, job->scratch);
    if ((int64_t)bytes * n_threads > job->scratch_size) return EQP_E_SCRATCH;
    /* every thread its own part; its samples do not meet those of others */
    carve(&arrays, job, (real *)((char *)job->scratch + bytes * (size_t)thread));
    const int64_t groups = (job->n_samples + VL - 1) / VL;
    for (int64_t g = groups * thread / n_threads; g < groups * (thread + 1) / n_threads; g++)
        newton_group(job, &arrays, g * VL);
    return EQP_OK;
}

/* Factors the head of a symmetric elimination, or substitutes with it: thread 0 alone. */
int EQP_NAME(nodal_head)(eqp_nodal_head_job *job, int thread, int n_threads) {
    (void)n_threads;
    if (thread != 0) return EQP_OK;
    if (job->n_head < 0 || job->n < job->n_head || job->n_rows < 0) return EQP_E_SIZE;
    if (!job->ptr || !job->value || !job->pivot) return EQP_E_NULL;
    switch (job->task) {
    case 0: return head_factor(job);
    case 1: head_forward(job); return EQP_OK;
    case 2: head_backward(job); return EQP_OK;
    default: return EQP_E_OPTION;
    }
}

/* nodal_update needs none. */
int EQP_NAME(nodal_update_scratch)(eqp_nodal_update_job *job, int thread, int n_threads) {
    (void)thread;
    (void)n_threads;
    job->scratch_size = 0;
    return EQP_OK;
}

/* One step of all conductances (equations 12: dL/dg), shared out over the threads. With a gradient
 * that is no number nothing is changed. */
int EQP_NAME(nodal_update)(eqp_nodal_update_job *job, int thread, int n_threads) {
    if (job->n_pairs < 0 || job->n_samples < 0 || n_threads < 1 || thread < 0 ||
        thread >= n_threads)
        return EQP_E_SIZE;
    if (!job->n_pairs) return EQP_OK;
    if (!job->difference || !job->total || !job->pairs || !job->scale || !job->low || !job->high ||
        !job->gradient || !job->velocity || !job->conductance || !job->barrier)
        return EQP_E_NULL;
    return update_conductances(job, thread, n_threads);
}
