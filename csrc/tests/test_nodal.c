/* test_nodal.c - the nodal kernels alone, for the sanitizers: a ladder of resistors and diodes,
 * dense and sparse, whose operating points must obey Kirchhoff's law, and the update of
 * conductances, on 1 and 3 threads.
 *
 * Built with one instruction set and precision at a time (Makefile): the kernel is included, so
 * that its own names (CONVERGED, real) serve here.
 *
 * Letters: N unknowns (`total`), n nodes and diodes, m samples; r a row, c a column, d a diode, s a
 * sample.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "nodal/nodal.c"

#define CHECK(ok)                                                    \
    do {                                                             \
        if (!(ok)) {                                                 \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #ok); \
            exit(1);                                                 \
        }                                                            \
    } while (0)

/* Zeroed memory of exactly that size, kept until `release`. */
static void *kept[64];
static int n_kept;
static void *get(size_t bytes) {
    void *p = calloc(bytes ? bytes : 1, 1);
    CHECK(p && n_kept < (int)(sizeof kept / sizeof *kept));
    return kept[n_kept++] = p;
}

/* Frees all that a case has got. */
static void release(void) {
    while (n_kept) free(kept[--n_kept]);
}

#define MOST_THREADS 3

/* One thread of one of the two jobs, and what its kernel returned. */
typedef struct {
    eqp_nodal_job *newton; /* or */
    eqp_nodal_update_job *update;
    int thread, n_threads, status;
} worker;

/* The body of a thread. */
static void *work(void *arg) {
    worker *w = arg;
    if (w->newton)
        w->status = EQP_NAME(nodal_newton)(w->newton, w->thread, w->n_threads);
    else
        w->status = EQP_NAME(nodal_update)(w->update, w->thread, w->n_threads);
    return NULL;
}

/* Runs one of the two jobs on n_threads threads, the caller among them; every one of them must
 * return `wanted`. */
static void run_threads(eqp_nodal_job *newton, eqp_nodal_update_job *update, int n_threads,
                        int wanted) {
    worker w[MOST_THREADS];
    pthread_t id[MOST_THREADS];
    for (int t = 0; t < n_threads; t++) w[t] = (worker){newton, update, t, n_threads, -1};
    for (int t = 1; t < n_threads; t++) CHECK(!pthread_create(&id[t], NULL, work, &w[t]));
    work(&w[0]);
    for (int t = 1; t < n_threads; t++) CHECK(!pthread_join(id[t], NULL));
    for (int t = 0; t < n_threads; t++) CHECK(w[t].status == wanted);
}

/* --- operating points of a ladder --- */

/*    rhs[0]      rhs[1]            rhs[n-1]      currents into the nodes
 *      |           |                 |
 *      o---1 mS----o---1 mS--- ... --o           and 1 mS from every node to ground
 *      |           |                 |
 *      V           V                 V           diodes to ground, the last one ideal
 *      |           |                 |
 *    ground      ground            ground
 */

/* Thermal voltage, saturation current, leak of a junction, and a breakdown at 10 V, as in SPICE. */
static const double VTE = 0.02585, IS = 1e-14, GMIN = 1e-12;

/* The equations: tridiagonal, 3 mS at a node (1 mS to each neighbour and to ground), and row and
 * column n, which say that the ideal diode's current flows out of node n - 1. */
static real entry(int n, int r, int c) {
    if (r == n || c == n) return (real)(r == n - 1 && c == n);
    return r == c ? (real)3e-3 : (real)-1e-3;
}

/* Fills the job's matrix, dense (N, N) or CSR, and the pattern of its factors in natural order: a
 * tridiagonal matrix fills in nothing. */
static void ladder_matrix(eqp_nodal_job *job, int n, int sparse) {
    const int total = n + 1, nnz = 3 * n + 1;
    real *dense = get(sizeof(real) * (size_t)total * total), *csr = get(sizeof(real) * (size_t)nnz);
    int32_t *indptr = get(4 * (size_t)(total + 1)), *indices = get(4 * (size_t)nnz);
    int32_t *id = get(4 * (size_t)total), *a_ptr = get(4 * (size_t)(total + 1));
    int32_t *a_row = get(4 * (size_t)nnz), *a_src = get(4 * (size_t)nnz);
    int32_t *l_ptr = get(4 * (size_t)(total + 1)), *l_row = get(4 * (size_t)total);
    int32_t *u_ptr = get(4 * (size_t)(total + 1)), *u_row = get(4 * (size_t)total);
    int at = 0; /* entries so far, row by row */
    for (int r = 0; r < total; r++) {
        indptr[r] = a_ptr[r] = at;
        id[r] = r;
        for (int c = r - 1; c <= r + 1; c++) {
            if (c < 0 || c >= total) continue;
            dense[(size_t)r * total + c] = csr[at] = entry(n, r, c);
            indices[at] = c;
            a_row[at] = c; /* the pattern is symmetric: column r holds these rows */
            at++;
        }
        l_ptr[r + 1] = r + 1 < total ? r + 1 : r; /* one entry below each pivot, one above */
        if (r + 1 < total) l_row[r] = r + 1;
        u_ptr[r + 1] = r;
        if (r > 0) u_row[r - 1] = r - 1;
    }
    CHECK(at == nnz);
    indptr[total] = a_ptr[total] = at;
    /* where the entries of a column lie among those of the rows */
    for (int r = 0; r < total; r++)
        for (int p = a_ptr[r]; p < a_ptr[r + 1]; p++)
            for (int q = indptr[a_row[p]]; q < indptr[a_row[p] + 1]; q++)
                if (indices[q] == r) a_src[p] = q;
    job->n = total;
    job->base = sparse ? csr : dense;
    job->indptr = sparse ? indptr : NULL, job->indices = indices;
    job->row_of = job->col_of = id;
    job->a_ptr = a_ptr, job->a_row = a_row, job->a_src = a_src;
    job->l_ptr = l_ptr, job->l_row = l_row, job->u_ptr = u_ptr, job->u_row = u_row;
}

/* Index of entry (r, c) of the job's matrix in `base`. */
static int index_of(const eqp_nodal_job *job, int sparse, int r, int c) {
    if (!sparse) return r * job->n + c;
    int p = job->indptr[r];
    while (job->indices[p] != c) p++;
    return p;
}

/* A diode from every node to ground, every second one with 10 ohm in series, the last one ideal:
 * its current is unknown n. stamp: 3 x 3 of anode, cathode, branch; ground has no entries. */
static void ladder_diodes(eqp_nodal_job *job, int n, int sparse) {
    int32_t *anode = get(4 * (size_t)n), *cathode = get(4 * (size_t)n);
    int32_t *branch = get(4 * (size_t)n), *stamp = get(36 * (size_t)n);
    real *parameters = get(sizeof(real) * 7 * (size_t)n);
    for (int d = 0; d < n; d++) {
        const int ideal = d == n - 1;
        anode[d] = d;
        cathode[d] = -1;
        branch[d] = ideal ? n : -1; /* the last unknown is the ideal diode's current */
        for (int k = 0; k < 9; k++) stamp[9 * d + k] = -1;
        if (ideal)
            stamp[9 * d + 6] = index_of(job, sparse, n, d),
                          stamp[9 * d + 8] = index_of(job, sparse, n, n);
        else
            stamp[9 * d] = index_of(job, sparse, d, d);
        const real row[7] = {
            (real)IS,       (real)VTE, d % 2 ? 10 : 0, (real)0.73, (real)(ideal ? 0 : GMIN),
            (real)INFINITY, (real)VTE};
        memcpy(parameters + 7 * d, row, sizeof row);
    }
    job->n_diodes = n;
    job->anode = anode, job->cathode = cathode, job->branch = branch, job->stamp = stamp;
    job->parameters = parameters;
}

/* m samples of currents into the nodes, of both signs; the junctions begin near conduction. */
static void ladder_samples(eqp_nodal_job *job, int n, int m) {
    const int total = n + 1;
    real *rhs = get(sizeof(real) * (size_t)m * total);
    real *junction = get(sizeof(real) * (size_t)m * n);
    /* different in neighbouring samples, so that lanes that are mixed up show */
    for (int s = 0; s < m; s++)
        for (int d = 0; d < n; d++) {
            rhs[(size_t)s * total + d] = (real)(1e-2 * ((s + d) % 5 - 2));
            junction[(size_t)s * n + d] = d == n - 1 ? 0 : (real)0.73;
        }
    job->n_samples = m;
    job->rhs = rhs, job->offset = get(sizeof(real) * (size_t)m * n);
    job->x = get(sizeof(real) * (size_t)m * total), job->junction = junction;
    job->vtol = 1e-10, job->rtol = 1e-9;
    job->max_iter = 100, job->single_after = 40;
    job->iterations = get(4 * (size_t)m), job->sample_status = get(4 * (size_t)m);
    job->step = get(8 * (size_t)m), job->worst = get(4 * (size_t)m);
}

/* Shockley's equation with SPICE's cubic below -3 V_T, and the leak. */
static double diode_current(double vj) {
    const double cube = pow(3 * VTE / (vj * exp(1.0)), 3);
    return (vj >= -3 * VTE ? IS * expm1(vj / VTE) : -IS * (1 + cube)) + GMIN * vj;
}

/* Sample s: the ideal diode blocks or conducts, and Kirchhoff's law holds at every node, diode
 * currents from their own equation. */
static void check_kirchhoff(const eqp_nodal_job *job, int s) {
    const int n = job->n_diodes;
    const real *v = (const real *)job->x + (size_t)s * job->n;
    const real *rhs = (const real *)job->rhs + (size_t)s * job->n;
    const real *junction = (const real *)job->junction + (size_t)s * n;
    /* well before it would give up */
    CHECK(job->sample_status[s] == CONVERGED && job->iterations[s] < 60);
    /* i >= 0, v <= 0, one of them zero */
    CHECK(v[n] >= -1e-15 && v[n - 1] <= 1e-11 && fabs((double)(v[n] * v[n - 1])) < 1e-13);
    for (int d = 0; d < n; d++) {
        const double left = d ? v[d - 1] : 0, right = d + 1 < n ? v[d + 1] : 0;
        const double away = d == n - 1 ? v[n] : diode_current(junction[d]);
        CHECK(fabs(3e-3 * v[d] - 1e-3 * (left + right) - rhs[d] + away) < 1e-12);
    }
}

/* n nodes in a row, m samples: refused without scratch or with too little, else solved. */
static void ladder(int n, int m, int sparse, int n_threads) {
    eqp_nodal_job job = {0};
    ladder_matrix(&job, n, sparse);
    ladder_diodes(&job, n, sparse);
    ladder_samples(&job, n, m);
    /* refused as long as there is no scratch, and with a byte too little */
    CHECK(EQP_NAME(nodal_newton)(&job, 0, n_threads) == EQP_E_NULL);
    CHECK(EQP_NAME(nodal_newton_scratch)(&job, 0, n_threads) == EQP_OK);
    const int64_t need = job.scratch_size;
    CHECK(posix_memalign(&job.scratch, 64, (size_t)need) == 0);
    job.scratch_size = need - 1;
    CHECK(EQP_NAME(nodal_newton)(&job, 0, n_threads) == EQP_E_SCRATCH);
    job.scratch_size = need;
    run_threads(&job, NULL, n_threads, EQP_OK);
    for (int s = 0; s < m; s++)
        if (sizeof(real) == sizeof(double))
            check_kirchhoff(&job, s);
        else /* single precision need not settle on a Shockley diode: only stay sane */
            for (int r = 0; r <= n; r++)
                CHECK(isfinite((double)((const real *)job.x)[(size_t)s * job.n + r]));
    free(job.scratch);
    release();
}

/* --- update of conductances --- */

/* n conductances between the nodes of a ring, m samples: against sums in plain C, and refused when
 * not a number.
 *     d, t       (nodes, m) differences and sums of the two phases' voltages: eighths and quarters,
 *                whose products are exact
 *     vectors    six of n: scale, low, high, conductance, velocity, gradient */
static void update(int n, int m, int n_threads) {
    real *d = get(sizeof(real) * (size_t)(n + 1) * m), *t = get(sizeof(real) * (size_t)(n + 1) * m);
    real *vectors = get(sizeof(real) * 6 * (size_t)(n + 1));
    real *scale = vectors, *low = scale + n, *high = low + n, *g = high + n, *velocity = g + n,
         *gradient = velocity + n;
    int32_t *pairs = get(8 * (size_t)(n + 1));
    for (int k = 0; k < (n + 1) * m; k++) d[k] = (real)(k % 7 - 3) / 8, t[k] = (real)(k % 5) / 4;
    for (int k = 0; k < n; k++) {
        pairs[2 * k] = k < n / 2 ? k : 0; /* the second half leaves one node */
        pairs[2 * k + 1] = (k + 1) % (n + 1);
        scale[k] = 2, low[k] = -1, high[k] = 1, velocity[k] = (real)0.5;
    }
    eqp_nodal_update_job job = {.n_pairs = n,
                                .n_samples = m,
                                .difference = d,
                                .total = t,
                                .pairs = pairs,
                                .scale = scale,
                                .velocity = velocity,
                                .conductance = g,
                                .low = low,
                                .high = high,
                                .gradient = gradient,
                                .learning_rate = 0.25,
                                .momentum = 0.5};
    /* a good job; then one sample that is not a number, which must change nothing */
    for (int bad = 0; bad < 2; bad++) {
        eqp_barrier barrier = {0};
        job.barrier = &barrier, job.not_finite = 0;
        if (bad) d[m - 1] = (real)INFINITY;
        run_threads(NULL, &job, n_threads, bad ? EQP_E_DIVERGED : EQP_OK);
        for (int k = 0; k < n && !bad; k++) {
            double sum = 0;
            for (int s = 0; s < m; s++) {
                const size_t a = (size_t)pairs[2 * k] * m + s, b = (size_t)pairs[2 * k + 1] * m + s;
                sum += (double)(d[a] - d[b]) * (double)(t[a] - t[b]);
            }
            const double v = 0.25 - 0.5 * sum; /* momentum 0.5, rate 0.25, scale 2 */
            /* gradient, velocity, and the step, cut off at the bounds */
            CHECK(fabs((double)gradient[k] - 2 * sum) < 1e-4 &&
                  fabs((double)velocity[k] - v) < 1e-4);
            CHECK(fabs((double)g[k] - (v < -1 ? -1 : v > 1 ? 1 : v)) < 1e-4);
        }
    }
    release();
}

/* --- the head of a symmetric elimination --- */

/* L D L^T of a tridiagonal matrix of n pivots, all in the head, and a solution with it. The
 * diagonal is 4, beside it 1; `target`: what pivot k does to the next one's diagonal. */
static void head(int n) {
    int64_t *ptr = get(((size_t)n + 1) * sizeof *ptr), *target = get((size_t)n * sizeof *target);
    int32_t *row = get(((size_t)n - 1) * sizeof *row);
    real *value = get(((size_t)n - 1) * sizeof *value), *pivot = get((size_t)n * sizeof *pivot),
         *b = get((size_t)n * sizeof *b);
    for (int k = 0; k < n; k++) {
        ptr[k + 1] = k + 1 < n ? k + 1 : n - 1;
        pivot[k] = 4, b[k] = 1;
        if (k + 1 < n) row[k] = k + 1, value[k] = 1, target[k] = -2 - k;
    }
    eqp_nodal_head_job job = {.n_head = n,
                              .n = n,
                              .ptr = ptr,
                              .row = row,
                              .target = target,
                              .value = value,
                              .pivot = pivot,
                              .b = b,
                              .n_rows = 1};
    /* factor, substitute forward, substitute backward: A x = 1 */
    for (job.task = 0; job.task < 3; job.task++) CHECK(EQP_NAME(nodal_head)(&job, 0, 1) == EQP_OK);
    for (int k = 0; k < n; k++) {
        const double left = k ? (double)b[k - 1] : 0, right = k + 1 < n ? (double)b[k + 1] : 0;
        CHECK(fabs(left + 4 * (double)b[k] + right - 1) < 1e-5);
    }
    /* a last pivot that is not positive */
    pivot[n - 1] = 0, job.task = 0;
    CHECK(EQP_NAME(nodal_head)(&job, 0, 1) == EQP_E_SINGULAR);
    release();
}

/* Jobs that must be refused, with their status. */
static void wrong_jobs(void) {
    /* arrays, thread, count of an update */
    eqp_nodal_update_job empty = {.n_pairs = 1};
    CHECK(EQP_NAME(nodal_update)(&empty, 0, 1) == EQP_E_NULL);
    CHECK(EQP_NAME(nodal_update)(&empty, 1, 1) == EQP_E_SIZE);
    empty.n_pairs = -1;
    CHECK(EQP_NAME(nodal_update)(&empty, 0, 1) == EQP_E_SIZE);
    /* arrays, task, size of a head */
    eqp_nodal_head_job none = {.task = 3};
    real nothing = 1;
    int64_t zero = 0;
    CHECK(EQP_NAME(nodal_head)(&none, 0, 1) == EQP_E_NULL);
    none.ptr = &zero, none.value = &nothing, none.pivot = &nothing;
    CHECK(EQP_NAME(nodal_head)(&none, 0, 1) == EQP_E_OPTION);
    none.n_head = -1;
    CHECK(EQP_NAME(nodal_head)(&none, 0, 1) == EQP_E_SIZE);
}

/* Sizes either side of the vector widths, as unknowns and as samples. */
int main(void) {
    static const int sizes[] = {1, 2, 7, 8, 9, 15, 16, 17, 33};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        for (int sparse = 0; sparse < 2; sparse++) {
            ladder(sizes[k], 5, sparse, 1);
            ladder(5, sizes[k], sparse, 3);
        }
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        for (int n_threads = 1; n_threads <= MOST_THREADS; n_threads += 2) {
            update(sizes[k], 9, n_threads);
            update(5, sizes[k], n_threads);
        }
    for (int n = 2; n < 9; n++) head(n);
    wrong_jobs();
    puts("test_nodal: ok");
    return 0;
}
